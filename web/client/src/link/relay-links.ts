/**
 * Links to relays: which are ordered, and what is told about them. The page makes no connection here; the worker opens a
 * WebSocket (`transport/socket-channels.ts`) and says how it goes. There is nobody to trust at the other end: a relay has
 * no identity and no key, and what passes it is sealed.
 *
 * The server orders a link once and orders it anew when it wants another try: a new token, or a new instance of the
 * relay, ends the old link at once. What is lost while the server is away is not told afterwards: the relay tells it too,
 * and a restatement says what is in force.
 */
import type { LostReason, RelayLink } from "../signal/messages.ts";
import type { RelayDoor, RelayNews } from "../transport/socket-channels.ts";

/** Links that are made again are spread over this long: a relay that starts anew is met by everybody whom it served. */
export const SPREAD_MS = 200;
/** The worker tells silence once per episode; a second report this soon after is the same one. */
const SAME_EPISODE_MS = 2_000;

export interface RelaysHost {
  /** The worker shall open it; a link to the same peer is replaced. */
  open(peer: number, door: RelayDoor): void;
  closed(peer: number): void;
  lost(peer: number, why: LostReason): void;
  /** Null when the link is gone by order. */
  state(peer: number, state: "connecting" | RelayNews | null): void;
  /** 0..1. */
  random(): number;
}

interface Ordered extends RelayLink {
  /** Null: ordered away, and remembered for what came before. */
  state: "connecting" | RelayNews | null;
  silentAtMs: number;
  /** It fell silent, broke or never came up. */
  failed: boolean;
}

export class RelayLinks {
  readonly #url: string;
  readonly #host: RelaysHost;
  readonly #links = new Map<number, Ordered>();

  constructor(url: string, host: RelaysHost) {
    this.#url = url;
    this.#host = host;
  }

  /** Have a link. One that works, or may still come up, is kept. */
  order(peer: number, { instance, token }: RelayLink): void {
    const before = this.#links.get(peer);
    const alive = before?.state === "up" || before?.state === "connecting";
    if (alive && before?.instance === instance && before.token === token) return;
    if (alive) this.#host.closed(peer);
    // Whoever is asked for a relay because a plan changed is alone with that; whoever lost one is not.
    const many = before !== undefined && (alive || before.failed || before.instance !== instance);
    const silentAtMs = Number.NEGATIVE_INFINITY;
    this.#links.set(peer, { instance, token, state: "connecting", silentAtMs, failed: false });
    this.#host.state(peer, "connecting");
    const delayMs = many ? this.#host.random() * SPREAD_MS : 0;
    this.#host.open(peer, { url: this.#url, token, instance, delayMs });
  }

  unlink(peer: number): void {
    const link = this.#links.get(peer);
    if (!link || link.state === null) return;
    link.state = null;
    this.#host.closed(peer);
    this.#host.state(peer, null);
  }

  /** The worker says how the link with this token goes. */
  news(peer: number, token: string, news: RelayNews): void {
    const link = this.#links.get(peer);
    if (link?.token !== token || (link.state !== "connecting" && link.state !== "up")) return;
    link.state = news;
    this.#host.state(peer, news);
    if (news === "up") return;
    link.failed = true;
    this.#host.closed(peer);
    this.#host.lost(peer, news === "lost" ? "silent" : "never");
  }

  /** The worker hears nothing at all from this peer. */
  silent(peer: number, nowMs: number): void {
    const link = this.#links.get(peer);
    if (link?.state !== "up" || nowMs - link.silentAtMs < SAME_EPISODE_MS) return;
    link.silentAtMs = nowMs;
    link.failed = true;
    this.#host.lost(peer, "silent");
  }
}

/**
 * Links to relays: which are ordered, by which way they go, and what is told about them. There is nobody to trust at the
 * other end: a relay has no identity and no key, and what passes it is sealed.
 *
 * A link goes by RTP (`relay-rtp.ts`) where order and browser know it. Where that does not come up within a few seconds,
 * or breaks before it does, UDP does not get through: then a WebSocket in the worker carries the same frames
 * (`transport/socket-channels.ts`), and RTP is not tried again for a while. Everywhere else the socket is opened at once.
 *
 * The server orders a link once and orders it anew when it wants another try: a new token, or a new instance of the
 * relay, ends the old link at once. What is lost while the server is away is not told afterwards: the relay tells it too,
 * and a restatement says what is in force.
 */
import type { LostReason, RelayLink } from "../signal/messages.ts";
import type { RelayDoor, RelayNews } from "../transport/socket-channels.ts";
import type { RelayRtp, RtpNews } from "./relay-rtp.ts";

/** Links that are made again are spread over this long: a relay that starts anew is met by everybody whom it served. */
export const SPREAD_MS = 200;
/**
 * RTP that is not up so long after the relay's answer gives way to the socket. Checks on a lossy path take 1 s; a person
 * waits meanwhile. Counted from the answer, because a busy page or server says nothing about the network.
 */
export const RTP_WITHIN_MS = 3_000;
/** The same for an answer that does not come at all. */
export const RTP_ANSWER_MS = 5_000;
/** How long a network that let no RTP through is taken to let none. */
export const RTP_AGAIN_MS = 120_000;
/** The worker tells silence once per episode; a second report this soon after is the same one. */
const SAME_EPISODE_MS = 2_000;

/**
 * By which way a link goes: RTP, or a socket, because RTP did not get through (`blocked`), the relay takes none
 * (`unoffered`), or this browser has none (`unsupported`).
 */
export type RelayWay = "rtp" | "blocked" | "unoffered" | "unsupported";

export interface RelaysHost<Rtp extends RtpLink> {
  /** Whether this browser has what links by RTP need. */
  readonly hasRtp: boolean;
  /** Begins a link by RTP. */
  rtp(peer: number, token: string, news: (news: RtpNews) => void): Rtp;
  /** The worker shall open a socket; a link to the same peer is replaced. */
  open(peer: number, door: RelayDoor): void;
  closed(peer: number): void;
  lost(peer: number, why: LostReason): void;
  /** Null when the link is gone by order. */
  state(peer: number, state: "connecting" | RelayNews | null, way: RelayWay): void;
  now(): number;
  later(delayMs: number, then: () => void): void;
  /** 0..1. */
  random(): number;
}

/** What is done here with a link by RTP; its senders are others' business. */
export type RtpLink = Pick<RelayRtp, "answer" | "renew" | "slots" | "close">;

interface Ordered<Rtp> {
  instance: string;
  token: string;
  way: RelayWay;
  /** The relay has answered our first offer. */
  answered: boolean;
  /** Null: ordered away, and remembered for what came before. */
  state: "connecting" | RelayNews | null;
  rtp: Rtp | null;
  silentAtMs: number;
  /** It fell silent, broke or never came up. */
  failed: boolean;
}

export class RelayLinks<Rtp extends RtpLink> {
  readonly #url: string;
  readonly #host: RelaysHost<Rtp>;
  readonly #links = new Map<number, Ordered<Rtp>>();
  /** RTP does not get through here, as far as is known. */
  #noRtpUntilMs = Number.NEGATIVE_INFINITY;

  constructor(url: string, host: RelaysHost<Rtp>) {
    this.#url = url;
    this.#host = host;
  }

  /** The links by RTP that are up. */
  get up(): Rtp[] {
    return [...this.#links.values()].flatMap(({ state, rtp }) => (state === "up" && rtp ? [rtp] : []));
  }

  /** Have a link. One that works, or may still come up, is kept. */
  order(peer: number, { instance, token, by_rtp = false }: RelayLink): void {
    const before = this.#links.get(peer);
    const alive = before?.state === "up" || before?.state === "connecting";
    if (alive && before?.instance === instance && before.token === token) return;
    if (alive && before) this.#close(peer, before);
    // Whoever is asked for a relay because a plan changed is alone with that; whoever lost one is not.
    const many = before !== undefined && (alive || before.failed || before.instance !== instance);
    const silentAtMs = Number.NEGATIVE_INFINITY;
    const way = this.#way(by_rtp);
    const fresh = { state: "connecting", answered: false, rtp: null, silentAtMs, failed: false } as const;
    const link: Ordered<Rtp> = { instance, token, way, ...fresh };
    this.#links.set(peer, link);
    const delayMs = many ? this.#host.random() * SPREAD_MS : 0;
    this.#host.state(peer, "connecting", way);
    if (way !== "rtp") this.#socket(peer, link, delayMs);
    else if (many) this.#host.later(delayMs, () => this.#rtp(peer, link));
    else this.#rtp(peer, link);
  }

  unlink(peer: number): void {
    const link = this.#links.get(peer);
    if (!link || link.state === null) return;
    link.state = null;
    this.#close(peer, link);
    this.#host.state(peer, null, link.way);
  }

  /** A relay's answer to our offer. An empty one says that it takes no RTP. */
  answer(peer: number, sdp: string): void {
    const link = this.#links.get(peer);
    if (!link?.rtp) return;
    if (sdp === "") {
      this.#instead(peer, link, "unoffered");
      return;
    }
    link.rtp.answer(sdp);
    if (link.answered) return;
    link.answered = true;
    this.#host.later(RTP_WITHIN_MS, () => this.#instead(peer, link, "blocked"));
  }

  /** The connection to the server is back. */
  renew(): void {
    for (const { rtp } of this.#links.values()) rtp?.renew();
  }

  slots(peer: number, pairs: number): void {
    this.#links.get(peer)?.rtp?.slots(pairs);
  }

  /** The worker says how the socket with this token goes. */
  news(peer: number, token: string, news: RelayNews): void {
    const link = this.#links.get(peer);
    if (link?.token === token && link.rtp === null) this.#news(peer, link, news);
  }

  /** The worker hears nothing at all from this peer. */
  silent(peer: number, nowMs: number): void {
    const link = this.#links.get(peer);
    if (link?.state !== "up" || nowMs - link.silentAtMs < SAME_EPISODE_MS) return;
    link.silentAtMs = nowMs;
    link.failed = true;
    this.#host.lost(peer, "silent");
  }

  close(): void {
    for (const link of this.#links.values()) {
      link.state = null;
      link.rtp?.close();
    }
  }

  #rtp(peer: number, link: Ordered<Rtp>): void {
    if (!this.#connecting(peer, link)) return;
    link.rtp = this.#host.rtp(peer, link.token, (news) => {
      if (!this.#connecting(peer, link) || news === "up") this.#news(peer, link, news);
      else this.#instead(peer, link, "blocked");
    });
    this.#host.later(RTP_ANSWER_MS, () => link.answered || this.#instead(peer, link, "unoffered"));
  }

  /** RTP did not come up: the socket. */
  #instead(peer: number, link: Ordered<Rtp>, why: "blocked" | "unoffered"): void {
    if (!this.#connecting(peer, link) || link.rtp === null) return;
    if (why === "blocked") this.#noRtpUntilMs = this.#host.now() + RTP_AGAIN_MS;
    this.#close(peer, link);
    link.way = why;
    this.#host.state(peer, "connecting", why);
    this.#socket(peer, link, 0);
  }

  #way(byRtp: boolean): RelayWay {
    if (!byRtp) return "unoffered";
    if (!this.#host.hasRtp) return "unsupported";
    return this.#host.now() < this.#noRtpUntilMs ? "blocked" : "rtp";
  }

  #socket(peer: number, link: Ordered<Rtp>, delayMs: number): void {
    this.#host.open(peer, { url: this.#url, token: link.token, instance: link.instance, delayMs });
  }

  #connecting(peer: number, link: Ordered<Rtp>): boolean {
    return this.#links.get(peer) === link && link.state === "connecting";
  }

  #news(peer: number, link: Ordered<Rtp>, news: RelayNews): void {
    if (this.#links.get(peer) !== link || (link.state !== "connecting" && link.state !== "up")) return;
    link.state = news;
    this.#host.state(peer, news, link.way);
    if (news === "up") return;
    link.failed = true;
    this.#close(peer, link);
    this.#host.lost(peer, news === "lost" ? "silent" : "never");
  }

  #close(peer: number, link: Ordered<Rtp>): void {
    link.rtp?.close();
    link.rtp = null;
    this.#host.closed(peer);
  }
}

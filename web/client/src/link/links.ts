/**
 * All links of this node: which sessions exist, by the server's orders, and what is told about them. `Link` does the
 * exchange for one of them.
 *
 * A link that fails is told to the server once (`lost`), and stays known until the server orders it away or anew. While
 * the server is away nothing can be exchanged: sessions that were not up by then are made again when it is back.
 */
import type { DescriptionKind, LostReason } from "../signal/messages.ts";
import { type Candidate, type Channels, Link, type LinkHost, type LinkNews } from "./link.ts";

/** The worker tells silence once per episode; a second report this soon after is the same one. */
const SAME_EPISODE_MS = 2_000;
/** What arrives for a peer ahead of the order, at most; and for so many peers, the oldest of whom are forgotten first. */
const MOST_EARLY = 64;

export interface LinksHost extends LinkHost {
  trusted(peer: number): Promise<boolean>;
  /** The channels of a new session, to be transferred at once. */
  opened(peer: number, channels: Channels): void;
  closed(peer: number): void;
  lost(peer: number, why: LostReason): void;
  /** Null when the link is gone by order. */
  state(peer: number, state: "connecting" | "up" | "never" | "lost" | "refused" | null): void;
}

type Early = { description: [DescriptionKind, string, string] } | { candidate: Candidate };

export class Links {
  readonly #host: LinksHost;
  #iceServers: readonly string[] = [];
  readonly #links = new Map<number, Link>();
  readonly #silentAtMs = new Map<number, number>();
  readonly #early = new Map<number, Early[]>();
  /** Failures that the server has not been told, because it was away. */
  readonly #untold = new Map<number, LostReason>();
  #down = false;

  constructor(host: LinksHost) {
    this.#host = host;
  }

  setIceServers(urls: readonly string[]): void {
    this.#iceServers = urls;
  }

  /** Have a link. One that works, or may still come up, is kept. */
  order(peer: number, offers: boolean): void {
    const link = this.#links.get(peer);
    if (link && !link.over && link.offers === offers) return;
    this.#open(peer, offers);
  }

  unlink(peer: number): void {
    this.#early.delete(peer);
    this.#untold.delete(peer);
    this.#close(peer);
    this.#host.state(peer, null);
  }

  description(peer: number, kind: DescriptionKind, sdp: string, signature: string): void {
    let link = this.#links.get(peer);
    if (!link) {
      this.#keep(peer, { description: [kind, sdp, signature] });
      return;
    }
    if (kind === "offer" && !link.offers && !link.accepts(sdp)) link = this.#open(peer, false);
    link.description(kind, sdp, signature);
  }

  candidate(peer: number, candidate: Candidate): void {
    const link = this.#links.get(peer);
    if (link) link.candidate(candidate);
    else this.#keep(peer, { candidate });
  }

  /** The worker hears nothing at all from this peer. */
  silent(peer: number, nowMs: number): void {
    const before = this.#silentAtMs.get(peer);
    if (!this.#links.get(peer)?.up || (before !== undefined && nowMs - before < SAME_EPISODE_MS)) return;
    this.#silentAtMs.set(peer, nowMs);
    this.#lost(peer, "silent");
  }

  /** The connection to the server broke, or is back. */
  setDown(down: boolean): void {
    if (down === this.#down) return;
    this.#down = down;
    if (down) return;
    for (const [peer, why] of this.#untold) this.#host.lost(peer, why);
    this.#untold.clear();
    for (const peer of [...this.#links.keys()]) this.renew(peer);
  }

  /** The peer may have missed our offer: make it again, unless the link is up. */
  renew(peer: number): void {
    const link = this.#links.get(peer);
    if (link?.offers && !link.up && !link.over) this.#open(peer, true);
  }

  close(): void {
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }

  #open(peer: number, offers: boolean): Link {
    this.#close(peer);
    this.#host.state(peer, "connecting");
    const link = new Link(peer, offers, this.#iceServers, this.#host, (news) => this.#news(peer, link, news));
    this.#links.set(peer, link);
    this.#host.opened(peer, link.channels);
    void this.#check(peer, link);
    const early = this.#early.get(peer) ?? [];
    this.#early.delete(peer);
    for (const one of early) {
      if ("candidate" in one) link.candidate(one.candidate);
      else this.description(peer, ...one.description);
    }
    return link;
  }

  /** Whoever has another secret gets no link, whichever side should offer. */
  async #check(peer: number, link: Link): Promise<void> {
    if ((await this.#host.trusted(peer)) || this.#links.get(peer) !== link || link.over) return;
    link.close();
    this.#news(peer, link, "never");
  }

  #close(peer: number): void {
    const link = this.#links.get(peer);
    if (!link) return;
    this.#links.delete(peer);
    this.#silentAtMs.delete(peer);
    // A session that ended by itself has been reported closed already.
    if (link.over) return;
    link.close();
    this.#host.closed(peer);
  }

  #news(peer: number, link: Link, news: LinkNews): void {
    if (this.#links.get(peer) !== link) return;
    // Not up because the exchange could not go on without the server: that says nothing about the two networks.
    if (news === "never" && this.#down && link.offers) {
      this.#host.closed(peer);
      this.#open(peer, true);
      return;
    }
    this.#host.state(peer, news);
    if (news === "up") return;
    this.#host.closed(peer);
    this.#lost(peer, news === "lost" ? "silent" : "never");
  }

  #lost(peer: number, why: LostReason): void {
    if (this.#down) this.#untold.set(peer, why);
    else this.#host.lost(peer, why);
  }

  #keep(peer: number, one: Early): void {
    const list = this.#early.get(peer) ?? [];
    if (list.length >= MOST_EARLY) return;
    this.#early.set(peer, [...list, one]);
    // Candidates also come late, for links that are gone; those must not keep out what comes early for new ones.
    if (this.#early.size > MOST_EARLY) this.#early.delete(this.#early.keys().next().value as number);
  }
}

/**
 * One session of the link to one peer: a peer connection, its three data channels, and the exchange of descriptions and
 * candidates. A session is made once and closed once; a new try is a new session, with a certificate, an ICE user name
 * and channels of its own.
 *
 * The channels go to the worker as soon as they exist (a channel can be transferred only before it is used). What the
 * server passes on may belong to an earlier session of the same pair: answers name the offer that they answer, and
 * candidates the session they belong to, so the two never mix.
 */
import type { DescriptionKind } from "../signal/messages.ts";
import { candidateUfrag, iceUfrag, nameOffer, nameSession, splitAnswer } from "./sdp.ts";

/** A link that is not up by then never will be. */
export const UP_WITHIN_MS = 15_000;
/** Video that is older than this is worth nothing to a live picture. */
const VIDEO_LIFETIME_MS = 250;
/**
 * Sound older than this comes after its turn. Less throws it away whenever SCTP stands still for a moment, which full
 * links do; without an end it queues for seconds there. Figures: docs/design/forwarding.md, Sound.
 */
const AUDIO_LIFETIME_MS = 250;
/** Candidates that arrive ahead of their description. More than any real machine has. */
const MOST_CANDIDATES = 64;

export interface Channels {
  video: RTCDataChannel;
  audio: RTCDataChannel;
  control: RTCDataChannel;
}

export interface Candidate {
  candidate: string;
  mid: string | null;
}

/** What a session needs from the rest of the client. */
export interface LinkHost {
  describe(peer: number, kind: DescriptionKind, sdp: string, signature: string): void;
  candidate(peer: number, candidate: Candidate): void;
  /** Null when the peer is not verified: then there is no link. */
  sign(peer: number, kind: DescriptionKind, sdp: string): Promise<string | null>;
  verify(peer: number, kind: DescriptionKind, sdp: string, signature: string): Promise<boolean>;
}

/** How a session came to its end, or to being up. */
export type LinkNews = "up" | "never" | "lost" | "refused";

export class Link {
  readonly peer: number;
  readonly offers: boolean;
  readonly channels: Channels;
  readonly #host: LinkHost;
  readonly #news: (news: LinkNews) => void;
  readonly #connection: RTCPeerConnection;
  readonly #timer: ReturnType<typeof setTimeout>;
  #candidates: Candidate[] = [];
  #remoteUfrag: string | null = null;
  #state: "new" | "up" | "over" = "new";
  /** Steps of the exchange, one after another, although each of them awaits. */
  #work: Promise<void> = Promise.resolve();

  constructor(
    peer: number,
    offers: boolean,
    iceServers: readonly string[],
    host: LinkHost,
    news: (n: LinkNews) => void,
  ) {
    this.peer = peer;
    this.offers = offers;
    this.#host = host;
    this.#news = news;
    const connection = new RTCPeerConnection({ iceServers: iceServers.map((urls) => ({ urls })) });
    this.#connection = connection;
    const channel = (id: number, label: string, init: RTCDataChannelInit) =>
      connection.createDataChannel(label, { ...init, negotiated: true, id });
    this.channels = {
      video: channel(0, "video", { ordered: false, maxPacketLifeTime: VIDEO_LIFETIME_MS }),
      audio: channel(1, "audio", { ordered: false, maxPacketLifeTime: AUDIO_LIFETIME_MS }),
      control: channel(2, "control", { ordered: true }),
    };
    connection.onicecandidate = ({ candidate }) => {
      const ufrag = iceUfrag(connection.localDescription?.sdp ?? "");
      if (!candidate?.candidate || ufrag === null) return;
      host.candidate(peer, { candidate: nameSession(candidate.candidate, ufrag), mid: candidate.sdpMid });
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "connected") this.#up();
      // `disconnected` passes by itself, or becomes `failed`; the worker hears silence long before.
      else if (connection.connectionState === "failed") this.#end(this.#state === "up" ? "lost" : "never");
    };
    this.#timer = setTimeout(() => {
      if (this.#state === "new") this.#end("never");
    }, UP_WITHIN_MS);
    if (offers) this.#do(() => this.#offer());
  }

  get up(): boolean {
    return this.#state === "up";
  }

  /** Failed, refused or closed: of no use any more. */
  get over(): boolean {
    return this.#state === "over";
  }

  /** The offer of this session, where the peer makes it: false when it belongs to another one. */
  accepts(offer: string): boolean {
    return !this.offers && !this.over && (this.#remoteUfrag === null || this.#remoteUfrag === iceUfrag(offer));
  }

  /** A description from the peer. */
  description(kind: DescriptionKind, sdp: string, signature: string): void {
    if (kind === "offer" && !this.offers && this.#remoteUfrag === null) {
      this.#remoteUfrag = iceUfrag(sdp);
      this.#do(() => this.#answer(sdp, signature));
    } else if (kind === "answer" && this.offers) {
      this.#do(() => this.#answered(sdp, signature));
    }
  }

  candidate(candidate: Candidate): void {
    this.#do(async () => {
      if (this.#connection.remoteDescription) await this.#add(candidate);
      else if (this.#candidates.length < MOST_CANDIDATES) this.#candidates.push(candidate);
    });
  }

  /** Idempotent; tells nobody. */
  close(): void {
    clearTimeout(this.#timer);
    this.#state = "over";
    this.#connection.onicecandidate = null;
    this.#connection.onconnectionstatechange = null;
    this.#connection.close();
  }

  #up(): void {
    if (this.#state !== "new") return;
    this.#state = "up";
    clearTimeout(this.#timer);
    this.#news("up");
  }

  #end(news: LinkNews): void {
    if (this.over) return;
    this.close();
    this.#news(news);
  }

  #do(step: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.over) return;
      try {
        await step();
      } catch (error) {
        // What the browser cannot make sense of is no link.
        if (!this.over) console.warn("grove: link", this.peer, error);
        this.#end(this.#state === "up" ? "lost" : "never");
      }
    });
  }

  async #offer(): Promise<void> {
    await this.#connection.setLocalDescription(await this.#connection.createOffer());
    await this.#say("offer", this.#connection.localDescription?.sdp ?? "");
  }

  async #answer(sdp: string, signature: string): Promise<void> {
    if (!(await this.#host.verify(this.peer, "offer", sdp, signature))) {
      this.#end("refused");
      return;
    }
    await this.#connection.setRemoteDescription({ type: "offer", sdp });
    await this.#connection.setLocalDescription(await this.#connection.createAnswer());
    await this.#say("answer", nameOffer(this.#connection.localDescription?.sdp ?? "", this.#remoteUfrag ?? ""));
    await this.#addWaiting();
  }

  async #answered(told: string, signature: string): Promise<void> {
    const { offerUfrag, sdp } = splitAnswer(told);
    const ours = iceUfrag(this.#connection.localDescription?.sdp ?? "");
    if (offerUfrag !== ours || this.#connection.signalingState !== "have-local-offer") return;
    if (!(await this.#host.verify(this.peer, "answer", told, signature))) {
      this.#end("refused");
      return;
    }
    this.#remoteUfrag = iceUfrag(sdp);
    await this.#connection.setRemoteDescription({ type: "answer", sdp });
    await this.#addWaiting();
  }

  async #say(kind: DescriptionKind, sdp: string): Promise<void> {
    const signature = await this.#host.sign(this.peer, kind, sdp);
    if (this.over) return;
    if (signature === null) this.#end("never");
    else this.#host.describe(this.peer, kind, sdp, signature);
  }

  async #addWaiting(): Promise<void> {
    const waiting = this.#candidates;
    this.#candidates = [];
    for (const candidate of waiting) await this.#add(candidate);
  }

  async #add({ candidate, mid }: Candidate): Promise<void> {
    const ufrag = candidateUfrag(candidate);
    if (ufrag !== null && ufrag !== this.#remoteUfrag) return;
    try {
      await this.#connection.addIceCandidate({ candidate, sdpMid: mid });
    } catch {
      // One candidate less: another kind of address, or a name that does not resolve here.
    }
  }
}

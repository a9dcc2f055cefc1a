/**
 * Who encodes our own streams, seen from the page: while a relay that is reached by RTP is ordered to be fed with one, the
 * sender of that link does, and else the media worker. Brings senders and worker in line with orders, devices and links;
 * decides nothing about frames (`media/handover.ts` does).
 *
 * The worker is told before a sender begins, because what a sender makes first is a key frame, which must not be missed.
 */
import type { Outgoing, RelayRtp } from "../link/relay-rtp.ts";
import { layerRates } from "../link/rtp-rates.ts";
import { isRelay } from "../signal/relays.ts";
import type { ToWorker } from "../worker/messages.ts";
import type { Plan } from "./plan.ts";

/** What we send in one stream, for encoders that belong to a link. */
export interface OwnMedia extends Outgoing {
  /** What sound takes on the wire, bit/s. */
  audioBps: number;
}

/** The part of a link by RTP that is used. */
export type RtpEncoder = Pick<RelayRtp, "peer" | "send" | "keyFrame">;

/** How things are at present. */
export interface Situation {
  me: number | null;
  plan: Plan;
  /** Links by RTP that are up. */
  links: readonly RtpEncoder[];
  /** Bit/s; null when it is not known. */
  uplink: number | null;
}

export class RelayFeeds {
  readonly #toWorker: (message: ToWorker) => void;
  readonly #media = new Map<number, OwnMedia>();
  /** What the worker was last told, by stream. */
  readonly #told = new Map<number, { video: string; audio: boolean }>();

  constructor(toWorker: (message: ToWorker) => void) {
    this.#toWorker = toWorker;
  }

  /** Streams of which there is something to send. */
  get streams(): number[] {
    return [...this.#media.keys()];
  }

  /** What a stream consists of, whoever encodes it; null: nothing. `settle` brings it about. */
  set(stream: number, media: OwnMedia | null): void {
    if (media === null) this.#media.delete(stream);
    else this.#media.set(stream, media);
  }

  settle(now: Situation): void {
    for (const stream of new Set([...this.#media.keys(), ...this.#told.keys()])) {
      const encoder = this.#encoder(stream, now);
      const media = encoder ? (this.#media.get(stream) ?? null) : null;
      this.#tell(stream, media);
      for (const link of now.links) link.send(stream, link === encoder && media ? withRates(media, now) : null);
    }
  }

  /** The stream's encoder shall begin all layers anew. */
  keyFrame(stream: number, now: Situation): void {
    this.#encoder(stream, now)?.keyFrame(stream);
  }

  /** One link at most: a second one would be a second encoder. */
  #encoder(stream: number, { me, plan, links }: Situation): RtpEncoder | null {
    if (me === null || !this.#media.has(stream)) return null;
    const feeds = [...plan.feeds.values()].filter((feed) => feed.stream.node === me && feed.stream.stream === stream);
    return links.find(({ peer }) => feeds.some(({ child }) => child === peer)) ?? null;
  }

  #tell(stream: number, media: OwnMedia | null): void {
    const widths = media?.video ? media.layers.map(({ width }) => width) : null;
    const now = { video: JSON.stringify(widths), audio: media?.audio != null };
    const before = this.#told.get(stream) ?? { video: "null", audio: false };
    this.#told.set(stream, now);
    if (now.video !== before.video) this.#toWorker({ type: "rtp_video", stream, widths });
    if (now.audio !== before.audio) this.#toWorker({ type: "rtp_audio", stream, on: now.audio });
  }
}

function withRates(media: OwnMedia, { plan, uplink }: Situation): Outgoing {
  const direct = [...plan.feeds.values()].filter(({ child }) => !isRelay(child));
  const rates = layerRates(
    media.layers.map(({ bps }) => bps),
    {
      uplink,
      allotted: direct.reduce((sum, { rateBps }) => sum + rateBps, 0),
      audio: media.audio === null ? 0 : media.audioBps,
    },
  );
  const { audio, video, layers } = media;
  return { audio, video, layers: layers.map((layer, at) => ({ ...layer, bps: rates[at] ?? 0 })) };
}

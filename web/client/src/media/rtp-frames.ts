/**
 * What the encoders of an RTP sender make, as our headers say it: which layer a picture is of, what it needs, when it was
 * captured; and of sound, the packet with the copy of the one before. Pure: metadata of encoded frames in, fields of
 * headers out. What browsers tell is in docs/design/client.md (The RTP link).
 */
import { EVERYTHING } from "../frame/header.ts";
import { ClockMap } from "./clock.ts";
import { joinPackets, PACKET_US } from "./redundancy.ts";
import type { EncodedPicture } from "./video-encoder.ts";

/** The part of the browser's metadata that is used. */
export interface PictureMetadata {
  synchronizationSource?: number;
  rtpTimestamp?: number;
  width?: number;
  height?: number;
  frameId?: number;
  dependencies?: readonly number[];
  temporalIndex?: number;
}

/** Frame ids remembered per layer: encoders in use reach back 7 frames, and ids count over all layers. */
const IDS = 256;
const TWO_32 = 2 ** 32;

/** RTP's 32-bit times of one source, as microseconds that only the source's own clock moves. */
export class RtpClock {
  readonly #rate: number;
  readonly #map = new ClockMap();
  #last: number | null = null;

  /** Ticks per second. */
  constructor(rate: number) {
    this.#rate = rate;
  }

  /** Ticks since any fixed moment. */
  unwrap(rtpTimestamp: number): number {
    if (this.#last === null) this.#last = rtpTimestamp;
    else {
      const ahead = (rtpTimestamp - this.#last) >>> 0;
      this.#last += ahead < TWO_32 / 2 ? ahead : ahead - TWO_32;
    }
    return this.#last;
  }

  /** Capture time on the node's clock, for a frame that is here at `nowUs`. */
  capture(rtpTimestamp: number, nowUs: number): number {
    return this.#map.map((this.unwrap(rtpTimestamp) * 1e6) / this.#rate, nowUs);
  }
}

/**
 * Layers by their pictures' widths. A simulcast sender's transform is told no name of a layer, only its RTP source, which
 * is kept for the layer once it is known; the width decides at first sight, because layers begin one after the other.
 */
export class LayersByWidth {
  #widths: readonly number[] = [];
  readonly #sources: (number | undefined)[] = [];

  /** Widths asked for, lowest layer first. What comes may be smaller: browsers scale down under load. */
  set widths(widths: readonly number[]) {
    this.#widths = widths;
    this.#sources.length = Math.min(this.#sources.length, widths.length);
  }

  layer(source: number, width: number): number | null {
    const known = this.#sources.indexOf(source);
    if (known >= 0) return known;
    const distance = (at: number): number => Math.abs(Math.log((this.#widths[at] ?? 1) / Math.max(1, width)));
    const all = this.#widths.map((_, at) => at);
    const free = all.filter((at) => this.#sources[at] === undefined);
    const [best] = (free.length > 0 ? free : all).sort((a, b) => distance(a) - distance(b));
    // All taken: a sender that began anew under other sources, or a layer that is none of ours.
    if (best === undefined || (free.length === 0 && distance(best) > Math.log(Math.SQRT2))) return null;
    this.#sources[best] = source;
    return best;
  }
}

interface LayerState {
  source: number;
  clock: RtpClock;
  /** Our number of each frame id. Counts what is sealed, as the sealer does: only differences are used. */
  ids: Map<number, number>;
  next: number;
  topTemporal: number;
  /** A key frame of this source has come: nothing before it can be decoded. */
  began: boolean;
}

/** The pictures of one sender, all its layers. */
export class RtpPictures {
  readonly #layers = new LayersByWidth();
  readonly #states: (LayerState | undefined)[] = [];

  set widths(widths: readonly number[]) {
    this.#layers.widths = widths;
  }

  /** Null: not to be sealed, because `admit` says so or the picture is of no layer of ours. */
  take(
    meta: PictureMetadata,
    key: boolean,
    nowUs: number,
    admit: (layer: number, key: boolean) => boolean,
  ): EncodedPicture | null {
    const { synchronizationSource: source, rtpTimestamp, width = 0, height = 0 } = meta;
    if (source === undefined || rtpTimestamp === undefined) return null;
    const spatial = this.#layers.layer(source, width);
    if (spatial === null) return null;
    let state = this.#states[spatial];
    if (state?.source !== source) {
      state = { source, clock: new RtpClock(90_000), ids: new Map(), next: 0, topTemporal: 0, began: false };
      this.#states[spatial] = state;
    }
    // The clock looks at every frame: the fastest tells it most.
    const captureUs = state.clock.capture(rtpTimestamp, nowUs);
    if (!(key || state.began) || !admit(spatial, key)) return null;
    state.began = true;
    const temporal = key ? 0 : Math.min(meta.temporalIndex ?? 0, 3);
    state.topTemporal = Math.max(state.topTemporal, temporal);
    const needs = key ? { farthest: 0, nearest: 0 } : distances(state, meta.dependencies ?? []);
    if (key) state.ids.clear();
    if (meta.frameId !== undefined) {
      state.ids.set(meta.frameId, state.next);
      if (state.ids.size > IDS) state.ids.delete(state.ids.keys().next().value as number);
    }
    state.next += 1;
    return {
      key,
      spatial,
      temporal,
      width: key ? width : 0,
      height: key ? height : 0,
      ...needs,
      // Of the uppermost temporal layer nothing else is made; in between, frames above build on it.
      droppable: temporal > 0 && temporal === state.topTemporal,
      captureUs,
      // Without the header extension for it the sender turns pictures upright itself.
      rotation: 0,
    };
  }
}

/** How far back a frame reaches. One that names no frame, or one that is not known, needs everything. */
function distances(state: LayerState, dependencies: readonly number[]): { farthest: number; nearest: number } {
  const back = dependencies.map((id) => {
    const number = state.ids.get(id);
    return number === undefined ? EVERYTHING : Math.min(state.next - number, EVERYTHING);
  });
  if (back.length === 0 || back.includes(EVERYTHING)) return { farthest: EVERYTHING, nearest: EVERYTHING };
  return { farthest: Math.max(...back), nearest: Math.min(...back) };
}

/** While nothing is to be heard one in so many packets goes out, as a mark that the sender is there. */
const MARK_EVERY = 10;

/** The packets of one sender's microphone. */
export class RtpPackets {
  readonly #clock = new RtpClock(48_000);
  #previous: { packet: Uint8Array; ticks: number } | null = null;
  #sinceMark = MARK_EVERY;

  /** What to seal; null: nothing, this time. `level` is the present loudness; `silent`: muted, or a pause. */
  take(
    rtpTimestamp: number,
    packet: Uint8Array,
    { level, silent }: { level: number; silent: boolean },
    nowUs: number,
  ): { captureUs: number; level: number; payload: Uint8Array<ArrayBuffer> } | null {
    const ticks = this.#clock.unwrap(rtpTimestamp);
    // A packet is here when its last sample was captured.
    const captureUs = Math.max(this.#clock.capture(rtpTimestamp, nowUs) - PACKET_US, 0);
    if (silent) {
      this.#previous = null;
      this.#sinceMark += 1;
      if (this.#sinceMark < MARK_EVERY) return null;
      this.#sinceMark = 0;
      return { captureUs, level, payload: joinPackets(new Uint8Array(0), []) };
    }
    this.#sinceMark = MARK_EVERY;
    const previous = this.#previous;
    const adjoining = previous !== null && ticks - previous.ticks < 1.5 * 960;
    this.#previous = { packet, ticks };
    return { captureUs, level, payload: joinPackets(packet, adjoining ? [previous.packet] : []) };
  }
}

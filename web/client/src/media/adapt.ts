/**
 * How much an encoder makes when its own links carry less than was ordered: first the top layer shrinks, then it goes,
 * then the lowest shrinks. Down at once, up slowly.
 *
 * Pure: shares and times in, layers out.
 */
import type { VideoEncoding } from "../worker/messages.ts";

/** Nothing is asked of the lowest layer below this; a picture at less is not worth its frames. */
const LEAST_BPS = 50_000;
/** Up by this much of the order per second at most, towards what our links are said to carry. */
const RISE_PER_S = 0.1;
/** The top layer goes below this part of its order, and comes back above that one. */
const LEAVES_AT = 0.35;
const RETURNS_AT = 0.6;
/** Changes of the rate smaller than this are not worth configuring an encoder. */
const WORTH = 0.12;

export type Change = { layers: VideoEncoding[]; reason: "uplink" | "recovered" };

export class Adaptation {
  readonly #ordered: VideoEncoding[];
  /** What our links carry, and what we make of it: both as a share of the order. */
  #share = 1;
  #level = 1;
  #count: number;
  #lastMs = 0;
  #layers: VideoEncoding[];

  constructor(ordered: VideoEncoding[]) {
    this.#ordered = ordered;
    this.#count = ordered.length;
    this.#layers = ordered;
  }

  /** What to encode, lowest first; a prefix of the order with rates of our own. */
  get layers(): VideoEncoding[] {
    return this.#layers;
  }

  /** Our links carry this share (0..1) of the ordered rate. */
  uplink(share: number, nowMs: number): Change | null {
    this.#share = Math.min(Math.max(share, 0), 1);
    if (this.#share >= this.#level) return null;
    this.#level = this.#share;
    this.#lastMs = nowMs;
    return this.#changed("uplink");
  }

  /** Time passes: call it about once a second. */
  tick(nowMs: number): Change | null {
    const rise = ((nowMs - this.#lastMs) / 1000) * RISE_PER_S;
    this.#lastMs = nowMs;
    if (this.#level >= this.#share) return null;
    this.#level = Math.min(this.#share, this.#level + rise);
    return this.#changed("recovered");
  }

  #changed(reason: "uplink" | "recovered"): Change | null {
    const before = this.#layers;
    const layers = this.#allot();
    const [old, now] = [total(before), total(layers)];
    const same = layers.length === before.length && Math.abs(now - old) < WORTH * old;
    // The last step up may be a small one.
    if (same && (this.#level < 1 || now === old)) return null;
    this.#layers = layers;
    return { layers, reason };
  }

  #allot(): VideoEncoding[] {
    const budget = this.#level * total(this.#ordered);
    for (let count = this.#ordered.length; count > 1; count--) {
      const lower = total(this.#ordered.slice(0, count - 1));
      const top = this.#ordered[count - 1] as VideoEncoding;
      const left = Math.min(budget - lower, top.bps);
      if (left < top.bps * (count > this.#count ? RETURNS_AT : LEAVES_AT)) continue;
      this.#count = count;
      return [...this.#ordered.slice(0, count - 1), { ...top, bps: Math.round(left) }];
    }
    this.#count = Math.min(1, this.#ordered.length);
    return this.#ordered.slice(0, 1).map((layer) => ({
      ...layer,
      bps: Math.round(Math.min(layer.bps, Math.max(budget, LEAST_BPS))),
    }));
  }
}

function total(layers: readonly VideoEncoding[]): number {
  return layers.reduce((sum, layer) => sum + layer.bps, 0);
}

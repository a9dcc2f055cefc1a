/**
 * One clock for everything a node sends: microseconds since its media worker started. Cameras and sound cards count
 * from epochs of their own (and Firefox's camera from none), so each source is mapped by the fastest delivery seen.
 */

/** How much slower than ours a source's clock may run and still be followed: 500 ppm, five times what crystals do. */
const LEAK = 500e-6;
/** A source that jumps further than this (device changed, machine slept) is mapped anew. */
const JUMP_US = 1_000_000;

/**
 * Maps a source's time stamps to our clock: stamp + the least (arrival - stamp) seen, which forgets upwards at `LEAK`.
 * Late deliveries don't move it, drift does. Results only grow.
 */
export class ClockMap {
  #offset: number | null = null;
  #lastNow = 0;
  #last = -1;

  /** `stampUs` on the source's clock, `nowUs` on ours when it was delivered; the capture time on ours, an integer. */
  map(stampUs: number, nowUs: number): number {
    const seen = nowUs - stampUs;
    if (this.#offset === null || Math.abs(seen - this.#offset) > JUMP_US) this.#offset = seen;
    else this.#offset = Math.min(seen, this.#offset + (nowUs - this.#lastNow) * LEAK);
    this.#lastNow = nowUs;
    this.#last = Math.max(this.#last + 1, Math.round(stampUs + this.#offset), 0);
    return this.#last;
  }
}

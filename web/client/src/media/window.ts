/**
 * The last so many values, and what share of them is below what. Kept in order as they come, because it is asked at every
 * packet and picture, also on the audio thread: a value costs two binary searches and two moves of bytes. Pure.
 */
export class Window {
  /** By arrival; `#next` is where the next one goes. */
  readonly #values: Float64Array;
  readonly #sorted: Float64Array;
  #next = 0;
  #count = 0;

  constructor(size: number) {
    this.#values = new Float64Array(size);
    this.#sorted = new Float64Array(size);
  }

  get size(): number {
    return this.#count;
  }

  /** A finite number; the oldest goes when there are too many. */
  push(value: number): void {
    const sorted = this.#sorted;
    if (this.#count === sorted.length) {
      const at = this.#rank(this.#values[this.#next] as number);
      sorted.copyWithin(at, at + 1, this.#count);
      this.#count -= 1;
    }
    const at = this.#rank(value);
    sorted.copyWithin(at + 1, at, this.#count);
    sorted[at] = value;
    this.#count += 1;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % sorted.length;
  }

  /** The value that `share` (0..1) of the others do not exceed; 0 is the least. NaN while there is none. */
  quantile(share: number): number {
    return this.#sorted[Math.floor((this.#count - 1) * share)] ?? Number.NaN;
  }

  clear(): void {
    this.#count = 0;
    this.#next = 0;
  }

  /** How many are less. */
  #rank(value: number): number {
    let [low, high] = [0, this.#count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as number) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

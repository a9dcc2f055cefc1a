/**
 * The receivers of an RTP link: pairs of one for sound and one for pictures, each of which the relay fills with whatever
 * stream it likes. Their number only grows, since a description cannot lose a part. Pure.
 */
import { MAX_SLOTS } from "../transport/control.ts";

/** Pairs from the start: most calls are small, and more would make every description longer. */
export const FIRST_SLOTS = 4;

export class Slots {
  #pairs = 0;

  get pairs(): number {
    return this.#pairs;
  }

  /** The relay wants so many in all. How many to add now. */
  grow(wanted: number): number {
    const more = Math.max(0, Math.min(wanted, MAX_SLOTS) - this.#pairs);
    this.#pairs += more;
    return more;
  }
}

/** How often a codec that fails is made anew: a burst of failures ends it, one now and then in a long call does not. Pure. */

const MOST = 3;
const WITHIN_MS = 60_000;

export class Restarts {
  #times: number[] = [];

  /** It failed: true when it may be made anew. */
  allow(nowMs: number): boolean {
    this.#times = [...this.#times.filter((time) => nowMs - time < WITHIN_MS), nowMs];
    return this.#times.length <= MOST;
  }
}

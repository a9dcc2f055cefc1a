/**
 * What one direction of a bad link does to its packets: loss, delay, jitter, and a bottleneck with a bounded queue. Pure:
 * a packet's size and the time go in, the time of its departure or null comes out. The same seed loses the same packets
 * of the same sequence; which packets browsers send, and when, is theirs.
 */

/** One direction of a link. Everything that is left out is as on a good wire. */
export interface Conditions {
  /** Share of packets lost, 0..1. */
  loss?: number;
  /** Mean length of a run of lost packets (Gilbert's model); 1 or nothing: each is lost by itself. */
  burst?: number;
  /** One way, ms. */
  delayMs?: number;
  /** On top of it 0 to so many ms, evenly spread; packets stay in order. */
  jitterMs?: number;
  /** What the bottleneck carries, bit/s, IP and UDP headers included. */
  rateBps?: number;
  /** What waits before the bottleneck, ms at its rate; packets beyond it are lost. */
  queueMs?: number;
}

/** What became of the packets of one direction. */
export interface Passed {
  passed: number;
  lost: number;
  /** Lost because the queue was full. */
  overflowed: number;
  bytes: number;
}

/** IPv4 and UDP. */
const HEADERS = 28;
const QUEUE_MS = 200;

/** Mulberry32: 32 bits of state are plenty for which packets are lost. */
export function chance(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Impairment {
  readonly counts: Passed = { passed: 0, lost: 0, overflowed: 0, bytes: 0 };
  #conditions: Conditions;
  readonly #chance: () => number;
  #losing = false;
  /** When the bottleneck has sent everything before. */
  #freeAt = 0;
  #lastDue = 0;

  constructor(conditions: Conditions, seed: number) {
    this.#conditions = conditions;
    this.#chance = chance(seed);
  }

  /** Other conditions from now on. What waits keeps its time. */
  set conditions(conditions: Conditions) {
    this.#conditions = conditions;
  }

  /** When a packet of `bytes` that comes at `now` (ms) comes out; null: never. */
  admit(bytes: number, now: number): number | null {
    const { delayMs = 0, jitterMs = 0, rateBps, queueMs = QUEUE_MS } = this.#conditions;
    if (this.#loses()) {
      this.counts.lost += 1;
      return null;
    }
    let at = now;
    if (rateBps !== undefined) {
      const begins = Math.max(now, this.#freeAt);
      if (begins - now > queueMs) {
        this.counts.overflowed += 1;
        return null;
      }
      this.#freeAt = begins + ((bytes + HEADERS) * 8000) / rateBps;
      at = this.#freeAt;
    }
    at += delayMs + (jitterMs > 0 ? this.#chance() * jitterMs : 0);
    this.#lastDue = Math.max(at, this.#lastDue);
    this.counts.passed += 1;
    this.counts.bytes += bytes + HEADERS;
    return this.#lastDue;
  }

  #loses(): boolean {
    const { loss = 0, burst = 1 } = this.#conditions;
    if (loss <= 0) return false;
    const drawn = this.#chance();
    if (burst <= 1) return drawn < loss;
    // Two states: left with 1 / burst, entered as often as gives the share of loss in the long run.
    const enter = loss / (burst * (1 - loss));
    this.#losing = this.#losing ? drawn >= 1 / burst : drawn < enter;
    return this.#losing;
  }
}

/**
 * When a picture is shown: its capture time plus an offset that follows the sound of the same stream, or, without sound,
 * a delay of its own.
 *
 * Pure; everything in milliseconds. `capture` is on the sender's clock, `now` and `at` on ours; only their differences
 * are used, so the two need no common epoch.
 */
import { Window } from "./window.ts";

/** Pictures whose readiness counts for the own delay. */
const READY = 60;
/** On top of p95 of readiness: one tick of the worker's clock. */
const MARGIN_MS = 10;
/** Sound that was not heard for this long no longer leads. */
const SOUND_LEADS_MS = 1000;
/** The offset creeps by this much per ms: a tenth faster or slower is not seen. */
const CREEP = 0.1;
/** Further off than this it jumps. */
const JUMP_MS = 250;
/** A picture is not held back longer than this whatever the sound does. */
const MOST_BEHIND_MS = 1500;

export class Schedule {
  readonly #ready = new Window(READY);
  /** What the pictures alone would ask for. */
  #own: number | null = null;
  #sound: { offset: number; atMs: number } | null = null;
  #offset: number | null = null;
  #lastMs = 0;

  /** A picture is decoded and could be shown. */
  ready(captureMs: number, nowMs: number): void {
    this.#ready.push(nowMs - captureMs);
    this.#own = this.#ready.quantile(0.95) + MARGIN_MS;
  }

  /** The sound captured at `captureMs` is heard at `atMs`, as of `nowMs`. */
  heard(captureMs: number, atMs: number, nowMs: number): void {
    const offset = atMs - captureMs;
    const before = this.#sound;
    const near = before !== null && Math.abs(offset - before.offset) < JUMP_MS;
    // Reports are as coarse as the sound card's buffer: smooth them.
    this.#sound = { offset: near ? before.offset + (offset - before.offset) * 0.2 : offset, atMs: nowMs };
  }

  /** When to show the picture captured at `captureMs`; null before the first picture was ready. */
  due(captureMs: number, nowMs: number): number | null {
    const own = this.#own;
    if (own === null) return null;
    const led = this.#led(nowMs);
    const wanted = led === null || led - own > MOST_BEHIND_MS ? own : led;
    if (this.#offset === null || Math.abs(wanted - this.#offset) > JUMP_MS) this.#offset = wanted;
    else {
      const most = Math.max(nowMs - this.#lastMs, 0) * CREEP;
      this.#offset += Math.min(Math.max(wanted - this.#offset, -most), most);
    }
    this.#lastMs = nowMs;
    return captureMs + this.#offset;
  }

  /** How much later than the sound pictures become ready, ms; null unless both are there. Positive: sound should wait. */
  pictureLag(nowMs: number): number | null {
    const own = this.#own;
    const led = this.#led(nowMs);
    return own === null || led === null ? null : own - led;
  }

  /** How far ahead (+) or behind (-) of its sound a picture is when shown at `atMs`; null without sound. */
  ahead(captureMs: number, atMs: number): number | null {
    const led = this.#led(atMs);
    return led === null ? null : captureMs + led - atMs;
  }

  #led(nowMs: number): number | null {
    return this.#sound !== null && nowMs - this.#sound.atMs < SOUND_LEADS_MS ? this.#sound.offset : null;
  }
}

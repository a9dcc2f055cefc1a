/**
 * Which pictures of one spatial layer may be decoded, and in which order: frames in by arrival, frames out by number.
 *
 * Pure; times are milliseconds on any clock of the caller's. A frame is handed out once everything it needs has been,
 * and it has given those before it a moment to come. A frame that others need and that will not come breaks the chain:
 * nothing more is handed out until a key frame.
 */
import { EVERYTHING, type Header, isNewer, needs } from "../frame/header.ts";

/** How long a frame that could be decoded waits for an earlier one that it does not need. */
export const REORDER_MS = 40;
/** How long a missing frame that others need is waited for; repair takes one or two round trips. */
export const GAP_MS = 400;
/** Frames kept waiting at most: 4 s of pictures. */
const MOST_WAITING = 120;
/** Distances fit u16, but no encoder of ours reaches further back than this. */
const REMEMBERED = 256;

interface Waiting<T> {
  header: Header;
  frame: T;
  sinceMs: number;
}

export class FrameOrder<T> {
  readonly #waiting = new Map<number, Waiting<T>>();
  /** Handed out since the last key frame, the last `REMEMBERED` of them. */
  readonly #released = new Set<number>();
  #last = -1;
  #generation: number | null = null;
  #gone = -1;
  #stuckSinceMs: number | null = null;
  /** Frames given up: they, or what they need, did not come. */
  lost = 0;

  /** Since when only a key frame helps, and frames come that are none; null when all is well or nothing comes. */
  get stuckSinceMs(): number | null {
    return this.#stuckSinceMs;
  }

  /** Number of the last frame handed out, -1 before the first. */
  get last(): number {
    return this.#last;
  }

  push(header: Header, frame: T, nowMs: number): void {
    const newer = this.#generation !== null && isNewer(header.generation, this.#generation);
    if (newer && header.key && header.number <= this.#last) this.#restart();
    if (this.#generation === null || newer) this.#generation = header.generation;
    if (header.number <= this.#last || this.#waiting.has(header.number)) return;
    this.#waiting.set(header.number, { header, frame, sinceMs: nowMs });
    if (this.#waiting.size > MOST_WAITING) this.#drop(Math.min(...this.#waiting.keys()));
  }

  /** Frames up to this number that are not here will never be. */
  gone(upTo: number): void {
    this.#gone = Math.max(this.#gone, upTo);
  }

  /** The chain is broken for a reason outside (the decoder failed): wait for a key frame. */
  break(nowMs: number): void {
    this.#released.clear();
    this.#stuckSinceMs ??= nowMs;
  }

  /** What may be decoded now, in order. */
  poll(nowMs: number): T[] {
    const out: T[] = [];
    for (let next = this.#earliest(); next !== null; next = this.#earliest()) {
      const verdict = this.#judge(next, nowMs);
      if (verdict === "wait") break;
      this.#waiting.delete(next.header.number);
      if (verdict === "release") {
        if (next.header.key) this.#released.clear();
        this.#released.add(next.header.number);
        if (this.#released.size > REMEMBERED) this.#released.delete(this.#released.values().next().value as number);
        this.#last = next.header.number;
        this.#stuckSinceMs = null;
        out.push(next.frame);
        continue;
      }
      this.lost += 1;
      this.#last = next.header.number;
      if (!next.header.droppable) {
        this.#released.clear();
        this.#stuckSinceMs ??= nowMs;
      }
    }
    return out;
  }

  #judge({ header, sinceMs }: Waiting<T>, nowMs: number): "release" | "wait" | "lose" {
    if (header.key) return "release";
    const gap = header.number > this.#last + 1 && this.#gone < header.number - 1;
    if (this.#satisfied(header)) {
      // While the chain is whole, an earlier frame may only be on its way.
      return gap && nowMs - sinceMs < REORDER_MS ? "wait" : "release";
    }
    // Nothing to build on: only a key frame helps, and it is not among those waiting before this one.
    if (this.#released.size === 0) return "lose";
    return gap && nowMs - sinceMs < GAP_MS ? "wait" : "lose";
  }

  #satisfied(header: Header): boolean {
    if (this.#released.size === 0) return false;
    const needed = needs(header);
    if (needed === null) return true;
    const nearest = this.#released.has(needed.to);
    return header.farthest === EVERYTHING
      ? nearest && this.#last === needed.to
      : nearest && this.#released.has(needed.from);
  }

  /** The next to judge: the newest waiting key frame when the chain is broken or has a gap, else the lowest number. */
  #earliest(): Waiting<T> | null {
    let lowest: Waiting<T> | null = null;
    let key: Waiting<T> | null = null;
    for (const waiting of this.#waiting.values()) {
      if (lowest === null || waiting.header.number < lowest.header.number) lowest = waiting;
      if (waiting.header.key && (key === null || waiting.header.number > key.header.number)) key = waiting;
    }
    if (lowest === null || key === null || key === lowest) return lowest;
    const { header } = lowest;
    const whole = header.number === this.#last + 1 && (header.key || this.#satisfied(header));
    if (whole) return lowest;
    for (const number of [...this.#waiting.keys()]) if (number < key.header.number) this.#drop(number);
    return key;
  }

  #drop(number: number): void {
    this.#waiting.delete(number);
    this.lost += 1;
  }

  #restart(): void {
    this.#waiting.clear();
    this.#released.clear();
    this.#last = -1;
    this.#gone = -1;
  }
}

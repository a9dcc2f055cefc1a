/**
 * Which frames of one track and layer are missing, seen from headers alone: tells a duplicate from a new frame, and a
 * loss from a deliberate drop; says what to ask the parent for, and when to give up. Pure. Numbers only, no frames:
 * at most `MAX_MISSING` small entries.
 *
 * A frame is missed only when a frame that counts (not droppable) names it as needed. Frames between the needed one
 * and the last that came are asked for along with it, because they may be its ancestors; giving up on those alone
 * costs nothing. Sound is only counted: see `docs/design/forwarding.md`, Sound.
 */
import { type Header, isNewer } from "../frame/header.ts";
import { needsAll, references } from "./ring.ts";

/** Entries kept. A larger jump is a new beginning: no repair could catch up with it. */
export const MAX_MISSING = 256;
/** Shortest and longest wait before the first question: below, reordering looks like loss; above, the player starves. */
export const REORDER_MS = 25;
export const REORDER_MAX_MS = 120;
/**
 * The wait for what is needed, where RTP lies below: own questions come first, two or three of them, and
 * control messages overtake its packets. A question any earlier brings the frame twice, over a link that may be slow.
 */
export const RTP_REPAIR_MS = 250;
/** Questions per frame, and the time after which the answer is of no use to a player. */
export const MAX_TRIES = 3;
export const GIVE_UP_MS = 600;
/** How long a frame given up may still come by itself and count as new. */
const KEEP_MS = 1000;
/**
 * A jump back by more than this, or an older generation, for `STALE_RUN` frames on end is a sender that counts anew, or
 * an earlier forgery.
 */
const STALE_DISTANCE = 2048;
const STALE_RUN = 30;
/** A request may die on the way (a parent changes, an encoder restarts): it is repeated while nothing can be decoded. */
const KEY_AGAIN_MS = 500;

export type Verdict = "new" | "filled" | "duplicate" | "restart";

interface Missing {
  since: number;
  /** `needed`: something that counts depends on it. `suspect`: may be an ancestor of a needed one. */
  want: "no" | "suspect" | "needed";
  tries: number;
  next: number;
  gone: boolean;
}

export interface Due {
  /** Numbers to ask the parent for now. */
  ask: number[];
  /** Everything missing up to here has been settled; null when nothing changed. */
  gone: number | null;
  /** Given up for good although needed: to pass on to children. */
  lost: number[];
}

export class Gaps {
  /** Highest number that came; -1 before the first. */
  highest = -1;
  generation = 0;
  /** The last frames cannot be decoded until a key frame above this number comes; null when all is well. */
  broken: number | null = null;
  repaired = 0;
  /** Given up although needed (video), or simply never seen (sound). */
  lost = 0;
  duplicates = 0;
  private readonly missing = new Map<number, Missing>();
  private readonly video: boolean;
  private key = -1;
  private floor = -1;
  /** Settled, and not yet covered by a `gone` because something below is still hoped for. */
  private unreported: number[] = [];
  private keyAt = Number.POSITIVE_INFINITY;
  private staleRun = 0;
  private lastStale = -1;

  constructor(video: boolean) {
    this.video = video;
  }

  /** A frame came. Anything but `duplicate` is to be passed on. */
  accept(h: Header, now: number): Verdict {
    const n = h.number;
    if (this.highest < 0) {
      this.restart(h, now);
      return "new";
    }
    // Under one sealer numbers go on, so a higher number under an older generation is of another count, and late.
    const late = n > this.highest && isNewer(this.generation, h.generation);
    if (n > this.highest && !late) {
      if (n - this.highest > MAX_MISSING) {
        this.restart(h, now);
        return "restart";
      }
      for (let m = this.highest + 1; m < n; m += 1) this.note(m, now);
      this.highest = n;
      this.generation = h.generation;
      this.took(h, now);
      return "new";
    }
    if (isNewer(h.generation, this.generation)) {
      this.restart(h, now);
      return "restart";
    }
    const entry = this.missing.get(n);
    if (entry) {
      this.missing.delete(n);
      if (entry.tries > 0) this.repaired += 1;
      this.took(h, now);
      return "filled";
    }
    // The first frames of a replay may overtake each other: the beginning moves back until a key frame has come.
    if (n < this.floor && this.floor - n <= MAX_MISSING && (this.key < 0 || h.key)) {
      for (let m = n + 1; m < this.floor; m += 1) this.note(m, now, "suspect");
      this.floor = n;
      this.took(h, now);
      return "new";
    }
    if ((late || this.highest - n > STALE_DISTANCE) && n > this.lastStale) {
      this.lastStale = n;
      this.staleRun += 1;
      if (this.staleRun >= STALE_RUN) {
        this.restart(h, now);
        return "restart";
      }
    }
    this.duplicates += 1;
    return "duplicate";
  }

  /** The parent says that these will not come. */
  miss(numbers: readonly number[], now: number): void {
    for (const n of numbers) {
      const entry = this.missing.get(n);
      if (entry && !entry.gone) entry.since = Math.min(entry.since, now - GIVE_UP_MS);
    }
  }

  /** The parent says that `number` is the newest and was sent: if it did not come, it is missing and counts. */
  tip(generation: number, number: number, now: number): void {
    if (!this.video || this.highest < 0 || number <= this.highest || number - this.highest > MAX_MISSING) return;
    if (isNewer(this.generation, generation)) return;
    for (let m = this.highest + 1; m <= number; m += 1) this.note(m, now);
    this.highest = number;
    const newest = this.missing.get(number);
    if (newest) newest.want = "needed";
    for (let m = number - 1; m > this.key; m -= 1) {
      const entry = this.missing.get(m);
      if (!entry) break;
      if (entry.want === "no") entry.want = "suspect";
    }
  }

  /** The parent changed: what is missing is asked of the new one from the beginning. */
  reparent(now: number): void {
    for (const entry of this.missing.values()) {
      if (entry.gone) continue;
      entry.tries = Math.min(entry.tries, 1);
      entry.since = now;
      entry.next = now;
    }
  }

  /** What is due now. `srtt` and `bound` (srtt + 4 rttvar) of the link to the parent, ms, and whether that goes by RTP. */
  poll(now: number, srtt: number, bound: number, byRtp = false): Due {
    const ask: number[] = [];
    const lost: number[] = [];
    let open = Number.POSITIVE_INFINITY;
    const wait = Math.min(REORDER_MAX_MS, Math.max(REORDER_MS, 1.25 * srtt));
    const askAfter = byRtp ? RTP_REPAIR_MS : wait;
    for (const [n, entry] of this.missing) {
      const age = now - entry.since;
      if (age > KEEP_MS && (entry.gone || !this.video)) {
        this.missing.delete(n);
        if (!this.video) this.lost += 1;
        continue;
      }
      if (!this.video || entry.gone) continue;
      const wanted = entry.want !== "no" && n > this.key;
      if (!wanted) {
        if (age >= wait) {
          this.settle(n, entry);
        }
      } else if (age >= GIVE_UP_MS || (entry.tries >= MAX_TRIES && now >= entry.next)) {
        this.settle(n, entry);
        lost.push(n);
        if (entry.want === "needed") {
          this.lost += 1;
          this.breakAt(n, now);
        }
      } else if (age >= askAfter && (entry.tries === 0 || now >= entry.next)) {
        entry.tries += 1;
        entry.next = now + Math.max(40, bound + 15) * entry.tries;
        ask.push(n);
      }
      if (!entry.gone && n < open) open = n;
    }
    const upTo = Math.min(this.highest, open - 1);
    const gone = this.unreported.some((n) => n <= upTo) ? upTo : null;
    if (gone !== null) this.unreported = this.unreported.filter((n) => n > upTo);
    return { ask, gone, lost };
  }

  /** Is this number missing and still hoped for? */
  awaits(number: number): boolean {
    return this.missing.get(number)?.gone === false;
  }

  /** A key frame is wanted: at once when a frame was given up, then each `KEY_AGAIN_MS` until one comes. */
  wantsKey(now: number): boolean {
    if (this.broken === null || now < this.keyAt) return false;
    this.keyAt = now + KEY_AGAIN_MS;
    return true;
  }

  /** Could a frame after this be decoded, as far as headers tell? */
  get whole(): boolean {
    return this.highest >= 0 && this.broken === null && (!this.video || this.key >= 0);
  }

  get pending(): number {
    return this.missing.size;
  }

  private restart(h: Header, now: number): void {
    this.missing.clear();
    this.highest = h.number;
    this.floor = h.number;
    this.unreported = [];
    this.generation = h.generation;
    this.key = -1;
    this.broken = null;
    // The key frame, being large, may have been overtaken by what depends on it: any one will do.
    if (this.video && !h.key) this.breakAt(0, now + REORDER_MAX_MS);
    this.took(h, now);
  }

  private settle(n: number, entry: Missing): void {
    entry.gone = true;
    this.unreported.push(n);
  }

  private breakAt(n: number, askAt: number): void {
    if (this.broken === null) this.keyAt = askAt;
    this.broken = Math.max(this.broken ?? -1, n);
  }

  private note(n: number, now: number, want: Missing["want"] = "no"): void {
    if (this.missing.size >= MAX_MISSING) {
      const oldest = this.missing.keys().next().value;
      if (oldest !== undefined) this.missing.delete(oldest);
    }
    this.missing.set(n, { since: now, want, tries: 0, next: now, gone: false });
  }

  private took(h: Header, now: number): void {
    this.staleRun = 0;
    this.lastStale = -1;
    if (!this.video) return;
    if (h.key) {
      this.key = Math.max(this.key, h.number);
      if (this.broken !== null && this.broken <= this.key) this.broken = null;
      return;
    }
    if (h.droppable) return;
    if (needsAll(h)) {
      for (const [n, entry] of this.missing) if (n < h.number && n > this.key) this.want(entry, "needed", n, now);
      return;
    }
    for (const n of references(h)) {
      const entry = this.missing.get(n);
      if (!entry || n <= this.key) continue;
      this.want(entry, "needed", n, now);
      for (let m = n - 1; m > this.key; m -= 1) {
        const ancestor = this.missing.get(m);
        if (!ancestor) break;
        if (ancestor.want === "no") this.want(ancestor, "suspect", m, now);
      }
    }
  }

  private want(entry: Missing, want: "suspect" | "needed", n: number, now: number): void {
    if (entry.gone && want === "needed") {
      // Settled as a deliberate drop (or as a mere suspect), now known to count: it is asked for again.
      if (entry.tries > 0 || now - entry.since > GIVE_UP_MS) {
        this.breakAt(n, now);
        return;
      }
      entry.gone = false;
    }
    if (entry.want !== "needed") entry.want = want;
  }
}

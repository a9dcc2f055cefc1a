/**
 * Who is given which of our keys, and when. Pure: events and the time go in, actions come out; the worker makes the
 * keys, the mailroom seals and sends them.
 *
 * - At the start everybody verified gets the key.
 * - Somebody enters: the key steps forward (ratchet) and only newcomers get it; the others step by themselves. A
 *   newcomer so never holds a key of frames from before. At most one step per 500 ms.
 * - Somebody leaves: a fresh key goes to all who remain and is used once they have had time to receive it. At most one
 *   such change is under way; leaves in between lead to one more. Without any leave the key changes every 10 minutes.
 * - While the server is away nothing changes: a key that nobody can receive would silence us. Afterwards everybody gets
 *   the present keys again, because whatever was mailed in the last seconds may be lost.
 */

export type KeyAction =
  | { do: "ratchet" }
  | { do: "rotate" }
  | { do: "mail"; generation: number; key: Uint8Array; to: number[] }
  | { do: "use"; generation: number };

/** Newcomers within this time share one step, and with it one key frame. */
const RATCHET_EVERY_MS = 500;
/** A fresh key is used this long after it was mailed; also the pause between two fresh keys. */
const USE_AFTER_MS = 1_000;
/** A key is not used for longer. */
const REKEY_EVERY_MS = 10 * 60_000;

interface OwnKey {
  generation: number;
  key: Uint8Array;
}

export class Distribution {
  readonly #members = new Set<number>();
  /** Members that have none of our keys yet. */
  readonly #newcomers = new Set<number>();
  #current: OwnKey | null = null;
  #next: (OwnKey & { useAtMs: number }) | null = null;
  /** What the worker has been asked and has not answered yet. */
  #asked: "ratchet" | "rotate" | null = null;
  #leaverHasKey = false;
  #ratchetedAtMs = Number.NEGATIVE_INFINITY;
  #rekeyAtMs = Number.POSITIVE_INFINITY;
  #down = false;
  #actions: KeyAction[] = [];

  /** The present time after which `handleTime` has something to do; null when nothing is waiting. */
  get deadlineMs(): number | null {
    if (this.#down || this.#asked) return null;
    if (this.#next) return this.#next.useAtMs;
    if (!this.#current) return null;
    const ratchet = this.#newcomers.size > 0 ? this.#ratchetedAtMs + RATCHET_EVERY_MS : Number.POSITIVE_INFINITY;
    const soonest = Math.min(ratchet, this.#rekeyAtMs);
    return Number.isFinite(soonest) ? soonest : null;
  }

  /** What to do now, in order. */
  pollActions(): KeyAction[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  /** Somebody whose identity was verified is in the room. */
  handleEntered(node: number, nowMs: number): void {
    if (this.#members.has(node)) return;
    this.#members.add(node);
    this.#newcomers.add(node);
    this.#step(nowMs);
  }

  handleLeft(node: number, nowMs: number): void {
    if (!this.#members.delete(node)) return;
    const hadKey = !this.#newcomers.delete(node);
    // A fresh key that the worker is making at this moment will not be mailed to the leaver.
    if (hadKey && this.#asked !== "rotate") this.#leaverHasKey = true;
    this.#step(nowMs);
  }

  /** The worker made a key: the first one, or what was asked. */
  handleOwnKey(generation: number, key: Uint8Array, nowMs: number): void {
    const asked = this.#asked;
    this.#asked = null;
    if (asked === null && this.#current) {
      // Not asked for: the old key had sealed all it may. The new one is in use already.
      this.#current = { generation, key };
      this.#newcomers.clear();
      this.#mail(this.#current, this.#members);
    } else if (asked === "rotate") {
      this.#next = { generation, key, useAtMs: this.#members.size === 0 ? nowMs : nowMs + USE_AFTER_MS };
      this.#newcomers.clear();
      this.#mail(this.#next, this.#members);
    } else {
      if (asked === "ratchet") this.#ratchetedAtMs = nowMs;
      else this.#rekeyAtMs = nowMs + REKEY_EVERY_MS;
      this.#current = { generation, key };
      this.#mail(this.#current, this.#newcomers);
      this.#newcomers.clear();
      this.#actions.push({ do: "use", generation });
    }
    this.#step(nowMs);
  }

  /** The connection to the server broke. */
  handleDown(): void {
    this.#down = true;
  }

  /** It is back; `members` are the verified others that are in the room now. */
  handleUp(members: Iterable<number>, nowMs: number): void {
    this.#down = false;
    const present = new Set(members);
    for (const node of [...this.#members]) if (!present.has(node)) this.handleLeft(node, nowMs);
    const known = [...this.#members].filter((node) => !this.#newcomers.has(node));
    for (const own of [this.#current, this.#next]) if (own) this.#mail(own, known);
    if (this.#next) this.#next.useAtMs = nowMs + USE_AFTER_MS;
    for (const node of present) this.handleEntered(node, nowMs);
    this.#step(nowMs);
  }

  /** A member's own connection is back: mail may have missed it. */
  handleMemberBack(node: number): void {
    if (!this.#members.has(node) || this.#newcomers.has(node)) return;
    for (const own of [this.#current, this.#next]) if (own) this.#mail(own, [node]);
  }

  handleTime(nowMs: number): void {
    this.#step(nowMs);
  }

  #mail({ generation, key }: OwnKey, to: Iterable<number>): void {
    const list = [...to];
    if (list.length > 0) this.#actions.push({ do: "mail", generation, key, to: list });
  }

  #step(nowMs: number): void {
    if (this.#down) return;
    if (this.#next && nowMs >= this.#next.useAtMs) {
      this.#current = { generation: this.#next.generation, key: this.#next.key };
      this.#actions.push({ do: "use", generation: this.#next.generation });
      this.#next = null;
      this.#rekeyAtMs = nowMs + REKEY_EVERY_MS;
    }
    if (this.#asked || !this.#current) return;
    if (this.#next) {
      // The fresh key has sealed nothing yet, so a newcomer may have it as it is.
      this.#mail(this.#next, this.#newcomers);
      this.#newcomers.clear();
    } else if (this.#leaverHasKey || nowMs >= this.#rekeyAtMs) {
      this.#leaverHasKey = false;
      this.#asked = "rotate";
      this.#actions.push({ do: "rotate" });
    } else if (this.#newcomers.size > 0 && nowMs - this.#ratchetedAtMs >= RATCHET_EVERY_MS) {
      this.#asked = "ratchet";
      this.#actions.push({ do: "ratchet" });
    }
  }
}

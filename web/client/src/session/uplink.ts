/**
 * A guess at what this node can send, bit/s, learned from what went out. Pure; one look a second.
 *
 * It starts low: a claim that is too high costs everybody whom this node then feeds, one that is too low costs a detour for
 * some seconds. What went out for a while without anything waiting is proven; up to twice that is claimed, because what was
 * never claimed is never asked for, and so never proven. When links back up, what went out at that moment is close to the
 * limit: a little less is claimed, and for a while no more, longer each time that a rise ended so.
 */
import type { LinkStats } from "../worker/messages.ts";

/** Before anything is known: a camera at 640x360 with its sound to five others. More would begin with trouble too often. */
export const START_BPS = 4_000_000;
/** Seconds on end that prove a rate: their least. Fewer would take a key frame for a rate. */
const PROOF = 3;
/** What is claimed at most beyond what is proven. */
const HOPE = 2;
/** One rise at most, and how often, ms: the planner believes a quarter more at once, and what is asked then shows. */
const STEP = 1.5;
const STEP_MS = 5_000;
/** Part of what was being sent when it became too much. */
const CAUTION = 0.9;
/** No rise for so long after trouble, ms; twice as long each time that trouble follows a rise within `BLAME_MS`. */
const HOLD_MS = 10_000;
const HOLD_MAX_MS = 80_000;
const BLAME_MS = 30_000;
/** Below this a node is of no use to anybody, and a measurement has most likely gone wrong. */
const FLOOR_BPS = 100_000;
const CEILING_BPS = 50_000_000;
/** A link is held when more waits for it than this, beside so many ms of what it carries. */
const HELD_BYTES = 20_000;
const HELD_MS = 300;
/** More than half of the links held for so many looks on end is trouble, whoever's streams they carry. */
const HELD_LOOKS = 2;

export class Uplink {
  /** The guess. */
  bps = START_BPS;
  /** Has it ever been too much? Before that nothing needs to be held below it. */
  narrow = false;
  #rates: number[] = [];
  #held = 0;
  #roseMs = Number.NEGATIVE_INFINITY;
  #troubleMs = Number.NEGATIVE_INFINITY;
  #holdMs = HOLD_MS;

  /** The links' last second. */
  handleLinks(links: readonly Pick<LinkStats, "sentBps" | "queuedBytes">[], nowMs: number): void {
    const sending = links.filter(({ sentBps, queuedBytes }) => sentBps > 0 || queuedBytes > 0);
    const held = sending.filter(({ sentBps, queuedBytes }) => queuedBytes > HELD_BYTES + (sentBps / 8000) * HELD_MS);
    const sentBps = sending.reduce((sum, link) => sum + link.sentBps, 0);
    this.#held = held.length * 2 > sending.length ? this.#held + 1 : 0;
    if (this.#held >= HELD_LOOKS) {
      this.handleTrouble(sentBps, nowMs);
      return;
    }
    this.#rates = [...this.#rates, this.#held > 0 ? 0 : sentBps].slice(-PROOF);
    if (this.#rates.length < PROOF || nowMs - this.#troubleMs < this.#holdMs || nowMs - this.#roseMs < STEP_MS) return;
    const claim = Math.round(Math.min(CEILING_BPS, HOPE * Math.min(...this.#rates), STEP * this.bps));
    if (claim <= this.bps) return;
    this.bps = claim;
    this.#roseMs = nowMs;
  }

  /** Our links were full, and an encoder had to back off. `sentBps` is what all of them carried. */
  handleTrouble(sentBps: number, nowMs: number): void {
    const blamed = nowMs - this.#roseMs < BLAME_MS;
    // What comes in one piece is one trouble.
    if (nowMs - this.#troubleMs >= HOLD_MS) this.#holdMs = blamed ? Math.min(HOLD_MAX_MS, this.#holdMs * 2) : HOLD_MS;
    this.#troubleMs = nowMs;
    this.#rates = [];
    this.#held = 0;
    this.narrow = true;
    this.bps = Math.min(this.bps, Math.max(FLOOR_BPS, Math.round(sentBps * CAUTION)));
  }
}

/**
 * A cautious guess at what this node can send. Nothing is claimed at first (the server then uses its default). When an
 * encoder had to back off because our links were full, what went out at that moment is close to the limit; when there
 * is room again, the guess rises step by step.
 */

/** Part of what was being sent when it became too much. */
const CAUTION = 0.9;
/** How much is hoped for when there was room again. */
const HOPE = 1.5;
/** Below this a node is of no use to anybody, and a measurement has most likely gone wrong. */
const FLOOR_BPS = 100_000;
const CEILING_BPS = 50_000_000;

/** The guess after an encoder changed, bit/s; null when there is none. `sentBps` is what all links carried. */
export function uplinkAfter(
  guess: number | null,
  reason: "start" | "uplink" | "recovered",
  sentBps: number,
): number | null {
  if (reason === "uplink") {
    const limit = Math.max(FLOOR_BPS, Math.round(sentBps * CAUTION));
    return guess === null ? limit : Math.min(guess, limit);
  }
  if (reason === "recovered" && guess !== null) return Math.min(CEILING_BPS, Math.round(guess * HOPE));
  return guess;
}

/**
 * When to try again after the connection to the server broke. The first attempts come quickly, because most breaks are
 * a change of network; the later ones are spread, so that a server that comes back is not met by everybody at once.
 */

/** Milliseconds to wait before each attempt; the last one repeats. */
const DELAYS_MS = [0, 300, 1_200, 2_700, 4_800, 7_000] as const;

/** At most this much is added at random. The first attempt adds less: a short stutter should heal unnoticed. */
const JITTER_MS = 1_000;
const FIRST_JITTER_MS = 200;

/** After this long without a connection the presence is given up and the person is told. */
export const GIVE_UP_MS = 10 * 60_000;

/** The wait before attempt number `attempt` (0 is the first after the break); `random` is in 0..1. */
export function retryDelayMs(attempt: number, random: number): number {
  const delay = DELAYS_MS[Math.min(attempt, DELAYS_MS.length - 1)] ?? 0;
  return delay + random * (attempt === 0 ? FIRST_JITTER_MS : JITTER_MS);
}

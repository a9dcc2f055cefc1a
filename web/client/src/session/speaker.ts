/**
 * Who speaks. The loudest voice of late becomes the active speaker, but only when it is clearly the loudest for a
 * while: a cough does not move the ring, and a pause between two sentences does not take it away.
 */

/** RFC 6464 levels, -dBov: below this is speech rather than a room's noise. */
const SPEECH = 50;
/** The newcomer must be this much louder, dB. */
const MARGIN = 6;
/** ... for this long. */
const TAKEOVER_MS = 400;
/** Whoever has been silent for this long is no longer the speaker. */
const RELEASE_MS = 2_500;
/** Share of a new level in the running mean, per 100 ms. */
const WEIGHT = 0.35;

export interface Speakers {
  active: number | null;
  /** The running mean of each sender's level. */
  means: ReadonlyMap<number, number>;
  /** Who is about to take over, and since when. */
  rival: { node: number; sinceMs: number } | null;
  /** When the active speaker was last heard speaking. */
  heardMs: number;
}

export const noSpeakers: Speakers = { active: null, means: new Map(), rival: null, heardMs: 0 };

/** One step, about every 100 ms; `levels` is every sender's present level (127 is silence). */
export function stepSpeakers(before: Speakers, levels: ReadonlyMap<number, number>, nowMs: number): Speakers {
  const means = new Map<number, number>();
  let loudest: number | null = null;
  for (const [node, level] of levels) {
    const old = before.means.get(node) ?? 127;
    const mean = old + (level - old) * WEIGHT;
    means.set(node, mean);
    if (mean < SPEECH && (loudest === null || mean < (means.get(loudest) as number))) loudest = node;
  }

  let { active, heardMs, rival } = before;
  const mine = active === null ? undefined : means.get(active);
  if (mine === undefined) active = null;
  else if (mine < SPEECH) heardMs = nowMs;
  else if (nowMs - heardMs >= RELEASE_MS) active = null;

  const louder =
    loudest !== null &&
    loudest !== active &&
    (active === null || (means.get(loudest) as number) <= (mine ?? 127) - MARGIN);
  if (!louder || loudest === null) rival = null;
  else if (rival?.node !== loudest) rival = { node: loudest, sinceMs: nowMs };
  if (rival && nowMs - rival.sinceMs >= (active === null ? 0 : TAKEOVER_MS)) {
    active = rival.node;
    heardMs = nowMs;
    rival = null;
  }
  return { active, means, rival, heardMs };
}

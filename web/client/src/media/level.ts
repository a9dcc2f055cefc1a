/** Loudness as RFC 6464 writes it: 0 is full scale, 127 silence, in -dBov. Pure. */

export const SILENCE = 127;

/** The level of a mean square amplitude. */
export function levelOf(meanSquare: number): number {
  if (!(meanSquare > 0)) return SILENCE;
  return Math.min(SILENCE, Math.max(0, Math.round(-10 * Math.log10(meanSquare))));
}

/** The level of samples in -1..1. */
export function rmsLevel(pcm: Float32Array): number {
  let power = 0;
  for (const sample of pcm) power += sample * sample;
  return levelOf(power / Math.max(pcm.length, 1));
}

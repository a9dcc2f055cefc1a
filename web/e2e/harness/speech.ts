/** Sound that an echo canceller treats as somebody talking: noise in syllables, from a fixed seed. */

/** A WAV file, 48 kHz mono 16 bit, of `seconds`, of which the first `spoken` are not silent. */
export function speechLikeWav(seconds: number, spoken = seconds): Buffer {
  const rate = 48_000;
  const samples = seconds * rate;
  const file = Buffer.alloc(44 + 2 * samples);
  file.write("RIFF", 0);
  file.writeUInt32LE(36 + 2 * samples, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(rate, 24);
  file.writeUInt32LE(2 * rate, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * samples, 40);
  let seed = 1;
  let low = 0;
  for (let i = 0; i < samples; i++) {
    // Numerical Recipes' linear congruential generator.
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const white = seed / 2 ** 31 - 1;
    // Most of the energy below about 1 kHz, as in voices.
    low += 0.12 * (white - low);
    // Four syllables a second, and a pause of 400 ms every 2.4 s.
    const t = i / rate;
    const loud = t < spoken && t % 2.4 < 2 ? Math.max(0, Math.sin(2 * Math.PI * 4 * t)) : 0;
    file.writeInt16LE(Math.round(Math.max(-1, Math.min(1, 1.6 * low * loud)) * 32767), 44 + 2 * i);
  }
  return file;
}

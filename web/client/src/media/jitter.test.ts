import { describe, expect, it } from "vitest";
import { JitterBuffer, PACKET, RATE } from "./jitter.ts";

const ms = (value: number): number => (value * RATE) / 1000;
const QUANTUM = 128;

/** mulberry32. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Conditions {
  seconds: number;
  /** Transit of packet `n` in ms, or null when it is lost. */
  transit: (n: number) => number | null;
  /** How much faster the sender's sound card runs than ours. */
  ppm?: number;
  /** Amplitude of the tone that is sent. */
  amplitude?: number;
}

/** Plays `seconds` of a tone through a buffer in virtual time. */
function play({ seconds, transit, ppm = 0, amplitude = 0.5 }: Conditions) {
  const buffer = new JitterBuffer();
  const arrivals: { at: number; number: number }[] = [];
  const period = PACKET / (1 + ppm / 1e6);
  for (let n = 0; n * PACKET < seconds * RATE; n++) {
    const delay = transit(n);
    if (delay !== null) arrivals.push({ at: (n + 1) * period + ms(delay), number: n });
  }
  arrivals.sort((a, b) => a.at - b.at);
  // 400 Hz: a packet holds whole periods, so all are alike.
  const pcm = Float32Array.from({ length: PACKET }, (_, i) => amplitude * Math.sin((2 * Math.PI * 400 * i) / RATE));
  const delays: number[] = [];
  let biggestStep = 0;
  let last = 0;
  let next = 0;
  // The last packets are still on their way when the sender stops: that is not the buffer's fault.
  for (let now = 0; now < (seconds - 0.1) * RATE; now += QUANTUM) {
    for (let arrival = arrivals[next]; arrival !== undefined && arrival.at <= now; arrival = arrivals[next]) {
      next += 1;
      buffer.push(arrival.number, arrival.number * 20_000, pcm, now);
    }
    const out = new Float32Array(QUANTUM);
    buffer.mix(out, now);
    for (const sample of out) {
      biggestStep = Math.max(biggestStep, Math.abs(sample - last));
      last = sample;
    }
    const delay = buffer.delay(now);
    if (delay !== null) delays.push((delay * 1000) / RATE);
  }
  return { buffer, counts: buffer.counts, delays, biggestStep };
}

describe("the jitter buffer", () => {
  it("plays everything once and changes nothing when arrivals are even", () => {
    const { counts } = play({ seconds: 20, transit: () => 5 });
    expect(counts).toEqual({ played: expect.any(Number), concealed: 0, starved: 0, stretched: 0, dropped: 0, late: 0 });
    expect(counts.played).toBeGreaterThan(990);
  });

  it("settles within 12 ms of the least delay when arrivals are even and the speaker pauses", () => {
    const { delays } = play({ seconds: 30, transit: () => 5, amplitude: 0.001 });
    expect(Math.max(...delays.slice(-100))).toBeLessThan(20 + 12 + 3);
  });

  it("settles within 30 ms of it when nobody pauses", () => {
    const { delays } = play({ seconds: 30, transit: () => 5 });
    expect(Math.max(...delays.slice(-100))).toBeLessThan(20 + 30 + 3);
  });

  it("conceals exactly the packets that were lost, and no others", () => {
    const lost = new Set([100, 250, 251, 400]);
    const { counts } = play({ seconds: 20, transit: (n) => (lost.has(n) ? null : 5) });
    expect(counts.concealed).toBe(4);
    expect(counts.starved).toBe(0);
  });

  it("conceals no more than was lost at 2 % random loss and 10 ms of jitter", () => {
    const [lossDice, jitterDice] = [random(7), random(8)];
    let lost = 0;
    const { counts } = play({
      seconds: 60,
      transit: () => {
        if (lossDice() >= 0.02) return 20 + jitterDice() * 10;
        lost += 1;
        return null;
      },
    });
    expect(lost).toBeGreaterThan(30);
    expect(counts.concealed + counts.late).toBeLessThanOrEqual(lost + 2);
  });

  it("raises the delay under jitter and takes it back when the line is quiet again", () => {
    const dice = random(3);
    const { delays } = play({ seconds: 90, transit: (n) => 10 + (n < 1500 ? dice() * 80 : 0) });
    const during = Math.max(...delays.slice(Math.floor(delays.length / 4), Math.floor(delays.length / 3)));
    const after = delays.at(-1) as number;
    expect(during).toBeGreaterThan(70);
    expect(after).toBeLessThan(20 + 30 + 3);
  });

  it("starves only at the first of repeated bursts of 60 ms, not at every one", () => {
    // Each second one packet stands for 60 ms and those behind it come with it.
    const { counts } = play({ seconds: 60, transit: (n) => (n % 50 < 3 ? 5 + (3 - (n % 50)) * 20 : 5) });
    expect(counts.starved).toBeLessThan(20);
    expect(counts.concealed).toBe(0);
  });

  for (const ppm of [200, -200]) {
    it(`keeps the delay bounded for 10 minutes of a sender's clock that is off by ${ppm} ppm`, () => {
      const dice = random(11);
      const { counts, delays } = play({ seconds: 600, ppm, transit: () => 10 + dice() * 8 });
      // 600 s at 200 ppm are 120 ms: twelve corrections of 10 ms.
      const corrections = ppm > 0 ? counts.dropped : counts.stretched;
      expect(corrections).toBeGreaterThanOrEqual(7);
      expect(corrections).toBeLessThanOrEqual(16);
      expect(delays.slice(5000).reduce((most, delay) => Math.max(most, delay))).toBeLessThan(70);
      expect(counts.starved).toBeLessThanOrEqual(6);
      expect(counts.concealed).toBe(0);
    });
  }

  it("makes no step in a tone larger than a loud tone itself makes, whatever it leaves out or plays twice", () => {
    const lost = new Set([90, 180, 181]);
    const tone = 0.5 * 2 * Math.PI * (400 / RATE);
    const { counts, biggestStep } = play({ seconds: 300, ppm: 400, transit: (n) => (lost.has(n) ? null : 8) });
    expect(counts.dropped).toBeGreaterThan(5);
    expect(counts.concealed).toBe(3);
    expect(biggestStep).toBeLessThan(3 * tone);
  });

  it("begins again after a pause of the sender without playing the pause, and with no higher delay", () => {
    // The sender was muted for 3 s, and said so in one frame.
    const buffer = new JitterBuffer();
    const out = new Float32Array(QUANTUM);
    let number = 0;
    for (let now = 0; now < 10 * RATE; now += QUANTUM) {
      const block = Math.floor(now / PACKET);
      const fresh = now % PACKET < QUANTUM;
      const speaking = now < 3 * RATE || now > 6 * RATE;
      if (fresh && speaking) buffer.push(number++, block * 20_000, new Float32Array(PACKET).fill(0.1), now);
      if (now === 3 * RATE) buffer.pause(number++);
      buffer.mix(out, now);
    }
    expect(buffer.counts.concealed).toBe(0);
    expect(buffer.counts.starved).toBe(0);
    expect(buffer.delay(10 * RATE)).toBeLessThan(ms(60));
    expect(buffer.counts.played).toBeGreaterThan(340);
  });

  it("follows a sender that starts its numbers and clock anew", () => {
    const buffer = new JitterBuffer();
    const out = new Float32Array(QUANTUM);
    for (let now = 0; now < 6 * RATE; now += QUANTUM) {
      const block = Math.floor(now / PACKET);
      const again = now >= 3 * RATE;
      if (now % PACKET < QUANTUM) {
        const number = again ? block - 150 : block + 5000;
        buffer.push(number, number * 20_000, new Float32Array(PACKET).fill(0.1), now);
      }
      buffer.mix(out, now);
    }
    expect(buffer.playingUs).toBeGreaterThan(2_800_000);
    expect(buffer.playingUs).toBeLessThan(3_000_000);
    expect(buffer.counts.late).toBe(0);
  });

  it("never holds more than 2 s however much comes at once", () => {
    const buffer = new JitterBuffer();
    for (let n = 0; n < 1000; n++) buffer.push(n, n * 20_000, new Float32Array(PACKET), 0);
    expect(buffer.size).toBeLessThanOrEqual(100);
  });

  it("waits for the picture as long as it is told, and no longer once it is not", () => {
    const buffer = new JitterBuffer();
    const out = new Float32Array(QUANTUM);
    let held = 0;
    for (let now = 0; now < 30 * RATE; now += QUANTUM) {
      if (now === 128 * 375 * 5) buffer.floor = ms(150);
      if (now === 128 * 375 * 15) {
        held = buffer.delay(now) ?? 0;
        buffer.floor = 0;
      }
      const block = Math.floor(now / PACKET);
      if (now % PACKET < QUANTUM) buffer.push(block, block * 20_000, new Float32Array(PACKET).fill(0.1), now);
      buffer.mix(out, now);
    }
    expect(held).toBeGreaterThan(ms(130));
    expect(buffer.delay(30 * RATE)).toBeLessThan(ms(80));
  });
});

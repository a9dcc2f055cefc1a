import { expect, test } from "vitest";
import { type Conditions, Impairment } from "./impairment.ts";

/** What happens to packets of 1000 bytes sent each `everyMs`: for each the delay, or null. */
function send(conditions: Conditions, count: number, everyMs = 1, seed = 7): (number | null)[] {
  const link = new Impairment(conditions, seed);
  return Array.from({ length: count }, (_, i) => {
    const due = link.admit(1000, i * everyMs);
    return due === null ? null : due - i * everyMs;
  });
}

const shareLost = (delays: (number | null)[]): number => delays.filter((d) => d === null).length / delays.length;

/** Mean length of the runs of lost packets. */
function meanRun(delays: (number | null)[]): number {
  const lost = delays.filter((d) => d === null).length;
  const runs = delays.filter((d, i) => d === null && (i === 0 || delays[i - 1] !== null)).length;
  return lost / runs;
}

test("a good wire passes everything at once", () => {
  expect(send({}, 100)).toEqual(Array.from({ length: 100 }, () => 0));
});

test("the same seed loses the same packets and another seed loses others", () => {
  const conditions = { loss: 0.1, jitterMs: 5 };
  expect(send(conditions, 500)).toEqual(send(conditions, 500));
  expect(send(conditions, 500)).not.toEqual(send(conditions, 500, 1, 8));
});

test("bursts lose as much as single losses do, in longer runs", () => {
  const single = send({ loss: 0.05 }, 50_000);
  const bursts = send({ loss: 0.05, burst: 4 }, 50_000);
  expect(shareLost(single)).toBeCloseTo(0.05, 2);
  expect(shareLost(bursts)).toBeCloseTo(0.05, 2);
  expect(meanRun(single)).toBeLessThan(1.2);
  expect(meanRun(bursts)).toBeGreaterThan(3.5);
  expect(meanRun(bursts)).toBeLessThan(4.5);
});

test("jitter stays within its bounds and never changes the order", () => {
  const delays = send({ delayMs: 20, jitterMs: 10 }, 1000);
  const dues = delays.map((d, i) => (d ?? Number.NaN) + i);
  for (const d of delays) {
    expect(d).toBeGreaterThanOrEqual(20);
    expect(d).toBeLessThanOrEqual(30);
  }
  expect(dues).toEqual([...dues].sort((a, b) => a - b));
});

test("a bottleneck passes its rate, holds its queue and loses the rest", () => {
  // 1028 bytes each 10 ms are 822 kbit/s, through 411 kbit/s: half of them fit, after waiting for 200 to 220 ms.
  const delays = send({ rateBps: 411_200, queueMs: 200 }, 1000, 10);
  const passed = delays.flatMap((d) => (d === null ? [] : [d]));
  expect(passed.length).toBeGreaterThanOrEqual(500);
  expect(passed.length).toBeLessThanOrEqual(515);
  expect(Math.max(...passed)).toBeLessThanOrEqual(221);
  expect(Math.min(...passed.slice(-100))).toBeGreaterThan(190);
});

test("a bottleneck that is widened lets what waits go by its old time and is free afterwards", () => {
  const link = new Impairment({ rateBps: 100_000, queueMs: 500 }, 1);
  const first = [0, 0, 0].map((now) => link.admit(1000, now));
  link.conditions = {};
  expect(first.map((due) => Math.round(due ?? 0))).toEqual([82, 164, 247]);
  expect(link.admit(1000, 10)).toBe(first[2]);
  expect(link.admit(1000, 300)).toBe(300);
  expect(link.counts).toEqual({ passed: 5, lost: 0, overflowed: 0, bytes: 5140 });
});

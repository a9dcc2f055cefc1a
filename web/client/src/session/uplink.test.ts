import { expect, test } from "vitest";
import { START_BPS, Uplink } from "./uplink.ts";

/** So many seconds in which `sent` (of the guess) goes out over two links. */
function seconds(
  uplink: Uplink,
  from: number,
  count: number,
  sent: (guess: number) => number,
  queuedBytes = 0,
): number {
  for (let i = 0; i < count; i += 1) {
    const sentBps = sent(uplink.bps) / 2;
    uplink.handleLinks(
      [
        { sentBps, queuedBytes },
        { sentBps, queuedBytes },
      ],
      from + i * 1000,
    );
  }
  return from + count * 1000;
}

test("the guess starts low and stays there while it is not used", () => {
  const uplink = new Uplink();
  expect(uplink.bps).toBe(START_BPS);
  seconds(uplink, 0, 600, (guess) => guess / 2);
  expect(uplink.bps).toBe(START_BPS);
  expect(uplink.narrow).toBe(false);
});

test("it rises step by step to twice what goes out, and no further", () => {
  const uplink = new Uplink();
  const guesses = new Set<number>();
  let now = 0;
  for (let i = 0; i < 40; i += 1) {
    now = seconds(uplink, now, 1, () => 6_000_000);
    guesses.add(uplink.bps);
  }
  expect([...guesses]).toEqual([START_BPS, 1.5 * START_BPS, 2.25 * START_BPS, 12_000_000]);
});

test("a burst of two seconds proves nothing", () => {
  const uplink = new Uplink();
  let now = 0;
  for (let i = 0; i < 50; i += 1) {
    now = seconds(uplink, now, 2, () => 20_000_000);
    now = seconds(uplink, now, 1, () => 500_000);
  }
  expect(uplink.bps).toBe(START_BPS);
});

test("it never passes the ceiling, whatever is measured", () => {
  const uplink = new Uplink();
  seconds(uplink, 0, 300, () => Number.MAX_SAFE_INTEGER);
  expect(uplink.bps).toBe(50_000_000);
});

test("trouble names a little less than what went out, never raises the guess, and no rise follows for 10 s", () => {
  const uplink = new Uplink();
  uplink.handleTrouble(1_000_000, 0);
  expect([uplink.bps, uplink.narrow]).toEqual([900_000, true]);
  uplink.handleTrouble(3_000_000, 0);
  expect(uplink.bps).toBe(900_000);
  seconds(uplink, 1000, 9, (guess) => guess);
  expect(uplink.bps).toBe(900_000);
  seconds(uplink, 10_000, 1, (guess) => guess);
  expect(uplink.bps).toBe(1_350_000);
});

test("a measurement of nothing does not make a node useless", () => {
  const uplink = new Uplink();
  uplink.handleTrouble(0, 0);
  expect(uplink.bps).toBe(100_000);
});

test("rises that end in trouble come more and more rarely: an uplink of 2 Mbit/s is tried less than twice a minute", () => {
  const uplink = new Uplink();
  const troubles: number[] = [];
  for (let now = 0; now < 600_000; now += 1000) {
    if (uplink.bps > 2_000_000) {
      uplink.handleTrouble(2_000_000, now);
      troubles.push(now);
    }
    seconds(uplink, now, 1, (guess) => Math.min(2_000_000, guess));
  }
  expect(troubles.length).toBeGreaterThan(5);
  expect(troubles.filter((at) => at > 120_000).length).toBeLessThan(8);
});

test("links that back up are trouble whoever's streams they carry, if most do and for longer than a look", () => {
  const uplink = new Uplink();
  const held = { sentBps: 500_000, queuedBytes: 60_000 };
  const free = { sentBps: 500_000, queuedBytes: 2_000 };
  for (let i = 0; i < 10; i += 1) uplink.handleLinks([held, free], i * 1000);
  uplink.handleLinks([held, held, free], 10_000);
  expect(uplink.narrow).toBe(false);
  uplink.handleLinks([held, held, free], 11_000);
  expect([uplink.narrow, uplink.bps]).toEqual([true, 1_350_000]);
});

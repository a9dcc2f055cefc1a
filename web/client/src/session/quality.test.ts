import { expect, test } from "vitest";
import type { IncomingStats } from "../worker/messages.ts";
import { arrival, levelOf, qualityWords } from "./quality.ts";

const totals = (change: Partial<IncomingStats>): IncomingStats => ({
  stream: { node: 1, stream: 0 },
  parent: 1,
  bps: 0,
  delayMs: 0,
  layer: 1,
  framesReceived: 0,
  framesDecoded: 0,
  framesDrawn: 0,
  framesRepaired: 0,
  framesLost: 0,
  keyRequests: 0,
  duplicates: 0,
  audioPackets: 0,
  backup: null,
  backupsTaken: 0,
  audioConcealed: 0,
  audioTargetMs: 0,
  lipSyncMs: null,
  audioRms: 0,
  ...change,
});

test("loss is counted in the window only, and the worse of picture and sound counts", () => {
  const before = totals({ framesReceived: 1_000, framesLost: 500, audioPackets: 100 });
  const now = totals({ framesReceived: 1_090, framesLost: 510, audioPackets: 180, audioConcealed: 20, bps: 300 });
  expect(arrival(before, now, 600)).toEqual({ rate: 0.5, loss: 0.2 });
  expect(arrival(before, before, 0)).toEqual({ rate: null, loss: 0 });
});

test.each([
  [1, 0, "good"],
  [0.1, 0.05, "good"],
  [0.5, 0.5, "good"],
  [0.49, 0.06, "fair"],
  [0.3, 0.2, "fair"],
  [0.29, 0.079, "fair"],
  [0.29, 0.08, "poor"],
  [null, 0.3, "poor"],
  [0, 1, "poor"],
] as const)("rate %s with loss %s is %s", (rate, loss, level) => {
  expect(levelOf({ rate, loss })).toBe(level);
});

test("words name the person, the share, the way, and what would help", () => {
  const words = qualityWords({ name: "Ana", level: "poor", loss: 0.123, everybody: false, through: "Ben" });
  expect(words).toContain("12 %");
  expect(words).toContain("through Ben");
  expect(words).toContain("turning off the camera");
});

test("when everybody arrives badly, nobody else is blamed", () => {
  for (const level of ["fair", "poor", "lost"] as const) {
    const words = qualityWords({ name: "Ana", level, loss: 0.1, everybody: true, through: "Ben" });
    expect(words).toMatch(/[Yy]our (own )?network/);
    expect(words).not.toContain("Ben");
  }
});

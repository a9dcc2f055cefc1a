import { expect, test } from "vitest";
import { Restarts } from "./restarts.ts";

test("three failures in a minute are forgiven, the fourth is not", () => {
  const restarts = new Restarts();
  expect([0, 10_000, 20_000, 59_999].map((ms) => restarts.allow(ms))).toEqual([true, true, true, false]);
});

test("a failure each half minute never ends it", () => {
  const restarts = new Restarts();
  expect(Array.from({ length: 100 }, (_, n) => restarts.allow(n * 30_000)).every(Boolean)).toBe(true);
});

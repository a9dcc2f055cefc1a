import { expect, test } from "vitest";
import { Window } from "./window.ts";

test("quantiles are those of the last values sorted, whatever came and went", () => {
  const window = new Window(60);
  const all: number[] = [];
  let seed = 1;
  for (let n = 0; n < 500; n++) {
    seed = (seed * 48271) % 2147483647;
    // Few different values, so that equal ones come and go too.
    const value = (seed % 23) - 11.5;
    all.push(value);
    window.push(value);
    const sorted = all.slice(-60).sort((a, b) => a - b);
    for (const share of [0, 0.5, 0.95, 0.97, 1]) {
      expect(window.quantile(share)).toBe(sorted[Math.floor((sorted.length - 1) * share)]);
    }
  }
  expect(window.size).toBe(60);
});

test("a window that was cleared knows nothing of what was before", () => {
  const window = new Window(3);
  expect(window.quantile(0.5)).toBeNaN();
  for (const value of [1, 2, 3, 4]) window.push(value);
  window.clear();
  expect(window.size).toBe(0);
  window.push(9);
  expect(window.quantile(0)).toBe(9);
  expect(window.quantile(1)).toBe(9);
});

import { expect, test } from "vitest";
import { SilenceWatch } from "./silence.ts";

test("a microphone that never gives a sound is told of after three seconds", () => {
  const watch = new SilenceWatch();
  expect([0, 2_999, 3_000].map((ms) => watch.step(true, 127, ms))).toEqual([false, false, true]);
  expect(watch.step(true, 90, 3_100)).toBe(false);
});

test("a pause of somebody with a noise gate is not told of", () => {
  const watch = new SilenceWatch();
  watch.step(true, 30, 0);
  expect([1_000, 20_999, 21_000].map((ms) => watch.step(true, 127, ms))).toEqual([false, false, true]);
});

test("time while muted or off does not count", () => {
  const watch = new SilenceWatch();
  watch.step(true, 127, 0);
  watch.step(false, 127, 2_000);
  expect([3_000, 5_999].map((ms) => watch.step(true, 127, ms))).toEqual([false, false]);
});

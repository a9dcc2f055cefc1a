import { expect, test } from "vitest";
import { GIVE_UP_MS, retryDelayMs } from "./backoff.ts";

test("attempts without jitter come at once, then ever later, then every seven seconds", () => {
  const delays = [0, 1, 2, 3, 4, 5, 6, 60].map((attempt) => retryDelayMs(attempt, 0));
  expect(delays).toEqual([0, 300, 1_200, 2_700, 4_800, 7_000, 7_000, 7_000]);
});

test("jitter adds at most a second, and at most 200 ms to the first attempt", () => {
  expect(retryDelayMs(0, 1)).toBe(200);
  for (const attempt of [1, 2, 3, 9]) expect(retryDelayMs(attempt, 1) - retryDelayMs(attempt, 0)).toBe(1_000);
});

test("more than seventy attempts fit before giving up", () => {
  let waited = 0;
  let attempts = 0;
  while (waited < GIVE_UP_MS) waited += retryDelayMs(attempts++, 1);
  expect(attempts).toBeGreaterThan(70);
});

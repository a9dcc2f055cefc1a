import { expect, test } from "vitest";
import { MAX_SLOTS } from "../transport/control.ts";
import { FIRST_SLOTS, Slots } from "./slots.ts";

test("slots grow to what is asked for, never shrink, and stop at their bound", () => {
  const slots = new Slots();
  const wanted = [FIRST_SLOTS, 8, 8, 2, 1000, 1000];
  expect(wanted.map((n) => slots.grow(n))).toEqual([FIRST_SLOTS, 8 - FIRST_SLOTS, 0, 0, MAX_SLOTS - 8, 0]);
  expect(slots.pairs).toBe(MAX_SLOTS);
});

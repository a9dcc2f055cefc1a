import { expect, test } from "vitest";
import { uplinkAfter } from "./uplink.ts";

test("nothing is claimed before anything went wrong", () => {
  expect(uplinkAfter(null, "start", 2_000_000)).toBeNull();
  expect(uplinkAfter(null, "recovered", 2_000_000)).toBeNull();
});

test("backing off names a little less than what went out, and never raises an earlier guess", () => {
  expect(uplinkAfter(null, "uplink", 1_000_000)).toBe(900_000);
  expect(uplinkAfter(500_000, "uplink", 1_000_000)).toBe(500_000);
});

test("a measurement of nothing does not make a node useless", () => {
  expect(uplinkAfter(null, "uplink", 0)).toBe(100_000);
});

test("recovering raises the guess step by step, to a ceiling", () => {
  expect(uplinkAfter(900_000, "recovered", 0)).toBe(1_350_000);
  expect(uplinkAfter(49_000_000, "recovered", 0)).toBe(50_000_000);
});

import { expect, test } from "vitest";
import { batteryOf, metered, type NetworkInformation } from "./willing.ts";

test.each([
  [undefined, null],
  [{}, null],
  [{ saveData: false }, false],
  [{ saveData: true }, true],
  [{ saveData: false, type: "wifi" }, false],
  [{ type: "cellular" }, true],
  [{ saveData: true, type: "ethernet" }, true],
] as [NetworkInformation | undefined, boolean | null][])("a network that is %j is metered: %s", (connection, is) => {
  expect(metered(connection)).toBe(is);
});

test("a battery whose level is no share is none", () => {
  expect(batteryOf({ charging: true, level: 0.5 })).toEqual({ charging: true, level: 0.5 });
  for (const level of [Number.NaN, -1, 1.5]) expect(batteryOf({ charging: false, level })).toBeNull();
});

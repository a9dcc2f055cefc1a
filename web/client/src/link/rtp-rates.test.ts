import { expect, test } from "vitest";
import { layerRates } from "./rtp-rates.ts";

test.each([
  ["an unknown uplink limits nothing", null, 5_000_000, [150_000, 600_000]],
  ["there is room for all", 2_000_000, 500_000, [150_000, 600_000]],
  ["the upper layer shrinks first", 800_000, 200_000, [150_000, 386_000]],
  ["and goes when little would be left of it", 600_000, 200_000, [150_000, 0]],
  ["then the lowest shrinks", 300_000, 150_000, [86_000, 0]],
  ["but not to nothing", 100_000, 400_000, [50_000, 0]],
])("%s", (_, uplink, allotted, rates) => {
  expect(layerRates([150_000, 600_000], { uplink, allotted, audio: 64_000 })).toEqual(rates);
});

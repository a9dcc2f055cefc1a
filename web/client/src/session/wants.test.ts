import { expect, test } from "vitest";
import { changedWants, type Shown, wantedLayer } from "./wants.ts";

const layers = [{ width: 320 }, { width: 640 }];

test.each([
  ["not shown", [], null],
  ["a small tile", [160], 0],
  ["a tile as wide as the low layer stretches well", [415], 0],
  ["a tile just wider than that", [416], 1],
  ["a tile wider than all there is", [1920], 1],
  ["two views: the larger one counts", [160, 800], 1],
  ["a view whose size is not known yet", [null], 1],
] as const)("%s", (_, widths, layer) => {
  expect(wantedLayer(layers, widths)).toBe(layer);
});

const stream = (node: number) => ({ node, stream: 0 });
const shown = (node: number, widths: Shown["widths"]): Shown => ({ stream: stream(node), layers, widths });

test("only what differs from what was told is told, and the top layer is known without a word", () => {
  const told = new Map<string, number | null>();
  expect(changedWants([shown(1, [800]), shown(2, [100])], told)).toEqual([{ stream: stream(2), layer: 0 }]);
  expect(changedWants([shown(1, [800]), shown(2, [100])], told)).toEqual([]);
  expect(changedWants([shown(1, []), shown(2, [900])], told)).toEqual([
    { stream: stream(1), layer: null },
    { stream: stream(2), layer: 1 },
  ]);
});

test("a want that is not decided yet stands as it was told", () => {
  const told = new Map<string, number | null>([["1/0", 0]]);
  expect(changedWants([shown(1, null)], told)).toEqual([]);
  expect(told.get("1/0")).toBe(0);
});

test("a stream that ended is forgotten: the next one starts at its top layer again", () => {
  const told = new Map<string, number | null>([["1/0", 0]]);
  changedWants([], told);
  expect(changedWants([shown(1, [100])], told)).toEqual([{ stream: stream(1), layer: 0 }]);
});

import type { Tree, TreeEdge } from "@grove/client/signal/messages";
import { expect, test } from "vitest";
import { bow, placeTree } from "./tree-layout.ts";

const spacing = { x: 40, y: 60, margin: 20 };

function treeOf(pairs: [number, number][], unserved: number[] = []): Tree {
  const edges = pairs.map(
    ([parent, child]): TreeEdge => ({
      parent,
      child,
      level: 1,
      layer: 0,
      live: true,
      bps: 1,
      delay_ms: 0,
      rtt_ms: 0,
      loss: 0,
      reason: "joined",
    }),
  );
  return { stream: { node: 1, stream: 0 }, edges, unserved };
}

test("a parent stands one layer above the middle of its children", () => {
  const { points, levels } = placeTree(
    treeOf([
      [1, 2],
      [1, 3],
      [2, 4],
      [2, 5],
    ]),
    spacing,
  );
  expect(levels).toBe(3);
  expect(Object.fromEntries(points)).toEqual({
    4: { x: 20, y: 140 },
    5: { x: 60, y: 140 },
    2: { x: 40, y: 80 },
    3: { x: 100, y: 80 },
    1: { x: 70, y: 20 },
  });
});

test("nodes of one layer never stand closer than the spacing", () => {
  const pairs: [number, number][] = [];
  for (let node = 2; node <= 31; node++) pairs.push([Math.floor(node / 2), node]);
  const byLayer = new Map<number, number[]>();
  for (const { x, y } of placeTree(treeOf(pairs), spacing).points.values()) {
    byLayer.set(y, [...(byLayer.get(y) ?? []), x]);
  }
  expect([...byLayer.values()].map((xs) => xs.length).sort((a, b) => a - b)).toEqual([1, 2, 4, 8, 16]);
  for (const xs of byLayer.values()) {
    xs.sort((a, b) => a - b);
    for (let i = 1; i < xs.length; i++) expect((xs[i] ?? 0) - (xs[i - 1] ?? 0)).toBeGreaterThanOrEqual(spacing.x);
  }
});

test("unserved nodes have a row of their own below the tree", () => {
  const { points, height } = placeTree(treeOf([[1, 2]], [7, 8]), spacing);
  expect(points.get(7)).toEqual({ x: 20, y: 140 });
  expect(points.get(8)).toEqual({ x: 60, y: 140 });
  expect(height).toBe(160);
});

test("a sender alone is a picture of one node", () => {
  expect(placeTree(treeOf([]), spacing)).toMatchObject({ width: 40, height: 40, levels: 1 });
});

test("a backup's line ends at both circles, whichever stands left, and two neighbours' passes below what is between them", () => {
  const left = { x: 30, y: 100 };
  const right = { x: 150, y: 100 };
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    const [x0 = 0, y0 = 0, , bend = 0, x1 = 0, y1 = 0] =
      bow(from, to, 19)
        .match(/-?[\d.]+/g)
        ?.map(Number) ?? [];
    expect(Math.hypot(x0 - from.x, y0 - from.y)).toBeCloseTo(19, 0);
    expect(Math.hypot(x1 - to.x, y1 - to.y)).toBeCloseTo(19, 0);
    expect(100 + (bend - 100) / 2).toBeGreaterThan(100 + 19);
    expect(100 + (bend - 100) / 2).toBeLessThan(100 + 30);
  }
});

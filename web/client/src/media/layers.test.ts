import { describe, expect, it } from "vitest";
import { Dependencies, distinct, fit, wantedLayer } from "./layers.ts";

describe("the size of a layer", () => {
  for (const [order, source, expected] of [
    [
      { width: 640, height: 360 },
      { width: 1280, height: 720 },
      { width: 640, height: 360 },
    ],
    [
      { width: 320, height: 180 },
      { width: 640, height: 480 },
      { width: 320, height: 240 },
    ],
    [
      { width: 640, height: 360 },
      { width: 720, height: 1280 },
      { width: 360, height: 640 },
    ],
    [
      { width: 640, height: 360 },
      { width: 320, height: 240 },
      { width: 320, height: 240 },
    ],
    [
      { width: 320, height: 180 },
      { width: 641, height: 359 },
      { width: 320, height: 180 },
    ],
    [
      { width: 320, height: 180 },
      { width: 3000, height: 20 },
      { width: 320, height: 16 },
    ],
  ] as const) {
    it(`is ${expected.width}x${expected.height} for ${source.width}x${source.height} in ${order.width}x${order.height}`, () => {
      expect(fit(order, source)).toEqual(expected);
    });
  }
});

describe("what frames need", () => {
  it("is the last frame of temporal layer 0, and nobody needs those of layer 1", () => {
    const dependencies = new Dependencies();
    const temporal = [0, 1, 0, 1, 1, 0];
    expect(temporal.map((t, i) => dependencies.next(i === 0, t))).toEqual([
      { farthest: 0, nearest: 0, droppable: false },
      { farthest: 1, nearest: 1, droppable: true },
      { farthest: 2, nearest: 2, droppable: false },
      { farthest: 1, nearest: 1, droppable: true },
      { farthest: 2, nearest: 2, droppable: true },
      { farthest: 3, nearest: 3, droppable: false },
    ]);
  });

  it("is the frame before where there are no temporal layers", () => {
    const dependencies = new Dependencies();
    dependencies.next(true, 0);
    expect([dependencies.next(false, 0), dependencies.next(false, 0)]).toEqual([
      { farthest: 1, nearest: 1, droppable: false },
      { farthest: 1, nearest: 1, droppable: false },
    ]);
  });

  it("is nothing for a key frame in the middle, which the next frame then needs", () => {
    const dependencies = new Dependencies();
    for (const t of [0, 1]) dependencies.next(t === 0, t);
    expect(dependencies.next(true, 0).farthest).toBe(0);
    expect(dependencies.next(false, 0).farthest).toBe(1);
  });
});

describe("the layer to decode", () => {
  for (const [sides, view, expected] of [
    [[320, 640], 0, 1],
    [[320, 640], 300, 0],
    [[320, 640], 420, 0],
    [[320, 640], 440, 1],
    [[320, null], 900, 0],
    [[null, 640], 100, 1],
    [[null, null], 100, null],
    [[], 100, null],
  ] as const) {
    it(`is ${expected} of layers ${sides.join("/")} on a view of ${view}`, () => {
      expect(wantedLayer(sides, view)).toBe(expected);
    });
  }
});

describe("the layers worth encoding", () => {
  const orders = [
    { width: 320, height: 180, bps: 1 },
    { width: 640, height: 360, bps: 2 },
  ];
  for (const [width, height, count] of [
    [1280, 720, 2],
    [360, 640, 2],
    [400, 300, 2],
    [320, 240, 1],
    [160, 120, 1],
    [120, 160, 1],
  ] as const) {
    it(`are ${count} of two for ${width}x${height}`, () => {
      expect(distinct(orders, { width, height })).toEqual(orders.slice(0, count));
    });
  }
});

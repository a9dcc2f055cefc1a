import { describe, expect, test } from "vitest";
import { EVERYTHING } from "../frame/header.ts";
import { splitPackets } from "./redundancy.ts";
import { LayersByWidth, type PictureMetadata, RtpClock, RtpPackets, RtpPictures } from "./rtp-frames.ts";

describe("layers by width", () => {
  test.each([
    [
      "the upper layer first",
      [
        [7, 640],
        [9, 320],
      ],
      [1, 0],
    ],
    [
      "the lower layer first",
      [
        [9, 320],
        [7, 640],
      ],
      [0, 1],
    ],
    [
      "both scaled down by the browser",
      [
        [9, 160],
        [7, 320],
      ],
      [0, 1],
    ],
    [
      "an upper layer that shrinks later keeps its place",
      [
        [7, 640],
        [9, 320],
        [7, 320],
      ],
      [1, 0, 1],
    ],
    [
      "a sender that begins anew",
      [
        [7, 640],
        [9, 320],
        [8, 640],
        [10, 320],
      ],
      [1, 0, 1, 0],
    ],
    [
      "a third one is none of ours",
      [
        [9, 320],
        [7, 640],
        [8, 1280],
      ],
      [0, 1, null],
    ],
  ] as const)("%s", (_, pictures, layers) => {
    const byWidth = new LayersByWidth();
    byWidth.widths = [320, 640];
    expect(pictures.map(([source, width]) => byWidth.layer(source, width))).toEqual(layers);
  });

  test("without layers there is none", () => {
    expect(new LayersByWidth().layer(1, 640)).toBeNull();
  });
});

const all = (): boolean => true;
const meta = (frameId: number, dependencies: number[], more: PictureMetadata = {}): PictureMetadata => ({
  synchronizationSource: 7,
  rtpTimestamp: frameId * 3000,
  width: 320,
  height: 180,
  frameId,
  dependencies,
  temporalIndex: 0,
  ...more,
});
function pictures(widths: number[] = [320]): RtpPictures {
  const made = new RtpPictures();
  made.widths = widths;
  return made;
}

test("frame ids of two layers become distances within each", () => {
  const made = pictures([320, 640]);
  const upper = { synchronizationSource: 9, width: 640, height: 360 };
  // Ids count over both layers; L1T3 of each: T0 T2 T1 T2.
  const given: [PictureMetadata, boolean][] = [
    [meta(1, []), true],
    [meta(2, [], upper), true],
    [meta(3, [1], { temporalIndex: 2 }), false],
    [meta(4, [2], { ...upper, temporalIndex: 2 }), false],
    [meta(5, [1], { temporalIndex: 1 }), false],
    [meta(7, [5, 1], { temporalIndex: 2 }), false],
    [meta(9, [1]), false],
  ];
  const taken = given.map(([m, key]) => made.take(m, key, 0, all));
  expect(taken.map((p) => p && [p.spatial, p.temporal, p.farthest, p.nearest, p.droppable])).toEqual([
    [0, 0, 0, 0, false],
    [1, 0, 0, 0, false],
    [0, 2, 1, 1, true],
    [1, 2, 1, 1, true],
    [0, 1, 2, 2, false],
    [0, 2, 3, 1, true],
    [0, 0, 4, 4, false],
  ]);
  expect(taken.map((p) => p && [p.width, p.height])).toEqual([
    [320, 180],
    [640, 360],
    ...Array.from({ length: 5 }, () => [0, 0]),
  ]);
});

test.each([
  ["an unknown frame", [99]],
  ["a known and an unknown frame", [1, 99]],
  ["no frame at all", []],
])("a picture that depends on %s needs everything", (_, dependencies) => {
  const made = pictures();
  made.take(meta(1, []), true, 0, all);
  expect(made.take(meta(2, dependencies), false, 0, all)).toMatchObject({ farthest: EVERYTHING, nearest: EVERYTHING });
});

test("what came before a key frame is not reached from behind it", () => {
  const made = pictures();
  made.take(meta(1, []), true, 0, all);
  made.take(meta(2, []), true, 0, all);
  expect(made.take(meta(3, [1]), false, 0, all)?.farthest).toBe(EVERYTHING);
});

test("a source begins with its key frame, also where it takes a layer over from another", () => {
  const made = pictures();
  expect(made.take(meta(1, []), false, 0, all)).toBeNull();
  expect(made.take(meta(2, []), true, 0, all)).not.toBeNull();
  const other = { synchronizationSource: 8 };
  expect(made.take(meta(3, [2], other), false, 0, all)).toBeNull();
  expect(made.take(meta(4, [], other), true, 0, all)).not.toBeNull();
});

test("pictures that are not admitted take no number", () => {
  const made = pictures();
  const admit = (_: number, key: boolean): boolean => key;
  expect(made.take(meta(1, [0]), false, 0, admit)).toBeNull();
  expect(made.take(meta(2, []), true, 0, admit)).not.toBeNull();
  expect(made.take(meta(3, [2]), false, 0, admit)).toBeNull();
  expect(made.take(meta(4, [2]), false, 0, all)?.farthest).toBe(1);
});

test("a picture without a source or a time is none of ours", () => {
  const { synchronizationSource: _, ...nobody } = meta(1, []);
  expect(pictures().take(nobody, true, 0, all)).toBeNull();
});

test("RTP time goes on around 2^32 and back again, and is anchored by the fastest delivery", () => {
  const clock = new RtpClock(90_000);
  const first = 2 ** 32 - 3000;
  expect([first, 0, 2 ** 32 - 1, 3000].map((t) => clock.unwrap(t) - first)).toEqual([0, 3000, 2999, 6000]);
  const other = new RtpClock(90_000);
  const slow = other.capture(0, 1_050_000);
  const fast = other.capture(9000, 1_110_000);
  expect([slow, fast, other.capture(18_000, 1_300_000)].map(Math.round)).toEqual([1_050_000, 1_110_000, 1_210_095]);
});

describe("packets", () => {
  const loud = { level: 20, silent: false };
  const packet = (n: number): Uint8Array => new Uint8Array([n, n]);
  const parts = (payload: Uint8Array | undefined) => {
    const split = payload && splitPackets(payload);
    return split && { packet: [...split.packet], copies: split.copies.map((copy) => [...copy]) };
  };

  test("each carries the one before, where that adjoins", () => {
    const packets = new RtpPackets();
    const times = [0, 960, 2880, 3840];
    const taken = times.map((time, n) => packets.take(time, packet(n), loud, 1e6 + (time * 1e6) / 48_000));
    expect(taken.map((one) => parts(one?.payload)?.copies)).toEqual([[], [[0, 0]], [], [[2, 2]]]);
    expect(taken.map((one) => one?.captureUs)).toEqual([980_000, 1_000_000, 1_040_000, 1_060_000]);
  });

  test("while nothing is to be heard, nothing goes out but one mark in ten that somebody is there, the first at once", () => {
    const packets = new RtpPackets();
    packets.take(0, packet(1), loud, 0);
    const quiet = { level: 80, silent: true };
    const taken = Array.from({ length: 21 }, (_, n) => packets.take((n + 1) * 960, packet(2), quiet, n * 20_000));
    expect(taken.flatMap((one, n) => (one === null ? [] : [n]))).toEqual([0, 10, 20]);
    for (const one of taken) if (one) expect([one.level, parts(one.payload)]).toEqual([80, { packet: [], copies: [] }]);
    expect(parts(packets.take(22 * 960, packet(3), loud, 5e5)?.payload)).toEqual({ packet: [3, 3], copies: [] });
  });
});

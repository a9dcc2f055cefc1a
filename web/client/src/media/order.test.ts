import { describe, expect, it } from "vitest";
import type { Header } from "../frame/header.ts";
import { FrameOrder, GAP_MS, REORDER_MS } from "./order.ts";

const base: Header = {
  key: false,
  kind: "video",
  spatial: 0,
  temporal: 0,
  number: 0,
  width: 0,
  height: 0,
  farthest: 0,
  nearest: 0,
  level: 0,
  captureUs: 0,
  sender: 1,
  stream: 0,
  track: 1,
  generation: 5,
  droppable: false,
  rotation: 0,
};
const key = (number: number, more: Partial<Header> = {}): Header => ({ ...base, key: true, number, ...more });
const delta = (number: number, back: number): Header => ({ ...base, number, farthest: back, nearest: back });
const droppable = (number: number, back: number): Header => ({ ...delta(number, back), temporal: 1, droppable: true });

/** L1T2 from a key frame at 0: even numbers need the even one before, odd ones are droppable. */
const l1t2 = (number: number): Header => {
  if (number === 0) return key(0);
  return number % 2 === 0 ? delta(number, 2) : droppable(number, 1);
};

/** Pushes numbers at their times and returns what came out, with a last poll at `endMs`. */
function run(frames: Header[], at: (i: number) => number = (i) => i, endMs = 10_000) {
  const order = new FrameOrder<number>();
  const out: number[] = [];
  for (const [i, header] of frames.entries()) {
    order.push(header, header.number, at(i));
    out.push(...order.poll(at(i)));
  }
  const before = [...out];
  out.push(...order.poll(endMs));
  return { order, out, before };
}

describe("the order of pictures", () => {
  it("hands out frames that come in order at once", () => {
    expect(run([0, 1, 2, 3, 4].map(l1t2)).before).toEqual([0, 1, 2, 3, 4]);
  });

  it("puts frames in order that overtook each other", () => {
    expect(run([0, 2, 1, 4, 3].map(l1t2)).before).toEqual([0, 1, 2, 3, 4]);
  });

  it("hands out nothing before a key frame, and says that one is needed", () => {
    const { order, out } = run([delta(7, 1), delta(8, 1)]);
    expect(out).toEqual([]);
    expect(order.stuckSinceMs).toBe(0);
    order.push(key(9), 9, 50);
    expect(order.poll(50)).toEqual([9]);
    expect(order.stuckSinceMs).toBeNull();
  });

  it("goes on over a droppable frame that is missing, after giving it a moment", () => {
    const order = new FrameOrder<number>();
    for (const n of [0, 2]) order.push(l1t2(n), n, 0);
    expect(order.poll(REORDER_MS - 1)).toEqual([0]);
    expect(order.poll(REORDER_MS)).toEqual([2]);
    expect(order.stuckSinceMs).toBeNull();
  });

  it("goes on at once when it is told that the missing frame will not come", () => {
    const order = new FrameOrder<number>();
    for (const n of [0, 2]) order.push(l1t2(n), n, 0);
    order.gone(1);
    expect(order.poll(1)).toEqual([0, 2]);
  });

  it("waits for a missing frame that others need, and goes on when repair brings it", () => {
    const order = new FrameOrder<number>();
    for (const n of [0, 1, 3, 4]) order.push(l1t2(n), n, 0);
    expect(order.poll(GAP_MS - 1)).toEqual([0, 1]);
    order.push(l1t2(2), 2, GAP_MS - 1);
    expect(order.poll(GAP_MS - 1)).toEqual([2, 3, 4]);
    expect(order.lost).toBe(0);
  });

  it("gives up a chain whose missing frame is gone, and asks for a key frame", () => {
    const order = new FrameOrder<number>();
    for (const n of [0, 1, 4]) order.push(l1t2(n), n, 0);
    order.gone(3);
    expect(order.poll(1)).toEqual([0, 1]);
    expect(order.stuckSinceMs).toBe(1);
    order.push(l1t2(6), 6, 2);
    expect(order.poll(2)).toEqual([]);
    order.push(key(7), 7, 3);
    order.push(delta(8, 1), 8, 3);
    expect(order.poll(3)).toEqual([7, 8]);
  });

  it("skips from a gap to a key frame that is already there", () => {
    const order = new FrameOrder<number>();
    for (const header of [key(0), delta(1, 1), delta(4, 1), key(5), delta(6, 1)]) order.push(header, header.number, 0);
    expect(order.poll(0)).toEqual([0, 1, 5, 6]);
    expect(order.lost).toBe(1);
  });

  it("takes a frame that needs everything only when nothing is missing before it", () => {
    const all = (number: number): Header => ({ ...base, number, farthest: 0xffff, nearest: 1 });
    expect(run([key(0), all(1), all(2)]).out).toEqual([0, 1, 2]);
    const { out, order } = run([key(0), all(1), all(3)]);
    expect(out).toEqual([0, 1]);
    expect(order.stuckSinceMs).not.toBeNull();
  });

  it("hands out a frame once when it comes twice or late", () => {
    expect(run([key(0), delta(1, 1), delta(1, 1), key(0), delta(2, 1)]).out).toEqual([0, 1, 2]);
  });

  it("goes on across a change of the key, numbers continuing", () => {
    expect(run([key(0), { ...delta(1, 1), generation: 6 }, { ...delta(2, 1), generation: 6 }]).out).toEqual([0, 1, 2]);
  });

  it("begins anew with a sender that came back with lower numbers under a newer key", () => {
    const again = [key(0, { generation: 6 }), { ...delta(1, 1), generation: 6 }];
    expect(run([key(500), delta(501, 1), ...again]).out).toEqual([500, 501, 0, 1]);
  });

  it("keeps a bounded number of frames while it waits", () => {
    const { order } = run([key(0), ...Array.from({ length: 500 }, (_, i) => delta(i + 2, 1))], () => 0, 0);
    expect(order.lost).toBeGreaterThanOrEqual(380);
  });
});

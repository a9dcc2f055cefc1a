import { describe, expect, it } from "vitest";
import type { Header } from "../frame/header.ts";
import { joinPackets, MOST_COPIES, PacketOrder, splitPackets } from "./redundancy.ts";

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe("packets and their copies", () => {
  it("come out as they went in, nearest copy first", () => {
    const parts = splitPackets(joinPackets(bytes(1, 2, 3), [bytes(4), bytes(5, 6)]));
    expect(parts).toEqual({ packet: bytes(1, 2, 3), copies: [bytes(4), bytes(5, 6)] });
  });

  it("may be a silence marker: an empty packet without copies is one byte", () => {
    const payload = joinPackets(bytes(), []);
    expect(payload).toEqual(bytes(0));
    expect(splitPackets(payload)).toEqual({ packet: bytes(), copies: [] });
  });

  it("leave out copies beyond the most that a receiver takes", () => {
    const copies = Array.from({ length: 6 }, (_, i) => bytes(i));
    expect(splitPackets(joinPackets(bytes(9), copies))?.copies.length).toBe(MOST_COPIES);
  });

  it("leave out a copy whose length does not fit, and those behind it, so that places stay right", () => {
    const parts = splitPackets(joinPackets(bytes(9), [bytes(1), new Uint8Array(70_000), bytes(2)]));
    expect(parts?.copies).toEqual([bytes(1)]);
  });

  for (const [what, payload] of [
    ["nothing at all", bytes()],
    ["more copies than allowed", bytes(4, 0, 0, 0, 0, 0, 0, 0, 0)],
    ["a length cut in two", bytes(1, 0)],
    ["a copy longer than the frame", bytes(1, 0, 5, 1, 2)],
    ["a second copy that is missing", bytes(2, 0, 1, 7)],
  ] as const) {
    it(`refuse ${what}`, () => {
      expect(splitPackets(payload)).toBeNull();
    });
  }
});

describe("the order of packets", () => {
  const header = (number: number, generation = 1): Header => ({
    key: false,
    kind: "audio",
    spatial: 0,
    temporal: 0,
    number,
    width: 0,
    height: 0,
    farthest: 0,
    nearest: 0,
    level: 30,
    captureUs: number * 20_000,
    sender: 1,
    stream: 0,
    track: 0,
    generation,
    droppable: false,
    rotation: 0,
  });
  /** Frames whose packet is their number, each with copies of those before. */
  const numbers = (order: PacketOrder, frames: number[], copies = 1): number[] =>
    frames.flatMap((n) => {
      const before = Array.from({ length: Math.min(copies, n) }, (_, i) => bytes(n - 1 - i));
      const { due } = order.take(header(n), { packet: bytes(n), copies: before });
      for (const { number, captureUs, packet } of due) {
        expect(packet[0]).toBe(number);
        expect(captureUs).toBe(number * 20_000);
      }
      return due.map(({ number }) => number);
    });

  it("decodes each packet once when nothing is lost", () => {
    const order = new PacketOrder();
    expect(numbers(order, [5, 6, 7, 8])).toEqual([5, 6, 7, 8]);
    expect(order.recovered).toBe(0);
  });

  it("takes a lost packet from the copy in the next", () => {
    const order = new PacketOrder();
    expect(numbers(order, [5, 7, 8, 10])).toEqual([5, 6, 7, 8, 9, 10]);
    expect(order.recovered).toBe(2);
  });

  it("has a hole where two in a row are lost and there is one copy, and none where there are two", () => {
    expect(numbers(new PacketOrder(), [5, 8, 9])).toEqual([5, 7, 8, 9]);
    expect(numbers(new PacketOrder(), [5, 8, 9], 2)).toEqual([5, 6, 7, 8, 9]);
  });

  it("leaves out what comes twice or after its turn", () => {
    const order = new PacketOrder();
    expect(numbers(order, [5, 7, 6, 7, 8])).toEqual([5, 6, 7, 8]);
    expect(order.late).toBe(2);
  });

  it("begins anew when a newer key comes with low numbers, and not when only the key changes", () => {
    const order = new PacketOrder();
    const parts = { packet: bytes(1), copies: [] };
    order.take(header(900, 1), parts);
    expect(order.take(header(901, 2), parts)).toMatchObject({ restarted: false, due: [{ number: 901 }] });
    expect(order.take(header(3, 3), parts)).toMatchObject({ restarted: true, due: [{ number: 3 }] });
  });
});

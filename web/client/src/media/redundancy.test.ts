import { describe, expect, it } from "vitest";
import { joinPackets, MOST_COPIES, splitPackets } from "./redundancy.ts";

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

import { expect, test } from "vitest";
import { HANDOVER_MS, Handover } from "./handover.ts";

test("a layer changes hands at a key frame of the wanted encoder, and not before", () => {
  const handover = new Handover();
  expect(handover.admit("codec", 0, true, 0)).toBe(true);
  expect(handover.admit("rtp", 0, true, 0)).toBe(false);
  handover.want("rtp");
  expect(handover.admit("rtp", 0, false, 1)).toBe(false);
  expect(handover.admit("codec", 0, false, 2)).toBe(true);
  expect(handover.admit("rtp", 0, true, 3)).toBe(true);
  // What was still inside the former encoder comes too late, key frame or not.
  expect(handover.admit("codec", 0, true, 4)).toBe(false);
  expect(handover.admit("rtp", 0, false, 5)).toBe(true);
});

test("on the way back the RTP encoder goes on until the other has its key frame", () => {
  const handover = new Handover();
  handover.want("rtp");
  handover.admit("rtp", 0, true, 0);
  handover.want("codec");
  expect(handover.admit("rtp", 0, false, 1)).toBe(true);
  expect(handover.admit("codec", 0, true, 2)).toBe(true);
  expect(handover.admit("rtp", 0, true, 3)).toBe(false);
  expect(handover.owner(0)).toBe("codec");
});

test("each layer by itself, and the former encoder has two seconds after the first", () => {
  const handover = new Handover();
  handover.want("rtp");
  expect([0, 1].map((layer) => handover.runs("codec", layer, 10_000))).toEqual([true, true]);
  handover.admit("rtp", 0, true, 10_000);
  expect([0, 1].map((layer) => handover.runs("codec", layer, 10_000))).toEqual([false, true]);
  expect(handover.runs("codec", 1, 10_000 + HANDOVER_MS - 1)).toBe(true);
  expect(handover.runs("codec", 1, 10_000 + HANDOVER_MS)).toBe(false);
  expect([0, 1].map((layer) => handover.runs("rtp", layer, 99_000))).toEqual([true, true]);
});

test("an RTP encoder that never delivers takes nothing away", () => {
  const handover = new Handover();
  handover.want("rtp");
  expect(handover.runs("codec", 0, 1e9)).toBe(true);
  handover.want("codec");
  expect(handover.admit("codec", 0, false, 1e9)).toBe(true);
});

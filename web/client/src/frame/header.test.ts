import { describe, expect, it } from "vitest";
import { decodeHeader, encodeHeader, HEADER_BYTES, type Header, isKey, isNewer, needs, TAG_BYTES } from "./header.ts";

const DELTA: Header = {
  key: false,
  kind: "video",
  spatial: 2,
  temporal: 1,
  number: 0x01020304,
  width: 0,
  height: 0,
  farthest: 4,
  nearest: 1,
  level: 0,
  captureUs: 0x0a0b_0c0d_0e0f,
  sender: 0x1112,
  stream: 1,
  track: 1,
  generation: 0x1314,
  droppable: true,
  rotation: 3,
};
const KEY: Header = { ...DELTA, key: true, width: 1280, height: 720, farthest: 0, nearest: 0, droppable: false };
const AUDIO: Header = {
  ...DELTA,
  kind: "audio",
  spatial: 0,
  temporal: 0,
  farthest: 0,
  nearest: 0,
  level: 127,
  track: 0,
  rotation: 0,
};

function frameOf(header: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + TAG_BYTES);
  frame.set(header);
  return frame;
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

describe("headers", () => {
  it("stand in the bytes as the design lays them out", () => {
    expect(hex(encodeHeader(DELTA))).toBe(
      "85490102030404000100" + "0a0b0c0d0e0f" + "1112" + "11" + "1314" + "83" + "0000",
    );
    expect(hex(encodeHeader(KEY)).slice(0, 20)).toBe("8049010203040005d002");
    expect(hex(encodeHeader(AUDIO)).slice(0, 20)).toBe("8550010203047f000000");
  });

  it("come back as they went", () => {
    for (const header of [
      DELTA,
      KEY,
      AUDIO,
      { ...DELTA, farthest: 0xffff, captureUs: 2 ** 48 - 1, number: 2 ** 32 - 1 },
    ]) {
      expect(decodeHeader(frameOf(encodeHeader(header)))).toEqual(header);
    }
  });

  it("are read where they stand in a larger buffer", () => {
    const large = new Uint8Array(100);
    large.set(encodeHeader(KEY), 7);
    expect(decodeHeader(large.subarray(7))).toEqual(KEY);
  });

  it("are refused when any byte is one that no sender writes", () => {
    const spoilt: [string, Header, number, number][] = [
      ["an unknown first byte", DELTA, 0, 0x81],
      ["another version", DELTA, 1, 0x89],
      ["a key frame of audio", AUDIO, 0, 0x80],
      ["audio with a spatial layer", AUDIO, 1, 0x54],
      ["audio with a temporal layer", AUDIO, 1, 0x51],
      ["an audio level beyond silence", AUDIO, 6, 0x80],
      ["bytes behind the audio level", AUDIO, 9, 1],
      ["audio that is turned", AUDIO, 21, 0x01],
      ["flags without a meaning", DELTA, 21, 0x04],
      ["a byte that must be zero", DELTA, 22, 1],
      ["the other byte that must be zero", DELTA, 23, 1],
      ["a nearest frame beyond the farthest", DELTA, 8, 5],
      ["a nearest frame that is itself", DELTA, 8, 0],
    ];
    for (const [what, header, at, value] of spoilt) {
      const frame = frameOf(encodeHeader(header));
      frame[at] = value;
      expect(decodeHeader(frame), what).toBeNull();
    }
    const flat = frameOf(encodeHeader({ ...KEY, width: 1 }));
    flat[6] = 0;
    expect(decodeHeader(flat), "a key frame without width").toBeNull();
  });

  it("need a whole frame behind them: header and tag at least", () => {
    const frame = frameOf(encodeHeader(KEY));
    expect(decodeHeader(frame)).not.toBeNull();
    expect(decodeHeader(frame.subarray(0, 39))).toBeNull();
    expect(decodeHeader(new Uint8Array(0))).toBeNull();
  });

  it("are not written with values that do not fit, and the error names the field", () => {
    const wrong: [keyof Header, unknown][] = [
      ["spatial", 4],
      ["number", 2 ** 32],
      ["captureUs", 1.5],
      ["captureUs", 2 ** 48],
      ["sender", -1],
      ["level", 1],
      ["width", 640],
      ["nearest", 0],
    ];
    for (const [field, value] of wrong) {
      expect(() => encodeHeader({ ...DELTA, [field]: value } as Header), field).toThrow(new RegExp(`^${field}:`));
    }
  });

  it("say by the first byte alone what is a key frame", () => {
    expect([KEY, DELTA, AUDIO].map((header) => isKey(encodeHeader(header)))).toEqual([true, false, false]);
  });

  it("say which earlier frames are needed", () => {
    expect(needs(KEY)).toBeNull();
    expect(needs({ ...DELTA, farthest: 0, nearest: 0 })).toBeNull();
    expect(needs({ ...DELTA, number: 10, farthest: 4, nearest: 2 })).toEqual({ from: 6, to: 8 });
    expect(needs({ ...DELTA, number: 10, farthest: 0xffff, nearest: 1 })).toEqual({ from: 0, to: 9 });
    expect(needs({ ...DELTA, number: 10, farthest: 0xffff, nearest: 0xffff })).toEqual({ from: 0, to: 9 });
    expect(needs({ ...DELTA, number: 0, farthest: 1, nearest: 1 })).toEqual({ from: 2 ** 32 - 1, to: 2 ** 32 - 1 });
  });

  it("order key generations around zero", () => {
    expect(isNewer(1, 0)).toBe(true);
    expect(isNewer(0, 0xffff)).toBe(true);
    expect(isNewer(0xffff, 0)).toBe(false);
    expect(isNewer(7, 7)).toBe(false);
  });
});

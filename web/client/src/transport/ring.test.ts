import { describe, expect, test } from "vitest";
import { decodeHeader, type Header } from "../frame/header.ts";
import { KEY_INTERVAL_MS, KeyRequests } from "./keys.ts";
import { AUDIO, AUDIO_MS, RING_BYTES, RING_MS, Ring, type Stored, VIDEO } from "./ring.ts";
import { frame } from "./simulation.ts";

function stored(fields: Partial<Header> & { size?: number }, at = 0): Stored {
  const sealed = frame(fields);
  const header = decodeHeader(sealed);
  if (!header) throw new Error("not a frame");
  return { header, sealed, at };
}

const base = (number: number, at = number) => stored({ number, farthest: 2, nearest: 2 }, at);
const upper = (number: number, at = number) => stored({ number, farthest: 1, nearest: 1, droppable: true }, at);
const numbers = (frames: Stored[] | null) => frames?.map((f) => f.header.number) ?? null;

function filled(): Ring {
  const ring = new Ring();
  ring.add(stored({ number: 10, key: true }, 10));
  for (const f of [upper(11), base(12), upper(13), base(14)]) ring.add(f);
  return ring;
}

describe("a replay", () => {
  test("is the last key frame and what counts after it, in order, whatever the order of arrival", () => {
    const ring = new Ring();
    for (const f of [base(14), upper(13), base(12), stored({ number: 10, key: true }, 15), upper(11)]) ring.add(f);
    expect(numbers(ring.replay(0, 20))).toEqual([10, 12, 14]);
  });

  test("does not exist without a key frame, with an old one, or over a hole that counts", () => {
    expect(new Ring().replay(0, 0)).toBeNull();
    expect(filled().replay(1, 20)).toBeNull();
    expect(filled().replay(0, 11 + RING_MS)).toBeNull();
    const holed = filled();
    holed.add(base(18));
    expect(holed.replay(0, 20)).toBeNull();
    holed.add(base(16));
    expect(numbers(holed.replay(0, 20))).toEqual([10, 12, 14, 16, 18]);
  });

  test("begins at the newest key frame and forgets what was before", () => {
    const ring = filled();
    ring.add(stored({ number: 15, key: true }, 15));
    ring.add(stored({ number: 16, farthest: 1, nearest: 1 }, 16));
    expect(numbers(ring.replay(0, 20))).toEqual([15, 16]);
    expect(ring.get(VIDEO, 0, 14)).toBeNull();
  });

  test("of a sender that counts anew under a newer generation holds only the new frames", () => {
    const ring = filled();
    ring.add(stored({ number: 0, key: true, generation: 2 }, 20));
    expect(numbers(ring.replay(0, 20))).toEqual([0]);
    expect(ring.get(VIDEO, 0, 12)).toBeNull();
  });
});

describe("what comes after a frame that somebody has", () => {
  test("is everything newer, droppable frames too", () => {
    expect(numbers(filled().after(0, 1, 12, 20))).toEqual([13, 14]);
    expect(numbers(filled().after(0, 1, 14, 20))).toEqual([]);
  });

  test("is nothing when they are ahead, and unknown when the ring does not reach back or counts differently", () => {
    expect(numbers(filled().after(0, 1, 20, 20))).toEqual([]);
    expect(filled().after(0, 1, 9, 20)).toBeNull();
    expect(filled().after(0, 2, 12, 20)).toBeNull();
    expect(filled().after(1, 1, 12, 20)).toBeNull();
  });
});

describe("the bounds", () => {
  test("are two seconds of pictures and half a second of sound", () => {
    const ring = new Ring();
    for (let at = 0; at <= 10_000; at += 20) {
      ring.add(stored({ kind: "audio", track: AUDIO, number: at / 20 }, at));
      ring.add(stored({ number: at / 20, key: at === 0 }, at));
    }
    expect(ring.frames).toBe(RING_MS / 20 + 1 + AUDIO_MS / 20 + 1);
    expect(ring.get(AUDIO, 0, 500)).not.toBeNull();
    expect(ring.get(AUDIO, 0, 400)).toBeNull();
    ring.expire(60_000);
    expect(ring.frames).toBe(0);
    expect(ring.bytes).toBe(0);
  });

  test("hold in bytes too", () => {
    const ring = new Ring();
    for (let n = 0; n < 100; n += 1) ring.add(stored({ number: n, key: n === 0, size: 200_000 }, n));
    expect(ring.bytes).toBeLessThanOrEqual(RING_BYTES);
    expect(ring.replay(0, 100)).toBeNull();
  });
});

describe("key requests", () => {
  test("are merged, and the one that came in between goes at the end of the interval", () => {
    const keys = new KeyRequests();
    const sent: number[] = [];
    for (let now = 0; now <= 1000; now += 10) {
      if (now <= 300 && now % 50 === 0) keys.request(0);
      for (const layer of keys.due(now)) {
        keys.sent(layer, now);
        sent.push(now);
      }
    }
    expect(sent).toEqual([0, KEY_INTERVAL_MS, 2 * KEY_INTERVAL_MS]);
    expect(keys.asked).toBe(3);
  });

  test("are answered by a key frame that comes first, and wait while the parent cannot be reached", () => {
    const keys = new KeyRequests();
    keys.request(0);
    keys.request(1);
    keys.satisfied(0);
    expect(keys.due(0)).toEqual([1]);
    expect(keys.due(5000)).toEqual([1]);
    keys.sent(1, 5000);
    expect(keys.due(9000)).toEqual([]);
  });
});

describe("what comes after a number", () => {
  const of = (number: number, generation: number, key = false) => stored({ number, generation, key }, number);

  test("is nothing for a child that is ahead by a little under the same generation", () => {
    const ring = filled();
    expect(numbers(ring.after(0, 1, 20, 20))).toEqual([]);
    expect(ring.after(0, 1, 14 + 256, 20)).toBeNull();
  });

  test("is unknown for a number of an earlier count, whether it lies above or among those that are here", () => {
    const ring = new Ring();
    for (const f of [of(0, 2, true), of(1, 2), of(2, 2)]) ring.add(f);
    expect(ring.after(0, 1, 90, 2)).toBeNull();
    expect(ring.after(0, 1, 1, 2)).toBeNull();
    expect(numbers(ring.after(0, 2, 1, 2))).toEqual([2]);
  });

  test("goes on across a change of the key under which numbers go on", () => {
    const ring = new Ring();
    for (const f of [of(0, 1, true), of(1, 1), of(2, 2), of(3, 2)]) ring.add(f);
    expect(numbers(ring.after(0, 1, 1, 3))).toEqual([2, 3]);
    expect(ring.after(0, 3, 3, 3)).toBeNull();
  });
});

import { describe, expect, test } from "vitest";
import { decodeHeader, type Header } from "../frame/header.ts";
import {
  AUDIO_LIMIT_BYTES,
  CHOKED_BYTES,
  CHOKED_MS,
  HARD_MS,
  Lane,
  MAX_ITEMS,
  Outbox,
  type Port,
  SOFT_MS,
} from "./queue.ts";
import type { Stored } from "./ring.ts";
import { frame } from "./simulation.ts";

class Wire implements Port {
  readonly peer = 2;
  open = true;
  video = 0;
  audio = 0;
  accepts = true;
  readonly sent: Header[] = [];

  videoBuffered(): number {
    return this.video;
  }

  audioBuffered(): number {
    return this.audio;
  }

  sendVideo(sealed: Uint8Array): boolean {
    if (!this.accepts) return false;
    this.video += sealed.byteLength;
    this.note(sealed);
    return true;
  }

  sendAudio(sealed: Uint8Array): boolean {
    this.note(sealed);
    return true;
  }

  numbers(): number[] {
    return this.sent.map((h) => h.number);
  }

  private note(sealed: Uint8Array): void {
    const header = decodeHeader(sealed);
    if (header) this.sent.push(header);
  }
}

function stored(fields: Partial<Header> & { size?: number }, at = 0): Stored {
  const sealed = frame(fields);
  const header = decodeHeader(sealed);
  if (!header) throw new Error("not a frame");
  return { header, sealed, at };
}

function setup(layers = [0], rateBps = 1_000_000) {
  const wire = new Wire();
  const outbox = new Outbox(wire);
  const lane = new Lane(16, rateBps, 0);
  outbox.lanes.set(16, lane);
  for (const layer of layers) lane.start(layer, [], 0);
  return { wire, outbox, lane };
}

describe("the video channel", () => {
  test("is handed one frame at a time, the next when it is empty", () => {
    const { wire, outbox, lane } = setup();
    lane.offer(stored({ key: true, number: 0 }), 0);
    lane.offer(stored({ number: 1 }), 0);
    outbox.pump(0);
    outbox.pump(1);
    expect(wire.numbers()).toEqual([0]);
    wire.video = 0;
    outbox.pump(2);
    expect(wire.numbers()).toEqual([0, 1]);
  });

  test("full of video does not hold back sound", () => {
    const { wire, outbox, lane } = setup();
    lane.offer(stored({ key: true, number: 0, size: 50_000 }), 0);
    lane.offer(stored({ number: 1 }), 0);
    outbox.pump(0);
    const sound = stored({ kind: "audio", track: 0, number: 9 });
    expect(outbox.audio(16, sound.header, sound.sealed, 0)).toBe(true);
    expect(wire.numbers()).toEqual([0, 9]);
  });

  test("goes to the frame that waited longest among two streams", () => {
    const { wire, outbox, lane } = setup();
    const other = new Lane(17, 1_000_000, 0);
    outbox.lanes.set(17, other);
    other.start(0, [], 0);
    lane.offer(stored({ key: true, number: 1 }), 5);
    other.offer(stored({ key: true, number: 2, stream: 1 }), 3);
    lane.offer(stored({ number: 3 }), 6);
    for (let i = 0; i < 3; i += 1) {
      wire.video = 0;
      outbox.pump(10);
    }
    expect(wire.numbers()).toEqual([2, 1, 3]);
  });

  test("that refuses a frame costs its layer the frames up to the next key frame", () => {
    const { wire, outbox, lane } = setup();
    lane.offer(stored({ key: true, number: 0 }), 0);
    wire.accepts = false;
    outbox.pump(0);
    lane.offer(stored({ number: 1 }), 1);
    expect(lane.wantsKey(1, true)).toEqual([0]);
    wire.accepts = true;
    lane.offer(stored({ key: true, number: 2 }), 2);
    outbox.pump(2);
    expect(wire.numbers()).toEqual([2]);
  });
});

describe("sound that stands in its channel", () => {
  test("holds back pictures and requests for key frames until it has gone", () => {
    const { wire, outbox, lane } = setup();
    wire.audio = 2 * CHOKED_BYTES;
    for (let now = 10; now <= 100; now += 10) outbox.tick(now, 10);
    lane.offer(stored({ key: true, number: 0 }), 100);
    outbox.pump(100);
    expect(wire.numbers()).toEqual([]);
    expect(outbox.drained).toBe(false);
    wire.audio = 0;
    outbox.tick(110, 10);
    expect(wire.numbers()).toEqual([0]);
    wire.video = 0;
    expect(outbox.drained).toBe(true);
  });

  test("is no sign of anything while it is one packet, or gone at the next look", () => {
    const { wire, outbox, lane } = setup([1]);
    for (let now = 10; now <= 5000; now += 10) {
      wire.audio = now % 50 === 0 ? 0 : 2 * CHOKED_BYTES;
      outbox.tick(now, 10);
    }
    wire.audio = CHOKED_BYTES;
    for (let now = 5000; now <= 10_000; now += 10) outbox.tick(now, 10);
    expect(lane.ceiling).toBe(Number.POSITIVE_INFINITY);
    expect(lane.pressure).toBe(0);
  });

  test("makes a lane fall back in less than a second, and the second time sooner", () => {
    const { wire, outbox, lane } = setup([1]);
    const choke = (from: number): number => {
      wire.audio = 2 * CHOKED_BYTES;
      for (let now = from; now < from + 10_000; now += 10) {
        outbox.tick(now, 10);
        if (lane.ceiling === 0) return now - from;
      }
      return Number.NaN;
    };
    const first = choke(10);
    expect(first).toBeGreaterThanOrEqual(CHOKED_MS);
    expect(first).toBeLessThan(1000);
    wire.audio = 0;
    let now = 10 + first;
    for (; lane.ceiling === 0; now += 10) outbox.tick(now, 10);
    expect(choke(now)).toBeLessThan(CHOKED_MS);
  });
});

test("sound is dropped only when its own channel stands still", () => {
  const { wire, outbox } = setup();
  const sound = stored({ kind: "audio", track: 0, number: 1 });
  wire.audio = AUDIO_LIMIT_BYTES + 1;
  expect(outbox.audio(16, sound.header, sound.sealed, 0)).toBe(false);
  expect(outbox.audioDropped).toBe(1);
});

describe("a lane over its bounds", () => {
  test("drops droppable frames first, and what depends on them", () => {
    const { wire, outbox, lane } = setup();
    wire.video = 1;
    lane.offer(stored({ key: true, number: 0 }), 0);
    lane.offer(stored({ number: 1, farthest: 1, nearest: 1, droppable: true, temporal: 1 }), 1);
    lane.offer(stored({ number: 2, farthest: 2, nearest: 2 }), 2);
    lane.tick(SOFT_MS + 5, 10);
    // Three temporal layers: this one names a frame that was just dropped.
    lane.offer(stored({ number: 3, farthest: 2, nearest: 1, droppable: true, temporal: 2 }), SOFT_MS + 6);
    for (let i = 0; i < 4; i += 1) {
      wire.video = 0;
      outbox.pump(SOFT_MS + 7);
    }
    expect(wire.numbers()).toEqual([0, 2]);
    expect(lane.framesDropped).toBe(2);
    expect(lane.wantsKey(SOFT_MS + 8, true)).toEqual([]);
  });

  test("gives the layer up to the next key frame, and asks for it only when there is room", () => {
    const { wire, outbox, lane } = setup();
    wire.video = 1;
    for (const n of [0, 1, 2]) lane.offer(stored({ number: n, key: n === 0 }), n);
    lane.tick(HARD_MS + 5, 10);
    lane.offer(stored({ number: 3 }), HARD_MS + 6);
    expect(lane.wantsKey(HARD_MS + 6, false)).toEqual([]);
    wire.video = 0;
    outbox.pump(HARD_MS + 7);
    expect(wire.numbers()).toEqual([]);
    expect(lane.framesDropped).toBe(4);
    const asked = [7, 100, 260, 500, 800, 1500].filter((t) => lane.wantsKey(HARD_MS + t, true).length > 0);
    expect(asked).toEqual([7, 260, 800]);
    lane.offer(stored({ number: 4, key: true }), 3000);
    lane.offer(stored({ number: 5 }), 3001);
    wire.video = 0;
    outbox.pump(3002);
    wire.video = 0;
    outbox.pump(3003);
    expect(wire.numbers()).toEqual([4, 5]);
  });

  test("keeps a fresh key frame that already waits, instead of asking for another", () => {
    const { wire, outbox, lane } = setup();
    wire.video = 1;
    lane.offer(stored({ number: 0, key: true }), 0);
    lane.offer(stored({ number: 1 }), 1);
    lane.offer(stored({ number: 2, key: true }), HARD_MS - 10);
    lane.offer(stored({ number: 3 }), HARD_MS - 9);
    lane.tick(HARD_MS + 5, 10);
    wire.video = 0;
    outbox.pump(HARD_MS + 6);
    expect(wire.numbers()).toEqual([2]);
    expect(lane.wantsKey(HARD_MS + 6, true)).toEqual([]);
  });

  test("gives up the highest layer before a lower one", () => {
    const { wire, lane } = setup([0, 1]);
    wire.video = 1;
    for (let i = 0; i < 40; i += 1) {
      lane.offer(stored({ number: i, key: i === 0, spatial: 0, size: 500 }), i);
      lane.offer(stored({ number: i, key: i === 0, spatial: 1, size: 20_000 }), i);
    }
    expect(lane.layers.get(1)?.state).toBe("need");
    expect(lane.layers.get(0)?.state).toBe("on");
  });

  test("falls back after two give-ups in short time, and tries again after a calm while", () => {
    const { wire, lane } = setup([1]);
    wire.video = 1;
    const giveUp = (at: number) => {
      lane.offer(stored({ number: at, key: true, spatial: 1 }), at);
      lane.tick(at + HARD_MS + 1, 10);
    };
    giveUp(0);
    expect(lane.ceiling).toBe(Number.POSITIVE_INFINITY);
    giveUp(2000);
    expect(lane.ceiling).toBe(0);
    lane.stop(1);
    lane.start(0, [], 3000);
    const returned: number[] = [];
    for (let now = 3000; now < 20_000 && returned.length === 0; now += 10) {
      lane.tick(now, 10);
      if (lane.ceiling === Number.POSITIVE_INFINITY) returned.push(now);
    }
    expect(returned[0]).toBeGreaterThan(7000);
    expect(returned[0]).toBeLessThan(9000);
  });
});

describe("pacing", () => {
  test("spreads a burst of live frames, charges a key frame once, and lets a replay through", () => {
    const { wire, outbox, lane } = setup([0], 800_000);
    const pump = (now: number) => {
      for (let before = -1; before !== wire.sent.length; ) {
        before = wire.sent.length;
        wire.video = 0;
        outbox.pump(now);
      }
    };
    lane.offer(stored({ number: 0, key: true, size: 100_000 }), 0);
    for (let n = 1; n <= 20; n += 1) lane.offer(stored({ number: n, size: 10_000 }), 0);
    pump(0);
    const first = wire.sent.length;
    expect(first).toBeLessThan(4);
    pump(100);
    // 100 ms at twice 800 kbit/s are 20 kB.
    expect(wire.sent.length - first).toBeGreaterThanOrEqual(1);
    expect(wire.sent.length - first).toBeLessThanOrEqual(3);

    const replay = setup([], 100_000);
    replay.lane.start(
      0,
      Array.from({ length: 20 }, (_, n) => stored({ number: n, key: n === 0, size: 10_000 })),
      0,
    );
    for (let i = 0; i < 20; i += 1) {
      replay.wire.video = 0;
      replay.outbox.pump(0);
    }
    expect(replay.wire.sent).toHaveLength(20);
  });

  test("repairs go first, once each, and only within their budget", () => {
    const { wire, outbox, lane } = setup([0], 100_000);
    wire.video = 1;
    lane.offer(stored({ number: 5, key: true }), 0);
    expect(lane.resend(stored({ number: 3, size: 5000 }), 0)).toBe(true);
    expect(lane.resend(stored({ number: 3, size: 5000 }), 0)).toBe(true);
    expect(lane.resend(stored({ number: 4, size: 5000 }), 0)).toBe(true);
    expect(lane.resend(stored({ number: 2, size: 5000 }), 0)).toBe(false);
    for (let i = 0; i < 3; i += 1) {
      wire.video = 0;
      outbox.pump(0);
    }
    expect(wire.numbers()).toEqual([3, 4, 5]);
    expect(lane.framesResent).toBe(2);
  });
});

describe("what waits", () => {
  const SMALL = stored({ key: true, size: 40 }).sealed.byteLength;

  test("is bounded in number, however small the frames are", () => {
    const { wire, lane } = setup([0, 1]);
    wire.video = 1;
    for (let n = 0; n < 10 * MAX_ITEMS; n += 1) {
      lane.offer(stored({ number: n, key: true, spatial: n % 2, size: 40 }), 0);
    }
    lane.bound(0);
    expect(lane.bytes / SMALL).toBeLessThanOrEqual(MAX_ITEMS);
  });

  test("to begin a layer with is bounded too: beyond that it begins at the next key frame", () => {
    const { lane } = setup([]);
    const frames = Array.from({ length: MAX_ITEMS + 1 }, (_, n) => stored({ number: n, key: n === 0, size: 40 }));
    lane.start(0, frames, 0);
    expect(lane.bytes).toBe(0);
    expect(lane.wantsKey(0, true)).toEqual([0]);
    lane.start(0, frames.slice(1), 0);
    expect(lane.bytes / SMALL).toBe(MAX_ITEMS);
  });

  test("goes in three turns: repairs, what a layer begins with, what comes; each by age", () => {
    const { outbox, lane, wire } = setup([0]);
    wire.video = 1;
    lane.offer(stored({ number: 8, key: true }), 1);
    lane.offer(stored({ number: 9, farthest: 1, nearest: 1 }), 2);
    lane.start(1, [stored({ number: 3, spatial: 1, key: true }), stored({ number: 4, spatial: 1 })], 3);
    lane.resend(stored({ number: 6 }), 4);
    lane.resend(stored({ number: 5 }), 5);
    for (let n = 0; n < 6; n += 1) {
      wire.video = 0;
      outbox.pump(6);
    }
    expect(wire.numbers()).toEqual([6, 5, 3, 4, 8, 9]);
  });
});

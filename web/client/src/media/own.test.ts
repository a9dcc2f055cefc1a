import { beforeEach, expect, test, vi } from "vitest";
import { decodeHeader, type Header } from "../frame/header.ts";
import { Sealer } from "../frame/seal.ts";
import { OwnStreams, type RtpFrame } from "./own.ts";
import { splitPackets } from "./redundancy.ts";
import type { PictureMetadata } from "./rtp-frames.ts";

const RELAY = 65_535;
let nowMs = 0;
let published: { header: Header; carriedTo: number | null }[] = [];
let sealed: { payload: Uint8Array }[] = [];
let asked = 0;
let own: OwnStreams;
let sealer: Sealer;
const faults = vi.fn();

beforeEach(() => {
  nowMs = 0;
  published = [];
  sealed = [];
  asked = 0;
  faults.mockClear();
  sealer = new Sealer(1, { generation: 7 });
  const seal = sealer.seal.bind(sealer);
  sealer.seal = (fields, payload) => {
    sealed.push({ payload });
    return seal(fields, payload);
  };
  own = new OwnStreams({
    sealer,
    publish: (_, bytes, carriedTo) => published.push({ header: decodeHeader(bytes) as Header, carriedTo }),
    rtpKeyFrame: () => {
      asked += 1;
    },
    post: () => {},
    nowMs: () => nowMs,
    fault: faults,
  });
});

function frame(type: string | undefined, meta: PictureMetadata, bytes = [1, 2, 3]): RtpFrame {
  return { ...(type ? { type } : {}), data: new Uint8Array(bytes).buffer, getMetadata: () => meta };
}
const lower = (frameId: number, dependencies: number[]): PictureMetadata => ({
  synchronizationSource: 5,
  rtpTimestamp: frameId * 3000,
  width: 320,
  height: 180,
  frameId,
  dependencies,
  temporalIndex: 0,
});
const picture = (type: "key" | "delta", meta: PictureMetadata) =>
  own.encoded(0, "video", frame(type, meta), RELAY).then((bytes) => bytes && decodeHeader(bytes));

test("before it is the RTP sender's turn nothing of it is sealed", async () => {
  expect(await picture("key", lower(1, []))).toBeNull();
  expect(await own.encoded(0, "audio", frame(undefined, { rtpTimestamp: 0 }), RELAY)).toBeNull();
  expect([sealed.length, published.length, asked]).toEqual([0, 0, 0]);
});

test("its pictures are published as the bytes that go into RTP, and their numbers go on through every turn", async () => {
  const numbers: (number | undefined)[] = [];
  for (let turn = 0; turn < 3; turn++) {
    own.rtpVideo(0, [320, 640]);
    const id = 10 * turn;
    numbers.push((await picture("key", lower(id + 1, [])))?.number);
    numbers.push((await picture("delta", lower(id + 2, [id + 1])))?.number);
    own.rtpVideo(0, null);
    expect(await picture("delta", lower(id + 3, [id + 2]))).toBeNull();
  }
  expect(numbers).toEqual([0, 1, 2, 3, 4, 5]);
  expect(published.map(({ header, carriedTo }) => [header.number, header.generation, carriedTo])).toEqual(
    numbers.map((number) => [number, 7, RELAY]),
  );
  expect(published.map(({ header }) => [header.key, header.farthest])).toEqual(
    [0, 1, 2].flatMap(() => [
      [true, 0],
      [false, 1],
    ]),
  );
  expect(faults).not.toHaveBeenCalled();
});

test("a sender that is in the middle of its pictures is asked for a key frame, twice a second at most", async () => {
  own.rtpVideo(0, [320]);
  for (let id = 1; id <= 31; id++) {
    nowMs = id * 33;
    expect(await picture("delta", lower(id, [id - 1]))).toBeNull();
  }
  expect(asked).toBe(2);
  expect(sealed.length).toBe(0);
});

test("key frames are asked of whoever encodes", async () => {
  own.rtpVideo(0, [320]);
  own.keyFrame(0, 0);
  expect(asked).toBe(0);
  await picture("key", lower(1, []));
  own.keyFrame(0, 0);
  own.keyFrames();
  expect(asked).toBe(2);
  own.rtpVideo(0, null);
  own.keyFrame(0, 0);
  expect(asked).toBe(2);
});

test("its packets carry the one before, and muted nothing but marks", async () => {
  own.rtpAudio(0, true);
  const packet = async (n: number): Promise<void> => {
    nowMs += 20;
    await own.encoded(0, "audio", frame(undefined, { rtpTimestamp: n * 960 }, [n]), RELAY);
  };
  for (const n of [1, 2]) await packet(n);
  own.mute(0, true);
  for (let n = 3; n < 13; n++) await packet(n);
  const parts = sealed.map(({ payload }) => splitPackets(payload));
  expect(parts.map((part) => [[...(part?.packet ?? [])], part?.copies.map((copy) => [...copy])])).toEqual([
    [[1], []],
    [[2], [[1]]],
    [[], []],
  ]);
  expect(published.map(({ header }) => [header.kind, header.number, header.track])).toEqual(
    [0, 1, 2].map((number) => ["audio", number, 0]),
  );
  expect(own.stats()[0]?.audioPackets).toBe(2);
});

test("in a pause of the speaker its packets are thrown away but for marks, and come again with the first word", async () => {
  const port = { onmessage: null as ((event: { data: object }) => void) | null, close: () => {} };
  own.audioSource(0, port as unknown as MessagePort, 32_000);
  own.rtpAudio(0, true);
  let n = 0;
  const hear = async (blocks: number, amplitude: number): Promise<number> => {
    const before = published.length;
    for (let block = 0; block < blocks; block++) {
      nowMs += 20;
      n += 1;
      const pcm = new Float32Array(960).fill(amplitude);
      await own.encoded(0, "audio", frame(undefined, { rtpTimestamp: n * 960 }, [n]), RELAY);
      port.onmessage?.({ data: { frame: n * 960, pcm } });
    }
    return published.length - before;
  };
  expect(await hear(10, 0.1)).toBe(10);
  // A second of silence is not yet a pause; then 5 marks a second.
  expect(await hear(50, 0)).toBe(50);
  expect(await hear(100, 0)).toBe(10);
  await hear(1, 0.1);
  expect(await hear(10, 0.1)).toBe(10);
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { VideoSender } from "./video-encoder.ts";

/** Open pictures: made and not closed. */
let open = 0;
/** Whether each encoded picture was to be a key frame, by the width of its layer. */
let encoded = new Map<number, boolean[]>();

class Picture {
  readonly timestamp: number;
  readonly displayWidth: number;
  readonly displayHeight: number;
  constructor(of: { displayWidth: number; displayHeight: number }, { timestamp }: { timestamp: number }) {
    this.timestamp = timestamp;
    this.displayWidth = of.displayWidth;
    this.displayHeight = of.displayHeight;
    open += 1;
  }
  close(): void {
    open -= 1;
  }
}

class Encoder {
  static isConfigSupported = async () => ({ supported: false });
  state = "unconfigured";
  encodeQueueSize = 0;
  #width = 0;
  readonly #output: (chunk: object) => void;
  constructor({ output }: { output: (chunk: object) => void }) {
    this.#output = output;
  }
  configure({ width }: { width: number }): void {
    this.state = "configured";
    this.#width = width;
  }
  encode({ timestamp }: Picture, { keyFrame }: { keyFrame: boolean }): void {
    this.#output({ type: keyFrame ? "key" : "delta", timestamp, byteLength: 0, copyTo: () => {} });
    encoded.set(this.#width, [...(encoded.get(this.#width) ?? []), keyFrame]);
  }
  close(): void {
    this.state = "closed";
  }
}

beforeEach(() => {
  open = 0;
  encoded = new Map();
  vi.stubGlobal("VideoFrame", Picture);
  vi.stubGlobal("VideoEncoder", Encoder);
});
afterEach(() => void vi.unstubAllGlobals());

const LAYERS = [
  { width: 320, height: 180, bps: 150_000, fps: 30 },
  { width: 640, height: 360, bps: 600_000, fps: 30 },
];

/** A sender that is ready, how to give it a picture, each 40 ms, and the numbers of layers that it announced. */
async function ready() {
  let ms = 0;
  const announced: number[] = [];
  const encoding = (layers: object[]): void => void announced.push(layers.length);
  const sender = new VideoSender(LAYERS, { picture: () => {}, encoding, failed: () => {} }, () => ms);
  const push = (displayWidth = 640, displayHeight = 360) => {
    ms += 40;
    sender.push(new Picture({ displayWidth, displayHeight }, { timestamp: ms * 1000 }) as unknown as VideoFrame);
  };
  push();
  await new Promise((resolve) => setTimeout(resolve, 0));
  return { sender, push, announced };
}

test("every layer begins with a key frame, and another rate brings none", async () => {
  const { sender, push } = await ready();
  push();
  push();
  sender.uplink(0.8);
  push();
  expect(encoded.get(640)).toEqual([true, false, false]);
  expect(encoded.get(320)).toEqual([true, false, false]);
});

test("a layer that comes back begins with a key frame", async () => {
  const { sender, push } = await ready();
  push();
  sender.uplink(0.2);
  push();
  sender.uplink(1);
  for (let second = 0; second < 10; second++) {
    for (let n = 0; n < 25; n++) push();
    sender.tick();
  }
  push();
  const top = encoded.get(640) ?? [];
  expect(top[1]).toBe(true);
  expect(top.filter(Boolean)).toHaveLength(2);
});

test("every picture is closed: before the encoders are ready, encoded, and after the end", async () => {
  const { sender, push } = await ready();
  push();
  sender.close();
  push();
  expect(open).toBe(0);
});

test("a source that is no larger than the lowest layer is encoded once, until it grows", async () => {
  const { push, announced } = await ready();
  push(160, 120);
  push(160, 120);
  expect(encoded).toEqual(new Map([[160, [true, false]]]));
  push(640, 360);
  expect(encoded.get(640)).toEqual([true]);
  expect(announced).toEqual([1, 2]);
});

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AudioSender } from "./audio-encoder.ts";
import { splitPackets } from "./redundancy.ts";

class Encoder {
  state = "unconfigured";
  encodeQueueSize = 0;
  readonly #output: (chunk: object) => void;
  constructor({ output }: { output: (chunk: object) => void }) {
    this.#output = output;
  }
  configure(): void {
    this.state = "configured";
  }
  encode(): void {
    this.#output({ byteLength: 3, copyTo: (to: Uint8Array) => to.fill(7) });
  }
  close(): void {
    this.state = "closed";
  }
}

beforeEach(() => {
  vi.stubGlobal("AudioEncoder", Encoder);
  vi.stubGlobal(
    "AudioData",
    class {
      close(): void {}
    },
  );
});
afterEach(() => void vi.unstubAllGlobals());

/** A sender, how to let it hear blocks of 20 ms of one amplitude, and what it sent: packet and copies in bytes. */
function microphone() {
  let ms = 0;
  let frame = 0;
  const sent: { bytes: number; copies: number; level: number }[] = [];
  const port = { onmessage: null as ((event: { data: object }) => void) | null, close: () => {} };
  const out = {
    packet: ({ level }: { level: number }, payload: Uint8Array) => {
      const { packet, copies } = splitPackets(payload) ?? { packet: new Uint8Array(99), copies: [] };
      sent.push({ bytes: packet.length, copies: copies.length, level });
    },
    failed: () => {},
  };
  const sender = new AudioSender(port as unknown as MessagePort, 32_000, false, out, () => ms);
  const hear = (blocks: number, amplitude: number): typeof sent => {
    for (let n = 0; n < blocks; n++) {
      ms += 20;
      port.onmessage?.({ data: { frame, pcm: new Float32Array(960).fill(amplitude) } });
      frame += 960;
    }
    return sent.splice(0);
  };
  return { sender, hear };
}

test("somebody who is not heard for a second sends a marker at once and then each 200 ms", () => {
  const { hear } = microphone();
  expect(hear(5, 0.1)).toHaveLength(5);
  const quiet = hear(49, 0.0001);
  expect(quiet).toHaveLength(49);
  expect(quiet.every(({ bytes, level }) => bytes === 3 && level === 80)).toBe(true);
  expect(hear(1, 0.0001)).toEqual([{ bytes: 0, copies: 0, level: 80 }]);
  expect(hear(100, 0.0001)).toEqual(Array.from({ length: 10 }, () => ({ bytes: 0, copies: 0, level: 80 })));
});

test("the first block that is heard after a pause is sent, without a copy of what was before the pause", () => {
  const { hear } = microphone();
  hear(5, 0.1);
  hear(200, 0);
  expect(hear(2, 0.1)).toEqual([
    { bytes: 3, copies: 0, level: 20 },
    { bytes: 3, copies: 1, level: 20 },
  ]);
});

test("gaps between words are encoded like words", () => {
  const { hear } = microphone();
  for (let word = 0; word < 10; word++) {
    expect(hear(10, 0.05)).toHaveLength(10);
    expect(hear(45, 0).every(({ bytes }) => bytes === 3)).toBe(true);
  }
});

test("a muted microphone tells nothing of the room, not even how loud it is", () => {
  const { sender, hear } = microphone();
  hear(5, 0.1);
  sender.muted = true;
  const muted = hear(100, 0.1);
  expect(muted).toEqual(Array.from({ length: 10 }, () => ({ bytes: 0, copies: 0, level: 127 })));
  sender.muted = false;
  expect(hear(1, 0.1)).toEqual([{ bytes: 3, copies: 0, level: 20 }]);
});

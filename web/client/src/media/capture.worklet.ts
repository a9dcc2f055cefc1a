/**
 * The microphone's end of the audio path: cuts the track into blocks of 20 ms, one channel, for the media worker.
 * Runs on the audio thread: copies, and nothing else.
 */
import { CAPTURE_PROCESSOR, type CapturedBlock, type ToCapture } from "./worklets.ts";

declare const currentFrame: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

const BLOCK = 960;

class Capture extends AudioWorkletProcessor {
  #worker: MessagePort | null = null;
  #block = new Float32Array(BLOCK);
  #filled = 0;
  #closed = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<ToCapture>) => {
      if (data.type === "port") this.#worker = data.port;
      else this.#closed = true;
    };
  }

  /** The output is left silent; it exists so that the graph pulls this node. */
  process(inputs: Float32Array[][]): boolean {
    const input = inputs[0] ?? [];
    const first = input[0];
    if (this.#worker === null || first === undefined) return !this.#closed;
    for (let i = 0; i < first.length; i++) {
      let sum = 0;
      for (const channel of input) sum += channel[i] as number;
      this.#block[this.#filled++] = sum / input.length;
      if (this.#filled < BLOCK) continue;
      const block: CapturedBlock = { frame: currentFrame + i + 1 - BLOCK, pcm: this.#block };
      this.#worker.postMessage(block, [this.#block.buffer]);
      this.#block = new Float32Array(BLOCK);
      this.#filled = 0;
    }
    return !this.#closed;
  }
}

registerProcessor(CAPTURE_PROCESSOR, Capture);

/**
 * The loudspeaker's end of the audio path: one jitter buffer per remote microphone, mixed. Everything it decides is in
 * `jitter.ts`; here are the sound card's clock and the messages.
 */
import { JitterBuffer, RATE } from "./jitter.ts";
import { PLAYOUT_PROCESSOR, type PlayerReport, type PlayoutReport, type ToPlayer, type ToPlayout } from "./worklets.ts";

declare const currentFrame: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

const REPORT_EVERY = RATE / 10;

interface Player {
  buffer: JitterBuffer;
  power: number;
  samples: number;
}

class Playout extends AudioWorkletProcessor {
  readonly #players = new Map<number, Player>();
  #worker: MessagePort | null = null;
  #latencyMs = 0;
  #reportAt = 0;
  #closed = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<ToPlayout>) => {
      if (data.type === "latency") this.#latencyMs = data.latencyMs;
      else if (data.type === "close") this.#closed = true;
      else {
        this.#worker = data.port;
        data.port.onmessage = (event: MessageEvent<ToPlayer>) => this.#take(event.data);
      }
    };
  }

  process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const [first, ...others] = outputs[0] ?? [];
    if (first === undefined) return !this.#closed;
    for (const player of this.#players.values()) {
      player.power += player.buffer.mix(first, currentFrame);
      player.samples += first.length;
    }
    for (const channel of others) channel.set(first);
    if (this.#worker !== null && currentFrame >= this.#reportAt) {
      this.#reportAt = currentFrame + REPORT_EVERY;
      this.#report(currentFrame + first.length);
    }
    return !this.#closed;
  }

  #take(message: ToPlayer): void {
    if (message.type === "remove") {
      this.#players.delete(message.stream);
      return;
    }
    let player = this.#players.get(message.stream);
    if (player === undefined) {
      player = { buffer: new JitterBuffer(), power: 0, samples: 0 };
      this.#players.set(message.stream, player);
    }
    const { buffer } = player;
    if (message.type === "pcm") buffer.push(message.number, message.captureUs, message.pcm, currentFrame);
    else if (message.type === "restart") buffer.restart();
    else if (message.type === "pause") buffer.pause(message.number);
    else buffer.floor = (message.ms * RATE) / 1000;
  }

  #report(now: number): void {
    const streams: PlayerReport[] = [];
    for (const [stream, player] of this.#players) {
      const { buffer } = player;
      const delay = buffer.delay(now);
      streams.push({
        stream,
        captureUs: buffer.playingUs,
        targetMs: (buffer.target * 1000) / RATE,
        delayMs: delay === null ? null : (delay * 1000) / RATE,
        concealed: buffer.counts.concealed + Math.floor(buffer.counts.starved / 2),
        stretched: buffer.counts.stretched,
        dropped: buffer.counts.dropped,
        late: buffer.counts.late,
        power: player.power,
        samples: player.samples,
      });
      player.power = 0;
      player.samples = 0;
    }
    const report: PlayoutReport = { latencyMs: this.#latencyMs, streams };
    this.#worker?.postMessage(report);
  }
}

registerProcessor(PLAYOUT_PROCESSOR, Playout);

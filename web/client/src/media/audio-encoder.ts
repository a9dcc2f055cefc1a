/**
 * The microphone's path through the media worker: blocks of 20 ms in, Opus packets out, each with a copy of the one
 * before. While muted nothing of the room is encoded, and neither is a room in which nothing is to be heard: a silence
 * marker each 200 ms says that the sender is there. So among ten people those who listen cost almost nothing.
 */
import { ClockMap } from "./clock.ts";
import { rmsLevel, SILENCE } from "./level.ts";
import { joinPackets } from "./redundancy.ts";
import { Restarts } from "./restarts.ts";
import type { CapturedBlock } from "./worklets.ts";

const RATE = 48_000;
const BLOCK_US = 20_000;
/** Blocks an encoder may have before it; Opus takes 0.1 ms, so more means a worker that stood still. */
const MOST_QUEUED = 10;
const MARK_EVERY = 10;
/** As RFC 6464: a quieter block is none that anybody hears. Microphones with noise suppression rest at 80 and beyond. */
const INAUDIBLE = 70;
/** So many of them in a row are a pause of the speaker, a second: breaths and gaps between words stay as they are. */
const PAUSE_AFTER = 50;

export interface AudioOut {
  packet(packet: { captureUs: number; level: number }, payload: Uint8Array<ArrayBuffer>): void;
  /** The browser refuses to encode; nothing more comes. */
  failed(message: string): void;
}

export class AudioSender {
  readonly #out: AudioOut;
  readonly #nowMs: () => number;
  readonly #port: MessagePort;
  readonly #bps: number;
  #clock = new ClockMap();
  #encoder: AudioEncoder | null = null;
  readonly #restarts = new Restarts();
  /** Blocks in the encoder, oldest first: every block gives one packet, whatever time stamps it comes with. */
  readonly #inside: { captureUs: number; level: number }[] = [];
  #previous: { packet: Uint8Array; captureUs: number } | null = null;
  #muted: boolean;
  #idle = false;
  #sinceMark = 0;
  /** Inaudible blocks in a row. */
  #inaudible = 0;
  #packets = 0;
  #level = SILENCE;
  #stamp = 0;

  constructor(port: MessagePort, bps: number, muted: boolean, out: AudioOut, nowMs: () => number) {
    this.#port = port;
    this.#bps = bps;
    this.#muted = muted;
    this.#out = out;
    this.#nowMs = nowMs;
    port.onmessage = ({ data }: MessageEvent<CapturedBlock>) => this.#block(data);
  }

  set muted(muted: boolean) {
    this.#muted = muted;
    this.#sinceMark = MARK_EVERY;
    this.#previous = null;
  }

  /** While the packets are made elsewhere only the level is measured here. */
  set idle(idle: boolean) {
    if (idle === this.#idle) return;
    this.#idle = idle;
    this.#sinceMark = MARK_EVERY;
    if (this.#encoder?.state === "configured") this.#encoder.close();
    this.#encoder = null;
  }

  /** Of the last block, as RFC 6464; silence while muted. A pause is not silence. */
  get level(): number {
    return this.#level;
  }

  get packets(): number {
    return this.#packets;
  }

  close(): void {
    this.#port.onmessage = null;
    this.#port.close();
    if (this.#encoder?.state === "configured") this.#encoder.close();
    this.#encoder = null;
  }

  #block({ frame, pcm }: CapturedBlock): void {
    // The block came when its last sample had: that is what the fastest delivery tells of.
    const endUs = this.#clock.map(((frame + pcm.length) * 1e6) / RATE, this.#nowMs() * 1000);
    const captureUs = Math.max(endUs - BLOCK_US, 0);
    this.#level = this.#muted ? SILENCE : rmsLevel(pcm);
    this.#inaudible = this.#muted || this.#level < INAUDIBLE ? 0 : this.#inaudible + 1;
    if (this.silent) {
      // At once where it begins, so that nobody takes it for a loss.
      if (this.#inaudible === PAUSE_AFTER) this.#sinceMark = MARK_EVERY;
      this.#sinceMark += 1;
      if (this.#idle || this.#sinceMark < MARK_EVERY) return;
      this.#sinceMark = 0;
      this.#out.packet({ captureUs, level: this.#level }, joinPackets(new Uint8Array(0), []));
      return;
    }
    if (this.#idle) return;
    this.#encoder ??= this.#make();
    if (this.#encoder.state !== "configured" || this.#encoder.encodeQueueSize > MOST_QUEUED) return;
    const data = new AudioData({
      format: "f32-planar",
      sampleRate: RATE,
      numberOfFrames: pcm.length,
      numberOfChannels: 1,
      timestamp: this.#stamp,
      data: pcm,
    });
    this.#stamp += BLOCK_US;
    this.#inside.push({ captureUs, level: this.#level });
    this.#encoder.encode(data);
    data.close();
  }

  /** Muted, or a pause: marks are sent, and nothing is encoded. */
  get silent(): boolean {
    return this.#muted || this.#inaudible >= PAUSE_AFTER;
  }

  #make(): AudioEncoder {
    this.#inside.length = 0;
    this.#previous = null;
    const encoder = new AudioEncoder({
      output: (chunk) => this.#output(chunk),
      error: (error) => {
        this.#encoder = null;
        if (this.#restarts.allow(this.#nowMs())) return;
        this.close();
        this.#out.failed(error.message);
      },
    });
    encoder.configure({
      codec: "opus",
      sampleRate: RATE,
      numberOfChannels: 1,
      bitrate: this.#bps,
      opus: { frameDuration: BLOCK_US },
    });
    return encoder;
  }

  #output(chunk: EncodedAudioChunk): void {
    const block = this.#inside.shift();
    if (block === undefined || this.silent) return;
    const packet = new Uint8Array(chunk.byteLength);
    chunk.copyTo(packet);
    // A copy must be the block just before: after a hole its place in time would be wrong.
    const previous = this.#previous;
    const adjoining = previous !== null && block.captureUs - previous.captureUs < 1.5 * BLOCK_US;
    this.#previous = { packet, captureUs: block.captureUs };
    this.#packets += 1;
    this.#out.packet(block, joinPackets(packet, adjoining ? [previous.packet] : []));
  }
}

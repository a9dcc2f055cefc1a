/**
 * The worker's part of hearing somebody: opened audio frames in, decoded packets out to the playout worklet, each once
 * and in order. A frame that was lost comes back from the copy in the next one; order, timing and concealment are the
 * worklet's (`jitter.ts`).
 */
import type { Header } from "../frame/header.ts";
import { SILENCE } from "./level.ts";
import { PacketOrder, splitPackets } from "./redundancy.ts";
import type { PlayerReport, ToPlayer } from "./worklets.ts";

const RATE = 48_000;
const PACKET = 960;
/** Packets that a decoder may have before it, a second; Opus takes 0.1 ms each, so more means that it stands still. */
const MOST_INSIDE = 50;
/** A speaker of whom nothing came for this long is silent. */
const QUIET_MS = 500;
/** The sound must wait for the picture when that is later by more than this, ms. */
const LAG_MS = 50;
const MOST_FLOOR_MS = 300;

export class AudioPlayer {
  readonly #stream: number;
  readonly #send: (message: ToPlayer, transfer: Transferable[]) => void;
  #decoder: AudioDecoder | null = null;
  /** Packets in the decoder, oldest first: outputs are matched to inputs by order, because Chromium renumbers them. */
  #inside: { number: number; captureUs: number }[] = [];
  readonly #order = new PacketOrder();
  #level = SILENCE;
  #heardMs = Number.NEGATIVE_INFINITY;
  #floorMs = 0;
  #report: PlayerReport | null = null;
  /** Over about a second. */
  #rms = 0;
  constructor(stream: number, send: (message: ToPlayer, transfer: Transferable[]) => void) {
    this.#stream = stream;
    this.#send = send;
  }

  get report(): PlayerReport | null {
    return this.#report;
  }

  get rms(): number {
    return this.#rms;
  }

  level(nowMs: number): number {
    return nowMs - this.#heardMs < QUIET_MS ? this.#level : SILENCE;
  }

  push(header: Header, payload: Uint8Array<ArrayBuffer>, nowMs: number): void {
    const packets = splitPackets(payload);
    // Sealed by a member all the same: nothing to play.
    if (packets === null) return;
    const { restarted, due } = this.#order.take(header, packets);
    if (restarted) this.#send({ type: "restart", stream: this.#stream }, []);
    if (due.length === 0) return;
    this.#heardMs = nowMs;
    this.#level = header.level;
    for (const { number, captureUs, packet } of due) {
      if (packet.length > 0) this.#decode(number, captureUs, packet);
      else this.#send({ type: "pause", stream: this.#stream, number }, []);
    }
  }

  /** What the worklet says of this player. */
  heard(report: PlayerReport): void {
    const before = this.#report;
    this.#report = report;
    if (report.samples === 0) return;
    const meanSquare = report.power / report.samples;
    this.#rms = before === null ? Math.sqrt(meanSquare) : Math.sqrt(this.#rms ** 2 * 0.9 + meanSquare * 0.1);
  }

  /** Pictures are ready this much after their sound (negative: before). About five times a second. */
  follow(pictureLagMs: number): void {
    const report = this.#report;
    if (report === null) return;
    let floor = this.#floorMs;
    if (pictureLagMs > LAG_MS) floor = Math.min(MOST_FLOOR_MS, Math.max(floor, report.targetMs) + 10);
    else if (pictureLagMs < LAG_MS / 2) floor = Math.max(0, floor - 5);
    if (floor === this.#floorMs) return;
    this.#floorMs = floor;
    this.#send({ type: "floor", stream: this.#stream, ms: floor }, []);
  }

  close(): void {
    if (this.#decoder?.state === "configured") this.#decoder.close();
    this.#decoder = null;
    this.#send({ type: "remove", stream: this.#stream }, []);
  }

  #decode(number: number, captureUs: number, packet: Uint8Array): void {
    if (this.#decoder?.state !== "configured" || this.#inside.length >= MOST_INSIDE) this.#decoder = this.#make();
    this.#inside.push({ number, captureUs });
    try {
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: captureUs, data: packet as BufferSource }));
    } catch {
      // Sealed by a member, and no packet all the same: the next one begins with another decoder.
      if (this.#decoder.state === "configured") this.#decoder.close();
      this.#decoder = null;
    }
  }

  #make(): AudioDecoder {
    if (this.#decoder?.state === "configured") this.#decoder.close();
    this.#inside = [];
    const decoder = new AudioDecoder({
      output: (data) => this.#decoded(data),
      error: () => {
        if (this.#decoder === decoder) this.#decoder = null;
      },
    });
    decoder.configure({ codec: "opus", sampleRate: RATE, numberOfChannels: 1 });
    return decoder;
  }

  #decoded(data: AudioData): void {
    const packet = this.#inside.shift();
    const frames = Math.min(data.numberOfFrames, PACKET);
    const pcm = new Float32Array(PACKET);
    try {
      // Firefox's first output lacks the samples before the pre-skip: what is there ends where the packet ends.
      if (packet !== undefined && frames > 0) {
        data.copyTo(pcm.subarray(PACKET - frames), { planeIndex: 0, format: "f32-planar", frameCount: frames });
      }
    } finally {
      data.close();
    }
    if (packet === undefined) return;
    this.#send({ type: "pcm", stream: this.#stream, ...packet, pcm }, [pcm.buffer]);
  }
}

/**
 * What frames looked like when they came and when they left, for tests that compare bytes between hops. Off by
 * default; when on, each frame costs two passes over its bytes.
 */
import type { Header } from "../frame/header.ts";
import type { StreamKey } from "./types.ts";

/** Records kept per stream. */
export const TRACE_FRAMES = 1500;

export interface TraceRecord {
  stream: StreamKey;
  track: number;
  layer: number;
  generation: number;
  number: number;
  key: boolean;
  droppable: boolean;
  /** When it came or was made, ms on the worker's clock. */
  atMs: number;
  bytes: number;
  /** FNV-1a, 2 x 32 bits, over the bytes as they came (or were made). */
  hash: string;
  /** The peer it came from; null: made here. */
  from: number | null;
  /** Each time it left: to whom, and the hash over the bytes as handed to the channel. */
  sent: { to: number; hash: string }[];
}

export class Trace {
  on = false;
  private readonly streams = new Map<StreamKey, Map<string, TraceRecord>>();
  private readonly now: () => number;

  constructor(now: () => number) {
    this.now = now;
  }

  received(stream: StreamKey, header: Header, sealed: Uint8Array, from: number | null): void {
    if (!this.on) return;
    this.record(stream, header, sealed).from = from;
  }

  sent(stream: StreamKey, header: Header, sealed: Uint8Array, to: number): void {
    if (!this.on) return;
    this.record(stream, header, sealed).sent.push({ to, hash: hash(sealed) });
  }

  forget(stream: StreamKey): void {
    this.streams.delete(stream);
  }

  records(): TraceRecord[] {
    return [...this.streams.values()].flatMap((s) => [...s.values()]);
  }

  /** Forwarding comes first, so a frame may be recorded as sent before it is recorded as received. */
  private record(stream: StreamKey, h: Header, sealed: Uint8Array): TraceRecord {
    let frames = this.streams.get(stream);
    if (!frames) {
      frames = new Map();
      this.streams.set(stream, frames);
    }
    const id = `${h.track}.${h.spatial}.${h.generation}.${h.number}`;
    let record = frames.get(id);
    if (!record) {
      record = {
        stream,
        track: h.track,
        layer: h.spatial,
        generation: h.generation,
        number: h.number,
        key: h.key,
        droppable: h.droppable,
        atMs: this.now(),
        bytes: sealed.byteLength,
        hash: hash(sealed),
        from: null,
        sent: [],
      };
      frames.set(id, record);
      if (frames.size > TRACE_FRAMES) {
        const oldest = frames.keys().next().value;
        if (oldest !== undefined) frames.delete(oldest);
      }
    }
    return record;
  }
}

/** FNV-1a with two offsets: enough to tell an altered byte in a test, no cryptography. */
export function hash(bytes: Uint8Array): string {
  let a = 0x811c9dc5;
  let b = 0x01000193;
  for (const byte of bytes) {
    a = Math.imul(a ^ byte, 0x01000193);
    b = Math.imul(b ^ byte, 0x85ebca6b);
  }
  return (a >>> 0).toString(16).padStart(8, "0") + (b >>> 0).toString(16).padStart(8, "0");
}

/**
 * What an audio frame carries inside its seal: the packet, and copies of those just before it, so that a single lost
 * frame costs nothing. A pure format; what it costs is one more packet per frame (at 32 kbit/s, as much again).
 *
 * ```
 * count (u8, 0..MOST_COPIES) | for each copy, nearest first: length (u16, big endian), bytes | the packet itself
 * ```
 * The copy at place i is frame `number - 1 - i`, captured `(i + 1) * 20 ms` before. An empty packet marks silence: the
 * sender is there and muted.
 */

import { type Header, isNewer } from "../frame/header.ts";

/** Samples of a packet in time. */
export const PACKET_US = 20_000;

/** Copies in one frame at most: a receiver refuses more. */
export const MOST_COPIES = 3;

/** The packet and its copies, nearest first. */
export interface Packets {
  packet: Uint8Array;
  copies: Uint8Array[];
}

/** The payload of a frame. Copies beyond `MOST_COPIES`, or from the first too long one on, are left out. */
export function joinPackets(packet: Uint8Array, copies: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const tooLong = copies.findIndex((copy) => copy.length > 0xffff);
  const kept = copies.slice(0, Math.min(MOST_COPIES, tooLong < 0 ? MOST_COPIES : tooLong));
  const bytes = new Uint8Array(kept.reduce((sum, copy) => sum + 2 + copy.length, 1 + packet.length));
  bytes[0] = kept.length;
  let at = 1;
  for (const copy of kept) {
    bytes[at] = copy.length >>> 8;
    bytes[at + 1] = copy.length & 0xff;
    bytes.set(copy, at + 2);
    at += 2 + copy.length;
  }
  bytes.set(packet, at);
  return bytes;
}

/** The parts of a payload, as views on it; null when it was not written by `joinPackets`. */
export function splitPackets(payload: Uint8Array): Packets | null {
  const count = payload[0];
  if (count === undefined || count > MOST_COPIES) return null;
  const copies: Uint8Array[] = [];
  let at = 1;
  for (let i = 0; i < count; i++) {
    const [high, low] = [payload[at], payload[at + 1]];
    if (high === undefined || low === undefined) return null;
    const end = at + 2 + (high << 8) + low;
    if (end > payload.length) return null;
    copies.push(payload.subarray(at + 2, end));
    at = end;
  }
  return { packet: payload.subarray(at), copies };
}

/** A packet whose turn it is to be decoded. */
export interface Due {
  number: number;
  captureUs: number;
  /** Empty: silence, nothing to decode. */
  packet: Uint8Array;
}

/** A number this far back under a newer key is a sender that began anew, not a late frame. */
const BEGAN_ANEW = 50;

/**
 * Which packets to decode: each number once and only upwards, because a decoder's state goes with time; missing ones
 * from the copies where they are.
 */
export class PacketOrder {
  #last = -1;
  #generation: number | null = null;
  /** Packets that came back from a copy. */
  recovered = 0;
  /** Frames that came after their turn. */
  late = 0;

  /** What a frame brings, oldest first. `restarted`: numbers and clock are other ones from here on. */
  take(header: Header, { packet, copies }: Packets): { restarted: boolean; due: Due[] } {
    const newer = this.#generation !== null && isNewer(header.generation, this.#generation);
    const restarted = newer && header.number < this.#last - BEGAN_ANEW;
    if (restarted) this.#last = -1;
    if (this.#generation === null || newer) this.#generation = header.generation;
    if (header.number <= this.#last) {
      this.late += 1;
      return { restarted, due: [] };
    }
    const due: Due[] = [];
    // Before the first frame nothing is missing.
    const missing = this.#last < 0 ? 0 : header.number - this.#last - 1;
    for (let back = Math.min(copies.length, missing); back > 0; back--) {
      const copy = copies[back - 1] as Uint8Array;
      if (copy.length === 0) continue;
      this.recovered += 1;
      due.push({ number: header.number - back, captureUs: header.captureUs - back * PACKET_US, packet: copy });
    }
    due.push({ number: header.number, captureUs: header.captureUs, packet });
    this.#last = header.number;
    return { restarted, due };
  }
}

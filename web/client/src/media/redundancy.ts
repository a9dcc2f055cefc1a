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

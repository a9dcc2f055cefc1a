/**
 * The header of a sealed frame: 24 bytes in clear, authenticated with the payload, all that a forwarder reads.
 *
 * This module turns headers into bytes and back, and refuses everything that no sender of ours writes. It knows no keys.
 * The layout is in `docs/ref/frame.md`; `crates/frame/src/header.rs` is its twin, and both read `fixtures/frame/`.
 */

/** Bytes of header ahead of the ciphertext. */
export const HEADER_BYTES = 24;
/** Bytes of authentication tag behind the ciphertext. */
export const TAG_BYTES = 16;
/** A distance that stands for every frame before this one. */
export const EVERYTHING = 0xffff;

export type Kind = "video" | "audio" | "signature" | "control";

export interface Header {
  /** A picture that needs no other. Only video has key frames. */
  key: boolean;
  kind: Kind;
  /** 0..3, lowest quality first; 0 unless video. Each spatial layer is an encoding of its own. */
  spatial: number;
  /** 0..3; 0 unless video. */
  temporal: number;
  /** u32, counts within (sender, stream, track, spatial layer). */
  number: number;
  /** Pixels, 1..65535, of a key frame; else 0. */
  width: number;
  height: number;
  /** Delta frames: how far back the earliest and the latest frame lie that this one needs. 0 in both: none. */
  farthest: number;
  nearest: number;
  /** Audio: 0 (loud) .. 127 (silence), as RFC 6464; else 0. */
  level: number;
  /** Microseconds since the sender's node started, an integer below 2^48; one clock for all its tracks. */
  captureUs: number;
  /** The sender's number in the room, u16. */
  sender: number;
  /** 0..15. */
  stream: number;
  /** 0..15; 0 audio, 1 video. */
  track: number;
  /** Which of the sender's keys seals it, u16; counts on around zero (`isNewer`). */
  generation: number;
  /** May be left out without harm to any other frame. */
  droppable: boolean;
  /** Quarter turns clockwise to stand upright; 0 unless video. */
  rotation: 0 | 1 | 2 | 3;
}

const VERSION = 1;
const KEY_BYTE = 0x80;
const OTHER_BYTE = 0x85;
const KINDS: readonly Kind[] = ["video", "audio", "signature", "control"];
const DROPPABLE = 0x80;
const TWO_32 = 0x1_0000_0000;

/**
 * The 24 bytes of a header.
 *
 * @throws RangeError naming the field when a value does not fit, or does not belong to the kind of frame.
 */
export function encodeHeader(h: Header): Uint8Array<ArrayBuffer> {
  const video = h.kind === "video";
  integer("spatial", h.spatial, video ? 3 : 0);
  integer("temporal", h.temporal, video ? 3 : 0);
  integer("number", h.number, TWO_32 - 1);
  integer("captureUs", h.captureUs, 2 ** 48 - 1);
  integer("sender", h.sender, 0xffff);
  integer("stream", h.stream, 15);
  integer("track", h.track, 15);
  integer("generation", h.generation, 0xffff);
  integer("rotation", h.rotation, video ? 3 : 0);
  integer("level", h.level, h.kind === "audio" ? 127 : 0);
  if (h.key && !video) throw new RangeError("key: only video has key frames");
  const sized = video && h.key;
  integer("width", h.width, sized ? 0xffff : 0, sized ? 1 : 0);
  integer("height", h.height, sized ? 0xffff : 0, sized ? 1 : 0);
  const needing = video && !h.key ? EVERYTHING : 0;
  integer("farthest", h.farthest, needing);
  integer("nearest", h.nearest, needing);
  if (!plausible(h.farthest, h.nearest)) throw new RangeError("nearest: 0 with farthest 0, else 1..farthest");

  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[0] = h.key ? KEY_BYTE : OTHER_BYTE;
  bytes[1] = (VERSION << 6) | (KINDS.indexOf(h.kind) << 4) | (h.spatial << 2) | h.temporal;
  view.setUint32(2, h.number);
  if (h.kind === "audio") {
    bytes[6] = h.level;
  } else {
    view.setUint16(6, h.key ? h.width : h.farthest, true);
    view.setUint16(8, h.key ? h.height : h.nearest, true);
  }
  // Shifts work on 32 bits only; 48 need arithmetic.
  view.setUint16(10, Math.floor(h.captureUs / TWO_32));
  view.setUint32(12, h.captureUs % TWO_32);
  view.setUint16(16, h.sender);
  bytes[18] = (h.stream << 4) | h.track;
  view.setUint16(19, h.generation);
  bytes[21] = (h.droppable ? DROPPABLE : 0) | h.rotation;
  return bytes;
}

/**
 * The header of a sealed frame; `bytes` is the whole frame. Null when it is malformed: too short for header and tag,
 * another version, or any value that `encodeHeader` would not write. Says nothing about who wrote it.
 */
export function decodeHeader(bytes: Uint8Array): Header | null {
  if (bytes.length < HEADER_BYTES + TAG_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const first = view.getUint8(0);
  const shape = view.getUint8(1);
  const flags = view.getUint8(21);
  if (first !== KEY_BYTE && first !== OTHER_BYTE) return null;
  if (shape >>> 6 !== VERSION || (flags & 0x7c) !== 0 || view.getUint16(22) !== 0) return null;

  const kind = KINDS[(shape >>> 4) & 3] as Kind;
  const key = first === KEY_BYTE;
  const spatial = (shape >>> 2) & 3;
  const temporal = shape & 3;
  const rotation = (flags & 3) as 0 | 1 | 2 | 3;
  let [width, height, farthest, nearest, level] = [0, 0, 0, 0, 0];
  if (kind === "video") {
    const [a, b] = [view.getUint16(6, true), view.getUint16(8, true)];
    if (key ? a === 0 || b === 0 : !plausible(a, b)) return null;
    if (key) [width, height] = [a, b];
    else [farthest, nearest] = [a, b];
  } else {
    if (key || spatial !== 0 || temporal !== 0 || rotation !== 0) return null;
    const word = view.getUint32(6);
    level = word >>> 24;
    if (word % 0x100_0000 !== 0 || level > (kind === "audio" ? 127 : 0)) return null;
  }
  return {
    key,
    kind,
    spatial,
    temporal,
    number: view.getUint32(2),
    width,
    height,
    farthest,
    nearest,
    level,
    captureUs: view.getUint16(10) * TWO_32 + view.getUint32(12),
    sender: view.getUint16(16),
    stream: view.getUint8(18) >>> 4,
    track: view.getUint8(18) & 15,
    generation: view.getUint16(19),
    droppable: (flags & DROPPABLE) !== 0,
    rotation,
  };
}

/** Whether a sealed frame is a key frame, from its first byte alone. */
export function isKey(bytes: Uint8Array): boolean {
  return bytes[0] === KEY_BYTE;
}

/**
 * The earliest and the latest frame number that a delta frame needs, in its own layer; null when it needs none. `from`
 * is 0 when it needs everything before it: in practice, everything since the last key frame. Numbers wrap at 2^32, so
 * a distance that reaches before frame 0 names a frame that will not come.
 */
export function needs(h: Header): { from: number; to: number } | null {
  if (h.farthest === 0) return null;
  const back = h.nearest === EVERYTHING ? 1 : h.nearest;
  return {
    from: h.farthest === EVERYTHING ? 0 : (h.number - h.farthest) >>> 0,
    to: (h.number - back) >>> 0,
  };
}

/** Whether key generation `a` came after `b`. They count on around zero, so this compares the shorter way round. */
export function isNewer(a: number, b: number): boolean {
  const ahead = (a - b) & 0xffff;
  return ahead !== 0 && ahead < 0x8000;
}

function plausible(farthest: number, nearest: number): boolean {
  return farthest === 0 ? nearest === 0 : nearest >= 1 && nearest <= farthest;
}

function integer(field: string, value: number, most: number, least = 0): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`${field}: ${value} is not an integer from ${least} to ${most}`);
}

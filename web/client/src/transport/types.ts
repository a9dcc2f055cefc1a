/**
 * The seam inside the media worker between moving frames (`transport/`) and making or showing them (`media/`).
 * Transport knows headers and bytes; media knows codecs and clocks. Neither imports the other's modules.
 */
import type { Header } from "../frame/header.ts";

/** `sender << 4 | stream`: one stream of the room. */
export type StreamKey = number;

export const streamKey = (node: number, stream: number): StreamKey => node * 16 + stream;
export const streamRef = (key: StreamKey): { node: number; stream: number } => ({ node: key >>> 4, stream: key & 15 });

/** What transport asks of media. */
export interface MediaSide {
  /** A frame of somebody else's stream, once each, in arrival order; `sealed` must not be changed. */
  frame(stream: StreamKey, header: Header, sealed: Uint8Array): void;
  /** These frames will never come (repair failed or they were dropped on purpose upstream): stop waiting. */
  gone(stream: StreamKey, track: number, layer: number, upTo: number): void;
  /** A key frame of our own stream is needed in this layer. Already merged and rate-limited. */
  keyFrame(stream: number, layer: number): void;
  /** Our own links carry this much less, or more, than the encoders make: adapt. `share` is 0..1 of the ordered rate. */
  uplink(stream: number, share: number): void;
}

/** What media asks of transport. */
export interface TransportSide {
  /**
   * A frame that this node sealed: to the ring and to the children. `carriedTo`: the relay that gets it by RTP already.
   */
  publish(stream: number, sealed: Uint8Array, carriedTo: number | null): void;
  /** The player cannot go on in this layer without a key frame. Merged upstream. */
  requestKey(stream: StreamKey, layer: number): void;
}

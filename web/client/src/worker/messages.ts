/**
 * What the page and the media worker say to each other. The page owns signalling, identities and peer connections; the
 * worker owns everything that touches a frame: sender keys and counters, codecs, data channels, forwarding, playing.
 */
import type { StreamRef } from "../signal/messages.ts";
import type { LinkCounters } from "../transport/link.ts";
import type { RouterCounters } from "../transport/router.ts";
import type { RelayDoor, RelayNews } from "../transport/socket-channels.ts";
import type { TraceRecord } from "../transport/trace.ts";

/** A participant's number in the room, also the `sender` field of its frames. */
export type Node = number;

/** What the encoder is asked for: spatial layers, lowest first. */
export interface VideoEncoding {
  width: number;
  height: number;
  /** Bit/s. */
  bps: number;
  /** Frames per second at most. */
  fps: number;
}

/** From the page to the worker. */
export type ToWorker =
  | { type: "init"; node: Node; playout: MessagePort | null }
  /** A sender's key arrived by mail. The worker keeps older generations for 10 s. */
  | { type: "sender_key"; node: Node; generation: number; key: Uint8Array }
  | { type: "forget_sender"; node: Node }
  /** Step the own key forward (somebody joined) or make a fresh one (somebody left); answered by `own_key`. */
  | { type: "ratchet" }
  | { type: "rotate" }
  /** Everybody has the key of `generation`: seal with it from now on. */
  | { type: "use_key"; generation: number }
  | { type: "open_link"; peer: Node; video: RTCDataChannel; audio: RTCDataChannel; control: RTCDataChannel }
  | ({ type: "open_relay"; peer: Node } & RelayDoor)
  /** A link to a relay by RTP. Its frames come and go through transforms that carry the same token. */
  | { type: "open_rtp"; peer: Node; token: string; control: RTCDataChannel }
  | { type: "close_link"; peer: Node }
  /** What the RTP senders of a stream encode from now on: pictures of these widths, lowest layer first; null: none. */
  | { type: "rtp_video"; stream: number; widths: number[] | null }
  | { type: "rtp_audio"; stream: number; on: boolean }
  | { type: "feed"; stream: StreamRef; child: Node; layers: number[]; rateBps: number }
  /** Feed this child when it says so (its parent has fallen silent), and not before. */
  | { type: "stand_by"; stream: StreamRef; child: Node; layers: number[]; rateBps: number }
  | { type: "release"; stream: StreamRef; child: Node }
  | { type: "parent"; stream: StreamRef; parent: Node | null; layers: number[] }
  /** Who takes over when the parent falls silent. */
  | { type: "backup"; stream: StreamRef; parent: Node | null }
  /** The stream ended: drop its ring, players and edges. */
  | { type: "forget_stream"; stream: StreamRef }
  /** Start or (with `null`) stop encoding. */
  | { type: "video_source"; stream: number; layers: VideoEncoding[] | null; source: VideoSource | null }
  | { type: "video_frame"; stream: number; frame: VideoFrame }
  | { type: "audio_source"; stream: number; port: MessagePort | null; bps: number }
  /** Mute keeps the encoder and its counters, and sends nothing but silence markers. */
  | { type: "mute"; stream: number; muted: boolean }
  /** Where a stream is drawn; `null` ends drawing there. `view` names the canvas. */
  | {
      type: "canvas";
      view: number;
      stream: StreamRef | null;
      canvas: OffscreenCanvas | null;
      width: number;
      height: number;
    }
  /** The size at which a view is shown, CSS pixels x device pixel ratio. */
  | { type: "view_size"; view: number; width: number; height: number }
  /** `visible: false` stops drawing, nothing else. */
  | { type: "visibility"; visible: boolean }
  /** Ask main for camera frames by a worker's clock (`tick`), for browsers whose hidden tabs stop frame callbacks. */
  | { type: "tick_capture"; stream: number; fps: number }
  /** Record what frames looked like as they came and went; switching it off is answered by `traced`. */
  | { type: "trace"; on: boolean }
  /** The end: every picture, codec and channel is closed, and nothing more is said. */
  | { type: "close" };

/** What a transform of an RTP link is made with. */
export type TransformOptions =
  | { way: "receive"; peer: Node; token: string }
  | { way: "send"; peer: Node; token: string; stream: number; kind: "audio" | "video" };

/** Camera frames as a stream (MediaStreamTrackProcessor), or one by one through `video_frame`. */
export type VideoSource = { kind: "readable"; readable: ReadableStream<VideoFrame> } | { kind: "frames" };

/** From the worker to the page. */
export type FromWorker =
  | { type: "own_key"; generation: number; key: Uint8Array; ratcheted: boolean }
  /** The first frame of a stream came from this parent. */
  | { type: "ready"; stream: StreamRef; parent: Node }
  /** Nothing at all came from a peer for too long. */
  | { type: "silent"; peer: Node }
  /** How the link to a relay goes; the token says which one. */
  | { type: "relay"; peer: Node; token: string; news: RelayNews }
  /** A relay wants so many pairs of receivers on its RTP link. */
  | { type: "slots"; peer: Node; pairs: number }
  /** The RTP sender of a stream shall begin all its layers anew. */
  | { type: "rtp_key_frame"; stream: number }
  /** An encoder of ours changed what it sends (its links back up, or have room again). */
  | { type: "encoding"; stream: number; layers: VideoEncoding[]; reason: "start" | "uplink" | "recovered" }
  /** The browser refused an encoder, for good; the other track goes on. */
  | { type: "encoder_failed"; stream: number; track: "audio" | "video"; message: string }
  /** Frames of a sender arrive that none of its keys opens. */
  | { type: "undecodable"; node: Node; frames: number }
  /** Audio levels 0..127 (127 = silence, as RFC 6464), every 100 ms, only senders that changed. */
  | { type: "levels"; levels: { node: Node; stream: number; level: number }[] }
  | { type: "tick"; stream: number }
  | { type: "stats"; stats: WorkerStats }
  | { type: "traced"; frames: TraceRecord[] }
  /** Something that must not happen did; what else the worker does goes on. At most once a second. */
  | { type: "fault"; message: string };

/** Once a second. Counts are totals since the worker started; rates are over the last second. */
export interface WorkerStats {
  /** performance.now() of the worker plus its timeOrigin, ms. */
  atMs: number;
  links: LinkStats[];
  incoming: IncomingStats[];
  outgoing: OutgoingStats[];
  senders: SenderStats[];
  /** What is counted neither by stream nor by sender, malformed frames first of all; of all links together. */
  counters: TransportCounters;
  own: OwnStats[];
}

export type TransportCounters = RouterCounters & LinkCounters;

export interface LinkStats {
  peer: Node;
  rttMs: number;
  sentBps: number;
  receivedBps: number;
  /** Share of frames from the peer that never came, 0..1, over the last 5 s. */
  loss: number;
  /** Bytes waiting in our queues for this peer. */
  queuedBytes: number;
}

/** One stream received from its parent. */
export interface IncomingStats {
  stream: StreamRef;
  parent: Node | null;
  bps: number;
  /** Capture to arrival relative to the fastest frame seen, ms. */
  delayMs: number;
  /** Spatial layer shown, null without video. */
  layer: number | null;
  framesReceived: number;
  framesDecoded: number;
  framesDrawn: number;
  framesRepaired: number;
  framesLost: number;
  keyRequests: number;
  duplicates: number;
  audioPackets: number;
  /** Who delivers in the place of the parent, which has fallen silent; null: the parent itself. */
  backup: Node | null;
  /** How often a backup was told to begin. */
  backupsTaken: number;
  audioConcealed: number;
  /** Playout buffer target, ms. */
  audioTargetMs: number;
  /** Video ahead (+) or behind (-) of sound at presentation, ms; null when there is only one. */
  lipSyncMs: number | null;
  /** Root mean square of the last second's sound, 0..1. */
  audioRms: number;
}

/** One edge on which we are the parent, and feed the child. */
export interface OutgoingStats {
  stream: StreamRef;
  child: Node;
  bps: number;
  layers: number[];
  framesSent: number;
  framesDropped: number;
  framesResent: number;
}

/** What happened to sealed frames by sender. */
export interface SenderStats {
  node: Node;
  opened: number;
  /** Failed authentication: altered, or no key. */
  refused: number;
  replayed: number;
  malformed: number;
}

/** One of our own streams. */
export interface OwnStats {
  stream: number;
  layers: { width: number; height: number; bps: number; fps: number; frames: number; keyFrames: number }[];
  audioPackets: number;
}

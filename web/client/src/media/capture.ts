/**
 * The page's end of a camera or a shared screen: leads its pictures to the media worker, in whichever way this browser
 * has. With MediaStreamTrackProcessor they go straight to the worker; without, a <video> hands over each picture it
 * presents, and while the page is hidden, when browsers stop presenting, the worker's clock asks for them.
 */
import type { ToWorker, VideoEncoding } from "../worker/messages.ts";
import { within } from "./wait.ts";

/** What a camera is encoded in, lowest layer first. */
export const CAMERA_LAYERS: readonly VideoEncoding[] = [
  { width: 320, height: 180, bps: 150_000, fps: 30 },
  { width: 640, height: 360, bps: 600_000, fps: 30 },
];

/** What a microphone is encoded in, bit/s; a copy of each packet doubles it on the wire. */
export const MICROPHONE_BPS = 32_000;

const PLAY_MS = 5_000;

export type Post = (message: ToWorker, transfer: Transferable[]) => void;

type ProcessorConstructor = new (init: {
  track: MediaStreamTrack;
  maxBufferSize?: number;
}) => { readable: ReadableStream<VideoFrame> };

export class VideoCapture {
  readonly #stream: number;
  readonly #post: Post;
  readonly #fps: number;
  #video: HTMLVideoElement | null = null;
  #callback = 0;
  #closed = false;
  readonly #onVisibility = (): void => this.#beat();

  /** Starts at once. The track stays the caller's; `layers` lowest first. */
  constructor(stream: number, track: MediaStreamTrack, layers: readonly VideoEncoding[], post: Post) {
    this.#stream = stream;
    this.#post = post;
    this.#fps = Math.max(...layers.map((layer) => layer.fps));
    const Processor = (globalThis as { MediaStreamTrackProcessor?: ProcessorConstructor }).MediaStreamTrackProcessor;
    if (Processor !== undefined) {
      const { readable } = new Processor({ track, maxBufferSize: 2 });
      const source = { kind: "readable" as const, readable };
      post({ type: "video_source", stream, layers: [...layers], source }, [readable as unknown as Transferable]);
      return;
    }
    post({ type: "video_source", stream, layers: [...layers], source: { kind: "frames" } }, []);
    this.#present(track);
  }

  /** The worker's `tick` for this stream: hand over the picture of now. */
  tick(): void {
    if (document.hidden) this.#take(performance.now());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#post({ type: "video_source", stream: this.#stream, layers: null, source: null }, []);
    const video = this.#video;
    if (video === null) return;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#post({ type: "tick_capture", stream: this.#stream, fps: 0 }, []);
    video.cancelVideoFrameCallback(this.#callback);
    video.srcObject = null;
  }

  #present(track: MediaStreamTrack): void {
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = new MediaStream([track]);
    this.#video = video;
    const next = (now: number): void => {
      if (this.#closed) return;
      this.#take(now);
      this.#callback = video.requestVideoFrameCallback(next);
    };
    this.#callback = video.requestVideoFrameCallback(next);
    within(video.play(), PLAY_MS).catch(() => null);
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#beat();
  }

  /** While hidden the worker's clock beats. */
  #beat(): void {
    this.#post({ type: "tick_capture", stream: this.#stream, fps: document.hidden ? this.#fps : 0 }, []);
  }

  #take(now: number): void {
    const video = this.#video;
    if (video === null || this.#closed || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    let frame: VideoFrame;
    try {
      // Firefox stamps every picture of a camera with 0 unless told.
      frame = new VideoFrame(video, { timestamp: Math.round(now * 1000) });
    } catch {
      // No picture yet, or the camera was just taken away.
      return;
    }
    this.#post({ type: "video_frame", stream: this.#stream, frame }, [frame]);
  }
}

/** Whether this browser can send and show pictures and sound through the media worker; names what is missing. */
export function missingForMedia(): string[] {
  const scope = globalThis as unknown as Record<string, unknown>;
  const needed = [
    "Worker",
    "RTCPeerConnection",
    "RTCDataChannel",
    "VideoEncoder",
    "VideoDecoder",
    "AudioEncoder",
    "AudioDecoder",
    "AudioWorkletNode",
    "OffscreenCanvas",
  ];
  const missing = needed.filter((name) => scope[name] === undefined);
  if (!globalThis.isSecureContext) missing.push("secure context");
  return missing;
}

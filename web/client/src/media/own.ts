/**
 * Our own streams: their encoders, and every frame of theirs through the one sealer. Lives in the media worker.
 */
import { EVERYTHING } from "../frame/header.ts";
import type { Sealer, SealFields } from "../frame/seal.ts";
import type { FromWorker, OwnStats, VideoEncoding, VideoSource } from "../worker/messages.ts";
import { AudioSender } from "./audio-encoder.ts";
import { SILENCE } from "./level.ts";
import { VideoSender } from "./video-encoder.ts";

const AUDIO_TRACK = 0;
const VIDEO_TRACK = 1;

interface Own {
  audio: AudioSender | null;
  video: VideoSender | null;
  muted: boolean;
  /** Of encoders before the present one. */
  audioPackets: number;
}

export interface OwnStreamsOptions {
  sealer: Sealer;
  publish: (stream: number, sealed: Uint8Array) => void;
  post: (message: FromWorker) => void;
  /** Milliseconds since the node started: the clock of all capture times. */
  nowMs: () => number;
  /** Something that must not happen did. */
  fault: (error: unknown) => void;
}

export class OwnStreams {
  readonly #options: OwnStreamsOptions;
  readonly #streams = new Map<number, Own>();
  readonly #ticking = new Map<number, { everyMs: number; nextMs: number }>();

  constructor(options: OwnStreamsOptions) {
    this.#options = options;
  }

  videoSource(stream: number, layers: VideoEncoding[] | null, source: VideoSource | null): void {
    const own = this.#own(stream);
    own.video?.close();
    own.video = null;
    if (layers === null || source === null) return;
    own.video = this.#videoSender(stream, layers);
    if (source.kind === "readable") own.video.read(source.readable);
  }

  videoFrame(stream: number, frame: VideoFrame): void {
    const video = this.#streams.get(stream)?.video;
    if (video) video.push(frame);
    else frame.close();
  }

  audioSource(stream: number, port: MessagePort | null, bps: number): void {
    const own = this.#own(stream);
    if (own.audio !== null) {
      own.audioPackets += own.audio.packets;
      own.audio.close();
      own.audio = null;
    }
    if (port === null) return;
    const { nowMs, post } = this.#options;
    own.audio = new AudioSender(
      port,
      bps,
      own.muted,
      {
        packet: (packet, payload) => {
          const fields = { ...NOTHING, kind: "audio" as const, stream, track: AUDIO_TRACK, ...packet };
          this.#seal(fields, payload);
        },
        failed: (message) => post({ type: "encoder_failed", stream, track: "audio", message }),
      },
      nowMs,
    );
  }

  mute(stream: number, muted: boolean): void {
    const own = this.#own(stream);
    own.muted = muted;
    if (own.audio) own.audio.muted = muted;
  }

  /** Ask the page for pictures at this beat; 0 stops. */
  tickCapture(stream: number, fps: number): void {
    if (fps > 0) this.#ticking.set(stream, { everyMs: 1000 / fps, nextMs: this.#options.nowMs() });
    else this.#ticking.delete(stream);
  }

  keyFrame(stream: number, layer: number): void {
    this.#streams.get(stream)?.video?.keyFrame(layer);
  }

  /** All layers of all streams: a new key is in use, and whoever has only that one can begin. */
  keyFrames(): void {
    for (const { video } of this.#streams.values()) for (let layer = 0; layer < 4; layer++) video?.keyFrame(layer);
  }

  uplink(stream: number, share: number): void {
    this.#streams.get(stream)?.video?.uplink(share);
  }

  /** Each 10 ms. */
  tick(): void {
    const now = this.#options.nowMs();
    for (const [stream, beat] of this.#ticking) {
      if (now < beat.nextMs) continue;
      beat.nextMs = Math.max(beat.nextMs + beat.everyMs, now);
      this.#options.post({ type: "tick", stream });
    }
  }

  /** Each second. */
  second(): void {
    for (const { video } of this.#streams.values()) video?.tick();
  }

  levels(): { stream: number; level: number }[] {
    return [...this.#streams].map(([stream, { audio }]) => ({ stream, level: audio?.level ?? SILENCE }));
  }

  stats(): OwnStats[] {
    return [...this.#streams].map(([stream, { audio, video, audioPackets }]) => ({
      stream,
      layers: video?.stats() ?? [],
      audioPackets: audioPackets + (audio?.packets ?? 0),
    }));
  }

  close(): void {
    for (const { audio, video } of this.#streams.values()) {
      audio?.close();
      video?.close();
    }
    this.#streams.clear();
    this.#ticking.clear();
  }

  #own(stream: number): Own {
    let own = this.#streams.get(stream);
    if (own === undefined) {
      own = { audio: null, video: null, muted: false, audioPackets: 0 };
      this.#streams.set(stream, own);
    }
    return own;
  }

  #videoSender(stream: number, layers: VideoEncoding[]): VideoSender {
    const { post, nowMs } = this.#options;
    return new VideoSender(
      layers,
      {
        picture: (picture, payload) => {
          const distance = Math.min(picture.farthest, EVERYTHING);
          const fields: SealFields = {
            ...NOTHING,
            ...picture,
            farthest: distance,
            nearest: Math.min(picture.nearest, distance),
            kind: "video",
            stream,
            track: VIDEO_TRACK,
          };
          this.#seal(fields, payload);
        },
        encoding: (encoded, reason) => post({ type: "encoding", stream, layers: encoded, reason }),
        failed: (message) => post({ type: "encoder_failed", stream, track: "video", message }),
      },
      nowMs,
    );
  }

  #seal(fields: SealFields, payload: Uint8Array): void {
    const { sealer, publish, fault } = this.#options;
    sealer
      .seal(fields, payload)
      .then((sealed) => publish(fields.stream, sealed))
      .catch(fault);
  }
}

/** A header in which nothing is said. */
const NOTHING: Omit<SealFields, "kind" | "stream" | "track" | "captureUs"> = {
  key: false,
  spatial: 0,
  temporal: 0,
  width: 0,
  height: 0,
  farthest: 0,
  nearest: 0,
  level: 0,
  droppable: false,
  rotation: 0,
};

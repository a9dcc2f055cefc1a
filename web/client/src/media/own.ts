/**
 * Our own streams: their encoders, and every frame of theirs through the one sealer. Lives in the media worker.
 *
 * A stream is encoded once. That is WebCodecs' work, or that of the RTP sender towards a relay while one is among the
 * stream's children (`Handover`); the same sealed bytes then go into RTP and to all other children.
 */
import { EVERYTHING } from "../frame/header.ts";
import type { Sealer, SealFields } from "../frame/seal.ts";
import type { FromWorker, OwnStats, VideoEncoding, VideoSource } from "../worker/messages.ts";
import { AudioSender } from "./audio-encoder.ts";
import { Handover } from "./handover.ts";
import { LayerMeter } from "./layer-meter.ts";
import { SILENCE } from "./level.ts";
import { type PictureMetadata, RtpPackets, RtpPictures } from "./rtp-frames.ts";
import { type EncodedPicture, VideoSender } from "./video-encoder.ts";

/** How often an RTP sender that delivers nothing usable is asked for a key frame, ms. */
const ASK_KEY_MS = 500;
const AUDIO_TRACK = 0;
const VIDEO_TRACK = 1;

interface Own {
  audio: AudioSender | null;
  video: VideoSender | null;
  muted: boolean;
  /** Of encoders before the present one. */
  audioPackets: number;
  hands: { audio: Handover; video: Handover };
  /** What the RTP senders of this stream make; null where they make nothing. */
  packets: RtpPackets | null;
  pictures: RtpPictures | null;
  /** Of the RTP sender's layers, lowest first. */
  meters: { width: number; height: number; meter: LayerMeter }[];
  /** When the RTP sender was last asked for a key frame because its pictures could not be begun with. */
  askedMs: number;
}

/** A frame as it comes out of an RTP sender's encoder. */
export interface RtpFrame {
  readonly data: ArrayBuffer;
  /** Of pictures only. */
  readonly type?: string;
  getMetadata(): PictureMetadata;
}

export interface OwnStreamsOptions {
  sealer: Sealer;
  /** `carriedTo`: the relay that gets these bytes by RTP, from the encoder that made the frame. */
  publish: (stream: number, sealed: Uint8Array, carriedTo: number | null) => void;
  /** Makes the RTP sender's encoder of a stream begin all its layers anew. */
  rtpKeyFrame: (stream: number) => void;
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
    own.video = this.#videoSender(stream, own, layers);
    this.#settle(own);
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
          if (!own.hands.audio.admit("codec", 0, true, nowMs())) return;
          this.#publish(this.#seal(audioFields(stream, packet), payload), stream, null);
        },
        failed: (message) => post({ type: "encoder_failed", stream, track: "audio", message }),
      },
      nowMs,
    );
    this.#settle(own);
  }

  /** The stream's RTP sender encodes pictures of these widths, lowest layer first; null: it no longer does. */
  rtpVideo(stream: number, widths: readonly number[] | null): void {
    const own = this.#own(stream);
    own.hands.video.want(widths === null ? "codec" : "rtp");
    own.pictures = widths === null ? null : (own.pictures ?? new RtpPictures());
    if (own.pictures && widths) own.pictures.widths = widths;
    this.#settle(own);
  }

  /** The stream's RTP sender encodes the microphone, or no longer does. */
  rtpAudio(stream: number, on: boolean): void {
    const own = this.#own(stream);
    own.hands.audio.want(on ? "rtp" : "codec");
    own.packets = on ? new RtpPackets() : null;
    this.#settle(own);
  }

  /**
   * A frame that the RTP sender towards `peer` made: the sealed bytes that are to go there in its place, which have been
   * published by then. Null: this frame goes nowhere.
   */
  async encoded(
    stream: number,
    kind: "audio" | "video",
    frame: RtpFrame,
    peer: number,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    const own = this.#streams.get(stream);
    const fields = own && (kind === "audio" ? this.#packet(stream, own, frame) : this.#picture(stream, own, frame));
    if (!fields) return null;
    const sealing = this.#seal(fields.header, fields.payload);
    this.#publish(sealing, stream, peer);
    return sealing;
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
    const own = this.#streams.get(stream);
    if (own?.hands.video.owner(layer) === "rtp" && own.pictures) this.#options.rtpKeyFrame(stream);
    else own?.video?.keyFrame(layer);
  }

  /** All layers of all streams: a new key is in use, and whoever has only that one can begin. */
  keyFrames(): void {
    for (const [stream, { video, pictures }] of this.#streams) {
      for (let layer = 0; layer < 4; layer++) video?.keyFrame(layer);
      if (pictures) this.#options.rtpKeyFrame(stream);
    }
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
    for (const own of this.#streams.values()) {
      own.video?.tick();
      this.#settle(own);
    }
  }

  levels(): { stream: number; level: number }[] {
    return [...this.#streams].map(([stream, { audio }]) => ({ stream, level: audio?.level ?? SILENCE }));
  }

  stats(): OwnStats[] {
    const now = this.#options.nowMs();
    return [...this.#streams].map(([stream, { audio, video, audioPackets, meters }]) => {
      const layers = video?.stats() ?? [];
      for (const [at, { width, height, meter }] of meters.entries()) {
        const codec = layers[at];
        const rtp = meter.stats(now);
        // Rates come from whoever encodes now, totals from both.
        const present = rtp.fps > 0 || !codec ? { width, height, bps: rtp.bps, fps: rtp.fps } : codec;
        const frames = (codec?.frames ?? 0) + rtp.frames;
        if (video) layers[at] = { ...present, frames, keyFrames: (codec?.keyFrames ?? 0) + rtp.keyFrames };
      }
      return { stream, layers, audioPackets: audioPackets + (audio?.packets ?? 0) };
    });
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
      const hands = { audio: new Handover(), video: new Handover() };
      own = {
        audio: null,
        video: null,
        muted: false,
        audioPackets: 0,
        hands,
        packets: null,
        pictures: null,
        meters: [],
        askedMs: Number.NEGATIVE_INFINITY,
      };
      this.#streams.set(stream, own);
    }
    return own;
  }

  #videoSender(stream: number, own: Own, layers: VideoEncoding[]): VideoSender {
    const { post, nowMs } = this.#options;
    return new VideoSender(
      layers,
      {
        picture: (picture, payload) => {
          if (!own.hands.video.admit("codec", picture.spatial, picture.key, nowMs())) return;
          this.#publish(this.#seal(videoFields(stream, picture), payload), stream, null);
        },
        encoding: (encoded, reason) => post({ type: "encoding", stream, layers: encoded, reason }),
        failed: (message) => post({ type: "encoder_failed", stream, track: "video", message }),
      },
      nowMs,
    );
  }

  /** Stops the encoders of WebCodecs that have nothing to do, and starts those that have. */
  #settle({ audio, video, hands }: Own): void {
    const now = this.#options.nowMs();
    if (audio) audio.idle = !hands.audio.runs("codec", 0, now);
    if (video) video.idle = new Set([0, 1, 2, 3].filter((layer) => !hands.video.runs("codec", layer, now)));
  }

  #picture(stream: number, own: Own, frame: RtpFrame): { header: SealFields; payload: Uint8Array } | null {
    const now = this.#options.nowMs();
    const admit = (layer: number, key: boolean): boolean => own.hands.video.admit("rtp", layer, key, now);
    const picture = own.pictures?.take(frame.getMetadata(), frame.type === "key", now * 1000, admit);
    if (!picture) {
      if (own.pictures && frame.type !== "key" && now - own.askedMs > ASK_KEY_MS) {
        own.askedMs = now;
        this.#options.rtpKeyFrame(stream);
      }
      return null;
    }
    if (picture.key) this.#settle(own);
    for (let layer = own.meters.length; layer <= picture.spatial; layer++) {
      own.meters[layer] = { width: 0, height: 0, meter: new LayerMeter() };
    }
    const meter = own.meters[picture.spatial] as Own["meters"][number];
    if (picture.key) Object.assign(meter, { width: picture.width, height: picture.height });
    meter.meter.add(picture.key, frame.data.byteLength);
    return { header: videoFields(stream, picture), payload: new Uint8Array(frame.data) };
  }

  #packet(stream: number, own: Own, frame: RtpFrame): { header: SealFields; payload: Uint8Array } | null {
    const { rtpTimestamp } = frame.getMetadata();
    const now = this.#options.nowMs();
    if (!own.packets || rtpTimestamp === undefined || !own.hands.audio.admit("rtp", 0, true, now)) return null;
    this.#settle(own);
    const heard = { level: own.audio?.level ?? SILENCE, silent: own.muted || own.audio?.silent === true };
    const packet = own.packets.take(rtpTimestamp, new Uint8Array(frame.data), heard, now * 1000);
    if (!packet) return null;
    if (!heard.silent) own.audioPackets += 1;
    const { payload, ...said } = packet;
    return { header: audioFields(stream, said), payload };
  }

  #seal(fields: SealFields, payload: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
    return this.#options.sealer.seal(fields, payload);
  }

  #publish(sealing: Promise<Uint8Array>, stream: number, carriedTo: number | null): void {
    const { publish, fault } = this.#options;
    sealing.then((sealed) => publish(stream, sealed, carriedTo)).catch(fault);
  }
}

function videoFields(stream: number, picture: EncodedPicture): SealFields {
  const distance = Math.min(picture.farthest, EVERYTHING);
  return {
    ...NOTHING,
    ...picture,
    farthest: distance,
    nearest: Math.min(picture.nearest, distance),
    kind: "video",
    stream,
    track: VIDEO_TRACK,
  };
}

function audioFields(stream: number, said: { captureUs: number; level: number }): SealFields {
  return { ...NOTHING, kind: "audio", stream, track: AUDIO_TRACK, ...said };
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

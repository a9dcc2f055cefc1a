/**
 * Everybody else's streams: opened, decoded, seen and heard. Lives in the media worker; the only state per stream is a
 * `Playing`, made by its first frame and gone with `forget`.
 */
import type { Header } from "../frame/header.ts";
import { type StreamKey, streamRef } from "../transport/types.ts";
import type { IncomingStats } from "../worker/messages.ts";
import { AudioPlayer } from "./audio-player.ts";
import { type Deliver, Openers } from "./openers.ts";
import { Schedule } from "./sync.ts";
import { VideoPlayer } from "./video-player.ts";
import type { Views } from "./views.ts";
import type { PlayoutReport, ToPlayer } from "./worklets.ts";

/** A worklet that did not report for this long stands still: packets for it would only pile up. */
const PLAYOUT_ALIVE_MS = 500;
/** How often the sound is told to wait for the picture. */
const FOLLOW_EVERY_MS = 200;

/** The part of `IncomingStats` that is known where frames are played. */
export type PlayingStats = Pick<
  IncomingStats,
  "layer" | "framesDecoded" | "framesDrawn" | "audioConcealed" | "audioTargetMs" | "lipSyncMs" | "audioRms"
>;

interface Playing {
  schedule: Schedule;
  audio: AudioPlayer;
  video: VideoPlayer;
}

export interface PlayersOptions {
  views: Views;
  playout: MessagePort | null;
  requestKey: (stream: StreamKey, layer: number) => void;
  nowMs: () => number;
  /** Something that must not happen did. */
  fault: (error: unknown) => void;
}

export class Players {
  readonly #options: PlayersOptions;
  readonly #streams = new Map<StreamKey, Playing>();
  readonly openers: Openers;
  #reportedMs = Number.NEGATIVE_INFINITY;
  #followedMs = 0;

  constructor(options: PlayersOptions) {
    this.#options = options;
    const deliver: Deliver = (stream, header, payload) => this.#opened(stream, header, payload);
    this.openers = new Openers(deliver, options.fault, options.nowMs);
    if (options.playout) options.playout.onmessage = ({ data }: MessageEvent<PlayoutReport>) => this.#report(data);
  }

  gone(stream: StreamKey, layer: number, upTo: number): void {
    this.#streams.get(stream)?.video.gone(layer, upTo);
  }

  forget(stream: StreamKey): void {
    const playing = this.#streams.get(stream);
    this.#streams.delete(stream);
    playing?.audio.close();
    playing?.video.close();
  }

  /** The sender left: its keys and all its streams. */
  forgetSender(node: number): void {
    this.openers.forget(node);
    for (const stream of [...this.#streams.keys()]) if (streamRef(stream).node === node) this.forget(stream);
  }

  close(): void {
    for (const stream of [...this.#streams.keys()]) this.forget(stream);
    this.#options.playout?.close();
  }

  /** Each 10 ms. */
  tick(): void {
    const now = this.#options.nowMs();
    const follow = now - this.#followedMs >= FOLLOW_EVERY_MS;
    if (follow) this.#followedMs = now;
    for (const { schedule, audio, video } of this.#streams.values()) {
      video.tick();
      const lag = follow ? schedule.pictureLag(now) : null;
      if (lag !== null) audio.follow(lag);
    }
  }

  levels(): { stream: StreamKey; level: number }[] {
    const now = this.#options.nowMs();
    return [...this.#streams].map(([stream, { audio }]) => ({ stream, level: audio.level(now) }));
  }

  stats(stream: StreamKey): PlayingStats {
    const playing = this.#streams.get(stream);
    const video = playing?.video.stats;
    const sound = playing?.audio.report;
    return {
      layer: video?.layer ?? null,
      framesDecoded: video?.decoded ?? 0,
      framesDrawn: video?.drawn ?? 0,
      audioConcealed: sound?.concealed ?? 0,
      audioTargetMs: Math.round(sound?.targetMs ?? 0),
      lipSyncMs: video?.lipSyncMs === null || video === undefined ? null : Math.round(video.lipSyncMs),
      audioRms: playing?.audio.rms ?? 0,
    };
  }

  #opened(stream: StreamKey, header: Header, payload: Uint8Array<ArrayBuffer>): void {
    if (header.kind !== "audio" && header.kind !== "video") return;
    const playing = this.#playing(stream);
    if (header.kind === "audio") playing.audio.push(header, payload, this.#options.nowMs());
    else playing.video.push(header, payload);
  }

  #playing(stream: StreamKey): Playing {
    let playing = this.#streams.get(stream);
    if (playing === undefined) {
      const { views, requestKey, nowMs } = this.#options;
      const schedule = new Schedule();
      const audio = new AudioPlayer(stream, (message, transfer) => this.#toPlayout(message, transfer));
      const video = new VideoPlayer(
        {
          requestKey: (layer) => requestKey(stream, layer),
          draw: (frame, rotation) => views.draw(stream, frame, rotation),
          viewSide: () => views.side(stream),
        },
        schedule,
        nowMs,
      );
      playing = { schedule, audio, video };
      this.#streams.set(stream, playing);
    }
    return playing;
  }

  #toPlayout(message: ToPlayer, transfer: Transferable[]): void {
    const now = this.#options.nowMs();
    if ((message.type === "pcm" || message.type === "pause") && now - this.#reportedMs > PLAYOUT_ALIVE_MS) return;
    this.#options.playout?.postMessage(message, transfer);
  }

  #report(report: PlayoutReport): void {
    const now = this.#options.nowMs();
    this.#reportedMs = now;
    for (const player of report.streams) {
      const playing = this.#streams.get(player.stream);
      if (playing === undefined) continue;
      playing.audio.heard(player);
      if (player.captureUs !== null) playing.schedule.heard(player.captureUs / 1000, now + report.latencyMs, now);
    }
  }
}

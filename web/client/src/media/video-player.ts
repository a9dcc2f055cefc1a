/**
 * The screen's end of the video path: opened pictures of one stream in, decoded and shown when the schedule says.
 *
 * One decoder takes one spatial layer at a time and changes over at key frames. Decoding goes on while the page is
 * hidden, so that showing it again needs no key frame. Every decoded picture is closed: shown, overtaken or at the end.
 */
import type { Header } from "../frame/header.ts";
import { wantedLayer } from "./layers.ts";
import { FrameOrder } from "./order.ts";
import type { Schedule } from "./sync.ts";

export interface VideoPlayerOut {
  requestKey(layer: number): void;
  /** Whether the picture was drawn anywhere. */
  draw(frame: VideoFrame, rotation: number): boolean;
  /** Longer side of the largest view, pixels; 0 when there is none. */
  viewSide(): number;
}

export interface VideoPlayerStats {
  layer: number | null;
  decoded: number;
  drawn: number;
  keyRequests: number;
  lost: number;
  lipSyncMs: number | null;
  /** The decoder gave up, this often. */
  failures: number;
}

interface Picture {
  header: Header;
  payload: Uint8Array<ArrayBuffer>;
}

interface Layer {
  order: FrameOrder<Picture>;
  /** Longer side, from the last key frame. */
  side: number | null;
  lastMs: number;
}

/** A layer of which nothing came for this long does not come. */
const SILENT_MS = 700;
/** A key frame is asked for again after this long; transport merges what is too much. */
const ASK_EVERY_MS = 500;
/** Decoded pictures waiting for their time: more are memory, not smoothness. */
const MOST_QUEUED = 12;
/** A decoder this far behind leaves out what it may. */
const BEHIND = 6;
/** ... and this far behind is given up: the picture goes on with the next key frame instead of later and later. */
const HOPELESS = 30;

export class VideoPlayer {
  readonly #out: VideoPlayerOut;
  readonly #schedule: Schedule;
  readonly #nowMs: () => number;
  readonly #layers = new Map<number, Layer>();
  #current: number | null = null;
  #decoder: VideoDecoder | null = null;
  readonly #rotations = new Map<number, number>();
  #queue: { captureMs: number; frame: VideoFrame; rotation: number }[] = [];
  #askedMs = Number.NEGATIVE_INFINITY;
  readonly #stats: VideoPlayerStats = {
    layer: null,
    decoded: 0,
    drawn: 0,
    keyRequests: 0,
    lost: 0,
    lipSyncMs: null,
    failures: 0,
  };

  constructor(out: VideoPlayerOut, schedule: Schedule, nowMs: () => number) {
    this.#out = out;
    this.#schedule = schedule;
    this.#nowMs = nowMs;
  }

  get stats(): VideoPlayerStats {
    let lost = 0;
    for (const layer of this.#layers.values()) lost += layer.order.lost;
    return { ...this.#stats, layer: this.#current, lost };
  }

  push(header: Header, payload: Uint8Array<ArrayBuffer>): void {
    const now = this.#nowMs();
    let layer = this.#layers.get(header.spatial);
    if (layer === undefined) {
      layer = { order: new FrameOrder(), side: null, lastMs: now };
      this.#layers.set(header.spatial, layer);
    }
    layer.lastMs = now;
    if (header.key) layer.side = Math.max(header.width, header.height);
    layer.order.push(header, { header, payload }, now);
    this.#pump(now);
  }

  gone(layer: number, upTo: number): void {
    this.#layers.get(layer)?.order.gone(upTo);
    this.#pump(this.#nowMs());
  }

  /** Each 10 ms: what waited long enough, what is due, what must be asked for. */
  tick(): void {
    const now = this.#nowMs();
    this.#pump(now);
    this.#show(now);
  }

  close(): void {
    if (this.#decoder?.state === "configured") this.#decoder.close();
    this.#decoder = null;
    for (const { frame } of this.#queue) frame.close();
    this.#queue = [];
    this.#layers.clear();
  }

  #pump(now: number): void {
    const coming = (layer: Layer | undefined): boolean => layer !== undefined && now - layer.lastMs < SILENT_MS;
    const sides = Array.from({ length: Math.max(-1, ...this.#layers.keys()) + 1 }, (_, i) => {
      const layer = this.#layers.get(i);
      return coming(layer) ? (layer?.side ?? 0) : null;
    });
    const wanted = wantedLayer(sides, this.#out.viewSide());
    for (const [id, layer] of this.#layers) {
      let switching = false;
      for (const picture of layer.order.poll(now)) {
        const current = this.#current === null ? undefined : this.#layers.get(this.#current);
        // Any layer is better than none.
        const better = id === wanted || !coming(current) || current?.order.stuckSinceMs !== null;
        if (id !== this.#current && picture.header.key && better) {
          this.#current = id;
          switching = true;
        }
        if (id === this.#current) this.#decode(picture, layer);
      }
      if (switching) this.#askedMs = Number.NEGATIVE_INFINITY;
    }
    this.#ask(now, wanted);
  }

  /** Asks for a key frame of the wanted layer when it is stuck, or another one plays. */
  #ask(now: number, wanted: number | null): void {
    if (wanted === null || now - this.#askedMs < ASK_EVERY_MS) return;
    const stuck = this.#layers.get(wanted)?.order.stuckSinceMs ?? null;
    if (wanted === this.#current && stuck === null) return;
    this.#askedMs = now;
    this.#stats.keyRequests += 1;
    this.#out.requestKey(wanted);
  }

  #decode({ header, payload }: Picture, layer: Layer): void {
    if (this.#decoder?.state !== "configured") {
      if (!header.key) {
        layer.order.break(this.#nowMs());
        return;
      }
      this.#decoder = this.#make();
    }
    if (header.droppable && this.#decoder.decodeQueueSize > BEHIND) return;
    if (this.#decoder.decodeQueueSize > HOPELESS) {
      this.#failed(this.#decoder);
      return;
    }
    if (this.#rotations.size > 120) this.#rotations.clear();
    this.#rotations.set(header.captureUs, header.rotation);
    const type = header.key ? "key" : "delta";
    try {
      this.#decoder.decode(new EncodedVideoChunk({ type, timestamp: header.captureUs, data: payload }));
    } catch {
      // Sealed by a member, and no picture all the same.
      this.#failed(this.#decoder);
    }
  }

  /** The decoder gave up: a key frame begins with another one. */
  #failed(decoder: VideoDecoder): void {
    if (this.#decoder !== decoder) return;
    if (decoder.state === "configured") decoder.close();
    this.#decoder = null;
    this.#stats.failures += 1;
    const now = this.#nowMs();
    for (const layer of this.#layers.values()) layer.order.break(now);
  }

  #make(): VideoDecoder {
    const decoder = new VideoDecoder({
      output: (frame) => this.#decoded(frame),
      error: () => this.#failed(decoder),
    });
    decoder.configure({ codec: "vp8", optimizeForLatency: true });
    return decoder;
  }

  #decoded(frame: VideoFrame): void {
    const now = this.#nowMs();
    const rotation = this.#rotations.get(frame.timestamp) ?? 0;
    this.#rotations.delete(frame.timestamp);
    this.#stats.decoded += 1;
    const captureMs = frame.timestamp / 1000;
    this.#schedule.ready(captureMs, now);
    this.#queue.push({ captureMs, frame, rotation });
    if (this.#queue.length > MOST_QUEUED) this.#queue.shift()?.frame.close();
    this.#show(now);
  }

  /** Draws the latest picture whose time has come, and closes it and all before it. */
  #show(now: number): void {
    let latest = -1;
    for (const [i, picture] of this.#queue.entries()) {
      const due = this.#schedule.due(picture.captureMs, now);
      if (due === null || due <= now) latest = i;
    }
    for (const [i, { captureMs, frame, rotation }] of this.#queue.splice(0, latest + 1).entries()) {
      if (i === latest && this.#out.draw(frame, rotation)) {
        this.#stats.drawn += 1;
        this.#stats.lipSyncMs = this.#schedule.ahead(captureMs, now);
      }
      frame.close();
    }
  }
}

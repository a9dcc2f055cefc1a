/**
 * The camera's end of the video path: one VP8 encoder per spatial layer, all fed with the same pictures; the encoders
 * scale. Key frames come at the start and when asked for, never by a timer.
 *
 * Lives in the media worker. A picture is closed as soon as the encoders have it, and is left out when they are behind.
 * Costs at 640x360 + 320x180: 2 to 5 ms per picture in software.
 */
import type { OwnStats, VideoEncoding } from "../worker/messages.ts";
import { Adaptation } from "./adapt.ts";
import { ClockMap } from "./clock.ts";
import { LayerMeter } from "./layer-meter.ts";
import { Dependencies, distinct, fit } from "./layers.ts";
import { Restarts } from "./restarts.ts";

/** What is known of an encoded picture; the sealer adds sender, number and generation. */
export interface EncodedPicture {
  key: boolean;
  spatial: number;
  temporal: number;
  width: number;
  height: number;
  farthest: number;
  nearest: number;
  droppable: boolean;
  captureUs: number;
  rotation: 0 | 1 | 2 | 3;
}

export interface VideoOut {
  picture(picture: EncodedPicture, payload: Uint8Array<ArrayBuffer>): void;
  encoding(layers: VideoEncoding[], reason: "start" | "uplink" | "recovered"): void;
  /** The browser refuses to encode; nothing more comes. */
  failed(message: string): void;
}

/** Pictures an encoder may have before it; more means that it is slower than the camera. */
const MOST_QUEUED = 2;
/** A camera's beat is uneven: a picture this much before its turn is taken. */
const EARLY_US = 4_000;

export class VideoSender {
  readonly #out: VideoOut;
  readonly #nowMs: () => number;
  readonly #clock = new ClockMap();
  /** Lowest first; for a small source the lower ones are all. */
  readonly #order: VideoEncoding[];
  #adaptation: Adaptation;
  /** How many of the order the source is large enough for. */
  #ordered: number;
  #layers: LayerEncoder[] = [];
  #mode: Promise<string | null> | null = null;
  #scalabilityMode: string | null = null;
  #reader: ReadableStreamDefaultReader<VideoFrame> | null = null;
  #source = { width: 0, height: 0 };
  readonly #restarts = new Restarts();
  #announced = false;
  #closed = false;
  #idle: ReadonlySet<number> = new Set();

  /** `nowMs` is the node's clock: milliseconds since it started. */
  constructor(order: VideoEncoding[], out: VideoOut, nowMs: () => number) {
    this.#out = out;
    this.#nowMs = nowMs;
    this.#order = order;
    this.#adaptation = new Adaptation(order);
    this.#ordered = order.length;
  }

  /** Takes pictures from a stream instead of `push`. The stream is this sender's from now on. */
  read(readable: ReadableStream<VideoFrame>): void {
    this.#reader?.cancel().catch(() => {});
    const reader = readable.getReader();
    this.#reader = reader;
    const pump = async (): Promise<void> => {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        if (this.#closed || this.#reader !== reader) value.close();
        else this.push(value);
      }
    };
    // A stream that ends by an error is a camera that was taken away: the page hears of it from the track.
    pump().catch(() => {});
  }

  /** Encodes a picture in every layer whose turn it is, and closes it. */
  push(frame: VideoFrame): void {
    if (this.#closed || !this.#ready(frame)) {
      frame.close();
      return;
    }
    const captureUs = this.#clock.map(frame.timestamp, this.#nowMs() * 1000);
    const rotation = rotationOf(frame);
    const stamped = new VideoFrame(frame, { timestamp: captureUs });
    frame.close();
    try {
      for (const layer of this.#layers) layer.encode(stamped, captureUs, rotation);
    } finally {
      stamped.close();
    }
  }

  /** Layers that are encoded elsewhere at present. They begin with a key frame when they are no longer named. */
  set idle(layers: ReadonlySet<number>) {
    if (layers.size === this.#idle.size && [...layers].every((layer) => this.#idle.has(layer))) return;
    this.#idle = layers;
    this.#apply();
  }

  keyFrame(layer: number): void {
    this.#layers[layer]?.wantKey();
  }

  uplink(share: number): void {
    this.#follow(this.#adaptation.uplink(share, this.#nowMs()));
  }

  tick(): void {
    this.#follow(this.#adaptation.tick(this.#nowMs()));
  }

  stats(): OwnStats["layers"] {
    return this.#layers.map((layer) => layer.stats(this.#nowMs()));
  }

  close(): void {
    this.#closed = true;
    this.#reader?.cancel().catch(() => {});
    for (const layer of this.#layers) layer.close();
  }

  #follow(change: ReturnType<Adaptation["tick"]>): void {
    if (change === null) return;
    this.#apply();
    this.#announce(change.reason);
  }

  /** Whether pictures can be encoded; the first one, or one of another shape, sets the encoders up. */
  #ready(frame: VideoFrame): boolean {
    if (this.#mode === null) {
      this.#mode = temporalMode();
      this.#mode.then((mode) => {
        this.#scalabilityMode = mode;
        this.#source = { width: 0, height: 0 };
      });
      this.#source = { width: -1, height: -1 };
    }
    if (this.#source.width < 0) return false;
    // Chromium leaves the scaling that was asked of a camera to whoever uses the picture: only the shown size tells.
    const { displayWidth, displayHeight } = frame;
    const upright = rotationOf(frame) % 2 === 0;
    const [width, height] = upright ? [displayWidth, displayHeight] : [displayHeight, displayWidth];
    if (width !== this.#source.width || height !== this.#source.height) {
      this.#source = { width, height };
      const order = distinct(this.#order, this.#source);
      const others = order.length !== this.#ordered;
      if (others) this.#adaptation = new Adaptation(order);
      this.#ordered = order.length;
      this.#apply();
      if (!this.#announced || others) this.#announce("start");
      this.#announced = true;
    }
    return true;
  }

  #announce(reason: "start" | "uplink" | "recovered"): void {
    const layers = this.#adaptation.layers.map((layer) => ({ ...layer, ...fit(layer, this.#source) }));
    if (this.#source.width > 0) this.#out.encoding(layers, reason);
  }

  /** Brings the encoders to what the adaptation says. */
  #apply(): void {
    if (this.#source.width <= 0 || this.#closed) return;
    const wanted = this.#adaptation.layers;
    for (const [spatial, order] of wanted.entries()) {
      this.#layers[spatial] ??= new LayerEncoder(spatial, this.#out, (message) => this.#failed(spatial, message));
      if (this.#idle.has(spatial)) this.#layers[spatial].pause();
      else this.#layers[spatial].configure({ ...order, ...fit(order, this.#source) }, this.#scalabilityMode);
    }
    for (const layer of this.#layers.slice(wanted.length)) layer.pause();
  }

  #failed(spatial: number, message: string): void {
    if (this.#closed) return;
    if (!this.#restarts.allow(this.#nowMs())) {
      this.close();
      this.#out.failed(message);
      return;
    }
    const order = this.#idle.has(spatial) ? undefined : this.#adaptation.layers[spatial];
    if (order) this.#layers[spatial]?.configure({ ...order, ...fit(order, this.#source) }, this.#scalabilityMode);
  }
}

/** One spatial layer: an encoder, its dependencies and its beat. */
class LayerEncoder {
  readonly #spatial: number;
  readonly #out: VideoOut;
  readonly #onFailed: (message: string) => void;
  #dependencies = new Dependencies();
  #encoder: VideoEncoder | null = null;
  #config: VideoEncoding | null = null;
  #key = true;
  #nextUs = 0;
  /** Capture time to rotation, of pictures in the encoder. */
  readonly #inside = new Map<number, 0 | 1 | 2 | 3>();
  readonly #meter = new LayerMeter();

  constructor(spatial: number, out: VideoOut, onFailed: (message: string) => void) {
    this.#spatial = spatial;
    this.#out = out;
    this.#onFailed = onFailed;
  }

  configure(config: VideoEncoding, scalabilityMode: string | null): void {
    const before = this.#config;
    this.#config = config;
    const resized = before?.width !== config.width || before.height !== config.height;
    const fresh = this.#encoder?.state !== "configured";
    if (fresh) {
      this.#encoder = new VideoEncoder({
        output: (chunk, metadata) => this.#output(chunk, metadata),
        error: (error) => {
          this.#encoder = null;
          this.#onFailed(error.message);
        },
      });
    } else if (!resized && before?.bps === config.bps && before.fps === config.fps) return;
    // Not for another rate: that comes when links are full, and a key frame would fill them more.
    if (fresh || resized) this.#key = true;
    this.#encoder?.configure({
      codec: "vp8",
      width: config.width,
      height: config.height,
      bitrate: config.bps,
      framerate: config.fps,
      latencyMode: "realtime",
      ...(scalabilityMode === null ? {} : { scalabilityMode }),
    });
  }

  wantKey(): void {
    this.#key = true;
  }

  /** Stops encoding; `configure` goes on with a key frame. */
  pause(): void {
    this.#config = null;
    if (this.#encoder?.state === "configured") this.#encoder.close();
    this.#encoder = null;
    this.#inside.clear();
    this.#key = true;
  }

  close(): void {
    this.pause();
  }

  encode(frame: VideoFrame, captureUs: number, rotation: 0 | 1 | 2 | 3): void {
    if (this.#config === null || this.#encoder?.state !== "configured") return;
    if (captureUs + EARLY_US < this.#nextUs || this.#encoder.encodeQueueSize > MOST_QUEUED) return;
    const beat = 1e6 / this.#config.fps;
    this.#nextUs = Math.max(this.#nextUs + beat, captureUs);
    if (this.#inside.size > 60) this.#inside.clear();
    this.#inside.set(captureUs, rotation);
    this.#encoder.encode(frame, { keyFrame: this.#key });
    this.#key = false;
  }

  stats(nowMs: number): OwnStats["layers"][number] {
    const { width = 0, height = 0 } = this.#config ?? {};
    return { width, height, ...this.#meter.stats(nowMs) };
  }

  #output(chunk: EncodedVideoChunk, metadata: EncodedVideoChunkMetadata | undefined): void {
    if (this.#config === null) return;
    const payload = new Uint8Array(chunk.byteLength);
    chunk.copyTo(payload);
    const key = chunk.type === "key";
    const temporal = key ? 0 : Math.min(metadata?.svc?.temporalLayerId ?? 0, 3);
    const rotation = this.#inside.get(chunk.timestamp) ?? 0;
    this.#inside.delete(chunk.timestamp);
    this.#meter.add(key, payload.length);
    this.#out.picture(
      {
        key,
        spatial: this.#spatial,
        temporal,
        width: key ? this.#config.width : 0,
        height: key ? this.#config.height : 0,
        ...this.#dependencies.next(key, temporal),
        captureUs: chunk.timestamp,
        rotation,
      },
      payload,
    );
  }
}

/** Quarter turns that the picture needs, where the browser says so. */
function rotationOf(frame: VideoFrame): 0 | 1 | 2 | 3 {
  return ((((frame as { rotation?: number }).rotation ?? 0) / 90) & 3) as 0 | 1 | 2 | 3;
}

/** "L1T2" where the browser can encode it, else null: every frame is then needed by the next. */
async function temporalMode(): Promise<string | null> {
  const config = { codec: "vp8", width: 640, height: 360, bitrate: 600_000, framerate: 30, scalabilityMode: "L1T2" };
  try {
    return (await VideoEncoder.isConfigSupported(config)).supported === true ? "L1T2" : null;
  } catch {
    return null;
  }
}

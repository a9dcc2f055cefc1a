/**
 * A tap in a page's media worker: what leaves through its data channels, and a way to send other bytes through them, as
 * a page that does not play by the rules would; and what its encoders gave it. It wraps the browser's own functions and
 * needs nothing from the client; the header's layout is the one of docs/ref/frame.md.
 */
import type { Page, WebWorker } from "puppeteer-core";
import { sleep, until, within } from "./wait.ts";

/** One sealed frame that was sent, once per child. */
export interface Sent {
  /** `sender/stream/track/layer/number/generation`. */
  frame: string;
  sender: number;
  video: boolean;
  /** SHA-256 of all its bytes. */
  digest: string;
  bytes: number;
  /** Unix time in ms, with fractions. */
  atMs: number;
}

/**
 * `altered`: one bit of the ciphertext; `replayed`: the same bytes again; `truncated`: the header whole and the rest
 * cut; `stub`: too short for a header; `noise`: random bytes.
 */
export type Forgery = "altered" | "replayed" | "truncated" | "stub" | "noise";

interface TapScope {
  groveTap: {
    sent: Sent[];
    last: Map<RTCDataChannel, Uint8Array>;
    send: (this: RTCDataChannel, data: ArrayBufferView<ArrayBuffer>) => void;
    recording: {
      most: number;
      bytes: number;
      encoded: { video: boolean; timestamp: number; bytes: Uint8Array }[];
      sent: Uint8Array[];
    } | null;
  };
}

/** The worker that holds the page's data channels. */
export async function mediaWorker(page: Page): Promise<WebWorker> {
  await until("the page has a media worker", () => page.workers().length > 0 || "none", { ms: 15_000 });
  const worker = page.workers()[0];
  if (!worker) throw new Error("the media worker vanished");
  return worker;
}

/** What passed through a page's media worker while {@link Tap.record} was on. */
export interface Recording {
  /** What its encoders gave, before anything was done to it. `timestamp`: their own, microseconds. */
  encoded: { video: boolean; timestamp: number; bytes: Buffer }[];
  /** What was handed to its channels for frames, once per child. */
  sent: Buffer[];
}

/** Bytes of a {@link Recording}; half a minute of a call of two. */
const MOST_RECORDED = 16_000_000;

export class Tap {
  readonly #worker: WebWorker;

  private constructor(worker: WebWorker) {
    this.#worker = worker;
  }

  static async install(page: Page): Promise<Tap> {
    const worker = await mediaWorker(page);
    await within(10_000, "the tap is installed", worker.evaluate(installTap));
    return new Tap(worker);
  }

  /** Frames that left since the last call. */
  drain(): Promise<Sent[]> {
    const drain = (): Sent[] => (globalThis as unknown as TapScope).groveTap.sent.splice(0);
    return within(10_000, "the tap answers", this.#worker.evaluate(drain));
  }

  /** Look at whole frames for so long. */
  async record(ms: number): Promise<Recording> {
    await within(10_000, "the recording begins", this.#worker.evaluate(startRecording, MOST_RECORDED));
    await sleep(ms);
    const { bytes, encoded, sent } = await within(10_000, "the recording ends", this.#worker.evaluate(endRecording));
    if (bytes > MOST_RECORDED) throw new Error("more passed than is kept");
    const whole = (text: string): Buffer => Buffer.from(text, "base64");
    return { encoded: encoded.map((one) => ({ ...one, bytes: whole(one.bytes) })), sent: sent.map(whole) };
  }

  /** From now on this page's ciphers leave everything as it is: what they give is the plaintext, and a tag of zeros. */
  async stopSealing(): Promise<void> {
    await within(10_000, "nothing is sealed any more", this.#worker.evaluate(stopSealing));
  }

  /** Send `count` forgeries of the frame last sent on each channel. Returns how many left. */
  forge(kind: Forgery, count: number): Promise<number> {
    return within(10_000, "forgeries are sent", this.#worker.evaluate(forge, kind, count));
  }
}

function installTap(): void {
  const scope = globalThis as unknown as TapScope;
  const prototype = RTCDataChannel.prototype;
  const send = prototype.send as TapScope["groveTap"]["send"];
  const tap: TapScope["groveTap"] = { sent: [], last: new Map(), send, recording: null };
  scope.groveTap = tap;
  prototype.send = function (this: RTCDataChannel, data: unknown): void {
    send.call(this, data as ArrayBufferView<ArrayBuffer>);
    if (typeof data === "string") return;
    const bytes = new Uint8Array(data instanceof ArrayBuffer ? data : (data as Uint8Array<ArrayBuffer>)).slice();
    const { recording } = tap;
    if (recording) {
      recording.bytes += bytes.length;
      if (recording.bytes <= recording.most) recording.sent.push(bytes);
    }
    if (bytes.length < 40) return;
    const atMs = performance.timeOrigin + performance.now();
    const view = new DataView(bytes.buffer);
    const kind = (view.getUint8(1) >> 4) & 3;
    const sender = view.getUint16(16);
    const frame = [sender, view.getUint8(18), (view.getUint8(1) >> 2) & 3, view.getUint32(2), view.getUint16(19)].join(
      "/",
    );
    tap.last.set(this, bytes);
    void crypto.subtle.digest("SHA-256", bytes).then((hash) => {
      const digest = [...new Uint8Array(hash)].map((b) => b.toString(16).padStart(2, "0")).join("");
      if (tap.sent.length < 20_000)
        tap.sent.push({ frame, sender, video: kind === 0, digest, bytes: bytes.length, atMs });
    });
  } as typeof prototype.send;
  // The client copies what an encoder gives it exactly once, and copies no chunk that it did not encode.
  for (const { prototype: chunk } of [EncodedVideoChunk, EncodedAudioChunk]) {
    const copyTo = chunk.copyTo;
    chunk.copyTo = function (this: EncodedVideoChunk & EncodedAudioChunk, to: AllowSharedBufferSource): void {
      copyTo.call(this, to);
      const { recording } = tap;
      if (!recording) return;
      recording.bytes += this.byteLength;
      if (recording.bytes > recording.most) return;
      const bytes = new Uint8Array(this.byteLength);
      copyTo.call(this, bytes);
      recording.encoded.push({ video: this instanceof EncodedVideoChunk, timestamp: this.timestamp, bytes });
    };
  }
}

function startRecording(most: number): void {
  (globalThis as unknown as TapScope).groveTap.recording = { most, bytes: 0, encoded: [], sent: [] };
}

function endRecording(): {
  bytes: number;
  encoded: { video: boolean; timestamp: number; bytes: string }[];
  sent: string[];
} {
  const { groveTap } = globalThis as unknown as TapScope;
  const { bytes, encoded, sent } = groveTap.recording ?? { bytes: 0, encoded: [], sent: [] };
  groveTap.recording = null;
  const text = (whole: Uint8Array): string => {
    let letters = "";
    for (let at = 0; at < whole.length; at += 8192) letters += String.fromCharCode(...whole.subarray(at, at + 8192));
    return btoa(letters);
  };
  return { bytes, encoded: encoded.map((one) => ({ ...one, bytes: text(one.bytes) })), sent: sent.map(text) };
}

function stopSealing(): void {
  SubtleCrypto.prototype.encrypt = (_algorithm, _key, data) => {
    const plain = new Uint8Array(ArrayBuffer.isView(data) ? data.buffer : data);
    const from = ArrayBuffer.isView(data) ? data.byteOffset : 0;
    const bytes = new Uint8Array(data.byteLength + 16);
    bytes.set(plain.subarray(from, from + data.byteLength));
    return Promise.resolve(bytes.buffer);
  };
}

function forge(kind: Forgery, count: number): number {
  const { last, send } = (globalThis as unknown as TapScope).groveTap;
  let left = 0;
  for (const [channel, bytes] of last) {
    if (channel.readyState !== "open") continue;
    for (let i = 0; i < count; i++) {
      let forged: Uint8Array<ArrayBuffer> = new Uint8Array(bytes);
      if (kind === "altered" || kind === "truncated") {
        // A number far from the true ones, so that it is not taken for a copy of a frame already seen.
        new DataView(forged.buffer).setUint32(2, new DataView(forged.buffer).getUint32(2) + 40 + i);
        if (kind === "altered") forged[30] = (forged[30] ?? 0) ^ 1;
        else forged = forged.slice(0, 41);
      } else if (kind === "stub") {
        forged = forged.slice(0, 1 + (i % 39));
      } else if (kind === "noise") {
        forged = crypto.getRandomValues(new Uint8Array(200));
      }
      send.call(channel, forged);
      left += 1;
    }
  }
  return left;
}

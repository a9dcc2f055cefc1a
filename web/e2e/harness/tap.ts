/**
 * A tap in a page's media worker: what leaves through its data channels, and a way to send other bytes through them, as
 * a page that does not play by the rules would. It wraps the browser's own `RTCDataChannel.send` and needs nothing from
 * the client; the header's layout is the one of docs/ref/frame.md.
 */
import type { Page, WebWorker } from "puppeteer-core";
import { until, within } from "./wait.ts";

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
  };
}

/** The worker that holds the page's data channels. */
export async function mediaWorker(page: Page): Promise<WebWorker> {
  await until("the page has a media worker", () => page.workers().length > 0 || "none", { ms: 15_000 });
  const worker = page.workers()[0];
  if (!worker) throw new Error("the media worker vanished");
  return worker;
}

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

  /** Send `count` forgeries of the frame last sent on each channel. Returns how many left. */
  forge(kind: Forgery, count: number): Promise<number> {
    return within(10_000, "forgeries are sent", this.#worker.evaluate(forge, kind, count));
  }
}

function installTap(): void {
  const scope = globalThis as unknown as TapScope;
  const prototype = RTCDataChannel.prototype;
  const send = prototype.send as TapScope["groveTap"]["send"];
  const tap: TapScope["groveTap"] = { sent: [], last: new Map(), send };
  scope.groveTap = tap;
  prototype.send = function (this: RTCDataChannel, data: unknown): void {
    send.call(this, data as ArrayBufferView<ArrayBuffer>);
    if (typeof data === "string") return;
    const bytes = new Uint8Array(data instanceof ArrayBuffer ? data : (data as Uint8Array<ArrayBuffer>)).slice();
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

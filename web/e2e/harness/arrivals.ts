/**
 * When frames come into a page's media worker, beside {@link Tap} which says when they left. It wraps the browser's own
 * `RTCDataChannel.onmessage` and needs nothing from the client; the header's layout is the one of docs/ref/frame.md.
 */
import type { Page, WebWorker } from "puppeteer-core";
import { within } from "./wait.ts";

/** One frame that came, once per channel message. */
export interface Came {
  /** As `Sent.frame`. */
  frame: string;
  sender: number;
  video: boolean;
  /** Unix time in ms, with fractions. */
  atMs: number;
}

interface ArrivalsScope {
  groveCame: Came[];
}

export class Arrivals {
  #worker: WebWorker | null = null;

  /** Before the page loads: frames are seen from the first one on. */
  prepare(page: Page): void {
    page.on("workercreated", (worker) => {
      this.#worker = worker;
      void worker.evaluate(install).catch(() => undefined);
    });
  }

  /** Frames that came since the last call. */
  drain(): Promise<Came[]> {
    if (!this.#worker) return Promise.resolve([]);
    const drain = (): Came[] => (globalThis as unknown as ArrivalsScope).groveCame.splice(0);
    return within(10_000, "arrivals are told", this.#worker.evaluate(drain));
  }
}

function install(): void {
  const came: Came[] = [];
  (globalThis as unknown as ArrivalsScope).groveCame = came;
  const property = Object.getOwnPropertyDescriptor(RTCDataChannel.prototype, "onmessage");
  Object.defineProperty(RTCDataChannel.prototype, "onmessage", {
    ...property,
    set(this: RTCDataChannel, handler: ((event: MessageEvent) => void) | null) {
      const look = (event: MessageEvent): void => {
        if (event.data instanceof ArrayBuffer && event.data.byteLength >= 40 && came.length < 50_000) {
          const view = new DataView(event.data);
          const head = view.getUint8(1);
          const sender = view.getUint16(16);
          const frame = [sender, view.getUint8(18), (head >> 2) & 3, view.getUint32(2), view.getUint16(19)].join("/");
          const atMs = performance.timeOrigin + performance.now();
          came.push({ frame, sender, video: ((head >> 4) & 3) === 0, atMs });
        }
        handler?.call(this, event);
      };
      property?.set?.call(this, handler ? look : null);
    },
  });
}

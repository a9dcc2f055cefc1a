/**
 * Where streams are drawn: hands canvases to the worker, keeps the sizes at which they are shown, and tells the server
 * what is wanted of each stream (`wants.ts`).
 */
import type { View } from "../api.ts";
import type { StreamRef, Want } from "../signal/messages.ts";
import type { ToWorker } from "../worker/messages.ts";
import { streamId } from "./plan.ts";
import type { Model } from "./state.ts";
import { changedWants, SETTLE_MS, type Shown, UNSHOWN_MS } from "./wants.ts";

/** Stands for a want that the server may or may not know: no layer has this number. */
const UNKNOWN = -1;

export interface ViewsHost {
  model(): Model;
  toWorker(message: ToWorker, transfer?: Transferable[]): void;
  /** False when the server cannot be told at present. */
  want(wants: Want[]): boolean;
}

export class Views {
  readonly #host: ViewsHost;
  readonly #views = new Map<number, { stream: StreamRef; width: number | null }>();
  /** Since when a stream has had no view. */
  readonly #unshownMs = new Map<string, number>();
  #told = new Map<string, number | null>();
  #next = 1;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(host: ViewsHost) {
    this.#host = host;
  }

  attach(stream: StreamRef, canvas: HTMLCanvasElement): View {
    const id = this.#next++;
    const view: { stream: StreamRef; width: number | null } = { stream, width: null };
    const { width, height } = canvas;
    const offscreen = canvas.transferControlToOffscreen();
    this.#views.set(id, view);
    this.#host.toWorker({ type: "canvas", view: id, stream, canvas: offscreen, width, height }, [offscreen]);
    this.#settle();
    return {
      resize: (wide, high) => {
        if (!this.#views.has(id)) return;
        view.width = wide;
        this.#host.toWorker({ type: "view_size", view: id, width: Math.round(wide), height: Math.round(high) });
        this.#settle();
      },
      close: () => {
        if (!this.#views.delete(id)) return;
        this.#host.toWorker({ type: "canvas", view: id, stream: null, canvas: null, width: 0, height: 0 });
        this.#settle();
      },
    };
  }

  /** Tells what changed. Called about once a second, and when sizes have settled. */
  check(nowMs: number): void {
    const told = new Map(this.#told);
    const wants = changedWants(this.#shown(nowMs), told);
    if (wants.length === 0 || this.#host.want(wants)) this.#told = told;
  }

  /** The server may not have heard what was told last: tell all of it again. */
  restate(): void {
    for (const id of this.#told.keys()) this.#told.set(id, UNKNOWN);
    this.#settle();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#views.clear();
  }

  #settle(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.check(Date.now()), SETTLE_MS);
  }

  #shown(nowMs: number): Shown[] {
    const shown: Shown[] = [];
    for (const { participant } of this.#host.model().others.values()) {
      for (const { stream: number, layers } of participant.publications) {
        if (layers.length === 0) continue;
        const stream = { node: participant.node, stream: number };
        const id = streamId(stream);
        const widths = [...this.#views.values()]
          .filter((view) => streamId(view.stream) === id)
          .map(({ width }) => width);
        if (widths.length > 0) this.#unshownMs.delete(id);
        else if (!this.#unshownMs.has(id)) this.#unshownMs.set(id, nowMs);
        const unshownMs = nowMs - (this.#unshownMs.get(id) ?? nowMs);
        shown.push({ stream, layers, widths: widths.length === 0 && unshownMs < UNSHOWN_MS ? null : widths });
      }
    }
    const present = new Set(shown.map(({ stream }) => streamId(stream)));
    for (const id of this.#unshownMs.keys()) if (!present.has(id)) this.#unshownMs.delete(id);
    return shown;
  }
}

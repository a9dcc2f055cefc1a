/** The canvases of the page, and the pictures drawn on them. Lives in the media worker. */
import type { StreamRef } from "../signal/messages.ts";
import { type StreamKey, streamKey } from "../transport/types.ts";

interface View {
  stream: StreamKey;
  canvas: OffscreenCanvas;
  context: OffscreenCanvasRenderingContext2D | null;
  /** The longer side as shown, pixels. */
  side: number;
}

export class Views {
  readonly #views = new Map<number, View>();
  /** False: the page is hidden, nothing is drawn. */
  visible = true;

  /** A view begins (with its canvas), moves to another stream (without), or ends (`stream` null). */
  place(id: number, ref: StreamRef | null, canvas: OffscreenCanvas | null, width: number, height: number): void {
    const before = this.#views.get(id);
    if (ref === null) {
      this.#views.delete(id);
      return;
    }
    const place = canvas ?? before?.canvas;
    if (place === undefined) return;
    const context = place === before?.canvas ? before.context : place.getContext("2d", { alpha: false });
    const stream = streamKey(ref.node, ref.stream);
    if (before !== undefined && before.stream !== stream) context?.clearRect(0, 0, place.width, place.height);
    this.#views.set(id, { stream, canvas: place, context, side: Math.max(width, height) });
  }

  resize(id: number, width: number, height: number): void {
    const view = this.#views.get(id);
    if (view) view.side = Math.max(width, height);
  }

  /** The longer side of the largest view of a stream, 0 when it has none. */
  side(stream: StreamKey): number {
    let side = 0;
    for (const view of this.#views.values()) if (view.stream === stream) side = Math.max(side, view.side);
    return side;
  }

  /** Draws a picture, turned upright, on every view of its stream. True when there was one and the page is visible. */
  draw(stream: StreamKey, frame: VideoFrame, rotation: number): boolean {
    if (!this.visible) return false;
    let drawn = false;
    for (const view of this.#views.values()) {
      if (view.stream !== stream || view.context === null) continue;
      const [w, h] = [frame.displayWidth, frame.displayHeight];
      const [width, height] = rotation % 2 === 0 ? [w, h] : [h, w];
      if (view.canvas.width !== width) view.canvas.width = width;
      if (view.canvas.height !== height) view.canvas.height = height;
      if (rotation === 0) view.context.drawImage(frame, 0, 0, w, h);
      else {
        view.context.setTransform(1, 0, 0, 1, width / 2, height / 2);
        view.context.rotate((rotation * Math.PI) / 2);
        view.context.drawImage(frame, -w / 2, -h / 2, w, h);
        view.context.resetTransform();
      }
      drawn = true;
    }
    return drawn;
  }
}

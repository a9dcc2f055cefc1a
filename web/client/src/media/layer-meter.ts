/** What was encoded in one spatial layer: totals, and rates over about the last second. Pure. */
import type { OwnStats } from "../worker/messages.ts";

export class LayerMeter {
  #frames = 0;
  #keyFrames = 0;
  #second = { atMs: 0, frames: 0, bytes: 0, fps: 0, bps: 0 };

  add(key: boolean, bytes: number): void {
    this.#frames += 1;
    if (key) this.#keyFrames += 1;
    this.#second.bytes += bytes;
  }

  stats(nowMs: number): Omit<OwnStats["layers"][number], "width" | "height"> {
    const second = this.#second;
    const seconds = (nowMs - second.atMs) / 1000;
    if (seconds >= 0.9) {
      const frames = this.#frames - second.frames;
      this.#second = {
        atMs: nowMs,
        frames: this.#frames,
        bytes: 0,
        fps: second.atMs > 0 ? frames / seconds : 0,
        bps: second.atMs > 0 ? (second.bytes * 8) / seconds : 0,
      };
    }
    return {
      bps: Math.round(this.#second.bps),
      fps: Math.round(this.#second.fps * 10) / 10,
      frames: this.#frames,
      keyFrames: this.#keyFrames,
    };
  }
}

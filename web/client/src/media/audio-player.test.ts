import { describe, expect, it } from "vitest";
import { AudioPlayer } from "./audio-player.ts";
import type { PlayerReport, ToPlayer } from "./worklets.ts";

const report = (targetMs: number): PlayerReport => ({
  stream: 3,
  captureUs: 0,
  targetMs,
  delayMs: targetMs,
  concealed: 0,
  stretched: 0,
  dropped: 0,
  late: 0,
  power: 0,
  samples: 4800,
});

describe("the sound that waits for its picture", () => {
  const floors = (lags: number[], targetMs = 40): number[] => {
    const sent: ToPlayer[] = [];
    const player = new AudioPlayer(3, (message) => sent.push(message));
    player.heard(report(targetMs));
    for (const lag of lags) player.follow(lag);
    return sent.map((message) => (message.type === "floor" ? message.ms : Number.NaN));
  };

  it("does nothing while the picture is less than 50 ms late", () => {
    expect(floors([-100, 0, 30, 49])).toEqual([]);
  });

  it("raises its aim from where it is, 10 ms at a time, while the picture is later", () => {
    expect(floors([120, 110, 100], 40)).toEqual([50, 60, 70]);
  });

  it("holds between, and comes down slowly when the picture is in time", () => {
    expect(floors([120, 40, 30, 10, 10], 40)).toEqual([50, 45, 40]);
  });

  it("waits no longer than 300 ms however late the picture is", () => {
    expect(Math.max(...floors(Array.from({ length: 100 }, () => 5000)))).toBe(300);
  });
});

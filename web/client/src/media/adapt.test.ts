import { describe, expect, it } from "vitest";
import type { VideoEncoding } from "../worker/messages.ts";
import { Adaptation } from "./adapt.ts";

const ORDER: VideoEncoding[] = [
  { width: 320, height: 180, bps: 150_000, fps: 30 },
  { width: 640, height: 360, bps: 600_000, fps: 30 },
];
const rates = (adaptation: Adaptation): number[] => adaptation.layers.map((layer) => layer.bps);

describe("adapting to the uplink", () => {
  it("makes what is ordered while the links carry it", () => {
    const adaptation = new Adaptation(ORDER);
    expect(adaptation.uplink(1, 1000)).toBeNull();
    expect(adaptation.tick(2000)).toBeNull();
    expect(adaptation.layers).toEqual(ORDER);
  });

  // Share of 750 kbit/s -> rates, lowest layer first.
  const table: [number, number[]][] = [
    [0.8, [150_000, 450_000]],
    [0.6, [150_000, 300_000]],
    [0.48, [150_000, 210_000]],
    [0.45, [150_000]],
    [0.25, [150_000]],
    [0.1, [75_000]],
    [0.01, [50_000]],
    [0, [50_000]],
  ];
  for (const [share, expected] of table) {
    it(`makes ${expected.join(" + ")} bit/s of a share of ${share}, at once`, () => {
      const adaptation = new Adaptation(ORDER);
      adaptation.uplink(share, 0);
      expect(rates(adaptation)).toEqual(expected);
    });
  }

  it("comes back slowly, top layer last, and ends at the order", () => {
    const adaptation = new Adaptation(ORDER);
    expect(adaptation.uplink(0.2, 0)?.reason).toBe("uplink");
    expect(adaptation.uplink(1, 100)).toBeNull();
    expect(adaptation.layers.length).toBe(1);
    const counts: number[] = [];
    for (let t = 1000; t <= 15_000; t += 1000) {
      adaptation.tick(t);
      counts.push(adaptation.layers.length);
    }
    expect(counts[2]).toBe(1);
    expect(counts).toEqual([...counts].sort());
    expect(adaptation.layers).toEqual(ORDER);
  });

  it("does not rise above what the links are said to carry", () => {
    const adaptation = new Adaptation(ORDER);
    adaptation.uplink(0.3, 0);
    adaptation.uplink(0.5, 100);
    for (let t = 1000; t <= 60_000; t += 1000) adaptation.tick(t);
    // A half leaves 225 kbit/s for the top layer: not enough to bring it back.
    expect(rates(adaptation)).toEqual([150_000]);
  });

  it("keeps a top layer at a rate at which it would not bring one back", () => {
    const adaptation = new Adaptation(ORDER);
    adaptation.uplink(0.5, 0);
    expect(rates(adaptation)).toEqual([150_000, 225_000]);
  });

  it("says nothing about changes too small to act on", () => {
    const adaptation = new Adaptation(ORDER);
    expect(adaptation.uplink(0.95, 0)).toBeNull();
    expect(rates(adaptation)).toEqual([150_000, 600_000]);
  });
});

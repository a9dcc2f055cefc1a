import { describe, expect, it } from "vitest";
import { ClockMap } from "./clock.ts";

describe("the map of a source's clock", () => {
  it("finds capture times to the fastest delivery, however late the others are", () => {
    const map = new ClockMap();
    // Stamps of another epoch, delivered 5 ms after capture, every third one 30 ms.
    const errors: number[] = [];
    for (let n = 0; n < 100; n++) {
      const captured = n * 33_333;
      const mapped = map.map(captured + 7e12, captured + (n % 3 === 0 ? 30_000 : 5_000));
      if (n > 3) errors.push(mapped - captured);
    }
    expect(Math.max(...errors) - Math.min(...errors)).toBeLessThan(100);
    expect(Math.max(...errors)).toBeLessThan(5_200);
  });

  it("follows a source that is 200 ppm slow for an hour", () => {
    const map = new ClockMap();
    let error = 0;
    for (let t = 0; t < 3600e6; t += 20_000) error = map.map(t * (1 - 200e-6), t + 3_000) - t;
    expect(Math.abs(error - 3_000)).toBeLessThan(50);
  });

  it("gives whole numbers that only grow, also when stamps stand still", () => {
    const map = new ClockMap();
    const times = [0, 0, 0, 1.5, 1.7].map((stamp, i) => map.map(stamp, 10 + i * 0.3));
    expect(times.every((time) => Number.isInteger(time) && time >= 0)).toBe(true);
    expect(new Set(times).size).toBe(times.length);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it("maps anew when the source jumps", () => {
    const map = new ClockMap();
    map.map(1e9, 1_000_000);
    expect(map.map(0, 9_000_000)).toBe(9_000_000);
  });
});

import { describe, expect, it } from "vitest";
import { Schedule } from "./sync.ts";

/** 30 pictures a second for `seconds`; each is ready `transit(n)` ms after capture. Returns when each was due. */
function pictures(schedule: Schedule, seconds: number, transit: (n: number) => number, startMs = 0): number[] {
  const due: number[] = [];
  for (let n = 0; n < seconds * 30; n++) {
    const captureMs = startMs + (n * 1000) / 30;
    const now = captureMs + transit(n);
    schedule.ready(captureMs, now);
    due.push((schedule.due(captureMs, now) as number) - captureMs);
  }
  return due;
}

describe("the time of a picture", () => {
  it("is unknown before any picture was ready", () => {
    expect(new Schedule().due(0, 0)).toBeNull();
  });

  it("is p95 of readiness without sound, so that almost no picture comes after its time", () => {
    const schedule = new Schedule();
    const due = pictures(schedule, 10, (n) => (n % 30 === 0 ? 120 : 20 + (n % 5)));
    expect(due.at(-1)).toBeGreaterThan(24);
    expect(due.at(-1)).toBeLessThan(60);
  });

  it("follows the sound within 5 ms once it is heard", () => {
    const schedule = new Schedule();
    pictures(schedule, 1, () => 20);
    for (let t = 1000; t < 3000; t += 100) {
      // What was captured at t is heard 130 ms later.
      schedule.heard(t, t + 130, t);
      schedule.due(t, t);
    }
    expect((schedule.due(3000, 3000) as number) - 3000).toBeCloseTo(130, 0);
    expect(Math.abs(schedule.ahead(3000, 3130) as number)).toBeLessThan(5);
  });

  it("creeps towards a change of the sound's delay, a tenth of the time that passes at most", () => {
    const schedule = new Schedule();
    pictures(schedule, 1, () => 20);
    schedule.heard(1000, 1100, 1000);
    for (let t = 1000; t < 2000; t += 10) schedule.due(t, t);
    const before = schedule.due(1990, 1990) as number;
    expect(before - 1990).toBeCloseTo(100, 0);
    for (let i = 0; i < 20; i++) schedule.heard(1990, 2290, 1990);
    const after = schedule.due(2090, 2090) as number;
    expect(after - 2090).toBeCloseTo(110, 0);
  });

  it("jumps when the sender's clock is another one", () => {
    const schedule = new Schedule();
    pictures(schedule, 3, () => 20);
    const due = pictures(schedule, 3, () => -50_000, 3000);
    expect(due.at(-1)).toBeLessThan(-49_000);
  });

  it("goes back to its own delay a second after the sound ends", () => {
    const schedule = new Schedule();
    pictures(schedule, 1, () => 20);
    schedule.heard(1000, 1130, 1000);
    pictures(schedule, 10, () => 20, 1000);
    expect(schedule.ahead(11_000, 11_030)).toBeNull();
    expect((schedule.due(11_000, 11_000) as number) - 11_000).toBeCloseTo(30, 0);
  });

  it("says how much later than the sound pictures are, so that the sound can wait", () => {
    const schedule = new Schedule();
    pictures(schedule, 2, () => 220);
    schedule.heard(2000, 2080, 2000);
    expect(schedule.pictureLag(2000)).toBeCloseTo(150, 0);
    expect(schedule.pictureLag(4000)).toBeNull();
  });
});

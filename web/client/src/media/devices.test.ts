import { describe, expect, it } from "vitest";
import { constraints, failureOf } from "./devices.ts";
import { levelOf, rmsLevel } from "./level.ts";

describe("why a device did not open", () => {
  for (const [name, message, kind] of [
    ["NotAllowedError", "Permission denied", "denied"],
    ["NotAllowedError", "Permission dismissed", "denied"],
    ["NotAllowedError", "Permission denied by system", "blocked_by_system"],
    ["SecurityError", "", "denied"],
    ["NotFoundError", "Requested device not found", "not_found"],
    ["OverconstrainedError", "", "not_found"],
    ["NotReadableError", "Could not start video source", "busy"],
    ["AbortError", "Starting videoinput failed", "busy"],
    ["TypeError", "", "unsupported"],
    ["OddError", "hm", "failed"],
  ] as const) {
    it(`${name} "${message}" means ${kind}`, () => {
      expect(failureOf(Object.assign(new Error(message), { name })).kind).toBe(kind);
    });
  }

  it("is told even of something that is no error", () => {
    expect(failureOf(null)).toEqual({ kind: "failed", message: "null" });
  });
});

it("a microphone is opened with echo cancellation of everything the page plays", () => {
  expect(constraints("microphone", "abc").audio).toMatchObject({
    deviceId: { exact: "abc" },
    echoCancellation: true,
  });
});

describe("levels", () => {
  it("are -dBov, 0 at full scale and 127 in silence", () => {
    expect([levelOf(1), levelOf(0.01), levelOf(0), levelOf(Number.NaN), levelOf(4)]).toEqual([0, 20, 127, 127, 0]);
    expect(rmsLevel(new Float32Array(960).fill(0.1))).toBe(20);
    expect(rmsLevel(new Float32Array(0))).toBe(127);
  });
});

import { expect, test } from "vitest";
import { type FailureKind, failureWords, told } from "./failure.ts";

const kinds: FailureKind[] = ["denied", "blocked_by_system", "not_found", "busy", "insecure", "unsupported", "failed"];

test("every failure names the device, says what happened and what to do, without blame or exclamation", () => {
  for (const device of ["camera", "microphone"] as const) {
    for (const kind of kinds) {
      const { what, how } = failureWords({ kind, device });
      expect(what).toContain(device);
      expect(how.length).toBeGreaterThan(20);
      expect(what + how).not.toMatch(/!|Error|DOMException/);
    }
  }
});

test("no two failures read the same", () => {
  expect(new Set(kinds.map((kind) => failureWords({ kind, device: "camera" }).what)).size).toBe(kinds.length);
});

test("a device that the system blocks sends people to the system, and a denied one to the address bar", () => {
  expect(failureWords({ kind: "blocked_by_system", device: "camera" }).how).toContain("system's settings");
  expect(failureWords({ kind: "denied", device: "camera" }).how).toContain("address bar");
});

test("what stands in the way of both devices is told once, and different things apart", () => {
  const denied = (device: "camera" | "microphone") => ({ kind: "denied" as const, device });
  expect(told([denied("camera"), denied("microphone")])).toEqual([{ kind: "denied", device: "both" }]);
  expect(failureWords({ kind: "denied", device: "both" }).what).toContain("the camera and microphone");
  const missing = { kind: "not_found" as const, device: "camera" as const };
  expect(told([missing, denied("microphone")])).toHaveLength(2);
  expect(told([missing, { ...missing, device: "microphone" }])).toHaveLength(2);
});

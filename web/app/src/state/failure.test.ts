import { expect, test } from "vitest";
import { type FailureKind, failureWords } from "./failure.ts";

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

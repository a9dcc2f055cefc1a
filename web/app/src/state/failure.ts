/** Why a camera or microphone cannot be had, and the way out, in words. Pure. */
import type { DeviceFailure } from "@grove/client/media/devices";

export type Device = "camera" | "microphone";

/** What stands in the way, as the client tells it. */
export type FailureKind = DeviceFailure["kind"];

export interface Failure {
  kind: FailureKind;
  device: Device;
}

/** These stand in the way of both devices at once, and are told once. */
const SHARED: readonly FailureKind[] = ["denied", "blocked_by_system", "insecure"];

/** What happened, and what to do. */
export interface FailureWords {
  what: string;
  how: string;
}

/** The failures to tell: one instead of two where both devices have the same. */
export function told(failures: readonly Failure[]): { kind: FailureKind; device: Device | "both" }[] {
  const [first, second] = failures;
  if (first === undefined || second === undefined || first.kind !== second.kind || !SHARED.includes(first.kind)) {
    return [...failures];
  }
  return [{ kind: first.kind, device: "both" }];
}

export function failureWords(failure: { kind: FailureKind; device: Device | "both" }): FailureWords {
  const { kind } = failure;
  const device = failure.device === "both" ? "camera and microphone" : failure.device;
  switch (kind) {
    case "denied":
      return {
        what: `The browser has no access to the ${device}.`,
        how: "Allow it at the icon on the left of the address bar, or join without. If you closed the question, try again.",
      };
    case "blocked_by_system":
      return {
        what: `This device does not let the browser use the ${device}.`,
        how: `Open the system's settings, look for privacy, ${device}, and allow this browser. Then try again.`,
      };
    case "not_found":
      return {
        what: `No ${device} was found.`,
        how: "Plug one in, or switch it on. It appears here by itself.",
      };
    case "busy":
      return {
        what: `The ${device} is in use by another program, or does not answer.`,
        how: "Close other programs that use it, or unplug it and plug it in again. Then try again.",
      };
    case "failed":
      return {
        what: `The ${device} did not start.`,
        how: "Try again, choose another one, or join without.",
      };
    case "insecure":
      return {
        what: `Browsers give the ${device} only to secure pages, and this one came over plain http.`,
        how: "Open the same link with https at its beginning, or ask whoever runs this server.",
      };
    case "unsupported":
      return {
        what: `This browser cannot use a ${device}.`,
        how: "Join to watch and listen, or open the link in a current Chrome, Edge or Firefox.",
      };
  }
}

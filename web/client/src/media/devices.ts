/**
 * Cameras, microphones and loudspeakers: which there are, opening them, and why that failed. Failures are kinds; the
 * words for people are the user interface's.
 */
import { levelOf } from "./level.ts";

export type DeviceFailure =
  /** The person, or a rule of the browser, said no for this page. */
  | { kind: "denied" }
  /** The operating system keeps the device from the browser. */
  | { kind: "blocked_by_system" }
  | { kind: "not_found" }
  /** Another program has it. */
  | { kind: "busy" }
  /** Devices need https, or localhost. */
  | { kind: "insecure" }
  | { kind: "unsupported" }
  | { kind: "failed"; message: string };

export type Opened = { ok: true; track: MediaStreamTrack } | { ok: false; failure: DeviceFailure };

export interface Device {
  id: string;
  kind: "microphone" | "camera" | "speaker";
  /** Empty until a permission was given. */
  label: string;
}

const KINDS = { audioinput: "microphone", videoinput: "camera", audiooutput: "speaker" } as const;

/** What the constraints ask for: a call, not a recording. Echo cancellation `true` covers all that the page plays. */
export function constraints(kind: "microphone" | "camera", deviceId: string | null): MediaStreamConstraints {
  const device = deviceId === null ? {} : { deviceId: { exact: deviceId } };
  if (kind === "microphone") {
    const audio = { ...device, echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    return { audio };
  }
  return { video: { ...device, width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 30 } } };
}

/** Opens a camera or a microphone. A remembered device that is gone is replaced by the default one. */
export async function openDevice(kind: "microphone" | "camera", deviceId: string | null = null): Promise<Opened> {
  if (!globalThis.isSecureContext) return { ok: false, failure: { kind: "insecure" } };
  const media = (navigator as { mediaDevices?: MediaDevices }).mediaDevices;
  if (media?.getUserMedia === undefined) return { ok: false, failure: { kind: "unsupported" } };
  try {
    const stream = await media.getUserMedia(constraints(kind, deviceId));
    const track = stream.getTracks()[0];
    return track === undefined ? { ok: false, failure: { kind: "not_found" } } : { ok: true, track };
  } catch (error) {
    const name = error instanceof Error ? error.name : "";
    if (deviceId !== null && (name === "OverconstrainedError" || name === "NotFoundError")) return openDevice(kind);
    return { ok: false, failure: failureOf(error) };
  }
}

/** What a rejection of getUserMedia means. */
export function failureOf(error: unknown): DeviceFailure {
  const name = (error as { name?: unknown } | null)?.name;
  const message = String((error as { message?: unknown } | null)?.message ?? error);
  switch (name) {
    case "NotAllowedError":
    case "PermissionDeniedError":
      // Chromium: "Permission denied by system"; Firefox: "... not allowed by the user agent or the platform ...", for both.
      return /by system/i.test(message) ? { kind: "blocked_by_system" } : { kind: "denied" };
    case "SecurityError":
      return { kind: "denied" };
    case "NotFoundError":
    case "DevicesNotFoundError":
    case "OverconstrainedError":
      return { kind: "not_found" };
    case "NotReadableError":
    case "TrackStartError":
    case "AbortError":
      return { kind: "busy" };
    case "TypeError":
      return { kind: "unsupported" };
    default:
      return { kind: "failed", message };
  }
}

/** The devices there are; empty where the browser does not tell. */
export async function listDevices(): Promise<Device[]> {
  const media = (navigator as { mediaDevices?: MediaDevices }).mediaDevices;
  if (media?.enumerateDevices === undefined) return [];
  try {
    const infos = await media.enumerateDevices();
    return infos
      .filter((info) => info.deviceId !== "" || info.label === "")
      .map((info) => ({ id: info.deviceId, kind: KINDS[info.kind], label: info.label }));
  } catch {
    return [];
  }
}

/** Calls when devices come or go; returns how to stop. */
export function onDevices(changed: () => void): () => void {
  const media = (navigator as { mediaDevices?: MediaDevices }).mediaDevices;
  if (media?.addEventListener === undefined) return () => {};
  media.addEventListener("devicechange", changed);
  return () => media.removeEventListener("devicechange", changed);
}

export interface Meter {
  /** As RFC 6464: 0 loud .. 127 silent; of the last 40 ms or so. */
  level(): number;
  close(): void;
}

/** Measures a microphone before it is sent anywhere; null where there is no audio. Ask it as often as you draw. */
export function meter(track: MediaStreamTrack): Meter | null {
  try {
    const context = new AudioContext();
    const source = context.createMediaStreamSource(new MediaStream([track]));
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    source.connect(analyser);
    context.resume().catch(() => {});
    const samples = new Float32Array(analyser.fftSize);
    return {
      level: () => {
        analyser.getFloatTimeDomainData(samples);
        let power = 0;
        for (const sample of samples) power += sample * sample;
        return levelOf(power / samples.length);
      },
      close: () => {
        source.disconnect();
        context.close().catch(() => {});
      },
    };
  } catch {
    return null;
  }
}

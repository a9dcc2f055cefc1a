/**
 * This person's camera and microphone, before and during a call. Nothing is asked from the browser until a method is
 * called. Every failure becomes state; a grant that comes late, or a device that is plugged in, is taken up by itself.
 *
 * Outputs: the signals. Knobs: the remembered device choices in `settings.ts`. `close` stops what runs.
 */
import { constraints, failureOf, listDevices, type Opened, onDevices, openDevice } from "@grove/client/media/devices";
import { type Signal, signal } from "@preact/signals";
import type { Device, Failure } from "./failure.ts";
import { cameraId, microphoneId } from "./settings.ts";

export type Capture =
  | { state: "off" }
  | { state: "asking" }
  | { state: "on"; track: MediaStreamTrack; stream: MediaStream }
  | { state: "failed"; failure: Failure };

export interface DeviceChoice {
  id: string;
  label: string;
}

export interface Devices {
  cameras: DeviceChoice[];
  microphones: DeviceChoice[];
  speakers: DeviceChoice[];
}

export class LocalMedia {
  readonly camera: Signal<Capture> = signal<Capture>({ state: "off" });
  readonly microphone: Signal<Capture> = signal<Capture>({ state: "off" });
  readonly devices: Signal<Devices> = signal<Devices>({ cameras: [], microphones: [], speakers: [] });
  /** Called when a running device ends by itself (unplugged, or taken away). */
  onEnded: ((device: Device) => void) | null = null;
  /** Called when a device that failed has started by itself: it was plugged in, or the browser's permission came. */
  onReturned: ((device: Device) => void) | null = null;

  private readonly watched: PermissionStatus[] = [];
  private readonly stopWatching: () => void;
  private closed = false;

  constructor() {
    this.stopWatching = onDevices(() => this.onDeviceChange());
    void this.refresh();
    void this.watchPermission("camera");
    void this.watchPermission("microphone");
  }

  /** Which of the two the browser allows without a question. */
  static async granted(): Promise<{ camera: boolean; microphone: boolean }> {
    const [camera, microphone] = await Promise.all([permission("camera"), permission("microphone")]);
    return { camera: camera?.state === "granted", microphone: microphone?.state === "granted" };
  }

  /** Starts one device; the chosen one where it is there. True when it runs. */
  async start(device: Device): Promise<boolean> {
    const state = this[device];
    if (state.peek().state === "asking") return false;
    this.stop(device);
    state.value = { state: "asking" };
    return this.settle(device, await openDevice(device, chosen(device)));
  }

  /** Starts both with one question; where one of them fails, the other still starts. */
  async startBoth(): Promise<void> {
    this.stop("camera");
    this.stop("microphone");
    this.camera.value = { state: "asking" };
    this.microphone.value = { state: "asking" };
    const both = await openBoth();
    this.settle("camera", both?.camera ?? (await openDevice("camera", chosen("camera"))));
    this.settle("microphone", both?.microphone ?? (await openDevice("microphone", chosen("microphone"))));
  }

  stop(device: Device): void {
    const state = this[device];
    const now = state.peek();
    if (now.state === "on") now.track.stop();
    state.value = { state: "off" };
  }

  /** It runs, and is of no use: stops it, and lets it be tried again. */
  fail(device: Device): void {
    this.stop(device);
    this[device].value = { state: "failed", failure: { kind: "failed", device } };
  }

  /** Chooses another device; a running one is changed at once. */
  async choose(device: Device, id: string): Promise<void> {
    (device === "camera" ? cameraId : microphoneId).value = id;
    if (this[device].peek().state !== "off") await this.start(device);
  }

  track(device: Device): MediaStreamTrack | null {
    const now = this[device].peek();
    return now.state === "on" ? now.track : null;
  }

  close(): void {
    this.closed = true;
    this.onEnded = null;
    this.onReturned = null;
    this.stop("camera");
    this.stop("microphone");
    this.stopWatching();
    for (const status of this.watched) status.onchange = null;
  }

  private settle(device: Device, opened: Opened): boolean {
    if (this.closed) {
      if (opened.ok) opened.track.stop();
      return false;
    }
    if (!opened.ok) {
      this[device].value = { state: "failed", failure: { kind: opened.failure.kind, device } };
      return false;
    }
    const { track } = opened;
    track.addEventListener("ended", () => {
      const now = this[device].peek();
      if (now.state !== "on" || now.track !== track) return;
      this[device].value = { state: "failed", failure: { kind: "not_found", device } };
      this.onEnded?.(device);
    });
    this[device].value = { state: "on", track, stream: new MediaStream([track]) };
    void this.refresh();
    return true;
  }

  private async startAgain(device: Device): Promise<void> {
    if (await this.start(device)) this.onReturned?.(device);
  }

  private onDeviceChange(): void {
    void this.refresh();
    for (const device of ["camera", "microphone"] as const) {
      const now = this[device].peek();
      if (now.state === "failed" && now.failure.kind === "not_found") void this.startAgain(device);
    }
  }

  private async refresh(): Promise<void> {
    const all = await listDevices();
    // Before permission, browsers list devices without ids: nothing to choose from yet.
    const choices = (kind: Device | "speaker", word: string) =>
      all
        .filter((device) => device.kind === kind && device.id !== "")
        .map(({ id, label }, index) => ({ id, label: label || `${word} ${index + 1}` }));
    if (this.closed) return;
    this.devices.value = {
      cameras: choices("camera", "Camera"),
      microphones: choices("microphone", "Microphone"),
      speakers: choices("speaker", "Speaker"),
    };
  }

  private async watchPermission(device: Device): Promise<void> {
    const status = await permission(device);
    if (status === null || this.closed) return;
    this.watched.push(status);
    status.onchange = () => {
      const now = this[device].peek();
      if (status.state === "granted" && now.state === "failed" && now.failure.kind !== "not_found") {
        void this.startAgain(device);
      }
    };
  }
}

async function permission(device: Device): Promise<PermissionStatus | null> {
  try {
    return await navigator.permissions.query({ name: device as PermissionName });
  } catch {
    return null;
  }
}

function chosen(device: Device): string | null {
  return (device === "camera" ? cameraId : microphoneId).peek() || null;
}

/**
 * Both with one question. Null where one of them stands in the way of the other: asked for singly they tell which. A
 * 'no' is not asked about again.
 */
async function openBoth(): Promise<{ camera: Opened; microphone: Opened } | null> {
  const wanted = {
    ...constraints("microphone", chosen("microphone")),
    ...constraints("camera", chosen("camera")),
  };
  try {
    const stream = await navigator.mediaDevices.getUserMedia(wanted);
    const [camera] = stream.getVideoTracks();
    const [microphone] = stream.getAudioTracks();
    if (camera === undefined || microphone === undefined) return null;
    return { camera: { ok: true, track: camera }, microphone: { ok: true, track: microphone } };
  } catch (error) {
    const failure = failureOf(error);
    return failure.kind === "denied" ? { camera: { ok: false, failure }, microphone: { ok: false, failure } } : null;
  }
}

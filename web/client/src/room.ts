/**
 * The room as a user interface holds it: puts together the session (server, keys, links), the media worker, the views
 * and this person's own devices, and keeps the promises of `api.ts`.
 */
import type { OrderLog, Room, RoomOptions, RoomState, View } from "./api.ts";
import { CAMERA_LAYERS, MICROPHONE_BPS, missingForMedia, VideoCapture } from "./media/capture.ts";
import { distinct, fit } from "./media/layers.ts";
import { type Captured, Sound } from "./media/sound.ts";
import { chatText } from "./session/chat.ts";
import { Session } from "./session/session.ts";
import { roomState } from "./session/view.ts";
import { Views } from "./session/views.ts";
import type { Policy, StreamRef, VideoLayer } from "./signal/messages.ts";
import { type Answer, ask } from "./signal/socket.ts";
import type { TraceRecord } from "./transport/trace.ts";
import type { FromWorker, ToWorker, VideoEncoding } from "./worker/messages.ts";

/** Camera and microphone travel together. */
const CAMERA_STREAM = 0;
/** Between the last message to the worker and its end. */
const TERMINATE_MS = 200;
/** The media worker speaks once a second; after so many looks without a word it is given up. */
const LOOK_EVERY_MS = 2_000;
const SILENT_LOOKS = 4;
/** Each packet carries the one before it once more. */
const AUDIO_ON_THE_WIRE_BPS = 2 * MICROPHONE_BPS;

/** What a person is told of the states of sound. */
const SOUND = { starting: "ok", running: "ok", closed: "ok", suspended: "held", failed: "failed" } as const;

export interface Looked {
  /** Display names in order of arrival, at most 50. */
  names: string[];
  count: number;
}

/** For tests and for finding out what went wrong; no user interface needs it. */
export interface Diagnosis {
  /** Every order received, oldest first (the last 2000). */
  readonly orders: OrderLog;
  /** Lets the worker note the frames that pass, with digests; switching it off brings the notes. */
  trace(on: boolean): Promise<TraceRecord[]>;
}

/** Makes a room on the server and says its id. The secret is the caller's to make (`makeSecret`). */
export function createRoom(
  signalUrl: string,
  policy?: Policy,
  neverRelay?: boolean,
): Promise<Answer<{ room: string }>> {
  const choice = {
    ...(policy === undefined ? {} : { policy }),
    ...(neverRelay === undefined ? {} : { never_relay: neverRelay }),
  };
  return ask(signalUrl, { type: "create", ...choice }, (message) =>
    message.type === "created" ? { room: message.room } : null,
  );
}

/** Who is in a room, without entering. */
export function lookRoom(signalUrl: string, room: string): Promise<Answer<Looked>> {
  return ask(signalUrl, { type: "look", room }, (message) =>
    message.type === "looked" ? { names: message.names, count: message.count } : null,
  );
}

/** Enters a room. Returns at once; `state.connection` tells how it goes. */
export function joinRoom(options: RoomOptions): Room & Diagnosis {
  return new JoinedRoom(options);
}

class JoinedRoom implements Room, Diagnosis {
  readonly #session: Session;
  readonly #worker: Worker;
  readonly #sound: Sound;
  readonly #views: Views;
  readonly #listeners = new Set<() => void>();
  /** What the worker cannot take before it knows its node. */
  #waiting: { message: ToWorker; transfer: Transferable[] }[] | null = [];
  #state: RoomState | null = null;
  #capture: VideoCapture | null = null;
  #layers: VideoLayer[] = [];
  /** What the camera is to be encoded in, lowest layer first. */
  #ordered: VideoEncoding[] = [];
  /** What encoders of links work on: the camera's track, and a microphone's that is silent while muted. */
  #tracks: { video: MediaStreamTrack | null; audio: MediaStreamTrack | null } = { video: null, audio: null };
  #microphone: Captured | null = null;
  #muted = false;
  /** Changes of the microphone, one after another: opening takes time. */
  #microphoneWork: Promise<void> = Promise.resolve();
  /** Looks since the worker last spoke. A page that slept takes its first look before it hears what was said meanwhile. */
  #unheard = 0;
  #looking: ReturnType<typeof setInterval> | undefined;
  /** Who waits for notes. */
  readonly #tracing: ((frames: TraceRecord[]) => void)[] = [];
  #freed = false;

  constructor(options: RoomOptions) {
    const { signalUrl, room, secret, name, createWorker, captureWorkletUrl, playoutWorkletUrl, uplinkBps } = options;
    this.#worker = createWorker();
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#fromWorker(data);
    this.#worker.onerror = ({ message }) => this.#fromWorker({ type: "fault", message });
    this.#session = new Session(
      {
        signalUrl,
        room,
        secret,
        name,
        capabilities: { frames: true, forward: !savesData() },
        ...(uplinkBps === undefined ? {} : { uplinkBps }),
      },
      {
        changed: () => this.#changed(),
        joined: (node) => this.#init(node),
        rejoined: () => this.#views.restate(),
        toWorker: (message, transfer) => this.#toWorker(message, transfer),
        transform: (options) => new RTCRtpScriptTransform(this.#worker, options),
        ended: () => this.#free(),
      },
    );
    this.#sound = new Sound({ captureWorkletUrl, playoutWorkletUrl }, (state) =>
      this.#session.dispatch({ from: "page", event: { type: "sound", sound: SOUND[state] } }),
    );
    this.#views = new Views({
      model: () => this.#session.model,
      toWorker: (message, transfer) => this.#toWorker(message, transfer),
      want: (wants) => this.#session.send({ type: "want", wants }),
    });
    document.addEventListener("visibilitychange", this.#onVisibility);
    globalThis.addEventListener("pagehide", this.#onPageHide);
    this.#onVisibility();
    const missing = missingForMedia();
    if (missing.length > 0) {
      this.#session.fail(
        "unsupported",
        `This browser cannot take part in a call: it lacks ${missing.join(", ")}. Open the link in a current Chrome, Edge or Firefox.`,
      );
    }
  }

  get state(): RoomState {
    this.#state ??= roomState(this.#session.model, Date.now());
    return this.#state;
  }

  get orders(): OrderLog {
    return this.#session.orders;
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  setMicrophone(track: MediaStreamTrack | null): Promise<void> {
    this.#microphoneWork = this.#microphoneWork.then(() => this.#takeMicrophone(track));
    return this.#microphoneWork;
  }

  async setCamera(track: MediaStreamTrack | null): Promise<void> {
    this.#capture?.close();
    this.#capture = null;
    this.#layers = [];
    this.#tracks.video = track;
    if (track && !this.#session.gone) {
      const { width, height } = track.getSettings();
      const source = width && height ? { width, height } : null;
      const layers = source ? distinct(CAMERA_LAYERS, source) : CAMERA_LAYERS;
      this.#ordered = layers.map((layer) => ({
        ...layer,
        ...(source ? fit(layer, source) : {}),
      }));
      this.#layers = this.#ordered.map((layer) => ({ width: layer.width, height: layer.height, bps: layer.bps }));
      this.#capture = new VideoCapture(CAMERA_STREAM, track, CAMERA_LAYERS, (message, transfer) =>
        this.#toWorker(message, transfer),
      );
    }
    this.#sendingChanged();
  }

  setMuted(muted: boolean): void {
    this.#muted = muted;
    if (this.#tracks.audio) this.#tracks.audio.enabled = !muted;
    this.#toWorker({ type: "mute", stream: CAMERA_STREAM, muted });
    this.#sendingChanged();
  }

  setHand(raised: boolean): void {
    this.#session.setPresence({ hand: raised });
  }

  setPassesOn(on: boolean): void {
    this.#session.setPassesOn(on);
  }

  attach(stream: StreamRef, canvas: HTMLCanvasElement): View {
    return this.#views.attach(stream, canvas);
  }

  sendChat(text: string): void {
    void this.#session.sendChat(chatText(text));
  }

  watchTrees(on: boolean): void {
    this.#session.watchTrees(on);
  }

  setPolicy(policy: Policy, neverRelay?: boolean): void {
    const never = neverRelay === undefined ? {} : { never_relay: neverRelay };
    this.#session.send({ type: "set_policy", policy, ...never });
  }

  setSpeaker(deviceId: string): Promise<boolean> {
    return this.#sound.setSpeaker(deviceId);
  }

  resumeSound(): Promise<boolean> {
    return this.#sound.resume();
  }

  trace(on: boolean): Promise<TraceRecord[]> {
    this.#toWorker({ type: "trace", on });
    if (on || this.#freed) return Promise.resolve([]);
    return new Promise((resolve) => this.#tracing.push(resolve));
  }

  close(): void {
    this.#session.close();
    this.#stopDevices();
  }

  async #takeMicrophone(track: MediaStreamTrack | null): Promise<void> {
    if (this.#microphone) {
      this.#toWorker({ type: "audio_source", stream: CAMERA_STREAM, port: null, bps: 0 });
      this.#microphone.stop();
      this.#microphone = null;
    }
    this.#tracks.audio?.stop();
    this.#tracks.audio = null;
    const captured = track && !this.#session.gone ? await this.#sound.capture(track) : null;
    if (captured && this.#session.gone) captured.stop();
    else if (captured && track) {
      this.#microphone = captured;
      // Of its own, because the caller's is also heard by the level meter and by what else the caller does with it.
      this.#tracks.audio = track.clone();
      this.#tracks.audio.enabled = !this.#muted;
      const { port } = captured;
      this.#toWorker({ type: "audio_source", stream: CAMERA_STREAM, port, bps: MICROPHONE_BPS }, [port]);
    }
    this.#sendingChanged();
  }

  /** States what we send now: to the others, and in our own state. */
  #sendingChanged(): void {
    if (this.#session.gone) return;
    const speaks = this.#microphone !== null;
    const microphone = !speaks ? "off" : this.#muted ? "muted" : "on";
    const camera = this.#capture === null ? "off" : "on";
    this.#session.dispatch({
      from: "page",
      event: { type: "sending", sending: { microphone, camera, layers: this.#layers } },
    });
    this.#session.setPresence({ microphone: microphone === "on", camera: camera === "on" });
    const { audio, video } = this.#tracks;
    // All of them, also those that are too much at present: a link's encoder keeps their places.
    const layers = this.#ordered.map((layer, at) => ({ ...layer, bps: this.#layers[at]?.bps ?? 0 }));
    const media = { audio, video: camera === "on" ? video : null, layers, audioBps: AUDIO_ON_THE_WIRE_BPS };
    this.#session.setMedia(CAMERA_STREAM, media.audio || media.video ? media : null);
    if (speaks || this.#layers.length > 0) {
      const audio_bps = speaks ? AUDIO_ON_THE_WIRE_BPS : null;
      this.#session.publish({ stream: CAMERA_STREAM, kind: "camera", audio_bps, layers: this.#layers });
    } else {
      this.#session.unpublish(CAMERA_STREAM);
    }
  }

  /** A worker can end without a word: its memory ran out, or its file did not load. */
  #look(): void {
    this.#unheard += 1;
    this.#session.dispatch({
      from: "page",
      event: { type: "worker_silent", silent: this.#unheard > SILENT_LOOKS },
    });
  }

  #fromWorker(message: FromWorker): void {
    if (this.#freed) return;
    if (message.type === "stats") this.#unheard = 0;
    if (message.type === "tick") {
      if (message.stream === CAMERA_STREAM) this.#capture?.tick();
      return;
    }
    if (message.type === "traced") {
      for (const resolve of this.#tracing.splice(0)) resolve(message.frames);
      return;
    }
    this.#session.handleWorker(message);
    if (message.type === "stats") {
      this.#views.check(Date.now());
    } else if (message.type === "encoding" && message.stream === CAMERA_STREAM && this.#capture) {
      this.#layers = message.layers.map(({ width, height, bps }) => ({ width, height, bps: Math.round(bps) }));
      this.#sendingChanged();
    } else if (message.type === "encoder_failed" && message.stream === CAMERA_STREAM) {
      // Nothing is sent, so nobody should be told that something is.
      void (message.track === "video" ? this.setCamera(null) : this.setMicrophone(null));
    }
  }

  #init(node: number): void {
    const { port } = this.#sound;
    this.#worker.postMessage({ type: "init", node, playout: port } satisfies ToWorker, [port]);
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const { message, transfer } of waiting) this.#worker.postMessage(message, transfer);
    this.#looking = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  #toWorker(message: ToWorker, transfer: Transferable[] = []): void {
    if (!this.#freed && this.#waiting === null) this.#worker.postMessage(message, transfer);
    else if (message.type === "video_frame") message.frame.close();
    else if (!this.#freed) this.#waiting?.push({ message, transfer });
  }

  #changed(): void {
    this.#state = null;
    for (const listener of this.#listeners) listener();
  }

  readonly #onVisibility = (): void => {
    this.#toWorker({ type: "visibility", visible: !document.hidden });
  };

  readonly #onPageHide = (): void => this.close();

  #stopDevices(): void {
    this.#capture?.close();
    this.#capture = null;
    this.#microphone?.stop();
    this.#microphone = null;
    this.#tracks.audio?.stop();
    this.#tracks = { video: null, audio: null };
    this.#sound.close();
  }

  #free(): void {
    if (this.#freed) return;
    this.#stopDevices();
    this.#toWorker({ type: "close" });
    this.#freed = true;
    clearInterval(this.#looking);
    for (const resolve of this.#tracing.splice(0)) resolve([]);
    document.removeEventListener("visibilitychange", this.#onVisibility);
    globalThis.removeEventListener("pagehide", this.#onPageHide);
    this.#views.close();
    // It is given the time to close its pictures and channels; nothing it says is heard any more.
    setTimeout(() => this.#worker.terminate(), TERMINATE_MS);
  }
}

/** The person asked the browser to save data: others' streams should not pass through here. */
function savesData(): boolean {
  return (navigator as { connection?: { saveData?: boolean } }).connection?.saveData === true;
}

/**
 * The page's end of sound: one AudioContext with the playout worklet and, while there is a microphone, a capture
 * worklet. Both talk to the media worker through ports of their own; no sample passes the page's thread.
 *
 * Everything is played through the context's destination, because that is what the browsers' echo cancellation hears
 * (`docs/design/playing.md`). Every step is bounded in time: without an audio device some browsers never answer.
 */

import { within } from "./wait.ts";
import { CAPTURE_PROCESSOR, PLAYOUT_PROCESSOR, type ToCapture, type ToPlayout } from "./worklets.ts";

const RATE = 48_000;
const STEP_MS = 5_000;
const LATENCY_EVERY_MS = 1_000;
/** What Firefox's outputLatency was measured to be, 32 to 41 ms with PulseAudio; see `latencyOf`. */
const FIREFOX_LATENCY_S = 0.035;

export interface SoundUrls {
  captureWorkletUrl: string;
  playoutWorkletUrl: string;
}

/** `suspended`: the browser waits for a gesture, or has no device; `resume` may help. `failed`: no sound on this page. */
export type SoundState = "starting" | "running" | "suspended" | "failed" | "closed";

export interface Captured {
  /** For the worker's `audio_source`. */
  port: MessagePort;
  stop(): void;
}

export class Sound {
  readonly #urls: SoundUrls;
  readonly #context: AudioContext | null;
  /** Sound is set up as far as it goes; true when the worklets are there, running or not. */
  readonly #started: Promise<boolean>;
  readonly #onState: (state: SoundState) => void;
  #playout: AudioWorkletNode | null = null;
  #latencyTimer: ReturnType<typeof setInterval> | undefined;
  #state: SoundState = "starting";
  /** For the worker's `init`, at once: the worklet joins at the other end when it is there. */
  readonly port: MessagePort;

  constructor(urls: SoundUrls, onState: (state: SoundState) => void = () => {}) {
    this.#urls = urls;
    this.#onState = onState;
    const { port1, port2 } = new MessageChannel();
    this.port = port2;
    this.#context = makeContext();
    this.#started = this.#start(port1);
  }

  /** After a gesture of the person. True when sound runs. */
  async resume(): Promise<boolean> {
    const context = this.#context;
    if (context === null) return false;
    // At once: a gesture counts for a few seconds only.
    const resumed = within(context.resume(), STEP_MS).catch(() => null);
    if (!(await this.#started)) return false;
    await resumed;
    this.#follow();
    return this.#state === "running";
  }

  /** Leads a microphone to the worker; null when this page has no sound. The track stays the caller's. */
  async capture(track: MediaStreamTrack): Promise<Captured | null> {
    const context = this.#context;
    if (context === null || !(await this.#started) || this.#state === "closed") return null;
    let source: MediaStreamAudioSourceNode;
    let node: AudioWorkletNode;
    try {
      source = context.createMediaStreamSource(new MediaStream([track]));
      node = new AudioWorkletNode(context, CAPTURE_PROCESSOR, { numberOfInputs: 1, numberOfOutputs: 1 });
    } catch {
      return null;
    }
    const { port1, port2 } = new MessageChannel();
    const port: ToCapture = { type: "port", port: port1 };
    node.port.postMessage(port, [port1]);
    source.connect(node);
    // Its output is silent; without a way to the destination the graph would not run it.
    node.connect(context.destination);
    return {
      port: port2,
      stop: () => {
        source.disconnect();
        node.disconnect();
        const close: ToCapture = { type: "close" };
        node.port.postMessage(close);
      },
    };
  }

  /** Where sound comes out, by device id. False where the browser or the device refuses. */
  async setSpeaker(deviceId: string): Promise<boolean> {
    const context = this.#context as (AudioContext & { setSinkId?: (id: string) => Promise<void> }) | null;
    if (context?.setSinkId === undefined) return false;
    try {
      return (
        (await within(
          context.setSinkId(deviceId === "default" ? "" : deviceId).then(() => true),
          STEP_MS,
        )) ?? false
      );
    } catch {
      return false;
    }
  }

  close(): void {
    if (this.#state === "closed") return;
    this.#set("closed");
    clearInterval(this.#latencyTimer);
    this.#tell({ type: "close" });
    this.#playout?.disconnect();
    this.#context?.close().catch(() => {});
  }

  async #start(workerPort: MessagePort): Promise<boolean> {
    const context = this.#context;
    if (context === null) {
      this.#set("failed");
      return false;
    }
    context.onstatechange = () => this.#follow();
    try {
      const { captureWorkletUrl, playoutWorkletUrl } = this.#urls;
      const modules = [captureWorkletUrl, playoutWorkletUrl].map((url) => context.audioWorklet.addModule(url));
      if ((await within(Promise.all(modules), STEP_MS)) === null || this.#state === "closed") {
        if (this.#state !== "closed") this.#set("failed");
        return false;
      }
      this.#playout = new AudioWorkletNode(context, PLAYOUT_PROCESSOR, {
        numberOfInputs: 0,
        numberOfOutputs: 1,
        outputChannelCount: [1],
      });
    } catch {
      this.#set("failed");
      return false;
    }
    const port: ToPlayout = { type: "port", port: workerPort };
    this.#playout.port.postMessage(port, [workerPort]);
    this.#playout.connect(context.destination);
    this.#latencyTimer = setInterval(() => this.#tellLatency(context), LATENCY_EVERY_MS);
    this.#tellLatency(context);
    if (context.state !== "running") await within(context.resume(), 500).catch(() => null);
    this.#follow();
    return true;
  }

  #tellLatency(context: AudioContext): void {
    this.#tell({ type: "latency", latencyMs: Math.min(latencyOf(context) * 1000, 500) });
  }

  #tell(message: ToPlayout): void {
    this.#playout?.port.postMessage(message);
  }

  #follow(): void {
    if (this.#state === "closed" || this.#state === "failed" || this.#playout === null) return;
    this.#set(this.#context?.state === "running" ? "running" : "suspended");
  }

  #set(state: SoundState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#onState(state);
  }
}

/** From the worklet to the loudspeaker, seconds. */
function latencyOf(context: AudioContext): number {
  // Reading outputLatency blocks Firefox's main thread, for good within seconds (153 with PulseAudio: 5 of 8 runs with,
  // 0 of 8 without).
  if (navigator.userAgent.includes("Firefox/")) return FIREFOX_LATENCY_S;
  // Chromium reports 0 until sound has run for a while.
  return context.outputLatency || context.baseLatency || 0;
}

function makeContext(): AudioContext | null {
  try {
    return new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  } catch {
    return null;
  }
}

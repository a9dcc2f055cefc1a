/** What the two audio worklets and their neighbours say to each other. */

/** Capture worklet to the worker: 20 ms of one channel; `frame` counts samples of the sound card up to its first. */
export interface CapturedBlock {
  frame: number;
  pcm: Float32Array<ArrayBuffer>;
}

/** Page to the capture worklet. */
export type ToCapture = { type: "port"; port: MessagePort } | { type: "close" };

/** Page to the playout worklet. `latencyMs`: from the worklet's output to the ear. */
export type ToPlayout =
  | { type: "port"; port: MessagePort }
  | { type: "latency"; latencyMs: number }
  | { type: "close" };

/** Worker to the playout worklet. `stream` names a player; any number. */
export type ToPlayer =
  | { type: "pcm"; stream: number; number: number; captureUs: number; pcm: Float32Array<ArrayBuffer> }
  /** The sender is muted from this number on: what is missing is no loss. */
  | { type: "pause"; stream: number; number: number }
  | { type: "restart"; stream: number }
  | { type: "floor"; stream: number; ms: number }
  | { type: "remove"; stream: number };

/** Playout worklet to the worker, each 100 ms while it runs. The first says that it takes packets. */
export interface PlayoutReport {
  latencyMs: number;
  streams: PlayerReport[];
}

export interface PlayerReport {
  stream: number;
  /** Capture time of what leaves the worklet now; null while nothing plays. */
  captureUs: number | null;
  targetMs: number;
  delayMs: number | null;
  /** Totals. `concealed` in packets; starved 10 ms steps count half. */
  concealed: number;
  stretched: number;
  dropped: number;
  late: number;
  /** Sum of squares over the samples since the last report, and their number. */
  power: number;
  samples: number;
}

export const CAPTURE_PROCESSOR = "grove-capture";
export const PLAYOUT_PROCESSOR = "grove-playout";

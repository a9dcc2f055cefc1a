/**
 * The public face of the client: what a user interface, or a test, holds in its hands.
 *
 * A `Room` is one presence in one room. Its state is plain data; `subscribe` is called after every change. Nothing here
 * throws for what the network, the server or another participant does: that becomes state, with words for people.
 */
import type { ErrorCode, Order, Policy, Presence, StreamKind, StreamRef, Trees } from "./signal/messages.ts";
import type { WorkerStats } from "./worker/messages.ts";

export interface RoomOptions {
  /** `wss://host/api/v1/signal`. */
  signalUrl: string;
  /** The room's id, from the path. */
  room: string;
  /** 128 bits, base64url, from the fragment. */
  secret: string;
  name: string;
  /** Makes the media worker (`@grove/client/worker`); the bundler knows its address. */
  createWorker: () => Worker;
  /** Addresses of the two worklet modules. */
  captureWorkletUrl: string;
  playoutWorkletUrl: string;
  /** What this node may send in all, bit/s; measured when absent. */
  uplinkBps?: number;
}

/** Where the presence stands. */
export type Connection =
  | { state: "joining" }
  | { state: "joined" }
  /** The server is away; media goes on between browsers. `retryAtMs` is Date.now() based. */
  | { state: "reconnecting"; sinceMs: number; retryAtMs: number; attempt: number }
  /** Final. `code` is null when the page itself left. */
  | { state: "ended"; code: ErrorCode | "left" | "lost" | "unsupported" | "closed"; message: string };

export interface RoomState {
  connection: Connection;
  me: number | null;
  policy: Policy;
  /** Media must not pass the server's relay, whatever the policy. */
  neverRelay: boolean;
  /** Numbers under which relays stand in the trees; empty when this server has none. They are nobody's presence. */
  relays: readonly number[];
  /** In order of arrival, without this participant. */
  others: Person[];
  /** The last 1000 lines; another list only when a line came or changed. */
  chat: readonly ChatEntry[];
  /** Sentences for people about things that are wrong now, most serious first. */
  notices: Notice[];
  trees: Trees | null;
  /** Whoever speaks loudest of late; null when nobody does. */
  activeSpeaker: number | null;
  sending: Sending;
  stats: WorkerStats | null;
}

export interface Person {
  node: number;
  name: string;
  presence: Presence;
  /** The identity carries the room secret's seal. False: a wrong link; nothing from here can be opened. */
  verified: boolean;
  /** Has a signalling connection. */
  connected: boolean;
  streams: PersonStream[];
  /** RFC 6464: 0 loud .. 127 silent. */
  audioLevel: number;
  quality: Quality;
  /** How their streams come here, in one sentence; null while none does. */
  way: string | null;
}

export interface PersonStream {
  ref: StreamRef;
  kind: StreamKind;
  audio: boolean;
  video: boolean;
  /** `waiting`: nothing yet; `live`; `lost`: no media for 3 s; `unserved`: nobody can feed it, `why` says so. */
  state: "waiting" | "live" | "lost" | "unserved";
  why: string | null;
  /** Natural size of the largest layer. */
  width: number;
  height: number;
}

export interface Quality {
  level: "good" | "fair" | "poor" | "lost" | "unknown";
  /** One sentence. */
  words: string;
}

export interface Notice {
  /** Stable while the cause lasts. */
  id: string;
  severity: "info" | "warn" | "bad";
  text: string;
}

export interface ChatEntry {
  id: string;
  node: number;
  name: string;
  mine: boolean;
  atMs: number;
  /** Null when it could not be opened (sealed with another secret). */
  text: string | null;
  /** False until the server has returned our own line. */
  delivered: boolean;
}

/** What this participant sends. */
export interface Sending {
  microphone: "on" | "muted" | "off";
  camera: "on" | "off";
  /** Layers at present, lowest first. */
  layers: { width: number; height: number; bps: number }[];
  audioLevel: number;
  /** Passing on other people's streams. */
  forwarding: { people: number; bps: number };
  /** ... may happen here. After `setPassesOn(false)` it ends when others have taken over, within a second or two. */
  passesOn: boolean;
}

export interface Room {
  readonly state: RoomState;
  subscribe(listener: () => void): () => void;
  /** Give the tracks to send; null stops. Devices are the caller's (see `media/devices.ts`). */
  setMicrophone(track: MediaStreamTrack | null): Promise<void>;
  setCamera(track: MediaStreamTrack | null): Promise<void>;
  setMuted(muted: boolean): void;
  setHand(raised: boolean): void;
  /** Whether other people's streams may pass through this device; at first they may. */
  setPassesOn(on: boolean): void;
  /** Draw a stream on a canvas that nobody else has taken control of. Call `close` before dropping the canvas. */
  attach(stream: StreamRef, canvas: HTMLCanvasElement): View;
  sendChat(text: string): void;
  watchTrees(on: boolean): void;
  /** For everybody. `neverRelay` stays as it is when absent. */
  setPolicy(policy: Policy, neverRelay?: boolean): void;
  /** False when the browser or the device refuses; sound goes on where it was. */
  setSpeaker(deviceId: string): Promise<boolean>;
  /** Resume sound after a user gesture, where the browser held it back. */
  resumeSound(): Promise<boolean>;
  /** Leave and free everything. Idempotent. */
  close(): void;
}

export interface View {
  /** CSS pixels times device pixel ratio. Chooses the layer asked for. */
  resize(width: number, height: number): void;
  close(): void;
}

/** For tests and diagnosis: every order received, oldest first. */
export type OrderLog = readonly { epoch: number; order: Order }[];

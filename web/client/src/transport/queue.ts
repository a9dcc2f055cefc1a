/**
 * What waits for one child. An `Outbox` is one link's sending side; a `Lane` in it is one edge (one stream to that
 * child). Sound goes straight to its channel. Video waits here, not in SCTP: the next frame is handed over only when
 * the video channel's buffer is empty, so that sound never stands behind more than one picture. Pure but for the
 * `Port`, which is the link's three calls.
 *
 * Sound that stands all the same says that the link is full: then no video goes, and its lanes fall back soon.
 *
 * A lane is paced to its allotted rate and bounded in age and bytes. Over the soft bound droppable frames go; over the
 * hard bound everything up to the next key frame, highest layer first, and the lane then wants a key frame. Nothing
 * here looks at another child's outbox.
 *
 * Repairs go first, then what a layer begins with, then what comes. Each of the three is a queue in order of time, so
 * whether something has waited too long is a look at three fronts, however much waits.
 */
import type { Header } from "../frame/header.ts";
import { references, type Stored } from "./ring.ts";
import type { StreamKey } from "./types.ts";

/** The sending side of a link. `false`: not sent, and never will be. */
export interface Port {
  readonly peer: number;
  readonly open: boolean;
  videoBuffered(): number;
  audioBuffered(): number;
  sendVideo(sealed: Uint8Array): boolean;
  sendAudio(sealed: Uint8Array): boolean;
}

/** Pace over the allotted rate: encoders overshoot for a second at a time; what is over it is a burst to be spread. */
export const PACE = 2;
/** Depth of the bucket, ms at the paced rate. A key frame is charged one bucket at most, whatever its size. */
export const BURST_MS = 250;
/** No lane is paced below this: at less, one small frame would block for seconds. */
const MIN_RATE_BPS = 100_000;
/** Over this age droppable frames go; players run 50 to 150 ms behind, so later would be of no use. */
export const SOFT_MS = 150;
/** Over this age the layer is given up until its next key frame. Shorter gives up in mere hiccups. */
export const HARD_MS = 500;
/** A replay or a repair may wait longer: it is a burst by nature. */
const REPLAY_MS = 1500;
/** After a key frame was handed over the hard bound is as long as this: on a narrow link it alone may take a second. */
const AFTER_KEY_MS = 1500;
/** Least byte bound of a lane: two of the largest frames. Age is what bounds a lane in the ordinary case. */
export const MIN_QUEUE_BYTES = 512 * 1024;
/** Frames that may wait in each queue: more than 4 layers of 60 pictures a second bring within the longest bound. */
export const MAX_ITEMS = 512;
/** Sound waiting in its channel beyond this (over 5 s at 48 kbit/s) means that the link is dead. */
export const AUDIO_LIMIT_BYTES = 32 * 1024;
/** Two give-ups of a layer within this time, and the lane falls back to a lower one. */
export const FALLBACK_MS = 6000;
/** So does dropping without pause for this long: a lower layer at full frame rate is better than half of a higher. */
export const PRESSED_MS = 3000;
/**
 * Sound that stands in its channel, bytes per lane and ms: two packets for this long. Sound is sent at once, so when it
 * stands the link carries less than it is given, and every picture makes it worse: none is handed over meanwhile.
 */
export const CHOKED_BYTES = 400;
const CHOKED_AFTER_MS = 60;
/** A lane whose link was choked for so long in all falls back; one that has just returned, much sooner. */
export const CHOKED_MS = 500;
const CHOKED_AGAIN_MS = 250;
/** A drop counts as pressure for so long; droppable frames come each 66 ms. */
const DROP_ECHO_MS = 200;
/** Quiet time before the higher layer is tried again; doubled with each failure up to the maximum. */
export const RETURN_MS = 5000;
export const RETURN_MAX_MS = 60_000;
/** A layer whose sender pauses (a still screen): after this the child is told which frame was the last. */
const TIP_MS = 150;
/** Repairs may use this share of the allotted rate, so that loss does not feed on itself. */
const REPAIR_SHARE = 0.5;

interface Item {
  readonly header: Header;
  readonly sealed: Uint8Array;
  readonly at: number;
}

/** The queues of a lane, in the order in which they go. */
const KINDS = ["repair", "replay", "live"] as const;
type Kind = (typeof KINDS)[number];

interface LayerState {
  /** `need`: nothing goes out before a key frame. */
  state: "need" | "on";
  needSince: number;
  asked: number;
  wait: number;
}

/** One edge of which we are the parent. */
export class Lane {
  readonly stream: StreamKey;
  rateBps: number;
  readonly layers = new Map<number, LayerState>();
  framesSent = 0;
  framesDropped = 0;
  framesResent = 0;
  bytes = 0;
  /** 0..1: share of the recent time spent over the soft bound (1 s time constant). */
  pressure = 0;
  /** The highest layer that fits, as far as is known. */
  ceiling = Number.POSITIVE_INFINITY;
  private readonly queues: Record<Kind, Item[]> = { repair: [], replay: [], live: [] };
  private readonly dropped = new Map<number, Set<number>>();
  private readonly newest = new Map<number, { generation: number; number: number; at: number; told: boolean }>();
  private tokens: number;
  private repairTokens: number;
  private filled: number;
  private lastStarved = Number.NEGATIVE_INFINITY;
  private lastDrop = Number.NEGATIVE_INFINITY;
  private easySince: number;
  private keyTaken = Number.NEGATIVE_INFINITY;
  private calmSince: number;
  /** Time for which sound stood in this lane's link, less a tenth of the time in which it did not. */
  private chokedMs = 0;
  private returnAfter = RETURN_MS;
  private returnedAt = Number.NEGATIVE_INFINITY;

  constructor(stream: StreamKey, rateBps: number, now: number) {
    this.stream = stream;
    this.rateBps = rateBps;
    this.tokens = this.depth;
    this.repairTokens = this.depth;
    this.filled = now;
    this.calmSince = now;
    this.easySince = now;
  }

  /**
   * Begin a layer: with `frames` that a newcomer needs, or (`null`) at the next key frame.
   * Frames that the child has already are not among them.
   */
  start(layer: number, frames: readonly Stored[] | null, now: number): void {
    if (!frames || frames.length > MAX_ITEMS) {
      this.layers.set(layer, { state: "need", needSince: now, asked: Number.NEGATIVE_INFINITY, wait: 250 });
      return;
    }
    this.layers.set(layer, { state: "on", needSince: now, asked: Number.NEGATIVE_INFINITY, wait: 250 });
    this.dropped.delete(layer);
    for (const f of frames) this.push("replay", { header: f.header, sealed: f.sealed, at: now });
  }

  stop(layer: number): void {
    this.layers.delete(layer);
    this.remove((item) => item.header.spatial === layer);
  }

  /** A frame of the stream came or was made: take it if this edge wants it. */
  offer(frame: Stored, now: number): void {
    const { header, sealed } = frame;
    const layer = this.layers.get(header.spatial);
    if (!layer) return;
    if (header.key) {
      if (layer.state === "need") {
        layer.state = "on";
        layer.wait = 250;
      }
      this.dropped.delete(header.spatial);
    } else if (layer.state === "need") {
      if (this.lastStarved >= layer.needSince) this.framesDropped += 1;
      return;
    } else if (this.orphaned(header)) {
      this.drop(header);
      return;
    }
    this.push("live", { header, sealed, at: now });
    this.bound(now);
  }

  /** Send a frame again, ahead of the others. False: over the budget for repairs, or not wanted. */
  resend(frame: Stored, now: number): boolean {
    this.fill(now);
    const { spatial, number } = frame.header;
    if (this.layers.get(spatial)?.state !== "on" || this.repairTokens <= 0) return false;
    if (this.queues.repair.length >= MAX_ITEMS) return false;
    if (this.waiting.some((i) => i.header.spatial === spatial && i.header.number === number)) return true;
    this.repairTokens -= frame.sealed.byteLength;
    this.push("repair", { header: frame.header, sealed: frame.sealed, at: now });
    this.framesResent += 1;
    return true;
  }

  /** When the next frame was queued, if it may go now; null otherwise. */
  ready(now: number): number | null {
    const kind = this.first;
    const head = kind && this.queues[kind][0];
    if (!head) return null;
    this.fill(now);
    return kind !== "live" || this.tokens > 0 ? head.at : null;
  }

  take(now: number): Item | undefined {
    const kind = this.first;
    const item = kind && this.queues[kind].shift();
    if (!item) return undefined;
    const { key, droppable, spatial, generation, number } = item.header;
    if (key) this.keyTaken = now;
    // A repair is older than what was last sent live.
    if (!droppable && kind !== "repair") this.newest.set(spatial, { generation, number, at: now, told: false });
    const size = item.sealed.byteLength;
    this.bytes -= size;
    if (kind === "live") this.tokens -= item.header.key ? Math.min(size, this.depth) : size;
    return item;
  }

  /** Keep the bounds; called on every frame and by the clock. */
  bound(now: number): void {
    const limit = Math.max(MIN_QUEUE_BYTES, (this.rateBps / 8000) * HARD_MS);
    if (this.over(now, SOFT_MS, limit / 2, MAX_ITEMS / 2)) {
      const before = this.queues.live.length;
      this.remove((item, kind) => item.header.droppable && kind === "live", true);
      if (this.queues.live.length < before) this.lastDrop = now;
    }
    const hard = now - this.keyTaken < AFTER_KEY_MS ? AFTER_KEY_MS : HARD_MS;
    if (!this.over(now, hard, limit, MAX_ITEMS)) return;
    for (const layer of [...this.layers.keys()].sort((a, b) => b - a)) {
      this.giveUp(layer, now, true);
      if (!this.over(now, hard, limit, MAX_ITEMS)) return;
      this.giveUp(layer, now, false);
      if (!this.over(now, hard, limit, MAX_ITEMS)) return;
    }
  }

  /** A frame could not be handed over: the layer cannot go on without a key frame, unless the frame was droppable. */
  failed(item: Item, now: number): void {
    this.drop(item.header);
    if (!item.header.droppable) this.giveUp(item.header.spatial, now, true);
  }

  /** By the clock: pressure, fallback and return. `elapsed` since the last call, ms; `choked`: sound stands. */
  tick(now: number, elapsed: number, choked = false): void {
    this.bound(now);
    const held = choked || this.over(now, SOFT_MS, MIN_QUEUE_BYTES / 2, MAX_ITEMS / 2);
    const pressed = held || now - this.lastDrop < DROP_ECHO_MS || this.starving;
    this.chokedMs = Math.max(0, this.chokedMs + (choked ? elapsed : -elapsed / 10));
    if (this.chokedMs >= (now - this.returnedAt < FALLBACK_MS ? CHOKED_AGAIN_MS : CHOKED_MS)) {
      this.chokedMs = 0;
      this.fallBack(Math.max(0, ...this.layers.keys()), now);
    }
    this.pressure += ((pressed ? 1 : 0) - this.pressure) * Math.min(1, elapsed / 1000);
    if (pressed) this.calmSince = now;
    if (this.pressure < 0.5) this.easySince = now;
    else if (now - this.easySince >= PRESSED_MS) {
      this.easySince = now;
      this.fallBack(Math.max(0, ...this.layers.keys()), now);
    }
    if (this.ceiling !== Number.POSITIVE_INFINITY && now - this.calmSince >= this.returnAfter) {
      this.ceiling = Number.POSITIVE_INFINITY;
      this.returnedAt = now;
    }
  }

  /** Some layer was given up and waits for a key frame. */
  get starving(): boolean {
    for (const l of this.layers.values()) if (l.state === "need" && this.lastStarved >= l.needSince) return true;
    return false;
  }

  /** Layers for which a key frame should be asked for now. Asked once there is room, with a growing wait. */
  wantsKey(now: number, drained: boolean): number[] {
    const out: number[] = [];
    for (const [layer, l] of this.layers) {
      if (l.state !== "need" || !drained || now - l.asked < l.wait) continue;
      if (l.asked !== Number.NEGATIVE_INFINITY) l.wait = Math.min(2000, l.wait * 2);
      l.asked = now;
      out.push(layer);
    }
    return out;
  }

  /** Layers that have paused after frames that count, each once per pause. */
  tips(now: number): { layer: number; generation: number; number: number }[] {
    const out: { layer: number; generation: number; number: number }[] = [];
    for (const [layer, tip] of this.newest) {
      if (tip.told || now - tip.at < TIP_MS || !this.layers.has(layer)) continue;
      tip.told = true;
      out.push({ layer, generation: tip.generation, number: tip.number });
    }
    return out;
  }

  private get depth(): number {
    return (Math.max(MIN_RATE_BPS, this.rateBps) / 8000) * PACE * BURST_MS;
  }

  private fill(now: number): void {
    const elapsed = Math.max(0, now - this.filled);
    this.filled = now;
    const rate = Math.max(MIN_RATE_BPS, this.rateBps) / 8000;
    this.tokens = Math.min(this.depth, this.tokens + rate * PACE * elapsed);
    this.repairTokens = Math.min(this.depth, this.repairTokens + rate * REPAIR_SHARE * elapsed);
  }

  private over(now: number, age: number, bytes: number, items: number): boolean {
    const { repair, replay, live } = this.queues;
    const waits = (queue: readonly Item[], most: number) => queue[0] !== undefined && now - queue[0].at > most;
    const patient = Math.max(age, REPLAY_MS);
    return (
      this.bytes > bytes ||
      live.length > items ||
      replay.length > MAX_ITEMS ||
      waits(live, age) ||
      waits(replay, patient) ||
      waits(repair, patient)
    );
  }

  /** Which queue's turn it is. */
  private get first(): Kind | null {
    return KINDS.find((kind) => this.queues[kind].length > 0) ?? null;
  }

  /** All that waits, in the order in which it goes. */
  private get waiting(): Item[] {
    return KINDS.flatMap((kind) => this.queues[kind]);
  }

  /** Drop a layer's frames: up to a young key frame in the queue if one may be kept, else up to the next to come. */
  private giveUp(layer: number, now: number, keep: boolean): void {
    const state = this.layers.get(layer);
    if (!state) return;
    const waiting = this.waiting;
    const key = waiting.findLastIndex((i) => i.header.spatial === layer && i.header.key);
    const fresh = keep && key > 0 && now - (waiting[key]?.at ?? now) <= HARD_MS / 2 ? waiting[key] : undefined;
    let passed = false;
    this.remove((item) => {
      if (item === fresh) passed = true;
      return item.header.spatial === layer && !passed;
    }, true);
    if (fresh) return;
    if (state.state === "on") {
      state.state = "need";
      state.needSince = now;
      this.starved(layer, now);
    }
    this.dropped.delete(layer);
  }

  private starved(layer: number, now: number): void {
    if (now - this.lastStarved < FALLBACK_MS || now - this.returnedAt < FALLBACK_MS) this.fallBack(layer, now);
    this.lastStarved = now;
    this.calmSince = now;
  }

  private fallBack(layer: number, now: number): void {
    // A return that fails soon makes the next one wait twice as long; one that held starts over.
    const failed = now - this.returnedAt < 2 * FALLBACK_MS;
    if (this.ceiling === Number.POSITIVE_INFINITY) {
      this.returnAfter = failed ? Math.min(RETURN_MAX_MS, this.returnAfter * 2) : RETURN_MS;
    }
    this.ceiling = Math.max(0, layer - 1);
    this.calmSince = now;
  }

  private push(kind: Kind, item: Item): void {
    this.queues[kind].push(item);
    this.bytes += item.sealed.byteLength;
  }

  private remove(which: (item: Item, kind: Kind) => boolean, count = false): void {
    for (const kind of KINDS) {
      this.queues[kind] = this.queues[kind].filter((item) => {
        const goes = which(item, kind);
        if (goes) this.bytes -= item.sealed.byteLength;
        if (goes && count) this.drop(item.header);
        return !goes;
      });
    }
  }

  private drop(header: Header): void {
    this.framesDropped += 1;
    let numbers = this.dropped.get(header.spatial);
    if (!numbers) {
      numbers = new Set();
      this.dropped.set(header.spatial, numbers);
    }
    numbers.add(header.number);
    if (numbers.size > 64) {
      const first = numbers.values().next().value;
      if (first !== undefined) numbers.delete(first);
    }
  }

  /** Depends on a frame that was dropped on purpose (both distances count: an upper temporal frame names two). */
  private orphaned(header: Header): boolean {
    const numbers = this.dropped.get(header.spatial);
    return numbers !== undefined && references(header).some((n) => numbers.has(n));
  }
}

/** The sending side of one link: all its lanes and the order among them. */
export class Outbox {
  readonly lanes = new Map<StreamKey, Lane>();
  audioDropped = 0;
  /** Told of each frame that left, for counters and traces. */
  onSent: (stream: StreamKey, header: Header, sealed: Uint8Array, now: number) => void = () => {};
  private readonly port: Port;
  private standingMs = 0;

  constructor(port: Port) {
    this.port = port;
  }

  /** Sound stands in its channel. */
  get choked(): boolean {
    return this.standingMs >= CHOKED_AFTER_MS;
  }

  /** Sound: at once. Dropped only when the channel itself no longer moves. */
  audio(stream: StreamKey, header: Header, sealed: Uint8Array, now: number): boolean {
    if (!this.port.open || this.port.audioBuffered() > AUDIO_LIMIT_BYTES || !this.port.sendAudio(sealed)) {
      this.audioDropped += 1;
      return false;
    }
    this.onSent(stream, header, sealed, now);
    return true;
  }

  /** Hand over video while the channel is empty: the frame that waited longest among lanes that may send. */
  pump(now: number): void {
    if (!this.port.open || this.choked) return;
    while (this.port.videoBuffered() === 0) {
      let next: Lane | null = null;
      let oldest = Number.POSITIVE_INFINITY;
      for (const lane of this.lanes.values()) {
        const at = lane.ready(now);
        if (at !== null && at < oldest) {
          oldest = at;
          next = lane;
        }
      }
      const item = next?.take(now);
      if (!next || !item) return;
      if (this.port.sendVideo(item.sealed)) {
        next.framesSent += 1;
        this.onSent(next.stream, item.header, item.sealed, now);
      } else next.failed(item, now);
    }
  }

  tick(now: number, elapsed: number): void {
    const stands = this.port.open && this.port.audioBuffered() > CHOKED_BYTES * Math.max(1, this.lanes.size);
    this.standingMs = stands ? this.standingMs + elapsed : 0;
    for (const lane of this.lanes.values()) lane.tick(now, elapsed, this.choked);
    this.pump(now);
  }

  get queuedBytes(): number {
    let bytes = 0;
    for (const lane of this.lanes.values()) bytes += lane.bytes;
    return bytes + this.port.videoBuffered() + this.port.audioBuffered();
  }

  get drained(): boolean {
    return this.port.open && !this.choked && this.port.videoBuffered() === 0;
  }
}

/**
 * One stream at this node: who may deliver it, what came, what is remembered, who gets it. Pure. The router drives it.
 */
import type { Header } from "../frame/header.ts";
import { Gaps, type Verdict } from "./gaps.ts";
import { KeyRequests } from "./keys.ts";
import { Delay, Rate } from "./meter.ts";
import type { Lane } from "./queue.ts";
import { AUDIO, Ring, type Stored, VIDEO } from "./ring.ts";
import type { StreamKey } from "./types.ts";

/**
 * A layer is silent when a lower one has gone on for so long and so many frames without it: its encoder stopped, or
 * the parent fell back. The count is for cameras at one frame a second, whose layers always come one after the other.
 */
export const LAYER_SILENT_MS = 700;
export const LAYER_SILENT_FRAMES = 8;
/** Key requests that one child may make, and beginnings anew: a burst, and then one per second. */
const KEY_BURST = 5;
const KEY_REFILL_MS = 1000;
/** Sound alone makes a stream with video ready only after this: the camera may be slow, or refused. */
export const AUDIO_READY_MS = 1000;
/** After the new parent has delivered, frames of the old one are still welcome for so long. */
export const GRACE_MS = 1000;

/** One child of this stream. */
export interface Edge {
  readonly child: number;
  /** The order's layers, lowest first. */
  layers: number[];
  lane: Lane;
  /** The child's backup: sends from its `take` to its `drop`, and nothing before and after. */
  standby: boolean;
  /** The child has asked to begin (`take`), or we stopped waiting for that. */
  started: boolean;
  /** It has begun once, whatever the link. */
  begun: boolean;
  since: number;
  /** What the child was last told that it gets. */
  told: string;
  keyBudget: number;
  keyBudgetAt: number;
  /** What went out on the edge. */
  readonly rate: Rate;
}

export function edgeTo(child: number, layers: number[], lane: Lane, standby: boolean, now: number): Edge {
  const fresh = {
    standby,
    started: false,
    begun: false,
    since: now,
    told: "",
    keyBudget: KEY_BURST,
    keyBudgetAt: now,
    rate: new Rate(),
  };
  return { child, layers, lane, ...fresh };
}

/** Send no more on an edge, until it begins anew. */
export function rest(edge: Edge): void {
  edge.started = false;
  edge.told = "";
  for (const layer of [...edge.lane.layers.keys()]) edge.lane.stop(layer);
}

/** May this child make one more key request? Each costs everybody in the tree. */
export function mayAskKey(edge: Edge, now: number): boolean {
  edge.keyBudget = Math.min(KEY_BURST, edge.keyBudget + (now - edge.keyBudgetAt) / KEY_REFILL_MS);
  edge.keyBudgetAt = now;
  if (edge.keyBudget < 1) return false;
  edge.keyBudget -= 1;
  return true;
}

/**
 * May it begin? The first time by order; each further time costs a replay and maybe a key frame, so it comes out of the same
 * budget, also when the child has dropped the stream or opened its link anew.
 */
export function mayBegin(edge: Edge, now: number): boolean {
  const first = !edge.begun;
  edge.begun = true;
  return first || mayAskKey(edge, now);
}

export interface Parent {
  readonly node: number;
  since: number;
  /** It has delivered something usable. */
  ready: boolean;
  firstAudio: number | null;
  /** We told it to begin, on the link that there is now. */
  taken: boolean;
  /** ... or on an earlier one. */
  asked: boolean;
  /** A backup that we told to begin without an order: to be told to stop when it is not needed any more. */
  unordered: boolean;
  /** The layers that it says it sends; null: it has not said. */
  given: number[] | null;
}

export function parentAt(node: number, now: number): Parent {
  return {
    node,
    since: now,
    ready: false,
    firstAudio: null,
    taken: false,
    asked: false,
    unordered: false,
    given: null,
  };
}

export class Stream {
  readonly key: StreamKey;
  /** Sent by this node. */
  readonly own: boolean;
  parent: Parent | null = null;
  previous: Parent | null = null;
  previousUntil = Number.POSITIVE_INFINITY;
  /** Who stands by, should whoever delivers fall silent. */
  backup: number | null = null;
  /** The backup that we told to begin, until the one that it stands in for is back or replaced. */
  standIn: Parent | null = null;
  /** How often one was told to begin. */
  backupsTaken = 0;
  /** The layers that the order says will come. */
  expected: number[] = [];
  readonly ring = new Ring();
  readonly video = new Map<number, Gaps>();
  readonly audio = new Gaps(false);
  readonly edges = new Map<number, Edge>();
  readonly keys = new KeyRequests();
  readonly rate = new Rate();
  readonly delay = new Delay();
  framesReceived = 0;
  audioPackets = 0;
  /** Share of the ordered rate that our children can take; own streams only. */
  share = 1;
  shareAt = 0;
  /** The share that was last too much, and when. */
  tooMuch = 1;
  tooMuchAt = Number.NEGATIVE_INFINITY;
  calmSince = 0;
  private readonly seen = new Map<number, { at: number; passed: number }>();
  private given: number[] | null = null;

  constructor(key: StreamKey, own: boolean) {
    this.key = key;
    this.own = own;
  }

  /** May this peer deliver frames of the stream now? */
  mayDeliver(peer: number): Parent | null {
    if (this.parent?.node === peer) return this.parent;
    if (this.standIn?.node === peer) return this.standIn;
    if (this.previous?.node === peer) return this.previous;
    return null;
  }

  /** Take note of a frame from a parent. */
  arrive(header: Header, now: number): Verdict {
    if (header.track === AUDIO) return this.audio.accept(header, now);
    return this.gaps(header.spatial).accept(header, now);
  }

  gaps(layer: number): Gaps {
    let gaps = this.video.get(layer);
    if (!gaps) {
      gaps = new Gaps(true);
      this.video.set(layer, gaps);
    }
    return gaps;
  }

  /** Remember a frame that goes on. */
  keep(frame: Stored): void {
    this.ring.add(frame);
    if (frame.header.track === VIDEO) {
      this.seen.set(frame.header.spatial, { at: frame.at, passed: 0 });
      for (const [layer, seen] of this.seen) if (layer > frame.header.spatial) seen.passed += 1;
      if (frame.header.key) this.keys.satisfied(frame.header.spatial);
    }
  }

  /** What whoever delivers says that it sends; null: it has not said. */
  told(layers: number[] | null): void {
    this.given = layers;
  }

  /** May this layer be expected? Not while the parent says that it sends others. */
  promised(layer: number): boolean {
    return this.own || this.given === null || this.given.includes(layer);
  }

  /** Layers that come (or are made) at present, lowest first. */
  alive(): number[] {
    const out: number[] = [];
    let newest = Number.NEGATIVE_INFINITY;
    for (const layer of [...this.seen.keys()].sort((a, b) => a - b)) {
      const seen = this.seen.get(layer);
      if (!seen) continue;
      const silent = newest - seen.at > LAYER_SILENT_MS && seen.passed >= LAYER_SILENT_FRAMES;
      if (this.promised(layer) && !silent) out.push(layer);
      newest = Math.max(newest, seen.at);
    }
    return out;
  }

  /** What an edge gets: its order as far as layers are there and fit, else the next lower one. */
  choose(edge: Edge): number[] {
    if (edge.layers.length === 0) return [];
    const alive = this.alive();
    if (alive.length === 0) return edge.layers.filter((l) => l <= edge.lane.ceiling);
    const fit = edge.layers.filter((l) => alive.includes(l) && l <= edge.lane.ceiling);
    if (fit.length > 0) return fit;
    const top = Math.min(edge.lane.ceiling, Math.max(...edge.layers));
    const lower = alive.filter((l) => l <= top).at(-1) ?? alive[0];
    return lower === undefined ? edge.layers : [lower];
  }

  /** Is what this parent delivers enough to feed others? */
  usable(parent: Parent, header: Header, now: number): boolean {
    if (header.track === VIDEO) {
      const gaps = this.video.get(header.spatial);
      return header.key || (gaps?.whole === true && header.number > gaps.highest - 64);
    }
    parent.firstAudio ??= now;
    return this.expected.length === 0 || now - parent.firstAudio >= AUDIO_READY_MS;
  }
}

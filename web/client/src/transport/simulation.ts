/**
 * A network in virtual time, for tests: seeded loss, latency and narrow links between whole `Transport`s, and frames
 * that look like VP8 in two temporal layers and Opus. Nothing here runs in a browser.
 */
import { EVERYTHING, encodeHeader, type Header, TAG_BYTES } from "../frame/header.ts";
import type { FromWorker } from "../worker/messages.ts";
import type { Channel } from "./link.ts";
import { references } from "./ring.ts";
import { Transport } from "./transport.ts";
import type { MediaSide, StreamKey } from "./types.ts";

/** mulberry32: small, seeded, good enough to decide losses. */
export function random(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Virtual time: things happen in order of their time, then of their asking. */
export class Clock {
  now = 0;
  private readonly heap: { at: number; order: number; run: () => void }[] = [];
  private order = 0;

  at(time: number, run: () => void): void {
    const item = { at: Math.max(time, this.now), order: this.order++, run };
    let i = this.heap.push(item) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(item, this.heap[parent])) break;
      this.heap[i] = this.heap[parent] as typeof item;
      i = parent;
    }
    this.heap[i] = item;
  }

  every(ms: number, run: () => void): void {
    const again = () => {
      run();
      this.at(this.now + ms, again);
    };
    this.at(this.now + ms, again);
  }

  run(until: number): void {
    for (let next = this.heap[0]; next && next.at <= until; next = this.heap[0]) {
      this.pop();
      this.now = next.at;
      next.run();
    }
    this.now = until;
  }

  private pop(): void {
    const last = this.heap.pop();
    if (!last || this.heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && before(this.heap[child + 1], this.heap[child])) child += 1;
      if (!before(this.heap[child], last)) break;
      this.heap[i] = this.heap[child] as typeof last;
      i = child;
    }
    this.heap[i] = last;
  }
}

function before(a: { at: number; order: number } | undefined, b: { at: number; order: number } | undefined): boolean {
  if (!a || !b) return a !== undefined;
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** One direction of a link. */
export interface Conditions {
  latencyMs: number;
  /** Share of frames lost; control messages come late instead. */
  loss: number;
  bps: number;
}

/** One direction: the three channels share its rate, frames in the order in which they were handed over. */
class Direction {
  conditions: Conditions;
  frames = 0;
  private free = 0;
  private readonly clock: Clock;
  private readonly chance: () => number;
  down = false;

  constructor(clock: Clock, chance: () => number, conditions: Conditions) {
    this.clock = clock;
    this.chance = chance;
    this.conditions = conditions;
  }

  send(from: FakeChannel, to: FakeChannel, data: string | ArrayBuffer, bytes: number): void {
    const { latencyMs, loss, bps } = this.conditions;
    this.free = Math.max(this.free, this.clock.now) + (bytes * 8000) / bps;
    from.bufferedAmount += bytes;
    this.clock.at(this.free, () => {
      from.bufferedAmount -= bytes;
      if (from.bufferedAmount === 0) from.onbufferedamountlow?.call(undefined as never, new Event("low"));
    });
    if (this.down) return;
    const lost = this.chance() < loss;
    if (lost && typeof data !== "string") return;
    if (typeof data !== "string") this.frames += 1;
    // The control channel is reliable and ordered: a loss costs a round trip, and what is behind waits.
    const arrival = Math.max(this.free + latencyMs * (lost ? 3 : 1), typeof data === "string" ? to.last : 0);
    if (typeof data === "string") to.last = arrival;
    this.clock.at(arrival, () => {
      if (!this.down && to.readyState === "open")
        to.onmessage?.call(undefined as never, new MessageEvent("message", { data }));
    });
  }
}

export class FakeChannel implements Channel {
  binaryType: BinaryType = "blob";
  readyState: RTCDataChannelState = "open";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  onopen: Channel["onopen"] = null;
  onclose: Channel["onclose"] = null;
  onmessage: Channel["onmessage"] = null;
  onbufferedamountlow: Channel["onbufferedamountlow"] = null;
  other: FakeChannel | null = null;
  last = 0;
  /** Most that was ever handed over and not yet on the wire: whole messages. */
  most = 0;
  private waiting = 0;
  private readonly direction: Direction | null;

  constructor(direction: Direction | null = null) {
    this.direction = direction;
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.readyState !== "open" || !this.other) throw new Error("InvalidStateError");
    const bytes = typeof data === "string" ? data.length : data.byteLength;
    this.waiting = this.bufferedAmount === 0 ? 1 : this.waiting + 1;
    this.most = Math.max(this.most, this.waiting);
    this.direction?.send(this, this.other, typeof data === "string" ? data : data.slice().buffer, bytes);
  }

  close(): void {
    this.readyState = "closed";
  }
}

/** A player that decodes what it may, as a browser would: it shows a frame only when all that it needs was decoded. */
export class Player implements MediaSide {
  /** `stream.layer` -> numbers decoded, in order of decoding. */
  readonly decoded = new Map<string, number[]>();
  readonly audio = new Map<StreamKey, number[]>();
  readonly gones: { layer: number; upTo: number }[] = [];
  readonly keyFrames: { stream: number; layer: number; at: number }[] = [];
  readonly shares: { share: number; at: number }[] = [];
  frames = 0;
  /** When pictures came, by stream. */
  readonly pictures = new Map<StreamKey, number[]>();
  onKeyFrame: (stream: number, layer: number) => void = () => {};
  private readonly waiting = new Map<string, Map<number, Header>>();
  private readonly have = new Map<string, Set<number>>();
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  frame(stream: StreamKey, header: Header, _sealed: Uint8Array): void {
    this.frames += 1;
    if (header.track === 0) {
      const numbers = this.audio.get(stream) ?? [];
      numbers.push(header.number);
      this.audio.set(stream, numbers);
      return;
    }
    const pictures = this.pictures.get(stream) ?? [];
    pictures.push(this.clock.now);
    this.pictures.set(stream, pictures);
    const id = `${stream}.${header.spatial}`;
    const waiting = this.waiting.get(id) ?? new Map<number, Header>();
    this.waiting.set(id, waiting);
    const have = this.have.get(id) ?? new Set<number>();
    this.have.set(id, have);
    const decoded = this.decoded.get(id) ?? [];
    this.decoded.set(id, decoded);
    waiting.set(header.number, header);
    for (let moved = true; moved; ) {
      moved = false;
      for (const [number, h] of [...waiting].sort((a, b) => a[0] - b[0])) {
        if (number < (decoded.at(-1) ?? -1)) {
          waiting.delete(number);
        } else if (h.key || references(h).every((n) => have.has(n))) {
          waiting.delete(number);
          have.add(number);
          decoded.push(number);
          moved = true;
        }
      }
    }
  }

  gone(_stream: StreamKey, _track: number, layer: number, upTo: number): void {
    this.gones.push({ layer, upTo });
  }

  keyFrame(stream: number, layer: number): void {
    this.keyFrames.push({ stream, layer, at: this.clock.now });
    this.onKeyFrame(stream, layer);
  }

  uplink(_stream: number, share: number): void {
    this.shares.push({ share, at: this.clock.now });
  }

  numbers(stream: StreamKey, layer: number): number[] {
    return this.decoded.get(`${stream}.${layer}`) ?? [];
  }
}

export interface SimNode {
  node: number;
  transport: Transport;
  media: Player;
  posted: FromWorker[];
}

/** Nodes and links. */
export class Net {
  readonly clock = new Clock();
  readonly nodes = new Map<number, SimNode>();
  private readonly chance: () => number;
  private readonly directions = new Map<string, Direction>();
  private readonly channels = new Map<string, FakeChannel[]>();

  constructor(seed: number) {
    this.chance = random(seed);
  }

  node(node: number): SimNode {
    const found = this.nodes.get(node);
    if (found) return found;
    const media = new Player(this.clock);
    const posted: FromWorker[] = [];
    const transport = new Transport({ node, media, post: (m) => posted.push(m), now: () => this.clock.now });
    const made = { node, transport, media, posted };
    this.nodes.set(node, made);
    this.clock.every(10, () => transport.tick());
    return made;
  }

  link(a: number, b: number, conditions: Partial<Conditions> = {}): void {
    const c = { latencyMs: 10, loss: 0, bps: 20e6, ...conditions };
    const ab = new Direction(this.clock, this.chance, { ...c });
    const ba = new Direction(this.clock, this.chance, { ...c });
    this.directions.set(`${a}>${b}`, ab);
    this.directions.set(`${b}>${a}`, ba);
    const left = [new FakeChannel(ab), new FakeChannel(ab), new FakeChannel(ab)] as const;
    const right = [new FakeChannel(ba), new FakeChannel(ba), new FakeChannel(ba)] as const;
    for (const i of [0, 1, 2] as const) {
      left[i].other = right[i];
      right[i].other = left[i];
    }
    this.channels.set(`${a}>${b}`, [...left]);
    this.channels.set(`${b}>${a}`, [...right]);
    this.node(a).transport.openLink(b, ...left);
    this.node(b).transport.openLink(a, ...right);
  }

  direction(a: number, b: number): Direction {
    const d = this.directions.get(`${a}>${b}`);
    if (!d) throw new Error("no such link");
    return d;
  }

  /** The channel of `a` towards `b`: 0 video, 1 audio, 2 control. */
  channel(a: number, b: number, which: 0 | 1 | 2): FakeChannel {
    const c = this.channels.get(`${a}>${b}`)?.[which];
    if (!c) throw new Error("no such link");
    return c;
  }

  /** An edge of the tree, as the server orders it. */
  edge(
    stream: { node: number; stream: number },
    parent: number,
    child: number,
    layers = [0],
    rateBps = 1_000_000,
  ): void {
    this.node(child).transport.parent(stream, parent, layers);
    this.node(parent).transport.feed(stream, child, layers, rateBps);
  }

  /** Who feeds the child should its parent fall silent, as the server orders it. */
  backup(stream: { node: number; stream: number }, node: number, child: number, layers = [0]): void {
    this.node(child).transport.backup(stream, node);
    this.node(node).transport.standBy(stream, child, layers, 1_000_000);
  }

  /** Both directions of a link carry nothing, or (`false`) something again. */
  cut(a: number, b: number, down = true): void {
    this.direction(a, b).down = down;
    this.direction(b, a).down = down;
  }

  run(ms: number): void {
    this.clock.run(this.clock.now + ms);
  }
}

export interface SourceOptions {
  fps?: number;
  /** Bit/s of each layer, lowest first. */
  layers?: number[];
  audio?: boolean;
  stream?: number;
  generation?: number;
  firstNumber?: number;
}

/** A camera and microphone: L1T2 pictures (every second one droppable) and 50 sounds a second. */
export class Source {
  readonly numbers: number[];
  audioNumber = 0;
  keyFrames = 0;
  generation: number;
  stopped = false;
  /** Layers whose encoder is stopped. */
  readonly off = new Set<number>();
  private readonly wantKey = new Set<number>();
  private readonly lastBase: number[];
  private readonly sim: SimNode;
  private readonly stream: number;

  constructor(net: Net, node: number, options: SourceOptions = {}) {
    const { fps = 30, layers = [600_000], audio = true, stream = 0, generation = 1, firstNumber = 0 } = options;
    this.sim = net.node(node);
    this.stream = stream;
    this.generation = generation;
    this.numbers = layers.map(() => firstNumber);
    this.lastBase = layers.map(() => firstNumber);
    for (const [i] of layers.entries()) this.wantKey.add(i);
    const before = this.sim.media.onKeyFrame;
    this.sim.media.onKeyFrame = (s, layer) => {
      if (s === stream) this.wantKey.add(layer);
      else before(s, layer);
    };
    net.clock.every(1000 / fps, () => {
      if (this.stopped) return;
      for (const [layer, bps] of layers.entries())
        if (!this.off.has(layer)) this.picture(layer, bps / fps / 8, net.clock.now);
    });
    if (audio) {
      net.clock.every(20, () => {
        if (!this.stopped) this.sound(net.clock.now);
      });
    }
  }

  private picture(layer: number, size: number, now: number): void {
    const number = this.numbers[layer] ?? 0;
    this.numbers[layer] = number + 1;
    const key = this.wantKey.delete(layer);
    const distance = number - (this.lastBase[layer] ?? 0);
    const upper = !key && distance % 2 === 1;
    if (key) this.keyFrames += 1;
    this.sim.transport.publish(
      this.stream,
      frame({
        key,
        spatial: layer,
        temporal: upper ? 1 : 0,
        droppable: upper,
        number,
        farthest: key ? 0 : upper ? 1 : distance,
        nearest: key ? 0 : upper ? 1 : distance,
        sender: this.sim.node,
        stream: this.stream,
        generation: this.generation,
        captureUs: Math.round(now * 1000),
        size: Math.round(key ? size * 6 : size),
      }),
    );
    if (!upper) this.lastBase[layer] = number;
  }

  private sound(now: number): void {
    this.sim.transport.publish(
      this.stream,
      frame({
        kind: "audio",
        track: 0,
        number: this.audioNumber++,
        sender: this.sim.node,
        stream: this.stream,
        generation: this.generation,
        captureUs: Math.round(now * 1000),
        size: 80,
      }),
    );
  }
}

/** A sealed-looking frame: a true header, and bytes that follow from it. */
export function frame(fields: Partial<Header> & { size?: number }): Uint8Array {
  const { size = 200, ...given } = fields;
  const video = (given.kind ?? "video") === "video";
  const header: Header = {
    key: false,
    kind: "video",
    spatial: 0,
    temporal: 0,
    number: 0,
    width: given.key ? 640 : 0,
    height: given.key ? 360 : 0,
    farthest: video && !given.key ? EVERYTHING : 0,
    nearest: video && !given.key ? 1 : 0,
    level: 0,
    captureUs: 0,
    sender: 1,
    stream: 0,
    track: 1,
    generation: 1,
    droppable: false,
    rotation: 0,
    ...given,
  };
  const head = encodeHeader(header);
  const bytes = new Uint8Array(head.length + size + TAG_BYTES);
  bytes.set(head);
  const next = random(header.number * 31 + header.sender * 7 + header.track * 3 + header.spatial);
  for (let i = head.length; i < bytes.length; i += 16) bytes[i] = next() * 256;
  return bytes;
}

/**
 * Streams, parents and children of one node: what comes in goes out to every child whose edge wants it, before
 * anything else happens to it, as the very bytes that came. Pure: time is passed in, links are `Neighbour`s.
 *
 * Streams exist only by order (feed, parent, publish); nothing that a peer sends allocates one. A frame counts only
 * when it comes from the stream's parent, from the former parent while the new one has yet to deliver, or from the backup
 * that was told to begin because whoever delivered fell silent.
 */
import { decodeHeader, type Header } from "../frame/header.ts";
import type { Control, Have } from "./control.ts";
import { MAX_NUMBERS } from "./control.ts";
import { Lane, Outbox, type Port } from "./queue.ts";
import { AUDIO, type Stored, VIDEO } from "./ring.ts";
import { appoint, attend, relieve, settle, sourceOf } from "./sources.ts";
import { type Edge, edgeTo, mayAskKey, mayBegin, rest, Stream } from "./stream.ts";
import { type MediaSide, type StreamKey, streamKey } from "./types.ts";

/** How long a parent waits for the child's `take` before it begins by itself. */
export const TAKE_WAIT_MS = 300;
/** Chromium's largest message (its default `max-message-size`): larger sends throw, so no link ever carries them. */
export const MAX_FRAME_BYTES = 256 * 1024;
/** `take`s remembered for edges that are not ordered yet, per peer. */
const MAX_TAKES = 256;
/** How often edges are looked at for layers to begin or end, ms. */
const CHOOSE_MS = 100;
/** A source lowers its share by a fifth when most of its children are backed up, at most each second. */
const SHARE_DOWN = 0.8;
const SHARE_MIN = 0.15;
/** After this much calm it raises it, a step each second: fast at first, slowly near the share that was too much. */
const SHARE_CALM_MS = 3000;
const SHARE_STEP_MS = 1000;
const SHARE_UP = 1.08;
const SHARE_UP_NEAR = 1.02;
const SHARE_NEAR = 0.85;
/** What was too much a minute ago may fit by now. */
const SHARE_FORGET_MS = 60_000;
/** A lane that falls back gets the ring of the lower layer only up to this multiple of its key frame. */
const SMALL_REPLAY = 2;

/** A link as the router sees it. */
export interface Neighbour extends Port {
  /** Smoothed round-trip time and srtt + 4 rttvar, ms. */
  readonly srtt: number;
  readonly bound: number;
  /**
   * What the peer gets of our own streams leaves through their encoders, and nothing is queued for it here. What it sends
   * has been repaired below as far as that goes.
   */
  readonly byRtp: boolean;
  /** Nothing at all comes from it. */
  readonly silent: boolean;
  /** A frame of ours left for it through an encoder. */
  carried(bytes: number): void;
  /** False: the channel is not open yet; nothing was sent. */
  control(message: Control): boolean;
}

/** What the router counts beside streams and edges. */
export interface RouterCounters {
  /** Not a frame of ours. */
  malformed: number;
  /** From somebody who is not the stream's parent, or of a stream that nobody ordered. */
  stray: number;
  /** Our own frames, come back. */
  looped: number;
  /** Tracks and kinds that are not forwarded. */
  foreign: number;
  /** Own frames too large for a message: not sent, and the encoder is told to make less. */
  oversized: number;
  /** Control messages for streams or layers that the peer has no business with. */
  misplaced: number;
}

export interface RouterEvents {
  ready(stream: StreamKey, parent: number): void;
  /** A frame left for a peer, as handed to its channel. */
  sent(stream: StreamKey, header: Header, sealed: Uint8Array, to: number): void;
  /** A frame came (`from`), or was made here (null). */
  received(stream: StreamKey, header: Header, sealed: Uint8Array, from: number | null): void;
}

interface Peer {
  port: Neighbour;
  outbox: Outbox;
  takes: Map<StreamKey, Have[]>;
}

export class Router {
  readonly streams = new Map<StreamKey, Stream>();
  readonly counters: RouterCounters = { malformed: 0, stray: 0, looped: 0, foreign: 0, oversized: 0, misplaced: 0 };
  private readonly node: number;
  private readonly media: MediaSide;
  private readonly events: RouterEvents;
  private readonly peers = new Map<number, Peer>();
  private readonly ports = (node: number): Neighbour | undefined => this.peers.get(node)?.port;
  private lastTick = 0;
  private chosen = Number.NEGATIVE_INFINITY;

  constructor(node: number, media: MediaSide, events: RouterEvents) {
    this.node = node;
    this.media = media;
    this.events = events;
  }

  // --- orders ---

  addLink(port: Neighbour, now: number): void {
    this.removeLink(port.peer);
    const outbox = new Outbox(port);
    outbox.onSent = (stream, header, sealed, at) => {
      const edge = this.streams.get(stream)?.edges.get(port.peer);
      edge?.rate.add(sealed.byteLength, at);
      this.events.sent(stream, header, sealed, port.peer);
    };
    this.peers.set(port.peer, { port, outbox, takes: new Map() });
    for (const stream of this.streams.values()) {
      const edge = stream.edges.get(port.peer);
      if (edge) {
        edge.since = now;
        if (!port.byRtp) outbox.lanes.set(stream.key, edge.lane);
      }
      for (const parent of [stream.parent, stream.previous, stream.standIn]) {
        if (parent?.node === port.peer) parent.taken = false;
      }
    }
  }

  removeLink(node: number): void {
    if (!this.peers.delete(node)) return;
    for (const stream of this.streams.values()) {
      const edge = stream.edges.get(node);
      if (edge) rest(edge);
    }
  }

  /** Feed a child, or change how. */
  feed(key: StreamKey, child: number, layers: readonly number[], rateBps: number, now: number): void {
    this.lay(key, child, layers, rateBps, false, now);
  }

  /** Be ready to feed a child from its `take` on. An edge that has begun so goes on as it is when it is fed by order. */
  standBy(key: StreamKey, child: number, layers: readonly number[], rateBps: number, now: number): void {
    this.lay(key, child, layers, rateBps, true, now);
  }

  private lay(
    key: StreamKey,
    child: number,
    layers: readonly number[],
    rateBps: number,
    standby: boolean,
    now: number,
  ): void {
    if (child === this.node) return;
    const stream = this.stream(key);
    const sorted = [...layers].sort((a, b) => a - b);
    let edge = stream.edges.get(child);
    if (edge) {
      edge.layers = sorted;
      edge.lane.rateBps = rateBps;
      if (standby && !edge.standby) rest(edge);
      if (edge.standby && !standby) edge.since = now;
      edge.standby = standby;
      if (edge.started && !this.peers.get(child)?.port.byRtp) this.choose(stream, edge, now);
      return;
    }
    edge = edgeTo(child, sorted, new Lane(key, rateBps, now), standby, now);
    stream.edges.set(child, edge);
    const peer = this.peers.get(child);
    if (!peer) return;
    if (!peer.port.byRtp) peer.outbox.lanes.set(key, edge.lane);
    const have = peer.takes.get(key);
    if (have && !standby && mayBegin(edge, now)) this.begin(stream, edge, have, now);
  }

  release(key: StreamKey, child: number): void {
    const stream = this.streams.get(key);
    const edge = stream?.edges.get(child);
    if (!stream || !edge) return;
    stream.edges.delete(child);
    const peer = this.peers.get(child);
    peer?.outbox.lanes.delete(key);
    peer?.takes.delete(key);
  }

  /** From now on the stream comes from `parent`; the former one is heard until the new one has delivered. */
  parent(key: StreamKey, node: number | null, layers: readonly number[], now: number): void {
    const stream = this.stream(key);
    if (stream.own) return;
    stream.expected = [...layers].sort((a, b) => a - b);
    if ((stream.parent?.node ?? null) === node) return;
    if (appoint(stream, node, this.ports, now)) this.delivered(stream, now);
  }

  /** Who takes over should the parent fall silent; null: nobody. One that has begun goes on until it is not needed. */
  backup(key: StreamKey, node: number | null): void {
    // Of a stream that has ended nothing comes to be by it.
    const stream = node === null ? this.streams.get(key) : this.stream(key);
    if (stream) stream.backup = node;
  }

  forget(key: StreamKey): void {
    const stream = this.streams.get(key);
    if (!stream) return;
    for (const child of [...stream.edges.keys()]) this.release(key, child);
    this.streams.delete(key);
  }

  // --- frames ---

  /** A frame came from a peer. */
  receive(from: number, sealed: Uint8Array, now: number): void {
    const header = decodeHeader(sealed);
    if (!header) {
      this.counters.malformed += 1;
      return;
    }
    if (header.sender === this.node) {
      this.counters.looped += 1;
      return;
    }
    if (!forwarded(header)) {
      this.counters.foreign += 1;
      return;
    }
    const key = streamKey(header.sender, header.stream);
    const stream = this.streams.get(key);
    const parent = stream?.mayDeliver(from);
    if (!stream || !parent) {
      this.counters.stray += 1;
      return;
    }
    stream.rate.add(sealed.byteLength, now);
    const verdict = stream.arrive(header, now);
    if (verdict !== "duplicate") {
      this.forward(stream, { header, sealed, at: now }, now);
      if (header.track === VIDEO) stream.framesReceived += 1;
      else stream.audioPackets += 1;
      stream.delay.sample(header.captureUs, now);
      this.events.received(key, header, sealed, from);
      this.media.frame(key, header, sealed);
    }
    if (!parent.ready && stream.usable(parent, header, now)) {
      parent.ready = true;
      if (parent === stream.parent) this.delivered(stream, now);
    }
    if (parent.ready) relieve(stream, parent, this.ports, now);
  }

  /** The parent delivers: those who wait for the stream may have it. */
  private delivered(stream: Stream, now: number): void {
    const parent = settle(stream, this.ports, now);
    if (parent) this.events.ready(stream.key, parent.node);
  }

  /** A frame that this node sealed. `carriedTo`: the peer that gets it from the encoder itself. */
  publish(streamNumber: number, sealed: Uint8Array, now: number, carriedTo: number | null = null): void {
    const header = decodeHeader(sealed);
    if (!header || header.sender !== this.node || header.stream !== streamNumber || !forwarded(header)) {
      this.counters.malformed += 1;
      return;
    }
    const stream = this.stream(streamKey(this.node, streamNumber));
    if (sealed.byteLength > MAX_FRAME_BYTES) {
      this.counters.oversized += 1;
      this.setShare(stream, stream.share * SHARE_DOWN, now);
      stream.keys.request(header.spatial);
      this.flushKeys(stream, now);
      return;
    }
    if (carriedTo !== null) this.carried(stream, header, sealed, carriedTo, now);
    this.forward(stream, { header, sealed, at: now }, now);
    this.events.received(stream.key, header, sealed, null);
  }

  /** Counts what an encoder's own link took, as if it had been sent from here. */
  private carried(stream: Stream, header: Header, sealed: Uint8Array, to: number, now: number): void {
    this.peers.get(to)?.port.carried(sealed.byteLength);
    const edge = stream.edges.get(to);
    if (!edge) return;
    edge.lane.framesSent += 1;
    edge.rate.add(sealed.byteLength, now);
    this.events.sent(stream.key, header, sealed, to);
  }

  private forward(stream: Stream, frame: Stored, now: number): void {
    for (const edge of stream.edges.values()) {
      if (!edge.started) continue;
      const peer = this.peers.get(edge.child);
      if (!peer || peer.port.byRtp) continue;
      if (frame.header.track === AUDIO) {
        if (peer.outbox.audio(stream.key, frame.header, frame.sealed, now)) edge.lane.framesSent += 1;
        else edge.lane.framesDropped += 1;
      } else {
        edge.lane.offer(frame, now);
        peer.outbox.pump(now);
      }
    }
    stream.keep(frame);
  }

  // --- control ---

  /** A parsed control message from a peer. Heartbeats and slots are the link's. */
  control(from: number, message: Control, now: number): void {
    if (message.t === "hb" || message.t === "slots") return;
    const stream = this.streams.get(message.s);
    if (message.t === "take") {
      const takes = this.peers.get(from)?.takes;
      if (takes && (takes.size < MAX_TAKES || takes.has(message.s))) takes.set(message.s, message.have);
      const edge = stream?.edges.get(from);
      if (stream && edge && mayBegin(edge, now)) this.begin(stream, edge, message.have, now);
      return;
    }
    if (message.t === "drop") {
      const edge = stream?.edges.get(from);
      if (edge?.standby) rest(edge);
      else this.counters.misplaced += 1;
      return;
    }
    if (message.t === "miss" || message.t === "layers" || message.t === "tip") {
      const parent = stream?.mayDeliver(from);
      if (!stream || !parent) {
        this.counters.misplaced += 1;
        return;
      }
      if (message.t === "layers") parent.given = message.l;
      if (parent !== sourceOf(stream, this.ports)) return;
      if (message.t === "miss") stream.video.get(message.l)?.miss(message.n, now);
      else if (message.t === "tip") stream.video.get(message.l)?.tip(message.g, message.n, now);
      else {
        stream.told(message.l);
        for (const edge of stream.edges.values()) {
          if (edge.started && !this.peers.get(edge.child)?.port.byRtp) this.choose(stream, edge, now);
        }
      }
      return;
    }
    const edge = stream?.edges.get(from);
    const resting = edge?.standby && !edge.started;
    if (!stream || !edge || resting || !(edge.layers.includes(message.l) || edge.lane.layers.has(message.l))) {
      this.counters.misplaced += 1;
      return;
    }
    if (message.t === "key") {
      if (!mayAskKey(edge, now)) return;
      stream.keys.request(message.l);
      this.flushKeys(stream, now);
    } else this.answer(stream, edge, message.l, message.n, now);
  }

  /** Our player needs a key frame. */
  requestKey(key: StreamKey, layer: number, now: number): void {
    const stream = this.streams.get(key);
    if (!stream || stream.own) return;
    stream.keys.request(layer);
    this.flushKeys(stream, now);
  }

  private answer(stream: Stream, edge: Edge, layer: number, numbers: readonly number[], now: number): void {
    const gone: number[] = [];
    const peer = this.peers.get(edge.child);
    for (const n of numbers) {
      // RTP repairs its own losses; a frame that it gave up cannot be put into it again.
      const stored = peer?.port.byRtp ? null : stream.ring.get(VIDEO, layer, n);
      if (stored) {
        // A droppable frame left out on purpose is not worth the link that had no room for it.
        if (!stored.header.droppable) edge.lane.resend(stored, now);
      } else if (!stream.video.get(layer)?.awaits(n)) gone.push(n);
    }
    if (gone.length > 0) peer?.port.control({ t: "miss", s: stream.key, l: layer, n: gone });
    peer?.outbox.pump(now);
  }

  // --- the clock ---

  /** A peer's video channel has room. */
  pump(peer: number, now: number): void {
    this.peers.get(peer)?.outbox.pump(now);
  }

  /** Every 10 ms or so. */
  tick(now: number): void {
    const elapsed = Math.max(0, Math.min(1000, now - this.lastTick));
    this.lastTick = now;
    const choose = now - this.chosen >= CHOOSE_MS;
    if (choose) this.chosen = now;
    for (const peer of this.peers.values()) peer.outbox.tick(now, elapsed);
    for (const stream of this.streams.values()) {
      if (stream.own) this.adapt(stream, now);
      else this.tend(stream, now);
      for (const edge of stream.edges.values()) this.tendEdge(stream, edge, choose, now);
      this.flushKeys(stream, now);
      stream.ring.expire(now);
    }
  }

  /** Incoming side: hand-over, repair, key frames. */
  private tend(stream: Stream, now: number): void {
    attend(stream, this.ports, now);
    const source = sourceOf(stream, this.ports);
    const peer = source ? this.peers.get(source.node) : undefined;
    const srtt = peer?.port.srtt ?? 0;
    const bound = peer?.port.bound ?? 200;
    for (const [layer, gaps] of stream.video) {
      const due = gaps.poll(now, srtt, bound, peer?.port.byRtp);
      for (let i = 0; i < due.ask.length; i += MAX_NUMBERS) {
        peer?.port.control({ t: "need", s: stream.key, l: layer, n: due.ask.slice(i, i + MAX_NUMBERS) });
      }
      if (due.lost.length > 0) this.tellLost(stream, layer, due.lost);
      if (due.gone !== null) this.media.gone(stream.key, VIDEO, layer, due.gone);
      if (stream.promised(layer) && gaps.wantsKey(now)) stream.keys.request(layer);
    }
    stream.audio.poll(now, srtt, bound);
  }

  private tellLost(stream: Stream, layer: number, numbers: number[]): void {
    for (const edge of stream.edges.values()) {
      if (!edge.lane.layers.has(layer)) continue;
      const port = this.peers.get(edge.child)?.port;
      for (let i = 0; i < numbers.length; i += MAX_NUMBERS) {
        port?.control({ t: "miss", s: stream.key, l: layer, n: numbers.slice(i, i + MAX_NUMBERS) });
      }
    }
  }

  private tendEdge(stream: Stream, edge: Edge, choose: boolean, now: number): void {
    const peer = this.peers.get(edge.child);
    if (!peer?.port.open) {
      edge.since = now;
      return;
    }
    if (!edge.started) {
      if (edge.standby || now - edge.since < TAKE_WAIT_MS) return;
      edge.since = now;
      if (mayBegin(edge, now)) this.begin(stream, edge, peer.takes.get(stream.key) ?? [], now);
      return;
    }
    if (peer.port.byRtp) return;
    if (choose) {
      this.choose(stream, edge, now);
      for (const { layer, generation, number } of edge.lane.tips(now)) {
        peer.port.control({ t: "tip", s: stream.key, l: layer, g: generation, n: number });
      }
    }
    for (const layer of edge.lane.wantsKey(now, peer.outbox.drained)) stream.keys.request(layer);
  }

  private begin(stream: Stream, edge: Edge, have: readonly Have[], now: number): void {
    edge.started = true;
    for (const layer of [...edge.lane.layers.keys()]) edge.lane.stop(layer);
    const peer = this.peers.get(edge.child);
    if (peer?.port.byRtp) return;
    for (const layer of stream.choose(edge)) {
      const h = have.find((x) => x.layer === layer);
      const rest = h ? stream.ring.after(layer, h.generation, h.number, now) : null;
      edge.lane.start(layer, rest ?? stream.ring.replay(layer, now), now);
    }
    this.tell(stream, edge);
    for (const layer of edge.lane.wantsKey(now, true)) stream.keys.request(layer);
    this.flushKeys(stream, now);
    peer?.outbox.pump(now);
  }

  /** Bring an edge's layers in line with what is there and fits. */
  private choose(stream: Stream, edge: Edge, now: number): void {
    const target = stream.choose(edge);
    const lane = edge.lane;
    for (const layer of target)
      if (!lane.layers.has(layer)) lane.start(layer, this.opening(stream, lane, layer, now), now);
    // On the way up the lower layer goes on until the higher one has its key frame.
    const climbing = target.some((l) => lane.layers.get(l)?.state === "need");
    const top = Math.max(-1, ...target);
    for (const layer of [...lane.layers.keys()]) {
      if (!target.includes(layer) && !(climbing && layer < top)) lane.stop(layer);
    }
    this.tell(stream, edge);
  }

  /** What a layer begins with in the middle of a stream. On a link that has just proved too narrow, no long burst. */
  private opening(stream: Stream, lane: Lane, layer: number, now: number): Stored[] | null {
    const replay = stream.ring.replay(layer, now);
    const key = replay?.[0];
    if (!replay || !key || lane.ceiling === Number.POSITIVE_INFINITY) return replay;
    const bytes = replay.reduce((sum, frame) => sum + frame.sealed.byteLength, 0);
    return bytes <= SMALL_REPLAY * key.sealed.byteLength ? replay : null;
  }

  private tell(stream: Stream, edge: Edge): void {
    const l = [...edge.lane.layers.keys()].sort((a, b) => a - b);
    const text = l.join();
    if (edge.told === text) return;
    if (this.peers.get(edge.child)?.port.control({ t: "layers", s: stream.key, l })) edge.told = text;
  }

  private flushKeys(stream: Stream, now: number): void {
    for (const layer of stream.keys.due(now)) {
      if (stream.own) {
        stream.keys.sent(layer, now);
        this.media.keyFrame(stream.key & 15, layer);
        continue;
      }
      const source = sourceOf(stream, this.ports);
      const port = source ? this.peers.get(source.node)?.port : undefined;
      if (port?.control({ t: "key", s: stream.key, l: layer })) stream.keys.sent(layer, now);
    }
  }

  /** A source lowers its encoders when most of its children back up, and raises them slowly. */
  private adapt(stream: Stream, now: number): void {
    let lanes = 0;
    let pressed = 0;
    for (const edge of stream.edges.values()) {
      if (!edge.started || edge.lane.layers.size === 0) continue;
      lanes += 1;
      if (edge.lane.pressure > 0.5) pressed += 1;
    }
    if (pressed > 0) stream.calmSince = now;
    if (now - stream.shareAt < SHARE_STEP_MS) return;
    let share = stream.share;
    if (pressed * 2 > lanes) {
      if (now - stream.tooMuchAt > SHARE_CALM_MS) stream.tooMuch = share;
      stream.tooMuchAt = now;
      share *= SHARE_DOWN;
    } else if (share < 1 && now - stream.calmSince >= SHARE_CALM_MS) {
      const near = now - stream.tooMuchAt < SHARE_FORGET_MS && share >= stream.tooMuch * SHARE_NEAR;
      share *= near ? SHARE_UP_NEAR : SHARE_UP;
    }
    this.setShare(stream, share, now);
  }

  private setShare(stream: Stream, wanted: number, now: number): void {
    const share = Math.min(1, Math.max(SHARE_MIN, wanted));
    if (share === stream.share) return;
    if (share < stream.share) stream.calmSince = now;
    stream.share = share;
    stream.shareAt = now;
    this.media.uplink(stream.key & 15, share);
  }

  // --- views for statistics ---

  queuedBytes(peer: number): number {
    return this.peers.get(peer)?.outbox.queuedBytes ?? 0;
  }

  private stream(key: StreamKey): Stream {
    let stream = this.streams.get(key);
    if (!stream) {
      stream = new Stream(key, key >>> 4 === this.node);
      this.streams.set(key, stream);
    }
    return stream;
  }
}

function forwarded(header: Header): boolean {
  return (
    (header.track === VIDEO && header.kind === "video") ||
    (header.track === AUDIO && header.kind === "audio" && header.spatial === 0)
  );
}

/**
 * The media worker's entry. It owns this participant's sealing key and counters (there is one such worker per room),
 * the clocks that must not stop in a hidden tab, and the wiring: messages of the page to transport, encoders and
 * players, and back. `messages.ts` is the contract.
 */
import { Sealer } from "../frame/seal.ts";
import { OwnStreams } from "../media/own.ts";
import { Players } from "../media/players.ts";
import { Views } from "../media/views.ts";
import { Transport } from "../transport/transport.ts";
import { type MediaSide, streamKey, streamRef } from "../transport/types.ts";
import type { FromWorker, ToWorker, WorkerStats } from "./messages.ts";
import { Transforms } from "./transforms.ts";

/** The worker's clock; timers of hidden pages may stand still, those of workers do not. */
const TICK_MS = 10;
const LEVELS_EVERY = 10;
const SECOND_EVERY = 100;
/** A fault that comes again and again is said once a second, not thousands of times. */
const FAULT_EVERY_MS = 1000;

const scope = self as unknown as {
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  onrtctransform: ((event: { transformer: Parameters<Transforms["run"]>[0] }) => void) | null;
};

const startedMs = performance.now();
const nowMs = (): number => performance.now() - startedMs;
const post = (message: FromWorker): void => scope.postMessage(message);

let saidFaultMs = Number.NEGATIVE_INFINITY;
function fault(error: unknown): void {
  console.error(error);
  if (nowMs() - saidFaultMs < FAULT_EVERY_MS) return;
  saidFaultMs = nowMs();
  post({ type: "fault", message: error instanceof Error ? error.message : String(error) });
}

/** One room's media, from `init` on. */
class MediaWorker {
  readonly #node: number;
  readonly #sealer: Sealer;
  readonly #views = new Views();
  readonly #own: OwnStreams;
  readonly #players: Players;
  readonly #transport: Transport;
  readonly transforms: Transforms;
  readonly #levels = new Map<number, number>();
  readonly #clock: ReturnType<typeof setInterval>;
  #ticks = 0;

  constructor(node: number, playout: MessagePort | null) {
    this.#node = node;
    this.#sealer = new Sealer(node, {
      onForcedRotation: (key) => post({ type: "own_key", ...key, ratcheted: false }),
    });
    this.#own = new OwnStreams({
      sealer: this.#sealer,
      publish: (stream, sealed, carriedTo) => this.#transport.publish(stream, sealed, carriedTo),
      rtpKeyFrame: (stream) => this.transforms.keyFrame(stream),
      post,
      nowMs,
      fault,
    });
    this.#players = new Players({
      views: this.#views,
      playout,
      requestKey: (stream, layer) => this.#transport.requestKey(stream, layer),
      nowMs,
      fault,
    });
    const media: MediaSide = {
      frame: (stream, header, sealed) => this.#players.openers.frame(stream, header, sealed),
      gone: (stream, _track, layer, upTo) => this.#players.gone(stream, layer, upTo),
      keyFrame: (stream, layer) => this.#own.keyFrame(stream, layer),
      uplink: (stream, share) => this.#own.uplink(stream, share),
    };
    this.#transport = new Transport({ node, media, post, now: nowMs });
    this.transforms = new Transforms({
      arrived: (peer, token, sealed) => this.#transport.arrived(peer, token, sealed),
      encoded: (stream, kind, frame, peer) => this.#own.encoded(stream, kind, frame, peer),
      askPage: (stream) => post({ type: "rtp_key_frame", stream }),
      fault,
    });
    this.#sealer
      .key()
      .then((key) => post({ type: "own_key", ...key, ratcheted: false }))
      .catch(fault);
    this.#clock = setInterval(() => guard(() => this.#tick()), TICK_MS);
  }

  handle(message: Exclude<ToWorker, { type: "init" }>): void {
    const transport = this.#transport;
    switch (message.type) {
      case "sender_key":
        this.#players.openers.key(message.node, message.generation, message.key).catch(fault);
        break;
      case "forget_sender":
        this.#players.forgetSender(message.node);
        break;
      case "ratchet":
        this.#sealer
          .ratchet()
          .then((key) => post({ type: "own_key", ...key, ratcheted: true }))
          .catch(fault);
        break;
      case "rotate":
        this.#sealer
          .rotate()
          .then((key) => post({ type: "own_key", ...key, ratcheted: false }))
          .catch(fault);
        break;
      case "use_key":
        this.#useKey(message.generation);
        break;
      case "open_link":
        transport.openLink(message.peer, message.video, message.audio, message.control);
        break;
      case "open_relay":
        transport.openRelay(message.peer, message);
        break;
      case "open_rtp":
        transport.openRtp(message.peer, message.token, message.control);
        break;
      case "rtp_video":
        this.#own.rtpVideo(message.stream, message.widths);
        break;
      case "rtp_audio":
        this.#own.rtpAudio(message.stream, message.on);
        break;
      case "close_link":
        transport.closeLink(message.peer);
        break;
      case "feed":
        transport.feed(message.stream, message.child, message.layers, message.rateBps);
        break;
      case "stand_by":
        transport.standBy(message.stream, message.child, message.layers, message.rateBps);
        break;
      case "release":
        transport.release(message.stream, message.child);
        break;
      case "parent":
        transport.parent(message.stream, message.parent, message.layers);
        break;
      case "backup":
        transport.backup(message.stream, message.parent);
        break;
      case "forget_stream":
        transport.forgetStream(message.stream);
        this.#players.forget(streamKey(message.stream.node, message.stream.stream));
        break;
      case "video_source":
        this.#own.videoSource(message.stream, message.layers, message.source);
        break;
      case "video_frame":
        this.#own.videoFrame(message.stream, message.frame);
        break;
      case "audio_source":
        this.#own.audioSource(message.stream, message.port, message.bps);
        break;
      case "mute":
        this.#own.mute(message.stream, message.muted);
        break;
      case "canvas":
        this.#views.place(message.view, message.stream, message.canvas, message.width, message.height);
        break;
      case "view_size":
        this.#views.resize(message.view, message.width, message.height);
        break;
      case "visibility":
        this.#views.visible = message.visible;
        break;
      case "tick_capture":
        this.#own.tickCapture(message.stream, message.fps);
        break;
      case "trace":
        transport.setTrace(message.on);
        break;
      case "close":
        this.#close();
        break;
    }
  }

  #close(): void {
    clearInterval(this.#clock);
    this.#own.close();
    this.#players.close();
    this.#transport.close();
  }

  /** A newcomer can open nothing sealed before: the key change brings a key frame of every layer. */
  #useKey(generation: number): void {
    if (generation === this.#sealer.generation || !this.#sealer.use(generation)) return;
    this.#own.keyFrames();
  }

  #tick(): void {
    this.#ticks += 1;
    this.#transport.tick();
    this.#own.tick();
    this.#players.tick();
    if (this.#ticks % LEVELS_EVERY === 0) this.#postLevels();
    if (this.#ticks % SECOND_EVERY === 0) {
      this.#own.second();
      for (const undecodable of this.#players.openers.undecodable()) post({ type: "undecodable", ...undecodable });
      post({ type: "stats", stats: this.#stats() });
    }
  }

  #postLevels(): void {
    const now = new Map<number, number>();
    for (const { stream, level } of this.#own.levels()) now.set(streamKey(this.#node, stream), level);
    for (const { stream, level } of this.#players.levels()) now.set(stream, level);
    const changed = [...now].filter(([stream, level]) => this.#levels.get(stream) !== level);
    for (const [stream, level] of changed) this.#levels.set(stream, level);
    for (const stream of this.#levels.keys()) if (!now.has(stream)) this.#levels.delete(stream);
    if (changed.length === 0) return;
    post({ type: "levels", levels: changed.map(([stream, level]) => ({ ...streamRef(stream), level })) });
  }

  #stats(): WorkerStats {
    const { links, incoming, outgoing, counters } = this.#transport.stats();
    return {
      atMs: performance.timeOrigin + performance.now(),
      links,
      incoming: incoming.map((stats) => ({
        ...stats,
        ...this.#players.stats(streamKey(stats.stream.node, stats.stream.stream)),
      })),
      outgoing,
      senders: this.#players.openers.stats(),
      counters,
      own: this.#own.stats(),
    };
  }
}

function guard(action: () => void): void {
  try {
    action();
  } catch (error) {
    fault(error);
  }
}

let worker: MediaWorker | null = null;

scope.onmessage = ({ data }) =>
  guard(() => {
    if (data.type === "init") worker = new MediaWorker(data.node, data.playout);
    else if (worker !== null) worker.handle(data);
    else throw new Error(`The media worker got "${data.type}" before "init".`);
    if (data.type === "close") scope.onmessage = null;
  });
// Transforms are made for links, and links are ordered after `init`.
scope.onrtctransform = ({ transformer }) => guard(() => worker?.transforms.run(transformer));
self.addEventListener("error", (event) => fault(event.error ?? event.message));
self.addEventListener("unhandledrejection", (event) => fault(event.reason));

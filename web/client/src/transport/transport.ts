/**
 * Moving frames: the worker's links, and the router between them. Takes the page's orders, gives media the frames of
 * others and takes its own; says `ready` and `silent` to the page. The clock is the worker's: call `tick` every 10 ms.
 */
import type { StreamRef } from "../signal/messages.ts";
import type { FromWorker, IncomingStats, LinkStats, OutgoingStats, TransportCounters } from "../worker/messages.ts";
import {
  type Channel,
  Link,
  type LinkChannels,
  type LinkCounters,
  SILENCE_REPORT_MS,
  SOCKET_SILENCE_REPORT_MS,
} from "./link.ts";
import { Router } from "./router.ts";
import { RtpChannels } from "./rtp-channels.ts";
import { RELAY_SUBPROTOCOL, type RelayDoor, type Socket, SocketChannels } from "./socket-channels.ts";
import { Trace, type TraceRecord } from "./trace.ts";
import { type MediaSide, type StreamKey, streamKey, streamRef, type TransportSide } from "./types.ts";

export interface TransportOptions {
  node: number;
  media: MediaSide;
  post: (message: FromWorker) => void;
  /** Milliseconds on a monotonic clock. */
  now: () => number;
  /** Makes the socket of a link to a relay; the browser's own when absent. */
  connect?: (url: string) => Socket;
}

/** The part of `IncomingStats` that transport knows. */
export type IncomingTransportStats = Pick<
  IncomingStats,
  | "stream"
  | "parent"
  | "bps"
  | "delayMs"
  | "framesReceived"
  | "framesRepaired"
  | "framesLost"
  | "keyRequests"
  | "duplicates"
  | "audioPackets"
  | "backup"
  | "backupsTaken"
>;

export interface TransportStats {
  links: LinkStats[];
  incoming: IncomingTransportStats[];
  outgoing: OutgoingStats[];
  counters: TransportCounters;
}

const NO_LINK_COUNTERS: LinkCounters = { junk: 0, unknown: 0, flooded: 0, failed: 0 };

export class Transport implements TransportSide {
  private readonly router: Router;
  private readonly links = new Map<number, Link>();
  /** What lies below the links to relays, of either kind. */
  private readonly rtp = new Map<number, RtpChannels>();
  private readonly sockets = new Map<number, SocketChannels>();
  private readonly connect: (url: string) => Socket;
  private readonly trace: Trace;
  private readonly post: (message: FromWorker) => void;
  private readonly now: () => number;
  /** Counters of links that are closed. */
  private readonly past: LinkCounters = { ...NO_LINK_COUNTERS };

  constructor(options: TransportOptions) {
    this.post = options.post;
    this.now = options.now;
    this.connect = options.connect ?? ((url) => new WebSocket(url, RELAY_SUBPROTOCOL));
    this.trace = new Trace(this.now);
    this.router = new Router(options.node, options.media, {
      ready: (stream, parent) => this.post({ type: "ready", stream: streamRef(stream), parent }),
      sent: (stream, header, sealed, to) => this.trace.sent(stream, header, sealed, to),
      received: (stream, header, sealed, from) => this.trace.received(stream, header, sealed, from),
    });
  }

  /** Take over a link's channels, open or not. A second link to the same peer replaces the first. */
  openLink(peer: number, video: Channel, audio: Channel, control: Channel): void {
    this.open(peer, { video, audio, control }, SILENCE_REPORT_MS, false);
  }

  private open(peer: number, channels: LinkChannels, silenceReportMs: number, byRtp: boolean): void {
    this.closeLink(peer);
    const link = new Link(
      peer,
      channels,
      {
        frame: (from, sealed) => this.router.receive(from, sealed, this.now()),
        control: (from, message) => this.router.control(from, message, this.now()),
        room: (to) => this.router.pump(to, this.now()),
        silent: (from) => this.post({ type: "silent", peer: from }),
        slots: (from, pairs) => this.post({ type: "slots", peer: from, pairs }),
      },
      this.now,
      silenceReportMs,
      byRtp,
    );
    this.links.set(peer, link);
    this.router.addLink(link, this.now());
  }

  /** Open a link to a relay; `relay` tells how it goes. */
  openRelay(peer: number, door: RelayDoor): void {
    const { token } = door;
    const socket = new SocketChannels(door, {
      connect: this.connect,
      now: this.now,
      random: Math.random,
      state: (news) => this.post({ type: "relay", peer, token, news }),
    });
    this.open(peer, socket, SOCKET_SILENCE_REPORT_MS, false);
    this.sockets.set(peer, socket);
  }

  /** Take over the control channel of a link to a relay by RTP. Its frames come by `arrived`. */
  openRtp(peer: number, token: string, control: Channel): void {
    const channels = new RtpChannels(token, control);
    this.open(peer, channels, SILENCE_REPORT_MS, true);
    this.rtp.set(peer, channels);
  }

  /** A receiver of the RTP link with this token got a frame. */
  arrived(peer: number, token: string, sealed: ArrayBuffer): void {
    const channels = this.rtp.get(peer);
    if (channels?.token === token) channels.arrived(sealed);
  }

  closeLink(peer: number): void {
    const link = this.links.get(peer);
    if (!link) return;
    this.links.delete(peer);
    this.sockets.delete(peer);
    this.rtp.delete(peer);
    this.router.removeLink(peer);
    link.close();
    addTo(this.past, link.counters);
  }

  feed(stream: StreamRef, child: number, layers: readonly number[], rateBps: number): void {
    this.router.feed(keyOf(stream), child, layers, rateBps, this.now());
  }

  standBy(stream: StreamRef, child: number, layers: readonly number[], rateBps: number): void {
    this.router.standBy(keyOf(stream), child, layers, rateBps, this.now());
  }

  release(stream: StreamRef, child: number): void {
    this.router.release(keyOf(stream), child);
  }

  parent(stream: StreamRef, parent: number | null, layers: readonly number[]): void {
    this.router.parent(keyOf(stream), parent, layers, this.now());
  }

  backup(stream: StreamRef, parent: number | null): void {
    this.router.backup(keyOf(stream), parent);
  }

  forgetStream(stream: StreamRef): void {
    this.router.forget(keyOf(stream));
    this.trace.forget(keyOf(stream));
  }

  publish(stream: number, sealed: Uint8Array, carriedTo: number | null = null): void {
    this.router.publish(stream, sealed, this.now(), carriedTo);
  }

  requestKey(stream: StreamKey, layer: number): void {
    this.router.requestKey(stream, layer, this.now());
  }

  /** Every 10 ms, by the worker's clock. */
  tick(now: number = this.now()): void {
    for (const socket of this.sockets.values()) socket.tick();
    for (const link of this.links.values()) link.tick();
    this.router.tick(now);
  }

  /** Record bytes as they come and go. Off at first; switching it off posts what was recorded (`traced`). */
  setTrace(on: boolean): void {
    if (this.trace.on && !on) this.post({ type: "traced", frames: this.trace.records() });
    this.trace.on = on;
  }

  records(): TraceRecord[] {
    return this.trace.records();
  }

  stats(now: number = this.now()): TransportStats {
    const links: LinkStats[] = [];
    const counters: TransportCounters = { ...this.router.counters, ...this.past };
    for (const link of this.links.values()) {
      links.push({
        peer: link.peer,
        rttMs: link.rtt.srtt,
        sentBps: link.sent.bps(now),
        receivedBps: link.received.bps(now),
        loss: link.loss.share,
        queuedBytes: this.router.queuedBytes(link.peer),
      });
      addTo(counters, link.counters);
    }
    const incoming: IncomingTransportStats[] = [];
    const outgoing: OutgoingStats[] = [];
    for (const stream of this.router.streams.values()) {
      const ref = streamRef(stream.key);
      if (!stream.own) {
        let repaired = 0;
        let lost = 0;
        let duplicates = stream.audio.duplicates;
        for (const gaps of stream.video.values()) {
          repaired += gaps.repaired;
          lost += gaps.lost;
          duplicates += gaps.duplicates;
        }
        incoming.push({
          stream: ref,
          parent: stream.parent?.node ?? null,
          bps: stream.rate.bps(now),
          delayMs: stream.delay.ms,
          framesReceived: stream.framesReceived,
          framesRepaired: repaired,
          framesLost: lost,
          keyRequests: stream.keys.asked,
          duplicates,
          audioPackets: stream.audioPackets,
          backup: stream.standIn?.node ?? null,
          backupsTaken: stream.backupsTaken,
        });
      }
      for (const edge of stream.edges.values()) {
        if (edge.standby && !edge.started) continue;
        outgoing.push({
          stream: ref,
          child: edge.child,
          bps: edge.rate.bps(now),
          layers: [...edge.lane.layers.keys()].sort((a, b) => a - b),
          framesSent: edge.lane.framesSent,
          framesDropped: edge.lane.framesDropped,
          framesResent: edge.lane.framesResent,
        });
      }
    }
    return { links, incoming, outgoing, counters };
  }

  /** What is held in memory, for tests and diagnosis. */
  size(): { ringBytes: number; ringFrames: number; missing: number } {
    const size = { ringBytes: 0, ringFrames: 0, missing: 0 };
    for (const stream of this.router.streams.values()) {
      size.ringBytes += stream.ring.bytes;
      size.ringFrames += stream.ring.frames;
      size.missing += stream.audio.pending;
      for (const gaps of stream.video.values()) size.missing += gaps.pending;
    }
    return size;
  }

  close(): void {
    for (const peer of [...this.links.keys()]) this.closeLink(peer);
    for (const key of [...this.router.streams.keys()]) this.router.forget(key);
  }
}

function keyOf(stream: StreamRef): StreamKey {
  return streamKey(stream.node, stream.stream);
}

function addTo(sum: LinkCounters, more: LinkCounters): void {
  sum.junk += more.junk;
  sum.unknown += more.unknown;
  sum.flooded += more.flooded;
  sum.failed += more.failed;
}

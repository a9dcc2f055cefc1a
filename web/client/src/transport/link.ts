/**
 * One link: the three channels between two nodes, as they arrive in the worker (they may still be connecting).
 * Owns heartbeats, round-trip time, the silence detector and the parsing of control messages; frames go to `onFrame`
 * as received. Thin: everything that decides is in the pure modules beside it.
 */
import { type Control, encodeControl, parseControl } from "./control.ts";
import { Loss, Rate, Rtt } from "./meter.ts";
import type { Neighbour } from "./router.ts";

/** Idle time after which a heartbeat goes out. */
export const HEARTBEAT_MS = 50;
/**
 * By RTP each message costs the relay more than a picture does, and it hears what is no message: what comes from it the
 * browser answers by itself, packets with feedback and messages with acknowledgements. So a heartbeat goes out when for so
 * long nothing was sent and nothing came either.
 */
export const RTP_HEARTBEAT_MS = 150;
/** And for so long after another message, each `HEARTBEAT_MS`: what follows a lost one is what shows that it was lost. */
export const ATTENTIVE_MS = 500;
/** A heartbeat goes out at least so often, however busy the link, for the sake of its round-trip time; and by RTP. */
export const PROBE_MS = 500;
export const RTP_PROBE_MS = 1_000;
/** By RTP a relay that has nothing to send sends packets with so much in them: they say that it is there, and nothing else. */
const LIFE_SIGN_BYTES = 1;
/** Silence: nothing at all for max(this, srtt + 4 rttvar). */
export const SILENCE_MS = 100;
/** By RTP a backup waits longer: what says that the other end is there comes each 100 to 150 ms, and one may be lost. */
export const RTP_QUIET_MS = 250;
/**
 * A tick adds at most this to a silence. One that comes later stood behind other work of this worker, and what the peer
 * said meanwhile stands behind it still: a busy node takes its time to call others silent.
 */
export const AWAKE_MS = 30;
/** And reported when it has lasted so much longer. */
export const SILENCE_REPORT_MS = 500;
/** On a socket, where a heartbeat stands behind the picture that is on its way: 250 kB at 1 Mbit/s. */
export const SOCKET_SILENCE_REPORT_MS = 2_000;
/** Control messages handled per second and peer, with a burst of as many; the rest is dropped and counted. */
const CONTROL_PER_S = 500;
/** A worker that was stopped (laptop lid, debugger) for longer than this did not hear its peers: start over. */
const STALL_MS = 200;
/** Heartbeats remembered for the echo. */
const PINGS = 64;

/** The part of RTCDataChannel that is used: tests bring their own. */
export interface Channel {
  binaryType: BinaryType;
  readonly readyState: RTCDataChannelState;
  readonly bufferedAmount: number;
  bufferedAmountLowThreshold: number;
  onopen: ((this: never, event: Event) => unknown) | null;
  onclose: ((this: never, event: Event) => unknown) | null;
  onmessage: ((this: never, event: MessageEvent) => unknown) | null;
  onbufferedamountlow: ((this: never, event: Event) => unknown) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** What a link consists of. */
export interface LinkChannels {
  readonly video: Channel;
  readonly audio: Channel;
  readonly control: Channel;
}

export interface LinkEvents {
  frame(peer: number, sealed: Uint8Array): void;
  control(peer: number, message: Control): void;
  /** A relay wants so many pairs of receivers. */
  slots(peer: number, pairs: number): void;
  /** The video channel is empty. */
  room(peer: number): void;
  /** Nothing at all came for too long; once per silence. */
  silent(peer: number): void;
}

export interface LinkCounters {
  /** Control messages that are not ours, or too long; frames on the control channel, text on the others. */
  junk: number;
  /** Well-formed control messages of a kind that this version does not know. */
  unknown: number;
  /** Control messages over the rate. */
  flooded: number;
  /** Sends refused by the browser. */
  failed: number;
}

export class Link implements Neighbour {
  readonly peer: number;
  readonly byRtp: boolean;
  readonly rtt = new Rtt();
  readonly loss = new Loss();
  readonly sent = new Rate();
  readonly received = new Rate();
  readonly counters: LinkCounters = { junk: 0, unknown: 0, flooded: 0, failed: 0 };
  /** Nothing at all came for max(`SILENCE_MS`, srtt + 4 rttvar), on a link that was open; false as soon as anything comes. */
  silent = false;
  private quietMs = 0;
  private readonly video: Channel;
  private readonly audio: Channel;
  private readonly controls: Channel;
  private readonly events: LinkEvents;
  private readonly now: () => number;
  private readonly silenceReportMs: number;
  private closed = false;
  private heardAt: number | null = null;
  private sentAt = 0;
  private saidAt = Number.NEGATIVE_INFINITY;
  private probedAt = Number.NEGATIVE_INFINITY;
  private tickedAt: number;
  private silenceReported = false;
  private framesSent = 0;
  private framesCame = 0;
  private ping = 0;
  private readonly pings = new Float64Array(PINGS);
  private echo: { n: number; at: number } | null = null;
  private budget = CONTROL_PER_S;
  private budgetAt: number;

  constructor(
    peer: number,
    channels: LinkChannels,
    events: LinkEvents,
    now: () => number,
    silenceReportMs: number,
    byRtp = false,
  ) {
    this.peer = peer;
    this.silenceReportMs = silenceReportMs;
    this.byRtp = byRtp;
    this.video = channels.video;
    this.audio = channels.audio;
    this.controls = channels.control;
    this.events = events;
    this.now = now;
    this.tickedAt = now();
    this.budgetAt = this.tickedAt;
    for (const channel of [this.video, this.audio]) {
      channel.binaryType = "arraybuffer";
      channel.onmessage = (event) => this.onFrame(event.data);
    }
    this.video.bufferedAmountLowThreshold = 0;
    this.video.onbufferedamountlow = () => this.events.room(this.peer);
    this.video.onopen = () => this.events.room(this.peer);
    this.controls.binaryType = "arraybuffer";
    this.controls.onmessage = (event) => this.onControl(event.data);
  }

  get open(): boolean {
    return (
      !this.closed &&
      this.controls.readyState === "open" &&
      this.video.readyState === "open" &&
      this.audio.readyState === "open"
    );
  }

  get srtt(): number {
    return this.rtt.srtt;
  }

  get bound(): number {
    return this.rtt.bound(200);
  }

  videoBuffered(): number {
    return this.video.bufferedAmount;
  }

  audioBuffered(): number {
    return this.audio.bufferedAmount;
  }

  sendVideo(sealed: Uint8Array): boolean {
    return this.sendFrame(this.video, sealed);
  }

  sendAudio(sealed: Uint8Array): boolean {
    return this.sendFrame(this.audio, sealed);
  }

  carried(bytes: number): void {
    this.framesSent += 1;
    this.note(bytes);
  }

  control(message: Control): boolean {
    if (!this.open) return false;
    if (message.t !== "hb") this.saidAt = this.now();
    const text = encodeControl(message);
    try {
      this.controls.send(text);
    } catch {
      this.counters.failed += 1;
      return false;
    }
    this.note(text.length);
    return true;
  }

  /** Heartbeats and silence. Every 10 ms or so. */
  tick(): void {
    const now = this.now();
    const stalled = now - this.tickedAt;
    this.tickedAt = now;
    if (!this.open) return;
    if (this.heardAt === null) {
      this.heardAt = now;
      this.quietMs = 0;
    } else if (stalled > STALL_MS) this.heardAt += stalled;
    const quiet = now - this.heardAt;
    if (this.beatIsDue(now, quiet)) this.beat(now);
    this.quietMs += Math.min(stalled, AWAKE_MS);
    const unusual = this.byRtp ? RTP_QUIET_MS : SILENCE_MS;
    if (this.quietMs >= Math.max(unusual, this.rtt.bound(0))) this.silent = true;
    if (!this.silenceReported && quiet >= Math.max(SILENCE_MS, this.rtt.bound(0)) + this.silenceReportMs) {
      this.silenceReported = true;
      this.silent = true;
      this.events.silent(this.peer);
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const channel of [this.video, this.audio, this.controls]) {
      channel.onmessage = null;
      channel.onbufferedamountlow = null;
      channel.onopen = null;
      try {
        channel.close();
      } catch {
        // A channel whose connection is already gone has nothing left to close.
      }
    }
  }

  private beatIsDue(now: number, quiet: number): boolean {
    if (!this.byRtp) return now - this.sentAt >= HEARTBEAT_MS || now - this.probedAt >= PROBE_MS;
    if (now - this.probedAt >= RTP_PROBE_MS) return true;
    if (now - this.saidAt < ATTENTIVE_MS) return now - Math.max(this.saidAt, this.probedAt) >= HEARTBEAT_MS;
    return Math.min(quiet, now - this.sentAt) >= RTP_HEARTBEAT_MS;
  }

  private beat(now: number): void {
    this.ping = (this.ping + 1) >>> 0;
    this.pings[this.ping % PINGS] = now;
    this.probedAt = now;
    const echo = this.echo;
    const beat = { t: "hb", n: this.ping, f: this.framesSent } as const;
    const held = echo ? Math.min(60_000, Math.round((now - echo.at) * 100) / 100) : 0;
    this.control(echo ? { ...beat, e: echo.n, d: held } : beat);
  }

  private sendFrame(channel: Channel, sealed: Uint8Array): boolean {
    if (this.closed || channel.readyState !== "open") return false;
    try {
      // Frames come from messages and from our own sealer: never from shared memory, which `send` would refuse.
      channel.send(sealed as Uint8Array<ArrayBuffer>);
    } catch {
      this.counters.failed += 1;
      return false;
    }
    this.framesSent += 1;
    this.note(sealed.byteLength);
    return true;
  }

  private note(bytes: number): void {
    const now = this.now();
    this.sentAt = now;
    this.sent.add(bytes, now);
  }

  private heard(bytes: number): void {
    const now = this.now();
    this.heardAt = now;
    this.silenceReported = false;
    this.silent = false;
    this.quietMs = 0;
    this.received.add(bytes, now);
  }

  private onFrame(data: unknown): void {
    if (this.closed) return;
    if (!(data instanceof ArrayBuffer)) {
      this.heard(typeof data === "string" ? data.length : 0);
      this.counters.junk += 1;
      return;
    }
    this.heard(data.byteLength);
    if (this.byRtp && data.byteLength === LIFE_SIGN_BYTES) return;
    this.framesCame += 1;
    this.events.frame(this.peer, new Uint8Array(data));
  }

  private onControl(data: unknown): void {
    if (this.closed) return;
    this.heard(typeof data === "string" ? data.length : 0);
    const now = this.now();
    this.budget = Math.min(CONTROL_PER_S, this.budget + ((now - this.budgetAt) * CONTROL_PER_S) / 1000);
    this.budgetAt = now;
    if (this.budget < 1) {
      this.counters.flooded += 1;
      return;
    }
    this.budget -= 1;
    const parsed = parseControl(data);
    if (!parsed.ok) {
      if (parsed.why === "unknown") this.counters.unknown += 1;
      else this.counters.junk += 1;
      return;
    }
    const message = parsed.message;
    if (message.t === "hb") {
      this.echo = { n: message.n, at: now };
      this.loss.note(message.f, this.framesCame, now);
      const { e, d } = message;
      if (e !== undefined && d !== undefined && e !== 0 && (this.ping - e) >>> 0 < PINGS) {
        this.rtt.sample(now - (this.pings[e % PINGS] ?? now) - d);
      }
      return;
    }
    if (message.t === "slots") this.events.slots(this.peer, message.n);
    else this.events.control(this.peer, message);
  }
}

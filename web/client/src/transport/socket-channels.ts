/**
 * A link to a relay: one WebSocket, presented as the three channels that a `Link` takes (docs/ref/links.md, Links to a
 * relay). Owns the attempts until the relay has said `welcome`, the greeting itself, and the account of what the socket
 * has not sent yet.
 *
 * On a socket everything leaves in the order in which it was handed over, so the order is kept here: sound and control
 * messages go at once, a picture only when next to nothing is before it. A socket does not say when it has room; the
 * worker's clock asks it (`tick`). `state` is told `up` once and then `lost` once, or `never` once; nothing comes after
 * the end, and nothing at all after `close`.
 */
import type { Channel } from "./link.ts";

export const RELAY_SUBPROTOCOL = "grove.relay.v1";
/** A relay that has not said `welcome` by then is out of reach. */
export const UP_WITHIN_MS = 10_000;
/** Pauses between attempts: the relay may be starting, or not know of us yet. Half as much again at random. */
const RETRY_MS = [200, 400, 800, 1600] as const;
/** A picture waits here while more than this is before it in the socket: about 100 ms of sound of eight people. */
export const VIDEO_BELOW_BYTES = 8 * 1024;
/** Longer than any greeting. */
const MOST_GREETING = 1024;

/** The part of WebSocket that is used: tests bring their own. */
export interface Socket {
  binaryType: BinaryType;
  readonly bufferedAmount: number;
  onopen: ((event: Event) => unknown) | null;
  onclose: ((event: CloseEvent) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}

/** What the server's order says about a relay. */
export interface RelayDoor {
  url: string;
  token: string;
  instance: string;
  /** Before the first attempt: many who lost the same relay must not come back to it in one moment. */
  delayMs: number;
}

export type RelayNews = "up" | "never" | "lost";

export interface SocketHost {
  connect(url: string): Socket;
  now(): number;
  state(news: RelayNews): void;
  /** 0..1. */
  random(): number;
}

/** What was handed to a socket and is still in it, by whose it is: the front leaves first. */
export class Account<Owner> {
  readonly #queue: { owner: Owner; bytes: number }[] = [];
  #total = 0;

  add(owner: Owner, bytes: number): void {
    const last = this.#queue.at(-1);
    if (last?.owner === owner) last.bytes += bytes;
    else this.#queue.push({ owner, bytes });
    this.#total += bytes;
  }

  /** The socket says how much it holds. */
  settle(held: number): void {
    let taken = Math.max(0, this.#total - held);
    this.#total -= taken;
    while (taken > 0) {
      const first = this.#queue[0];
      if (!first) return;
      const part = Math.min(taken, first.bytes);
      first.bytes -= part;
      taken -= part;
      if (first.bytes === 0) this.#queue.shift();
    }
  }

  of(owner: Owner): number {
    let bytes = 0;
    for (const part of this.#queue) if (part.owner === owner) bytes += part.bytes;
    return bytes;
  }
}

type Name = "video" | "audio" | "control";

export class SocketChannels {
  readonly video: Channel;
  readonly audio: Channel;
  readonly control: Channel;
  readonly token: string;
  readonly #door: RelayDoor;
  readonly #host: SocketHost;
  readonly #all: Lane[];
  readonly #until: number;
  #state: RTCDataChannelState = "connecting";
  #socket: Socket | null = null;
  /** When the next attempt begins, without a socket. */
  #attemptAt: number;
  #attempts = 0;
  readonly #account = new Account<Name>();
  /** Pictures that the socket has no room for. */
  readonly #held: Uint8Array<ArrayBuffer>[] = [];

  constructor(door: RelayDoor, host: SocketHost) {
    this.token = door.token;
    this.#door = door;
    this.#host = host;
    this.#attemptAt = host.now() + door.delayMs;
    this.#until = this.#attemptAt + UP_WITHIN_MS;
    this.#all = (["video", "audio", "control"] as const).map((name) => new Lane(name, this));
    [this.video, this.audio, this.control] = this.#all as [Lane, Lane, Lane];
    this.tick();
  }

  get readyState(): RTCDataChannelState {
    return this.#state;
  }

  /** Bytes handed over through one channel that have not left this machine's memory. */
  buffered(name: Name): number {
    this.#account.settle(this.#socket?.bufferedAmount ?? 0);
    const held = name === "video" ? this.#held.reduce((sum, { byteLength }) => sum + byteLength, 0) : 0;
    return held + this.#account.of(name);
  }

  send(name: Name, data: string | Uint8Array<ArrayBuffer>): void {
    if (this.#state !== "open") throw new DOMException("The link to the relay is not open.", "InvalidStateError");
    if (name === "video" && typeof data !== "string") {
      this.#held.push(data);
      this.#flush();
    } else {
      this.#pass(name, data);
    }
  }

  /** Attempts, and what has room again. Every 10 ms or so. */
  tick(): void {
    if (this.#state === "connecting") {
      if (this.#host.now() >= this.#until) this.#end("never");
      else if (!this.#socket && this.#host.now() >= this.#attemptAt) this.#attempt();
    } else if (this.#state === "open") {
      this.#flush();
      for (const lane of this.#all) lane.tick();
    }
  }

  /** Idempotent; tells nobody. */
  close(): void {
    this.#state = "closed";
    this.#held.length = 0;
    this.#drop();
  }

  #attempt(): void {
    let socket: Socket;
    try {
      socket = this.#host.connect(this.#door.url);
    } catch {
      // Not an address, or one that this page may not open.
      this.#end("never");
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({ t: "hello", token: this.#door.token }));
    socket.onmessage = ({ data }) => {
      if (this.#state === "open") this.#came(data);
      else if (welcomes(data, this.#door.instance)) this.#open();
      else this.#again();
    };
    socket.onclose = () => {
      if (this.#state === "open") this.#end("lost");
      else this.#again();
    };
  }

  #open(): void {
    this.#state = "open";
    this.#host.state("up");
    for (const lane of this.#all) lane.onopen?.call(undefined as never, new Event("open"));
  }

  #again(): void {
    this.#drop();
    const pause = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)] ?? 0;
    this.#attempts += 1;
    this.#attemptAt = this.#host.now() + pause * (1 + this.#host.random() / 2);
  }

  #came(data: unknown): void {
    // Text is control's, whether it makes sense or not: it is counted there.
    const lane = data instanceof ArrayBuffer ? (sounds(data) ? this.audio : this.video) : this.control;
    lane.onmessage?.call(undefined as never, new MessageEvent("message", { data }));
  }

  #flush(): void {
    while (this.#held.length > 0 && (this.#socket?.bufferedAmount ?? 0) <= VIDEO_BELOW_BYTES) {
      this.#pass("video", this.#held.shift() as Uint8Array<ArrayBuffer>);
    }
  }

  #pass(name: Name, data: string | Uint8Array<ArrayBuffer>): void {
    this.#account.settle(this.#socket?.bufferedAmount ?? 0);
    // Control messages are ASCII: a character is a byte.
    this.#account.add(name, typeof data === "string" ? data.length : data.byteLength);
    this.#socket?.send(data);
  }

  #end(news: RelayNews): void {
    this.close();
    for (const lane of this.#all) lane.onclose?.call(undefined as never, new Event("close"));
    this.#host.state(news);
  }

  /** Lets go of the socket: whatever it still says is not heard. */
  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(1000);
  }
}

/** One of the three. */
class Lane implements Channel {
  binaryType: BinaryType = "arraybuffer";
  bufferedAmountLowThreshold = 0;
  onopen: Channel["onopen"] = null;
  onclose: Channel["onclose"] = null;
  onmessage: Channel["onmessage"] = null;
  onbufferedamountlow: Channel["onbufferedamountlow"] = null;
  readonly #name: Name;
  readonly #owner: SocketChannels;
  #above = false;

  constructor(name: Name, owner: SocketChannels) {
    this.#name = name;
    this.#owner = owner;
  }

  get readyState(): RTCDataChannelState {
    return this.#owner.readyState;
  }

  get bufferedAmount(): number {
    return this.#owner.buffered(this.#name);
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    this.#owner.send(this.#name, data);
    this.#above ||= this.bufferedAmount > this.bufferedAmountLowThreshold;
  }

  tick(): void {
    if (!this.#above || this.bufferedAmount > this.bufferedAmountLowThreshold) return;
    this.#above = false;
    this.onbufferedamountlow?.call(undefined as never, new Event("bufferedamountlow"));
  }

  close(): void {
    this.#owner.close();
  }
}

/** Whether the header's kind is audio (docs/ref/frame.md). */
function sounds(data: ArrayBuffer): boolean {
  return data.byteLength > 1 && ((new Uint8Array(data, 1, 1)[0] ?? 0) & 0x30) === 0x10;
}

/** `{"t":"welcome","instance":"..."}` of the relay that was meant. */
function welcomes(data: unknown, instance: string): boolean {
  if (typeof data !== "string" || data.length > MOST_GREETING) return false;
  try {
    const said: unknown = JSON.parse(data);
    if (typeof said !== "object" || said === null) return false;
    return (said as { t?: unknown }).t === "welcome" && (said as { instance?: unknown }).instance === instance;
  } catch {
    return false;
  }
}

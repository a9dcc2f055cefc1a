/**
 * The connection to the server: a WebSocket that comes back by itself. It owns the attempts, their pauses and the
 * detection of a dead connection; what is said on it, and said again after a break, is its owner's.
 *
 * Contract: `onOpen` after every successful connection, before any message; `onDown` once per failed attempt or break,
 * with the time of the next attempt; `onEnd` once, when there will be none. Nothing is queued: `send` on a broken
 * connection says false, because everything that matters is restated from state after `onOpen`.
 */
import { GIVE_UP_MS, retryDelayMs } from "./backoff.ts";
import { type ClientMessage, type ErrorCode, type ServerMessage, SUBPROTOCOL } from "./messages.ts";
import { parseServerMessage } from "./parse.ts";

/** How often the server is asked whether it is there. */
const PING_EVERY_MS = 5_000;
/** A connection on which nothing at all arrived for this long is dead: two pings went unanswered. */
const DEAD_AFTER_MS = 11_000;
/** An attempt that is not open by then has failed. */
const CONNECT_WITHIN_MS = 10_000;

/** A server that lets us in and throws us out again is not asked at full speed: only after this long all is well. */
const STABLE_MS = 5_000;

export interface Down {
  sinceMs: number;
  retryAtMs: number;
  /** Number of the attempt that is being waited for; the first after a break is 1. */
  attempt: number;
}

export interface SignalEvents {
  onOpen(): void;
  onMessage(message: ServerMessage): void;
  onDown(down: Down): void;
  /** The server could not be reached for too long. */
  onEnd(): void;
}

export class Signal {
  readonly #url: string;
  readonly #events: SignalEvents;
  #socket: WebSocket | null = null;
  #pinging: ReturnType<typeof setInterval> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #downSinceMs: number | null = null;
  #settledAtMs: number | null = null;
  #heardAtMs = 0;
  #pings = 0;
  #closed = false;

  constructor(url: string, events: SignalEvents) {
    this.#url = url;
    this.#events = events;
    this.#connect();
    globalThis.addEventListener?.("online", this.#online);
  }

  /** False when there is no connection at present. */
  send(message: ClientMessage): boolean {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify(message));
    return true;
  }

  /** The conversation is in order again. If it stays so for a while, the next break starts with a quick attempt. */
  settled(): void {
    this.#downSinceMs = null;
    this.#settledAtMs = Date.now();
  }

  /** Give up the present connection and make a new one after the usual pause. */
  reconnect(): void {
    if (!this.#closed) this.#broken();
  }

  /** Idempotent. Messages sent before are still delivered. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    globalThis.removeEventListener?.("online", this.#online);
    this.#drop();
  }

  #connect(): void {
    let socket: WebSocket;
    try {
      socket = new WebSocket(this.#url, SUBPROTOCOL);
    } catch {
      // The address is not one: retrying cannot help.
      this.close();
      this.#events.onEnd();
      return;
    }
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#broken(), CONNECT_WITHIN_MS);
    socket.onopen = () => {
      clearTimeout(this.#timer);
      this.#heardAtMs = Date.now();
      this.#pinging = setInterval(() => this.#ping(), PING_EVERY_MS);
      this.#events.onOpen();
    };
    socket.onmessage = (event: MessageEvent) => {
      this.#heardAtMs = Date.now();
      const message = parseServerMessage(event.data);
      if (message) this.#events.onMessage(message);
      else console.warn("grove: a message that is not of this protocol was left alone");
    };
    socket.onclose = () => this.#broken();
  }

  #ping(): void {
    if (Date.now() - this.#heardAtMs > DEAD_AFTER_MS) this.#broken();
    else this.send({ type: "ping", n: this.#pings++ });
  }

  #broken(): void {
    this.#drop();
    const nowMs = Date.now();
    if (this.#settledAtMs !== null && nowMs - this.#settledAtMs >= STABLE_MS) this.#attempt = 0;
    this.#settledAtMs = null;
    this.#downSinceMs ??= nowMs;
    if (nowMs - this.#downSinceMs >= GIVE_UP_MS) {
      this.close();
      this.#events.onEnd();
      return;
    }
    const delayMs = Math.round(retryDelayMs(this.#attempt, Math.random()));
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#connect(), delayMs);
    this.#events.onDown({ sinceMs: this.#downSinceMs, retryAtMs: nowMs + delayMs, attempt: this.#attempt });
  }

  /** Lets go of the socket: whatever it still says is not heard. */
  #drop(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#pinging);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close(1000);
  }

  readonly #online = (): void => {
    if (this.#socket || this.#closed) return;
    clearTimeout(this.#timer);
    this.#connect();
  };
}

export type Answer<T> = ({ ok: true } & T) | { ok: false; code: ErrorCode | "unreachable"; message: string };

/** Asks one question on a connection of its own. Never rejects. */
export function ask<T>(
  url: string,
  question: ClientMessage,
  answer: (message: ServerMessage) => T | null,
): Promise<Answer<T>> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, SUBPROTOCOL);
    const finish = (result: Answer<T>) => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close(1000);
      resolve(result);
    };
    const unreachable = () => finish({ ok: false, code: "unreachable", message: "The server cannot be reached." });
    const timer = setTimeout(unreachable, CONNECT_WITHIN_MS);
    socket.onopen = () => socket.send(JSON.stringify(question));
    socket.onclose = unreachable;
    socket.onmessage = (event: MessageEvent) => {
      const message = parseServerMessage(event.data);
      if (!message) return;
      const found = answer(message);
      if (found !== null) finish({ ok: true, ...found });
      else if (message.type === "error") finish({ ok: false, code: message.code, message: message.message });
    };
  });
}

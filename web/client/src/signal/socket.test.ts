import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Down, Signal } from "./socket.ts";

/** A socket whose network is the test. */
class Wire {
  static readonly OPEN = 1;
  static made: Wire[] = [];
  readyState = 0;
  sent: string[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;
  readonly url: string;
  readonly protocol: string;
  constructor(url: string, protocol: string) {
    this.url = url;
    this.protocol = protocol;
    Wire.made.push(this);
  }
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.readyState = 3;
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  say(message: unknown): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

const wire = (n: number): Wire => Wire.made.at(n) as Wire;
let said: string[] = [];
let downs: Down[] = [];

function signal(): Signal {
  return new Signal("wss://host/api/v1/signal", {
    onOpen: () => said.push("open"),
    onMessage: ({ type }) => said.push(type),
    onDown: (down) => {
      said.push("down");
      downs.push(down);
    },
    onEnd: () => said.push("end"),
  });
}

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
  vi.stubGlobal("WebSocket", Wire);
  vi.spyOn(Math, "random").mockReturnValue(0);
  vi.spyOn(console, "warn").mockImplementation(() => {});
  Wire.made = [];
  said = [];
  downs = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

test("it asks for the protocol, says when it is open, and hands on messages but no junk", () => {
  const one = signal();
  expect(wire(0).protocol).toBe("grove.v1");
  expect(one.send({ type: "leave" })).toBe(false);
  wire(0).open();
  wire(0).say({ type: "pong", n: 0 });
  wire(0).say({ type: "nonsense" });
  expect(one.send({ type: "leave" })).toBe(true);
  expect(said).toEqual(["open", "pong"]);
  one.close();
});

test("a break is followed by attempts at 0, 300 and 1200 ms, and the pauses start over once things are in order", () => {
  const one = signal();
  wire(0).open();
  one.settled();
  for (const pause of [0, 300, 1_200]) {
    wire(-1).onclose?.();
    expect(downs.at(-1)?.retryAtMs).toBe(Date.now() + pause);
    vi.advanceTimersByTime(pause);
  }
  expect(downs.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  expect(new Set(downs.map(({ sinceMs }) => sinceMs)).size).toBe(1);
  wire(-1).open();
  one.settled();
  vi.advanceTimersByTime(5_000);
  wire(-1).onclose?.();
  expect(downs.at(-1)).toMatchObject({ attempt: 1, retryAtMs: Date.now() });
  one.close();
});

test("a server that opens and drops without letting us in does not reset the pauses", () => {
  const one = signal();
  for (let i = 0; i < 4; i++) {
    wire(-1).open();
    wire(-1).onclose?.();
    vi.advanceTimersByTime(7_000);
  }
  expect(downs.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4]);
  one.close();
});

test("a server that lets us in and throws us out at once does not either", () => {
  const one = signal();
  for (let i = 0; i < 4; i++) {
    wire(-1).open();
    one.settled();
    wire(-1).onclose?.();
    vi.advanceTimersByTime(7_000);
  }
  expect(downs.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4]);
  one.close();
});

test("a connection on which nothing arrives is dead after two unanswered pings", () => {
  const one = signal();
  wire(0).open();
  vi.advanceTimersByTime(5_000);
  wire(0).say({ type: "pong", n: 0 });
  vi.advanceTimersByTime(10_000);
  expect(said).toEqual(["open", "pong"]);
  vi.advanceTimersByTime(5_000);
  expect(said).toEqual(["open", "pong", "down"]);
  expect(wire(0).sent).toEqual(['{"type":"ping","n":0}', '{"type":"ping","n":1}', '{"type":"ping","n":2}']);
  one.close();
});

test("what a dropped socket still says is not heard", () => {
  const one = signal();
  wire(0).open();
  one.reconnect();
  wire(0).say({ type: "pong", n: 0 });
  expect(said).toEqual(["open", "down"]);
  one.close();
});

test("after ten minutes without a server it ends, once, and tries no more", () => {
  signal();
  for (let ms = 0; ms < 12 * 60_000; ms += 1_000) {
    if (wire(-1).readyState === 0) wire(-1).onclose?.();
    vi.advanceTimersByTime(1_000);
  }
  const attempts = Wire.made.length;
  vi.advanceTimersByTime(60_000);
  expect(said.filter((word) => word === "end")).toHaveLength(1);
  expect(said.at(-1)).toBe("end");
  expect(Wire.made.length).toBe(attempts);
});

test("closing is final and idempotent", () => {
  const one = signal();
  wire(0).open();
  one.close();
  one.close();
  vi.advanceTimersByTime(60_000);
  expect(said).toEqual(["open"]);
  expect(Wire.made).toHaveLength(1);
});

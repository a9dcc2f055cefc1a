import { beforeEach, expect, test } from "vitest";
import type { Control } from "./control.ts";
import { FakeChannel, frame, Net, type SimNode } from "./simulation.ts";
import { streamKey } from "./types.ts";

const RELAY = 65_535;
const CAMERA = { node: 1, stream: 0 };
const THEIRS = { node: 3, stream: 0 };

let net: Net;
let node: SimNode;
/** What the relay was told, heartbeats left out. */
let told: Control[];
let beats: number;
let say: (message: Control) => void;

beforeEach(() => {
  net = new Net(1);
  node = net.node(1);
  net.link(1, 2);
  told = [];
  beats = 0;
  const control = new FakeChannel();
  control.other = new FakeChannel();
  control.send = (data) => {
    const message = JSON.parse(data as string) as Control;
    if (message.t === "hb") beats += 1;
    else told.push(message);
  };
  say = (message) =>
    control.onmessage?.call(undefined as never, new MessageEvent("message", { data: JSON.stringify(message) }));
  node.transport.openRtp(RELAY, "token", control);
});

const toRelay = () => node.transport.stats().outgoing.find(({ child }) => child === RELAY);
const made = (number: number, more = {}) => frame({ number, key: number === 0, nearest: 0, farthest: 0, ...more });
/** As media does: frames of the RTP sender, from the first on. */
function publish(from: number, upTo: number, carriedTo: number | null): void {
  for (let number = from; number < upTo; number += 1) {
    const fields = number === 0 ? {} : { farthest: 1, nearest: 1 };
    node.transport.publish(0, made(number, fields), carriedTo);
    net.run(33);
  }
}

test("what an encoder carries to the relay goes to other children as the same bytes, and not to the relay again", () => {
  node.transport.setTrace(true);
  net.edge(CAMERA, 1, 2);
  node.transport.feed(CAMERA, RELAY, [0, 1], 1_000_000);
  say({ t: "take", s: streamKey(1, 0), have: [] });
  publish(0, 20, RELAY);
  net.run(500);
  expect(toRelay()).toMatchObject({ framesSent: 20, framesDropped: 0, layers: [] });
  expect(net.node(2).media.numbers(streamKey(1, 0), 0).length).toBe(20);
  for (const { sent, hash } of node.transport.records()) {
    expect(sent).toEqual(expect.arrayContaining([2, RELAY].map((to) => ({ to, hash }))));
    expect(sent.length).toBe(2);
  }
  // No conversation about layers: what the relay gets it sees.
  expect(told).toEqual([]);
});

const beat = (n: number): Control => ({ t: "hb", n, f: 0 });
const theirs = (number: number): ArrayBuffer => {
  const fields = number === 0 ? {} : { farthest: 1, nearest: 1 };
  return frame({ sender: 3, key: number === 0, number, ...fields }).slice().buffer;
};
const silences = () => node.posted.filter(({ type }) => type === "silent").length;
/** What goes on for three seconds: heartbeats of the relay, frames of it, frames to it, each so often (0: none). */
function going(relaysBeats: number, down: number, up: number): void {
  for (let ms = 10; ms <= 3000; ms += 10) {
    if (relaysBeats && ms % relaysBeats === 0) say(beat(ms));
    if (down && ms % down === 0) node.transport.arrived(RELAY, "token", theirs(ms / down - 1));
    if (up && ms % up === 0) node.transport.publish(0, made(ms / up - 1), RELAY);
    net.run(10);
  }
}

test.each([
  ["nothing", 0, 0, 0, 20],
  ["the relay's heartbeats, which the browser acknowledges", 50, 0, 0, 3],
  ["frames to us, which the browser tells the arrival of", 0, 20, 0, 3],
  ["frames of ours, and nothing comes", 0, 0, 20, 3],
  ["frames both ways", 0, 20, 20, 3],
  ["sound that pauses: a packet each 400 ms", 0, 400, 0, 15],
])("a heartbeat goes out only where the browser gives no other sign: %s", (_, relaysBeats, down, up, expected) => {
  net.run(1000);
  node.transport.feed(CAMERA, RELAY, [0], 1_000_000);
  say({ t: "take", s: streamKey(1, 0), have: [] });
  going(relaysBeats, down, up);
  beats = 0;
  going(relaysBeats, down, up);
  expect(Math.abs(beats - expected)).toBeLessThanOrEqual(1);
});

test.each([
  ["idle", 50, 0, 0],
  ["receiving", 0, 20, 0],
  ["sending", 50, 0, 20],
  ["both", 0, 20, 20],
])("a relay that falls silent is told of within 620 ms, once: %s", (_, relaysBeats, down, up) => {
  going(relaysBeats, down, up);
  going(0, 0, up);
  expect(silences()).toBe(1);
  node.posted.length = 0;
  say(beat(1));
  net.run(590);
  expect(silences()).toBe(0);
  net.run(30);
  expect(silences()).toBe(1);
});

test("packets that say nothing but that the relay is there are heard, and are no frames", () => {
  const before = node.transport.stats().counters;
  for (let ms = 0; ms < 3000; ms += 100) {
    node.transport.arrived(RELAY, "token", new ArrayBuffer(1));
    net.run(100);
  }
  expect(silences()).toBe(0);
  expect(node.transport.stats().counters).toEqual(before);
});

test("messages that are held up for long by one that was lost twice are no silence while frames come", () => {
  going(0, 20, 0);
  expect(silences()).toBe(0);
});

test("what was said is followed by heartbeats that show whether it came, whatever else goes on", () => {
  net.run(1000);
  node.transport.parent(THEIRS, RELAY, [0]);
  net.run(10);
  expect(told.length).toBeGreaterThan(0);
  beats = 0;
  for (let n = 0; n < 15; n += 1) {
    node.transport.publish(0, made(n), RELAY);
    net.run(30);
  }
  expect(beats).toBeGreaterThanOrEqual(8);
});

test("what WebCodecs made does not count as sent to the relay", () => {
  node.transport.feed(CAMERA, RELAY, [0], 1_000_000);
  publish(0, 5, null);
  net.run(500);
  expect(toRelay()?.framesSent).toBe(0);
});

test("the relay's key requests reach the encoder, and what it misses will not come again", () => {
  node.transport.feed(CAMERA, RELAY, [0, 1], 1_000_000);
  publish(0, 5, RELAY);
  say({ t: "key", s: streamKey(1, 0), l: 1 });
  say({ t: "need", s: streamKey(1, 0), l: 0, n: [2, 3] });
  expect(node.media.keyFrames.map(({ layer }) => layer)).toEqual([1]);
  expect(told).toEqual([{ t: "miss", s: streamKey(1, 0), l: 0, n: [2, 3] }]);
});

test("others' streams are not put into RTP", () => {
  node.transport.parent(THEIRS, 2, [0]);
  node.transport.feed(THEIRS, RELAY, [0], 1_000_000);
  const sealed = frame({ sender: 3, key: true, number: 0 });
  net.channel(2, 1, 0).send(sealed as Uint8Array<ArrayBuffer>);
  net.run(1000);
  expect(node.media.frames).toBe(1);
  expect(toRelay()).toMatchObject({ framesSent: 0, framesDropped: 0 });
});

test("frames of the present connection's transforms arrive like any others, those of a former one do not", () => {
  node.transport.parent(THEIRS, RELAY, [0]);
  net.run(20);
  expect(told).toEqual([{ t: "take", s: streamKey(3, 0), have: [] }]);
  const arrive = (number: number, token: string): void => {
    const sealed = frame({ sender: 3, key: number === 0, number, farthest: number && 1, nearest: number && 1 });
    node.transport.arrived(RELAY, token, sealed.slice().buffer);
  };
  for (const number of [0, 1, 1, 2]) arrive(number, "token");
  arrive(3, "another");
  const incoming = node.transport.stats().incoming[0];
  expect(incoming).toMatchObject({ parent: RELAY, framesReceived: 3, duplicates: 1 });
  expect(node.posted).toContainEqual({ type: "ready", stream: THEIRS, parent: RELAY });
  node.transport.closeLink(RELAY);
  arrive(3, "token");
  expect(node.transport.stats().incoming[0]?.framesReceived).toBe(3);
});

test("the relay asks the page for receivers", () => {
  say({ t: "slots", n: 8 });
  expect(node.posted).toEqual([{ type: "slots", peer: RELAY, pairs: 8 }]);
});

test("a socket in its place sends everything again", () => {
  node.transport.feed(CAMERA, RELAY, [0], 1_000_000);
  publish(0, 3, RELAY);
  const channels = [new FakeChannel(), new FakeChannel(), new FakeChannel()] as const;
  const frames: number[] = [];
  for (const channel of channels) {
    channel.other = new FakeChannel();
    channel.send = (data) => {
      if (typeof data !== "string") frames.push(new DataView(data.buffer, data.byteOffset).getUint32(2));
    };
  }
  node.transport.openLink(RELAY, ...channels);
  net.run(500);
  publish(3, 6, null);
  // The ring from its key frame on, and what follows.
  expect(frames).toEqual([0, 1, 2, 3, 4, 5]);
});

import { describe, expect, test, vi } from "vitest";
import { MIN_QUEUE_BYTES } from "./queue.ts";
import { RING_MS } from "./ring.ts";
import { frame, Net, random, Source } from "./simulation.ts";
import { streamKey } from "./types.ts";

// Minutes of virtual time take seconds of real time on a busy machine.
vi.setConfig({ testTimeout: 60_000 });

const CAMERA = { node: 1, stream: 0 };
const KEY = streamKey(1, 0);

function chain(net: Net, length: number, conditions = {}): void {
  for (let n = 1; n < length; n += 1) net.link(n, n + 1, conditions);
  for (let n = 1; n < length; n += 1) net.edge(CAMERA, n, n + 1);
}

function incoming(net: Net, node: number) {
  const found = net.node(node).transport.stats().incoming[0];
  if (!found) throw new Error("receives nothing");
  return found;
}

function outgoing(net: Net, node: number, child: number) {
  const found = net
    .node(node)
    .transport.stats()
    .outgoing.find((o) => o.child === child);
  if (!found) throw new Error("no such edge");
  return found;
}

function count(from: number, upTo: number): number[] {
  return Array.from({ length: Math.max(0, upTo - from) }, (_, i) => from + i);
}

describe("a chain of five nodes", () => {
  test("delivers the very bytes in the order in which they were made", () => {
    const net = new Net(1);
    for (let n = 1; n <= 5; n += 1) net.node(n).transport.setTrace(true);
    chain(net, 5);
    const source = new Source(net, 1);
    net.run(4000);
    source.stopped = true;
    net.run(500);

    const made = new Map(
      net
        .node(1)
        .transport.records()
        .map((r) => [`${r.track}.${r.number}`, r]),
    );
    for (const hop of [2, 3, 4, 5]) {
      const got = net.node(hop).transport.records();
      expect(got.length).toBeGreaterThan(300);
      for (const r of got) {
        const original = made.get(`${r.track}.${r.number}`);
        expect(r.hash).toBe(original?.hash);
        expect(r.from).toBe(hop - 1);
        expect(r.sent).toEqual(hop < 5 ? [{ to: hop + 1, hash: original?.hash }] : []);
      }
      const decoded = net.node(hop).media.numbers(KEY, 0);
      expect(decoded).toEqual(count((source.numbers[0] ?? 0) - decoded.length, source.numbers[0] ?? 0));
      expect(decoded.length).toBeGreaterThan(115);
      const audio = net.node(hop).media.audio.get(KEY) ?? [];
      expect(audio).toEqual([...audio].sort((a, b) => a - b));
    }
    expect(net.node(5).posted.filter((m) => m.type === "ready")).toEqual([
      { type: "ready", stream: CAMERA, parent: 4 },
    ]);
  });

  test("repairs 5 % loss per hop by number, and asks for few key frames", () => {
    const net = new Net(7);
    chain(net, 5, { loss: 0.05, latencyMs: 10 });
    const source = new Source(net, 1);
    net.run(20_000);
    source.stopped = true;
    net.run(2000);

    const made = source.numbers[0] ?? 0;
    expect(made).toBeGreaterThan(590);
    for (const hop of [2, 3, 4, 5]) {
      const stats = incoming(net, hop);
      expect(stats.framesRepaired).toBeGreaterThan(5);
      // Half of the frames count (the others are droppable): those all come, except where a repair itself failed.
      const base = net
        .node(hop)
        .media.numbers(KEY, 0)
        .filter((n) => n % 2 === 0).length;
      expect(base).toBeGreaterThan(made * 0.5 * 0.93);
    }
    // One loss in twenty over four hops is some 60 base frames lost; without repair each would cost a key frame.
    expect(source.keyFrames).toBeLessThanOrEqual(4);
  });

  test("starts a late chain from the ring without a key request while the key frame is young", () => {
    const net = new Net(3);
    chain(net, 2);
    const source = new Source(net, 1);
    net.run(1000);
    const before = source.keyFrames;
    net.link(2, 3);
    net.edge(CAMERA, 2, 3);
    net.run(500);
    expect(source.keyFrames).toBe(before);
    expect(net.node(3).media.numbers(KEY, 0)[0]).toBe(0);
    expect(net.node(3).media.numbers(KEY, 0).at(-1)).toBeGreaterThan(40);
  });

  test("asks for exactly one key frame for several newcomers once the ring is too old", () => {
    const net = new Net(4);
    chain(net, 2);
    const source = new Source(net, 1);
    net.run(RING_MS + 3000);
    const before = source.keyFrames;
    for (const child of [3, 4, 5]) {
      net.link(2, child);
      net.edge(CAMERA, 2, child);
    }
    net.run(600);
    expect(source.keyFrames).toBe(before + 1);
    for (const child of [3, 4, 5]) expect(net.node(child).media.numbers(KEY, 0).length).toBeGreaterThan(10);
  });
});

test("the last picture before a pause is repaired too", () => {
  const net = new Net(5);
  chain(net, 3);
  const source = new Source(net, 1, { audio: false });
  net.run(1000);
  net.direction(1, 2).conditions.loss = 1;
  net.run(100);
  source.stopped = true;
  net.direction(1, 2).conditions.loss = 0;
  expect(net.node(3).media.numbers(KEY, 0).at(-1)).toBeLessThan((source.numbers[0] ?? 0) - 2);
  net.run(1000);
  const last = (source.numbers[0] ?? 0) - 1;
  expect(net.node(3).media.numbers(KEY, 0).at(-1)).toBe(last - (last % 2));
  expect(source.keyFrames).toBe(1);
});

test("an outage longer than the ring ends in one key frame, asked for by the node that saw it", () => {
  const net = new Net(8);
  chain(net, 3);
  const source = new Source(net, 1);
  net.run(1000);
  net.direction(1, 2).conditions.loss = 1;
  net.run(RING_MS + 1000);
  net.direction(1, 2).conditions.loss = 0;
  net.run(2000);
  expect(source.keyFrames).toBe(2);
  for (const node of [2, 3]) {
    expect(net.node(node).media.numbers(KEY, 0).at(-1)).toBeGreaterThan((source.numbers[0] ?? 0) - 4);
    expect(incoming(net, node).framesLost).toBeGreaterThan(0);
  }
});

test("a link's loss is its own, not that of the links before it", () => {
  const net = new Net(6);
  net.link(1, 2, { loss: 0.1 });
  net.link(2, 3);
  net.edge(CAMERA, 1, 2);
  net.edge(CAMERA, 2, 3);
  new Source(net, 1);
  net.run(8000);
  const loss = (node: number, peer: number) =>
    net
      .node(node)
      .transport.stats()
      .links.find((l) => l.peer === peer)?.loss ?? Number.NaN;
  expect(loss(2, 1)).toBeGreaterThan(0.06);
  expect(loss(2, 1)).toBeLessThan(0.14);
  expect(loss(3, 2)).toBeLessThan(0.01);
});

describe("one slow child", () => {
  test("never delays the other, nor its own sound by more than one picture", () => {
    const net = new Net(11);
    net.link(1, 2, { bps: 400_000 });
    net.link(1, 3);
    net.edge(CAMERA, 1, 2);
    net.edge(CAMERA, 1, 3);
    const source = new Source(net, 1, { layers: [900_000] });
    net.run(10_000);
    source.stopped = true;
    net.run(1000);

    expect(net.channel(1, 2, 0).most).toBe(1);
    const fast = net.node(3).media.numbers(KEY, 0);
    expect(fast.length).toBeGreaterThan(290);
    expect(outgoing(net, 1, 3).framesDropped).toBe(0);
    expect(outgoing(net, 1, 2).framesDropped).toBeGreaterThan(30);
    const sound = net.node(2).media.audio.get(KEY) ?? [];
    expect(sound).toEqual(count(sound[0] ?? 0, source.audioNumber));
    expect(net.node(1).media.shares).toEqual([]);
  });

  test("falls back to the lower layer by itself, and returns when the link is good again", () => {
    const net = new Net(12);
    net.link(1, 2, { bps: 500_000 });
    net.link(1, 3);
    net.link(1, 4);
    for (const child of [2, 3, 4]) net.edge(CAMERA, 1, child, [1], 1_500_000);
    const source = new Source(net, 1, { layers: [150_000, 1_000_000] });
    let low = 0;
    let switches = 0;
    let last = "1";
    for (let i = 0; i < 300; i += 1) {
      net.run(100);
      const now = outgoing(net, 1, 2).layers.join();
      if (now === "0") low += 1;
      if (now !== last) switches += 1;
      last = now;
      expect(outgoing(net, 1, 3).layers).toEqual([1]);
    }
    // Tried again after 5 s, 10 s, ..., each attempt a few seconds long.
    expect(low).toBeGreaterThan(180);
    expect(switches).toBeLessThanOrEqual(10);
    expect(net.node(2).media.numbers(KEY, 0).length).toBeGreaterThan(500);

    net.direction(1, 2).conditions.bps = 20e6;
    net.run(65_000);
    expect(outgoing(net, 1, 2).layers).toEqual([1]);
    source.stopped = true;
    net.run(500);
    expect(net.node(2).media.numbers(KEY, 1).at(-1)).toBe((source.numbers[1] ?? 0) - 1);
    expect(net.node(1).media.shares).toEqual([]);
  });

  test("begins the lower layer with a new key frame rather than with a burst of what it missed", () => {
    const net = new Net(15);
    net.link(1, 2, { bps: 350_000 });
    net.edge(CAMERA, 1, 2, [1], 1_500_000);
    new Source(net, 1, { layers: [150_000, 1_000_000] });
    let low = Number.NaN;
    for (let ms = 0; ms < 6000 && Number.isNaN(low); ms += 10) {
      net.run(10);
      if (outgoing(net, 1, 2).layers.join() === "0") low = ms;
    }
    net.run(2000);
    // Its ring still held everything since the first key frame.
    expect(low).toBeLessThan(2000);
    expect(net.node(2).media.numbers(KEY, 0)[0]).toBeGreaterThan(0);
  });

  test("lowers the source when every child backs up, and raises it again", () => {
    const net = new Net(13);
    for (const child of [2, 3]) {
      net.link(1, child, { bps: 300_000 });
      net.edge(CAMERA, 1, child);
    }
    new Source(net, 1);
    net.run(6000);
    const down = net.node(1).media.shares.map((s) => s.share);
    expect(down.length).toBeGreaterThan(2);
    expect(down).toEqual([...down].sort((a, b) => b - a));
    for (const child of [2, 3]) net.direction(1, child).conditions.bps = 20e6;
    net.run(60_000);
    expect(net.node(1).media.shares.at(-1)?.share).toBe(1);
  });

  test("raises the source each second once there is room, and with care near what was too much", () => {
    const net = new Net(14);
    net.link(1, 2, { bps: 300_000 });
    net.edge(CAMERA, 1, 2);
    new Source(net, 1);
    net.run(6000);
    const lowered = net.node(1).media.shares.length;
    net.direction(1, 2).conditions.bps = 20e6;
    net.run(60_000);
    const up = net.node(1).media.shares.slice(lowered - 1);
    const steps = up.slice(1).map((s, i) => ({ ms: s.at - (up[i]?.at ?? 0), by: s.share / (up[i]?.share ?? 1) }));
    expect(up.at(-1)?.share).toBe(1);
    // The first step waits for calm; then one a second.
    for (const { ms } of steps.slice(1)) expect(ms).toBeLessThanOrEqual(1010);
    for (const [i, { by }] of steps.entries()) {
      expect(by).toBeLessThan(1.09);
      if ((up[i]?.share ?? 0) >= 0.85) expect(by).toBeLessThan(1.03);
    }
  });
});

describe("layers", () => {
  test("a child gets the next lower layer when the source stops encoding its own", () => {
    const net = new Net(21);
    chain(net, 3);
    for (const [parent, child] of [
      [1, 2],
      [2, 3],
    ] as const) {
      net.edge(CAMERA, parent, child, parent === 1 ? [0, 1] : [1]);
    }
    const source = new Source(net, 1, { layers: [150_000, 600_000] });
    net.run(3000);
    expect(outgoing(net, 2, 3).layers).toEqual([1]);
    source.off.add(1);
    net.run(3000);
    expect(outgoing(net, 2, 3).layers).toEqual([0]);
    const shown = net.node(3).media.numbers(KEY, 0).length;
    expect(shown).toBeGreaterThan(30);
    source.off.delete(1);
    net.run(3000);
    expect(outgoing(net, 2, 3).layers).toEqual([1]);
    expect(net.node(3).media.numbers(KEY, 1).at(-1)).toBeGreaterThan((source.numbers[1] ?? 0) - 4);
  });

  test("an edge without layers carries sound only, and sound makes it ready", () => {
    const net = new Net(22);
    net.link(1, 2);
    net.edge(CAMERA, 1, 2, []);
    new Source(net, 1);
    net.run(1000);
    expect(incoming(net, 2).framesReceived).toBe(0);
    expect(incoming(net, 2).audioPackets).toBeGreaterThan(40);
    expect(net.node(2).posted).toContainEqual({ type: "ready", stream: CAMERA, parent: 1 });
  });
});

describe("moving to another parent", () => {
  test("passes each frame on once, loses none and needs no key frame", () => {
    const net = new Net(31);
    net.link(1, 2);
    net.link(1, 3, { latencyMs: 30 });
    net.link(2, 4);
    net.link(3, 4);
    net.link(4, 5);
    net.edge(CAMERA, 1, 2);
    net.edge(CAMERA, 1, 3);
    net.edge(CAMERA, 2, 4);
    net.edge(CAMERA, 4, 5);
    const source = new Source(net, 1);
    net.run(6000);
    const keys = source.keyFrames;

    net.edge(CAMERA, 3, 4);
    net.run(300);
    net.node(2).transport.release(CAMERA, 4);
    net.run(3000);
    source.stopped = true;
    net.run(500);

    expect(net.node(4).posted.filter((m) => m.type === "ready")).toEqual([
      { type: "ready", stream: CAMERA, parent: 2 },
      { type: "ready", stream: CAMERA, parent: 3 },
    ]);
    expect(source.keyFrames).toBe(keys);
    expect(incoming(net, 4).duplicates).toBeGreaterThan(3);
    for (const node of [4, 5]) {
      const numbers = net.node(node).media.numbers(KEY, 0);
      expect(numbers).toEqual(count(numbers[0] ?? 0, source.numbers[0] ?? 0));
    }
    expect(incoming(net, 5).duplicates).toBe(0);
  });

  test("goes on from the new parent when the old one died", () => {
    const net = new Net(32);
    net.link(1, 2);
    net.link(1, 3);
    net.link(2, 3);
    net.edge(CAMERA, 1, 2);
    net.edge(CAMERA, 2, 3);
    const source = new Source(net, 1);
    net.run(3000);
    net.direction(2, 3).down = true;
    net.direction(3, 2).down = true;
    net.run(900);
    expect(net.node(3).posted).toContainEqual({ type: "silent", peer: 2 });
    const keys = source.keyFrames;
    net.edge(CAMERA, 1, 3);
    net.run(1000);
    source.stopped = true;
    net.run(500);
    const numbers = net.node(3).media.numbers(KEY, 0);
    // What was missed in between is in the new parent's ring: nothing is lost and no key frame is made.
    expect(numbers.filter((n) => n % 2 === 0).at(-1)).toBeGreaterThan((source.numbers[0] ?? 0) - 3);
    expect(source.keyFrames).toBe(keys);
  });

  test("ignores frames of anybody who is not the parent", () => {
    const net = new Net(33);
    net.link(1, 2);
    net.link(2, 3);
    net.edge(CAMERA, 1, 2);
    const forged = frame({ key: true, number: 5 });
    net.channel(3, 2, 0).send(forged as Uint8Array<ArrayBuffer>);
    net.channel(3, 2, 0).send(frame({ sender: 2, key: true }) as Uint8Array<ArrayBuffer>);
    net.run(100);
    const counters = net.node(2).transport.stats().counters;
    expect(counters.stray).toBe(1);
    expect(counters.looped).toBe(1);
    expect(net.node(2).media.frames).toBe(0);
  });

  test("survives a sender that encodes anew under a newer key generation", () => {
    const net = new Net(34);
    chain(net, 3);
    const first = new Source(net, 1, { audio: false });
    net.run(2000);
    first.stopped = true;
    net.run(100);
    const before = net.node(3).media.frames;
    new Source(net, 1, { audio: false, generation: 2 });
    net.run(1000);
    expect(net.node(3).media.frames - before).toBeGreaterThan(25);
  });
});

describe("foreign input", () => {
  test("is counted and never thrown, and media goes on", () => {
    const net = new Net(41);
    chain(net, 3);
    new Source(net, 1);
    const chance = random(99);
    net.run(500);
    const bytes = (n: number) => Uint8Array.from({ length: n }, () => chance() * 256);
    const control = net.channel(2, 3, 2);
    const junk = [
      "",
      "{",
      "null",
      "[]",
      "7",
      '"x"',
      '{"t":"key"}',
      '{"t":"key","s":16,"l":9}',
      '{"t":"key","s":-1,"l":0}',
      '{"t":"need","s":16,"l":0,"n":[]}',
      '{"t":"need","s":16,"l":0,"n":[1.5]}',
      `{"t":"need","s":16,"l":0,"n":[${count(0, 65).join()}]}`,
      '{"t":"take","s":16,"have":[1]}',
      '{"t":"hb","n":1,"e":1}',
      "x".repeat(5000),
    ];
    for (const text of junk) control.send(text);
    control.send('{"t":"weather","s":1}');
    control.send('{"t":"miss","s":48,"l":0,"n":[1]}');
    for (let i = 0; i < 50; i += 1) net.channel(2, 3, 0).send(bytes(Math.floor(chance() * 200)));
    net.channel(2, 3, 1).send("text");
    net.run(500);
    const { counters } = net.node(3).transport.stats();
    expect(counters.junk).toBe(junk.length + 1);
    expect(counters.unknown).toBe(1);
    expect(counters.misplaced).toBe(1);
    expect(counters.malformed + counters.stray + counters.foreign + counters.looped).toBe(50);
    expect(net.node(3).media.numbers(KEY, 0).length).toBeGreaterThan(20);
  });

  test("a flood of control messages is cut off at a rate", () => {
    const net = new Net(42);
    chain(net, 2);
    net.run(100);
    for (let i = 0; i < 3000; i += 1) net.channel(2, 1, 2).send('{"t":"key","s":16,"l":0}');
    net.run(200);
    expect(net.node(1).transport.stats().counters.flooded).toBeGreaterThan(2000);
    expect(net.node(1).media.keyFrames.length).toBeLessThanOrEqual(3);
  });

  test("a child that asks for key frames without end gets a few, and then one per second", () => {
    const net = new Net(44);
    chain(net, 2);
    net.run(100);
    for (let i = 0; i < 100; i += 1) {
      net.channel(2, 1, 2).send('{"t":"key","s":16,"l":0}');
      net.run(100);
    }
    const asked = net.node(1).media.keyFrames.length;
    expect(asked).toBeGreaterThanOrEqual(10);
    expect(asked).toBeLessThanOrEqual(18);
  });

  test("a frame too large for a message is refused and counted, and the next one goes", () => {
    const net = new Net(43);
    chain(net, 2);
    net.run(400);
    net.node(1).transport.publish(0, frame({ key: true, number: 1, size: 300_000 }));
    net.node(1).transport.publish(0, frame({ key: true, number: 2 }));
    net.run(100);
    expect(net.node(1).transport.stats().counters.oversized).toBe(1);
    expect(net.node(2).media.numbers(KEY, 0)).toEqual([2]);
    expect(net.node(1).media.shares.map((x) => x.share)).toEqual([0.8]);
  });
});

test("memory stays bounded through ten minutes on a bad link", () => {
  const net = new Net(51);
  net.link(1, 2, { loss: 0.05, bps: 500_000 });
  net.link(2, 3, { loss: 0.05, bps: 400_000 });
  net.edge(CAMERA, 1, 2);
  net.edge(CAMERA, 2, 3);
  new Source(net, 1, { fps: 15, layers: [500_000] });
  for (let minute = 0; minute < 10; minute += 1) {
    net.run(60_000);
    for (const node of [1, 2]) {
      const size = net.node(node).transport.size();
      // Two seconds of 500 kbit/s and a key frame.
      expect(size.ringBytes).toBeLessThan(300_000);
      expect(size.missing).toBeLessThan(100);
      for (const link of net.node(node).transport.stats().links) {
        expect(link.queuedBytes).toBeLessThan(MIN_QUEUE_BYTES + 100_000);
      }
    }
  }
  expect(net.node(3).media.numbers(KEY, 0).length).toBeGreaterThan(2500);
});

import { describe, expect, test, vi } from "vitest";
import { SILENCE_MS, SILENCE_REPORT_MS } from "./link.ts";
import { Net, random, Source } from "./simulation.ts";
import { streamKey } from "./types.ts";

vi.setConfig({ testTimeout: 60_000 });

const CAMERA = { node: 1, stream: 0 };
const KEY = streamKey(1, 0);
/** Two ticks of the worker, and a picture's distance from the next: what a gap is measured in. */
const GRAIN_MS = 2 * 10 + 34;
const LATENCY_MS = 10;

/** 1 feeds 2 and 3; 2 feeds 4, 5 and 6; 3 stands by for 4 and 5, if `backups`, and 6 has a child, 7. */
function room(seed: number, backups: boolean, conditions = {}): { net: Net; source: Source } {
  const net = new Net(seed);
  const c = { latencyMs: LATENCY_MS, ...conditions };
  for (const [a, b] of [
    [1, 2],
    [1, 3],
    [2, 4],
    [2, 5],
    [2, 6],
    [3, 4],
    [3, 5],
    [3, 6],
    [6, 7],
  ] as const) {
    net.link(a, b, c);
  }
  for (const child of [2, 3]) net.edge(CAMERA, 1, child);
  for (const child of [4, 5, 6]) net.edge(CAMERA, 2, child);
  net.edge(CAMERA, 6, 7);
  if (backups) for (const child of [4, 5, 6]) net.backup(CAMERA, 3, child);
  return { net, source: new Source(net, 1) };
}

/** The longest time without a picture at a node, between two times. */
function gap(net: Net, node: number, from: number, to: number): number {
  const times = [from, ...(net.node(node).media.pictures.get(KEY) ?? []).filter((at) => at > from && at <= to), to];
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? from)));
}

function incoming(net: Net, node: number) {
  const found = net.node(node).transport.stats().incoming[0];
  if (!found) throw new Error("receives nothing");
  return found;
}

const feeds = (net: Net, node: number) =>
  net
    .node(node)
    .transport.stats()
    .outgoing.map(({ child }) => child);
/** Counts control messages of a kind that `from` sends `to` from now on. */
function counting(net: Net, from: number, to: number, kind: string): () => number {
  const channel = net.channel(from, to, 2);
  const send = channel.send.bind(channel);
  let count = 0;
  channel.send = (data) => {
    if (String(data).startsWith(`{"t":"${kind}"`)) count += 1;
    send(data);
  };
  return () => count;
}

const lost = (net: Net, node: number) => net.node(node).posted.filter((m) => m.type === "silent").length;
const readies = (net: Net, node: number) =>
  net.node(node).posted.flatMap((m) => (m.type === "ready" ? [m.parent] : []));

/** Each picture that counts (every other one is droppable) was decoded once, up to the last few. */
function expectWhole(net: Net, node: number, source: Source): void {
  const numbers = net.node(node).media.numbers(KEY, 0);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(numbers.filter((n) => n % 2 === 0)).toEqual(
    Array.from({ length: Math.ceil((source.numbers[0] ?? 0) / 2) }, (_, i) => 2 * i).slice((numbers[0] ?? 0) / 2),
  );
  const sound = net.node(node).media.audio.get(KEY) ?? [];
  expect(new Set(sound).size).toBe(sound.length);
}

function kill(net: Net, node: number, others: readonly number[], dead = true): void {
  for (const other of others) net.cut(node, other, dead);
}

describe("a killed interior node", () => {
  const run = (seed: number, backups: boolean, conditions = {}) => {
    const { net, source } = room(seed, backups, conditions);
    net.run(4000);
    const keys = source.keyFrames;
    const at = net.clock.now;
    kill(net, 2, [1, 4, 5, 6]);
    net.run(1500);
    const gaps = [4, 5, 6, 7].map((node) => gap(net, node, at, at + 1500));
    return { net, source, gaps, keys, at };
  };

  test("costs each child the detector's time and one round trip, and those below no more", () => {
    const { net, source, gaps, keys } = run(1, true);
    // Round-trip times without any variation: the detector's least.
    for (const one of gaps) expect(one).toBeLessThanOrEqual(SILENCE_MS + 2 * LATENCY_MS + GRAIN_MS);
    expect(run(1, false).gaps).toEqual([1500, 1500, 1500, 1500]);
    for (const node of [4, 5, 6]) {
      expect(incoming(net, node)).toMatchObject({ parent: 2, backup: 3, backupsTaken: 1 });
      expect(lost(net, node)).toBe(1);
    }
    expect(feeds(net, 3)).toEqual([4, 5, 6]);
    source.stopped = true;
    net.run(500);
    // What was on its way into the silence is in the backup's ring.
    for (const node of [4, 5, 6, 7]) expectWhole(net, node, source);
    expect(source.keyFrames).toBe(keys);
  });

  test("costs less than waiting for the server's order in the same seed, on links with loss too", () => {
    for (const seed of [2, 3, 4]) {
      const conditions = { loss: 0.02, latencyMs: 20 };
      const late = room(seed, false, conditions);
      late.net.run(4000);
      const at = late.net.clock.now;
      kill(late.net, 2, [1, 4, 5, 6]);
      // The report, and what the server takes to answer.
      late.net.run(SILENCE_MS + SILENCE_REPORT_MS + 40);
      for (const child of [4, 5, 6]) late.net.edge(CAMERA, 3, child);
      late.net.run(1500 - (late.net.clock.now - at));
      const { gaps } = run(seed, true, conditions);
      for (const [i, node] of [4, 5, 6, 7].entries()) {
        expect((gaps[i] ?? 0) + 300).toBeLessThan(gap(late.net, node, at, at + 1500));
      }
    }
  });

  test("is replaced by the backup by order without a second beginning", () => {
    const { net, source } = run(5, true);
    const before = incoming(net, 4).duplicates;
    const sent = () =>
      net
        .node(3)
        .transport.stats()
        .outgoing.find((o) => o.child === 4)?.framesSent ?? 0;
    const made = source.numbers[0] ?? 0;
    const had = sent();
    const takes = counting(net, 4, 3, "take");
    for (const child of [4, 5, 6]) net.edge(CAMERA, 3, child);
    net.run(1000);
    // One sending per picture and packet made meanwhile: nothing was replayed.
    expect(sent() - had).toBeLessThanOrEqual((source.numbers[0] ?? 0) - made + 50 + 2);
    expect(incoming(net, 4).duplicates).toBe(before);
    expect(takes()).toBe(0);
    expect(readies(net, 4)).toEqual([2, 3]);
    expect(incoming(net, 4)).toMatchObject({ parent: 3, backup: null, backupsTaken: 1 });
    expect(gap(net, 4, net.clock.now - 1000, net.clock.now)).toBeLessThanOrEqual(GRAIN_MS);
  });

  test("is replaced by somebody else by order, and the backup stands by again once that one has delivered", () => {
    const { net, source } = run(6, true);
    net.link(1, 4);
    const at = net.clock.now;
    net.edge(CAMERA, 1, 4);
    net.run(1000);
    expect(gap(net, 4, at, at + 1000)).toBeLessThanOrEqual(GRAIN_MS);
    expect(incoming(net, 4)).toMatchObject({ parent: 1, backup: null });
    expect(readies(net, 4)).toEqual([2, 1]);
    expect(feeds(net, 3)).toEqual([5, 6]);
    expect(net.node(3).transport.stats().counters.misplaced).toBe(0);
    source.stopped = true;
    net.run(500);
    expectWhole(net, 4, source);
  });

  test("is survived without the server: the child stays with its backup, and its children with it", () => {
    const { net, source } = run(7, true);
    net.run(30_000);
    for (const node of [4, 5, 6]) {
      expect(incoming(net, node)).toMatchObject({ parent: 2, backup: 3, backupsTaken: 1 });
      expect(lost(net, node)).toBe(1);
    }
    source.stopped = true;
    net.run(500);
    for (const node of [4, 5, 6, 7]) expectWhole(net, node, source);
  });

  test("is survived on a bad link to the backup, which is asked for what is missing and for key frames", () => {
    const { net, source } = run(71, true);
    net.direction(3, 4).conditions.loss = 0.05;
    net.run(10_000);
    expect(incoming(net, 4).framesRepaired).toBeGreaterThan(5);
    net.direction(3, 4).conditions.loss = 1;
    net.run(2500);
    net.direction(3, 4).conditions.loss = 0;
    const keys = source.keyFrames;
    net.run(1500);
    expect(source.keyFrames).toBe(keys + 1);
    expect(net.node(4).media.numbers(KEY, 0).at(-1)).toBeGreaterThan((source.numbers[0] ?? 0) - 4);
  });

  test("is survived when the link to the backup is made anew meanwhile", () => {
    const { net } = run(72, true);
    net.link(3, 4);
    const at = net.clock.now;
    net.run(1000);
    expect(incoming(net, 4)).toMatchObject({ backup: 3, backupsTaken: 1 });
    expect(gap(net, 4, at, at + 1000)).toBeLessThanOrEqual(2 * LATENCY_MS + GRAIN_MS);
  });

  test("that comes back is the parent again, and the backup stands by again", () => {
    const { net, source } = run(8, true);
    kill(net, 2, [1, 4, 5, 6], false);
    net.run(3000);
    for (const node of [4, 5, 6]) {
      expect(incoming(net, node)).toMatchObject({ parent: 2, backup: null, backupsTaken: 1 });
    }
    expect(feeds(net, 3)).toEqual([]);
    source.stopped = true;
    net.run(500);
    for (const node of [4, 5, 6, 7]) expectWhole(net, node, source);
  });

  test("and a killed backup: whoever is named next is taken, and nobody twice", () => {
    const { net, source } = run(9, true);
    kill(net, 3, [1, 4, 5, 6]);
    net.run(1000);
    expect(incoming(net, 4)).toMatchObject({ backup: 3, backupsTaken: 1 });
    net.link(1, 4);
    net.backup(CAMERA, 1, 4);
    net.run(1000);
    expect(incoming(net, 4)).toMatchObject({ parent: 2, backup: 1, backupsTaken: 2 });
    net.edge(CAMERA, 1, 4);
    net.run(1000);
    source.stopped = true;
    net.run(500);
    expect(readies(net, 4)).toEqual([2, 1]);
    expectWhole(net, 4, source);
  });
});

describe("a backup is not told to begin", () => {
  test("while it is silent itself, but as soon as it is heard again", () => {
    const { net } = room(41, true);
    net.run(2000);
    kill(net, 3, [4]);
    net.run(500);
    kill(net, 2, [4]);
    net.run(2000);
    expect(incoming(net, 4).backupsTaken).toBe(0);
    kill(net, 3, [4], false);
    net.run(500);
    expect(incoming(net, 4)).toMatchObject({ backup: 3, backupsTaken: 1 });
  });

  test("as such when it has just been named the parent", () => {
    const { net } = room(42, true);
    net.direction(3, 4).conditions.latencyMs = 150;
    net.run(2000);
    const takes = counting(net, 4, 3, "take");
    kill(net, 2, [4]);
    net.run(50);
    net.edge(CAMERA, 3, 4);
    net.run(1000);
    expect(takes()).toBe(1);
    expect(incoming(net, 4)).toMatchObject({ parent: 3, backupsTaken: 0 });
  });

  test("to stop when it was made the parent and another takes its place: that is the order's to say", () => {
    const { net } = room(43, true);
    net.run(2000);
    kill(net, 2, [4]);
    net.run(300);
    net.edge(CAMERA, 3, 4);
    net.link(1, 4);
    const drops = counting(net, 4, 3, "drop");
    net.edge(CAMERA, 1, 4);
    net.run(500);
    expect(readies(net, 4)).toEqual([2, 3, 1]);
    expect(drops()).toBe(0);
  });

  test("for a parent whose link has yet to come up: that takes long where nothing is wrong", () => {
    const net = new Net(44);
    net.link(1, 3);
    net.link(3, 4);
    net.edge(CAMERA, 1, 3);
    net.edge(CAMERA, 2, 4);
    net.backup(CAMERA, 3, 4);
    new Source(net, 1);
    net.run(3000);
    expect(incoming(net, 4)).toMatchObject({ parent: 2, backupsTaken: 0 });
    net.link(1, 2);
    net.link(2, 4);
    net.edge(CAMERA, 1, 2);
    net.run(1000);
    expect(readies(net, 4)).toEqual([2]);
  });
});

describe("a hiccup", () => {
  test("of 200 ms opens the backup and lets it go, brings nothing twice and is not reported", () => {
    for (const seed of [11, 12, 13]) {
      const { net, source } = room(seed, true);
      net.run(4000);
      const at = net.clock.now;
      kill(net, 2, [4, 5, 6]);
      net.run(200);
      kill(net, 2, [4, 5, 6], false);
      net.run(2000);
      for (const node of [4, 5, 6]) {
        expect(incoming(net, node)).toMatchObject({ parent: 2, backup: null, backupsTaken: 1 });
        expect(lost(net, node)).toBe(0);
        expect(readies(net, node)).toEqual([2]);
        expect(gap(net, node, at, at + 2000)).toBeLessThanOrEqual(SILENCE_MS + 2 * LATENCY_MS + GRAIN_MS);
        expect(net.node(node).transport.stats().counters.stray).toBe(0);
      }
      expect(feeds(net, 3)).toEqual([]);
      expect(net.node(3).transport.stats().counters.misplaced).toBe(0);
      source.stopped = true;
      net.run(500);
      for (const node of [4, 5, 6, 7]) expectWhole(net, node, source);
    }
  });

  test("after a hiccup the next one is covered as well", () => {
    const { net, source } = room(14, true);
    net.run(3000);
    for (let i = 0; i < 5; i += 1) {
      kill(net, 2, [4]);
      net.run(250);
      kill(net, 2, [4], false);
      net.run(1750);
    }
    expect(incoming(net, 4)).toMatchObject({ backup: null, backupsTaken: 5 });
    expect(feeds(net, 3)).toEqual([]);
    source.stopped = true;
    net.run(500);
    expectWhole(net, 4, source);
  });
});

describe("orders", () => {
  test("an edge that stands by sends nothing until it is asked, however long, and takes no requests", () => {
    const { net } = room(21, true);
    net.run(10_000);
    expect(feeds(net, 3)).toEqual([]);
    expect(incoming(net, 4)).toMatchObject({ duplicates: 0, backupsTaken: 0 });
    net.channel(4, 3, 2).send('{"t":"key","s":16,"l":0}');
    net.channel(4, 3, 2).send('{"t":"need","s":16,"l":0,"n":[3]}');
    net.run(200);
    expect(net.node(3).transport.stats().counters.misplaced).toBe(2);
  });

  test("asked to begin without end, with and without a drop before, a stand-by begins a few times and then once a second", () => {
    for (const words of [["take"], ["drop", "take"]]) {
      const { net } = room(31, true);
      net.run(3000);
      const before = net.direction(3, 4).frames;
      for (let i = 0; i < 100; i += 1) {
        for (const t of words) net.channel(4, 3, 2).send(JSON.stringify({ t, s: KEY, have: [] }));
        net.run(20);
      }
      const sent = net.direction(3, 4).frames - before;
      // In 2 s some 100 packets of sound and 60 pictures are made; each beginning may bring as many pictures again.
      expect(sent).toBeGreaterThan(0);
      expect(sent).toBeLessThan(300);
    }
  });

  test("that nobody stands by any more, for a stream that has ended, bring nothing back", () => {
    const { net } = room(32, true);
    net.run(1000);
    const { transport } = net.node(4);
    transport.forgetStream(CAMERA);
    transport.backup(CAMERA, null);
    expect(transport.stats().incoming).toEqual([]);
  });

  test("said twice change nothing: neither stand-by before or after the take, nor feed", () => {
    const { net, source } = room(22, true);
    net.run(3000);
    for (const child of [4, 5, 6]) net.backup(CAMERA, 3, child);
    net.run(1000);
    expect(feeds(net, 3)).toEqual([]);
    kill(net, 2, [1, 4, 5, 6]);
    net.run(400);
    for (const child of [4, 5, 6]) net.backup(CAMERA, 3, child);
    net.run(400);
    expect(feeds(net, 3)).toEqual([4, 5, 6]);
    for (let i = 0; i < 2; i += 1) {
      for (const child of [4, 5, 6]) net.edge(CAMERA, 3, child);
      net.run(500);
    }
    expect(readies(net, 4)).toEqual([2, 3]);
    expect(incoming(net, 4).backupsTaken).toBe(1);
    source.stopped = true;
    net.run(500);
    for (const node of [4, 5, 6, 7]) expectWhole(net, node, source);
  });

  test("a take ahead of the order to stand by begins nothing; it is said again while it is needed", () => {
    const { net } = room(23, false);
    net.run(2000);
    net.node(4).transport.backup(CAMERA, 3);
    kill(net, 2, [4]);
    net.run(300);
    expect(feeds(net, 3)).toEqual([]);
    net.node(3).transport.standBy(CAMERA, 4, [0], 1_000_000);
    expect(feeds(net, 3)).toEqual([]);
    const takes = counting(net, 4, 3, "take");
    net.run(2000);
    expect(feeds(net, 3)).toEqual([4]);
    expect(incoming(net, 4)).toMatchObject({ backup: 3, backupsTaken: 1 });
    expect(takes()).toBe(1);

    net.channel(5, 3, 2).send('{"t":"take","s":16,"have":[]}');
    net.run(100);
    net.node(3).transport.standBy(CAMERA, 5, [0], 1_000_000);
    net.run(2000);
    expect(feeds(net, 3)).toEqual([4]);
  });

  test("an ordinary edge that is to stand by ends, begins with the next take, and cannot be dropped before", () => {
    const { net } = room(24, false);
    net.run(2000);
    net.channel(4, 2, 2).send('{"t":"drop","s":16}');
    net.run(200);
    expect(net.node(2).transport.stats().counters.misplaced).toBe(1);
    expect(feeds(net, 2)).toEqual([4, 5, 6]);
    net.edge(CAMERA, 3, 4);
    net.run(200);
    net.backup(CAMERA, 2, 4);
    net.run(1500);
    expect(feeds(net, 2)).toEqual([5, 6]);
    kill(net, 3, [4]);
    net.run(400);
    expect(feeds(net, 2)).toEqual([4, 5, 6]);
    expect(incoming(net, 4)).toMatchObject({ parent: 3, backup: 2, backupsTaken: 1 });
  });

  test("move a child to its backup, while its parent is well, without sending anything twice", () => {
    const { net, source } = room(26, true);
    net.run(6000);
    const keys = source.keyFrames;
    const takes = counting(net, 4, 3, "take");
    const before = incoming(net, 4).duplicates;
    net.edge(CAMERA, 3, 4);
    net.run(100);
    net.node(2).transport.release(CAMERA, 4);
    net.run(900);
    expect(takes()).toBe(1);
    expect(readies(net, 4)).toEqual([2, 3]);
    expect(source.keyFrames).toBe(keys);
    // What both sent while the one began and the other ended, and no replay of the ring.
    expect(incoming(net, 4).duplicates - before).toBeLessThan(20);
  });

  test("late pictures of a backup that was let go say nothing about the one that is needed now", () => {
    const { net } = room(28, true);
    net.direction(3, 4).conditions.latencyMs = 250;
    net.link(1, 4);
    net.run(3000);
    kill(net, 2, [4]);
    net.run(150);
    kill(net, 2, [4], false);
    net.run(60);
    net.backup(CAMERA, 1, 4);
    kill(net, 2, [4]);
    net.run(1500);
    expect(incoming(net, 4)).toMatchObject({ backup: 1, backupsTaken: 2 });
    expect(readies(net, 4)).toEqual([2]);
    expect(feeds(net, 1)).toContain(4);
  });

  test("name the layers: while a backup sends fewer than the parent, those below get what there is", () => {
    const net = new Net(29);
    for (const [a, b] of [
      [1, 2],
      [1, 3],
      [2, 6],
      [3, 6],
      [6, 7],
    ] as const) {
      net.link(a, b);
    }
    for (const child of [2, 3]) net.edge(CAMERA, 1, child, [0, 1]);
    net.edge(CAMERA, 2, 6, [0, 1]);
    net.edge(CAMERA, 6, 7, [1]);
    net.backup(CAMERA, 3, 6, [0]);
    new Source(net, 1, { layers: [150_000, 600_000] });
    const layers = () => net.node(6).transport.stats().outgoing[0]?.layers;
    net.run(3000);
    expect(layers()).toEqual([1]);
    kill(net, 2, [6]);
    net.run(450);
    expect(layers()).toEqual([0]);
    kill(net, 2, [6], false);
    net.run(1500);
    expect(layers()).toEqual([1]);
    // The same for a parent that says it ahead of its first picture.
    net.node(3).transport.release(CAMERA, 6);
    net.edge(CAMERA, 3, 6, [0]);
    net.run(450);
    expect(readies(net, 6)).toEqual([2, 3]);
    expect(layers()).toEqual([0]);
  });

  test("a backup is taken back while it is in use without ending what comes from it", () => {
    const { net } = room(25, true);
    net.run(2000);
    kill(net, 2, [4]);
    net.run(300);
    net.node(4).transport.backup(CAMERA, null);
    const at = net.clock.now;
    net.run(1000);
    expect(gap(net, 4, at, at + 1000)).toBeLessThanOrEqual(GRAIN_MS);
  });

  test("in any order and however often leave every receiver with the whole stream in the end", () => {
    for (let seed = 100; seed < 130; seed += 1) {
      const { net, source } = room(seed, true, { latencyMs: 5 });
      const chance = random(seed);
      net.link(1, 4);
      net.run(2000);
      for (let i = 0; i < 25; i += 1) {
        const child = 4 + Math.floor(chance() * 3);
        const of = (n: number) => [2, 3, ...(child === 4 ? [1] : [])][n] ?? 2;
        const node = of(Math.floor(chance() * (child === 4 ? 3 : 2)));
        const what = Math.floor(chance() * 5);
        if (what === 0) net.edge(CAMERA, node, child);
        else if (what === 1) net.backup(CAMERA, node, child);
        else if (what === 2) net.cut(of(0), child, chance() < 0.5);
        else if (what === 3) net.cut(of(1), child, chance() < 0.5);
        else net.node(node).transport.standBy(CAMERA, child, [0], 1_000_000);
        net.run(Math.floor(chance() * 400));
      }
      kill(net, 2, [4, 5, 6], false);
      kill(net, 3, [4, 5, 6], false);
      for (const child of [4, 5, 6]) {
        net.edge(CAMERA, 2, child);
        net.node(3).transport.release(CAMERA, child);
        net.node(1).transport.release(CAMERA, child === 4 ? 4 : 99);
      }
      net.run(3000);
      const at = net.clock.now;
      net.run(2000);
      source.stopped = true;
      net.run(500);
      for (const node of [4, 5, 6, 7]) {
        expect(gap(net, node, at, at + 2000), `seed ${seed}, node ${node}`).toBeLessThanOrEqual(GRAIN_MS);
        const numbers = net.node(node).media.numbers(KEY, 0);
        expect(new Set(numbers).size, `seed ${seed}, node ${node}`).toBe(numbers.length);
      }
      expect(feeds(net, 3).filter((child) => child >= 4)).toEqual([]);
    }
  });
});

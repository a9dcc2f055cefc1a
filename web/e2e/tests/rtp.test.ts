import type { Page } from "puppeteer-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { endBrowser, launchFirefox } from "../harness/browsers.ts";
import type { OrderLog, RoomState, TraceRecord } from "../harness/client.ts";
import { connectionsMade, rtpFrames, rtpOf, sum, watchConnections } from "../harness/connections.ts";
import { Emulator, SERVER } from "../harness/emulator.ts";
import { Participant, untilAllReceive } from "../harness/participant.ts";
import { Pulse } from "../harness/pulse.ts";
import { Scene } from "../harness/scene.ts";
import { GroveServer } from "../harness/server.ts";
import { mediaWorker } from "../harness/tap.ts";
import { sleep, until } from "../harness/wait.ts";

let scene: Scene;
let emulator: Emulator;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(async () => {
  await scene.clear();
  emulator?.close();
});
afterAll(() => scene?.end());

const WIDE = { width: 1280, height: 800 };

/** Somebody behind the emulator. */
function enter(link: Awaited<ReturnType<Scene["room"]>>, name: string, more: (page: Page) => Promise<void> = nothing) {
  const prepare = async (page: Page): Promise<void> => {
    await emulator.prepare(page, name);
    await more(page);
  };
  return scene.enter(link, name, { before: watchConnections, prepare, ...WIDE });
}
const nothing = async (): Promise<void> => {};

const parents = (state: RoomState | null): (number | null)[] => state?.stats?.incoming.map((i) => i.parent) ?? [];
const fedBy = (node: number) => (state: RoomState) =>
  (parents(state).length > 0 && parents(state).every((parent) => parent === node)) || `fed by ${parents(state)}`;
const id = (r: TraceRecord): string => `${r.stream}/${r.track}/${r.layer}/${r.generation}/${r.number}`;
const way = async (person: Participant): Promise<string | null | undefined> => (await person.state())?.others[0]?.way;

async function relayOf(person: Participant): Promise<number> {
  const relay = (await person.state())?.relays[0];
  if (relay === undefined) throw new Error("the server has no relay");
  return relay;
}

/** Media goes both ways by RTP, over so many connections so far, and no socket is open for it. */
async function expectRtp(person: Participant, connections: number): Promise<void> {
  const { out, came } = await rtpOf(person.page);
  expect(Math.min(sum(out, "audio", "packets"), sum(out, "video", "packets"), came.audio, came.video)).toBeGreaterThan(
    20,
  );
  expect(await connectionsMade(person.page)).toBe(connections);
  expect(await way(person)).not.toMatch(/UDP/);
}

interface WorkerScope {
  groveNonces: { used: Set<string>; twice: string[]; encoded: number };
}

/** Watches every nonce that the media worker seals with, and what it gives to encoders of its own. */
async function watchWorker(
  person: Participant,
): Promise<() => Promise<{ sealed: number; twice: string[]; encoded: number }>> {
  const worker = await mediaWorker(person.page);
  await worker.evaluate(() => {
    const keys = new Map<CryptoKey, number>();
    const seen = { used: new Set<string>(), twice: [] as string[], encoded: 0 };
    (globalThis as unknown as WorkerScope).groveNonces = seen;
    for (const { prototype } of [VideoEncoder, AudioEncoder]) {
      const encode = prototype.encode as (this: unknown, ...given: unknown[]) => void;
      prototype.encode = function (...given: unknown[]) {
        seen.encoded += 1;
        encode.apply(this, given);
      };
    }
    const encrypt = SubtleCrypto.prototype.encrypt;
    SubtleCrypto.prototype.encrypt = function (algorithm, key, data) {
      const iv = (algorithm as AesGcmParams).iv as Uint8Array;
      if (!keys.has(key)) keys.set(key, keys.size);
      const nonce = `${keys.get(key)}:${[...iv].join(".")}`;
      if (seen.used.has(nonce)) seen.twice.push(nonce);
      seen.used.add(nonce);
      return encrypt.call(this, algorithm, key, data);
    };
  });
  return () =>
    worker.evaluate(() => {
      const { used, twice, encoded } = (globalThis as unknown as WorkerScope).groveNonces;
      return { sealed: used.size, twice, encoded };
    });
}

test("two pages call through RTP both ways, in both layers, and every frame comes as it was sealed", async () => {
  emulator = new Emulator();
  const link = await scene.room({ kind: "relay" });
  const [ana, ben] = [await enter(link, "Ana"), await enter(link, "Ben")];
  await untilAllReceive([ana, ben]);
  expect(await ana.movingTiles()).toEqual(["Ben"]);
  expect(await ben.movingTiles()).toEqual(["Ana"]);
  const [relay, anaNode] = [await relayOf(ana), await ana.me()];
  for (const person of [ana, ben]) {
    await expectRtp(person, 1);
    expect((await person.state())?.stats?.links.map(({ peer }) => peer)).toEqual([relay]);
    await person.untilState("shows the higher layer", ({ stats }) => {
      const shown = stats?.incoming.map(({ layer }) => layer) ?? [];
      return shown.join() === "1" || `layers ${shown}`;
    });
  }
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(0);

  for (const person of [ana, ben]) await person.trace(true);
  await sleep(3000);
  // In this order: what had come has been sent.
  const [came, sent] = [await ben.trace(false), await ana.trace(false)];
  const made = new Map(sent.filter((r) => r.stream === anaNode * 16).map((r) => [id(r), r]));
  expect(new Set([...made.values()].filter((r) => r.track === 1).map((r) => r.layer))).toEqual(new Set([0, 1]));
  const both = came.filter((r) => made.has(id(r)));
  expect(both.filter((r) => r.track === 1).length).toBeGreaterThan(20);
  expect(both.filter((r) => r.track === 0).length).toBeGreaterThan(60);
  for (const frame of both) {
    expect(frame.from).toBe(relay);
    expect(frame.hash).toBe(made.get(id(frame))?.hash);
    expect(made.get(id(frame))?.sent).toEqual([{ to: relay, hash: frame.hash }]);
  }
});

test("one encoder feeds the relay by RTP and a peer by data channel, and both get the same bytes", async () => {
  emulator = new Emulator();
  for (const name of ["Ana", "Ben"]) emulator.setBoth(name, "Cho", { loss: 1 });
  const link = await scene.room({ kind: "auto" });
  const people = [];
  for (const name of ["Ana", "Ben", "Cho"]) people.push(await enter(link, name, impatient));
  const [ana, ben, cho] = people;
  if (!ana || !ben || !cho) throw new Error("three entered");
  await untilAllReceive(people, { ms: 60_000 });
  const [relay, anaNode, benNode] = [await relayOf(ana), await ana.me(), await ben.me()];
  await cho.untilState("is fed by the server", fedBy(relay));
  await ben.untilState("is fed by Ana", ({ stats }) => {
    const from = stats?.incoming.find(({ stream }) => stream.node === anaNode)?.parent;
    return from === anaNode || `fed by ${from}`;
  });
  for (const { way } of (await cho.state())?.others ?? []) {
    expect(way).toMatch(/through the server, because no direct connection between you came up\.$/);
  }

  for (const person of people) await person.trace(true);
  await sleep(3000);
  const [atBen, atCho, sent] = [await ben.trace(false), await cho.trace(false), await ana.trace(false)];
  const ofAna = (records: TraceRecord[]) => records.filter((r) => r.stream === anaNode * 16);
  const byRelay = new Map(ofAna(atCho).map((r) => [id(r), r]));
  const byAna = new Map(ofAna(sent).map((r) => [id(r), r]));
  // What was made before Ana's page took notes may come after the others' began to.
  const both = ofAna(atBen).filter((r) => byRelay.has(id(r)) && byAna.has(id(r)));
  expect(both.filter((r) => r.track === 1).length).toBeGreaterThan(20);
  expect(both.filter((r) => r.track === 0).length).toBeGreaterThan(60);
  for (const frame of both) {
    expect([frame.from, byRelay.get(id(frame))?.from]).toEqual([anaNode, relay]);
    expect(byRelay.get(id(frame))?.hash).toBe(frame.hash);
    const to = byAna.get(id(frame))?.sent.map((one) => one.to) ?? [];
    expect(to.sort((a, b) => a - b)).toEqual([benNode, relay]);
  }
});

/** Gives up direct connections after 2 s, not 15. */
const impatient = async (page: Page): Promise<void> => {
  await page.evaluateOnNewDocument(() => {
    const wait = globalThis.setTimeout;
    globalThis.setTimeout = ((run: () => void, ms?: number) =>
      wait(run, ms === 15_000 ? 2_000 : ms)) as typeof globalThis.setTimeout;
  });
};

test("muting, and the camera off and on again, work while the RTP sender encodes", async () => {
  emulator = new Emulator();
  const link = await scene.room({ kind: "relay" });
  const [ana, ben] = [await enter(link, "Ana"), await enter(link, "Ben")];
  await untilAllReceive([ana, ben]);
  const anaNode = await ana.me();
  const nonces = await watchWorker(ana);
  const packets = async (): Promise<number> => (await ana.state())?.stats?.own[0]?.audioPackets ?? 0;
  const encoded = async (): Promise<number> => sum((await rtpOf(ana.page)).out, "video", "encoded");

  const heard = (await ben.incoming(anaNode))?.audioRms ?? 0;
  await ana.room((room) => room.setMuted(true), null);
  await sleep(2500);
  const muted = await packets();
  const marks = (await ben.incoming(anaNode))?.audioPackets ?? 0;
  await sleep(2500);
  expect(await packets()).toBe(muted);
  // Marks say that she is there; a packet each 20 ms would be 125.
  const marked = ((await ben.incoming(anaNode))?.audioPackets ?? 0) - marks;
  expect(marked).toBeGreaterThan(3);
  expect(marked).toBeLessThan(40);
  expect((await ben.incoming(anaNode))?.audioRms).toBeLessThan(heard / 3);
  await ana.room((room) => room.setMuted(false), null);
  await untilAllReceive([ana, ben]);

  await ana.press("Camera");
  await ben.untilState("sees no picture", (state) => state.others[0]?.streams[0]?.video === false || "still there");
  await sleep(1500);
  const off = await encoded();
  await sleep(1000);
  expect(await encoded()).toBe(off);
  await ana.press("Camera");
  await untilAllReceive([ana, ben]);
  expect(await encoded()).toBeGreaterThan(off);
  for (const person of [ana, ben]) await expectRtp(person, 1);
  expect((await nonces()).twice).toEqual([]);
});

test("people who say and show nothing keep their links by RTP on a way that loses packets", async () => {
  emulator = new Emulator();
  const link = await scene.room({ kind: "relay" });
  const people = [await enter(link, "Ana"), await enter(link, "Ben")];
  await untilAllReceive(people);
  for (const person of people) {
    await person.room((room) => room.setMuted(true), null);
    await person.press("Camera");
  }
  await sleep(1500);
  for (const name of ["Ana", "Ben"]) emulator.setBoth(name, SERVER, { loss: 0.05, delayMs: 50 });
  await sleep(10_000);
  for (const name of ["Ana", "Ben"]) emulator.setBoth(name, SERVER, {});
  for (const person of people) {
    await person.room((room) => room.setMuted(false), null);
    await person.press("Camera");
  }
  await untilAllReceive(people);
  for (const person of people) await expectRtp(person, 1);
});

test("a link by RTP that breaks is made anew by RTP, and the call goes on", async () => {
  emulator = new Emulator();
  const link = await scene.room({ kind: "relay" });
  const [ana, ben] = [await enter(link, "Ana"), await enter(link, "Ben")];
  await untilAllReceive([ana, ben]);
  const nonces = await watchWorker(ana);
  emulator.setBoth("Ana", SERVER, { loss: 1 });
  await until("Ana begins another connection", async () => (await connectionsMade(ana.page)) === 2 || "no");
  emulator.setBoth("Ana", SERVER, {});
  await until("Ana sends on it", async () => {
    const made = await connectionsMade(ana.page);
    const { out } = await rtpOf(ana.page);
    return (made === 2 && sum(out, "video", "packets") > 20) || `${made} connections, ${JSON.stringify(out)}`;
  });
  await untilAllReceive([ana, ben]);
  await expectRtp(ana, 2);
  await expectRtp(ben, 1);
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(0);
  expect((await nonces()).twice).toEqual([]);
});

test("where no UDP gets through, a web connection takes over within seconds, and only that page says so", async () => {
  emulator = new Emulator();
  emulator.setBoth("Ana", SERVER, { loss: 1 });
  const link = await scene.room({ kind: "relay" });
  const [ana, ben] = [await enter(link, "Ana"), await enter(link, "Ben")];
  await untilAllReceive([ana, ben]);
  expect(emulator.counts("Ana", SERVER)).toMatchObject({ passed: 0 });
  expect(emulator.counts("Ana", SERVER).lost).toBeGreaterThan(0);
  expect(await way(ana)).toBe(
    "You reach Ben through the server, because this room sends everything through it. Your network lets no media connection (UDP) through to it, so all of it comes over an ordinary web connection, which stutters more when the network is bad.",
  );
  expect(await way(ben)).toBe("You reach Ana through the server, because this room sends everything through it.");
  expect(await ana.movingTiles()).toEqual(["Ben"]);

  // The next try of whoever knows is the socket at once: nobody waits again.
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(1);
  await until("Ana opens another socket", () => ana.orders().then((log) => relayLinks(log) > 1 || "no"));
  await untilAllReceive([ana, ben]);
  expect(await Promise.all([ana, ben].map(({ page }) => connectionsMade(page)))).toEqual([1, 1]);
  await expectRtp(ben, 1);
});

const relayLinks = (log: OrderLog): number =>
  log.filter(({ order }) => order.order === "link" && order.relay !== undefined).length;

test("a server that takes no RTP says so, and its pages open sockets at once", async () => {
  const deaf = await GroveServer.start(["--relay-udp", "off"]);
  try {
    const link = await deaf.createRoom({ kind: "relay" });
    const people = [];
    for (const name of ["Ana", "Ben"]) {
      people.push(await Participant.open(scene.browser, deaf, link, name, { before: watchConnections }));
    }
    await untilAllReceive(people);
    for (const person of people) {
      expect(await connectionsMade(person.page)).toBe(0);
      expect(await way(person)).toMatch(/The server takes no media connection \(UDP\) at present/);
    }
    for (const { page } of people) await page.browserContext().close();
  } finally {
    await deaf.stop();
  }
});

test("Firefox and Chromium call through RTP", async (context) => {
  let pulse: Pulse | null = null;
  let firefox: Awaited<ReturnType<typeof launchFirefox>> | null = null;
  try {
    try {
      pulse = await Pulse.start();
      firefox = await launchFirefox({ sound: pulse });
    } catch (error) {
      return context.skip(`Firefox did not start: ${error}`);
    }
    const link = await scene.room({ kind: "relay" });
    const ana = await scene.enter(link, "Ana", { before: watchConnections });
    const fox = await scene.enter(link, "Fox", { before: watchConnections }, firefox);
    await untilAllReceive([ana, fox], { ms: 40_000 });
    expect(await ana.movingTiles()).toEqual(["Fox"]);
    expect(await fox.movingTiles()).toEqual(["Ana"]);
    for (const person of [ana, fox]) await expectRtp(person, 1);
    expect(scene.server.gate.drop("/api/v1/relay")).toBe(0);
  } finally {
    await scene.clear();
    await endBrowser(firefox);
    await pulse?.stop();
  }
});

test("the encoder passes to RTP and back in a call: no nonce twice, no picture lost, nothing in clear", async () => {
  emulator = new Emulator();
  const link = await scene.room({ kind: "mesh" });
  const [ana, ben] = [await enter(link, "Ana"), await enter(link, "Ben")];
  await untilAllReceive([ana, ben]);
  const relay = await relayOf(ana);
  const [anaNode, benNode] = [await ana.me(), await ben.me()];
  const nonces = await watchWorker(ana);
  const before = await ben.incoming(anaNode);
  const twoWays: TraceRecord[] = [];
  const seen = new Set<string>();
  for (let round = 0; round < 2; round++) {
    const sentBefore = sum((await rtpOf(ana.page)).out, "video", "packets");
    emulator.record();
    await ana.trace(true);
    await ana.room((room) => room.setPolicy({ kind: "relay" }), null);
    await until("RTP carries pictures", async () => {
      const { out } = await rtpOf(ana.page);
      return sum(out, "video", "packets") > sentBefore + 60 || JSON.stringify(out);
    });
    const ssrcs = (await rtpOf(ana.page)).out.map(({ ssrc }) => ssrc);
    // In this order: what was sent has been sealed.
    const packets = emulator.recorded().filter(({ from, to }) => from === "Ana" && to === SERVER);
    const sealed = (await ana.trace(false)).filter((r) => r.stream === anaNode * 16 && !seen.has(id(r)));
    for (const one of sealed) seen.add(id(one));
    const bytes = packets.map((packet) => packet.bytes);
    expectSealed(rtpFrames(bytes, ssrcs), sealed, relay);
    // While one edge takes over from the other, a frame goes both ways: by RTP and by a data channel.
    twoWays.push(...sealed.filter(({ sent }) => [relay, benNode].every((node) => sent.some(({ to }) => to === node))));

    await ben.untilState("is fed by the server", fedBy(relay));
    await untilAllReceive([ana, ben]);
    // Longer than the hand-over of a layer that RTP does not send.
    await sleep(2500);
    const { encoded } = await nonces();
    await sleep(1000);
    expect((await nonces()).encoded).toBe(encoded);
    await ana.room((room) => room.setPolicy({ kind: "mesh" }), null);
    await ben.untilState("is fed by Ana", fedBy(anaNode));
    await untilAllReceive([ana, ben]);
  }
  const after = await ben.incoming(anaNode);
  expect((after?.framesLost ?? 0) - (before?.framesLost ?? 0)).toBe(0);
  const { sealed, twice } = await nonces();
  expect(twice).toEqual([]);
  expect(sealed).toBeGreaterThan(500);
  expect(twoWays.length).toBeGreaterThan(0);
  for (const { hash, sent } of twoWays) for (const one of sent) expect(one.hash).toBe(hash);
});

/** No frame left by RTP that was not sealed for it: a track that passes its transform by would make more of them. */
function expectSealed(left: Map<number, Set<number>>, sealed: readonly TraceRecord[], relay: number): void {
  // Fewer than are kept, so that none was forgotten.
  expect(sealed.length).toBeLessThan(600);
  const frames = [...left.values()].reduce((all, times) => all + times.size, 0);
  const carried = sealed.filter(({ sent }) => sent.some(({ to }) => to === relay)).length;
  expect(frames).toBeGreaterThan(20);
  expect(frames).toBeLessThanOrEqual(carried);
}

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { endBrowser, launchFirefox } from "../harness/browsers.ts";
import type { RoomState, TraceRecord } from "../harness/client.ts";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Pulse } from "../harness/pulse.ts";
import { passedBy, rtpDoor } from "../harness/rtp-relay.ts";
import { Scene } from "../harness/scene.ts";
import { mediaWorker } from "../harness/tap.ts";
import { sleep, until } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

const parents = (state: RoomState | null): (number | null)[] => state?.stats?.incoming.map((i) => i.parent) ?? [];
const fedBy = (node: number) => (state: RoomState) =>
  (parents(state).length > 0 && parents(state).every((parent) => parent === node)) || `fed by ${parents(state)}`;
const id = (r: TraceRecord): string => `${r.stream}/${r.track}/${r.layer}/${r.generation}/${r.number}`;

async function relayOf(person: Participant): Promise<number> {
  const relay = (await person.state())?.relays[0];
  if (relay === undefined) throw new Error("the server has no relay");
  return relay;
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

test("two pages call through RTP both ways, and every frame comes as it was sealed", async () => {
  const link = await scene.room({ kind: "relay" });
  const ana = await scene.enter(link, "Ana", { before: rtpDoor });
  const ben = await scene.enter(link, "Ben", { before: rtpDoor });
  await untilAllReceive([ana, ben]);
  expect(await ana.movingTiles()).toEqual(["Ben"]);
  expect(await ben.movingTiles()).toEqual(["Ana"]);
  const relay = await relayOf(ana);
  for (const person of [ana, ben]) {
    const { up, down, clear, connections } = await passedBy(person.page);
    expect([clear, connections]).toEqual([0, 1]);
    expect(Math.min(up.audio, up.video, down.audio, down.video)).toBeGreaterThan(20);
    const state = await person.state();
    expect(state?.stats?.links.map(({ peer }) => peer)).toEqual([relay]);
    expect(state?.others[0]?.way).not.toMatch(/UDP/);
  }

  for (const person of [ana, ben]) await person.trace(true);
  await sleep(3000);
  // In this order: what had come has been sent.
  const [came, sent] = [await ben.trace(false), await ana.trace(false)];
  const source = await ana.me();
  const made = new Map(sent.filter((r) => r.stream === source * 16).map((r) => [id(r), r]));
  const both = came.filter((r) => made.has(id(r)));
  expect(both.filter((r) => r.track === 1).length).toBeGreaterThan(20);
  expect(both.filter((r) => r.track === 0).length).toBeGreaterThan(60);
  for (const frame of both) {
    expect(frame.from).toBe(relay);
    expect(frame.hash).toBe(made.get(id(frame))?.hash);
    expect(made.get(id(frame))?.sent).toEqual([{ to: relay, hash: frame.hash }]);
  }
});

test("muting, and the camera off and on again, work while the RTP sender encodes", async () => {
  const link = await scene.room({ kind: "relay" });
  const ana = await scene.enter(link, "Ana", { before: rtpDoor });
  const ben = await scene.enter(link, "Ben", { before: rtpDoor });
  await untilAllReceive([ana, ben]);
  const anaNode = await ana.me();
  const nonces = await watchWorker(ana);
  const packets = async (): Promise<number> => (await ana.state())?.stats?.own[0]?.audioPackets ?? 0;

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
  const off = (await passedBy(ana.page)).up.video;
  await sleep(1000);
  expect((await passedBy(ana.page)).up.video).toBe(off);
  await ana.press("Camera");
  await untilAllReceive([ana, ben]);
  expect((await passedBy(ana.page)).up.video).toBeGreaterThan(off);
  for (const person of [ana, ben]) {
    const { clear, connections } = await passedBy(person.page);
    expect([clear, connections]).toEqual([0, 1]);
  }
  expect((await nonces()).twice).toEqual([]);
});

test("a link by RTP that breaks is made anew by RTP, and the call goes on", async () => {
  const link = await scene.room({ kind: "relay" });
  const ana = await scene.enter(link, "Ana", { before: rtpDoor });
  const ben = await scene.enter(link, "Ben", { before: rtpDoor });
  await untilAllReceive([ana, ben]);
  const nonces = await watchWorker(ana);
  // The doors stand on sockets, and end with them.
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(2);
  for (const person of [ana, ben]) {
    await until(
      `${person.name} has another connection`,
      async () => (await passedBy(person.page)).connections === 2 || "no",
    );
    const before = await passedBy(person.page);
    const sends = async () => (await passedBy(person.page)).up.video > before.up.video + 20 || "no";
    await until(`${person.name} sends on it`, sends);
  }
  await untilAllReceive([ana, ben]);
  for (const person of [ana, ben]) {
    expect((await passedBy(person.page)).clear).toBe(0);
    expect((await person.state())?.others[0]?.way).not.toMatch(/UDP/);
  }
  expect((await nonces()).twice).toEqual([]);
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
    const ana = await scene.enter(link, "Ana", { before: rtpDoor });
    const fox = await scene.enter(link, "Fox", { before: rtpDoor }, firefox);
    await untilAllReceive([ana, fox], { ms: 40_000 });
    expect(await ana.movingTiles()).toEqual(["Fox"]);
    expect(await fox.movingTiles()).toEqual(["Ana"]);
    for (const person of [ana, fox]) {
      const { up, down, clear, connections } = await passedBy(person.page);
      expect([clear, connections]).toEqual([0, 1]);
      expect(Math.min(up.audio, up.video, down.audio, down.video)).toBeGreaterThan(20);
    }
  } finally {
    await scene.clear();
    await endBrowser(firefox);
    await pulse?.stop();
  }
});

test("the encoder passes to RTP and back in a call: no nonce twice, no picture lost, and both kinds of child get the same bytes", async () => {
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana", { before: rtpDoor });
  const ben = await scene.enter(link, "Ben", { before: rtpDoor });
  await untilAllReceive([ana, ben]);
  const relay = await relayOf(ana);
  const [anaNode, benNode] = [await ana.me(), await ben.me()];
  const nonces = await watchWorker(ana);
  const before = await ben.incoming(anaNode);
  await ana.trace(true);
  for (let round = 0; round < 2; round++) {
    await ana.room((room) => room.setPolicy({ kind: "relay" }), null);
    await ben.untilState("is fed by the server", fedBy(relay));
    await until("RTP carries pictures", async () => (await passedBy(ana.page)).up.video > 20 * (round + 1) || "no");
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

  const made = (await ana.trace(false)).filter((r) => r.stream === anaNode * 16);
  for (const { hash, sent } of made) for (const one of sent) expect(one.hash).toBe(hash);
  // While one edge takes over from the other, a frame goes both ways: by RTP and by a data channel.
  const toBoth = made.filter(({ sent }) => [relay, benNode].every((node) => sent.some(({ to }) => to === node)));
  expect(toBoth.length).toBeGreaterThan(0);
});

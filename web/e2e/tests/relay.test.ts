import { afterAll, afterEach, beforeAll, expect, type TestContext, test } from "vitest";
import { violations } from "../harness/axe.ts";
import { endBrowser, launchFirefox } from "../harness/browsers.ts";
import type { Policy, RoomState, TraceRecord } from "../harness/client.ts";
import { connectionsMade, watchConnections } from "../harness/connections.ts";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Pulse } from "../harness/pulse.ts";
import { Scene } from "../harness/scene.ts";
import { sleep, until } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

const RELAY: Policy = { kind: "relay" };

const connections = (person: Participant): Promise<number> => connectionsMade(person.page);

/** Who feeds this page, one entry per stream that comes in. */
const parents = (state: RoomState | null): (number | null)[] => state?.stats?.incoming.map((i) => i.parent) ?? [];
const onlyFrom = (relay: number) => (state: RoomState) =>
  (parents(state).length > 0 && parents(state).every((parent) => parent === relay)) || `fed by ${parents(state)}`;

async function relayOf(person: Participant): Promise<number> {
  const relay = (await person.state())?.relays[0];
  if (relay === undefined) throw new Error("the server has no relay");
  return relay;
}

const id = (r: TraceRecord): string => `${r.stream}/${r.track}/${r.layer}/${r.generation}/${r.number}`;

test("two pages see and hear each other through the server alone, and every frame comes as it was sealed", async () => {
  const link = await scene.room(RELAY);
  const ana = await scene.enter(link, "Ana", { before: watchConnections });
  const ben = await scene.enter(link, "Ben", { before: watchConnections });
  await untilAllReceive([ana, ben]);
  expect(await ana.movingTiles()).toEqual(["Ben"]);
  expect(await ben.movingTiles()).toEqual(["Ana"]);

  const relay = await relayOf(ana);
  for (const person of [ana, ben]) {
    // To the relay, and none to each other.
    expect(await connections(person)).toBe(1);
    const state = await person.state();
    expect(state?.stats?.links.map(({ peer }) => peer)).toEqual([relay]);
    expect(parents(state)).toEqual([relay]);
    // The server is not among the people.
    expect(state?.others.length).toBe(1);
    expect(state?.others[0]?.way).toMatch(/through the server, because this room sends everything through it/);
  }

  for (const person of [ana, ben]) await person.trace(true);
  await sleep(2500);
  // In this order: what had come has been sent.
  const [came, sent] = [await ben.trace(false), await ana.trace(false)];
  const source = await ana.me();
  const made = new Map(sent.filter((r) => r.stream === source * 16).map((r) => [id(r), r]));
  const both = came.filter((r) => made.has(id(r)));
  expect(both.filter((r) => r.track === 1).length).toBeGreaterThan(25);
  expect(both.filter((r) => r.track === 0).length).toBeGreaterThan(60);
  for (const frame of both) {
    const original = made.get(id(frame));
    expect(frame.from).toBe(relay);
    expect(frame.hash).toBe(original?.hash);
    expect(original?.sent).toEqual([{ to: relay, hash: frame.hash }]);
  }
  expect(new Set([...made.values()].map(({ hash }) => hash)).size).toBe(made.size);
});

test("a cut web connection to the relay comes back by itself, and the call goes on", async () => {
  const link = await scene.room(RELAY);
  const people = await scene.enterAll(link, ["Ana", "Ben"], { before: hearNoAddress });
  await untilAllReceive(people);
  const count = async (person: Participant): Promise<number> =>
    (await person.orders()).filter(({ order }) => order.order === "link" && order.relay !== undefined).length;
  const before = await Promise.all(people.map(count));
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(2);
  for (const [i, person] of people.entries()) {
    await until(
      `${person.name} is told a new link`,
      async () => (await count(person)) > (before[i] ?? 0) || "the old one",
    );
  }
  await untilAllReceive(people);
  // Signalling was not touched: nobody left or came again.
  for (const person of people) expect((await person.state())?.connection).toEqual({ state: "joined" });
});

test("two whose networks cannot connect meet through the server, unless the room forbids it", async () => {
  const link = await scene.room({ kind: "auto" });
  const people = await scene.enterAll(link, ["Ana", "Ben"], { before: hearNoAddress });
  const [ana] = people;
  if (!ana) throw new Error("two entered");
  await untilAllReceive(people);
  const relay = await relayOf(ana);
  for (const person of people) {
    expect(parents(await person.state())).toEqual([relay]);
    expect((await person.state())?.others[0]?.way).toMatch(
      /through the server, because no direct connection between you came up/,
    );
  }

  await ana.room((room) => room.setPolicy({ kind: "auto" }, true), null);
  for (const person of people) {
    await person.untilState("is told that the room forbids it", ({ notices, neverRelay }) => {
      const told = notices.find((notice) => notice.id.startsWith("unreachable"));
      return (neverRelay && told?.text.includes("this room forbids the server's help")) || JSON.stringify(notices);
    });
  }
  await ana.room((room) => room.setPolicy({ kind: "auto" }, false), null);
  await untilAllReceive(people);
});

/** The page learns no address of anybody, as behind two networks that let nothing through; it gives up after 2 s, not 15. */
function hearNoAddress(): void {
  const wait = globalThis.setTimeout;
  globalThis.setTimeout = ((run: () => void, ms?: number) =>
    wait(run, ms === 15_000 ? 2_000 : ms)) as typeof globalThis.setTimeout;
  const prototype = RTCPeerConnection.prototype;
  prototype.addIceCandidate = () => Promise.resolve();
  const set = prototype.setRemoteDescription as (d: RTCSessionDescriptionInit) => Promise<void>;
  prototype.setRemoteDescription = function (this: RTCPeerConnection, description: RTCSessionDescriptionInit) {
    const lines = (description.sdp ?? "").split("\r\n").filter((line) => !line.startsWith("a=candidate:"));
    return set.call(this, { type: description.type, sdp: lines.join("\r\n") });
  } as typeof prototype.setRemoteDescription;
}

test("in `auto` the server carries the stream of whose uplink feeds only one, and nobody else's", async () => {
  const link = await scene.room({ kind: "auto" });
  // Three copies of a small camera and a microphone each, and one.
  const people = await scene.enterAll(link, ["Ana", "Ben", "Cho"], { smallCamera: true, uplink: 700_000 });
  const dan = await scene.enter(link, "Dan", { smallCamera: true, uplink: 250_000 });
  people.push(dan);
  await untilAllReceive(people);
  const relay = await relayOf(dan);
  const numbers = await Promise.all(people.map((p) => p.me()));
  const weak = await dan.me();
  for (const person of people) {
    await person.untilState("gets Dan's stream from the server and every other from whose it is", ({ stats }) => {
      const feeds = stats?.incoming.map(({ stream, parent }) => [stream.node, parent]) ?? [];
      const right = feeds.every(([node, parent]) => parent === (node === weak ? relay : node));
      return (feeds.length === 3 && right) || JSON.stringify(feeds);
    });
  }
  const sends = (await dan.state())?.stats?.outgoing.map(({ stream, child }) => [stream.node, child]);
  expect(sends).toEqual([[weak, relay]]);
  const pictures = async () => Promise.all(people.map(async (p) => (await p.state())?.stats?.incoming ?? []));
  const before = await pictures();
  await sleep(3000);
  for (const [i, streams] of (await pictures()).entries()) {
    expect(streams.map(({ stream }) => stream.node).sort()).toEqual(numbers.filter((n) => n !== numbers[i]).sort());
    for (const now of streams) {
      const then = before[i]?.find(({ stream }) => stream.node === now.stream.node);
      expect(now.framesDecoded).toBeGreaterThan((then?.framesDecoded ?? 0) + 10);
      expect(now.framesLost).toBe(then?.framesLost);
    }
  }
});

test("four in a call change from mesh to the server to a tree, and no picture is lost on the way", async () => {
  const link = await scene.room({ kind: "mesh" });
  const wide = { width: 1280, height: 800 };
  const people = [await scene.enter(link, "Ana", { smallCamera: true, before: watchConnections, ...wide })];
  people.push(...(await scene.enterAll(link, ["Ben", "Cho", "Dia"], { smallCamera: true })));
  await untilAllReceive(people);
  const [ana] = people;
  if (!ana) throw new Error("four entered");
  expect(await connections(ana)).toBeGreaterThanOrEqual(3);
  const relay = await relayOf(ana);
  const numbers = await Promise.all(people.map((p) => p.me()));

  const totals = async () =>
    Promise.all(people.map(async (p) => (await p.state())?.stats?.incoming.map((i) => ({ ...i })) ?? []));
  const before = await totals();

  await ana.room((room) => room.setPolicy({ kind: "relay" }), null);
  for (const person of people) await person.untilState("is fed by the server", onlyFrom(relay));
  await untilAllReceive(people);
  for (const person of people) {
    await person.untilState("sends once", (state) => {
      const own = state.stats?.outgoing.filter(({ stream }) => stream.node === state.me) ?? [];
      return (own.length === 1 && own[0]?.child === relay) || JSON.stringify(own.map(({ child }) => child));
    });
  }
  await look(ana);

  await ana.room((room) => room.setPolicy({ kind: "tree", branching: 2 }), null);
  for (const person of people) {
    await person.untilState("is fed by people", (state) => {
      const all = parents(state);
      return all.every((parent) => parent !== null && numbers.includes(parent)) || `fed by ${all}`;
    });
  }
  await untilAllReceive(people);

  const after = await totals();
  for (const [i, streams] of after.entries()) {
    expect(streams.length).toBe(3);
    for (const now of streams) {
      const then = before[i]?.find(({ stream }) => stream.node === now.stream.node);
      if (!then) throw new Error("every stream was there before");
      // Two moves, and nothing that never came.
      expect({ of: now.stream, at: numbers[i], lost: now.framesLost - then.framesLost }).toEqual({
        of: now.stream,
        at: numbers[i],
        lost: 0,
      });
      expect(now.framesDecoded).toBeGreaterThan(then.framesDecoded);
    }
  }
});

/** The panel of trees with the server in it, in both sizes, and a line from it in words. */
async function look(ana: Participant): Promise<void> {
  await ana.press("Trees");
  await until("the server stands in a tree", () =>
    ana.page.$(".tree-node.relay").then((found) => found !== null || "no"),
  );
  const chosen = await ana.page.evaluate(() => {
    const edges = [...document.querySelectorAll<SVGElement>(".tree-edge")];
    const mine = edges.find((edge) => edge.getAttribute("aria-label")?.startsWith("Server to You"));
    mine?.focus();
    return mine?.getAttribute("aria-label") ?? edges.map((edge) => edge.getAttribute("aria-label")).join("; ");
  });
  expect(chosen).toMatch(/^Server to You/);
  await until("the line is explained", async () => {
    const text = await ana.page.$eval(".tree:has(:focus) .tree-sentence", (e) => e.textContent ?? "");
    return /^You reach \w+ through the server, because /.test(text) || text;
  });
  for (const { width, height, theme } of [
    { width: 1280, height: 800, theme: "light" },
    { width: 390, height: 844, theme: "dark" },
  ]) {
    await ana.page.setViewport({ width, height });
    await ana.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
    await sleep(300);
    await ana.screenshot(`relay-trees-${width}-${theme}`);
    expect(await violations(ana.page)).toEqual([]);
    expect(await ana.page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
  }
  await ana.page.setViewport({ width: 1280, height: 800 });
  await ana.closePanel();
}

test("Chromium and Firefox see and hear each other through the server over web connections", async (context) => {
  let pulse: Pulse | null = null;
  let firefox: Awaited<ReturnType<typeof launchFirefox>> | null = null;
  try {
    try {
      pulse = await Pulse.start();
      firefox = await launchFirefox({ sound: pulse });
    } catch (error) {
      return skip(context, `Firefox did not start: ${error}`);
    }
    const link = await scene.room(RELAY);
    const ana = await scene.enter(link, "Ana", { before: hearNoAddress });
    const fox = await scene.enter(link, "Fox", { before: hearNoAddress }, firefox);
    await untilAllReceive([ana, fox], { ms: 40_000 });
    expect(await ana.movingTiles()).toEqual(["Fox"]);
    expect(await fox.movingTiles()).toEqual(["Ana"]);
    const relay = await relayOf(ana);
    for (const person of [ana, fox]) expect(parents(await person.state())).toEqual([relay]);
    expect(scene.server.gate.drop("/api/v1/relay")).toBe(2);
  } finally {
    await scene.clear();
    await endBrowser(firefox);
    await pulse?.stop();
  }
});

function skip(context: TestContext, why: string): void {
  context.skip(why);
}

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { RoomState, TraceRecord } from "../harness/client.ts";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { sleep } from "../harness/wait.ts";

const NAMES = ["Ana", "Ben", "Cho", "Dia", "Eva"];
const VIDEO = 1;
/** bit/s: enough for all that trees of two branches ask of one of five, so that nothing but strength moves anybody; and thrice. */
const WEAK = 10_000_000;
const STRONG = 30_000_000;

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

/** Five pages with small cameras in trees of two branches; the first has a microphone as well. All receive all. */
async function five(): Promise<Participant[]> {
  const link = await scene.room({ kind: "tree", branching: 2 });
  const people: Participant[] = [];
  for (const [i, name] of NAMES.entries()) {
    people.push(await scene.enter(link, name, { smallCamera: true, microphone: i === 0 }));
  }
  await untilAllReceive(people, { audio: false, ms: 60_000 });
  // Backups are named, and their links are up, a moment after the edges.
  await sleep(3000);
  return people;
}

/** How many others' streams a page passes on. */
async function passedOn(person: Participant): Promise<number> {
  const state = await person.state();
  return state?.stats?.outgoing.filter(({ stream }) => stream.node !== state.me).length ?? 0;
}

/** Who passes most on, but for the first, whose sound is listened to. */
async function interior(people: readonly Participant[]): Promise<Participant> {
  const counts = await Promise.all(people.slice(1).map(passedOn));
  const most = Math.max(...counts);
  expect(most).toBeGreaterThan(0);
  return people[1 + counts.indexOf(most)] as Participant;
}

interface Fed {
  person: Participant;
  /** Whose stream. */
  stream: number;
  taken: number;
  decoded: number;
}

/** Whom a node feeds, and with whose streams but its own. */
async function fedBy(people: readonly Participant[], node: number): Promise<Fed[]> {
  const fed: Fed[] = [];
  for (const person of people) {
    for (const { stream, parent, backupsTaken, framesDecoded } of (await person.state())?.stats?.incoming ?? []) {
      if (parent !== node || stream.node === node) continue;
      fed.push({ person, stream: stream.node, taken: backupsTaken, decoded: framesDecoded });
    }
  }
  return fed;
}

async function untilBacked(fed: readonly Fed[]): Promise<void> {
  for (const { person, stream, taken } of fed) {
    await person.untilState(`takes its backup for ${stream}`, (state) => {
      const now = state.stats?.incoming.find((one) => one.stream.node === stream);
      return (now?.backupsTaken ?? 0) > taken || `${now?.backupsTaken} taken, parent ${now?.parent}`;
    });
  }
}

const traceAll = (people: readonly Participant[]): Promise<TraceRecord[][]> =>
  Promise.all(people.map((person) => person.trace(true)));

interface Missed {
  /** `Ana at Ben: picture 7`: frames that count and did not come, between the first and the last that did. */
  frames: string[];
  /** Frames that were looked for. */
  of: number;
  /** By how much two pictures came further apart than they were made, at most, ms, and where: both pages share two cores. */
  freeze: { ms: number; where: string };
}

/** Compares what each page made with what the others got. Droppable pictures may be left out on purpose. */
async function missed(people: readonly Participant[]): Promise<Missed> {
  const traces = await Promise.all(people.map((person) => person.trace(false)));
  const result: Missed = { frames: [], of: 0, freeze: { ms: 0, where: "" } };
  for (const [s, sender] of people.entries()) {
    const stream = (await sender.me()) * 16;
    const sent = (traces[s] ?? []).filter((frame) => frame.stream === stream);
    const made = sent.filter(({ droppable }) => !droppable);
    const madeMs = new Map(sent.filter(({ track }) => track === VIDEO).map(({ number, atMs }) => [number, atMs]));
    for (const [r, receiver] of people.entries()) {
      if (r === s) continue;
      const where = `${sender.name} at ${receiver.name}`;
      const got = (traces[r] ?? []).filter((frame) => frame.stream === stream);
      for (const track of new Set(made.map((frame) => frame.track))) {
        const numbers = new Set(got.filter((frame) => frame.track === track).map(({ number }) => number));
        const first = Math.min(...numbers);
        const last = Math.max(...numbers);
        const due = made.filter((frame) => frame.track === track && frame.number >= first && frame.number <= last);
        result.of += due.length;
        const what = track === VIDEO ? "picture" : "sound";
        for (const { number } of due) if (!numbers.has(number)) result.frames.push(`${where}: ${what} ${number}`);
      }
      const pictures = got.filter(({ track, number }) => track === VIDEO && madeMs.has(number));
      for (const [i, { atMs, number }] of pictures.entries()) {
        const before = pictures[i - 1];
        if (!before) continue;
        const ms = atMs - before.atMs - ((madeMs.get(number) ?? 0) - (madeMs.get(before.number) ?? 0));
        if (ms > result.freeze.ms) result.freeze = { ms, where };
      }
    }
  }
  return result;
}

const say = (what: string, { frames, of, freeze }: Missed): void =>
  console.log(
    `${what}: ${frames.length} of ${of} frames missed, longest freeze beyond the sender's own ${Math.round(freeze.ms)} ms (${freeze.where})`,
  );

test("a page that leaves from the middle of the trees costs nobody a frame", async () => {
  const people = await five();
  const leaver = await interior(people);
  const gone = await leaver.me();
  const rest = people.filter((person) => person !== leaver);
  await traceAll(rest);
  await sleep(1500);
  await leaver.pressLeave();
  for (const person of rest) {
    await person.untilState("notices", (state) => state.others.every(({ node }) => node !== gone) || "still listed");
  }
  await sleep(2500);
  const result = await missed(rest);
  say("polite leave", result);
  expect(result.of).toBeGreaterThan(12 * 20);
  expect(result.frames).toEqual([]);
});

test("when a page in the middle of the trees is killed, all that it passed on comes from backups", async () => {
  const people = await five();
  const victim = await interior(people);
  const dead = await victim.me();
  const rest = people.filter((person) => person !== victim);
  const fed = await fedBy(rest, dead);
  expect(fed.length).toBeGreaterThan(0);
  await traceAll(rest);
  await sleep(1500);
  await victim.kill();
  await untilBacked(fed);
  await sleep(3000);
  const result = await missed(rest);
  say("killed", result);
  for (const { person, stream, decoded } of fed) {
    const now = await person.incoming(stream);
    expect(now?.parent, `${person.name} has another parent for ${stream} by order`).not.toBe(dead);
    expect(now?.backup).toBeNull();
    expect(now?.framesDecoded).toBeGreaterThan(decoded + 20);
  }
  expect(result.of).toBeGreaterThan(12 * 20);
  // Nothing was given up: what was under way to the victim is in the rings of others.
  expect(result.frames).toEqual([]);
});

test("when one is killed while the server is away, those below stay with their backups until it is back", async () => {
  const people = await five();
  const victim = await interior(people);
  const dead = await victim.me();
  const rest = people.filter((person) => person !== victim);
  const fed = await fedBy(rest, dead);
  expect(fed.length).toBeGreaterThan(0);
  scene.server.gate.cut();
  for (const person of rest) {
    await person.untilState("notices", ({ connection }) => connection.state === "reconnecting" || connection.state);
  }
  await traceAll(rest);
  await sleep(1500);
  await victim.kill();
  await untilBacked(fed);
  await sleep(4000);
  const result = await missed(rest);
  say("killed without the server", result);
  for (const { person, stream } of fed) {
    const now = await person.incoming(stream);
    expect(now?.parent).toBe(dead);
    expect(now?.backup).not.toBeNull();
  }
  expect(result.of).toBeGreaterThan(12 * 20);
  expect(result.frames).toEqual([]);

  scene.server.gate.mend();
  for (const person of rest) {
    await person.untilState("is back", ({ connection }) => connection.state === "joined" || connection.state, 40_000);
    await person.untilState(
      "has parents that live",
      ({ stats }) => stats?.incoming.every(({ parent, backup }) => parent !== dead && backup === null) ?? false,
      40_000,
    );
  }
  await untilAllReceive(rest, { audio: false });
});

test("who stops passing on is relieved by others, and nobody misses a frame", async () => {
  const people = await five();
  const helper = await interior(people);
  await helper.press("Trees");
  const before = await passedOn(helper);
  await traceAll(people);
  await sleep(1500);
  await helper.page.focus("input[role=switch]");
  await helper.page.keyboard.press("Space");
  await helper.untilState("passes nothing on", (state) => {
    const streams = state.stats?.outgoing.filter(({ stream }) => stream.node !== state.me).length;
    return (!state.sending.passesOn && streams === 0) || `${streams} of ${before} left`;
  });
  await sleep(2500);
  const result = await missed(people);
  say("switched off", result);
  expect(result.of).toBeGreaterThan(20 * 20);
  expect(result.frames).toEqual([]);
  expect(await helper.page.$eval(".passing", (panel) => panel.textContent)).toContain("You are passing on nothing.");
  await helper.page.keyboard.press("Space");
  await helper.untilState("is willing again", (state) => state.sending.passesOn);
});

type Trees = NonNullable<RoomState["trees"]>["trees"];

/** Who stands right below the root, of the trees of a picture, by their roots. */
const nearest = (trees: Trees): Map<number, number[]> =>
  new Map(
    trees.map(({ stream, edges }) => [stream.node, edges.filter(({ level }) => level === 1).map(({ child }) => child)]),
  );

/** `node` stands right below this root now and passes on, where `from` stood, who is further down. */
interface Place {
  root: number;
  from: number;
}

function takenBy(node: number, before: Trees, now: Trees): Place[] {
  const stood = nearest(before);
  return now.flatMap(({ stream, edges }) => {
    const near = edges.some(({ child, level }) => child === node && level === 1);
    if (!near || edges.every(({ parent }) => parent !== node)) return [];
    const from = stood.get(stream.node)?.filter((one) => edges.some(({ child, level }) => child === one && level > 1));
    return (from ?? []).map((one) => ({ root: stream.node, from: one }));
  });
}

/** The parents that a page was ordered to take a stream from, one after the other. */
async function parentsOf(person: Participant, root: number): Promise<number[]> {
  return (await person.orders()).flatMap(({ order }) =>
    order.order === "parent" && order.stream.node === root && order.parent !== null ? [order.parent] : [],
  );
}

test("a strong newcomer takes the places of weaker pages in the middle, and nobody misses a frame", async () => {
  const link = await scene.room({ kind: "tree", branching: 2 });
  const weak: Participant[] = [];
  for (const [i, name] of NAMES.slice(0, 4).entries()) {
    weak.push(await scene.enter(link, name, { smallCamera: true, microphone: i === 0, uplink: WEAK }));
  }
  await untilAllReceive(weak, { audio: false, ms: 60_000 });
  const [ana] = weak as [Participant];
  await ana.press("Trees");
  await ana.untilState("sees four trees", ({ trees }) => trees?.trees.length === 4 || `${trees?.trees.length}`);
  await sleep(3000);
  const before = (await ana.state())?.trees?.trees ?? [];

  await traceAll(weak);
  const newcomer = await scene.enter(link, "Eva", { smallCamera: true, microphone: false, uplink: STRONG });
  await newcomer.trace(true);
  const strong = await newcomer.me();
  const people = [...weak, newcomer];
  const cameMs = Date.now();
  let taken: Place[] = [];
  await ana.untilState("sees the newcomer take a place", ({ trees }) => {
    taken = takenBy(strong, before, trees?.trees ?? []);
    return taken.length > 0 || JSON.stringify(trees);
  });
  const tookMs = Date.now() - cameMs;
  await newcomer.untilState("passes others' streams on", ({ me, stats }) => {
    return stats?.outgoing.some(({ stream }) => stream.node !== me) ?? false;
  });
  await sleep(4000);
  const result = await missed(people);
  say(`${taken.length} places taken by a strong newcomer, seen after ${tookMs} ms`, result);
  for (const { root, from } of taken) {
    const parents = await parentsOf(newcomer, root);
    // It came in as a leaf: no place below the root was free.
    expect(parents[0]).not.toBe(root);
    expect(parents.at(-1)).toBe(root);
    const fed = before.some(({ stream, edges }) => stream.node === root && edges.some(({ parent }) => parent === from));
    expect(fed || parents[0] === from, `${from} passed on ${root}`).toBe(true);
  }
  expect(result.of).toBeGreaterThan(20 * 20);
  expect(result.frames).toEqual([]);
  await untilAllReceive(people, { audio: false });
});

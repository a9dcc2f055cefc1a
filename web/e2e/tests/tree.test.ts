import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Participant } from "../harness/participant.ts";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

const numberOf = (people: readonly Participant[]): Promise<number[]> => Promise.all(people.map((p) => p.me()));

test("in a tree of two branches nobody feeds more than two and all four see and hear all", async () => {
  const link = await scene.room({ kind: "tree", branching: 2 });
  const names = ["Ana", "Ben", "Cho", "Dia"];
  const people = await scene.enterAll(link, names);
  await untilAllReceive(people);
  const nodes = await numberOf(people);
  let forwarded = 0;
  for (const person of people) {
    expect(await person.movingTiles()).toEqual(names.filter((name) => name !== person.name));
    const outgoing = (await person.state())?.stats?.outgoing ?? [];
    for (const node of nodes) expect(outgoing.filter((o) => o.stream.node === node).length).toBeLessThanOrEqual(2);
    const me = await person.me();
    forwarded += outgoing.filter((o) => o.stream.node !== me).length;
  }
  // Four trees of three receivers each: two below the root, and one a level further down.
  expect(forwarded).toBe(4);
});

test("somebody who comes later receives everybody, and everybody receives them", async () => {
  const link = await scene.room({ kind: "tree", branching: 2 });
  const early = await scene.enterAll(link, ["Ana", "Ben", "Cho"]);
  await untilAllReceive(early);
  await sleep(2000);
  const late = await scene.enter(link, "Dia");
  await untilAllReceive([...early, late]);
  expect(await late.movingTiles()).toEqual(["Ana", "Ben", "Cho"]);
});

test("a camera turned off stops at everybody while the sound goes on, and comes back when turned on", async () => {
  const link = await scene.room({ kind: "tree", branching: 1 });
  const people = await scene.enterAll(link, ["Ana", "Ben", "Cho"]);
  const [ana, ben, cho] = people;
  if (!ana || !ben || !cho) throw new Error("three entered");
  await untilAllReceive(people);
  const node = await ana.me();
  await ana.press("Camera");
  await ana.untilState("has its camera off", (state) => state.sending.camera === "off");
  for (const other of [ben, cho]) {
    await other.untilState("knows it", (state) => state.others.find((o) => o.node === node)?.presence.camera === false);
    const before = await other.incoming(node);
    await other.untilState("still hears", (state) => {
      const now = state.stats?.incoming.find((i) => i.stream.node === node);
      return (now?.audioPackets ?? 0) > (before?.audioPackets ?? 0) + 100;
    });
    expect(await other.movingTiles()).not.toContain("Ana");
  }
  await ana.press("Camera");
  await untilAllReceive(people);
  expect(await cho.movingTiles()).toEqual(["Ana", "Ben"]);
});

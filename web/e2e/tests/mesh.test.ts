import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

test("in a mesh of four everybody sees everybody move and hears everybody, straight from the source", async () => {
  const link = await scene.room({ kind: "mesh" });
  const names = ["Ana", "Ben", "Cho", "Dia"];
  const people = await scene.enterAll(link, names, { width: 1280, height: 800 });
  await untilAllReceive(people);
  for (const person of people) {
    expect(await person.movingTiles()).toEqual(names.filter((name) => name !== person.name));
    const incoming = (await person.state())?.stats?.incoming ?? [];
    expect(incoming.map((i) => i.parent)).toEqual(incoming.map((i) => i.stream.node));
    expect(person.consoleErrors).toEqual([]);
  }
  await people[0]?.screenshot("call-of-four");
});

test("people in two rooms never see or hear one another", async () => {
  const [one, other] = [await scene.room({ kind: "mesh" }), await scene.room({ kind: "mesh" })];
  const [ana, ben] = await scene.enterAll(one, ["Ana", "Ben"]);
  const [cho, dia] = await scene.enterAll(other, ["Cho", "Dia"]);
  if (!ana || !ben || !cho || !dia) throw new Error("four entered");
  await Promise.all([untilAllReceive([ana, ben]), untilAllReceive([cho, dia])]);
  for (const [person, company] of [
    [ana, "Ben"],
    [ben, "Ana"],
    [cho, "Dia"],
    [dia, "Cho"],
  ] as const) {
    const state = await person.state();
    expect(state?.others.map((o) => o.name)).toEqual([company]);
    expect(state?.stats?.incoming.map((i) => i.stream.node)).toEqual(state?.others.map((o) => o.node));
    expect(state?.stats?.links.length).toBe(1);
    expect(await person.movingTiles()).toEqual([company]);
  }
});

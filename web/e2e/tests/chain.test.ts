import { afterAll, beforeAll, expect, test } from "vitest";
import { Scene } from "../harness/scene.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterAll(() => scene?.end());

test("through a chain of five pages the bytes of every frame are the same at the first and at the fourth hop", async () => {
  const link = await scene.room({ kind: "tree", branching: 1 });
  const ana = await scene.enter(link, "Ana", { tap: true });
  const rest = [];
  for (const name of ["Ben", "Cho", "Dia", "Eva"]) {
    rest.push(await scene.enter(link, name, { camera: false, microphone: false, tap: true }));
  }
  const source = await ana.me();
  for (const person of rest) await person.untilReceives([source], { ms: 40_000 });

  const people = [ana, ...rest];
  // Each page receives from the one before it.
  for (const [i, person] of rest.entries()) {
    expect((await person.incoming(source))?.parent).toBe(await people[i]?.me());
  }
  await Promise.all(people.map((p) => p.tap.drain()));
  await sleep(4000);
  const sent = await Promise.all(people.map(async (p) => (await p.tap.drain()).filter((s) => s.sender === source)));
  const first = new Map((sent[0] ?? []).map((s) => [s.frame, s]));
  const fourth = (sent[3] ?? []).filter((s) => first.has(s.frame));
  expect(fourth.filter((s) => s.video).length).toBeGreaterThan(40);
  expect(fourth.filter((s) => !s.video).length).toBeGreaterThan(100);
  for (const frame of fourth) expect(frame.digest).toBe(first.get(frame.frame)?.digest);
  // Distinct frames have distinct bytes, so that the comparison means something.
  expect(new Set([...first.values()].map((s) => s.digest)).size).toBe(first.size);
  // The end of the chain passes nothing on, and shows the picture.
  expect(sent[4]).toEqual([]);
  expect(await rest[3]?.movingTiles()).toEqual(["Ana"]);
});

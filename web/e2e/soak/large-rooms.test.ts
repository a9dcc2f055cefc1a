import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

test.for([
  [7, { kind: "mesh" }],
  [7, { kind: "tree", branching: 2 }],
  [10, { kind: "tree", branching: 2 }],
  [10, { kind: "auto" }],
] as const)("%i people see and hear one another in %o", async ([count, policy]) => {
  const link = await scene.room(policy);
  const names = Array.from({ length: count }, (_, i) => `P${i}`);
  const people = await scene.enterAll(link, names, { smallCamera: true });
  await untilAllReceive(people, { ms: 240_000 });
  for (const person of people) {
    const state = await person.state();
    expect(state?.others.length).toBe(count - 1);
    expect(state?.stats?.incoming.length).toBe(count - 1);
  }
  expect((await people[count - 1]?.movingTiles())?.length).toBeGreaterThan(0);
});

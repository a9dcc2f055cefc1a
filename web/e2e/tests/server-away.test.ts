import { afterAll, beforeAll, expect, test } from "vitest";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterAll(() => scene?.end());

test("media goes on while the server cannot be reached for ten seconds, and everybody comes back as who they were", async () => {
  const link = await scene.room({ kind: "tree", branching: 1 });
  const people = await scene.enterAll(link, ["Ana", "Ben", "Cho"]);
  await untilAllReceive(people);
  const nodes = await Promise.all(people.map((p) => p.me()));

  scene.server.gate.cut();
  const cutAt = Date.now();
  for (const person of people) {
    await person.untilState("notices", (state) => state.connection.state === "reconnecting" || state.connection.state);
  }
  const before = await Promise.all(people.map(async (p) => (await p.state())?.stats?.incoming ?? []));
  await sleep(Math.max(0, 10_000 - (Date.now() - cutAt)));
  for (const [i, person] of people.entries()) {
    const state = await person.state();
    expect(state?.connection.state).toBe("reconnecting");
    for (const now of state?.stats?.incoming ?? []) {
      const then = before[i]?.find((b) => b.stream.node === now.stream.node);
      // About eight seconds at 20 frames and 50 packets each: far more than was buffered.
      expect(now.framesDecoded - (then?.framesDecoded ?? 0)).toBeGreaterThan(60);
      expect(now.audioPackets - (then?.audioPackets ?? 0)).toBeGreaterThan(200);
    }
  }
  expect(await people[0]?.page.$eval("body", (body) => body.textContent)).toContain("server is away");

  scene.server.gate.mend();
  for (const person of people) {
    await person.untilState(
      "is back",
      (state) => state.connection.state === "joined" || state.connection.state,
      40_000,
    );
  }
  expect(scene.server.gate.refused).toBeGreaterThan(0);
  expect(await Promise.all(people.map((p) => p.me()))).toEqual(nodes);
  await untilAllReceive(people);
  // And the server knows them: somebody new receives all.
  const dia = await scene.enter(link, "Dia");
  await untilAllReceive([...people, dia]);
});

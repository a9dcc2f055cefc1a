import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

/** Four in a chain, the sound and picture of the first passing through the second and third. */
async function chain(): Promise<[Participant, Participant, Participant, Participant]> {
  const link = await scene.room({ kind: "tree", branching: 1 });
  const [ana, ben, cho, dia] = await scene.enterAll(link, ["Ana", "Ben", "Cho", "Dia"]);
  if (!ana || !ben || !cho || !dia) throw new Error("four entered");
  await untilAllReceive([ana, ben, cho, dia]);
  return [ana, ben, cho, dia];
}

/** Who passes Ana's stream on without being its end or its source, first in the chain. */
async function interior(people: readonly Participant[], source: number): Promise<Participant> {
  for (const person of people) {
    const state = await person.state();
    const fedBySource = state?.stats?.incoming.some((i) => i.stream.node === source && i.parent === source);
    if (fedBySource && state?.stats?.outgoing.some((o) => o.stream.node === source)) return person;
  }
  throw new Error("nobody passes the stream on");
}

test.for([
  ["closes its page", (person: Participant) => person.leave()],
  ["is killed", (person: Participant) => person.kill()],
] as const)("when a page in the middle of a tree %s those below it receive again", async ([, end]) => {
  const people = await chain();
  const source = await people[0].me();
  const middle = await interior(people, source);
  const gone = await middle.me();
  await end(middle);
  const rest = people.filter((p) => p !== middle);
  for (const person of rest) {
    await person.untilState("notices", (state) => state.others.every((o) => o.node !== gone) || "still listed", 30_000);
  }
  await untilAllReceive(rest);
  for (const person of rest) {
    const state = await person.state();
    expect(state?.others.length).toBe(2);
    expect(state?.stats?.incoming.map((i) => i.parent)).not.toContain(gone);
    expect(await person.movingTiles()).toEqual(rest.filter((p) => p !== person).map((p) => p.name));
  }
});

/**
 * Rooms larger than the other tests have, on two cores: everybody sends a camera of 160x120 at 15 pictures a second in
 * one layer, and a microphone into which its owner speaks for two seconds out of each sixteen, beginning when it is
 * opened. So they speak in turns, as people do. What ten cost while all talk at once: docs/design/client.md, Costs.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { speechLikeWav } from "../harness/speech.ts";

const directory = mkdtempSync(join(tmpdir(), "grove-soak-"));
let scene: Scene;
beforeAll(async () => {
  const file = join(directory, "speech.wav");
  writeFileSync(file, speechLikeWav(16, 2));
  scene = await Scene.start({ devices: { file } });
});
afterEach(() => scene.clear());
afterAll(async () => {
  await scene?.end();
  rmSync(directory, { recursive: true, force: true });
});

test.for([
  [7, { kind: "mesh" }],
  [7, { kind: "tree", branching: 2 }],
  [10, { kind: "mesh" }],
  [10, { kind: "tree", branching: 2 }],
  [10, { kind: "auto" }],
] as const)("%i people see and hear one another in %o", async ([count, policy]) => {
  const link = await scene.room(policy);
  const names = Array.from({ length: count }, (_, i) => `P${i}`);
  const people = await scene.enterAll(link, names, { smallCamera: true });
  // Of each stream at each of the others: pictures decoded, and sound that is not silence.
  await untilAllReceive(people, { ms: 240_000 });
  for (const person of people) {
    const state = await person.state();
    expect(state?.others.length).toBe(count - 1);
    expect(state?.stats?.incoming.length).toBe(count - 1);
    expect(state?.stats?.own.map(({ layers }) => layers.map(({ width, height }) => [width, height]))).toEqual([
      [[160, 120]],
    ]);
  }
  expect((await people[count - 1]?.movingTiles())?.length).toBeGreaterThan(0);
});

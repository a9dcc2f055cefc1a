import { afterAll, beforeAll, expect, test } from "vitest";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start({ throttleHidden: true });
});
afterAll(() => scene?.end());

test("a hidden tab that the browser may slow down keeps sending, hearing and passing on", async () => {
  const link = await scene.room({ kind: "tree", branching: 1 });
  const people = await scene.enterAll(link, ["Ana", "Ben", "Cho"]);
  const [ana, ben, cho] = people;
  if (!ana || !ben || !cho) throw new Error("three entered");
  await untilAllReceive(people);
  const hidden = ben;
  const cover = await hidden.page.browserContext().newPage();
  await cover.bringToFront();
  await sleep(500);
  expect(await hidden.page.evaluate(() => document.visibilityState)).toBe("hidden");
  await sleep(3000);
  const node = await hidden.me();
  const [seen, heard] = [await cho.incoming(node), await hidden.state()];
  await sleep(6000);
  const [later, now] = [await cho.incoming(node), await hidden.state()];
  // Six seconds of 20 pictures and 50 packets; half of it would be a slowed tab.
  expect((later?.framesDecoded ?? 0) - (seen?.framesDecoded ?? 0)).toBeGreaterThan(70);
  expect((later?.audioPackets ?? 0) - (seen?.audioPackets ?? 0)).toBeGreaterThan(200);
  for (const stream of now?.stats?.incoming ?? []) {
    const before = heard?.stats?.incoming.find((i) => i.stream.node === stream.stream.node);
    expect(stream.audioPackets - (before?.audioPackets ?? 0)).toBeGreaterThan(200);
    expect(stream.audioConcealed - (before?.audioConcealed ?? 0)).toBeLessThan(60);
  }
  await untilAllReceive(people);
});

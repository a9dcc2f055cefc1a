import { afterAll, beforeAll, expect, test } from "vitest";
import type { Participant } from "../harness/participant.ts";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import type { Forgery } from "../harness/tap.ts";
import { sleep, until } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterAll(() => scene?.end());

interface Counts {
  opened: number;
  /** Everything that was turned away, for whatever reason. */
  turnedAway: number;
  decoded: number;
}

async function counts(person: Participant, from: number): Promise<Counts> {
  const stats = (await person.state())?.stats;
  const incoming = stats?.incoming.filter((i) => i.stream.node === from) ?? [];
  const senders = stats?.senders ?? [];
  const of = senders.find((s) => s.node === from);
  return {
    opened: of?.opened ?? 0,
    turnedAway:
      senders.reduce((sum, s) => sum + s.refused + s.replayed + s.malformed, 0) +
      incoming.reduce((sum, i) => sum + i.duplicates, 0),
    decoded: incoming.reduce((sum, i) => sum + i.framesDecoded, 0),
  };
}

test("altered, replayed, truncated and made-up frames are counted and never opened, and the call goes on", async () => {
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana", { tap: true });
  const ben = await scene.enter(link, "Ben");
  await untilAllReceive([ana, ben]);
  const node = await ana.me();
  let forged = 0;
  for (const kind of ["altered", "replayed", "truncated", "stub", "noise"] satisfies Forgery[]) {
    const before = await counts(ben, node);
    const sent = await ana.tap.forge(kind, 100);
    expect(sent).toBeGreaterThanOrEqual(100);
    forged += sent;
    // What has no header of ours has no sender to be counted under: the worker counts it by itself.
    if (kind !== "stub" && kind !== "noise") {
      await until(
        `${kind} frames are counted`,
        async () => {
          const now = await counts(ben, node);
          return now.turnedAway >= before.turnedAway + sent || `${now.turnedAway - before.turnedAway} of ${sent}`;
        },
        { ms: 8000, dump: () => ben.dump() },
      );
    }
    await until(`the call goes on after ${kind} frames`, async () => {
      const now = await counts(ben, node);
      return now.decoded > before.decoded + 40 || `${now.decoded - before.decoded} decoded`;
    });
  }
  // Nothing was opened that Ana's client did not send (the tap's forgeries go past its counters). Statistics are a second
  // old at most: hers are read two seconds after his, which is far fewer frames than were forged.
  const { opened } = await counts(ben, node);
  await sleep(2000);
  const outgoing = (await ana.state())?.stats?.outgoing ?? [];
  const sent = outgoing.reduce((sum, edge) => sum + edge.framesSent + edge.framesResent, 0);
  expect(opened).toBeLessThanOrEqual(sent);
  expect(forged).toBeGreaterThan(3 * 3 * 70);
  expect(await ben.movingTiles()).toEqual(["Ana"]);
});

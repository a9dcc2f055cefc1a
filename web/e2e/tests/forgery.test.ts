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
  /** Turned away under the sender or the stream that the header names, for whatever reason. */
  turnedAway: number;
  /** Turned away because there is no header. */
  malformed: number;
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
    malformed: stats?.counters.malformed ?? 0,
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
  let malformed = 0;
  for (const kind of ["altered", "replayed", "truncated", "stub", "noise"] satisfies Forgery[]) {
    const before = await counts(ben, node);
    const sent = await ana.tap.forge(kind, 100);
    expect(sent).toBeGreaterThanOrEqual(100);
    forged += sent;
    // What has no header of ours names neither sender nor stream: it is counted for the links.
    const count = kind === "stub" || kind === "noise" ? "malformed" : "turnedAway";
    await until(
      `${kind} frames are counted`,
      async () => {
        const now = await counts(ben, node);
        return now[count] >= before[count] + sent || `${now[count] - before[count]} of ${sent}`;
      },
      { ms: 8000, dump: () => ben.dump() },
    );
    malformed += count === "malformed" ? sent : 0;
    await until(`the call goes on after ${kind} frames`, async () => {
      const now = await counts(ben, node);
      return now.decoded > before.decoded + 40 || `${now.decoded - before.decoded} decoded`;
    });
  }
  // Nothing was opened that Ana's client did not send (the tap's forgeries go past its counters). Statistics are a second
  // old at most: hers are read two seconds after his, which is far fewer frames than were forged.
  const { opened, malformed: counted } = await counts(ben, node);
  // Each stub and each bit of noise once, and nothing of what Ana's client sent.
  expect(counted).toBe(malformed);
  await sleep(2000);
  const outgoing = (await ana.state())?.stats?.outgoing ?? [];
  const sent = outgoing.reduce((sum, edge) => sum + edge.framesSent + edge.framesResent, 0);
  expect(opened).toBeLessThanOrEqual(sent);
  expect(forged).toBeGreaterThan(3 * 3 * 70);
  expect(await ben.movingTiles()).toEqual(["Ana"]);
});

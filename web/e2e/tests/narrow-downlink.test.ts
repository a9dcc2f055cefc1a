import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "puppeteer-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { IncomingStats, RoomState } from "../harness/client.ts";
import { patient, rtpOf, watchConnections } from "../harness/connections.ts";
import { Emulator, SERVER } from "../harness/emulator.ts";
import type { Participant } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { speechLikeWav } from "../harness/speech.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
let emulator: Emulator;
const directory = mkdtempSync(join(tmpdir(), "grove-downlink-"));
beforeAll(async () => {
  const file = join(directory, "speech.wav");
  writeFileSync(file, speechLikeWav(20));
  scene = await Scene.start({ devices: { file } });
});
afterEach(async () => {
  emulator.close();
  await scene.clear();
});
afterAll(async () => {
  await scene?.end();
  rmSync(directory, { recursive: true, force: true });
});

/** Carries sound and the lower layer, but not the higher one. */
const NARROW = { rateBps: 300_000, queueMs: 200, delayMs: 10 };

async function received(viewer: Participant, source: number): Promise<IncomingStats> {
  const stats = await viewer.incoming(source);
  if (!stats) throw new Error(`${viewer.name} receives nothing`);
  return stats;
}

const untilShows = (viewer: Participant, source: number, layer: number): Promise<void> =>
  viewer.untilState(
    `shows layer ${layer}`,
    ({ stats }) => {
      const shown = stats?.incoming.find(({ stream }) => stream.node === source)?.layer;
      return shown === layer || `layer ${shown}`;
    },
    60_000,
  );

/** Sound came since `before`, with at most one packet missing where there were so many. */
function expectSound(before: IncomingStats, now: IncomingStats, ofSoMany: number): void {
  const [came, concealed] = [now.audioPackets - before.audioPackets, now.audioConcealed - before.audioConcealed];
  expect(came).toBeGreaterThan(ofSoMany * concealed);
}

test("a page whose way from the relay is narrow gets the lower layer by RTP, keeps its sound, and costs nobody else", async () => {
  emulator = new Emulator(1);
  const link = await scene.room({ kind: "relay" });
  const people: Participant[] = [];
  for (const name of ["Ana", "Ben", "Cho"]) {
    const sends = name === "Ana";
    const prepare = async (page: Page): Promise<void> => {
      await emulator.prepare(page, name);
      await patient(page);
    };
    const size = { width: 1280, height: 800 };
    const options = { camera: sends, microphone: sends, before: watchConnections, prepare, ...size };
    people.push(await scene.enter(link, name, options));
  }
  const [ana, ben, cho] = people;
  if (!ana || !ben || !cho) throw new Error("three entered");
  const source = await ana.me();
  for (const viewer of [ben, cho]) {
    await viewer.untilReceives([source]);
    await untilShows(viewer, source, 1);
  }
  const full = (await ana.state())?.sending.layers;
  expect(full?.length).toBe(2);

  const [wide, aside] = [await received(ben, source), await received(cho, source)];
  emulator.set(SERVER, "Ben", NARROW);
  await untilShows(ben, source, 0);
  const fell = await received(ben, source);
  // While it fell, pictures of the higher layer stood before the sound.
  expectSound(wide, fell, 2);
  const layers: (number | null)[][] = [];
  let last = fell;
  for (let look = 0; look < 5; look++) {
    await sleep(2500);
    const now = await received(ben, source);
    // Of 125.
    expect(now.audioPackets - last.audioPackets).toBeGreaterThan(60);
    layers.push([now.layer, (await received(cho, source)).layer]);
    last = now;
  }
  expectSound(fell, last, 20);
  expect(last.framesDecoded).toBeGreaterThan(fell.framesDecoded + 25);
  // Now and then the relay tries whether the way is wide again; a try is over after a second or two, and the next one waits.
  // A machine that is too busy for its packets looks like a narrow way to everybody for a while.
  const most = (of: number, layer: number): boolean => layers.filter((both) => both[of] === layer).length >= 3;
  expect([most(0, 0), most(1, 1), layers]).toEqual([true, true, layers]);
  expect((await ana.state())?.sending.layers).toEqual(full);

  emulator.set(SERVER, "Ben", {});
  await untilShows(ben, source, 1);
  expectSound(last, await received(ben, source), 5);
  // Three times in a row, which is longer than a try lasts.
  let held = 0;
  const holds = ({ stats }: RoomState): boolean | string => {
    const shown = stats?.incoming.find(({ stream }) => stream.node === source)?.layer;
    held = shown === 1 ? held + 1 : 0;
    return held === 3 || `layer ${shown}`;
  };
  await ben.untilState("keeps the higher layer", holds, 60_000, 2000);
  const beside = await received(cho, source);
  expectSound(aside, beside, 20);
  expect(beside.framesLost).toBe(aside.framesLost);
  expect((await rtpOf(ben.page)).came.video).toBeGreaterThan(0);
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(0);
});

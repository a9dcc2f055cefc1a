import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { IncomingStats, WorkerStats } from "../harness/client.ts";
import { Emulator } from "../harness/emulator.ts";
import type { Participant } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { speechLikeWav } from "../harness/speech.ts";
import { sleep, until } from "../harness/wait.ts";

let scene: Scene;
let emulator: Emulator;
const directory = mkdtempSync(join(tmpdir(), "grove-narrow-"));
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

/** Ana shows herself to the others, each behind an emulated link. */
async function call(others: readonly string[]): Promise<{ ana: Participant; viewers: Participant[]; source: number }> {
  emulator = new Emulator(1);
  const link = await scene.room({ kind: "mesh" });
  const people: Participant[] = [];
  for (const name of ["Ana", ...others]) {
    people.push(
      await scene.enter(link, name, {
        camera: name === "Ana",
        width: 1280,
        height: 800,
        prepare: (page) => emulator.prepare(page, name),
      }),
    );
  }
  const [ana, ...viewers] = people;
  if (!ana) throw new Error("Ana entered");
  const source = await ana.me();
  for (const viewer of viewers) await viewer.untilReceives([source]);
  return { ana, viewers, source };
}

async function received(viewer: Participant, source: number): Promise<IncomingStats> {
  const stats = await viewer.incoming(source);
  if (!stats) throw new Error(`${viewer.name} receives nothing`);
  return stats;
}

/** Layers that Ana sends to a viewer at present. */
async function layersTo(ana: Participant, viewer: Participant): Promise<number[]> {
  const [state, child, me] = [await ana.state(), await viewer.me(), await ana.me()];
  return state?.stats?.outgoing.find((o) => o.child === child && o.stream.node === me)?.layers ?? [];
}

/** A bottleneck that carries sound and the lower layer, but not the higher one. */
const NARROW = { rateBps: 280_000, queueMs: 200, delayMs: 10 };
/** One that does not carry even that. */
const TIGHT = { rateBps: 160_000, queueMs: 200, delayMs: 10 };

test("a narrow link gets the lower layer and keeps its sound, and only when all are narrow the source makes less", async () => {
  const { ana, viewers, source } = await call(["Ben", "Cho"]);
  const [ben, cho] = viewers;
  if (!ben || !cho) throw new Error("three entered");
  for (const viewer of viewers)
    await viewer.untilState("gets the higher layer", ({ stats }) => topShown(stats, source));
  const full = (await ana.state())?.sending.layers ?? [];
  expect(full.length).toBe(2);

  emulator.set("Ana", "Ben", NARROW);
  await until("Ben gets the lower layer", async () => (await layersTo(ana, ben)).join() === "0" || "not yet");
  await ben.untilState("shows it", ({ stats }) => shown(stats, source)?.layer === 0);
  // The other one is not made to pay for it.
  expect((await ana.state())?.sending.layers).toEqual(full);
  const before = await received(ben, source);
  await sleep(3000);
  const after = await received(ben, source);
  expect(after.framesDecoded).toBeGreaterThan(before.framesDecoded);
  expect(after.audioPackets - before.audioPackets).toBeGreaterThan(2 * (after.audioConcealed - before.audioConcealed));
  expect((await received(cho, source)).layer).toBe(1);

  for (const name of ["Ben", "Cho"]) emulator.set("Ana", name, TIGHT);
  await ana.untilState("makes less", ({ sending }) => total(sending.layers) < total(full) || "all of it");
  expect(emulator.counts("Ana", "Ben").overflowed).toBeGreaterThan(0);

  for (const name of ["Ben", "Cho"]) emulator.set("Ana", name, {});
  await ana.untilState(
    "makes two layers",
    ({ sending }) => sending.layers.length === 2 || `${sending.layers.length}`,
    60_000,
  );
  for (const viewer of viewers) {
    await viewer.untilState("gets the higher layer again", ({ stats }) => topShown(stats, source), 60_000);
  }
});

test("two packets of a hundred lost at 50 ms cost neither the picture nor the sound, and hardly a key frame", async () => {
  const { viewers, source } = await call(["Ben"]);
  const [ben] = viewers;
  if (!ben) throw new Error("two entered");
  emulator.setBoth("Ana", "Ben", { loss: 0.02, delayMs: 25 });
  await sleep(1000);
  const before = await received(ben, source);
  await sleep(6000);
  const after = await received(ben, source);
  const grew = (name: "framesReceived" | "framesDecoded" | "audioPackets" | "audioConcealed" | "keyRequests"): number =>
    after[name] - before[name];
  expect(emulator.counts("Ana", "Ben").lost).toBeGreaterThan(0);
  expect(grew("framesDecoded")).toBeGreaterThan(0.8 * grew("framesReceived"));
  expect(grew("audioPackets")).toBeGreaterThan(5 * grew("audioConcealed"));
  expect(grew("keyRequests")).toBeLessThanOrEqual(3);
});

const shown = (stats: WorkerStats | null, node: number): IncomingStats | undefined =>
  stats?.incoming.find((i) => i.stream.node === node);

const topShown = (stats: WorkerStats | null, node: number): boolean | string =>
  shown(stats, node)?.layer === 1 || `layer ${shown(stats, node)?.layer}`;

const total = (layers: readonly { bps: number }[]): number => layers.reduce((sum, { bps }) => sum + bps, 0);

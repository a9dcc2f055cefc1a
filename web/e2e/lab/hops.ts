/** What one more browser between sender and receiver costs. See crates/lab/src/hops.rs. */
import { loadavg } from "node:os";
import type { Browser } from "puppeteer-core";
import type { RoomState, WorkerStats } from "../harness/client.ts";
import type { Participant } from "../harness/participant.ts";
import { cpuOfFamily } from "../harness/processes.ts";
import { Scene } from "../harness/scene.ts";
import { type Sent, Tap } from "../harness/tap.ts";
import { sleep } from "../harness/wait.ts";
import { type Like, type Picture, ReencodingChain } from "./reencoding.ts";
import type { Say } from "./say.ts";

export interface Options {
  seconds: number;
}

/**
 * Pages of each chain, and windows in which the sender's tile has the same size in both, wide enough for the larger layer: a
 * larger picture is dearer to draw, and with that the shorter chain.
 */
const CHAINS = [
  { pages: 2, viewport: { width: 539, height: 480 } },
  { pages: 5, viewport: { width: 1600, height: 900 } },
];
/** What a chain must show at its end, or its cost is not that of the picture: the fake camera gives 20 a second. */
const PICTURE: Picture = { width: 640, height: 360 };
const LEAST_FPS = 18;
/** Until encoders and bandwidth estimates have settled. */
const SETTLE_MS = 6000;

type Chain = (typeof CHAINS)[number];

export async function run(options: Options, say: Say): Promise<void> {
  const scene = await Scene.start();
  const load = [loadavg()[0]];
  try {
    say({ event: "condition", name: "browser", value: await scene.browser.version() });
    let done = 0;
    // Two chains of one length after one another, so that the machine is alike for both.
    for (const chain of CHAINS) {
      say({ event: "step", done: done++, of: 4, label: `${chain.pages} pages, forwarding` });
      const model = await forwarding(scene, chain, options.seconds, say);
      await scene.clear();
      say({ event: "step", done: done++, of: 4, label: `${chain.pages} pages, re-encoding` });
      await reencoding(scene, { ...chain, ...model }, options.seconds, say);
      load.push(loadavg()[0]);
    }
  } finally {
    say({ event: "condition", name: "load_average", value: load.map((one) => Math.round((one ?? 0) * 10) / 10) });
    await scene.end();
  }
}

/** Cores that the whole browser used for so long. Nothing else is asked of it meanwhile. */
async function coresDuring(browser: Browser, seconds: number): Promise<number> {
  const pid = browser.process()?.pid ?? 0;
  const [cpu, at] = [cpuOfFamily(pid), performance.now()];
  await sleep(seconds * 1000);
  return ((cpuOfFamily(pid) - cpu) * 1000) / (performance.now() - at);
}

/** Says the cost, if the chain's last page had the picture that the cost is about. */
function sayCores(say: Say, name: string, pages: number, cores: number, end: Picture & { fps: number }): void {
  const setting = `${pages} pages`;
  const words = `${end.width}x${end.height} at ${end.fps.toFixed(1)} pictures a second`;
  say({ event: "condition", name: `${name}_decoded_at_the_end_of_${pages}`, value: words });
  if (end.width === PICTURE.width && end.height === PICTURE.height && end.fps >= LEAST_FPS)
    say({ event: "samples", name, setting, values: [cores] });
  else {
    const message = `${name}, ${setting}: took ${cores.toFixed(3)} cores, but the last page decoded ${words}`;
    say({ event: "problem", message });
  }
}

/** Returns what the other chain is to imitate. */
async function forwarding(
  scene: Scene,
  { pages, viewport }: Chain,
  seconds: number,
  say: Say,
): Promise<Pick<Like, "bps" | "shown">> {
  const setting = `${pages} pages`;
  const link = await scene.room({ kind: "tree", branching: 1 });
  const source = await scene.enter(link, "P1", viewport);
  const me = await source.me();
  const people: Participant[] = [source];
  for (let i = 2; i <= pages; i++)
    people.push(await scene.enter(link, `P${i}`, { camera: false, microphone: false, ...viewport }));
  for (const person of people.slice(1)) await person.untilReceives([me], { ms: 60_000 });
  await sleep(SETTLE_MS);

  const last = people[people.length - 1] as Participant;
  const before = await decodedBy(last, me);
  const cores = await coresDuring(scene.browser, seconds);
  const after = await decodedBy(last, me);
  const fps = ((after.frames - before.frames) * 1000) / (after.atMs - before.atMs);
  const { decoded, shown } = await tile(last);
  sayCores(say, "cpu", pages, cores, { ...decoded, fps });

  const { sending } = (await source.state()) as RoomState;
  const sizes = sending.layers.map((l) => `${l.width}x${l.height}`);
  const states = await Promise.all(people.slice(0, -1).map((person) => person.state()));
  const carried = states.map((state) => state?.stats?.outgoing.find((o) => o.stream.node === me)?.layers ?? []);
  const words = carried.map((layers) => layers.map((layer) => sizes[layer]).join(" and "));
  say({ event: "condition", name: `layers_by_edge_of_${pages}`, value: words });
  say({ event: "condition", name: `shown_in_${pages}`, value: `${shown.width}x${shown.height}` });

  await delays(people, me, seconds, setting, say);
  return { bps: sending.layers.at(-1)?.bps ?? 0, shown };
}

/** Pictures of `sender` decoded until the last statistics, which the worker takes once a second. */
async function decodedBy(person: Participant, sender: number): Promise<{ atMs: number; frames: number }> {
  let stats: WorkerStats | null = null;
  await person.untilState("has statistics", (state) => {
    stats = state.stats;
    return stats !== null;
  });
  const { atMs, incoming } = stats as unknown as WorkerStats;
  return { atMs, frames: incoming.find((i) => i.stream.node === sender)?.framesDecoded ?? 0 };
}

/** The one tile with a picture of somebody else. */
function tile(person: Participant): Promise<{ decoded: Picture; shown: Picture }> {
  return person.page.evaluate(() => {
    const canvas = document.querySelector<HTMLCanvasElement>("article.tile canvas");
    const { width, height } = canvas?.getBoundingClientRect() ?? { width: 0, height: 0 };
    const decoded = { width: canvas?.width ?? 0, height: canvas?.height ?? 0 };
    return { decoded, shown: { width: Math.round(width), height: Math.round(height) } };
  });
}

/** The same frames' departures from each page that has a child, and whether the bytes are the same. */
async function delays(people: Participant[], me: number, seconds: number, setting: string, say: Say): Promise<void> {
  const taps = await Promise.all(people.map((person) => Tap.install(person.page)));
  await sleep(seconds * 1000);
  const sent = await Promise.all(taps.map(async (tap) => (await tap.drain()).filter((s) => s.sender === me)));
  const first = new Map((sent[0] ?? []).map((s): [string, Sent] => [s.frame, s]));
  for (const [hop, frames] of sent.entries()) {
    if (hop === 0) continue;
    const both = frames.filter((s) => first.has(s.frame));
    if (both.length === 0) continue;
    const video = both.filter((s) => s.video);
    const late = video.map((s) => s.atMs - (first.get(s.frame)?.atMs ?? 0));
    say({ event: "samples", name: "delay", setting: `hop ${hop}`, values: late });
    say({ event: "samples", name: "frames_compared", setting, values: [both.length] });
    const same = both.filter((s) => s.digest === first.get(s.frame)?.digest);
    say({ event: "samples", name: "frames_identical", setting, values: [same.length] });
  }
}

async function reencoding(scene: Scene, like: Like, seconds: number, say: Say): Promise<void> {
  const chain = await ReencodingChain.open(scene.browser, scene.server.url, like);
  try {
    await sleep(SETTLE_MS);
    const before = await chain.received();
    const cores = await coresDuring(scene.browser, seconds);
    const after = await chain.received();
    const [from, to] = [before.at(-1), after.at(-1)];
    if (!from || !to) throw new Error("the re-encoding chain has no end");
    const fps = ((to.framesDecoded - from.framesDecoded) * 1000) / (to.atMs - from.atMs);
    sayCores(say, "cpu_reencoding", like.pages, cores, { width: to.width, height: to.height, fps });
    if (to.audioEnergy <= from.audioEnergy) say({ event: "problem", message: "re-encoding: no sound at the end" });
    const qp = after.map((page, i) => {
      const [was, frames] = [before[i], page.framesDecoded - (before[i]?.framesDecoded ?? 0)];
      return Math.round((page.qp - (was?.qp ?? 0)) / Math.max(1, frames));
    });
    const words = `${to.codec}, at most ${like.bps} bit/s, QP at each page ${qp.join(", ")}`;
    say({ event: "condition", name: `reencoding_of_${like.pages}`, value: words });
    for (const [i, values] of (await chain.delays(seconds)).entries())
      say({ event: "samples", name: "delay_reencoding", setting: `hop ${i + 1}`, values });
  } finally {
    await chain.close();
  }
}

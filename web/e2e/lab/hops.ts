/** What one more browser between sender and receiver costs. See crates/lab/src/hops.rs. */
import type { Participant } from "../harness/participant.ts";
import { cpuOfFamily } from "../harness/processes.ts";
import { Scene } from "../harness/scene.ts";
import type { Sent } from "../harness/tap.ts";
import { sleep } from "../harness/wait.ts";
import { reencodingPerHop } from "./reencoding.ts";
import type { Say } from "./say.ts";

export interface Options {
  seconds: number;
}

export async function run(options: Options, say: Say): Promise<void> {
  const scene = await Scene.start();
  try {
    say({ event: "condition", name: "browser", value: await scene.browser.version() });
    let done = 0;
    for (const pages of [2, 5]) {
      say({ event: "step", done: done++, of: 3, label: `${pages} pages` });
      await chain(scene, pages, options.seconds, say);
      await scene.clear();
    }
    say({ event: "step", done, of: 3, label: "re-encoding, for comparison" });
    const perHop = await reencodingPerHop(scene.browser, scene.server.url, options.seconds);
    say({ event: "samples", name: "cpu_reencoding", setting: "per hop", values: [perHop.cores] });
    const { width, height, framesPerSecond } = perHop;
    const words = `${width}x${height} at ${framesPerSecond.toFixed(1)} frames per second after four hops`;
    say({ event: "condition", name: "reencoding_beside_it", value: words });
    const unlike = "a hop is a whole page with interface and sound here, and a pair of connections in one page there";
    say({ event: "condition", name: "not_alike", value: unlike });
  } finally {
    await scene.end();
  }
}

async function chain(scene: Scene, pages: number, seconds: number, say: Say): Promise<void> {
  const setting = `${pages} pages`;
  const link = await scene.room({ kind: "tree", branching: 1 });
  const source = await scene.enter(link, "P1", { tap: true, width: 1280, height: 800 });
  const me = await source.me();
  const people: Participant[] = [source];
  for (let i = 2; i <= pages; i++) {
    people.push(
      await scene.enter(link, `P${i}`, { camera: false, microphone: false, tap: true, width: 1280, height: 800 }),
    );
  }
  for (const person of people.slice(1)) await person.untilReceives([me], { ms: 60_000 });
  await sleep(3000);
  await Promise.all(people.map((p) => p.tap.drain()));

  const pid = scene.browser.process()?.pid ?? 0;
  const [cpu, at] = [cpuOfFamily(pid), Date.now()];
  await sleep(seconds * 1000);
  const cores = ((cpuOfFamily(pid) - cpu) * 1000) / (Date.now() - at);
  say({ event: "samples", name: "cpu", setting, values: [cores] });
  const layers = (await source.state())?.sending.layers.map((l) => `${l.width}x${l.height}`) ?? [];
  say({ event: "condition", name: "layers_sent", value: layers });

  const sent = await Promise.all(people.map(async (p) => (await p.tap.drain()).filter((s) => s.sender === me)));
  const first = new Map((sent[0] ?? []).map((s): [string, Sent] => [s.frame, s]));
  for (const [hop, frames] of sent.entries()) {
    if (hop === 0) continue;
    const both = frames.filter((s) => first.has(s.frame));
    if (both.length === 0) continue;
    const video = both.filter((s) => s.video);
    const delays = video.map((s) => s.atMs - (first.get(s.frame)?.atMs ?? 0));
    say({ event: "samples", name: "delay", setting: `hop ${hop}`, values: delays });
    say({ event: "samples", name: "frames_compared", setting, values: [both.length] });
    const same = both.filter((s) => s.digest === first.get(s.frame)?.digest);
    say({ event: "samples", name: "frames_identical", setting, values: [same.length] });
  }
}

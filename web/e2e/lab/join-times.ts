/**
 * How long a newcomer, a leave and a crash take to settle, with real browsers, and how a page's bandwidth moves
 * meanwhile. See crates/lab/src/join_times.rs.
 */
import type { Policy } from "../harness/client.ts";
import { type OpenOptions, type Participant, untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import type { RoomLink } from "../harness/server.ts";
import { sleep, until } from "../harness/wait.ts";
import type { Say } from "./say.ts";
import { type Ready, readies, watchPage } from "./watch.ts";

export interface Options {
  peers: number[];
  policies: ("mesh" | "tree")[];
  runs: number;
  video: boolean;
  seed: number;
}

const POLICIES: Record<"mesh" | "tree", Policy> = { mesh: { kind: "mesh" }, tree: { kind: "tree", branching: 2 } };

export async function run(options: Options, say: Say): Promise<void> {
  const scene = await Scene.start();
  try {
    say({ event: "condition", name: "browser", value: await scene.browser.version() });
    const settings = options.policies.flatMap((policy) => options.peers.map((peers) => ({ policy, peers })));
    // One more step each for the two runs of bandwidth.
    const of = settings.length * options.runs + 2;
    let done = 0;
    const step = (label: string): void => say({ event: "step", done: done++, of, label });
    for (const { policy, peers } of settings) {
      try {
        await new Experiment(scene, options, policy, peers, say).run(step);
      } catch (error) {
        say({ event: "problem", message: `${policy} ${peers}: ${firstLine(error)}` });
      }
      await scene.clear();
    }
    for (const video of [false, true]) {
      step(`bandwidth, ${video ? "video" : "sound"}`);
      await bandwidth(scene, video, say).catch((error: unknown) => {
        say({ event: "problem", message: `bandwidth: ${firstLine(error)}` });
      });
      await scene.clear();
    }
  } finally {
    await scene.end();
  }
}

const firstLine = (error: unknown): string => String(error).split("\n")[0] ?? "";

/** One number of people under one policy. */
class Experiment {
  readonly #scene: Scene;
  readonly #options: Options;
  readonly #policy: "mesh" | "tree";
  readonly #peers: number;
  readonly #say: Say;
  #people: Participant[] = [];
  #entered = 0;

  constructor(scene: Scene, options: Options, policy: "mesh" | "tree", peers: number, say: Say) {
    this.#scene = scene;
    this.#options = options;
    this.#policy = policy;
    this.#peers = peers;
    this.#say = say;
  }

  async run(step: (label: string) => void): Promise<void> {
    const link = await this.#scene.room(POLICIES[this.#policy]);
    const media = { camera: this.#options.video, before: watchPage };
    for (let i = 1; i < this.#peers; i++) this.#people.push(await this.#scene.enter(link, this.#name(), media));
    await this.#settle();
    for (let run = 0; run < this.#options.runs; run++) {
      step(`${this.#policy}, ${this.#peers} people, run ${run + 1}`);
      await this.#join(link);
      await this.#settle();
      // A mesh has no interior nodes: a departure concerns nobody else's streams.
      if (this.#policy === "tree") {
        for (const kind of ["leave", "crash"] as const) {
          await this.#depart(kind);
          await this.#settle();
          this.#people.push(await this.#scene.enter(link, this.#name(), media));
          await this.#settle();
        }
      }
      await this.#people.pop()?.leave();
      await this.#settle();
    }
  }

  #name(): string {
    this.#entered += 1;
    return `P${this.#entered}`;
  }

  #samples(name: string, values: number[]): void {
    this.#say({ event: "samples", name, setting: `${this.#policy} ${this.#peers}`, values });
  }

  /** Everybody here receives everybody here and nobody else is listed; then a moment for the machine to calm down. */
  async #settle(): Promise<void> {
    for (const person of this.#people) {
      const others = this.#people.length - 1;
      await person.untilState(
        `sees ${others} others`,
        (s) => s.others.length === others || `${s.others.length}`,
        30_000,
      );
    }
    await untilAllReceive(this.#people, { ms: 60_000, audio: false, video: this.#options.video });
    await sleep(1500);
  }

  /** Somebody who stands at the door with open devices presses Join. */
  async #join(link: RoomLink): Promise<void> {
    const newcomer = await this.#scene.enter(link, this.#name(), { preJoin: true, before: watchPage });
    await standAtTheDoor(newcomer, this.#options.video);
    await sleep(1000);
    const click = (): number => {
      const at = performance.timeOrigin + performance.now();
      document.querySelector<HTMLButtonElement>("form.join-form button[type=submit]")?.click();
      return at;
    };
    const start = await newcomer.page.evaluate(click);
    await newcomer.untilState("is in the room", (state) => state.connection.state === "joined");
    const me = await newcomer.me();
    const sources = await Promise.all(this.#people.map((p) => p.me()));
    const firstOf = (log: Ready[], source: number): number | undefined => log.find((r) => r.source === source)?.atMs;
    await until(
      "everybody receives",
      async () => {
        const own = await readies(newcomer);
        const missing = sources.filter((source) => firstOf(own, source) === undefined);
        for (const person of this.#people) if (firstOf(await readies(person), me) === undefined) missing.push(-1);
        return missing.length === 0 || `${missing.length} missing`;
      },
      { ms: 30_000, everyMs: 200 },
    );
    const own = await readies(newcomer);
    const received = sources.map((source) => (firstOf(own, source) ?? 0) - start);
    const existing = await Promise.all(this.#people.map(async (p) => (firstOf(await readies(p), me) ?? 0) - start));
    this.#samples("existing_each", existing);
    this.#samples("existing_last", [Math.max(...existing)]);
    this.#samples("newcomer_all", [Math.max(...received)]);
    this.#samples("first_frame", [Math.min(...received)]);
    this.#people.push(newcomer);
  }

  /** Somebody who passes streams on goes; each orphan's next parent delivers. */
  async #depart(kind: "leave" | "crash"): Promise<void> {
    const index = await busiest(this.#people);
    const leaver = this.#people[index];
    if (!leaver) throw new Error("nobody passes streams on");
    const gone = await leaver.me();
    // Orphans: those whose stream of a third person came through the leaver.
    const orphans: { person: Participant; source: number; before: number }[] = [];
    for (const person of this.#people) {
      if (person === leaver) continue;
      const before = (await readies(person)).length;
      for (const incoming of (await person.state())?.stats?.incoming ?? []) {
        if (incoming.parent === gone && incoming.stream.node !== gone) {
          orphans.push({ person, source: incoming.stream.node, before });
        }
      }
    }
    this.#people.splice(index, 1);
    const start = Date.now();
    if (kind === "leave") await leaver.pressLeave();
    else await leaver.kill();
    const times: number[] = [];
    for (const { person, source, before } of orphans) {
      const again = async (): Promise<Ready | undefined> =>
        (await readies(person)).slice(before).find((r) => r.source === source && r.parent !== gone);
      await until("an orphan receives again", async () => (await again()) !== undefined || "not yet", { ms: 20_000 });
      times.push(((await again())?.atMs ?? 0) - start);
    }
    this.#samples(`${kind}_each`, times);
  }
}

/** Microphone open, camera as asked, the button ready to be pressed. */
async function standAtTheDoor(person: Participant, video: boolean): Promise<void> {
  const want = { Microphone: true, Camera: video };
  for (const [label, on] of Object.entries(want)) {
    const selector = `.preview-controls button[aria-label="${label}"]`;
    await person.page.waitForSelector(selector, { timeout: 10_000 });
    await until(`the ${label} is ${on ? "on" : "off"}`, async () => {
      const now = await person.page.$eval(selector, (button) => ({
        pressed: button.getAttribute("aria-pressed") === "true",
        busy: (button as HTMLButtonElement).disabled,
      }));
      if (now.pressed === on && !now.busy) return true;
      if (!now.busy) await person.page.$eval(selector, (button) => (button as HTMLButtonElement).click());
      return JSON.stringify(now);
    });
  }
}

/** Index of the person who passes on most, never the first; -1 when nobody does. */
async function busiest(people: readonly Participant[]): Promise<number> {
  let best = -1;
  let most = 0;
  for (const [i, person] of people.entries()) {
    if (i === 0) continue;
    const state = await person.state();
    const passedOn = state?.stats?.outgoing.filter((o) => o.stream.node !== state.me).length ?? 0;
    if (passedOn > most) [best, most] = [i, passedOn];
  }
  return best;
}

/** What the first page sends and receives while four others join, the busiest leaves, and comes back. */
async function bandwidth(scene: Scene, video: boolean, say: Say): Promise<void> {
  const plot = `Bandwidth of one page over time, ${video ? "sound and video" : "sound"}, five people, tree(2)`;
  const link = await scene.room(POLICIES.tree);
  const media: OpenOptions = { camera: video };
  const first = await scene.enter(link, "First", media);
  const start = Date.now();
  const sent: [number, number][] = [];
  const received: [number, number][] = [];
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const links = (await first.state().catch(() => null))?.stats?.links ?? [];
      const at = (Date.now() - start) / 1000;
      sent.push([at, links.reduce((sum, l) => sum + l.sentBps, 0)]);
      received.push([at, links.reduce((sum, l) => sum + l.receivedBps, 0)]);
      await sleep(1000);
    }
  })();
  const mark = (word: string): void => say({ event: "mark", plot, at: (Date.now() - start) / 1000, word });
  try {
    const people = [first];
    for (const name of ["Second", "Third", "Fourth", "Fifth"]) {
      mark("join");
      people.push(await scene.enter(link, name, media));
      await sleep(4000);
    }
    const index = await busiest(people);
    const leaver = people[index];
    if (!leaver) throw new Error("nobody passes streams on");
    mark("interior node leaves");
    await leaver.pressLeave();
    await sleep(8000);
    mark("comes back");
    await scene.enter(link, leaver.name, media);
    await sleep(8000);
  } finally {
    watching = false;
    await watch;
  }
  say({ event: "series", plot, name: "sent", points: sent });
  say({ event: "series", plot, name: "received", points: received });
}

/**
 * Which options suit the channel that carries sound. Two people in a call, both with camera and microphone, behind an
 * emulated link; for each kind of channel a fresh call, which goes through all conditions. See
 * crates/lab/src/audio_channel.rs.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "puppeteer-core";
import { Arrivals, type Came } from "../harness/arrivals.ts";
import type { IncomingStats } from "../harness/client.ts";
import { Emulator } from "../harness/emulator.ts";
import type { Conditions } from "../harness/impairment.ts";
import type { Participant } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { speechLikeWav } from "../harness/speech.ts";
import type { Sent } from "../harness/tap.ts";
import { sleep } from "../harness/wait.ts";
import type { Say } from "./say.ts";

export interface Options {
  /** Of each setting. */
  seconds: number;
  runs: number;
  /** Percent. */
  loss: number[];
  rttMs: number[];
  /** Mean length of runs of lost packets. */
  burst: number;
  /** Kbit/s in both directions, beside the conditions above; 0: none. */
  narrow: number[];
  seed: number;
  channels: string[];
}

/** What `createDataChannel` is given for sound. */
const CHANNELS: Record<string, RTCDataChannelInit> = {
  "lifetime 100": { ordered: false, maxPacketLifeTime: 100 },
  "lifetime 250": { ordered: false, maxPacketLifeTime: 250 },
  "retransmits 0": { ordered: false, maxRetransmits: 0 },
  "retransmits 1": { ordered: false, maxRetransmits: 1 },
};

/** Time for playout and congestion control to take to other conditions. */
const SETTLE_MS = 3000;

interface Setting {
  name: string;
  conditions: Conditions;
}

export async function run(options: Options, say: Say): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "grove-audio-"));
  const file = join(directory, "speech.wav");
  writeFileSync(file, speechLikeWav(20));
  const scene = await Scene.start({ devices: { file } });
  try {
    say({ event: "condition", name: "browser", value: await scene.browser.version() });
    const settings = settingsOf(options);
    const of = options.runs * options.channels.length * settings.length;
    let done = 0;
    for (let round = 0; round < options.runs; round++) {
      for (const channel of options.channels) {
        const step = (name: string): void => say({ event: "step", done: done++, of, label: `${channel}, ${name}` });
        try {
          await call(scene, channel, settings, options, options.seed + round, step, say);
        } catch (error) {
          say({ event: "problem", message: `${channel}: ${String(error).split("\n")[0]}` });
        }
        await scene.clear();
      }
    }
  } finally {
    await scene.end();
    rmSync(directory, { recursive: true, force: true });
  }
}

function settingsOf({ loss, rttMs, burst, narrow }: Options): Setting[] {
  const settings: Setting[] = rttMs.flatMap((rtt) =>
    loss.map((percent) => ({
      name: `${percent} % ${rtt} ms`,
      conditions: { loss: percent / 100, burst, delayMs: rtt / 2 },
    })),
  );
  for (const kbps of narrow) {
    const conditions = { rateBps: kbps * 1000, queueMs: 200, delayMs: 25 };
    settings.push({ name: `${kbps} kbit/s 50 ms`, conditions });
  }
  return settings;
}

async function call(
  scene: Scene,
  channel: string,
  settings: readonly Setting[],
  options: Options,
  seed: number,
  step: (name: string) => void,
  say: Say,
): Promise<void> {
  const emulator = new Emulator(seed);
  const arrivals = [new Arrivals(), new Arrivals()];
  try {
    const link = await scene.room({ kind: "mesh" });
    const people: Participant[] = [];
    for (const [i, name] of ["Ana", "Ben"].entries()) {
      const prepare = async (page: Page): Promise<void> => {
        arrivals[i]?.prepare(page);
        await emulator.prepare(page, name);
        await page.evaluateOnNewDocument(useChannel, CHANNELS[channel] ?? {});
      };
      people.push(await scene.enter(link, name, { prepare, tap: true, width: 1280, height: 800 }));
    }
    const numbers = await Promise.all(people.map((p) => p.me()));
    for (const [i, person] of people.entries()) await person.untilReceives([numbers[1 - i] ?? 0], { ms: 60_000 });
    for (const { name, conditions } of settings) {
      step(name);
      emulator.setBoth("Ana", "Ben", conditions);
      await sleep(SETTLE_MS);
      await observe(people, numbers, arrivals, options.seconds * 1000, (measure, values) =>
        say({ event: "samples", name: measure, setting: `${channel}, ${name}`, values }),
      );
    }
  } finally {
    emulator.close();
  }
}

/** Both directions for a while. */
async function observe(
  people: readonly Participant[],
  numbers: readonly number[],
  arrivals: readonly Arrivals[],
  ms: number,
  samples: (measure: string, values: number[]) => void,
): Promise<void> {
  const stats = (): Promise<(IncomingStats | undefined)[]> =>
    Promise.all(people.map((p, i) => p.incoming(numbers[1 - i] ?? 0)));
  const before = await stats();
  await Promise.all([...people.map((p) => p.tap.drain()), ...arrivals.map((a) => a.drain())]);
  const targets: number[] = [];
  const end = Date.now() + ms;
  while (Date.now() < end) {
    await sleep(1000);
    for (const s of await stats()) if (s) targets.push(s.audioTargetMs);
  }
  const sent = await Promise.all(people.map((p) => p.tap.drain()));
  // What was sent last is still on its way.
  await sleep(500);
  const came = await Promise.all(arrivals.map((a) => a.drain()));
  const after = await stats();
  samples("target", targets);
  for (const i of [0, 1]) {
    const [old, now] = [before[i], after[i]];
    if (!old || !now) continue;
    const packets = now.audioPackets - old.audioPackets;
    const concealed = now.audioConcealed - old.audioConcealed;
    if (packets > 0) samples("concealed", [(100 * concealed) / Math.max(packets, concealed)]);
    samples("decoded", [((now.framesDecoded - old.framesDecoded) * 1000) / ms]);
    const from = numbers[1 - i];
    const sound = (sent[1 - i] ?? []).filter((s) => s.sender === from && !s.video);
    const arrived = new Map((came[i] ?? []).map((c) => [c.frame, c.atMs]));
    const transits = sound.flatMap((s) => {
      const at = arrived.get(s.frame);
      return at === undefined ? [] : [at - s.atMs];
    });
    // Nothing at all: the page had its channels before it was watched.
    if (transits.length === 0) continue;
    samples("arrival", transits);
    samples("lost", [100 * (1 - transits.length / sound.length)]);
    samples("missing", [100 * missing(sound, came[i] ?? [])]);
  }
}

/**
 * The share of packets that no frame brought in time to be decoded: each frame carries a copy of the packet before it, and
 * decoding goes only forwards. Unlike concealment it knows nothing of playout, so a busy machine changes it little.
 */
function missing(sent: readonly Sent[], came: readonly Came[]): number {
  const numberOf = (frame: string): number => Number(frame.split("/")[3]);
  const numbers = new Map(sent.map((s) => [s.frame, numberOf(s.frame)]));
  const decoded = new Set<number>();
  let last = -1;
  for (const { frame } of [...came].sort((a, b) => a.atMs - b.atMs)) {
    const number = numbers.get(frame);
    if (number === undefined || number <= last) continue;
    if (number - last > 1) decoded.add(number - 1);
    decoded.add(number);
    last = number;
  }
  return [...numbers.values()].filter((number) => !decoded.has(number)).length / numbers.size;
}

/** Runs in the page ahead of its own scripts. */
function useChannel(init: RTCDataChannelInit): void {
  const prototype = RTCPeerConnection.prototype;
  const create = prototype.createDataChannel;
  prototype.createDataChannel = function (label, options) {
    if (label !== "audio") return create.call(this, label, options);
    const { negotiated, id } = options ?? {};
    return create.call(this, label, { ...init, ...(negotiated ? { negotiated, id } : {}) } as RTCDataChannelInit);
  };
}

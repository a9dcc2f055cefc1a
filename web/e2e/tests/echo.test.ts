import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endBrowser, launchChromium, launchFirefox } from "../harness/browsers.ts";
import { Pulse } from "../harness/pulse.ts";
import { Scene } from "../harness/scene.ts";
import { speechLikeWav } from "../harness/speech.ts";
import { sleep, within } from "../harness/wait.ts";

// A talks (a file as microphone). B has a loudspeaker that leads straight into its microphone. What A hears of itself
// is B's echo: loud without echo cancellation, at least 20 dB less with it.

let scene: Scene;
let pulse: Pulse | null = null;
let notRun: string | null = null;
const dir = mkdtempSync(join(tmpdir(), "grove-echo-"));
beforeAll(async () => {
  const file = join(dir, "speech.wav");
  writeFileSync(file, speechLikeWav(20));
  scene = await Scene.start({ devices: { file } });
  try {
    pulse = await Pulse.start();
  } catch (error) {
    notRun = String(error);
  }
});
afterAll(async () => {
  await pulse?.stop();
  await scene?.end();
  rmSync(dir, { recursive: true, force: true });
});

interface Asked {
  groveAsked?: MediaTrackConstraints[];
}

/** Keeps what the page asks of the microphone, and switches off what would hide the echo by other means. */
function noOtherProcessing(): void {
  const devices = navigator.mediaDevices;
  if (!devices) return;
  const ask = devices.getUserMedia.bind(devices);
  const asked: MediaTrackConstraints[] = [];
  (globalThis as Asked).groveAsked = asked;
  devices.getUserMedia = (constraints) => {
    const audio = constraints?.audio;
    if (!audio) return ask(constraints);
    const wanted = typeof audio === "object" ? audio : {};
    asked.push(wanted);
    return ask({ ...constraints, audio: { ...wanted, noiseSuppression: false, autoGainControl: false } });
  };
}

/** The same, without echo cancellation: the control. */
function noProcessingAtAll(): void {
  const devices = navigator.mediaDevices;
  if (!devices) return;
  const ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (constraints) => {
    if (!constraints?.audio) return ask(constraints);
    return ask({
      ...constraints,
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  };
}

/** dB below full scale of what comes back to A over the last seconds, after B's canceller had time to adapt. */
async function echo(browser: Browser, before: () => void): Promise<{ db: number; asked: MediaTrackConstraints[] }> {
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana", { camera: false });
  const ben = await scene.enter(link, "Ben", { camera: false, before }, browser);
  const [a, b] = [await ana.me(), await ben.me()];
  await ben.untilState("hears", (state) => {
    const heard = state.stats?.incoming.find((i) => i.stream.node === a)?.audioRms ?? 0;
    return heard > 0.01 || `level ${heard}`;
  });
  await sleep(6000);
  let power = 0;
  const samples = 8;
  for (let i = 0; i < samples; i++) {
    power += ((await ana.incoming(b))?.audioRms ?? 0) ** 2 / samples;
    await sleep(500);
  }
  const read = (): MediaTrackConstraints[] => (globalThis as Asked).groveAsked ?? [];
  const asked = await within(5000, "constraints", ben.page.evaluate(read));
  await scene.clear();
  return { db: 10 * Math.log10(power + 1e-10), asked };
}

async function compare(browser: Browser): Promise<void> {
  try {
    const control = await echo(browser, noProcessingAtAll);
    const real = await echo(browser, noOtherProcessing);
    console.log(`echo: ${control.db.toFixed(1)} dB without cancellation, ${real.db.toFixed(1)} dB with it`);
    expect(real.asked.map((audio) => audio.echoCancellation)).toContain(true);
    expect(control.db).toBeGreaterThan(-45);
    expect(real.db).toBeLessThan(control.db - 20);
  } finally {
    await endBrowser(browser);
  }
}

test("what Chromium plays does not come back through its microphone", async (context) => {
  if (!pulse) return context.skip(`no audio server: ${notRun}`);
  await compare(await launchChromium({ devices: "real", sound: pulse }));
});

test("what Firefox plays does not come back through its microphone", async (context) => {
  if (!pulse) return context.skip(`no audio server: ${notRun}`);
  await compare(await launchFirefox({ sound: pulse, fakeDevices: false }));
});

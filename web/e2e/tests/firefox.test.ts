import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, expect, type TestContext, test } from "vitest";
import { endBrowser, launchFirefox } from "../harness/browsers.ts";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Pulse } from "../harness/pulse.ts";
import { Scene } from "../harness/scene.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
let pulse: Pulse | null = null;
let firefox: Browser | null = null;
let notRun: string | null = null;
let people: { ana: Participant; fox: Participant } | null = null;
beforeAll(async () => {
  scene = await Scene.start();
  try {
    pulse = await Pulse.start();
    firefox = await launchFirefox({ sound: pulse });
  } catch (error) {
    notRun = `Firefox did not start: ${error}`;
  }
});
afterAll(async () => {
  await endBrowser(firefox);
  await pulse?.stop();
  await scene?.end();
});

function skip(context: TestContext, reason: string): void {
  console.warn(`NOT RUN: ${reason}`);
  context.skip(reason);
}

test("Chromium and Firefox see and hear each other", async (context) => {
  if (!firefox) return skip(context, notRun ?? "");
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana");
  const fox = await scene.enter(link, "Fox", {}, firefox);
  await untilAllReceive([ana, fox], { ms: 40_000 });
  expect(await ana.movingTiles()).toEqual(["Fox"]);
  expect(await fox.movingTiles()).toEqual(["Ana"]);
  people = { ana, fox };
});

test("a hidden Firefox tab keeps sending and hearing", async (context) => {
  if (!people) return skip(context, notRun ?? "Firefox is not in the call");
  const { ana, fox } = people;
  const cover = await fox.page.browserContext().newPage();
  await cover.bringToFront();
  await sleep(1500);
  expect(await fox.page.evaluate(() => document.visibilityState)).toBe("hidden");
  const [seen, heard] = [await ana.incoming(await fox.me()), await fox.incoming(await ana.me())];
  await sleep(6000);
  const [later, now] = [await ana.incoming(await fox.me()), await fox.incoming(await ana.me())];
  // Six seconds of up to 30 pictures and 50 packets; frame callbacks alone would have given three pictures.
  expect((later?.framesDecoded ?? 0) - (seen?.framesDecoded ?? 0)).toBeGreaterThan(60);
  expect((later?.audioPackets ?? 0) - (seen?.audioPackets ?? 0)).toBeGreaterThan(200);
  expect((now?.audioPackets ?? 0) - (heard?.audioPackets ?? 0)).toBeGreaterThan(200);
  expect((now?.framesDecoded ?? 0) - (heard?.framesDecoded ?? 0)).toBeGreaterThan(60);
});

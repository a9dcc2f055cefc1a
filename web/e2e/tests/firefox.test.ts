import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endBrowser, launchFirefox } from "../harness/browsers.ts";
import { untilAllReceive } from "../harness/participant.ts";
import { Pulse } from "../harness/pulse.ts";
import { Scene } from "../harness/scene.ts";

let scene: Scene;
let pulse: Pulse | null = null;
let firefox: Browser | null = null;
let notRun: string | null = null;
beforeAll(async () => {
  scene = await Scene.start();
  try {
    pulse = await Pulse.start();
    firefox = await launchFirefox({ sound: pulse });
  } catch (error) {
    notRun = String(error);
  }
});
afterAll(async () => {
  await endBrowser(firefox);
  await pulse?.stop();
  await scene?.end();
});

test("Chromium and Firefox see and hear each other", async (context) => {
  if (!firefox) {
    console.warn(`NOT RUN: Firefox did not start: ${notRun}`);
    context.skip(`Firefox did not start: ${notRun}`);
    return;
  }
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana");
  const fox = await scene.enter(link, "Fox", {}, firefox);
  await untilAllReceive([ana, fox], { ms: 40_000 });
  expect(await ana.movingTiles()).toEqual(["Fox"]);
  expect(await fox.movingTiles()).toEqual(["Ana"]);
});

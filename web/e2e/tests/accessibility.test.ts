import { afterAll, beforeAll, expect, test } from "vitest";
import { violations } from "../harness/axe.ts";
import { Scene } from "../harness/scene.ts";
import type { RoomLink } from "../harness/server.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
let link: RoomLink;
beforeAll(async () => {
  scene = await Scene.start();
  link = await scene.room({ kind: "mesh" });
  // Company, so that there are tiles, marks and rows to look at.
  const ben = await scene.enter(link, "Ben");
  await ben.room((room) => room.sendChat("Hello"), null);
});
afterAll(() => scene?.end());

const SIZES = [
  { width: 1280, height: 800 },
  { width: 390, height: 844 },
];

for (const { width, height } of SIZES) {
  for (const dark of [false, true]) {
    const look = `${width}x${height} ${dark ? "dark" : "light"}`;
    test(`axe-core finds nothing on any page at ${look}`, async () => {
      const found: Record<string, string[]> = {};
      const ana = await scene.enter(link, "Ana", { preJoin: true, width, height, dark });
      const { page } = ana;
      await page.goto(`${scene.server.url}/`, { waitUntil: "load" });
      await page.waitForSelector("h1");
      await sleep(400);
      found.home = await violations(page);
      await ana.screenshot(`home-${width}-${dark ? "dark" : "light"}`);
      // Only the part behind the # differs from page to page for the browser: go there by a fresh load.
      await page.goto(`${scene.server.url}/r/${link.room}?name=Ana#${link.secret}`, { waitUntil: "load" });
      await page.waitForSelector("form.join-form");
      await sleep(400);
      found.preJoin = await violations(page);
      await ana.screenshot(`door-${width}-${dark ? "dark" : "light"}`);
      await page.click("form.join-form button[type=submit]");
      await ana.untilState("is in", (state) => state.connection.state === "joined" && state.others.length > 0);
      await sleep(1500);
      found.room = await violations(page);
      await ana.screenshot(`room-${width}-${dark ? "dark" : "light"}`);
      for (const panel of ["Chat", "People", "Trees"]) {
        await ana.press(panel);
        await sleep(1200);
        found[panel] = await violations(page);
        await ana.screenshot(`${panel.toLowerCase()}-${width}-${dark ? "dark" : "light"}`);
        await ana.closePanel();
      }
      // Nothing is wider than the window.
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
      await ana.leave();
      expect(found).toEqual(Object.fromEntries(Object.keys(found).map((where) => [where, []])));
    });
  }
}

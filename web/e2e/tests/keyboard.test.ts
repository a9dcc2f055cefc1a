import { afterAll, beforeAll, expect, test } from "vitest";
import type { Participant } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { until } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterAll(() => scene?.end());

/** What has the focus: its accessible words. */
const focused = (person: Participant): Promise<string> =>
  person.page.evaluate(() => {
    const it = document.activeElement;
    return it?.getAttribute("aria-label") ?? it?.textContent?.trim() ?? "";
  });

/** Tab until something with these words has the focus; says what was met on the way when it is never reached. */
async function tabTo(person: Participant, words: RegExp): Promise<void> {
  const met: string[] = [];
  for (let i = 0; i < 40; i++) {
    const now = await focused(person);
    if (words.test(now)) {
      const ring = await person.page.evaluate(() => document.activeElement?.matches(":focus-visible") ?? false);
      expect(ring, `the focus on ${now} can be seen`).toBe(true);
      return;
    }
    met.push(now.slice(0, 30));
    await person.page.keyboard.press("Tab");
  }
  throw new Error(`no way by Tab to ${words}; met ${met.join(" > ")}`);
}

test("a call from the home page to leaving needs no mouse", async () => {
  const link = await scene.room();
  const ana = await scene.enter(link, "Ana", { preJoin: true, width: 1280, height: 800 });
  const { page } = ana;
  await page.goto(`${scene.server.url}/`, { waitUntil: "load" });
  await page.waitForSelector("h1");
  await tabTo(ana, /^Start a room/);
  await page.keyboard.press("Enter");
  await page.waitForSelector("form.join-form input[type=text]");
  await page.waitForFunction(() => document.activeElement?.matches("form.join-form input[type=text]"), {
    timeout: 5000,
  });
  await page.keyboard.type("Ana");
  await page.keyboard.press("Enter");
  await ana.untilState("is in a room of its own", (state) => state.connection.state === "joined");

  const ben = await scene.enter(roomOf(page.url()), "Ben");
  await ana.untilState("has company", (state) => state.others.length === 1);
  await tabTo(ana, /^Microphone$/);
  const before = (await ana.state())?.sending.microphone;
  await page.keyboard.press("Enter");
  await ana.untilState("has switched the microphone", (state) => state.sending.microphone !== before);
  await tabTo(ana, /^Chat/);
  await page.keyboard.press("Enter");
  await until("the message field has the focus or is reached", async () => {
    if (await page.evaluate(() => document.activeElement instanceof HTMLTextAreaElement)) return true;
    await page.keyboard.press("Tab");
    return focused(ana);
  });
  await page.keyboard.type("Hello from the keyboard");
  await page.keyboard.press("Enter");
  await ben.untilState("reads it", (state) => state.chat.some((line) => line.text === "Hello from the keyboard"));
  await tabTo(ana, /^Leave$/);
  await page.keyboard.press("Enter");
  await ben.untilState("is alone", (state) => state.others.length === 0);
});

function roomOf(url: string): { room: string; secret: string } {
  const { pathname, hash } = new URL(url);
  return { room: pathname.split("/").at(-1) ?? "", secret: hash.slice(1) };
}

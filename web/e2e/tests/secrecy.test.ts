import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { untilAllReceive } from "../harness/participant.ts";
import { Scene } from "../harness/scene.ts";
import { newSecret } from "../harness/server.ts";
import { sleep } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

test.for([
  ["neither in the server's log nor in anything sent to it", "mesh"],
  ["not there either when the server passes on pictures and sound", "relay"],
] as const)("the room secret and what people write are %s", async ([, kind]) => {
  const link = await scene.room({ kind });
  const words = "mistletoe and 47 herons";
  const [ana, ben] = await scene.enterAll(link, ["Ana Zaqwsx", "Ben"]);
  if (!ana || !ben) throw new Error("two entered");
  await untilAllReceive([ana, ben]);
  await ana.room((room, text) => room.sendChat(text), words);
  await ben.untilState("reads it", (state) => state.chat.some((line) => line.text === words));
  await ana.untilState("has the receipt", (state) => state.chat.some((line) => line.text === words && line.delivered));

  const traffic = scene.server.gate.captured();
  // Names are known to the server: finding one shows that the search can find things, in both directions.
  expect(traffic.includes("Ana Zaqwsx")).toBe(true);
  expect(traffic.includes('"type":"join"')).toBe(true);
  expect(traffic.includes('"type":"chat"')).toBe(true);
  const secret = Buffer.from(link.secret, "base64url");
  for (const planted of [
    words,
    Buffer.from(words).toString("base64url").slice(0, 24),
    link.secret,
    secret.toString("base64").slice(0, 20),
    secret.toString("hex"),
    secret,
  ]) {
    expect(traffic.includes(planted), `traffic contains ${String(planted)}`).toBe(false);
    expect(Buffer.from(scene.server.log).includes(planted), `the log contains ${String(planted)}`).toBe(false);
  }
});

test("with the wrong secret nothing is decoded on either side, and both are told in words", async () => {
  const link = await scene.room({ kind: "mesh" });
  const ana = await scene.enter(link, "Ana");
  const wrong = await scene.enter({ room: link.room, secret: newSecret() }, "Wim");
  const [right, stranger] = [await ana.me(), await wrong.me()];
  await sleep(4000);
  for (const [person, other, name] of [
    [ana, stranger, "Wim"],
    [wrong, right, "Ana"],
  ] as const) {
    const state = await person.state();
    expect(state?.others.map((o) => [o.node, o.verified])).toEqual([[other, false]]);
    for (const incoming of state?.stats?.incoming ?? []) expect(incoming.framesDecoded).toBe(0);
    expect(state?.stats?.senders.find((s) => s.node === other)?.opened ?? 0).toBe(0);
    expect(await person.movingTiles()).toEqual([]);
    const words = await person.page.$eval("body", (body) => body.textContent);
    expect(words).toContain(name);
    expect(words).toMatch(/another key|different link|wrong link|not the right key/i);
  }
  await ana.room((room, text) => room.sendChat(text), "only for those with the key");
  await wrong.untilState("has an unreadable line", (state) => state.chat.some((line) => line.text === null));
});

import type { Browser } from "puppeteer-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endBrowser, launchChromium } from "../harness/browsers.ts";
import { patient, rtpOf, watchConnections } from "../harness/connections.ts";
import { freeUdpPort, Nat } from "../harness/nat.ts";
import { Participant, untilAllReceive } from "../harness/participant.ts";
import { GroveServer } from "../harness/server.ts";
import { sleep, until } from "../harness/wait.ts";

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => endBrowser(browser));

test("a relay behind a NAT is reached where its public address says, and elsewhere once that has changed", async () => {
  const port = await freeUdpPort();
  const nats = [await Nat.start(port), await Nat.start(port)];
  const [first, second] = nats;
  if (!first || !second) throw new Error("there are two");
  const server = await GroveServer.start(["--relay-udp", `127.0.0.1:${port}`]);
  const people: Participant[] = [];
  try {
    await server.reload(`[relay]\npublic_addresses = ["${first.outside}"]\n`);
    const link = await server.createRoom({ kind: "relay" });
    for (const name of ["Ana", "Ben"]) {
      const options = { before: watchConnections, prepare: patient, smallCamera: true };
      people.push(await Participant.open(browser, server, link, name, options));
    }
    await untilAllReceive(people);
    for (const { page } of people) {
      const { came } = await rtpOf(page);
      expect(Math.min(came.audio, came.video)).toBeGreaterThan(0);
    }
    expect(Math.min(first.passed.in, first.passed.out)).toBeGreaterThan(100);
    expect(second.passed).toEqual({ in: 0, out: 0 });

    await server.reload(`[relay]\npublic_addresses = ["${second.outside}"]\n`);
    await until("media goes the other way", () => second.passed.out > 100 || JSON.stringify(second.passed));
    await untilAllReceive(people);
    const before = { ...first.passed };
    await sleep(1500);
    expect(first.passed).toEqual(before);
    expect(server.gate.drop("/api/v1/relay")).toBe(0);
    for (const person of people) {
      for (const { way } of (await person.state())?.others ?? []) expect(way).not.toMatch(/UDP/);
      expect(person.consoleErrors).toEqual([]);
    }
  } finally {
    for (const { page } of people) await page.browserContext().close();
    await server.stop();
    for (const nat of nats) nat.close();
  }
});

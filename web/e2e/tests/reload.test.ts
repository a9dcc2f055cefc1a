import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { endBrowser, launchFirefox } from "../harness/browsers.ts";
import type { RelayLink } from "../harness/client.ts";
import {
  connectionStates,
  connectionsMade,
  longestStandstill,
  patient,
  watchConnections,
  watchStandstill,
} from "../harness/connections.ts";
import { type Participant, untilAllReceive } from "../harness/participant.ts";
import { Pulse } from "../harness/pulse.ts";
import { Scene } from "../harness/scene.ts";
import { until } from "../harness/wait.ts";

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
});
afterEach(() => scene.clear());
afterAll(() => scene?.end());

const RELAY = { kind: "relay" } as const;
const PAGE = { before: watchConnections, prepare: patient };
const SMALL = { ...PAGE, smallCamera: true };

/** The links to the relay that a page was ordered to make, oldest first. */
async function relayLinks(person: Participant): Promise<RelayLink[]> {
  const log = await person.orders();
  return log.flatMap(({ order }) => (order.order === "link" && order.relay ? [order.relay] : []));
}

/** The relay's one instance, as these pages know it. */
async function instanceOf(people: readonly Participant[]): Promise<string> {
  const links = await Promise.all(people.map(relayLinks));
  const [instance, ...others] = new Set(links.map((own) => own.at(-1)?.instance));
  expect(others).toEqual([]);
  return instance ?? "";
}

/** In a call through the relay by RTP the relay's settings change: everybody meets it again, and notices nothing else. */
async function expectRebuilt(people: readonly Participant[], egress: number): Promise<void> {
  await untilAllReceive(people, { ms: 40_000 });
  const numbers = await Promise.all(people.map((p) => p.me()));
  const links = await Promise.all(people.map(async (p) => (await relayLinks(p)).length));
  const made = await Promise.all(people.map(({ page }) => connectionsMade(page)));
  const before = await instanceOf(people);
  for (const { page } of people) await watchStandstill(page);

  await scene.server.reload(`[relay]\negress_bps = ${egress}\n`);
  for (const [i, person] of people.entries()) {
    await until(`${person.name} is told a new link`, async () => {
      const { length } = await relayLinks(person);
      return length > (links[i] ?? 0) || `${length} links`;
    });
  }
  await untilAllReceive(people);
  const gaps = await Promise.all(people.map(({ page }) => longestStandstill(page)));
  console.log(`no picture came for at most ${gaps.map((ms) => Math.round(ms)).join(", ")} ms`);

  const after = await instanceOf(people);
  expect(after).not.toBe(before);
  for (const [i, person] of people.entries()) {
    // The orders since then name the new start, and no connection was found broken before the next was made.
    const fresh = (await relayLinks(person)).slice(links[i]);
    expect(new Set(fresh.map(({ instance, by_rtp }) => `${instance} ${by_rtp}`))).toEqual(new Set([`${after} true`]));
    const states = await connectionStates(person.page);
    const next = states.flatMap((state, at) => (state === "new" ? [at] : []))[made[i] ?? 0];
    expect(next).toBeDefined();
    for (const broken of ["failed", "disconnected"]) expect(states.slice(0, next)).not.toContain(broken);
    const state = await person.state();
    expect([state?.me, state?.connection.state]).toEqual([numbers[i], "joined"]);
    const others = numbers.filter((_, j) => j !== i);
    expect(state?.others.map(({ node }) => node).sort((a, b) => a - b)).toEqual(others);
    for (const other of state?.others ?? []) expect(other.way).not.toMatch(/UDP/);
    expect(person.consoleErrors).toEqual([]);
  }
  // No socket stands in for RTP, and nobody has lost the server.
  expect(scene.server.gate.drop("/api/v1/relay")).toBe(0);
  expect(await scene.server.metric('grove_joins_total{result="resumed"}')).toBe(0);
}

test("a relay whose settings change is met again by everybody at once, and the call goes on", async () => {
  const link = await scene.room(RELAY);
  const people = await scene.enterAll(link, ["Ana", "Ben", "Cho"], SMALL);
  await expectRebuilt(people, 900_000_000);
  expect(scene.server.log).toMatch(/the relay has started anew keys=\["relay.egress_bps"\]/);
});

test("a configuration that says the same, or has a mistake, is noticed by nobody in a call", async () => {
  const relay = "[relay]\negress_bps = 700000000\n";
  await scene.server.reload(relay);
  const link = await scene.room(RELAY);
  const people = await scene.enterAll(link, ["Ana", "Ben"], SMALL);
  await untilAllReceive(people);
  const before = await instanceOf(people);
  const made = await Promise.all(people.map(({ page }) => connectionsMade(page)));
  await scene.server.reload(relay);
  await scene.server.reload(`${relay}[rooms]\nmax = 9\n`);
  await scene.server.reload("[relay]\negress = 1\n", "relay.egress: did you mean relay.egress_bps?");
  await untilAllReceive(people);
  expect(await instanceOf(people)).toBe(before);
  expect(await Promise.all(people.map(({ page }) => connectionsMade(page)))).toEqual(made);
});

test("Firefox meets the relay again as Chromium does", async (context) => {
  let pulse: Pulse | null = null;
  let firefox: Awaited<ReturnType<typeof launchFirefox>> | null = null;
  try {
    try {
      pulse = await Pulse.start();
      firefox = await launchFirefox({ sound: pulse });
    } catch (error) {
      return context.skip(`Firefox did not start: ${error}`);
    }
    const link = await scene.room(RELAY);
    const people = await scene.enterAll(link, ["Ana", "Ben"], SMALL);
    people.push(await scene.enter(link, "Fox", PAGE, firefox));
    await expectRebuilt(people, 800_000_000);
  } finally {
    await scene.clear();
    await endBrowser(firefox);
    await pulse?.stop();
  }
});

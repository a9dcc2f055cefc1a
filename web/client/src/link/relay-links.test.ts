import { beforeEach, expect, test } from "vitest";
import { RelayLinks, SPREAD_MS } from "./relay-links.ts";

const PEER = 65535;
const first = { instance: "one", token: "a" };

let said: string[] = [];
let links: RelayLinks;
beforeEach(() => {
  said = [];
  links = new RelayLinks("wss://host/api/v1/relay", {
    open: (peer, { url, token, instance, delayMs }) => said.push(`open ${peer} ${url} ${token} ${instance} ${delayMs}`),
    closed: (peer) => said.push(`closed ${peer}`),
    lost: (peer, why) => said.push(`lost ${peer} ${why}`),
    state: (peer, state) => said.push(`state ${peer} ${state}`),
    random: () => 0.5,
  });
});
const opened = (instance: string, token: string, delayMs: number) =>
  `open ${PEER} wss://host/api/v1/relay ${token} ${instance} ${delayMs}`;

test("an order opens once, at once, and a restatement of it changes nothing", () => {
  links.order(PEER, first);
  links.order(PEER, { ...first });
  links.news(PEER, "a", "up");
  links.order(PEER, first);
  expect(said).toEqual([`state ${PEER} connecting`, opened("one", "a", 0), `state ${PEER} up`]);
});

test.each([
  ["instance", { instance: "two", token: "a" }],
  ["token", { instance: "one", token: "b" }],
])("another %s closes the link and opens it again, spread in time", (_, second) => {
  links.order(PEER, first);
  links.news(PEER, "a", "up");
  said = [];
  links.order(PEER, second);
  const again = opened(second.instance, second.token, SPREAD_MS / 2);
  expect(said).toEqual([`closed ${PEER}`, `state ${PEER} connecting`, again]);
});

test.each([
  ["lost", "silent"],
  ["never", "never"],
] as const)("%s is told once as %s, and the next order tries again", (news, why) => {
  links.order(PEER, first);
  if (news === "lost") links.news(PEER, "a", "up");
  said = [];
  links.news(PEER, "a", news);
  links.news(PEER, "a", news);
  expect(said).toEqual([`state ${PEER} ${news}`, `closed ${PEER}`, `lost ${PEER} ${why}`]);
  said = [];
  links.order(PEER, { instance: "one", token: "a" });
  expect(said).toEqual([`state ${PEER} connecting`, opened("one", "a", SPREAD_MS / 2)]);
});

test("what is said of an earlier link does not touch the present one", () => {
  links.order(PEER, first);
  links.order(PEER, { instance: "two", token: "b" });
  said = [];
  links.news(PEER, "a", "lost");
  links.news(PEER, "a", "up");
  expect(said).toEqual([]);
});

test("silence is told once per episode, and only of a link that was up", () => {
  links.order(PEER, first);
  links.silent(PEER, 0);
  links.news(PEER, "a", "up");
  said = [];
  for (const nowMs of [1000, 1500, 2999, 3000]) links.silent(PEER, nowMs);
  expect(said).toEqual([`lost ${PEER} silent`, `lost ${PEER} silent`]);
});

test("an ordered end closes it and is not told to the server", () => {
  links.order(PEER, first);
  links.news(PEER, "a", "up");
  said = [];
  links.unlink(PEER);
  links.unlink(PEER);
  links.news(PEER, "a", "lost");
  expect(said).toEqual([`closed ${PEER}`, `state ${PEER} null`]);
});

test.each([
  ["a link that worked is opened again at once", "one", false, 0],
  ["one that fell silent is spread in time", "one", true, SPREAD_MS / 2],
  ["one to a relay that began anew is spread in time", "two", false, SPREAD_MS / 2],
] as const)("after it was ordered away, %s", (_, instance, silent, delayMs) => {
  links.order(PEER, first);
  links.news(PEER, "a", "up");
  if (silent) links.silent(PEER, 1000);
  links.unlink(PEER);
  said = [];
  links.order(PEER, { instance, token: "b" });
  expect(said).toEqual([`state ${PEER} connecting`, opened(instance, "b", delayMs)]);
});

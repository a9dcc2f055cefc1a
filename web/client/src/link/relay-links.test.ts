import { beforeEach, describe, expect, test } from "vitest";
import { RelayLinks, RTP_AGAIN_MS, RTP_ANSWER_MS, RTP_WITHIN_MS, type RtpLink, SPREAD_MS } from "./relay-links.ts";
import type { RtpNews } from "./relay-rtp.ts";

const PEER = 65535;
const first = { instance: "one", token: "a", by_rtp: true };

let said: string[] = [];
let nowMs = 0;
let hasRtp = false;
let waiting: { atMs: number; then: () => void }[] = [];
let tellRtp: (news: RtpNews) => void = () => {};
let links: RelayLinks<RtpLink>;
beforeEach(() => {
  said = [];
  nowMs = 0;
  hasRtp = false;
  waiting = [];
  links = new RelayLinks("wss://host/api/v1/relay", {
    get hasRtp() {
      return hasRtp;
    },
    rtp: (peer, token, news) => {
      said.push(`rtp ${peer} ${token}`);
      tellRtp = news;
      return {
        answer: (sdp) => said.push(`answer ${sdp}`),
        renew: () => said.push("renewed"),
        slots: (pairs) => said.push(`slots ${pairs}`),
        close: () => said.push("rtp closed"),
      };
    },
    open: (peer, { url, token, instance, delayMs }) => said.push(`open ${peer} ${url} ${token} ${instance} ${delayMs}`),
    closed: (peer) => said.push(`closed ${peer}`),
    lost: (peer, why) => said.push(`lost ${peer} ${why}`),
    state: (peer, state, way) =>
      said.push(`state ${peer} ${state}${state === "connecting" || state === "up" ? ` ${way}` : ""}`),
    now: () => nowMs,
    later: (delayMs, then) => waiting.push({ atMs: nowMs + delayMs, then }),
    random: () => 0.5,
  });
});
function pass(ms: number): void {
  nowMs += ms;
  const due = waiting.filter(({ atMs }) => atMs <= nowMs);
  waiting = waiting.filter(({ atMs }) => atMs > nowMs);
  for (const { then } of due) then();
}
const opened = (instance: string, token: string, delayMs: number) =>
  `open ${PEER} wss://host/api/v1/relay ${token} ${instance} ${delayMs}`;

test("an order opens once, at once, and a restatement of it changes nothing", () => {
  links.order(PEER, first);
  links.order(PEER, { ...first });
  links.news(PEER, "a", "up");
  links.order(PEER, first);
  expect(said).toEqual([`state ${PEER} connecting unsupported`, opened("one", "a", 0), `state ${PEER} up unsupported`]);
});

test.each([
  ["instance", { ...first, instance: "two" }],
  ["token", { ...first, token: "b" }],
])("another %s closes the link and opens it again, spread in time", (_, second) => {
  links.order(PEER, first);
  links.news(PEER, "a", "up");
  said = [];
  links.order(PEER, second);
  const again = opened(second.instance, second.token, SPREAD_MS / 2);
  expect(said).toEqual([`closed ${PEER}`, `state ${PEER} connecting unsupported`, again]);
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
  links.order(PEER, { ...first });
  expect(said).toEqual([`state ${PEER} connecting unsupported`, opened("one", "a", SPREAD_MS / 2)]);
});

test("what is said of an earlier link does not touch the present one", () => {
  links.order(PEER, first);
  links.order(PEER, { ...first, instance: "two", token: "b" });
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
  links.order(PEER, { ...first, instance, token: "b" });
  expect(said).toEqual([`state ${PEER} connecting unsupported`, opened(instance, "b", delayMs)]);
});

describe("by RTP", () => {
  beforeEach(() => {
    hasRtp = true;
  });
  const begun = [`state ${PEER} connecting rtp`, `rtp ${PEER} a`];
  const instead = (way: string) => [
    "rtp closed",
    `closed ${PEER}`,
    `state ${PEER} connecting ${way}`,
    opened("one", "a", 0),
  ];

  test.each([
    ["says no", { ...first, by_rtp: false }],
    ["says nothing", { instance: "one", token: "a" }],
  ])("where the order %s of it the socket is opened at once, and nothing else is tried or waited for", (_, order) => {
    links.order(PEER, order);
    expect(said).toEqual([`state ${PEER} connecting unoffered`, opened("one", "a", 0)]);
    expect(waiting).toEqual([]);
    // What a relay without RTP lets nobody do says nothing of the network.
    links.order(PEER, { ...first, token: "b" });
    pass(SPREAD_MS);
    expect(said.slice(2)).toEqual([`closed ${PEER}`, `state ${PEER} connecting rtp`, `rtp ${PEER} b`]);
  });

  test("no socket is opened when it comes up in time", () => {
    links.order(PEER, first);
    links.answer(PEER, "sdp");
    tellRtp("up");
    links.slots(PEER, 8);
    pass(RTP_ANSWER_MS);
    expect(said).toEqual([...begun, "answer sdp", `state ${PEER} up rtp`, "slots 8"]);
    expect(links.up.length).toBe(1);
  });

  test.each([
    ["there is no answer in time", "unoffered", () => pass(RTP_ANSWER_MS)],
    ["it breaks before it is up", "blocked", () => tellRtp("lost")],
    ["the relay answers that it takes none", "unoffered", () => links.answer(PEER, "")],
  ])("the socket takes over when %s (%s), and what RTP says later does not count", (_, way, fail) => {
    links.order(PEER, first);
    fail();
    tellRtp("lost");
    pass(RTP_ANSWER_MS);
    expect(said).toEqual([...begun, ...instead(way)]);
    links.news(PEER, "a", "up");
    expect(said.at(-1)).toBe(`state ${PEER} up ${way}`);
    expect(links.up).toEqual([]);
  });

  test("the socket takes over when it is not up in time after the first answer, however late that came", () => {
    links.order(PEER, first);
    pass(RTP_ANSWER_MS - 1);
    links.answer(PEER, "one");
    pass(RTP_WITHIN_MS - 1);
    links.answer(PEER, "two");
    expect(said).toEqual([...begun, "answer one", "answer two"]);
    pass(1);
    expect(said.slice(4)).toEqual(instead("blocked"));
    pass(RTP_WITHIN_MS);
    expect(said.slice(8)).toEqual([]);
  });

  test("where it did not get through it is tried again only after a while", () => {
    links.order(PEER, first);
    links.answer(PEER, "sdp");
    pass(RTP_WITHIN_MS);
    links.news(PEER, "a", "up");
    links.news(PEER, "a", "lost");
    said = [];
    links.order(PEER, { ...first, token: "b" });
    expect(said).toEqual([`state ${PEER} connecting blocked`, opened("one", "b", SPREAD_MS / 2)]);
    links.unlink(PEER);
    pass(RTP_AGAIN_MS);
    said = [];
    links.order(PEER, { ...first, token: "c" });
    pass(SPREAD_MS);
    expect(said).toEqual([`state ${PEER} connecting rtp`, `rtp ${PEER} c`]);
  });

  test("lost after it was up is told, and the next order tries RTP again, spread in time", () => {
    links.order(PEER, first);
    tellRtp("up");
    said = [];
    tellRtp("lost");
    expect(said).toEqual([`state ${PEER} lost`, "rtp closed", `closed ${PEER}`, `lost ${PEER} silent`]);
    said = [];
    links.order(PEER, { ...first, instance: "two", token: "b" });
    expect(said).toEqual([`state ${PEER} connecting rtp`]);
    pass(SPREAD_MS / 2);
    expect(said.at(-1)).toBe(`rtp ${PEER} b`);
  });

  test("what the worker says of a socket does not touch a link by RTP", () => {
    links.order(PEER, first);
    links.news(PEER, "a", "up");
    expect(said).toEqual(begun);
  });

  test("when the server is back, what may not have been exchanged is exchanged again", () => {
    links.order(PEER, first);
    said = [];
    links.renew();
    expect(said).toEqual(["renewed"]);
    pass(RTP_ANSWER_MS);
    said = [];
    links.renew();
    expect(said).toEqual([]);
  });

  test("ordered away while it waits for its turn, it is not begun", () => {
    links.order(PEER, first);
    tellRtp("up");
    links.order(PEER, { ...first, instance: "two", token: "b" });
    links.unlink(PEER);
    said = [];
    pass(SPREAD_MS);
    expect(said).toEqual([]);
  });
});

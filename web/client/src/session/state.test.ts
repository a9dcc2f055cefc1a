import { expect, test } from "vitest";
import type { Order, Participant, ServerMessage } from "../signal/messages.ts";
import type { FromWorker, IncomingStats, WorkerStats } from "../worker/messages.ts";
import { applyOrders, emptyPlan } from "./plan.ts";
import { deliveries, emptyModel, type Input, type Model, type PageEvent, reduce } from "./state.ts";
import { roomState } from "./view.ts";

const server = (message: ServerMessage): Input => ({ from: "server", message });
const worker = (message: FromWorker): Input => ({ from: "worker", message });
const page = (event: PageEvent): Input => ({ from: "page", event });
const run = (model: Model, inputs: Input[], nowMs = 0): Model =>
  inputs.reduce((before, input) => reduce(before, input, nowMs), model);

function participant(node: number, name: string, publishes = true): Participant {
  const layers = [
    { width: 320, height: 180, bps: 150_000 },
    { width: 640, height: 360, bps: 600_000 },
  ];
  return {
    node,
    id: `id-${node}`,
    name,
    identity: { nonce: "n", kem_key: "k", sign_key: `s${node}`, mac: "m" },
    capabilities: { frames: true, forward: true },
    presence: { microphone: true, camera: true, hand: false },
    publications: publishes ? [{ stream: 0, kind: "camera", audio_bps: 64_000, layers }] : [],
    connected: true,
  };
}

const joined = (...others: Participant[]): ServerMessage => ({
  type: "joined",
  node: 1,
  resume: "r",
  resumed: false,
  policy: { kind: "mesh" },
  never_relay: false,
  relays: [],
  participants: [participant(1, "Me"), ...others],
  chat: [],
  ice_servers: [],
  orders: { epoch: 1, reset: true, changes: [] },
});
const RELAY = 65535;
const withRelay = (message: ServerMessage): ServerMessage =>
  message.type === "joined" ? { ...message, relays: [RELAY] } : message;
const verified = (node: number, ok = true): Input => page({ type: "verified", node, id: `id-${node}`, verified: ok });
const withTwo = run(emptyModel, [
  server(joined(participant(2, "Ana"), participant(3, "Ben"))),
  verified(2),
  verified(3),
]);

const stream = { node: 2, stream: 0 };
function stats(change: Partial<IncomingStats>, also: Partial<WorkerStats> = {}): Input {
  const incoming: IncomingStats = {
    stream,
    parent: 2,
    bps: 600_000,
    delayMs: 0,
    layer: 1,
    framesReceived: 0,
    framesDecoded: 0,
    framesDrawn: 0,
    framesRepaired: 0,
    framesLost: 0,
    keyRequests: 0,
    duplicates: 0,
    audioPackets: 0,
    backup: null,
    backupsTaken: 0,
    audioConcealed: 0,
    audioTargetMs: 0,
    lipSyncMs: null,
    audioRms: 0,
    ...change,
  };
  const counters = {
    malformed: 0,
    stray: 0,
    looped: 0,
    foreign: 0,
    oversized: 0,
    misplaced: 0,
    junk: 0,
    unknown: 0,
    flooded: 0,
    failed: 0,
  };
  const all = { atMs: 0, links: [], incoming: [incoming], outgoing: [], senders: [], counters, own: [], ...also };
  return worker({ type: "stats", stats: all });
}
const ana = (model: Model, nowMs = 0) => roomState(model, nowMs).others.find(({ node }) => node === 2);
const noticeIds = (model: Model, nowMs = 0) => roomState(model, nowMs).notices.map(({ id }) => id);

test("the others are everybody but me, in order of arrival", () => {
  const later = run(withTwo, [server({ type: "entered", participant: participant(9, "Cem") })]);
  expect(roomState(later, 0).others.map(({ name }) => name)).toEqual(["Ana", "Ben", "Cem"]);
  expect(roomState(later, 0)).toMatchObject({ me: 1, policy: { kind: "mesh" }, connection: { state: "joined" } });
});

test("whoever leaves is gone with stream and flow", () => {
  const flowing = run(withTwo, [worker({ type: "ready", stream, parent: 2 })]);
  const after = run(flowing, [server({ type: "left", node: 2, why: "left" })]);
  expect([after.others.has(2), after.flows.size]).toEqual([false, 0]);
});

test("a stream waits, lives, is lost after three seconds without media, and lives again", () => {
  const states: (string | undefined)[] = [];
  const look = (model: Model, nowMs: number) => states.push(ana(model, nowMs)?.streams[0]?.state);
  look(withTwo, 0);
  const ready = run(withTwo, [worker({ type: "ready", stream, parent: 2 })], 1_000);
  look(ready, 3_999);
  look(ready, 4_000);
  const moving = run(ready, [stats({ framesReceived: 5 })], 5_000);
  look(moving, 5_000);
  const still = run(moving, [stats({ framesReceived: 5 })], 6_000);
  look(still, 8_000);
  expect(states).toEqual(["waiting", "live", "lost", "live", "lost"]);
});

test("a muted microphone without a camera is not lost", () => {
  const quiet = { ...participant(2, "Ana"), presence: { microphone: false, camera: false, hand: false } };
  quiet.publications = [{ stream: 0, kind: "camera", audio_bps: 64_000, layers: [] }];
  const model = run(emptyModel, [server(joined(quiet)), worker({ type: "ready", stream, parent: 2 })]);
  expect(ana(model, 60_000)?.streams[0]?.state).toBe("live");
});

test.each([
  ["no_capacity", "Nobody has upload to spare"],
  ["unreachable", "No way from Ana to you"],
] as const)("a stream that nobody can feed for %s says why", (reason, words) => {
  const changes = [{ order: "parent" as const, stream, parent: null, layers: [], reason }];
  const { plan } = applyOrders(emptyPlan, { epoch: 2, reset: false, changes });
  const seen = ana(run(withTwo, [page({ type: "plan", plan })]))?.streams[0];
  expect(seen?.state).toBe("unserved");
  expect(seen?.why).toContain(words);
});

test("the others' identities decide whose link is wrong", () => {
  const one = run(withTwo, [verified(3, false)]);
  expect(noticeIds(one)).toEqual(["unverified:3"]);
  const both = run(one, [verified(2, false)]);
  expect(noticeIds(both)).toEqual(["secret"]);
  expect(roomState(both, 0).others.map((person) => person.verified)).toEqual([false, false]);
});

test("a check that ends after somebody else took the seat says nothing about them", () => {
  const model = run(withTwo, [page({ type: "verified", node: 3, id: "somebody-else", verified: false })]);
  expect(noticeIds(model)).toEqual([]);
});

test("a pair that cannot connect is told, unless the stream comes another way", () => {
  const apart = run(withTwo, [page({ type: "link", peer: 2, state: "never" })]);
  expect(noticeIds(apart)).toEqual(["unreachable:2"]);
  expect(roomState(apart, 0).notices[0]?.text).toContain("Ana");
  const served = run(apart, [worker({ type: "ready", stream, parent: 3 })]);
  expect(noticeIds(served)).toEqual([]);
});

test("a refused link is the first thing said, and the link's end takes it back", () => {
  const held = run(withTwo, [
    page({ type: "sound", sound: "held" }),
    page({ type: "link", peer: 3, state: "refused" }),
  ]);
  expect(noticeIds(held)).toEqual(["signature:3", "sound"]);
  expect(noticeIds(run(held, [page({ type: "link", peer: 3, state: null })]))).toEqual(["sound"]);
});

test("frames that cannot be opened are told when they go on, and forgotten when they stop", () => {
  const few = run(withTwo, [worker({ type: "undecodable", node: 2, frames: 20 })], 1_000);
  expect(noticeIds(few, 1_000)).toEqual([]);
  const many = run(few, [worker({ type: "undecodable", node: 2, frames: 40 })], 2_000);
  expect(noticeIds(many, 2_000)).toEqual(["undecodable:2"]);
  expect(noticeIds(many, 8_000)).toEqual([]);
});

test("quality needs two looks, and names the way the stream takes", () => {
  const first = run(withTwo, [stats({ framesReceived: 100, parent: 3, bps: 100_000 })], 1_000);
  expect(ana(first, 1_000)?.quality.level).toBe("unknown");
  const second = run(first, [stats({ framesReceived: 180, framesLost: 20, parent: 3, bps: 100_000 })], 2_000);
  expect(ana(second, 2_000)?.quality).toMatchObject({ level: "poor" });
  expect(ana(second, 2_000)?.quality.words).toContain("20 % of what Ana sends does not arrive on the way through Ben");
});

test("of a stream that has not begun, nothing is known", () => {
  const looked = run(withTwo, [stats({}), stats({})]);
  expect(ana(looked)?.quality.level).toBe("unknown");
});

test("forwarding counts people once, and only other people's streams", () => {
  const edge = { bps: 1_000, layers: [0], framesSent: 0, framesDropped: 0, framesResent: 0 };
  const outgoing = [
    { ...edge, stream: { node: 1, stream: 0 }, child: 2 },
    { ...edge, stream: { node: 2, stream: 0 }, child: 3 },
    { ...edge, stream: { node: 2, stream: 1 }, child: 3 },
  ];
  expect(run(withTwo, [stats({}, { outgoing })]).sending.forwarding).toEqual({ people: 1, bps: 2_000 });
});

test("a thousand lines of chat are kept, the last ones, and the list is another one only when it changed", () => {
  const told = (n: number) =>
    page({ type: "chat_line", line: { node: 2, name: "Ana", at_ms: n, body: `sealed ${n}` }, text: `line ${n}` });
  const all = run(
    withTwo,
    Array.from({ length: 1_100 }, (_, n) => told(n)),
  );
  const { chat } = roomState(all, 0);
  expect([chat.length, chat[0]?.text, chat.at(-1)?.text]).toEqual([1_000, "line 100", "line 1099"]);
  expect(roomState(run(all, [told(1_099), stats({})]), 9).chat).toBe(chat);
});

test("our own line becomes delivered when the server returns it, once", () => {
  const sent = run(withTwo, [page({ type: "chat_sent", id: "own-1", text: "hi", body: "sealed", name: "Me" })], 5);
  const line = { node: 1, name: "Me", at_ms: 9, body: "sealed" };
  const back = run(sent, [
    page({ type: "chat_line", line, text: "hi" }),
    page({ type: "chat_line", line, text: "hi" }),
  ]);
  expect(roomState(sent, 5).chat).toMatchObject([
    { id: "own-1", node: 1, name: "Me", mine: true, atMs: 5, text: "hi", delivered: false },
  ]);
  expect(roomState(back, 5).chat).toMatchObject([
    { id: "own-1", node: 1, name: "Me", mine: true, atMs: 9, text: "hi", delivered: true },
  ]);
});

test("coming back keeps what is known of those who stayed, and starts anew with those who changed their keys", () => {
  const flowing = run(withTwo, [worker({ type: "ready", stream, parent: 2 })]);
  const stranger = { ...participant(3, "Ben"), identity: { nonce: "", kem_key: "", sign_key: "other", mac: "" } };
  const back = run(flowing, [server(joined(participant(2, "Ana"), stranger))]);
  expect([back.others.get(2)?.verified, back.others.get(3)?.verified]).toEqual([true, null]);
  expect(ana(back)?.streams[0]?.state).toBe("live");
});

test("the narrow upload is told while the encoder is held back, and not longer", () => {
  const layers = [{ width: 320, height: 180, bps: 90_000, fps: 30 }];
  const narrow = run(withTwo, [
    page({ type: "sending", sending: { camera: "on" } }),
    worker({ type: "encoding", stream: 0, layers, reason: "uplink" }),
  ]);
  expect(noticeIds(narrow)).toEqual(["uplink"]);
  expect(noticeIds(run(narrow, [worker({ type: "encoding", stream: 0, layers, reason: "recovered" })]))).toEqual([]);
});

test("sound that did not start is told as such, and not as sound that waits for a click", () => {
  const failed = run(withTwo, [page({ type: "sound", sound: "held" }), page({ type: "sound", sound: "failed" })]);
  expect(noticeIds(failed)).toEqual(["sound_failed"]);
});

test("a fault is told for as long as it recurs, and a worker that fell silent until it speaks", () => {
  const faulty = run(withTwo, [worker({ type: "fault", message: "no" })], 1_000);
  expect([noticeIds(faulty, 1_000), noticeIds(faulty, 6_000)]).toEqual([["fault"], []]);
  const silent = run(faulty, [page({ type: "worker_silent", silent: true })], 2_000);
  expect(noticeIds(silent, 60_000)).toEqual(["media"]);
  expect(noticeIds(run(silent, [page({ type: "worker_silent", silent: false })]), 60_000)).toEqual([]);
});

test("a refused encoder is told for its own device, until that device is turned on anew", () => {
  const sending = page({ type: "sending", sending: { camera: "on", microphone: "on" } });
  const refused = run(withTwo, [
    sending,
    worker({ type: "encoder_failed", stream: 0, track: "audio", message: "no" }),
    page({ type: "sending", sending: { microphone: "off" } }),
  ]);
  expect(noticeIds(refused)).toEqual(["encoder:audio"]);
  const both = run(refused, [worker({ type: "encoder_failed", stream: 0, track: "video", message: "no" })]);
  expect(noticeIds(both)).toEqual(["encoder:audio", "encoder:video"]);
  expect(noticeIds(run(both, [page({ type: "sending", sending: { microphone: "muted" } })]))).toEqual([
    "encoder:video",
  ]);
});

test("I am never the active speaker: nobody needs to be shown to themselves", () => {
  const loud = worker({ type: "levels", levels: [{ node: 1, stream: 0, level: 5 }] });
  const model = [0, 100, 200, 300, 400, 500].reduce((before, ms) => reduce(before, loud, ms), withTwo);
  expect([model.sending.audioLevel, roomState(model, 0).activeSpeaker]).toEqual([5, null]);
});

function fedBy(parent: number, model: Model, reason: "joined" | "policy" = "joined"): Model {
  const changes = [{ order: "parent" as const, stream, parent, layers: [0], reason }];
  const { plan } = applyOrders(emptyPlan, { epoch: 2, reset: false, changes });
  return run(model, [page({ type: "plan", plan }), worker({ type: "ready", stream, parent })]);
}

test.each([
  [2, {}, "You reach Ana directly."],
  [3, {}, "You reach Ana through Ben, who passes it on."],
  [RELAY, {}, "You reach Ana through the server, because nobody here has enough upload to spare for it."],
  [RELAY, { never: true }, "You reach Ana through the server, because no direct connection between you came up."],
  [RELAY, { relay: true }, "You reach Ana through the server, because this room sends everything through it."],
] as [number, { never?: true; relay?: true }, string][])("fed by %i with %j: %s", (parent, why, words) => {
  let model = fedBy(parent, withTwo);
  if (why.never) {
    // The server orders the link away when either end has given up.
    model = run(model, [
      page({ type: "link", peer: 2, state: "connecting" }),
      page({ type: "link", peer: 2, state: null }),
    ]);
  }
  if (why.relay) {
    model = run(model, [server({ type: "policy_changed", policy: { kind: "relay" }, never_relay: false, by: 2 })]);
  }
  expect(ana(model)?.way).toBe(words);
});

test.each([
  ["rtp", /sends everything through it\.$/],
  [
    "blocked",
    /through it\. Your network lets no media connection \(UDP\) through to it, so all of it comes over an ordinary web connection/,
  ],
  ["unoffered", /through it\. The server takes no media connection \(UDP\) at present, so all of it comes over an ord/],
  ["unsupported", /through it\. This browser cannot make a media connection \(UDP\) to it, so all of it comes over an/],
] as const)("a relay reached by %s is told in words", (way, words) => {
  const model = run(fedBy(RELAY, withTwo), [
    server({ type: "policy_changed", policy: { kind: "relay" }, never_relay: false, by: 2 }),
    page({ type: "link", peer: RELAY, state: "connecting", way: "rtp" }),
    page({ type: "link", peer: RELAY, state: "up", way }),
  ]);
  expect(ana(model)?.way).toMatch(words);
});

test("two who cannot connect are told what becomes of them: the server helps, may not, or cannot", () => {
  const apart = (joining: ServerMessage) =>
    run(emptyModel, [server(joining), verified(2), page({ type: "link", peer: 2, state: "never" })]);
  const message = (model: Model) => roomState(model, 0).notices.find(({ id }) => id === "unreachable:2");
  const relay = apart(withRelay(joined(participant(2, "Ana"))));
  expect(message(relay)).toMatchObject({
    severity: "info",
    text: expect.stringContaining("The server is being asked"),
  });
  const forbidden = run(relay, [
    server({ type: "policy_changed", policy: { kind: "auto" }, never_relay: true, by: 2 }),
  ]);
  expect(message(forbidden)).toMatchObject({ severity: "bad", text: expect.stringContaining("this room forbids") });
  expect(message(apart(joined(participant(2, "Ana"))))).toMatchObject({
    severity: "bad",
    text: expect.stringContaining("this server has no relay"),
  });
});

test("a relay is nobody: links to it are its own, and feeding it is no help to a person", () => {
  const outgoing = [3, RELAY].map((child) => ({
    stream,
    child,
    bps: 100_000,
    layers: [0],
    framesSent: 1,
    framesDropped: 0,
    framesResent: 0,
  }));
  const model = run(run(emptyModel, [server(withRelay(joined(participant(2, "Ana"), participant(3, "Ben"))))]), [
    page({ type: "link", peer: RELAY, state: "up" }),
    stats({}, { outgoing }),
  ]);
  const state = roomState(model, 0);
  expect(state.others.map(({ node }) => node)).toEqual([2, 3]);
  expect(state.relays).toEqual([RELAY]);
  expect(state.sending.forwarding).toEqual({ people: 1, bps: 200_000 });
  expect([...model.relayLinks]).toEqual([[RELAY, "up"]]);
  expect(run(model, [page({ type: "link", peer: RELAY, state: null })]).relayLinks.size).toBe(0);
});

test("a relay that cannot be reached is told only while somebody is not served", () => {
  const model = run(emptyModel, [
    server(withRelay(joined(participant(2, "Ana")))),
    verified(2),
    page({ type: "link", peer: RELAY, state: "never" }),
  ]);
  expect(noticeIds(model)).toEqual(["relay"]);
  expect(noticeIds(run(model, [worker({ type: "ready", stream, parent: 2 })]))).toEqual([]);
});

test("the way that is told is the one that frames come by, not the one that was ordered last", () => {
  const relayed = fedBy(RELAY, withTwo);
  const changes = [{ order: "parent" as const, stream, parent: 2, layers: [0], reason: "capacity" as const }];
  const { plan } = applyOrders(relayed.plan, { epoch: 3, reset: false, changes });
  const ordered = run(relayed, [page({ type: "plan", plan }), stats({ parent: 2, framesReceived: 9 })]);
  expect(ana(ordered)?.way).toContain("through the server");
  expect(ana(run(ordered, [worker({ type: "ready", stream, parent: 2 })]))?.way).toBe("You reach Ana directly.");
  expect(ana(withTwo)?.way).toBeNull();
});

test("two who gave up on each other stay apart in words until a link is up", () => {
  const apart = (...states: ("connecting" | "up" | "never" | "lost" | null)[]) =>
    run(
      withTwo,
      states.map((state) => page({ type: "link", peer: 2, state })),
    ).others.get(2)?.apart;
  expect(apart("connecting", "never", null)).toBe(true);
  expect(apart("connecting", null)).toBe(true);
  expect(apart("connecting", "never", "connecting")).toBe(true);
  expect(apart("connecting", "never", "connecting", "up", null)).toBe(false);
  expect(apart("connecting", "up", "lost", null)).toBe(false);
});

test("what comes from the parent in force can be told again, and nothing else", () => {
  const parent = (node: number, from: number | null): Order => ({
    order: "parent",
    stream: { node, stream: 0 },
    parent: from,
    layers: [0],
    reason: "joined",
  });
  const orders = { epoch: 2, reset: false, changes: [parent(2, 2), parent(3, 2)] };
  const planned = run(withTwo, [page({ type: "plan", plan: applyOrders(withTwo.plan, orders).plan })]);
  expect(deliveries(planned)).toEqual([]);
  const ready = run(planned, [
    worker({ type: "ready", stream, parent: 2 }),
    worker({ type: "ready", stream: { node: 3, stream: 0 }, parent: 3 }),
  ]);
  expect(deliveries(ready)).toEqual([{ stream, parent: 2 }]);
});

test("while a backup stands in, the way that is told is through it, and says in whose place", () => {
  const through = fedBy(3, withTwo);
  expect(ana(run(through, [stats({ parent: 3, backup: 2 })]))?.way).toBe(
    "You reach Ana directly for the moment, because nothing comes from Ben.",
  );
  const direct = run(fedBy(2, withTwo), [stats({ parent: 2, backup: 3 })]);
  expect(ana(direct)?.way).toBe("You reach Ana through Ben for the moment, because nothing comes directly.");
  expect(ana(run(direct, [stats({ parent: 2 })]))?.way).toBe("You reach Ana directly.");
});

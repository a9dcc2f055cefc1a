import { describe, expect, test } from "vitest";
import type { ClientMessage, Identity, ServerMessage, StreamRef } from "./messages.ts";
import { parseServerMessage } from "./parse.ts";

// The client is typed without Node; its tests run there.
const node = "node:fs/promises";
const fs = (await import(/* @vite-ignore */ node)) as {
  readFile(path: URL, encoding: "utf8"): Promise<string>;
  readdir(path: URL): Promise<string[]>;
};

/** `crates/server/tests/fixtures.rs` writes these, one file per message. */
const fixtures = (side: string) => new URL(`../../../../fixtures/signal/${side}/`, import.meta.url);
const read = async (side: string, kind: string) => fs.readFile(new URL(`${kind}.json`, fixtures(side)), "utf8");
const kinds = async (side: string) =>
  (await fs.readdir(fixtures(side))).map((name) => name.replace(".json", "")).sort();

const stream: StreamRef = { node: 3, stream: 0 };
const identity: Identity = {
  nonce: "AAECAwQFBgcICQoLDA0ODw",
  kem_key: "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8",
  sign_key: "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8",
  mac: "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8",
};

/** The same examples, checked by the compiler: names and kinds of fields are those of the server. */
const sent: { [Kind in ClientMessage["type"]]: Extract<ClientMessage, { type: Kind }> } = {
  create: { type: "create", policy: { kind: "tree", branching: 2 }, never_relay: true },
  join: {
    type: "join",
    version: 1,
    room: "Zm9ydHktdHdvIGJ5",
    participant: "cGFydGljaXBhbnQh",
    name: "Ada",
    identity,
    capabilities: { frames: true, forward: true },
    uplink_bps: 4_000_000,
  },
  look: { type: "look", room: "Zm9ydHktdHdvIGJ5" },
  leave: { type: "leave" },
  publish: {
    type: "publish",
    publication: {
      stream: 0,
      kind: "camera",
      audio_bps: 32_000,
      layers: [
        { width: 320, height: 180, bps: 150_000 },
        { width: 1280, height: 720, bps: 1_200_000 },
      ],
    },
  },
  unpublish: { type: "unpublish", stream: 1 },
  want: {
    type: "want",
    wants: [
      { stream, layer: 1 },
      { stream: { node: 4, stream: 1 }, layer: null },
    ],
  },
  ready: { type: "ready", stream, parent: 3 },
  lost: { type: "lost", peer: 3, why: "silent" },
  description: { type: "description", to: 3, kind: "offer", sdp: "v=0\r\n", signature: "A".repeat(86) },
  candidate: { type: "candidate", to: 3, candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host", mid: "0" },
  mail: { type: "mail", to: 3, body: "c2VhbGVk" },
  chat: { type: "chat", body: "c2VhbGVk" },
  presence: { type: "presence", presence: { microphone: true, camera: false, hand: true } },
  report: {
    type: "report",
    uplink_bps: 4_000_000,
    links: [{ peer: 3, rtt_ms: 12.5, sent_bps: 1_300_000, loss: 0.25 }],
    edges: [{ stream, parent: 3, bps: 1_200_000, delay_ms: 40, layer: 1 }],
    hidden: false,
    battery: { charging: false, level: 0.75 },
    metered: false,
    passes_on: true,
  },
  trees: { type: "trees", watch: true },
  set_policy: { type: "set_policy", policy: { kind: "relay" }, never_relay: false },
  ping: { type: "ping", n: 7 },
};

/** Named one by one, so that the compiler misses a new one. */
const received: Record<ServerMessage["type"], true> = {
  created: true,
  looked: true,
  joined: true,
  entered: true,
  left: true,
  connection: true,
  published: true,
  unpublished: true,
  orders: true,
  description: true,
  candidate: true,
  mail: true,
  chat: true,
  presence: true,
  trees: true,
  policy_changed: true,
  pong: true,
  draining: true,
  error: true,
};

describe("the examples that the server wrote", () => {
  test("cover every message of both sides", async () => {
    expect(await kinds("client")).toEqual(Object.keys(sent).sort());
    expect(await kinds("server")).toEqual(Object.keys(received).sort());
  });

  test.each(Object.entries(sent))("%s is what this client would send", async (kind, message) => {
    expect(JSON.parse(await read("client", kind))).toEqual(message);
  });

  test.each(Object.keys(received))("%s is understood, with every field", async (kind) => {
    const text = await read("server", kind);
    expect(parseServerMessage(text)).toEqual(JSON.parse(text));
  });
});

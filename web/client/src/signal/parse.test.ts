import { expect, test } from "vitest";
import { parseServerMessage } from "./parse.ts";

const participant = {
  node: 3,
  id: "abc",
  name: "Ana",
  identity: { nonce: "", kem_key: "", sign_key: "", mac: "" },
  capabilities: { frames: true, forward: true },
  presence: { microphone: false, camera: true, hand: false },
  publications: [{ stream: 0, kind: "camera", audio_bps: null, layers: [{ width: 320, height: 180, bps: 150_000 }] }],
  connected: true,
};
const joined = {
  type: "joined",
  node: 4,
  resume: "token",
  resumed: false,
  policy: { kind: "tree", branching: 2 },
  never_relay: false,
  relays: [65535],
  participants: [participant],
  chat: [{ node: 3, name: "Ana", at_ms: 1, body: "x" }],
  ice_servers: [],
  orders: {
    epoch: 1,
    reset: true,
    changes: [
      { order: "link", peer: 3, offer: true },
      { order: "link", peer: 65535, offer: true, relay: { instance: "i", token: "t" } },
    ],
  },
};

test("a whole joined message passes as it is", () => {
  expect(parseServerMessage(JSON.stringify(joined))).toEqual(joined);
});

test("fields and words that a newer server adds are let through", () => {
  const order = { order: "parent", stream: { node: 1, stream: 0 }, parent: null, layers: [], reason: "eclipse" };
  const message = { type: "orders", epoch: 2, reset: false, changes: [order], season: "autumn" };
  expect(parseServerMessage(JSON.stringify(message))).toEqual(message);
});

test("a relay may answer", () => {
  const answer = { type: "description", from: 65_535, kind: "answer", sdp: "v=0", signature: "" };
  expect(parseServerMessage(JSON.stringify(answer))).toEqual(answer);
});

const refused: [string, unknown][] = [
  ["no text", new Uint8Array(3)],
  ["no JSON", "{"],
  ["no object", "3"],
  ["no type", "{}"],
  ["an unknown type", '{"type":"sing"}'],
  ["the name of an object's own method as type", '{"type":"toString"}'],
  ["a node that is no u16", '{"type":"left","node":70000,"why":"left"}'],
  ["a node that is a text", '{"type":"left","node":"3","why":"left"}'],
  ["a stream beyond 15", '{"type":"unpublished","stream":{"node":1,"stream":16}}'],
  ["a chat line from a time that no clock shows", '{"type":"chat","node":1,"name":"A","at_ms":1e300,"body":""}'],
  ["mail without a body", '{"type":"mail","from":1}'],
  ["a description of no kind", '{"type":"description","from":1,"kind":"pranswer","sdp":"","signature":""}'],
  ["an unknown order", '{"type":"orders","epoch":1,"reset":false,"changes":[{"order":"dance","peer":1}]}'],
  [
    "a backup that is no node",
    '{"type":"orders","epoch":1,"reset":false,"changes":[{"order":"backup","stream":{"node":1,"stream":0},"parent":"2","layers":[]}]}',
  ],
  [
    "standing by for nobody",
    '{"type":"orders","epoch":1,"reset":false,"changes":[{"order":"stand_by","stream":{"node":1,"stream":0},"layers":[0],"rate_bps":1}]}',
  ],
  ["mail from a relay, which has no key", '{"type":"mail","from":65535,"body":""}'],
  ["an offer from a relay", '{"type":"description","from":65000,"kind":"offer","sdp":"","signature":""}'],
  ["a line from a relay", '{"type":"chat","node":65535,"name":"A","at_ms":1,"body":""}'],
  ["a relay as participant", JSON.stringify({ ...joined, participants: [{ ...participant, node: 65535 }] })],
  ["a participant as relay", JSON.stringify({ ...joined, relays: [3] })],
  [
    "a stream of a relay",
    '{"type":"orders","epoch":1,"reset":false,"changes":[{"order":"release","stream":{"node":65535,"stream":0},"child":1}]}',
  ],
  [
    "a link to a relay without a token",
    '{"type":"orders","epoch":1,"reset":false,"changes":[{"order":"link","peer":65535,"offer":true}]}',
  ],
  [
    "a link to a participant as if it were a relay",
    '{"type":"orders","epoch":1,"reset":false,"changes":[{"order":"link","peer":3,"offer":true,"relay":{"instance":"i","token":"t"}}]}',
  ],
  [
    "joined with a participant without keys",
    JSON.stringify({ ...joined, participants: [{ ...participant, identity: {} }] }),
  ],
];
test.each(refused)("%s is refused", (_, data) => {
  expect(parseServerMessage(data)).toBeNull();
});

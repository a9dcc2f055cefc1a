/**
 * From the text of a WebSocket frame to a `ServerMessage`. Every field that the client reads is checked for its type,
 * so that nothing that arrives can make the rest of the client throw; fields that it does not know are left alone.
 */
import type { ServerMessage } from "./messages.ts";
import { FIRST_RELAY } from "./relays.ts";

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const flag: Check = (value) => typeof value === "boolean";
const number: Check = (value) => typeof value === "number" && Number.isFinite(value);
const whole: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const node: Check = (value) => whole(value) && (value as number) <= 0xffff;
/** Who speaks, holds keys or sends streams: never a relay. */
const member: Check = (value) => whole(value) && (value as number) < FIRST_RELAY;
const relay: Check = (value) => node(value) && !member(value);
const layer: Check = (value) => whole(value) && (value as number) <= 3;
const nullable =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);
const list =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
const oneOf =
  (...words: string[]): Check =>
  (value) =>
    typeof value === "string" && words.includes(value);
const fields =
  (checks: Record<string, Check>): Check =>
  (value) =>
    typeof value === "object" &&
    value !== null &&
    Object.entries(checks).every(([name, check]) => check((value as Record<string, unknown>)[name]));
const tagged =
  (tag: string, kinds: Record<string, Check>): Check =>
  (value) => {
    if (typeof value !== "object" || value === null) return false;
    const kind = (value as Record<string, unknown>)[tag];
    return typeof kind === "string" && Object.hasOwn(kinds, kind) && (kinds[kind] as Check)(value);
  };

const streamNumber: Check = (value) => whole(value) && (value as number) <= 15;
const stream = fields({ node: member, stream: streamNumber });
const presence = fields({ microphone: flag, camera: flag, hand: flag });
const identity = fields({ nonce: text, kem_key: text, sign_key: text, mac: text });
const publication = fields({
  stream: streamNumber,
  kind: oneOf("camera", "screen"),
  audio_bps: nullable(whole),
  layers: list(fields({ width: whole, height: whole, bps: whole })),
});
const participant = fields({
  node: member,
  id: text,
  name: text,
  identity,
  capabilities: fields({ frames: flag, forward: flag }),
  presence,
  publications: list(publication),
  connected: flag,
});
const policy = tagged("kind", {
  mesh: fields({}),
  tree: fields({ branching: whole }),
  relay: fields({}),
  auto: fields({}),
});
// A reason or an error code from a newer server must not break this client: any word will do.
const order = tagged("order", {
  link: (value) =>
    fields({ peer: relay, offer: flag, relay: fields({ instance: text, token: text, by_rtp: optional(flag) }) })(
      value,
    ) ||
    // Between members a link is for whoever signs for it, so it must not come as one to a relay.
    fields({ peer: member, offer: flag, relay: (absent) => absent === undefined })(value),
  unlink: fields({ peer: node }),
  feed: fields({ stream, child: node, layers: list(layer), rate_bps: whole }),
  release: fields({ stream, child: node }),
  parent: fields({ stream, parent: nullable(node), layers: list(layer), reason: text }),
  backup: fields({ stream, parent: nullable(node), layers: list(layer) }),
  stand_by: fields({ stream, child: node, layers: list(layer), rate_bps: whole }),
});
const orders = { epoch: whole, reset: flag, changes: list(order) };
/** What a Date can hold. */
const time: Check = (value) => whole(value) && (value as number) <= 8.64e15;
const chat = { node: member, name: text, at_ms: time, body: text };

const message = tagged("type", {
  created: fields({ room: text }),
  looked: fields({ room: text, names: list(text), count: whole }),
  joined: fields({
    node: member,
    resume: text,
    resumed: flag,
    policy,
    never_relay: flag,
    relays: list(relay),
    participants: list(participant),
    chat: list(fields(chat)),
    ice_servers: list(text),
    orders: fields(orders),
  }),
  entered: fields({ participant }),
  left: fields({ node: member, why: text }),
  connection: fields({ node: member, connected: flag }),
  published: fields({ node: member, publication }),
  unpublished: fields({ stream }),
  orders: fields(orders),
  // Relays only answer, and have nothing to sign with.
  description: (value) =>
    fields({ from: member, kind: oneOf("offer", "answer"), sdp: text, signature: text })(value) ||
    fields({ from: relay, kind: oneOf("answer"), sdp: text, signature: text })(value),
  candidate: fields({ from: member, candidate: text, mid: nullable(text) }),
  mail: fields({ from: member, body: text }),
  chat: fields(chat),
  presence: fields({ node: member, presence }),
  trees: fields({
    epoch: whole,
    trees: list(
      fields({
        stream,
        edges: list(
          fields({
            parent: node,
            child: node,
            backup: optional(node),
            level: whole,
            layer: nullable(layer),
            live: flag,
            bps: number,
            delay_ms: number,
            rtt_ms: number,
            loss: number,
            reason: text,
          }),
        ),
        unserved: list(member),
      }),
    ),
  }),
  policy_changed: fields({ policy, never_relay: flag, by: member }),
  pong: fields({ n: whole }),
  draining: fields({}),
  error: fields({ code: text, message: text, refers_to: optional(text) }),
});

/** Null when the text is not a message of this protocol. */
export function parseServerMessage(data: unknown): ServerMessage | null {
  if (typeof data !== "string") return null;
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  return message(value) ? (value as ServerMessage) : null;
}

// Generated from crates/server/src/signal/message.rs by
// `GROVE_UPDATE=1 cargo test -p grove-server --test generated`. Do not edit.

/** The protocol version of these types. */
export const VERSION = 1;

/** The WebSocket subprotocol that names it. */
export const SUBPROTOCOL = "grove.v1";

/**
 * What a client sends.
 */
export type ClientMessage = {
  "type": "create";
  /** How trees are chosen; `auto` when absent. */
  policy?: Policy;
  /** True: media never passes a relay, not even where two browsers cannot connect. False when absent. */
  never_relay?: boolean;
}
  | {
  "type": "join"
} & Join
  | {
  "type": "look";
  /** The room's id. */
  room: string;
}
  | {
  "type": "leave"
}
  | {
  "type": "publish";
  /** The whole new description. */
  publication: Publication;
}
  | {
  "type": "unpublish";
  /** Which of the sender's streams. */
  stream: number;
}
  | {
  "type": "want";
  /** One entry per stream that changed. */
  wants: Array<Want>;
}
  | {
  "type": "ready";
  /** Which stream. */
  stream: StreamRef;
  /** Who delivered the frame. */
  parent: number;
}
  | {
  "type": "lost";
  /** The other end. */
  peer: number;
  /** What happened. */
  why: LostReason;
}
  | {
  "type": "description";
  /** The other end. */
  to: number;
  /** Offer or answer. */
  kind: DescriptionKind;
  /** SDP, at most 16 KiB; an offer to a relay 192 KiB. */
  sdp: string;
  /** Ed25519 over the DTLS fingerprint, base64url (`docs/ref/protocol.md`, Signatures). */
  signature: string;
}
  | {
  "type": "candidate";
  /** The other end. */
  to: number;
  /** The candidate line. */
  candidate: string;
  /** The media section it belongs to. */
  mid: string | null;
}
  | {
  "type": "mail";
  /** Recipient. */
  to: number;
  /** base64url, at most 8 KiB. */
  body: string;
}
  | {
  "type": "chat";
  /** base64url, at most 8 KiB. */
  body: string;
}
  | {
  "type": "presence";
  /** The whole new state. */
  presence: Presence;
}
  | {
  "type": "report"
} & Report
  | {
  "type": "trees";
  /** True to receive. */
  watch: boolean;
}
  | {
  "type": "set_policy";
  /** The new policy. */
  policy: Policy;
  /** As in [`ClientMessage::Create`]; unchanged when absent. */
  never_relay?: boolean;
}
  | {
  "type": "ping";
  /** Returned as it is. */
  n: number;
};

/**
 * What the server sends.
 */
export type ServerMessage = {
  "type": "created";
  /** 96 random bits, base64url: 16 characters. */
  room: string;
}
  | {
  "type": "looked";
  /** The room's id. */
  room: string;
  /** Display names, in order of arrival; at most 50. */
  names: Array<string>;
  /** How many there are. */
  count: number;
}
  | {
  "type": "joined"
} & Joined
  | {
  "type": "entered";
  /** Who. */
  participant: Participant;
}
  | {
  "type": "left";
  /** Who. */
  node: number;
  /** Why. */
  why: LeftReason;
}
  | {
  "type": "connection";
  /** Who. */
  node: number;
  /** Is it up? */
  connected: boolean;
}
  | {
  "type": "published";
  /** Who sends it. */
  node: number;
  /** What it contains. */
  publication: Publication;
}
  | {
  "type": "unpublished";
  /** Which. */
  stream: StreamRef;
}
  | {
  "type": "orders"
} & Orders
  | {
  "type": "description";
  /** The other end. */
  from: number;
  /** Offer or answer. */
  kind: DescriptionKind;
  /** SDP. */
  sdp: string;
  /** As sent. */
  signature: string;
}
  | {
  "type": "candidate";
  /** The other end. */
  from: number;
  /** As sent. */
  candidate: string;
  /** As sent. */
  mid: string | null;
}
  | {
  "type": "mail";
  /** Sender. */
  from: number;
  /** As sent. */
  body: string;
}
  | {
  "type": "chat"
} & ChatLine
  | {
  "type": "presence";
  /** Who. */
  node: number;
  /** The whole new state. */
  presence: Presence;
}
  | {
  "type": "trees"
} & Trees
  | {
  "type": "policy_changed";
  /** The new policy. */
  policy: Policy;
  /** Are relays forbidden from now on? */
  never_relay: boolean;
  /** Who changed it; 0: the server, which has no relay any more. */
  by: number;
}
  | {
  "type": "pong";
  /** As sent. */
  n: number;
}
  | {
  "type": "draining"
}
  | {
  "type": "error";
  /** For programs. */
  code: ErrorCode;
  /** For people: what happened and what to do. */
  message: string;
  /** The `type` of the message that caused it, where there was one. */
  refers_to?: string;
};

/**
 * A battery.
 */
export type Battery = {
  /** Is it being charged, or full and on mains? */
  charging: boolean;
  /** How full, 0..=1. */
  level: number;
};

/**
 * What a node can do.
 */
export type Capabilities = {
  /** Encoded frames over data channels in a worker: without it a node can neither send nor receive. */
  frames: boolean;
  /** May be asked to forward other people's streams. */
  forward: boolean;
};

/**
 * A chat line.
 */
export type ChatLine = {
  /** Who. */
  node: number;
  /** Their display name, kept for when they have left. */
  name: string;
  /** Milliseconds since the Unix epoch, by the server's clock. */
  at_ms: number;
  /** Sealed, base64url. */
  body: string;
};

/**
 * Offer or answer.
 */
export type DescriptionKind = "offer"
  | "answer";

/**
 * Why an edge changed.
 */
export type EdgeReason = "joined"
  | "parent_left"
  | "parent_lost"
  | "capacity"
  | "layers"
  | "policy"
  | "ended"
  | "no_capacity"
  | "unreachable";

/**
 * One incoming edge, as seen by the child.
 */
export type EdgeReport = {
  /** Which stream. */
  stream: StreamRef;
  /** From whom. */
  parent: number;
  /** Bit/s received. */
  bps: number;
  /** Capture to arrival, milliseconds, relative to the fastest frame seen. */
  delay_ms: number;
  /** The spatial layer shown at present. */
  layer: number | null;
};

/**
 * What went wrong, for programs.
 */
export type ErrorCode = "unknown_message"
  | "bad_field"
  | "version"
  | "no_such_room"
  | "wrong_state"
  | "no_such_target"
  | "too_many"
  | "draining";

/**
 * A participant's public keys. The server passes them on and cannot forge them: it does not know the room secret.
 */
export type Identity = {
  /** 128 random bits, base64url. */
  nonce: string;
  /** X25519 public key, base64url. */
  kem_key: string;
  /** Ed25519 public key, base64url. */
  sign_key: string;
  /** HMAC-SHA-256 under the room's identity key over room, participant, nonce and both keys, base64url. */
  mac: string;
};

/**
 * Entering a room.
 */
export type Join = {
  /** [`VERSION`]. */
  version: number;
  /** The room's id. */
  room: string;
  /** Chosen by the client. */
  participant: string;
  /** Display name, 1..=64 characters after trimming. */
  name: string;
  /** Keys, bound to the room secret. */
  identity: Identity;
  /** What this browser can do. */
  capabilities: Capabilities;
  /** What this node can send in all, bit/s, where it knows. */
  uplink_bps?: number;
  /** The token from [`Joined::resume`], to come back as the same participant. */
  resume?: string;
};

/**
 * The room as a newcomer finds it.
 */
export type Joined = {
  /** Your number. */
  node: number;
  /** Secret token to come back with. */
  resume: string;
  /** True when an earlier presence was taken up again; `orders` then restates everything. */
  resumed: boolean;
  /** How trees are chosen. */
  policy: Policy;
  /** Are relays forbidden? */
  never_relay: boolean;
  /** Numbers of the relays that may stand in the room's trees. */
  relays: Array<number>;
  /** Everybody, yourself included. */
  participants: Array<Participant>;
  /** The last lines, oldest first. */
  chat: Array<ChatLine>;
  /** STUN servers for links. */
  ice_servers: Array<string>;
  /** What to do now. */
  orders: Orders;
};

/**
 * Why somebody is gone.
 */
export type LeftReason = "left"
  | "lost";

/**
 * One link, as seen from the reporting end.
 */
export type LinkReport = {
  /** The other end. */
  peer: number;
  /** Round-trip time, milliseconds. */
  rtt_ms: number;
  /** Bit/s sent. */
  sent_bps: number;
  /** Share of frames from the peer that never came, 0..=1. */
  loss: number;
};

/**
 * What happened to a link.
 */
export type LostReason = "silent"
  | "never";

/**
 * One change.
 */
export type Order = {
  "order": "link";
  /** The other end. */
  peer: number;
  /** Do you offer? Always true towards a relay. */
  offer: boolean;
  /** The peer is a relay: how to reach it. */
  relay?: RelayLink;
}
  | {
  "order": "unlink";
  /** The other end. */
  peer: number;
}
  | {
  "order": "feed";
  /** Which stream. */
  stream: StreamRef;
  /** To whom. */
  child: number;
  /** Spatial layers, lowest first; empty = audio only. */
  layers: Array<number>;
  /** What the plan allots to this edge, bit/s. */
  rate_bps: number;
}
  | {
  "order": "release";
  /** Which stream. */
  stream: StreamRef;
  /** To whom. */
  child: number;
}
  | {
  "order": "parent";
  /** Which stream. */
  stream: StreamRef;
  /** `null`: nobody can feed you at present; `reason` says why. */
  parent: number | null;
  /** Spatial layers to expect. */
  layers: Array<number>;
  /** Why this changed. */
  reason: EdgeReason;
}
  | {
  "order": "backup";
  /** Which stream. */
  stream: StreamRef;
  /** `null`: there is none. */
  parent: number | null;
  /** Spatial layers to expect from there. */
  layers: Array<number>;
}
  | {
  "order": "stand_by";
  /** Which stream. */
  stream: StreamRef;
  /** To whom. */
  child: number;
  /** Spatial layers, lowest first; empty = audio only. */
  layers: Array<number>;
  /** What the edge may carry once it has begun, bit/s. */
  rate_bps: number;
};

/**
 * Orders for one node.
 */
export type Orders = {
  /** Rises with every change of the room's trees. */
  epoch: number;
  /** True: `changes` is everything; forget links and edges that are not in it. */
  reset: boolean;
  /** Applied in order. */
  changes: Array<Order>;
};

/**
 * One participant.
 */
export type Participant = {
  /** Number in the room. */
  node: number;
  /** The client's own id. */
  id: string;
  /** Display name. */
  name: string;
  /** Public keys. */
  identity: Identity;
  /** What it can do. */
  capabilities: Capabilities;
  /** What it shows of itself. */
  presence: Presence;
  /** What it sends. */
  publications: Array<Publication>;
  /** Is its signalling connection up? */
  connected: boolean;
};

/**
 * How trees are chosen.
 */
export type Policy = {
  "kind": "mesh"
}
  | {
  "kind": "tree";
  /** 1..=16. */
  branching: number;
}
  | {
  "kind": "relay"
}
  | {
  "kind": "auto"
};

/**
 * What a participant shows of itself.
 */
export type Presence = {
  /** The microphone is on. */
  microphone: boolean;
  /** The camera is on. */
  camera: boolean;
  /** A hand is raised. */
  hand: boolean;
};

/**
 * What a stream contains.
 */
export type Publication = {
  /** 0..=15, unique per sender. */
  stream: number;
  /** What it shows. */
  kind: StreamKind;
  /** Bit/s of the audio track, when there is one. */
  audio_bps: number | null;
  /** Spatial layers of the video track, lowest first; empty without video. At most 4. */
  layers: Array<VideoLayer>;
};

/**
 * Where a relay takes links over QUIC: a UDP port on the host that signalling is on.
 */
export type QuicAddress = {
  /** The port. */
  port: number;
  /** SHA-256 of the certificate that is shown there (DER), base64url. */
  certificate_sha256: string;
};

/**
 * How one participant reaches a relay (`docs/ref/links.md`, Links to a relay).
 */
export type RelayLink = {
  /** Changes when the relay starts anew: links to another instance are dead. */
  instance: string;
  /** 128 random bits, base64url: proves to the relay who opens the link. For this link only. */
  token: string;
  /** The relay takes links by RTP as well; absent: no. */
  by_rtp?: boolean;
  /** Where native peers may open it over QUIC instead. Browsers cannot. */
  quic?: QuicAddress;
};

/**
 * Measurements of one node, and how willing it is. What is absent is as it was last said.
 */
export type Report = {
  /** What this node can send in all, bit/s. */
  uplink_bps?: number;
  /** Its links. */
  links: Array<LinkReport>;
  /** What it receives. */
  edges: Array<EdgeReport>;
  /** Nobody sees its page at present. */
  hidden?: boolean;
  /** What it runs on, where it knows. */
  battery?: Battery;
  /** Its bytes are counted or dear. */
  metered?: boolean;
  /** The person's own switch: false = forwards nothing that is not its own. */
  passes_on?: boolean;
};

/**
 * Camera or screen.
 */
export type StreamKind = "camera"
  | "screen";

/**
 * One stream of the room: `stream` 0 is the camera with its microphone, 1 the screen with its sound.
 */
export type StreamRef = {
  /** Who sends it. */
  node: number;
  /** 0..=15. */
  stream: number;
};

/**
 * One tree.
 */
export type Tree = {
  /** The stream, and with it the root. */
  stream: StreamRef;
  /** Parents before children. */
  edges: Array<TreeEdge>;
  /** Receivers that nobody can feed at present. */
  unserved: Array<number>;
};

/**
 * One edge.
 */
export type TreeEdge = {
  /** From. */
  parent: number;
  /** To. */
  child: number;
  /** Whom the child takes the stream from should the parent fall silent; absent: nobody. */
  backup?: number;
  /** Of the child; the root's is 0. */
  level: number;
  /** Highest spatial layer ordered; `null` for audio only. */
  layer: number | null;
  /** Has the child received a frame on it? */
  live: boolean;
  /** Bit/s received, as last reported. */
  bps: number;
  /** As in [`EdgeReport`]. */
  delay_ms: number;
  /** As in [`LinkReport`], from the child. */
  rtt_ms: number;
  /** As in [`LinkReport`], from the child. */
  loss: number;
  /** Why the edge is as it is. */
  reason: EdgeReason;
};

/**
 * A picture of the room's trees.
 */
export type Trees = {
  /** As in [`Orders`]. */
  epoch: number;
  /** One per stream. */
  trees: Array<Tree>;
};

/**
 * One spatial layer: an encoding of its own.
 */
export type VideoLayer = {
  /** Pixels. */
  width: number;
  /** Pixels. */
  height: number;
  /** Bit/s aimed at. */
  bps: number;
};

/**
 * What a node shows of one stream.
 */
export type Want = {
  /** Which stream. */
  stream: StreamRef;
  /** The highest spatial layer of use; `null` for sound only. */
  layer: number | null;
};

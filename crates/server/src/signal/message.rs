//! The signalling protocol, version 1: every message that travels on the WebSocket, as types.
//!
//! One JSON object per text frame, tagged by `type`. `docs/ref/protocol.md` describes the conversation; the TypeScript
//! types of the web client are generated from this file, and both sides read the same fixtures (`fixtures/signal/`).
//!
//! The server reads who is where and who feeds whom. It never reads what people say or show: [`ClientMessage::Mail`]
//! and [`ClientMessage::Chat`] carry sealed bytes, and media never passes here.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The protocol version this build speaks. Sent in [`Join::version`]; another one is refused with
/// [`ErrorCode::Version`].
pub const VERSION: u32 = 1;

/// The WebSocket subprotocol that names this protocol and its version.
pub const SUBPROTOCOL: &str = "grove.v1";

/// A participant's number, unique in the room while the room lives (never given out twice). It is also the `sender`
/// field of the frames that the participant seals.
pub type Node = u16;

/// A participant's name for itself: 96 random bits, base64url without padding, new for every join and kept through
/// reconnects. It is what identities are bound to.
pub type ParticipantId = String;

/// One stream of the room: `stream` 0 is the camera with its microphone, 1 the screen with its sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
pub struct StreamRef {
    /// Who sends it.
    pub node: Node,
    /// 0..=15.
    pub stream: u8,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Make a room; answered by [`ServerMessage::Created`].
    Create {
        /// How trees are chosen; `auto` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        policy: Option<Policy>,
        /// True: media never passes a relay, not even where two browsers cannot connect. False when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        never_relay: Option<bool>,
    },
    /// Enter a room, or come back to it; answered by [`ServerMessage::Joined`].
    Join(Join),
    /// Look at a room without entering; answered by [`ServerMessage::Looked`].
    Look {
        /// The room's id.
        room: String,
    },
    /// Leave for good. Children are re-parented before the server answers anybody else.
    Leave,
    /// Start sending a stream, or change what it contains.
    Publish {
        /// The whole new description.
        publication: Publication,
    },
    /// Stop sending a stream.
    Unpublish {
        /// Which of the sender's streams.
        stream: u8,
    },
    /// Which layers of which streams this node shows. A stream that is not named keeps its last want; at first
    /// everything is wanted in the top layer.
    Want {
        /// One entry per stream that changed.
        wants: Vec<Want>,
    },
    /// The first frame of `stream` came from `parent`: this node has the stream and may be asked to forward it.
    Ready {
        /// Which stream.
        stream: StreamRef,
        /// Who delivered the frame.
        parent: Node,
    },
    /// The link to `peer` failed. `never` means that it was never up: this pair cannot connect.
    Lost {
        /// The other end.
        peer: Node,
        /// What happened.
        why: LostReason,
    },
    /// A session description for the link to `to`.
    Description {
        /// The other end.
        to: Node,
        /// Offer or answer.
        kind: DescriptionKind,
        /// SDP, at most 16 KiB; an offer to a relay 192 KiB.
        sdp: String,
        /// Ed25519 over the DTLS fingerprint, base64url (`docs/ref/protocol.md`, Signatures).
        signature: String,
    },
    /// An ICE candidate for the link to `to`; an empty string ends the candidates.
    Candidate {
        /// The other end.
        to: Node,
        /// The candidate line.
        candidate: String,
        /// The media section it belongs to.
        mid: Option<String>,
    },
    /// A sealed, signed message for one participant: the blind mailbox (sender keys).
    Mail {
        /// Recipient.
        to: Node,
        /// base64url, at most 8 KiB.
        body: String,
    },
    /// A chat line, sealed under a key that only the room's members have.
    Chat {
        /// base64url, at most 8 KiB.
        body: String,
    },
    /// What others should see of this participant.
    Presence {
        /// The whole new state.
        presence: Presence,
    },
    /// Measurements: about once a second, and at once when `uplink_bps` changes by much.
    Report(Report),
    /// Start or stop receiving [`ServerMessage::Trees`].
    Trees {
        /// True to receive.
        watch: bool,
    },
    /// Change how trees are chosen, during the call.
    SetPolicy {
        /// The new policy.
        policy: Policy,
        /// As in [`ClientMessage::Create`]; unchanged when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        never_relay: Option<bool>,
    },
    /// Is the server there? Answered by [`ServerMessage::Pong`].
    Ping {
        /// Returned as it is.
        n: u32,
    },
}

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The room exists now and waits for its first participant.
    Created {
        /// 96 random bits, base64url: 16 characters.
        room: String,
    },
    /// Who is in a room.
    Looked {
        /// The room's id.
        room: String,
        /// Display names, in order of arrival; at most 50.
        names: Vec<String>,
        /// How many there are.
        count: u32,
    },
    /// You are in.
    Joined(Joined),
    /// Somebody came (or came back under a new identity).
    Entered {
        /// Who.
        participant: Participant,
    },
    /// Somebody is gone for good.
    Left {
        /// Who.
        node: Node,
        /// Why.
        why: LeftReason,
    },
    /// Somebody's connection to the server broke or came back; media may well go on.
    Connection {
        /// Who.
        node: Node,
        /// Is it up?
        connected: bool,
    },
    /// A stream started or changed.
    Published {
        /// Who sends it.
        node: Node,
        /// What it contains.
        publication: Publication,
    },
    /// A stream ended.
    Unpublished {
        /// Which.
        stream: StreamRef,
    },
    /// What this node must do now. Changes are applied in order.
    Orders(Orders),
    /// A session description from `from`.
    Description {
        /// The other end.
        from: Node,
        /// Offer or answer.
        kind: DescriptionKind,
        /// SDP.
        sdp: String,
        /// As sent.
        signature: String,
    },
    /// An ICE candidate from `from`.
    Candidate {
        /// The other end.
        from: Node,
        /// As sent.
        candidate: String,
        /// As sent.
        mid: Option<String>,
    },
    /// Mail from `from`.
    Mail {
        /// Sender.
        from: Node,
        /// As sent.
        body: String,
    },
    /// A chat line. The sender receives its own line too: that is the receipt.
    Chat(ChatLine),
    /// Somebody's presence changed.
    Presence {
        /// Who.
        node: Node,
        /// The whole new state.
        presence: Presence,
    },
    /// The room's trees, at most once a second, to those who watch.
    Trees(Trees),
    /// The policy changed.
    PolicyChanged {
        /// The new policy.
        policy: Policy,
        /// Are relays forbidden from now on?
        never_relay: bool,
        /// Who changed it; 0: the server, which has no relay any more.
        by: Node,
    },
    /// Answer to [`ClientMessage::Ping`].
    Pong {
        /// As sent.
        n: u32,
    },
    /// The server is about to stop: media goes on; reconnect after a pause.
    Draining,
    /// Something that was asked for cannot be done. The connection goes on.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: what happened and what to do.
        message: String,
        /// The `type` of the message that caused it, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        refers_to: Option<String>,
    },
}

/// Entering a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Join {
    /// [`VERSION`].
    pub version: u32,
    /// The room's id.
    pub room: String,
    /// Chosen by the client.
    pub participant: ParticipantId,
    /// Display name, 1..=64 characters after trimming.
    pub name: String,
    /// Keys, bound to the room secret.
    pub identity: Identity,
    /// What this browser can do.
    pub capabilities: Capabilities,
    /// What this node can send in all, bit/s, where it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub uplink_bps: Option<u64>,
    /// The token from [`Joined::resume`], to come back as the same participant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub resume: Option<String>,
}

/// A participant's public keys. The server passes them on and cannot forge them: it does not know the room secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Identity {
    /// 128 random bits, base64url.
    pub nonce: String,
    /// X25519 public key, base64url.
    pub kem_key: String,
    /// Ed25519 public key, base64url.
    pub sign_key: String,
    /// HMAC-SHA-256 under the room's identity key over room, participant, nonce and both keys, base64url.
    pub mac: String,
}

/// What a node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Capabilities {
    /// Encoded frames over data channels in a worker: without it a node can neither send nor receive.
    pub frames: bool,
    /// May be asked to forward other people's streams.
    pub forward: bool,
}

/// The room as a newcomer finds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Joined {
    /// Your number.
    pub node: Node,
    /// Secret token to come back with.
    pub resume: String,
    /// True when an earlier presence was taken up again; `orders` then restates everything.
    pub resumed: bool,
    /// How trees are chosen.
    pub policy: Policy,
    /// Are relays forbidden?
    pub never_relay: bool,
    /// Numbers of the relays that may stand in the room's trees.
    pub relays: Vec<Node>,
    /// Everybody, yourself included.
    pub participants: Vec<Participant>,
    /// The last lines, oldest first.
    pub chat: Vec<ChatLine>,
    /// STUN servers for links.
    pub ice_servers: Vec<String>,
    /// What to do now.
    pub orders: Orders,
}

/// One participant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Participant {
    /// Number in the room.
    pub node: Node,
    /// The client's own id.
    pub id: ParticipantId,
    /// Display name.
    pub name: String,
    /// Public keys.
    pub identity: Identity,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it shows of itself.
    pub presence: Presence,
    /// What it sends.
    pub publications: Vec<Publication>,
    /// Is its signalling connection up?
    pub connected: bool,
}

/// What a participant shows of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Presence {
    /// The microphone is on.
    pub microphone: bool,
    /// The camera is on.
    pub camera: bool,
    /// A hand is raised.
    pub hand: bool,
}

/// What a stream contains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Publication {
    /// 0..=15, unique per sender.
    pub stream: u8,
    /// What it shows.
    pub kind: StreamKind,
    /// Bit/s of the audio track, when there is one.
    pub audio_bps: Option<u32>,
    /// Spatial layers of the video track, lowest first; empty without video. At most 4.
    pub layers: Vec<VideoLayer>,
}

/// Camera or screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// Camera and microphone.
    Camera,
    /// Screen and its sound.
    Screen,
}

/// One spatial layer: an encoding of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct VideoLayer {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Bit/s aimed at.
    pub bps: u32,
}

/// What a node shows of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Want {
    /// Which stream.
    pub stream: StreamRef,
    /// The highest spatial layer of use; `null` for sound only.
    pub layer: Option<u8>,
}

/// How trees are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Policy {
    /// Everybody sends to everybody.
    Mesh,
    /// A tree per stream, at most `branching` children per node in it.
    Tree {
        /// 1..=16.
        branching: u8,
    },
    /// Everybody sends to a relay, which sends to everybody.
    Relay,
    /// Per stream, from reported uplinks; a relay carries what the participants cannot.
    Auto,
}

/// Orders for one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Orders {
    /// Rises with every change of the room's trees.
    #[ts(type = "number")]
    pub epoch: u64,
    /// True: `changes` is everything; forget links and edges that are not in it.
    pub reset: bool,
    /// Applied in order.
    pub changes: Vec<Order>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Have a link to `peer`; `offer` says who makes the offer. Ordered ahead of the first edge between the two.
    Link {
        /// The other end.
        peer: Node,
        /// Do you offer? Always true towards a relay.
        offer: bool,
        /// The peer is a relay: how to reach it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        relay: Option<RelayLink>,
    },
    /// No edge uses the link any more: close it.
    Unlink {
        /// The other end.
        peer: Node,
    },
    /// Forward `stream` to `child`: audio always, video in `layers`. Given again to change an edge.
    Feed {
        /// Which stream.
        stream: StreamRef,
        /// To whom.
        child: Node,
        /// Spatial layers, lowest first; empty = audio only.
        layers: Vec<u8>,
        /// What the plan allots to this edge, bit/s.
        rate_bps: u32,
    },
    /// Stop forwarding `stream` to `child`.
    Release {
        /// Which stream.
        stream: StreamRef,
        /// To whom.
        child: Node,
    },
    /// From now on `stream` comes from `parent`. The old parent, if any, goes on until the new one has delivered.
    Parent {
        /// Which stream.
        stream: StreamRef,
        /// `null`: nobody can feed you at present; `reason` says why.
        parent: Option<Node>,
        /// Spatial layers to expect.
        layers: Vec<u8>,
        /// Why this changed.
        reason: EdgeReason,
    },
    /// Should the parent of `stream` fall silent, `take` it from this one as well, without asking anybody.
    Backup {
        /// Which stream.
        stream: StreamRef,
        /// `null`: there is none.
        parent: Option<Node>,
        /// Spatial layers to expect from there.
        layers: Vec<u8>,
    },
    /// Be ready to send `stream` to `child`: begin when it says `take`, and never before. Ends with `release`; `feed` makes
    /// an ordinary edge of it, which goes on if it has begun.
    StandBy {
        /// Which stream.
        stream: StreamRef,
        /// To whom.
        child: Node,
        /// Spatial layers, lowest first; empty = audio only.
        layers: Vec<u8>,
        /// What the edge may carry once it has begun, bit/s.
        rate_bps: u32,
    },
}

/// How one participant reaches a relay (`docs/ref/links.md`, Links to a relay).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RelayLink {
    /// Changes when the relay starts anew: links to another instance are dead.
    pub instance: String,
    /// 128 random bits, base64url: proves to the relay who opens the link. For this link only.
    pub token: String,
    /// The relay takes links by RTP as well; absent: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[ts(optional, as = "Option<bool>")]
    pub by_rtp: bool,
    /// Where native peers may open it over QUIC instead. Browsers cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub quic: Option<QuicAddress>,
}

/// Where a relay takes links over QUIC: a UDP port on the host that signalling is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct QuicAddress {
    /// The port.
    pub port: u16,
    /// SHA-256 of the certificate that is shown there (DER), base64url.
    pub certificate_sha256: String,
}

/// Why an edge changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum EdgeReason {
    /// A receiver or a stream is new.
    Joined,
    /// The parent left politely.
    ParentLeft,
    /// The parent vanished, or the link to it failed.
    ParentLost,
    /// Uplinks changed.
    Capacity,
    /// The shown layer changed.
    Layers,
    /// The policy changed.
    Policy,
    /// The stream or the receiver ended.
    Ended,
    /// Nobody who has the stream can carry one more receiver.
    NoCapacity,
    /// Nobody who has the stream can be reached from here.
    Unreachable,
}

/// What happened to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// It was up and fell silent.
    Silent,
    /// It never came up.
    Never,
}

/// Why somebody is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// Said so.
    Left,
    /// Did not come back within the grace period, or its neighbours lost it too.
    Lost,
}

/// Offer or answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DescriptionKind {
    /// The named offerer's.
    Offer,
    /// The other's.
    Answer,
}

/// A chat line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChatLine {
    /// Who.
    pub node: Node,
    /// Their display name, kept for when they have left.
    pub name: String,
    /// Milliseconds since the Unix epoch, by the server's clock.
    #[ts(type = "number")]
    pub at_ms: u64,
    /// Sealed, base64url.
    pub body: String,
}

/// Measurements of one node, and how willing it is. What is absent is as it was last said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Report {
    /// What this node can send in all, bit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub uplink_bps: Option<u64>,
    /// Its links.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// What it receives.
    #[serde(default)]
    pub edges: Vec<EdgeReport>,
    /// Nobody sees its page at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hidden: Option<bool>,
    /// What it runs on, where it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub battery: Option<Battery>,
    /// Its bytes are counted or dear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub metered: Option<bool>,
    /// The person's own switch: false = forwards nothing that is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub passes_on: Option<bool>,
}

/// A battery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Battery {
    /// Is it being charged, or full and on mains?
    pub charging: bool,
    /// How full, 0..=1.
    pub level: f32,
}

/// One link, as seen from the reporting end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct LinkReport {
    /// The other end.
    pub peer: Node,
    /// Round-trip time, milliseconds.
    pub rtt_ms: f32,
    /// Bit/s sent.
    pub sent_bps: u32,
    /// Share of frames from the peer that never came, 0..=1.
    pub loss: f32,
}

/// One incoming edge, as seen by the child.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct EdgeReport {
    /// Which stream.
    pub stream: StreamRef,
    /// From whom.
    pub parent: Node,
    /// Bit/s received.
    pub bps: u32,
    /// Capture to arrival, milliseconds, relative to the fastest frame seen.
    pub delay_ms: f32,
    /// The spatial layer shown at present.
    pub layer: Option<u8>,
}

/// A picture of the room's trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Trees {
    /// As in [`Orders`].
    #[ts(type = "number")]
    pub epoch: u64,
    /// One per stream.
    pub trees: Vec<Tree>,
}

/// One tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Tree {
    /// The stream, and with it the root.
    pub stream: StreamRef,
    /// Parents before children.
    pub edges: Vec<TreeEdge>,
    /// Receivers that nobody can feed at present.
    pub unserved: Vec<Node>,
}

/// One edge.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct TreeEdge {
    /// From.
    pub parent: Node,
    /// To.
    pub child: Node,
    /// Whom the child takes the stream from should the parent fall silent; absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub backup: Option<Node>,
    /// Of the child; the root's is 0.
    pub level: u8,
    /// Highest spatial layer ordered; `null` for audio only.
    pub layer: Option<u8>,
    /// Has the child received a frame on it?
    pub live: bool,
    /// Bit/s received, as last reported.
    pub bps: u32,
    /// As in [`EdgeReport`].
    pub delay_ms: f32,
    /// As in [`LinkReport`], from the child.
    pub rtt_ms: f32,
    /// As in [`LinkReport`], from the child.
    pub loss: f32,
    /// Why the edge is as it is.
    pub reason: EdgeReason,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message's `type` is not known.
    UnknownMessage,
    /// A field holds what it must not.
    BadField,
    /// Another protocol version.
    Version,
    /// No such room, or it has ended.
    NoSuchRoom,
    /// Not before joining, or not after.
    WrongState,
    /// No such participant or stream.
    NoSuchTarget,
    /// A cap was reached; try later.
    TooMany,
    /// The server is stopping.
    Draining,
}

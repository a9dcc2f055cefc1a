//! Rooms: the state machine of one ([`state`]), the task that feeds it ([`task`]), and all of them ([`registry`]).
//!
//! Rooms know nothing of each other and share no lock: each is a task with a queue of its own.

pub mod chat;
pub mod member;
pub mod picture;
pub mod registry;
pub mod relay;
pub mod state;
pub mod task;
pub mod willing;
pub mod wiring;

use crate::signal::close::Close;
use crate::signal::message::{ClientMessage, EdgeReason, Join, Policy, ServerMessage};
use grove_tree::Millis;
use member::Token;

/// A WebSocket, by number; never used twice while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What every room of a server follows.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A participant whose socket broke may come back within this time.
    pub resume: Millis,
    /// An empty room stays this long.
    pub empty: Millis,
    /// People in one room; 0 = as many as come.
    pub people: usize,
    /// What a node that reports nothing is believed to send in all, bit/s.
    pub uplink: u64,
    /// Edges that a node carries in all.
    pub slots: u16,
    /// How trees are chosen in rooms that do not say.
    pub policy: Policy,
    /// STUN servers that clients are told.
    pub ice_servers: Vec<String>,
    /// What the relay may be asked for, where there is one.
    pub relay: Option<RelaySettings>,
}

/// What rooms may ask of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelaySettings {
    /// What it can send in all, bit/s.
    pub egress: u64,
    /// Edges that it carries in one room.
    pub slots: u16,
    /// Does it take links by RTP?
    pub rtp: bool,
    /// Where it takes links over QUIC, if at all.
    pub quic: Option<QuicPort>,
}

/// Where the relay takes links over QUIC: a UDP port on the host that signalling is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuicPort {
    /// The port.
    pub port: u16,
    /// SHA-256 of the certificate that it shows, DER.
    pub certificate_sha256: [u8; 32],
}

/// How a room begins.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub struct Opening {
    /// How trees are chosen.
    pub policy: Policy,
    /// Are relays forbidden?
    pub never_relay: bool,
    /// The room's number at the relay; never used twice while the server runs.
    pub number: grove_relay::Room,
    /// Which start of the relay it is; empty without one.
    pub instance: String,
    /// Fresh random bytes: what tokens for the relay are made from.
    pub key: [u8; 32],
    /// The wall clock at the time 0 of the room, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// What happens to a room.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub enum Input {
    /// Somebody wants in.
    Join {
        /// The socket.
        connection: ConnectionId,
        /// What it said.
        join: Box<Join>,
        /// Fresh, for a newcomer.
        token: Token,
    },
    /// A message from somebody in the room.
    Message {
        /// The socket.
        connection: ConnectionId,
        /// The message.
        message: ClientMessage,
    },
    /// The socket is gone.
    Disconnected {
        /// The socket.
        connection: ConnectionId,
    },
    /// The relay says something.
    Relay(grove_relay::Event),
    /// The relay started, or started anew, and knows nothing of before.
    RelayStarted {
        /// Its new instance.
        instance: String,
        /// What it may be asked for.
        settings: RelaySettings,
    },
    /// There is no relay any more.
    RelayEnded,
}

/// What a room wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a message.
    Send {
        /// To these sockets.
        to: Vec<ConnectionId>,
        /// The message.
        message: ServerMessage,
    },
    /// Close a socket.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        why: Close,
    },
    /// Tell the relay. Stands ahead of what browsers are told in the same step: it expects them when they come.
    Relay(grove_relay::Command),
    /// Somebody came in: for the metrics.
    Joined {
        /// Or came back.
        resumed: bool,
    },
    /// A receiver changed parents: for the metrics.
    Moved {
        /// Why.
        reason: EdgeReason,
    },
}

//! Rooms: the state machine of one ([`state`]), the task that feeds it ([`task`]), and all of them ([`registry`]).
//!
//! Rooms know nothing of each other and share no lock: each is a task with a queue of its own.

pub mod chat;
pub mod member;
pub mod picture;
pub mod registry;
pub mod state;
pub mod task;
pub mod wiring;

use crate::signal::close::Close;
use crate::signal::message::{ClientMessage, EdgeReason, Join, ServerMessage};
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
    /// STUN servers that clients are told.
    pub ice_servers: Vec<String>,
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

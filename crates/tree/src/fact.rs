//! What the planner is told.

use crate::{Layers, NodeId, StreamId};

/// How trees are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The root feeds everybody itself.
    Mesh,
    /// At most this many children per node in each tree (1..=16).
    Tree(u8),
    /// The root feeds one relay, which feeds everybody.
    Relay,
    /// Per stream, from uplinks: the root feeds everybody while its uplink suffices, else helpers carry the rest, and a
    /// relay what they cannot.
    Auto,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sends and receives streams of its own: a browser.
    Participant,
    /// The same as a program of its own: it hands packets on as they come, where a browser waits for a whole frame.
    Native,
    /// Receives a stream only to hand it on; stands in a tree only while it is needed there.
    Relay,
}

/// Regions that a planner tells apart.
pub const REGIONS: usize = 16;

/// How a node can be reached, as far as anybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Nat {
    /// By everybody.
    Open,
    /// By everybody whose packets come from one port.
    #[default]
    Cone,
    /// Only where the other side's port need not be known beforehand.
    Symmetric,
    /// Only over TCP, by a relay.
    Blocked,
}

/// What the source of a stream is to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Trust {
    /// Somebody who came along.
    #[default]
    Stranger,
    /// A member of the room.
    Member,
    /// A contact of the source, or a device of its own.
    Contact,
}

/// What speaks against leaning on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Frailty {
    /// The page is not visible: its timers are slowed down.
    pub background: bool,
    /// It runs on its battery.
    pub battery: bool,
    /// Its owner pays by the byte.
    pub metered: bool,
}

/// A node as the planner sees it. The fields behind `slots` count in broadcasts only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    /// What it is.
    pub kind: Kind,
    /// What it can send in all, bit/s.
    pub uplink: u64,
    /// May it feed other people's streams at all?
    pub forwards: bool,
    /// Edges it can carry in all, whatever their rate.
    pub slots: u16,
    /// Where it stands, below [`REGIONS`]; more is read as 0.
    pub region: u8,
    /// How it can be reached.
    pub nat: Nat,
    /// What speaks against leaning on it.
    pub frailty: Frailty,
    /// What the source is to it.
    pub trust: Trust,
    /// What it has handed on, in percent of what it has received; 100 and more brings it nearer the root.
    pub contribution: u8,
    /// Does it receive every stream from the start? A willing node that does not watch may still be asked to help.
    pub watches: bool,
}

impl Default for NodeFacts {
    /// A participant that may forward but has nothing to forward with.
    fn default() -> Self {
        NodeFacts {
            kind: Kind::Participant,
            uplink: 0,
            forwards: true,
            slots: 0,
            region: 0,
            nat: Nat::default(),
            frailty: Frailty::default(),
            trust: Trust::default(),
            contribution: 0,
            watches: true,
        }
    }
}

/// A stream's rates, bit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Audio track; 0 without one.
    pub audio: u32,
    /// Video, per spatial layer, lowest first; 0 where there is none.
    pub layers: [u32; Layers::MAX],
}

/// One fact. All ids are the caller's; a fact about something unknown is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// A node is there, or its facts changed.
    Node(NodeId, NodeFacts),
    /// A node left politely: it goes on forwarding until its children have been moved.
    Left(NodeId),
    /// A node vanished: nothing comes from it any more.
    Failed(NodeId),
    /// The link between two nodes fell silent: what it carried is moved; the pair may be used again after a while.
    LinkLost(NodeId, NodeId),
    /// Two nodes cannot connect: never plan an edge between them.
    Barred(NodeId, NodeId),
    /// A stream started, or its rates changed. Every other node is a receiver that wants all layers until it says otherwise.
    Stream(StreamId, NodeId, Rates),
    /// A stream ended.
    Ended(StreamId),
    /// A receiver shows this stream up to this spatial layer; `None` = sound only.
    Wants(StreamId, NodeId, Option<u8>),
    /// A node received its first frame of a stream from this parent: it may feed others.
    Ready(StreamId, NodeId, NodeId),
    /// The policy.
    Policy(Policy),
    /// A node receives a stream from now on, or no longer. Broadcasts only.
    Watches(StreamId, NodeId, bool),
    /// A child says that its parent is lossy, late or alters what it hands on: (child, parent). Broadcasts only.
    Blamed(NodeId, NodeId),
}

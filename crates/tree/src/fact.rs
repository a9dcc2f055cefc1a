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
    /// Sends and receives streams of its own.
    Participant,
    /// Receives a stream only to hand it on; stands in a tree only while it is needed there.
    Relay,
}

/// A node as the planner sees it.
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
}

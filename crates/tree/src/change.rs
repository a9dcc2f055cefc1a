//! What the planner answers.

use crate::{Layers, NodeId, StreamId};

/// An edge changed.
///
/// A list is the net difference of one call: at most one entry per (child, stream), and within a stream a parent's own
/// entry stands ahead of its children's. Two exceptions carry no order: entries that take an edge away (`new: None`)
/// stand first because they free what others need, and those of a node that left politely stand last because it goes on
/// forwarding until its children have been moved, and so does the one of a relay whose children have moved to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeChange {
    /// The plan's epoch after this call; all entries of a list have the same.
    pub epoch: u64,
    /// The tree.
    pub stream: StreamId,
    /// The receiving end.
    pub child: NodeId,
    /// Who fed the child until now.
    pub old: Option<NodeId>,
    /// Who feeds it from now on; `None`: nobody can (`reason`: `NoCapacity`, `Unreachable`) or need (`Ended`).
    pub new: Option<Edge>,
    /// Why.
    pub reason: Reason,
    /// The old parent goes on until the new one has delivered. On the entry that takes a politely leaving node out of a
    /// tree, or a relay that is not needed any more: its parent goes on until its children have been moved.
    pub make_before_break: bool,
}

/// What a parent owes a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The sending end.
    pub parent: NodeId,
    /// Video layers; none = audio only.
    pub layers: Layers,
    /// What is billed, bit/s: the audio and every layer in the set.
    pub rate: u32,
    /// False: the parent has not got the stream itself yet. Connect, but do not feed; the same edge comes again with
    /// `true`.
    pub feed: bool,
}

/// Why an edge changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The receiver or the stream is new.
    Joined,
    /// The parent has the stream now and may feed.
    ParentReady,
    /// The old parent left politely.
    ParentLeft,
    /// The old parent vanished, or the link to it was lost or turned out impossible.
    ParentLost,
    /// Somebody's uplink or slots are short, or are no longer short.
    Capacity,
    /// The same parent sends other layers: a want or the stream's rates changed, here or further down the tree.
    Layers,
    /// The policy changed.
    Policy,
    /// The stream ended or the receiver is gone.
    Ended,
    /// Unserved: no parent has an uplink or a slot left, even for the least the stream needs.
    NoCapacity,
    /// Unserved: no chain of possible links leads from the root to this receiver.
    Unreachable,
}

/// Somebody else stands by for a receiver; or the same one again, where an edge's end has ended that meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupChange {
    /// The tree.
    pub stream: StreamId,
    /// The receiver.
    pub child: NodeId,
    /// Who stood by until now.
    pub old: Option<NodeId>,
    /// Who stands by from now on; `None`: nobody can, or need.
    pub new: Option<Backup>,
}

/// Who takes a parent's place at once should it fall silent, and what is reserved there for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// The node that stands by.
    pub parent: NodeId,
    /// Video layers that it would send: the lowest, or none where the receiver gets sound only.
    pub layers: Layers,
    /// What that takes, bit/s: the audio and the layer.
    pub rate: u32,
}

/// A tree as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeView {
    /// The stream.
    pub stream: StreamId,
    /// The node that sends it.
    pub root: NodeId,
    /// Parents before children; level by level, then by node.
    pub edges: Vec<EdgeView>,
    /// Receivers without a parent and why (`NoCapacity`, `Unreachable`), by node.
    pub unserved: Vec<(NodeId, Reason)>,
}

/// One edge of a tree as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeView {
    /// The receiving end.
    pub child: NodeId,
    /// The edge.
    pub edge: Edge,
    /// Hops from the root, 1..=[`DEPTH_CAP`](crate::DEPTH_CAP).
    pub level: u8,
    /// Has the child said that it has the stream?
    pub ready: bool,
    /// Why the edge last changed.
    pub reason: Reason,
}

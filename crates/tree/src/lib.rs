//! Streaming trees: facts in, edge changes out. (contract stub)
#![forbid(unsafe_code)]

mod fact;
pub use fact::{Fact, NodeFacts, Policy, Rates};

/// A node, by the caller's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A stream, by the caller's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A set of spatial layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Layers(pub u8);

impl Layers {
    /// Layers a stream can have.
    pub const MAX: usize = 4;
}

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

/// An edge changed. Lists are top-down: a parent's own edge stands ahead of its children's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeChange {
    pub epoch: u64,
    pub stream: StreamId,
    pub child: NodeId,
    /// Who fed the child until now.
    pub old: Option<NodeId>,
    /// Who feeds it from now on; `None`: nobody can (`reason`: `NoCapacity`, `Unreachable`) or need (`Ended`).
    pub new: Option<Edge>,
    pub reason: Reason,
    /// The old parent goes on until the new one has delivered.
    pub make_before_break: bool,
}

/// What a parent owes a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub parent: NodeId,
    /// Video layers; none = audio only.
    pub layers: Layers,
    /// What is billed, bit/s.
    pub rate: u32,
    /// False: the parent has not got the stream itself yet. Connect, but do not feed; the same edge comes again with `true`.
    pub feed: bool,
}

/// Why an edge changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason { Joined, ParentReady, ParentLeft, ParentLost, Capacity, Layers, Policy, Ended, NoCapacity, Unreachable }

/// The planner of one room.
#[derive(Debug)]
pub struct Plan;

/// A tree as it stands, parents before children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeView { pub stream: StreamId, pub root: NodeId, pub edges: Vec<EdgeView>, pub unserved: Vec<(NodeId, Reason)> }

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeView { pub child: NodeId, pub edge: Edge, pub level: u8, pub ready: bool, pub reason: Reason }

impl Plan {
    /// An empty room.
    pub fn new(policy: Policy) -> Self { let _ = policy; Plan }
    /// Take one fact; returns what changes, minimal and in order.
    pub fn handle(&mut self, _fact: Fact, _now: Millis) -> Vec<EdgeChange> { Vec::new() }
    /// Let time pass: retries what had no capacity, lets lost pairs be used again. Call when `poll_timeout` says so.
    pub fn handle_timeout(&mut self, _now: Millis) -> Vec<EdgeChange> { Vec::new() }
    pub fn poll_timeout(&self) -> Option<Millis> { None }
    pub fn epoch(&self) -> u64 { 0 }
    pub fn trees(&self) -> Vec<TreeView> { Vec::new() }
}

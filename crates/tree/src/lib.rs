//! Streaming trees: facts in, edge changes out.
//!
//! Owns the question *who hands a stream to whom* and nothing else. A [`Plan`] is the planner of one room: a
//! deterministic state machine without IO, clock, randomness or dependencies. The same facts at the same times give the
//! same bytes on every machine, so that a call can be replayed and a simulator can run faster than real time.
//!
//! Contract: [`Plan::handle`] takes one [`Fact`] and returns the net [`EdgeChange`]s it causes; whoever applies them in
//! order holds what [`Plan::trees`] shows. [`Plan::poll_timeout`] names the time at which [`Plan::handle_timeout`] wants
//! to be called. Rules, numbered invariants and what is to come: `docs/design/planner.md`.
//!
//! [`broadcast::Broadcast`] answers the same question in the same words for one or few streams with up to millions of
//! watchers: there a fact costs what the few nodes cost that it is about.
//!
//! Costs of a room: trees and loads stay from fact to fact. Hanging an edge or taking one off costs O(level), and a search among the
//! parent's children; a fact places only what has no parent, and compares only the trees that something touched. A changed
//! policy or capacity and a lost link look at every edge once. Where uplinks do not carry everything wanted, each fact
//! shares every layer out anew, O(edges x level); a room of 40 nodes that all send holds 1560 edges. Promoting the strong
//! and trees from nothing are for timeouts, and only while something is left to be desired. Figures:
//! `docs/design/planner.md`.
#![forbid(unsafe_code)]

pub mod broadcast;
mod change;
mod fact;
mod layers;
mod plan;

pub use change::{Backup, BackupChange, Edge, EdgeChange, EdgeView, Reason, TreeView};
pub use fact::{Fact, Frailty, Kind, Nat, NodeFacts, Policy, REGIONS, Rates, Trust};
pub use layers::Layers;
pub use plan::{AVOID_MS, DEPTH_CAP, EXTRA_LINKS, HOLD_MS, Plan, RETRY_MS};

/// A node, by the caller's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A stream, by the caller's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Milliseconds on the caller's monotonic clock.
pub type Millis = u64;

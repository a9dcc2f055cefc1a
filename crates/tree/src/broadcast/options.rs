//! What a broadcast's owner chooses, and what a broadcast tells about itself.

use crate::{NodeId, REGIONS};

/// Who may hand a stream on: the source's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Helpers {
    /// Whoever watches it.
    #[default]
    Watchers,
    /// Contacts of the source, whether they watch or not.
    Contacts,
    /// Members of the room, whether they watch or not.
    Room,
    /// Everybody, strangers who do not watch included.
    Anyone,
}

/// How a broadcast is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// No receiver stands deeper than this below the root or a relay (1..=31).
    pub depth: u8,
    /// A node that is neither root nor relay has at most this many children in one tree (1..=16).
    pub hub: u8,
    /// Percent of a reported uplink that are planned with. The rest, and the dead zone in which reports move nothing, keep
    /// noise of a tenth either way from moving anybody: 80 % of the first report is at most 98 % of any later one.
    pub headroom: u8,
    /// Receivers per thousand that are kept without children as hot spares, for backups to name.
    pub spares: u16,
    /// Edges that re-balancing may change per thousand receivers that came or went.
    pub edge_budget: u16,
    /// What a hop costs beside the round trip, ms.
    pub hop_ms: u16,
    /// Round-trip times between regions, ms.
    pub rtt_ms: [[u16; REGIONS]; REGIONS],
    /// Which kinds of NAT reach each other: `nat[a as usize][b as usize]`, read both ways. Relays reach everybody.
    pub nat: [[bool; 4]; 4],
    /// Who may hand streams on.
    pub helpers: Helpers,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            depth: crate::DEPTH_CAP,
            hub: 16,
            headroom: 80,
            spares: 8,
            edge_budget: 300,
            hop_ms: 30,
            rtt_ms: [[0; REGIONS]; REGIONS],
            nat: [
                [true, true, true, false],
                [true, true, true, false],
                [true, true, false, false],
                [false, false, false, false],
            ],
            helpers: Helpers::default(),
        }
    }
}

/// Where a child goes by itself when its parent falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// The spare: not below the child, nor below its parent.
    pub parent: NodeId,
    /// Connect ahead. A node keeps at most two such links for others and one for itself; nodes with children come first.
    pub warm: bool,
}

/// Work done, counted: what tests hold a planner to, because times on shared machines say little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Calls.
    pub operations: u64,
    /// Edges added or moved, net, by all calls.
    pub edges: u64,
    /// Receivers whose parent left or failed while they stayed: no plan moves fewer.
    pub orphans: u64,
    /// Edges added or moved by calls that told of leaving or failing.
    pub repairs: u64,
    /// Nodes with children that left or failed.
    pub departures: u64,
    /// Of those, whose children were served again with exactly one edge each.
    pub minimal: u64,
    /// Receivers that a departure put deeper than they stood.
    pub deepened: u64,
    /// Edges moved for a shorter tree or to give back relay slots.
    pub balanced: u64,
    /// Nodes touched by the last call.
    pub touched: u32,
    /// Nodes touched by the worst call about a single node.
    pub touched_worst: u32,
}

//! The shallowest free slot, strong or weak (*minimum depth* of Sripanidkulchai et al., "The feasibility of supporting
//! large-scale live streaming applications with dynamic application end-points", SIGCOMM 2004): uplinks are respected, but
//! nobody ever gives way to somebody stronger.

use super::{Greedy, Rule};
use crate::plan::overlay::{Id, Peer};

/// By level, then by number.
#[derive(Debug)]
pub(in crate::plan) struct Shallowest;

impl Rule for Shallowest {
    fn room(&mut self, _id: Id, peer: Peer, _stripe: u8) -> u32 {
        peer.slots()
    }

    fn order(&mut self, _id: Id, level: u32) -> u64 {
        level.into()
    }
}

pub(in crate::plan) fn planner(root_slots: u32) -> Greedy<Shallowest> {
    Greedy::new(Shallowest, root_slots)
}

//! Any node with a free slot, by lot: what a tracker does that knows uplinks and nothing else (the random policy of
//! Sripanidkulchai et al., SIGCOMM 2004).

use super::{Greedy, Rule};
use crate::plan::chance::Chance;
use crate::plan::overlay::{Id, Peer};

/// Every time somebody is listed anew it draws a number, and every search begins at another.
#[derive(Debug)]
pub(in crate::plan) struct Lot(Chance);

impl Rule for Lot {
    fn room(&mut self, _id: Id, peer: Peer, _stripe: u8) -> u32 {
        peer.slots()
    }

    fn order(&mut self, _id: Id, _level: u32) -> u64 {
        self.0.next()
    }

    fn begin(&mut self) -> u64 {
        self.0.next()
    }
}

pub(in crate::plan) fn planner(root_slots: u32, seed: u64) -> Greedy<Lot> {
    Greedy::new(Lot(Chance::of(seed, 0, 23)), root_slots)
}

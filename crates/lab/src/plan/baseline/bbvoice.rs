//! BBVoice (Prisca, Aarhus 2017): every node has two children, whatever its uplink; places are filled level by level, in order
//! of joining. A leaver's orphans take the first free places in the same order, each with its subtree.
//!
//! Only the broadcasting participant's tree is simulated, so the root has two slots like anybody else.

use super::{Greedy, Rule};
use crate::plan::overlay::{Id, Peer};

const BRANCHING: u32 = 2;

/// In order of joining.
#[derive(Debug, Default)]
pub(in crate::plan) struct JoinOrder {
    next: u64,
    joined: Vec<u64>,
}

impl Rule for JoinOrder {
    fn room(&mut self, id: Id, _peer: Peer, _stripe: u8) -> u32 {
        let len = self.joined.len().max(id as usize + 1);
        self.joined.resize(len, 0);
        if self.joined[id as usize] == 0 {
            self.next += 1;
            self.joined[id as usize] = self.next;
        }
        BRANCHING
    }

    fn forget(&mut self, id: Id) {
        self.joined[id as usize] = 0;
    }

    fn order(&mut self, id: Id, level: u32) -> u64 {
        let joined = self.joined.get(id as usize).copied().unwrap_or(0);
        u64::from(level) << 40 | joined
    }
}

pub(in crate::plan) fn planner() -> Greedy<JoinOrder> {
    Greedy::new(JoinOrder::default(), BRANCHING)
}

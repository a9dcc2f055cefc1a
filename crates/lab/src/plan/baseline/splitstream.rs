//! Striping with interior-disjoint trees (Castro et al., "SplitStream", SOSP 2003), its trees chosen as CoopNet does it
//! (Padmanabhan et al., ICNP 2003): the planner knows everybody, and a newcomer may have children in the one stripe in which
//! there is least room. There its whole uplink counts, a stripe being a fourth of the stream; in the other trees it is a
//! leaf. Within a tree the shallowest free slot is taken; where the tree is full, a paid slot.
//!
//! A viewer who lacks one stripe of four sees three quarters of the stream if the codec can do that (several descriptions);
//! the simulator counts it as an interruption and, apart from that, how much of the stream is missing.

use super::{Greedy, Rule};
use crate::plan::overlay::{Id, Peer};

pub(in crate::plan) const STRIPES: u8 = 4;

/// By level; room in one stripe only.
#[derive(Debug, Default)]
pub(in crate::plan) struct Disjoint {
    /// In which stripe a viewer has children, and with room for how many.
    interior: Vec<Option<(u8, u32)>>,
    room: [u64; STRIPES as usize],
}

impl Rule for Disjoint {
    fn stripes(&self) -> u8 {
        STRIPES
    }

    fn room(&mut self, id: Id, peer: Peer, stripe: u8) -> u32 {
        let len = self.interior.len().max(id as usize + 1);
        self.interior.resize(len, None);
        let room = peer.slots() * u32::from(STRIPES);
        let (chosen, before) = self.interior[id as usize].unwrap_or_else(|| {
            let least = (0..STRIPES).min_by_key(|s| (self.room[usize::from(*s)], *s));
            (least.unwrap_or(0), 0)
        });
        let sum = &mut self.room[usize::from(chosen)];
        *sum = *sum + u64::from(room) - u64::from(before);
        self.interior[id as usize] = Some((chosen, room));
        if chosen == stripe { room } else { 0 }
    }

    fn forget(&mut self, id: Id) {
        if let Some((stripe, room)) = self.interior[id as usize].take() {
            self.room[usize::from(stripe)] -= u64::from(room);
        }
    }

    fn order(&mut self, _id: Id, level: u32) -> u64 {
        level.into()
    }
}

pub(in crate::plan) fn planner(root_slots: u32) -> Greedy<Disjoint> {
    // The root's slots count in each tree: the same bytes as whole copies.
    Greedy::new(Disjoint::default(), root_slots)
}

//! Water-filling: how much of its uplink everybody should use under `Auto`.
//!
//! The level is the lowest part of everybody's uplink at which everything that participants send in these trees is sent:
//! what has to be sent, over what can be. Nobody gets less than a copy of each of its own streams, for it must send that,
//! and whoever does not pass on gets no more than its own streams take. Costs: O(edges).

use super::map::NodeMap;
use super::room::Room;
use super::shape::{Shape, shown};
use crate::{NodeId, Policy};

/// Water levels are reckoned in these parts of an uplink.
const WHOLE: u64 = 1 << 16;

/// Below half of its uplink nobody asks for help: a hop costs delay, and there is headroom enough.
const EASE: u64 = WHOLE / 2;

/// Whom levelling is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Those whose uplink cannot carry everything wanted.
    Relief,
    /// All who send a copy more than their share.
    Even,
}

/// What a participant has and should use, bit/s.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub budget: u64,
    /// What it would send if all uplinks were used alike.
    pub target: u64,
    /// The dearest copy that it sends.
    copy: u64,
}

impl Share {
    /// What it may send before anything is moved for it.
    pub fn limit(&self, aim: Aim) -> u64 {
        match aim {
            Aim::Relief => self.budget,
            Aim::Even => self.budget.min(self.target + self.copy),
        }
    }

    /// What it should send once something is moved: half a copy about the target, so that nothing is moved twice.
    pub fn goal(&self) -> u64 {
        self.budget.min(self.target + self.copy / 2)
    }

    /// What it goes down to when it is lightened.
    pub fn floor(&self, aim: Aim) -> u64 {
        match aim {
            Aim::Relief => self.budget,
            Aim::Even => self.goal(),
        }
    }
}

/// Every participant's share of what participants send in these trees, and whether their uplinks suffice for it in sum.
pub(super) fn shares(room: &Room, shape: &Shape) -> (NodeMap<Share>, bool) {
    struct Bounds {
        least: u64,
        most: u64,
    }
    let mut bounds: NodeMap<Bounds> = NodeMap::new();
    let mut shares: NodeMap<Share> = NodeMap::new();
    let mut total = 0;
    for (&id, node) in room.nodes.iter() {
        if room.is_relay(id) {
            continue;
        }
        let most = if node.facts.forwards && node.facts.slots > 0 {
            node.budget
        } else {
            0
        };
        bounds.insert(id, Bounds { least: 0, most });
        shares.insert(
            id,
            Share {
                budget: node.budget,
                ..Share::default()
            },
        );
        total += shape.load(id).full;
    }
    for (&id, stream) in &room.streams {
        let tree = shape.tree(id);
        let (mut copy, mut own) = (0, 0);
        for (&child, &parent) in tree.parent.iter() {
            let bill = stream.bill(&tree.counts(child), tree.is_leaf(child)).1;
            if let Some(share) = shares.get_mut(&parent) {
                share.copy = share.copy.max(bill);
            }
            if parent == stream.root {
                copy = bill.max(copy);
            }
            if !room.is_relay(parent) {
                own += bill;
            }
        }
        let (Some(bounds), Some(node)) =
            (bounds.get_mut(&stream.root), room.nodes.get(&stream.root))
        else {
            continue;
        };
        bounds.least = (bounds.least + copy).min(node.budget);
        if !node.facts.forwards {
            bounds.most = (bounds.most + own).min(node.budget);
        }
    }
    // The lowest level at which everything is sent, by bisection.
    let at = |level: u64, id: &NodeId, budget: u64| {
        let (least, most) = bounds.get(id).map_or((0, 0), |b| (b.least, b.most));
        (budget.saturating_mul(level) / WHOLE).clamp(least, most.max(least))
    };
    let suffices = |level: u64| {
        let sums = shares.iter().map(|(id, share)| at(level, id, share.budget));
        sums.fold(0, u64::saturating_add) >= total
    };
    let (mut low, mut high) = (EASE, WHOLE);
    while low < high {
        let level = (low + high) / 2;
        if suffices(level) {
            high = level;
        } else {
            low = level + 1;
        }
    }
    let enough = suffices(WHOLE);
    for (id, share) in shares.iter_mut() {
        share.target = at(low, id, share.budget);
    }
    (shares, enough)
}

/// How much more than a copy above their shares participants send, summed, bit/s.
pub(super) fn unevenness(room: &Room, shape: &Shape) -> u64 {
    if room.policy != Policy::Auto {
        return 0;
    }
    let (shares, _) = shares(room, shape);
    shares
        .iter()
        .map(|(&id, share)| shape.load(id).full.saturating_sub(share.limit(Aim::Even)))
        .sum()
}

/// Does somebody send more than its share by more than a copy, or help a root that has uplink to spare?
pub(super) fn is_wanted(room: &Room, shape: &Shape) -> bool {
    if room.policy != Policy::Auto {
        return false;
    }
    let (shares, _) = shares(room, shape);
    let mut loads = shares.iter();
    if loads.any(|(&id, share)| shape.load(id).full > share.limit(Aim::Even)) {
        return true;
    }
    room.streams.iter().any(|(&id, stream)| {
        let target = shares.get(&stream.root).map_or(0, |share| share.target);
        let load = shape.load(stream.root).full;
        let tree = shape.tree(id);
        let mut helpers = tree.kids_of(stream.root).filter(|&kid| !room.is_relay(kid));
        helpers.any(|helper| {
            // Without its only child a helper takes just what it shows.
            let freed = if tree.kids_of(helper).count() == 1 {
                let alone = stream.bill(&shown(room, stream, helper), true).1;
                stream.bill(&tree.counts(helper), false).1 - alone
            } else {
                0
            };
            tree.kids_of(helper).any(|kid| {
                let bill = stream.bill(&tree.counts(kid), tree.is_leaf(kid)).1;
                tree.is_leaf(kid)
                    && load + bill <= target + freed
                    && room.may_feed(stream, stream.root, kid)
                    && !room.avoided(stream.root, kid)
            })
        })
    })
}

/// Would everything wanted of this node fit its uplink?
pub(super) fn is_carried(room: &Room, shape: &Shape) -> bool {
    let mut nodes = room.nodes.iter();
    nodes.all(|(&id, node)| shape.load(id).full <= node.budget)
}

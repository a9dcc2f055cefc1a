//! Moves that nobody waits for: giving back relay slots, and making the tree shorter.
//!
//! Every move is worth at least half a level per edge, summed over everybody whom it lifts; every receiver
//! that comes or goes earns a fraction of an edge for it ([`Options::edge_budget`](super::Options::edge_budget)). All moves
//! make the sum of levels smaller or the relays' load lighter, so that they cannot undo each other.

use super::grow::Look;
use super::index::{Bag, RANKS};
use super::nodes::{NONE, Nodes};
use super::tree::{RELAY, Tree};
use crate::{Millis, Reason};

/// Edges that a timeout moves at most.
const PER_TICK: u64 = 10_000;
/// What an edge must win at least, in levels: one half. More is left undone, less would flap.
const WORTH: (i32, i32) = (1, 2);
/// A subtree that is moved off a relay's slot has at most so many nodes.
const MOVABLE: u32 = 4_096;
/// Relay slots are asked for at once, and given back when one in twenty has not been needed for this long.
const SLACK_MS: Millis = 30_000;

impl Tree {
    /// Spend the budget.
    pub fn balance(&mut self, nodes: &Nodes) {
        self.ask_for_relays(nodes.now);
        let mut spend = (self.budget / 1000).min(PER_TICK);
        let mut owes = true;
        while spend > 0 {
            let due = self.paid > self.allowance + self.allowance / 50;
            // Looking for a slot for a large subtree is dear: what failed once is left for the next timeout.
            owes = owes && due && self.repay(nodes);
            let edges = if owes { 1 } else { self.improve(nodes, spend) };
            if edges == 0 {
                break;
            }
            spend = spend.saturating_sub(edges);
            self.budget = self.budget.saturating_sub(edges * 1000);
        }
        self.budget = self.budget.min(PER_TICK * 1000);
    }

    /// Is there something that a later timeout could do?
    pub fn is_restless(&self) -> bool {
        self.slack_since.is_some() || self.paid > self.allowance + self.allowance / 50
    }

    /// Relay slots wanted follow the bound up at once and down after a while.
    pub fn ask_for_relays(&mut self, now: Millis) {
        let need = self.allowance;
        if need >= self.wanted - self.wanted / 20 {
            self.wanted = self.wanted.max(need);
            self.slack_since = None;
            return;
        }
        let since = *self.slack_since.get_or_insert(now);
        if now >= since + SLACK_MS {
            self.wanted = need;
            self.slack_since = None;
        }
    }

    /// One move; returns its edges, 0 if there is none to be had.
    fn improve(&mut self, nodes: &Nodes, spend: u64) -> u64 {
        if self.lift(nodes) {
            return 1;
        }
        let room = self.make_room(nodes);
        if room > 0 {
            return room;
        }
        if spend >= 2 && self.trade_leaves(nodes) {
            return 2;
        }
        self.trade_inner(nodes, spend)
    }

    /// Move somebody from a relay's slot to a peer's.
    fn repay(&mut self, nodes: &Nodes) -> bool {
        let within = self.open_levels(self.depth) & !1;
        for region in 0..self.index.regions {
            for rank in 0..RANKS as u8 {
                let bag = Bag::Childless(region, 1, rank);
                let found = self.sample(bag, |tree, node| {
                    tree.place(tree.place(node).parent).is(RELAY)
                });
                if let Some(node) = found
                    && let Some(parent) = self.free_slot(nodes, node, within, Look::Up, false)
                    && parent != node
                {
                    self.shift(node, parent);
                    return true;
                }
            }
        }
        for region in 0..self.index.regions {
            for rank in 0..RANKS as u8 {
                let bag = Bag::Interior(region, 1, rank);
                let found = self.sample(bag, |tree, node| {
                    tree.place(tree.place(node).parent).is(RELAY)
                });
                if let Some(node) = found
                    && let Some(parent) = self.deeper_slot(nodes, node)
                {
                    self.shift(node, parent);
                    return true;
                }
            }
        }
        false
    }

    /// A slot outside its own subtree where a node with children would not stand too deep.
    fn deeper_slot(&mut self, nodes: &Nodes, node: u32) -> Option<u32> {
        let (_, height) = self.extent(node, MOVABLE)?;
        for level in 0..self.depth.saturating_sub(height) {
            for region in 0..self.index.regions {
                let found = self.sample(Bag::Free(region, level), |tree, parent| {
                    nodes.may(parent, node, false) && !tree.is_below(parent, [node, NONE])
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        (1..self.depth.saturating_sub(height)).find_map(|level| self.make_way(nodes, node, level))
    }

    /// Send somebody without children away from a node of this level, which `node` could then hang on.
    fn make_way(&mut self, nodes: &Nodes, node: u32, level: u8) -> Option<u32> {
        for region in 0..self.index.regions {
            for rank in 0..RANKS as u8 {
                let leaf = self.sample(Bag::Childless(region, level + 1, rank), |tree, leaf| {
                    let parent = tree.place(leaf).parent;
                    nodes.may(parent, node, false) && !tree.is_below(parent, [node, NONE])
                });
                let Some(leaf) = leaf else { continue };
                let levels = ((1u32 << self.depth) - 1) & !((1 << (level + 1)) - 1);
                let other = self.free_slot(nodes, leaf, levels, Look::Up, false);
                let other =
                    other.filter(|&other| other != leaf && !self.is_below(other, [node, NONE]));
                if let Some(other) = other {
                    let parent = self.place(leaf).parent;
                    self.shift(leaf, other);
                    return Some(parent);
                }
            }
        }
        None
    }

    fn shift(&mut self, node: u32, parent: u32) {
        self.note(node, Reason::Capacity, true);
        self.unlink(node);
        self.link(parent, node);
    }

    /// The deepest level on which nodes without children of this rank stand, over all regions; spares left out.
    fn deepest(&self, rank: usize) -> Option<(u8, u8)> {
        (0..self.index.regions)
            .map(|region| (self.index.masks(region).childless[rank], region))
            .filter(|(mask, _)| *mask != 0)
            .map(|(mask, region)| (31 - mask.leading_zeros() as u8, region))
            .max()
    }

    /// Move one of the deepest nodes without children, the strongest first, into a free slot two levels above it or more.
    fn lift(&mut self, nodes: &Nodes) -> bool {
        let bottom = (0..RANKS)
            .rev()
            .filter_map(|rank| Some((self.deepest(rank)?, rank)));
        let Some(((level, region), rank)) = bottom.max_by_key(|&((level, _), rank)| (level, rank))
        else {
            return false;
        };
        if level < 2 {
            return false;
        }
        let above = self.open_levels(level - 1);
        let Some(node) = self.sample(Bag::Childless(region, level, rank as u8), |_, _| true) else {
            return false;
        };
        let Some(parent) = self.free_slot(nodes, node, above, Look::Up, false) else {
            return false;
        };
        self.shift(node, parent);
        true
    }

    /// The deepest level on which anybody stands without children.
    fn bottom(&self) -> u8 {
        (0..RANKS)
            .filter_map(|rank| self.deepest(rank))
            .map(|(level, _)| level)
            .max()
            .unwrap_or(0)
    }

    /// Is an exchange between two levels worth its edges? It wins what one rises and the other sinks, and `slots` more on
    /// the higher level, into each of which somebody from the bottom can be lifted for one edge more.
    fn pays((low, high, bottom): (u8, u8, u8), slots: i32, edges: i32) -> bool {
        let (low, high, bottom) = (i32::from(low), i32::from(high), i32::from(bottom));
        let won = low - high - 1 + slots * (bottom - high - 1).max(0);
        WORTH.1 * won >= WORTH.0 * (edges + slots)
    }

    /// Where fewer slots are free than are kept for orphans, move the weakest one level down; if it has a child or two, they
    /// go to others first.
    fn make_room(&mut self, nodes: &Nodes) -> u64 {
        for level in (1..self.depth.saturating_sub(1)).rev() {
            let below = level + 1;
            if self.kept(level) <= self.free[usize::from(level)] {
                continue;
            }
            let open = self.open_levels(self.depth);
            for region in 0..self.index.regions {
                let Some(node) = self.weakest(region, below) else {
                    continue;
                };
                let children: Vec<u32> = self.children(node).collect();
                let edges = children.len() as u64 + 1;
                if open & 1 << below == 0 && edges > 1 {
                    continue;
                }
                let mut parents = Vec::new();
                for &child in &children {
                    let parent = self.free_slot(nodes, child, 1 << below, Look::Up, false);
                    parents.extend(
                        parent.filter(|&parent| parent != node && !parents.contains(&parent)),
                    );
                }
                let own = self.free_slot(nodes, node, open & !((1 << below) - 1), Look::Up, false);
                let Some(own) = own.filter(|&own| own != node && !parents.contains(&own)) else {
                    continue;
                };
                if parents.len() < children.len() {
                    continue;
                }
                for (child, parent) in children.into_iter().zip(parents) {
                    self.shift(child, parent);
                }
                self.shift(node, own);
                return edges;
            }
        }
        0
    }

    /// Somebody of the lowest rank on a level who has at most two children.
    fn weakest(&mut self, region: u8, level: u8) -> Option<u32> {
        let bit = 1 << level;
        let masks = *self.index.masks(region);
        if let Some(rank) = (0..RANKS).find(|&rank| masks.childless[rank] & bit != 0) {
            return self.sample(Bag::Childless(region, level, rank as u8), |_, _| true);
        }
        let rank = (1..RANKS).find(|&rank| masks.interior[rank] & bit != 0)?;
        self.sample(Bag::Interior(region, level, rank as u8), |tree, node| {
            tree.place(node).used <= 2
        })
    }

    /// Let a strong node without children take the place of a weaker one further up, which becomes its child.
    fn trade_leaves(&mut self, nodes: &Nodes) -> bool {
        let bottom = self.bottom();
        for rank in (2..RANKS).rev() {
            let Some((low, region)) = self.deepest(rank) else {
                continue;
            };
            for weaker in 0..rank {
                let Some((high, at)) = self.highest(weaker, false) else {
                    continue;
                };
                let slots = rank as i32 - 1 - weaker as i32;
                if slots < 0 || low <= high || !Self::pays((low, high, bottom), slots, 2) {
                    continue;
                }
                let Some(node) = self.sample(Bag::Childless(region, low, rank as u8), |_, _| true)
                else {
                    continue;
                };
                let other = self.sample(Bag::Childless(at, high, weaker as u8), |tree, other| {
                    other != node
                        && nodes.may(tree.place(other).parent, node, false)
                        && nodes.may(node, other, false)
                });
                if let Some(other) = other
                    && self.place(node).cap > 0
                    && self.place(other).parent != node
                {
                    self.note(node, Reason::Capacity, true);
                    self.unlink(node);
                    self.displace(other, node);
                    return true;
                }
            }
        }
        false
    }

    /// The highest level on which nodes of this rank stand, with or without children.
    fn highest(&self, rank: usize, inner: bool) -> Option<(u8, u8)> {
        (0..self.index.regions)
            .map(|region| {
                let masks = self.index.masks(region);
                (
                    if inner {
                        masks.interior[rank]
                    } else {
                        masks.childless[rank]
                    },
                    region,
                )
            })
            .filter(|(mask, _)| *mask != 0)
            .map(|(mask, region)| (mask.trailing_zeros() as u8, region))
            .min()
    }

    /// Let a strong node without children take the place of a weaker one with children, which becomes its child.
    fn trade_inner(&mut self, nodes: &Nodes, spend: u64) -> u64 {
        let bottom = self.bottom();
        for rank in (2..RANKS).rev() {
            let Some((low, region)) = self.deepest(rank) else {
                continue;
            };
            for weaker in 1..rank {
                let Some((high, at)) = self.highest(weaker, true) else {
                    continue;
                };
                let children = weaker as i32;
                let slots = rank as i32 - 1 - children;
                if slots < 1 || low <= high || !Self::pays((low, high, bottom), slots, children + 2)
                {
                    continue;
                }
                let Some(node) = self.sample(Bag::Childless(region, low, rank as u8), |_, _| true)
                else {
                    continue;
                };
                let cap = self.place(node).cap;
                let other = self.sample(Bag::Interior(at, high, weaker as u8), |tree, other| {
                    let place = tree.place(other);
                    place.used < cap
                        && u64::from(place.used) + 2 <= spend
                        && nodes.may(place.parent, node, false)
                        && nodes.may(node, other, false)
                        && tree
                            .children(other)
                            .all(|child| child == node || nodes.may(node, child, false))
                });
                if let Some(other) = other {
                    return self.trade(node, other);
                }
            }
        }
        0
    }

    fn trade(&mut self, node: u32, other: u32) -> u64 {
        self.note(node, Reason::Capacity, true);
        self.unlink(node);
        let parent = self.place(other).parent;
        self.note(other, Reason::Capacity, true);
        self.unlink(other);
        self.link(parent, node);
        let children = self.orphan(other, Reason::Capacity, true);
        let edges = children.len() as u64 + 2;
        for child in children {
            self.link(node, child);
        }
        self.link(node, other);
        edges
    }
}

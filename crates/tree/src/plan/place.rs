//! Choosing parents: what of the old trees still holds, and where the rest goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::room::{Node, Room};
use super::shape::{DEPTH_CAP, Shape};
use crate::{NodeId, Reason, StreamId};

/// A receiver of a stream.
pub(super) type Seat = (StreamId, NodeId);

/// How far one receiver's placing may move others: displaced edges in a row, and attempts in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub depth: u8,
    pub attempts: u32,
    /// May relays feed anybody?
    pub relays: bool,
}

/// Take edges off a node that has more than it can carry: other people's streams first, then the lightest subtree.
pub(super) fn shed(room: &Room, shape: &mut Shape, node: NodeId) {
    let Some(facts) = room.nodes.get(&node) else {
        return;
    };
    let narrow = room.fan_out(node) < usize::MAX;
    let ids: Vec<StreamId> = shape.trees.keys().copied().filter(|_| narrow).collect();
    for id in ids {
        while shape.tree(id).kids_of(node).count() > room.fan_out(node) {
            let tree = shape.tree(id);
            let Some(kid) = tree
                .kids_of(node)
                .min_by_key(|&kid| (tree.weight(kid), Reverse(kid)))
            else {
                break;
            };
            shape.detach(room, id, kid);
        }
    }
    loop {
        let load = shape.load(node);
        if load.edges <= u64::from(facts.facts.slots) && load.floor <= facts.budget {
            return;
        }
        let lightest = shape.edges_of(node).into_iter().min_by_key(|&(id, kid)| {
            let own = room
                .streams
                .get(&id)
                .is_some_and(|stream| stream.root == node);
            (own, shape.tree(id).weight(kid), Reverse((id, kid)))
        });
        let Some((id, kid)) = lightest else { return };
        shape.detach(room, id, kid);
    }
}

/// What a node could forward once its own streams are sent.
pub(super) fn strength(room: &Room, node: NodeId) -> u64 {
    let helps = |node: &&Node| node.facts.forwards && node.facts.slots > 0;
    let Some(facts) = room.nodes.get(&node).filter(helps) else {
        return 0;
    };
    let own = room.streams.values().filter(|stream| stream.root == node);
    let own = own.map(|stream| {
        let near = room
            .receivers(stream)
            .filter(|&child| !room.barred(node, child));
        stream.low() * near.count() as u64
    });
    facts.budget.saturating_sub(own.sum())
}

/// Give every receiver without a parent one, where that can be done; returns those left over and why.
pub(super) fn place(
    room: &Room,
    shape: &mut Shape,
    direct: &BTreeSet<StreamId>,
    effort: Effort,
) -> BTreeMap<Seat, Reason> {
    let mut work = Work::new(room, shape, direct, effort);
    let mut left: Vec<Seat> = work.heads();
    let mut pruned = false;
    loop {
        let before = left.len();
        let mut queue: VecDeque<Seat> = std::mem::take(&mut left).into();
        let mut split = false;
        while let Some(seat) = queue.pop_front() {
            let (id, child) = seat;
            // A stream that its root can send whole goes ahead of what the root forwards, even if a helper could take it.
            if work.crowded_out(seat)
                && let Some(evicted) = work.evict_for(seat)
            {
                queue.push_back(evicted);
                continue;
            }
            if work.seat(seat, effort.depth) {
                continue;
            }
            if let Some(evicted) = work.evict_for(seat) {
                queue.push_back(evicted);
                continue;
            }
            // Nobody can take the subtree whole: its children go their own ways.
            let kids: Vec<NodeId> = work.shape.tree(id).kids_of(child).collect();
            if kids.is_empty() {
                if !room.is_relay(child) {
                    left.push(seat);
                }
                continue;
            }
            split = true;
            for kid in kids {
                work.shape.detach(room, id, kid);
                queue.push_back((id, kid));
            }
            queue.push_front(seat);
        }
        // What the relays that lost everybody took may be just what is missing; but only once, or they come and go.
        let freed = work.shape.prune(room) && !std::mem::replace(&mut pruned, true);
        if left.is_empty() || (left.len() >= before && !split && !freed) {
            break;
        }
    }
    let mut unserved = BTreeMap::new();
    let mut reachable: BTreeMap<StreamId, BTreeSet<NodeId>> = BTreeMap::new();
    for (id, child) in left {
        let Some(stream) = room.streams.get(&id) else {
            continue;
        };
        let near = reachable
            .entry(id)
            .or_insert_with(|| room.reachable(stream, DEPTH_CAP));
        let reason = if near.contains(&child) {
            Reason::NoCapacity
        } else {
            Reason::Unreachable
        };
        unserved.insert((id, child), reason);
    }
    unserved
}

/// A shape being worked on.
pub(super) struct Work<'a> {
    pub room: &'a Room,
    pub shape: &'a mut Shape,
    pub direct: &'a BTreeSet<StreamId>,
    attempts: u32,
    pub relays: bool,
}

impl<'a> Work<'a> {
    pub fn new(
        room: &'a Room,
        shape: &'a mut Shape,
        direct: &'a BTreeSet<StreamId>,
        effort: Effort,
    ) -> Self {
        Work {
            room,
            shape,
            direct,
            attempts: effort.attempts,
            relays: effort.relays,
        }
    }

    /// Receivers without a parent. Those who can carry most come first, so that they stand nearest the root; the
    /// streams take turns, so that none of them finds the capacity gone.
    fn heads(&self) -> Vec<Seat> {
        let mut heads = Vec::new();
        for (&id, stream) in &self.room.streams {
            let tree = self.shape.tree(id);
            for node in self
                .room
                .receivers(stream)
                .chain(self.room.relays().filter(|&relay| !tree.is_leaf(relay)))
                .filter(|node| !tree.parent.contains_key(node))
            {
                let orphan = !tree.is_leaf(node);
                heads.push((
                    orphan,
                    strength(self.room, node),
                    Reverse(id),
                    Reverse(node),
                ));
            }
        }
        heads.sort_unstable_by(|a, b| b.cmp(a));
        heads
            .into_iter()
            .map(|(_, _, Reverse(id), Reverse(node))| (id, node))
            .collect()
    }

    /// Find a place, if need be by moving up to `depth` others. On failure nothing has changed.
    fn seat(&mut self, seat: Seat, depth: u8) -> bool {
        let (id, child) = seat;
        if let Some(spot) = self.candidate(seat) {
            self.hang(seat, &spot);
            return true;
        }
        if depth == 0 || self.attempts == 0 || !self.shape.has_any_room(self.room) {
            return false;
        }
        let Some(stream) = self.room.streams.get(&id) else {
            return false;
        };
        let mut parents: Vec<(u8, NodeId)> = Vec::new();
        for parent in self
            .shape
            .tree(id)
            .parent
            .keys()
            .copied()
            .chain([stream.root])
        {
            if let Some(level) = self.shape.tree(id).level(stream.root, parent)
                && self.room.may_feed(stream, parent, child)
                && (self.relays || !self.room.is_relay(parent))
            {
                parents.push((level, parent));
            }
        }
        parents.sort_unstable();
        for (_, parent) in parents {
            for (other, kid) in self.shape.edges_of(parent) {
                if self.attempts == 0 {
                    return false;
                }
                self.attempts -= 1;
                self.shape.detach(self.room, other, kid);
                if self.shape.allowed(self.room, id, child, parent)
                    && self
                        .shape
                        .fit(self.room, id, child, parent, false)
                        .is_some()
                {
                    self.shape.attach(self.room, id, child, parent);
                    if self.seat((other, kid), depth - 1) {
                        return true;
                    }
                    self.shape.detach(self.room, id, child);
                }
                self.shape.attach(self.room, other, kid, parent);
            }
        }
        // A relay may be let in where it takes somebody's place.
        let relays: Vec<NodeId> = if self.relays {
            self.outside(seat).collect()
        } else {
            Vec::new()
        };
        for relay in relays {
            self.shape.attach(self.room, id, child, relay);
            if self.seat((id, relay), depth) {
                return true;
            }
            self.shape.detach(self.room, id, child);
        }
        false
    }

    /// Has the root of a stream that goes straight to everybody no place left for this receiver?
    fn crowded_out(&self, (id, child): Seat) -> bool {
        let Some(stream) = self
            .room
            .streams
            .get(&id)
            .filter(|_| self.direct.contains(&id))
        else {
            return false;
        };
        self.shape.allowed(self.room, id, child, stream.root)
            && self
                .shape
                .fit(self.room, id, child, stream.root, true)
                .is_none()
    }

    /// A root sends its own stream before it forwards others': give the receiver the place of the lightest edge that
    /// its root forwards. Returns who lost its parent.
    fn evict_for(&mut self, (id, child): Seat) -> Option<Seat> {
        let root = self.room.streams.get(&id)?.root;
        if !self.shape.allowed(self.room, id, child, root) {
            return None;
        }
        let foreign = |&(other, _): &Seat| {
            self.room
                .streams
                .get(&other)
                .is_some_and(|stream| stream.root != root)
        };
        let (other, kid) = self
            .shape
            .edges_of(root)
            .into_iter()
            .filter(foreign)
            .min_by_key(|&(other, kid)| {
                (self.shape.tree(other).weight(kid), Reverse((other, kid)))
            })?;
        self.shape.detach(self.room, other, kid);
        if self.shape.fit(self.room, id, child, root, true).is_none() {
            self.shape.attach(self.room, other, kid, root);
            return None;
        }
        self.shape.attach(self.room, id, child, root);
        Some((other, kid))
    }
}

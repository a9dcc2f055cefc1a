//! Choosing parents: what of the old trees still holds, and where the rest goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::room::Room;
use super::shape::{DEPTH_CAP, Shape};
use crate::{NodeId, Policy, Reason, StreamId};

/// A receiver of a stream.
pub(super) type Seat = (StreamId, NodeId);

/// How far one receiver's placing may move others: displaced edges in a row, and attempts in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub depth: u8,
    pub attempts: u32,
}

/// The old trees without every edge that no longer may or can be.
pub(super) fn keep(
    room: &Room,
    old: &BTreeMap<StreamId, BTreeMap<NodeId, NodeId>>,
    direct: &BTreeSet<StreamId>,
) -> Shape {
    let mut shape = Shape::empty(room);
    for (&id, parents) in old {
        let Some(stream) = room.streams.get(&id) else {
            continue;
        };
        for (&child, &parent) in parents {
            let detour = direct.contains(&id)
                && parent != stream.root
                && !room.barred(stream.root, child)
                && !room.avoided(stream.root, child);
            let holds = child != stream.root
                && room.nodes.contains_key(&child)
                && room.nodes.contains_key(&parent)
                && room.may_feed(stream, parent)
                && !room.barred(parent, child)
                && !detour;
            if holds {
                shape.attach(room, id, child, parent);
            }
        }
    }
    for &node in room.nodes.keys() {
        shed(room, &mut shape, node);
    }
    shape
}

/// Take edges off a node that has more than it can carry: other people's streams first, then the lightest subtree.
fn shed(room: &Room, shape: &mut Shape, node: NodeId) {
    let Some(facts) = room.nodes.get(&node) else {
        return;
    };
    let ids: Vec<StreamId> = shape.trees.keys().copied().collect();
    for id in ids {
        while shape.tree(id).kids_of(node).count() > room.fan_out() {
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

/// Give every receiver without a parent one, where that can be done; returns those left over and why.
pub(super) fn place(
    room: &Room,
    shape: &mut Shape,
    direct: &BTreeSet<StreamId>,
    effort: Effort,
) -> BTreeMap<Seat, Reason> {
    let mut work = Work {
        room,
        shape,
        direct,
        attempts: effort.attempts,
    };
    let mut left: Vec<Seat> = work.heads();
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
                left.push(seat);
                continue;
            }
            split = true;
            for kid in kids {
                work.shape.detach(room, id, kid);
                queue.push_back((id, kid));
            }
            queue.push_front(seat);
        }
        if left.is_empty() || (left.len() >= before && !split) {
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

/// Where the greedy way ends short of what is possible: let an unserved receiver take the place of a served one, and
/// keep that if fewer go without in the end. Tries at most `attempts` exchanges.
pub(super) fn exchange(
    room: &Room,
    shape: Shape,
    unserved: BTreeMap<Seat, Reason>,
    direct: &BTreeSet<StreamId>,
    mut attempts: usize,
) -> (Shape, BTreeMap<Seat, Reason>) {
    let (mut shape, mut unserved) = (shape, unserved);
    'again: while shape.has_any_room(room) {
        for &(id, child) in unserved
            .iter()
            .filter(|(_, why)| **why == Reason::NoCapacity)
            .map(|(seat, _)| seat)
        {
            let Some(stream) = room.streams.get(&id) else {
                continue;
            };
            let parents: Vec<NodeId> = shape
                .tree(id)
                .parent
                .keys()
                .copied()
                .chain([stream.root])
                .collect();
            for parent in parents {
                for (other, kid) in shape.edges_of(parent) {
                    if attempts == 0 {
                        return (shape, unserved);
                    }
                    let mut trial = shape.clone();
                    trial.detach(room, other, kid);
                    if !trial.allowed(room, id, child, parent)
                        || trial.fit(room, id, child, parent, true).is_none()
                    {
                        continue;
                    }
                    attempts -= 1;
                    trial.attach(room, id, child, parent);
                    let left = place(
                        room,
                        &mut trial,
                        direct,
                        Effort {
                            depth: 2,
                            attempts: 200,
                        },
                    );
                    if left.len() < unserved.len() {
                        (shape, unserved) = (trial, left);
                        continue 'again;
                    }
                }
            }
        }
        break;
    }
    (shape, unserved)
}

struct Work<'a> {
    room: &'a Room,
    shape: &'a mut Shape,
    direct: &'a BTreeSet<StreamId>,
    attempts: u32,
}

impl Work<'_> {
    /// Receivers without a parent. Those who can carry most come first, so that they stand nearest the root; the
    /// streams take turns, so that none of them finds the capacity gone.
    fn heads(&self) -> Vec<Seat> {
        let mut heads = Vec::new();
        for (&id, stream) in &self.room.streams {
            let tree = self.shape.tree(id);
            for node in self
                .room
                .receivers(stream)
                .filter(|node| !tree.parent.contains_key(node))
            {
                heads.push((self.strength(id, node), Reverse(id), Reverse(node)));
            }
        }
        heads.sort_unstable_by(|a, b| b.cmp(a));
        heads
            .into_iter()
            .map(|(_, Reverse(id), Reverse(node))| (id, node))
            .collect()
    }

    /// What a node could forward once its own streams are sent; before that, whether a subtree hangs on it.
    fn strength(&self, id: StreamId, node: NodeId) -> (bool, u64) {
        let orphan = !self.shape.tree(id).is_leaf(node);
        let Some(facts) = self
            .room
            .nodes
            .get(&node)
            .filter(|node| node.facts.forwards && node.facts.slots > 0)
        else {
            return (orphan, 0);
        };
        let own: u64 = self
            .room
            .streams
            .values()
            .filter(|stream| stream.root == node)
            .map(|stream| {
                let near = self
                    .room
                    .receivers(stream)
                    .filter(|&child| !self.room.barred(node, child))
                    .count() as u64;
                stream.low() * near
            })
            .sum();
        (orphan, facts.budget.saturating_sub(own))
    }

    /// The best parent there is room at.
    fn candidate(&self, (id, child): Seat) -> Option<NodeId> {
        let room = self.room;
        let stream = room.streams.get(&id)?;
        let tree = self.shape.tree(id);
        let direct = self.direct.contains(&id);
        let height = tree.height(child);
        let consider = |parent: NodeId| {
            // Cheapest first: in a starved room nearly every candidate ends here.
            if !self.shape.has_room(room, parent, stream.floor())
                || !self.shape.allowed(room, id, child, parent)
            {
                return None;
            }
            let fit = self.shape.fit(room, id, child, parent, direct)?;
            let level = tree.level(stream.root, parent)?;
            let budget = room.nodes.get(&parent).map_or(0, |node| node.budget);
            let spare = budget.saturating_sub(self.shape.load(parent).full);
            // `Auto` adds at most one helper per branch while rates allow; of the helpers, one that helps this stream
            // already, then the one with the fewest other roles, then the one with most to spare.
            let auto = room.policy == Policy::Auto && parent != stream.root;
            let deep = auto && level + 1 + height > 2;
            let fresh = auto && tree.is_leaf(parent);
            let roles = if auto && fresh { self.roles(parent) } else { 0 };
            Some((
                (
                    room.avoided(parent, child),
                    deep,
                    fit,
                    level,
                    fresh,
                    roles,
                    Reverse(spare),
                    parent,
                ),
                parent,
            ))
        };
        let best = if room.policy == Policy::Mesh {
            consider(stream.root)
        } else {
            let inside = tree.parent.keys().copied().chain([stream.root]);
            inside.filter_map(consider).min_by_key(|&(key, _)| key)
        };
        best.map(|(_, parent)| parent)
    }

    /// Other people's streams this node forwards.
    fn roles(&self, node: NodeId) -> usize {
        let forwards = |id: &StreamId| {
            self.room
                .streams
                .get(id)
                .is_some_and(|stream| stream.root != node)
        };
        self.shape
            .trees
            .iter()
            .filter(|(id, tree)| forwards(id) && !tree.is_leaf(node))
            .count()
    }

    /// Find a place, if need be by moving up to `depth` others. On failure nothing has changed.
    fn seat(&mut self, seat: Seat, depth: u8) -> bool {
        let (id, child) = seat;
        if let Some(parent) = self.candidate(seat) {
            self.shape.attach(self.room, id, child, parent);
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
                && self.room.may_feed(stream, parent)
                && !self.room.barred(parent, child)
                && parent != child
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

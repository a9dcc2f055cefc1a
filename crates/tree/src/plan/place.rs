//! Choosing parents: what of the old trees still holds, and where the rest goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::room::{Node, Room, Stream};
use super::shape::{DEPTH_CAP, Fit, Shape};
use crate::{NodeId, Policy, Reason, StreamId};

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

/// Within an exchange.
const MODEST: Effort = Effort {
    depth: 2,
    attempts: 200,
    relays: true,
};

/// Relays let into a tree for one receiver, one below the other, at most: a second one for whom the first cannot reach.
const RELAYS_IN_A_ROW: u8 = 2;

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
                    let left = place(room, &mut trial, direct, MODEST);
                    if left.len() < unserved.len() {
                        (shape, unserved) = (trial, left);
                        continue 'again;
                    }
                }
            }
            // Another relay may be the better first one.
            for relay in room.relays() {
                let mut trial = shape.clone();
                for (other, kid) in room.relays().flat_map(|relay| shape.edges_of(relay)) {
                    if other == id {
                        trial.detach(room, id, kid);
                    }
                }
                trial.prune(room);
                if attempts == 0
                    || trial.tree(id).parent.contains_key(&relay)
                    || !trial.tree(id).is_leaf(relay)
                    || !room.may_feed(stream, relay, child)
                {
                    continue;
                }
                attempts -= 1;
                let mut work = Work::new(room, &mut trial, direct, MODEST);
                let Some(spot) = work.through((id, child), relay, RELAYS_IN_A_ROW) else {
                    continue;
                };
                work.hang((id, child), &spot);
                let left = place(room, &mut trial, direct, MODEST);
                if left.len() < unserved.len() {
                    (shape, unserved) = (trial, left);
                    continue 'again;
                }
            }
        }
        break;
    }
    (shape, unserved)
}

/// How good a parent is: the smaller the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The pair's link was just lost.
    avoided: bool,
    /// A relay, where it serves only whom participants cannot serve at all.
    last_resort: bool,
    /// More than two hops from the root, where two should do.
    deep: bool,
    fit: Fit,
    /// A relay, where it serves whom participants cannot serve in full.
    relay: bool,
    /// The parent's.
    level: u8,
    /// It feeds nobody in this tree yet.
    fresh: bool,
    roles: usize,
    spare: Reverse<u64>,
    parent: NodeId,
}

/// Where a receiver could go.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    key: Key,
    /// Its parent; if that is a relay that is not in the tree yet, the relay's parent is next, and so on.
    chain: Vec<NodeId>,
}

impl Spot {
    /// Does it want for nothing that a relay could give?
    pub fn is_good(&self, room: &Room) -> bool {
        let full = room.policy != Policy::Auto || (!self.key.deep && self.key.fit == Fit::Full);
        !self.key.avoided && full
    }

    /// Does everything wanted get there, over links that were not just lost?
    pub fn is_full(&self) -> bool {
        !self.key.avoided && self.key.fit == Fit::Full
    }
}

/// A shape being worked on.
pub(super) struct Work<'a> {
    room: &'a Room,
    pub shape: &'a mut Shape,
    direct: &'a BTreeSet<StreamId>,
    attempts: u32,
    relays: bool,
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

    /// The best parent there is room at.
    pub fn candidate(&mut self, seat: Seat) -> Option<Spot> {
        self.best(seat, RELAYS_IN_A_ROW)
    }

    /// Hang a receiver where [`Work::candidate`] said, with the relays that this lets in.
    pub fn hang(&mut self, (id, child): Seat, spot: &Spot) {
        let mut at = child;
        for &parent in &spot.chain {
            self.shape.attach(self.room, id, at, parent);
            at = parent;
        }
    }

    fn best(&mut self, seat: Seat, hops: u8) -> Option<Spot> {
        let inside = self.inside(seat);
        let content = |spot: &Spot| {
            let relay = spot.key.last_resort || spot.key.relay;
            let mesh = matches!(self.room.policy, Policy::Mesh | Policy::Tree(_));
            spot.is_good(self.room) && (spot.is_full() || (mesh && !relay))
        };
        if hops == 0 || !self.relays || inside.as_ref().is_some_and(content) {
            return inside;
        }
        let relays: Vec<NodeId> = self.outside(seat).collect();
        let through = relays
            .into_iter()
            .filter_map(|relay| self.through(seat, relay, hops));
        let through: Vec<Spot> = through.collect();
        inside
            .into_iter()
            .chain(through)
            .min_by_key(|spot| spot.key)
    }

    /// The best parent in the tree.
    fn inside(&self, (id, child): Seat) -> Option<Spot> {
        let room = self.room;
        let stream = room.streams.get(&id)?;
        let tree = self.shape.tree(id);
        let direct = self.direct.contains(&id);
        let height = tree.height(child);
        let consider = |parent: NodeId| {
            // Cheapest first: in a starved room nearly every candidate ends here.
            if !self.shape.has_room(room, parent, stream.floor())
                || !self.shape.allowed(room, id, child, parent)
                || (!self.relays && room.is_relay(parent))
            {
                return None;
            }
            let fit = self.shape.fit(room, id, child, parent, direct)?;
            let level = tree.level(stream.root, parent)?;
            // `Auto` adds at most one helper per branch while rates allow; of the helpers, one that helps this stream
            // already, then the one with the fewest other roles, then the one with most to spare.
            let auto = room.policy == Policy::Auto && parent != stream.root;
            let fresh = auto && tree.is_leaf(parent);
            Some(Key {
                avoided: room.avoided(parent, child),
                deep: auto && level + 1 + height > 2,
                fit,
                level,
                fresh,
                roles: if fresh {
                    self.shape.load(parent).roles
                } else {
                    0
                },
                ..self.key(stream.most(), parent, child)
            })
        };
        let key = if room.policy == Policy::Mesh && room.relays().next().is_none() {
            consider(stream.root)
        } else {
            let inside = tree.parent.keys().copied().chain([stream.root]);
            inside.filter_map(consider).min()
        }?;
        Some(Spot {
            key,
            chain: vec![key.parent],
        })
    }

    /// Through a relay that is not in the tree yet.
    fn through(&mut self, seat: Seat, relay: NodeId, hops: u8) -> Option<Spot> {
        let (id, child) = seat;
        let room = self.room;
        let direct = self.direct.contains(&id);
        let fit = self.shape.fit(room, id, child, relay, direct)?;
        let most = room.streams.get(&id).map_or(0, Stream::most);
        let below = self.key(most, relay, child);
        let height = self.shape.tree(id).height(child);
        self.shape.attach(room, id, child, relay);
        let above = self.best((id, relay), hops - 1);
        self.shape.detach(room, id, child);
        let above = above?;
        let level = above.key.level + 1;
        let key = Key {
            avoided: room.avoided(relay, child) || above.key.avoided,
            deep: room.policy == Policy::Auto && level + 1 + height > 2,
            fit: fit.max(above.key.fit),
            level,
            fresh: true,
            ..below
        };
        let chain = [relay].into_iter().chain(above.chain).collect();
        Some(Spot { key, chain })
    }

    /// What of a key depends on the two ends only; `most`: what a leaf of the stream takes at most.
    fn key(&self, most: u64, parent: NodeId, child: NodeId) -> Key {
        let room = self.room;
        let relay = room.is_relay(parent) && !room.is_relay(child);
        let load = self.shape.load(parent);
        let spare = room.nodes.get(&parent).map_or(0, |node| {
            let rate = node.budget.saturating_sub(load.full);
            let slots = u64::from(node.facts.slots).saturating_sub(load.edges);
            // A relay is there for many.
            if relay {
                rate.min(slots.saturating_mul(most))
            } else {
                rate
            }
        });
        Key {
            avoided: false,
            last_resort: relay && matches!(room.policy, Policy::Mesh | Policy::Tree(_)),
            deep: false,
            fit: Fit::Full,
            relay: relay && room.policy == Policy::Auto,
            level: 0,
            fresh: false,
            roles: 0,
            spare: Reverse(spare),
            parent,
        }
    }

    /// Relays that are not in the tree and could feed this receiver.
    fn outside(&self, (id, child): Seat) -> impl Iterator<Item = NodeId> + use<'a, '_> {
        let (room, shape) = (self.room, &*self.shape);
        let stream = room.streams.get(&id);
        room.relays().filter(move |&relay| {
            let tree = shape.tree(id);
            stream.is_some_and(|stream| {
                tree.is_leaf(relay)
                    && !tree.parent.contains_key(&relay)
                    && room.may_feed(stream, relay, child)
                    && shape.has_room(room, relay, stream.floor())
            })
        })
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

//! The machine: takes facts, keeps the committed plan, answers with its changes.

mod diff;
mod place;
mod rates;
mod relay;
mod room;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::{EdgeChange, EdgeView, Fact, Millis, NodeId, Policy, Reason, StreamId, TreeView};
use diff::{Cause, Held};
use place::{Effort, Seat};
use rates::Take;
use room::{Node, Pair, Room, Stream};
use shape::Shape;

pub use rates::HOLD_MS;
pub use shape::DEPTH_CAP;

/// A pair whose link was lost comes last for this long.
pub const AVOID_MS: Millis = 30_000;

/// While somebody gets less than they want, the plan is rebuilt from nothing, and compared, at most this often.
pub const RETRY_MS: Millis = 2_000;

/// While rebuilding finds nothing better and only uplinks change, it waits twice as long each time, up to this.
const PATIENCE_MS: Millis = 16_000;

/// On a fact: nobody waits, few are moved.
const QUICK: Effort = Effort {
    depth: 1,
    attempts: 200,
    relays: true,
};
/// Exchanges tried on a timeout, times the receivers in the room (counted as 100 at least).
const EXCHANGES: usize = 20_000;
/// Edges reckoned through on one call to see which participants a relay relieves: a call's worth of rooms of ten.
const RELIEFS: usize = 2_000;
/// On a timeout.
const THOROUGH: Effort = Effort {
    depth: 3,
    attempts: 3_000,
    relays: true,
};

/// The planner of one room.
///
/// A room starts empty; every fact about something unknown is ignored. Times must not go backwards.
#[derive(Debug, Clone)]
pub struct Plan {
    room: Room,
    held: BTreeMap<Seat, Held>,
    unserved: BTreeMap<Seat, Reason>,
    takes: BTreeMap<Seat, Take>,
    epoch: u64,
    retry: Option<Millis>,
    /// How long the next rebuild waits: doubled by each that found nothing better.
    patience: Millis,
}

impl Plan {
    /// An empty room. `Tree(b)` is read as 1 below and 16 above its range.
    pub fn new(policy: Policy) -> Self {
        Plan {
            room: Room {
                policy,
                nodes: BTreeMap::new(),
                streams: BTreeMap::new(),
                barred: BTreeSet::new(),
                avoid: BTreeMap::new(),
            },
            held: BTreeMap::new(),
            unserved: BTreeMap::new(),
            takes: BTreeMap::new(),
            epoch: 0,
            retry: None,
            patience: RETRY_MS,
        }
    }

    /// Take one fact; returns what changes, minimal and in order. The fact that a child of its parent is ready changes
    /// nothing but `feed`.
    pub fn handle(&mut self, fact: Fact, now: Millis) -> Vec<EdgeChange> {
        self.room.avoid.retain(|_, until| now < *until);
        let Some(cause) = self.learn(fact, now) else {
            return Vec::new();
        };
        if let Cause::Ready(stream, node) = cause {
            return self.feed_children(stream, node);
        }
        self.plan_again(&cause, now)
    }

    /// Take several [`Fact::Wants`] of one receiver as one: the room is planned once, whatever their number. Of two about
    /// the same stream the later counts.
    pub fn handle_wants(
        &mut self,
        node: NodeId,
        wants: impl IntoIterator<Item = (StreamId, Option<u8>)>,
        now: Millis,
    ) -> Vec<EdgeChange> {
        self.room.avoid.retain(|_, until| now < *until);
        let learnt = wants
            .into_iter()
            .filter_map(|(stream, want)| self.learn(Fact::Wants(stream, node, want), now));
        match learnt.last() {
            Some(cause) => self.plan_again(&cause, now),
            None => Vec::new(),
        }
    }

    fn plan_again(&mut self, cause: &Cause, now: Millis) -> Vec<EdgeChange> {
        let direct = self.room.direct();
        let mut shape = self.keep(&direct, cause);
        let unserved = place::place(&self.room, &mut shape, &direct, QUICK);
        self.relieve(&mut shape, &direct, &unserved, now);
        let changes = self.commit(shape, unserved, cause, now);
        if *cause != Cause::Capacity {
            self.patience = RETRY_MS;
            self.retry = self.retry.map(|at| at.min(now + RETRY_MS));
        }
        if self.is_unsettled() && self.retry.is_none() {
            self.retry = Some(now + self.patience);
        }
        changes
    }

    /// Let time pass: retries what had no capacity, lets lost pairs be used again. Call when `poll_timeout` says so.
    pub fn handle_timeout(&mut self, now: Millis) -> Vec<EdgeChange> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.room.avoid.retain(|_, until| now < *until);
        let retry = self.retry().is_some_and(|at| at <= now);
        if retry {
            self.retry = None;
            for node in self.room.nodes.values_mut() {
                node.settle(now);
            }
        }
        let cause = Cause::Time;
        let direct = self.room.direct();
        let mut shape = self.keep(&direct, &cause);
        let mut unserved = place::place(
            &self.room,
            &mut shape,
            &direct,
            if retry { THOROUGH } else { QUICK },
        );
        let choice = self.room.policy != Policy::Mesh || self.room.relays().next().is_some();
        if retry && choice {
            let mut fresh = Shape::empty(&self.room);
            let fresh_unserved = place::place(&self.room, &mut fresh, &direct, THOROUGH);
            self.relieve(&mut fresh, &direct, &fresh_unserved, now);
            let new = self.score(&fresh, &fresh_unserved, now);
            if self.is_better(new, self.score(&shape, &unserved, now)) {
                (shape, unserved) = (fresh, fresh_unserved);
            }
            if !unserved.is_empty() {
                // The bigger the room the dearer an exchange, and the less one more receiver weighs.
                let seats = self.held.len() + unserved.len();
                (shape, unserved) = place::exchange(
                    &self.room,
                    shape,
                    unserved,
                    &direct,
                    EXCHANGES / seats.max(100),
                );
            }
        }
        self.relieve(&mut shape, &direct, &unserved, now);
        relay::come_home(&self.room, &mut shape, &direct);
        if retry && shape.relayed(&self.room) > 0 {
            let old = self.score(&shape, &unserved, now);
            if old.missing > 0 || !self.room.in_deficit() {
                let alone = Effort {
                    relays: false,
                    ..THOROUGH
                };
                let mut fresh = Shape::empty(&self.room);
                let fresh_unserved = place::place(&self.room, &mut fresh, &direct, alone);
                let new = self.score(&fresh, &fresh_unserved, now);
                if self.is_as_good((&fresh, new), (&shape, old)) {
                    (shape, unserved) = (fresh, fresh_unserved);
                }
            }
        }
        let changes = self.commit(shape, unserved, &cause, now);
        if retry {
            let longer = if changes.is_empty() {
                self.patience * 2
            } else {
                RETRY_MS
            };
            self.patience = longer.min(PATIENCE_MS);
        }
        changes
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let holds = self
            .takes
            .iter()
            .filter(|(seat, take)| self.wants_more(**seat, take.layer))
            .map(|(_, take)| take.hold);
        let holds = holds.filter(|&hold| hold > 0);
        self.room
            .avoid
            .values()
            .copied()
            .chain(self.retry())
            .chain(holds)
            .min()
    }

    /// Calls so far that changed something.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All trees as they stand, by stream.
    pub fn trees(&self) -> Vec<TreeView> {
        self.room
            .streams
            .iter()
            .map(|(&id, stream)| self.view(id, stream))
            .collect()
    }

    fn view(&self, id: StreamId, stream: &Stream) -> TreeView {
        let range = (id, NodeId(0))..=(id, NodeId(u32::MAX));
        let levels = diff::levels(
            self.held
                .range(range.clone())
                .map(|(&(_, child), held)| (child, held.edge.parent)),
        );
        let mut edges: Vec<EdgeView> = self
            .held
            .range(range.clone())
            .map(|(&(_, child), held)| EdgeView {
                child,
                edge: held.edge,
                level: levels.get(&child).copied().unwrap_or(0),
                ready: stream.ready.contains(&child),
                reason: held.reason,
            })
            .collect();
        edges.sort_by_key(|edge| (edge.level, edge.child));
        let unserved = self
            .unserved
            .range(range)
            .map(|(&(_, child), &reason)| (child, reason))
            .collect();
        TreeView {
            stream: id,
            root: stream.root,
            edges,
            unserved,
        }
    }

    /// Put the fact into the room; `None` if it says nothing new.
    fn learn(&mut self, fact: Fact, now: Millis) -> Option<Cause> {
        let room = &mut self.room;
        match fact {
            Fact::Node(id, facts) => {
                if let Some(node) = room.nodes.get_mut(&id) {
                    return node.update(facts, now).then_some(Cause::Capacity);
                }
                room.nodes.insert(id, Node::new(facts, now));
                Some(Cause::Joined)
            }
            Fact::Left(id) => self.forget(id).then_some(Cause::Left(id)),
            Fact::Failed(id) => self.forget(id).then_some(Cause::Failed(id)),
            Fact::LinkLost(a, b) | Fact::Barred(a, b)
                if a == b || !room.nodes.contains_key(&a) || !room.nodes.contains_key(&b) =>
            {
                None
            }
            Fact::LinkLost(a, b) => {
                room.avoid.insert(Pair::new(a, b), now + AVOID_MS);
                Some(Cause::Lost(Pair::new(a, b)))
            }
            Fact::Barred(a, b) => room
                .barred
                .insert(Pair::new(a, b))
                .then_some(Cause::Lost(Pair::new(a, b))),
            Fact::Stream(id, root, rates) => {
                if !room.nodes.contains_key(&root) || room.is_relay(root) {
                    return None;
                }
                match room.streams.get_mut(&id) {
                    Some(stream) if stream.root == root => {
                        let before = stream.rates;
                        stream.set_rates(rates);
                        (stream.rates != before).then_some(Cause::Wants)
                    }
                    _ => {
                        room.streams.insert(id, Stream::new(root, rates));
                        Some(Cause::Started(id))
                    }
                }
            }
            Fact::Ended(id) => room.streams.remove(&id).map(|_| Cause::Joined),
            Fact::Wants(id, node, want) => {
                let known = room.nodes.contains_key(&node) && !room.is_relay(node);
                let stream = room
                    .streams
                    .get_mut(&id)
                    .filter(|stream| known && stream.root != node)?;
                let before = stream.wants.insert(node, want);
                if !stream.shows_other(before, want) {
                    return None;
                }
                // Who asks need not wait.
                if let Some(take) = self.takes.get_mut(&(id, node)) {
                    take.hold = 0;
                }
                Some(Cause::Wants)
            }
            Fact::Ready(id, node, _) => {
                let stream = room.streams.get_mut(&id)?;
                let receives = self.held.contains_key(&(id, node));
                (receives && stream.ready.insert(node)).then_some(Cause::Ready(id, node))
            }
            Fact::Policy(policy) => {
                let changed = room.policy != policy;
                room.policy = policy;
                changed.then_some(Cause::Policy)
            }
            Fact::Watches(..) | Fact::Blamed(..) => None,
        }
    }

    /// Take a node out of the room, with its streams.
    fn forget(&mut self, id: NodeId) -> bool {
        let room = &mut self.room;
        if room.nodes.remove(&id).is_none() {
            return false;
        }
        room.streams.retain(|_, stream| stream.root != id);
        for stream in room.streams.values_mut() {
            stream.ready.remove(&id);
            stream.wants.remove(&id);
        }
        room.barred.retain(|pair| !pair.has(id));
        room.avoid.retain(|pair, _| !pair.has(id));
        true
    }

    fn keep(&self, direct: &BTreeSet<StreamId>, cause: &Cause) -> Shape {
        let mut old: BTreeMap<StreamId, BTreeMap<NodeId, NodeId>> = BTreeMap::new();
        for (&(id, child), held) in &self.held {
            let restarted = matches!(cause, Cause::Started(started) if *started == id);
            let lost =
                matches!(cause, Cause::Lost(pair) if *pair == Pair::new(child, held.edge.parent));
            // A policy that would rather have participants feed begins with them.
            let handed_back = *cause == Cause::Policy
                && self.room.policy != Policy::Relay
                && self.room.is_relay(held.edge.parent)
                && !self.room.is_relay(child);
            if !restarted && !lost && !handed_back {
                old.entry(id).or_default().insert(child, held.edge.parent);
            }
        }
        place::keep(&self.room, &old, direct)
    }

    fn feed_children(&mut self, id: StreamId, node: NodeId) -> Vec<EdgeChange> {
        let mut changes = Vec::new();
        let epoch = self.epoch + 1;
        for (&(stream, child), held) in &mut self.held {
            if stream == id && held.edge.parent == node && !held.edge.feed {
                held.edge.feed = true;
                held.reason = Reason::ParentReady;
                changes.push(EdgeChange {
                    epoch,
                    stream,
                    child,
                    old: Some(node),
                    new: Some(held.edge),
                    reason: Reason::ParentReady,
                    make_before_break: false,
                });
            }
        }
        if !changes.is_empty() {
            self.epoch = epoch;
        }
        changes
    }

    /// Share the uplinks out, make the new plan the committed one, and say what differs.
    fn commit(
        &mut self,
        shape: Shape,
        unserved: BTreeMap<Seat, Reason>,
        cause: &Cause,
        now: Millis,
    ) -> Vec<EdgeChange> {
        let mut rates = rates::share(&self.room, &shape, &self.takes, now, true);
        for (seat, take) in &mut rates.takes {
            if let Some(old) = self.takes.get(seat) {
                // Only capacity takes a layer from somebody who still wants it.
                let stream = &self.room.streams[&seat.0];
                let lost = take.layer < old.layer && self.room.top(stream, seat.1) > take.layer;
                take.hold = if lost {
                    now + HOLD_MS
                } else if now < old.hold {
                    old.hold
                } else {
                    0
                };
            }
        }
        for (&(id, node), edge) in &mut rates.edges {
            let stream = &self.room.streams[&id];
            edge.feed = edge.parent == stream.root || stream.ready.contains(&edge.parent);
            debug_assert_ne!(edge.parent, node);
        }
        // Who is out of the tree has the stream no more.
        let out = self
            .held
            .keys()
            .filter(|seat| !rates.edges.contains_key(seat));
        for &(id, node) in out {
            if let Some(stream) = self.room.streams.get_mut(&id) {
                stream.ready.remove(&node);
            }
        }
        let (held, changes) = diff::diff(
            &self.room,
            (&self.held, &self.unserved),
            (rates.edges, &unserved),
            cause,
            self.epoch + 1,
        );
        self.held = held;
        self.unserved = unserved;
        self.takes = rates.takes;
        if !changes.is_empty() {
            self.epoch += 1;
        }
        changes
    }

    /// When to rebuild: after something happened while somebody got less than they want, or when an uplink that has
    /// grown a little has stood long enough to be believed.
    fn retry(&self) -> Option<Millis> {
        let short = self.is_unsettled();
        let steady = self.room.nodes.values().filter_map(Node::steady_at);
        self.retry.into_iter().chain(steady.filter(|_| short)).min()
    }

    fn wants_more(&self, (id, node): Seat, layer: Option<u8>) -> bool {
        self.room
            .streams
            .get(&id)
            .is_some_and(|stream| self.room.top(stream, node) > layer)
    }

    fn is_short(&self) -> bool {
        !self.unserved.is_empty()
            || self
                .takes
                .iter()
                .any(|(&seat, take)| self.wants_more(seat, take.layer))
    }

    /// Does a relay feed somebody whom participants should feed?
    fn is_relayed(&self) -> bool {
        self.room.policy != Policy::Relay
            && self.held.iter().any(|(&(_, child), held)| {
                self.room.is_relay(held.edge.parent) && !self.room.is_relay(child)
            })
    }

    /// Is there something that time may better?
    fn is_unsettled(&self) -> bool {
        self.is_short() || self.is_relayed()
    }

    /// Let relays take what participants cannot send in full, wherever that gives somebody more.
    fn relieve(
        &self,
        shape: &mut Shape,
        direct: &BTreeSet<StreamId>,
        unserved: &BTreeMap<Seat, Reason>,
        now: Millis,
    ) {
        let over = relay::overdrawn(&self.room, shape);
        if over.is_empty() {
            return;
        }
        // The bigger the room the dearer a comparison, so they are asked in groups.
        let seats: usize = shape.trees.values().map(|tree| tree.parent.len()).sum();
        let groups = (RELIEFS / seats.max(1)).clamp(1, over.len());
        let mut best = self.score(shape, unserved, now);
        for group in over.chunks(over.len().div_ceil(groups)) {
            let mut trial = shape.clone();
            for &node in group {
                relay::relieve(&self.room, &mut trial, direct, node);
            }
            let score = self.score(&trial, unserved, now);
            if (score.starved, score.missing) < (best.starved, best.missing) {
                (*shape, best) = (trial, score);
            }
        }
    }

    fn score(&self, shape: &Shape, unserved: &BTreeMap<Seat, Reason>, now: Millis) -> Score {
        let rates = rates::share(&self.room, shape, &self.takes, now, false);
        Score {
            unserved: unserved.len(),
            starved: rates.starved,
            missing: rates.missing,
            relayed: shape.relayed(&self.room),
            avoided: shape.avoided(&self.room),
        }
    }

    /// What counts before single layers.
    fn rank(&self, score: Score) -> (usize, usize, u32) {
        match self.room.policy {
            Policy::Mesh | Policy::Tree(_) => (score.unserved, score.relayed, score.starved),
            Policy::Relay | Policy::Auto => (score.unserved, 0, score.starved),
        }
    }

    /// Is the fresh shape worth the moves? It serves more, starves fewer, or lacks a quarter fewer layers.
    fn is_better(&self, new: Score, old: Score) -> bool {
        let (fresh, kept) = (self.rank(new), self.rank(old));
        fresh < kept
            || (fresh == kept && new.missing * 4 < old.missing * 3 + u32::from(old.missing < 4))
    }

    /// Is a shape without relays good enough to do without them? Under `Auto` it must cost no layer, and no third hop
    /// that the relays spare; and it must not lean on links that were just lost.
    fn is_as_good(&self, (fresh, new): (&Shape, Score), (kept, old): (&Shape, Score)) -> bool {
        if new.avoided > old.avoided {
            return false;
        }
        if self.room.policy != Policy::Auto {
            return new.unserved <= old.unserved;
        }
        let hops = |shape: &Shape, id: StreamId, root: NodeId| shape.tree(id).height(root);
        let streams = &self.room.streams;
        let shallow = streams.iter().all(|(&id, stream)| {
            hops(fresh, id, stream.root) <= hops(kept, id, stream.root).max(2)
        });
        shallow && (self.rank(new), new.missing) <= (self.rank(old), old.missing)
    }
}

/// How good a plan is; the less the better.
#[derive(Debug, Clone, Copy)]
struct Score {
    unserved: usize,
    /// Receivers that want video and get none.
    starved: u32,
    /// Layers wanted and not got, summed.
    missing: u32,
    /// Receivers on relays that participants should feed.
    relayed: usize,
    /// Edges over links that were just lost.
    avoided: usize,
}

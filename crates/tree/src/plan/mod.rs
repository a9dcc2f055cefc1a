//! The machine: takes facts, keeps the committed plan, answers with its changes.

mod backup;
mod diff;
mod exchange;
mod fill;
mod learn;
mod level;
mod map;
mod place;
mod promote;
mod rates;
mod rebuild;
mod relay;
mod room;
mod shape;
mod shares;
mod spot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Backup, BackupChange, Edge, EdgeChange, EdgeView, Fact, Millis, NodeId, Policy, Reason,
    StreamId, TreeView,
};
use diff::{Cause, Held, Trees};
use map::NodeMap;
use place::{Effort, Seat};
use rates::{Take, Takes};
use room::{Node, Room, Stream};
use shape::Shape;
use shares::Aim;

pub use backup::EXTRA_LINKS;
pub use rates::HOLD_MS;
pub use shape::DEPTH_CAP;

/// A pair whose link was lost comes last for this long.
pub const AVOID_MS: Millis = 30_000;

/// While somebody gets less than they want, the plan is rebuilt from nothing, and compared, at most this often.
pub const RETRY_MS: Millis = 2_000;

/// On a fact: nobody waits, few are moved.
const QUICK: Effort = Effort {
    depth: 1,
    attempts: 200,
    relays: true,
};

/// The planner of one room.
///
/// A room starts empty; every fact about something unknown is ignored. Times must not go backwards.
#[derive(Debug, Clone)]
pub struct Plan {
    room: Room,
    held: Trees<Held>,
    unserved: BTreeMap<Seat, Reason>,
    takes: Takes,
    /// As last answered, and whether anything has happened since.
    backups: BTreeMap<Seat, Backup>,
    backups_stale: bool,
    /// Seats whose backup is named again though it be the same: since the last answer the child or the backup was out of the
    /// tree, or the child hung on it, and whoever obeys has let go.
    backups_void: BTreeSet<Seat>,
    /// The committed trees, and what follows from them: is there something that time may better, and when may the first
    /// receiver that lost a layer have it back?
    shape: Shape,
    unsettled: bool,
    hold: Option<Millis>,
    /// Does everybody get everything wanted?
    plenty: bool,
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
                nodes: NodeMap::new(),
                streams: BTreeMap::new(),
                barred: BTreeSet::new(),
                avoid: BTreeMap::new(),
            },
            held: BTreeMap::new(),
            unserved: BTreeMap::new(),
            takes: BTreeMap::new(),
            backups: BTreeMap::new(),
            backups_stale: false,
            backups_void: BTreeSet::new(),
            shape: Shape::default(),
            unsettled: false,
            hold: None,
            plenty: true,
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
        self.settle(now);
        let direct = self.room.direct();
        let mut shape = self.standing(cause);
        let known = (&self.held, &self.backups);
        let adopted = backup::adopt(&self.room, &mut shape, known, &direct, cause);
        let unserved = place::place(&self.room, &mut shape, &direct, QUICK);
        // Who turned to its backup is not moved on in the same breath.
        if !adopted {
            level::level(&self.room, &mut shape, Aim::Relief);
            self.relieve(&mut shape, &direct, &unserved, now);
        }
        let changes = self.commit(shape, unserved, cause, now);
        if !matches!(cause, Cause::Capacity(_)) {
            self.patience = RETRY_MS;
            self.retry = self.retry.map(|at| at.min(now + RETRY_MS));
        }
        if self.unsettled && self.retry.is_none() {
            self.retry = Some(now + self.patience);
        }
        changes
    }

    /// Believes the uplinks that have stood long enough, whatever the call: else one whose time has passed unnoticed would ask for
    /// a timeout in the past as soon as something is left to be bettered.
    fn settle(&mut self, now: Millis) {
        for node in self.room.nodes.values_mut() {
            node.settle(now);
        }
    }

    /// Who stands by for whom from now on: what differs from the last answer, by stream and child. Cheap where nothing has
    /// happened since, else see `docs/design/planner.md`; it may be asked for after several facts at once.
    pub fn renew_backups(&mut self) -> Vec<BackupChange> {
        if !std::mem::take(&mut self.backups_stale) {
            return Vec::new();
        }
        let new = backup::renew(&self.room, &self.shape, &self.held, &self.backups);
        let void = std::mem::take(&mut self.backups_void);
        let changes = backup::changes(&self.backups, &new, &void);
        self.backups = new;
        changes
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let avoid = self.room.avoid.values().copied();
        avoid.chain(self.retry()).chain(self.hold).min()
    }

    /// Calls so far that changed something.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Does this receiver want pictures, and gets none?
    pub fn is_starved(&self, id: StreamId, node: NodeId) -> bool {
        let stream = self.room.streams.get(&id);
        let held = self.held.get(&id).and_then(|held| held.get(&node));
        stream.is_some_and(|stream| self.room.top(stream, node).is_some())
            && held.is_none_or(|held| held.edge.layers.is_empty())
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
        let held = self.held.get(&id);
        let order = self.shape.tree(id).top_down(stream.root).into_iter();
        let edges = order.filter_map(|(child, level)| {
            let held = held?.get(&child)?;
            Some(EdgeView {
                child,
                edge: held.edge,
                level,
                ready: stream.ready.contains(&child),
                reason: held.reason,
            })
        });
        let edges = edges.collect();
        let range = (id, NodeId(0))..=(id, NodeId(u32::MAX));
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

    fn feed_children(&mut self, id: StreamId, node: NodeId) -> Vec<EdgeChange> {
        let mut changes = Vec::new();
        let epoch = self.epoch + 1;
        let stream = id;
        for (&child, held) in self.held.entry(id).or_default().iter_mut() {
            if held.edge.parent == node && !held.edge.feed {
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
        mut shape: Shape,
        unserved: BTreeMap<Seat, Reason>,
        cause: &Cause,
        now: Millis,
    ) -> Vec<EdgeChange> {
        let room = &self.room;
        let plenty = rates::is_plenty(room, &shape, &self.takes, now);
        let mut ids = std::mem::take(&mut shape.touched);
        let mut edges: Trees<Edge> = BTreeMap::new();
        if !(plenty && self.plenty) {
            ids.extend(room.streams.keys().chain(self.held.keys()));
        }
        if plenty {
            for &id in ids.iter().filter(|id| room.streams.contains_key(id)) {
                let (some, takes) = rates::everything(room, shape.tree(id), id);
                edges.insert(id, some);
                self.takes.insert(id, takes);
            }
        } else {
            let rates = rates::share(room, &shape, &self.takes, now, true);
            edges = rates.edges;
            self.takes = held_back(room, &self.takes, rates.takes, now);
        }
        self.takes.retain(|id, _| room.streams.contains_key(id));
        for &id in &ids {
            let Some(stream) = self.room.streams.get_mut(&id) else {
                continue;
            };
            let none = NodeMap::new();
            let some = edges.entry(id).or_default();
            for edge in some.values_mut() {
                edge.feed = edge.parent == stream.root || stream.ready.contains(&edge.parent);
            }
            // Who is out of the tree has the stream no more.
            let held = self.held.get(&id).unwrap_or(&none);
            for node in held.keys().filter(|node| !some.contains_key(node)) {
                stream.ready.remove(node);
            }
        }
        let changes = diff::diff(
            &self.room,
            &shape,
            &ids,
            (&mut self.held, &self.unserved),
            (&edges, &unserved),
            cause,
            self.epoch + 1,
        );
        self.backups_void
            .extend(backup::voided(&self.backups, &changes));
        self.unserved = unserved;
        self.shape = shape;
        self.plenty = plenty;
        let waiting = self.takes.iter().flat_map(|(&id, takes)| {
            let some = takes.iter().filter(|(_, take)| take.hold > 0);
            some.map(move |(&node, take)| ((id, node), take))
        });
        self.hold = waiting
            .filter(|(seat, take)| self.wants_more(*seat, take.layer))
            .map(|(_, take)| take.hold)
            .min();
        self.unsettled = self.is_unsettled();
        if !changes.is_empty() {
            self.epoch += 1;
        }
        changes
    }

    /// When to rebuild: after something happened while somebody got less than they want, or when an uplink that has
    /// grown a little has stood long enough to be believed.
    fn retry(&self) -> Option<Millis> {
        let steady = self.room.nodes.values().filter_map(Node::steady_at);
        let steady = steady.filter(|_| self.unsettled);
        self.retry.into_iter().chain(steady).min()
    }

    fn wants_more(&self, (id, node): Seat, layer: Option<u8>) -> bool {
        self.room
            .streams
            .get(&id)
            .is_some_and(|stream| self.room.top(stream, node) > layer)
    }

    /// Is there something that time may better: somebody who gets less than they want, a relay that feeds whom
    /// participants should feed, or an uplink used far more than others?
    fn is_unsettled(&self) -> bool {
        let short = |(&id, takes): (&StreamId, &NodeMap<Take>)| {
            let mut takes = takes.iter();
            takes.any(|(&node, take)| self.wants_more((id, node), take.layer))
        };
        !self.unserved.is_empty()
            || self.shape.relayed(&self.room) > 0
            || (!self.plenty && self.takes.iter().any(short))
            || shares::is_wanted(&self.room, &self.shape)
            || promote::is_wanted(&self.room, &self.shape)
    }
}

/// New takes, with how long whoever lost a layer has to wait for more.
fn held_back(room: &Room, old: &Takes, mut new: Takes, now: Millis) -> Takes {
    for (id, takes) in &mut new {
        let (Some(stream), Some(before)) = (room.streams.get(id), old.get(id)) else {
            continue;
        };
        for (node, take) in takes.iter_mut() {
            let Some(old) = before.get(node) else {
                continue;
            };
            // Only capacity takes a layer from somebody who still wants it.
            let lost = take.layer < old.layer && room.top(stream, *node) > take.layer;
            take.hold = if lost {
                now + HOLD_MS
            } else if now < old.hold {
                old.hold
            } else {
                0
            };
        }
    }
    new
}

//! Facts into the room: what each of them changes, and whether it matters.

use super::diff::Cause;
use super::place;
use super::room::{Node, Pair, Stream};
use super::shape::Shape;
use super::{AVOID_MS, Plan};
use crate::{Fact, Millis, NodeId, Policy, StreamId};

impl Plan {
    /// Put the fact into the room; `None` if it says nothing new.
    pub(super) fn learn(&mut self, fact: Fact, now: Millis) -> Option<Cause> {
        self.backups_stale = true;
        let room = &mut self.room;
        match fact {
            Fact::Node(id, facts) => {
                if let Some(node) = room.nodes.get_mut(&id) {
                    return node.update(facts, now).then_some(Cause::Capacity(id));
                }
                room.nodes.insert(id, Node::new(facts, now));
                self.shape.welcome(room, id);
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
                        let (before, mut after) = (stream.rates, Stream::new(root, rates));
                        std::mem::swap(&mut after.wants, &mut stream.wants);
                        std::mem::swap(&mut after.ready, &mut stream.ready);
                        if after.rates == before {
                            *stream = after;
                            return None;
                        }
                        let edges = self.shape.clear(room, id);
                        room.streams.insert(id, after);
                        self.shape.begin(room, id, &edges);
                        Some(Cause::Wants)
                    }
                    _ => {
                        self.shape.clear(room, id);
                        room.streams.insert(id, Stream::new(root, rates));
                        self.shape.begin(room, id, &[]);
                        Some(Cause::Started(id))
                    }
                }
            }
            Fact::Ended(id) => {
                self.shape.clear(room, id);
                room.streams.remove(&id).map(|_| Cause::Joined)
            }
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
                self.shape.show(room, id, node);
                // Who asks need not wait.
                let takes = self.takes.get_mut(&id);
                if let Some(take) = takes.and_then(|takes| takes.get_mut(&node)) {
                    take.hold = 0;
                }
                Some(Cause::Wants)
            }
            Fact::Ready(id, node, _) => {
                let stream = room.streams.get_mut(&id)?;
                let held = self.held.get(&id);
                let receives = held.is_some_and(|held| held.contains_key(&node));
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
        if !room.nodes.contains_key(&id) {
            return false;
        }
        let own = room.streams.iter().filter(|(_, stream)| stream.root == id);
        let own: Vec<StreamId> = own.map(|(&id, _)| id).collect();
        for stream in own {
            self.shape.clear(room, stream);
            room.streams.remove(&stream);
        }
        self.shape.dismiss(room, id);
        room.nodes.remove(&id);
        for stream in room.streams.values_mut() {
            stream.ready.remove(&id);
            stream.wants.remove(&id);
        }
        room.barred.retain(|pair| !pair.has(id));
        room.avoid.retain(|pair, _| !pair.has(id));
        true
    }

    /// The trees as they stand, without every edge that no longer may or can be.
    pub(super) fn standing(&mut self, cause: &Cause) -> Shape {
        let mut shape = std::mem::take(&mut self.shape);
        let room = &self.room;
        let gone = |id: StreamId, child: NodeId, parent: NodeId| {
            let Some(stream) = room.streams.get(&id) else {
                return false;
            };
            // A policy that would rather have participants feed begins with them.
            let handed_back =
                room.policy != Policy::Relay && room.is_relay(parent) && !room.is_relay(child);
            match cause {
                Cause::Policy => handed_back || !room.may_feed(stream, parent, child),
                Cause::Capacity(node) => *node == parent && !room.may_feed(stream, parent, child),
                Cause::Lost(pair) => *pair == Pair::new(child, parent),
                _ => false,
            }
        };
        if matches!(cause, Cause::Policy | Cause::Capacity(_) | Cause::Lost(_)) {
            let trees = shape.trees.iter();
            let edges = trees.flat_map(|(&id, tree)| {
                let parents = tree.parent.iter();
                parents.map(move |(&child, &parent)| (id, child, parent))
            });
            let gone: Vec<_> = edges
                .filter(|&(id, child, parent)| gone(id, child, parent))
                .collect();
            for (id, child, _) in gone {
                shape.detach(room, id, child);
            }
        }
        for &node in room.nodes.keys() {
            place::shed(room, &mut shape, node);
        }
        shape.prune(room);
        shape
    }
}

//! Facts into the room: what each of them changes, and whether it matters.

use super::diff::Cause;
use super::room::{Node, Pair, Stream};
use super::{AVOID_MS, Plan};
use crate::{Fact, Millis, NodeId};

impl Plan {
    /// Put the fact into the room; `None` if it says nothing new.
    pub(super) fn learn(&mut self, fact: Fact, now: Millis) -> Option<Cause> {
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
}

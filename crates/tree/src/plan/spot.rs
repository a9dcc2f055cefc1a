//! Which parent is best: a tuple for everybody who could be one, compared from the left.

use std::cmp::Reverse;

use super::place::{Seat, Work};
use super::room::{Room, Stream};
use super::shape::Fit;
use crate::{NodeId, Policy};

/// Relays let into a tree for one receiver, one below the other, at most: a second one for whom the first cannot reach.
pub(super) const RELAYS_IN_A_ROW: u8 = 2;

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

impl<'a> Work<'a> {
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
    pub fn through(&mut self, seat: Seat, relay: NodeId, hops: u8) -> Option<Spot> {
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
    pub fn outside(&self, (id, child): Seat) -> impl Iterator<Item = NodeId> + use<'a, '_> {
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
}

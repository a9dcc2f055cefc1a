//! A room's trees from nothing under `Auto`: plain meshes, levelled, and whole streams through a relay where the uplinks
//! of all participants together do not suffice.
//!
//! A relayed stream costs its root one copy and the others nothing, so of the ways to relay a deficit the one that relays
//! as few streams as possible *wholly* needs least of the relay: with `n` participants that all send to all, a deficit of
//! `d` copies takes `ceil(d / (n - 2))` streams (bound B3 of the planner's design). Helping every stream a little pays
//! the copy to the relay once per stream.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::level;
use super::room::{Counts, Room, Stream};
use super::shape::Shape;
use super::shares::{self, Aim};
use crate::{NodeId, Policy, StreamId};

/// Streams relayed beyond the bound, where copies do not divide the uplinks evenly, before fewer layers are the answer.
const MORE: usize = 2;

/// Trees in which participants send no more than they can, if there are any; who can be fed by neither its root nor a
/// relay has no parent yet. `None` where not even the least that the streams need would fit, so that who goes first is
/// the question, and under other policies than `Auto`. Of equal streams those that hang on a relay in `standing` are
/// relayed; `relays`: may any be?
pub(super) fn fill(room: &Room, standing: &Shape, relays: bool) -> Option<Shape> {
    if room.policy != Policy::Auto {
        return None;
    }
    let order = weakest_first(room, standing);
    let (bound, most) = if relays && room.relays().next().is_some() {
        let bound = bound(room, &order);
        (bound, (bound + MORE).min(order.len()))
    } else {
        (0, 0)
    };
    for relayed in bound..=most {
        let mut shape = mesh(room, order.iter().take(relayed).copied().collect());
        level::level(room, &mut shape, Aim::Even);
        if shares::is_carried(room, &shape) || relayed == most {
            return is_possible(room, &shape).then_some(shape);
        }
    }
    None
}

/// Streams in the order in which they would be relayed: those of the weakest roots, who could feed a helper or two at
/// most, and of those the ones of which a relay feeds most.
fn weakest_first(room: &Room, standing: &Shape) -> Vec<StreamId> {
    let mut order: Vec<(u64, Reverse<usize>, StreamId)> = room
        .streams
        .iter()
        .map(|(&id, stream)| {
            let tree = standing.tree(id);
            let relayed = room.relays().flat_map(|relay| tree.kids_of(relay));
            let budget = room.nodes.get(&stream.root).map_or(0, |node| node.budget);
            (budget, Reverse(relayed.count()), id)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, id)| id).collect()
}

/// What the root sends when it feeds every receiver itself, and when it feeds one relay that feeds them all.
fn demand(room: &Room, stream: &Stream) -> (u64, u64) {
    let (mut mesh, mut all) = (0, Counts::default());
    for node in room.receivers(stream) {
        let mut counts = Counts::default();
        if let Some(top) = room.top(stream, node) {
            counts[usize::from(top)] = 1;
            all[usize::from(top)] = 1;
        }
        mesh += stream.bill(&counts, true).1;
    }
    (mesh, stream.bill(&all, false).1)
}

/// How many streams, in this order, a relay must take so that what is left fits the participants' uplinks in sum.
fn bound(room: &Room, order: &[StreamId]) -> usize {
    let demands: Vec<(NodeId, u64, u64)> = order
        .iter()
        .filter_map(|id| {
            let stream = room.streams.get(id)?;
            let (mesh, feed) = demand(room, stream);
            Some((stream.root, mesh, feed))
        })
        .collect();
    // Where all copies are alike, an uplink carries a whole number of them.
    let mut bills = room.streams.values().map(Stream::most);
    let unit = bills.next().unwrap_or(0);
    let alike = bills.all(|bill| bill == unit)
        && room.streams.values().all(|stream| stream.wants.is_empty());
    let unit = if alike { unit.max(1) } else { 1 };
    for relayed in 0..=demands.len() {
        let (mut sum, mut room_for) = (0u64, 0u64);
        for (at, &(_, mesh, feed)) in demands.iter().enumerate() {
            sum = sum.saturating_add(if at < relayed { feed } else { mesh });
        }
        for (&id, node) in room.nodes.iter() {
            if room.is_relay(id) {
                continue;
            }
            let whole = node.budget / unit * unit;
            let most = if node.facts.forwards {
                whole
            } else {
                let own = demands
                    .iter()
                    .enumerate()
                    .filter(|(_, (root, ..))| *root == id);
                let own = own.map(|(at, &(_, mesh, feed))| if at < relayed { feed } else { mesh });
                own.fold(0, u64::saturating_add).min(whole)
            };
            room_for = room_for.saturating_add(most);
        }
        if sum <= room_for {
            return relayed;
        }
    }
    demands.len()
}

/// Every root feeds its receivers itself, but for the relayed streams, which a relay feeds.
fn mesh(room: &Room, relayed: BTreeSet<StreamId>) -> Shape {
    let mut shape = Shape::empty(room);
    for (&id, stream) in &room.streams {
        let relay = if relayed.contains(&id) {
            let spare = |relay: &NodeId| {
                let node = room.nodes.get(relay);
                node.map_or(0, |node| {
                    node.budget.saturating_sub(shape.load(*relay).full)
                })
            };
            room.relays()
                .filter(|&relay| {
                    room.may_feed(stream, stream.root, relay)
                        && !room.avoided(stream.root, relay)
                        && shape.has_room(room, relay, stream.floor())
                })
                .max_by_key(|relay| (spare(relay), Reverse(*relay)))
        } else {
            None
        };
        let mut kids = 0;
        for node in room.receivers(stream) {
            let fits = |relay: &NodeId| {
                let budget = room.nodes.get(relay).map_or(0, |node| node.budget);
                room.may_feed(stream, *relay, node)
                    && !room.avoided(*relay, node)
                    && shape.has_room(room, *relay, stream.floor())
                    && shape.load(*relay).full + stream.most() <= budget
            };
            if let Some(relay) = relay.filter(fits) {
                shape.attach(room, id, node, relay);
                kids += 1;
            } else if room.may_feed(stream, stream.root, node) && !room.avoided(stream.root, node) {
                shape.attach(room, id, node, stream.root);
            }
        }
        if let Some(relay) = relay.filter(|_| kids > 0) {
            shape.attach(room, id, relay, stream.root);
        }
    }
    shape
}

/// Does the least that the streams need fit everywhere?
fn is_possible(room: &Room, shape: &Shape) -> bool {
    room.nodes.iter().all(|(&id, node)| {
        let load = shape.load(id);
        load.edges <= u64::from(node.facts.slots) && load.floor <= node.budget
    })
}

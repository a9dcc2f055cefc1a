//! When relays come in although everybody is served, and when they go.
//!
//! Owns the two moves between participants and relays that are not forced by a missing parent: `Auto` hands a relay what
//! a participant cannot send in full ([`relieve`]), and whoever participants can feed again goes back to them
//! ([`come_home`]). The two never undo each other: the first needs an uplink that is overdrawn, the second overdraws none.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::place::{Effort, Seat, Work};
use super::room::{Node, Room};
use super::shape::Shape;
use crate::{NodeId, Policy, StreamId};

const ALONE: Effort = Effort {
    depth: 0,
    attempts: 0,
    relays: false,
};

/// Move back to participants whoever hangs on a relay and need not: under `Auto` who gets everything wanted from a
/// participant within two hops, else who gets anything.
pub(super) fn come_home(room: &Room, shape: &mut Shape, direct: &BTreeSet<StreamId>) {
    if room.policy == Policy::Relay {
        return;
    }
    while shape.relayed(room) > 0 {
        let mut moved = false;
        for &id in room.streams.keys() {
            let kids = relayed(room, shape, id);
            if kids.is_empty() {
                continue;
            }
            // Without the relay there is room for one more: first all of them, then one by one.
            let before = (shape.trees.get(&id).cloned(), shape.load.clone());
            for &kid in &kids {
                shape.detach(room, id, kid);
            }
            shape.prune(room);
            if kids
                .iter()
                .all(|&kid| settle(room, shape, direct, (id, kid)))
            {
                moved = true;
                continue;
            }
            let (tree, load) = before;
            shape.trees.extend(tree.map(|tree| (id, tree)));
            shape.load = load;
            for kid in kids {
                let Some(relay) = shape.detach(room, id, kid) else {
                    continue;
                };
                if settle(room, shape, direct, (id, kid)) {
                    moved = true;
                } else {
                    shape.attach(room, id, kid, relay);
                }
            }
        }
        shape.prune(room);
        if !moved {
            return;
        }
    }
}

/// Receivers of a stream that hang on a relay, the strongest first.
fn relayed(room: &Room, shape: &Shape, id: StreamId) -> Vec<NodeId> {
    let tree = shape.tree(id);
    let kids = room.relays().flat_map(|relay| tree.kids_of(relay));
    let mut kids: Vec<NodeId> = kids.filter(|&kid| !room.is_relay(kid)).collect();
    let budget = |kid: NodeId| room.nodes.get(&kid).map_or(0, |node| node.budget);
    kids.sort_by_key(|&kid| (Reverse(budget(kid)), kid));
    kids
}

/// Hang a receiver on a participant, if one will do.
fn settle(room: &Room, shape: &mut Shape, direct: &BTreeSet<StreamId>, seat: Seat) -> bool {
    let (id, kid) = seat;
    let Some(stream) = room.streams.get(&id) else {
        return false;
    };
    let tree = shape.tree(id);
    let bill = stream.bill(&tree.counts(kid), tree.is_leaf(kid)).1;
    // Where a room is short, nearly every receiver ends here.
    let has_room = |(&node, facts): (&NodeId, &Node)| {
        let near = || node == stream.root || tree.parent.get(&node) == Some(&stream.root);
        let full = || shape.load(node).full + bill <= facts.budget && near();
        (room.policy != Policy::Auto || full())
            && !room.is_relay(node)
            && shape.has_room(room, node, stream.floor())
    };
    if !room.nodes.iter().any(has_room) {
        return false;
    }
    let mut work = Work::new(room, shape, direct, ALONE);
    let spot = work.candidate(seat).filter(|spot| spot.is_good(room));
    if let Some(spot) = &spot {
        work.hang(seat, spot);
    }
    spot.is_some()
}

/// Participants that cannot send everything wanted of them, where a relay might help.
pub(super) fn overdrawn(room: &Room, shape: &Shape) -> Vec<NodeId> {
    if room.policy != Policy::Auto || room.relays().next().is_none() {
        return Vec::new();
    }
    let over = room
        .nodes
        .iter()
        .filter(|&(&id, node)| !room.is_relay(id) && shape.load(id).full > node.budget);
    over.map(|(&id, _)| id).collect()
}

/// Take off a participant what it cannot send in full: others' streams first, then its own. Of its own it sends a relay
/// one copy, and as many receivers as need be go there.
pub(super) fn relieve(room: &Room, shape: &mut Shape, direct: &BTreeSet<StreamId>, node: NodeId) {
    let budget = room.nodes.get(&node).map_or(0, |node| node.budget);
    let roots = |id: StreamId| room.streams.get(&id).is_some_and(|s| s.root == node);
    let mut edges = shape.edges_of(node);
    edges.retain(|&(id, kid)| !room.is_relay(kid) && shape.tree(id).is_leaf(kid));
    edges.sort_by_key(|&(id, kid)| (roots(id), id, Reverse(kid)));
    for &(id, kid) in edges.iter().filter(|&&(id, _)| !roots(id)) {
        if shape.load(node).full <= budget {
            return;
        }
        if shape.tree(id).parent.get(&kid) != Some(&node) {
            continue;
        }
        shape.detach(room, id, kid);
        let effort = Effort {
            relays: true,
            ..ALONE
        };
        let mut work = Work::new(room, shape, direct, effort);
        match work.candidate((id, kid)).filter(|spot| spot.is_full()) {
            Some(spot) => work.hang((id, kid), &spot),
            None => {
                shape.attach(room, id, kid, node);
                step_aside(room, shape, id, node);
            }
        }
    }
    let own: BTreeSet<StreamId> = edges
        .iter()
        .map(|&(id, _)| id)
        .filter(|&id| roots(id))
        .collect();
    for id in own {
        let kids = edges.iter().filter(|&&(other, _)| other == id);
        for &(_, kid) in kids {
            if shape.load(node).full <= budget {
                return;
            }
            hand_over(room, shape, id, (node, kid));
        }
    }
}

/// Put a relay in a helper's place below the root, which costs the root nothing, and the helper with those it fed below
/// the relay.
fn step_aside(room: &Room, shape: &mut Shape, id: StreamId, helper: NodeId) {
    let Some(stream) = room.streams.get(&id) else {
        return;
    };
    let tree = shape.tree(id);
    let kids: Vec<NodeId> = tree.kids_of(helper).collect();
    let fits = |relay: NodeId| {
        let (load, node) = (shape.load(relay), room.nodes.get(&relay)?);
        let joined = [helper].into_iter().chain(kids.iter().copied());
        let reached = joined
            .into_iter()
            .all(|child| room.may_feed(stream, relay, child) && !room.avoided(relay, child));
        let edges = kids.len() as u64 + 1;
        let spare = node.budget.saturating_sub(load.full);
        let fits = reached
            && room.may_feed(stream, stream.root, relay)
            && !room.avoided(stream.root, relay)
            && !tree.parent.contains_key(&relay)
            && load.edges + edges <= u64::from(node.facts.slots)
            && edges * (stream.most() + stream.helper_extra()) <= spare;
        fits.then_some((Reverse(spare), relay))
    };
    let above = tree.parent.get(&helper) == Some(&stream.root);
    let Some((_, relay)) = room.relays().filter_map(fits).min().filter(|_| above) else {
        return;
    };
    shape.detach(room, id, helper);
    for kid in kids {
        shape.detach(room, id, kid);
        shape.attach(room, id, kid, relay);
    }
    shape.attach(room, id, helper, relay);
    shape.attach(room, id, relay, stream.root);
}

/// Hang a root's own child on a relay, which the root feeds from now on if it did not before.
fn hand_over(room: &Room, shape: &mut Shape, id: StreamId, (root, kid): (NodeId, NodeId)) {
    let Some(stream) = room.streams.get(&id) else {
        return;
    };
    shape.detach(room, id, kid);
    let tree = shape.tree(id);
    let fits = |relay: NodeId| {
        let inside = tree.parent.contains_key(&relay);
        // Only the relay's own uplink counts: the root's is overdrawn now and will be less so.
        let (load, node) = (shape.load(relay), room.nodes.get(&relay)?);
        let own = stream.bill(&tree.counts(kid), true).1;
        let room_there = shape.has_room(room, relay, stream.floor())
            && load.full + own <= node.budget
            && room.may_feed(stream, relay, kid)
            && !room.avoided(relay, kid);
        let way_there = if inside {
            shape.allowed(room, id, kid, relay)
        } else {
            shape.allowed(room, id, relay, root) && !room.avoided(root, relay)
        };
        let spare = node.budget.saturating_sub(load.full);
        (room_there && way_there).then_some((!inside, Reverse(spare), relay))
    };
    match room.relays().filter_map(fits).min() {
        Some((outside, _, relay)) => {
            shape.attach(room, id, kid, relay);
            if outside {
                shape.attach(room, id, relay, root);
            }
        }
        None => shape.attach(room, id, kid, root),
    }
}

//! The strong nearer the root: whoever could pass on twice as much as somebody above it changes places with it.
//!
//! A join takes the best place that is free; a strong newcomer therefore starts as a leaf below weaker nodes. Under
//! `Tree(b)` it takes over the place and the children of a weak one here, a few on each timeout; under `Auto` levelling
//! asks for it where the weak one sends more than its share. Nobody but the weak one gets deeper.

use std::cmp::Reverse;

use super::place::strength;
use super::room::Room;
use super::shape::{DEPTH_CAP, Shape};
use crate::{NodeId, Policy, StreamId};

/// Exchanges of places in one tree on one timeout: each moves as many edges as the place has children, and two.
const AT_ONCE: usize = 2;

/// How much stronger the lower one must be, so that noise never moves anybody back.
const TIMES: u64 = 2;

/// Could anybody change places?
pub(super) fn is_wanted(room: &Room, shape: &Shape) -> bool {
    matches!(room.policy, Policy::Tree(_))
        && room
            .streams
            .keys()
            .any(|&id| pairs(room, shape, id).next().is_some())
}

/// Let the strong change places with the weak above them, in every tree a few.
pub(super) fn promote(room: &Room, shape: &mut Shape) {
    if !matches!(room.policy, Policy::Tree(_)) {
        return;
    }
    for &id in room.streams.keys() {
        for _ in 0..AT_ONCE {
            let pairs: Vec<(NodeId, NodeId)> = pairs(room, shape, id).collect();
            if !pairs
                .into_iter()
                .any(|(upper, lower)| swap(room, shape, id, upper, lower))
            {
                break;
            }
        }
    }
}

/// Weak interior nodes and the strongest leaf below the level of each, the weakest first.
fn pairs(room: &Room, shape: &Shape, id: StreamId) -> impl Iterator<Item = (NodeId, NodeId)> {
    let tree = shape.tree(id);
    let mut uppers = Vec::new();
    let mut leaves = Vec::new();
    if let Some(stream) = room.streams.get(&id) {
        for (node, level) in tree.top_down(stream.root) {
            if room.is_relay(node) {
                continue;
            }
            let strength = strength(room, node);
            if tree.is_leaf(node) {
                leaves.push((Reverse(strength), level, node));
            } else {
                uppers.push((strength, level, node));
            }
        }
    }
    uppers.sort_unstable();
    leaves.sort_unstable();
    uppers.into_iter().filter_map(move |(weak, above, upper)| {
        let mut lower = leaves.iter().filter(|&&(_, level, _)| level > above);
        let &(Reverse(strong), _, lower) = lower.next()?;
        (strong > weak.saturating_mul(TIMES)).then_some((upper, lower))
    })
}

/// Let a leaf take an interior node's place and children, and the node the leaf's place. Nothing changes if some pair cannot
/// be, or if not everything wanted fits on the new uplinks.
pub(super) fn swap(
    room: &Room,
    shape: &mut Shape,
    id: StreamId,
    upper: NodeId,
    lower: NodeId,
) -> bool {
    let tree = shape.tree(id);
    let (Some(&above), Some(&beside)) = (tree.parent.get(&upper), tree.parent.get(&lower)) else {
        return false;
    };
    let Some(root) = room.streams.get(&id).map(|stream| stream.root) else {
        return false;
    };
    if !tree.is_leaf(lower) || room.is_relay(lower) {
        return false;
    }
    let before = (tree.clone(), shape.load.clone());
    let kids: Vec<NodeId> = tree.kids_of(upper).filter(|&kid| kid != lower).collect();
    for &kid in kids.iter().chain([&lower, &upper]) {
        shape.detach(room, id, kid);
    }
    let last = if beside == upper { lower } else { beside };
    let below = kids.into_iter().map(|kid| (kid, lower));
    let steps = [(lower, above)]
        .into_iter()
        .chain(below)
        .chain([(upper, last)]);
    for (child, parent) in steps {
        let fits = !room.avoided(parent, child)
            && shape.allowed(room, id, child, parent)
            && shape.fit(room, id, child, parent, true).is_some();
        if fits {
            shape.attach(room, id, child, parent);
        }
        let level = shape.tree(id).level(root, child);
        let carried = |node: NodeId| {
            let budget = room.nodes.get(&node).map_or(0, |node| node.budget);
            let was = before.1.get(&node).map_or(0, |load| load.full);
            let load = shape.load(node).full;
            load <= budget || load <= was
        };
        if !fits
            || level.is_none_or(|level| level > DEPTH_CAP)
            || !carried(parent)
            || !carried(above)
        {
            shape.trees.insert(id, before.0);
            shape.load = before.1;
            return false;
        }
    }
    true
}

//! The net difference of two plans, with reasons, in an order in which it can be applied.

use std::collections::{BTreeMap, BTreeSet};

use super::map::NodeMap;
use super::place::Seat;
use super::room::{Pair, Room};
use super::shape::Shape;
use crate::{Edge, EdgeChange, NodeId, Reason, StreamId};

/// An edge as committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub edge: Edge,
    pub reason: Reason,
}

/// What made the plan change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// A node or a stream came, or a stream ended.
    Joined,
    /// A stream started, anew if the id was in use.
    Started(StreamId),
    Left(NodeId),
    Failed(NodeId),
    Lost(Pair),
    /// A node's uplink, slots or willingness.
    Capacity(NodeId),
    /// Wants or rates.
    Wants,
    Policy,
    Time,
    Ready(StreamId, NodeId),
}

/// Edges by stream and child.
pub(super) type Trees<T> = BTreeMap<StreamId, NodeMap<T>>;

/// Compare the trees of some streams, to which nothing else has changed but who is unserved; puts the new edges with
/// their reasons into `old`, and returns the changes.
pub(super) fn diff(
    room: &Room,
    shape: &Shape,
    ids: &BTreeSet<StreamId>,
    (old, old_unserved): (&mut Trees<Held>, &BTreeMap<Seat, Reason>),
    (new, unserved): (&Trees<Edge>, &BTreeMap<Seat, Reason>),
    cause: &Cause,
    epoch: u64,
) -> Vec<EdgeChange> {
    let gone = |id: StreamId, child: NodeId, parent: NodeId| {
        matches!(cause, Cause::Failed(node) if *node == parent)
            || matches!(cause, Cause::Lost(pair) if *pair == Pair::new(child, parent))
            || matches!(cause, Cause::Started(started) if *started == id)
            || (!room.nodes.contains_key(&parent)
                && !matches!(cause, Cause::Left(node) if *node == parent))
    };
    let none = NodeMap::new();
    let (mut first, mut last, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for &stream in ids {
        let edges = new.get(&stream).unwrap_or(&none);
        let empty = NodeMap::new();
        let before = old.get(&stream).unwrap_or(&empty);
        let polite = polite(room, stream, before, edges, cause, &gone);
        for (&child, held) in before
            .iter()
            .filter(|(child, _)| !edges.contains_key(child))
        {
            let polite = polite.contains(&child);
            let change = EdgeChange {
                epoch,
                stream,
                child,
                old: Some(held.edge.parent),
                new: None,
                reason: unserved
                    .get(&(stream, child))
                    .copied()
                    .unwrap_or(Reason::Ended),
                make_before_break: polite,
            };
            if polite {
                last.push(change)
            } else {
                first.push(change)
            }
        }
    }
    for (&(stream, child), &reason) in unserved {
        let held = old
            .get(&stream)
            .is_some_and(|held| held.contains_key(&child));
        if !held && old_unserved.get(&(stream, child)) != Some(&reason) {
            first.push(EdgeChange {
                epoch,
                stream,
                child,
                old: None,
                new: None,
                reason,
                make_before_break: false,
            });
        }
    }
    for &stream in ids {
        let Some(edges) = new.get(&stream) else {
            old.remove(&stream);
            continue;
        };
        let held = old.entry(stream).or_default();
        let same = edges.len() == held.len()
            && edges
                .iter()
                .zip(held.iter())
                .all(|((node, edge), (other, held))| node == other && *edge == held.edge);
        if same {
            continue;
        }
        let root = room.streams.get(&stream).map_or(NodeId(0), |s| s.root);
        let mut fresh = edges
            .iter()
            .map(|(&child, &edge)| {
                let reason = held.get(&child).map_or(Reason::Joined, |held| held.reason);
                (child, Held { edge, reason })
            })
            .collect::<NodeMap<Held>>();
        for (child, _) in shape.tree(stream).top_down(root) {
            let (Some(&edge), before) = (edges.get(&child), held.get(&child).copied()) else {
                continue;
            };
            let waited = old_unserved.contains_key(&(stream, child));
            let Some(reason) = reason(before, edge, waited, cause, child) else {
                continue;
            };
            fresh.insert(child, Held { edge, reason });
            let from = before.map(|before| before.edge.parent);
            moved.push(EdgeChange {
                epoch,
                stream,
                child,
                old: from,
                new: Some(edge),
                reason,
                make_before_break: from
                    .is_some_and(|parent| parent != edge.parent && !gone(stream, child, parent)),
            });
        }
        *held = fresh;
    }
    first.append(&mut moved);
    first.append(&mut last);
    first
}

/// Who is taken out of a tree and goes on forwarding for a moment: who leaves politely, and a relay that nobody needs any
/// more, for those who move away from it.
fn polite(
    room: &Room,
    id: StreamId,
    old: &NodeMap<Held>,
    new: &NodeMap<Edge>,
    cause: &Cause,
    gone: &impl Fn(StreamId, NodeId, NodeId) -> bool,
) -> BTreeSet<NodeId> {
    let mut polite = BTreeSet::new();
    for (&child, held) in old.iter() {
        let mut parent = held.edge.parent;
        let moves = new
            .get(&child)
            .is_some_and(|edge| edge.parent != parent && !gone(id, child, parent));
        if *cause == Cause::Left(child) {
            polite.insert(child);
        } else if !moves {
            continue;
        }
        // Up through the relays that end with this.
        while room.is_relay(parent)
            && !new.contains_key(&parent)
            && let Some(above) = old.get(&parent)
            && !gone(id, parent, above.edge.parent)
            && polite.insert(parent)
        {
            parent = above.edge.parent;
        }
    }
    polite
}

/// Why the edge differs; `None` if it does not.
fn reason(
    before: Option<Held>,
    edge: Edge,
    was_unserved: bool,
    cause: &Cause,
    child: NodeId,
) -> Option<Reason> {
    let Some(Held { edge: before, .. }) = before else {
        return Some(if was_unserved {
            Reason::Capacity
        } else {
            Reason::Joined
        });
    };
    if before == edge {
        return None;
    }
    if before.parent == edge.parent {
        let capacity = matches!(cause, Cause::Capacity(_) | Cause::Time);
        return Some(match (before.feed, edge.feed) {
            (false, true) => Reason::ParentReady,
            _ if capacity => Reason::Capacity,
            _ => Reason::Layers,
        });
    }
    Some(match cause {
        Cause::Left(node) if *node == before.parent => Reason::ParentLeft,
        Cause::Failed(node) if *node == before.parent => Reason::ParentLost,
        Cause::Lost(pair) if *pair == Pair::new(child, before.parent) => Reason::ParentLost,
        Cause::Started(_) => Reason::Joined,
        Cause::Policy => Reason::Policy,
        _ => Reason::Capacity,
    })
}

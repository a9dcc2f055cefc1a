//! The net difference of two plans, with reasons, in an order in which it can be applied.

use std::collections::{BTreeMap, BTreeSet};

use super::place::Seat;
use super::room::{Pair, Room};
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
    Capacity,
    Wants,
    Policy,
    Time,
    Ready(StreamId, NodeId),
}

/// The level of every node that hangs on the root, given (child, parent) pairs; the root itself is not listed.
pub(super) fn levels(edges: impl Iterator<Item = (NodeId, NodeId)>) -> BTreeMap<NodeId, u8> {
    let parent: BTreeMap<NodeId, NodeId> = edges.collect();
    let mut levels = BTreeMap::new();
    for &node in parent.keys() {
        let (mut at, mut level) = (node, 0u8);
        while let Some(&above) = parent.get(&at) {
            level = level.saturating_add(1);
            at = above;
            if level == u8::MAX {
                break;
            }
        }
        levels.insert(node, level);
    }
    levels
}

/// Compare; returns the new edges with their reasons, and the changes.
pub(super) fn diff(
    room: &Room,
    (old, old_unserved): (&BTreeMap<Seat, Held>, &BTreeMap<Seat, Reason>),
    (new, unserved): (BTreeMap<Seat, Edge>, &BTreeMap<Seat, Reason>),
    cause: &Cause,
    epoch: u64,
) -> (BTreeMap<Seat, Held>, Vec<EdgeChange>) {
    let mut held = BTreeMap::new();
    let (mut first, mut last, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    let gone = |id: StreamId, child: NodeId, parent: NodeId| {
        matches!(cause, Cause::Failed(node) if *node == parent)
            || matches!(cause, Cause::Lost(pair) if *pair == Pair::new(child, parent))
            || matches!(cause, Cause::Started(started) if *started == id)
            || (!room.nodes.contains_key(&parent)
                && !matches!(cause, Cause::Left(node) if *node == parent))
    };
    // Who is taken out of a tree and goes on forwarding for a moment: who leaves politely, and a relay that nobody needs
    // any more, for those who move away from it.
    let mut polite: BTreeSet<Seat> = BTreeSet::new();
    for (&(stream, child), held) in old {
        let seat = (stream, child);
        let mut parent = held.edge.parent;
        let moves = new
            .get(&seat)
            .is_some_and(|edge| edge.parent != parent && !gone(stream, child, parent));
        if *cause == Cause::Left(child) {
            polite.insert(seat);
        } else if !moves {
            continue;
        }
        // Up through the relays that end with this.
        while room.is_relay(parent)
            && !new.contains_key(&(stream, parent))
            && let Some(above) = old.get(&(stream, parent))
            && !gone(stream, parent, above.edge.parent)
            && polite.insert((stream, parent))
        {
            parent = above.edge.parent;
        }
    }
    for (&(stream, child), before) in old {
        if new.contains_key(&(stream, child)) {
            continue;
        }
        let polite = polite.contains(&(stream, child));
        let reason = unserved
            .get(&(stream, child))
            .copied()
            .unwrap_or(Reason::Ended);
        let change = EdgeChange {
            epoch,
            stream,
            child,
            old: Some(before.edge.parent),
            new: None,
            reason,
            make_before_break: polite,
        };
        if polite {
            last.push(change)
        } else {
            first.push(change)
        }
    }
    for (&(stream, child), &reason) in unserved {
        if !old.contains_key(&(stream, child))
            && old_unserved.get(&(stream, child)) != Some(&reason)
        {
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
    let ids: BTreeSet<StreamId> = new.keys().map(|&(id, _)| id).collect();
    for id in ids {
        let range = (id, NodeId(0))..=(id, NodeId(u32::MAX));
        let levels = levels(
            new.range(range.clone())
                .map(|(&(_, child), edge)| (child, edge.parent)),
        );
        let mut order: Vec<(u8, NodeId)> = levels
            .into_iter()
            .map(|(node, level)| (level, node))
            .collect();
        order.sort_unstable();
        for (_, child) in order {
            let seat = (id, child);
            let Some(&edge) = new.get(&seat) else {
                continue;
            };
            let before = old.get(&seat);
            let Some(reason) = reason(
                before.copied(),
                edge,
                old_unserved.contains_key(&seat),
                cause,
                child,
            ) else {
                held.extend(before.map(|&before| (seat, before)));
                continue;
            };
            held.insert(seat, Held { edge, reason });
            let from = before.map(|before| before.edge.parent);
            moved.push(EdgeChange {
                epoch,
                stream: id,
                child,
                old: from,
                new: Some(edge),
                reason,
                make_before_break: from
                    .is_some_and(|parent| parent != edge.parent && !gone(id, child, parent)),
            });
        }
    }
    first.append(&mut moved);
    first.append(&mut last);
    (held, first)
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
        let capacity = matches!(cause, Cause::Capacity | Cause::Time);
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

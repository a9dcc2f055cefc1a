//! Choosing layers: what each edge carries within the uplinks, the trees given.
//!
//! Progressive filling: everybody starts with the least, which the trees already have room for; then, layer by layer from
//! the lowest, whoever wants one more gets it if every uplink on its path has room. So nobody lacks a layer for somebody
//! else's higher one, and what goes first when capacity falls is always the highest. Within a layer a root's own
//! children come before anybody's forwarded streams, and who has the layer now before who has not, so that a plan
//! that still fits stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use super::map::NodeMap;
use super::place::Seat;
use super::room::{Counts, Room};
use super::shape::{Shape, Tree};
use super::shares;
use crate::{Edge, Layers, Millis, NodeId, StreamId};

/// What receivers show, by stream.
pub(super) type Takes = BTreeMap<StreamId, NodeMap<Take>>;

/// After capacity took a layer from a receiver it gets no more for this long.
pub const HOLD_MS: Millis = 4_000;

/// What a receiver shows, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Take {
    pub layer: Option<u8>,
    /// Not more before this.
    pub hold: Millis,
}

/// The layers of all edges.
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    /// With `feed` as if every parent had the stream.
    pub edges: BTreeMap<StreamId, NodeMap<Edge>>,
    pub takes: Takes,
    /// Receivers that want video and get none; layers wanted and not got, summed.
    pub starved: u32,
    pub missing: u32,
}

struct Entry {
    seat: Seat,
    parent: NodeId,
    /// Index of the parent's own entry; none at the root's children.
    above: Option<usize>,
    leaf: bool,
    relay: bool,
    counts: Counts,
    take: Option<u8>,
    want: Option<u8>,
    bill: u64,
}

/// Does everybody get everything wanted in these trees, because no uplink is overdrawn and nobody has to wait for a layer
/// that capacity took? Then nothing has to be shared out.
pub(super) fn is_plenty(room: &Room, shape: &Shape, old: &Takes, now: Millis) -> bool {
    let waits = |take: &Take| take.hold > now;
    shares::is_carried(room, shape) && !old.values().any(|takes| takes.values().any(waits))
}

/// One stream's edges and takes where everybody gets everything wanted.
pub(super) fn everything(room: &Room, tree: &Tree, id: StreamId) -> (NodeMap<Edge>, NodeMap<Take>) {
    let (mut edges, mut takes) = (NodeMap::new(), NodeMap::new());
    let Some(stream) = room.streams.get(&id) else {
        return (edges, takes);
    };
    for (&node, &parent) in tree.parent.iter() {
        let (layers, bill) = stream.bill(&tree.counts(node), tree.is_leaf(node));
        let edge = Edge {
            parent,
            layers,
            rate: u32::try_from(bill).unwrap_or(u32::MAX),
            feed: true,
        };
        edges.insert(node, edge);
        if !room.is_relay(node) {
            let layer = room.top(stream, node);
            takes.insert(node, Take { layer, hold: 0 });
        }
    }
    (edges, takes)
}

/// Share the uplinks out. `held`: receivers whose layer must not rise yet, because of `old`, are left where they are.
pub(super) fn share(room: &Room, shape: &Shape, old: &Takes, now: Millis, held: bool) -> Rates {
    let mut entries: Vec<Entry> = Vec::new();
    let mut spent: NodeMap<u64> = NodeMap::new();
    for (&id, stream) in &room.streams {
        let tree = shape.tree(id);
        let mut index: NodeMap<usize> = NodeMap::new();
        let first = entries.len();
        for (node, _) in tree.top_down(stream.root) {
            let Some(&parent) = tree.parent.get(&node) else {
                continue;
            };
            index.insert(node, entries.len());
            let want = room.top(stream, node);
            // A silent stream's least is its lowest layer.
            let take = if stream.rates.audio == 0 && want.is_some() {
                stream.available().next()
            } else {
                None
            };
            entries.push(Entry {
                seat: (id, node),
                parent,
                above: index.get(&parent).copied(),
                leaf: tree.is_leaf(node),
                relay: room.is_relay(node),
                counts: Counts::default(),
                take,
                want,
                bill: 0,
            });
        }
        for at in first..entries.len() {
            if let Some(layer) = entries[at].take {
                let mut up = Some(at);
                while let Some(index) = up {
                    entries[index].counts[usize::from(layer)] += 1;
                    up = entries[index].above;
                }
            }
        }
        for entry in &mut entries[first..] {
            entry.bill = stream.bill(&entry.counts, entry.leaf).1;
            *spent.slot(entry.parent) += entry.bill;
        }
    }

    for layer in 0..Layers::MAX as u8 {
        let mut turn: Vec<(bool, bool, usize)> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if entry.want < Some(layer) {
                continue;
            }
            let (id, node) = entry.seat;
            let rates = &room.streams[&id].rates.layers;
            let below = (0..layer)
                .rev()
                .find(|&lower| rates[usize::from(lower)] > 0);
            let before = old.get(&id).and_then(|takes| takes.get(&node)).copied();
            let due =
                !held || before.is_none_or(|take| now >= take.hold || take.layer >= Some(layer));
            if rates[usize::from(layer)] > 0 && entry.take == below && due {
                let has = before.is_some_and(|take| take.layer >= Some(layer));
                turn.push((entry.above.is_some(), !has, at));
            }
        }
        turn.sort_unstable();
        // Together a helper and those below it may afford what none of them can alone, and one raise may make the next
        // cheaper; so go on until nothing moves.
        loop {
            let before = turn.len();
            turn.retain(|&(_, _, at)| !raise_one(room, &mut entries, &mut spent, at, layer));
            if turn.len() == before {
                let mut below: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                for &(_, _, at) in &turn {
                    let mut up = Some(at);
                    while let Some(index) = up {
                        if !entries[index].leaf {
                            below.entry(index).or_default().push(at);
                        }
                        up = entries[index].above;
                    }
                }
                let relays = below.keys().copied().filter(|&at| entries[at].relay);
                let helpers = turn.iter().map(|&(_, _, at)| at);
                let tops: Vec<usize> = helpers.chain(relays).collect();
                let mut raised: BTreeSet<usize> = BTreeSet::new();
                for top in tops {
                    let group = below.get(&top).into_iter().flatten().copied();
                    let group: Vec<usize> = group.filter(|at| !raised.contains(at)).collect();
                    if group.len() > 1 && raise(room, &mut entries, &mut spent, &group, layer) {
                        raised.extend(group);
                    }
                }
                turn.retain(|(_, _, at)| !raised.contains(at));
            }
            if turn.len() == before || turn.is_empty() {
                break;
            }
        }
    }

    let mut rates = Rates::default();
    for entry in &entries {
        let (id, _) = entry.seat;
        let (layers, bill) = room.streams[&id].bill(&entry.counts, entry.leaf);
        let rate = u32::try_from(bill).unwrap_or(u32::MAX);
        let edge = Edge {
            parent: entry.parent,
            layers,
            rate,
            feed: true,
        };
        let (_, node) = entry.seat;
        rates.edges.entry(id).or_default().insert(node, edge);
        if entry.relay {
            continue;
        }
        let take = Take {
            layer: entry.take,
            hold: 0,
        };
        rates.takes.entry(id).or_default().insert(node, take);
        if entry.take < entry.want {
            rates.starved += u32::from(entry.take.is_none());
            let (have, want) = (
                entry.take.map_or(0, |layer| layer + 1),
                entry.want.map_or(0, |layer| layer + 1),
            );
            rates.missing += u32::from(want - have);
        }
    }
    rates
}

/// Give a receiver one layer more, if every uplink on the way has room for it.
fn raise_one(
    room: &Room,
    entries: &mut [Entry],
    spent: &mut NodeMap<u64>,
    at: usize,
    layer: u8,
) -> bool {
    let stream = &room.streams[&entries[at].seat.0];
    let from = entries[at].take;
    let raised = |entry: &Entry| {
        let mut counts = entry.counts;
        if let Some(from) = from {
            counts[usize::from(from)] -= 1;
        }
        counts[usize::from(layer)] += 1;
        (counts, stream.bill(&counts, entry.leaf).1)
    };
    // Nobody pays twice on one way to the root.
    let mut up = Some(at);
    while let Some(index) = up {
        let entry = &entries[index];
        let (_, bill) = raised(entry);
        let budget = room.nodes.get(&entry.parent).map_or(0, |node| node.budget);
        let sum = spent.get(&entry.parent).copied().unwrap_or(0);
        if bill > entry.bill && sum - entry.bill + bill > budget {
            return false;
        }
        up = entry.above;
    }
    up = Some(at);
    while let Some(index) = up {
        let (counts, bill) = raised(&entries[index]);
        let entry = &mut entries[index];
        let sum = spent.slot(entry.parent);
        *sum = *sum - entry.bill + bill;
        (entry.counts, entry.bill) = (counts, bill);
        up = entry.above;
    }
    entries[at].take = Some(layer);
    true
}

/// Give some receivers of one stream one layer more, if every uplink on the way has room for it.
fn raise(
    room: &Room,
    entries: &mut [Entry],
    spent: &mut NodeMap<u64>,
    group: &[usize],
    layer: u8,
) -> bool {
    let Some(&first) = group.first() else {
        return false;
    };
    let stream = &room.streams[&entries[first].seat.0];
    let mut touched: BTreeMap<usize, Counts> = BTreeMap::new();
    for &at in group {
        let from = entries[at].take;
        let mut up = Some(at);
        while let Some(index) = up {
            let counts = touched.entry(index).or_insert(entries[index].counts);
            if let Some(from) = from {
                counts[usize::from(from)] -= 1;
            }
            counts[usize::from(layer)] += 1;
            up = entries[index].above;
        }
    }
    let mut bills: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for (&index, counts) in &touched {
        let entry = &entries[index];
        let bill = bills.entry(entry.parent).or_default();
        bill.0 += entry.bill;
        bill.1 += stream.bill(counts, entry.leaf).1;
    }
    for (payer, &(old, new)) in &bills {
        let budget = room.nodes.get(payer).map_or(0, |node| node.budget);
        if new > old && spent.get(payer).copied().unwrap_or(0) - old + new > budget {
            return false;
        }
    }
    for (payer, (old, new)) in bills {
        let sum = spent.slot(payer);
        *sum = *sum - old + new;
    }
    for (index, counts) in touched {
        let entry = &mut entries[index];
        entry.counts = counts;
        entry.bill = stream.bill(&counts, entry.leaf).1;
    }
    for &at in group {
        entries[at].take = Some(layer);
    }
    true
}

//! In quiet, the plan reaches what an exhaustive search finds on small rooms.

mod common;

use std::collections::BTreeMap;

use common::Shadow;
use grove_tree::{DEPTH_CAP, Fact, NodeFacts, NodeId, Policy, Rates, StreamId};
use proptest::prelude::*;

/// The fewest receivers that must go without, over all ways to hang them up, at the least every edge needs.
fn fewest_unserved(shadow: &Shadow) -> usize {
    let seats: Vec<(StreamId, NodeId)> = shadow
        .streams
        .iter()
        .flat_map(|(&id, stream)| {
            shadow
                .nodes
                .keys()
                .filter(|&&n| n != stream.root)
                .map(move |&n| (id, n))
        })
        .collect();
    let mut best = seats.len();
    search(shadow, &seats, &mut Vec::new(), 0, &mut best);
    best
}

fn search(
    shadow: &Shadow,
    seats: &[(StreamId, NodeId)],
    parents: &mut Vec<Option<NodeId>>,
    without: usize,
    best: &mut usize,
) {
    if without >= *best || !affordable(shadow, seats, parents) {
        return;
    }
    if parents.len() == seats.len() {
        if rooted(shadow, seats, parents) {
            *best = without;
        }
        return;
    }
    let (id, child) = seats[parents.len()];
    let stream = &shadow.streams[&id];
    for &parent in shadow.nodes.keys() {
        if parent != child && shadow.may_feed(stream, parent) && !shadow.barred(parent, child) {
            parents.push(Some(parent));
            search(shadow, seats, parents, without, best);
            parents.pop();
        }
    }
    parents.push(None);
    search(shadow, seats, parents, without + 1, best);
    parents.pop();
}

fn affordable(shadow: &Shadow, seats: &[(StreamId, NodeId)], parents: &[Option<NodeId>]) -> bool {
    let mut spent: BTreeMap<NodeId, (u64, u16)> = BTreeMap::new();
    let mut kids: BTreeMap<(StreamId, NodeId), u8> = BTreeMap::new();
    for (&(id, _), parent) in seats.iter().zip(parents) {
        let Some(parent) = *parent else { continue };
        let sum = spent.entry(parent).or_default();
        sum.0 += shadow.streams[&id].floor();
        sum.1 += 1;
        *kids.entry((id, parent)).or_default() += 1;
    }
    let b = if let Policy::Tree(b) = shadow.policy {
        b.max(1)
    } else {
        u8::MAX
    };
    spent.iter().all(|(node, &(rate, edges))| {
        let facts = &shadow.nodes[node];
        rate <= facts.uplink && edges <= facts.slots
    }) && kids.values().all(|&kids| kids <= b)
}

fn rooted(shadow: &Shadow, seats: &[(StreamId, NodeId)], parents: &[Option<NodeId>]) -> bool {
    let above: BTreeMap<(StreamId, NodeId), NodeId> = seats
        .iter()
        .zip(parents)
        .filter_map(|(&seat, parent)| parent.map(|parent| (seat, parent)))
        .collect();
    above.keys().all(|&(id, node)| {
        let root = shadow.streams[&id].root;
        let (mut at, mut level) = (node, 0);
        while at != root && level <= DEPTH_CAP {
            let Some(&parent) = above.get(&(id, at)) else {
                return false;
            };
            at = parent;
            level += 1;
        }
        level <= DEPTH_CAP
    })
}

/// Rooms in which capacity is counted in copies of the sound.
fn small(nodes: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<NodeFacts>> {
    let facts = (
        0u64..4,
        prop::bool::weighted(0.8),
        prop_oneof![3 => Just(9u16), 1 => 0u16..3],
    )
        .prop_map(|(copies, forwards, slots)| NodeFacts {
            uplink: copies * 32_000,
            forwards,
            slots,
        });
    prop::collection::vec(facts, nodes)
}

const RATES: Rates = Rates {
    audio: 32_000,
    layers: [150_000, 500_000, 0, 0],
};

fn build(
    policy: Policy,
    nodes: &[NodeFacts],
    bars: &[(u32, u32)],
    roots: &[u32],
    late: bool,
) -> Shadow {
    let mut shadow = Shadow::new(policy);
    let start = |shadow: &mut Shadow| {
        for (id, &root) in (0..).zip(roots) {
            shadow.fact(Fact::Stream(StreamId(id), NodeId(root), RATES));
        }
    };
    for (id, &facts) in (0..).zip(nodes) {
        shadow.fact(Fact::Node(NodeId(id), facts));
        if id == 1 && late {
            start(&mut shadow);
        }
    }
    for &(a, b) in bars {
        shadow.fact(Fact::Barred(NodeId(a), NodeId(b)));
    }
    start(&mut shadow);
    shadow
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_goes_without_who_could_be_served(
        policy in prop_oneof![Just(Policy::Mesh), (1u8..4).prop_map(Policy::Tree), Just(Policy::Auto)],
        nodes in small(2..=5),
        bars in prop::collection::vec((0u32..5, 0u32..5), 0..3),
        late in any::<bool>(),
    ) {
        let mut shadow = build(policy, &nodes, &bars, &[0], late);
        shadow.quiet();
        prop_assert_eq!(shadow.unserved.len(), fewest_unserved(&shadow), "{:?}", shadow.plan.trees());
    }

    #[test]
    fn two_streams_that_share_uplinks_leave_at_most_one_more_out(
        policy in prop_oneof![Just(Policy::Mesh), (1u8..4).prop_map(Policy::Tree), Just(Policy::Auto)],
        nodes in small(2..=4),
        bars in prop::collection::vec((0u32..4, 0u32..4), 0..2),
        late in any::<bool>(),
    ) {
        let mut shadow = build(policy, &nodes, &bars, &[0, 1], late);
        shadow.quiet();
        let best = fewest_unserved(&shadow);
        prop_assert!((best..=best + 1).contains(&shadow.unserved.len()), "{best}: {:?}", shadow.plan.trees());
    }

    #[test]
    fn full_rooms_of_plain_uplinks_get_everything_from_everybody(
        count in 2u32..12,
        policy in prop_oneof![Just(Policy::Mesh), Just(Policy::Auto)],
    ) {
        let mut shadow = Shadow::new(policy);
        for id in 0..count {
            let uplink = u64::from(count - 1) * 532_000;
            shadow.fact(Fact::Node(NodeId(id), NodeFacts { uplink, forwards: true, slots: 64 }));
            shadow.fact(Fact::Stream(StreamId(id), NodeId(id), RATES));
        }
        for ((id, child), edge) in &shadow.edges {
            prop_assert_eq!((edge.parent.0, edge.layers.0, edge.feed), (id.0, 2, true), "{:?}", child);
        }
        prop_assert_eq!(shadow.edges.len(), (count * (count - 1)) as usize);
    }
}

#[test]
fn the_search_knows_a_room_that_must_leave_one_out() {
    let poor = NodeFacts {
        uplink: 32_000,
        forwards: true,
        slots: 9,
    };
    let shadow = build(Policy::Mesh, &[poor, poor, poor], &[], &[0], false);
    assert_eq!(fewest_unserved(&shadow), 1);
    let shadow = build(Policy::Tree(1), &[poor, poor, poor], &[], &[0], false);
    assert_eq!(fewest_unserved(&shadow), 0);
}

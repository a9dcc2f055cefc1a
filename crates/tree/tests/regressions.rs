//! Rooms that once went wrong, kept as they were found.

mod common;

use common::Shadow;
use grove_tree::{Fact, Kind, NodeFacts, NodeId, Policy, Rates, StreamId};

const SOUND: Rates = Rates {
    audio: 32_000,
    layers: [150_000, 500_000, 1_500_000, 0],
};

fn copies(id: u32, copies: u64, forwards: bool) -> Fact {
    Fact::Node(
        NodeId(id),
        NodeFacts {
            kind: Kind::Participant,
            uplink: copies * 32_000,
            forwards,
            slots: 9,
            ..NodeFacts::default()
        },
    )
}

/// A leaf held the only place that a helper could have used for others; both had the same uplink, and the leaf needed
/// all of its own for its own stream.
#[test]
fn whoever_needs_its_uplink_itself_does_not_stand_in_a_helpers_place() {
    let mut shadow = Shadow::new(Policy::Tree(2));
    for fact in [
        copies(0, 1, true),
        copies(1, 1, false),
        copies(2, 1, true),
        copies(3, 0, false),
    ] {
        shadow.fact(fact);
    }
    shadow.fact(Fact::Barred(NodeId(2), NodeId(0)));
    shadow.fact(Fact::Stream(StreamId(0), NodeId(0), SOUND));
    shadow.fact(Fact::Stream(StreamId(1), NodeId(1), SOUND));
    shadow.quiet();
    assert_eq!(shadow.unserved.len(), 3, "{:?}", shadow.plan.trees());
}

/// The new root was a receiver of the stream whose id it takes over, and its old edge must go first.
#[test]
fn a_receiver_may_become_the_root_of_the_same_stream() {
    let mut shadow = Shadow::new(Policy::Mesh);
    for fact in [copies(0, 9, true), copies(1, 9, true), copies(2, 9, true)] {
        shadow.fact(fact);
    }
    shadow.fact(Fact::Stream(StreamId(2), NodeId(1), SOUND));
    shadow.deliver();
    let changes = shadow.fact(Fact::Stream(StreamId(2), NodeId(0), SOUND));
    let moved: Vec<_> = changes
        .iter()
        .map(|c| (c.child.0, c.old.map(|n| n.0), c.new.map(|e| e.parent.0)))
        .collect();
    assert_eq!(
        moved,
        [
            (0, Some(1), None),
            (1, None, Some(0)),
            (2, Some(1), Some(0))
        ]
    );
}

/// Slots, not rates, ran out at the one strong node, and its own stream was sent by others at sound only.
#[test]
fn a_strong_node_out_of_slots_sends_its_own_stream_first() {
    let mut shadow = Shadow::new(Policy::Auto);
    for id in 1..=12 {
        let uplink = if id == 7 { 500_000_000 } else { 1_600_000 };
        shadow.fact(Fact::Node(
            NodeId(id),
            NodeFacts {
                kind: Kind::Participant,
                uplink,
                forwards: true,
                slots: 64,
                ..NodeFacts::default()
            },
        ));
    }
    for id in 1..=12 {
        shadow.fact(Fact::Stream(StreamId(id), NodeId(id), SOUND));
    }
    let own: Vec<_> = shadow
        .edges
        .iter()
        .filter(|((id, _), _)| id.0 == 7)
        .map(|(_, edge)| edge)
        .collect();
    assert_eq!(own.len(), 11);
    assert!(
        own.iter()
            .all(|edge| edge.parent == NodeId(7) && edge.layers.0 == 0b100)
    );
}

fn relay(id: u32, copies: u64, slots: u16) -> Fact {
    Fact::Node(
        NodeId(id),
        NodeFacts {
            kind: Kind::Relay,
            uplink: copies * 32_000,
            forwards: true,
            slots,
            ..NodeFacts::default()
        },
    )
}

/// A chain of three hops through participants was possible; the relay hung below two of them and made it four.
#[test]
fn auto_uses_no_relay_that_makes_the_tree_deeper() {
    let mut shadow = Shadow::new(Policy::Auto);
    for fact in [
        copies(0, 1, false),
        copies(1, 1, true),
        copies(2, 1, true),
        copies(3, 0, false),
        relay(4, 1, 9),
    ] {
        shadow.fact(fact);
    }
    shadow.fact(Fact::Barred(NodeId(2), NodeId(3)));
    shadow.fact(Fact::Stream(StreamId(0), NodeId(0), SOUND));
    shadow.quiet();
    let parents: Vec<_> = shadow
        .edges
        .iter()
        .map(|((_, child), edge)| (child.0, edge.parent.0))
        .collect();
    assert_eq!(parents, [(1, 2), (2, 0), (3, 1)]);
}

/// The root feeds one relay; the one with the higher uplink had a single slot.
#[test]
fn the_only_relay_of_a_root_is_the_one_that_serves_all() {
    let mut shadow = Shadow::new(Policy::Relay);
    for id in 0..=3 {
        shadow.fact(copies(id, u64::from(id == 0), false));
    }
    shadow.fact(relay(4, 3, 9));
    shadow.fact(relay(5, 4, 1));
    shadow.fact(Fact::Barred(NodeId(5), NodeId(4)));
    shadow.fact(Fact::Stream(StreamId(0), NodeId(0), SOUND));
    shadow.quiet();
    assert_eq!(shadow.unserved.len(), 0, "{:?}", shadow.plan.trees());
}

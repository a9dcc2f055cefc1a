//! Random operations on a room.

use grove_tree::{Fact, Kind, NodeFacts, NodeId, Policy, Rates, StreamId};
use proptest::prelude::*;

use super::Shadow;

#[derive(Debug, Clone)]
pub enum Op {
    Fact(Fact),
    /// Everybody who is fed says so.
    Deliver,
    /// Milliseconds pass.
    Pass(u64),
}

pub fn run(shadow: &mut Shadow, op: &Op) {
    match *op {
        Op::Fact(fact) => {
            shadow.fact(fact);
        }
        Op::Deliver => shadow.deliver(),
        Op::Pass(millis) => shadow.pass(shadow.now + millis),
    }
}

pub fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Mesh),
        Just(Policy::Relay),
        (0u8..5).prop_map(Policy::Tree),
        Just(Policy::Auto),
        Just(Policy::Auto)
    ]
}

pub fn facts() -> impl Strategy<Value = NodeFacts> {
    let uplink = prop_oneof![
        Just(0),
        0u64..200_000,
        200_000u64..3_000_000,
        3_000_000u64..30_000_000
    ];
    let slots = prop_oneof![4 => Just(64u16), 1 => 0u16..5];
    (uplink, prop::bool::weighted(0.8), slots).prop_map(|(uplink, forwards, slots)| NodeFacts {
        kind: Kind::Participant,
        uplink,
        forwards,
        slots,
        ..NodeFacts::default()
    })
}

pub fn rates() -> impl Strategy<Value = Rates> {
    prop_oneof![
        Just(Rates {
            audio: 32_000,
            layers: [150_000, 500_000, 1_500_000, 0]
        }),
        Just(Rates {
            audio: 32_000,
            layers: [1_000_000, 0, 0, 0]
        }),
        Just(Rates {
            audio: 0,
            layers: [150_000, 0, 1_200_000, 0]
        }),
        Just(Rates {
            audio: 48_000,
            layers: [0; 4]
        }),
        Just(Rates {
            audio: 64_000,
            layers: [0, 900_000, 400_000, 2_000_000]
        }),
        Just(Rates::default()),
    ]
}

/// Relays are numbered from here.
pub const RELAYS: u32 = 1_000;

pub fn relay_facts() -> impl Strategy<Value = NodeFacts> {
    let uplink = prop_oneof![1 => 0u64..1_000_000, 3 => Just(1_000_000_000u64)];
    let slots = prop_oneof![4 => Just(1_000u16), 1 => 0u16..5];
    (uplink, prop::bool::weighted(0.95), slots).prop_map(|(uplink, forwards, slots)| NodeFacts {
        kind: Kind::Relay,
        uplink,
        forwards,
        slots,
        ..NodeFacts::default()
    })
}

/// One operation in a room of `nodes` participants, two relays and up to `streams` streams.
pub fn op(nodes: u32, streams: u32) -> impl Strategy<Value = Op> {
    let participant = move || (0..nodes).prop_map(NodeId);
    let relay = || (RELAYS..RELAYS + 2).prop_map(NodeId);
    let node = move || prop_oneof![4 => participant(), 1 => relay()];
    let stream = move || (0..streams).prop_map(StreamId);
    let fact = prop_oneof![
        8 => (participant(), facts()).prop_map(|(id, facts)| Fact::Node(id, facts)),
        3 => (relay(), relay_facts()).prop_map(|(id, facts)| Fact::Node(id, facts)),
        3 => node().prop_map(Fact::Left),
        3 => node().prop_map(Fact::Failed),
        3 => (node(), node()).prop_map(|(a, b)| Fact::LinkLost(a, b)),
        1 => (node(), node()).prop_map(|(a, b)| Fact::Barred(a, b)),
        6 => (stream(), node(), rates()).prop_map(|(id, root, rates)| Fact::Stream(id, root, rates)),
        1 => stream().prop_map(Fact::Ended),
        4 => (stream(), node(), prop::option::of(0u8..4)).prop_map(|(id, node, want)| Fact::Wants(id, node, want)),
        4 => (stream(), node(), node()).prop_map(|(id, a, b)| Fact::Ready(id, a, b)),
        1 => policy().prop_map(Fact::Policy),
    ];
    prop_oneof![
        10 => fact.prop_map(Op::Fact),
        3 => Just(Op::Deliver),
        2 => (1u64..20_000).prop_map(Op::Pass),
    ]
}

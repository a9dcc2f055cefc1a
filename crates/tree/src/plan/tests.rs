//! Whole answers, one rule at a time.

use crate::{
    Edge, EdgeChange, Fact, Layers, NodeFacts, NodeId, Plan, Policy, Rates, Reason, StreamId,
};

const AUDIO: u32 = 32_000;
const STREAM: StreamId = StreamId(16);

fn node(id: u32, copies: u64) -> Fact {
    strong(id, copies * 1_032_000)
}

fn strong(id: u32, uplink: u64) -> Fact {
    Fact::Node(
        NodeId(id),
        NodeFacts {
            uplink,
            forwards: true,
            slots: 64,
        },
    )
}

/// One layer of 1 Mbit/s.
fn plain() -> Rates {
    Rates {
        audio: AUDIO,
        layers: [1_000_000, 0, 0, 0],
    }
}

/// Three layers: 150, 500 and 1500 kbit/s.
fn layered() -> Rates {
    Rates {
        audio: AUDIO,
        layers: [150_000, 500_000, 1_500_000, 0],
    }
}

fn room(policy: Policy, facts: &[Fact]) -> Plan {
    let mut plan = Plan::new(policy);
    for &fact in facts {
        plan.handle(fact, 0);
    }
    plan
}

/// A change in short: child, old parent, new parent with layers and feed, reason, make before break.
type Short = (u32, Option<u32>, Option<(u32, u8, bool)>, Reason, bool);

fn short(changes: &[EdgeChange]) -> Vec<Short> {
    let edge = |edge: Edge| (edge.parent.0, edge.layers.0, edge.feed);
    changes
        .iter()
        .map(|c| {
            (
                c.child.0,
                c.old.map(|n| n.0),
                c.new.map(edge),
                c.reason,
                c.make_before_break,
            )
        })
        .collect()
}

/// A tree in short: child, parent, layers.
fn edges(plan: &Plan) -> Vec<(u32, u32, u8)> {
    plan.trees()
        .iter()
        .flat_map(|t| &t.edges)
        .map(|e| (e.child.0, e.edge.parent.0, e.edge.layers.0))
        .collect()
}

fn ready(plan: &mut Plan, child: u32, parent: u32) -> Vec<Short> {
    short(&plan.handle(Fact::Ready(STREAM, NodeId(child), NodeId(parent)), 0))
}

#[test]
fn a_mesh_root_feeds_everybody_and_says_so_once() {
    let mut plan = room(Policy::Mesh, &[node(1, 5), node(2, 0), node(3, 0)]);
    let changes = plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    let edge = Edge {
        parent: NodeId(1),
        layers: Layers(1),
        rate: 1_032_000,
        feed: true,
    };
    let change = |child| EdgeChange {
        epoch: 1,
        stream: STREAM,
        child: NodeId(child),
        old: None,
        new: Some(edge),
        reason: Reason::Joined,
        make_before_break: false,
    };
    assert_eq!(changes, [change(2), change(3)]);
    assert_eq!(plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 1), []);
    assert_eq!(plan.epoch(), 1);
}

#[test]
fn a_tree_fills_breadth_first_with_the_strong_nearest_the_root() {
    let mut plan = room(
        Policy::Tree(2),
        &[
            node(1, 9),
            node(2, 0),
            node(3, 4),
            node(4, 0),
            node(5, 4),
            node(6, 0),
        ],
    );
    let changes = plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    assert_eq!(
        short(&changes),
        [
            (3, None, Some((1, 1, true)), Reason::Joined, false),
            (5, None, Some((1, 1, true)), Reason::Joined, false),
            (2, None, Some((3, 1, false)), Reason::Joined, false),
            (4, None, Some((5, 1, false)), Reason::Joined, false),
            (6, None, Some((3, 1, false)), Reason::Joined, false),
        ]
    );
    assert_eq!(
        ready(&mut plan, 3, 1),
        [
            (2, Some(3), Some((3, 1, true)), Reason::ParentReady, false),
            (6, Some(3), Some((3, 1, true)), Reason::ParentReady, false),
        ]
    );
    assert_eq!(ready(&mut plan, 3, 1), []);
}

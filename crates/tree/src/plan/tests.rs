//! Whole answers, one rule at a time.

mod relays;

use crate::{
    Edge, EdgeChange, Fact, Kind, Layers, NodeFacts, NodeId, Plan, Policy, Rates, Reason, StreamId,
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
            kind: Kind::Participant,
            uplink,
            forwards: true,
            slots: 64,
            ..NodeFacts::default()
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

/// Root 1 feeds 2 and 3, 2 feeds 4 and 6, 3 feeds 5 and 7; all are ready.
fn two_levels() -> Plan {
    let mut facts: Vec<Fact> = (1..=3).map(|id| node(id, 4)).collect();
    facts.extend((4..=7).map(|id| node(id, 2)));
    facts.push(Fact::Stream(STREAM, NodeId(1), plain()));
    let mut plan = room(Policy::Tree(2), &facts);
    for id in 2..=7 {
        ready(&mut plan, id, 1);
    }
    assert_eq!(
        edges(&plan),
        [
            (2, 1, 1),
            (3, 1, 1),
            (4, 2, 1),
            (5, 3, 1),
            (6, 2, 1),
            (7, 3, 1)
        ]
    );
    plan
}

#[test]
fn the_children_of_a_leaver_move_before_it_goes() {
    let mut plan = two_levels();
    let changes = plan.handle(Fact::Left(NodeId(2)), 5);
    assert_eq!(
        short(&changes),
        [
            (4, Some(2), Some((1, 1, true)), Reason::ParentLeft, true),
            (6, Some(2), Some((4, 1, true)), Reason::ParentLeft, true),
            (2, Some(1), None, Reason::Ended, true),
        ]
    );
}

#[test]
fn the_children_of_a_failed_parent_move_at_once_and_keep_their_subtrees() {
    let mut plan = two_levels();
    plan.handle(node(8, 0), 1);
    plan.handle(node(9, 0), 1);
    assert_eq!(edges(&plan)[6..], [(8, 4, 1), (9, 5, 1)]);
    let changes = plan.handle(Fact::Failed(NodeId(2)), 5);
    assert_eq!(
        short(&changes),
        [
            (2, Some(1), None, Reason::Ended, false),
            (4, Some(2), Some((1, 1, true)), Reason::ParentLost, false),
            (6, Some(2), Some((4, 1, true)), Reason::ParentLost, false),
        ]
    );
    assert!(edges(&plan).contains(&(8, 4, 1)));
}

#[test]
fn a_lost_link_is_avoided_for_a_while_but_used_when_it_is_the_only_way() {
    let mut plan = two_levels();
    let lost = Fact::LinkLost(NodeId(4), NodeId(2));
    assert_eq!(
        short(&plan.handle(lost, 1_000)),
        [(4, Some(2), Some((5, 1, true)), Reason::ParentLost, false)]
    );
    assert_eq!(plan.poll_timeout(), Some(31_000));
    assert_eq!(plan.handle_timeout(31_000), []);
    assert_eq!(plan.poll_timeout(), None);

    let mut pair = room(
        Policy::Mesh,
        &[
            node(1, 1),
            node(2, 1),
            Fact::Stream(STREAM, NodeId(1), plain()),
        ],
    );
    assert_eq!(pair.handle(Fact::LinkLost(NodeId(1), NodeId(2)), 0), []);
    assert_eq!(edges(&pair), [(2, 1, 1)]);
}

#[test]
fn a_barred_pair_is_never_used_again_and_mesh_has_no_way_around() {
    let facts = [
        node(1, 3),
        node(2, 3),
        node(3, 3),
        Fact::Stream(STREAM, NodeId(1), plain()),
    ];
    let barred = Fact::Barred(NodeId(3), NodeId(1));
    let mut mesh = room(Policy::Mesh, &facts);
    assert_eq!(
        short(&mesh.handle(barred, 0)),
        [(3, Some(1), None, Reason::Unreachable, false)]
    );
    assert_eq!(mesh.trees()[0].unserved, [(NodeId(3), Reason::Unreachable)]);
    let mut auto = room(Policy::Auto, &facts);
    assert_eq!(
        short(&auto.handle(barred, 0)),
        [(3, Some(1), Some((2, 1, false)), Reason::ParentLost, false)]
    );
    assert_eq!(auto.handle(barred, 1), []);
}

#[test]
fn auto_is_a_mesh_while_the_root_can_carry_it_and_adds_one_helper_when_it_cannot() {
    let mut plan = room(
        Policy::Auto,
        &[node(1, 3), node(2, 1), node(3, 9), node(4, 1)],
    );
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    assert_eq!(edges(&plan), [(2, 1, 1), (3, 1, 1), (4, 1, 1)]);
    for id in 2..=4 {
        ready(&mut plan, id, 1);
    }
    let changes = plan.handle(node(5, 1), 0);
    assert_eq!(
        short(&changes),
        [(5, None, Some((3, 1, true)), Reason::Joined, false)]
    );
}

#[test]
fn a_helper_takes_the_lowest_layer_and_what_its_children_want() {
    // 32 + 1500 for one copy; the root carries a helper's edge and one more, the helper one copy.
    let mut plan = room(
        Policy::Auto,
        &[
            strong(1, 3_300_000),
            strong(2, 2_000_000),
            strong(3, 0),
            strong(4, 0),
        ],
    );
    plan.handle(Fact::Stream(STREAM, NodeId(1), layered()), 0);
    assert_eq!(edges(&plan), [(2, 1, 0b101), (3, 1, 0b100), (4, 2, 0b100)]);
    let changes = plan.handle(Fact::Wants(STREAM, NodeId(4), Some(1)), 1);
    assert_eq!(
        short(&changes),
        [
            (2, Some(1), Some((1, 0b111, true)), Reason::Layers, false),
            (3, Some(1), Some((1, 0b010, true)), Reason::Layers, false),
            (4, Some(2), Some((2, 0b010, false)), Reason::Layers, false),
        ]
    );
}

#[test]
fn layers_go_before_sound_and_sound_before_people() {
    let facts = |uplink| {
        Fact::Node(
            NodeId(1),
            NodeFacts {
                kind: Kind::Participant,
                uplink,
                forwards: true,
                slots: 64,
                ..NodeFacts::default()
            },
        )
    };
    let mut plan = room(Policy::Mesh, &[facts(9_000_000), node(2, 0), node(3, 0)]);
    plan.handle(Fact::Stream(STREAM, NodeId(1), layered()), 0);
    let mut seen = Vec::new();
    for uplink in [9_000_000, 3_063_000, 1_000_000, 300_000, 64_000, 40_000, 0] {
        plan.handle(facts(uplink), 0);
        let view = &plan.trees()[0];
        let layers: Vec<u8> = view.edges.iter().map(|edge| edge.edge.layers.0).collect();
        seen.push((uplink, layers, view.unserved.len()));
    }
    assert_eq!(
        seen,
        [
            (9_000_000, vec![4, 4], 0),
            (3_063_000, vec![4, 2], 0),
            (1_000_000, vec![2, 1], 0),
            (300_000, vec![1, 0], 0),
            (64_000, vec![0, 0], 0),
            (40_000, vec![0], 1),
            (0, vec![], 2),
        ]
    );
}

#[test]
fn a_layer_that_capacity_took_comes_back_after_a_while_and_not_for_a_little() {
    let facts = |uplink| {
        Fact::Node(
            NodeId(1),
            NodeFacts {
                kind: Kind::Participant,
                uplink,
                forwards: true,
                slots: 64,
                ..NodeFacts::default()
            },
        )
    };
    let mut plan = room(Policy::Mesh, &[facts(1_600_000), node(2, 0)]);
    plan.handle(Fact::Stream(STREAM, NodeId(1), layered()), 0);
    assert_eq!(
        short(&plan.handle(facts(1_500_000), 100)),
        [(2, Some(1), Some((1, 2, true)), Reason::Capacity, false)]
    );
    assert_eq!(plan.handle(facts(1_600_000), 200), []);
    assert_eq!(plan.handle(facts(9_000_000), 300), []);
    assert_eq!(plan.handle_timeout(4_000), []);
    assert_eq!(plan.poll_timeout(), Some(4_100));
    assert_eq!(
        short(&plan.handle_timeout(4_100)),
        [(2, Some(1), Some((1, 4, true)), Reason::Capacity, false)]
    );
    assert_eq!(plan.poll_timeout(), None);
}

#[test]
fn a_report_that_stands_still_is_believed_however_small_the_gain() {
    let facts = |uplink| {
        Fact::Node(
            NodeId(1),
            NodeFacts {
                kind: Kind::Participant,
                uplink,
                forwards: true,
                slots: 64,
                ..NodeFacts::default()
            },
        )
    };
    let mut plan = room(Policy::Mesh, &[facts(1_500_000), node(2, 0)]);
    plan.handle(Fact::Stream(STREAM, NodeId(1), layered()), 0);
    plan.handle(facts(1_600_000), 20_000);
    while let Some(at) = plan.poll_timeout()
        && at < 30_000
    {
        assert_eq!(plan.handle_timeout(at), []);
    }
    assert_eq!(short(&plan.handle_timeout(30_000)).len(), 1);
    assert_eq!(edges(&plan), [(2, 1, 4)]);
}

#[test]
fn a_root_sends_its_own_stream_before_it_forwards_another() {
    // Node 2 has room for two edges and forwards stream 1 to both others; then it starts a stream itself.
    let other = StreamId(1);
    let mut plan = room(
        Policy::Tree(2),
        &[node(1, 1), node(2, 2), node(3, 0), node(4, 0)],
    );
    plan.handle(
        Fact::Stream(
            other,
            NodeId(1),
            Rates {
                audio: 1_032_000,
                ..Rates::default()
            },
        ),
        0,
    );
    assert_eq!(edges(&plan), [(2, 1, 0), (3, 2, 0), (4, 2, 0)]);
    let changes = plan.handle(
        Fact::Stream(
            STREAM,
            NodeId(2),
            Rates {
                audio: 1_032_000,
                ..Rates::default()
            },
        ),
        0,
    );
    assert_eq!(
        changes
            .iter()
            .map(|c| (c.stream.0, c.child.0, c.new.map(|e| e.parent.0)))
            .collect::<Vec<_>>(),
        [
            (1, 3, None),
            (1, 4, None),
            (16, 4, None),
            (16, 1, Some(2)),
            (16, 3, Some(2))
        ],
    );
}

#[test]
fn a_new_policy_moves_only_whom_it_must_and_nobody_notices() {
    let mut plan = room(
        Policy::Mesh,
        &[node(1, 9), node(2, 9), node(3, 9), node(4, 9)],
    );
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    for id in 2..=4 {
        ready(&mut plan, id, 1);
    }
    assert_eq!(
        short(&plan.handle(Fact::Policy(Policy::Tree(2)), 1)),
        [(4, Some(1), Some((2, 1, true)), Reason::Policy, true)]
    );
    assert_eq!(plan.handle(Fact::Policy(Policy::Tree(2)), 2), []);
    assert_eq!(
        short(&plan.handle(Fact::Policy(Policy::Mesh), 3)),
        [(4, Some(2), Some((1, 1, true)), Reason::Policy, true)]
    );
}

#[test]
fn a_leaving_root_ends_its_stream_and_a_new_one_may_begin_under_the_same_id() {
    let mut plan = two_levels();
    let ended = plan.handle(Fact::Left(NodeId(1)), 1);
    assert_eq!(ended.len(), 6);
    assert!(
        ended
            .iter()
            .all(|c| c.new.is_none() && c.reason == Reason::Ended)
    );
    assert_eq!(plan.trees(), []);
    let begun = plan.handle(Fact::Stream(STREAM, NodeId(2), plain()), 2);
    assert_eq!(begun.len(), 5);
    // Nobody has the new stream, whatever they had of the old one.
    assert!(
        begun
            .iter()
            .all(|c| c.new.is_some_and(|e| e.feed == (e.parent == NodeId(2))))
    );
}

#[test]
fn a_node_that_comes_back_starts_from_nothing() {
    let mut plan = two_levels();
    plan.handle(Fact::Barred(NodeId(1), NodeId(7)), 0);
    plan.handle(Fact::Wants(STREAM, NodeId(7), None), 0);
    plan.handle(Fact::Failed(NodeId(7)), 0);
    let back = plan.handle(node(7, 2), 1);
    assert_eq!(
        short(&back),
        [(7, None, Some((3, 1, true)), Reason::Joined, false)]
    );
    assert!(
        !plan.trees()[0]
            .edges
            .iter()
            .any(|edge| edge.child == NodeId(7) && edge.ready)
    );
}

#[test]
fn nobody_is_served_by_nodes_without_uplink_and_one_strong_node_serves_all() {
    let mut plan = room(Policy::Auto, &[node(1, 0), node(2, 0), node(3, 0)]);
    for id in 1..=3 {
        plan.handle(Fact::Stream(StreamId(id), NodeId(id), plain()), 0);
    }
    assert_eq!(
        plan.trees().iter().map(|t| t.unserved.len()).sum::<usize>(),
        6
    );

    let strong = NodeFacts {
        kind: Kind::Participant,
        uplink: 500_000_000,
        forwards: true,
        slots: 200,
        ..NodeFacts::default()
    };
    let mut facts: Vec<Fact> = (1..=12).map(|id| node(id, 1)).collect();
    facts.push(Fact::Node(NodeId(7), strong));
    let mut plan = room(Policy::Auto, &facts);
    for id in 1..=12 {
        plan.handle(Fact::Stream(StreamId(id), NodeId(id), plain()), 0);
    }
    while let Some(at) = plan.poll_timeout() {
        plan.handle_timeout(at);
    }
    for tree in plan.trees() {
        assert_eq!((tree.edges.len(), tree.unserved.len()), (11, 0));
        let wanted = |edge: &crate::EdgeView| edge.level <= 2 && edge.edge.layers == Layers(1);
        assert!(tree.edges.iter().all(wanted), "{tree:?}");
    }
}

#[test]
fn what_is_unknown_changes_nothing() {
    let mut plan = room(Policy::Auto, &[node(1, 1)]);
    let (me, who) = (NodeId(1), NodeId(9));
    for fact in [
        Fact::Left(who),
        Fact::Failed(who),
        Fact::LinkLost(me, who),
        Fact::Barred(who, me),
        Fact::Barred(me, me),
        Fact::Stream(STREAM, who, plain()),
        Fact::Ended(STREAM),
        Fact::Wants(STREAM, me, None),
        Fact::Ready(STREAM, me, who),
        Fact::Policy(Policy::Auto),
    ] {
        assert_eq!(plan.handle(fact, 1), []);
    }
    assert_eq!(
        (plan.epoch(), plan.poll_timeout(), plan.trees()),
        (0, None, vec![])
    );
}

/// A generator of noise; the constants are those of Knuth's MMIX.
fn noise(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn a_tenth_of_noise_on_every_uplink_soon_changes_nothing_any_more() {
    // A tight room: nobody can carry a copy of the top layer to everybody.
    let uplink = |id: u64| 1_500_000 + id * 300_000;
    let facts = |id: u64, uplink: u64| {
        Fact::Node(
            NodeId(id as u32),
            NodeFacts {
                kind: Kind::Participant,
                uplink,
                forwards: true,
                slots: 64,
                ..NodeFacts::default()
            },
        )
    };
    let policies = [Policy::Mesh, Policy::Tree(2), Policy::Auto];
    let relayed = policies.into_iter().chain([Policy::Relay]);
    let rooms = policies.map(|policy| (policy, false)).into_iter();
    for (policy, with_relay) in rooms.chain(relayed.map(|policy| (policy, true))) {
        let mut plan = Plan::new(policy);
        if with_relay {
            plan.handle(relays::relay(), 0);
        }
        for id in 1..=8 {
            plan.handle(facts(id, uplink(id)), 0);
            plan.handle(
                Fact::Stream(StreamId(id as u32), NodeId(id as u32), layered()),
                0,
            );
        }
        let (mut seed, mut late) = (7, 0);
        for second in 1..=1_800 {
            while let Some(at) = plan.poll_timeout().filter(|&at| at <= second * 1_000) {
                let changes = plan.handle_timeout(at).len();
                late += if second > 60 { changes } else { 0 };
            }
            for id in 1..=8 {
                let noisy = uplink(id) * (900 + noise(&mut seed) % 201) / 1_000;
                let changes = plan.handle(facts(id, noisy), second * 1_000).len();
                late += if second > 60 { changes } else { 0 };
            }
        }
        // The uplinks reckoned with only ever go down a little further, to nine tenths.
        assert!(
            late <= 8,
            "{policy:?}, relay {with_relay}: {late} changes in half an hour after the first minute"
        );
    }
}

#[test]
fn many_wants_of_one_receiver_are_one_change_of_the_plan() {
    let streams = [16, 32, 48].map(StreamId);
    let mut facts: Vec<Fact> = (1..=4).map(|id| strong(id, 20_000_000)).collect();
    facts.extend(
        streams
            .iter()
            .map(|&id| Fact::Stream(id, NodeId(id.0 / 16), layered())),
    );
    let mut plan = room(Policy::Auto, &facts);
    let before = plan.epoch();
    let me = NodeId(4);
    let wants = [
        (streams[0], Some(0)),
        (streams[1], Some(1)),
        (streams[0], Some(1)),
        (StreamId(99), None),
    ];
    let changes = plan.handle_wants(me, wants, 1);
    assert_eq!(
        short(&changes),
        [
            (4, Some(1), Some((1, 0b10, true)), Reason::Layers, false),
            (4, Some(2), Some((2, 0b10, true)), Reason::Layers, false),
        ]
    );
    assert_eq!(plan.epoch(), before + 1);
    assert_eq!(plan.handle_wants(me, wants[1..3].iter().copied(), 2), []);
}

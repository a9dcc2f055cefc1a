//! Whole answers in rooms with relays.

use super::*;

const RELAY: u32 = 65_535;

fn relay_of(id: u32, uplink: u64, slots: u16) -> Fact {
    Fact::Node(
        NodeId(id),
        NodeFacts {
            kind: Kind::Relay,
            uplink,
            forwards: true,
            slots,
            ..NodeFacts::default()
        },
    )
}

pub(super) fn relay() -> Fact {
    relay_of(RELAY, 1_000_000_000, 1_000)
}

/// A participant that tells nobody else's streams on.
fn leaf(id: u32, copies: u64) -> Fact {
    Fact::Node(
        NodeId(id),
        NodeFacts {
            kind: Kind::Participant,
            uplink: copies * 1_032_000,
            forwards: false,
            slots: 64,
            ..NodeFacts::default()
        },
    )
}

fn settle(plan: &mut Plan, mut now: u64) -> u64 {
    while let Some(at) = plan.poll_timeout() {
        now = at;
        plan.handle_timeout(at);
    }
    now
}

#[test]
fn policy_relay_is_a_star_through_one_relay_and_the_relay_is_in_it_only_while_it_has_children() {
    let other = relay_of(RELAY - 1, 500_000_000, 1_000);
    let mut plan = room(
        Policy::Relay,
        &[node(1, 2), node(2, 2), node(3, 0), relay(), other],
    );
    let changes = plan.handle(Fact::Stream(STREAM, NodeId(1), layered()), 0);
    let waiting = |child| {
        (
            child,
            None,
            Some((RELAY, 0b100, false)),
            Reason::Joined,
            false,
        )
    };
    assert_eq!(
        short(&changes),
        [
            (RELAY, None, Some((1, 0b101, true)), Reason::Joined, false),
            waiting(2),
            waiting(3),
        ]
    );
    assert_eq!(plan.trees()[0].unserved, []);
    let fed = |child| {
        let edge = Some((RELAY, 0b100, true));
        (child, Some(RELAY), edge, Reason::ParentReady, false)
    };
    assert_eq!(ready(&mut plan, RELAY, 1), [fed(2), fed(3)]);
    plan.handle(Fact::Left(NodeId(3)), 1);
    assert_eq!(
        short(&plan.handle(Fact::Failed(NodeId(2)), 2)),
        [
            (2, Some(RELAY), None, Reason::Ended, false),
            (RELAY, Some(1), None, Reason::Ended, false),
        ]
    );
    let changes = plan.handle(node(2, 0), 3);
    assert_eq!(
        short(&changes),
        [
            (RELAY, None, Some((1, 0b101, true)), Reason::Joined, false),
            waiting(2),
        ]
    );
}

#[test]
fn policy_relay_never_falls_back_to_a_mesh() {
    let facts = [node(1, 9), node(2, 9), node(3, 9)];
    let mut plan = room(Policy::Relay, &facts);
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    let unserved = |plan: &Plan| plan.trees()[0].unserved.clone();
    let (two, three) = (NodeId(2), NodeId(3));
    let nobody = [(two, Reason::Unreachable), (three, Reason::Unreachable)];
    assert_eq!(unserved(&plan), nobody);
    // One slot: one receiver.
    plan.handle(relay_of(RELAY, 1_000_000_000, 1), 1);
    assert_eq!(unserved(&plan), [(three, Reason::NoCapacity)]);
    plan.handle(relay(), 2);
    assert_eq!(unserved(&plan), []);
    plan.handle(Fact::Barred(three, NodeId(RELAY)), 3);
    assert_eq!(unserved(&plan), [(three, Reason::Unreachable)]);
    // Another relay reaches it.
    plan.handle(relay_of(RELAY - 1, 1_000_000_000, 1_000), 4);
    assert_eq!(unserved(&plan), []);
    let second = RELAY - 1;
    assert!(edges(&plan).contains(&(3, second, 1)) && edges(&plan).contains(&(second, 1, 1)));
    // If the root cannot reach it, the first relay can.
    let changes = plan.handle(Fact::Barred(NodeId(1), NodeId(second)), 5);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(edges(&plan).contains(&(3, second, 1)) && edges(&plan).contains(&(second, RELAY, 1)));
    plan.handle(Fact::Failed(NodeId(second)), 6);
    plan.handle(Fact::Barred(NodeId(1), NodeId(RELAY)), 7);
    assert_eq!(unserved(&plan), nobody);
}

#[test]
fn a_mesh_uses_the_relay_for_a_barred_pair_and_for_a_full_root_only() {
    let mut plan = room(Policy::Mesh, &[node(1, 9), node(2, 9), node(3, 9), relay()]);
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    assert_eq!(edges(&plan), [(2, 1, 1), (3, 1, 1)]);
    let barred = plan.handle(Fact::Barred(NodeId(1), NodeId(3)), 1);
    assert_eq!(
        short(&barred),
        [
            (RELAY, None, Some((1, 1, true)), Reason::Joined, false),
            (
                3,
                Some(1),
                Some((RELAY, 1, false)),
                Reason::ParentLost,
                false
            ),
        ]
    );

    // Room for two edges, three receivers: one stays, two go to the relay. One more edge, and none does.
    let slots = |slots| {
        Fact::Node(
            NodeId(1),
            NodeFacts {
                kind: Kind::Participant,
                uplink: 9_000_000,
                forwards: true,
                slots,
                ..NodeFacts::default()
            },
        )
    };
    let mut plan = room(
        Policy::Mesh,
        &[slots(2), node(2, 0), node(3, 0), node(4, 0), relay()],
    );
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    assert_eq!(plan.trees()[0].unserved, []);
    assert_eq!(
        edges(&plan).iter().filter(|edge| edge.1 == RELAY).count(),
        2
    );
    for child in [RELAY, 2, 3, 4] {
        ready(&mut plan, child, RELAY);
    }
    plan.handle(slots(3), 1);
    assert_eq!(
        edges(&plan).iter().filter(|edge| edge.1 == RELAY).count(),
        2
    );
    let at = plan.poll_timeout().expect("somebody may go home");
    let home = plan.handle_timeout(at);
    assert_eq!(edges(&plan), [(2, 1, 1), (3, 1, 1), (4, 1, 1)]);
    // The relay goes last: it feeds on until those it fed are fed by the root.
    let last = home
        .last()
        .map(|c| (c.child.0, c.new, c.reason, c.make_before_break));
    assert_eq!(last, Some((RELAY, None, Reason::Ended, true)));
    assert!(home.iter().all(|c| c.make_before_break) && home.len() == 3);
    assert_eq!(plan.poll_timeout(), None);
}

#[test]
fn a_lost_link_is_bridged_by_the_relay_until_it_may_be_used_again() {
    let mut plan = room(Policy::Mesh, &[node(1, 9), node(2, 9), relay()]);
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    plan.handle(Fact::LinkLost(NodeId(1), NodeId(2)), 1_000);
    assert_eq!(edges(&plan), [(RELAY, 1, 1), (2, RELAY, 1)]);
    let mut moves = 0;
    while let Some(at) = plan.poll_timeout() {
        let changes = plan.handle_timeout(at);
        moves += changes.len();
        assert!(changes.is_empty() || at == 1_000 + crate::AVOID_MS, "{at}");
    }
    assert_eq!((edges(&plan), moves), (vec![(2, 1, 1)], 2));
}

/// Four who all send and want one layer; only the uplink of 4 is small.
fn room_of_four(policy: Policy, strong: u64, helpers: bool) -> Plan {
    let kind = if helpers { node } else { leaf };
    let mut facts: Vec<Fact> = (1..=3).map(|id| kind(id, strong)).collect();
    facts.extend([leaf(4, 1), relay()]);
    facts.extend((1..=4).map(|id| Fact::Stream(StreamId(id), NodeId(id), plain())));
    room(policy, &facts)
}

/// The edges of one tree.
fn tree(plan: &Plan, id: u32) -> Vec<(u32, u32, u8)> {
    let trees = plan.trees();
    let tree = trees.iter().find(|tree| tree.stream == StreamId(id));
    let edges = tree.into_iter().flat_map(|tree| &tree.edges);
    edges
        .map(|e| (e.child.0, e.edge.parent.0, e.edge.layers.0))
        .collect()
}

#[test]
fn auto_sends_a_weak_roots_stream_to_the_relay_once_and_the_others_straight() {
    let mut plan = room_of_four(Policy::Auto, 3, false);
    let star = [(RELAY, 4, 1), (1, RELAY, 1), (2, RELAY, 1), (3, RELAY, 1)];
    assert_eq!(tree(&plan, 4), star);
    for id in 1..=3 {
        assert!(
            tree(&plan, id)
                .iter()
                .all(|edge| edge.1 == id && edge.2 == 1)
        );
    }
    let now = settle(&mut plan, 0);
    assert_eq!(tree(&plan, 4), star);
    // A tenth more changes nothing, and a real uplink brings them home.
    assert_eq!(plan.handle(strong(4, 1_100_000), now), []);
    let now = settle(&mut plan, now);
    assert_eq!(tree(&plan, 4), star);
    plan.handle(leaf(4, 3), now);
    settle(&mut plan, now);
    assert_eq!(tree(&plan, 4), [(1, 4, 1), (2, 4, 1), (3, 4, 1)]);
}

#[test]
fn auto_asks_helpers_before_the_relay() {
    // With five copies each, one of the others can carry what is missing and its own.
    let mut plan = room_of_four(Policy::Auto, 5, true);
    settle(&mut plan, 0);
    let edges = tree(&plan, 4);
    assert!(
        edges.iter().all(|edge| edge.1 != RELAY && edge.2 == 1),
        "{edges:?}"
    );
    // With three, their own streams need all they have.
    let mut plan = room_of_four(Policy::Auto, 3, true);
    settle(&mut plan, 0);
    let star = [(RELAY, 4, 1), (1, RELAY, 1), (2, RELAY, 1), (3, RELAY, 1)];
    assert_eq!(tree(&plan, 4), star);
    assert!((1..=3).all(|id| {
        tree(&plan, id)
            .iter()
            .all(|edge| edge.1 == id && edge.2 == 1)
    }));
}

#[test]
fn mesh_then_relay_then_a_tree_breaks_nothing_before_it_is_made() {
    let facts: Vec<Fact> = (1..=5).map(|id| node(id, 9)).chain([relay()]).collect();
    let mut plan = room(Policy::Mesh, &facts);
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    for id in 2..=5 {
        ready(&mut plan, id, 1);
    }
    let changes = plan.handle(Fact::Policy(Policy::Relay), 1);
    let moved = |child| {
        (
            child,
            Some(1),
            Some((RELAY, 1, false)),
            Reason::Policy,
            true,
        )
    };
    assert_eq!(
        short(&changes),
        [
            (RELAY, None, Some((1, 1, true)), Reason::Joined, false),
            moved(2),
            moved(3),
            moved(4),
            moved(5),
        ]
    );
    assert_eq!(ready(&mut plan, RELAY, 1).len(), 4);
    let changes = plan.handle(Fact::Policy(Policy::Tree(2)), 2);
    let moved = |child, parent| {
        (
            child,
            Some(RELAY),
            Some((parent, 1, true)),
            Reason::Policy,
            true,
        )
    };
    assert_eq!(
        short(&changes),
        [
            moved(2, 1),
            moved(3, 1),
            moved(4, 2),
            moved(5, 3),
            (RELAY, Some(1), None, Reason::Ended, true),
        ]
    );
}

#[test]
fn a_relay_that_leaves_hands_over_and_one_that_fails_is_replaced_at_once() {
    for (fact, polite, why) in [
        (Fact::Left(NodeId(RELAY)), true, Reason::ParentLeft),
        (Fact::Failed(NodeId(RELAY)), false, Reason::ParentLost),
    ] {
        let facts = [node(1, 9), node(2, 9), node(3, 9), relay()];
        let mut plan = room(Policy::Auto, &facts);
        plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
        for id in [RELAY, 2, 3] {
            ready(&mut plan, id, 1);
        }
        plan.handle(Fact::Barred(NodeId(1), NodeId(3)), 0);
        // A participant helps; without its help the relay does.
        assert_eq!(tree(&plan, 16), [(2, 1, 1), (3, 2, 1)]);
        plan.handle(leaf(2, 9), 1);
        assert_eq!(tree(&plan, 16), [(2, 1, 1), (RELAY, 1, 1), (3, RELAY, 1)]);
        settle(&mut plan, 1);
        plan.handle(node(2, 9), 2);
        assert_eq!(tree(&plan, 16), [(2, 1, 1), (RELAY, 1, 1), (3, RELAY, 1)]);
        let changes = plan.handle(fact, 3);
        let gone = (RELAY, Some(1), None, Reason::Ended, polite);
        let moved = (3, Some(RELAY), Some((2, 1, true)), why, polite);
        let expected = if polite { [moved, gone] } else { [gone, moved] };
        assert_eq!(short(&changes), expected);
    }
}

#[test]
fn a_relay_shows_nothing_and_starts_nothing() {
    let mut plan = room(Policy::Relay, &[node(1, 9), node(2, 9), relay()]);
    plan.handle(Fact::Stream(STREAM, NodeId(1), plain()), 0);
    let epoch = plan.epoch();
    let me = NodeId(RELAY);
    assert_eq!(plan.handle(Fact::Wants(STREAM, me, Some(0)), 1), []);
    assert_eq!(plan.handle(Fact::Stream(StreamId(1), me, plain()), 1), []);
    assert_eq!((plan.epoch(), plan.trees().len()), (epoch, 1));
    // Nobody shows any video: the relay takes none either.
    plan.handle(Fact::Wants(STREAM, NodeId(2), None), 2);
    assert_eq!(edges(&plan), [(RELAY, 1, 0), (2, RELAY, 0)]);
}

#[test]
fn ten_senders_with_uplinks_for_five_take_five_streams_from_the_relay_and_lack_nothing() {
    let mut facts: Vec<Fact> = (1..=10).map(|id| node(id, 5)).chain([relay()]).collect();
    facts.extend((1..=10).map(|id| Fact::Stream(StreamId(id), NodeId(id), plain())));
    let mut plan = room(Policy::Auto, &facts);
    settle(&mut plan, 0);
    let edges = edges(&plan);
    assert!(edges.iter().all(|edge| edge.2 == 1));
    let copies = |from: u32| edges.iter().filter(|edge| edge.1 == from).count();
    // A deficit of 40 copies, of which a relayed stream takes off 8 net of the root's copy to the relay.
    assert_eq!((copies(RELAY), edges.len()), (45, 95));
}

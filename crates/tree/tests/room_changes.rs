//! What happens in a room that has come to rest when one thing in it changes.

mod common;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};

use common::Shadow;
use grove_tree::{EdgeChange, Fact, Kind, NodeFacts, NodeId, Policy, Rates, Reason, StreamId};
use rooms::{COPY, Draw, RELAY, settled};

const PLAIN: Rates = Rates {
    audio: 32_000,
    layers: [1_000_000, 0, 0, 0],
};

fn node(id: u32, uplink: u64, forwards: bool) -> Fact {
    Fact::Node(
        NodeId(id),
        NodeFacts {
            kind: Kind::Participant,
            uplink,
            forwards,
            slots: 200,
            ..NodeFacts::default()
        },
    )
}

fn relay() -> Fact {
    Fact::Node(
        RELAY,
        NodeFacts {
            kind: Kind::Relay,
            uplink: 1 << 40,
            forwards: true,
            slots: 10_000,
            ..NodeFacts::default()
        },
    )
}

/// Everybody sends to everybody; uplinks in tenths of a copy.
fn room(policy: Policy, tenths: &[u64], with_relay: bool) -> Shadow {
    let mut shadow = Shadow::new(policy);
    if with_relay {
        shadow.fact(relay());
    }
    for (id, tenths) in (1..).zip(tenths) {
        shadow.fact(node(id, tenths * COPY / 10, true));
        shadow.fact(Fact::Stream(StreamId(id), NodeId(id), PLAIN));
    }
    shadow.quiet();
    shadow
}

/// Other people's streams that a node forwards.
fn roles(shadow: &Shadow, id: u32) -> BTreeSet<u32> {
    let edges = shadow.edges.iter();
    edges
        .filter(|((stream, _), edge)| edge.parent == NodeId(id) && stream.0 != id)
        .map(|((stream, _), _)| stream.0)
        .collect()
}

fn sent(shadow: &Shadow, id: u32) -> usize {
    shadow
        .edges
        .values()
        .filter(|edge| edge.parent == NodeId(id))
        .count()
}

fn is_full(shadow: &Shadow) -> bool {
    shadow.unserved.is_empty() && shadow.edges.values().all(|edge| edge.layers.0 == 1)
}

/// The answers until everything is at rest again.
fn rest(shadow: &mut Shadow) -> Vec<EdgeChange> {
    let mut all = Vec::new();
    shadow.deliver();
    while let Some(at) = shadow.plan.poll_timeout() {
        shadow.now = at;
        let changes = shadow.plan.handle_timeout(at);
        shadow.apply(&changes);
        shadow.deliver();
        all.extend(changes);
    }
    all
}

#[test]
fn whoever_stops_passing_on_is_relieved_at_once_and_nobody_notices() {
    let mut shadow = room(Policy::Auto, &[30, 90, 90, 90, 90, 90, 90], false);
    let helper = (2..=7)
        .find(|&id| !roles(&shadow, id).is_empty())
        .expect("somebody helps");
    let tenths = 90;
    let changes = shadow.fact(node(helper, tenths * COPY / 10, false));
    assert!(!changes.is_empty() && roles(&shadow, helper).is_empty());
    let moved = changes
        .iter()
        .filter(|c| c.old != c.new.map(|edge| edge.parent));
    assert!(
        moved
            .clone()
            .all(|c| c.make_before_break && c.old == Some(NodeId(helper))),
        "{changes:?}"
    );
    assert!(is_full(&shadow));
    rest(&mut shadow);
    assert!(is_full(&shadow) && roles(&shadow, helper).is_empty());
}

#[test]
fn a_strong_newcomer_takes_the_helping_over_from_whom_it_burdens() {
    // One has a copy only; what it lacks costs the others nearly all they have.
    let mut shadow = room(Policy::Auto, &[12, 62, 62, 62, 62, 62], false);
    assert!(is_full(&shadow));
    let burdened: Vec<u32> = (2..=6)
        .filter(|&id| !roles(&shadow, id).is_empty())
        .collect();
    assert!(!burdened.is_empty());
    shadow.fact(node(7, 60 * COPY, true));
    let changes = rest(&mut shadow);
    let moved = changes
        .iter()
        .filter(|c| c.old.is_some() && c.old != c.new.map(|edge| edge.parent));
    assert!(
        moved.clone().count() > 0 && moved.clone().all(|c| c.make_before_break),
        "{changes:?}"
    );
    assert!(
        moved.clone().all(|c| c
            .new
            .is_some_and(|edge| [Some(edge.parent), c.old].contains(&Some(NodeId(7)))
                || edge.parent.0 == c.stream.0)),
        "{changes:?}"
    );
    assert!(roles(&shadow, 7).contains(&1), "{:?}", shadow.plan.trees());
    assert!(
        (2..=6).all(|id| roles(&shadow, id).is_empty()),
        "{:?}",
        shadow.plan.trees()
    );
    assert!(is_full(&shadow));
}

#[test]
fn in_a_tree_a_strong_newcomer_changes_places_with_a_weak_node_near_the_root() {
    let mut shadow = Shadow::new(Policy::Tree(2));
    for id in 1..=7 {
        shadow.fact(node(id, 3 * COPY, true));
    }
    shadow.fact(Fact::Stream(StreamId(1), NodeId(1), PLAIN));
    shadow.quiet();
    let parent = |shadow: &Shadow, id: u32| shadow.edges[&(StreamId(1), NodeId(id))].parent.0;
    assert_eq!([2, 3].map(|id| parent(&shadow, id)), [1, 1]);
    shadow.fact(node(8, 30 * COPY, true));
    shadow.deliver();
    let late = parent(&shadow, 8);
    assert!(late != 1);
    let changes = rest(&mut shadow);
    assert_eq!(parent(&shadow, 8), 1, "{:?}", shadow.plan.trees());
    // Its own edge, its two children's, and that of whom it replaced.
    assert_eq!(
        changes
            .iter()
            .filter(|c| c.old != c.new.map(|edge| edge.parent))
            .count(),
        4,
        "{changes:?}"
    );
    assert!(
        changes
            .iter()
            .all(|c| c.reason == Reason::Capacity || c.reason == Reason::ParentReady)
    );
    assert!(
        changes
            .iter()
            .all(|c| c.make_before_break || c.old == c.new.map(|edge| edge.parent))
    );
    assert!(is_full(&shadow));
    // A node half as strong again moves nobody.
    shadow.fact(node(9, 4 * COPY, true));
    assert_eq!(rest(&mut shadow), []);
}

#[test]
fn a_strong_newcomer_moves_only_whom_it_changes_places_with_and_those_it_takes_over() {
    let mut shadow = room(Policy::Tree(2), &[300; 4], false);
    shadow.fact(node(5, 90 * COPY, true));
    shadow.fact(Fact::Stream(StreamId(5), NodeId(5), PLAIN));
    shadow.deliver();
    let parents = |shadow: &Shadow, of: u32| -> BTreeMap<u32, u32> {
        let edges = shadow.edges.iter();
        edges
            .filter(|((stream, _), _)| stream.0 == of)
            .map(|((_, child), edge)| (child.0, edge.parent.0))
            .collect()
    };
    let before: Vec<_> = (1..=4).map(|of| parents(&shadow, of)).collect();
    rest(&mut shadow);
    for (of, before) in (1..).zip(&before) {
        let after = parents(&shadow, of);
        assert_eq!(after[&5], of);
        let gave_way = |&&id: &&u32| before[&id] == of && after[&id] != of;
        let gave_way: Vec<u32> = before.keys().filter(gave_way).copied().collect();
        let [weak] = gave_way[..] else {
            panic!("{before:?} became {after:?}")
        };
        assert!(before.values().any(|&parent| parent == weak), "{before:?}");
        for (id, &was) in before.iter().filter(|&(&id, _)| id != 5 && id != weak) {
            let expected = if was == weak { 5 } else { was };
            assert_eq!(after[id], expected, "{before:?} became {after:?}");
        }
    }
    assert!(is_full(&shadow));
}

#[test]
fn a_room_in_which_everybody_watches_one_needs_no_relay() {
    // A mesh of full streams would need nine copies of everybody; each has three and a half.
    let count = 10u32;
    let mut shadow = Shadow::new(Policy::Auto);
    shadow.fact(relay());
    for id in 1..=count {
        shadow.fact(node(id, 35 * COPY / 10, true));
    }
    for id in 1..=count {
        shadow.fact(Fact::Stream(StreamId(id), NodeId(id), PLAIN));
        for other in (1..=count).filter(|&other| other != id) {
            // Everybody watches their neighbour, and hears all.
            let watched = id % count + 1;
            let want = (watched == other).then_some(0);
            shadow.fact(Fact::Wants(StreamId(id), NodeId(other), want));
        }
    }
    shadow.quiet();
    assert!(shadow.unserved.is_empty());
    assert_eq!(
        shadow
            .edges
            .values()
            .filter(|edge| edge.parent == RELAY)
            .count(),
        0
    );
    assert_eq!(
        shadow
            .edges
            .values()
            .filter(|edge| edge.layers.0 == 1)
            .count(),
        count as usize
    );
    // All turn to the same speaker, who cannot send to nine: helpers can.
    let speaker = StreamId(1);
    for id in 2..=count {
        for other in 1..=count {
            if StreamId(other) != speaker && other != id {
                shadow.fact(Fact::Wants(StreamId(other), NodeId(id), None));
            }
        }
        shadow.fact(Fact::Wants(speaker, NodeId(id), Some(0)));
    }
    shadow.quiet();
    assert!(shadow.unserved.is_empty());
    let video = |shadow: &Shadow| {
        shadow
            .edges
            .iter()
            .filter(|((id, _), edge)| *id == speaker && edge.layers.0 == 1)
            .count()
    };
    assert_eq!(video(&shadow), count as usize - 1);
    assert_eq!(
        shadow
            .edges
            .values()
            .filter(|edge| edge.parent == RELAY)
            .count(),
        0
    );
}

#[test]
fn the_relay_is_given_back_when_uplinks_grow_and_taken_again_when_they_fall() {
    let short = [50; 10];
    let mut shadow = room(Policy::Auto, &short, true);
    let relayed = |shadow: &Shadow| sent(shadow, RELAY.0);
    assert_eq!((relayed(&shadow), is_full(&shadow)), (45, true));
    for id in 1..=10 {
        shadow.fact(node(id, 95 * COPY / 10, true));
    }
    shadow.quiet();
    assert_eq!((relayed(&shadow), is_full(&shadow)), (0, true));
    for id in 1..=10 {
        shadow.fact(node(id, 5 * COPY, true));
    }
    shadow.quiet();
    assert_eq!((relayed(&shadow), is_full(&shadow)), (45, true));
}

#[test]
fn a_room_at_rest_stays_at_rest_under_a_tenth_of_noise() {
    for with_relay in [false, true] {
        let mut draw = Draw(21);
        let uplinks: Vec<u64> = (0..16)
            .map(|_| (60 + draw.below(200)) * COPY / 10)
            .collect();
        let mut plan = settled(&uplinks, with_relay);
        let mut late = 0;
        // Every uplink reckoned with comes down to nine tenths of itself, and stays.
        for second in 1_000..1_700 {
            let mut changes = 0;
            for (id, uplink) in (0..).zip(&uplinks) {
                let noisy = uplink * (900 + draw.below(201)) / 1_000;
                changes += plan.handle(node(id, noisy, true), second * 1_000).len();
            }
            while let Some(at) = plan.poll_timeout().filter(|&at| at < (second + 1) * 1_000) {
                changes += plan.handle_timeout(at).len();
            }
            late += if second >= 1_100 { changes } else { 0 };
        }
        assert!(
            late <= 8,
            "{late} changes in ten minutes, relay: {with_relay}"
        );
    }
}

#[test]
fn levelling_moves_nobody_twice_and_ends_in_one_go() {
    let mut draw = Draw(9);
    for _ in 0..25 {
        let count = 4 + draw.below(6);
        let tenths: Vec<u64> = (0..count)
            .map(|_| (count * (4 + draw.below(14))).max(11))
            .collect();
        let mut shadow = room(Policy::Auto, &tenths, false);
        let before = shadow.entries;
        // Nothing new is said: the plan looks again and finds nothing to do.
        shadow.fact(node(1, tenths[0] * COPY / 10 + 1, true));
        shadow.quiet();
        assert!(
            shadow.entries - before <= 2,
            "{} entries for nothing in {tenths:?}",
            shadow.entries - before
        );
    }
}

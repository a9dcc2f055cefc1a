//! Joining, breaking, coming back, leaving, vanishing.

use crate::world::{EMPTY, GRACE, World, camera, join};
use grove_server::room::ConnectionId;
use grove_server::signal::close::Close;
use grove_server::signal::message::*;

fn joined(world: &mut World, connection: ConnectionId) -> Joined {
    let joined = |message| match message {
        ServerMessage::Joined(joined) => Some(joined),
        _ => None,
    };
    world
        .take(connection)
        .into_iter()
        .find_map(joined)
        .expect("it joined")
}

fn left(messages: &[ServerMessage]) -> Vec<(Node, LeftReason)> {
    let left = |message: &ServerMessage| match message {
        ServerMessage::Left { node, why } => Some((*node, *why)),
        _ => None,
    };
    messages.iter().filter_map(left).collect()
}

#[test]
fn newcomers_and_those_who_are_there_learn_of_each_other_once() {
    let mut world = World::new(Policy::Auto);
    let all: Vec<_> = (0..5).map(|_| world.enter_sending()).collect();
    for connection in all {
        assert_eq!(world.shadows[&connection].people, (1..=5).collect());
    }
    world.check(false);
}

#[test]
fn a_broken_socket_keeps_its_places_in_the_trees() {
    let mut world = World::new(Policy::Tree { branching: 1 });
    let (_, b, c) = (world.enter_sending(), world.enter(), world.enter());
    world.everybody_is_ready();
    let edges = world.edges();
    world.take(c);
    world.cut(b);
    world.pass(GRACE - 1);
    assert_eq!(world.edges(), edges);
    assert_eq!(
        world.take(c),
        [ServerMessage::Connection {
            node: 2,
            connected: false
        }]
    );
}

#[test]
fn whoever_comes_back_in_time_is_the_same_and_gets_everything_again() {
    let mut world = World::new(Policy::Tree { branching: 2 });
    let all: Vec<_> = (0..4).map(|_| world.enter_sending()).collect();
    world.everybody_is_ready();
    world.pass(1_000);
    let before = world.shadows[&all[1]].clone();
    assert!(!before.backups.is_empty() && !before.stands_by.is_empty());
    world.cut(all[1]);
    world.pass(GRACE - 1);
    world.take(all[0]);
    let back = world.enter_as(join(2, Some(before.token.clone())));
    assert_eq!(world.shadows[&back], before);
    assert!(joined(&mut world, back).resumed);
    assert_eq!(
        world.take(all[0]),
        [ServerMessage::Connection {
            node: 2,
            connected: true
        }]
    );
    world.check(true);
}

#[test]
fn what_was_sent_to_somebody_away_arrives_when_they_are_back() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    let token = world.token(b);
    world.cut(b);
    world.say(
        a,
        ClientMessage::Mail {
            to: 2,
            body: "c2VjcmV0".into(),
        },
    );
    world.say(
        a,
        ClientMessage::Chat {
            body: "bGluZQ".into(),
        },
    );
    let back = world.enter_as(join(2, Some(token)));
    let heard = world.take(back);
    assert!(matches!(&heard[0], ServerMessage::Joined(joined) if joined.chat.len() == 1));
    assert_eq!(
        heard[1..],
        [ServerMessage::Mail {
            from: 1,
            body: "c2VjcmV0".into()
        }]
    );
}

#[test]
fn after_the_grace_period_somebody_is_lost_and_comes_back_as_somebody_new() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    let token = world.token(b);
    world.cut(b);
    world.take(a);
    world.pass(GRACE);
    assert_eq!(left(&world.take(a)), [(2, LeftReason::Lost)]);
    let back = world.enter_as(join(2, Some(token)));
    let joined = joined(&mut world, back);
    assert_eq!((joined.node, joined.resumed), (3, false));
    world.check(true);
}

#[test]
fn silence_to_a_neighbour_and_a_broken_socket_together_mean_gone_in_either_order() {
    for silent_first in [true, false] {
        let mut world = World::new(Policy::Tree { branching: 1 });
        let (_, b, c) = (world.enter_sending(), world.enter(), world.enter());
        world.everybody_is_ready();
        world.pass(2_000);
        world.take(c);
        if silent_first {
            world.lost(c, 2, LostReason::Silent);
            assert_eq!(left(&world.take(c)), [], "the socket is up");
            world.cut(b);
        } else {
            world.cut(b);
            assert_eq!(left(&world.take(c)), [], "nobody misses it yet");
            world.lost(c, 2, LostReason::Silent);
        }
        assert_eq!(
            left(&world.take(c)),
            [(2, LeftReason::Lost)],
            "silent first: {silent_first}"
        );
        assert_eq!(world.edges(), [(1, 3)]);
        world.everybody_is_ready();
        world.check(true);
    }
}

#[test]
fn strangers_to_a_link_cannot_report_it_lost() {
    let mut world = World::new(Policy::Tree { branching: 1 });
    let (a, _, c) = (world.enter_sending(), world.enter(), world.enter());
    world.everybody_is_ready();
    world.pass(2_000);
    world.cut(a);
    let epoch = world.room.plan().epoch();
    world.lost(c, 1, LostReason::Silent);
    world.lost(c, 3, LostReason::Silent);
    world.lost(c, 77, LostReason::Never);
    assert_eq!((world.room.plan().epoch(), world.room.count()), (epoch, 3));
}

#[test]
fn a_second_connection_with_the_token_replaces_the_first() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    world.take(a);
    let token = world.token(b);
    let second = world.enter_as(join(2, Some(token)));
    assert_eq!(world.closed.get(&b), Some(&Close::Replaced));
    assert_eq!(world.node(second), 2);
    assert_eq!(world.take(a), [], "others see nothing of it");
    world.cut(b);
    assert_eq!(world.take(a), [], "nor of the end of the first");
    world.check(true);
}

#[test]
fn a_page_that_was_loaded_again_is_a_new_participant() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    world.take(a);
    let token = world.token(b);
    let reloaded = world.enter_as(join(9, Some(token)));
    assert_eq!(world.closed.get(&b), Some(&Close::Replaced));
    assert_eq!(left(&world.take(a)), [(2, LeftReason::Lost)]);
    assert_eq!(world.node(reloaded), 3);
    assert_eq!(world.shadows[&a].people, [1, 3].into());
    world.check(true);
}

#[test]
fn a_participant_id_is_taken_by_one_only() {
    let mut world = World::new(Policy::Mesh);
    world.enter();
    let second = world.enter_as(join(1, None));
    assert!(matches!(
        world.take(second)[..],
        [ServerMessage::Error {
            code: ErrorCode::BadField,
            ..
        }]
    ));
    assert_eq!(world.room.count(), 1);
}

#[test]
fn entries_that_are_wrong_are_refused_with_the_reason() {
    type Spoil = fn(&mut Join);
    let wrong: [(Spoil, ErrorCode); 6] = [
        (|join| join.version = 2, ErrorCode::Version),
        (|join| join.name = " \u{202e} ".into(), ErrorCode::BadField),
        (|join| join.name = "x".repeat(65), ErrorCode::BadField),
        (
            |join| join.participant = "short".into(),
            ErrorCode::BadField,
        ),
        (
            |join| join.identity.mac = "AAAA".into(),
            ErrorCode::BadField,
        ),
        (
            |join| join.identity.nonce = "=".repeat(22),
            ErrorCode::BadField,
        ),
    ];
    for (spoil, expected) in wrong {
        let mut world = World::new(Policy::Mesh);
        let mut spoilt = join(1, None);
        spoil(&mut spoilt);
        let connection = world.enter_as(spoilt);
        let heard = world.take(connection);
        assert!(
            matches!(&heard[..], [ServerMessage::Error { code, .. }] if *code == expected),
            "{heard:?}"
        );
        assert!(!world.room.is_member(connection));
    }
}

#[test]
fn a_full_room_refuses_and_one_who_leaves_makes_room() {
    let mut small = crate::world::settings();
    small.people = 1;
    let mut world = World::new(Policy::Mesh);
    world.room = grove_server::room::state::Room::new(small, crate::world::opening(Policy::Mesh))
        .expect("the policy is one");
    let a = world.enter();
    let b = world.enter();
    assert!(matches!(
        world.take(b)[..],
        [ServerMessage::Error {
            code: ErrorCode::TooMany,
            ..
        }]
    ));
    world.say(a, ClientMessage::Leave);
    let c = world.enter();
    assert_eq!(world.node(c), 2);
}

#[test]
fn an_empty_room_ends_after_its_grace_period_and_not_before() {
    let mut world = World::new(Policy::Mesh);
    let a = world.enter();
    world.pass(2 * EMPTY);
    assert!(!world.room.is_over(world.now));
    world.say(a, ClientMessage::Leave);
    world.pass(EMPTY - 1);
    assert!(!world.room.is_over(world.now));
    world.pass(1);
    assert!(world.room.is_over(world.now));
    assert!(
        World::new(Policy::Mesh).room.is_over(EMPTY),
        "nobody ever came"
    );
}

#[test]
fn two_rooms_at_once_know_nothing_of_each_other() {
    let mut one = World::new(Policy::Mesh);
    let mut two = World::new(Policy::Mesh);
    let (a, b) = (one.enter_sending(), two.enter_sending());
    let token = one.token(a);
    let visitor = two.enter_as(join(5, Some(token)));
    assert_eq!(two.node(visitor), 2, "a token opens its own room only");
    assert_eq!(
        (one.shadows[&a].people.len(), two.shadows[&b].people.len()),
        (1, 2)
    );
}

/// A leaver's edge that was only prepared has nothing to go on with: whoever resumes must not be told to feed it.
#[test]
fn a_leaver_that_was_not_fed_yet_is_not_fed_after_a_resume() {
    let mut world = World::new(Policy::Tree { branching: 1 });
    let first = world.enter_as(join(1, None));
    let token = world.token(first);
    let publish = ClientMessage::Publish {
        publication: camera(),
    };
    world.say(first, publish.clone());
    let mut leaf = join(2, None);
    leaf.capabilities.forward = false;
    let second = world.enter_as(leaf);
    world.say(second, publish);
    let third = world.enter_as(join(3, None));
    for (stream, (parent, _)) in world.shadows[&third].parents.clone() {
        if let Some(parent) = parent {
            world.say(third, ClientMessage::Ready { stream, parent });
        }
    }
    world.say(third, ClientMessage::Leave);
    world.enter_as(join(1, Some(token)));
    world.pass(40_000);
    world.everybody_is_ready();
    world.check(true);
}

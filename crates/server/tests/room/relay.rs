//! The relay in a room.

use crate::world::{
    GRACE, ROOM, RelayShadow, World, camera, join, opening, relay_settings, settings,
};
use grove_relay::{Event, Lost, Refused};
use grove_server::room::relay::{FIRST, RELAY};
use grove_server::room::state::Room;
use grove_server::room::{ConnectionId, Opening, RelaySettings};
use grove_server::signal::message::*;

const STREAM: StreamRef = StreamRef { node: 1, stream: 0 };

/// A call of three through the relay; the first sends.
fn call() -> (World, [ConnectionId; 3]) {
    let mut world = World::with_relay(Policy::Relay);
    let root = world.enter_sending();
    let rest = [world.enter(), world.enter()];
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, RELAY), (RELAY, 2), (RELAY, 3)]);
    world.check(true);
    (world, [root, rest[0], rest[1]])
}

fn link(world: &World, connection: ConnectionId) -> RelayLink {
    world.shadows[&connection].relays[&RELAY].clone()
}

fn set(policy: Policy, never_relay: Option<bool>) -> ClientMessage {
    ClientMessage::SetPolicy {
        policy,
        never_relay,
    }
}

fn complaints(messages: Vec<ServerMessage>) -> Vec<String> {
    let words = |message| match message {
        ServerMessage::Error { message, .. } => Some(message),
        _ => None,
    };
    messages.into_iter().filter_map(words).collect()
}

#[test]
fn everybody_opens_a_link_of_their_own_to_the_relay_and_the_relay_expects_them() {
    let (world, all) = call();
    let mut tokens = Vec::new();
    for (node, connection) in (1..).zip(all) {
        let RelayLink {
            instance,
            token,
            by_rtp,
            quic,
        } = link(&world, connection);
        assert_eq!((instance.as_str(), by_rtp, quic), ("first", true, None));
        assert!(world.shadows[&connection].links[&RELAY], "browsers open");
        assert_eq!(world.relay.links[&node], token);
        tokens.push(token);
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
}

#[test]
fn an_offer_to_the_relay_reaches_it_and_its_answer_comes_back_unsigned() {
    let (mut world, [root, leaf, _]) = call();
    let describe = |kind, sdp: &str, signature: &str| ClientMessage::Description {
        to: RELAY,
        kind,
        sdp: sdp.into(),
        signature: signature.into(),
    };
    let long = "x".repeat(192 * 1024 + 1);
    for refused in [
        describe(DescriptionKind::Answer, "v=0", ""),
        describe(DescriptionKind::Offer, "v=0", &"A".repeat(86)),
        describe(DescriptionKind::Offer, &long, ""),
    ] {
        world.take(root);
        world.say(root, refused);
        assert_eq!(complaints(world.take(root)).len(), 1);
    }
    assert!(world.relay.offers.is_empty());
    world.say(root, describe(DescriptionKind::Offer, &long[1..], ""));
    assert_eq!(world.relay.offers, [(1, long[1..].to_owned())]);
    world.take(leaf);
    let sdp = "v=0".to_owned();
    world.hear_relay(Event::Answer {
        room: ROOM,
        peer: 1,
        sdp: sdp.clone(),
    });
    let answer = ServerMessage::Description {
        from: RELAY,
        kind: DescriptionKind::Answer,
        sdp,
        signature: String::new(),
    };
    assert!(world.take(root).contains(&answer));
    assert!(!world.take(leaf).contains(&answer));
}

#[test]
fn a_participant_makes_five_offers_to_the_relay_at_once_and_then_one_each_second() {
    let (mut world, [root, leaf, _]) = call();
    let offer = || ClientMessage::Description {
        to: RELAY,
        kind: DescriptionKind::Offer,
        sdp: "v=0".to_owned(),
        signature: String::new(),
    };
    world.take(root);
    for _ in 0..50 {
        world.say(root, offer());
    }
    world.say(leaf, offer());
    assert_eq!(world.relay.offers.len(), 6);
    assert_eq!(complaints(world.take(root)).len(), 45);
    world.pass(1_000);
    for _ in 0..2 {
        world.say(root, offer());
    }
    assert_eq!(world.relay.offers.len(), 7);
}

#[test]
fn the_relay_feeds_nobody_before_it_has_the_stream() {
    let mut world = World::with_relay(Policy::Relay);
    world.enter_sending();
    world.enter();
    assert_eq!(world.relay.parents[&STREAM].0, 1);
    assert!(world.relay.feeds.is_empty() && world.relay.links.contains_key(&2));
    world.relay_has(STREAM, 1);
    assert!(world.relay.feeds.contains_key(&(STREAM, 2)));
    world.check(false);
}

#[test]
fn the_relay_is_told_of_a_browser_before_the_browser_is_sent_there() {
    let mut room = Room::new(relay_settings(), opening(Policy::Relay)).expect("it is a policy");
    let mut all = Vec::new();
    for seed in 1..=2 {
        let connection = ConnectionId(seed);
        let token = grove_server::room::member::Token::new([seed as u8; 32]);
        let join = Box::new(join(seed, None));
        let input = grove_server::room::Input::Join {
            connection,
            join,
            token,
        };
        all.extend(room.handle(input, 0));
    }
    let publication = camera();
    let input = grove_server::room::Input::Message {
        connection: ConnectionId(1),
        message: ClientMessage::Publish { publication },
    };
    let outputs = room.handle(input, 0);
    use grove_server::room::Output;
    let last_command = outputs
        .iter()
        .rposition(|output| matches!(output, Output::Relay(_)));
    let first_order = outputs.iter().position(|output| {
        matches!(
            output,
            Output::Send {
                message: ServerMessage::Orders(_),
                ..
            }
        )
    });
    assert!(last_command.expect("it hears") < first_order.expect("they hear"));
}

#[test]
fn the_policy_that_needs_a_relay_is_refused_without_one_and_where_relays_are_forbidden() {
    assert!(Room::new(settings(), opening(Policy::Relay)).is_err());
    let forbidden = Opening {
        never_relay: true,
        ..opening(Policy::Relay)
    };
    assert!(Room::new(relay_settings(), forbidden).is_err());

    let mut world = World::new(Policy::Auto);
    let a = world.enter();
    world.say(a, set(Policy::Relay, None));
    let words = complaints(world.take(a));
    assert_eq!(words, ["this server has no relay: choose another policy"]);

    let mut world = World::with_relay(Policy::Auto);
    let a = world.enter();
    for (policy, never_relay) in [(Policy::Auto, Some(true)), (Policy::Relay, None)] {
        world.say(a, set(policy, never_relay));
    }
    let words = complaints(world.take(a));
    assert_eq!(
        words,
        ["this room never uses a relay: allow it, or choose another policy"]
    );
    world.say(a, set(Policy::Relay, Some(false)));
    assert!(complaints(world.take(a)).is_empty());
}

#[test]
fn newcomers_learn_whether_there_is_a_relay_and_everybody_that_it_is_forbidden() {
    let (mut world, [a, b, _]) = call();
    let joined = |world: &mut World, connection| {
        let joined = |message| match message {
            ServerMessage::Joined(joined) => Some((joined.never_relay, joined.relays)),
            _ => None,
        };
        world.take(connection).into_iter().find_map(joined)
    };
    assert_eq!(joined(&mut world, b), Some((false, vec![RELAY])));
    world.take(a);
    world.say(b, set(Policy::Mesh, Some(true)));
    let changed = ServerMessage::PolicyChanged {
        policy: Policy::Mesh,
        never_relay: true,
        by: 2,
    };
    assert!(world.take(a).contains(&changed));
    let d = world.enter();
    assert_eq!(joined(&mut world, d), Some((true, vec![])));
}

#[test]
fn a_relay_that_is_forbidden_feeds_on_until_everybody_has_another_parent() {
    let (mut world, all) = call();
    world.say(all[0], set(Policy::Mesh, Some(true)));
    assert_eq!(world.edges(), [(1, 2), (1, 3)]);
    assert_eq!(world.relay.feeds.len(), 2, "it still feeds");
    for connection in &all[1..] {
        world.say(
            *connection,
            ClientMessage::Ready {
                stream: STREAM,
                parent: 1,
            },
        );
    }
    assert_eq!(world.relay, RelayShadow::default(), "and is gone");
    for connection in all {
        assert!(!world.shadows[&connection].links.contains_key(&RELAY));
    }
    world.check(true);
    world.say(all[0], set(Policy::Relay, Some(false)));
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, RELAY), (RELAY, 2), (RELAY, 3)]);
    world.check(true);
}

#[test]
fn a_relay_that_is_allowed_again_while_it_leaves_comes_in_anew() {
    let (mut world, all) = call();
    world.say(all[0], set(Policy::Mesh, Some(true)));
    world.say(all[0], set(Policy::Relay, Some(false)));
    world.check(false);
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, RELAY), (RELAY, 2), (RELAY, 3)]);
    world.check(true);
}

#[test]
fn a_relay_that_nobody_needs_any_more_forgets_the_stream() {
    let (mut world, all) = call();
    world.say(all[0], set(Policy::Mesh, None));
    world.everybody_is_ready();
    world.pass(3_000);
    assert!(world.relay.is_in && world.relay.feeds.is_empty());
    assert!(world.relay.parents.is_empty() && world.relay.has.is_empty());
    world.check(true);
}

#[test]
fn a_lost_link_to_the_relay_is_made_anew_with_another_token() {
    for never in [LostReason::Silent, LostReason::Never] {
        let (mut world, [_, b, _]) = call();
        world.pass(2_000);
        let before = link(&world, b);
        world.take(b);
        world.lost(b, RELAY, never);
        let orders = world.take_orders(b);
        assert_eq!(orders[0], Order::Unlink { peer: RELAY });
        assert!(matches!(&orders[1], Order::Link { peer: RELAY, .. }));
        assert!(matches!(
            &orders[2],
            Order::Parent {
                parent: Some(RELAY),
                ..
            }
        ));
        assert_ne!(link(&world, b).token, before.token);
        assert!(world.relay.feeds.contains_key(&(STREAM, 2)));
        world.check(true);
    }
}

#[test]
fn an_early_report_of_a_loss_counts_later_unless_the_link_came_up() {
    for came_up in [false, true] {
        let (mut world, [_, b, _]) = call();
        let before = link(&world, b);
        world.lost(b, RELAY, LostReason::Silent);
        assert_eq!(link(&world, b), before, "it may speak of another link");
        if came_up {
            let (room, peer) = (ROOM, 2);
            world.hear_relay(Event::Up { room, peer });
        }
        world.pass(1_000);
        assert_eq!(link(&world, b) == before, came_up);
        world.check(false);
    }
}

#[test]
fn the_word_of_the_relay_that_a_link_is_lost_counts_like_that_of_the_browser() {
    let (mut world, [_, b, _]) = call();
    world.pass(2_000);
    let before = link(&world, b);
    let lost = Event::Lost {
        room: ROOM,
        peer: 2,
        why: Lost::Never,
    };
    world.hear_relay(lost);
    assert_ne!(link(&world, b), before);
    world.check(true);
}

#[test]
fn whoever_the_relay_refuses_hears_why_and_not_with_every_try() {
    let (mut world, [a, b, _]) = call();
    let (room, peer) = (ROOM, 2);
    for connection in [a, b] {
        world.take(connection);
    }
    for (why, begins) in [
        (Refused::Overloaded, "the server has too much to do"),
        (
            Refused::Full,
            "the server's relay has as many links as it may",
        ),
    ] {
        for _ in 0..10 {
            world.hear_relay(Event::Refused { room, peer, why });
            world.pass(1_000);
        }
        let words = complaints(world.take(b));
        assert_eq!(words.len(), 1);
        assert!(words[0].starts_with(begins), "{words:?}");
        world.pass(30_000);
    }
    assert!(complaints(world.take(a)).is_empty());
    let peer = 77;
    let why = Refused::Full;
    world.hear_relay(Event::Refused { room, peer, why });
    world.check(true);
}

#[test]
fn whoever_loses_both_sockets_may_come_back_and_finds_a_link_that_is_expected() {
    let (mut world, [_, b, _]) = call();
    world.pass(2_000);
    let token = world.token(b);
    world.cut(b);
    let lost = Event::Lost {
        room: ROOM,
        peer: 2,
        why: Lost::Silent,
    };
    world.hear_relay(lost);
    world.pass(GRACE - 1);
    assert_eq!(world.room.count(), 3, "the relay's silence proves nothing");
    let back = world.enter_as(join(2, Some(token)));
    assert_eq!(world.node(back), 2);
    assert_eq!(world.relay.links[&2], link(&world, back).token);
    world.check(true);
}

#[test]
fn a_relay_that_starts_anew_gets_every_link_and_stream_again() {
    let (mut world, all) = call();
    let before: Vec<RelayLink> = all.iter().map(|one| link(&world, *one)).collect();
    world.restart_relay();
    for (connection, before) in all.into_iter().zip(before) {
        let now = link(&world, connection);
        assert_eq!(now.instance, "start 1");
        assert_ne!(now.token, before.token);
    }
    assert_eq!((world.relay.links.len(), world.relay.feeds.len()), (3, 0));
    world.everybody_is_ready();
    assert_eq!(world.relay.feeds.len(), 2);
    world.check(true);
}

#[test]
fn a_relay_that_starts_anew_with_other_settings_is_used_by_those() {
    let (mut world, all) = call();
    let settings = RelaySettings {
        rtp: false,
        slots: 1,
        ..relay_settings().relay.expect("there is one")
    };
    world.restart_relay_with(settings);
    world.everybody_is_ready();
    assert!(!link(&world, all[0]).by_rtp);
    assert_eq!(world.edges().len(), 2, "it feeds one of the two");
    world.check(true);
    // The same start, told again, is no news.
    let before = all[0];
    let token = link(&world, before).token;
    world.hear_start("start 1", settings);
    assert_eq!(link(&world, before).token, token);
}

#[test]
fn without_its_relay_a_room_goes_on_between_browsers_and_with_it_again_as_people_choose() {
    let (mut world, all) = call();
    world.take(all[1]);
    world.end_relay();
    let changed = ServerMessage::PolicyChanged {
        policy: Policy::Auto,
        never_relay: false,
        by: 0,
    };
    assert!(world.take(all[1]).contains(&changed));
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, 2), (1, 3)]);
    assert_eq!(world.relay, RelayShadow::default());
    world.check(true);
    world.say(all[0], set(Policy::Relay, None));
    let words = complaints(world.take(all[0]));
    assert_eq!(words, ["this server has no relay: choose another policy"]);

    world.restart_relay();
    assert!(world.relay.is_in);
    world.say(all[0], set(Policy::Relay, None));
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, RELAY), (RELAY, 2), (RELAY, 3)]);
    assert_eq!(link(&world, all[0]).instance, "start 1");
    world.check(true);
}

#[test]
fn a_room_that_was_made_without_a_relay_gets_one_that_is_turned_on_unless_it_forbids_it() {
    for never_relay in [false, true] {
        let opening = Opening {
            never_relay,
            instance: String::new(),
            ..opening(Policy::Auto)
        };
        let mut world = World::of(Room::new(settings(), opening).expect("the policy is one"));
        world.enter_sending();
        world.restart_relay();
        assert_eq!(world.relay.is_in, !never_relay);
    }
}

#[test]
fn what_the_relay_measures_stands_in_the_picture() {
    let (mut world, [a, ..]) = call();
    world.say(a, ClientMessage::Trees { watch: true });
    world.pass(2_000);
    world.take(a);
    let (room, parent) = (ROOM, 1);
    let stream = grove_relay::Stream::new(1, 0);
    let report = grove_relay::Report {
        links: vec![grove_relay::LinkReport {
            peer: 1,
            rtt_ms: 12.5,
            sent_bps: 0,
            loss: 0.25,
        }],
        edges: vec![grove_relay::EdgeReport {
            stream,
            parent,
            bps: 900_000,
            delay_ms: 3.0,
            layer: Some(1),
        }],
    };
    world.hear_relay(Event::Report { room, report });
    world.pass(2_000);
    let trees = |message| match message {
        ServerMessage::Trees(trees) => Some(trees),
        _ => None,
    };
    let trees = world
        .take(a)
        .into_iter()
        .find_map(trees)
        .expect("a picture");
    let edge = trees.trees[0].edges[0];
    assert_eq!((edge.parent, edge.child), (1, RELAY));
    assert_eq!(
        (edge.bps, edge.delay_ms, edge.rtt_ms, edge.loss),
        (900_000, 3.0, 12.5, 0.25)
    );
}

#[test]
fn nobody_can_send_the_relay_mail_or_a_candidate() {
    let (mut world, [a, ..]) = call();
    world.take(a);
    world.say(
        a,
        ClientMessage::Candidate {
            to: RELAY,
            candidate: String::new(),
            mid: None,
        },
    );
    world.say(
        a,
        ClientMessage::Mail {
            to: RELAY,
            body: "AAAA".into(),
        },
    );
    assert_eq!(complaints(world.take(a)), ["nobody has this number"; 2]);
}

#[test]
fn numbers_of_participants_end_below_those_of_relays() {
    let mut world = World::with_relay(Policy::Auto);
    for node in 1..FIRST {
        let connection = world.enter();
        assert_eq!(world.node(connection), node);
        world.say(connection, ClientMessage::Leave);
        world.heard.clear();
    }
    let late = world.enter();
    let words = complaints(world.take(late));
    assert_eq!(words, ["this room has used up its numbers: open a new one"]);
}

#[test]
fn a_relay_that_drops_the_room_comes_in_anew_over_new_links() {
    let (mut world, all) = call();
    let before = all.map(|one| link(&world, one).token);
    world.relay_drops_the_room();
    assert!(world.relay.is_in);
    for (connection, before) in all.into_iter().zip(before) {
        assert_ne!(link(&world, connection).token, before);
    }
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, RELAY), (RELAY, 2), (RELAY, 3)]);
    world.check(true);
}

#[test]
fn a_relay_that_drops_the_room_at_every_entry_is_asked_in_once_in_five_seconds() {
    let (mut world, _) = call();
    world.relay_drops_the_room();
    world.relay_drops_the_room();
    assert!(!world.relay.is_in);
    world.pass(4_999);
    assert!(!world.relay.is_in);
    world.pass(1);
    assert!(world.relay.is_in);
    world.everybody_is_ready();
    world.check(true);
}

#[test]
fn a_relay_that_dropped_the_room_stays_away_when_it_is_forbidden_meanwhile() {
    let (mut world, all) = call();
    world.relay_drops_the_room();
    world.relay_drops_the_room();
    world.say(all[0], set(Policy::Mesh, Some(true)));
    world.pass(10_000);
    assert!(!world.relay.is_in);
    world.say(all[0], set(Policy::Relay, Some(false)));
    assert!(world.relay.is_in, "who allows it again need not wait");
}

#[test]
fn a_relay_that_leaves_a_tree_and_returns_within_the_overlap_feeds_again() {
    for millis in [0, 500, 1_999, 2_000, 2_500] {
        let (mut world, all) = call();
        world.say(all[0], set(Policy::Mesh, None));
        world.pass(millis);
        world.say(all[0], set(Policy::Relay, None));
        world.relay_is_ready();
        for child in [2, 3] {
            let fed = world.relay.feeds.contains_key(&(STREAM, child));
            assert!(fed, "{child} after {millis} ms");
        }
        world.everybody_is_ready();
        world.check(true);
    }
}

//! From plans to orders.

use crate::world::{World, camera};
use grove_server::room::ConnectionId;
use grove_server::signal::close::Close;
use grove_server::signal::message::*;

/// A receiver that feeds nobody gets the one layer that it shows.
const LAYERS: [u8; 1] = [1];
const RATE: u32 = 32_000 + 1_000_000;

/// A chain of three: the first sends, the second forwards, the third receives.
fn chain() -> (World, [ConnectionId; 3]) {
    let mut world = World::new(Policy::Tree { branching: 1 });
    let root = world.enter_sending();
    let rest = [world.enter(), world.enter()];
    world.everybody_is_ready();
    assert_eq!(world.edges(), [(1, 2), (2, 3)]);
    world.check(true);
    (world, [root, rest[0], rest[1]])
}

#[test]
fn a_stream_brings_a_link_before_its_first_edge_and_the_parent_offers() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter(), world.enter());
    world.take(a);
    world.take(b);
    world.say(
        a,
        ClientMessage::Publish {
            publication: camera(),
        },
    );
    let stream = StreamRef { node: 1, stream: 0 };
    let layers = LAYERS.to_vec();
    assert_eq!(
        world.take_orders(a),
        [
            Order::Link {
                peer: 2,
                offer: true,
                relay: None
            },
            Order::Feed {
                stream,
                child: 2,
                layers: layers.clone(),
                rate_bps: RATE
            },
        ]
    );
    let parent = Order::Parent {
        stream,
        parent: Some(1),
        layers,
        reason: EdgeReason::Joined,
    };
    assert_eq!(
        world.take_orders(b),
        [
            Order::Link {
                peer: 1,
                offer: false,
                relay: None
            },
            parent
        ]
    );
    world.check(true);
}

#[test]
fn a_second_edge_uses_the_link_that_is_there() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    world.take(a);
    world.say(
        b,
        ClientMessage::Publish {
            publication: camera(),
        },
    );
    assert!(world.take_orders(a).iter().all(|order| matches!(
        order,
        Order::Parent {
            parent: Some(2),
            ..
        }
    )));
    assert_eq!(world.shadows[&b].links.get(&1), Some(&false));
}

#[test]
fn a_parent_that_has_not_got_the_stream_is_linked_but_not_told_to_feed() {
    let mut world = World::new(Policy::Tree { branching: 1 });
    world.enter_sending();
    let (b, c) = (world.enter(), world.enter());
    let stream = StreamRef { node: 1, stream: 0 };
    assert_eq!(world.shadows[&c].parents[&stream].0, Some(2));
    assert!(world.shadows[&b].links.contains_key(&3) && world.shadows[&b].feeds.is_empty());
    world.say(b, ClientMessage::Ready { stream, parent: 1 });
    assert_eq!(
        world.shadows[&b].feeds[&(stream, 3)],
        (LAYERS.to_vec(), RATE)
    );
    world.check(true);
}

#[test]
fn a_polite_leaver_feeds_its_child_until_the_new_parent_has_delivered() {
    let (mut world, [root, middle, leaf]) = chain();
    let stream = StreamRef { node: 1, stream: 0 };
    world.take(middle);
    world.say(middle, ClientMessage::Leave);
    assert_eq!(world.shadows[&leaf].parents[&stream].0, Some(1));
    assert!(
        world.shadows[&middle].feeds.contains_key(&(stream, 3)),
        "it still feeds"
    );
    assert!(
        !world.shadows[&leaf].people.contains(&2),
        "but nobody shows it any more"
    );
    world.say(leaf, ClientMessage::Ready { stream, parent: 1 });
    assert_eq!(world.closed.get(&middle), Some(&Close::Left));
    assert!(
        !world.shadows[&leaf].links.contains_key(&2)
            && !world.shadows[&root].links.contains_key(&2)
    );
    world.check(true);
}

#[test]
fn a_leaver_is_let_go_after_two_seconds_when_its_child_says_nothing() {
    let (mut world, [_, middle, _]) = chain();
    world.say(middle, ClientMessage::Leave);
    world.pass(1_999);
    assert_eq!(world.closed.get(&middle), None);
    world.pass(1);
    assert_eq!(world.closed.get(&middle), Some(&Close::Left));
    world.check(true);
}

#[test]
fn a_change_of_policy_keeps_the_old_parent_until_the_child_is_ready() {
    let (mut world, [root, middle, leaf]) = chain();
    let stream = StreamRef { node: 1, stream: 0 };
    world.say(
        root,
        ClientMessage::SetPolicy {
            policy: Policy::Mesh,
            never_relay: None,
        },
    );
    world.pass(3_000);
    assert_eq!(world.edges(), [(1, 2), (1, 3)]);
    world.say(leaf, ClientMessage::Ready { stream, parent: 1 });
    world.everybody_is_ready();
    assert!(world.shadows[&middle].feeds.is_empty());
    world.check(true);
    world.pass(4_999);
    let linked = |world: &World| world.shadows[&middle].links.contains_key(&3);
    assert!(
        linked(&world) || world.now > 5_000,
        "an unused link lingers"
    );
    world.pass(5_001);
    assert!(!linked(&world), "and is closed");
}

#[test]
fn a_silent_link_is_closed_at_both_ends_and_what_it_carried_moves() {
    let mut world = World::new(Policy::Mesh);
    let (a, b, c) = (world.enter_sending(), world.enter(), world.enter());
    world.everybody_is_ready();
    world.pass(2_000);
    world.take(b);
    world.lost(b, 1, LostReason::Silent);
    assert!(world.take_orders(b).contains(&Order::Unlink { peer: 1 }));
    world.check(false);
    world.everybody_is_ready();
    world.check(true);
    assert!(
        world.shadows[&a].people.len() == 3 && world.shadows[&c].people.len() == 3,
        "nobody is gone"
    );
}

#[test]
fn the_second_report_of_the_same_loss_does_not_close_the_new_link() {
    let (mut world, [root, middle, _]) = chain();
    world.pass(2_000);
    world.lost(middle, 1, LostReason::Silent);
    let epoch = world.room.plan().epoch();
    world.lost(root, 2, LostReason::Silent);
    assert_eq!(world.room.plan().epoch(), epoch);
}

#[test]
fn a_pair_that_never_connected_is_not_tried_again() {
    let (mut world, [_, _, leaf]) = chain();
    world.pass(20_000);
    world.lost(leaf, 2, LostReason::Never);
    world.everybody_is_ready();
    world.pass(120_000);
    world.everybody_is_ready();
    assert!(!world.edges().contains(&(2, 3)), "{:?}", world.edges());
    world.check(true);
}

#[test]
fn a_negotiation_that_a_broken_socket_interrupted_proves_nothing() {
    let mut world = World::new(Policy::Mesh);
    let a = world.enter_sending();
    let b = world.enter();
    world.pass(500);
    let token = world.token(b);
    world.cut(b);
    let b = world.enter_as(crate::world::join(2, Some(token)));
    world.pass(15_000);
    world.lost(a, 2, LostReason::Never);
    assert_eq!(world.node(b), 2);
    world.pass(120_000);
    assert_eq!(world.edges(), [(1, 2)], "the pair is used again");
    world.everybody_is_ready();
    world.check(true);
}

#[test]
fn wants_choose_the_layers_that_are_fed() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    let stream = StreamRef { node: 1, stream: 0 };
    for (layer, layers) in [(Some(0), vec![0]), (None, vec![]), (Some(200), vec![1])] {
        world.say(
            b,
            ClientMessage::Want {
                wants: vec![Want { stream, layer }],
            },
        );
        world.pass(5_000);
        let fed = &world.shadows[&a].feeds[&(stream, 2)].0;
        assert!(
            layers.is_empty() == fed.is_empty() && fed.last() == layers.last(),
            "{layer:?}: {fed:?}"
        );
        world.check(true);
    }
}

#[test]
fn unpublishing_ends_the_tree_for_everybody() {
    let (mut world, [root, middle, leaf]) = chain();
    world.take(leaf);
    world.say(root, ClientMessage::Unpublish { stream: 0 });
    assert!(world.edges().is_empty() && world.shadows[&middle].feeds.is_empty());
    let stream = StreamRef { node: 1, stream: 0 };
    let heard = world.take(leaf);
    assert!(
        heard.contains(&ServerMessage::Unpublished { stream }),
        "{heard:?}"
    );
    world.check(true);
}

#[test]
fn somebody_without_the_means_is_in_the_room_but_in_no_tree() {
    let mut world = World::new(Policy::Mesh);
    let a = world.enter_sending();
    let mut poor = crate::world::join(2, None);
    poor.capabilities = Capabilities {
        frames: false,
        forward: false,
    };
    let b = world.enter_as(poor);
    assert_eq!((world.edges(), world.shadows[&a].people.len()), (vec![], 2));
    world.say(
        b,
        ClientMessage::Publish {
            publication: camera(),
        },
    );
    assert!(matches!(
        world.take(b).last(),
        Some(ServerMessage::Error {
            code: ErrorCode::WrongState,
            ..
        })
    ));
}

#[test]
fn an_old_parent_stops_when_the_link_is_lost_on_which_it_still_feeds() {
    let (mut world, [root, middle, leaf]) = chain();
    world.pass(2_000);
    world.say(
        root,
        ClientMessage::SetPolicy {
            policy: Policy::Mesh,
            never_relay: None,
        },
    );
    assert_eq!(
        world.shadows[&middle].feeds.len(),
        1,
        "until the leaf is ready"
    );
    world.lost(leaf, 2, LostReason::Silent);
    assert_eq!(world.shadows[&middle].feeds.len(), 0);
}

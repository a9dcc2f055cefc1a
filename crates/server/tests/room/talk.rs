//! What members say to each other and about themselves.

use crate::world::{World, camera, text};
use grove_server::signal::message::*;

fn codes(messages: &[ServerMessage]) -> Vec<ErrorCode> {
    let code = |message: &ServerMessage| match message {
        ServerMessage::Error { code, .. } => Some(*code),
        _ => None,
    };
    messages.iter().filter_map(code).collect()
}

#[test]
fn only_the_named_end_offers_and_only_the_other_answers() {
    let mut world = World::new(Policy::Mesh);
    let (a, b, c) = (world.enter_sending(), world.enter(), world.enter());
    for connection in [a, b, c] {
        world.take(connection);
    }
    let description = |to, kind| ClientMessage::Description {
        to,
        kind,
        sdp: "v=0".into(),
        signature: text(7, 64),
    };
    world.say(b, description(1, DescriptionKind::Offer));
    assert_eq!(codes(&world.take(b)), [ErrorCode::WrongState]);
    world.say(a, description(2, DescriptionKind::Answer));
    assert_eq!(codes(&world.take(a)), [ErrorCode::WrongState]);
    world.say(b, description(3, DescriptionKind::Offer));
    assert_eq!(
        (world.take(b), world.take(c)),
        (vec![], vec![]),
        "there is no link between the two"
    );
    world.say(a, description(9, DescriptionKind::Offer));
    assert_eq!(codes(&world.take(a)), [ErrorCode::NoSuchTarget]);
    world.say(a, description(2, DescriptionKind::Offer));
    assert!(matches!(
        world.take(b)[..],
        [ServerMessage::Description { from: 1, .. }]
    ));
    world.say(b, description(1, DescriptionKind::Answer));
    assert!(matches!(
        world.take(a)[..],
        [ServerMessage::Description { from: 2, .. }]
    ));
}

#[test]
fn fields_out_of_bounds_are_named_and_nothing_else_happens() {
    let layers = |count: usize| {
        vec![
            VideoLayer {
                width: 1,
                height: 1,
                bps: 1
            };
            count
        ]
    };
    let wrong = [
        ClientMessage::Publish {
            publication: Publication {
                stream: 16,
                ..camera()
            },
        },
        ClientMessage::Publish {
            publication: Publication {
                layers: layers(5),
                ..camera()
            },
        },
        ClientMessage::Publish {
            publication: Publication {
                audio_bps: Some(0),
                ..camera()
            },
        },
        ClientMessage::SetPolicy {
            policy: Policy::Tree { branching: 0 },
            never_relay: None,
        },
        ClientMessage::SetPolicy {
            policy: Policy::Tree { branching: 17 },
            never_relay: None,
        },
        ClientMessage::Chat {
            body: "A".repeat(8193),
        },
        ClientMessage::Chat {
            body: "in clear".into(),
        },
        ClientMessage::Mail {
            to: 2,
            body: String::new(),
        },
        ClientMessage::Candidate {
            to: 2,
            candidate: "c".repeat(1025),
            mid: None,
        },
        ClientMessage::Description {
            to: 2,
            kind: DescriptionKind::Offer,
            sdp: "v".repeat(16 * 1024 + 1),
            signature: text(1, 64),
        },
    ];
    for message in wrong {
        let mut world = World::new(Policy::Mesh);
        let (a, b) = (world.enter(), world.enter());
        world.take(a);
        world.take(b);
        world.say(a, message.clone());
        assert_eq!(codes(&world.take(a)), [ErrorCode::BadField], "{message:?}");
        assert_eq!((world.take(b), world.edges()), (vec![], vec![]));
    }
}

#[test]
fn a_chat_line_comes_back_to_its_sender_and_stays_for_newcomers() {
    let mut world = World::new(Policy::Mesh);
    let a = world.enter();
    world.take(a);
    world.say(
        a,
        ClientMessage::Chat {
            body: "bGluZQ".into(),
        },
    );
    let line = ChatLine {
        node: 1,
        name: "Person 1".into(),
        at_ms: 1_700_000_000_000 + world.now,
        body: "bGluZQ".into(),
    };
    assert_eq!(world.take(a), [ServerMessage::Chat(line.clone())]);
    let b = world.enter();
    assert!(
        matches!(&world.take(b)[0], ServerMessage::Joined(joined) if joined.chat == [line.clone()])
    );
}

#[test]
fn presence_is_passed_on_when_it_changed() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter(), world.enter());
    world.take(b);
    let presence = Presence {
        hand: true,
        ..Presence::default()
    };
    world.say(a, ClientMessage::Presence { presence });
    world.say(a, ClientMessage::Presence { presence });
    assert_eq!(
        world.take(b),
        [ServerMessage::Presence { node: 1, presence }]
    );
}

#[test]
fn pictures_of_the_trees_go_to_those_who_watch_at_most_once_a_second() {
    let mut world = World::new(Policy::Mesh);
    let (a, b) = (world.enter_sending(), world.enter());
    world.say(b, ClientMessage::Trees { watch: true });
    let trees = |messages: Vec<ServerMessage>| {
        messages
            .into_iter()
            .filter(|message| matches!(message, ServerMessage::Trees(_)))
            .count()
    };
    assert_eq!(trees(world.take(b)), 1);
    for bps in 1..=30 {
        let edge = EdgeReport {
            stream: StreamRef { node: 1, stream: 0 },
            parent: 1,
            bps,
            delay_ms: 1.0,
            layer: Some(0),
        };
        world.say(
            b,
            ClientMessage::Report(Report {
                edges: vec![edge],
                ..Report::default()
            }),
        );
        world.pass(100);
    }
    assert_eq!((trees(world.take(b)), trees(world.take(a))), (3, 0));
    world.pass(60_000);
    let one = trees(world.take(b));
    assert!(one <= 1, "nothing changed any more: {one}");
    world.say(b, ClientMessage::Trees { watch: false });
    world.enter_sending();
    assert_eq!(trees(world.take(b)), 0);
}

#[test]
fn measurements_that_lie_are_bounded_or_ignored() {
    let mut world = World::new(Policy::Mesh);
    let (_, b, c) = (world.enter_sending(), world.enter(), world.enter());
    let stream = StreamRef { node: 1, stream: 0 };
    let edge = |parent, bps, delay_ms| EdgeReport {
        stream,
        parent,
        bps,
        delay_ms,
        layer: None,
    };
    let link = |peer, rtt_ms, loss| LinkReport {
        peer,
        rtt_ms,
        sent_bps: u32::MAX,
        loss,
    };
    let report = |edges, links| {
        ClientMessage::Report(Report {
            uplink_bps: Some(u64::MAX),
            links,
            edges,
            ..Report::default()
        })
    };
    world.say(
        b,
        report(
            vec![edge(1, u32::MAX, f32::NAN)],
            vec![link(1, -5.0, f32::INFINITY)],
        ),
    );
    world.say(c, report(vec![edge(2, 7, 7.0)], vec![link(2, 7.0, 0.7)]));
    world.pass(2_000);
    world.say(b, ClientMessage::Trees { watch: true });
    world.pass(2_000);
    let tree = |message| match message {
        ServerMessage::Trees(trees) => Some(trees.trees[0].clone()),
        _ => None,
    };
    let tree = world
        .take(b)
        .into_iter()
        .rev()
        .find_map(tree)
        .expect("b watches");
    let shown: Vec<_> = tree
        .edges
        .iter()
        .map(|edge| (edge.child, edge.bps, edge.delay_ms, edge.rtt_ms, edge.loss))
        .collect();
    assert_eq!(
        shown,
        [(2, 100_000_000, 0.0, 0.0, 0.0), (3, 0, 0.0, 0.0, 0.0)]
    );
}

#[test]
fn a_look_from_outside_shows_names_and_number_only() {
    let mut world = World::new(Policy::Mesh);
    for _ in 0..60 {
        world.enter();
    }
    let ServerMessage::Looked { names, count, .. } = world.room.look("r".into()) else {
        panic!("a look is a look")
    };
    assert_eq!(
        (names.len(), names[0].as_str(), count),
        (50, "Person 1", 60)
    );
}

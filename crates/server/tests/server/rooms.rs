//! Rooms over real sockets.

use crate::client::{camera, join, start};
use grove_server::signal::message::*;
use serde_json::json;

#[tokio::test]
async fn two_people_meet_and_are_told_who_feeds_whom() {
    let server = start(&[]).await;
    let room = server.room().await;
    let (mut ada, first) = server.enter(&room, 1).await;
    let (mut bob, second) = server.enter(&room, 2).await;
    assert_eq!(
        (first.node, second.node, second.participants.len()),
        (1, 2, 2)
    );
    let entered = ada.find(|message| match message {
        ServerMessage::Entered { participant } => Some(participant.node),
        _ => None,
    });
    assert_eq!(entered.await, 2);
    ada.send(camera()).await;
    let orders = |message| match message {
        ServerMessage::Orders(orders) => Some(orders.changes),
        _ => None,
    };
    assert!(matches!(
        ada.find(orders).await[..],
        [
            Order::Link {
                peer: 2,
                offer: true,
                relay: None
            },
            Order::Feed { child: 2, .. }
        ]
    ));
    let told = bob.find(orders).await;
    assert!(matches!(
        told[..],
        [
            Order::Link {
                peer: 1,
                offer: false,
                relay: None
            },
            Order::Parent {
                parent: Some(1),
                ..
            }
        ]
    ));
}

#[tokio::test]
async fn descriptions_candidates_and_mail_pass_as_they_are() {
    let server = start(&[]).await;
    let room = server.room().await;
    let (mut ada, _) = server.enter(&room, 1).await;
    let (mut bob, _) = server.enter(&room, 2).await;
    ada.send(camera()).await;
    let signature = "A".repeat(86);
    ada.send(json!({ "type": "description", "to": 2, "kind": "offer", "sdp": "v=0\r\n\"é", "signature": signature })).await;
    ada.send(json!({ "type": "candidate", "to": 2, "candidate": "", "mid": null }))
        .await;
    ada.send(json!({ "type": "mail", "to": 2, "body": "c2VhbGVk" }))
        .await;
    let from_ada = |message| match message {
        ServerMessage::Orders(_) | ServerMessage::Published { .. } => None,
        other => Some(other),
    };
    let kind = DescriptionKind::Offer;
    assert_eq!(
        bob.find(from_ada).await,
        ServerMessage::Description {
            from: 1,
            kind,
            sdp: "v=0\r\n\"é".into(),
            signature
        }
    );
    assert_eq!(
        bob.find(from_ada).await,
        ServerMessage::Candidate {
            from: 1,
            candidate: String::new(),
            mid: None
        }
    );
    assert_eq!(
        bob.find(from_ada).await,
        ServerMessage::Mail {
            from: 1,
            body: "c2VhbGVk".into()
        }
    );
}

#[tokio::test]
async fn two_rooms_never_mix() {
    let server = start(&[]).await;
    let (one, two) = (server.room().await, server.room().await);
    assert_ne!(one, two);
    let (mut ada, _) = server.enter(&one, 1).await;
    let (mut bob, joined) = server.enter(&two, 2).await;
    assert_eq!((joined.node, joined.participants.len()), (1, 1));
    ada.send(camera()).await;
    ada.send(json!({ "type": "chat", "body": "b25l" })).await;
    bob.send(json!({ "type": "chat", "body": "dHdv" })).await;
    bob.send(json!({ "type": "ping", "n": 1 })).await;
    assert!(matches!(bob.next().await, ServerMessage::Chat(line) if line.body == "dHdv"));
    assert_eq!(bob.next().await, ServerMessage::Pong { n: 1 });
    assert_eq!(server.metric("grove_rooms").await, 2.0);
}

#[tokio::test]
async fn a_cut_connection_comes_back_as_the_same_participant() {
    let server = start(&[]).await;
    let room = server.room().await;
    let (ada, first) = server.enter(&room, 1).await;
    let (mut bob, _) = server.enter(&room, 2).await;
    drop(ada);
    let connection = |message| match message {
        ServerMessage::Connection { node: 1, connected } => Some(connected),
        _ => None,
    };
    assert!(!bob.find(connection).await);
    let mut back = server.client().await;
    let again = back.join(&room, 1, Some(first.resume)).await;
    assert!(again.resumed && again.orders.reset && again.node == 1);
    assert!(bob.find(connection).await);
}

#[tokio::test]
async fn a_second_connection_with_the_token_closes_the_first() {
    let server = start(&[]).await;
    let room = server.room().await;
    let (mut first, joined) = server.enter(&room, 1).await;
    let mut second = server.client().await;
    assert_eq!(second.join(&room, 1, Some(joined.resume)).await.node, 1);
    assert_eq!(first.close().await.0, 4006);
}

#[tokio::test]
async fn a_look_shows_who_is_there_and_leaving_closes_with_1000() {
    let server = start(&[]).await;
    let room = server.room().await;
    let (mut ada, _) = server.enter(&room, 1).await;
    let mut visitor = server.client().await;
    visitor.send(json!({ "type": "look", "room": room })).await;
    let names = vec!["Planted name 1".to_owned()];
    assert_eq!(
        visitor.next().await,
        ServerMessage::Looked {
            room,
            names,
            count: 1
        }
    );
    ada.send(json!({ "type": "leave" })).await;
    assert_eq!(ada.close().await, (1000, "you left the room".into()));
}

#[tokio::test]
async fn rooms_that_do_not_exist_are_an_error_and_the_connection_goes_on() {
    let server = start(&[]).await;
    let mut client = server.client().await;
    for message in [
        ClientMessage::Join(join("AAAAAAAAAAAAAAAA", 1, None)),
        ClientMessage::Look { room: "x".into() },
    ] {
        client
            .send(serde_json::to_value(message).expect("a message is JSON"))
            .await;
        let code = match client.next().await {
            ServerMessage::Error { code, .. } => code,
            other => panic!("no error: {other:?}"),
        };
        assert_eq!(code, ErrorCode::NoSuchRoom);
    }
    client.send(json!({ "type": "ping", "n": 5 })).await;
    assert_eq!(client.next().await, ServerMessage::Pong { n: 5 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_twenty_plans_aside_and_everybody_has_a_parent() {
    let server = start(&[]).await;
    let room = server.room().await;
    let mut people = Vec::new();
    for seed in 1..=20 {
        people.push(server.enter(&room, seed).await.0);
    }
    people[0].send(camera()).await;
    for person in &mut people[1..] {
        let parent = person.find(|message| match message {
            ServerMessage::Orders(orders) => {
                orders.changes.into_iter().find_map(|order| match order {
                    Order::Parent { parent, .. } => Some(parent),
                    _ => None,
                })
            }
            _ => None,
        });
        assert!(parent.await.is_some());
    }
}

//! Strangers at the door, junk, floods.

use crate::client::start;
use grove_server::signal::message::*;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn only_the_servers_own_pages_may_connect() {
    let server = start(&[]).await;
    let own = server.origin();
    let table = [
        (Some(own.clone()), Ok(())),
        (None, Err(403)),
        (Some("null".into()), Err(403)),
        (Some("http://evil.example".into()), Err(403)),
        (Some(own.replace("http:", "https:")), Err(403)),
        (Some(format!("{own}.evil.example")), Err(403)),
        (
            Some(format!("http://localhost:{}", server.address.port())),
            Err(403),
        ),
    ];
    for (origin, expected) in table {
        let answer = server
            .connect(origin.as_deref(), Some("grove.v1"))
            .await
            .map(drop);
        assert_eq!(answer, expected, "{origin:?}");
    }
}

#[tokio::test]
async fn what_is_no_upgrade_or_names_two_origins_is_refused_in_words() {
    let server = start(&[]).await;
    let (status, _, body) = server.get("/api/v1/signal", "").await;
    assert_eq!(status, 426);
    assert!(
        body.contains("A proxy in between must pass on `Upgrade`"),
        "{body}"
    );
    let upgrade = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: grove.v1\r\n\
         Origin: {0}\r\nOrigin: {0}\r\n",
        server.origin()
    );
    let (status, _, body) = server.get("/api/v1/signal", &upgrade).await;
    assert_eq!(status, 403);
    assert!(body.contains("origin"), "{body}");
}

#[tokio::test]
async fn with_a_public_address_only_pages_from_there_may_connect() {
    let server = start(&[("public_url", "https://meet.example.org/")]).await;
    let answer = server
        .connect(Some("https://meet.example.org"), Some("grove.v1"))
        .await;
    assert!(answer.is_ok());
    assert_eq!(
        server
            .connect(Some(&server.origin()), Some("grove.v1"))
            .await
            .map(drop),
        Err(403)
    );
}

#[tokio::test]
async fn the_subprotocol_is_required() {
    let server = start(&[]).await;
    let own = server.origin();
    assert_eq!(server.connect(Some(&own), None).await.map(drop), Err(400));
    assert_eq!(
        server.connect(Some(&own), Some("grove.v2")).await.map(drop),
        Err(400)
    );
    assert!(
        server
            .connect(Some(&own), Some("chat, grove.v1"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn junk_is_closed_with_a_code_and_a_reason() {
    let server = start(&[]).await;
    let table = [
        (Message::text("{"), 4000),
        (Message::text("[]"), 4000),
        (Message::binary(vec![1, 2, 3]), 4001),
        (Message::text("x".repeat(256 * 1024 + 1)), 4002),
    ];
    for (junk, code) in table {
        let mut client = server.client().await;
        assert!(client.try_send(junk).await);
        let (found, reason) = client.close().await;
        assert_eq!(found, code);
        assert!(!reason.is_empty());
    }
    assert_eq!(
        server.metric("grove_ws_closes_total{code=\"4000\"}").await,
        2.0
    );
}

#[tokio::test]
async fn unknown_and_wrong_messages_are_errors_and_the_connection_survives() {
    let server = start(&[]).await;
    let mut client = server.client().await;
    let table = [
        (
            json!({ "type": "dance" }),
            ErrorCode::UnknownMessage,
            "dance",
        ),
        (
            json!({ "type": "look", "room": 7 }),
            ErrorCode::BadField,
            "look",
        ),
        (
            json!({ "type": "create", "policy": { "kind": "tree", "branching": 0 } }),
            ErrorCode::BadField,
            "create",
        ),
    ];
    for (message, expected, about) in table {
        client.send(message).await;
        let ServerMessage::Error {
            code, refers_to, ..
        } = client.next().await
        else {
            panic!("an error was due")
        };
        assert_eq!((code, refers_to.as_deref()), (expected, Some(about)));
    }
    client.send(json!({ "type": "leave" })).await;
    assert!(matches!(
        client.next().await,
        ServerMessage::Error {
            code: ErrorCode::WrongState,
            ..
        }
    ));
    client.send(json!({ "type": "ping", "n": 9 })).await;
    assert_eq!(client.next().await, ServerMessage::Pong { n: 9 });
}

#[tokio::test]
async fn a_burst_is_taken_and_a_flood_is_closed() {
    let server = start(&[
        ("signal.burst", "50"),
        ("signal.messages_per_second", "1000"),
    ])
    .await;
    let mut client = server.client().await;
    for n in 0..50 {
        client.send(json!({ "type": "ping", "n": n })).await;
    }
    for n in 0..50 {
        assert_eq!(client.next().await, ServerMessage::Pong { n });
    }
    for n in 0..5_000 {
        if !client
            .try_send(Message::text(json!({ "type": "ping", "n": n }).to_string()))
            .await
        {
            break;
        }
    }
    assert_eq!(client.close().await.0, 4003);
}

#[tokio::test]
async fn caps_on_connections_and_rooms_are_kept() {
    let server = start(&[("signal.max_connections", "2"), ("rooms.max", "1")]).await;
    let mut first = server.client().await;
    let second = server.client().await;
    assert_eq!(
        server
            .connect(Some(&server.origin()), Some("grove.v1"))
            .await
            .map(drop),
        Err(503)
    );
    first.send(json!({ "type": "create" })).await;
    assert!(matches!(first.next().await, ServerMessage::Created { .. }));
    first.send(json!({ "type": "create" })).await;
    assert!(matches!(
        first.next().await,
        ServerMessage::Error {
            code: ErrorCode::TooMany,
            ..
        }
    ));
    let (status, _, body) = server.get("/readyz", "").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("connections") && body.contains("rooms"),
        "{body}"
    );
    drop(second);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_and_the_others_hear_everything() {
    let server = start(&[
        ("signal.burst", "100000"),
        ("signal.messages_per_second", "100000"),
    ])
    .await;
    let room = server.room().await;
    let (mut ada, _) = server.enter(&room, 1).await;
    let (deaf, _) = server.enter(&room, 2).await;
    let left = |message| match message {
        ServerMessage::Connection {
            node: 2,
            connected: false,
        } => Some(()),
        _ => None,
    };
    let body = "A".repeat(8000);
    let mut lines = 0;
    let mut gone = false;
    while !gone {
        ada.send(json!({ "type": "chat", "body": body })).await;
        lines += 1;
        assert!(
            lines < 20_000,
            "what waits for a deaf client is not bounded"
        );
        loop {
            match ada.next().await {
                ServerMessage::Chat(_) => break,
                other => gone |= left(other).is_some(),
            }
        }
    }
    // Only here to live until now.
    drop(deaf);
}

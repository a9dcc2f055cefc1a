//! The end of a server, and what it says while it lives.

use crate::client::{camera, start};
use grove_server::signal::message::*;
use std::io::Write;
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_server_that_drains_tells_closes_and_ends() {
    let server = start(&[("signal.drain_seconds", "1")]).await;
    let room = server.room().await;
    let (mut ada, _) = server.enter(&room, 1).await;
    let stopper = server.stopper.clone();
    let draining = tokio::spawn(async move { stopper.drain().await });
    assert_eq!(ada.next().await, ServerMessage::Draining);
    let (status, _, body) = server.get("/readyz", "").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "{\"ready\":false,\"reasons\":[\"draining\"]}")
    );
    assert_eq!(
        server
            .connect(Some(&server.origin()), Some("grove.v1"))
            .await
            .map(drop),
        Err(503)
    );
    assert_eq!(ada.close().await.0, 1001);
    draining.await.expect("draining ends");
    server
        .done
        .await
        .expect("the server ends")
        .expect("without an error");
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked with it").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_log_nor_metrics_hold_names_rooms_tokens_or_bodies() {
    let log = Kept::default();
    let writer = log.clone();
    let all = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    // The tests of one process share the log; this one reads what all of them wrote.
    all.try_init().expect("nobody else listens to the log");
    let server = start(&[]).await;
    let room = server.room().await;
    let (mut ada, joined) = server.enter(&room, 1).await;
    let (mut bob, _) = server.enter(&room, 2).await;
    ada.send(serde_json::json!({ "type": "set_policy", "policy": { "kind": "relay" } }))
        .await;
    ada.send(camera()).await;
    let link = crate::relay::ordered(&mut ada).await;
    let _up = crate::relay::Link::open(&server, &link).await;
    ada.send(serde_json::json!({ "type": "set_policy", "policy": { "kind": "mesh" } }))
        .await;
    ada.find(|message| matches!(message, ServerMessage::Orders(_)).then_some(()))
        .await;
    ada.send(serde_json::json!({ "type": "chat", "body": "UGxhbnRlZC1ib2R5" }))
        .await;
    let signature = "QQ".repeat(43);
    let sdp = "planted-description";
    ada.send(serde_json::json!({ "type": "description", "to": 2, "kind": "offer", "sdp": sdp, "signature": signature }))
        .await;
    bob.find(|message| matches!(message, ServerMessage::Description { .. }).then_some(()))
        .await;
    let page = server.get("/metrics", "").await.2 + &server.get("/healthz", "").await.2;
    let log = String::from_utf8_lossy(&log.0.lock().expect("nobody panicked with it")).into_owned();
    assert!(log.contains("participant joined"), "{log}");
    let ours = log
        .lines()
        .filter(|line| line.contains("grove_server"))
        .collect::<Vec<_>>()
        .join("\n");
    for secret in [
        room.as_str(),
        &joined.resume,
        &link.token,
        "Planted name",
        "UGxhbnRlZC1ib2R5",
        sdp,
        &signature,
    ] {
        assert!(!ours.contains(secret), "the log holds {secret}");
        assert!(!page.contains(secret), "the metrics hold {secret}");
    }
}

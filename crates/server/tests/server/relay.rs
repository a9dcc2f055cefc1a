//! Calls through the relay over real sockets.

use crate::client::{Client, PATIENCE, Running, camera, start};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use grove_frame::{Header, Kind};
use grove_server::room::relay::RELAY;
use grove_server::signal::message::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub const PATH: &str = "/api/v1/relay";
pub const PROTOCOL: &str = "grove.relay.v1";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A link that keeps itself alive, as a browser's worker does.
pub struct Link {
    outgoing: mpsc::UnboundedSender<Message>,
    frames: mpsc::UnboundedReceiver<Bytes>,
    closed: tokio::task::JoinHandle<Option<(u16, String)>>,
}

impl Link {
    pub async fn open(server: &Running, link: &RelayLink) -> Self {
        let mut socket = open(server).await;
        let hello = json!({ "t": "hello", "token": link.token }).to_string();
        socket
            .send(Message::text(hello))
            .await
            .expect("the server reads");
        let welcome = timeout(PATIENCE, socket.next()).await.expect("it answers");
        let welcome = welcome.expect("it answers").expect("it answers");
        let welcome: Value = serde_json::from_str(welcome.to_text().expect("text")).expect("JSON");
        assert_eq!(
            welcome,
            json!({ "t": "welcome", "instance": link.instance })
        );
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (got, frames) = mpsc::unbounded_channel();
        let closed = tokio::spawn(live(socket, queue, got));
        Self {
            outgoing,
            frames,
            closed,
        }
    }

    pub fn send(&self, message: Message) {
        let _ = self.outgoing.send(message);
    }

    pub fn take(&self, stream: u32) {
        self.send(Message::text(
            json!({ "t": "take", "s": stream, "have": [] }).to_string(),
        ));
    }

    pub async fn frame(&mut self) -> Bytes {
        let frame = timeout(PATIENCE, self.frames.recv()).await;
        frame.expect("it comes in time").expect("the link is open")
    }

    pub async fn close(self) -> (u16, String) {
        let closed = timeout(PATIENCE, self.closed)
            .await
            .expect("it closes in time");
        closed.expect("no panic").expect("the server says why")
    }
}

/// Sends what is queued and a heartbeat every 100 ms, until the server closes.
async fn live(
    mut socket: Socket,
    mut queue: mpsc::UnboundedReceiver<Message>,
    got: mpsc::UnboundedSender<Bytes>,
) -> Option<(u16, String)> {
    let mut beats = tokio::time::interval(Duration::from_millis(100));
    let mut n = 0;
    loop {
        tokio::select! {
            message = queue.recv() => { socket.send(message?).await.ok()?; }
            _ = beats.tick() => {
                n += 1;
                let beat = json!({ "t": "hb", "n": n, "f": 0 }).to_string();
                socket.send(Message::text(beat)).await.ok()?;
            }
            message = socket.next() => match message?.ok()? {
                Message::Binary(frame) => { let _ = got.send(frame); }
                Message::Close(frame) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                _ => {}
            },
        }
    }
}

async fn open(server: &Running) -> Socket {
    server
        .open(PATH, Some(&server.origin()), Some(PROTOCOL))
        .await
        .expect("the server takes the connection")
}

/// How the server closes a link that says this first.
async fn refusal(server: &Running, first: Option<Message>) -> u16 {
    let mut socket = open(server).await;
    if let Some(first) = first {
        socket.send(first).await.expect("the server reads");
    }
    let closing = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    assert!(!frame.reason.is_empty());
                    return frame.code.into();
                }
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => panic!("closed without a reason"),
                Some(Err(error)) => panic!("{error}"),
            }
        }
    };
    timeout(PATIENCE, closing).await.expect("it closes in time")
}

/// The link to the relay that the next orders name.
pub async fn ordered(client: &mut Client) -> RelayLink {
    let link = |message| {
        let orders = match message {
            ServerMessage::Orders(orders) => orders,
            ServerMessage::Joined(joined) => joined.orders,
            _ => return None,
        };
        orders.changes.into_iter().find_map(|order| match order {
            Order::Link { peer, relay, .. } if peer == RELAY => relay,
            _ => None,
        })
    };
    client.find(link).await
}

/// A sealed frame as far as a forwarder can tell.
pub fn sealed(number: u32, kind: Kind) -> Bytes {
    let audio = matches!(kind, Kind::Audio { .. });
    let header = Header {
        kind,
        spatial: 0,
        temporal: 0,
        number,
        capture_us: u64::from(number) * 33_000,
        sender: 1,
        stream: 0,
        track: if audio { 0 } else { 1 },
        generation: 1,
        droppable: false,
        rotation: 0,
    };
    let mut bytes = header.encode().expect("this is a header").to_vec();
    bytes.extend((0..1_000_u32).map(|n| (n * 7 + number) as u8));
    bytes.into()
}

pub const KEY: Kind = Kind::Key {
    width: 320,
    height: 180,
};
pub const DELTA: Kind = Kind::Delta {
    farthest: 1,
    nearest: 1,
};
const AUDIO: Kind = Kind::Audio { level: 40 };
/// Ada's camera.
pub const CAMERA: u32 = 16;

pub struct Call {
    pub server: Running,
    pub ada: Client,
    pub bob: Client,
    pub up: Link,
    pub down: Link,
}

/// Ada's camera goes to Bob through the relay: the first picture came.
pub async fn call() -> Call {
    let server = start(&[]).await;
    let policy = json!({ "type": "create", "policy": { "kind": "relay" } });
    let room = server.create(policy).await;
    let (mut ada, joined) = server.enter(&room, 1).await;
    assert_eq!(joined.relays, [RELAY]);
    let (mut bob, _) = server.enter(&room, 2).await;
    ada.send(camera()).await;
    let (up, down) = (ordered(&mut ada).await, ordered(&mut bob).await);
    assert_ne!(up.token, down.token);
    let up = Link::open(&server, &up).await;
    let mut down = Link::open(&server, &down).await;
    down.take(CAMERA);
    let first = sealed(0, KEY);
    up.send(Message::Binary(first.clone()));
    assert_eq!(down.frame().await, first);
    Call {
        server,
        ada,
        bob,
        up,
        down,
    }
}

#[tokio::test]
async fn sealed_bytes_that_one_sends_arrive_unchanged_at_the_other() {
    let mut call = call().await;
    for number in 1..20 {
        for kind in [DELTA, AUDIO] {
            let frame = sealed(number, kind);
            call.up.send(Message::Binary(frame.clone()));
            assert_eq!(call.down.frame().await, frame);
        }
    }
    let name = "grove_relay_links";
    // The figures are at most a second old.
    let seen = async {
        while call.server.metric(name).await < 2.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, seen)
        .await
        .expect("the links are counted");
}

#[tokio::test]
async fn whoever_shows_no_token_at_the_door_is_closed_with_the_reason() {
    let server = start(&[]).await;
    let hello = |token: &str| Message::text(json!({ "t": "hello", "token": token }).to_string());
    let table = [
        (hello("AAAAAAAAAAAAAAAAAAAAAA"), 4401),
        (hello("short"), 4401),
        (hello(""), 4401),
        (Message::text("{"), 4400),
        (Message::text("{\"t\":\"hb\",\"n\":1,\"f\":0}"), 4400),
        (Message::binary(vec![0x80; 100]), 4400),
    ];
    let late = refusal(&server, None);
    let others = async {
        for (first, code) in table {
            assert_eq!(refusal(&server, Some(first.clone())).await, code, "{first}");
        }
    };
    let (late, ()) = tokio::join!(late, others);
    assert_eq!(late, 4400, "nothing came for 5 s");
    let refused = |limit| format!("grove_refusals_total{{limit=\"{limit}\"}}");
    assert_eq!(server.metric(&refused("relay_token")).await, 3.0);
    assert_eq!(server.metric(&refused("relay_hello")).await, 4.0);
}

#[tokio::test]
async fn the_door_of_the_relay_is_that_of_signalling() {
    let server = start(&[]).await;
    let own = server.origin();
    for (origin, protocol, status) in [
        (None, Some(PROTOCOL), 403),
        (Some("http://evil.example"), Some(PROTOCOL), 403),
        (Some(own.as_str()), None, 400),
        (Some(own.as_str()), Some("grove.v1"), 400),
    ] {
        let answer = server.open(PATH, origin, protocol).await.map(drop);
        assert_eq!(answer, Err(status), "{origin:?} {protocol:?}");
    }
    assert_eq!(server.get(PATH, "").await.0, 426);
    let without = start(&[("relay.enabled", "false")]).await;
    let own = without.origin();
    let answer = without.open(PATH, Some(&own), Some(PROTOCOL)).await;
    assert_eq!(answer.map(drop), Err(404));
}

#[tokio::test]
async fn a_message_above_the_cap_closes_its_own_link_only() {
    let call = call().await;
    call.down.send(Message::binary(vec![0x80; 262_145]));
    let Call {
        server,
        ada: _ada,
        mut bob,
        up,
        down,
    } = call;
    assert_eq!(down.close().await.0, 4402);
    bob.send(json!({ "type": "lost", "peer": RELAY, "why": "silent" }))
        .await;
    let mut down = Link::open(&server, &ordered(&mut bob).await).await;
    down.take(CAMERA);
    let again = sealed(1, KEY);
    up.send(Message::Binary(again.clone()));
    // The first picture is still in the ring.
    while down.frame().await != again {}
}

#[tokio::test]
async fn junk_on_an_open_link_is_ignored() {
    let mut call = call().await;
    for junk in [
        Message::text("junk"),
        Message::text("{\"t\":\"take\",\"s\":-1}"),
        Message::binary(vec![]),
        Message::binary(vec![0xff; 200]),
    ] {
        call.up.send(junk.clone());
        call.down.send(junk);
    }
    let frame = sealed(1, DELTA);
    call.up.send(Message::Binary(frame.clone()));
    assert_eq!(call.down.frame().await, frame);
}

#[tokio::test]
async fn a_token_opens_one_link_at_a_time() {
    let server = start(&[("rooms.preset", "cloud-chat")]).await;
    let room = server.room().await;
    let (mut ada, joined) = server.enter(&room, 1).await;
    assert_eq!(joined.policy, Policy::Relay);
    let (_bob, _) = server.enter(&room, 2).await;
    ada.send(camera()).await;
    let link = ordered(&mut ada).await;
    let first = Link::open(&server, &link).await;
    let second = Link::open(&server, &link).await;
    assert_eq!(first.close().await.0, 4406);
    assert!(!second.closed.is_finished());
}

#[tokio::test]
async fn a_relay_that_is_forbidden_during_a_call_goes_once_the_others_are_connected() {
    let Call {
        server: _server,
        mut ada,
        mut bob,
        up,
        mut down,
    } = call().await;
    let forbid = json!({ "type": "set_policy", "policy": { "kind": "auto" }, "never_relay": true });
    ada.send(forbid).await;
    let moved = |message| match message {
        ServerMessage::Orders(orders) => orders.changes.into_iter().find_map(|order| match order {
            Order::Parent { parent, .. } => parent,
            _ => None,
        }),
        _ => None,
    };
    assert_eq!(bob.find(moved).await, 1);
    let frame = sealed(1, DELTA);
    up.send(Message::Binary(frame.clone()));
    assert_eq!(down.frame().await, frame, "the relay still feeds");
    let stream = json!({ "node": 1, "stream": 0 });
    bob.send(json!({ "type": "ready", "stream": stream, "parent": 1 }))
        .await;
    assert_eq!(up.close().await.0, 1000);
    assert_eq!(down.close().await.0, 1000);
}

#[tokio::test]
async fn a_link_that_is_reported_lost_is_ordered_anew_and_carries_again() {
    let Call {
        server,
        ada: _ada,
        mut bob,
        up,
        down,
    } = call().await;
    bob.send(json!({ "type": "lost", "peer": RELAY, "why": "silent" }))
        .await;
    let link = ordered(&mut bob).await;
    assert_eq!(down.close().await.0, 1000, "the old one is ended");
    let mut down = Link::open(&server, &link).await;
    down.take(CAMERA);
    assert_eq!(down.frame().await, sealed(0, KEY), "from the ring");
    let frame = sealed(1, DELTA);
    up.send(Message::Binary(frame.clone()));
    assert_eq!(down.frame().await, frame);
}

#[tokio::test]
async fn links_to_the_relay_stay_until_the_end_of_the_drain() {
    let server = start(&[("signal.drain_seconds", "2")]).await;
    let policy = json!({ "type": "create", "policy": { "kind": "relay" } });
    let room = server.create(policy).await;
    let (mut ada, _) = server.enter(&room, 1).await;
    let (mut bob, _) = server.enter(&room, 2).await;
    ada.send(camera()).await;
    let up = Link::open(&server, &ordered(&mut ada).await).await;
    let stopper = server.stopper.clone();
    let draining = tokio::spawn(async move { stopper.drain().await });
    ada.find(|message| (message == ServerMessage::Draining).then_some(()))
        .await;
    let mut down = Link::open(&server, &ordered(&mut bob).await).await;
    down.take(CAMERA);
    let frame = sealed(0, KEY);
    up.send(Message::Binary(frame.clone()));
    assert_eq!(down.frame().await, frame, "a call goes on meanwhile");
    assert_eq!(up.close().await.0, 1001);
    assert_eq!(down.close().await.0, 1001);
    draining.await.expect("draining ends");
}

#[tokio::test]
async fn a_policy_that_cannot_be_had_is_refused_in_words() {
    let server = start(&[("relay.enabled", "false")]).await;
    let mut client = server.client().await;
    client
        .send(json!({ "type": "create", "policy": { "kind": "relay" } }))
        .await;
    let error = client.next().await;
    assert!(
        matches!(&error, ServerMessage::Error { code: ErrorCode::BadField, message, .. }
            if message == "this server has no relay: choose another policy"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_room_that_forbids_relays_does_not_get_the_preset_that_needs_one() {
    let server = start(&[("rooms.preset", "cloud-chat")]).await;
    let room = server
        .create(json!({ "type": "create", "never_relay": true }))
        .await;
    let (_, joined) = server.enter(&room, 1).await;
    assert_eq!(
        (joined.policy, joined.never_relay, joined.relays),
        (Policy::Auto, true, vec![])
    );
}

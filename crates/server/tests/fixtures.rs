//! One example of every message, in `fixtures/signal/`, read by the web client's tests too.
//!
//! `GROVE_UPDATE=1 cargo test -p grove-server --test fixtures` writes them.

use grove_server::signal::message::*;
use grove_server::signal::parse;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

const STREAM: StreamRef = StreamRef { node: 3, stream: 0 };

fn identity() -> Identity {
    Identity {
        nonce: "AAECAwQFBgcICQoLDA0ODw".into(),
        kem_key: "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8".into(),
        sign_key: "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8".into(),
        mac: "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn8".into(),
    }
}

fn publication() -> Publication {
    let layer = |width, height, bps| VideoLayer { width, height, bps };
    Publication {
        stream: 0,
        kind: StreamKind::Camera,
        audio_bps: Some(32_000),
        layers: vec![layer(320, 180, 150_000), layer(1280, 720, 1_200_000)],
    }
}

fn report() -> Report {
    Report {
        uplink_bps: Some(4_000_000),
        links: vec![LinkReport {
            peer: 3,
            rtt_ms: 12.5,
            sent_bps: 1_300_000,
            loss: 0.25,
        }],
        edges: vec![EdgeReport {
            stream: STREAM,
            parent: 3,
            bps: 1_200_000,
            delay_ms: 40.0,
            layer: Some(1),
        }],
        hidden: Some(false),
        battery: Some(Battery {
            charging: false,
            level: 0.75,
        }),
        metered: Some(false),
        passes_on: Some(true),
    }
}

fn clients() -> Vec<ClientMessage> {
    let capabilities = Capabilities {
        frames: true,
        forward: true,
    };
    vec![
        ClientMessage::Create {
            policy: Some(Policy::Tree { branching: 2 }),
            never_relay: Some(true),
        },
        ClientMessage::Join(Join {
            version: VERSION,
            room: "Zm9ydHktdHdvIGJ5".into(),
            participant: "cGFydGljaXBhbnQh".into(),
            name: "Ada".into(),
            identity: identity(),
            capabilities,
            uplink_bps: Some(4_000_000),
            resume: None,
        }),
        ClientMessage::Look {
            room: "Zm9ydHktdHdvIGJ5".into(),
        },
        ClientMessage::Leave,
        ClientMessage::Publish {
            publication: publication(),
        },
        ClientMessage::Unpublish { stream: 1 },
        ClientMessage::Want {
            wants: vec![
                Want {
                    stream: STREAM,
                    layer: Some(1),
                },
                Want {
                    stream: StreamRef { node: 4, stream: 1 },
                    layer: None,
                },
            ],
        },
        ClientMessage::Ready {
            stream: STREAM,
            parent: 3,
        },
        ClientMessage::Lost {
            peer: 3,
            why: LostReason::Silent,
        },
        ClientMessage::Description {
            to: 3,
            kind: DescriptionKind::Offer,
            sdp: "v=0\r\n".into(),
            signature: "A".repeat(86),
        },
        ClientMessage::Candidate {
            to: 3,
            candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host".into(),
            mid: Some("0".into()),
        },
        ClientMessage::Mail {
            to: 3,
            body: "c2VhbGVk".into(),
        },
        ClientMessage::Chat {
            body: "c2VhbGVk".into(),
        },
        ClientMessage::Presence {
            presence: Presence {
                microphone: true,
                camera: false,
                hand: true,
            },
        },
        ClientMessage::Report(report()),
        ClientMessage::Trees { watch: true },
        ClientMessage::SetPolicy {
            policy: Policy::Relay,
            never_relay: Some(false),
        },
        ClientMessage::Ping { n: 7 },
    ]
}

fn orders() -> Orders {
    let (child, layers) = (5, vec![0, 1]);
    Orders {
        epoch: 9,
        reset: false,
        changes: vec![
            Order::Link {
                peer: 5,
                offer: true,
                relay: None,
            },
            Order::Link {
                peer: 65_535,
                offer: true,
                relay: Some(RelayLink {
                    instance: "0123456789abcdef".into(),
                    token: "dG9rZW4gb2YgYSBsaW5rIQ".into(),
                    by_rtp: true,
                    quic: Some(QuicAddress {
                        port: 4433,
                        certificate_sha256: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".into(),
                    }),
                }),
            },
            Order::Feed {
                stream: STREAM,
                child,
                layers: layers.clone(),
                rate_bps: 1_382_000,
            },
            Order::Parent {
                stream: STREAM,
                parent: Some(3),
                layers,
                reason: EdgeReason::ParentLost,
            },
            Order::Parent {
                stream: STREAM,
                parent: None,
                layers: vec![],
                reason: EdgeReason::NoCapacity,
            },
            Order::Backup {
                stream: STREAM,
                parent: Some(6),
                layers: vec![0],
            },
            Order::Backup {
                stream: STREAM,
                parent: None,
                layers: vec![],
            },
            Order::StandBy {
                stream: STREAM,
                child: 6,
                layers: vec![0],
                rate_bps: 182_000,
            },
            Order::Release {
                stream: STREAM,
                child,
            },
            Order::Unlink { peer: 5 },
        ],
    }
}

fn servers() -> Vec<ServerMessage> {
    let participant = Participant {
        node: 3,
        id: "cGFydGljaXBhbnQh".into(),
        name: "Ada".into(),
        identity: identity(),
        capabilities: Capabilities {
            frames: true,
            forward: false,
        },
        presence: Presence {
            microphone: true,
            camera: true,
            hand: false,
        },
        publications: vec![publication()],
        connected: true,
    };
    let line = ChatLine {
        node: 3,
        name: "Ada".into(),
        at_ms: 1_790_000_000_000,
        body: "c2VhbGVk".into(),
    };
    let edge = TreeEdge {
        parent: 3,
        child: 4,
        backup: Some(6),
        level: 1,
        layer: Some(1),
        live: true,
        bps: 1_200_000,
        delay_ms: 40.0,
        rtt_ms: 12.5,
        loss: 0.25,
        reason: EdgeReason::Joined,
    };
    vec![
        ServerMessage::Created {
            room: "Zm9ydHktdHdvIGJ5".into(),
        },
        ServerMessage::Looked {
            room: "Zm9ydHktdHdvIGJ5".into(),
            names: vec!["Ada".into()],
            count: 1,
        },
        ServerMessage::Joined(Joined {
            node: 4,
            resume: "a".repeat(43),
            resumed: false,
            policy: Policy::Auto,
            never_relay: false,
            relays: vec![65_535],
            participants: vec![participant.clone()],
            chat: vec![line.clone()],
            ice_servers: vec!["stun:stun.example.org:3478".into()],
            orders: Orders {
                reset: true,
                ..orders()
            },
        }),
        ServerMessage::Entered { participant },
        ServerMessage::Left {
            node: 3,
            why: LeftReason::Lost,
        },
        ServerMessage::Connection {
            node: 3,
            connected: false,
        },
        ServerMessage::Published {
            node: 3,
            publication: publication(),
        },
        ServerMessage::Unpublished { stream: STREAM },
        ServerMessage::Orders(orders()),
        ServerMessage::Description {
            from: 3,
            kind: DescriptionKind::Answer,
            sdp: "v=0\r\n".into(),
            signature: "A".repeat(86),
        },
        ServerMessage::Candidate {
            from: 3,
            candidate: String::new(),
            mid: None,
        },
        ServerMessage::Mail {
            from: 3,
            body: "c2VhbGVk".into(),
        },
        ServerMessage::Chat(line),
        ServerMessage::Presence {
            node: 3,
            presence: Presence::default(),
        },
        ServerMessage::Trees(Trees {
            epoch: 9,
            trees: vec![Tree {
                stream: STREAM,
                edges: vec![edge],
                unserved: vec![5],
            }],
        }),
        ServerMessage::PolicyChanged {
            policy: Policy::Tree { branching: 2 },
            never_relay: true,
            by: 3,
        },
        ServerMessage::Pong { n: 7 },
        ServerMessage::Draining,
        ServerMessage::Error {
            code: ErrorCode::NoSuchRoom,
            message: "there is no such room, or it has ended".into(),
            refers_to: Some("join".into()),
        },
    ]
}

/// Compares a message with its file, or writes it; returns its type.
fn settle(side: &str, message: &impl Serialize) -> (String, String) {
    let json = serde_json::to_value(message).expect("a message is JSON");
    let kind = json["type"]
        .as_str()
        .expect("a message has a type")
        .to_owned();
    let path = format!("fixtures/signal/{side}/{kind}.json");
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(&path);
    let wanted = format!(
        "{}\n",
        serde_json::to_string_pretty(message).expect("a message is JSON")
    );
    if std::env::var_os("GROVE_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().expect("files have a directory"))
            .expect("the directory can be made");
        std::fs::write(&file, &wanted).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is out of date: GROVE_UPDATE=1 cargo test -p grove-server --test fixtures"
    );
    (kind, found)
}

#[test]
fn every_message_of_a_client_has_an_example_that_reads_as_itself() {
    let mut kinds = BTreeSet::new();
    for message in clients() {
        let (kind, text) = settle("client", &message);
        assert_eq!(parse::parse(&text), Ok(message));
        kinds.insert(kind);
    }
    assert_eq!(kinds, parse::TYPES.map(str::to_owned).into());
}

#[test]
fn every_message_of_the_server_has_an_example_that_reads_as_itself() {
    let mut kinds = BTreeSet::new();
    for message in servers() {
        let (kind, text) = settle("server", &message);
        assert_eq!(
            serde_json::from_str::<ServerMessage>(&text).expect("it was written so"),
            message
        );
        kinds.insert(kind);
    }
    let all = serde_json::from_str::<ServerMessage>("{\"type\":\"?\"}")
        .expect_err("no such type")
        .to_string();
    assert_eq!(all.matches('`').count() / 2 - 1, kinds.len(), "{all}");
}

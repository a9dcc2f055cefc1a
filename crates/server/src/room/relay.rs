//! The relay as one room sees it: its number, what links to it are opened with, and orders in its own words.
//!
//! A relay is a node like any other in plan and wiring, but nobody's presence. It is told what a browser is told; only a
//! link needs more than a number: the instance of the relay that expects it, and a token that proves who opens it.

use super::{QuicPort, RelaySettings, wiring};
use crate::signal::message::{EdgeReport, LinkReport, Node, Order, QuicAddress, RelayLink, Report};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grove_relay::{Command, Layers, Stream, Token};
use grove_tree::Millis;

/// Numbers from here up belong to relays; participants never reach them.
pub const FIRST: Node = 65_000;

/// The relay of this server. Further ones count down from here.
pub const RELAY: Node = 65_535;

/// Offers to the relay that a participant may make at once, and how long until it may make one more: each takes a processor
/// for milliseconds. A browser makes one for its link and one for each four streams more.
const OFFERS: Millis = 5;
const OFFER_EACH: Millis = 1_000;

/// How fast one participant makes offers to the relay.
#[derive(Debug, Default)]
pub struct Pace {
    whole_at: Millis,
}

impl Pace {
    /// May there be one now? Then it counts.
    pub fn may_offer(&mut self, now: Millis) -> bool {
        let whole_at = self.whole_at.max(now) + OFFER_EACH;
        let may = whole_at - now <= OFFERS * OFFER_EACH;
        if may {
            self.whole_at = whole_at;
        }
        may
    }
}

/// Mints a room's tokens: HMAC-SHA-256 of a counter under the room's own random key, cut to 128 bits. No two links of a
/// server have the same.
struct Mint {
    key: hmac::Key,
    made: u64,
}

impl Mint {
    fn token(&mut self) -> Token {
        self.made += 1;
        let tag = hmac::sign(&self.key, &self.made.to_be_bytes());
        let mut token = [0; 16];
        token.copy_from_slice(&tag.as_ref()[..16]);
        Token(token)
    }
}

/// How the relay is ordered about in one room.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub struct Orders {
    room: grove_relay::Room,
    instance: String,
    rtp: bool,
    quic: Option<QuicPort>,
    mint: Mint,
    commands: Vec<Command>,
}

impl Orders {
    /// For the room that the relay knows as `room`; `key` is random and only this room's. To be told of a relay's start
    /// before anything is ordered.
    pub fn new(room: grove_relay::Room, key: [u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Self {
            room,
            instance: String::new(),
            rtp: false,
            quic: None,
            mint: Mint { key, made: 0 },
            commands: Vec::new(),
        }
    }

    /// Which start of the relay links are made to from now on, and by which ways.
    pub fn set_instance(&mut self, instance: String, settings: &RelaySettings) {
        self.instance = instance;
        (self.rtp, self.quic) = (settings.rtp, settings.quic);
    }

    /// Which start of the relay links are made to.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The relay stands in the room from now on.
    pub fn enter(&mut self) {
        let room = self.room;
        self.commands.push(Command::Enter { room, node: RELAY });
    }

    /// And no more; whatever it was told and has not heard yet is over.
    pub fn leave(&mut self) {
        let room = self.room;
        self.commands.clear();
        self.commands.push(Command::Leave { room });
    }

    /// The relay expects `peer`; returns what the peer opens the link with.
    pub fn link(&mut self, peer: Node) -> Token {
        let (room, token) = (self.room, self.mint.token());
        self.commands.push(Command::Link { room, peer, token });
        token
    }

    /// The same, as the peer is told.
    pub fn words(&self, token: Token) -> RelayLink {
        RelayLink {
            instance: self.instance.clone(),
            token: URL_SAFE_NO_PAD.encode(token.0),
            by_rtp: self.rtp,
            quic: self.quic.map(|quic| QuicAddress {
                port: quic.port,
                certificate_sha256: URL_SAFE_NO_PAD.encode(quic.certificate_sha256),
            }),
        }
    }

    /// A participant's offer, for the relay to answer.
    pub fn offer(&mut self, peer: Node, sdp: String) {
        let room = self.room;
        self.commands.push(Command::Offer { room, peer, sdp });
    }

    /// An order for the relay's number. Links are ordered by [`Orders::link`].
    pub fn give(&mut self, order: Order) {
        let room = self.room;
        self.commands.push(match order {
            Order::Link { .. } => unreachable!("links to a relay are ordered with a token"),
            Order::Unlink { peer } => Command::Unlink { room, peer },
            Order::Feed {
                stream,
                child,
                layers,
                rate_bps,
            } => Command::Feed {
                room,
                stream: Stream::new(stream.node, stream.stream),
                child,
                layers: layer_set(&layers),
                rate_bps: rate_bps.into(),
            },
            Order::Release { stream, child } => Command::Release {
                room,
                stream: Stream::new(stream.node, stream.stream),
                child,
            },
            Order::Parent {
                stream,
                parent: None,
                ..
            } => Command::Forget {
                room,
                stream: Stream::new(stream.node, stream.stream),
            },
            Order::Parent {
                stream,
                parent: Some(parent),
                layers,
                ..
            } => Command::Parent {
                room,
                stream: Stream::new(stream.node, stream.stream),
                parent,
                layers: layer_set(&layers),
            },
            Order::Backup {
                stream,
                parent,
                layers,
            } => Command::Backup {
                room,
                stream: Stream::new(stream.node, stream.stream),
                parent,
                layers: layer_set(&layers),
            },
            Order::StandBy {
                stream,
                child,
                layers,
                rate_bps,
            } => Command::StandBy {
                room,
                stream: Stream::new(stream.node, stream.stream),
                child,
                layers: layer_set(&layers),
                rate_bps: rate_bps.into(),
            },
        });
    }

    /// What the relay has to do since the last call.
    pub fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }
}

fn layer_set(layers: &[u8]) -> Layers {
    layers
        .iter()
        .fold(Layers::NONE, |set, &layer| set.with(layer))
}

/// A relay's measurements in the words of a browser's.
pub fn report(report: &grove_relay::Report) -> Report {
    let link = |link: &grove_relay::LinkReport| LinkReport {
        peer: link.peer,
        rtt_ms: link.rtt_ms,
        sent_bps: link.sent_bps,
        loss: link.loss,
    };
    let edge = |edge: &grove_relay::EdgeReport| EdgeReport {
        stream: wiring::stream_ref(grove_tree::StreamId(edge.stream.0)),
        parent: edge.parent,
        bps: edge.bps,
        delay_ms: edge.delay_ms,
        layer: edge.layer,
    };
    Report {
        uplink_bps: None,
        links: report.links.iter().map(link).collect(),
        edges: report.edges.iter().map(edge).collect(),
        ..Report::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_link_has_a_token_of_its_own() {
        let mut tokens = BTreeSet::new();
        for key in [[1; 32], [2; 32]] {
            let mut orders = Orders::new(1, key);
            tokens.extend((0..100).map(|_| orders.link(3)));
        }
        assert_eq!(tokens.len(), 200);
    }
}

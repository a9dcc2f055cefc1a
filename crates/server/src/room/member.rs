//! One participant, and what a client may say about itself.
//!
//! The checks are exact where the protocol is (lengths of keys, characters of ids) and say what was wrong in words for
//! the person who writes a client.

use super::ConnectionId;
use super::relay::Pace;
use super::willing::Willing;
use crate::signal::message::{
    Join, Node, Participant, Policy, Presence, Publication, ServerMessage,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grove_tree::{Layers, Millis, Rates};
use std::collections::VecDeque;
use subtle::ConstantTimeEq as _;

/// Messages of others kept for somebody whose connection is down: the offers, candidates and keys of one rejoin.
const KEPT_MESSAGES: usize = 256;
/// Bytes of them, so that large descriptions do not add up.
const KEPT_BYTES: usize = 256 * 1024;

/// What a participant comes back with: 256 random bits. Deliberately without `Debug`.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a secret")]
pub struct Token([u8; 32]);

impl Token {
    /// From the random bytes of the caller.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it travels.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// In constant time.
    pub fn matches(&self, text: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(text)
            .is_ok_and(|bytes| bytes.ct_eq(&self.0).into())
    }
}

/// Somebody in the room.
#[expect(missing_debug_implementations, reason = "holds a secret")]
pub struct Member {
    /// As others see it.
    pub participant: Participant,
    /// To come back with.
    pub token: Token,
    /// The socket, while there is one.
    pub connection: Option<ConnectionId>,
    /// When the socket broke last.
    pub broke: Option<Millis>,
    /// When a neighbour last said that nothing came from here.
    pub silent: Option<Millis>,
    /// Said goodbye, and still feeds whoever has no new parent yet. Others do not see it any more.
    pub leaving: bool,
    /// Wants pictures of the trees.
    pub watches_trees: bool,
    /// What the planner was told last, bit/s.
    pub uplink: u64,
    /// Does it forward for others?
    pub willing: Willing,
    /// It would rather not, and the others can do without it.
    pub spared: bool,
    /// Of its offers to the relay.
    pub pace: Pace,
    kept: VecDeque<ServerMessage>,
    kept_bytes: usize,
}

impl Member {
    /// A newcomer.
    pub fn new(
        node: Node,
        join: Join,
        name: String,
        token: Token,
        connection: ConnectionId,
        uplink: u64,
    ) -> Self {
        Self {
            participant: Participant {
                node,
                id: join.participant,
                name,
                identity: join.identity,
                capabilities: join.capabilities,
                presence: Presence::default(),
                publications: Vec::new(),
                connected: true,
            },
            token,
            connection: Some(connection),
            broke: None,
            silent: None,
            leaving: false,
            watches_trees: false,
            uplink,
            willing: Willing::default(),
            spared: false,
            pace: Pace::default(),
            kept: VecDeque::new(),
            kept_bytes: 0,
        }
    }

    /// Keeps what somebody sent while the connection is down. What does not fit is dropped: links and keys are asked
    /// for again by those who need them.
    pub fn keep(&mut self, message: ServerMessage) {
        let bytes = match &message {
            ServerMessage::Description { sdp, signature, .. } => sdp.len() + signature.len(),
            ServerMessage::Candidate { candidate, .. } => candidate.len(),
            ServerMessage::Mail { body, .. } => body.len(),
            _ => 0,
        };
        if self.kept.len() < KEPT_MESSAGES && self.kept_bytes + bytes <= KEPT_BYTES {
            self.kept_bytes += bytes;
            self.kept.push_back(message);
        }
    }

    /// What was kept, oldest first.
    pub fn take_kept(&mut self) -> VecDeque<ServerMessage> {
        self.kept_bytes = 0;
        std::mem::take(&mut self.kept)
    }
}

/// Unpadded base64url of exactly so many bytes?
fn is_bytes(text: &str, length: usize) -> bool {
    URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|bytes| bytes.len() == length)
}

/// Unpadded base64url of 1 to `most` characters?
pub fn is_sealed(text: &str, most: usize) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    !text.is_empty() && text.len() <= most && text.bytes().all(allowed)
}

/// An Ed25519 signature?
pub fn is_signature(text: &str) -> bool {
    is_bytes(text, 64)
}

/// The name to show, or what is wrong with the entry. Characters that control, or that turn the direction of the text
/// around them, are left out.
pub fn check_join(join: &Join) -> Result<String, &'static str> {
    let shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = join.name.chars().filter(shown).collect();
    let name = name.trim().to_owned();
    let identity = &join.identity;
    if name.is_empty() || name.chars().count() > 64 {
        return Err("a name has 1 to 64 characters");
    }
    if !is_bytes(&join.participant, 12) {
        return Err("`participant` must be 12 bytes in unpadded base64url");
    }
    if !is_bytes(&identity.nonce, 16) {
        return Err("`identity.nonce` must be 16 bytes in unpadded base64url");
    }
    if ![&identity.kem_key, &identity.sign_key, &identity.mac]
        .iter()
        .all(|key| is_bytes(key, 32))
    {
        return Err(
            "the keys and the mac of `identity` must be 32 bytes each in unpadded base64url",
        );
    }
    Ok(name)
}

/// What the planner is told of a publication, or what is wrong with it.
pub fn check_publication(publication: &Publication) -> Result<Rates, &'static str> {
    if publication.stream > 15 {
        return Err("`stream` must be 0 to 15");
    }
    if publication.layers.len() > Layers::MAX {
        return Err("a stream has at most 4 spatial layers");
    }
    if publication
        .audio_bps
        .is_some_and(|bps| bps == 0 || bps > 2_000_000)
    {
        return Err("`audio_bps` must be 1 to 2000000");
    }
    let mut rates = Rates {
        audio: publication.audio_bps.unwrap_or(0),
        ..Rates::default()
    };
    for (layer, rate) in publication.layers.iter().zip(&mut rates.layers) {
        if layer.bps == 0 || layer.bps > 100_000_000 || layer.width == 0 || layer.height == 0 {
            return Err("a layer has a size, and a rate of at most 100000000");
        }
        *rate = layer.bps;
    }
    Ok(rates)
}

/// The planner's name of a policy, or what is wrong with it.
pub fn check_policy(policy: Policy) -> Result<grove_tree::Policy, &'static str> {
    match policy {
        Policy::Mesh => Ok(grove_tree::Policy::Mesh),
        Policy::Relay => Ok(grove_tree::Policy::Relay),
        Policy::Auto => Ok(grove_tree::Policy::Auto),
        Policy::Tree {
            branching: branching @ 1..=16,
        } => Ok(grove_tree::Policy::Tree(branching)),
        Policy::Tree { .. } => Err("`branching` must be 1 to 16"),
    }
}

//! The core: every room's links, streams and edges, without IO and without a clock.
//!
//! Time is microseconds since a moment of the caller's choice and never goes back. After each `handle_*` the caller polls
//! outputs until there are none, then waits until [`Relay::poll_timeout`] or the next input.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::command::{Command, Node, Room, Token};
use crate::event::{Counters, Event, Size, Stats};

/// Microseconds since a moment of the caller's choice.
pub type Micros = u64;

/// The longest message that a link carries: no browser sends a larger one (Chromium's `max-message-size`).
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// Caps on what one relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bit/s of video and sound that leave in all. Over it pictures wait and are left out; sound is not held back.
    pub egress_bps: u64,
    /// Links open at a time; more are refused.
    pub links: usize,
    /// Bytes of pictures that may wait for one child, and bytes that its socket may hold before the link counts as stuck.
    pub queue_bytes: usize,
}

impl Default for Settings {
    /// 10 Gbit/s, 4096 links, 8 MiB.
    fn default() -> Self {
        Self {
            egress_bps: 10_000_000_000,
            links: 4096,
            queue_bytes: 8 << 20,
        }
    }
}

/// An open link. Never used again: messages of a link that was replaced are recognised and ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub(crate) u64);

/// What came on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// One binary message: a sealed frame, if it is one.
    Frame(Bytes),
    /// One text message: a control message, if it is one.
    Text(String),
}

/// What happened to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A message came.
    Came(Incoming),
    /// Of all that was handed to the link, so many bytes have not left yet.
    Unsent(usize),
    /// The socket is closed.
    Closed,
}

/// What goes out on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// As one binary message.
    Frame(Bytes),
    /// As one text message.
    Text(String),
    /// Close the link; nothing follows.
    Close(Close),
}

impl Outgoing {
    /// Bytes that count as unsent until they have left.
    pub fn bytes(&self) -> usize {
        match self {
            Outgoing::Frame(frame) => frame.len(),
            Outgoing::Text(text) => text.len(),
            Outgoing::Close(_) => 0,
        }
    }
}

/// Why the relay closes a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The same peer opened another.
    Replaced,
    /// By order: the link or the room is no longer needed.
    Ordered,
    /// The peer did not read what was sent.
    Stuck,
    /// The relay stops, or failed.
    Stopped,
}

impl Close {
    /// One word, for the socket's closing message and for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Close::Replaced => "replaced",
            Close::Ordered => "ordered",
            Close::Stuck => "stuck",
            Close::Stopped => "stopped",
        }
    }
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send on a link, in this order.
    Send(Link, Outgoing),
    /// Tell whoever gave the orders.
    Event(Event),
}

/// Why the core wants to be called at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A link was ordered, and is to be there by then.
    Expected,
}

/// When [`Relay::handle_timeout`] is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// At the latest.
    pub at: Micros,
    /// What for: the first of several.
    pub why: Reason,
}

/// Nobody may attach with this token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Unknown,
    Full,
}

/// See the module.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    rooms: BTreeMap<Room, RoomState>,
    tokens: BTreeMap<Token, (Room, Node)>,
    links: BTreeMap<Link, (Room, Node)>,
    next_link: u64,
    outputs: VecDeque<Output>,
    counters: Counters,
}

#[derive(Debug)]
struct RoomState {
    node: Node,
    peers: BTreeMap<Node, Peer>,
}

#[derive(Debug)]
struct Peer {
    token: Token,
    link: Option<Link>,
}

impl Relay {
    /// A relay in no room.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            rooms: BTreeMap::new(),
            tokens: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Obeys an order.
    pub fn handle_command(&mut self, command: Command, _now: Micros) {
        match command {
            Command::Enter { room, node } => {
                self.rooms
                    .entry(room)
                    .or_insert_with(|| RoomState {
                        node,
                        peers: BTreeMap::new(),
                    })
                    .node = node;
            }
            Command::Leave { room } => {
                if let Some(state) = self.rooms.remove(&room) {
                    for peer in state.peers.into_values() {
                        self.end(peer);
                    }
                }
            }
            Command::Link { room, peer, token } => {
                let Some(state) = self.rooms.get_mut(&room) else {
                    return;
                };
                if let Some(known) = state.peers.get(&peer)
                    && known.token == token
                {
                    return;
                }
                let former = state.peers.insert(peer, Peer { token, link: None });
                self.tokens.insert(token, (room, peer));
                if let Some(former) = former {
                    self.end(former);
                }
            }
            Command::Unlink { room, peer } => {
                let state = self.rooms.get_mut(&room);
                if let Some(peer) = state.and_then(|state| state.peers.remove(&peer)) {
                    self.end(peer);
                }
            }
            Command::Feed { .. }
            | Command::Release { .. }
            | Command::Parent { .. }
            | Command::Forget { .. } => {}
        }
    }

    /// Opens a link. A second one with the same token replaces the first.
    pub(crate) fn attach(&mut self, token: Token, _now: Micros) -> Result<Link, Refused> {
        let Some(&(room, node)) = self.tokens.get(&token) else {
            self.counters.refused += 1;
            return Err(Refused::Unknown);
        };
        if self.links.len() >= self.settings.links {
            self.counters.refused += 1;
            return Err(Refused::Full);
        }
        let peer = self
            .rooms
            .get_mut(&room)
            .and_then(|state| state.peers.get_mut(&node));
        let Some(peer) = peer else {
            return Err(Refused::Unknown);
        };
        self.next_link += 1;
        let link = Link(self.next_link);
        if let Some(former) = peer.link.replace(link) {
            self.links.remove(&former);
            self.outputs
                .push_back(Output::Send(former, Outgoing::Close(Close::Replaced)));
        }
        self.links.insert(link, (room, node));
        self.outputs
            .push_back(Output::Event(Event::Up { room, peer: node }));
        Ok(link)
    }

    /// Takes what happened on a link.
    pub fn handle_input(&mut self, link: Link, input: Input, _now: Micros) {
        let Some(&(room, node)) = self.links.get(&link) else {
            return;
        };
        if input == Input::Closed {
            self.links.remove(&link);
            let state = self.rooms.get_mut(&room);
            if let Some(peer) = state.and_then(|state| state.peers.get_mut(&node)) {
                peer.link = None;
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Micros) {}

    /// What to do next; `None`: nothing until the next `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Relay::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    /// Sums and what is held.
    pub fn stats(&mut self, _now: Micros) -> Stats {
        Stats {
            counters: self.counters,
            size: Size {
                rooms: self.rooms.len(),
                peers: self.rooms.values().map(|room| room.peers.len()).sum(),
                links: self.links.len(),
                ..Size::default()
            },
            ..Stats::default()
        }
    }

    fn end(&mut self, peer: Peer) {
        self.tokens.remove(&peer.token);
        if let Some(link) = peer.link {
            self.links.remove(&link);
            self.outputs
                .push_back(Output::Send(link, Outgoing::Close(Close::Ordered)));
        }
    }
}

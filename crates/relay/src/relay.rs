//! The core: every room's links, streams and edges, without IO and without a clock.
//!
//! Time is microseconds since a moment of the caller's choice and never goes back. After each `handle_*` the caller polls
//! outputs until there are none, then waits until [`Relay::poll_timeout`] or the next input.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::command::{Command, Node, Room, Token};
use crate::common::{Common, Owner};
use crate::event::{Event, Size, Stats};
use crate::frame::MS;
use crate::link::LinkState;
use crate::overload::Shedding;
use crate::room::RoomState;

/// Microseconds since a moment of the caller's choice.
pub type Micros = u64;

/// The longest message that a link carries: no browser sends a larger one (Chromium's `max-message-size`).
pub const MAX_FRAME_BYTES: usize = 256 * 1024;

/// The longest sound: Opus has 1275 bytes at most for 20 ms, and a frame's header and seal take under 100.
pub(crate) const MAX_SOUND_BYTES: usize = 2048;

/// A relay that was stopped (a busy machine, a debugger) for longer than this did not hear its peers: that is no silence.
const STALL: Micros = 200 * MS;

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
    /// Something authentic came that is no message (yet): a part of one, or what the connection sends by itself. The link is
    /// not silent. More often than each 50 ms it says nothing new.
    Heard,
    /// Of all that was handed to the link, so many bytes have not left yet. By RTP: of pictures, when so much waits that no more
    /// are to come, and 0 when they may.
    Unsent(usize),
    /// By RTP: what the way to the peer carries, bit/s.
    Bandwidth(u64),
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
    /// A link is to be there by then.
    Expected,
    /// A heartbeat, or silence.
    Link,
    /// Pictures wait for a child, or its layers may change.
    Lane,
    /// A parent is to be told to begin, or to be heard no longer.
    Stream,
    /// Frames are missing.
    Repair,
    /// Key requests were merged and go up.
    Keys,
    /// Layers of a stream may begin or end.
    Layers,
    /// What a ring holds has grown old.
    Ring,
    /// A report.
    Report,
}

/// When [`Relay::handle_timeout`] is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// At the latest.
    pub at: Micros,
    /// What for: the first of several.
    pub why: Reason,
}

/// Why a link was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No order expects a link with this token (any more).
    Unknown,
    /// The relay has as many links as it may.
    Full,
    /// This link was opened too often.
    TooOften,
    /// The relay has too much to do to take anybody who was not here before.
    Overloaded,
}

/// See the module.
#[derive(Debug)]
pub struct Relay {
    rooms: BTreeMap<Room, RoomState>,
    tokens: BTreeMap<Token, (Room, Node)>,
    next_link: u64,
    common: Common,
    /// What is handled at the moment, should it fail.
    handled: Option<(Room, Option<Node>)>,
}

impl Relay {
    /// A relay in no room.
    pub fn new(settings: Settings) -> Self {
        Self {
            rooms: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_link: 0,
            common: Common::new(settings),
            handled: None,
        }
    }

    /// Obeys an order.
    pub fn handle_command(&mut self, command: Command, now: Micros) {
        self.obey(command, now);
        self.handled = None;
    }

    fn obey(&mut self, command: Command, now: Micros) {
        let common = &mut self.common;
        let id = command.room();
        self.handled = Some((id, None));
        if let Command::Enter { room, node } = command {
            let state = self
                .rooms
                .entry(room)
                .or_insert_with(|| RoomState::new(room, node));
            state.node = node;
            return;
        }
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        match command {
            // Descriptions are between the peer and whoever has the sockets.
            Command::Enter { .. } | Command::Offer { .. } => {}
            Command::Leave { .. } => self.leave(id, Close::Ordered),
            Command::Link { peer, token, .. } => {
                let former = room.link(peer, token, common, now);
                if let Some(former) = former {
                    self.tokens.remove(&former);
                }
                self.tokens.insert(token, (id, peer));
            }
            Command::Unlink { peer, .. } => {
                if let Some(token) = room.unlink(peer, common, now) {
                    self.tokens.remove(&token);
                }
            }
            Command::Feed {
                stream,
                child,
                layers,
                rate_bps,
                ..
            } => {
                room.feed(stream, child, layers, rate_bps, common, now);
            }
            Command::Release { stream, child, .. } => room.release(stream, child, common),
            Command::Parent {
                stream,
                parent,
                layers,
                ..
            } => {
                room.parent(stream, parent, layers, common, now);
            }
            Command::Backup {
                stream,
                parent,
                layers,
                ..
            } => {
                room.backup(stream, parent, layers, common, now);
            }
            Command::StandBy {
                stream,
                child,
                layers,
                rate_bps,
                ..
            } => {
                room.stand_by(stream, child, layers, rate_bps, common, now);
            }
            Command::Forget { stream, .. } => room.forget(stream, common),
        }
    }

    /// Opens the link that was ordered with this token. A second one replaces the first.
    pub fn handle_attach(&mut self, token: Token, now: Micros) -> Result<Link, Refused> {
        self.open(token, None, now)
    }

    /// The same by RTP, of which `bps` bit/s are believed to go out. What waits on the way is not told to the core; it hands
    /// out no more pictures than the estimate carries ([`Input::Bandwidth`]).
    pub fn handle_attach_rtp(
        &mut self,
        token: Token,
        bps: u64,
        now: Micros,
    ) -> Result<Link, Refused> {
        self.open(token, Some(bps), now)
    }

    fn open(&mut self, token: Token, rtp: Option<u64>, now: Micros) -> Result<Link, Refused> {
        let attached = self.attach(token, rtp, now);
        self.handled = None;
        if let Err(why) = attached {
            self.common.counters.refused += 1;
            self.common.counters.overloaded += u64::from(why == Refused::Overloaded);
            if matches!(why, Refused::Full | Refused::Overloaded)
                && let Some(&(room, peer)) = self.tokens.get(&token)
            {
                self.common.event(Event::Refused { room, peer, why });
            }
        }
        attached
    }

    fn attach(&mut self, token: Token, rtp: Option<u64>, now: Micros) -> Result<Link, Refused> {
        let &(id, node) = self.tokens.get(&token).ok_or(Refused::Unknown)?;
        self.handled = Some((id, Some(node)));
        let room = self.rooms.get_mut(&id).ok_or(Refused::Unknown)?;
        let former = room
            .peers
            .get(&node)
            .and_then(|peer| peer.link.as_ref())
            .map(|link| link.id);
        let newcomer = !room.knows(node);
        let peer = room.peers.get_mut(&node).ok_or(Refused::Unknown)?;
        if !peer.may_attach(now) {
            return Err(Refused::TooOften);
        }
        if former.is_none() && self.common.links.len() >= self.common.settings.links {
            return Err(Refused::Full);
        }
        if newcomer && self.common.overload.level() == Shedding::Newcomers {
            return Err(Refused::Overloaded);
        }
        self.next_link += 1;
        let link = Link(self.next_link);
        self.common.links.insert(link, (id, node));
        let stood = self.common.stood;
        let state = match rtp {
            None => LinkState::new(link, stood, now),
            Some(bps) => LinkState::by_rtp(link, bps, stood, now),
        };
        room.attach(node, state, &mut self.common, now);
        Ok(link)
    }

    /// Takes what happened on a link. A link that has ended is ignored.
    pub fn handle_input(&mut self, link: Link, input: Input, now: Micros) {
        self.take(link, input, now);
        self.handled = None;
    }

    fn take(&mut self, link: Link, input: Input, now: Micros) {
        let Some(&(id, node)) = self.common.links.get(&link) else {
            return;
        };
        self.handled = Some((id, Some(node)));
        let common = &mut self.common;
        let Some(room) = self.rooms.get_mut(&id).filter(|room| room.has(node, link)) else {
            common.links.remove(&link);
            return;
        };
        match input {
            Input::Came(Incoming::Frame(sealed)) => room.frame(node, sealed, common, now),
            Input::Came(Incoming::Text(text)) => room.text(node, &text, common, now),
            Input::Heard => room.heard(node, common, now),
            Input::Unsent(bytes) => room.unsent(node, bytes, common, now),
            Input::Bandwidth(bps) => room.estimated(node, bps, common, now),
            Input::Closed => room.close(node, None, common, now),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Micros) {
        let late = self
            .common
            .deadlines
            .first()
            .map_or(0, |first| now.saturating_sub(first.at));
        if late > STALL {
            self.common.stood += late;
        }
        while let Some((_, owner)) = self.common.deadlines.pop(now) {
            let (Owner::Peer(id, _) | Owner::Stream(id, _) | Owner::Room(id)) = owner;
            self.handled = Some((id, None));
            let Some(room) = self.rooms.get_mut(&id) else {
                continue;
            };
            match owner {
                Owner::Peer(_, node) => {
                    room.tend_peer(node, &mut self.common, now);
                }
                Owner::Stream(_, key) => room.tend_stream(key, &mut self.common, now),
                Owner::Room(_) => room.report(&mut self.common, now),
            }
        }
        self.handled = None;
    }

    /// Takes the share of its time (0..=1) in which whoever drives the relay was busy over the last second, and sheds or
    /// gives back: to be called once a second. What leaves here is measured here; of a relay with other parts the share of the
    /// egress that all use may be the larger one.
    pub fn handle_load(&mut self, busy: f64, now: Micros) {
        let common = &mut self.common;
        let sent = common.sent.bps(now) as f64;
        let egress = sent / common.settings.egress_bps.max(1) as f64;
        let more = common.overload.note(busy.max(egress), now);
        let level = common.overload.level();
        if more {
            for (&id, room) in &mut self.rooms {
                self.handled = Some((id, None));
                room.shed(level.keeps(), common, now);
            }
        } else if let Some(mut spare) = common.overload.spare(sent, now) {
            let mut all = true;
            for (&id, room) in &mut self.rooms {
                self.handled = Some((id, None));
                all &= room.ease(&mut spare, common, now);
            }
            common.overload.holding = !all;
        }
    }

    /// Would a link of this peer be refused, because the relay has too much to do?
    pub fn is_refusing(&self, room: Room, peer: Node) -> bool {
        let known = self.rooms.get(&room).is_some_and(|room| room.knows(peer));
        !known && self.common.overload.level() == Shedding::Newcomers
    }

    /// What to do next; `None`: nothing until the next `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.common.poll()
    }

    /// When to call [`Relay::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.common.deadlines.first()
    }

    /// Gives up what was being handled when a `handle_*` did not return: a link's own message costs the link, anything else
    /// the room. The others go on. When they all returned it costs nobody anything.
    pub(crate) fn abandon(&mut self, now: Micros) {
        let Some((id, node)) = self.handled.take() else {
            return;
        };
        if let Some(node) = node
            && let Some(room) = self.rooms.get_mut(&id)
        {
            room.close(node, Some(Close::Stopped), &mut self.common, now);
            return;
        }
        if self.rooms.contains_key(&id) {
            self.leave(id, Close::Stopped);
            self.common.event(Event::Left { room: id });
        }
    }

    /// From now on so many links may be open at a time.
    pub fn set_links(&mut self, links: usize) {
        self.common.settings.links = links;
    }

    /// From now on so many bit/s may leave in all.
    pub fn set_egress(&mut self, bps: u64) {
        self.common.set_egress(bps);
    }

    /// Links that are open.
    pub(crate) fn links(&self) -> usize {
        self.common.links.len()
    }

    /// Bytes handed to links since the beginning.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.common.counters.bytes_sent
    }

    /// The caps.
    pub fn settings(&self) -> Settings {
        self.common.settings
    }

    /// What opens the link that is expected from a peer.
    pub fn token(&self, room: Room, peer: Node) -> Option<Token> {
        self.rooms.get(&room)?.peers.get(&peer)?.token
    }

    /// Whose link this token opens.
    pub(crate) fn holder(&self, token: Token) -> Option<(Room, Node)> {
        self.tokens.get(&token).copied()
    }

    /// Streams that a peer is to get, and the bit/s that they may take in all.
    pub fn demand(&self, room: Room, peer: Node) -> (usize, u64) {
        let peer = self.rooms.get(&room).and_then(|room| room.peers.get(&peer));
        peer.map_or((0, 0), |peer| {
            let rates = peer.edges.values().map(|edge| edge.lane.rate_bps());
            (peer.edges.len(), rates.sum())
        })
    }

    /// Sums and what is held.
    pub fn stats(&mut self, now: Micros) -> Stats {
        let mut size = Size {
            rooms: self.rooms.len(),
            links: self.common.links.len(),
            ..Size::default()
        };
        for room in self.rooms.values_mut() {
            size.peers += room.peers.len();
            size.streams += room.streams.len();
            for peer in room.peers.values_mut() {
                peer.count_drops(&mut self.common);
                size.edges += peer.edges.len();
                let held = peer.edges.values().filter(|edge| edge.held.is_some());
                size.held += held.count();
                size.queued_bytes += peer
                    .edges
                    .values()
                    .map(|edge| edge.lane.bytes())
                    .sum::<usize>();
                size.queued_bytes += peer.link.as_ref().map_or(0, |link| link.queued());
            }
            for stream in room.streams.values() {
                size.ring_bytes += stream.ring.bytes();
                size.ring_frames += stream.ring.frames();
                size.missing += stream.audio.pending();
                size.missing += stream
                    .video
                    .iter()
                    .flatten()
                    .map(|gaps| gaps.pending())
                    .sum::<usize>();
            }
        }
        Stats {
            counters: self.common.counters,
            size,
            sent_bps: self.common.sent.bps(now),
            received_bps: self.common.received.bps(now),
            shedding: self.common.overload.level(),
            load_permille: (self.common.overload.load() * 1000.0) as u32,
        }
    }

    fn leave(&mut self, id: Room, why: Close) {
        let Some(room) = self.rooms.remove(&id) else {
            return;
        };
        for token in room.leave(&mut self.common, why) {
            self.tokens.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_peers() -> (Relay, [Link; 2]) {
        let mut relay = Relay::new(Settings::default());
        relay.handle_command(Command::Enter { room: 1, node: 9 }, 0);
        let links = [1, 2].map(|peer| {
            let token = Token([peer as u8; 16]);
            relay.handle_command(
                Command::Link {
                    room: 1,
                    peer,
                    token,
                },
                0,
            );
            relay.handle_attach(token, 0).expect("ordered")
        });
        while relay.poll_output().is_some() {}
        (relay, links)
    }

    #[test]
    fn a_message_whose_handling_fails_costs_its_own_link_only() {
        let (mut relay, [first, _]) = two_peers();
        relay.handled = Some((1, Some(1)));
        relay.abandon(0);
        assert_eq!(
            relay.poll_output(),
            Some(Output::Send(first, Outgoing::Close(Close::Stopped)))
        );
        assert_eq!(relay.poll_output(), None);
        assert_eq!(relay.stats(0).size.links, 1);
    }

    #[test]
    fn a_deadline_whose_handling_fails_costs_its_own_room_only_and_the_owner_is_told_to_enter_it_anew()
     {
        let (mut relay, links) = two_peers();
        relay.handle_command(Command::Enter { room: 2, node: 9 }, 0);
        relay.handled = Some((1, None));
        relay.abandon(1000 * MS);
        let outputs: Vec<_> = std::iter::from_fn(|| relay.poll_output()).collect();
        let closed = |link| Output::Send(link, Outgoing::Close(Close::Stopped));
        assert_eq!(
            outputs,
            [
                closed(links[0]),
                closed(links[1]),
                Output::Event(Event::Left { room: 1 })
            ]
        );
        assert_eq!(
            relay.stats(0).size,
            Size {
                rooms: 1,
                ..Size::default()
            }
        );
    }

    #[test]
    fn what_was_handled_to_its_end_is_not_given_up_for_what_fails_later() {
        let (mut relay, [first, _]) = two_peers();
        relay.handle_input(first, Input::Unsent(0), 0);
        relay.abandon(0);
        relay.handle_timeout(1000 * MS);
        while relay.poll_output().is_some() {}
        relay.abandon(1000 * MS);
        relay.handle_command(Command::Enter { room: 1, node: 9 }, 0);
        relay.abandon(1000 * MS);
        assert!(relay.handle_attach(Token([7; 16]), 0).is_err());
        relay.abandon(1000 * MS);
        assert_eq!(relay.poll_output(), None);
        assert_eq!(relay.stats(0).size.links, 2);
    }
}

//! One room at this relay: its peers, its streams, and what orders, frames and control messages do to them. What the clock does
//! stands in `tend`.
//!
//! Streams and edges exist by order only; nothing that a peer sends allocates one. A frame counts only when it comes from the
//! stream's parent, or from the former parent while the new one has yet to deliver. It goes to the children before anything
//! else happens to it, as the very bytes that came.

use std::collections::BTreeMap;

use bytes::Bytes;
use grove_frame::Header;

use crate::command::{Layers, Node, Room, Stream, Token};
use crate::common::{Common, Owner, Timer};
use crate::control::{Control, Have, MAX_NUMBERS};
use crate::event::Event;
use crate::frame::{Frame, MS, Track, track};
use crate::gaps::Verdict;
use crate::lane::Lane;
use crate::link::{Heard, LinkState};
use crate::relay::{Close, Link, MAX_FRAME_BYTES, Micros, Reason};
use crate::stream::{Edge, GRACE, Parent, StreamState};

/// `take`s remembered for edges that are not ordered yet, per peer.
const MAX_TAKES: usize = 256;
/// How long a link that was ordered may take to open. As long as browsers try.
const OPEN_WITHIN: Micros = 15_000 * MS;
/// How long a peer whose socket has closed may take to come back before it counts as lost.
const BACK_WITHIN: Micros = 500 * MS;
/// How often edges are looked at for layers to begin or end, while frames come.
const CHOOSE: Micros = 100 * MS;
/// A lane that falls back gets the ring of the lower layer only up to this multiple of its key frame.
const SMALL_REPLAY: usize = 2;
/// How soon a queue that holds something is looked at again.
const LOOK: Micros = 10 * MS;

/// The other end of a link that is ordered, or of an edge whose link is not ordered yet.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub token: Option<Token>,
    pub link: Option<LinkState>,
    /// What it gets from us.
    pub edges: BTreeMap<Stream, Edge>,
    takes: BTreeMap<Stream, Vec<Have>>,
    /// It is to be there by then, else it is lost.
    pub expected_by: Option<Micros>,
    /// The link was open once.
    pub was_up: bool,
    pub timer: Timer,
}

impl Peer {
    /// Hands over pictures while the socket has none: the frame that waited longest among lanes that may send.
    pub(crate) fn pump(&mut self, common: &mut Common, now: Micros) {
        let Some(link) = &mut self.link else {
            return;
        };
        while link.drained(now) {
            let mut next: Option<(Micros, &mut Lane)> = None;
            for edge in self.edges.values_mut() {
                if let Some(at) = edge.lane.ready(now)
                    && next.as_ref().is_none_or(|(oldest, _)| at < *oldest)
                {
                    next = Some((at, &mut edge.lane));
                }
            }
            let Some((_, lane)) = next.filter(|_| common.may_send(now)) else {
                return;
            };
            let Some(sealed) = lane.take(now) else {
                return;
            };
            link.video(sealed, common, now);
        }
    }

    pub(crate) fn control(&mut self, message: &Control, common: &mut Common, now: Micros) -> bool {
        if let Some(link) = &mut self.link {
            link.control(message, common, now);
        }
        self.link.is_some()
    }

    pub(crate) fn count_drops(&mut self, common: &mut Common) {
        for edge in self.edges.values_mut() {
            edge.count_drops(common);
        }
    }
}

impl Edge {
    fn count_drops(&mut self, common: &mut Common) {
        common.counters.frames_dropped += std::mem::take(&mut self.lane.gate.frames_dropped);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RoomState {
    pub id: Room,
    /// Our own number.
    pub node: Node,
    pub peers: BTreeMap<Node, Peer>,
    pub streams: BTreeMap<Stream, StreamState>,
    pub timer: Timer,
}

impl RoomState {
    pub(crate) fn new(id: Room, node: Node) -> Self {
        Self {
            id,
            node,
            peers: BTreeMap::new(),
            streams: BTreeMap::new(),
            timer: Timer::default(),
        }
    }

    // --- links ---

    /// Expects a link. The former token, if it was another: void from now on.
    pub(crate) fn link(
        &mut self,
        node: Node,
        token: Token,
        common: &mut Common,
        now: Micros,
    ) -> Option<Token> {
        let peer = self.peers.entry(node).or_default();
        if peer.token == Some(token) {
            return None;
        }
        let former = peer.token.replace(token);
        peer.expected_by = Some(now + OPEN_WITHIN);
        peer.was_up = false;
        self.close(node, Some(Close::Ordered), common, now);
        self.wake_peer(node, now + OPEN_WITHIN, Reason::Expected, common);
        former
    }

    /// Expects no link any more. Its token.
    pub(crate) fn unlink(&mut self, node: Node, common: &mut Common, now: Micros) -> Option<Token> {
        self.close(node, Some(Close::Ordered), common, now);
        let peer = self.peers.get_mut(&node)?;
        peer.expected_by = None;
        let token = peer.token.take();
        self.drop_idle_peer(node, common);
        token
    }

    pub(crate) fn attach(&mut self, node: Node, id: Link, common: &mut Common, now: Micros) {
        self.close(node, Some(Close::Replaced), common, now);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.link = Some(LinkState::new(id, common.stood, now));
        peer.expected_by = None;
        peer.was_up = true;
        for edge in peer.edges.values_mut() {
            edge.since = now;
        }
        common.event(Event::Up {
            room: self.id,
            peer: node,
        });
        self.wake_peer(node, now, Reason::Link, common);
        for stream in self.streams.values_mut() {
            if let Some(parent) = stream.parent_mut(node) {
                parent.taken = false;
                let owner = Owner::Stream(self.id, stream.key);
                common
                    .deadlines
                    .wake(&mut stream.timer, owner, now, Reason::Stream);
            }
        }
        let owner = Owner::Room(self.id);
        common
            .deadlines
            .wake(&mut self.timer, owner, now + 1000 * MS, Reason::Report);
    }

    /// Is this the peer's open link?
    pub(crate) fn has(&self, node: Node, link: Link) -> bool {
        let open = self.peers.get(&node).and_then(|peer| peer.link.as_ref());
        open.is_some_and(|open| open.id == link)
    }

    /// So many bytes of what the link was given have not left.
    pub(crate) fn unsent(&mut self, node: Node, bytes: usize, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let lanes = peer.edges.len();
        if let Some(link) = &mut peer.link {
            link.unsent(bytes, lanes, now);
        }
        peer.pump(common, now);
    }

    /// The peer has no open link any more; `why` is told to a socket that is still there.
    pub(crate) fn close(
        &mut self,
        node: Node,
        why: Option<Close>,
        common: &mut Common,
        now: Micros,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(link) = peer.link.take() else {
            return;
        };
        for edge in peer.edges.values_mut() {
            edge.count_drops(common);
            edge.reset(now);
        }
        peer.takes.clear();
        common.close(link.id, why);
        if peer.token.is_some() && peer.was_up && !link.silence_reported() {
            peer.expected_by = Some(now + BACK_WITHIN);
            self.wake_peer(node, now + BACK_WITHIN, Reason::Expected, common);
        }
    }

    // --- orders about streams ---

    pub(crate) fn feed(
        &mut self,
        key: Stream,
        child: Node,
        layers: Layers,
        rate_bps: u64,
        common: &mut Common,
        now: Micros,
    ) {
        if child == self.node {
            return;
        }
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| StreamState::new(key));
        let peer = self.peers.entry(child).or_default();
        let cap = common.settings.queue_bytes;
        let edge = peer
            .edges
            .entry(key)
            .or_insert_with(|| Edge::new(layers, Lane::new(rate_bps, cap, now), now));
        edge.layers = layers;
        edge.lane.set_rate(rate_bps, now);
        if let Err(at) = stream.children.binary_search(&child) {
            stream.children.insert(at, child);
        }
        if edge.started {
            choose(stream, peer, common, now);
        } else if let Some(have) = peer.takes.get(&key).cloned() {
            begin(stream, peer, &have, common, now);
        }
        self.flush_keys(key, common, now);
        self.wake_peer(child, now, Reason::Lane, common);
    }

    pub(crate) fn release(&mut self, key: Stream, child: Node, common: &mut Common) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.children.retain(|&node| node != child);
        }
        if let Some(peer) = self.peers.get_mut(&child) {
            if let Some(mut edge) = peer.edges.remove(&key) {
                edge.count_drops(common);
            }
            peer.takes.remove(&key);
        }
        self.drop_idle_peer(child, common);
        self.drop_idle_stream(key, common);
    }

    /// From now on the stream comes from `node`; the former parent is heard until the new one has delivered.
    pub(crate) fn parent(
        &mut self,
        key: Stream,
        node: Option<Node>,
        layers: Layers,
        common: &mut Common,
        now: Micros,
    ) {
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| StreamState::new(key));
        stream.expected = layers;
        if stream.parent.as_ref().map(|parent| parent.node) != node {
            let former = stream.parent.take();
            if stream.previous.is_none() || former.as_ref().is_some_and(|parent| parent.ready) {
                stream.previous = former;
            }
            stream.previous_until = None;
            stream.untold();
            // Back to the one that we were just leaving: it has never stopped being good.
            if stream
                .previous
                .as_ref()
                .is_some_and(|previous| Some(previous.node) == node)
            {
                stream.previous = None;
            }
            stream.parent = node.map(Parent::new);
            if node.is_some() {
                for gaps in stream.video.iter_mut().flatten() {
                    gaps.reparent(now);
                }
            }
            self.take(key, common, now);
        }
        self.wake_stream(key, now, Reason::Stream, common);
        self.drop_idle_stream(key, common);
    }

    pub(crate) fn forget(&mut self, key: Stream, common: &mut Common) {
        let Some(mut stream) = self.streams.remove(&key) else {
            return;
        };
        common
            .deadlines
            .set(&mut stream.timer, Owner::Stream(self.id, key), None);
        for child in stream.children {
            self.release(key, child, common);
        }
    }

    /// Everything ends. The tokens that are void now.
    pub(crate) fn leave(mut self, common: &mut Common, why: Close) -> Vec<Token> {
        common
            .deadlines
            .set(&mut self.timer, Owner::Room(self.id), None);
        for (&key, stream) in &mut self.streams {
            common
                .deadlines
                .set(&mut stream.timer, Owner::Stream(self.id, key), None);
        }
        let mut void = Vec::new();
        for (&node, peer) in &mut self.peers {
            common
                .deadlines
                .set(&mut peer.timer, Owner::Peer(self.id, node), None);
            peer.count_drops(common);
            if let Some(link) = &peer.link {
                common.close(link.id, Some(why));
            }
            void.extend(peer.token);
        }
        void
    }

    // --- frames ---

    /// A binary message came.
    pub(crate) fn frame(&mut self, from: Node, sealed: Bytes, common: &mut Common, now: Micros) {
        let Some(link) = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.link.as_mut())
        else {
            return;
        };
        link.frame_came(sealed.len(), common, now);
        let counters = &mut common.counters;
        if sealed.len() > MAX_FRAME_BYTES {
            counters.oversized += 1;
            return;
        }
        let Some(header) = Header::decode(&sealed) else {
            counters.malformed += 1;
            return;
        };
        if header.sender == self.node {
            counters.looped += 1;
            return;
        }
        let Some(track) = track(&header) else {
            counters.foreign += 1;
            return;
        };
        let key = Stream::new(header.sender, header.stream);
        let stream = self
            .streams
            .get_mut(&key)
            .filter(|stream| stream.may_deliver(from));
        let Some(stream) = stream else {
            counters.stray += 1;
            return;
        };
        stream.rate.add(sealed.len(), now);
        if stream.arrive(track, &header, now) == Verdict::Duplicate {
            counters.duplicates += 1;
        } else {
            counters.frames_received += 1;
            stream.delay.sample(header.capture_us, now);
            let frame = Frame {
                header,
                sealed,
                at: now,
            };
            match track {
                Track::Audio => {
                    forward_sound(self.id, stream, &mut self.peers, &frame, common, now)
                }
                Track::Video => {
                    forward_picture(self.id, stream, &mut self.peers, &frame, common, now);
                    stream.keep(&frame);
                    // A key frame may be what a lane waited for to let the lower layer go.
                    let wait = if header.is_key() { 0 } else { CHOOSE };
                    stream.choose_at =
                        Some(stream.choose_at.map_or(now + wait, |at| at.min(now + wait)));
                }
            }
            let owner = Owner::Stream(self.id, key);
            let next = stream.next(now);
            if let Some((at, why)) = next {
                common.deadlines.wake(&mut stream.timer, owner, at, why);
            }
        }
        self.delivered(key, from, track, &header, common, now);
    }

    /// Has a parent begun to deliver?
    fn delivered(
        &mut self,
        key: Stream,
        from: Node,
        track: Track,
        header: &Header,
        common: &mut Common,
        now: Micros,
    ) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if stream.parent_mut(from).is_none_or(|parent| parent.ready)
            || !stream.usable(from, track, header, now)
        {
            return;
        }
        if let Some(parent) = stream.parent_mut(from) {
            parent.ready = true;
        }
        if stream
            .parent
            .as_ref()
            .is_some_and(|parent| parent.node == from)
        {
            stream.previous_until = Some(now + GRACE);
        }
        common.event(Event::Ready {
            room: self.id,
            stream: key,
            parent: from,
        });
        self.wake_stream(key, now, Reason::Stream, common);
    }

    // --- control ---

    /// A text message came.
    pub(crate) fn text(&mut self, from: Node, text: &str, common: &mut Common, now: Micros) {
        let Some(link) = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.link.as_mut())
        else {
            return;
        };
        let Heard::Message(message) = link.text_came(text, common, now) else {
            return;
        };
        match message {
            Control::Beat { .. } => {}
            Control::Take { s, have } => self.took(from, s, have, common, now),
            Control::Key { s, l } => {
                if let Some(edge) = self.edge(from, s, l, common)
                    && edge.may_ask_key(now)
                    && let Some(stream) = self.streams.get_mut(&s)
                {
                    stream.keys.request(l);
                    self.flush_keys(s, common, now);
                    self.wake_stream(s, now, Reason::Keys, common);
                }
            }
            Control::Need { s, l, n } => {
                if self.edge(from, s, l, common).is_some() {
                    self.answer(from, s, l, &n, common, now);
                }
            }
            Control::Miss { s, l, n } => {
                if let Some(stream) = self.delivering(from, s, common) {
                    if let Some(gaps) = stream.gaps_mut(l) {
                        gaps.miss(&n, now);
                    }
                    self.wake_stream(s, now, Reason::Repair, common);
                }
            }
            Control::Tip { s, l, g, n } => {
                if let Some(stream) = self.delivering(from, s, common) {
                    if let Some(gaps) = stream.gaps_mut(l) {
                        gaps.tip(g, n, now);
                    }
                    self.wake_stream(s, now + LOOK, Reason::Repair, common);
                }
            }
            Control::Layers { s, l } => {
                if let Some(stream) = self.delivering(from, s, common) {
                    stream.told(l);
                    self.choose_all(s, common, now);
                }
            }
        }
    }

    fn took(&mut self, from: Node, key: Stream, have: Vec<Have>, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.edges.contains_key(&key)
            && let Some(stream) = self.streams.get_mut(&key)
        {
            begin(stream, peer, &have, common, now);
            self.flush_keys(key, common, now);
            self.wake_peer(from, now + LOOK, Reason::Lane, common);
        }
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.takes.len() < MAX_TAKES || peer.takes.contains_key(&key) {
            peer.takes.insert(key, have);
        }
    }

    /// The edge over which a child may speak of this layer. `None` counts.
    fn edge(
        &mut self,
        from: Node,
        key: Stream,
        layer: u8,
        common: &mut Common,
    ) -> Option<&mut Edge> {
        let edge = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.edges.get_mut(&key));
        let edge = edge
            .filter(|edge| edge.layers.contains(layer) || edge.lane.gate.layers().contains(layer));
        if edge.is_none() {
            common.counters.misplaced += 1;
        }
        edge
    }

    /// The stream of which this peer delivers at present. `None` when it is not its parent (counted), or another is ahead.
    fn delivering(
        &mut self,
        from: Node,
        key: Stream,
        common: &mut Common,
    ) -> Option<&mut StreamState> {
        let Some(stream) = self
            .streams
            .get_mut(&key)
            .filter(|stream| stream.may_deliver(from))
        else {
            common.counters.misplaced += 1;
            return None;
        };
        (source(stream, &self.peers) == Some(from)).then_some(stream)
    }

    fn answer(
        &mut self,
        from: Node,
        key: Stream,
        layer: u8,
        numbers: &[u32],
        common: &mut Common,
        now: Micros,
    ) {
        let (Some(stream), Some(peer)) = (self.streams.get(&key), self.peers.get_mut(&from)) else {
            return;
        };
        let Some(edge) = peer.edges.get_mut(&key) else {
            return;
        };
        let mut gone = Vec::new();
        for &n in numbers {
            match stream.ring.get(layer, n) {
                // A droppable frame left out on purpose is not worth the link that had no room for it.
                Some(frame) if frame.header.droppable => {}
                Some(frame) => {
                    common.counters.frames_resent += u64::from(edge.lane.resend(frame, now))
                }
                None if stream.gaps(layer).is_some_and(|gaps| gaps.awaits(n)) => {}
                None => gone.push(n),
            }
        }
        if !gone.is_empty() {
            peer.control(
                &Control::Miss {
                    s: key,
                    l: layer,
                    n: gone,
                },
                common,
                now,
            );
        }
        peer.pump(common, now);
        self.wake_peer(from, now + LOOK, Reason::Lane, common);
    }

    // --- what both orders and the clock use ---

    /// Tells the parent to begin, once the link is up.
    pub(crate) fn take(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let have = match &stream.parent {
            Some(parent) if !parent.taken => stream.have(),
            _ => return,
        };
        if let Some(parent) = &mut stream.parent
            && let Some(peer) = self.peers.get_mut(&parent.node)
        {
            parent.taken = peer.control(&Control::Take { s: key, have }, common, now);
        }
    }

    /// Sends key requests up that are due.
    pub(crate) fn flush_keys(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let source = source(stream, &self.peers);
        let Some(peer) = source.and_then(|node| self.peers.get_mut(&node)) else {
            return;
        };
        for layer in stream.keys.due(now).iter() {
            if peer.control(&Control::Key { s: key, l: layer }, common, now) {
                stream.keys.sent(layer, now);
                common.counters.key_requests += 1;
            }
        }
    }

    /// Brings all edges of a stream in line with what is there and fits.
    pub(crate) fn choose_all(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        stream.choose_at = None;
        let children = std::mem::take(&mut stream.children);
        for child in &children {
            if let Some(peer) = self.peers.get_mut(child)
                && choose(stream, peer, common, now)
            {
                let owner = Owner::Peer(self.id, *child);
                common
                    .deadlines
                    .wake(&mut peer.timer, owner, now + LOOK, Reason::Lane);
            }
        }
        stream.children = children;
        self.flush_keys(key, common, now);
    }

    /// Tells the children which frames will not come.
    pub(crate) fn tell_lost(
        &mut self,
        key: Stream,
        layer: u8,
        numbers: &[u32],
        common: &mut Common,
        now: Micros,
    ) {
        let Some(stream) = self.streams.get(&key) else {
            return;
        };
        for child in &stream.children {
            let Some(peer) = self.peers.get_mut(child) else {
                continue;
            };
            let gets = peer
                .edges
                .get(&key)
                .is_some_and(|edge| edge.lane.gate.layers().contains(layer));
            for n in numbers.chunks(MAX_NUMBERS).filter(|_| gets) {
                peer.control(
                    &Control::Miss {
                        s: key,
                        l: layer,
                        n: n.to_vec(),
                    },
                    common,
                    now,
                );
            }
        }
    }

    pub(crate) fn wake_peer(&mut self, node: Node, at: Micros, why: Reason, common: &mut Common) {
        if let Some(peer) = self.peers.get_mut(&node) {
            common
                .deadlines
                .wake(&mut peer.timer, Owner::Peer(self.id, node), at, why);
        }
    }

    pub(crate) fn wake_stream(
        &mut self,
        key: Stream,
        at: Micros,
        why: Reason,
        common: &mut Common,
    ) {
        if let Some(stream) = self.streams.get_mut(&key) {
            common
                .deadlines
                .wake(&mut stream.timer, Owner::Stream(self.id, key), at, why);
        }
    }

    fn drop_idle_peer(&mut self, node: Node, common: &mut Common) {
        let idle =
            |peer: &Peer| peer.token.is_none() && peer.link.is_none() && peer.edges.is_empty();
        if self.peers.get(&node).is_some_and(idle)
            && let Some(mut peer) = self.peers.remove(&node)
        {
            common
                .deadlines
                .set(&mut peer.timer, Owner::Peer(self.id, node), None);
        }
    }

    /// A stream without parent and children is of no use.
    fn drop_idle_stream(&mut self, key: Stream, common: &mut Common) {
        let idle =
            |s: &StreamState| s.parent.is_none() && s.previous.is_none() && s.children.is_empty();
        if self.streams.get(&key).is_some_and(idle) {
            self.forget(key, common);
        }
    }
}

/// Who delivers at present: the new parent once it has begun, before that the former one if there is one.
pub(crate) fn source(stream: &StreamState, peers: &BTreeMap<Node, Peer>) -> Option<Node> {
    let parent = stream.parent.as_ref();
    if let Some(parent) = parent.filter(|parent| parent.ready) {
        return Some(parent.node);
    }
    let open = |parent: &&Parent| {
        peers
            .get(&parent.node)
            .is_some_and(|peer| peer.link.is_some())
    };
    let previous = stream.previous.as_ref().filter(open);
    previous.or(parent).map(|parent| parent.node)
}

/// Sound: at once, ahead of whatever waits.
fn forward_sound(
    room: Room,
    stream: &StreamState,
    peers: &mut BTreeMap<Node, Peer>,
    frame: &Frame,
    common: &mut Common,
    now: Micros,
) {
    for child in &stream.children {
        let Some(peer) = peers.get_mut(child) else {
            continue;
        };
        let started = peer.edges.get(&stream.key).is_some_and(|edge| edge.started);
        let lanes = peer.edges.len();
        let Some(link) = peer.link.as_mut().filter(|_| started) else {
            continue;
        };
        if !link.audio(frame.sealed.clone(), lanes, common, now) {
            common.counters.frames_dropped += 1;
        }
        // Sound that stands is to be seen in time.
        if link.stands() {
            common.deadlines.wake(
                &mut peer.timer,
                Owner::Peer(room, *child),
                now + LOOK,
                Reason::Lane,
            );
        }
    }
}

/// A picture: the gate of each child decides, its queue takes it, and it leaves if the socket is free.
fn forward_picture(
    room: Room,
    stream: &StreamState,
    peers: &mut BTreeMap<Node, Peer>,
    frame: &Frame,
    common: &mut Common,
    now: Micros,
) {
    for child in &stream.children {
        let Some(peer) = peers.get_mut(child) else {
            continue;
        };
        let Some(edge) = peer.edges.get_mut(&stream.key).filter(|edge| edge.started) else {
            continue;
        };
        edge.lane.offer(frame, now);
        peer.pump(common, now);
        if peer
            .edges
            .get(&stream.key)
            .is_some_and(|edge| edge.lane.bytes() > 0)
        {
            common.deadlines.wake(
                &mut peer.timer,
                Owner::Peer(room, *child),
                now + LOOK,
                Reason::Lane,
            );
        }
    }
}

/// Begins an edge: what the child says to have decides where.
pub(crate) fn begin(
    stream: &mut StreamState,
    peer: &mut Peer,
    have: &[Have],
    common: &mut Common,
    now: Micros,
) {
    let Some(edge) = peer.edges.get_mut(&stream.key) else {
        return;
    };
    edge.started = true;
    for layer in 0..Layers::MAX {
        edge.lane.stop(layer);
    }
    for layer in stream.choose(edge.layers, edge.lane.gate.ceiling).iter() {
        let have = have.iter().find(|have| have.layer == layer);
        let rest =
            have.and_then(|have| stream.ring.after(layer, have.generation, have.number, now));
        edge.lane
            .start(layer, rest.or_else(|| stream.ring.replay(layer, now)), now);
    }
    for layer in edge.lane.gate.wants_key(true, now).iter() {
        stream.keys.request(layer);
    }
    tell(stream.key, peer, common, now);
    peer.pump(common, now);
}

/// Brings an edge's layers in line with what is there and fits. True when they changed.
pub(crate) fn choose(
    stream: &mut StreamState,
    peer: &mut Peer,
    common: &mut Common,
    now: Micros,
) -> bool {
    let Some(edge) = peer.edges.get_mut(&stream.key).filter(|edge| edge.started) else {
        return false;
    };
    let lane = &mut edge.lane;
    let before = lane.gate.layers();
    let target = stream.choose(edge.layers, lane.gate.ceiling);
    for layer in target.iter().filter(|&layer| !before.contains(layer)) {
        lane.start(layer, opening(stream, lane, layer, now), now);
    }
    // On the way up the lower layer goes on until the higher one has its key frame.
    let climbing = target.iter().any(|layer| lane.gate.waits(layer));
    for layer in before.iter().filter(|&layer| !target.contains(layer)) {
        if !(climbing && target.top().is_some_and(|top| layer < top)) {
            lane.stop(layer);
        }
    }
    let changed = lane.gate.layers() != before;
    if changed {
        tell(stream.key, peer, common, now);
        peer.pump(common, now);
    }
    changed
}

/// What a layer begins with in the middle of a stream. On a link that has just proved too narrow, no long burst.
fn opening(stream: &StreamState, lane: &Lane, layer: u8, now: Micros) -> Option<Vec<Frame>> {
    let replay = stream.ring.replay(layer, now)?;
    let key = replay.first()?.sealed.len();
    let bytes: usize = replay.iter().map(|frame| frame.sealed.len()).sum();
    (lane.gate.ceiling.is_none() || bytes <= SMALL_REPLAY * key).then_some(replay)
}

fn tell(key: Stream, peer: &mut Peer, common: &mut Common, now: Micros) {
    let (Some(link), Some(edge)) = (&mut peer.link, peer.edges.get_mut(&key)) else {
        return;
    };
    let layers = edge.lane.gate.layers();
    if edge.told != Some(layers) {
        edge.told = Some(layers);
        link.control(&Control::Layers { s: key, l: layers }, common, now);
    }
}

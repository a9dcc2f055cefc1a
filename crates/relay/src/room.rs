//! One room at this relay: its peers, its streams, and what orders and frames do to them. What peers say stands in `talk`, what
//! the clock does in `tend`.
//!
//! Streams and edges exist by order only; nothing that a peer sends allocates one. A frame counts only when it comes from the
//! stream's parent, or from the former parent while the new one has yet to deliver. It goes to the children before anything
//! else happens to it, as the very bytes that came.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use grove_frame::Header;

use crate::backup::Backup;
use crate::command::{Layers, Node, Room, Stream, Token};
use crate::common::{Common, Owner, Timer};
use crate::control::{Control, Have, MAX_NUMBERS};
use crate::edges::{begin, choose, forward_picture, forward_sound, source};
use crate::event::Event;
use crate::frame::{Frame, MS, Track, track};
use crate::gaps::Verdict;
use crate::lane::Lane;
use crate::link::LinkState;
use crate::meter::Bucket;
use crate::relay::{Close, Link, MAX_FRAME_BYTES, MAX_SOUND_BYTES, Micros, Reason};
use crate::stream::{Edge, GRACE, Parent, SOUND_HEADERS, StreamState};
use crate::tend::Fitted;

/// How long a link that was ordered may take to open. As long as browsers try.
const OPEN_WITHIN: Micros = 15_000 * MS;
/// How long a peer whose socket has closed may take to come back before it counts as lost.
const BACK_WITHIN: Micros = 500 * MS;
/// How often a peer may open its link: a burst, and then so many per second.
const ATTACH_BURST: f64 = 5.0;
const ATTACHES_PER_S: f64 = 1.0;
/// How often edges are looked at for layers to begin or end, while frames come.
const CHOOSE: Micros = 100 * MS;
/// How soon a queue that holds something is looked at again.
const LOOK: Micros = 10 * MS;

/// The other end of a link that is ordered, or of an edge whose link is not ordered yet.
#[derive(Debug)]
pub(crate) struct Peer {
    pub token: Option<Token>,
    pub link: Option<LinkState>,
    /// What it gets from us.
    pub edges: BTreeMap<Stream, Edge>,
    pub takes: BTreeMap<Stream, Vec<Have>>,
    /// It is to be there by then, else it is lost.
    pub expected_by: Option<Micros>,
    /// The link was open once.
    pub was_up: bool,
    /// It delivers a stream that has a backup: its first silence is noted at once.
    pub guarded: bool,
    /// It fell silent, and backups stepped in.
    pub quiet: bool,
    attaches: Bucket,
    pub fitted: Fitted,
    pub timer: Timer,
}

impl Peer {
    pub(crate) fn new(now: Micros) -> Self {
        Self {
            token: None,
            link: None,
            edges: BTreeMap::new(),
            takes: BTreeMap::new(),
            expected_by: None,
            was_up: false,
            guarded: false,
            quiet: false,
            attaches: Bucket::new(ATTACHES_PER_S, ATTACH_BURST, now),
            fitted: Fitted::default(),
            timer: Timer::default(),
        }
    }

    /// May it open its link (again)? Each time its edges begin anew.
    pub(crate) fn may_attach(&mut self, now: Micros) -> bool {
        self.attaches.take(1.0, now)
    }

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
    /// Whoever had a link here: no newcomer, should it come back.
    known: BTreeSet<Node>,
}

impl RoomState {
    pub(crate) fn new(id: Room, node: Node) -> Self {
        Self {
            id,
            node,
            peers: BTreeMap::new(),
            streams: BTreeMap::new(),
            timer: Timer::default(),
            known: BTreeSet::new(),
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
        let peer = self.peers.entry(node).or_insert_with(|| Peer::new(now));
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

    pub(crate) fn attach(&mut self, node: Node, link: LinkState, common: &mut Common, now: Micros) {
        self.close(node, Some(Close::Replaced), common, now);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        self.known.insert(node);
        peer.link = Some(link);
        peer.expected_by = None;
        peer.was_up = true;
        for edge in peer.edges.values_mut() {
            edge.since = now;
        }
        common.event(Event::Up {
            room: self.id,
            peer: node,
        });
        self.heard_again(node, common, now);
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

    /// Something authentic came on the peer's link, if no message.
    pub(crate) fn heard(&mut self, node: Node, common: &mut Common, now: Micros) {
        let peer = self.peers.get_mut(&node);
        if let Some(link) = peer.and_then(|peer| peer.link.as_mut()) {
            link.alive(common, now);
            self.heard_again(node, common, now);
        }
    }

    /// What the way to a peer carries, bit/s.
    pub(crate) fn estimated(&mut self, node: Node, bps: u64, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if let Some(link) = &mut peer.link {
            link.estimated(bps, now);
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
            // A connection by RTP is never taken up again.
            let back = now + if link.is_rtp() { 0 } else { BACK_WITHIN };
            peer.expected_by = Some(back);
            self.wake_peer(node, back, Reason::Expected, common);
        }
        self.fell_quiet(node, common, now);
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
            .or_insert_with(|| StreamState::new(key, now));
        let peer = self.peers.entry(child).or_insert_with(|| Peer::new(now));
        let cap = common.settings.queue_bytes;
        let edge = peer.edges.entry(key).or_insert_with(|| {
            let mut edge = Edge::new(layers, Lane::new(rate_bps, cap, now), now);
            edge.held = common.overload.holding.then_some(0);
            edge
        });
        edge.layers = layers;
        edge.lane.set_rate(rate_bps, now);
        if std::mem::take(&mut edge.stands_by) {
            edge.since = now;
        }
        if let Err(at) = stream.children.binary_search(&child) {
            stream.children.insert(at, child);
        }
        if edge.started {
            choose(stream, peer, common, now);
        } else if let Some(have) = peer.takes.get(&key).cloned()
            && edge.may_begin(now)
        {
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

    /// From now on the stream comes from `node`; the former parent is heard until the new one has delivered. Whoever orders
    /// the parent that is there waits for it to be ready as for any other, so that is said again.
    pub(crate) fn parent(
        &mut self,
        key: Stream,
        node: Node,
        layers: Layers,
        common: &mut Common,
        now: Micros,
    ) {
        let stream = self
            .streams
            .entry(key)
            .or_insert_with(|| StreamState::new(key, now));
        stream.expected = layers;
        if stream.parent.as_ref().map(|parent| parent.node) != Some(node) {
            if self.ratify(key, node, common, now) {
                return;
            }
            let Some(stream) = self.streams.get_mut(&key) else {
                return;
            };
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
                .is_some_and(|previous| previous.node == node)
            {
                stream.previous = None;
            }
            stream.parent = Some(Parent::new(node));
            for gaps in stream.video.iter_mut().flatten() {
                gaps.reparent(now);
            }
            self.guard(node, common, now);
            self.take(key, common, now);
            self.wake_stream(key, now, Reason::Stream, common);
            return;
        }
        self.confirm(key, node, common, now);
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if let Some(parent) = stream.parent.as_mut().filter(|parent| parent.ready) {
            if self
                .peers
                .get(&node)
                .is_some_and(|peer| peer.link.is_some())
            {
                common.event(Event::Ready {
                    room: self.id,
                    stream: key,
                    parent: node,
                });
            } else {
                // Its next frame will show.
                *parent = Parent::new(node);
            }
        }
        self.wake_stream(key, now, Reason::Stream, common);
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
        self.heard_again(from, common, now);
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
        if track == Track::Audio && sealed.len() > MAX_SOUND_BYTES {
            counters.oversized += 1;
            return;
        }
        let key = Stream::new(header.sender, header.stream);
        let stream = self
            .streams
            .get_mut(&key)
            .filter(|stream| stream.may_deliver(from));
        let Some(stream) = stream else {
            counters.stray += 1;
            return;
        };
        if !stream.admits(track, sealed.len(), now) {
            counters.excess += 1;
            return;
        }
        stream.rate.add(sealed.len(), now);
        if track == Track::Audio {
            stream.sound.add(sealed.len() + SOUND_HEADERS, now);
        }
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
            if let Some(backup) = &mut stream.backup {
                backup.yields(now);
            }
        }
        // Of a backup nobody waits to hear; an order that makes it the parent does.
        if stream
            .backup
            .as_ref()
            .is_none_or(|backup| backup.brings(from).is_none())
        {
            common.event(Event::Ready {
                room: self.id,
                stream: key,
                parent: from,
            });
        }
        self.wake_stream(key, now, Reason::Stream, common);
    }

    // --- overload ---

    /// Had this peer a link here before?
    pub(crate) fn knows(&self, node: Node) -> bool {
        self.known.contains(&node)
    }

    /// More is shed than before: each edge keeps what it has at most, and of each child's streams so many keep more than the
    /// lowest layer.
    pub(crate) fn shed(&mut self, keeps: usize, common: &mut Common, now: Micros) {
        for peer in self.peers.values_mut() {
            let pictures = peer
                .edges
                .iter()
                .filter(|(_, edge)| !edge.layers.is_empty() && !edge.is_idle());
            let mut order: Vec<_> = pictures
                .map(|(&key, edge)| {
                    let stream = self.streams.get(&key);
                    let spoke = stream.map_or(0, |stream| stream.spoke_at);
                    (Reverse(spoke), Reverse(edge.lane.rate_bps()), key)
                })
                .collect();
            order.sort_unstable();
            for (place, (_, _, key)) in order.into_iter().enumerate() {
                let Some(edge) = peer.edges.get_mut(&key) else {
                    continue;
                };
                let has = edge.lane.gate.layers().top().unwrap_or(0);
                let keeps = if place < keeps { has } else { 0 };
                common.counters.shed += u64::from(keeps < has);
                edge.held = Some(edge.held.map_or(keeps, |held| held.min(keeps)));
            }
        }
        for key in self.streams.keys().copied().collect::<Vec<_>>() {
            self.choose_all(key, common, now);
        }
    }

    /// Gives layers back that were shed, while they fit into `spare` bit/s. True when all are back.
    pub(crate) fn ease(&mut self, spare: &mut f64, common: &mut Common, now: Micros) -> bool {
        let (mut all, mut changed) = (true, BTreeSet::new());
        for peer in self.peers.values_mut() {
            for (&key, edge) in &mut peer.edges {
                let Some(stream) = self.streams.get_mut(&key).filter(|_| edge.held.is_some())
                else {
                    continue;
                };
                let held = edge.held.take();
                if edge.is_idle() {
                    continue;
                }
                let layers = stream.choose(edge.layers, edge.ceiling());
                let more = stream.bps_of(layers, now);
                let cost = more - stream.bps_of(edge.lane.gate.layers(), now);
                if cost > *spare {
                    edge.held = held;
                    all = false;
                    continue;
                }
                *spare -= cost.max(0.0);
                changed.insert(key);
            }
        }
        for key in changed {
            self.choose_all(key, common, now);
        }
        all
    }

    // --- what both orders and the clock use ---

    /// Tells the parent to begin, once the link is up.
    pub(crate) fn take(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        let backup = stream.backup.as_ref().and_then(Backup::serving);
        let waits = |parent: Option<&Parent>| parent.is_some_and(|parent| !parent.taken);
        if !waits(stream.parent.as_ref()) && !waits(backup) {
            return;
        }
        let have = stream.have();
        let backup = stream.backup.as_mut().and_then(Backup::serving_mut);
        let parents = [stream.parent.as_mut(), backup].into_iter().flatten();
        for parent in parents.filter(|parent| !parent.taken) {
            if let Some(peer) = self.peers.get_mut(&parent.node) {
                let have = have.clone();
                parent.taken = peer.control(&Control::Take { s: key, have }, common, now);
            }
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

//! Who takes a parent's place while that is silent: the child's side of it, and the order to stand by.
//!
//! A stream may have a backup beside its parent. When nothing at all comes on the parent's link any more, the backup is told to
//! begin with what is here, and is heard beside the parent. A parent that is heard again before its silence was reported gets its
//! place back, and the backup is told to stop. Later only an order settles who the parent is; one that names the backup finds it
//! delivering, and nothing begins anew. Costs: a look at the room's streams per silence, and nothing while nobody is silent.

use crate::Micros;
use crate::command::{Layers, Node, Stream};
use crate::common::Common;
use crate::control::Control;
use crate::event::Event;
use crate::lane::Lane;
use crate::relay::Reason;
use crate::room::{Peer, RoomState};
use crate::stream::{Edge, GRACE, Parent, StreamState};

/// Who would deliver a stream in its parent's place.
#[derive(Debug)]
pub(crate) struct Backup {
    pub(crate) parent: Parent,
    /// What would come from there.
    layers: Layers,
    /// What the silent parent had said of its layers, while the backup serves.
    serves: Option<Option<Layers>>,
    /// The parent's silence was reported: it gets its place back by order only.
    stays: bool,
    /// A new parent delivers; the backup is heard until then.
    until: Option<Micros>,
}

impl Backup {
    fn new(node: Node, layers: Layers) -> Self {
        Self {
            parent: Parent::new(node),
            layers,
            serves: None,
            stays: false,
            until: None,
        }
    }

    /// While it was asked to deliver.
    pub(crate) fn serving(&self) -> Option<&Parent> {
        self.serves.map(|_| &self.parent)
    }

    pub(crate) fn serving_mut(&mut self) -> Option<&mut Parent> {
        self.serves.map(|_| &mut self.parent)
    }

    /// What it brings, if this is the one and it was asked to.
    pub(crate) fn brings(&self, node: Node) -> Option<Layers> {
        self.serving()
            .filter(|parent| parent.node == node)
            .map(|_| self.layers)
    }

    /// It is to deliver, and no new parent does.
    pub(crate) fn source(&self) -> Option<Node> {
        let serving = self.serving().filter(|_| self.until.is_none());
        serving.map(|parent| parent.node)
    }

    /// When it is heard no longer.
    pub(crate) fn until(&self) -> Option<Micros> {
        self.until
    }

    /// A new parent has delivered.
    pub(crate) fn yields(&mut self, now: Micros) {
        if self.serves.is_some() {
            self.until.get_or_insert(now + GRACE);
        }
    }
}

impl RoomState {
    /// Feeds `child` from when it asks for it.
    pub(crate) fn stand_by(
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
            edge.stands_by = true;
            edge
        });
        if !std::mem::replace(&mut edge.stands_by, true) {
            // It fed this child until now.
            edge.reset(now);
            peer.takes.remove(&key);
        }
        edge.layers = layers;
        edge.lane.set_rate(rate_bps, now);
        if let Err(at) = stream.children.binary_search(&child) {
            stream.children.insert(at, child);
        }
        if edge.started {
            self.choose_all(key, common, now);
        }
    }

    /// The child is served elsewhere. False: it is an ordinary edge, or none.
    pub(crate) fn dropped(&mut self, from: Node, key: Stream, now: Micros) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        let Some(edge) = peer.edges.get_mut(&key).filter(|edge| edge.stands_by) else {
            return false;
        };
        edge.reset(now);
        peer.takes.remove(&key);
        true
    }

    /// Names who takes the parent's place. One that serves at present is heard until somebody else delivers.
    pub(crate) fn backup(
        &mut self,
        key: Stream,
        node: Option<Node>,
        layers: Layers,
        common: &mut Common,
        now: Micros,
    ) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if let (Some(backup), Some(node)) = (&mut stream.backup, node)
            && backup.parent.node == node
        {
            backup.layers = layers;
            return;
        }
        if let Some(former) = stream.backup.take()
            && former.serves.is_some()
        {
            stream.previous = Some(former.parent);
            stream.previous_until = former.until;
        }
        stream.backup = node.map(|node| Backup::new(node, layers));
        if let Some(parent) = stream.parent.as_ref().map(|parent| parent.node) {
            self.guard(parent, common, now);
        }
    }

    /// The order names as parent who serves already: nothing begins anew.
    pub(crate) fn ratify(
        &mut self,
        key: Stream,
        node: Node,
        common: &mut Common,
        now: Micros,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(&key) else {
            return false;
        };
        let serves = |backup: &mut Backup| backup.brings(node).is_some();
        let Some(backup) = stream.backup.take_if(serves) else {
            return false;
        };
        let ready = backup.parent.ready;
        stream.previous = stream.parent.replace(backup.parent);
        stream.previous_until = ready.then_some(now + GRACE);
        if ready {
            let (room, stream, parent) = (self.id, key, node);
            common.event(Event::Ready {
                room,
                stream,
                parent,
            });
        }
        self.take(key, common, now);
        self.wake_stream(key, now, Reason::Stream, common);
        true
    }

    /// Is a stream's backup to step in when this peer falls silent? Then its first silence is looked out for.
    pub(crate) fn guard(&mut self, node: Node, common: &mut Common, now: Micros) {
        let delivers = |stream: &StreamState| {
            stream.backup.is_some()
                && stream
                    .parent
                    .as_ref()
                    .is_some_and(|parent| parent.node == node)
        };
        let guarded = self.streams.values().any(delivers);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.guarded = guarded;
            self.wake_peer(node, now, Reason::Link, common);
        }
    }

    /// Nothing comes from this peer: the backups of what it delivers begin.
    pub(crate) fn fell_quiet(&mut self, node: Node, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.guarded) else {
            return;
        };
        peer.quiet = true;
        for key in self.delivered_by(node) {
            let Some(stream) = self.streams.get_mut(&key) else {
                continue;
            };
            let Some(backup) = stream.backup.as_mut().filter(|b| b.serves.is_none()) else {
                continue;
            };
            backup.serves = Some(stream.given.take());
            for gaps in stream.video.iter_mut().flatten() {
                gaps.reparent(now);
            }
            self.take(key, common, now);
            self.wake_stream(key, now, Reason::Stream, common);
        }
    }

    /// It is heard again: unless its silence was reported meanwhile, it has its place back.
    pub(crate) fn heard_again(&mut self, node: Node, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if !std::mem::take(&mut peer.quiet) {
            return;
        }
        for key in self.delivered_by(node) {
            if let Some(stream) = self.streams.get_mut(&key)
                && let Some(backup) = stream.backup.as_ref().filter(|backup| !backup.stays)
                && let Some(given) = backup.serves
            {
                stream.given = given;
                self.excuse(key, common, now);
            }
        }
    }

    /// An order names the parent once more: if it is heard, it has its place back.
    pub(crate) fn confirm(&mut self, key: Stream, node: Node, common: &mut Common, now: Micros) {
        let peer = self.peers.get(&node);
        let heard = peer.is_some_and(|peer| peer.link.is_some() && !peer.quiet);
        if let Some(stream) = self.streams.get_mut(&key).filter(|_| heard)
            && let Some(given) = stream.backup.as_ref().and_then(|backup| backup.serves)
        {
            stream.given = given;
            self.excuse(key, common, now);
        }
    }

    /// Its silence was reported: what it delivered stays with the backups until an order comes.
    pub(crate) fn was_reported(&mut self, node: Node) {
        for key in self.delivered_by(node) {
            if let Some(backup) = self.streams.get_mut(&key).and_then(|s| s.backup.as_mut()) {
                backup.stays = backup.serves.is_some();
            }
        }
    }

    /// The backup is told that it is not needed any more; it stays one.
    pub(crate) fn excuse(&mut self, key: Stream, common: &mut Common, now: Micros) {
        let Some(backup) = self.streams.get_mut(&key).and_then(|s| s.backup.as_mut()) else {
            return;
        };
        let (node, layers) = (backup.parent.node, backup.layers);
        let former = std::mem::replace(backup, Backup::new(node, layers));
        if former.parent.taken
            && let Some(peer) = self.peers.get_mut(&node)
        {
            peer.control(&Control::Drop { s: key }, common, now);
        }
    }

    fn delivered_by(&self, node: Node) -> Vec<Stream> {
        let streams = self.streams.values();
        let by = streams.filter(|stream| {
            stream
                .parent
                .as_ref()
                .is_some_and(|parent| parent.node == node)
        });
        by.map(|stream| stream.key).collect()
    }
}

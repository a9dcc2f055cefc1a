//! Control messages of peers: what a child may ask of us, and what a parent may tell us.
//!
//! Messages of a parent count only from the node that delivers the stream at present; those of a child only for streams and
//! layers that an order lets it have. Others are counted (`misplaced`).

use crate::Micros;
use crate::command::{Node, Stream};
use crate::common::Common;
use crate::control::{Control, Have};
use crate::edges::{begin, source};
use crate::frame::MS;
use crate::link::Heard;
use crate::relay::Reason;
use crate::room::RoomState;
use crate::stream::{Edge, StreamState};

/// `take`s remembered for edges that are not ordered yet, per peer.
const MAX_TAKES: usize = 256;
/// How soon something that was asked for is looked at again.
const LOOK: Micros = 10 * MS;

impl RoomState {
    /// A text message came.
    pub(crate) fn text(&mut self, from: Node, text: &str, common: &mut Common, now: Micros) {
        let Some(link) = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.link.as_mut())
        else {
            return;
        };
        let heard = link.text_came(text, common, now);
        self.heard_again(from, common, now);
        let Heard::Message(message) = heard else {
            return;
        };
        match message {
            Control::Beat { .. } => {}
            Control::Take { s, have } => self.took(from, s, have, common, now),
            Control::Drop { s } => {
                if !self.dropped(from, s, now) {
                    common.counters.misplaced += 1;
                }
            }
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
                    // What is promised again may be broken since before.
                    self.wake_stream(s, now + LOOK, Reason::Repair, common);
                }
            }
        }
    }

    fn took(&mut self, from: Node, key: Stream, have: Vec<Have>, common: &mut Common, now: Micros) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if let Some(edge) = peer.edges.get_mut(&key)
            && edge.may_begin(now)
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
            .filter(|edge| !edge.is_idle())
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
}

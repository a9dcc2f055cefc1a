//! A stream's edges: a frame goes to the children, an edge begins, its layers begin and end.
//!
//! What a child gets is decided by its gate and by [`StreamState::choose`]; how it leaves is the lane's and the link's. The two
//! meet here only.

use std::collections::BTreeMap;

use crate::Micros;
use crate::backup::Backup;
use crate::command::{Layers, Node, Room, Stream};
use crate::common::{Common, Owner};
use crate::control::{Control, Have};
use crate::frame::{Frame, MS};
use crate::lane::Lane;
use crate::relay::Reason;
use crate::room::Peer;
use crate::stream::{Parent, StreamState};

/// A lane that falls back gets the ring of the lower layer only up to this multiple of its key frame.
const SMALL_REPLAY: usize = 2;
/// How soon a queue that holds something is looked at again.
const LOOK: Micros = 10 * MS;

/// Who delivers at present: a backup that stepped in, or the new parent once it has begun, before that the former one if there is one.
pub(crate) fn source(stream: &StreamState, peers: &BTreeMap<Node, Peer>) -> Option<Node> {
    let backup = stream.backup.as_ref().and_then(Backup::source);
    if backup.is_some() {
        return backup;
    }
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
pub(crate) fn forward_sound(
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
pub(crate) fn forward_picture(
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
    for layer in stream.choose(edge.layers, edge.ceiling()).iter() {
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
    let ceiling = edge.ceiling();
    let lane = &mut edge.lane;
    let before = lane.gate.layers();
    let target = stream.choose(edge.layers, ceiling);
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

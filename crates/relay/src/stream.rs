//! One stream at this node: who may deliver it, what came, what is remembered, who gets it.

use grove_frame::{Header, Kind};

use crate::Micros;
use crate::backup::Backup;
use crate::command::{Layers, Node, Stream};
use crate::common::Timer;
use crate::control::Have;
use crate::frame::{Frame, MS, Track};
use crate::gaps::{Gaps, Verdict};
use crate::keys::KeyRequests;
use crate::lane::Lane;
use crate::meter::{Bucket, Delay, Rate};
use crate::ring::Ring;

/// A layer is silent when a lower one has gone on for so long and so many frames without it: its encoder stopped, or the
/// parent fell back. The count is for cameras at one frame a second, whose layers always come one after the other.
const LAYER_SILENT: Micros = 700 * MS;
const LAYER_SILENT_FRAMES: u32 = 8;
/// Key requests that one child may make, and beginnings anew: a burst, and then so many per second.
const KEY_BURST: f64 = 5.0;
const KEYS_PER_S: f64 = 1.0;
/// Sound of one stream: several times what Opus needs for music, and a stall of a few seconds made up for at once. It is sent
/// before all pictures and whatever the budget says, so this is what keeps one sender from stopping everybody's pictures.
const SOUND_BYTES_PER_S: f64 = 32_000.0;
const SOUND_PACKETS_PER_S: f64 = 200.0;
/// What a packet of sound takes beside its frame by RTP: headers of IP, UDP and RTP with an extension, and the seal.
pub(crate) const SOUND_HEADERS: usize = 64;
/// Pictures of one stream: 120 per second in each layer, and a second's worth at once after a stall.
const PICTURES_PER_S: f64 = 120.0 * Layers::MAX as f64;
/// Sound at least so loud is speech: RFC 6464, decibels below the loudest. A quiet room stands at 60 and more.
const SPEECH: u8 = 50;
/// A layer without a delta frame for so long has key frames only.
const DELTAS_GONE: Micros = 3_000 * MS;
/// Sound alone makes a stream with video ready only after this: the camera may be slow, or refused.
const AUDIO_READY: Micros = 1000 * MS;
/// After the new parent has delivered, frames of the old one are still welcome for so long.
pub(crate) const GRACE: Micros = 1000 * MS;
/// A higher layer is begun with so long after the last change at the earliest: each costs everybody a key frame. Twice as long
/// after each try that failed, up to the second figure.
pub(crate) const FIT_AGAIN: Micros = 3_000 * MS;
pub(crate) const FIT_LATEST: Micros = 48_000 * MS;
/// A frame so far below the highest still shows that a parent delivers.
const NEAR: u32 = 64;

/// One child of a stream.
#[derive(Debug)]
pub(crate) struct Edge {
    /// The order's layers.
    pub layers: Layers,
    pub lane: Lane,
    /// The child has asked to begin (`take`), or we stopped waiting for that.
    pub started: bool,
    pub since: Micros,
    /// It begins when the child asks, and not by itself: for when the child's parent falls silent.
    pub stands_by: bool,
    /// The highest layer for which the link's estimated rate has room. `None`: as many as there are.
    pub fits: Option<u8>,
    /// Since then.
    pub fitted_at: Micros,
    /// How long it takes until a higher layer is tried again.
    pub fit_again: Micros,
    /// The highest layer that is not shed (`overload`). `None`: as many as there are.
    pub held: Option<u8>,
    /// What the child was last told that it gets.
    pub told: Option<Layers>,
    /// It has begun once, whatever the link.
    begun: bool,
    budget: Bucket,
}

impl Edge {
    pub(crate) fn new(layers: Layers, lane: Lane, now: Micros) -> Self {
        Self {
            layers,
            lane,
            started: false,
            since: now,
            stands_by: false,
            fits: None,
            fitted_at: 0,
            fit_again: FIT_AGAIN,
            held: None,
            told: None,
            begun: false,
            budget: Bucket::new(KEYS_PER_S, KEY_BURST, now),
        }
    }

    /// It stands by, and nobody has asked for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.stands_by && !self.started
    }

    /// The highest layer that may go out.
    pub(crate) fn ceiling(&self) -> Option<u8> {
        let known = [self.fits, self.held, self.lane.gate.ceiling];
        known.into_iter().flatten().min()
    }

    /// Nothing was sent yet: the link is another. What the child has used up of its budget stays used.
    pub(crate) fn reset(&mut self, now: Micros) {
        self.started = false;
        self.since = now;
        self.fits = None;
        self.fit_again = FIT_AGAIN;
        self.told = None;
        self.lane.clear();
    }

    /// May this child make one more key request? Each costs everybody in the tree.
    pub(crate) fn may_ask_key(&mut self, now: Micros) -> bool {
        self.budget.take(1.0, now)
    }

    /// May it begin? The first time by order; each further time costs a replay and maybe a key frame, so it comes out of the
    /// same budget, also when the child has opened its link anew.
    pub(crate) fn may_begin(&mut self, now: Micros) -> bool {
        !std::mem::replace(&mut self.begun, true) || self.may_ask_key(now)
    }
}

/// Somebody who delivers, or is to.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub node: Node,
    /// It has delivered something usable.
    pub ready: bool,
    first_audio: Option<Micros>,
    /// We told it to begin.
    pub taken: bool,
}

impl Parent {
    pub(crate) fn new(node: Node) -> Self {
        Self {
            node,
            ready: false,
            first_audio: None,
            taken: false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Micros,
    /// Frames of lower layers since.
    passed: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub key: Stream,
    pub parent: Option<Parent>,
    pub previous: Option<Parent>,
    /// Until when the former parent is heard, once the new one has delivered.
    pub previous_until: Option<Micros>,
    /// Who takes the parent's place while that is silent.
    pub backup: Option<Backup>,
    /// The layers that the order says will come.
    pub expected: Layers,
    pub ring: Ring,
    pub video: [Option<Gaps>; Layers::MAX as usize],
    pub audio: Gaps,
    /// Sorted.
    pub children: Vec<Node>,
    pub keys: KeyRequests,
    sound_bytes: Bucket,
    sound_packets: Bucket,
    pictures: Bucket,
    pub rate: Rate,
    /// Of its sound, as it leaves by RTP.
    pub sound: Rate,
    /// Of the pictures of each layer, for what it takes to go on: a key frame counts as one of the others.
    pub rates: [Rate; Layers::MAX as usize],
    /// What a delta frame of each layer has lately, bytes, and when the last one came.
    deltas: [Option<(f64, Micros)>; Layers::MAX as usize],
    pub delay: Delay,
    /// When somebody was last heard to speak in it.
    pub spoke_at: Micros,
    /// When layers of its edges are looked at again, if frames have come since they were.
    pub choose_at: Option<Micros>,
    pub timer: Timer,
    seen: [Option<Seen>; Layers::MAX as usize],
    /// What the parent says that it sends.
    pub given: Option<Layers>,
}

impl StreamState {
    pub(crate) fn new(key: Stream, now: Micros) -> Self {
        Self {
            key,
            parent: None,
            previous: None,
            previous_until: None,
            backup: None,
            expected: Layers::NONE,
            ring: Ring::default(),
            video: Default::default(),
            audio: Gaps::new(false),
            children: Vec::new(),
            keys: KeyRequests::default(),
            sound_bytes: Bucket::new(SOUND_BYTES_PER_S, SOUND_BYTES_PER_S, now),
            sound_packets: Bucket::new(SOUND_PACKETS_PER_S, SOUND_PACKETS_PER_S, now),
            pictures: Bucket::new(PICTURES_PER_S, PICTURES_PER_S, now),
            rate: Rate::default(),
            sound: Rate::default(),
            rates: Default::default(),
            deltas: Default::default(),
            delay: Delay::default(),
            spoke_at: 0,
            choose_at: None,
            timer: Timer::default(),
            seen: Default::default(),
            given: None,
        }
    }

    /// May this peer deliver frames of the stream now?
    pub(crate) fn may_deliver(&self, peer: Node) -> bool {
        let backup = self.backup.as_ref().and_then(Backup::serving);
        [self.parent.as_ref(), self.previous.as_ref(), backup]
            .into_iter()
            .flatten()
            .any(|parent| parent.node == peer)
    }

    /// May one more frame of so many bytes come? What is over the rate counts as never come.
    pub(crate) fn admits(&mut self, track: Track, bytes: usize, now: Micros) -> bool {
        match track {
            Track::Video => self.pictures.take(1.0, now),
            Track::Audio => {
                self.sound_bytes.holds(bytes as f64, now)
                    && self.sound_packets.take(1.0, now)
                    && self.sound_bytes.take(bytes as f64, now)
            }
        }
    }

    /// Takes note of a frame from a parent.
    pub(crate) fn arrive(&mut self, track: Track, header: &Header, now: Micros) -> Verdict {
        if let Kind::Audio { level } = header.kind
            && level <= SPEECH
        {
            self.spoke_at = now;
        }
        if track == Track::Audio {
            return self.audio.accept(header, now);
        }
        match self.video.get_mut(usize::from(header.spatial)) {
            Some(gaps) => gaps
                .get_or_insert_with(|| Gaps::new(true))
                .accept(header, now),
            None => Verdict::Duplicate,
        }
    }

    /// Remembers a video frame that goes on.
    pub(crate) fn keep(&mut self, frame: &Frame) {
        let layer = frame.header.spatial;
        let bytes = self.lasting(frame);
        if let Some(rate) = self.rates.get_mut(usize::from(layer)) {
            rate.add(bytes, frame.at);
        }
        self.ring.add(frame, frame.at);
        for (at, seen) in (0..).zip(&mut self.seen) {
            if at == layer {
                *seen = Some(Seen {
                    at: frame.at,
                    passed: 0,
                });
            } else if at > layer
                && let Some(seen) = seen
            {
                seen.passed = seen.passed.saturating_add(1);
            }
        }
        if frame.header.is_key() {
            self.keys.satisfied(layer);
        }
    }

    /// What a frame counts for in what its layer takes in the long run. Climbing to a layer brings a key frame, and so does
    /// each newcomer: were they counted, a layer would be left for what beginning it costs, again and again. A layer of key
    /// frames alone is counted as it is.
    fn lasting(&mut self, frame: &Frame) -> usize {
        let bytes = frame.sealed.len();
        let Some(delta) = self.deltas.get_mut(usize::from(frame.header.spatial)) else {
            return bytes;
        };
        let recent = delta.filter(|(_, at)| frame.at.saturating_sub(*at) < DELTAS_GONE);
        match recent {
            Some((usual, _)) if frame.header.is_key() => bytes.min(usual as usize),
            _ if frame.header.is_key() => bytes,
            Some((usual, _)) => {
                *delta = Some((usual + (bytes as f64 - usual) / 8.0, frame.at));
                bytes
            }
            None => {
                *delta = Some((bytes as f64, frame.at));
                bytes
            }
        }
    }

    pub(crate) fn gaps(&self, layer: u8) -> Option<&Gaps> {
        self.video.get(usize::from(layer))?.as_ref()
    }

    pub(crate) fn gaps_mut(&mut self, layer: u8) -> Option<&mut Gaps> {
        self.video.get_mut(usize::from(layer))?.as_mut()
    }

    /// What is here of each layer, with no hole that matters: for a new parent.
    pub(crate) fn have(&self) -> Vec<Have> {
        (0..Layers::MAX)
            .filter_map(|layer| {
                let gaps = self.gaps(layer)?;
                Some(Have {
                    layer,
                    generation: gaps.generation,
                    number: gaps.whole()?,
                })
            })
            .collect()
    }

    /// The parent says what it sends.
    pub(crate) fn told(&mut self, layers: Layers) {
        self.given = Some(layers);
    }

    /// A new parent: what the old one said no longer counts.
    pub(crate) fn untold(&mut self) {
        self.given = None;
    }

    /// May this layer be expected? Not while the parent says that it sends others.
    pub(crate) fn promised(&self, layer: u8) -> bool {
        self.given.is_none_or(|given| given.contains(layer))
    }

    /// What these layers take, bit/s over the last second.
    pub(crate) fn bps_of(&mut self, layers: Layers, now: Micros) -> f64 {
        let rates = (0..).zip(&mut self.rates);
        let rates = rates.filter(|(layer, _)| layers.contains(*layer));
        rates.map(|(_, rate)| rate.bps(now) as f64).sum()
    }

    /// Layers that come at present.
    pub(crate) fn alive(&self) -> Layers {
        let mut alive = Layers::NONE;
        let mut newest = 0;
        for (layer, seen) in (0..).zip(&self.seen) {
            let Some(seen) = seen else {
                continue;
            };
            let silent = newest > seen.at + LAYER_SILENT && seen.passed >= LAYER_SILENT_FRAMES;
            if self.promised(layer) && !silent {
                alive = alive.with(layer);
            }
            newest = newest.max(seen.at);
        }
        alive
    }

    /// What an edge gets: its order as far as layers are there and fit, else the next lower one.
    pub(crate) fn choose(&self, ordered: Layers, ceiling: Option<u8>) -> Layers {
        let Some(top) = ordered.top() else {
            return Layers::NONE;
        };
        let ceiling = ceiling.unwrap_or(Layers::MAX - 1);
        let alive = self.alive();
        if alive.is_empty() {
            return ordered.up_to(ceiling);
        }
        let fit = ordered.and(alive).up_to(ceiling);
        if !fit.is_empty() {
            return fit;
        }
        let lower = alive.up_to(ceiling.min(top)).top().or(alive.bottom());
        lower.map_or(ordered, Layers::one)
    }

    /// Is what this parent delivers enough to feed others?
    pub(crate) fn usable(
        &mut self,
        peer: Node,
        track: Track,
        header: &Header,
        now: Micros,
    ) -> bool {
        if track == Track::Video {
            let whole = self.gaps(header.spatial).and_then(Gaps::whole);
            return header.is_key()
                || whole.is_some_and(|highest| {
                    u64::from(header.number) + u64::from(NEAR) > highest.into()
                });
        }
        let backup = self.backup.as_ref().and_then(|one| one.brings(peer));
        let expected = backup.unwrap_or(self.expected);
        self.parent_mut(peer).is_some_and(|parent| {
            let since = *parent.first_audio.get_or_insert(now);
            expected.is_empty() || now - since >= AUDIO_READY
        })
    }

    pub(crate) fn parent_mut(&mut self, peer: Node) -> Option<&mut Parent> {
        let backup = self.backup.as_mut().and_then(Backup::serving_mut);
        [self.parent.as_mut(), self.previous.as_mut(), backup]
            .into_iter()
            .flatten()
            .find(|parent| parent.node == peer)
    }
}

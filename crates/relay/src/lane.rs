//! What waits for one child of one stream, and when it may go. Sound does not wait here. A lane is paced to its allotted rate
//! and bounded in age and bytes: over the soft bound droppable frames go; over the hard bound everything up to the next key
//! frame, highest layer first, and the lane then wants a key frame. What the child gets at all is the [`Gate`]'s decision.
//!
//! Repairs go first, then what a layer begins with, then what comes. Each of the three is a queue in order of time, so whether
//! something has waited too long is a look at three fronts, however much waits. A frame that waits is a slot in its queue:
//! header, time and a share of the bytes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use grove_frame::Header;

use crate::Micros;
use crate::command::Layers;
use crate::frame::{Frame, MS};
use crate::gate::{Decision, Gate};

/// Pace over the allotted rate: encoders overshoot for a second at a time; what is over it is a burst to be spread.
const PACE: f64 = 2.0;
/// Depth of the bucket at the paced rate. A key frame is charged one bucket at most, and the rest of it lent: paid back at the
/// allotted rate, and until it is the next one is charged in full. So nothing gets more than three times the allotted rate for
/// long, were every frame a key frame.
const BURST_MS: f64 = 250.0;
/// No lane is paced below this: at less, one small frame would block for seconds.
const MIN_RATE_BPS: u64 = 100_000;
/// Over this age droppable frames go; players run 50 to 150 ms behind, so later would be of no use.
const SOFT: Micros = 150 * MS;
/// Over this age the layer is given up until its next key frame. Shorter gives up in mere hiccups.
const HARD: Micros = 500 * MS;
/// A replay or a repair may wait longer: it is a burst by nature.
const REPLAY: Micros = 1500 * MS;
/// After a key frame was handed over the hard bound is as long as this: on a narrow link it alone may take a second.
const AFTER_KEY: Micros = 1500 * MS;
/// Least byte bound of a lane: two of the largest frames. Age is what bounds a lane in the ordinary case.
const MIN_QUEUE_BYTES: usize = 512 * 1024;
/// Frames that may wait in each queue: more than 4 layers of 60 pictures a second bring within the longest bound.
const MAX_ITEMS: usize = 512;
/// What a question for a frame costs of the budget for repairs, besides the frame.
const ASKED_BYTES: f64 = 64.0;
/// A layer whose sender pauses (a still screen): after this the child is told which frame was the last.
const TIP: Micros = 150 * MS;
/// Repairs may use this share of the allotted rate, so that loss does not feed on itself.
const REPAIR_SHARE: f64 = 0.5;
/// How often a queue that holds something is looked at.
const LOOK: Micros = 10 * MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Live,
    Replay,
    Repair,
}

#[derive(Debug)]
struct Item {
    header: Header,
    sealed: Bytes,
    at: Micros,
}

impl Item {
    fn new(frame: &Frame, at: Micros) -> Self {
        Self {
            header: frame.header,
            sealed: frame.sealed.clone(),
            at,
        }
    }
}

/// The newest frame of a layer that counts and was sent.
#[derive(Debug, Clone, Copy)]
struct Newest {
    generation: u16,
    number: u32,
    at: Micros,
    told: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    pub gate: Gate,
    rate_bps: u64,
    /// Most bytes that may wait.
    cap: usize,
    repairs: VecDeque<Item>,
    replay: VecDeque<Item>,
    live: VecDeque<Item>,
    /// Of those in `live`.
    droppable: usize,
    /// Of all that waits.
    bytes: usize,
    tokens: f64,
    repair_tokens: f64,
    /// Bytes of a key frame that were not charged.
    lent: f64,
    filled: Micros,
    ticked: Micros,
    key_taken: Option<Micros>,
    newest: BTreeMap<u8, Newest>,
}

impl Lane {
    pub(crate) fn new(rate_bps: u64, cap: usize, now: Micros) -> Self {
        let mut lane = Self {
            gate: Gate::new(now),
            rate_bps: rate_bps.max(MIN_RATE_BPS),
            cap,
            repairs: VecDeque::new(),
            replay: VecDeque::new(),
            live: VecDeque::new(),
            droppable: 0,
            bytes: 0,
            tokens: 0.0,
            repair_tokens: 0.0,
            lent: 0.0,
            filled: now,
            ticked: now,
            key_taken: None,
            newest: BTreeMap::new(),
        };
        lane.tokens = lane.depth();
        lane.repair_tokens = lane.depth();
        lane
    }

    pub(crate) fn set_rate(&mut self, rate_bps: u64, now: Micros) {
        self.fill(now);
        self.rate_bps = rate_bps.max(MIN_RATE_BPS);
    }

    pub(crate) fn rate_bps(&self) -> u64 {
        self.rate_bps
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a layer with `frames` that a newcomer needs, or (`None`, or more than may wait) at the next key frame. Frames that
    /// the child has already are not among them.
    pub(crate) fn start(&mut self, layer: u8, frames: Option<Vec<Frame>>, now: Micros) {
        let limit = self.limit();
        let frames = frames.filter(|frames| {
            let bytes: usize = frames.iter().map(|frame| frame.sealed.len()).sum();
            frames.len() <= MAX_ITEMS && bytes <= limit
        });
        self.gate.start(layer, frames.is_some(), now);
        for frame in frames.iter().flatten() {
            self.bytes += frame.sealed.len();
            self.replay.push_back(Item::new(frame, now));
        }
    }

    pub(crate) fn stop(&mut self, layer: u8) {
        self.gate.stop(layer);
        self.retain(|item| item.header.spatial != layer);
    }

    /// Everything waits no longer, and nothing is sent: the link is gone.
    pub(crate) fn clear(&mut self) {
        for layer in 0..Layers::MAX {
            self.stop(layer);
        }
        // A link that has ended keeps no room for what it may never send.
        self.repairs = VecDeque::new();
        self.replay = VecDeque::new();
        self.live = VecDeque::new();
        self.newest.clear();
    }

    /// A frame of the stream came: queued if this child gets it.
    pub(crate) fn offer(&mut self, frame: &Frame, now: Micros) {
        if self.gate.decide(&frame.header) != Decision::Send {
            return;
        }
        self.bytes += frame.sealed.len();
        self.droppable += usize::from(frame.header.droppable);
        self.live.push_back(Item::new(frame, now));
        self.bound(now);
    }

    /// Sends a frame again, ahead of the others. False: over the budget for repairs, or not wanted, or it waits already.
    pub(crate) fn resend(&mut self, frame: &Frame, now: Micros) -> bool {
        self.fill(now);
        let h = &frame.header;
        if !self.gate.flows(h.spatial)
            || self.repair_tokens <= 0.0
            || self.repairs.len() >= MAX_ITEMS
        {
            return false;
        }
        // To look through the queues is work, which a child could ask for without end.
        self.repair_tokens -= ASKED_BYTES;
        let same = |item: &Item| (item.header.spatial, item.header.number) == (h.spatial, h.number);
        if self.items().any(same) {
            return false;
        }
        self.repair_tokens -= frame.sealed.len() as f64;
        self.bytes += frame.sealed.len();
        self.repairs.push_back(Item::new(frame, now));
        true
    }

    /// When the next frame was queued, if it may go now.
    pub(crate) fn ready(&mut self, now: Micros) -> Option<Micros> {
        let (cause, head) = self.head()?;
        let at = head.at;
        self.fill(now);
        (cause != Cause::Live || self.tokens > 0.0).then_some(at)
    }

    /// The next frame, to be sent now.
    pub(crate) fn take(&mut self, now: Micros) -> Option<Bytes> {
        let (cause, _) = self.head()?;
        let Item { header, sealed, .. } = match cause {
            Cause::Repair => self.repairs.pop_front(),
            Cause::Replay => self.replay.pop_front(),
            Cause::Live => self.live.pop_front(),
        }?;
        self.bytes -= sealed.len();
        if header.is_key() {
            self.key_taken = Some(now);
        }
        // A repair is older than what was last sent live.
        if !header.droppable && cause != Cause::Repair {
            let Header {
                generation, number, ..
            } = header;
            self.newest.insert(
                header.spatial,
                Newest {
                    generation,
                    number,
                    at: now,
                    told: false,
                },
            );
        }
        if cause == Cause::Live {
            self.droppable -= usize::from(header.droppable);
            let size = sealed.len() as f64;
            if header.is_key() && self.lent <= 0.0 {
                self.lent = (size - self.depth()).max(0.0);
                self.tokens -= size - self.lent;
            } else {
                self.tokens -= size;
            }
        }
        Some(sealed)
    }

    /// By the clock. `choked`: sound stands before the socket.
    pub(crate) fn tick(&mut self, choked: bool, now: Micros) {
        let elapsed = (now - self.ticked).min(1000 * MS);
        self.ticked = now;
        self.bound(now);
        let held = self.over(SOFT, MIN_QUEUE_BYTES / 2, MAX_ITEMS / 2, now);
        self.gate.tick(elapsed, held, choked, now);
    }

    /// Layers that have paused after frames that count, each once per pause: layer, generation, number.
    pub(crate) fn tips(&mut self, now: Micros) -> Option<(u8, u16, u32)> {
        let gate = &self.gate;
        let (&layer, tip) = self.newest.iter_mut().find(|(layer, tip)| {
            !tip.told && now - tip.at >= TIP && gate.layers().contains(**layer)
        })?;
        tip.told = true;
        Some((layer, tip.generation, tip.number))
    }

    /// When to call [`Lane::tick`] again.
    pub(crate) fn next(&self, now: Micros) -> Option<Micros> {
        let queue = self.head().map(|_| now + LOOK);
        let layers = self.gate.layers();
        let tips = self
            .newest
            .iter()
            .filter(|(layer, tip)| !tip.told && layers.contains(**layer));
        let tips = tips.map(|(_, tip)| tip.at + TIP);
        tips.chain(queue).chain(self.gate.next(now)).min()
    }

    /// Keeps the bounds.
    fn bound(&mut self, now: Micros) {
        let limit = self.limit();
        if self.droppable > 0 && self.over(SOFT, limit / 2, MAX_ITEMS / 2, now) {
            self.thin();
            self.gate.thinned(now);
        }
        let young_key = self.key_taken.is_some_and(|at| now - at < AFTER_KEY);
        let hard = if young_key { AFTER_KEY } else { HARD };
        for layer in self.gate.layers().iter().rev() {
            for keep in [true, false] {
                if !self.over(hard, limit, MAX_ITEMS, now) {
                    return;
                }
                self.give_up(layer, keep, now);
            }
        }
    }

    fn limit(&self) -> usize {
        let most = (self.rate_bps as f64 / 8.0 * (HARD as f64 / 1e6)) as usize;
        most.max(MIN_QUEUE_BYTES).min(self.cap.max(MIN_QUEUE_BYTES))
    }

    fn over(&self, age: Micros, bytes: usize, items: usize, now: Micros) -> bool {
        let old = |queue: &VecDeque<Item>, age: Micros| {
            queue.front().is_some_and(|oldest| now - oldest.at > age)
        };
        self.bytes > bytes
            || self.live.len() > items
            || old(&self.live, age)
            || old(&self.replay, age.max(REPLAY))
            || old(&self.repairs, age.max(REPLAY))
    }

    /// What goes next.
    fn head(&self) -> Option<(Cause, &Item)> {
        let queues = [
            (Cause::Repair, &self.repairs),
            (Cause::Replay, &self.replay),
            (Cause::Live, &self.live),
        ];
        let mut heads = queues.into_iter();
        heads.find_map(|(cause, queue)| Some((cause, queue.front()?)))
    }

    /// All that waits, in the order in which it goes.
    fn items(&self) -> impl Iterator<Item = &Item> {
        self.repairs.iter().chain(&self.replay).chain(&self.live)
    }

    /// Keeps of what waits that for which `stays` is true.
    fn retain(&mut self, mut stays: impl FnMut(&Item) -> bool) {
        let (mut bytes, mut droppable) = (0, 0);
        let mut keep = |item: &Item| {
            let stays = stays(item);
            bytes += if stays { item.sealed.len() } else { 0 };
            stays
        };
        self.repairs.retain(&mut keep);
        self.replay.retain(&mut keep);
        self.live.retain(|item| {
            let stays = keep(item);
            droppable += usize::from(stays && item.header.droppable);
            stays
        });
        (self.bytes, self.droppable) = (bytes, droppable);
    }

    /// Drops a layer's frames: up to a young key frame in the queue if one may be kept, else up to the next to come.
    fn give_up(&mut self, layer: u8, keep: bool, now: Micros) {
        let key = self
            .items()
            .enumerate()
            .filter(|(_, item)| item.header.spatial == layer && item.header.is_key())
            .last();
        let fresh = key
            .filter(|&(at, item)| keep && at > 0 && now - item.at <= HARD / 2)
            .map(|(at, _)| at);
        let mut gone = Vec::new();
        let mut at = 0;
        self.retain(|item| {
            let passed = fresh.is_some_and(|fresh| at >= fresh);
            at += 1;
            let stays = item.header.spatial != layer || passed;
            if !stays {
                gone.push(item.header);
            }
            stays
        });
        gone.iter().for_each(|header| self.gate.drop(header));
        if fresh.is_none() {
            self.gate.give_up(layer, now);
        }
    }

    /// Leaves out what comes and nothing else needs.
    fn thin(&mut self) {
        let (gate, bytes) = (&mut self.gate, &mut self.bytes);
        self.live.retain(|item| {
            let goes = item.header.droppable;
            if goes {
                *bytes -= item.sealed.len();
                gate.drop(&item.header);
            }
            !goes
        });
        self.droppable = 0;
    }

    /// Bytes that may go at once after a pause.
    fn depth(&self) -> f64 {
        self.rate_bps as f64 / 8000.0 * PACE * BURST_MS
    }

    fn fill(&mut self, now: Micros) {
        let ms = now.saturating_sub(self.filled) as f64 / MS as f64;
        self.filled = now;
        let rate = self.rate_bps as f64 / 8000.0;
        self.tokens = self.depth().min(self.tokens + rate * PACE * ms);
        self.repair_tokens = self
            .depth()
            .min(self.repair_tokens + rate * REPAIR_SHARE * ms);
        self.lent = (self.lent - rate * ms).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grove_frame::Kind;

    fn picture(number: u32, droppable: bool) -> Frame {
        let header = Header {
            kind: Kind::Delta {
                farthest: 0,
                nearest: 0,
            },
            spatial: 0,
            temporal: 0,
            number,
            capture_us: 0,
            sender: 1,
            stream: 0,
            track: 1,
            generation: 1,
            droppable,
            rotation: 0,
        };
        Frame {
            header,
            sealed: Bytes::from_static(&[0; 40]),
            at: 0,
        }
    }

    fn lane() -> Lane {
        let mut lane = Lane::new(1_000_000, 1 << 20, 0);
        lane.start(0, Some(Vec::new()), 0);
        lane
    }

    #[test]
    fn no_more_than_512_frames_wait_however_small() {
        let mut lane = lane();
        for number in 0..256 {
            lane.offer(&picture(number, number % 2 == 1), 0);
        }
        assert_eq!(lane.live.len(), 256);
        lane.offer(&picture(256, false), 0);
        assert_eq!(lane.live.len(), 129, "those that nothing needs go first");
        for number in 257..1000 {
            lane.offer(&picture(number, false), 0);
            assert!(lane.live.len() <= MAX_ITEMS);
        }
        assert!(lane.gate.waits(0), "and then the layer");
    }

    #[test]
    fn repairs_go_first_then_what_a_layer_begins_with_then_what_comes() {
        let mut lane = lane();
        lane.offer(&picture(10, true), 0);
        lane.offer(&picture(11, false), 0);
        lane.start(1, Some(Vec::new()), 0);
        let mut opening = picture(7, false);
        opening.header.spatial = 1;
        lane.start(1, Some(vec![opening]), 0);
        assert!(lane.resend(&picture(5, false), 0));
        assert!(lane.resend(&picture(6, false), 0));
        assert!(!lane.resend(&picture(11, false), 0), "it waits already");
        let mut order = Vec::new();
        while let Some((_, item)) = lane.head() {
            order.push(item.header.number);
            lane.take(0);
        }
        assert_eq!(order, [5, 6, 7, 10, 11]);
        assert_eq!((lane.bytes, lane.droppable), (0, 0));
    }

    #[test]
    fn asking_for_what_waits_already_uses_up_the_budget_for_repairs() {
        let mut lane = lane();
        lane.offer(&picture(1, false), 0);
        for _ in 0..1000 {
            lane.resend(&picture(1, false), 0);
        }
        assert!(!lane.resend(&picture(0, false), 0));
        assert!(lane.resend(&picture(0, false), 1000 * MS));
    }
}

//! What waits for one child of one stream, and when it may go. Sound does not wait here. A lane is paced to its allotted rate
//! and bounded in age and bytes: over the soft bound droppable frames go; over the hard bound everything up to the next key
//! frame, highest layer first, and the lane then wants a key frame. What the child gets at all is the [`Gate`]'s decision.
//!
//! A frame that waits is a slot in the queue: header, time and a share of the bytes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use grove_frame::Header;

use crate::Micros;
use crate::command::Layers;
use crate::frame::{Frame, MS};
use crate::gate::{Decision, Gate};

/// Pace over the allotted rate: encoders overshoot for a second at a time; what is over it is a burst to be spread.
const PACE: f64 = 2.0;
/// Depth of the bucket at the paced rate. A key frame is charged one bucket at most, whatever its size.
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
    cause: Cause,
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
    queue: VecDeque<Item>,
    bytes: usize,
    tokens: f64,
    repair_tokens: f64,
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
            queue: VecDeque::new(),
            bytes: 0,
            tokens: 0.0,
            repair_tokens: 0.0,
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

    /// Begins a layer with `frames` that a newcomer needs, or (`None`) at the next key frame. Frames that the child has
    /// already are not among them.
    pub(crate) fn start(&mut self, layer: u8, frames: Option<Vec<Frame>>, now: Micros) {
        self.gate.start(layer, frames.is_some(), now);
        for frame in frames.into_iter().flatten() {
            self.bytes += frame.sealed.len();
            let Frame { header, sealed, .. } = frame;
            self.queue.push_back(Item {
                header,
                sealed,
                at: now,
                cause: Cause::Replay,
            });
        }
    }

    pub(crate) fn stop(&mut self, layer: u8) {
        self.gate.stop(layer);
        let bytes = &mut self.bytes;
        self.queue.retain(|item| {
            let stays = item.header.spatial != layer;
            *bytes -= if stays { 0 } else { item.sealed.len() };
            stays
        });
    }

    /// Everything waits no longer, and nothing is sent: the link is gone.
    pub(crate) fn clear(&mut self) {
        for layer in 0..Layers::MAX {
            self.stop(layer);
        }
        self.queue = VecDeque::new();
        self.newest.clear();
    }

    /// A frame of the stream came: queued if this child gets it.
    pub(crate) fn offer(&mut self, frame: &Frame, now: Micros) {
        if self.gate.decide(&frame.header) != Decision::Send {
            return;
        }
        self.bytes += frame.sealed.len();
        self.queue.push_back(Item {
            header: frame.header,
            sealed: frame.sealed.clone(),
            at: now,
            cause: Cause::Live,
        });
        self.bound(now);
    }

    /// Sends a frame again, ahead of the others. False: over the budget for repairs, or not wanted, or it waits already.
    pub(crate) fn resend(&mut self, frame: &Frame, now: Micros) -> bool {
        self.fill(now);
        let h = &frame.header;
        if !self.gate.flows(h.spatial) || self.repair_tokens <= 0.0 {
            return false;
        }
        let same = |item: &Item| (item.header.spatial, item.header.number) == (h.spatial, h.number);
        if self.queue.iter().any(same) {
            return false;
        }
        self.repair_tokens -= frame.sealed.len() as f64;
        self.bytes += frame.sealed.len();
        let at = self
            .queue
            .iter()
            .take_while(|item| item.cause == Cause::Repair)
            .count();
        let item = Item {
            header: *h,
            sealed: frame.sealed.clone(),
            at: now,
            cause: Cause::Repair,
        };
        self.queue.insert(at, item);
        true
    }

    /// When the next frame was queued, if it may go now.
    pub(crate) fn ready(&mut self, now: Micros) -> Option<Micros> {
        let head = self.queue.front()?;
        let (at, live) = (head.at, head.cause == Cause::Live);
        self.fill(now);
        (!live || self.tokens > 0.0).then_some(at)
    }

    /// The next frame, to be sent now.
    pub(crate) fn take(&mut self, now: Micros) -> Option<Bytes> {
        let Item {
            header,
            sealed,
            cause,
            ..
        } = self.queue.pop_front()?;
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
            let size = sealed.len() as f64;
            self.tokens -= if header.is_key() {
                size.min(self.depth())
            } else {
                size
            };
        }
        Some(sealed)
    }

    /// By the clock. `choked`: sound stands before the socket.
    pub(crate) fn tick(&mut self, choked: bool, now: Micros) {
        let elapsed = (now - self.ticked).min(1000 * MS);
        self.ticked = now;
        self.bound(now);
        let held = self.over(SOFT, MIN_QUEUE_BYTES / 2, now);
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
        let queue = (!self.queue.is_empty()).then_some(now + LOOK);
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
        if self.over(SOFT, limit / 2, now)
            && self.remove(|item| item.header.droppable && item.cause == Cause::Live)
        {
            self.gate.thinned(now);
        }
        let young_key = self.key_taken.is_some_and(|at| now - at < AFTER_KEY);
        let hard = if young_key { AFTER_KEY } else { HARD };
        for layer in self.gate.layers().iter().rev() {
            for keep in [true, false] {
                if !self.over(hard, limit, now) {
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

    fn over(&self, age: Micros, bytes: usize, now: Micros) -> bool {
        self.bytes > bytes
            || self.queue.iter().any(|item| {
                let most = if item.cause == Cause::Live {
                    age
                } else {
                    age.max(REPLAY)
                };
                now - item.at > most
            })
    }

    /// Drops a layer's frames: up to a young key frame in the queue if one may be kept, else up to the next to come.
    fn give_up(&mut self, layer: u8, keep: bool, now: Micros) {
        let key = self
            .queue
            .iter()
            .rposition(|item| item.header.spatial == layer && item.header.is_key());
        let young = |at: &usize| {
            self.queue
                .get(*at)
                .is_some_and(|item| now - item.at <= HARD / 2)
        };
        let fresh = key.filter(|&at| keep && at > 0 && young(&at));
        let mut at = 0;
        self.remove(|item| {
            let passed = fresh.is_some_and(|fresh| at >= fresh);
            at += 1;
            item.header.spatial == layer && !passed
        });
        if fresh.is_none() {
            self.gate.give_up(layer, now);
        }
    }

    /// Leaves out frames on purpose. True when there were some.
    fn remove(&mut self, mut which: impl FnMut(&Item) -> bool) -> bool {
        let before = self.queue.len();
        let (gate, bytes) = (&mut self.gate, &mut self.bytes);
        self.queue.retain(|item| {
            let goes = which(item);
            if goes {
                *bytes -= item.sealed.len();
                gate.drop(&item.header);
            }
            !goes
        });
        self.queue.len() < before
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
    }
}

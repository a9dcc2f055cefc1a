//! A sender, a link and a receiver in virtual time: frames through a pacer, a bottleneck with a queue that drops its tail,
//! chance by a seed, and feedback as browsers send it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use grove_relay::Micros;
use grove_relay::rtp::estimate::{Estimator, Probe};
use grove_relay::rtp::rtcp::TransportFeedback;

pub const MS: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;
const TICK: Micros = 500;
const FRAME: Micros = SECOND / 30;
const PACKET: usize = 1_200;
const SOUND: usize = 120;
/// Sound each 20 ms: 48 kbit/s.
const SOUND_BPS: u64 = 48_000;

/// splitmix64.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    pub fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Moments at which one side gets no processor.
#[derive(Debug)]
struct Stalls {
    chance: Chance,
    /// Mean time between two, us; 0: none.
    gap: f64,
    longest: Micros,
    from: Micros,
    to: Micros,
}

impl Stalls {
    fn new(seed: u64, scene: &Scene) -> Self {
        let mut stalls = Self {
            chance: Chance(seed),
            gap: scene.stalls_every as f64,
            longest: scene.stalls_longest,
            from: 0,
            to: 0,
        };
        stalls.step();
        stalls
    }

    fn step(&mut self) {
        let gap = -(1.0 - self.chance.part()).ln() * self.gap;
        self.from = self.to + gap as Micros;
        self.to =
            self.from + 5 * MS + (self.chance.part() * (self.longest - 5 * MS) as f64) as Micros;
    }

    /// When what happens at `at` is seen to. `at` only grows.
    fn seen(&mut self, at: Micros, until: Micros) -> Micros {
        while self.gap > 0.0 && self.to < at && self.to < until {
            self.step();
        }
        if self.gap > 0.0 && (self.from..=self.to).contains(&at) && self.from < until {
            self.to
        } else {
            at
        }
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// As much as the estimate allows.
    Greedy,
    /// Frames of so many bit/s, as far as the estimate allows.
    Stream(u64),
}

/// A link, and who sends over it.
#[derive(Debug, Clone)]
pub struct Scene {
    pub seed: u64,
    pub start_bps: u64,
    pub demand: u64,
    pub load: Load,
    /// From when on it carries how much, bit/s; `u64::MAX` without a bound.
    pub capacity: Vec<(Micros, u64)>,
    pub queue_ms: u64,
    /// One way.
    pub delay: Micros,
    /// From when on the way takes so much longer.
    pub detour: (Micros, Micros),
    /// From when until when nothing gets through, either way.
    pub outage: (Micros, Micros),
    /// The link hands on what it has only so often, as radio does; 0: at once.
    pub bunch: Micros,
    /// From when until when somebody else downloads over the bottleneck.
    pub download: Option<(Micros, Micros)>,
    /// How much faster the receiver's clock runs.
    pub drift: f64,
    /// The sender has always more to send than it may, and sends whatever its pacer lets out.
    pub ignores: bool,
    /// Parts of the packets that chance takes.
    pub loss: f64,
    /// Until when the sides stall, the mean time between two stalls (0: none), and the longest; the shortest is 5 ms.
    pub stalls: Micros,
    pub stalls_every: Micros,
    pub stalls_longest: Micros,
    /// The pacer looks only so often, and lets out what it may have let out since.
    pub grain: Micros,
    pub feedback_every: Micros,
    /// Parts of the messages that are lost, that come twice, and that come 150 ms late.
    pub feedback_lost: f64,
    pub feedback_twice: f64,
    pub feedback_late: f64,
    pub first_seq: u16,
    /// The receiver's clock at the beginning, us.
    pub clock: i64,
}

impl Scene {
    pub fn new(load: Load, bps: u64) -> Self {
        Self {
            seed: 1,
            start_bps: 3_000_000,
            demand: 20_000_000,
            load,
            capacity: vec![(0, bps)],
            queue_ms: 300,
            delay: 20 * MS,
            loss: 0.0,
            stalls: Micros::MAX,
            stalls_every: 0,
            stalls_longest: 50 * MS,
            grain: TICK,
            detour: (Micros::MAX, 0),
            outage: (0, 0),
            bunch: 0,
            download: None,
            drift: 0.0,
            ignores: false,
            feedback_every: 100 * MS,
            feedback_lost: 0.0,
            feedback_twice: 0.0,
            feedback_late: 0.0,
            first_seq: 65_000,
            clock: 7_777_777,
        }
    }

    fn capacity_at(&self, now: Micros) -> u64 {
        let held = self.capacity.iter().rev().find(|(from, _)| *from <= now);
        held.map_or(u64::MAX, |(_, bps)| *bps)
    }
}

/// How things stood at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub at: Micros,
    pub bps: u64,
    pub acked: u64,
    /// The queue of the link.
    pub queue_ms: f64,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Trace {
    /// One each 10 ms.
    pub looks: Vec<Look>,
    /// Arrival at the receiver, and bytes.
    pub came: Vec<(Micros, usize)>,
    pub probes: Vec<(Micros, Probe)>,
    /// Bytes of media that found no room within the estimate.
    pub dropped: usize,
}

impl Trace {
    fn within(&self, from: Micros, to: Micros) -> impl Iterator<Item = &Look> {
        let range = from..to;
        self.looks
            .iter()
            .filter(move |look| range.contains(&look.at))
    }

    pub fn mean(&self, from: Micros, to: Micros) -> f64 {
        let sum: u64 = self.within(from, to).map(|look| look.bps).sum();
        sum as f64 / self.within(from, to).count() as f64
    }

    pub fn least(&self, from: Micros, to: Micros) -> u64 {
        self.within(from, to).map(|look| look.bps).min().unwrap()
    }

    pub fn most(&self, from: Micros, to: Micros) -> u64 {
        self.within(from, to).map(|look| look.bps).max().unwrap()
    }

    /// Below which the queue is for `part` of the time, ms.
    pub fn queue(&self, part: f64, from: Micros, to: Micros) -> f64 {
        let mut all: Vec<f64> = self.within(from, to).map(|look| look.queue_ms).collect();
        all.sort_by(f64::total_cmp);
        all[((all.len() - 1) as f64 * part) as usize]
    }

    /// Bit/s that came.
    pub fn through(&self, from: Micros, to: Micros) -> f64 {
        let came = self.came.iter().filter(|(at, _)| (from..to).contains(at));
        came.map(|(_, bytes)| *bytes).sum::<usize>() as f64 * 8e6 / (to - from) as f64
    }

    /// The first moment from `from` on at which the estimate is as asked for.
    pub fn first(&self, from: Micros, is: impl Fn(u64) -> bool) -> Option<Micros> {
        let look = self
            .looks
            .iter()
            .find(|look| look.at >= from && is(look.bps));
        look.map(|look| look.at - from)
    }
}

/// A transfer by TCP with Reno's congestion avoidance: it fills the queue until something is dropped.
#[derive(Debug)]
struct Download {
    during: (Micros, Micros),
    scene: Scene,
    busy: Rc<Cell<Micros>>,
    /// Packets that may be under way.
    window: f64,
    halved: Micros,
    /// When the sender knows of each packet, and whether it has come.
    under_way: VecDeque<(Micros, bool)>,
}

impl Download {
    fn new(during: (Micros, Micros), scene: Scene, busy: Rc<Cell<Micros>>) -> Self {
        Self {
            during,
            scene,
            busy,
            window: 10.0,
            halved: 0,
            under_way: VecDeque::new(),
        }
    }

    fn tick(&mut self, now: Micros) {
        while let Some(&(_, came)) = self.under_way.front().filter(|(at, _)| *at <= now) {
            self.under_way.pop_front();
            if came {
                self.window += 1.0 / self.window;
            } else if now > self.halved {
                self.window = (self.window / 2.0).max(2.0);
                // One decrease for all that was lost together.
                self.halved = now + 2 * self.scene.delay + self.scene.queue_ms * MS;
            }
        }
        let runs = (self.during.0..self.during.1).contains(&now);
        while runs && (self.under_way.len() as f64) < self.window {
            let busy = self.busy.get().max(now);
            let came = busy - now <= self.scene.queue_ms * MS;
            let sent = 1_500 * 8_000_000 / self.scene.capacity_at(now);
            let busy = if came { busy + sent } else { busy };
            self.busy.set(busy);
            self.under_way
                .push_back((busy + 2 * self.scene.delay, came));
        }
    }
}

#[derive(Debug)]
struct World {
    scene: Scene,
    chance: Chance,
    estimator: Estimator,
    sender: Stalls,
    receiver: Stalls,
    seq: u16,
    /// The link sends until then. Those who share it know the same.
    busy: Rc<Cell<Micros>>,
    /// Packets on the way: arrival, number, bytes.
    way: VecDeque<(Micros, u16, usize)>,
    /// The receiver's: which numbers have come when, from the first that was not told about.
    base: Option<u16>,
    arrivals: VecDeque<Option<Micros>>,
    told: u8,
    /// Messages on the way back.
    back: Vec<(Micros, TransportFeedback)>,
    media: VecDeque<usize>,
    /// The pacer may send from then on.
    free: Micros,
    train: Option<(Probe, usize, Micros)>,
    trace: Trace,
}

/// Runs for so long.
pub fn run(scene: &Scene, length: Micros) -> Trace {
    let mut traces = run_all(&[(0, scene.clone())], length);
    traces.remove(0)
}

/// Several that share one bottleneck, each from its moment on; the scenes should agree about the link.
pub fn run_all(scenes: &[(Micros, Scene)], length: Micros) -> Vec<Trace> {
    let busy = Rc::new(Cell::new(0));
    let worlds = scenes.iter().map(|(from, scene)| {
        let world = World::new(scene, busy.clone(), *from);
        (*from, world)
    });
    let mut worlds: Vec<(Micros, World)> = worlds.collect();
    let mut download = scenes.iter().find_map(|(_, scene)| {
        let during = scene.download?;
        Some(Download::new(during, scene.clone(), busy.clone()))
    });
    for now in (0..length).step_by(TICK as usize) {
        if let Some(download) = &mut download {
            download.tick(now);
        }
        for (_, world) in worlds.iter_mut().filter(|(from, _)| *from <= now) {
            world.tick(now);
        }
    }
    worlds.into_iter().map(|(_, world)| world.trace).collect()
}

impl World {
    fn new(scene: &Scene, busy: Rc<Cell<Micros>>, now: Micros) -> Self {
        let mut estimator = Estimator::new(scene.start_bps, now);
        estimator.set_demand(scene.demand);
        Self {
            chance: Chance(scene.seed),
            estimator,
            sender: Stalls::new(scene.seed + 1, scene),
            receiver: Stalls::new(scene.seed + 2, scene),
            seq: scene.first_seq,
            busy,
            way: VecDeque::new(),
            base: None,
            arrivals: VecDeque::new(),
            told: 0,
            back: Vec::new(),
            media: VecDeque::new(),
            free: now,
            train: None,
            trace: Trace::default(),
            scene: scene.clone(),
        }
    }
}

impl World {
    fn tick(&mut self, now: Micros) {
        if now % FRAME < TICK {
            self.frame();
        }
        if now % self.scene.feedback_every < TICK {
            self.tell(now);
        }
        let until = self.scene.stalls;
        let resumes = self.sender.seen(now, until);
        // A sender that stalls has stamped packets that leave only afterwards.
        if resumes == now || now - self.sender.from.min(now) < TICK {
            self.listen(now);
            if now % (20 * MS) < TICK {
                self.send(SOUND, now, resumes, false);
            }
            if now % self.scene.grain < TICK {
                self.pace(now, resumes);
            }
        }
        if now % (10 * MS) < TICK {
            self.trace.looks.push(Look {
                at: now,
                bps: self.estimator.bps(),
                acked: self.estimator.stats().acked_bps,
                queue_ms: self.busy.get().saturating_sub(now) as f64 / 1e3,
            });
        }
    }

    fn frame(&mut self) {
        let allowed = self.estimator.bps().saturating_sub(SOUND_BPS);
        let bps = match self.scene.load {
            Load::Greedy => allowed,
            Load::Stream(bps) if self.scene.ignores => bps,
            Load::Stream(bps) => bps.min(allowed),
        };
        let size = bps as f64 / 240.0 * (0.7 + 0.6 * self.chance.part());
        let waiting: usize = self.media.iter().sum();
        // What would wait for more than 200 ms is left out, as a lane does.
        if waiting as u64 * 8 * 5 > self.estimator.bps() {
            self.trace.dropped += size as usize;
            return;
        }
        let packets = (size as usize).div_ceil(PACKET).max(1);
        for _ in 0..packets {
            self.media.push_back(size as usize / packets + 40);
        }
    }

    fn pace(&mut self, now: Micros, leaves: Micros) {
        if self.train.is_none()
            && let Some(probe) = self.estimator.next_probe(now)
        {
            self.trace.probes.push((now, probe));
            self.train = Some((probe, 0, now));
        }
        while let Some((probe, sent, at)) = self.train {
            let size = (probe.bytes / probe.packets_at_least).min(PACKET);
            if sent >= probe.bytes && sent / size.max(1) >= probe.packets_at_least {
                self.train = None;
                break;
            }
            if at > now {
                break;
            }
            self.send(size, now, leaves, true);
            self.free = self.free.max(now) + size as u64 * 8_000_000 / self.estimator.pacing_bps();
            let next = at + size as u64 * 8_000_000 / probe.bps.max(1);
            self.train = Some((probe, sent + size, next));
        }
        while self.free <= now && self.train.is_none() {
            let Some(size) = self.media.pop_front() else {
                break;
            };
            self.send(size, now, leaves, false);
            let since = self.free.max(now.saturating_sub(self.scene.grain));
            self.free = since + size as u64 * 8_000_000 / self.estimator.pacing_bps();
        }
    }

    fn send(&mut self, bytes: usize, now: Micros, leaves: Micros, probe: bool) {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        self.estimator.sent(seq, bytes, now, probe);
        let bps = self.scene.capacity_at(leaves);
        let mut busy = self.busy.get().max(leaves);
        if busy - leaves > self.scene.queue_ms * MS {
            return;
        }
        if bps < u64::MAX {
            busy += bytes as u64 * 8_000_000 / bps;
            self.busy.set(busy);
        }
        if self.chance.part() >= self.scene.loss && !self.is_out(leaves) {
            let (from, longer) = self.scene.detour;
            let detour = if leaves >= from { longer } else { 0 };
            let handed = busy.next_multiple_of(self.scene.bunch.max(1));
            let arrives = handed + self.scene.delay + detour;
            self.way.push_back((arrives, seq, bytes));
        }
    }

    /// The receiver tells what has come.
    fn tell(&mut self, now: Micros) {
        let until = self.scene.stalls;
        while let Some(&(at, seq, bytes)) = self.way.front().filter(|(at, ..)| *at <= now) {
            self.way.pop_front();
            let seen = self.receiver.seen(at, until);
            self.trace.came.push((at, bytes));
            let base = *self.base.get_or_insert(self.scene.first_seq);
            let index = usize::from(seq.wrapping_sub(base));
            while self.arrivals.len() <= index {
                self.arrivals.push_back(None);
            }
            self.arrivals[index] = Some(seen);
        }
        let Some(first) = self.arrivals.iter().find_map(|at| *at) else {
            return;
        };
        let faster = 1.0 + self.scene.drift;
        let clock = |at: Micros| (self.scene.clock + (at as f64 * faster) as i64) / 250;
        let reference = clock(first) / 256;
        let mut last = reference * 256;
        let packets = self.arrivals.drain(..).map(|at| {
            let delta = clock(at?) - last;
            last += delta;
            Some(delta as i32)
        });
        let feedback = TransportFeedback {
            base_seq: self.base.unwrap(),
            count: self.told,
            reference_64ms: (reference << 40 >> 40) as i32,
            packets: packets.collect(),
        };
        self.told = self.told.wrapping_add(1);
        let next = feedback
            .base_seq
            .wrapping_add(feedback.packets.len() as u16);
        self.base = Some(next);
        let leaves = self.receiver.seen(now, until);
        let mut arrives = leaves + self.scene.delay;
        if self.chance.part() < self.scene.feedback_late {
            arrives += 150 * MS;
        }
        if self.chance.part() < self.scene.feedback_lost || self.is_out(leaves) {
            return;
        }
        if self.chance.part() < self.scene.feedback_twice {
            self.back.push((arrives + 30 * MS, feedback.clone()));
        }
        self.back.push((arrives, feedback));
    }

    fn is_out(&self, now: Micros) -> bool {
        (self.scene.outage.0..self.scene.outage.1).contains(&now)
    }

    fn listen(&mut self, now: Micros) {
        self.back.sort_by_key(|(at, _)| *at);
        while self.back.first().is_some_and(|(at, _)| *at <= now) {
            let (_, feedback) = self.back.remove(0);
            self.estimator.feedback(&feedback, now);
        }
    }
}

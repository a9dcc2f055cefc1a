//! The planner without a network around it: how much it does in a second, how much room it takes, and what becomes of its
//! trees when half of the viewers vanish at once. Times are this machine's and are reported, never tested.

use super::bounds;
use super::chance::Chance;
use super::forest::Forest;
use super::overlay::{Id, Micros, Move, Op, Overlay, ROOT};
use super::trace::{Arrivals, Mix, SECOND, Trace};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Joins that are told at once.
const BATCH: usize = 10_000;
const CHOICES: u64 = 31;

/// What it took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Speeds {
    /// Viewers who came in batches, one by one, and leave-join pairs; a second.
    pub batched: f64,
    pub single: f64,
    pub pairs: f64,
    /// Resident memory for each viewer, with the record of where it is.
    pub bytes: f64,
    /// Of a single operation.
    pub touched: u64,
}

/// A blow and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Blow {
    pub seconds: f64,
    /// Survivors whose parent vanished, and edges that changed.
    pub orphans: u64,
    pub edges: u64,
    /// Survivors that the plan forgot or left without a way to the root.
    pub lost: u64,
    /// Levels below the best that there could be with as many paid slots.
    pub deeper: i64,
}

/// A crowd and a planner, and the trees as announced.
struct Crowd<'a> {
    overlay: &'a mut dyn Overlay,
    arrivals: Arrivals,
    plan: Forest,
    /// Slots of those who are here.
    slots: Vec<Option<u32>>,
    moves: Vec<Move>,
    now: Micros,
}

impl<'a> Crowd<'a> {
    fn new(overlay: &'a mut dyn Overlay, mix: Mix, seed: u64) -> Self {
        let mut plan = Forest::default();
        plan.reach(ROOT);
        Self {
            overlay,
            arrivals: Arrivals::new(seed, Trace::Quiet, mix, false, 0),
            plan,
            slots: vec![None],
            moves: Vec::new(),
            now: SECOND,
        }
    }

    fn newcomer(&mut self, id: Id) -> Op {
        let peer = self.arrivals.next().peer;
        let len = self.slots.len().max(id as usize + 1);
        self.slots.resize(len, None);
        self.slots[id as usize] = Some(peer.slots());
        Op::Join(id, peer)
    }

    /// The planner's time alone.
    fn timed(&mut self, work: impl FnOnce(&mut dyn Overlay, Micros, &mut Vec<Move>)) -> Duration {
        self.moves.clear();
        let begun = Instant::now();
        work(self.overlay, self.now, &mut self.moves);
        begun.elapsed()
    }

    fn apply(&mut self) {
        for Move { child, parent, .. } in &self.moves {
            match parent {
                Some(parent) => self.plan.attach(*child, *parent),
                None => self.plan.detach(*child),
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.now += SECOND / 4;
            self.timed(|overlay, now, moves| overlay.handle(Op::Tick, now, moves));
            self.apply();
        }
    }
}

/// Measure speed and size with so many viewers.
pub(super) fn speeds(overlay: &mut dyn Overlay, viewers: u32, seed: u64) -> Speeds {
    let mut crowd = Crowd::new(overlay, Mix::Base, seed);
    let mut speeds = Speeds::default();
    let before = resident();
    let half = viewers / 2;
    let (mut batched, mut single, mut pairs) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for first in (1..=half).step_by(BATCH) {
        let ids = first..=half.min(first + BATCH as u32 - 1);
        let ops: Vec<Op> = ids.map(|id| crowd.newcomer(id)).collect();
        batched += crowd.timed(|overlay, now, moves| overlay.batch(&ops, now, moves));
        crowd.now += SECOND / 100;
    }
    for id in half + 1..=viewers {
        let op = crowd.newcomer(id);
        single += crowd.timed(|overlay, now, moves| overlay.handle(op, now, moves));
        speeds.touched = speeds.touched.max(crowd.overlay.touched().unwrap_or(0));
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        speeds.bytes = after.saturating_sub(before) as f64 / f64::from(viewers);
    }
    let mut chance = Chance::of(seed, 0, CHOICES);
    for _ in 0..viewers {
        let id = chance.below(viewers.into()) as Id + 1;
        let join = crowd.newcomer(id);
        crowd.now += SECOND / 10_000;
        for op in [Op::Leave(id), join] {
            pairs += crowd.timed(|overlay, now, moves| overlay.handle(op, now, moves));
            speeds.touched = speeds.touched.max(crowd.overlay.touched().unwrap_or(0));
        }
    }
    let rate = |count: u32, time: Duration| f64::from(count) / time.as_secs_f64().max(1e-9);
    speeds.batched = rate(half, batched);
    speeds.single = rate(viewers - half, single);
    speeds.pairs = rate(viewers, pairs);
    speeds
}

/// Everybody comes at once, in so many seconds of the planner's; then every second one vanishes at once.
pub(super) fn blow(overlay: &mut dyn Overlay, viewers: u32, seed: u64) -> (f64, Blow) {
    let mut crowd = Crowd::new(overlay, Mix::Base, seed);
    let ops: Vec<Op> = (1..=viewers).map(|id| crowd.newcomer(id)).collect();
    let flash = crowd.timed(|overlay, now, moves| overlay.batch(&ops, now, moves));
    crowd.apply();
    crowd.settle();
    let mut chance = Chance::of(seed, 1, CHOICES);
    let gone: Vec<Id> = (1..=viewers).filter(|_| chance.below(2) == 0).collect();
    let ops: Vec<Op> = gone.iter().map(|id| Op::Crash(*id)).collect();
    for id in &gone {
        crowd.slots[*id as usize] = None;
    }
    let here = |slots: &[Option<u32>], id: Id| slots[id as usize].is_some();
    let orphaned = |crowd: &Crowd| {
        let lost = |id: &Id| {
            crowd
                .plan
                .parent(*id)
                .is_some_and(|p| p != ROOT && !here(&crowd.slots, p))
        };
        (1..=viewers)
            .filter(|id| here(&crowd.slots, *id))
            .filter(lost)
            .count() as u64
    };
    let orphans = orphaned(&crowd);
    let time = crowd.timed(|overlay, now, moves| overlay.batch(&ops, now, moves));
    let edges = crowd.moves.iter().filter(|m| m.parent.is_some()).count() as u64;
    crowd.apply();
    gone.iter().for_each(|id| crowd.plan.detach(*id));
    let mut levels: Vec<u64> = Vec::new();
    let mut depth = vec![0usize; crowd.slots.len()];
    crowd.plan.walk(ROOT, |child, parent| {
        let level = depth[parent as usize] + 1;
        depth[child as usize] = level;
        levels.resize(levels.len().max(level), 0);
        levels[level - 1] += 1;
    });
    let mut mix: BTreeMap<u32, u64> = BTreeMap::new();
    for slots in crowd.slots.iter().flatten() {
        *mix.entry(*slots).or_default() += 1;
    }
    let mix: Vec<(u32, u64)> = mix.into_iter().collect();
    let best = bounds::levels(&mix, crowd.plan.count(ROOT).into());
    let blow = Blow {
        seconds: time.as_secs_f64(),
        orphans,
        edges,
        lost: mix.iter().map(|(_, count)| count).sum::<u64>() - levels.iter().sum::<u64>(),
        deeper: levels.len() as i64 - best.len() as i64,
    };
    (flash.as_secs_f64(), blow)
}

/// Resident bytes of this process.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

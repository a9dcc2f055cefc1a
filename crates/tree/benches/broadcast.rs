//! What a broadcast of a million watchers costs.
//!
//! First the figures that count work (nodes touched, edges, slots against their bounds) over a long churn, then times. Times
//! are reports: nothing fails on them. `cargo bench -p grove-tree --bench broadcast`; `GROVE_WATCHERS` and
//! `GROVE_PAIRS` set the size and how many come and go.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput};
use grove_tree::broadcast::{Broadcast, Counters, Options, bound};
use grove_tree::{Fact, Kind, Layers, NodeFacts, NodeId, Rates, StreamId};

const STREAM: StreamId = StreamId(1);
const ROOT: NodeId = NodeId(0);
const RELAYS: u32 = 40;
const RATE: u32 = 2_000_000;

/// SplitMix64: small, seeded, good enough to draw viewers from.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// 35 % cannot help, the others have 1, 2, 4 or 8 slots: 1.77 on average.
    fn watcher(&mut self) -> NodeFacts {
        let slots = match self.below(100) {
            0..35 => 0,
            35..60 => 1,
            60..80 => 2,
            80..92 => 4,
            _ => 8,
        };
        peer(slots)
    }
}

fn peer(slots: u16) -> NodeFacts {
    NodeFacts {
        uplink: 1_000_000_000_000,
        slots,
        ..NodeFacts::default()
    }
}

/// A stream, its root with `slots`, and relays that could bring as many places as anybody wants.
fn stage(slots: u16) -> Broadcast {
    let mut plan = Broadcast::new(Options::default());
    let mut layers = [0; Layers::MAX];
    layers[0] = RATE;
    plan.handle(Fact::Node(ROOT, peer(slots)), 0);
    plan.handle(Fact::Stream(STREAM, ROOT, Rates { audio: 0, layers }), 0);
    for relay in 1..=RELAYS {
        let facts = NodeFacts {
            kind: Kind::Relay,
            ..peer(1_000)
        };
        plan.handle(Fact::Node(NodeId(relay), facts), 0);
    }
    plan
}

fn crowd(draw: &mut Draw, first: u32, count: u32) -> Vec<Fact> {
    (first..first + count)
        .map(|id| Fact::Node(NodeId(id), draw.watcher()))
        .collect()
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(usual)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm
        .split_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok());
    pages.unwrap_or(0) * 4096
}

/// Who is there, to draw from and to reckon the bound from.
struct Crowd {
    alive: Vec<(NodeId, u16)>,
    next: u32,
}

impl Crowd {
    fn bound(&self, slots: u64) -> (u64, usize) {
        bound::depths(&self.caps(), slots)
    }

    fn caps(&self) -> bound::Caps {
        let mut caps = bound::Caps::default();
        for (_, slots) in &self.alive {
            caps[usize::from(*slots)] += 1;
        }
        caps
    }
}

fn depths(plan: &Broadcast, crowd: &Crowd) -> (u64, u8, usize) {
    let levels = crowd
        .alive
        .iter()
        .filter_map(|(id, _)| plan.parent(STREAM, *id));
    let (mut sum, mut deepest, mut count) = (0, 0, 0);
    for (_, level) in levels {
        sum += u64::from(level);
        deepest = deepest.max(level);
        count += 1;
    }
    (sum, deepest, count)
}

fn named(plan: &Broadcast, crowd: &Crowd) -> f64 {
    let served = crowd.alive.iter().filter(|(id, _)| {
        plan.parent(STREAM, *id)
            .is_some_and(|(parent, _)| parent != ROOT)
    });
    let (mut all, mut with) = (0u64, 0u64);
    for (id, _) in served {
        all += 1;
        with += u64::from(plan.backup(STREAM, *id).is_some());
    }
    with as f64 / all.max(1) as f64
}

fn tell(plan: &Broadcast, crowd: &Crowd, slots: u64, title: &str) {
    let used = u64::from(plan.relay_slots_used()) + slots;
    let (sum, deepest, count) = depths(plan, crowd);
    let need = bound::root_slots(&crowd.caps(), 6);
    let (best, best_deepest) = crowd.bound(used);
    println!(
        "{title}: {count} served, {} unserved, mean depth {:.4} (bound {:.4}, ratio {:.4}), deepest {deepest} (bound {best_deepest}), \
         relay slots {} used {} wanted, S(6) {need} with {slots} at the root, backups {:.4} %",
        plan.unserved(STREAM),
        sum as f64 / count.max(1) as f64,
        best as f64 / crowd.alive.len().max(1) as f64,
        sum as f64 / best as f64 * crowd.alive.len() as f64 / count.max(1) as f64,
        plan.relay_slots_used(),
        plan.relay_slots_wanted(),
        100.0 * named(plan, crowd),
    );
}

fn work(before: Counters, after: Counters, operations: u64) {
    let orphans = (after.orphans - before.orphans).max(1);
    println!(
        "  edges per orphan {:.4}, exactly minimal {:.2} %, deepened {}, balancing edges per operation {:.4}, nodes touched at most {}",
        (after.repairs - before.repairs) as f64 / orphans as f64,
        100.0 * (after.minimal - before.minimal) as f64
            / (after.departures - before.departures).max(1) as f64,
        after.deepened - before.deepened,
        (after.balanced - before.balanced) as f64 / operations as f64,
        after.touched_worst,
    );
}

fn figures(watchers: u32, slots: u16) {
    let mut draw = Draw(7);
    let empty = resident();
    let facts = crowd(&mut draw, 1_000, watchers);
    let mut plan = stage(slots);
    let room = resident();
    let start = Instant::now();
    plan.handle_batch(&facts, 0);
    let took = start.elapsed();
    let alive = facts.iter().filter_map(|fact| match fact {
        Fact::Node(id, facts) => Some((*id, facts.slots)),
        _ => None,
    });
    let mut crowd = Crowd {
        alive: alive.collect(),
        next: 1_000 + watchers,
    };
    println!(
        "{watchers} watchers, {} bytes each at start, in {took:?}",
        (resident() - room) / u64::from(watchers).max(1)
    );
    println!(
        "  (process {} MiB, without plan {} MiB)",
        resident() >> 20,
        empty >> 20
    );
    tell(&plan, &crowd, slots.into(), "batch join");
    let before = plan.counters();
    let mut now = 0;
    let pairs = number("GROVE_PAIRS", watchers.into());
    let start = Instant::now();
    let mut least = 1.0f64;
    for pair in 0..pairs {
        now = pair * 1_000 / 3_000;
        let at = draw.below(crowd.alive.len() as u64) as usize;
        let (gone, _) = crowd.alive.swap_remove(at);
        black_box(plan.handle(
            if pair % 2 == 0 {
                Fact::Left(gone)
            } else {
                Fact::Failed(gone)
            },
            now,
        ));
        let facts = draw.watcher();
        let id = NodeId(crowd.next);
        crowd.next += 1;
        black_box(plan.handle(Fact::Node(id, facts), now));
        crowd.alive.push((id, facts.slots));
        while plan.poll_timeout().is_some_and(|at| at <= now) {
            black_box(plan.handle_timeout(now));
        }
        while plan.poll_backup().is_some() {}
        if pair % (pairs / 8).max(1) == 0 {
            least = least.min(named(&plan, &crowd));
        }
    }
    println!(
        "churn: {pairs} pairs in {:?}, backups at worst {:.4} %",
        start.elapsed(),
        100.0 * least
    );
    tell(&plan, &crowd, slots.into(), "after churn");
    work(before, plan.counters(), 2 * pairs);

    let before = plan.counters();
    let half: Vec<Fact> = crowd
        .alive
        .iter()
        .step_by(2)
        .map(|(id, _)| Fact::Failed(*id))
        .collect();
    crowd.alive = crowd.alive.iter().skip(1).step_by(2).copied().collect();
    let start = Instant::now();
    let changes = plan.handle_batch(&half, now);
    let took = start.elapsed();
    let orphans = plan.counters().orphans - before.orphans;
    println!(
        "half dies: {took:?}, {orphans} orphans, edges {:.4} per orphan, {} entries",
        (plan.counters().edges - before.edges) as f64 / orphans.max(1) as f64,
        changes.len(),
    );
    tell(&plan, &crowd, slots.into(), "after half died");
}

fn times(criterion: &mut Criterion, watchers: u32) {
    let facts = crowd(&mut Draw(7), 1_000, watchers);
    let mut group = criterion.benchmark_group("broadcast");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(watchers)));
    group.bench_function("batch join", |bench| {
        bench.iter_batched(
            || stage(64),
            |mut plan| (plan.handle_batch(&facts, 0), plan),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("single joins", |bench| {
        bench.iter_batched(
            || stage(64),
            |mut plan| {
                for fact in &facts {
                    black_box(plan.handle(*fact, 0));
                }
                plan
            },
            BatchSize::PerIteration,
        );
    });
    let full = || {
        let mut plan = stage(64);
        plan.handle_batch(&facts, 0);
        plan
    };
    let half: Vec<Fact> = (1_000..1_000 + watchers)
        .step_by(2)
        .map(|id| Fact::Failed(NodeId(id)))
        .collect();
    group.bench_function("crash of half", |bench| {
        bench.iter_batched(
            full,
            |mut plan| (plan.handle_batch(&half, 0), plan),
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(1));
    group.sample_size(50);
    group.bench_function("leave and join", |bench| {
        let (mut plan, mut draw, mut next) = (full(), Draw(9), 1_000 + watchers);
        let mut alive: Vec<NodeId> = (1_000..next).map(NodeId).collect();
        bench.iter(|| {
            let at = draw.below(alive.len() as u64) as usize;
            black_box(plan.handle(Fact::Left(alive[at]), 0));
            alive[at] = NodeId(next);
            black_box(plan.handle(Fact::Node(NodeId(next), draw.watcher()), 0));
            next += 1;
        });
    });
    group.finish();
}

fn main() {
    let watchers = number("GROVE_WATCHERS", 1_000_000) as u32;
    // A root that suffices alone, and one that needs relays.
    figures(watchers, 64);
    figures(watchers, 4);
    let mut criterion = Criterion::default().configure_from_args();
    times(&mut criterion, watchers);
    criterion.final_summary();
}

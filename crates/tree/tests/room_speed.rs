//! How long a fact and a rebuild take in a room of fifty who all send. Ignored: times are for reading, not for judging.
//!
//! `cargo test --release -p grove-tree --test room_speed -- --ignored --nocapture`

use std::time::Duration;

use grove_tree::{Fact, Kind, NodeFacts, NodeId, Plan, Policy, Rates, StreamId};

const RELAY: NodeId = NodeId(60_000);

/// A generator of numbers; the constants are those of Knuth's MMIX.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn facts(kind: Kind, uplink: u64) -> NodeFacts {
    NodeFacts {
        kind,
        uplink,
        forwards: true,
        slots: if kind == Kind::Relay { 10_000 } else { 64 },
        ..NodeFacts::default()
    }
}

const RATES: Rates = Rates {
    audio: 32_000,
    layers: [100_000, 300_000, 0, 0],
};

/// What this thread has run so far: others on the machine do not count. Nothing where the system does not say.
fn ran() -> Duration {
    // The figure is brought up to date when the thread gives way.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// One room's times.
#[derive(Default)]
struct Times {
    facts: Vec<Duration>,
    rebuilds: Vec<Duration>,
}

impl Times {
    fn pass(&mut self, plan: &mut Plan, now: u64) {
        while let Some(at) = plan.poll_timeout().filter(|&at| at <= now) {
            let start = ran();
            plan.handle_timeout(at);
            self.rebuilds.push(ran() - start);
        }
    }

    fn fact(&mut self, plan: &mut Plan, fact: Fact, now: u64) {
        let start = ran();
        plan.handle(fact, now);
        self.facts.push(ran() - start);
    }

    fn say(mut self, what: &str) {
        let line = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            let at = |part: usize| {
                times
                    .get(times.len() * part / 100)
                    .copied()
                    .unwrap_or_default()
            };
            format!(
                "{:5} times, median {:9.3?}, p99 {:9.3?}, worst {:9.3?}",
                times.len(),
                at(50),
                at(99),
                times.last().copied().unwrap_or_default()
            )
        };
        println!("{what:34} facts    {}", line(&mut self.facts));
        println!("{what:34} rebuilds {}", line(&mut self.rebuilds));
    }
}

fn measure(what: &str, nodes: u32, (low, high): (u64, u64), relay: bool) {
    let mut draw = Draw(11);
    let mut plan = Plan::new(Policy::Auto);
    let mut times = Times::default();
    let mut now = 0;
    if relay {
        plan.handle(Fact::Node(RELAY, facts(Kind::Relay, 10_000_000_000)), now);
    }
    let mut uplinks: Vec<u64> = (0..nodes)
        .map(|_| (low + draw.below(high - low)) * 1_000)
        .collect();
    for (id, &uplink) in (0..).zip(&uplinks) {
        plan.handle(
            Fact::Node(NodeId(id), facts(Kind::Participant, uplink)),
            now,
        );
        plan.handle(Fact::Stream(StreamId(id), NodeId(id), RATES), now);
        now += 100;
        times.pass(&mut plan, now);
    }
    for _ in 0..200 {
        now += 1_500;
        times.pass(&mut plan, now);
        let at = draw.below(u64::from(nodes));
        let id = NodeId(at as u32);
        let Some(uplink) = uplinks.get_mut(at as usize) else {
            continue;
        };
        match draw.below(4) {
            0 => {
                let other = StreamId(draw.below(u64::from(nodes)) as u32);
                times.fact(
                    &mut plan,
                    Fact::Wants(other, id, Some(draw.below(2) as u8)),
                    now,
                );
            }
            1 => {
                times.fact(&mut plan, Fact::Failed(id), now);
                now += 100;
                times.fact(
                    &mut plan,
                    Fact::Node(id, facts(Kind::Participant, *uplink)),
                    now,
                );
                times.fact(&mut plan, Fact::Stream(StreamId(at as u32), id, RATES), now);
            }
            2 => {
                times.fact(
                    &mut plan,
                    Fact::Node(id, facts(Kind::Participant, *uplink / 2)),
                    now,
                );
            }
            _ => {
                *uplink = (low + draw.below(high - low)) * 1_000;
                times.fact(
                    &mut plan,
                    Fact::Node(id, facts(Kind::Participant, *uplink)),
                    now,
                );
            }
        }
    }
    times.say(what);
}

#[test]
#[ignore = "times are for reading"]
fn times_of_facts_and_rebuilds() {
    measure("50, plenty", 50, (16_000, 40_000), false);
    measure("50, just enough", 50, (8_000, 30_000), false);
    measure("50, 1-22 Mbit/s, no relay", 50, (1_000, 22_000), false);
    measure("50, 1-22 Mbit/s, relay", 50, (1_000, 22_000), true);
    measure("20, 1-10 Mbit/s, relay", 20, (1_000, 10_000), true);
}

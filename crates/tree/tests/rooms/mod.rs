//! Random rooms in which everybody sends one layer to everybody, and what the plan makes of them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use grove_tree::{Fact, Kind, NodeFacts, NodeId, Plan, Policy, Rates, StreamId};

/// One copy, bit/s.
pub const COPY: u64 = 1_032_000;
pub const RELAY: NodeId = NodeId(60_000);

/// A generator of numbers; the constants are those of Knuth's MMIX.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

/// How uplinks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Within a fifth about the mean.
    Alike,
    /// Anything from a fifth to nine fifths of the mean.
    Uniform,
    /// Half the room at a half, a few at four times.
    Concentrated,
}

impl Spread {
    pub const ALL: [Spread; 3] = [Spread::Alike, Spread::Uniform, Spread::Concentrated];
}

/// The uplinks of a room of 3 to `most` that suffice for a mesh in sum, of which they are filled between a half and 95 %.
pub fn random(draw: &mut Draw, most: u64, spread: Spread) -> Vec<u64> {
    let count = 3 + draw.below(most - 2);
    let filled = 500 + draw.below(451);
    let weights: Vec<u64> = (0..count)
        .map(|_| match spread {
            Spread::Alike => 800 + draw.below(401),
            Spread::Uniform => 200 + draw.below(1_601),
            Spread::Concentrated => {
                [500, 500, 500, 500, 1_000, 1_000, 2_000, 4_000][draw.below(8) as usize]
            }
        })
        .collect();
    let sum: u64 = weights.iter().sum();
    let need = count * (count - 1) * COPY * 1_000 / filled;
    weights
        .iter()
        .map(|weight| (need * weight / sum).max(COPY * 11 / 10))
        .collect()
}

/// A room after everything has come to rest.
pub fn settled(uplinks: &[u64], relay: bool) -> Plan {
    let mut plan = Plan::new(Policy::Auto);
    let facts = |kind, uplink| NodeFacts {
        kind,
        uplink,
        forwards: true,
        slots: 5_000,
        ..NodeFacts::default()
    };
    if relay {
        plan.handle(Fact::Node(RELAY, facts(Kind::Relay, 1 << 40)), 0);
    }
    for (id, &uplink) in (0..).zip(uplinks) {
        plan.handle(Fact::Node(NodeId(id), facts(Kind::Participant, uplink)), 0);
    }
    let rates = Rates {
        audio: 32_000,
        layers: [1_000_000, 0, 0, 0],
    };
    for id in 0..uplinks.len() as u32 {
        plan.handle(Fact::Stream(StreamId(id), NodeId(id), rates), 0);
    }
    while let Some(at) = plan.poll_timeout() {
        plan.handle_timeout(at);
    }
    plan
}

#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub nodes: usize,
    /// By how many copies the one furthest above the water level is above it.
    pub above: f64,
    pub jain: f64,
    /// The best that whole copies allow.
    pub best_jain: f64,
    pub one_role: usize,
    pub two_roles: usize,
    /// How many must have two roles: streams that need help less nodes that can give any.
    pub fewest_double: usize,
    pub depth: u8,
    /// Receivers at two hops, as a part.
    pub far: f64,
    pub missing: usize,
}

pub fn measure(uplinks: &[u64]) -> Measured {
    let plan = settled(uplinks, false);
    let count = uplinks.len();
    let demand = (count * (count - 1)) as u64 * COPY;
    let sum: u64 = uplinks.iter().sum();
    let level = (demand as f64 / sum as f64).max(0.5);
    let (mut load, mut roles): (BTreeMap<u32, u64>, BTreeMap<u32, usize>) = Default::default();
    let (mut depth, mut far, mut missing) = (0, 0, 0);
    for tree in plan.trees() {
        missing += tree.unserved.len();
        let mut helpers: Vec<u32> = Vec::new();
        for edge in &tree.edges {
            *load.entry(edge.edge.parent.0).or_default() += u64::from(edge.edge.rate);
            missing += usize::from(edge.edge.layers.is_empty());
            depth = depth.max(edge.level);
            far += usize::from(edge.level > 1);
            if edge.edge.parent != tree.root {
                helpers.push(edge.edge.parent.0);
            }
        }
        helpers.sort_unstable();
        helpers.dedup();
        for helper in helpers {
            *roles.entry(helper).or_default() += 1;
        }
    }
    let used: Vec<(f64, f64)> = (0..)
        .zip(uplinks)
        .map(|(id, &uplink)| (load.get(&id).copied().unwrap_or(0) as f64, uplink as f64))
        .collect();
    let above = used
        .iter()
        .map(|&(load, uplink)| (load - level * uplink) / COPY as f64)
        .fold(f64::MIN, f64::max);
    let best_jain = jain(&rounded(uplinks, level, (count * (count - 1)) as u64));
    let parts: Vec<f64> = used.iter().map(|&(load, uplink)| load / uplink).collect();
    let own = ((count - 1) as u64 * COPY) as f64;
    let short = used
        .iter()
        .filter(|&&(_, uplink)| own > level * uplink + COPY as f64)
        .count();
    let able = used
        .iter()
        .filter(|&&(_, uplink)| own + COPY as f64 <= level * uplink + COPY as f64)
        .count();
    Measured {
        nodes: count,
        above,
        jain: jain(&parts),
        best_jain,
        one_role: (0..count as u32)
            .filter(|id| roles.get(id).copied().unwrap_or(0) <= 1)
            .count(),
        two_roles: (0..count as u32)
            .filter(|id| roles.get(id).copied().unwrap_or(0) <= 2)
            .count(),
        fewest_double: short.saturating_sub(able),
        depth,
        far: far as f64 / (count * (count - 1)) as f64,
        missing,
    }
}

/// Jain's index of fairness.
fn jain(parts: &[f64]) -> f64 {
    let (sum, squares) = (
        parts.iter().sum::<f64>(),
        parts.iter().map(|part| part * part).sum::<f64>(),
    );
    sum * sum / (parts.len() as f64 * squares)
}

/// What everybody uses of its uplink if whole copies are dealt out by largest remainder, at least one each.
fn rounded(uplinks: &[u64], level: f64, copies: u64) -> Vec<f64> {
    let level = level.min((copies * COPY) as f64 / uplinks.iter().sum::<u64>() as f64);
    let exact: Vec<f64> = uplinks
        .iter()
        .map(|&uplink| level * uplink as f64 / COPY as f64)
        .collect();
    let mut whole: Vec<u64> = exact
        .iter()
        .map(|exact| (exact.floor() as u64).max(1))
        .collect();
    for _ in whole.iter().sum::<u64>()..copies {
        let at = (0..whole.len())
            .max_by(|&a, &b| (exact[a] - whole[a] as f64).total_cmp(&(exact[b] - whole[b] as f64)));
        if let Some(at) = at {
            whole[at] += 1;
        }
    }
    whole
        .iter()
        .zip(uplinks)
        .map(|(&copies, &uplink)| (copies * COPY) as f64 / uplink as f64)
        .collect()
}

//! Who comes, with what, and for how long. The n-th arrival of a seed is the same person under every planner.

use super::chance::Chance;
use super::network::REGIONS;
use super::overlay::{Micros, Peer, RATE};
use clap::ValueEnum;

pub(super) const SECOND: Micros = 1_000_000;
/// Purposes of generators.
const FACTS: u64 = 1;
const STAY: u64 = 2;
const GROUP: u64 = 3;
const LOTS: u64 = 4;
/// Share of viewers with a symmetric NAT, permille, that bars 20 % of the pairs.
pub(super) const SYMMETRIC: u32 = 447;

/// How viewers come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// Stays are log-normal, median 5 min, sigma 1.5; whoever goes is followed by another.
    Lognormal,
    /// Stays are Pareto, shape 1.5, median 5 min.
    Pareto,
    /// Stays are Weibull, shape 0.5, median 5 min.
    Weibull,
    /// Everybody comes within 10 s; then as log-normal.
    Flash,
    /// As log-normal; at half-time 60 % go within 30 s and nobody follows.
    Exodus,
    /// Arrivals swell and ebb, one day in the run.
    Diurnal,
    /// Groups of 3.37 on average come and go together; 38 min.
    Meetings,
    /// As log-normal, and ten times a second whoever has the largest subtree is killed.
    Adversary,
    /// Nobody goes.
    Quiet,
}

/// What uplinks people have: copies of the stream and how many of 100 viewers have room for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// 0: 35 %, 1: 25, 2: 20, 4: 12, 8: 8; mean 1.77.
    Base,
    /// 0: 15 %, 1: 15, 2: 20, 4: 30, 8: 20; mean 3.35.
    Strong,
    /// 0: 55 %, 1: 24, 2: 13, 4: 6, 8: 2; mean 0.9.
    Weak,
    /// Everybody 2, as BBVoice reckons.
    Two,
}

impl Mix {
    /// Slots and the share of viewers that have them, percent.
    pub(super) fn shares(self) -> &'static [(u32, u64)] {
        match self {
            Self::Base => &[(0, 35), (1, 25), (2, 20), (4, 12), (8, 8)],
            Self::Strong => &[(0, 15), (1, 15), (2, 20), (4, 30), (8, 20)],
            Self::Weak => &[(0, 55), (1, 24), (2, 13), (4, 6), (8, 2)],
            Self::Two => &[(2, 100)],
        }
    }

    /// Slots per viewer.
    pub(super) fn mean(self) -> f64 {
        let sum: u64 = self.shares().iter().map(|(k, s)| u64::from(*k) * s).sum();
        sum as f64 / 100.0
    }

    /// How many of `viewers` have how many slots.
    pub(super) fn counts(self, viewers: u64) -> Vec<(u32, u64)> {
        self.shares()
            .iter()
            .map(|&(slots, share)| (slots, viewers * share / 100))
            .collect()
    }
}

/// One who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The how manieth.
    pub ordinal: u64,
    pub peer: Peer,
    /// `None`: to the end.
    pub stay: Option<Micros>,
    /// Vanishes at the end instead of leaving politely.
    pub crashes: bool,
}

/// Draws one after the other.
#[derive(Debug)]
pub(super) struct Arrivals {
    seed: u64,
    trace: Trace,
    mix: Mix,
    nat: bool,
    crash_permille: u32,
    next: u64,
    /// Of the group that is arriving (`Meetings`): how many are still to come and how long it stays.
    group: (u64, Micros),
}

impl Arrivals {
    pub(super) fn new(seed: u64, trace: Trace, mix: Mix, nat: bool, crash_permille: u32) -> Self {
        Self {
            seed,
            trace,
            mix,
            nat,
            crash_permille,
            next: 0,
            group: (0, 0),
        }
    }

    pub(super) fn next(&mut self) -> Arrival {
        let ordinal = self.next;
        self.next += 1;
        let mut facts = Chance::of(self.seed, ordinal, FACTS);
        let mut share = self.lot(ordinal);
        let slots = self
            .mix
            .shares()
            .iter()
            .find(|(_, of)| {
                let here = share < *of;
                share = share.saturating_sub(*of);
                here
            })
            .map_or(0, |(slots, _)| *slots);
        let peer = Peer {
            // An eighth of a copy is left over: a tenth of noise takes a slot from whoever has two or more, and
            // stripes find no more room than whole copies do.
            uplink: RATE * slots + RATE / 8,
            region: facts.below(u64::from(REGIONS)) as u8,
            symmetric: facts.permille(SYMMETRIC) && self.nat,
        };
        Arrival {
            ordinal,
            peer,
            crashes: facts.permille(self.crash_permille),
            stay: self.stay(ordinal),
        }
    }

    /// 0..100: each once in every hundred who come, in an order of that hundred's own. So there are exactly as many strong
    /// and weak ones as the mix says, and bounds hold for the crowd that is there.
    fn lot(&self, ordinal: u64) -> u64 {
        let mut block = Chance::of(self.seed, ordinal / 100, LOTS);
        // Has no divisor in common with 100.
        let step = 10 * block.below(10) + [1, 3, 7, 9][block.below(4) as usize];
        (block.below(100) + step * ordinal) % 100
    }

    fn stay(&mut self, ordinal: u64) -> Option<Micros> {
        let mut chance = Chance::of(self.seed, ordinal, STAY);
        let seconds = match self.trace {
            Trace::Quiet => return None,
            Trace::Pareto => 300.0 / 2f64.powf(1.0 / 1.5) / chance.unit().powf(1.0 / 1.5),
            Trace::Weibull => {
                300.0 / std::f64::consts::LN_2.powi(2) * (-chance.unit().ln()).powi(2)
            }
            Trace::Meetings => {
                if self.group.0 == 0 {
                    let mut group = Chance::of(self.seed, ordinal, GROUP);
                    let mut size = 2;
                    // Two at least, 1.37 more on average.
                    while group.below(237) < 137 {
                        size += 1;
                    }
                    let stay = 38.0 * 60.0 * (0.5 + group.unit());
                    self.group = (size, (stay * SECOND as f64) as Micros);
                }
                self.group.0 -= 1;
                return Some(self.group.1 + chance.below(2 * SECOND));
            }
            _ => 300.0 * (1.5 * normal(&mut chance)).exp(),
        };
        // Nobody is gone before having come, and a day is for ever.
        Some((seconds.clamp(0.5, 86_400.0) * SECOND as f64) as Micros)
    }
}

/// Box and Muller.
fn normal(chance: &mut Chance) -> f64 {
    let radius = (-2.0 * chance.unit().ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median_stay(trace: Trace) -> f64 {
        let mut arrivals = Arrivals::new(1, trace, Mix::Base, false, 200);
        let mut stays: Vec<_> = (0..4001).filter_map(|_| arrivals.next().stay).collect();
        stays.sort_unstable();
        stays[2000] as f64 / SECOND as f64
    }

    #[test]
    fn the_middle_one_stays_five_minutes_whatever_the_tail() {
        for trace in [Trace::Lognormal, Trace::Pareto, Trace::Weibull] {
            let median = median_stay(trace);
            assert!((270.0..330.0).contains(&median), "{trace:?}: {median}");
        }
    }

    #[test]
    fn mixes_have_the_means_they_are_said_to_have() {
        let means = [Mix::Base, Mix::Strong, Mix::Weak, Mix::Two].map(Mix::mean);
        assert_eq!(means, [1.77, 3.35, 0.9, 2.0]);
        let mut arrivals = Arrivals::new(3, Trace::Quiet, Mix::Base, true, 200);
        let all: Vec<_> = (0..10_000).map(|_| arrivals.next()).collect();
        let slots: u32 = all.iter().map(|a| a.peer.slots()).sum();
        assert_eq!(slots, 17_700);
        let symmetric = all.iter().filter(|a| a.peer.symmetric).count();
        assert!((4_200..4_740).contains(&symmetric), "{symmetric}");
    }

    #[test]
    fn a_meeting_goes_together() {
        let mut arrivals = Arrivals::new(1, Trace::Meetings, Mix::Base, false, 0);
        let stays: Vec<_> = (0..300).filter_map(|_| arrivals.next().stay).collect();
        let alone = (1..stays.len() - 1)
            .filter(|&i| {
                stays[i].abs_diff(stays[i - 1]) > 2 * SECOND
                    && stays[i].abs_diff(stays[i + 1]) > 2 * SECOND
            })
            .count();
        assert_eq!(alone, 0);
    }
}

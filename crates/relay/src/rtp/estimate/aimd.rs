//! The rate that the delay allows: additive or multiplicative increase, multiplicative decrease
//! (draft-ietf-rmcat-gcc-02, section 5.5).
//!
//! Where it differs from the draft: a decrease needs a queue that stands ([`super::queue`]), not a trend alone. What stands
//! is drained by going below the [`BETA`] for a moment, after which the rate is back at that at once. And a queue that
//! stays where it is although less is sent for the second time is taken for the way itself, and the rate is as before.

use super::State;
use super::delay::Signal;
use crate::Micros;

/// What of the acknowledged rate is left by a decrease. Less: room to drain; more: rate. The draft's 0.85.
pub(super) const BETA: f64 = 0.85;
/// A link that narrows shows its new rate at once, but so does a stall that has not ended: so much of the longer measure counts
/// at least.
const NOT_YET: f64 = 0.5;
/// Increase per second where nothing is known of the capacity: the draft's 1.08.
const GROWTH: f64 = 0.08;
/// Increase per second near the capacity, as parts of the rate, whatever a packet per response time would be.
const NEAR: (f64, f64) = (0.01, 0.05);
/// A packet, bits.
const PACKET: f64 = 9600.0;
/// Not beyond this many times what was acknowledged: the draft's 1.5.
const BEYOND_ACKED: f64 = 1.5;
const BEYOND_ACKED_BPS: f64 = 10_000.0;
/// A queue (ms) that makes a growing delay a full link. Below is what jitter and the size of packets amount to: a packet of
/// 1200 bytes takes 32 ms at 300 kbit/s, of which the least of several is the smallest packet's.
const STANDS: f64 = 20.0;
/// A queue (ms) that is too long, growing or not, unless it is draining.
const LONG: f64 = 60.0;
/// Not draining: more is left than this part of what stood at the last decrease.
const DRAINS: f64 = 0.8;
/// So much less is sent per ms of the queue beyond [`LONG`], down to [`LEAST_BETA`] of what is acknowledged: 200 ms drain in
/// about half a second.
const DRAIN_PER_MS: f64 = 1.0 / 600.0;
const LEAST_BETA: f64 = 0.5;
/// What stands (ms) when a queue counts as drained.
const DRAINED: f64 = 12.0;
/// After the second decrease in vain in a row the way is believed to have got longer. More: a new, longer path costs more
/// rate; fewer: a queue is believed that only drains slowly.
const IN_VAIN: u32 = 2;
/// The effect of a decrease is waited for so long, besides a round trip.
const SETTLE: Micros = 200_000;
const SETTLE_LONG: Micros = 500_000;
/// A queue takes twice its length to drain when half of what the link carries is sent ([`LEAST_BETA`]). Gone after less than
/// this part of its length, besides a round trip, it was none.
const SOONEST: f64 = 1.5;
/// A decrease stands alone if for so long, besides two round trips, there was none.
const ALONE: Micros = 1_000_000;

/// What is known when a rate is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub signal: Signal,
    pub standing_ms: f64,
    /// Over a short and over a longer time, bit/s.
    pub acked_now: Option<f64>,
    pub acked: Option<f64>,
    pub round_trip: Micros,
    /// No increase beyond this, bit/s.
    pub most: f64,
    pub least: f64,
}

/// Mean and spread of the rates at which queues grew.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    kbps: f64,
    /// Variance by the mean, kbit/s.
    deviation: f64,
}

impl Capacity {
    const WEIGHT: f64 = 0.05;

    fn margin(&self) -> f64 {
        3.0 * (self.deviation * self.kbps).sqrt()
    }

    fn holds(&self, bps: f64) -> bool {
        (bps / 1000.0 - self.kbps).abs() <= self.margin()
    }

    fn learn(known: Option<Self>, bps: f64) -> Self {
        let kbps = bps / 1000.0;
        match known.filter(|known| known.holds(bps)) {
            None => Self {
                kbps,
                deviation: 0.4,
            },
            Some(known) => {
                let mean = known.kbps + Self::WEIGHT * (kbps - known.kbps);
                let spread = (mean - kbps).powi(2) / mean.max(1.0);
                let deviation = known.deviation + Self::WEIGHT * (spread - known.deviation);
                Self {
                    kbps: mean,
                    deviation: deviation.clamp(0.4, 2.5),
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Aimd {
    bps: f64,
    state: State,
    changed: Micros,
    /// When, and what stood.
    decreased: Option<(Micros, f64)>,
    in_vain: u32,
    /// The last decrease is the first for a while, so what drains after it is not due to one before.
    alone: bool,
    /// The rate, and what was acknowledged, before the last decrease that was not in vain.
    before: f64,
    proven: f64,
    /// Where to go on when the queue is drained.
    drain_to: Option<f64>,
    capacity: Option<Capacity>,
}

impl Aimd {
    pub(super) fn new(bps: f64, now: Micros) -> Self {
        Self {
            bps,
            state: State::Increase,
            changed: now,
            decreased: None,
            in_vain: 0,
            alone: false,
            before: bps,
            proven: 0.0,
            drain_to: None,
            capacity: None,
        }
    }

    pub(super) fn bps(&self) -> f64 {
        self.bps
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// A probe showed that more gets through.
    pub(super) fn raise(&mut self, bps: f64) {
        self.bps = self.bps.max(bps);
        self.drain_to = None;
        if self.capacity.is_some_and(|known| !known.holds(self.bps)) {
            self.capacity = None;
        }
    }

    /// True: the queue that stands is to be taken for the way itself.
    pub(super) fn update(&mut self, facts: &Facts, now: Micros) -> bool {
        let since = now.saturating_sub(self.changed).min(1_000_000) as f64 / 1e6;
        self.changed = now;
        if self.is_over(facts, now) {
            return self.decrease(facts, now);
        }
        if facts.standing_ms < STANDS {
            self.in_vain = 0;
        }
        if self.was_no_queue(facts, now) {
            self.bps = self.bps.max(self.before.min(facts.most));
            self.decreased = None;
            self.drain_to = None;
        }
        let settled = self.settled(facts.round_trip + SETTLE, now);
        if !settled || facts.signal != Signal::Normal || facts.standing_ms >= STANDS {
            self.state = State::Hold;
            return false;
        }
        self.state = State::Increase;
        self.increase(facts, since);
        false
    }

    fn settled(&self, after: Micros, now: Micros) -> bool {
        self.decreased
            .is_none_or(|(at, _)| now.saturating_sub(at) >= after)
    }

    fn is_over(&self, facts: &Facts, now: Micros) -> bool {
        if facts.signal == Signal::Over && facts.standing_ms > STANDS {
            return self.settled(facts.round_trip + SETTLE, now);
        }
        let stood = self.decreased.map_or(0.0, |(_, stood)| stood);
        let draining = self.drain_to.is_some()
            && facts.standing_ms < DRAINS * stood
            && facts.signal != Signal::Over;
        facts.standing_ms > LONG && !draining && self.settled(facts.round_trip + SETTLE_LONG, now)
    }

    /// What stood at the last decrease is gone sooner than any link could have sent it on: everything stood still.
    fn was_no_queue(&self, facts: &Facts, now: Micros) -> bool {
        let Some((at, stood)) = self.decreased else {
            return false;
        };
        let soonest = facts.round_trip + (SOONEST * stood * 1000.0) as Micros;
        self.alone
            && self.drain_to.is_some()
            && facts.standing_ms < DRAINED
            && now.saturating_sub(at) < soonest
    }

    fn decrease(&mut self, facts: &Facts, now: Micros) -> bool {
        let stood = self.decreased.map_or(0.0, |(_, stood)| stood);
        let stays = self.drain_to.is_some() && facts.standing_ms > DRAINS * stood;
        self.in_vain = if stays { self.in_vain + 1 } else { 0 };
        self.alone = self.settled(2 * facts.round_trip + ALONE, now);
        self.decreased = Some((now, facts.standing_ms));
        self.state = State::Decrease;
        if self.in_vain >= IN_VAIN {
            self.in_vain = 0;
            self.drain_to = None;
            self.bps = self.bps.max(self.proven.min(facts.most));
            return true;
        }
        let acked = facts.acked_now.unwrap_or(self.bps);
        let acked = acked.max(NOT_YET * facts.acked.unwrap_or(0.0));
        if self.in_vain == 0 {
            self.before = self.bps;
            self.proven = acked.min(self.bps);
        }
        self.capacity = Some(Capacity::learn(self.capacity, acked));
        let to = (BETA * acked).min(self.bps);
        let drain = ((facts.standing_ms - LONG) * DRAIN_PER_MS).clamp(0.0, BETA - LEAST_BETA);
        self.drain_to = Some(to);
        self.bps = to.min((BETA - drain) * acked).max(facts.least);
        false
    }

    fn increase(&mut self, facts: &Facts, since: f64) {
        let beyond = facts
            .acked
            .map_or(self.bps, |acked| BEYOND_ACKED * acked + BEYOND_ACKED_BPS);
        if facts.standing_ms < DRAINED
            && let Some(to) = self.drain_to.take()
        {
            self.bps = self.bps.max(to.min(facts.most));
        }
        let response = (facts.round_trip + 100_000) as f64 / 1e6;
        let step = match self.capacity {
            Some(known) if known.holds(self.bps) => {
                (PACKET / response).clamp(NEAR.0 * self.bps, NEAR.1 * self.bps)
            }
            known => {
                if known.is_some_and(|known| self.bps / 1000.0 > known.kbps) {
                    self.capacity = None;
                }
                GROWTH * self.bps
            }
        };
        let most = beyond.min(facts.most);
        if self.bps < most {
            self.bps = (self.bps + step * since).min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        signal: Signal::Normal,
        standing_ms: 0.0,
        acked_now: Some(1e6),
        acked: Some(1e6),
        round_trip: 50_000,
        most: 1e7,
        least: 5e4,
    };

    fn run(aimd: &mut Aimd, facts: &Facts, from: Micros, ms: u64) -> (f64, u32) {
        let steps = (0..=ms / 100).map(|step| from + step * 100_000);
        let accepted = steps.filter(|now| aimd.update(facts, *now)).count();
        (aimd.bps().round(), accepted as u32)
    }

    #[test]
    fn a_trend_without_a_queue_holds_and_with_one_decreases_once_per_response() {
        let mut aimd = Aimd::new(1e6, 0);
        let over = Facts {
            signal: Signal::Over,
            ..FACTS
        };
        assert_eq!(run(&mut aimd, &over, 0, 1000).0, 1e6);
        let queue = Facts {
            standing_ms: 40.0,
            ..over
        };
        assert_eq!(run(&mut aimd, &queue, 1_000_000, 200).0, 850_000.0);
    }

    #[test]
    fn a_long_queue_is_drained_below_and_left_at_once_to_the_draft_s_decrease() {
        let mut aimd = Aimd::new(2e6, 0);
        let long = Facts {
            standing_ms: 180.0,
            ..FACTS
        };
        assert_eq!(run(&mut aimd, &long, 0, 0).0, 650_000.0);
        let (bps, _) = run(&mut aimd, &FACTS, 400_000, 0);
        assert!((850_000.0..880_000.0).contains(&bps), "{bps}");
    }

    #[test]
    fn what_is_gone_sooner_than_it_could_drain_was_no_queue() {
        for (after, expected) in [(300_000, 2e6), (400_000, 650_000.0)] {
            let mut aimd = Aimd::new(2e6, 0);
            let long = Facts {
                standing_ms: 180.0,
                ..FACTS
            };
            assert_eq!(run(&mut aimd, &long, 0, 0).0, 650_000.0);
            let gone = Facts {
                signal: Signal::Under,
                ..FACTS
            };
            assert_eq!(run(&mut aimd, &gone, after, 0).0, expected);
        }
    }

    #[test]
    fn a_queue_that_nothing_drains_is_the_way_itself() {
        let mut aimd = Aimd::new(2e6, 0);
        let long = Facts {
            standing_ms: 100.0,
            ..FACTS
        };
        assert_eq!(run(&mut aimd, &long, 0, 1_500), (1e6, 1));
    }

    #[test]
    fn increase_ends_at_what_is_wanted_and_at_what_was_acknowledged() {
        let mut aimd = Aimd::new(1e6, 0);
        assert_eq!(run(&mut aimd, &FACTS, 0, 30_000).0, 1_510_000.0);
        let wanted = Facts {
            most: 1.2e6,
            ..FACTS
        };
        let mut aimd = Aimd::new(1e6, 0);
        assert_eq!(run(&mut aimd, &wanted, 0, 30_000).0, 1_200_000.0);
    }
}

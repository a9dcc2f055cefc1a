//! The rate that loss allows (draft-ietf-rmcat-gcc-02, section 6): nothing below 2 %, no increase above, a decrease above
//! 10 %. It holds beside the rate that the delay allows; the lesser counts.
//!
//! Radio loses packets however little is sent, and the draft's decrease would go on forever. So a decrease here is a trial: to
//! what gets through, at once, and then loss is measured again. A link that was too full loses nothing then. One that still
//! loses half as much loses by itself: the decrease is taken back, and so much is taken for the link's own loss from then on
//! (as libwebrtc's `LossBasedBweV2` asks for the inherent loss, by experiment in place of a likelihood).

use crate::Micros;

const HOLD: f64 = 0.02;
const DOWN: f64 = 0.10;
/// Increase per second while nothing is lost.
const GROWTH: f64 = 0.08;
/// Of what gets through: so that a queue drains a little.
const BACKOFF: f64 = 0.95;
/// Packets and time of one look: many packets, or what has come after longer. Fewer: chance is taken for loss.
const LOOKS: [(u64, Micros); 3] = [(100, 200_000), (40, 500_000), (15, 1_500_000)];
/// Packets and time of a trial.
const TRIALS: [(u64, Micros); 2] = [(80, 500_000), (20, 2_000_000)];
/// A limit so far above the rate that the delay allows limits nothing any more.
const IDLE: f64 = 1.5;

#[derive(Debug)]
struct Trial {
    /// Feedback until then may be about packets from before.
    from: Micros,
    before: Option<f64>,
    loss: f64,
}

#[derive(Debug, Default)]
pub(super) struct Loss {
    limit: Option<f64>,
    arrived: u64,
    lost: u64,
    since: Option<Micros>,
    /// Of the last look.
    fraction: f64,
    /// What the link loses by itself.
    own: f64,
    /// It loses too much for an increase.
    holds: bool,
    trial: Option<Trial>,
    /// The last message about single packets.
    told: Option<Micros>,
}

/// What is known when loss is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    /// The rate that the delay allows, and what got through, bit/s.
    pub bps: f64,
    pub acked: Option<f64>,
    pub least: f64,
    pub round_trip: Micros,
}

/// A receiver's report counts only when so long nothing was told about single packets.
const SILENT: Micros = 2_000_000;
/// The packets that a report counts for.
const REPORTED: u64 = 100;

impl Loss {
    pub(super) fn limit(&self) -> Option<f64> {
        self.limit
    }

    pub(super) fn fraction(&self) -> f64 {
        self.fraction
    }

    /// Too much is lost for probing or an increase.
    pub(super) fn holds(&self) -> bool {
        self.holds || self.trial.is_some()
    }

    /// A probe showed that more gets through.
    pub(super) fn raise(&mut self, bps: f64) {
        if self.trial.is_none() {
            self.limit = self.limit.map(|limit| limit.max(bps));
        }
    }

    pub(super) fn report(&mut self, fraction: u8, facts: &Facts, now: Micros) {
        if self.told.is_none_or(|at| now.saturating_sub(at) > SILENT) {
            let lost = REPORTED * u64::from(fraction) / 256;
            self.count(REPORTED - lost, lost, facts, now);
        }
    }

    /// Packets of one message: that have come, that have not, and that have come late and were lost before.
    pub(super) fn feedback(
        &mut self,
        (arrived, lost, recovered): (u32, u32, u32),
        facts: &Facts,
        now: Micros,
    ) {
        if arrived > 0 || lost > 0 {
            self.told = Some(now);
        }
        self.lost = self.lost.saturating_sub(u64::from(recovered));
        self.count(u64::from(arrived), u64::from(lost), facts, now);
    }

    fn count(&mut self, arrived: u64, lost: u64, facts: &Facts, now: Micros) {
        if self.trial.as_ref().is_some_and(|trial| now < trial.from) {
            return;
        }
        self.arrived += arrived;
        self.lost += lost;
        let total = self.arrived + self.lost;
        let since = now.saturating_sub(*self.since.get_or_insert(now));
        let looks: &[_] = if self.trial.is_some() {
            &TRIALS
        } else {
            &LOOKS
        };
        if !looks.iter().any(|look| total >= look.0 && since >= look.1) {
            return;
        }
        let fraction = self.lost as f64 / total as f64;
        (self.arrived, self.lost, self.since) = (0, 0, None);
        self.fraction = fraction;
        match self.trial.take() {
            Some(trial) => self.judge(&trial, fraction),
            None => self.look(fraction, total, since, facts, now),
        }
    }

    fn judge(&mut self, trial: &Trial, fraction: f64) {
        if fraction > trial.loss / 2.0 {
            self.limit = trial.before;
            self.own = self.own.max(fraction);
        } else {
            // No congestion either, for it was sent less than gets through; but not beyond doubt.
            self.own = self.own.max(fraction.min(DOWN));
        }
    }

    fn look(&mut self, fraction: f64, total: u64, since: Micros, facts: &Facts, now: Micros) {
        if fraction < self.own {
            self.own += 0.3 * (fraction - self.own);
        }
        let chance = (fraction * (1.0 - fraction) / total as f64).sqrt();
        let surely = (fraction - chance - self.own).max(0.0) / (1.0 - self.own).max(0.01);
        self.holds = surely > HOLD;
        if surely > DOWN {
            let through = BACKOFF * facts.acked.unwrap_or(facts.bps * (1.0 - fraction));
            let limit = self.limit.unwrap_or(facts.bps).min(facts.bps);
            self.trial = Some(Trial {
                from: now + facts.round_trip + 100_000,
                before: self.limit,
                loss: fraction,
            });
            self.limit = Some(through.min(limit).max(facts.least));
        } else if !self.holds
            && let Some(limit) = self.limit
        {
            let limit = limit * (1.0 + GROWTH * since.min(1_000_000) as f64 / 1e6);
            self.limit = Some(limit).filter(|limit| *limit < IDLE * facts.bps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of 50 packets, ten a second, of which `lost` are lost at the rate that is allowed.
    fn run(loss: &mut Loss, seconds: u64, from: u64, lost: impl Fn(f64) -> u32) -> f64 {
        for step in from * 10..(from + seconds) * 10 {
            let bps = loss.limit().unwrap_or(1e6).min(1e6);
            let lost = lost(bps);
            let facts = Facts {
                bps: 1e6,
                acked: Some(bps * f64::from(50 - lost) / 50.0),
                least: 5e4,
                round_trip: 50_000,
            };
            loss.feedback((50 - lost, lost, 0), &facts, step * 100_000);
        }
        loss.limit().unwrap_or(1e6)
    }

    /// A link that carries 400 kbit/s and drops the rest.
    fn policer(bps: f64) -> u32 {
        (50.0 * (1.0 - 4e5 / bps).max(0.0)) as u32
    }

    #[test]
    fn a_link_that_drops_what_is_too_much_gets_what_it_carries() {
        let mut loss = Loss::default();
        let bps = run(&mut loss, 1, 0, policer);
        assert!((370_000.0..400_000.0).contains(&bps), "{bps}");
        let bps = run(&mut loss, 20, 1, policer);
        assert!((370_000.0..460_000.0).contains(&bps), "{bps}");
    }

    #[test]
    fn a_link_that_loses_by_itself_keeps_its_rate() {
        for lost in [0, 2, 4, 5, 10, 20] {
            let mut loss = Loss::default();
            assert_eq!(run(&mut loss, 10, 0, |_| lost), 1e6, "{lost} of 50");
        }
    }

    #[test]
    fn its_own_loss_is_forgotten_when_it_ends() {
        let mut loss = Loss::default();
        run(&mut loss, 10, 0, |_| 10);
        run(&mut loss, 10, 10, |_| 0);
        let bps = run(&mut loss, 2, 20, policer);
        assert!((370_000.0..450_000.0).contains(&bps), "{bps}");
    }
}

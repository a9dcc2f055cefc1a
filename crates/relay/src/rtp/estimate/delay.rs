//! Does the time on the way grow? Packets in bursts, the variation of delay between bursts, its trend, and a threshold that
//! adapts (draft-ietf-rmcat-gcc-02, sections 4.2 to 5.4; the trend by least squares in place of its Kalman filter, and bursts
//! that are merged on arrival, as in libwebrtc's `TrendlineEstimator` and `InterArrivalDelta`).

use std::collections::VecDeque;

use super::history::Arrival;

/// Packets that left within so long are one burst, us.
const BURST: i64 = 5_000;
/// Arrivals closer than their departures and within [`BURST`] of each other belong together up to this length, us.
const LONGEST_BURST: i64 = 100_000;
/// A clock that jumps by more begins anew, us.
const JUMP: i64 = 3_000_000;
/// Bursts in the trend. More: slower; fewer: noise.
const WINDOW: usize = 20;
/// Weight of the old in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// The slope (ms per ms) is small; so it is brought to the threshold's scale.
const GAIN: f64 = 4.0;
const DELTAS: u32 = 60;
/// ms; the draft's `del_var_th(0)`, its bounds and its two speeds. It grows slowly, so that a flow beside this one that makes
/// queues itself does not starve it, and shrinks faster once that flow has gone.
const THRESHOLD: f64 = 12.5;
const LEAST: f64 = 6.0;
const MOST: f64 = 600.0;
const K_UP: f64 = 0.0087;
const K_DOWN: f64 = 0.039;
/// Further from the threshold than this is a jump, to which the threshold does not adapt.
const OUTLIER: f64 = 15.0;
/// The trend must be over for so long, ms.
const OVER_MS: f64 = 10.0;

/// What the delay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Signal {
    #[default]
    Normal,
    Over,
    Under,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    first_sent: i64,
    last_sent: i64,
    first_arrived: i64,
    last_arrived: i64,
}

#[derive(Debug)]
pub(super) struct Delay {
    burst: Option<Burst>,
    before: Option<Burst>,
    /// Arrival since `origin` and smoothed delay, ms.
    points: VecDeque<(f64, f64)>,
    origin: i64,
    sum: f64,
    smoothed: f64,
    deltas: u32,
    trend: f64,
    threshold: f64,
    over_for: Option<f64>,
    overs: u32,
    signal: Signal,
}

impl Default for Delay {
    fn default() -> Self {
        Self {
            burst: None,
            before: None,
            points: VecDeque::with_capacity(WINDOW + 1),
            origin: 0,
            sum: 0.0,
            smoothed: 0.0,
            deltas: 0,
            trend: 0.0,
            threshold: THRESHOLD,
            over_for: None,
            overs: 0,
            signal: Signal::Normal,
        }
    }
}

impl Delay {
    pub(super) fn signal(&self) -> Signal {
        self.signal
    }

    /// Slope of the delay, ms per ms.
    pub(super) fn trend(&self) -> f64 {
        self.trend
    }

    /// True: a burst ended with this packet, so the signal was looked at anew.
    pub(super) fn arrived(&mut self, arrival: &Arrival) -> bool {
        let sent = i64::try_from(arrival.sent).unwrap_or(i64::MAX);
        let arrived = arrival.arrived;
        let new = Burst {
            first_sent: sent,
            last_sent: sent,
            first_arrived: arrived,
            last_arrived: arrived,
        };
        let Some(burst) = &mut self.burst else {
            self.burst = Some(new);
            return false;
        };
        if arrived.abs_diff(burst.last_arrived) > JUMP as u64
            && sent.abs_diff(burst.last_sent) < JUMP as u64
        {
            *self = Self {
                burst: Some(new),
                threshold: self.threshold,
                ..Self::default()
            };
            return false;
        }
        if sent < burst.first_sent {
            return false;
        }
        if sent - burst.first_sent <= BURST || burst.takes(sent, arrived) {
            burst.last_sent = burst.last_sent.max(sent);
            burst.last_arrived = burst.last_arrived.max(arrived);
            return false;
        }
        let ended = *burst;
        self.burst = Some(new);
        let Some(before) = self.before.replace(ended) else {
            return false;
        };
        let sent_ms = (ended.last_sent - before.last_sent) as f64 / 1000.0;
        let arrived_ms = ended.last_arrived.saturating_sub(before.last_arrived) as f64 / 1000.0;
        if arrived_ms < 0.0 || arrived_ms > JUMP as f64 / 1000.0 {
            return false;
        }
        self.delta(sent_ms, arrived_ms, ended.last_arrived);
        true
    }

    fn delta(&mut self, sent_ms: f64, arrived_ms: f64, at: i64) {
        self.deltas = (self.deltas + 1).min(1000);
        if self.deltas == 1 {
            self.origin = at;
        }
        self.sum += arrived_ms - sent_ms;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.sum;
        let x = at.saturating_sub(self.origin) as f64 / 1000.0;
        self.points.push_back((x, self.smoothed));
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        let last = self.trend;
        if self.points.len() == WINDOW {
            self.trend = slope(&self.points).unwrap_or(self.trend);
        }
        self.detect(last, sent_ms, arrived_ms);
    }

    fn detect(&mut self, last: f64, sent_ms: f64, arrived_ms: f64) {
        let trend = f64::from(self.deltas.min(DELTAS)) * self.trend * GAIN;
        self.signal = if trend > self.threshold {
            let over = match self.over_for {
                // When it began is not known: half of the delta.
                None => sent_ms / 2.0,
                Some(over) => over + sent_ms,
            };
            self.over_for = Some(over);
            self.overs += 1;
            if over > OVER_MS && self.overs > 1 && self.trend >= last {
                self.over_for = Some(0.0);
                self.overs = 0;
                Signal::Over
            } else {
                self.signal
            }
        } else {
            self.over_for = None;
            self.overs = 0;
            if trend < -self.threshold {
                Signal::Under
            } else {
                Signal::Normal
            }
        };
        let beyond = trend.abs() - self.threshold;
        if beyond <= OUTLIER {
            let k = if beyond < 0.0 { K_DOWN } else { K_UP };
            let threshold = self.threshold + k * beyond * arrived_ms.min(100.0);
            self.threshold = threshold.clamp(LEAST, MOST);
        }
    }
}

impl Burst {
    /// Does the packet belong to the burst because a queue sent it on together with it?
    fn takes(&self, sent: i64, arrived: i64) -> bool {
        let after = arrived.saturating_sub(self.last_arrived);
        let grows = after.saturating_sub(sent - self.last_sent);
        sent == self.last_sent
            || grows < 0
                && after <= BURST
                && arrived.saturating_sub(self.first_arrived) < LONGEST_BURST
    }
}

/// By least squares. `None`: all points stand at one moment.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let (x, y) = (x / count, y / count);
    let (above, below) = points.iter().fold((0.0, 0.0), |sum, point| {
        let dx = point.0 - x;
        (sum.0 + dx * (point.1 - y), sum.1 + dx * dx)
    });
    (below > f64::EPSILON).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals of packets 10 ms apart, with the delays (ms) that `way` gives.
    fn signals(packets: u64, way: impl Fn(u64) -> i64) -> Vec<Signal> {
        let mut delay = Delay::default();
        let arrivals = (0..packets).map(|number| Arrival {
            number,
            sent: number * 10_000,
            arrived: number as i64 * 10_000 + way(number) * 1000,
            bytes: 1200,
            gap: false,
        });
        let looks = arrivals.map(|arrival| {
            delay.arrived(&arrival);
            delay.signal()
        });
        looks.collect()
    }

    #[test]
    fn an_even_way_is_normal_whatever_its_length() {
        for way in [0, 20, 5_000_000] {
            assert!(
                signals(300, |_| way)
                    .iter()
                    .all(|signal| *signal == Signal::Normal)
            );
        }
    }

    #[test]
    fn a_way_that_grows_is_over_and_one_that_shrinks_is_under() {
        let over = signals(100, |number| number.saturating_sub(50) as i64 * 2);
        let first = over.iter().position(|signal| *signal == Signal::Over);
        assert!(
            first.is_some_and(|first| (52..75).contains(&first)),
            "{first:?}"
        );
        let under = signals(100, |number| 200 - number.saturating_sub(50) as i64 * 2);
        assert!(under.contains(&Signal::Under) && !under.contains(&Signal::Over));
    }

    #[test]
    fn a_clock_that_jumps_leaves_no_trend() {
        let looks = signals(200, |number| if number < 100 { 0 } else { -90_000 });
        assert!(looks.iter().all(|signal| *signal == Signal::Normal));
        let mut delay = Delay::default();
        for arrived in [0, i64::MAX, i64::MIN, 5, i64::MIN, i64::MAX] {
            for sent in [0, u64::MAX, 7_000, 90_000_000] {
                delay.arrived(&Arrival {
                    number: 0,
                    sent,
                    arrived,
                    bytes: 1,
                    gap: false,
                });
                assert!(delay.trend().is_finite());
            }
        }
    }
}

//! Does more get through than is sent? A short train of packets at a higher rate, and the rate at which it arrives
//! (libwebrtc's `ProbeController` and `ProbeBitrateEstimator`).
//!
//! One train at a time, and only while the link is neither full nor lossy. One that gets through is followed by a faster one
//! at once; after one that does not, the next waits.

use super::history::Arrival;
use crate::Micros;

/// A train to be sent now, at `bps`, in packets of one size as even in time as can be: sent in one go it shows nothing. Its
/// bytes are to be charged to the pacer like all others, so that less follows and what it queued drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub bps: u64,
    /// In all, with IP and UDP headers.
    pub bytes: usize,
    pub packets_at_least: usize,
}

/// Length of a train, us; twice that after one that came whole and showed nothing, up to four times: radio hands packets on in bunches, which
/// cut short trains in two. Longer: more is queued if it does not get through. Shorter: lost in the grain of arrival times.
const LENGTH: f64 = 20_000.0;
const STRETCH: u32 = 2;
const PACKETS: usize = 5;
/// Packets within so long, us, are one bunch: its bytes were sent on before its time, so a rate is counted from the end of the
/// first bunch on.
const BUNCH: i64 = 1_000;
/// Parts of the train that must have come.
const COMPLETE: f64 = 0.8;
/// A train that arrives faster than it left by more was held up on its way, and let go.
const COMPRESSED: f64 = 1.3;
/// Below this part of the rate at which it left, what arrives is what the link carries; of that so much is used.
const FULL: f64 = 0.9;
const USED: f64 = 0.95;
/// A train that gets through with this part of its rate or more is followed by a faster one.
const ENOUGH: f64 = 0.7;
/// The first two, by the first estimate unless that was too much already; the others by the present one.
const FIRST: [f64; 2] = [3.0, 6.0];
const THEN: f64 = 2.0;
/// Between trains in vain: doubling. More often: queues; more seldom: a link that recovers is noticed late.
const INTERVAL: (Micros, Micros) = (1_000_000, 4_000_000);
/// After one that showed nothing (cut in two by a stall, lost).
const AGAIN: Micros = 250_000;
/// And so often in a row, before it counts as one in vain.
const BLURRED: u32 = 4;
/// No answer after so long is none.
const PATIENCE: Micros = 1_000_000;

#[derive(Debug)]
struct Train {
    probe: Probe,
    issued: Micros,
    first: Option<u64>,
    last: u64,
    packets: usize,
    bytes: usize,
    /// Those of the probe itself, without what was sent between.
    own: (usize, usize),
    /// The first departure, and where the last bunch began.
    departures: (Micros, Micros),
    last_bytes: usize,
    came: usize,
    came_bytes: usize,
    /// Beginning and end of the first bunch, and the last arrival.
    arrivals: Option<(i64, i64, i64)>,
    first_bytes: usize,
}

impl Train {
    fn is_whole(&self) -> bool {
        self.own.0 >= self.probe.packets_at_least && self.own.1 >= self.probe.bytes
    }

    fn is_complete(&self) -> bool {
        self.came as f64 >= COMPLETE * self.packets as f64
            && self.came_bytes as f64 >= COMPLETE * self.bytes as f64
    }

    /// The rate that got through. `None`: nothing can be told.
    fn result(&self) -> Option<f64> {
        let (_, from, to) = self.arrivals?;
        let sent_us = self.departures.1.saturating_sub(self.departures.0) as f64;
        let came_us = to.saturating_sub(from) as f64;
        let patience = PATIENCE as f64;
        if !self.is_complete()
            || sent_us <= 0.0
            || came_us <= 0.0
            || sent_us > patience
            || came_us > patience
        {
            return None;
        }
        let sent = self.bytes.saturating_sub(self.last_bytes) as f64 * 8e6 / sent_us;
        let came = self.came_bytes.saturating_sub(self.first_bytes) as f64 * 8e6 / came_us;
        if came > COMPRESSED * sent {
            return None;
        }
        let through = if came < FULL * sent {
            USED * came
        } else {
            came.min(sent)
        };
        Some(through.min(self.probe.bps as f64))
    }
}

#[derive(Debug)]
pub(super) struct Probes {
    start_bps: f64,
    train: Option<Train>,
    /// Trains of [`FIRST`] that were issued.
    begun: usize,
    next: Micros,
    interval: Micros,
    blurred: u32,
    /// How often the length of the next train is doubled.
    stretch: u32,
}

impl Probes {
    pub(super) fn new(start_bps: f64, now: Micros) -> Self {
        Self {
            start_bps,
            train: None,
            begun: 0,
            next: now,
            interval: INTERVAL.0,
            blurred: 0,
            stretch: 0,
        }
    }

    /// When [`Self::next`] is to be asked, if the link is fit for a probe (`ready`).
    pub(super) fn timeout(&self, ready: bool) -> Option<Micros> {
        match &self.train {
            Some(train) => Some(train.issued + PATIENCE),
            None => ready.then_some(self.next),
        }
    }

    /// A train of at most `most` bit/s, if one is due.
    pub(super) fn next(&mut self, bps: f64, most: f64, ready: bool, now: Micros) -> Option<Probe> {
        if let Some(train) = &self.train {
            if now < train.issued + PATIENCE {
                return None;
            }
            self.train = None;
            self.blur(now);
        }
        if !ready || now < self.next {
            return None;
        }
        let first = FIRST.get(self.begun).filter(|_| bps >= self.start_bps);
        let first = first.map(|times| times * self.start_bps);
        self.begun += 1;
        let to = first.unwrap_or(0.0).max(THEN * bps).min(most);
        let probe = Probe {
            bps: to as u64,
            bytes: ((to * LENGTH / 8e6) as usize) << self.stretch,
            packets_at_least: PACKETS,
        };
        self.train = Some(Train {
            probe,
            issued: now,
            first: None,
            last: 0,
            packets: 0,
            bytes: 0,
            own: (0, 0),
            departures: (now, now),
            last_bytes: 0,
            came: 0,
            came_bytes: 0,
            arrivals: None,
            first_bytes: 0,
        });
        Some(probe)
    }

    /// A packet leaves. What leaves between the packets of a train counts as part of it.
    pub(super) fn sent(&mut self, number: u64, bytes: usize, probe: bool, now: Micros) {
        let Some(train) = &mut self.train else { return };
        if train.is_whole() || train.first.is_none() && !probe {
            return;
        }
        if train.first.is_none() {
            train.first = Some(number);
            train.departures.0 = now;
        }
        train.last = number;
        if now > train.departures.1.saturating_add(BUNCH as Micros) || train.packets == 0 {
            train.departures.1 = now;
            train.last_bytes = 0;
        }
        train.last_bytes += bytes;
        train.packets += 1;
        train.bytes += bytes;
        if probe {
            train.own = (train.own.0 + 1, train.own.1 + bytes);
        }
    }

    /// The rate that a train got through, when that is known with this arrival.
    pub(super) fn arrived(&mut self, arrival: &Arrival, now: Micros) -> Option<f64> {
        let train = self.train.as_mut()?;
        let first = train.first?;
        if arrival.number < first {
            return None;
        }
        if arrival.number <= train.last {
            let bytes = usize::from(arrival.bytes);
            train.came += 1;
            train.came_bytes += bytes;
            let at = arrival.arrived;
            let (mut from, mut end, to) = train.arrivals.unwrap_or((at, at, at));
            if at < from || train.came == 1 {
                (from, end) = (at, at);
                train.first_bytes = bytes;
            } else if at <= from.saturating_add(BUNCH) {
                end = end.max(at);
                train.first_bytes += bytes;
            }
            train.arrivals = Some((from, end, to.max(at)));
        }
        if !train.is_whole() || arrival.number < train.last {
            return None;
        }
        let train = self.train.take()?;
        let Some(result) = train.result() else {
            if train.is_complete() {
                self.stretch = (self.stretch + 1).min(STRETCH);
            }
            self.blur(now);
            return None;
        };
        self.blurred = 0;
        self.stretch = self.stretch.saturating_sub(1);
        if result >= ENOUGH * train.probe.bps as f64 {
            self.next = now;
            self.interval = INTERVAL.0;
        } else {
            self.wait(now);
        }
        Some(result)
    }

    /// The link got much narrower: it may soon be as before.
    pub(super) fn narrowed(&mut self, now: Micros) {
        self.interval = INTERVAL.0;
        self.next = self.next.max(now + INTERVAL.0);
    }

    fn wait(&mut self, now: Micros) {
        self.next = now + self.interval;
        self.interval = (2 * self.interval).min(INTERVAL.1);
    }

    fn blur(&mut self, now: Micros) {
        self.blurred += 1;
        if self.blurred < BLURRED {
            self.next = now + AGAIN;
        } else {
            self.blurred = 0;
            self.wait(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a train of ten packets, `apart` us from each other, which arrive `later` us from each other.
    fn train(
        probes: &mut Probes,
        probe: Probe,
        apart: u64,
        later: i64,
        now: Micros,
    ) -> Option<f64> {
        let bytes = probe.bytes.div_ceil(10);
        let mut result = None;
        for number in 0..10 {
            probes.sent(number, bytes, true, now + number * apart);
        }
        for number in 0..10u64 {
            let arrival = Arrival {
                number,
                sent: 0,
                arrived: number as i64 * later,
                bytes: bytes as u16,
                gap: false,
            };
            result = result.or(probes.arrived(&arrival, now + 100_000));
        }
        result
    }

    #[test]
    fn a_train_that_gets_through_is_followed_by_a_faster_one_up_to_what_is_wanted() {
        let mut probes = Probes::new(1e6, 0);
        let first = probes.next(1e6, 5e6, true, 0).unwrap();
        assert_eq!((first.bps, first.bytes), (3_000_000, 7_500));
        assert_eq!(probes.next(1e6, 5e6, true, 10), None, "one at a time");
        let through = train(&mut probes, first, 2_000, 2_000, 0).unwrap();
        assert_eq!(through, 3e6);
        let second = probes.next(through, 5e6, true, 100_000).unwrap();
        assert_eq!(second.bps, 5_000_000);
    }

    #[test]
    fn a_train_that_arrives_slower_shows_what_the_link_carries_and_the_next_waits() {
        let mut probes = Probes::new(1e6, 0);
        let first = probes.next(1e6, 9e6, true, 0).unwrap();
        assert_eq!(train(&mut probes, first, 2_000, 4_000, 0), Some(1.425e6));
        assert_eq!(probes.timeout(true), Some(1_100_000));
        assert_eq!(probes.next(1e6, 9e6, true, 1_000_000), None);
        assert!(probes.next(1e6, 9e6, true, 1_100_000).is_some());
    }

    #[test]
    fn a_train_that_a_stall_pushed_together_shows_nothing() {
        let mut probes = Probes::new(1e6, 0);
        let first = probes.next(1e6, 9e6, true, 0).unwrap();
        assert_eq!(train(&mut probes, first, 2_000, 500, 0), None);
        let again = probes.next(1e6, 9e6, true, 350_000).unwrap();
        assert_eq!(
            train(&mut probes, again, 0, 2_000, 350_000),
            None,
            "sent at once"
        );
    }

    #[test]
    fn a_train_without_an_answer_does_not_stop_the_next() {
        let mut probes = Probes::new(1e6, 0);
        assert!(probes.next(1e6, 9e6, true, 0).is_some());
        assert_eq!(probes.timeout(true), Some(1_000_000));
        assert_eq!(probes.next(1e6, 9e6, true, 1_000_000), None);
        assert_eq!(probes.timeout(true), Some(1_250_000));
        assert_eq!(probes.timeout(false), None);
        assert!(probes.next(1e6, 9e6, true, 1_250_000).is_some());
    }
}

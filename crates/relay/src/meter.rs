//! Small measurements over the caller's clock: rates, round-trip times, loss, one-way delay. A few hundred bytes each.

use std::collections::VecDeque;

use crate::Micros;
use crate::frame::MS;

const BUCKET: Micros = 100 * MS;
const BUCKETS: u64 = 10;

/// Bits per second over the last second, in buckets of 100 ms.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rate {
    buckets: [u64; BUCKETS as usize],
    head: u64,
    sum: u64,
}

impl Rate {
    pub(crate) fn add(&mut self, bytes: usize, now: Micros) {
        self.roll(now);
        if let Some(bucket) = self.buckets.get_mut((self.head % BUCKETS) as usize) {
            *bucket += bytes as u64;
            self.sum += bytes as u64;
        }
    }

    pub(crate) fn bps(&mut self, now: Micros) -> u64 {
        self.roll(now);
        self.sum * 8
    }

    fn roll(&mut self, now: Micros) {
        let bucket = now / BUCKET;
        if bucket.saturating_sub(self.head) >= BUCKETS {
            self.buckets = Default::default();
            self.sum = 0;
            self.head = bucket;
        }
        while self.head < bucket {
            self.head += 1;
            if let Some(old) = self.buckets.get_mut((self.head % BUCKETS) as usize) {
                self.sum -= *old;
                *old = 0;
            }
        }
    }
}

/// A token bucket: so much per second, and so much at once after a pause.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_s: f64,
    burst: f64,
    tokens: f64,
    filled: Micros,
}

impl Bucket {
    pub(crate) fn new(per_s: f64, burst: f64, now: Micros) -> Self {
        Self {
            per_s,
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Is there room for `cost` now?
    pub(crate) fn holds(&mut self, cost: f64, now: Micros) -> bool {
        let seconds = now.saturating_sub(self.filled) as f64 / (1000 * MS) as f64;
        self.filled = now;
        self.tokens = self.burst.min(self.tokens + seconds * self.per_s);
        self.tokens >= cost
    }

    /// Takes `cost` if there is room for it.
    pub(crate) fn take(&mut self, cost: f64, now: Micros) -> bool {
        let holds = self.holds(cost, now);
        self.tokens -= if holds { cost } else { 0.0 };
        holds
    }
}

/// Smoothed round-trip time, RFC 6298 section 2 (alpha 1/8, beta 1/4), in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rtt {
    /// 0 until the first sample.
    pub srtt: f64,
    rttvar: f64,
    sampled: bool,
}

impl Rtt {
    pub(crate) fn sample(&mut self, ms: f64) {
        if !(0.0..=60_000.0).contains(&ms) {
            return;
        }
        if self.sampled {
            self.rttvar += ((self.srtt - ms).abs() - self.rttvar) / 4.0;
            self.srtt += (ms - self.srtt) / 8.0;
        } else {
            self.srtt = ms;
            self.rttvar = ms / 2.0;
            self.sampled = true;
        }
    }

    /// srtt + 4 rttvar; `unknown` until there is a sample.
    pub(crate) fn bound(&self, unknown: f64) -> f64 {
        if self.sampled {
            self.srtt + 4.0 * self.rttvar
        } else {
            unknown
        }
    }
}

const LOSS: Micros = 5000 * MS;
const LOSS_MARK: Micros = 250 * MS;
/// Fewer frames than this say nothing: one on its way would look like a loss of several percent.
const LOSS_FRAMES: u64 = 50;

/// Share of a peer's frames that never came over about the last 5 s, from what it says to have sent on this link and what
/// came. So a loss further up, or a frame dropped on purpose, is not held against the link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loss {
    /// When, sent, came.
    marks: VecDeque<(Micros, u64, u64)>,
}

impl Loss {
    /// The peer had sent `sent` frames in all when it wrote; `came` have come by now.
    pub(crate) fn note(&mut self, sent: u64, came: u64, now: Micros) {
        if self.marks.back().is_some_and(|last| sent < last.1) {
            self.marks.clear();
        }
        if self
            .marks
            .back()
            .is_none_or(|last| now - last.0 >= LOSS_MARK)
        {
            self.marks.push_back((now, sent, came));
        }
        while self.marks.get(1).is_some_and(|mark| now - mark.0 > LOSS) {
            self.marks.pop_front();
        }
    }

    pub(crate) fn share(&self) -> f64 {
        match (self.marks.front(), self.marks.back()) {
            (Some(first), Some(last)) if last.1 - first.1 >= LOSS_FRAMES => {
                (1.0 - (last.2 - first.2) as f64 / (last.1 - first.1) as f64).clamp(0.0, 1.0)
            }
            _ => 0.0,
        }
    }
}

/// Windows of the running minimum: clocks of two machines drift about 3 ms a minute, so an old minimum must go.
const WINDOW: Micros = 30_000 * MS;

/// Capture-to-arrival delay above the fastest frame of the last half to full minute, smoothed over 16 frames.
#[derive(Debug, Clone, Default)]
pub(crate) struct Delay {
    /// Milliseconds, as the transit times are: their zero means nothing.
    minimum: f64,
    older: f64,
    since: Option<Micros>,
    smoothed: f64,
}

impl Delay {
    pub(crate) fn sample(&mut self, capture_us: u64, now: Micros) {
        let transit = (now as f64 - capture_us as f64) / MS as f64;
        match self.since {
            None => {
                (self.minimum, self.older, self.smoothed) = (transit, f64::INFINITY, transit);
                self.since = Some(now);
            }
            Some(since) if now - since >= WINDOW => {
                (self.older, self.minimum) = (self.minimum, transit);
                self.since = Some(now);
            }
            Some(_) => {}
        }
        self.minimum = self.minimum.min(transit);
        self.smoothed += (transit - self.smoothed) / 16.0;
    }

    pub(crate) fn ms(&self) -> f64 {
        if self.since.is_none() {
            return 0.0;
        }
        (self.smoothed - self.minimum.min(self.older)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_the_last_second_only() {
        let mut rate = Rate::default();
        for ms in 0..2000 {
            rate.add(125, ms * MS);
        }
        assert_eq!(rate.bps(1999 * MS), 1_000_000);
        assert_eq!(rate.bps(2450 * MS), 500_000);
        assert_eq!(rate.bps(3000 * MS), 0);
    }

    #[test]
    fn loss_is_the_share_of_what_the_peer_says_to_have_sent() {
        let mut loss = Loss::default();
        loss.note(0, 0, 0);
        loss.note(49, 0, 300 * MS);
        assert_eq!(loss.share(), 0.0, "too few frames to say");
        loss.note(100, 95, 600 * MS);
        assert!((loss.share() - 0.05).abs() < 1e-9);
        loss.note(10, 10, 900 * MS);
        assert_eq!(
            loss.share(),
            0.0,
            "a peer that counts anew is a new beginning"
        );
        loss.note(100, 500, 1200 * MS);
        assert_eq!(loss.share(), 0.0, "more came than it says");
    }

    #[test]
    fn delay_is_measured_against_the_fastest_frame() {
        let mut delay = Delay::default();
        for i in 0..100 {
            delay.sample(i * 33_000, i * 33_000 + 5_000_000);
        }
        assert_eq!(delay.ms(), 0.0);
        for i in 100..300 {
            delay.sample(i * 33_000, i * 33_000 + 5_040_000);
        }
        assert!((delay.ms() - 40.0).abs() < 0.1, "{}", delay.ms());
    }
}

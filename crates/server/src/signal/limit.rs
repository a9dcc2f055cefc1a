//! How many messages a client may send: a token bucket that first slows a sender down and then gives up on it.
//!
//! Within the burst nothing is delayed: a newcomer in a large room sends hundreds of candidates at once. Beyond it the
//! socket is read at the steady rate, which TCP passes on to the sender. Whoever needs as much again as the burst
//! while being slowed down is a flood.

use std::time::Duration;

/// The verdict on one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// Wait so long before the next is read.
    Slow(Duration),
    /// Close.
    Flood,
}

/// The bucket of one connection.
#[derive(Debug)]
pub struct Limit {
    rate: f64,
    burst: f64,
    tokens: f64,
    slowed: f64,
    last: Duration,
}

impl Limit {
    /// `rate` messages per second, `burst` at once.
    pub fn new(rate: u32, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            rate: f64::from(rate.max(1)),
            burst,
            tokens: burst,
            slowed: 0.0,
            last: Duration::ZERO,
        }
    }

    /// One message at `now` (any clock that only rises).
    pub fn handle_message(&mut self, now: Duration) -> Verdict {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        self.tokens -= 1.0;
        if self.tokens >= self.burst / 2.0 {
            self.slowed = 0.0;
        }
        if self.tokens >= 0.0 {
            return Verdict::Pass;
        }
        self.slowed += 1.0;
        if self.slowed > self.burst {
            return Verdict::Flood;
        }
        Verdict::Slow(Duration::from_secs_f64(-self.tokens / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_message_waits_for_the_steady_rate() {
        let mut limit = Limit::new(50, 10);
        let verdicts: Vec<Verdict> = (0..11)
            .map(|_| limit.handle_message(Duration::ZERO))
            .collect();
        assert_eq!(verdicts[..10], [Verdict::Pass; 10]);
        assert_eq!(verdicts[10], Verdict::Slow(Duration::from_millis(20)));
    }

    #[test]
    fn whoever_needs_a_second_burst_while_slowed_down_is_a_flood() {
        let mut limit = Limit::new(50, 10);
        let mut now = Duration::ZERO;
        let flood = (0..100).position(|_| match limit.handle_message(now) {
            Verdict::Slow(wait) => {
                now += wait;
                false
            }
            verdict => verdict == Verdict::Flood,
        });
        assert_eq!(flood, Some(20));
    }

    #[test]
    fn a_sender_at_the_steady_rate_passes_for_ever() {
        let mut limit = Limit::new(50, 10);
        let verdicts = (0..10_000).map(|n| limit.handle_message(Duration::from_millis(n * 20)));
        assert_eq!(
            verdicts.filter(|verdict| *verdict != Verdict::Pass).count(),
            0
        );
    }
}

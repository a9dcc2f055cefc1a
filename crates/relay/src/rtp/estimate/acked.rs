//! Throughput that was proven: bytes that came, over the receiver's clock.
//!
//! Bounds: [`BURSTS`] entries. Arrivals within [`MERGE`] are one entry.

use std::collections::VecDeque;

/// Arrivals within so long are one burst: at most 200 entries a second.
const MERGE: i64 = 5_000;
/// What is remembered, us.
const SPAN: i64 = 1_000_000;
const BURSTS: usize = 256;
/// A clock that jumps by more belongs to another life of the receiver.
const JUMP: i64 = 3_000_000;

/// Packets that came at about the same time.
#[derive(Debug, Clone, Copy)]
struct Burst {
    first: i64,
    last: i64,
    bytes: u64,
    /// What came between the burst before and this one is not known.
    gap: bool,
}

#[derive(Debug, Default)]
pub(super) struct Acked {
    bursts: VecDeque<Burst>,
}

impl Acked {
    /// `gap`: nothing is known about some packets that left just before this one, because feedback was lost. The time in
    /// which they came does not count.
    pub(super) fn arrived(&mut self, at: i64, bytes: u16, gap: bool) {
        let bytes = u64::from(bytes);
        if let Some(burst) = self.bursts.back_mut() {
            if at.abs_diff(burst.last) > JUMP as u64 {
                self.bursts.clear();
            } else if at < burst.first.saturating_sub(MERGE) {
                // Told about late: it came in a time that does not count.
                return;
            } else if !gap && at <= burst.first.saturating_add(MERGE) {
                burst.last = at.max(burst.last);
                burst.bytes = burst.bytes.saturating_add(bytes);
                return;
            }
        }
        self.bursts.push_back(Burst {
            first: at,
            last: at,
            bytes,
            gap,
        });
        let old = |burst: &Burst| burst.last.saturating_add(SPAN) < at;
        while self.bursts.len() > BURSTS || self.bursts.front().is_some_and(old) {
            self.bursts.pop_front();
        }
    }

    /// Bit/s over the last `window` us that count. `None`: less than half of that is known.
    pub(super) fn bps(&self, window: i64) -> Option<f64> {
        let mut bytes = 0u64;
        let mut span = 0i64;
        let mut later: Option<&Burst> = None;
        for burst in self.bursts.iter().rev() {
            // A burst counts with the time since the one before; the first after a gap has none.
            if let Some(later) = later.replace(burst)
                && !later.gap
            {
                bytes = bytes.saturating_add(later.bytes);
                span = span.saturating_add(later.last.saturating_sub(burst.last).max(0));
            }
            if span >= window {
                break;
            }
        }
        (span >= window / 2 && span > 0).then(|| bytes as f64 * 8e6 / span as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_is_measured_whatever_its_bursts() {
        for (every, bytes) in [(32_000, 1200u16), (1_000, 125), (100_000, 12_500)] {
            let mut acked = Acked::default();
            assert_eq!(acked.bps(500_000), None);
            for at in 0..2_000_000 / every {
                acked.arrived(at * every, bytes, false);
            }
            let expected = f64::from(bytes) * 8e6 / every as f64;
            let bps = acked.bps(500_000).unwrap();
            assert!((bps / expected - 1.0).abs() < 0.01, "{bps} of {expected}");
            assert!(acked.bursts.len() <= BURSTS);
        }
    }

    #[test]
    fn what_came_while_nothing_was_told_does_not_count() {
        let mut acked = Acked::default();
        for at in (0..200).filter(|at| at % 20 < 10) {
            acked.arrived(at * 10_000, 1250, at % 20 == 0);
        }
        let bps = acked.bps(400_000).unwrap();
        assert!((bps / 1e6 - 1.0).abs() < 0.01, "{bps}");
    }

    #[test]
    fn arrivals_all_at_once_prove_nothing() {
        let mut acked = Acked::default();
        for _ in 0..1000 {
            acked.arrived(5, 1200, false);
        }
        assert_eq!(acked.bps(500_000), None);
        acked.arrived(i64::MAX, u16::MAX, false);
        acked.arrived(i64::MIN, u16::MAX, false);
        assert_eq!(acked.bps(500_000), None);
    }
}

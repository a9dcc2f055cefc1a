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

#[derive(Debug, Default)]
pub(super) struct Acked {
    /// First and last arrival of each burst, and its bytes.
    bursts: VecDeque<(i64, i64, u64)>,
}

impl Acked {
    pub(super) fn arrived(&mut self, at: i64, bytes: u16) {
        let bytes = u64::from(bytes);
        if let Some((first, last, sum)) = self.bursts.back_mut() {
            if at.abs_diff(*last) > JUMP as u64 {
                self.bursts.clear();
            } else if at <= first.saturating_add(MERGE) {
                // Packets that overtook each other count where the others are.
                *last = at.max(*last);
                *sum = sum.saturating_add(bytes);
                return;
            }
        }
        self.bursts.push_back((at, at, bytes));
        let old = |burst: &(i64, i64, u64)| burst.1.saturating_add(SPAN) < at;
        while self.bursts.len() > BURSTS || self.bursts.front().is_some_and(old) {
            self.bursts.pop_front();
        }
    }

    /// Bit/s over the last `window` us before the last arrival. `None`: less than half of that is known.
    pub(super) fn bps(&self, window: i64) -> Option<f64> {
        let end = self.bursts.back()?.1;
        let mut bytes = 0u64;
        let mut start = end;
        for &(_, last, sum) in self.bursts.iter().rev() {
            start = last;
            if end.saturating_sub(last) >= window {
                break;
            }
            bytes = bytes.saturating_add(sum);
        }
        let span = end.saturating_sub(start);
        if span < window {
            // The first burst of all has no beginning.
            bytes = bytes.saturating_sub(self.bursts.front()?.2);
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
                acked.arrived(at * every, bytes);
            }
            let expected = f64::from(bytes) * 8e6 / every as f64;
            let bps = acked.bps(500_000).unwrap();
            assert!((bps / expected - 1.0).abs() < 0.01, "{bps} of {expected}");
            assert!(acked.bursts.len() <= BURSTS);
        }
    }

    #[test]
    fn arrivals_all_at_once_prove_nothing() {
        let mut acked = Acked::default();
        for _ in 0..1000 {
            acked.arrived(5, 1200);
        }
        assert_eq!(acked.bps(500_000), None);
        acked.arrived(i64::MAX, u16::MAX);
        acked.arrived(i64::MIN, u16::MAX);
        assert_eq!(acked.bps(500_000), None);
    }
}

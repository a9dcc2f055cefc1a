//! When the next packets may leave, so that a frame does not fill the queues on its way at once.

use crate::Micros;
use crate::frame::MS;

/// What may leave at once, as time at the rate: a picture of the average size does, at 2.5 times the rate of its stream. Shorter
/// means more system calls, longer more delay for sound behind it.
const BURST: Micros = 15 * MS;
/// What is owed at most: what is not paced (sound) must not keep pictures back for longer, nor what was sent before the rate
/// grew.
const OWED: Micros = 250 * MS;
/// Time not used that still counts: timers are late by a few milliseconds.
const CREDIT: Micros = 5 * MS;

/// See the module.
#[derive(Debug, Default)]
pub struct Pacer {
    free_at: Micros,
}

impl Pacer {
    /// Bytes that may leave at once now, at this rate. `None`: none yet.
    pub fn allowance(&self, bps: u64, now: Micros) -> Option<usize> {
        (now >= self.free_at).then(|| (bps * BURST / 8_000_000) as usize)
    }

    /// So many bytes have left.
    pub fn spend(&mut self, bytes: usize, bps: u64, now: Micros) {
        let from = self.free_at.max(now.saturating_sub(CREDIT));
        let until = from + bytes as u64 * 8_000_000 / bps.max(1);
        self.free_at = until.min(now + OWED);
    }

    /// When something may leave again.
    pub fn next(&self) -> Micros {
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_keeps_to_the_rate_in_bursts_of_fifteen_milliseconds() {
        let mut pacer = Pacer::default();
        let (mut now, mut sent) = (1_000_000, 0);
        while now < 2_000_000 {
            if let Some(most) = pacer.allowance(4_000_000, now) {
                assert_eq!(most, 7_500);
                pacer.spend(most, 4_000_000, now);
                sent += most;
            }
            now = pacer.next().max(now + 1);
        }
        assert!((500_000..=510_000).contains(&sent), "{sent}");
    }

    #[test]
    fn what_is_owed_has_a_bound() {
        let mut pacer = Pacer::default();
        pacer.spend(10_000_000, 100_000, 1_000_000);
        assert_eq!(pacer.next(), 1_250_000);
    }

    #[test]
    fn a_pause_saves_up_no_more_than_the_lateness_of_a_timer() {
        let mut pacer = Pacer::default();
        let now = 60_000_000;
        let mut sent = 0;
        while pacer.allowance(8_000_000, now).is_some() {
            pacer.spend(1_000, 8_000_000, now);
            sent += 1;
        }
        assert_eq!(sent, 6);
    }
}

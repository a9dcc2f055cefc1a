//! Is there a queue that stays? A packet's way takes its least time when no queue stands before it. If not one packet of the
//! last [`RECENT`] came through as fast as some did within [`BASE`], a queue stands; a stall of either side or of the path,
//! however long, is one that drains at once, and shows in the slow ones only (the idea of CoDel, RFC 8289, section 3.2).
//!
//! Clocks need not agree, only run at one speed: 100 ppm is 1 ms within [`BASE`].

use std::collections::VecDeque;

/// Packets within so long are looked at together, us. Longer: stalls of longer are seen through. Shorter: a queue is seen
/// sooner.
const RECENT: i64 = 300_000;
/// And so many at least: five packets at 50 kbit/s.
const PACKETS: usize = 5;
/// How long the least time is believed, us. Longer: a new path that is slower is taken for a queue. Shorter: so is a queue
/// for a path.
const BASE: i64 = 10_000_000;
const SLICE: i64 = 1_000_000;
/// Entries of the recent packets, [`MERGE`] each.
const ENTRIES: usize = 128;
const MERGE: i64 = 5_000;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Arrival of the first, packets, least time on the way; of packets that came within [`MERGE`].
    recent: VecDeque<(i64, usize, i64)>,
    /// In all of `recent`.
    packets: usize,
    /// Beginning of each second, and its least time on the way.
    base: VecDeque<(i64, i64)>,
}

impl Queue {
    /// `way`: arrival by the receiver's clock less departure by ours, us.
    pub(super) fn arrived(&mut self, at: i64, way: i64) {
        match self.recent.back_mut() {
            Some(&mut (last, ..)) if at.abs_diff(last) > BASE as u64 => {
                *self = Self::default();
            }
            Some((first, packets, least)) if at < first.saturating_add(MERGE) => {
                *packets += 1;
                self.packets += 1;
                *least = way.min(*least);
                if let Some((_, base)) = self.base.back_mut() {
                    *base = way.min(*base);
                }
                return;
            }
            _ => {}
        }
        self.recent.push_back((at, 1, way));
        self.packets += 1;
        match self.base.back_mut() {
            Some((from, least)) if at < from.saturating_add(SLICE) => *least = way.min(*least),
            _ => self.base.push_back((at, way)),
        }
        while let Some((from, _)) = self.base.front()
            && from.saturating_add(BASE + SLICE) < at
        {
            self.base.pop_front();
        }
        while let Some(&(first, packets, _)) = self.recent.front()
            && (self.recent.len() > ENTRIES
                || first.saturating_add(RECENT) < at && self.packets - packets >= PACKETS)
        {
            self.recent.pop_front();
            self.packets -= packets;
        }
    }

    /// What stands, ms; 0 as long as too little is known.
    pub(super) fn standing_ms(&self) -> f64 {
        let least = self.recent.iter().map(|entry| entry.2).min();
        let base = self.base.iter().map(|slice| slice.1).min();
        match (least, base) {
            (Some(least), Some(base)) if self.packets >= PACKETS => {
                least.saturating_sub(base).max(0) as f64 / 1000.0
            }
            _ => 0.0,
        }
    }

    /// What stands is the way itself from now on.
    pub(super) fn accept(&mut self) {
        let least = self.recent.iter().map(|entry| entry.2).min();
        if let (Some(least), Some(&(from, _))) = (least, self.base.back()) {
            self.base.clear();
            self.base.push_back((from, least));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_that_drains_at_once_is_no_queue_and_one_that_stays_is() {
        let mut queue = Queue::default();
        for at in 0..100 {
            let stall = if at % 10 < 5 { 50_000 } else { 0 };
            queue.arrived(at * 10_000, 7_000 + stall);
            assert_eq!(queue.standing_ms(), 0.0);
        }
        for at in 100..131 {
            queue.arrived(at * 10_000, 57_000);
        }
        assert_eq!(queue.standing_ms(), 50.0);
        queue.accept();
        assert_eq!(queue.standing_ms(), 0.0);
    }

    #[test]
    fn a_way_that_got_longer_is_believed_after_ten_seconds() {
        let mut queue = Queue::default();
        queue.arrived(0, 0);
        for at in 1..115 {
            queue.arrived(at * 100_000, 80_000);
        }
        assert_eq!(queue.standing_ms(), 0.0);
        queue.arrived(i64::MAX, i64::MIN);
        queue.arrived(i64::MIN, i64::MAX);
        assert_eq!(queue.standing_ms(), 0.0);
        assert!(queue.recent.len() <= ENTRIES && queue.base.len() <= 12);
    }
}

//! Packets that left, by transport-wide number, and what became of them.
//!
//! Bounds: [`PACKETS`] packets, none older than [`AGE`]; 16 bytes each. Cost: constant per packet sent, and per entry of a
//! feedback message.

use std::collections::VecDeque;

use super::TransportFeedback;
use crate::Micros;

/// Packets remembered: 3 s at 13 Mbit/s. More would serve links whose estimate no demand of a browser reaches.
pub(super) const PACKETS: usize = 4096;
/// What has not been told about after so long is not waited for: a round trip of 2 s, and feedback that was lost.
pub(super) const AGE: Micros = 3_000_000;
/// The receiver's clock counts modulo 2^24 steps of 64 ms.
const WRAP: i64 = 1 << 24;
const STEP: i64 = 64_000;
const TICK: i64 = 250;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A number that was passed over.
    Never,
    Unknown,
    Lost,
    Arrived,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Micros,
    bytes: u16,
    state: State,
}

/// A packet that is now known to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Its number, continued beyond 16 bits.
    pub number: u64,
    pub sent: Micros,
    /// By the receiver's clock, us.
    pub arrived: i64,
    pub bytes: u16,
    /// Packets before it were never told about: a message was lost, or comes late.
    pub gap: bool,
}

/// What a message added to what was known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub lost: u32,
    /// Reported as lost before, and has come after all.
    pub recovered: u32,
}

#[derive(Debug, Default)]
pub(super) struct History {
    packets: VecDeque<Sent>,
    /// Number of the first packet in `packets`.
    first: u64,
    /// The number after the last that was told about.
    told: Option<u64>,
    /// The reference of the last message, continued beyond 24 bits.
    reference: Option<i64>,
}

impl History {
    /// The number that follows the last one that was sent.
    fn next(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// A packet leaves. Its number, continued; `None` for one that stands behind those that left.
    pub(super) fn sent(&mut self, seq: u16, bytes: usize, now: Micros) -> Option<u64> {
        if self.packets.is_empty() && self.first == 0 {
            // One turn ahead, so that numbers before the first can be told from it.
            self.first = u64::from(seq) + (1 << 16);
        }
        let ahead = seq.wrapping_sub(self.next() as u16);
        if ahead >= 1 << 15 {
            return None;
        }
        let number = self.next() + u64::from(ahead);
        if usize::from(ahead) > PACKETS / 2 {
            self.packets.clear();
            self.first = number;
        }
        while self.next() < number {
            self.packets.push_back(Sent {
                at: now,
                bytes: 0,
                state: State::Never,
            });
        }
        self.packets.push_back(Sent {
            at: now,
            bytes: u16::try_from(bytes).unwrap_or(u16::MAX),
            state: State::Unknown,
        });
        let old = |sent: &Sent| sent.at.saturating_add(AGE) < now;
        while self.packets.len() > PACKETS || self.packets.front().is_some_and(old) {
            self.packets.pop_front();
            self.first += 1;
        }
        Some(number)
    }

    /// Hands out each packet of which it is news that it came, in the order of their numbers.
    pub(super) fn feedback(
        &mut self,
        feedback: &TransportFeedback,
        mut each: impl FnMut(Arrival),
    ) -> News {
        let mut news = News::default();
        let reference = self.unwrap(feedback.reference_64ms);
        let mut clock = reference.saturating_mul(STEP);
        let back = (self.next() as u16).wrapping_sub(feedback.base_seq);
        let ahead = feedback.base_seq.wrapping_sub(self.next() as u16);
        let base = if back <= 1 << 15 {
            self.next().checked_sub(u64::from(back))
        } else {
            self.next().checked_add(u64::from(ahead))
        };
        let Some(base) = base else { return news };
        let mut gap = self.told.is_some_and(|told| base > told);
        let end = base.saturating_add(feedback.packets.len() as u64);
        self.told = Some(self.told.map_or(end, |told| told.max(end)).min(self.next()));
        for (number, delta) in (base..self.next()).zip(&feedback.packets) {
            if let Some(delta) = delta {
                clock = clock.saturating_add(i64::from(*delta) * TICK);
            }
            let index = number.checked_sub(self.first);
            let index = index.and_then(|index| usize::try_from(index).ok());
            let Some(sent) = index.and_then(|index| self.packets.get_mut(index)) else {
                continue;
            };
            match (delta, sent.state) {
                (Some(_), State::Unknown | State::Lost) => {
                    news.recovered += u32::from(sent.state == State::Lost);
                    sent.state = State::Arrived;
                    each(Arrival {
                        number,
                        sent: sent.at,
                        arrived: clock,
                        bytes: sent.bytes,
                        gap,
                    });
                    gap = false;
                }
                (None, State::Unknown) => {
                    sent.state = State::Lost;
                    news.lost += 1;
                }
                _ => {}
            }
        }
        news
    }

    fn unwrap(&mut self, reference: i32) -> i64 {
        let low = i64::from(reference).rem_euclid(WRAP);
        let reference = match self.reference {
            None => low,
            Some(last) => {
                let step = (low - last).rem_euclid(WRAP);
                let step = if step >= WRAP / 2 { step - WRAP } else { step };
                last.saturating_add(step)
            }
        };
        self.reference = Some(reference);
        reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(base_seq: u16, reference_64ms: i32, packets: &[Option<i32>]) -> TransportFeedback {
        TransportFeedback {
            base_seq,
            count: 0,
            reference_64ms,
            packets: packets.to_vec(),
        }
    }

    fn told(history: &mut History, feedback: &TransportFeedback) -> (Vec<(u64, i64)>, News) {
        let mut all = Vec::new();
        let news = history.feedback(feedback, |arrival| {
            all.push((arrival.number & 0xffff, arrival.arrived))
        });
        (all, news)
    }

    #[test]
    fn numbers_go_on_where_sixteen_bits_end() {
        let mut history = History::default();
        for at in 0..4u16 {
            history.sent(65_534u16.wrapping_add(at), 100, u64::from(at));
        }
        let all = message(65_534, 1, &[Some(4), None, Some(4), Some(0)]);
        let expected = vec![(65_534, 65_000), (0, 66_000), (1, 66_000)];
        let lost = News {
            lost: 1,
            recovered: 0,
        };
        assert_eq!(told(&mut history, &all), (expected, lost));
        assert_eq!(told(&mut history, &all), (vec![], News::default()));
    }

    #[test]
    fn a_packet_that_comes_late_is_taken_back_from_the_lost() {
        let mut history = History::default();
        history.sent(7, 100, 0);
        history.sent(8, 100, 0);
        assert_eq!(told(&mut history, &message(7, 0, &[None])).1.lost, 1);
        let (arrivals, news) = told(&mut history, &message(7, 0, &[Some(1), Some(1)]));
        assert_eq!((arrivals.len(), news.recovered, news.lost), (2, 1, 0));
    }

    #[test]
    fn the_receivers_clock_goes_on_where_twenty_four_bits_end() {
        let mut history = History::default();
        history.sent(0, 100, 0);
        history.sent(1, 100, 0);
        let (first, _) = told(&mut history, &message(0, -1, &[Some(0)]));
        let (second, _) = told(&mut history, &message(1, 0, &[Some(0)]));
        assert_eq!(second[0].1 - first[0].1, 64_000);
    }

    #[test]
    fn feedback_about_what_never_left_tells_nothing() {
        let mut history = History::default();
        assert_eq!(told(&mut history, &message(9, 0, &[Some(0)])).0, vec![]);
        history.sent(10, 100, 0);
        history.sent(12, 100, 0);
        let all = message(0, 0, &[Some(0); 60_000]);
        let numbers = told(&mut history, &all).0;
        assert_eq!(
            numbers.iter().map(|all| all.0).collect::<Vec<_>>(),
            [10, 12]
        );
        assert_eq!(
            told(&mut history, &message(13, 0, &[Some(0); 9])).0,
            vec![],
            "beyond the last"
        );
    }

    #[test]
    fn memory_is_bounded_in_packets_and_in_age() {
        let mut history = History::default();
        for seq in 0..100_000u32 {
            history.sent(seq as u16, 100, 0);
        }
        assert_eq!(history.packets.len(), PACKETS);
        history.sent(100_000u32 as u16, 100, AGE + 1);
        assert_eq!(history.packets.len(), 1);
        history.sent(100_000u32 as u16 + 3000, 100, AGE + 1);
        assert_eq!(history.packets.len(), 1, "a gap beyond reason begins anew");
    }
}

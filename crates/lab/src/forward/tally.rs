//! What came to one receiver, and what that is beside what was sent.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What came of one frame.
#[derive(Debug, Clone, Default)]
struct Came {
    /// RTP sequence numbers, extended.
    seqs: Vec<u64>,
    bytes: usize,
    /// Of the last new packet, microseconds.
    at: u64,
}

/// Everything that came to one receiver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    frames: BTreeMap<u32, Came>,
    /// When packets came again.
    twice: Vec<u64>,
}

impl Tally {
    /// A packet of a frame came, with so many of the frame's bytes, at `at` microseconds.
    pub(crate) fn came(&mut self, number: u32, seq: u64, bytes: usize, at: u64) {
        let frame = self.frames.entry(number).or_default();
        if frame.seqs.contains(&seq) {
            self.twice.push(at);
            return;
        }
        frame.seqs.push(seq);
        frame.bytes += bytes;
        frame.at = at;
    }

    /// Whether anything of any frame came.
    pub(crate) fn has_any(&self) -> bool {
        !self.frames.is_empty()
    }
}

/// A frame that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub number: u32,
    /// When its first packet was handed to the publisher's connection, microseconds.
    pub at: u64,
}

/// What came of the frames in the window, at all receivers together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub receivers: usize,
    /// Frames that were to come, and those that came whole.
    pub frames_due: usize,
    pub frames_whole: usize,
    /// Packets as the publisher cut the frames, and what is missing by bytes: a server may cut them otherwise.
    pub packets_due: usize,
    pub packets_lost: usize,
    /// Packets of these frames that came, each once.
    pub packets_came: usize,
    /// Packets that came again while it was counted.
    pub packets_twice: usize,
    /// Everything that came to the receivers' sockets meanwhile, and its bytes.
    pub datagrams: usize,
    pub bytes: usize,
    /// From the publisher's first packet to a receiver's last, of whole frames, milliseconds, sorted.
    pub delays_ms: Vec<f64>,
    /// Links that the server gave up meanwhile.
    pub links_lost: usize,
    /// Datagrams that were sent beside the call meanwhile.
    pub flooded: u64,
}

impl Count {
    /// Counts what came of the frames that were sent in `window`, of `packets` packets and `bytes` bytes each.
    pub(crate) fn of(
        tallies: &[Tally],
        sent: &[Sent],
        window: Range<u64>,
        packets: usize,
        bytes: usize,
    ) -> Self {
        let within = |at: &&u64| window.contains(*at);
        let sent: Vec<Sent> = sent
            .iter()
            .copied()
            .filter(|frame| window.contains(&frame.at))
            .collect();
        let mut count = Count {
            receivers: tallies.len(),
            frames_due: sent.len() * tallies.len(),
            packets_due: sent.len() * tallies.len() * packets,
            ..Count::default()
        };
        let piece = bytes.div_ceil(packets);
        for tally in tallies {
            count.packets_twice += tally.twice.iter().filter(within).count();
            for frame in &sent {
                let Some(came) = tally.frames.get(&frame.number) else {
                    count.packets_lost += packets;
                    continue;
                };
                count.packets_came += came.seqs.len();
                count.packets_lost += bytes.saturating_sub(came.bytes).div_ceil(piece);
                if came.bytes >= bytes {
                    count.frames_whole += 1;
                    let delay = came.at.saturating_sub(frame.at) as f64 / 1000.0;
                    count.delays_ms.push(delay);
                }
            }
        }
        count.delays_ms.sort_by(f64::total_cmp);
        count
    }

    /// What came in another room as well.
    pub(crate) fn add(&mut self, other: Self) {
        self.receivers += other.receivers;
        self.frames_due += other.frames_due;
        self.frames_whole += other.frames_whole;
        self.packets_due += other.packets_due;
        self.packets_lost += other.packets_lost;
        self.packets_came += other.packets_came;
        self.packets_twice += other.packets_twice;
        self.delays_ms.extend(other.delays_ms);
        self.delays_ms.sort_by(f64::total_cmp);
    }

    /// Percent of the packets that never came.
    pub(crate) fn packet_loss(&self) -> f64 {
        100.0 * self.packets_lost as f64 / self.packets_due.max(1) as f64
    }

    /// Percent of the frames that did not come whole.
    pub(crate) fn frame_loss(&self) -> f64 {
        100.0 * (1.0 - self.frames_whole as f64 / self.frames_due.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range<u64> = 0..u64::MAX;

    fn sent(numbers: std::ops::Range<u32>) -> Vec<Sent> {
        let frame = |number: u32| Sent {
            number,
            at: u64::from(number) * 1000,
        };
        numbers.map(frame).collect()
    }

    /// Every packet of every frame, two packets of 100 bytes each, 2 ms after it was sent.
    fn whole(numbers: std::ops::Range<u32>) -> Tally {
        let mut tally = Tally::default();
        for number in numbers {
            for part in 0..2 {
                let seq = u64::from(number) * 2 + part;
                tally.came(
                    number,
                    seq,
                    100,
                    u64::from(number) * 1000 + 1000 * (part + 1),
                );
            }
        }
        tally
    }

    #[test]
    fn frames_of_the_window_that_came_whole_are_no_loss() {
        let tallies = [whole(0..10), whole(0..10)];
        let count = Count::of(&tallies, &sent(0..20), 2000..8000, 2, 200);
        assert_eq!((count.frames_due, count.frames_whole), (12, 12));
        assert_eq!((count.packets_due, count.packets_came), (24, 24));
        assert_eq!((count.packet_loss(), count.frame_loss()), (0.0, 0.0));
        assert_eq!(count.delays_ms, vec![2.0; 12]);
    }

    #[test]
    fn a_missing_packet_costs_its_frame_and_a_missing_frame_all_its_packets() {
        let mut tally = whole(0..4);
        tally.came(5, 10, 100, 6000);
        let count = Count::of(&[tally], &sent(0..6), ALL, 2, 200);
        assert_eq!((count.frames_whole, count.packets_lost), (4, 3));
        assert_eq!(count.packets_came, 9);
        assert_eq!(count.packet_loss(), 25.0);
        assert!((count.frame_loss() - 100.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_packet_that_comes_twice_makes_up_for_no_other() {
        let mut tally = Tally::default();
        tally.came(0, 7, 100, 500);
        tally.came(0, 7, 100, 900);
        let count = Count::of(&[tally], &sent(0..1), ALL, 2, 200);
        assert_eq!((count.packets_came, count.packets_twice), (1, 1));
        assert_eq!((count.frames_whole, count.packets_lost), (0, 1));
        assert!(count.delays_ms.is_empty());
    }

    #[test]
    fn repetitions_count_while_it_is_counted() {
        let mut tally = whole(0..2);
        for at in [100, 500, 900] {
            tally.came(0, 0, 100, at);
        }
        let count = Count::of(&[tally], &sent(0..2), 400..600, 2, 200);
        assert_eq!((count.packets_twice, count.frames_due), (1, 0));
    }

    #[test]
    fn a_frame_that_was_cut_otherwise_is_whole_when_its_bytes_are_there() {
        let mut tally = Tally::default();
        for part in 0..3 {
            tally.came(0, part, if part < 2 { 67 } else { 66 }, 3000);
        }
        let count = Count::of(&[tally], &sent(0..1), ALL, 2, 200);
        assert_eq!((count.frames_whole, count.packets_lost), (1, 0));
        assert_eq!(count.packets_came, 3);
    }
}

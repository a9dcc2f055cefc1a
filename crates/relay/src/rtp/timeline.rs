//! The timestamps of one outgoing RTP stream across switches of its source.
//!
//! Sources count time from a random base each, so at a switch the difference is measured on another clock: the capture
//! times in our headers when both are the same sender's, else the relay's own. The difference is kept exactly; only frames
//! that would come at or before what was already sent are pushed behind it, in their own order (a key frame may be older
//! than the last frame of the layer before).
//!
//! Pure arithmetic on extended timestamps: any packet of the source, early or late, gets the same answer.

/// How much faster pushed frames follow each other than they were captured. Frames are at least 256 ticks apart in any
/// stream of less than 350 pictures a second.
const PUSHED: u64 = 256;

/// Ticks from one source's clock to the outgoing one, from its first frame on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    /// The first frame's time at the source, and on the outgoing clock.
    from: u64,
    exact: i64,
    /// Nothing may come before this.
    earliest: u64,
}

impl Timeline {
    /// A stream's first source: `from` goes out as `first`.
    pub fn start(from: u64, first: u64) -> Self {
        Self {
            from,
            exact: first as i64,
            earliest: first,
        }
    }

    /// The next source: its frame of time `from` was captured `gap` ticks (which may be negative) after the one that went
    /// out as `known`. `latest`: the highest time that went out.
    pub fn follow(known: u64, gap: i64, latest: u64, from: u64) -> Self {
        Self {
            from,
            exact: (known as i64).saturating_add(gap),
            earliest: latest + 1,
        }
    }

    /// The outgoing time of a frame of this source.
    pub fn at(&self, time: u64) -> u64 {
        let since = time.saturating_sub(self.from);
        let exact = self.exact.saturating_add_unsigned(since);
        (exact.max(0) as u64).max(self.earliest.saturating_add(since / PUSHED))
    }
}

/// Microseconds as ticks of a clock of `rate` hertz.
pub fn ticks(us: i64, rate: u32) -> i64 {
    (i128::from(us) * i128::from(rate) / 1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_later_source_keeps_its_exact_distance() {
        let first = Timeline::start(5_000, 90_000);
        assert_eq!((first.at(5_000), first.at(8_000)), (90_000, 93_000));
        let second = Timeline::follow(93_000, ticks(33_333, 90_000), 93_000, 4_000_000_000);
        assert_eq!(second.at(4_000_000_000), 95_999);
        assert_eq!(second.at(4_000_003_000), 98_999);
    }

    #[test]
    fn a_key_frame_older_than_what_was_shown_comes_right_behind_it_and_the_distance_is_caught_up() {
        // 125 ms older: 4 frames are pushed, the fifth is in time.
        let timeline = Timeline::follow(100_000, ticks(-125_000, 90_000), 100_000, 0);
        let times: Vec<u64> = (0..6).map(|n| timeline.at(n * 3_000)).collect();
        assert_eq!(
            times,
            [100_001, 100_012, 100_024, 100_036, 100_750, 103_750]
        );
    }

    #[test]
    fn microseconds_become_ticks_of_either_clock() {
        assert_eq!(ticks(1_000_000, 90_000), 90_000);
        assert_eq!(ticks(20_000, 48_000), 960);
        assert_eq!(ticks(-33_333, 90_000), -2_999);
    }

    proptest! {
        #[test]
        fn frames_keep_their_order_and_never_fall_back_behind_the_source_before(
            last in 0u64..1 << 40,
            gap in -1_000_000i64..1_000_000,
            from in 0u64..1 << 40,
            steps in prop::collection::vec(256u64..20_000, 1..40),
        ) {
            let timeline = Timeline::follow(last, gap, last, from);
            let (mut time, mut before) = (from, last);
            for step in steps {
                let out = timeline.at(time);
                prop_assert!(out > before);
                (before, time) = (out, time + step);
            }
        }
    }
}

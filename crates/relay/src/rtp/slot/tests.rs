use super::*;
use crate::rtp::testing::{delta, key, rest};

const LOW: Source = Source(1);
const HIGH: Source = Source(2);
const NONE: [i64; 0] = [];

/// A slot with the rings of two layers.
struct Bench {
    slot: Slot,
    rings: [PacketRing; 2],
}

impl Bench {
    fn new() -> Self {
        let mut slot = Slot::video(10, 1_000);
        slot.want(Some(LOW));
        Self {
            slot,
            rings: Default::default(),
        }
    }

    fn take(&mut self, source: Source, packet: &Packet) -> Vec<Outgoing> {
        let ring = &mut self.rings[source.0 as usize - 1];
        ring.add(packet);
        let mut out = Vec::new();
        self.slot.handle(source, packet, ring, &mut out);
        out
    }

    /// The numbers that go out, negative for empty packets.
    fn numbers(&mut self, source: Source, packet: &Packet) -> Vec<i64> {
        let out = self.take(source, packet);
        let number = |o: &Outgoing| o.seq as i64 * if o.payload.is_empty() { -1 } else { 1 };
        out.iter().map(number).collect()
    }
}

fn last(seq: u64, time: u64) -> Packet {
    rest(seq, time, 0, true, 0)
}

#[test]
fn nothing_goes_out_before_a_key_frame() {
    let mut bench = Bench::new();
    assert_eq!(bench.slot.waiting(), Some(LOW));
    assert_eq!(bench.numbers(LOW, &delta(5, 0, 0, 1, (1, 1), 0)), NONE);
    assert_eq!(bench.numbers(LOW, &last(6, 0)), NONE);
    assert_eq!(bench.numbers(LOW, &key(7, 3_000, 2, 0)), [10]);
    assert_eq!(
        (bench.slot.waiting(), bench.slot.source()),
        (None, Some(LOW))
    );
    assert_eq!(bench.numbers(HIGH, &key(1, 0, 0, 0)), NONE);
}

#[test]
fn a_switch_replays_what_came_before_the_key_frames_first_packet() {
    let mut bench = Bench::new();
    assert_eq!(bench.numbers(LOW, &key(7, 0, 0, 0)), [10]);
    assert_eq!(bench.numbers(LOW, &last(8, 0)), [11]);
    bench.slot.want(Some(HIGH));
    assert_eq!(bench.numbers(HIGH, &last(101, 500)), NONE);
    assert_eq!(
        bench.numbers(HIGH, &delta(102, 3_500, 0, 1, (1, 1), 0)),
        NONE
    );
    assert_eq!(bench.numbers(HIGH, &key(100, 500, 0, 0)), [12, 13, 14]);
    assert_eq!(bench.numbers(LOW, &delta(9, 3_000, 0, 1, (1, 1), 0)), NONE);
}

#[test]
fn a_switch_waits_for_the_end_of_the_frame_that_is_under_way_unless_it_is_lost() {
    let mut bench = Bench::new();
    assert_eq!(bench.numbers(LOW, &key(7, 0, 0, 0)), [10]);
    bench.slot.want(Some(HIGH));
    assert_eq!(bench.numbers(HIGH, &key(100, 500, 0, 0)), NONE);
    bench.slot.want(Some(HIGH));
    assert_eq!(bench.numbers(LOW, &last(8, 0)), [11]);
    assert_eq!(bench.numbers(HIGH, &last(101, 500)), [12, 13]);
    // Now the end does not come: the next frame of the wanted layer decides.
    assert_eq!(
        bench.numbers(HIGH, &delta(102, 3_500, 0, 1, (1, 1), 0)),
        [14]
    );
    bench.slot.want(Some(LOW));
    assert_eq!(bench.numbers(LOW, &key(9, 3_000, 1, 0)), NONE);
    assert_eq!(bench.numbers(LOW, &last(10, 3_000)), NONE);
    assert_eq!(
        bench.numbers(LOW, &delta(11, 6_000, 0, 2, (1, 1), 0)),
        [15, 16, 17]
    );
    // The end came too late to get a number.
    assert_eq!(bench.numbers(HIGH, &last(103, 3_500)), NONE);
}

#[test]
fn holes_of_the_former_layer_are_filled_after_the_switch() {
    let mut bench = Bench::new();
    assert_eq!(bench.numbers(LOW, &key(7, 0, 0, 0)), [10]);
    assert_eq!(bench.numbers(LOW, &last(9, 0)), [12]);
    bench.slot.want(Some(HIGH));
    assert_eq!(bench.numbers(HIGH, &key(100, 500, 0, 0)), [13]);
    assert_eq!(bench.numbers(LOW, &rest(8, 0, 0, false, 0)), [11]);
}

#[test]
fn a_late_packet_of_a_dropped_frame_becomes_an_empty_one() {
    let mut bench = Bench::new();
    bench.slot.set_limit(0);
    assert_eq!(bench.numbers(LOW, &key(7, 0, 0, 0)), [10]);
    // 8 ends the key frame and is late, 9 begins a frame that is dropped, and its end, 10, is late too.
    assert_eq!(bench.numbers(LOW, &delta(9, 3_000, 2, 1, (1, 1), 0)), NONE);
    assert_eq!(bench.numbers(LOW, &delta(11, 6_000, 0, 2, (2, 2), 0)), [13]);
    assert_eq!(bench.numbers(LOW, &rest(10, 3_000, 2, true, 0)), [-12]);
    assert_eq!(bench.numbers(LOW, &last(8, 0)), [11]);
    assert_eq!(bench.numbers(LOW, &last(8, 0)), NONE);
}

#[test]
fn a_packet_that_is_no_vp8_keeps_nothing_waiting() {
    let mut bench = Bench::new();
    assert_eq!(bench.numbers(LOW, &key(7, 0, 0, 0)), [10]);
    let junk = Packet::video(8, 0, false, &[], 0);
    assert_eq!(bench.numbers(LOW, &junk), NONE);
    assert_eq!(bench.numbers(LOW, &last(10, 0)), [12]);
    let junk = Packet::video(9, 0, false, &[0x90], 0);
    assert_eq!(bench.numbers(LOW, &junk), [-11]);
}

#[test]
fn numbers_that_leap_ask_for_a_key_frame() {
    let mut bench = Bench::new();
    assert_eq!(bench.numbers(LOW, &key(7, 0, 0, 0)), [10]);
    assert_eq!(bench.numbers(LOW, &last(8, 0)), [11]);
    assert_eq!(
        bench.numbers(LOW, &delta(9_000, 90_000, 0, 30, (1, 1), 0)),
        NONE
    );
    assert_eq!(bench.slot.waiting(), Some(LOW));
    assert_eq!(bench.numbers(LOW, &key(9_004, 93_000, 31, 0)), [12]);
    assert_eq!(bench.slot.waiting(), None);
}

#[test]
fn a_slot_that_shows_nothing_begins_again_with_the_same_source() {
    let mut bench = Bench::new();
    bench.take(LOW, &key(7, 0, 0, 0));
    bench.slot.want(None);
    assert_eq!(bench.numbers(LOW, &last(8, 0)), NONE);
    assert_eq!((bench.slot.source(), bench.slot.waiting()), (None, None));
    bench.slot.want(Some(LOW));
    assert_eq!(bench.numbers(LOW, &last(8, 0)), NONE);
    assert_eq!(bench.numbers(LOW, &key(9, 3_000, 1, 0)), [11]);
    let mut out = Vec::new();
    assert!(!bench.slot.replay(&bench.rings[0], &mut out));
    bench.slot.want(None);
    bench.slot.want(Some(LOW));
    assert!(bench.slot.replay(&bench.rings[0], &mut out));
    assert_eq!(out.iter().map(|o| o.seq).collect::<Vec<_>>(), [12]);
}

#[test]
fn time_goes_on_by_capture_times_of_one_sender_and_by_arrival_of_another() {
    let mut bench = Bench::new();
    let at = |out: Vec<Outgoing>| out.iter().map(|o| o.time).collect::<Vec<_>>();
    assert_eq!(at(bench.take(LOW, &key(7, 50_000, 3, 0))), [1_000]);
    bench.take(LOW, &last(8, 50_000));
    bench.slot.want(Some(HIGH));
    // Two frames later by its capture time: 66 ms.
    assert_eq!(at(bench.take(HIGH, &key(100, 7, 5, 20_000))), [6_940]);
    bench.take(HIGH, &last(101, 7));
    bench.slot.want(Some(LOW));
    let mut other = key(20, 90_000, 1_000_000, 120_000);
    other.header.as_mut().expect("a header").sender = 8;
    // 100 ms after the last by arrival.
    assert_eq!(at(bench.take(LOW, &other)), [15_940]);
}

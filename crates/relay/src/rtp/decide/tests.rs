use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::rtp::testing::{delta, key, rest};

const STEP: u64 = 3_000;

/// Chromium's L1T3: temporal layer and distances of the frame that stands `n` behind a key frame.
fn l1t3(n: u32) -> (u8, (u16, u16)) {
    match n % 4 {
        0 => (0, (4, 4)),
        1 | 3 if n < 4 => (2, (1, 1)),
        1 => (2, (2, 1)),
        2 => (1, (2, 2)),
        _ => (2, (2, 1)),
    }
}

/// The first packet (or another) of frame `n`; every hundredth is a key frame.
fn packet(n: u32, first: bool) -> Packet {
    let time = u64::from(n) * STEP;
    let (temporal, distances) = l1t3(n % 100);
    match (n % 100, first) {
        (0, true) => key(u64::from(n) * 2, time, n, 0),
        (_, true) => delta(u64::from(n) * 2, time, temporal, n, distances, 0),
        (_, false) => rest(u64::from(n) * 2 + 1, time, temporal, true, 0),
    }
}

fn decider(limit: u8) -> Decider {
    let key = packet(0, true);
    Decider::new(&key.header.expect("a header"), key.time, limit)
}

#[test]
fn a_late_packet_follows_what_its_frame_decided() {
    let mut decider = decider(ALL);
    assert!(decider.decide(&packet(1, true)));
    decider.set_limit(0);
    assert!(decider.decide(&packet(1, false)));
    assert!(!decider.decide(&packet(2, true)));
    decider.set_limit(ALL);
    assert!(!decider.decide(&packet(2, false)));
}

#[test]
fn after_a_raise_frames_wait_for_one_that_needs_nothing_left_out() {
    let mut decider = decider(0);
    let went: Vec<u32> = (1..5)
        .filter(|&n| decider.decide(&packet(n, true)))
        .collect();
    assert_eq!(went, [4]);
    decider.set_limit(ALL);
    // 5 needs 4, but 3 too; 6 needs 4; 7 needs 5 too; 9 needs 7 too; then nothing is missing.
    let went: Vec<u32> = (5..14)
        .filter(|&n| decider.decide(&packet(n, true)))
        .collect();
    assert_eq!(went, [6, 8, 10, 12]);
}

#[test]
fn one_distance_alone_would_pass_a_frame_whose_other_reference_is_gone() {
    let mut decider = decider(ALL);
    decider.set_limit(0);
    assert!(!decider.decide(&delta(2, STEP, 1, 1, (1, 1), 0)));
    decider.set_limit(ALL);
    assert!(decider.decide(&delta(4, 2 * STEP, 0, 2, (2, 2), 0)));
    assert!(!decider.decide(&delta(6, 3 * STEP, 2, 3, (2, 1), 0)));
}

#[test]
fn a_frame_that_has_not_come_is_no_reason_to_leave_out_another() {
    let mut decider = decider(ALL);
    assert!(decider.decide(&packet(5, true)));
    assert!(decider.decide(&packet(4, true)));
    assert!(decider.decide(&packet(7, false)));
    assert!(decider.decide(&packet(7, true)));
}

#[test]
fn layer_0_is_never_left_out_for_the_limit_and_a_broken_one_asks_for_a_key_frame() {
    let mut decider = decider(0);
    assert!(decider.decide(&packet(4, true)));
    assert!(!decider.decide(&packet(5, true)));
    assert!(!decider.decide(&delta(12, 6 * STEP, 0, 6, (1, 1), 0)));
    assert!(decider.is_broken());
    assert!(decider.decide(&key(14, 7 * STEP, 7, 0)));
    assert!(!decider.is_broken());
    assert!(!decider.decide(&delta(16, 8 * STEP, 0, 8, (3, 3), 0)));
    assert!(decider.decide(&key(18, 9 * STEP, 9, 0)));
    assert!(decider.decide(&delta(20, 10 * STEP, 0, 10, (1, 1), 0)));
}

#[test]
fn a_frame_that_needs_everything_goes_out_only_when_nothing_was_left_out() {
    let all = (EVERYTHING, EVERYTHING);
    let mut whole = decider(ALL);
    assert!(whole.decide(&packet(1, true)));
    assert!(whole.decide(&delta(4, 2 * STEP, 1, 2, all, 0)));
    let mut thinned = decider(1);
    assert!(!thinned.decide(&packet(1, true)));
    assert!(!thinned.decide(&delta(4, 2 * STEP, 1, 2, all, 0)));
}

#[test]
fn an_encoder_that_counts_anew_under_a_newer_key_begins_anew() {
    let mut decider = decider(0);
    for n in 1..9 {
        assert_eq!(decider.decide(&packet(n, true)), n % 4 == 0);
    }
    let mut again = key(40, 20 * STEP, 0, 0);
    again.header.as_mut().expect("a header").generation = 2;
    assert!(decider.decide(&again));
    assert!(decider.decide(&delta(42, 21 * STEP, 0, 1, (1, 1), 0)));
}

proptest! {
    #[test]
    fn without_a_limit_every_frame_goes_out_in_whatever_order_its_packets_come(
        late in prop::collection::vec((0u32..40, 0u32..40), 400),
    ) {
        let mut order: Vec<(u32, u32, bool)> = Vec::new();
        for n in 1..400u32 {
            let (head, tail) = late[n as usize];
            order.extend([(n + head, n, true), (n + tail, n, false)]);
        }
        order.sort();
        let mut decider = decider(ALL);
        for (_, n, head) in order {
            prop_assert!(decider.decide(&packet(n, head)), "frame {}", n);
        }
    }

    /// Frames in L1T3 with key frames in between, limits that flip, packets late by up to 12 frames: whatever went out can
    /// be decoded once all that is to come has come, and a frame's packets share its fate.
    #[test]
    fn no_frame_goes_out_that_needs_one_left_out_on_purpose(
        late in prop::collection::vec((prop_oneof![6 => Just(0u32), 1 => 1u32..12], prop_oneof![6 => Just(0u32), 1 => 1u32..12]), 300),
        limits in prop::collection::vec((1u32..300, 0u8..4), 0..12),
        first in 0u8..4,
    ) {
        let mut order: Vec<(u32, u32, bool)> = Vec::new();
        for n in 1..300u32 {
            let (head, tail) = late[n as usize];
            order.push((n + head, n, true));
            order.push((n + tail, n, false));
        }
        order.sort();
        let mut decider = decider(first);
        let mut went: BTreeMap<u32, bool> = BTreeMap::from([(0, true)]);
        for (step, &(at, n, head)) in order.iter().enumerate() {
            if step == 0 || order[step - 1].0 != at {
                for (_, limit) in limits.iter().filter(|(when, _)| *when == at) {
                    decider.set_limit(*limit);
                }
            }
            let forward = decider.decide(&packet(n, head));
            if let Some(before) = went.insert(n, forward) {
                prop_assert_eq!(before, forward, "frame {} was decided twice", n);
            }
        }
        for (&n, _) in went.iter().filter(|(n, forward)| **forward && **n % 100 > 0) {
            let (_, (farthest, nearest)) = l1t3(n % 100);
            for distance in [farthest, nearest] {
                prop_assert!(went[&(n - u32::from(distance))], "frame {} lacks its reference {} back", n, distance);
            }
        }
        prop_assert!(went.iter().all(|(n, forward)| *forward || n % 4 != 0));
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const A: Source = Source(1);
const B: Source = Source(2);

#[test]
fn what_is_left_out_takes_no_number_and_what_is_missing_keeps_its_own() {
    let mut numbering = Numbering::new(100);
    numbering.switch(A, 1000);
    assert_eq!(numbering.forward(A, 1000), Some(100));
    assert_eq!(numbering.leave_out(A, 1001), None);
    assert_eq!(numbering.leave_out(A, 1002), None);
    assert_eq!(numbering.forward(A, 1003), Some(101));
    assert_eq!(numbering.forward(A, 1006), Some(104));
    // 1004 is left out although 1006 went past it: its number must be filled.
    assert_eq!(numbering.leave_out(A, 1004), Some(102));
    assert_eq!(numbering.forward(A, 1005), Some(103));
    for again in [1000, 1001, 1004, 1005] {
        assert_eq!(numbering.forward(A, again), None);
        assert_eq!(numbering.leave_out(A, again), None);
    }
}

#[test]
fn holes_of_the_source_before_are_filled_after_a_switch() {
    let mut numbering = Numbering::new(0);
    numbering.switch(A, 10);
    assert_eq!(numbering.forward(A, 10), Some(0));
    assert_eq!(numbering.forward(A, 12), Some(2));
    // 14 is left out, 13 and 15 have not come: nothing went out behind 12.
    assert_eq!(numbering.leave_out(A, 14), None);
    numbering.switch(B, 500);
    assert_eq!(numbering.forward(B, 500), Some(3));
    assert_eq!(numbering.forward(A, 11), Some(1));
    for late in [13, 14, 15, 16] {
        assert_eq!(numbering.forward(A, late), None);
        assert_eq!(numbering.locate(A, late), None);
    }
    assert_eq!(numbering.forward(B, 499), None);
    // Back to the first source, further on.
    numbering.switch(A, 20);
    assert_eq!(numbering.forward(A, 20), Some(4));
    assert_eq!(numbering.forward(A, 13), None);
    assert_eq!(numbering.forward(B, 501), None);
}

#[test]
fn numbers_go_on_through_the_wrap_of_their_low_16_bits() {
    let mut numbering = Numbering::new(65_534);
    numbering.switch(A, 0);
    let given: Vec<_> = (0..4).filter_map(|seq| numbering.forward(A, seq)).collect();
    assert_eq!(given, [65_534, 65_535, 65_536, 65_537]);
}

#[test]
fn a_long_life_of_drops_is_remembered_only_so_far_back() {
    let mut numbering = Numbering::new(0);
    numbering.switch(A, 0);
    let mut expected = 0;
    for seq in 0..10_000 {
        if seq % 2 == 0 {
            assert_eq!(numbering.forward(A, seq), Some(expected));
            expected += 1;
        } else {
            assert_eq!(numbering.leave_out(A, seq), None);
        }
    }
    assert_eq!(numbering.forward(A, 11), None);
    assert!(!numbering.is_jump(A, 10_000 + JUMP));
    assert!(numbering.is_jump(A, 10_001 + JUMP));
}

/// Frames of a source (number of packets, is it sent on), and in which order the packets come.
fn arrivals() -> impl Strategy<Value = (Vec<(u64, bool)>, Vec<u64>)> {
    prop::collection::vec((1u64..5, any::<bool>()), 1..60).prop_flat_map(|frames| {
        let packets: u64 = frames.iter().map(|(count, _)| count).sum();
        // Each is late by so much; some come twice.
        let late = prop::collection::vec(0u64..40, packets as usize);
        let twice = prop::collection::vec(0..packets, 0..10);
        (Just(frames), late, twice).prop_map(move |(frames, late, twice)| {
            let mut order: Vec<(u64, u64)> = (1..packets)
                .map(|seq| (seq + late[seq as usize], seq))
                .collect();
            order.extend(twice.iter().map(|&seq| (seq + 50, seq)));
            order.sort();
            let first = std::iter::once(0);
            (
                frames,
                first.chain(order.into_iter().map(|(_, seq)| seq)).collect(),
            )
        })
    })
}

proptest! {
    #[test]
    fn once_all_has_come_no_hole_is_left_and_no_number_went_out_twice(
        sources in prop::collection::vec(arrivals(), 1..4),
        start in 65_000u64..65_536,
    ) {
        let mut numbering = Numbering::new(start);
        let mut out: BTreeMap<u64, (usize, u64, bool)> = BTreeMap::new();
        let mut late: Vec<(usize, u64)> = Vec::new();
        let sent_on = |source: usize, seq: u64| {
            let mut end = 0;
            sources[source].0.iter().find(|(count, _)| { end += count; seq < end }).is_some_and(|f| f.1)
        };
        for (source, (_, order)) in sources.iter().enumerate() {
            numbering.switch(Source(source as u64), 0);
            // The last fifth comes after the next switch.
            let (now, after) = order.split_at(order.len() - order.len() / 5);
            let old = std::mem::take(&mut late);
            late.extend(after.iter().map(|&seq| (source, seq)));
            for (source, seq) in now.iter().map(|&seq| (source, seq)).chain(old) {
                let forward = sent_on(source, seq) || seq == 0;
                let id = Source(source as u64);
                let number = if forward { numbering.forward(id, seq) } else { numbering.leave_out(id, seq) };
                if let Some(number) = number {
                    prop_assert_eq!(out.insert(number, (source, seq, forward)), None);
                }
            }
        }
        for (source, seq) in late {
            let forward = sent_on(source, seq) || seq == 0;
            let id = Source(source as u64);
            let number = if forward { numbering.forward(id, seq) } else { numbering.leave_out(id, seq) };
            if let Some(number) = number {
                prop_assert_eq!(out.insert(number, (source, seq, forward)), None);
            }
        }
        // Without a hole, in the order of the sources and of their packets.
        prop_assert!(out.keys().copied().eq(start..numbering.next()));
        prop_assert!(out.values().map(|&(source, seq, _)| (source, seq)).is_sorted());
        // Everything of the last source that is sent on went out.
        let last = sources.len() - 1;
        let all = (1..sources[last].0.iter().map(|f| f.0).sum()).filter(|&seq| sent_on(last, seq)).count();
        let went = out.values().filter(|&&(source, seq, forward)| source == last && seq > 0 && forward).count();
        prop_assert_eq!(all, went);
    }
}

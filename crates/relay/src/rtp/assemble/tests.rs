use proptest::prelude::*;

use super::*;
use crate::rtp::testing::{delta, key, pieces, rest};
use crate::testing;

fn sealed(number: u32, length: usize) -> (Header, Vec<u8>) {
    let head = testing::delta(number, 1, 1);
    let mut bytes = head.encode().expect("a header").to_vec();
    bytes.extend((0..length + 16).map(|i| (i as u32 ^ number) as u8));
    (head, bytes)
}

proptest! {
    #[test]
    fn what_was_split_comes_together_again_however_it_travelled(
        lengths in prop::collection::vec(0usize..6_000, 1..30),
        late in prop::collection::vec(0usize..60, 200),
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let frames: Vec<_> = lengths.iter().enumerate().map(|(n, &length)| sealed(n as u32, length)).collect();
        let mut packets: Vec<Packet> = Vec::new();
        for (n, (_, bytes)) in frames.iter().enumerate() {
            packets.extend(pieces(packets.len() as u64, n as u64 * 3_000, bytes));
        }
        let mut order: Vec<(usize, usize)> = (0..packets.len()).map(|n| (n + late[n % late.len()], n)).collect();
        order.extend(twice.iter().map(|index| { let n = index.index(packets.len()); (n + 30, n) }));
        order.sort();
        let mut assembler = Assembler::default();
        let mut whole: Vec<_> = order.iter().filter_map(|&(_, n)| assembler.add(&packets[n], 0)).collect();
        whole.sort_by_key(|(head, _)| head.number);
        prop_assert_eq!(whole.len(), frames.len());
        for ((head, bytes), (expected, original)) in whole.iter().zip(&frames) {
            prop_assert_eq!(head, expected);
            prop_assert_eq!(&bytes[..], &original[..]);
        }
        prop_assert_eq!(assembler.size(), (0, 0));
    }

    #[test]
    fn any_packets_keep_it_within_its_bounds(
        packets in prop::collection::vec((0u64..3_000, 0u64..500, any::<bool>(), 0u8..3), 0..3_000),
    ) {
        let mut assembler = Assembler::default();
        for (seq, time, marker, form) in packets {
            let packet = match form {
                0 => key(seq, time, seq as u32),
                1 => delta(seq, time, seq as u32),
                _ => rest(seq, time, marker),
            };
            assembler.add(&packet, 0);
            let (open, bytes) = assembler.size();
            prop_assert!(open <= OPEN && bytes <= OPEN * (MAX_FRAME_BYTES + PACKETS * PACKET_BYTES));
        }
    }
}

#[test]
fn a_frame_that_stays_unfinished_is_given_up_and_comes_no_more() {
    let (_, bytes) = sealed(1, 3_000);
    let first = pieces(0, 0, &bytes);
    let mut assembler = Assembler::default();
    for packet in &first[1..] {
        assert_eq!(assembler.add(packet, 0), None);
    }
    for number in 2..=1 + OPEN as u32 {
        let (_, bytes) = sealed(number, 3_000);
        let at = u64::from(number);
        assert_eq!(
            assembler.add(&pieces(at * 10, at * 3_000, &bytes)[0], 0),
            None
        );
    }
    assert_eq!(assembler.size().0, OPEN);
    assert_eq!(assembler.add(&first[0], 0), None);
}

#[test]
fn two_frames_under_one_time_make_none() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.add(&key(1, 0, 1), 0), None);
    assert_eq!(assembler.add(&key(5, 0, 2), 0), None);
    assert_eq!(assembler.add(&rest(6, 0, true), 0), None);
}

/// Packets of one byte that never become a frame: 60 frames of them, in so many layers.
fn flood(making: &mut Making, layers: u32) {
    for seq in 0..21_000 {
        for ssrc in 0..layers {
            making.add(ssrc, &rest(seq, seq / 350 * 3_000, false), seq);
        }
    }
}

#[test]
fn tiny_packets_of_frames_that_never_end_take_no_more_than_a_link_may_hold() {
    let mut making = Making::default();
    flood(&mut making, 4);
    assert!(making.bytes() <= BYTES);
    // As many packets as the bytes that are counted pay for, at what each really takes.
    let open = making.layers.values().flat_map(|layer| layer.open.values());
    let packets: usize = open.map(|frame| frame.packets.len()).sum();
    assert!(
        packets > 0 && packets * size_of::<(u64, Packet)>() < BYTES,
        "{packets}"
    );
}

#[test]
fn a_frame_of_too_many_packets_is_given_up_and_no_more_is_kept_of_it() {
    let mut assembler = Assembler::default();
    for seq in 0..65_000 {
        assembler.add(&rest(seq, 0, false), 0);
    }
    assert_eq!(assembler.size(), (0, 0));
}

#[test]
fn what_is_unfinished_after_a_second_is_given_up_though_nothing_follows_it() {
    let mut making = Making::default();
    making.add(1, &key(1, 0, 1), 0);
    making.expire(AGE);
    assert!(making.bytes() > 0);
    making.expire(AGE + 1);
    assert_eq!(making.bytes(), 0);
    assert_eq!(making.add(1, &rest(2, 0, true), AGE + 2), None);
}

#[test]
fn a_layer_that_floods_costs_its_link_none_of_the_other_layers() {
    let (_, bytes) = sealed(1, 3_000);
    let frame = pieces(0, 0, &bytes);
    let (last, before) = frame.split_last().expect("some");
    let mut making = Making::default();
    for packet in before {
        assert_eq!(making.add(9, packet, 0), None);
    }
    flood(&mut making, 1);
    assert!(making.add(9, last, 30).is_some());
}

#[test]
fn one_layer_too_many_takes_the_place_of_the_stalest_only() {
    let (_, bytes) = sealed(1, 3_000);
    let frame = pieces(0, 0, &bytes);
    let (last, before) = frame.split_last().expect("some");
    let mut making = Making::default();
    for ssrc in 0..=LAYERS as u32 {
        for packet in before {
            making.add(ssrc, packet, ssrc.into());
        }
    }
    let whole = (0..=LAYERS as u32).filter(|&ssrc| {
        let in_time = making.layers.contains_key(&ssrc);
        in_time && making.add(ssrc, last, 30).is_some()
    });
    assert_eq!(
        whole.collect::<Vec<_>>(),
        (1..=LAYERS as u32).collect::<Vec<_>>()
    );
}

#[test]
fn links_that_share_a_relay_have_no_more_in_all_than_it_may_hold_and_none_is_left_without() {
    let pool = Pool::default();
    // As if a hundred other links held so much.
    pool.change(0, POOL_BYTES - 4 * LEAST_BYTES);
    let mut links: Vec<_> = (0..8).map(|_| Making::new(pool.clone())).collect();
    for making in &mut links {
        flood(making, 1);
    }
    assert!(pool.bytes() <= POOL_BYTES + 8 * LEAST_BYTES);
    assert!(links[0].bytes() > LEAST_BYTES && links[7].bytes() <= LEAST_BYTES);
    let (_, bytes) = sealed(1, 3_000);
    let frame = pieces(0, 0, &bytes);
    let whole: Vec<_> = frame
        .iter()
        .map(|packet| links[7].add(9, packet, 30).is_some())
        .collect();
    assert_eq!(whole, [false, false, false, true]);
    drop(links);
    assert_eq!(pool.bytes(), POOL_BYTES - 4 * LEAST_BYTES);
}

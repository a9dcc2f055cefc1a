use grove_frame::Kind;
use proptest::prelude::*;

use super::*;
use crate::rtp::testing::{delta, header, key, pieces, rest};

fn sealed(number: u32, length: usize) -> (Header, Vec<u8>) {
    let delta = Kind::Delta {
        farthest: 1,
        nearest: 1,
    };
    let head = header(number, 0, delta);
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
        let mut whole: Vec<_> = order.iter().filter_map(|&(_, n)| assembler.add(&packets[n])).collect();
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
            assembler.add(&packet);
            let (open, bytes) = assembler.size();
            prop_assert!(open <= OPEN && bytes <= BYTES);
        }
    }
}

#[test]
fn a_frame_that_stays_unfinished_is_given_up_and_comes_no_more() {
    let (_, bytes) = sealed(1, 3_000);
    let first = pieces(0, 0, &bytes);
    let mut assembler = Assembler::default();
    for packet in &first[1..] {
        assert_eq!(assembler.add(packet), None);
    }
    for number in 2..=1 + OPEN as u32 {
        let (_, bytes) = sealed(number, 3_000);
        let at = u64::from(number);
        assert_eq!(assembler.add(&pieces(at * 10, at * 3_000, &bytes)[0]), None);
    }
    assert_eq!(assembler.size().0, OPEN);
    assert_eq!(assembler.add(&first[0]), None);
}

#[test]
fn two_frames_under_one_time_make_none() {
    let mut assembler = Assembler::default();
    assert_eq!(assembler.add(&key(1, 0, 1)), None);
    assert_eq!(assembler.add(&key(5, 0, 2)), None);
    assert_eq!(assembler.add(&rest(6, 0, true)), None);
}

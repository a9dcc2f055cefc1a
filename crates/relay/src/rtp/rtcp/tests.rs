use super::*;
use proptest::prelude::*;

fn all(compound: &[u8]) -> Vec<Feedback> {
    let mut found = Vec::new();
    read(compound, |feedback| found.push(feedback));
    found
}

/// A packet of its length, with zeros behind what does not end on a word.
fn packet(kind: u8, format: u8, body: &[u8]) -> Vec<u8> {
    let body = [body, &[0; 4][..body.len().wrapping_neg() % 4]].concat();
    let mut packet = vec![0x80 | format, kind];
    packet.extend((body.len() as u16 / 4).to_be_bytes());
    packet.extend(body);
    packet
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn pli(media: u32) -> Vec<u8> {
    packet(206, 1, &words(&[1, media]))
}

/// The symbol of a packet: whether it came, and how wide its time is. `wide`: even where a byte would do.
fn symbol(time: Option<i32>, wide: bool) -> u16 {
    match time {
        None => 0,
        Some(0..=255) if !wide => 1,
        Some(_) => 2,
    }
}

/// How a chunk is to be written. It falls back to pairs where its kind does not fit the packets.
#[derive(Debug, Clone, Copy)]
enum Chunk {
    Run(usize),
    Bits,
    Pairs,
}

/// Feedback with its chunks as wished for, in turns.
fn transport(feedback: &TransportFeedback, wishes: &[Chunk], wide: &[bool]) -> Vec<u8> {
    let times = feedback.packets.iter().zip(wide.iter().cycle());
    let symbols: Vec<u16> = times.map(|(&time, &wide)| symbol(time, wide)).collect();
    let mut body = words(&[1, 0]);
    body.extend(feedback.base_seq.to_be_bytes());
    body.extend((symbols.len() as u16).to_be_bytes());
    body.extend(&feedback.reference_64ms.to_be_bytes()[1..]);
    body.push(feedback.count);
    let (mut left, mut wishes) = (&symbols[..], wishes.iter().cycle());
    while let Some(&first) = left.first() {
        let (chunk, taken) = match *wishes.next().expect("a cycle") {
            Chunk::Run(most) => {
                let same = left.iter().take_while(|&&symbol| symbol == first);
                let run = same.take(most.clamp(1, 8191)).count();
                (first << 13 | run as u16, run)
            }
            Chunk::Bits if left.iter().take(14).all(|&symbol| symbol < 2) => {
                let bits = left.iter().take(14).enumerate();
                let chunk = bits.map(|(n, symbol)| symbol << (13 - n)).sum::<u16>();
                (0x8000 | chunk, left.len().min(14))
            }
            Chunk::Bits | Chunk::Pairs => {
                let pairs = left.iter().take(7).enumerate();
                let chunk = pairs.map(|(n, symbol)| symbol << (12 - 2 * n)).sum::<u16>();
                (0xc000 | chunk, left.len().min(7))
            }
        };
        body.extend(chunk.to_be_bytes());
        left = &left[taken..];
    }
    for (time, symbol) in feedback.packets.iter().zip(&symbols) {
        match (time, symbol) {
            (Some(time), 1) => body.push(*time as u8),
            (Some(time), _) => body.extend((*time as i16).to_be_bytes()),
            (None, _) => {}
        }
    }
    packet(205, 15, &body)
}

#[test]
fn a_compound_as_browsers_send_it_is_read_in_its_order() {
    let block = ReportBlock {
        ssrc: 0x0102_0304,
        fraction_lost: 64,
        lost: -2,
        highest_seq: 0x0001_fffe,
        jitter: 90,
        last_sr: 0xaabb_ccdd,
        delay_since: 65_536,
    };
    let words_of_block = [
        0x0102_0304,
        0x40ff_fffe,
        0x0001_fffe,
        90,
        0xaabb_ccdd,
        65_536,
    ];
    let mut sender_report = words(&[1, 2, 3, 4, 5, 6]);
    sender_report.extend(words(&words_of_block));
    let mut receiver_report = words(&[1]);
    receiver_report.extend(words(&words_of_block).repeat(2));
    let compound = [
        packet(200, 1, &sender_report),
        packet(201, 2, &receiver_report),
        packet(202, 1, &words(&[1, 0x0103_6162, 0x6300_0000])),
        // 65535, and of the 16 behind it the first and the last.
        packet(205, 1, &words(&[1, 7, 0xffff_8001])),
        // A bandwidth by REMB, an extended report, and a farewell.
        packet(206, 15, b"\0\0\0\x01\0\0\0\0REMB\0\0\0\0"),
        packet(207, 0, &words(&[1])),
        pli(8),
        packet(206, 4, &words(&[1, 0, 9, 5 << 24, 10, 6 << 24])),
        packet(203, 1, &words(&[1])),
    ];
    let expected = [
        Feedback::Report(block),
        Feedback::Report(block),
        Feedback::Report(block),
        Feedback::Nack {
            media: 7,
            lost: vec![65_535, 0, 15],
        },
        Feedback::PictureLoss { media: 8 },
        Feedback::PictureLoss { media: 9 },
        Feedback::PictureLoss { media: 10 },
    ];
    assert_eq!(all(&compound.concat()), expected);
}

/// Written out by hand from the draft's figures.
#[test]
fn chunks_of_all_three_kinds_and_times_of_both_widths_are_read() {
    let body = [
        &words(&[1, 2])[..],
        &[0xff, 0xfe, 0, 23, 0xff, 0xff, 0xfe, 9],
        // A run of 5 small ones; bits: lost, came, 12 lost; pairs: large, lost, small, lost, and three
        // beyond the 23 told of.
        &[0x20, 5, 0x90, 0, 0b1110_0001, 0b0000_0100],
        &[1, 2, 3, 4, 255, 6, 0x80, 0, 0x7f],
    ];
    let mut packets = vec![Some(1), Some(2), Some(3), Some(4), Some(255), None, Some(6)];
    packets.extend([None; 12]);
    packets.extend([Some(-32_768), None, Some(0x7f), None]);
    let feedback = TransportFeedback {
        base_seq: 65_534,
        count: 9,
        reference_64ms: -2,
        packets,
    };
    let bytes = packet(205, 15, &body.concat());
    assert_eq!(all(&bytes), [Feedback::Transport(feedback)]);
}

#[test]
fn feedback_that_is_cut_or_uses_the_reserved_symbol_is_skipped_and_what_follows_is_read() {
    let head = |told: u8, rest: &[u8]| {
        let head = [&words(&[1, 2])[..], &[0, 1, 0, told, 0, 0, 0, 0]].concat();
        packet(205, 15, &[&head[..], rest].concat())
    };
    for malformed in [
        head(0, &[]),
        // No chunk, no times, a time cut in two, the reserved symbol in a run and in a pair.
        head(1, &[]),
        head(8, &[0x20, 8, 1, 2]),
        head(2, &[0x40, 2, 1, 2]),
        head(1, &[0x60, 1, 1, 1]),
        head(2, &[0b1101_1100, 0, 1, 1]),
        // Runs of nothing.
        head(1, &[0, 0, 0, 0]),
        packet(205, 15, &words(&[1, 2])),
        packet(205, 1, &words(&[1, 2])),
        packet(205, 1, &words(&[1])),
        packet(206, 1, &words(&[1])),
        packet(206, 4, &words(&[1, 2, 3])),
        packet(201, 1, &words(&[1, 2, 3, 4, 5, 6])),
        packet(200, 1, &words(&[1, 2, 3, 4, 5])),
        packet(205, 3, &words(&[1, 2, 3])),
    ] {
        let bytes = [malformed, pli(8)].concat();
        assert_eq!(all(&bytes), [Feedback::PictureLoss { media: 8 }]);
    }
}

#[test]
fn padding_is_left_out_and_padding_that_is_none_is_skipped() {
    let padded = |padding: u8| {
        let mut nack = packet(205, 1, &words(&[1, 7, 9 << 16, u32::from(padding)]));
        nack[0] |= 0x20;
        [nack, pli(8)].concat()
    };
    let nack = Feedback::Nack {
        media: 7,
        lost: vec![9],
    };
    for padding in [0, 12, 17, 255] {
        assert_eq!(
            all(&padded(padding))[..],
            [Feedback::PictureLoss { media: 8 }]
        );
    }
    assert_eq!(all(&padded(4)), [nack, Feedback::PictureLoss { media: 8 }]);
}

#[test]
fn a_length_beyond_the_end_or_another_version_ends_the_reading() {
    let mut long = pli(9);
    long[3] += 1;
    assert_eq!(all(&[pli(8), long].concat()).len(), 1);
    let mut version = pli(9);
    version[0] ^= 0x40;
    assert_eq!(all(&[pli(8), version, pli(9)].concat()).len(), 1);
}

#[test]
fn few_bytes_cannot_stand_for_very_many_packets() {
    let claim = |told: u16| {
        let runs = [0x1fffu16; 8].map(u16::to_be_bytes);
        let mut body = words(&[1, 2, u32::from(told), 0]);
        body.extend(runs.as_flattened());
        packet(205, 15, &body)
    };
    assert_eq!(all(&claim(u16::MAX)), []);
    let compound = [claim(16_000), claim(400), claim(384), claim(1)].concat();
    let told = all(&compound).into_iter().map(|feedback| match feedback {
        Feedback::Transport(feedback) => feedback.packets.len(),
        _ => 0,
    });
    assert_eq!(told.collect::<Vec<_>>(), [16_000, 384]);
    let mut asks = words(&[1, 7]);
    asks.extend(words(&[0xffff; 1000]));
    let [Feedback::Nack { lost, .. }] = &all(&packet(205, 1, &asks))[..] else {
        panic!("one NACK");
    };
    assert_eq!(lost.len(), LOST);
}

#[test]
fn sender_reports_are_written_as_rfc_3550_has_them() {
    let report = SenderReport {
        ssrc: 0x0a0b_0c0d,
        ntp: 0x0102_0304_0506_0708,
        rtp_time: 3,
        packets: 4,
        bytes: 5,
    };
    let mut out = vec![9];
    write_sender_reports(&[report], "ab", &mut out);
    let expected = [
        0x80c8_0006,
        0x0a0b_0c0d,
        0x0102_0304,
        0x0506_0708,
        3,
        4,
        5,
        0x81ca_0003,
        0x0a0b_0c0d,
        0x0102_6162,
        0,
    ];
    assert_eq!((out[0], &out[1..]), (9, &words(&expected)[..]));
    let mut none = Vec::new();
    write_sender_reports(&[], "ab", &mut none);
    assert!(none.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_within_bounds(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        packets in prop::collection::vec(
            (prop::sample::select(vec![200u8, 201, 205, 206]), 0u8..64, prop::collection::vec(any::<u8>(), 0..120)), 0..12
        ),
    ) {
        let compound: Vec<u8> = packets.iter().flat_map(|(kind, format, body)| {
            packet(*kind, [*format, 15, 1][usize::from(format % 3)], body)
        }).collect();
        for bytes in [bytes, compound] {
            let (mut calls, mut statuses) = (0, 0);
            read(&bytes, |feedback| {
                calls += 1;
                match feedback {
                    Feedback::Nack { lost, .. } => assert!((1..=LOST).contains(&lost.len())),
                    Feedback::Transport(feedback) => statuses += feedback.packets.len(),
                    Feedback::Report(_) | Feedback::PictureLoss { .. } => {}
                }
            });
            // A picture's loss in an entry of 8 bytes is the densest.
            prop_assert!(calls <= bytes.len() / 8 && statuses <= STATUSES);
        }
    }

    #[test]
    fn transport_feedback_comes_back_however_it_is_put_into_chunks(
        base_seq: u16,
        count: u8,
        reference_64ms in -(1 << 23)..1 << 23,
        packets in prop::collection::vec(prop::option::of(prop_oneof![
            8 => 0..256, 1 => 256..32_768, 1 => -32_768..0,
        ]), 1..300),
        runs in prop::collection::vec((prop::option::of(0..200), 1usize..100), 0..20),
        wishes in prop::collection::vec(prop_oneof![
            (1usize..9000).prop_map(Chunk::Run), Just(Chunk::Bits), Just(Chunk::Pairs),
        ], 1..20),
        wide in prop::collection::vec(prop::bool::weighted(0.1), 1..20),
    ) {
        let runs = runs.iter().flat_map(|&(time, length)| vec![time; length]);
        let packets = packets.into_iter().chain(runs).collect();
        let feedback = TransportFeedback { base_seq, count, reference_64ms, packets };
        let bytes = transport(&feedback, &wishes, &wide);
        prop_assert_eq!(all(&bytes), [Feedback::Transport(feedback)]);
    }

    #[test]
    fn every_report_is_named_and_the_packets_end_where_they_say(
        ssrcs in prop::collection::vec(any::<u32>(), 1..100),
        name in "[a-z]{0,300}",
    ) {
        let reports: Vec<SenderReport> = ssrcs.iter().map(|&ssrc| {
            SenderReport { ssrc, ntp: 1, rtp_time: 2, packets: 3, bytes: 4 }
        }).collect();
        let mut out = Vec::new();
        write_sender_reports(&reports, &name, &mut out);
        prop_assert!(out.len() <= reports.len() * (28 + name.len() + 11) + 4 * reports.len().div_ceil(31));
        let (mut rest, mut reported, mut named) = (&out[..], Vec::new(), Vec::new());
        while let [head, kind, high, low, ..] = *rest {
            let (packet, behind) = rest.split_at(4 + 4 * usize::from(u16::from_be_bytes([high, low])));
            let ssrc = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().expect("4 bytes"));
            if kind == 200 {
                reported.push(ssrc(4));
            } else {
                let sources = usize::from(head & 31);
                let chunk = (packet.len() - 4) / sources;
                for source in 0..sources {
                    let at = 4 + source * chunk;
                    named.push(ssrc(at));
                    let length = usize::from(packet[at + 5]);
                    let text = &packet[at + 6..][..length];
                    prop_assert_eq!(text, &name.as_bytes()[..name.len().min(255)]);
                    let zeros = &packet[at + 6 + length..at + chunk];
                    prop_assert!((1..=4).contains(&zeros.len()) && zeros.iter().all(|&byte| byte == 0));
                }
            }
            rest = behind;
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!((&reported, &named), (&ssrcs, &ssrcs));
    }
}

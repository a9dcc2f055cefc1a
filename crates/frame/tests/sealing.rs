//! What sealing promises: every nonce once, every frame opened at most once and unaltered, keys that end when they should.

use std::collections::HashSet;

use grove_frame::{
    BaseKey, EVERYTHING, Fields, FrameKeys, GENERATION_GRACE_MS, Header, Kind, Opener,
    RATCHET_WINDOW, REPLAY_WINDOW, Refusal, Sealer, SenderKey,
};
use proptest::prelude::*;

const VIDEO: Fields = Fields {
    kind: Kind::Delta {
        farthest: 1,
        nearest: 1,
    },
    spatial: 0,
    temporal: 0,
    capture_us: 1_000_000,
    stream: 0,
    track: 1,
    droppable: false,
    rotation: 0,
};
const AUDIO: Fields = Fields {
    kind: Kind::Audio { level: 30 },
    track: 0,
    ..VIDEO
};

fn opener(keys: &[&SenderKey]) -> Opener {
    let mut opener = Opener::new(5);
    for key in keys {
        assert!(opener.add_key(key.generation, key.key.clone()));
    }
    opener
}

fn why(result: Result<(Header, Vec<u8>), Refusal>) -> Option<Refusal> {
    result.err()
}

fn sorted(opener: &Opener) -> Vec<u16> {
    let mut generations = opener.generations();
    generations.sort_unstable();
    generations
}

#[test]
fn a_frame_opens_once() {
    let mut sealer = Sealer::new(5, 0);
    let mut opener = opener(&[sealer.key()]);
    let frame = sealer.seal(&VIDEO, b"payload").unwrap();
    let (header, payload) = opener.open(&frame, 0).unwrap();
    assert_eq!(
        (header.number, header.sender, payload.as_slice()),
        (0, 5, &b"payload"[..])
    );
    assert_eq!(why(opener.open(&frame, 0)), Some(Refusal::Replayed));
    assert_eq!((opener.counts().opened, opener.counts().replayed), (1, 1));
}

#[test]
fn a_forgery_moves_nothing() {
    let mut sealer = Sealer::new(5, 0);
    let mut opener = opener(&[sealer.key()]);
    let frame = sealer.seal(&VIDEO, b"payload").unwrap();
    let mut forged = frame.clone();
    forged[2..6].fill(0xff);
    assert_eq!(why(opener.open(&forged, 0)), Some(Refusal::Altered));
    assert!(opener.open(&frame, 0).is_ok());
}

#[test]
fn frames_open_in_any_order_inside_the_window_of_their_own_layer() {
    let mut sealer = Sealer::new(5, 0);
    let mut opener = opener(&[sealer.key()]);
    let frames: Vec<_> = (0..=REPLAY_WINDOW)
        .map(|_| sealer.seal(&VIDEO, b"").unwrap())
        .collect();
    let other = sealer
        .seal(
            &Fields {
                spatial: 1,
                ..VIDEO
            },
            b"",
        )
        .unwrap();
    assert!(opener.open(&frames[REPLAY_WINDOW as usize], 0).is_ok());
    assert!(opener.open(&frames[1], 0).is_ok());
    assert_eq!(why(opener.open(&frames[0], 0)), Some(Refusal::Replayed));
    assert!(opener.open(&other, 0).is_ok());
}

#[test]
fn no_nonce_comes_twice_over_joins_leaves_layers_and_reloads() {
    let fields = [
        VIDEO,
        AUDIO,
        Fields {
            spatial: 1,
            ..VIDEO
        },
        Fields { stream: 1, ..VIDEO },
        Fields { stream: 1, ..AUDIO },
    ];
    let (mut seen, mut frames) = (HashSet::new(), 0);
    for _reload in 0..4 {
        // The same generation again and again, as if the clock stood still.
        let mut sealer = Sealer::new(5, 0xfff0).with_limit(1000);
        for round in 0..2500 {
            for own in &fields {
                let frame = sealer.seal(own, b"").unwrap();
                let header = Header::decode(&frame).unwrap();
                let SenderKey { generation, key } = sealer.key();
                assert_eq!(header.generation, *generation);
                let nonce = FrameKeys::derive(key, 5, *generation).nonce_bytes(&header);
                seen.insert((*key.expose(), nonce));
                frames += 1;
            }
            if round % 7 == 0 {
                sealer.ratchet();
            }
            if round % 11 == 0 {
                sealer.rotate();
            }
            if round % 5 == 0 {
                let next = sealer.key().generation.wrapping_add(1);
                sealer.use_generation(next);
            }
        }
    }
    assert_eq!(frames, 4 * 2500 * 5);
    assert_eq!(seen.len(), frames);
}

#[test]
fn a_key_whose_numbers_ran_out_is_replaced_at_once() {
    let mut sealer = Sealer::new(5, 0xffff).with_limit(2);
    let first = sealer.key().clone();
    sealer.ratchet();
    let mut at = Vec::new();
    for _ in 0..3 {
        let header = Header::decode(&sealer.seal(&VIDEO, b"").unwrap()).unwrap();
        at.push((header.generation, header.number));
    }
    assert_eq!(at, [(0xffff, 0), (0xffff, 1), (1, 0)]);
    assert_ne!(sealer.key().key, first.key);
    assert!(!sealer.use_generation(0));
}

#[test]
fn a_generation_expires_ten_seconds_after_a_newer_one_was_used_and_no_mail_brings_it_back() {
    let mut sealer = Sealer::new(5, 0xffff);
    let old = sealer.key().clone();
    let next = sealer.rotate();
    let mut opener = opener(&[&old, &next]);
    let late = [(); 2].map(|()| sealer.seal(&VIDEO, b"").unwrap());
    assert!(sealer.use_generation(next.generation));
    assert!(
        opener
            .open(&sealer.seal(&VIDEO, b"").unwrap(), 1000)
            .is_ok()
    );
    assert!(
        opener
            .open(&sealer.seal(&VIDEO, b"").unwrap(), 9000)
            .is_ok()
    );
    assert!(
        opener
            .open(&late[0], 1000 + GENERATION_GRACE_MS - 1)
            .is_ok()
    );
    assert_eq!(
        why(opener.open(&late[1], 1000 + GENERATION_GRACE_MS)),
        Some(Refusal::NoKey)
    );
    assert!(!opener.add_key(old.generation, old.key));
    assert_eq!(opener.generations(), [next.generation]);
}

#[test]
fn a_ratcheted_generation_is_believed_only_when_a_frame_opens_and_eight_steps_at_most() {
    let mut sealer = Sealer::new(5, 10);
    let mut opener = opener(&[sealer.key()]);
    let step = |sealer: &mut Sealer| {
        let generation = sealer.ratchet().generation;
        assert!(sealer.use_generation(generation));
    };
    for _ in 0..RATCHET_WINDOW {
        step(&mut sealer);
    }
    let inside = sealer.seal(&VIDEO, b"").unwrap();
    step(&mut sealer);
    let beyond = sealer.seal(&VIDEO, b"").unwrap();
    assert_eq!(why(opener.open(&beyond, 0)), Some(Refusal::NoKey));
    let mut forged = inside.clone();
    forged[30] ^= 1;
    assert_eq!(why(opener.open(&forged, 0)), Some(Refusal::NoKey));
    assert_eq!(sorted(&opener), [10]);
    assert!(opener.open(&inside, 0).is_ok());
    assert_eq!(sorted(&opener), [10, 18]);
    assert!(opener.open(&beyond, 0).is_ok());
}

#[test]
fn a_fresh_key_whose_mail_is_late_takes_the_place_of_what_was_on_trial() {
    let mut sealer = Sealer::new(5, 1);
    let mut opener = opener(&[sealer.key()]);
    let fresh = sealer.rotate();
    let after = sealer.ratchet();
    assert!(sealer.use_generation(after.generation));
    let frame = sealer.seal(&VIDEO, b"").unwrap();
    assert_eq!(why(opener.open(&frame, 0)), Some(Refusal::NoKey));
    assert!(opener.add_key(fresh.generation, fresh.key));
    assert!(opener.open(&frame, 0).is_ok());
    assert_eq!(why(opener.open(&frame, 0)), Some(Refusal::Replayed));
}

#[test]
fn a_newcomer_opens_nothing_of_the_past() {
    let mut sealer = Sealer::new(5, 3);
    let past: Vec<_> = (0..10).map(|_| sealer.seal(&VIDEO, b"").unwrap()).collect();
    let given = sealer.ratchet();
    assert!(sealer.use_generation(given.generation));
    let mut newcomer = opener(&[&given]);
    let mut cheat = Opener::new(5);
    assert!(cheat.add_key(3, given.key.clone()));
    for frame in &past {
        assert_eq!(why(newcomer.open(frame, 0)), Some(Refusal::NoKey));
        assert_eq!(why(cheat.open(frame, 0)), Some(Refusal::Altered));
    }
    assert!(newcomer.open(&sealer.seal(&VIDEO, b"").unwrap(), 0).is_ok());
}

#[test]
fn a_leaver_opens_nothing_of_what_follows() {
    let mut sealer = Sealer::new(5, 3);
    let mut leaver = opener(&[sealer.key()]);
    let generation = sealer.rotate().generation;
    assert!(sealer.use_generation(generation));
    for round in 0..10 {
        if round == 5 {
            let generation = sealer.ratchet().generation;
            assert!(sealer.use_generation(generation));
        }
        let frame = sealer.seal(&VIDEO, b"").unwrap();
        assert_eq!(why(leaver.open(&frame, 0)), Some(Refusal::NoKey));
    }
    assert_eq!(leaver.counts().opened, 0);
}

#[test]
fn generations_of_a_hostile_number_do_not_pile_up() {
    let mut opener = Opener::new(5);
    for generation in 0..1000 {
        opener.add_key(generation, BaseKey::random());
    }
    assert_eq!(opener.generations().len(), 32);
}

fn kinds() -> impl Strategy<Value = Kind> {
    let distances = prop_oneof![1u16..=64, Just(EVERYTHING), 1u16..];
    prop_oneof![
        (1u16.., 1u16..).prop_map(|(width, height)| Kind::Key { width, height }),
        (distances, any::<u16>()).prop_map(|(farthest, draw)| Kind::Delta {
            farthest,
            nearest: 1 + draw % farthest
        }),
        Just(Kind::Delta {
            farthest: 0,
            nearest: 0
        }),
        (0u8..=127).prop_map(|level| Kind::Audio { level }),
        Just(Kind::Signature),
        Just(Kind::Control),
    ]
}

prop_compose! {
    fn headers()(
        kind in kinds(),
        (spatial, temporal, rotation) in (0u8..4, 0u8..4, 0u8..4),
        number in any::<u32>(),
        capture_us in 0u64..1 << 48,
        (sender, generation) in any::<(u16, u16)>(),
        (stream, track) in (0u8..16, 0u8..16),
        droppable in any::<bool>(),
    ) -> Header {
        let video = matches!(kind, Kind::Key { .. } | Kind::Delta { .. });
        let only = |value| if video { value } else { 0 };
        Header {
            kind,
            spatial: only(spatial),
            temporal: only(temporal),
            rotation: only(rotation),
            number, capture_us, sender, generation, stream, track, droppable,
        }
    }
}

proptest! {
    #[test]
    fn every_header_comes_back_as_it_went(header in headers()) {
        let mut frame = header.encode().unwrap().to_vec();
        frame.extend([0; 16]);
        prop_assert_eq!(Header::decode(&frame), Some(header));
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(mut frame in prop::collection::vec(any::<u8>(), 0..60), imitate in 0u8..4) {
        // Random bytes are almost never a header: most cases are given a first byte, a version and the zeros of one.
        if imitate > 0 && frame.len() > 23 {
            frame[0] = if imitate == 1 { 0x80 } else { 0x85 };
            frame[1] = frame[1] & 0x3f | 0x40;
            frame[21] &= 0x83;
            frame[22..24].fill(0);
        }
        if let Some(header) = Header::decode(&frame) {
            prop_assert_eq!(&header.encode().unwrap()[..], &frame[..24]);
        }
    }

    #[test]
    fn an_altered_bit_is_always_refused(header in headers(), payload in prop::collection::vec(any::<u8>(), 0..50), draw in any::<prop::sample::Index>()) {
        let key = BaseKey::from_bytes([9; 16]);
        let mut frame = FrameKeys::derive(&key, header.sender, header.generation).seal(&header, &payload).unwrap();
        let mut opener = Opener::new(header.sender);
        opener.add_key(header.generation, key);
        let bit = draw.index(8 * frame.len());
        frame[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(opener.open(&frame, 0).is_err());
        frame[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(opener.open(&frame, 0), Ok((header, payload)));
    }

    #[test]
    fn foreign_bytes_are_refused_and_nothing_else_happens(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut opener = Opener::new(5);
        opener.add_key(0, BaseKey::from_bytes([9; 16]));
        prop_assert!(opener.open(&frame, 0).is_err());
    }
}

use super::*;
use proptest::prelude::*;

const PROFILES: [Profile; 3] = [
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
    Profile::Aes128CmSha1_80,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|d| (d[0] * 16 + d[1]) as u8).collect()
}

/// Master key and salt of RFC 3711 appendix B.3.
fn master() -> (Vec<u8>, Vec<u8>) {
    (
        hex("e1f97a0d3e018be0d64fa32c06de4139"),
        hex("0ec675ad498afeebb6960b3aabe6"),
    )
}

fn pair(profile: Profile) -> (Seal, Open) {
    let key: Vec<u8> = (1..=profile.key_len() as u8).collect();
    let salt: Vec<u8> = (101..101 + profile.salt_len() as u8).collect();
    let seal = Seal::new(profile, &key, &salt).expect("its lengths");
    let open = Open::new(profile, &key, &salt).expect("its lengths");
    (seal, open)
}

/// The session key of RFC 7714 section 16 (as long as the profile's) and its salt, "Quid pro quo".
fn quid_pro_quo(profile: Profile) -> Session {
    let key: Vec<u8> = (0..profile.key_len() as u8).collect();
    let mut salt = [0; 14];
    salt[..12].copy_from_slice(b"Quid pro quo");
    Session::new(profile, &key, &[], salt).expect("its lengths")
}

fn seal_of(profile: Profile, next_rtcp: u32) -> Seal {
    let (rtp, rtcp) = (quid_pro_quo(profile), quid_pro_quo(profile));
    Seal {
        profile,
        rtp,
        rtcp,
        next_rtcp,
    }
}

fn receiver_report(ssrc: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1 + body.len() as u8 / 4];
    packet.extend(ssrc.to_be_bytes());
    packet.extend(body);
    packet
}

#[test]
fn session_keys_are_those_of_rfc_3711_appendix_b_3() {
    let (key, salt) = master();
    let derived = |label, length| {
        let mut out = vec![1; length];
        derive(Profile::Aes128CmSha1_80, &key, &salt, label, &mut out).expect("its lengths");
        out
    };
    assert_eq!(derived(0, 16), hex("c61e7a93744f39ee10734afe3ff7a087"));
    assert_eq!(derived(2, 14), hex("30cbbc08863d8c85d49db34a9ae1"));
    let authentication = "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2";
    assert_eq!(derived(1, 94), hex(authentication));
    // The labels of RTCP, which the RFC leaves out.
    assert_eq!(derived(3, 16), hex("4c1aa45a81f73d61c800bbb00fbb1eaa"));
    let mac = "8d54534feb49ae8e7993a6bd0b844fc323a93dfd";
    assert_eq!(derived(4, 20), hex(mac));
    assert_eq!(derived(5, 14), hex("9581c7ad87b3e530bf3e4454a8b3"));
}

#[test]
fn packets_of_aes_cm_and_sha1_are_those_that_libsrtp_makes() {
    let (key, salt) = master();
    let mut seal = Seal::new(Profile::Aes128CmSha1_80, &key, &salt).expect("its lengths");
    let mut rtp = hex("800f1234decafbadcafebabeabababababababababababababababab");
    seal.rtp(0xcafe_babe, 0x1234, 12, &mut rtp, 0);
    let sealed = "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb";
    assert_eq!(rtp, hex(sealed));
    // libsrtp counts from 1.
    let plain = hex("81c8000bcafebabeabababababababababababababababab");
    let (mut first, mut second) = (plain.clone(), plain.clone());
    seal.rtcp(&mut first);
    seal.rtcp(&mut second);
    let sealed = "81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798";
    assert_eq!(second, hex(sealed));
    let mut open = Open::new(Profile::Aes128CmSha1_80, &key, &salt).expect("its lengths");
    assert_eq!(open.rtcp(&hex(sealed), &mut Vec::new()), Some(&plain[..]));
}

#[test]
fn packets_of_aes_gcm_are_those_of_rfc_7714() {
    let gallia = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573";
    for (profile, sealed) in [
        (
            Profile::AeadAes128Gcm,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
        ),
        (
            Profile::AeadAes256Gcm,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
        ),
    ] {
        let mut packet = hex(gallia);
        seal_of(profile, 0).rtp(0x5501_a0b2, 0xf17b, 12, &mut packet, 0);
        assert_eq!(packet, hex(sealed));
    }
    let mars = hex(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    );
    let sealed = hex(
        "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
    );
    let mut packet = mars.clone();
    seal_of(Profile::AeadAes128Gcm, 0x5d4).rtcp(&mut packet);
    assert_eq!(packet, sealed);
    let mut open = Open {
        rtp: quid_pro_quo(Profile::AeadAes128Gcm),
        session: quid_pro_quo(Profile::AeadAes128Gcm),
        heard: Vec::new(),
    };
    assert_eq!(open.rtcp(&sealed, &mut Vec::new()), Some(&mars[..]));
}

#[test]
fn exported_bytes_are_client_key_server_key_client_salt_server_salt() {
    for profile in PROFILES {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let bytes: Vec<u8> = (0..2 * (key + salt) as u8).collect();
        let keys = Keys::from_exporter(profile, &bytes).expect("its length");
        let joined = [
            &keys.client.key[..],
            &keys.server.key,
            &keys.client.salt,
            &keys.server.salt,
        ];
        assert_eq!(joined.concat(), bytes);
        assert_eq!(keys.client.key.len(), key);
        assert_eq!(Keys::from_exporter(profile, &bytes[1..]), None);
        assert!(Seal::new(profile, &bytes[..key], &bytes[..salt]).is_some());
        assert!(Seal::new(profile, &bytes[..key - 1], &bytes[..salt]).is_none());
        assert!(Open::new(profile, &bytes[..key], &bytes[..salt + 1]).is_none());
    }
}

#[test]
fn only_the_packet_from_its_start_on_is_sealed_and_its_header_stays_readable() {
    for profile in PROFILES {
        let (seal, _) = pair(profile);
        let packet: Vec<u8> = (0..60).collect();
        let mut alone = packet.clone();
        seal.rtp(7, 1 << 16 | 9, 20, &mut alone, 0);
        let mut behind = [&[9; 33][..], &packet].concat();
        seal.rtp(7, 1 << 16 | 9, 20, &mut behind, 33);
        assert_eq!((&behind[..33], &behind[33..]), (&[9; 33][..], &alone[..]));
        assert_eq!(alone.len(), 60 + seal.rtp_overhead());
        assert_eq!(alone[..20], packet[..20]);
        assert_ne!(alone[20..60], packet[20..]);
        // Sender, rollover counter, and header are part of it.
        for (ssrc, index, header) in [(8, 1 << 16 | 9, 20), (7, 9, 20), (7, 1 << 16 | 9, 16)] {
            let mut other = packet.clone();
            seal.rtp(ssrc, index, header, &mut other, 0);
            assert_ne!(other[60..], alone[60..]);
        }
    }
}

#[test]
fn sealing_into_a_buffer_with_room_does_not_move_it() {
    for profile in PROFILES {
        let (mut seal, _) = pair(profile);
        let mut buffer = Vec::with_capacity(1300);
        let place = buffer.as_ptr();
        for index in 0..10 {
            buffer.clear();
            buffer.resize(1200, 5);
            seal.rtp(7, index, 12, &mut buffer, 0);
            buffer.truncate(1200);
            seal.rtcp(&mut buffer);
            assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, 1300));
            assert_eq!(buffer.len(), 1200 + seal.rtcp_overhead());
        }
    }
}

#[test]
fn no_index_of_rtcp_is_used_twice() {
    for profile in PROFILES {
        let (mut seal, mut open) = pair(profile);
        seal.next_rtcp = ENCRYPTED - 1;
        let plain = receiver_report(7, &[]);
        let (mut last, mut beyond) = (plain.clone(), plain.clone());
        seal.rtcp(&mut last);
        seal.rtcp(&mut beyond);
        assert_eq!(open.rtcp(&last, &mut Vec::new()), Some(&plain[..]));
        assert!(beyond.is_empty());
        let mut short = vec![0x80, 201, 0, 0];
        seal.rtcp(&mut short);
        assert!(short.is_empty());
    }
}

#[test]
fn rtcp_that_is_not_encrypted_is_not_heard() {
    // Authenticated, with the bit above the index 0, which RFC 3711 permits.
    let (key, salt) = master();
    let mut open = Open::new(Profile::Aes128CmSha1_80, &key, &salt).expect("its lengths");
    let mut packet = receiver_report(7, &[]);
    packet.extend(5u32.to_be_bytes());
    let Key::Cm(keys) = &open.session.key else {
        unreachable!("the profile has them");
    };
    let tag = hmac::sign(&keys.1, &packet);
    packet.extend(&tag.as_ref()[..SHA1_TAG]);
    assert_eq!(open.rtcp(&packet, &mut Vec::new()), None);
    assert!(open.heard.is_empty());
}

#[test]
fn senders_are_bounded_and_those_that_are_known_go_on() {
    for profile in PROFILES {
        let (mut seal, mut open) = pair(profile);
        let mut out = Vec::new();
        let mut hear = |ssrc: u32| {
            let mut packet = receiver_report(ssrc, &[]);
            seal.rtcp(&mut packet);
            open.rtcp(&packet, &mut out).is_some()
        };
        // In no order.
        let ssrcs = || (0..SENDERS as u32).map(|n| n.wrapping_mul(0x9e37_79b9));
        assert!(ssrcs().all(&mut hear));
        assert!(!hear(1));
        assert!(ssrcs().all(&mut hear));
        assert_eq!(open.heard.len(), SENDERS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a model: the set of what came.
    #[test]
    fn every_packet_of_rtcp_is_opened_once_and_never_from_behind_the_window(
        profile in 0usize..3,
        order in prop::collection::vec((0u32..3, 0u32..200), 1..300),
    ) {
        let (mut seal, mut open) = pair(PROFILES[profile]);
        let mut came = std::collections::BTreeSet::new();
        let mut out = Vec::new();
        for (ssrc, index) in order {
            let plain = receiver_report(ssrc, &index.to_be_bytes());
            let mut packet = plain.clone();
            seal.next_rtcp = index;
            seal.rtcp(&mut packet);
            let newest = came.range((ssrc, 0)..(ssrc + 1, 0)).next_back();
            let late = newest.is_some_and(|&(_, newest)| index + WINDOW <= newest);
            let expected = (!late && came.insert((ssrc, index))).then_some(&plain[..]);
            prop_assert_eq!(open.rtcp(&packet, &mut out), expected);
        }
    }

    #[test]
    fn a_packet_of_rtcp_that_is_cut_bent_or_lengthened_is_not_opened_and_costs_the_genuine_one_nothing(
        profile in 0usize..3,
        body in prop::collection::vec(any::<u8>(), 0..100),
        cut in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        tail in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let (mut seal, mut open) = pair(PROFILES[profile]);
        let plain = receiver_report(3, &body);
        let mut packet = plain.clone();
        seal.rtcp(&mut packet);
        let mut out = vec![1, 2, 3];
        prop_assert_eq!(open.rtcp(&packet[..cut.index(packet.len())], &mut out), None);
        let mut bent = packet.clone();
        let bit = bit.index(8 * bent.len());
        bent[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open.rtcp(&bent, &mut out), None);
        prop_assert_eq!(open.rtcp(&[&packet[..], &tail].concat(), &mut out), None);
        prop_assert!(out.is_empty() && open.heard.is_empty());
        prop_assert_eq!(open.rtcp(&packet, &mut out), Some(&plain[..]));
    }

    #[test]
    fn a_first_packet_of_rtp_is_known_and_no_bent_or_cut_one(
        profile in 0usize..3,
        extension: bool,
        body in prop::collection::vec(any::<u8>(), 0..100),
        cut in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let (seal, open) = pair(PROFILES[profile]);
        let mut packet = vec![0x80, 96, 0xff, 0xfe, 0, 0, 0, 1, 0, 0, 0, 9];
        if extension {
            packet[0] |= 0x10;
            packet.extend([0xbe, 0xde, 0, 1, 0x10, 7, 0, 0]);
        }
        let head = packet.len();
        packet.extend(&body);
        let mut later = packet.clone();
        seal.rtp(9, 0xfffe, head, &mut packet, 0);
        seal.rtp(9, 0x1_fffe, head, &mut later, 0);
        let mut out = Vec::new();
        prop_assert!(open.begins(&packet, &mut out));
        prop_assert!(!open.begins(&later, &mut out));
        prop_assert!(!open.begins(&packet[..cut.index(packet.len())], &mut out));
        let bit = bit.index(8 * packet.len());
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!open.begins(&packet, &mut out));
    }

    #[test]
    fn no_bytes_are_taken_for_rtp(profile in 0usize..3, bytes: Vec<u8>) {
        let (_, open) = pair(PROFILES[profile]);
        prop_assert!(!open.begins(&bytes, &mut Vec::new()));
    }

    #[test]
    fn no_bytes_are_taken_for_rtcp(profile in 0usize..3, bytes: Vec<u8>) {
        let (_, mut open) = pair(PROFILES[profile]);
        prop_assert!(open.rtcp(&bytes, &mut Vec::new()).is_none());
    }
}

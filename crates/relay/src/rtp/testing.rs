//! Packets for the tests of this module's parts.

use std::sync::Arc;

use aws_lc_rs::hmac;
use grove_frame::{Header, TAG_BYTES};

use super::packet::Packet;
use crate::testing;

fn first(seq: u64, time: u64, header: Header) -> Packet {
    let mut payload = vec![0x90, 0x20, header.temporal << 6];
    payload.extend(header.encode().expect("a header"));
    payload.extend([0; TAG_BYTES]);
    Packet::video(seq, time, false, &payload.into())
}

/// The first packet of a key frame.
pub(crate) fn key(seq: u64, time: u64, number: u32) -> Packet {
    first(seq, time, testing::key(number))
}

/// The first packet of a delta frame.
pub(crate) fn delta(seq: u64, time: u64, number: u32) -> Packet {
    first(seq, time, testing::delta(number, 1, 1))
}

/// Another packet than a frame's first.
pub(crate) fn rest(seq: u64, time: u64, marker: bool) -> Packet {
    let payload: Arc<[u8]> = Arc::from([0x80, 0x20, 0, seq as u8, 1]);
    Packet::video(seq, time, marker, &payload)
}

/// A picture in packets of a kilobyte, the first of which has this number.
pub(crate) fn pieces(seq: u64, time: u64, sealed: &[u8]) -> Vec<Packet> {
    let last = sealed.chunks(1000).len() - 1;
    let piece = |(n, bytes): (usize, &[u8])| {
        let payload = [&[if n == 0 { 0x10 } else { 0 }], bytes].concat();
        Packet::video(seq + n as u64, time, n == last, &payload.into())
    };
    sealed.chunks(1000).enumerate().map(piece).collect()
}

/// A check with this number, signed, that nominates.
pub(crate) fn check(ufrag: &str, password: &str, n: u8) -> Vec<u8> {
    let name = format!("{ufrag}:theirs");
    let padded = name.len().next_multiple_of(4);
    let mut bytes = vec![0, 1, 0, (8 + padded + 24) as u8, 0x21, 0x12, 0xa4, 0x42];
    bytes.extend([n; 12]);
    bytes.extend([0, 6, 0, name.len() as u8]);
    bytes.extend(name.bytes());
    bytes.resize(24 + padded, 0);
    bytes.extend([0, 0x25, 0, 0]);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &bytes);
    bytes.extend([0, 8, 0, 20]);
    bytes.extend(tag.as_ref());
    bytes
}

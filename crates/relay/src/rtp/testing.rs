//! Packets for the tests of this module's parts.

use std::sync::Arc;

use grove_frame::{Header, Kind, TAG_BYTES};

use super::packet::Packet;
use crate::Micros;

/// A header of a picture; its capture time is `number` times 33 ms.
pub(crate) fn header(number: u32, temporal: u8, kind: Kind) -> Header {
    Header {
        kind,
        spatial: 0,
        temporal,
        number,
        capture_us: u64::from(number) * 33_000,
        sender: 7,
        stream: 0,
        track: 1,
        generation: 1,
        droppable: false,
        rotation: 0,
    }
}

fn first(seq: u64, time: u64, header: Header, at: Micros) -> Packet {
    let mut payload = vec![0x90, 0x20, header.temporal << 6];
    payload.extend(header.encode().expect("a header"));
    payload.extend([0; TAG_BYTES]);
    Packet::video(seq, time, false, &payload, at)
}

/// The first packet of a key frame.
pub(crate) fn key(seq: u64, time: u64, number: u32, at: Micros) -> Packet {
    let kind = Kind::Key {
        width: 640,
        height: 360,
    };
    first(seq, time, header(number, 0, kind), at)
}

/// The first packet of a delta frame with its two distances.
pub(crate) fn delta(
    seq: u64,
    time: u64,
    temporal: u8,
    number: u32,
    (farthest, nearest): (u16, u16),
    at: Micros,
) -> Packet {
    let kind = Kind::Delta { farthest, nearest };
    first(seq, time, header(number, temporal, kind), at)
}

/// Another packet than a frame's first.
pub(crate) fn rest(seq: u64, time: u64, temporal: u8, marker: bool, at: Micros) -> Packet {
    let payload: Arc<[u8]> = Arc::from([0x80, 0x20, temporal << 6, seq as u8, 1]);
    Packet::video(seq, time, marker, &payload, at)
}

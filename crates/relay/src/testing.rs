//! Headers for the unit tests.

use grove_frame::{Header, Kind};

/// Of a picture of node 1's camera, in the lowest layer; its capture time is `number` times 33 ms.
pub(crate) fn header(number: u32, kind: Kind) -> Header {
    Header {
        kind,
        spatial: 0,
        temporal: 0,
        number,
        capture_us: u64::from(number) * 33_000,
        sender: 1,
        stream: 0,
        track: 1,
        generation: 1,
        droppable: false,
        rotation: 0,
    }
}

pub(crate) fn key(number: u32) -> Header {
    let kind = Kind::Key {
        width: 64,
        height: 36,
    };
    header(number, kind)
}

pub(crate) fn delta(number: u32, farthest: u16, nearest: u16) -> Header {
    header(number, Kind::Delta { farthest, nearest })
}

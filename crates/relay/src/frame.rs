//! A frame as it is held here: its header, the bytes that came, and when. Cloning shares the bytes.

use bytes::Bytes;
use grove_frame::{EVERYTHING, Header, Kind};

use crate::Micros;

/// A millisecond.
pub(crate) const MS: Micros = 1000;

/// What a forwarded frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Track {
    Audio,
    Video,
}

/// Which track a frame belongs to; `None` for kinds and tracks that are not forwarded.
pub(crate) fn track(header: &Header) -> Option<Track> {
    match (header.track, header.kind) {
        (1, Kind::Key { .. } | Kind::Delta { .. }) => Some(Track::Video),
        (0, Kind::Audio { .. }) => Some(Track::Audio),
        _ => None,
    }
}

/// The numbers that a frame names as needed: its farthest and its nearest reference.
pub(crate) fn references(header: &Header) -> impl Iterator<Item = u32> {
    let Kind::Delta { farthest, nearest } = header.kind else {
        return [None, None].into_iter().flatten();
    };
    let back = |distance: u16| {
        (distance > 0 && distance < EVERYTHING)
            .then(|| header.number.checked_sub(distance.into()))
            .flatten()
    };
    let nearest = if nearest == farthest { 0 } else { nearest };
    [back(farthest), back(nearest)].into_iter().flatten()
}

/// The frame needs everything before it.
pub(crate) fn needs_all(header: &Header) -> bool {
    matches!(header.kind, Kind::Delta { farthest, nearest } if farthest == EVERYTHING || nearest == EVERYTHING)
}

/// A frame in the ring.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub header: Header,
    pub sealed: Bytes,
    /// When it came.
    pub at: Micros,
}

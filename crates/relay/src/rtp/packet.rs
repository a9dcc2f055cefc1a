//! A packet that came, as frames are put together from it.

use std::sync::Arc;

use grove_frame::{Header, Kind};

use super::descriptor::Descriptor;

/// One packet of a video layer or of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// RTP sequence number, extended.
    pub seq: u64,
    /// RTP timestamp, extended. The packets of a frame have the same.
    pub time: u64,
    /// The frame's last packet.
    pub marker: bool,
    /// On a frame's first packet: what the frame says of itself.
    pub header: Option<Header>,
    /// Its RTP payload.
    payload: Arc<[u8]>,
    /// Where the piece of the sealed frame begins in it.
    from: usize,
}

impl Packet {
    /// A packet of video as it came. One that is no VP8 packet, and one that begins a frame without a header of ours, has no
    /// bytes: its number counts, they do not.
    pub fn video(seq: u64, time: u64, marker: bool, payload: &Arc<[u8]>) -> Self {
        let nothing = Self {
            seq,
            time,
            marker,
            header: None,
            payload: Arc::clone(payload),
            from: payload.len(),
        };
        let Some(descriptor) = Descriptor::parse(payload) else {
            return nothing;
        };
        let from = descriptor.bytes;
        if !descriptor.first {
            return Self { from, ..nothing };
        }
        let header = payload.get(from..).and_then(Header::decode);
        match header.filter(|h| matches!(h.kind, Kind::Key { .. } | Kind::Delta { .. })) {
            Some(header) => Self {
                from,
                header: Some(header),
                ..nothing
            },
            None => nothing,
        }
    }

    /// The piece of the sealed frame; empty when it has none.
    pub fn bytes(&self) -> &[u8] {
        self.payload.get(self.from..).unwrap_or_default()
    }
}

/// The sealed frame of a packet of sound, if it is one.
pub fn sound(payload: &[u8]) -> Option<&[u8]> {
    let header = Header::decode(payload)?;
    matches!(header.kind, Kind::Audio { .. }).then_some(payload)
}

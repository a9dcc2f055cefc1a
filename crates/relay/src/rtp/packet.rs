//! A packet as it is held and forwarded: stripped once, shared by all receivers.

use std::sync::Arc;

use grove_frame::{Header, Kind};

use super::descriptor::Descriptor;
use crate::Micros;

/// One packet of a video layer or of sound. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// RTP sequence number, extended.
    pub seq: u64,
    /// RTP timestamp, extended. The packets of a frame have the same.
    pub time: u64,
    /// The frame's last packet.
    pub marker: bool,
    /// The frame's temporal layer, as its packet says.
    pub temporal: u8,
    /// On a frame's first packet: what the frame says of itself.
    pub header: Option<Header>,
    /// What goes out as RTP payload: a byte of descriptor (video), and the piece of the sealed frame. Empty: nothing but a
    /// number.
    pub payload: Arc<[u8]>,
    /// When it came.
    pub at: Micros,
}

impl Packet {
    /// A packet of video as it came. One that is no VP8 packet, and one that begins a frame without a header of ours, comes
    /// out empty: its number counts, its bytes do not.
    pub fn video(seq: u64, time: u64, marker: bool, payload: &[u8], at: Micros) -> Self {
        let mut packet = Self {
            seq,
            time,
            marker,
            temporal: 0,
            header: None,
            payload: Arc::default(),
            at,
        };
        let Some(descriptor) = Descriptor::parse(payload) else {
            return packet;
        };
        let body = &payload[descriptor.bytes..];
        packet.temporal = descriptor.temporal;
        if descriptor.first {
            let header = Header::decode(body)
                .filter(|h| matches!(h.kind, Kind::Key { .. } | Kind::Delta { .. }));
            if header.is_none() {
                return packet;
            }
            packet.header = header;
        }
        let parts = [&[descriptor.stripped()], body];
        packet.payload = parts.concat().into();
        packet
    }

    /// A packet of sound: one sealed frame. Empty when it is none.
    pub fn audio(seq: u64, time: u64, payload: &Arc<[u8]>, at: Micros) -> Self {
        let header = Header::decode(payload).filter(|h| matches!(h.kind, Kind::Audio { .. }));
        Self {
            seq,
            time,
            marker: false,
            temporal: 0,
            header,
            payload: if header.is_some() {
                Arc::clone(payload)
            } else {
                Arc::default()
            },
            at,
        }
    }

    /// The packet begins a key frame.
    pub fn is_key(&self) -> bool {
        self.header.is_some_and(|header| header.is_key())
    }
}

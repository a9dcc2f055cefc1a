//! What is sent: how many packets of which size how often to how many, and bytes in which each packet can be known again.
//!
//! A frame is a header as the relay reads it and a body in which nothing is sealed: nobody opens it here. The frame's number
//! stands in the body again and again, so that a piece tells its frame wherever a server has cut it.

use clap::ValueEnum;
use grove_frame::{Header, Kind};

/// Bytes of RTP payload in a packet of video: as many as the relay puts into one when it splits a frame. With RTP header,
/// extensions and SRTP tag that is a datagram of about 1200 bytes.
const PAYLOAD: usize = 1150;
/// Bytes of a frame in it: behind one byte of VP8 descriptor.
const PIECE: usize = PAYLOAD - 1;
/// Bytes of a frame of sound: a datagram of about 120 bytes.
const SOUND: usize = 76;
/// Ahead of each frame's number in the body.
const MARK: [u8; 4] = [0xf0, 0x9f, 0x8c, 0xb3];
const STAMP: usize = MARK.len() + 4;
/// From one stamp to the next. Even a packet of sound has a whole one.
const STRIDE: usize = 32;
/// RTP packets' bytes ahead of the payload and behind it, in the floor: a header with the extensions of ours, and a tag.
pub(crate) const RTP_HEADER: usize = 28;
pub(crate) const TAG: usize = 16;

/// A load by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// 1 -> 16, 30 pictures a second of 9 packets: 2.5 Mbit/s.
    Video16,
    /// 1 -> 20, 30 pictures a second of 4 packets.
    Video20,
    /// 1 -> 50, 30 pictures a second of 10 packets.
    Video50,
    /// 1 -> 200, 30 pictures a second of 4 packets.
    Video200,
    /// 1 -> 50, 50 packets of sound a second.
    Audio50,
    /// 1 -> 200, 50 packets of sound a second.
    Audio200,
}

impl Shape {
    /// What `forward` measures unless it is told.
    pub(crate) const COMPARED: [Self; 4] =
        [Self::Video50, Self::Video200, Self::Audio50, Self::Audio200];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Video16 => "video16",
            Shape::Video20 => "video20",
            Shape::Video50 => "video50",
            Shape::Video200 => "video200",
            Shape::Audio50 => "audio50",
            Shape::Audio200 => "audio200",
        }
    }

    pub(crate) fn receivers(self) -> usize {
        match self {
            Shape::Video16 => 16,
            Shape::Video20 => 20,
            Shape::Video50 | Shape::Audio50 => 50,
            Shape::Video200 | Shape::Audio200 => 200,
        }
    }

    pub(crate) fn is_audio(self) -> bool {
        matches!(self, Shape::Audio50 | Shape::Audio200)
    }

    pub(crate) fn frames_per_second(self) -> u32 {
        if self.is_audio() { 50 } else { 30 }
    }

    /// Packets of a frame.
    pub(crate) fn packets(self) -> usize {
        match self {
            Shape::Video16 => 9,
            Shape::Video50 => 10,
            Shape::Video20 | Shape::Video200 => 4,
            Shape::Audio50 | Shape::Audio200 => 1,
        }
    }

    /// Bytes of a frame, its header included.
    pub(crate) fn frame_bytes(self) -> usize {
        if self.is_audio() {
            SOUND
        } else {
            self.packets() * PIECE
        }
    }

    /// Bytes of RTP payload of one packet.
    pub(crate) fn payload_bytes(self) -> usize {
        if self.is_audio() { SOUND } else { PAYLOAD }
    }

    /// Bit/s of frames.
    pub(crate) fn bps(self) -> u64 {
        u64::from(self.frames_per_second()) * self.frame_bytes() as u64 * 8
    }

    /// A frame of `sender`: a key frame, or one that needs the one before.
    pub(crate) fn frame(self, sender: u16, number: u32, key: bool) -> Vec<u8> {
        let kind = match (self.is_audio(), key) {
            (true, _) => Kind::Audio { level: 30 },
            (false, true) => Kind::Key {
                width: 1280,
                height: 720,
            },
            (false, false) => Kind::Delta {
                farthest: 1,
                nearest: 1,
            },
        };
        let header = Header {
            kind,
            spatial: 0,
            temporal: 0,
            number,
            capture_us: u64::from(number) * 1_000_000 / u64::from(self.frames_per_second()),
            sender,
            stream: 0,
            track: u8::from(!self.is_audio()),
            generation: 1,
            droppable: false,
            rotation: 0,
        };
        let mut frame = header
            .encode()
            .expect("every field is within its range")
            .to_vec();
        while frame.len() < self.frame_bytes() {
            frame.extend(MARK);
            frame.extend(number.to_be_bytes());
            frame.resize(frame.len() - STAMP + STRIDE, 0x5a);
        }
        frame.truncate(self.frame_bytes());
        frame
    }

    /// The RTP payloads of a frame.
    pub(crate) fn payloads(self, frame: &[u8]) -> Vec<Vec<u8>> {
        if self.is_audio() {
            return vec![frame.to_vec()];
        }
        let pieces = frame.chunks(PIECE).enumerate();
        // VP8's descriptor of one byte (RFC 7741): the first says that a partition begins.
        let descriptor = |n| if n == 0 { 0x10 } else { 0 };
        let payload = |(n, piece): (usize, &[u8])| [&[descriptor(n)], piece].concat();
        pieces.map(payload).collect()
    }
}

/// Which frame a payload is of, and how many of the frame's bytes it has; `None` for anything else, such as padding.
pub(crate) fn read(payload: &[u8], audio: bool) -> Option<(u32, usize)> {
    let header = 1 + grove_frame::HEADER_BYTES;
    let most = header + STRIDE + STAMP;
    let near = payload.get(..most.min(payload.len()))?;
    let at = near.windows(MARK.len()).position(|four| four == MARK)?;
    let number = payload.get(at + MARK.len()..at + STAMP)?.try_into().ok()?;
    let descriptor = usize::from(!audio);
    Some((u32::from_be_bytes(number), payload.len() - descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_makes_as_many_packets_as_it_says_and_all_are_of_one_size() {
        for &shape in Shape::value_variants() {
            let frame = shape.frame(1, 77, false);
            let payloads = shape.payloads(&frame);
            assert_eq!(payloads.len(), shape.packets(), "{shape:?}");
            for payload in &payloads {
                assert_eq!(payload.len(), shape.payload_bytes(), "{shape:?}");
            }
            let datagram = RTP_HEADER + shape.payload_bytes() + TAG;
            let expected = if shape.is_audio() { 120 } else { 1194 };
            assert_eq!(datagram, expected);
        }
    }

    #[test]
    fn the_relay_reads_the_header_of_every_frame() {
        for &shape in Shape::value_variants() {
            for (number, key) in [(0, true), (70_000, false)] {
                let frame = shape.frame(9, number, key);
                let header = Header::decode(&frame).unwrap();
                assert_eq!((header.sender, header.number), (9, number));
                assert_eq!(header.is_key(), key && !shape.is_audio());
            }
        }
    }

    #[test]
    fn a_piece_tells_its_frame_wherever_the_frame_was_cut() {
        let shape = Shape::Video200;
        let frame = shape.frame(1, 0xdead_beef, true);
        for size in [80, 333, 1000, PIECE] {
            for piece in frame.chunks(size).filter(|piece| piece.len() == size) {
                let payload = [&[0], piece].concat();
                assert_eq!(read(&payload, false), Some((0xdead_beef, size)));
            }
        }
        let sound = Shape::Audio50.frame(1, 5, false);
        assert_eq!(read(&sound, true), Some((5, SOUND)));
    }

    #[test]
    fn padding_and_strange_bytes_are_of_no_frame() {
        for payload in [&[][..], &[0; 255], &MARK, &[0x5a; 1150]] {
            assert_eq!(read(payload, false), None);
        }
    }
}

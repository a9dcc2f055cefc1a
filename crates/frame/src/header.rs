//! The header of a sealed frame: 24 bytes in clear, authenticated with the payload, all that a forwarder reads.
//!
//! Decoding refuses everything that encoding would not write. It says nothing about who wrote the bytes: only opening does.

/// Bytes of header ahead of the ciphertext.
pub const HEADER_BYTES: usize = 24;
/// Bytes of authentication tag behind the ciphertext.
pub const TAG_BYTES: usize = 16;
/// A distance that stands for every frame before this one.
pub const EVERYTHING: u16 = 0xffff;

const VERSION: u8 = 1;
const KEY_BYTE: u8 = 0x80;
const OTHER_BYTE: u8 = 0x85;
const DROPPABLE: u8 = 0x80;
const CAPTURE_END: u64 = 1 << 48;

/// What a frame holds, with what the header says about just that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A picture that needs no other.
    Key {
        /// Pixels, not 0.
        width: u16,
        /// Pixels, not 0.
        height: u16,
    },
    /// A picture that may need others.
    Delta {
        /// How far back the earliest frame lies that it needs: 0 none, [`EVERYTHING`] all.
        farthest: u16,
        /// The same of the latest: 0 with `farthest` 0, else 1..=`farthest`.
        nearest: u16,
    },
    /// A packet of sound.
    Audio {
        /// 0 (loud) ..= 127 (silence), as RFC 6464.
        level: u8,
    },
    /// The sender's signature over earlier frames.
    Signature,
    /// Anything else that goes the way of frames.
    Control,
}

/// A frame's header. Spatial layer, temporal layer and rotation are 0 unless it is video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// What the frame holds.
    pub kind: Kind,
    /// 0..=3, lowest quality first. Each spatial layer is an encoding of its own.
    pub spatial: u8,
    /// 0..=3.
    pub temporal: u8,
    /// Counts within (sender, stream, track, spatial layer).
    pub number: u32,
    /// Microseconds since the sender's node started, below 2^48; one clock for all its tracks.
    pub capture_us: u64,
    /// The sender's number in the room.
    pub sender: u16,
    /// 0..=15.
    pub stream: u8,
    /// 0..=15; 0 audio, 1 video.
    pub track: u8,
    /// Which of the sender's keys seals it; counts on around zero ([`is_newer`]).
    pub generation: u16,
    /// May be left out without harm to any other frame.
    pub droppable: bool,
    /// Quarter turns clockwise to stand upright, 0..=3.
    pub rotation: u8,
}

/// A header field holds what it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is out of range for this kind of frame")]
pub struct FieldError(
    /// The field's name.
    pub &'static str,
);

/// The earlier frames of its layer that a delta frame needs: both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The earliest; 0 when it needs everything before it (in practice, since the last key frame).
    pub from: u32,
    /// The latest.
    pub to: u32,
}

impl Header {
    /// The 24 bytes. Fails when a value does not fit, or does not belong to the kind of frame.
    pub fn encode(&self) -> Result<[u8; HEADER_BYTES], FieldError> {
        let video = matches!(self.kind, Kind::Key { .. } | Kind::Delta { .. });
        let most = if video { 3 } else { 0 };
        for (field, fits) in [
            ("spatial", self.spatial <= most),
            ("temporal", self.temporal <= most),
            ("rotation", self.rotation <= most),
            ("capture_us", self.capture_us < CAPTURE_END),
            ("stream", self.stream <= 15),
            ("track", self.track <= 15),
        ] {
            if !fits {
                return Err(FieldError(field));
            }
        }
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = OTHER_BYTE;
        let kind = match self.kind {
            Kind::Key { width, height } => {
                if width == 0 || height == 0 {
                    return Err(FieldError("width and height"));
                }
                bytes[0] = KEY_BYTE;
                bytes[6..8].copy_from_slice(&width.to_le_bytes());
                bytes[8..10].copy_from_slice(&height.to_le_bytes());
                0
            }
            Kind::Delta { farthest, nearest } => {
                if !plausible(farthest, nearest) {
                    return Err(FieldError("farthest and nearest"));
                }
                bytes[6..8].copy_from_slice(&farthest.to_le_bytes());
                bytes[8..10].copy_from_slice(&nearest.to_le_bytes());
                0
            }
            Kind::Audio { level } => {
                if level > 127 {
                    return Err(FieldError("level"));
                }
                bytes[6] = level;
                1
            }
            Kind::Signature => 2,
            Kind::Control => 3,
        };
        bytes[1] = VERSION << 6 | kind << 4 | self.spatial << 2 | self.temporal;
        bytes[2..6].copy_from_slice(&self.number.to_be_bytes());
        bytes[10..16].copy_from_slice(&self.capture_us.to_be_bytes()[2..]);
        bytes[16..18].copy_from_slice(&self.sender.to_be_bytes());
        bytes[18] = self.stream << 4 | self.track;
        bytes[19..21].copy_from_slice(&self.generation.to_be_bytes());
        bytes[21] = if self.droppable { DROPPABLE } else { 0 } | self.rotation;
        Ok(bytes)
    }

    /// The header of a whole sealed frame. `None` when it is malformed: too short for header and tag, another version, or any
    /// value that [`Header::encode`] would not write.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        if frame.len() < HEADER_BYTES + TAG_BYTES {
            return None;
        }
        let bytes: &[u8; HEADER_BYTES] = frame.first_chunk()?;
        let key = match bytes[0] {
            KEY_BYTE => true,
            OTHER_BYTE => false,
            _ => return None,
        };
        if bytes[1] >> 6 != VERSION || bytes[21] & 0x7c != 0 || bytes[22..] != [0, 0] {
            return None;
        }
        let (spatial, temporal, rotation) = (bytes[1] >> 2 & 3, bytes[1] & 3, bytes[21] & 3);
        let first = u16::from_le_bytes([bytes[6], bytes[7]]);
        let second = u16::from_le_bytes([bytes[8], bytes[9]]);
        let kind = match (bytes[1] >> 4 & 3, key) {
            (0, true) if first != 0 && second != 0 => Kind::Key {
                width: first,
                height: second,
            },
            (0, false) if plausible(first, second) => Kind::Delta {
                farthest: first,
                nearest: second,
            },
            (1, false) if first <= 127 && second == 0 => Kind::Audio { level: bytes[6] },
            (2, false) if first == 0 && second == 0 => Kind::Signature,
            (3, false) if first == 0 && second == 0 => Kind::Control,
            _ => return None,
        };
        if bytes[1] >> 4 & 3 != 0 && (spatial, temporal, rotation) != (0, 0, 0) {
            return None;
        }
        let [a, b, c, d, e, f] = [
            bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
        ];
        Some(Self {
            kind,
            spatial,
            temporal,
            number: u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
            capture_us: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
            sender: u16::from_be_bytes([bytes[16], bytes[17]]),
            stream: bytes[18] >> 4,
            track: bytes[18] & 15,
            generation: u16::from_be_bytes([bytes[19], bytes[20]]),
            droppable: bytes[21] & DROPPABLE != 0,
            rotation,
        })
    }

    /// Is it a key frame?
    pub fn is_key(&self) -> bool {
        matches!(self.kind, Kind::Key { .. })
    }

    /// The earlier frames that this one needs, `None` when it needs none. Numbers wrap, so a distance that reaches before
    /// frame 0 names a frame that will not come.
    pub fn needs(&self) -> Option<Needs> {
        let Kind::Delta {
            farthest: farthest @ 1..,
            nearest,
        } = self.kind
        else {
            return None;
        };
        let back = if nearest == EVERYTHING { 1 } else { nearest };
        Some(Needs {
            from: if farthest == EVERYTHING {
                0
            } else {
                self.number.wrapping_sub(farthest.into())
            },
            to: self.number.wrapping_sub(back.into()),
        })
    }

    /// Stream, track and spatial layer as one number: what frame numbers count within.
    pub(crate) fn lane(&self) -> u16 {
        u16::from(self.stream) << 8 | u16::from(self.track) << 4 | u16::from(self.spatial)
    }
}

/// Whether a sealed frame is a key frame, from its first byte alone.
pub fn is_key(frame: &[u8]) -> bool {
    frame.first() == Some(&KEY_BYTE)
}

/// Whether key generation `a` came after `b`. They count on around zero, so this compares the shorter way round.
pub fn is_newer(a: u16, b: u16) -> bool {
    (1..0x8000).contains(&a.wrapping_sub(b))
}

fn plausible(farthest: u16, nearest: u16) -> bool {
    if farthest == 0 {
        nearest == 0
    } else {
        (1..=farthest).contains(&nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA: Header = Header {
        kind: Kind::Delta {
            farthest: 4,
            nearest: 2,
        },
        spatial: 2,
        temporal: 1,
        number: 10,
        capture_us: 0x0a0b_0c0d_0e0f,
        sender: 0x1112,
        stream: 1,
        track: 1,
        generation: 0x1314,
        droppable: true,
        rotation: 3,
    };

    fn needs(number: u32, farthest: u16, nearest: u16) -> Option<(u32, u32)> {
        let kind = Kind::Delta { farthest, nearest };
        let header = Header {
            kind,
            number,
            ..DELTA
        };
        header.needs().map(|needs| (needs.from, needs.to))
    }

    #[test]
    fn a_header_stands_in_the_bytes_as_the_design_lays_them_out() {
        let expected = [
            0x85, 0x49, 0, 0, 0, 10, 4, 0, 2, 0, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x11, 0x12,
            0x11, 0x13, 0x14, 0x83, 0, 0,
        ];
        assert_eq!(DELTA.encode(), Ok(expected));
    }

    #[test]
    fn a_delta_frame_says_which_earlier_frames_it_needs() {
        assert_eq!(needs(10, 0, 0), None);
        assert_eq!(needs(10, 4, 2), Some((6, 8)));
        assert_eq!(needs(10, EVERYTHING, 1), Some((0, 9)));
        assert_eq!(needs(10, EVERYTHING, EVERYTHING), Some((0, 9)));
        assert_eq!(needs(0, 1, 1), Some((u32::MAX, u32::MAX)));
    }

    #[test]
    fn generations_are_ordered_around_zero() {
        assert!(is_newer(1, 0) && is_newer(0, 0xffff));
        assert!(!is_newer(0xffff, 0) && !is_newer(7, 7) && !is_newer(0, 0x8000));
    }

    #[test]
    fn a_value_that_does_not_belong_to_the_kind_is_named() {
        let audio = Header {
            kind: Kind::Audio { level: 1 },
            ..DELTA
        };
        assert_eq!(audio.encode(), Err(FieldError("spatial")));
        let late = Header {
            capture_us: CAPTURE_END,
            ..DELTA
        };
        assert_eq!(late.encode(), Err(FieldError("capture_us")));
    }
}

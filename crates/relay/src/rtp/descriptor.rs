//! The VP8 payload descriptor (RFC 7741 section 4.2), the few bytes ahead of the VP8 data in each packet.
//!
//! Of what comes only the length is read, and whether a frame begins: all else stands in the frame's own header. What goes out
//! is one byte ([`FIRST`], [`OTHER`]): receivers then go by sequence numbers alone, which are gap-free here, so that nothing
//! that was left out on purpose looks like a loss. Cost: a look at no more than 6 bytes, nothing is copied.

/// The whole outgoing descriptor of a frame's first packet: start of partition 0.
pub const FIRST: u8 = 0x10;
/// The whole outgoing descriptor of a frame's other packets.
pub const OTHER: u8 = 0x00;

const EXTENDED: u8 = 0x80;
const START: u8 = 0x10;
const PARTITION: u8 = 0x07;
const PICTURE_ID: u8 = 0x80;
const TL0: u8 = 0x40;
const TID: u8 = 0x20;
const KEY_INDEX: u8 = 0x10;

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of descriptor ahead of the data, 1..=6.
    pub bytes: usize,
    /// The packet begins a frame.
    pub first: bool,
}

impl Descriptor {
    /// Reads the descriptor at the start of an RTP payload. `None` when it is cut off, or nothing follows it.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let &head = payload.first()?;
        let mut found = Self {
            bytes: 1,
            first: head & START != 0 && head & PARTITION == 0,
        };
        if head & EXTENDED != 0 {
            let &extension = payload.get(1)?;
            found.bytes = 2;
            if extension & PICTURE_ID != 0 {
                let long = payload.get(found.bytes)? & 0x80 != 0;
                found.bytes += if long { 2 } else { 1 };
            }
            if extension & TL0 != 0 {
                found.bytes += 1;
            }
            if extension & (TID | KEY_INDEX) != 0 {
                found.bytes += 1;
            }
        }
        (payload.len() > found.bytes).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(payload: &[u8]) -> Option<(usize, bool)> {
        Descriptor::parse(payload).map(|d| (d.bytes, d.first))
    }

    #[test]
    fn a_descriptor_is_read_in_each_of_its_forms() {
        for (payload, expected) in [
            (&[0x10, 1][..], Some((1, true))),
            (&[0x00, 1], Some((1, false))),
            // Start of another partition than the first.
            (&[0x11, 1], Some((1, false))),
            // Chromium: long picture id, TL0PICIDX, TID 2.
            (&[0x90, 0xe0, 0x81, 2, 3, 0xa0, 1], Some((6, true))),
            (&[0x80, 0xe0, 0x81, 2, 3, 0x40, 1], Some((6, false))),
            // Short picture id alone; TID alone; a key index without a TID.
            (&[0x90, 0x80, 0x7f, 1], Some((3, true))),
            (&[0x90, 0x20, 0xc0, 1], Some((3, true))),
            (&[0x90, 0x10, 0xc5, 1], Some((3, true))),
            // Cut off, or nothing behind it.
            (&[], None),
            (&[0x10], None),
            (&[0x90], None),
            (&[0x90, 0xe0], None),
            (&[0x90, 0xe0, 0x81, 2, 3], None),
            (&[0x90, 0xe0, 0x81, 2, 3, 0xa0], None),
        ] {
            assert_eq!(parse(payload), expected, "{payload:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_reach_beyond_the_payload(payload: Vec<u8>) {
            if let Some(found) = Descriptor::parse(&payload) {
                prop_assert!((1..=6).contains(&found.bytes) && found.bytes < payload.len());
            }
        }
    }
}

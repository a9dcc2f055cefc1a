//! A whole sealed frame -> RTP packets, once per stream: for RTP children of a stream that comes in frames.
//!
//! Packets are nearly equal in size, so that all of a frame can leave in one batch of equal segments. The frames must be
//! given in the order in which they decode (frame number): receivers take the packets' numbers for it.

use grove_frame::Header;

use super::descriptor::{FIRST, OTHER};
use super::packet::Packet;
use super::timeline::ticks;
use crate::Micros;

/// Most bytes of RTP payload: with RTP header, extensions, SRTP tag, UDP and IPv6 below 1280, and so on every path.
pub const PAYLOAD: usize = 1150;

/// Numbers the packets of one layer, or of one stream's sound.
#[derive(Debug, Default)]
pub struct Splitter {
    next: u64,
}

impl Splitter {
    /// The packets of a picture, at least one. Their time is the capture time at 90 kHz.
    pub fn video(&mut self, header: &Header, sealed: &[u8], at: Micros) -> Vec<Packet> {
        let count = sealed.len().div_ceil(PAYLOAD - 1).max(1);
        let time = ticks(header.capture_us as i64, 90_000) as u64;
        let mut from = 0;
        (0..count)
            .map(|n| {
                let to = sealed.len() * (n + 1) / count;
                let descriptor = if n == 0 { FIRST } else { OTHER };
                let payload = [&[descriptor], &sealed[from..to]].concat();
                from = to;
                Packet {
                    seq: self.number(),
                    time,
                    marker: n + 1 == count,
                    temporal: header.temporal,
                    header: (n == 0).then_some(*header),
                    payload: payload.into(),
                    at,
                }
            })
            .collect()
    }

    /// The packet of a frame of sound. Its time is the capture time at 48 kHz.
    pub fn audio(&mut self, header: &Header, sealed: &[u8], at: Micros) -> Packet {
        Packet {
            seq: self.number(),
            time: ticks(header.capture_us as i64, 48_000) as u64,
            marker: false,
            temporal: 0,
            header: Some(*header),
            payload: sealed.into(),
            at,
        }
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::testing::header;
    use grove_frame::Kind;

    #[test]
    fn packets_are_nearly_equal_and_together_the_frame() {
        let delta = Kind::Delta {
            farthest: 1,
            nearest: 1,
        };
        let head = header(3, 2, delta);
        for length in [40usize, 1148, 1149, 1150, 2298, 2299, 10_000, 200_001] {
            let sealed: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let packets = Splitter::default().video(&head, &sealed, 5);
            let sizes: Vec<usize> = packets.iter().map(|p| p.payload.len()).collect();
            let (least, most) = (sizes.iter().min(), sizes.iter().max());
            assert!(most <= Some(&PAYLOAD) && most.zip(least).is_some_and(|(a, b)| a - b <= 1));
            assert_eq!(packets.len(), length.div_ceil(PAYLOAD - 1));
            let together: Vec<u8> = packets
                .iter()
                .flat_map(|p| p.payload[1..].to_vec())
                .collect();
            assert_eq!(together, sealed);
            for (n, packet) in packets.iter().enumerate() {
                assert_eq!(packet.seq, n as u64);
                assert_eq!(packet.time, 99 * 90);
                assert_eq!(packet.marker, n + 1 == packets.len());
                assert_eq!(packet.header, (n == 0).then_some(head));
                assert_eq!(packet.payload[0], if n == 0 { 0x10 } else { 0 });
            }
        }
    }
}

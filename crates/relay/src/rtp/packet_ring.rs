//! The packets of one layer since its last key frame: what a newcomer is started with, and what a switch replays (with loss
//! on the way here, a key frame's first packet may come after later ones).
//!
//! One ring per stream and layer, whatever the number of receivers; it shares the packets' bytes. Bounded by [`AGE`],
//! [`BYTES`] and [`PACKETS`]; over a bound the oldest go, and with the key frame's start the replay.

use std::collections::BTreeMap;

use super::packet::Packet;
use crate::Micros;

/// How far back a replay may start. Longer saves key frames for newcomers, and costs memory and a longer burst.
pub const AGE: Micros = 2_000_000;
/// 2 s at 16 Mbit/s.
pub const BYTES: usize = 4 << 20;
/// The same in packets of ordinary size.
pub const PACKETS: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct PacketRing {
    packets: BTreeMap<u64, Packet>,
    bytes: usize,
    /// The first packet of the last key frame.
    key: Option<u64>,
}

impl PacketRing {
    /// Remembers a packet. Twice the same counts once; one from before the key frame not at all.
    pub fn add(&mut self, packet: &Packet) {
        let seq = packet.seq;
        if self.key.is_some_and(|key| seq < key) || self.packets.contains_key(&seq) {
            return;
        }
        self.bytes += packet.payload.len();
        self.packets.insert(seq, packet.clone());
        if packet.is_key() {
            self.key = Some(seq);
            self.forget_while(|first, _, _| first.seq < seq);
        }
        self.expire(packet.at);
    }

    /// The first packet of the last key frame. `None`: there is none young enough, a key frame must be asked for.
    pub fn key(&self) -> Option<&Packet> {
        self.packets.get(&self.key?)
    }

    /// The packets from number `seq` on, in order.
    pub fn from(&self, seq: u64) -> impl Iterator<Item = &Packet> {
        self.packets.range(seq..).map(|(_, packet)| packet)
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Micros) {
        self.forget_while(|first, bytes, packets| {
            now.saturating_sub(first.at) > AGE || bytes > BYTES || packets > PACKETS
        });
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget_while(&mut self, old: impl Fn(&Packet, usize, usize) -> bool) {
        while let Some((&seq, first)) = self.packets.first_key_value() {
            if !old(first, self.bytes, self.packets.len()) {
                return;
            }
            self.bytes -= first.payload.len();
            self.packets.remove(&seq);
            if self.key == Some(seq) {
                self.key = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::testing::{delta, key, rest};

    fn held(ring: &PacketRing) -> Vec<u64> {
        ring.from(0).map(|packet| packet.seq).collect()
    }

    #[test]
    fn a_key_frame_clears_what_was_before_it_even_when_its_start_comes_late() {
        let mut ring = PacketRing::default();
        ring.add(&key(10, 0, 1, 0));
        ring.add(&rest(11, 0, 0, true, 0));
        ring.add(&rest(13, 3_000, 0, true, 1));
        ring.add(&delta(14, 6_000, 0, 3, (1, 1), 2));
        assert_eq!(
            (ring.key().map(|p| p.seq), held(&ring)),
            (Some(10), vec![10, 11, 13, 14])
        );
        ring.add(&key(12, 3_000, 2, 3));
        assert_eq!(
            (ring.key().map(|p| p.seq), held(&ring)),
            (Some(12), vec![12, 13, 14])
        );
        ring.add(&rest(9, 0, 0, true, 4));
        ring.add(&delta(14, 6_000, 0, 3, (1, 1), 4));
        assert_eq!(held(&ring), [12, 13, 14]);
    }

    #[test]
    fn age_and_size_end_the_replay_with_the_key_frame() {
        let mut ring = PacketRing::default();
        ring.add(&key(0, 0, 1, 0));
        ring.add(&delta(1, 3_000, 0, 2, (1, 1), AGE));
        assert!(ring.key().is_some());
        ring.expire(AGE + 1);
        assert!(ring.key().is_none());
        assert_eq!(held(&ring), [1]);
        for seq in 2..2 * PACKETS as u64 {
            ring.add(&rest(seq, seq, 0, false, AGE + 1));
        }
        assert_eq!(held(&ring).len(), PACKETS);
        assert_eq!(
            ring.bytes(),
            ring.from(0).map(|p| p.payload.len()).sum::<usize>()
        );
        ring.expire(3 * AGE);
        assert_eq!((ring.bytes(), held(&ring)), (0, vec![]));
    }
}

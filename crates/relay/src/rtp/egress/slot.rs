//! One of the browser's slots: its names, its numbers and times, and the bytes of its packets.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::sent::{Picture, Sent};
use crate::Micros;
use crate::command::Stream;
use crate::frame::MS;
use crate::rtp::descriptor::{FIRST, OTHER};
use crate::rtp::rtcp::SenderReport;

/// Most bytes of a packet's payload: with RTP header, extension, SRTP tag, UDP and IPv6 below 1280, and so on every path.
pub const PAYLOAD: usize = 1150;
/// Retransmissions remembered, so that none is made twice in a round trip.
const RETRANSMITTED: usize = 256;
/// The least time between two retransmissions of one packet.
const AGAIN: Micros = 10 * MS;
/// Reports count time from here on: zero would say that it is not known.
const EPOCH_SECONDS: u64 = 1 << 20;

/// What a slot is called in the descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotNames {
    /// Sound, else pictures.
    pub audio: bool,
    /// By it the browser knows the slot.
    pub ssrc: u32,
    /// What the codec is called.
    pub payload_type: u8,
    /// SSRC and payload type of retransmissions (RFC 4588). Without there are none: a packet may not leave twice under one number,
    /// since its transport-wide number differs and would be authenticated under the same nonce.
    pub rtx: Option<(u32, u8)>,
    /// What the header extension of the transport-wide number is called.
    pub transport: u8,
}

/// How a sealed frame is cut into pieces: equal ones, and a last one that may be shorter, so that all can leave in one system
/// call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of a piece.
    pub piece: usize,
    /// How many there are, at least 1.
    pub count: usize,
    /// Pieces bear the one byte of descriptor that pictures have.
    picture: bool,
}

impl Cut {
    /// A picture of so many bytes.
    pub fn picture(bytes: usize) -> Self {
        let least = bytes.div_ceil(PAYLOAD - 1).max(1);
        let piece = bytes.div_ceil(least).max(1);
        Self {
            piece,
            count: bytes.div_ceil(piece).max(1),
            picture: true,
        }
    }

    /// Sound: it is never cut.
    pub fn whole(bytes: usize) -> Self {
        Self {
            piece: bytes,
            count: 1,
            picture: false,
        }
    }

    fn range(&self, n: usize, bytes: usize) -> Range<usize> {
        let from = (n * self.piece).min(bytes);
        from..(from + self.piece).min(bytes)
    }
}

/// A piece of a frame, as it goes into a packet.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub sealed: &'a Bytes,
    pub cut: Cut,
    pub n: usize,
    /// The frame's RTP time.
    pub time: u32,
}

/// A packet that has been written: what sealing it takes.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub ssrc: u32,
    pub index: u64,
    pub header: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Slot {
    pub names: SlotNames,
    pub stream: Option<Stream>,
    pub used: Micros,
    time: u64,
    next: u64,
    next_rtx: u64,
    sent: Sent,
    retransmitted: VecDeque<(u64, Micros)>,
    packets: u32,
    bytes: u32,
    reported: u32,
    probed: usize,
}

impl Slot {
    pub fn new(names: SlotNames) -> Self {
        // A first number below 2^15, so that a receiver that misses it is not a turn of the counter off.
        let first = |ssrc: u32| u64::from(ssrc & 0x7fff);
        Self {
            names,
            stream: None,
            used: 0,
            time: 0,
            next: first(names.ssrc),
            next_rtx: names.rtx.map_or(0, |(ssrc, _)| first(ssrc)),
            sent: Sent::default(),
            retransmitted: VecDeque::new(),
            packets: 0,
            bytes: 0,
            reported: 0,
            probed: 0,
        }
    }

    /// A frame is to be sent: the number of its first piece, and its RTP time. Nobody shows what is behind the seal by these
    /// times; they only have to grow from frame to frame.
    pub fn take(&mut self, sealed: &Bytes, cut: Cut, now: Micros) -> (u64, u32) {
        let first = self.next;
        self.next += cut.count as u64;
        self.used = now;
        self.time = (self.time + 1).max(self.ticks(now));
        let time = self.time as u32;
        if cut.picture && self.names.rtx.is_some() {
            self.sent.add(Picture {
                sealed: sealed.clone(),
                cut,
                first,
                time,
                at: now,
            });
        }
        (first, time)
    }

    fn ticks(&self, now: Micros) -> u64 {
        let rate = if self.names.audio { 48_000 } else { 90_000 };
        (u128::from(now) * rate / 1_000_000) as u64
    }

    /// Writes the packet of this number behind what `out` holds, with this transport-wide number.
    pub fn write(
        &mut self,
        number: u64,
        piece: Piece<'_>,
        transport: u16,
        out: &mut Vec<u8>,
    ) -> Written {
        let SlotNames {
            ssrc, payload_type, ..
        } = self.names;
        let header = self.header(payload_type, number, piece, ssrc, transport, out);
        self.body(piece, out);
        self.packets = self.packets.wrapping_add(1);
        let bytes = piece.cut.range(piece.n, piece.sealed.len()).len() as u32;
        self.bytes = self.bytes.wrapping_add(bytes);
        Written {
            ssrc,
            index: number,
            header,
        }
    }

    /// Writes the packet of this number once more, as a retransmission (RFC 4588 section 4).
    pub fn write_again(
        &mut self,
        number: u64,
        transport: u16,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let (ssrc, payload_type) = self.names.rtx?;
        let (picture, n) = self.sent.find(number)?;
        let (sealed, cut, time) = (picture.sealed.clone(), picture.cut, picture.time);
        let piece = Piece {
            sealed: &sealed,
            cut,
            n,
            time,
        };
        let index = self.next_rtx;
        self.next_rtx += 1;
        let header = self.header(payload_type, index, piece, ssrc, transport, out);
        out.extend((number as u16).to_be_bytes());
        self.body(piece, out);
        Some(Written {
            ssrc,
            index,
            header,
        })
    }

    fn header(
        &self,
        payload_type: u8,
        index: u64,
        piece: Piece<'_>,
        ssrc: u32,
        transport: u16,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        let marker = piece.cut.picture && piece.n + 1 == piece.cut.count;
        out.push(0x90);
        out.push(payload_type | (u8::from(marker) << 7));
        out.extend((index as u16).to_be_bytes());
        out.extend(piece.time.to_be_bytes());
        out.extend(ssrc.to_be_bytes());
        // One extension of two bytes, and one of padding (RFC 8285).
        let [high, low] = transport.to_be_bytes();
        let id = self.names.transport;
        out.extend([0xbe, 0xde, 0, 1, (id << 4) | 1, high, low, 0]);
        out.len() - start
    }

    fn body(&self, piece: Piece<'_>, out: &mut Vec<u8>) {
        if piece.cut.picture {
            out.push(if piece.n == 0 { FIRST } else { OTHER });
        }
        let range = piece.cut.range(piece.n, piece.sealed.len());
        out.extend_from_slice(piece.sealed.get(range).unwrap_or_default());
    }

    /// The browser asks for a packet again. Its whole number, if it is there and has not just been sent again.
    pub fn wanted_again(&mut self, number: u16, now: Micros, round_trip: Micros) -> Option<u64> {
        // The latest number that ends so.
        let behind = (self.next as u16).wrapping_sub(number);
        let number = self.next.checked_sub(u64::from(behind))?;
        self.sent.find(number)?;
        // A receiver asks again a round trip later, by its own idea of one.
        let pause = (round_trip * 3 / 4).max(AGAIN);
        while let Some(&(_, at)) = self.retransmitted.front()
            && (at + pause <= now || self.retransmitted.len() >= RETRANSMITTED)
        {
            self.retransmitted.pop_front();
        }
        if self.retransmitted.iter().any(|&(done, _)| done == number) {
            return None;
        }
        self.retransmitted.push_back((number, now));
        Some(number)
    }

    /// What is sent in it can be sent again to probe with.
    pub fn can_probe(&self) -> bool {
        self.names.rtx.is_some()
    }

    /// The number of a packet to probe with: the largest picture's, one after the other.
    pub fn probe_with(&mut self) -> Option<u64> {
        let largest = self.sent.largest()?;
        self.probed += 1;
        Some(largest.first + (self.probed % largest.cut.count) as u64)
    }

    /// Forgets pictures that nobody will ask for any more.
    pub fn expire(&mut self, now: Micros) {
        self.sent.expire(now);
    }

    /// There is something to be forgotten, sooner or later.
    pub fn is_old(&self) -> bool {
        self.sent.is_old()
    }

    /// Packets have left since the last report.
    pub fn has_news(&self) -> bool {
        self.packets != self.reported
    }

    /// What is to be reported of it, if anything.
    pub fn report(&mut self, now: Micros) -> Option<SenderReport> {
        if !self.has_news() {
            return None;
        }
        self.reported = self.packets;
        Some(SenderReport {
            ssrc: self.names.ssrc,
            ntp: ntp(now),
            rtp_time: self.ticks(now) as u32,
            packets: self.packets,
            bytes: self.bytes,
        })
    }
}

/// As 32 bits of seconds and 32 of their fractions.
fn ntp(now: Micros) -> u64 {
    let fraction = (u128::from(now % 1_000_000) << 32) / 1_000_000;
    (EPOCH_SECONDS + now / 1_000_000) << 32 | fraction as u64
}

/// The round trip that a receiver's report tells (RFC 3550 section 6.4.1): when our last report was made, and for how long it
/// lay there, in 1/65536 s.
pub fn round_trip(last_sr: u32, delay_since: u32, now: Micros) -> Option<Micros> {
    let now = (ntp(now) >> 16) as u32;
    let units = now.wrapping_sub(last_sr).wrapping_sub(delay_since);
    // More than half a minute is nonsense, and so is a negative time.
    (last_sr != 0 && units < 30 << 16).then(|| (u64::from(units) * 1_000_000) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: SlotNames = SlotNames {
        audio: false,
        ssrc: 0x0102_7fff,
        payload_type: 96,
        rtx: Some((5, 97)),
        transport: 3,
    };

    #[test]
    fn pieces_are_equal_but_for_a_shorter_last_one_and_together_the_frame() {
        for length in [1usize, 40, 1148, 1149, 1150, 2298, 2299, 10_000, 200_001] {
            let cut = Cut::picture(length);
            let sizes: Vec<usize> = (0..cut.count).map(|n| cut.range(n, length).len()).collect();
            let (last, rest) = sizes.split_last().expect("a piece");
            assert!(rest.iter().all(|size| *size == cut.piece) && *last <= cut.piece && *last > 0);
            assert!(cut.piece < PAYLOAD);
            assert_eq!(sizes.iter().sum::<usize>(), length);
            assert_eq!(cut.count, length.div_ceil(PAYLOAD - 1));
        }
    }

    #[test]
    fn packets_have_the_form_that_their_receivers_expect() {
        let mut slot = Slot::new(NAMES);
        let sealed = Bytes::from(vec![9; 1150]);
        let cut = Cut::picture(1150);
        let (first, time) = slot.take(&sealed, cut, 1_000_000);
        assert_eq!((first, time, cut.count), (0x7fff, 90_000, 2));
        let mut out = vec![1, 2, 3];
        for n in 0..2 {
            let piece = Piece {
                sealed: &sealed,
                cut,
                n,
                time,
            };
            let written = slot.write(first + n as u64, piece, 0x0405, &mut out);
            assert_eq!((written.index, written.header), (0x7fff + n as u64, 20));
        }
        let packets: Vec<&[u8]> = out[3..].chunks(20 + 1 + 575).collect();
        let head = |marker: u16, low: u16, first: u8| {
            let start = [0x90, 96 | marker, low >> 8, low & 255, 0, 1, 0x5f, 0x90];
            let rest = [1, 2, 0x7f, 0xff, 0xbe, 0xde, 0, 1, 0x31, 4, 5, 0, first];
            [&start.map(|b: u16| b as u8)[..], &rest].concat()
        };
        assert_eq!(packets[0][..21], head(0, 0x7fff, 0x10));
        assert_eq!(packets[1][..21], head(0x80, 0x8000, 0x00));
        let mut again = Vec::new();
        let written = slot
            .write_again(0x8000, 6, &mut again)
            .expect("still there");
        assert_eq!((written.ssrc, written.index, written.header), (5, 5, 20));
        assert_eq!(again[1], 0x80 | 97);
        assert_eq!(again[20..23], [0x80, 0, 0]);
        assert_eq!(again[23..], packets[1][21..]);
    }

    #[test]
    fn a_packet_is_retransmitted_once_in_a_round_trip_and_not_when_it_is_unknown() {
        let mut slot = Slot::new(SlotNames {
            ssrc: 0x7ffe,
            ..NAMES
        });
        for _ in 0..40_000 {
            slot.take(&Bytes::from_static(b"x"), Cut::picture(1), 0);
        }
        let last = 0x7ffe + 39_999u64;
        assert_eq!(slot.wanted_again(last as u16, 0, 50 * MS), Some(last));
        assert_eq!(slot.wanted_again(last as u16, 38 * MS, 52 * MS), None);
        assert_eq!(slot.wanted_again(last as u16, 39 * MS, 52 * MS), Some(last));
        assert_eq!(slot.wanted_again((last + 1) as u16, 0, 50 * MS), None);
        assert_eq!(slot.wanted_again(0x7ffe, 0, 50 * MS), None);
    }

    #[test]
    fn a_round_trip_is_read_from_a_receivers_report() {
        let sent = (ntp(5_000_000) >> 16) as u32;
        let lay = (0.3 * 65536.0) as u32;
        let found = round_trip(sent, lay, 5_400_000).expect("a round trip");
        assert!((99_900..=100_100).contains(&found), "{found}");
        assert_eq!(round_trip(0, lay, 5_400_000), None);
        assert_eq!(round_trip(sent, lay, 5_200_000), None);
        assert_eq!(round_trip(sent, 0, 60_000_000), None);
    }
}

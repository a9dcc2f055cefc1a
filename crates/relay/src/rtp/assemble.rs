//! Packets of a layer -> whole sealed frames.
//!
//! Packets may come in any order, twice, and late (by retransmission). A frame is whole when its first packet, the one with
//! the marker, and all between are there; it then comes out at once, so frames may come out in another order than they were
//! made in. Each comes out once. Bounds: [`OPEN`] frames and [`BYTES`] in the making, [`DONE`] remembered as done.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use grove_frame::Header;

use super::packet::Packet;
use crate::MAX_FRAME_BYTES;

/// Frames in the making. Past it the oldest is given up: 2 s at 30 a second.
pub const OPEN: usize = 64;
/// Bytes in the making. Past it the oldest frame is given up.
pub const BYTES: usize = 4 << 20;
/// Frames that came out, by timestamp, so that a packet that comes again makes none anew.
pub const DONE: usize = 256;

/// A frame in the making.
#[derive(Debug, Default)]
struct Open {
    packets: BTreeMap<u64, Packet>,
    bytes: usize,
    header: Option<Header>,
    first: Option<u64>,
    last: Option<u64>,
}

impl Open {
    fn add(&mut self, packet: &Packet) {
        // Two first packets, or two last ones: the frame is nobody's any more and goes with its age.
        if packet.header.is_some() && self.first.is_none() {
            self.first = Some(packet.seq);
            self.header = packet.header;
        }
        if packet.marker && self.last.is_none() {
            self.last = Some(packet.seq);
        }
        self.packets.insert(packet.seq, packet.clone());
    }

    fn whole(&self) -> Option<(Header, Bytes)> {
        let (header, first, last) = (self.header?, self.first?, self.last?);
        let count = last.checked_sub(first)? + 1;
        if self.packets.len() as u64 != count {
            return None;
        }
        let parts = self.packets.range(first..=last);
        if parts.clone().count() as u64 != count {
            return None;
        }
        let mut sealed = Vec::with_capacity(self.bytes);
        for (_, packet) in parts {
            sealed.extend_from_slice(packet.bytes());
        }
        (sealed.len() <= MAX_FRAME_BYTES).then(|| (header, sealed.into()))
    }
}

/// See the module. One per layer.
#[derive(Debug, Default)]
pub struct Assembler {
    /// By timestamp.
    open: BTreeMap<u64, Open>,
    bytes: usize,
    done: BTreeSet<u64>,
    /// Nothing up to this timestamp is taken any more.
    past: Option<u64>,
}

impl Assembler {
    /// Takes a packet of video. The frame that it makes whole, with its header.
    pub fn add(&mut self, packet: &Packet) -> Option<(Header, Bytes)> {
        let time = packet.time;
        if packet.bytes().is_empty()
            || self.past.is_some_and(|past| time <= past)
            || self.done.contains(&time)
        {
            return None;
        }
        let frame = self.open.entry(time).or_default();
        if frame.packets.contains_key(&packet.seq) {
            return None;
        }
        frame.bytes += packet.bytes().len();
        self.bytes += packet.bytes().len();
        frame.add(packet);
        let whole = frame.whole();
        if whole.is_some() || frame.bytes > 2 * MAX_FRAME_BYTES {
            self.finish(time);
        }
        while self.open.len() > OPEN || self.bytes > BYTES {
            let Some((&oldest, _)) = self.open.first_key_value() else {
                break;
            };
            self.finish(oldest);
        }
        whole
    }

    /// Frames and bytes in the making.
    pub fn size(&self) -> (usize, usize) {
        (self.open.len(), self.bytes)
    }

    fn finish(&mut self, time: u64) {
        if let Some(frame) = self.open.remove(&time) {
            self.bytes -= frame.bytes;
        }
        self.done.insert(time);
        if self.done.len() > DONE
            && let Some(past) = self.done.pop_first()
        {
            self.past = self.past.max(Some(past));
            while let Some((&oldest, _)) = self.open.first_key_value()
                && oldest <= past
                && let Some(frame) = self.open.remove(&oldest)
            {
                self.bytes -= frame.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests;

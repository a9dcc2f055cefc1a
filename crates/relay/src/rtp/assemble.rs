//! Packets of a layer -> whole sealed frames.
//!
//! Packets may come in any order, twice, and late (by retransmission). A frame is whole when its first packet, the one with
//! the marker, and all between are there; it then comes out at once, so frames may come out in another order than they were
//! made in. Each comes out once. Bounds of a layer: [`OPEN`] frames in the making of [`PACKETS`] each, none older than [`AGE`],
//! [`DONE`] remembered as done. Bounds of a link ([`Making`]): [`LAYERS`] layers and [`BYTES`], with what a packet takes beside
//! its payload: a sender of tiny packets would otherwise have a hundred times of what is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use grove_frame::Header;

use super::packet::Packet;
use crate::frame::MS;
use crate::{MAX_FRAME_BYTES, Micros};

/// Frames in the making. Past it the oldest is given up: 2 s at 30 a second.
pub const OPEN: usize = 64;
/// Packets of a frame in the making: the longest has under 300 of a kilobyte. Past it the frame is given up.
pub const PACKETS: usize = 400;
/// How old a frame in the making may grow. What is missing was asked for again several times by then, and a player has gone on.
pub const AGE: Micros = 1000 * MS;
/// Layers in the making of one link: those of all streams that a browser sends. Past it the stalest is given up.
pub const LAYERS: usize = 16;
/// Bytes in the making of one link: six of the largest frames. Past it the layer with the most gives up its oldest frame.
pub const BYTES: usize = 2 << 20;
/// Bytes in the making of all links that share a [`Pool`]: 128 of the greediest, thousands of ordinary ones. Past it each has
/// [`LEAST_BYTES`], a picture or two, until there is room.
pub const POOL_BYTES: usize = 256 << 20;
/// See [`POOL_BYTES`].
pub const LEAST_BYTES: usize = 128 << 10;
/// What a packet takes beside its payload: itself, its place in a tree that may be half empty, its payload's allocation.
const PACKET_BYTES: usize = 2 * size_of::<(u64, Packet)>() + 32;
/// Frames that came out, by timestamp, so that a packet that comes again makes none anew.
pub const DONE: usize = 256;

/// A frame in the making.
#[derive(Debug, Default)]
struct Open {
    packets: BTreeMap<u64, Packet>,
    /// When its first packet came.
    since: Micros,
    bytes: usize,
    header: Option<Header>,
    first: Option<u64>,
    last: Option<u64>,
}

impl Open {
    fn new(since: Micros) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    fn cost(&self) -> usize {
        self.bytes + self.packets.len() * PACKET_BYTES
    }

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

/// One layer in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    /// By timestamp.
    open: BTreeMap<u64, Open>,
    /// What the open frames take.
    bytes: usize,
    done: BTreeSet<u64>,
    /// Nothing up to this timestamp is taken any more.
    past: Option<u64>,
    /// When something came.
    heard: Micros,
}

impl Assembler {
    /// Takes a packet of video. The frame that it makes whole, with its header.
    pub fn add(&mut self, packet: &Packet, now: Micros) -> Option<(Header, Bytes)> {
        self.heard = now;
        self.expire(now);
        let time = packet.time;
        if packet.bytes().is_empty()
            || self.past.is_some_and(|past| time <= past)
            || self.done.contains(&time)
        {
            return None;
        }
        let frame = self.open.entry(time).or_insert_with(|| Open::new(now));
        if frame.packets.contains_key(&packet.seq) {
            return None;
        }
        let before = frame.cost();
        frame.bytes += packet.bytes().len();
        frame.add(packet);
        self.bytes += frame.cost() - before;
        let whole = frame.whole();
        if whole.is_some() || frame.bytes > MAX_FRAME_BYTES || frame.packets.len() >= PACKETS {
            self.finish(time);
        }
        if self.open.len() > OPEN {
            self.give_up();
        }
        whole
    }

    /// Frames in the making, and the bytes that they take.
    pub fn size(&self) -> (usize, usize) {
        (self.open.len(), self.bytes)
    }

    /// Gives up what has grown too old.
    fn expire(&mut self, now: Micros) {
        while let Some((_, oldest)) = self.open.first_key_value()
            && now.saturating_sub(oldest.since) > AGE
        {
            self.give_up();
        }
    }

    /// Gives up the oldest frame.
    fn give_up(&mut self) {
        if let Some((&oldest, _)) = self.open.first_key_value() {
            self.finish(oldest);
        }
    }

    fn finish(&mut self, time: u64) {
        self.remove(time);
        self.done.insert(time);
        if self.done.len() > DONE
            && let Some(past) = self.done.pop_first()
        {
            self.past = self.past.max(Some(past));
            while let Some((&oldest, _)) = self.open.first_key_value()
                && oldest <= past
            {
                self.remove(oldest);
            }
        }
    }

    fn remove(&mut self, time: u64) {
        if let Some(frame) = self.open.remove(&time) {
            self.bytes -= frame.cost();
        }
    }
}

/// What all links of a relay have in the making, in bytes. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<AtomicUsize>);

impl Pool {
    /// Bytes in the making.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn change(&self, before: usize, after: usize) {
        self.0.fetch_add(after, Ordering::Relaxed);
        self.0.fetch_sub(before, Ordering::Relaxed);
    }
}

/// What one link has in the making.
#[derive(Debug, Default)]
pub struct Making {
    /// By SSRC.
    layers: BTreeMap<u32, Assembler>,
    pool: Pool,
    /// What the pool knows of.
    counted: usize,
}

impl Drop for Making {
    fn drop(&mut self) {
        self.pool.change(self.counted, 0);
    }
}

impl Making {
    /// Nothing, to be counted in this pool.
    pub fn new(pool: Pool) -> Self {
        Self {
            layers: BTreeMap::new(),
            pool,
            counted: 0,
        }
    }

    fn count(&mut self) {
        let bytes = self.bytes();
        self.pool.change(self.counted, bytes);
        self.counted = bytes;
    }

    /// Takes a packet of video. The frame that it makes whole, with its header.
    pub fn add(&mut self, ssrc: u32, packet: &Packet, now: Micros) -> Option<(Header, Bytes)> {
        if self.layers.len() >= LAYERS && !self.layers.contains_key(&ssrc) {
            let stalest = self.layers.iter().min_by_key(|(_, layer)| layer.heard);
            if let Some(ssrc) = stalest.map(|(&ssrc, _)| ssrc) {
                self.layers.remove(&ssrc);
            }
        }
        let whole = self.layers.entry(ssrc).or_default().add(packet, now);
        self.count();
        loop {
            let bound = if self.pool.bytes() > POOL_BYTES {
                LEAST_BYTES
            } else {
                BYTES
            };
            let most = self.layers.values_mut().max_by_key(|layer| layer.bytes);
            let Some(most) = most.filter(|_| self.counted > bound) else {
                return whole;
            };
            most.give_up();
            self.count();
        }
    }

    /// Gives up what has grown too old: to be called now and then, for what is followed by nothing.
    pub fn expire(&mut self, now: Micros) {
        self.layers.values_mut().for_each(|layer| layer.expire(now));
        self.count();
    }

    /// Bytes in the making.
    pub fn bytes(&self) -> usize {
        self.layers.values().map(|layer| layer.bytes).sum()
    }
}

#[cfg(test)]
mod tests;

//! One outgoing RTP stream: what a receiver gets of the layers that it wants, one after the other.
//!
//! A slot keeps its numbers and its clock when its source changes, be it to another layer, to another stream, or to the same
//! one after a pause. Video begins at a key frame: until one of the wanted source is there, the former source goes on
//! ([`Slot::waiting`] says for whom to ask). Sound changes at once.
//!
//! Packets are offered as they come ([`Slot::handle`]), after they were put into their ring, so that a switch can replay
//! what came before the key frame's own first packet. Cost per packet: a few lookups; the payload is shared.

use std::collections::VecDeque;
use std::sync::Arc;

use super::decide::{ALL, Decider};
use super::numbering::{Numbering, SEGMENTS, SegmentId, Source};
use super::packet::Packet;
use super::packet_ring::PacketRing;
use super::timeline::{Timeline, ticks};
use crate::Micros;

/// Two frames' capture times and their arrivals differ by less than this, or the sender's clock has begun anew.
const DRIFT_US: i64 = 5_000_000;

/// An RTP packet for the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Sequence number, extended; begins below 65,536.
    pub seq: u64,
    /// Timestamp, extended.
    pub time: u64,
    /// A frame's last packet.
    pub marker: bool,
    /// Empty: the packet only keeps a number from being missed.
    pub payload: Arc<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Audio,
    Video,
}

impl Medium {
    /// RTP clock, hertz.
    fn rate(self) -> u32 {
        match self {
            Medium::Audio => 48_000,
            Medium::Video => 90_000,
        }
    }
}

/// What went out of one source, between two switches.
#[derive(Debug)]
struct Stretch {
    id: SegmentId,
    timeline: Timeline,
    /// `None`: sound, of which everything goes out.
    decider: Option<Decider>,
}

/// The frame whose time the next switch is measured from.
#[derive(Debug, Clone, Copy)]
struct Last {
    time: u64,
    capture_us: u64,
    sender: u16,
    at: Micros,
}

/// See the module.
#[derive(Debug)]
pub struct Slot {
    medium: Medium,
    numbering: Numbering,
    stretches: VecDeque<Stretch>,
    current: Option<Source>,
    wanted: Option<Source>,
    /// A key frame of the wanted source has come, of this time, while a frame of the present one was not at its end.
    key: Option<u64>,
    /// The last packet that went out is not its frame's last.
    torn: bool,
    limit: u8,
    /// The time of the first frame.
    first: u64,
    last: Option<Last>,
    /// The highest time that went out.
    latest: u64,
}

impl Slot {
    /// A slot for video. `seq` (below 65,536) and `time` are where its numbers and its clock begin.
    pub fn video(seq: u16, time: u32) -> Self {
        Self::new(Medium::Video, seq, time)
    }

    /// A slot for sound.
    pub fn audio(seq: u16, time: u32) -> Self {
        Self::new(Medium::Audio, seq, time)
    }

    fn new(medium: Medium, seq: u16, time: u32) -> Self {
        Self {
            medium,
            numbering: Numbering::new(seq.into()),
            stretches: VecDeque::new(),
            current: None,
            wanted: None,
            key: None,
            torn: false,
            limit: ALL,
            first: time.into(),
            last: None,
            latest: time.into(),
        }
    }

    /// From now on the slot is to show `source`; `None`: nothing.
    pub fn want(&mut self, source: Option<Source>) {
        if source.is_none() {
            self.current = None;
        }
        let wanted = source.filter(|_| source != self.current);
        if wanted != self.wanted {
            self.wanted = wanted;
            self.key = None;
        }
    }

    /// What the slot shows at present.
    pub fn source(&self) -> Option<Source> {
        self.current
    }

    /// The source of which a key frame is needed, if any: the wanted one, or the present one when it cannot go on.
    pub fn waiting(&self) -> Option<Source> {
        let broken = self.stretches.back().and_then(|s| s.decider.as_ref());
        self.wanted.or(self
            .current
            .filter(|_| broken.is_some_and(Decider::is_broken)))
    }

    /// The highest temporal layer that goes out, from the next frame on and for later sources too.
    pub fn set_limit(&mut self, limit: u8) {
        self.limit = limit;
        if let Some(decider) = self.stretches.back_mut().and_then(|s| s.decider.as_mut()) {
            decider.set_limit(limit);
        }
    }

    /// Begins with what the ring holds of the wanted source. False: it holds no key frame, one must be asked for.
    pub fn replay(&mut self, ring: &PacketRing, out: &mut Vec<Outgoing>) -> bool {
        let Some((source, key)) = self.wanted.zip(ring.key()) else {
            return false;
        };
        self.begin(source, key, ring.from(key.seq), out);
        true
    }

    /// A packet of a source has come (and is in its ring): what the receiver gets for it.
    pub fn handle(
        &mut self,
        source: Source,
        packet: &Packet,
        ring: &PacketRing,
        out: &mut Vec<Outgoing>,
    ) {
        if self.wanted == Some(source) && self.is_time(source, packet) {
            match (self.medium, ring.key()) {
                (Medium::Audio, _) => self.begin(source, packet, std::iter::once(packet), out),
                (Medium::Video, Some(key)) => self.begin(source, key, ring.from(key.seq), out),
                (Medium::Video, None) => self.key = None,
            }
            return;
        }
        if self.numbering.is_jump(source, packet.seq) {
            if self.current == Some(source) {
                self.wanted = self.wanted.or(Some(source));
            }
            return;
        }
        self.pass(source, packet, out);
    }

    /// May the slot begin with the wanted source, of which this packet came? Video begins once a key frame is there, between
    /// two frames of the present source, or with the next frame if the present one's end is lost.
    fn is_time(&mut self, source: Source, packet: &Packet) -> bool {
        if self.medium == Medium::Audio {
            return packet.header.is_some();
        }
        // A key frame of which a part went out in a stretch before is no news.
        let before = self.numbering.locate(source, packet.seq);
        let known = before.is_some_and(|id| !self.numbering.is_open(id));
        if packet.is_key() && !known {
            self.key = Some(packet.time);
        }
        let torn = self.torn && self.current.is_some();
        self.key.is_some_and(|time| !torn || packet.time > time)
    }

    fn begin<'a>(
        &mut self,
        source: Source,
        first: &Packet,
        packets: impl Iterator<Item = &'a Packet>,
        out: &mut Vec<Outgoing>,
    ) {
        let Some(header) = &first.header else {
            return;
        };
        let timeline = match self.last {
            None => Timeline::start(first.time, self.first),
            Some(last) => {
                let elapsed = first.at as i64 - last.at as i64;
                let captured = header.capture_us as i64 - last.capture_us as i64;
                let same = last.sender == header.sender
                    && (captured - elapsed).unsigned_abs() < DRIFT_US.unsigned_abs();
                let gap = ticks(if same { captured } else { elapsed }, self.medium.rate());
                Timeline::follow(last.time, gap, self.latest, first.time)
            }
        };
        let id = self.numbering.switch(source, first.seq);
        let decider =
            (self.medium == Medium::Video).then(|| Decider::new(header, first.time, self.limit));
        self.stretches.push_back(Stretch {
            id,
            timeline,
            decider,
        });
        if self.stretches.len() > 1 + SEGMENTS {
            self.stretches.pop_front();
        }
        self.current = Some(source);
        self.wanted = None;
        self.key = None;
        for packet in packets {
            self.pass(source, packet, out);
        }
    }

    fn pass(&mut self, source: Source, packet: &Packet, out: &mut Vec<Outgoing>) {
        let Some(id) = self.numbering.locate(source, packet.seq) else {
            return;
        };
        if self.current.is_none() && self.numbering.is_open(id) {
            return;
        }
        let Some(stretch) = self.stretches.iter_mut().find(|s| s.id == id) else {
            return;
        };
        let decided = stretch.decider.as_mut().is_none_or(|d| d.decide(packet));
        let forward = decided && !packet.payload.is_empty();
        let seq = if forward {
            self.numbering.forward(source, packet.seq)
        } else {
            self.numbering.leave_out(source, packet.seq)
        };
        let Some(seq) = seq else {
            return;
        };
        if seq + 1 == self.numbering.next() {
            self.torn = forward && !packet.marker;
        }
        let time = stretch.timeline.at(packet.time);
        self.latest = self.latest.max(time);
        if let Some(header) = packet.header.filter(|_| forward)
            && self.last.is_none_or(|last| time > last.time)
        {
            self.last = Some(Last {
                time,
                capture_us: header.capture_us,
                sender: header.sender,
                at: packet.at,
            });
        }
        out.push(Outgoing {
            seq,
            time,
            marker: packet.marker && forward,
            payload: if forward {
                Arc::clone(&packet.payload)
            } else {
                Arc::default()
            },
        });
    }
}

#[cfg(test)]
mod tests;

//! Which frames of a layer one receiver gets. Decided once per frame, remembered by the frame's incoming timestamp: a late
//! packet follows what its frame's first-seen packet decided, or the receiver would get half a frame.
//!
//! A frame is left out when its temporal layer is above the limit that was in force at its place in the stream, or when it
//! needs a frame that was left out (both of its references are looked at; a frame that merely has not come is no reason).
//! That makes raising the limit safe at any frame. Frames of temporal layer 0 need only such, and are never left out for
//! the limit. A frame whose first packet is missing is judged by the temporal layer that every packet names.
//!
//! Bounds: [`FRAMES`] frames remembered. Cost: a lookup per packet, a few per frame.

use std::collections::{BTreeMap, VecDeque};

use grove_frame::{EVERYTHING, Header, Kind};

use super::packet::Packet;

/// The highest temporal layer there is: no limit.
pub const ALL: u8 = 3;
/// Frames whose decision is remembered: 17 s at 30 a second, retransmissions take less than 3.
pub const FRAMES: usize = 512;
/// How far back a frame may depend, over frames that have not come, on one that was left out. Encoders in use reach back
/// 4 frames, 7 under loss; larger costs more frames after a raise under loss.
const REACH: u32 = 16;

#[derive(Debug, Clone, Copy)]
struct Decision {
    forward: bool,
    temporal: u8,
    /// Nothing builds on the frame, as its header says. `None`: its first packet has not come.
    droppable: Option<bool>,
}

/// The decisions about one layer for one receiver, from the key frame on at which the receiver began.
#[derive(Debug)]
pub struct Decider {
    /// The number of the key frame that the receiver began with. Nothing before it was sent.
    start: u32,
    generation: u16,
    /// The time of the last key frame.
    key: u64,
    /// By timestamp.
    decided: BTreeMap<u64, Decision>,
    /// Whether they go out, by frame number.
    known: BTreeMap<u32, bool>,
    /// Frames up to this timestamp that are not in `decided` are too old to be decided.
    forgotten: Option<u64>,
    /// Limits by the timestamp from which they hold, oldest first; never empty.
    limits: VecDeque<(u64, u8)>,
    /// The limit for frames from the next new one on.
    wanted: u8,
    /// Something was left out since the last key frame.
    thinned: bool,
    /// A frame that everything later builds on cannot be forwarded: only a key frame helps.
    broken: bool,
}

impl Decider {
    /// Begins at a key frame; its decision is already made. `limit`: the highest temporal layer that goes out.
    pub fn new(key: &Header, time: u64, limit: u8) -> Self {
        let decision = Decision {
            forward: true,
            temporal: 0,
            droppable: Some(false),
        };
        Self {
            start: key.number,
            generation: key.generation,
            key: time,
            decided: BTreeMap::from([(time, decision)]),
            known: BTreeMap::from([(key.number, true)]),
            forgotten: time.checked_sub(1),
            limits: VecDeque::from([(time, limit)]),
            wanted: limit,
            thinned: limit < ALL,
            broken: false,
        }
    }

    /// The highest temporal layer that goes out from the next frame on.
    pub fn set_limit(&mut self, limit: u8) {
        self.wanted = limit.min(ALL);
    }

    /// The limit for new frames.
    pub fn limit(&self) -> u8 {
        self.wanted
    }

    /// Frames of temporal layer 0 can no longer be forwarded: a key frame must be asked for.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Does the packet's frame go out?
    pub fn decide(&mut self, packet: &Packet) -> bool {
        if let Some(decision) = self.decided.get_mut(&packet.time) {
            let forward = decision.forward;
            if let Some(header) = &packet.header
                && decision.droppable.is_none()
            {
                decision.droppable = Some(header.droppable);
                self.learn(header, packet.time, forward);
            }
            return forward;
        }
        if self.forgotten.is_some_and(|time| packet.time <= time) {
            return false;
        }
        let newest = self.decided.last_key_value();
        if newest.is_none_or(|(&time, _)| packet.time > time) {
            self.change_limit(packet);
        }
        let limit = self.limit_at(packet.time);
        let forward = match &packet.header {
            Some(header) => self.decide_frame(header, packet.time, limit),
            None => {
                packet.temporal == 0
                    || packet.temporal <= limit
                        && self.is_settled(packet.time, REACH, packet.temporal)
            }
        };
        self.thinned |= !forward;
        let decision = Decision {
            forward,
            temporal: packet.temporal,
            droppable: packet.header.map(|header| header.droppable),
        };
        self.decided.insert(packet.time, decision);
        if let Some(header) = &packet.header {
            self.learn(header, packet.time, forward);
        }
        while self.decided.len() > FRAMES {
            self.forgotten = self.decided.pop_first().map(|(time, _)| time);
        }
        while self.known.len() > FRAMES {
            self.known.pop_first();
        }
        forward
    }

    /// A limit that was asked for begins to hold, with this frame.
    fn change_limit(&mut self, packet: &Packet) {
        let &(_, limit) = self.limits.back().expect("there is always a limit");
        if limit == self.wanted {
            return;
        }
        self.thinned |= self.wanted < ALL;
        self.limits.push_back((packet.time, self.wanted));
        if self.limits.len() > FRAMES {
            self.limits.pop_front();
        }
    }

    fn limit_at(&self, time: u64) -> u8 {
        let held = self.limits.iter().rev().find(|(from, _)| *from <= time);
        held.or(self.limits.front())
            .map_or(ALL, |&(_, limit)| limit)
    }

    fn decide_frame(&mut self, header: &Header, time: u64, limit: u8) -> bool {
        let Kind::Delta { farthest, nearest } = header.kind else {
            return header.is_key();
        };
        let whole = if farthest == EVERYTHING || nearest == EVERYTHING {
            !self.thinned
        } else {
            [farthest, nearest]
                .into_iter()
                .filter(|&distance| distance > 0)
                .all(|distance| self.has(header, time, distance))
        };
        if header.temporal == 0 {
            self.broken |= !whole;
            return whole;
        }
        whole && header.temporal <= limit
    }

    /// The frame `distance` back went out, or will when it comes.
    fn has(&self, header: &Header, time: u64, distance: u16) -> bool {
        let Some(number) = header.number.checked_sub(distance.into()) else {
            return false;
        };
        if number < self.start {
            return false;
        }
        match self.known.get(&number) {
            Some(&forwarded) => forwarded,
            // It has not come. Layer 0 will go out; of the others that is sure only while nothing near was left out.
            None => {
                let back = REACH.saturating_add(distance.into());
                header.temporal == 0 || self.is_settled(time, back, header.temporal)
            }
        }
    }

    /// Nothing was or will be left out, of the `back` frames before this time, that a frame of this temporal layer may build
    /// on.
    fn is_settled(&self, time: u64, back: u32, temporal: u8) -> bool {
        let mut from = time;
        for (&at, decision) in self.decided.range(..time).rev().take(back as usize) {
            let matters = decision.droppable != Some(true) && decision.temporal <= temporal;
            if !decision.forward && matters {
                return false;
            }
            from = at;
        }
        self.lowest_limit(from, time) >= temporal
    }

    /// The lowest limit in force between two timestamps, both included.
    fn lowest_limit(&self, from: u64, to: u64) -> u8 {
        let since = self.limits.partition_point(|&(at, _)| at <= from);
        let held = self.limits.range(since.saturating_sub(1)..);
        let held = held.take_while(|&&(at, _)| at <= to);
        held.map(|&(_, limit)| limit).min().unwrap_or(ALL)
    }

    fn learn(&mut self, header: &Header, time: u64, forwarded: bool) {
        if header.is_key() && forwarded && time > self.key {
            self.key = time;
            if grove_frame::is_newer(header.generation, self.generation) {
                self.generation = header.generation;
                if header.number <= self.start {
                    // The encoder counts anew.
                    self.start = header.number;
                    self.known.clear();
                }
            }
            // What came behind the key frame counts, what lies before it does not any more.
            let mut behind = self.decided.range(time..);
            let left_out = behind.any(|(_, decision)| !decision.forward);
            self.thinned = left_out || self.lowest_limit(time, u64::MAX) < ALL;
            self.broken = false;
        }
        self.known.insert(header.number, forwarded);
    }
}

#[cfg(test)]
mod tests;

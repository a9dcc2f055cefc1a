//! What the relay tells whoever gave it its orders.

use std::ops::AddAssign;

use crate::command::{Node, Room, Stream};
use crate::overload::Shedding;
use crate::relay::Refused;

/// Why a link is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It was up, and then nothing came for too long, or its socket closed and nobody came back.
    Silent,
    /// Nobody opened it in time.
    Never,
}

/// Something that whoever plans has to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The link to `peer` is open; again when the peer opened it anew.
    Up {
        /// Which room.
        room: Room,
        /// The other end.
        peer: Node,
    },
    /// The answer to an offer of `peer`.
    Answer {
        /// Which room.
        room: Room,
        /// Who offered.
        peer: Node,
        /// The session description; empty when there is no link by RTP.
        sdp: String,
    },
    /// The link to `peer` does not carry: once per silence. An order that a new link be made is for the room to give.
    Lost {
        /// Which room.
        room: Room,
        /// The other end.
        peer: Node,
        /// Why.
        why: Lost,
    },
    /// The peer came to open its link and was refused, for the sake of those who are here.
    Refused {
        /// Which room.
        room: Room,
        /// Who.
        peer: Node,
        /// Why: [`Refused::Full`] or [`Refused::Overloaded`].
        why: Refused,
    },
    /// The first usable frame of the stream came from `parent`: what is there can be fed on.
    Ready {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
        /// From whom.
        parent: Node,
    },
    /// The relay has dropped everything of this room because of a fault of its own: links, streams and orders are gone, and
    /// their tokens are void. Whoever wants it there enters anew.
    Left {
        /// Which room.
        room: Room,
    },
    /// What was measured, once per second and room with links.
    Report {
        /// Which room.
        room: Room,
        /// The figures.
        report: Report,
    },
}

/// Measurements of one room: what a browser puts into its own report.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Open links, by peer.
    pub links: Vec<LinkReport>,
    /// What the relay receives, by stream.
    pub edges: Vec<EdgeReport>,
}

/// One link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkReport {
    /// The other end.
    pub peer: Node,
    /// Round-trip time, milliseconds; 0 before the first echo.
    pub rtt_ms: f32,
    /// Bit/s sent over the last second.
    pub sent_bps: u32,
    /// Share of frames from the peer that never came, 0..=1, over the last 5 s.
    pub loss: f32,
}

/// One incoming edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeReport {
    /// Which stream.
    pub stream: Stream,
    /// From whom.
    pub parent: Node,
    /// Bit/s received over the last second.
    pub bps: u32,
    /// Capture to arrival, milliseconds, relative to the fastest frame seen.
    pub delay_ms: f32,
    /// The highest layer that comes at present.
    pub layer: Option<u8>,
}

/// Sums over the relay's life, and what it holds now. Cheap to copy; at most a second old when read from a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// What was counted.
    pub counters: Counters,
    /// What is held.
    pub size: Size,
    /// Bit/s sent in all, over the last second.
    pub sent_bps: u64,
    /// Bit/s received in all, over the last second.
    pub received_bps: u64,
    /// What is shed.
    pub shedding: Shedding,
    /// Share of what the relay can do that it does, per mille: the larger of egress and processor.
    pub load_permille: u32,
}

/// What is held in memory. All zero once every room was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Rooms entered.
    pub rooms: usize,
    /// Links ordered, open or not.
    pub peers: usize,
    /// Links open.
    pub links: usize,
    /// Streams ordered.
    pub streams: usize,
    /// Edges to children.
    pub edges: usize,
    /// Of those: without a layer that they would have, because it was shed.
    pub held: usize,
    /// Bytes in rings. A frame that also waits in queues is held once.
    pub ring_bytes: usize,
    /// Frames in rings.
    pub ring_frames: usize,
    /// Bytes of frames that wait for children, counted for each.
    pub queued_bytes: usize,
    /// Frame numbers noted as missing.
    pub missing: usize,
}

/// What is counted, `docs/ref/links.md` in the main. Never goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames of streams that came from their parents and were new.
    pub frames_received: u64,
    /// Frames handed to links.
    pub frames_sent: u64,
    /// Frames left out for a child on purpose.
    pub frames_dropped: u64,
    /// Frames sent again because a child asked.
    pub frames_resent: u64,
    /// Frames that came by repair.
    pub frames_repaired: u64,
    /// Frames given up although needed.
    pub frames_lost: u64,
    /// Frames that came twice.
    pub duplicates: u64,
    /// Key requests sent up.
    pub key_requests: u64,
    /// Bytes handed to links, control messages included.
    pub bytes_sent: u64,
    /// Bytes that came on links.
    pub bytes_received: u64,
    /// Binary messages without a valid header.
    pub malformed: u64,
    /// Frames of streams that nobody ordered, or from somebody who is not their parent.
    pub stray: u64,
    /// Frames that name the relay as their sender.
    pub looped: u64,
    /// Kinds and tracks that are not forwarded.
    pub foreign: u64,
    /// Frames above the message limit, and sound above its own.
    pub oversized: u64,
    /// Frames over the rate that one stream may have.
    pub excess: u64,
    /// Control messages about streams or layers that the peer has no business with.
    pub misplaced: u64,
    /// Control messages that are none of ours.
    pub junk: u64,
    /// Well-formed control messages of a kind that this version does not know.
    pub unknown: u64,
    /// Control messages over the rate.
    pub flooded: u64,
    /// Links ended because the peer did not read.
    pub stuck: u64,
    /// Attempts to attach that were refused.
    pub refused: u64,
    /// Of those: of newcomers, because the relay had too much to do.
    pub overloaded: u64,
    /// Edges that lost a layer because the relay had too much to do.
    pub shed: u64,
    /// Datagrams of links by RTP that never left: too much stood before the socket, or there was no way to the browser.
    pub datagrams_unsent: u64,
    /// Datagrams that came at another shard than theirs and were handed over.
    pub datagrams_handed: u64,
    /// Of those: that their shard had no place for.
    pub datagrams_untaken: u64,
    /// Packets that were sent again because a browser asked for them.
    pub packets_retransmitted: u64,
    /// Frames that were handed to links by RTP and not sent: what waited for a slot for too long, pictures above what may wait,
    /// sound that nobody took or that fits no packet.
    pub frames_unsent: u64,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        let Self {
            rooms,
            peers,
            links,
            streams,
            edges,
            held,
            ring_bytes,
            ring_frames,
            queued_bytes,
            missing,
        } = other;
        self.rooms += rooms;
        self.peers += peers;
        self.links += links;
        self.streams += streams;
        self.edges += edges;
        self.held += held;
        self.ring_bytes += ring_bytes;
        self.ring_frames += ring_frames;
        self.queued_bytes += queued_bytes;
        self.missing += missing;
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            frames_received,
            frames_sent,
            frames_dropped,
            frames_resent,
            frames_repaired,
            frames_lost,
            duplicates,
            key_requests,
            bytes_sent,
            bytes_received,
            malformed,
            stray,
            looped,
            foreign,
            oversized,
            excess,
            misplaced,
            junk,
            unknown,
            flooded,
            stuck,
            refused,
            overloaded,
            shed,
            datagrams_unsent,
            datagrams_handed,
            datagrams_untaken,
            packets_retransmitted,
            frames_unsent,
        } = other;
        self.frames_received += frames_received;
        self.frames_sent += frames_sent;
        self.frames_dropped += frames_dropped;
        self.frames_resent += frames_resent;
        self.frames_repaired += frames_repaired;
        self.frames_lost += frames_lost;
        self.duplicates += duplicates;
        self.key_requests += key_requests;
        self.bytes_sent += bytes_sent;
        self.bytes_received += bytes_received;
        self.malformed += malformed;
        self.stray += stray;
        self.looped += looped;
        self.foreign += foreign;
        self.oversized += oversized;
        self.excess += excess;
        self.misplaced += misplaced;
        self.junk += junk;
        self.unknown += unknown;
        self.flooded += flooded;
        self.stuck += stuck;
        self.refused += refused;
        self.overloaded += overloaded;
        self.shed += shed;
        self.datagrams_unsent += datagrams_unsent;
        self.datagrams_handed += datagrams_handed;
        self.datagrams_untaken += datagrams_untaken;
        self.packets_retransmitted += packets_retransmitted;
        self.frames_unsent += frames_unsent;
    }
}

impl Stats {
    /// Of several shards as of one: sums, but the largest load, and what the one sheds that sheds most.
    pub(crate) fn together(shards: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for shard in shards {
            let Self {
                counters,
                size,
                sent_bps,
                received_bps,
                shedding,
                load_permille,
            } = shard;
            all.counters += counters;
            all.size += size;
            all.sent_bps += sent_bps;
            all.received_bps += received_bps;
            all.shedding = all.shedding.max(shedding);
            all.load_permille = all.load_permille.max(load_permille);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_shards_are_added_and_the_largest_load_counts() {
        let shard = |n: u64, shedding, load_permille| Stats {
            counters: Counters {
                frames_sent: n,
                datagrams_untaken: 10 * n,
                ..Counters::default()
            },
            size: Size {
                links: n as usize,
                missing: 2,
                ..Size::default()
            },
            sent_bps: 100 * n,
            received_bps: 7,
            shedding,
            load_permille,
        };
        let shards = [
            shard(1, Shedding::Others, 950),
            shard(2, Shedding::Nothing, 300),
        ];
        let expected = Stats {
            size: Size {
                links: 3,
                missing: 4,
                ..Size::default()
            },
            received_bps: 14,
            ..shard(3, Shedding::Others, 950)
        };
        assert_eq!(Stats::together(shards), expected);
    }
}

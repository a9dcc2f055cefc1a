//! What the relay is told: the words in which a browser gets its orders, with the room added.

use std::fmt;

/// A room, by the number that whoever runs the relay gave it. Never used again for another room.
pub type Room = u64;

/// A node's number in its room.
pub type Node = u16;

/// A stream of a room: `node * 16 + stream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(pub u32);

impl Stream {
    /// Stream number `stream` (0..=15) of `node`.
    pub const fn new(node: Node, stream: u8) -> Self {
        Stream((node as u32) << 4 | (stream as u32 & 15))
    }

    /// Who sends it.
    pub const fn node(self) -> Node {
        (self.0 >> 4) as Node
    }

    /// Its number with its sender: 0 camera and microphone, 1 screen.
    pub const fn stream(self) -> u8 {
        (self.0 & 15) as u8
    }
}

/// A set of spatial layers: bit `n` is layer `n`, 0 the lowest quality. Bits above 3 count for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Layers(pub u8);

impl Layers {
    /// Layers that a stream can have.
    pub const MAX: u8 = 4;
    /// No video.
    pub const NONE: Layers = Layers(0);

    /// The set of one layer; empty when `layer` is not below [`Layers::MAX`].
    pub const fn one(layer: u8) -> Self {
        if layer < Self::MAX {
            Layers(1 << layer)
        } else {
            Layers(0)
        }
    }

    /// Is this layer in the set?
    pub const fn contains(self, layer: u8) -> bool {
        layer < Self::MAX && self.0 & (1 << layer) != 0
    }

    /// The set with one layer more.
    #[must_use]
    pub const fn with(self, layer: u8) -> Self {
        Layers(self.0 | Self::one(layer).0)
    }

    /// The set with one layer less.
    #[must_use]
    pub const fn without(self, layer: u8) -> Self {
        Layers(self.0 & !Self::one(layer).0)
    }

    /// What both sets have.
    #[must_use]
    pub const fn and(self, other: Layers) -> Self {
        Layers(self.0 & other.0 & 15)
    }

    /// The layers up to and with `layer`.
    #[must_use]
    pub const fn up_to(self, layer: u8) -> Self {
        if layer < Self::MAX {
            Layers(self.0 & ((2 << layer) - 1))
        } else {
            Layers(self.0 & 15)
        }
    }

    /// No layer at all: sound only.
    pub const fn is_empty(self) -> bool {
        self.0 & 15 == 0
    }

    /// The highest layer of the set.
    pub const fn top(self) -> Option<u8> {
        if self.is_empty() {
            None
        } else {
            Some(7 - (self.0 & 15).leading_zeros() as u8)
        }
    }

    /// The lowest layer of the set.
    pub const fn bottom(self) -> Option<u8> {
        if self.is_empty() {
            None
        } else {
            Some(self.0.trailing_zeros() as u8)
        }
    }

    /// The layers, lowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u8> {
        (0..Self::MAX).filter(move |&layer| self.contains(layer))
    }
}

/// Proves to the relay who opens a link: 128 random bits, for one link only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub [u8; 16]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

/// An order to the relay. Every order may come twice, and names of rooms, peers and streams that are not there do nothing:
/// the room's owner and the relay may disagree for a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stand in the trees of a room.
    Enter {
        /// Which room.
        room: Room,
        /// The relay's own number in it.
        node: Node,
    },
    /// Forget the room: its links are closed, its streams dropped.
    Leave {
        /// Which room.
        room: Room,
    },
    /// Expect a link from `peer`. [`Event::Up`](crate::Event::Up) when it is there, else
    /// [`Event::Lost`](crate::Event::Lost). With another token than before, the link of the former one is closed.
    Link {
        /// Which room.
        room: Room,
        /// Who will open it.
        peer: Node,
        /// What it will show.
        token: Token,
    },
    /// `peer` offers to open its link, which was ordered, by RTP, or to change one that is open. Answered by
    /// [`Event::Answer`](crate::Event::Answer).
    Offer {
        /// Which room.
        room: Room,
        /// Who offers.
        peer: Node,
        /// The session description.
        sdp: String,
    },
    /// No edge uses the link any more: close it, and expect it no longer.
    Unlink {
        /// Which room.
        room: Room,
        /// The other end.
        peer: Node,
    },
    /// Send a stream on to `child`, or change how.
    Feed {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
        /// To whom.
        child: Node,
        /// Which layers; none: sound only.
        layers: Layers,
        /// What the edge may carry, bit/s.
        rate_bps: u64,
    },
    /// Feed `child` no longer.
    Release {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
        /// Whom.
        child: Node,
    },
    /// From now on the stream comes from `parent`; the former parent is heard until the new one delivers.
    /// [`Event::Ready`](crate::Event::Ready) follows, also when it comes from there already.
    Parent {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
        /// Who delivers.
        parent: Node,
        /// Which layers will come; none: sound only.
        layers: Layers,
    },
    /// Should the stream's parent fall silent, take it from this one as well, without waiting for an order. `None`: from
    /// nobody.
    Backup {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
        /// Who would deliver.
        parent: Option<Node>,
        /// Which layers would come; none: sound only.
        layers: Layers,
    },
    /// Send a stream on to `child` from when it asks for it, and not before. Ends with [`Command::Release`]; an edge that
    /// has begun goes on under [`Command::Feed`].
    StandBy {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
        /// To whom.
        child: Node,
        /// Which layers; none: sound only.
        layers: Layers,
        /// What the edge may carry, bit/s.
        rate_bps: u64,
    },
    /// The stream has ended, or the relay has no part in it any more.
    Forget {
        /// Which room.
        room: Room,
        /// Which stream.
        stream: Stream,
    },
}

impl Command {
    /// The room that the order is about.
    pub fn room(&self) -> Room {
        match *self {
            Command::Enter { room, .. }
            | Command::Leave { room }
            | Command::Link { room, .. }
            | Command::Offer { room, .. }
            | Command::Unlink { room, .. }
            | Command::Feed { room, .. }
            | Command::Release { room, .. }
            | Command::Parent { room, .. }
            | Command::Backup { room, .. }
            | Command::StandBy { room, .. }
            | Command::Forget { room, .. } => room,
        }
    }
}

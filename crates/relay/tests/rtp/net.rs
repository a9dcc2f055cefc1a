//! A network in virtual time: every datagram takes half a round trip, some are lost, by a seed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What a path does to datagrams, each way.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// Share lost, per mille.
    pub loss: u64,
    /// There and back.
    pub rtt: Duration,
}

pub const CLEAN: Path = Path {
    loss: 0,
    rtt: Duration::from_millis(20),
};
pub const MILD: Path = Path {
    loss: 20,
    rtt: Duration::from_millis(50),
};
pub const HARSH: Path = Path {
    loss: 50,
    rtt: Duration::from_millis(100),
};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datagram {
    pub at: Instant,
    order: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

pub struct Net {
    pub path: Path,
    /// What is sent from one of these is lost.
    pub mute: BTreeSet<SocketAddr>,
    random: u64,
    sent: u64,
    way: BinaryHeap<Reverse<Datagram>>,
}

impl Net {
    pub fn new(path: Path, seed: u64) -> Self {
        Self {
            path,
            mute: BTreeSet::new(),
            random: seed | 1,
            sent: 0,
            way: BinaryHeap::new(),
        }
    }

    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, now: Instant) {
        self.sent += 1;
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        if (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 1000 < self.path.loss
            || self.mute.contains(&from)
        {
            return;
        }
        self.way.push(Reverse(Datagram {
            at: now + self.path.rtt / 2,
            order: self.sent,
            from,
            to,
            bytes,
        }));
    }

    pub fn next(&self) -> Option<Instant> {
        self.way.peek().map(|Reverse(datagram)| datagram.at)
    }

    pub fn due(&mut self, now: Instant) -> Option<Datagram> {
        if self.next()? > now {
            return None;
        }
        self.way.pop().map(|Reverse(datagram)| datagram)
    }
}

//! What the simulator asks of whoever plans: one trait for the product's planner and for those it is compared with.
//!
//! There is one stream. Node [`ROOT`] stands for its source and for every relay that the organisation pays for: a child
//! of it takes a *paid slot*. An overlay that cuts the stream into stripes has one tree per stripe.

/// A node; numbers are used again some time after their holder went.
pub(super) type Id = u32;
/// Microseconds since the run began.
pub(super) type Micros = u64;

/// The source and the relays.
pub(super) const ROOT: Id = 0;
/// Nobody, where a list has no room for `Option`.
pub(super) const NONE: Id = Id::MAX;
/// The stream, kbit/s.
pub(super) const RATE: u32 = 1000;

/// A viewer as it describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// What it can send, kbit/s.
    pub uplink: u32,
    /// Where it is, 0..[`super::network::REGIONS`].
    pub region: u8,
    /// Whether its NAT gives every peer another port: two such can't reach one another.
    pub symmetric: bool,
}

impl Peer {
    /// Whole copies of the stream that its uplink carries.
    pub(super) fn slots(self) -> u32 {
        self.uplink / RATE
    }
}

/// What reaches the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Somebody wants to watch.
    Join(Id, Peer),
    /// Somebody leaves politely and forwards until its children have been moved.
    Leave(Id),
    /// Somebody vanished.
    Crash(Id),
    /// A measured uplink, kbit/s.
    Uplink(Id, u32),
    /// The two can't connect: child and parent.
    Barred(Id, Id),
    /// A child whose parent fell silent has gone to its backup by itself.
    Switched {
        /// Who.
        child: Id,
        /// In which tree.
        stripe: u8,
        /// To whom.
        to: Id,
    },
    /// Time passes; four times a second.
    Tick,
}

/// One edge that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    /// The receiving end.
    pub child: Id,
    /// In which tree.
    pub stripe: u8,
    /// The sending end; `None`: nobody has room, or the child is gone.
    pub parent: Option<Id>,
}

/// Where a child turns when its parent falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backup {
    /// To whom.
    pub parent: Id,
    /// Connected ahead: the stream comes after one round trip.
    pub warm: bool,
}

/// A planner.
pub(super) trait Overlay {
    /// How many trees.
    fn stripes(&self) -> u8 {
        1
    }

    /// Take what reached the planner and append the edges that change, parents before children. Entries for nodes that
    /// are gone are left out.
    fn handle(&mut self, op: Op, now: Micros, moves: &mut Vec<Move>);

    /// Take many operations as one, e.g. a crowd that comes or half of the viewers who vanish at once.
    fn batch(&mut self, ops: &[Op], now: Micros, moves: &mut Vec<Move>) {
        for op in ops {
            self.handle(*op, now, moves);
        }
    }

    /// The backup that is named for a child at this moment.
    fn backup(&self, _child: Id, _stripe: u8) -> Option<Backup> {
        None
    }

    /// How many backups it has named so far, each of which is a message to a child.
    fn backups_told(&self) -> u64 {
        0
    }

    /// Nodes whose records the last operation read to change or changed; `None`: it does not count them.
    fn touched(&self) -> Option<u64> {
        None
    }

    /// How long a child waits before it calls its parent silent, where that is not the detector that all share.
    fn patience(&self) -> Option<Micros> {
        None
    }

    /// What a hop adds to the way itself.
    fn hop(&self) -> Micros {
        // Measured: 0.8 ms per browser that forwards (docs/results.md).
        800
    }
}

//! The product's planner behind the simulator's trait: facts in, edge changes out, ids and units translated.
//!
//! The root is a node that sends the stream; relays bring as many places as the planner may ask for. A child of any of them
//! takes a paid slot.

use super::network::{self, REGIONS};
use super::overlay::{Backup, Id, Micros, Move, Op, Overlay, Peer, RATE, ROOT};
use grove_tree::broadcast::{Broadcast, Options};
use grove_tree::{EdgeChange, Fact, Kind, Layers, Nat, NodeFacts, NodeId, Rates, StreamId};

const STREAM: StreamId = StreamId(0);
/// Two last miles, on average.
const MILES_MS: u16 = 14;
/// Relays have the highest numbers.
const FIRST_RELAY: Id = Id::MAX - 64;
const RELAYS: u32 = 24;
/// Of one relay.
const PLACES: u16 = 50_000;

/// The planner and what it has to know between operations.
#[derive(Debug)]
pub(super) struct Grove {
    planner: Broadcast,
    /// As they came; a new uplink is told with the rest.
    peers: Vec<Option<Peer>>,
    /// Backups named so far.
    told: u64,
}

pub(super) fn planner(root_slots: u32, cap: u32) -> Grove {
    let mut options = Options {
        depth: cap.min(31) as u8,
        ..Options::default()
    };
    for a in 0..REGIONS {
        for b in 0..REGIONS {
            options.rtt_ms[usize::from(a)][usize::from(b)] =
                (network::regions_apart(a, b) / 1000) as u16 + MILES_MS;
        }
    }
    let mut planner = Broadcast::new(options);
    let root = NodeFacts {
        slots: root_slots.min(u32::from(u16::MAX)) as u16,
        uplink: u64::from(root_slots) * u64::from(RATE) * 2_000,
        watches: false,
        ..NodeFacts::default()
    };
    planner.handle(Fact::Node(NodeId(ROOT), root), 0);
    let rates = Rates {
        audio: 0,
        layers: std::array::from_fn::<u32, { Layers::MAX }, _>(|layer| {
            if layer == 0 { RATE * 1000 } else { 0 }
        }),
    };
    planner.handle(Fact::Stream(STREAM, NodeId(ROOT), rates), 0);
    for relay in 0..RELAYS {
        let facts = NodeFacts {
            kind: Kind::Relay,
            slots: PLACES,
            uplink: u64::from(PLACES) * u64::from(RATE) * 2_000,
            ..NodeFacts::default()
        };
        planner.handle(Fact::Node(NodeId(FIRST_RELAY + relay), facts), 0);
    }
    Grove {
        planner,
        peers: Vec::new(),
        told: 0,
    }
}

/// The root and all relays are one node to the simulator.
fn paid(node: NodeId) -> Id {
    if node.0 >= FIRST_RELAY { ROOT } else { node.0 }
}

fn facts(peer: Peer) -> NodeFacts {
    NodeFacts {
        // The planner keeps a fifth of an uplink free; what a viewer has here is what may be used.
        uplink: u64::from(peer.uplink) * 1250,
        slots: u16::MAX,
        region: peer.region,
        nat: if peer.symmetric {
            Nat::Symmetric
        } else {
            Nat::Cone
        },
        ..NodeFacts::default()
    }
}

impl Grove {
    /// Changes as moves. Between relays nothing moves, and whoever is gone has no edge to lose.
    fn translate(&self, changes: Vec<EdgeChange>, moves: &mut Vec<Move>) {
        moves.extend(changes.into_iter().filter_map(|change| {
            let child = change.child.0;
            let (old, parent) = (
                change.old.map(paid),
                change.new.map(|edge| paid(edge.parent)),
            );
            let here = self.peers.get(child as usize).is_some_and(Option::is_some);
            (here && old != parent).then_some(Move {
                child,
                stripe: 0,
                parent,
            })
        }));
    }

    /// The backups that this operation changed go out with the orders.
    fn tell_backups(&mut self) {
        while self.planner.poll_backup().is_some() {
            self.told += 1;
        }
    }

    /// An operation as a fact; `None`: there is nothing to tell.
    fn fact(&mut self, op: Op) -> Option<Fact> {
        match op {
            Op::Join(id, peer) => {
                let len = self.peers.len().max(id as usize + 1);
                self.peers.resize(len, None);
                self.peers[id as usize] = Some(peer);
                Some(Fact::Node(NodeId(id), facts(peer)))
            }
            Op::Leave(id) | Op::Crash(id) => {
                self.peers.get_mut(id as usize)?.take()?;
                let node = NodeId(id);
                Some(if matches!(op, Op::Leave(_)) {
                    Fact::Left(node)
                } else {
                    Fact::Failed(node)
                })
            }
            Op::Uplink(id, uplink) => {
                let peer = self.peers.get_mut(id as usize)?.as_mut()?;
                peer.uplink = uplink;
                Some(Fact::Node(NodeId(id), facts(*peer)))
            }
            Op::Barred(child, parent) => Some(Fact::Barred(NodeId(child), NodeId(parent))),
            Op::Switched { .. } | Op::Tick => None,
        }
    }
}

impl Overlay for Grove {
    fn handle(&mut self, op: Op, now: Micros, moves: &mut Vec<Move>) {
        let changes = match (self.fact(op), op) {
            (Some(fact), _) => self.planner.handle(fact, now / 1000),
            (None, Op::Tick) => self.planner.handle_timeout(now / 1000),
            (None, _) => return,
        };
        self.translate(changes, moves);
        self.tell_backups();
    }

    fn batch(&mut self, ops: &[Op], now: Micros, moves: &mut Vec<Move>) {
        let facts: Vec<Fact> = ops.iter().filter_map(|op| self.fact(*op)).collect();
        let changes = self.planner.handle_batch(&facts, now / 1000);
        self.translate(changes, moves);
        self.tell_backups();
    }

    fn backup(&self, child: Id, _stripe: u8) -> Option<Backup> {
        let backup = self.planner.backup(STREAM, NodeId(child))?;
        Some(Backup {
            parent: paid(backup.parent),
            warm: backup.warm,
        })
    }

    fn backups_told(&self) -> u64 {
        self.told
    }

    fn touched(&self) -> Option<u64> {
        Some(self.planner.counters().touched.into())
    }
}

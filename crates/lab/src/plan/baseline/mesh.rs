//! A random mesh in which everybody pulls (Zhang et al., "CoolStreaming/DONet", INFOCOM 2005; sub-streams as in Xie et al.,
//! "Coolstreaming: design, theory, and practice", 2007). A newcomer gets [`PARTNERS`] partners by lot. The stream has four
//! sub-streams; each is asked of a partner that has a share of its uplink left, any sub-stream of any partner: no content
//! is bound to a tree and nobody is a leaf by decree. Whoever lags behind a partner changes to it.
//!
//! A partner that falls silent is noticed at the next round of asking, and another partner is asked, without anybody
//! central. That is why a mesh survives churn so well. What it pays is time: what a neighbour has is learned once a round and
//! then asked for, at every hop, and a round passes before a silent partner is given up. So a mesh needs a buffer of many
//! rounds, with which nothing of this is seen.

use super::scatter;
use crate::plan::chance::Chance;
use crate::plan::forest::Forest;
use crate::plan::overlay::{Backup, Id, Micros, Move, Op, Overlay, RATE, ROOT};

const STRIPES: u8 = 4;
const PARTNERS: usize = 6;
/// How often neighbours tell one another what they have.
const ROUND: Micros = 1_000_000;
/// Hops behind a partner that make a node change.
const LAG: u32 = 2;
/// Strangers that are asked when no partner has room.
const STRANGERS: usize = 24;

/// Everybody's partners and suppliers.
#[derive(Debug)]
pub(in crate::plan) struct Mesh {
    chance: Chance,
    nodes: Vec<Node>,
    here: Vec<Id>,
    suppliers: Vec<Forest>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// Sub-streams that its uplink carries; `None`: not here.
    room: Option<u32>,
    used: u32,
    partners: Vec<Id>,
    /// In the list of those who are here.
    index: usize,
}

pub(in crate::plan) fn planner(root_slots: u32, seed: u64) -> Mesh {
    let mut mesh = Mesh {
        chance: Chance::of(seed, 0, 22),
        nodes: Vec::new(),
        here: Vec::new(),
        suppliers: vec![Forest::default(); usize::from(STRIPES)],
    };
    mesh.reach(ROOT);
    mesh.nodes[ROOT as usize].room = Some(root_slots * u32::from(STRIPES));
    // The source is somebody's partner like everybody else.
    mesh.here.push(ROOT);
    mesh
}

/// Sub-streams that an uplink carries.
fn sub_streams(uplink: u32) -> u32 {
    uplink / (RATE / u32::from(STRIPES))
}

impl Mesh {
    fn reach(&mut self, id: Id) {
        let len = self.nodes.len().max(id as usize + 1);
        self.nodes.resize(len, Node::default());
        self.suppliers.iter_mut().for_each(|s| s.reach(id));
    }

    fn stranger(&mut self) -> Id {
        let index = self.chance.below(self.here.len() as u64) as usize;
        self.here[index]
    }

    fn befriend(&mut self, id: Id) {
        for _ in 0..STRANGERS {
            if self.nodes[id as usize].partners.len() >= PARTNERS {
                return;
            }
            let other = self.stranger();
            if other != id && !self.nodes[id as usize].partners.contains(&other) {
                self.nodes[id as usize].partners.push(other);
                self.nodes[other as usize].partners.push(id);
            }
        }
    }

    fn can_supply(&self, supplier: Id, child: Id, stripe: u8) -> bool {
        let node = &self.nodes[supplier as usize];
        let forest = &self.suppliers[usize::from(stripe)];
        node.room.is_some_and(|room| node.used < room)
            && supplier != child
            && forest.parent(child) != Some(supplier)
            && forest.level(supplier).is_some()
            && !forest.below(supplier, child)
    }

    /// The partner with room that has a sub-stream first, which is who is nearest to the source; of several another for
    /// each child and sub-stream.
    fn partner(&self, child: Id, stripe: u8) -> Option<Id> {
        let partners = self.nodes.get(child as usize)?.partners.iter().copied();
        partners
            .filter(|p| self.can_supply(*p, child, stripe))
            .min_by_key(|p| {
                let level = self.suppliers[usize::from(stripe)].level(*p);
                (
                    level,
                    scatter(u64::from(stripe) << 32 | u64::from(child), *p),
                )
            })
    }

    /// Whoever lags two hops or more behind what a partner could give goes there.
    fn adapt(&mut self, child: Id, moves: &mut Vec<Move>) {
        for stripe in 0..STRIPES {
            let Some(other) = self.partner(child, stripe) else {
                continue;
            };
            let forest = &self.suppliers[usize::from(stripe)];
            if forest.level(other).map(|level| level + LAG)
                <= forest.parent(child).and_then(|p| forest.level(p))
            {
                self.hang(child, stripe, other, moves);
            }
        }
    }

    fn place(&mut self, child: Id, stripe: u8, moves: &mut Vec<Move>) {
        let mut found = self.partner(child, stripe);
        for _ in 0..STRANGERS {
            if found.is_some() {
                break;
            }
            let other = self.stranger();
            found = self.can_supply(other, child, stripe).then_some(other);
        }
        self.hang(child, stripe, found.unwrap_or(ROOT), moves);
    }

    fn hang(&mut self, child: Id, stripe: u8, supplier: Id, moves: &mut Vec<Move>) {
        let forest = &mut self.suppliers[usize::from(stripe)];
        if let Some(old) = forest.parent(child) {
            if old == supplier {
                return;
            }
            self.nodes[old as usize].used -= 1;
        }
        forest.attach(child, supplier);
        self.nodes[supplier as usize].used += 1;
        moves.push(Move {
            child,
            stripe,
            parent: Some(supplier),
        });
    }

    fn gone(&mut self, id: Id, moves: &mut Vec<Move>) {
        if self.nodes.get(id as usize).is_none_or(|n| n.room.is_none()) {
            return;
        }
        let node = std::mem::take(&mut self.nodes[id as usize]);
        self.here.swap_remove(node.index);
        if let Some(moved) = self.here.get(node.index) {
            self.nodes[*moved as usize].index = node.index;
        }
        for partner in &node.partners {
            self.nodes[*partner as usize].partners.retain(|p| *p != id);
        }
        for partner in node.partners {
            if partner != ROOT {
                self.befriend(partner);
            }
        }
        for stripe in 0..STRIPES {
            let forest = &mut self.suppliers[usize::from(stripe)];
            let orphans: Vec<Id> = forest.children(id).collect();
            orphans.iter().for_each(|orphan| forest.detach(*orphan));
            if let Some(supplier) = forest.parent(id) {
                forest.detach(id);
                self.nodes[supplier as usize].used -= 1;
            }
            for orphan in orphans {
                self.place(orphan, stripe, moves);
            }
        }
    }

    fn refit(&mut self, id: Id, moves: &mut Vec<Move>) {
        while let node = &self.nodes[id as usize]
            && node.room.is_some_and(|room| node.used > room)
        {
            let given_up = (0..STRIPES)
                .find_map(|s| Some((s, self.suppliers[usize::from(s)].children(id).next()?)));
            let Some((stripe, child)) = given_up else {
                return;
            };
            self.place(child, stripe, moves);
        }
    }
}

impl Overlay for Mesh {
    fn stripes(&self) -> u8 {
        STRIPES
    }

    fn handle(&mut self, op: Op, _now: Micros, moves: &mut Vec<Move>) {
        match op {
            Op::Join(id, peer) => {
                self.reach(id);
                self.nodes[id as usize].room = Some(sub_streams(peer.uplink));
                self.befriend(id);
                self.nodes[id as usize].index = self.here.len();
                self.here.push(id);
                (0..STRIPES).for_each(|stripe| self.place(id, stripe, moves));
            }
            Op::Leave(id) | Op::Crash(id) => self.gone(id, moves),
            Op::Uplink(id, uplink) => {
                if let Some(room) = self
                    .nodes
                    .get_mut(id as usize)
                    .and_then(|n| n.room.as_mut())
                {
                    *room = sub_streams(uplink);
                    self.refit(id, moves);
                }
            }
            Op::Barred(child, parent) => {
                for stripe in 0..STRIPES {
                    if self.suppliers[usize::from(stripe)].parent(child) == Some(parent) {
                        self.nodes[child as usize].partners.retain(|p| *p != parent);
                        self.nodes[parent as usize].partners.retain(|p| *p != child);
                        self.hang(child, stripe, ROOT, moves);
                    }
                }
            }
            Op::Switched { child, stripe, to } => {
                if self
                    .nodes
                    .get(child as usize)
                    .is_some_and(|n| n.room.is_some())
                    && self.can_supply(to, child, stripe)
                {
                    self.hang(child, stripe, to, moves);
                }
            }
            Op::Tick => {
                // Everybody looks round once in ten seconds.
                for _ in 0..self.here.len() / 40 {
                    let child = self.stranger();
                    if child != ROOT {
                        self.adapt(child, moves);
                    }
                }
            }
        }
    }

    fn backup(&self, child: Id, stripe: u8) -> Option<Backup> {
        let parent = self.partner(child, stripe)?;
        Some(Backup { parent, warm: true })
    }

    fn patience(&self) -> Option<Micros> {
        Some(ROUND)
    }

    fn hop(&self) -> Micros {
        // Half a round until it is known, and there and back to ask.
        ROUND / 2 + 40_000
    }
}

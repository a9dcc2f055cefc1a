//! StreamSmart's balanced tree, kept without a planner (Gaeta, Kosta, Stefa, Mei). Its rules aren't published in full; this
//! is our reading of them. A newcomer walks down from the root: where there is a free slot it stays, else it goes on to the
//! child with the smallest subtree that has room somewhere; the tree is full to six levels, then grows in width at the root.
//! Orphans walk down from their grandparent, subtree and all, and from the root if there is no room.
//!
//! A node knows how many are below each of its children and how many slots are free there, which children tell their
//! parents. Strength plays no part in who stands where.

use crate::plan::forest::Forest;
use crate::plan::overlay::{Id, Micros, Move, Op, Overlay, RATE, ROOT};

/// Nodes that a newcomer asks before the tree counts as full.
const PATIENCE: u32 = 64;

/// The balanced tree.
#[derive(Debug)]
pub(in crate::plan) struct Balanced {
    forest: Forest,
    nodes: Vec<Node>,
    cap: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Node {
    here: bool,
    room: u32,
    /// With everybody below, itself included.
    size: u32,
    free: u32,
}

pub(in crate::plan) fn planner(root_slots: u32, cap: u32) -> Balanced {
    let root = Node {
        here: true,
        room: root_slots,
        size: 1,
        free: root_slots,
    };
    let mut forest = Forest::default();
    forest.reach(ROOT);
    Balanced {
        forest,
        nodes: vec![root],
        cap,
    }
}

impl Balanced {
    fn own(&self, id: Id) -> u32 {
        self.nodes[id as usize]
            .room
            .saturating_sub(self.forest.count(id))
    }

    /// Add to the sums of a node and everybody above.
    fn add(&mut self, from: Id, size: i64, free: i64) {
        let mut at = Some(from);
        while let Some(id) = at {
            let node = &mut self.nodes[id as usize];
            node.size = (i64::from(node.size) + size) as u32;
            node.free = (i64::from(node.free) + free) as u32;
            at = self.forest.parent(id);
        }
    }

    fn hang(&mut self, child: Id, parent: Id, moves: &mut Vec<Move>) {
        let before = self.own(parent);
        self.forest.attach(child, parent);
        let Node { size, free, .. } = self.nodes[child as usize];
        let taken = i64::from(before) - i64::from(self.own(parent));
        self.add(parent, size.into(), i64::from(free) - taken);
        moves.push(Move {
            child,
            stripe: 0,
            parent: Some(parent),
        });
    }

    fn unhang(&mut self, child: Id) {
        let Some(parent) = self.forest.parent(child) else {
            return;
        };
        let before = self.own(parent);
        self.forest.detach(child);
        let Node { size, free, .. } = self.nodes[child as usize];
        let given = i64::from(self.own(parent)) - i64::from(before);
        self.add(parent, -i64::from(size), given - i64::from(free));
    }

    /// Down from `at`, which is at `level`; a way that ends at the deepest level is gone back and the next one tried, until
    /// `patience` nodes have been asked.
    fn walk(&self, at: Id, level: u32, patience: &mut u32) -> Option<Id> {
        if level >= self.cap || *patience == 0 {
            return None;
        }
        *patience -= 1;
        if self.own(at) > 0 {
            return Some(at);
        }
        let open = self.forest.children(at);
        let mut open: Vec<(u32, Id)> = open
            .map(|child| (self.nodes[child as usize], child))
            .filter(|(node, _)| node.free > 0)
            .map(|(node, child)| (node.size, child))
            .collect();
        open.sort_unstable();
        open.into_iter()
            .find_map(|(_, child)| self.walk(child, level + 1, patience))
    }

    fn place(&mut self, child: Id, near: Option<Id>, moves: &mut Vec<Move>) {
        let near = near.and_then(|id| self.walk(id, self.forest.level(id)?, &mut { PATIENCE }));
        let parent = near
            .or_else(|| self.walk(ROOT, 0, &mut { PATIENCE }))
            .unwrap_or(ROOT);
        self.hang(child, parent, moves);
    }
}

impl Overlay for Balanced {
    fn handle(&mut self, op: Op, _now: Micros, moves: &mut Vec<Move>) {
        match op {
            Op::Join(id, peer) => {
                self.forest.reach(id);
                let len = self.nodes.len().max(id as usize + 1);
                self.nodes.resize(len, Node::default());
                let room = peer.slots();
                self.nodes[id as usize] = Node {
                    here: true,
                    room,
                    size: 1,
                    free: room,
                };
                self.place(id, None, moves);
            }
            Op::Leave(id) | Op::Crash(id) => {
                if self.nodes.get(id as usize).is_none_or(|n| !n.here) {
                    return;
                }
                let grandparent = self.forest.parent(id);
                let orphans: Vec<Id> = self.forest.children(id).collect();
                orphans.iter().for_each(|orphan| self.unhang(*orphan));
                self.unhang(id);
                self.nodes[id as usize] = Node::default();
                for orphan in orphans {
                    self.place(orphan, grandparent, moves);
                }
            }
            Op::Uplink(id, uplink) => {
                if self.nodes.get(id as usize).is_none_or(|n| !n.here) {
                    return;
                }
                let before = self.own(id);
                self.nodes[id as usize].room = uplink / RATE;
                let change = i64::from(self.own(id)) - i64::from(before);
                self.add(id, 0, change);
                while self.forest.count(id) > self.nodes[id as usize].room {
                    let Some(child) = self.forest.children(id).next() else {
                        break;
                    };
                    self.unhang(child);
                    self.place(child, None, moves);
                }
            }
            Op::Barred(child, parent) => {
                if self.forest.parent(child) == Some(parent) {
                    self.unhang(child);
                    self.hang(child, ROOT, moves);
                }
            }
            Op::Switched { .. } | Op::Tick => {}
        }
    }
}

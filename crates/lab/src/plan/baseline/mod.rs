//! Those that the planner is compared with, in the same simulator: the same viewers, network, detector, make-before-break.
//! None of them names backups, but for the mesh, whose partners are just that.
//!
//! [`Greedy`] does what most have in common: whoever has no parent in a tree gets one by a [`Rule`]; a viewer for whom no
//! other has room takes a paid slot. They differ in who may have children, how many, and who is asked first.

pub(super) mod bbvoice;
pub(super) mod mesh;
pub(super) mod min_depth;
pub(super) mod random_parent;
pub(super) mod splitstream;
pub(super) mod streamsmart;

use super::chance::Chance;
use super::forest::Forest;
use super::overlay::{Id, Micros, Move, Op, Overlay, Peer, ROOT};
use std::collections::BTreeSet;

/// What sets one greedy planner apart from another.
pub(super) trait Rule {
    /// How many trees.
    fn stripes(&self) -> u8 {
        1
    }

    /// Children that a viewer may have in a tree, given the newcomer's facts.
    fn room(&mut self, id: Id, peer: Peer, stripe: u8) -> u32;

    /// Somebody is gone.
    fn forget(&mut self, _id: Id) {}

    /// Whose room is filled first: the least. `level` is the node's own.
    fn order(&mut self, id: Id, level: u32) -> u64;

    /// Where in that order to begin; whoever is before comes last.
    fn begin(&mut self) -> u64 {
        0
    }
}

/// One placement after the other, each where the rule says.
#[derive(Debug)]
pub(super) struct Greedy<R> {
    rule: R,
    trees: Vec<Tree>,
    peers: Vec<Option<Peer>>,
}

#[derive(Debug, Default)]
struct Tree {
    forest: Forest,
    room: Vec<u32>,
    /// Under which key a node with room left is listed.
    key: Vec<Option<u64>>,
    open: BTreeSet<(u64, Id)>,
}

impl<R: Rule> Greedy<R> {
    pub(super) fn new(rule: R, root_slots: u32) -> Self {
        let mut greedy = Self {
            trees: (0..rule.stripes()).map(|_| Tree::default()).collect(),
            rule,
            peers: Vec::new(),
        };
        greedy.reach(ROOT);
        // These are listed; a paid slot beyond them is nobody's first choice.
        for stripe in 0..greedy.trees.len() {
            greedy.trees[stripe].room[ROOT as usize] = root_slots;
            greedy.file(stripe, ROOT, 0);
        }
        greedy
    }

    fn reach(&mut self, id: Id) {
        let len = self.peers.len().max(id as usize + 1);
        self.peers.resize(len, None);
        for tree in &mut self.trees {
            tree.forest.reach(id);
            tree.room.resize(len, 0);
            tree.key.resize(len, None);
        }
    }

    /// List a node under its level if it has room, and not otherwise.
    fn file(&mut self, stripe: usize, id: Id, level: u32) {
        let tree = &mut self.trees[stripe];
        if let Some(key) = tree.key[id as usize].take() {
            tree.open.remove(&(key, id));
        }
        if tree.forest.count(id) < tree.room[id as usize] {
            let key = self.rule.order(id, level);
            tree.key[id as usize] = Some(key);
            tree.open.insert((key, id));
        }
    }

    fn unfile(&mut self, stripe: usize, id: Id) {
        let tree = &mut self.trees[stripe];
        if let Some(key) = tree.key[id as usize].take() {
            tree.open.remove(&(key, id));
        }
    }

    /// Give a node and its subtree a parent.
    fn place(&mut self, stripe: usize, child: Id, moves: &mut Vec<Move>) {
        let begin = self.rule.begin();
        let tree = &self.trees[stripe];
        let found = tree
            .open
            .range((begin, ROOT)..)
            .chain(tree.open.range(..(begin, ROOT)))
            .map(|(_, id)| *id)
            .find(|id| tree.forest.level(*id).is_some() && !tree.forest.below(*id, child));
        self.hang(stripe, child, found.unwrap_or(ROOT), moves);
    }

    fn hang(&mut self, stripe: usize, child: Id, parent: Id, moves: &mut Vec<Move>) {
        let forest = &mut self.trees[stripe].forest;
        let old = forest.parent(child);
        if old != Some(parent) {
            moves.push(Move {
                child,
                stripe: stripe as u8,
                parent: Some(parent),
            });
        }
        forest.attach(child, parent);
        let level = forest.level(parent).unwrap_or(0);
        if let Some(old) = old {
            let level = self.trees[stripe].forest.level(old).unwrap_or(0);
            self.file(stripe, old, level);
        }
        self.file(stripe, parent, level);
        let mut stack = vec![(child, level + 1)];
        while let Some((id, level)) = stack.pop() {
            self.file(stripe, id, level);
            stack.extend(
                self.trees[stripe]
                    .forest
                    .children(id)
                    .map(|c| (c, level + 1)),
            );
        }
    }

    fn gone(&mut self, id: Id, moves: &mut Vec<Move>) {
        if self.peers.get(id as usize).is_none_or(Option::is_none) {
            return;
        }
        self.peers[id as usize] = None;
        self.rule.forget(id);
        for stripe in 0..self.trees.len() {
            self.unfile(stripe, id);
            let tree = &mut self.trees[stripe];
            tree.room[id as usize] = 0;
            let orphans: Vec<Id> = tree.forest.children(id).collect();
            let parent = tree.forest.parent(id);
            tree.forest.detach(id);
            orphans
                .iter()
                .for_each(|orphan| tree.forest.detach(*orphan));
            if let Some(parent) = parent {
                let level = self.trees[stripe].forest.level(parent).unwrap_or(0);
                self.file(stripe, parent, level);
            }
            for orphan in orphans {
                self.place(stripe, orphan, moves);
            }
        }
    }

    /// An uplink that changed: whoever has too many children gives up the youngest.
    fn refit(&mut self, id: Id, peer: Peer, moves: &mut Vec<Move>) {
        for stripe in 0..self.trees.len() {
            let room = self.rule.room(id, peer, stripe as u8);
            let tree = &mut self.trees[stripe];
            tree.room[id as usize] = room;
            let level = tree.forest.level(id).unwrap_or(0);
            self.file(stripe, id, level);
            while self.trees[stripe].forest.count(id) > room {
                let child = self.trees[stripe].forest.children(id).next();
                let Some(child) = child else { break };
                self.place(stripe, child, moves);
            }
        }
    }
}

impl<R: Rule> Overlay for Greedy<R> {
    fn stripes(&self) -> u8 {
        self.trees.len() as u8
    }

    fn handle(&mut self, op: Op, _now: Micros, moves: &mut Vec<Move>) {
        match op {
            Op::Join(id, peer) => {
                self.reach(id);
                self.peers[id as usize] = Some(peer);
                for stripe in 0..self.trees.len() {
                    self.trees[stripe].room[id as usize] = self.rule.room(id, peer, stripe as u8);
                    self.place(stripe, id, moves);
                }
            }
            Op::Leave(id) | Op::Crash(id) => self.gone(id, moves),
            Op::Uplink(id, uplink) => {
                if let Some(Some(peer)) = self.peers.get_mut(id as usize) {
                    peer.uplink = uplink;
                    let peer = *peer;
                    self.refit(id, peer, moves);
                }
            }
            Op::Barred(child, parent) => {
                // Everybody reaches a relay.
                for stripe in 0..self.trees.len() {
                    if self.trees[stripe].forest.parent(child) == Some(parent) {
                        self.hang(stripe, child, ROOT, moves);
                    }
                }
            }
            Op::Switched { .. } | Op::Tick => {}
        }
    }
}

/// A number for a node that says nothing about it.
pub(super) fn scatter(seed: u64, id: Id) -> u64 {
    Chance::of(seed, u64::from(id), 21).next()
}

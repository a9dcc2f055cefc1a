//! Levelling: the moves that bring everybody's uplink to its share under `Auto`.
//!
//! Owns the second thought about trees that stand: whoever sends more than its share hands whole lists of receivers to a
//! helper that sends less than its own, and takes receivers back once it has uplink to spare. Every copy still has to be
//! sent by somebody, so this never lowers the sum; it levels it. A helper is a receiver that the root feeds anyway, so it
//! costs nothing either, but a hop.
//!
//! Contract: nobody is deeper than two hops for it, nobody loses a parent, edges of relays are not touched, and no uplink
//! that carried everything wanted is overdrawn. What is within a copy of its share stays where it is, so a plan that is
//! level is not moved. Costs: O(nodes) per hand-over and O(tree) per receiver handed over.
//!
//! After the surplus and deficit matching of Mutualcast (Li, Chou, Zhang 2005: two hops reach every rate that uplinks
//! allow) and the target loads of Chunkyspread (2006); SplitStream's one interior role per node is a preference here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::map::NodeMap;
use super::promote::swap;
use super::room::{Room, Stream};
use super::shape::Shape;
use super::shares::{Aim, Share, shares};
use crate::{NodeId, Policy, StreamId};

/// Move receivers until nobody sends more than its share by more than a copy, or nobody can help.
pub(super) fn level(room: &Room, shape: &mut Shape, aim: Aim) {
    if room.policy != Policy::Auto {
        return;
    }
    let over = |shape: &Shape| {
        let mut nodes = room.nodes.iter();
        nodes.any(|(&id, node)| !room.is_relay(id) && shape.load(id).full > node.budget)
    };
    if aim == Aim::Relief && !over(shape) {
        return;
    }
    let mut work = Leveller::new(room, shape, aim);
    let mut stuck: BTreeSet<NodeId> = BTreeSet::new();
    // Forced hand-overs may go round; this many is more than any room of participants was seen to take.
    for _ in 0..room.nodes.len() * 8 {
        let Some(node) = work.fullest(&stuck) else {
            break;
        };
        if work.lighten(node) {
            stuck.clear();
        } else {
            stuck.insert(node);
        }
    }
    if aim == Aim::Even {
        work.take_back();
    }
}

struct Leveller<'a> {
    room: &'a Room,
    shape: &'a mut Shape,
    aim: Aim,
    shares: NodeMap<Share>,
    /// Do the uplinks suffice in sum? Then a helper may be given more than it can send, and pass its own stream on.
    enough: bool,
    /// Own streams.
    own: BTreeMap<NodeId, Vec<StreamId>>,
}

/// A helper that might take over, the better the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Offer {
    /// It would have to be sent video that it does not show itself.
    blind: bool,
    class: u8,
    roles: usize,
    /// Room left by the smallest that suffices, or the largest of those that do not.
    fit: (u64, Reverse<u64>),
    helper: NodeId,
    /// What it may send in the end.
    cap: u64,
}

impl<'a> Leveller<'a> {
    fn new(room: &'a Room, shape: &'a mut Shape, aim: Aim) -> Self {
        let (shares, enough) = shares(room, shape);
        let mut own: BTreeMap<NodeId, Vec<StreamId>> = BTreeMap::new();
        for (&id, stream) in &room.streams {
            own.entry(stream.root).or_default().push(id);
        }
        Leveller {
            room,
            shape,
            aim,
            shares,
            enough,
            own,
        }
    }

    fn share(&self, node: NodeId) -> Share {
        self.shares.get(&node).copied().unwrap_or_default()
    }

    fn load(&self, node: NodeId) -> u64 {
        self.shape.load(node).full
    }

    fn roles(&self, node: NodeId) -> usize {
        self.shape.load(node).roles
    }

    /// Whoever is furthest above its limit.
    fn fullest(&self, stuck: &BTreeSet<NodeId>) -> Option<NodeId> {
        let over = self.shares.iter().filter_map(|(&id, share)| {
            let over = self.load(id).checked_sub(share.limit(self.aim) + 1)?;
            (!stuck.contains(&id)).then_some((over, Reverse(id)))
        });
        over.max().map(|(_, Reverse(id))| id)
    }

    /// Take something off a node; false if there is nothing to be taken.
    fn lighten(&mut self, node: NodeId) -> bool {
        let roles = self
            .room
            .streams
            .iter()
            .filter(|&(&id, stream)| stream.root != node && !self.shape.tree(id).is_leaf(node));
        let roles: Vec<StreamId> = roles.map(|(&id, _)| id).collect();
        let mut moved = false;
        for &id in &roles {
            moved |= self.give_back(id, node, self.share(node).floor(self.aim));
        }
        if moved {
            return true;
        }
        for &id in &roles {
            if self.pass_on(id, node) {
                return true;
            }
        }
        let mut own = self.own.get(&node).cloned().unwrap_or_default();
        own.sort_by_key(|&id| (Reverse(self.shape.tree(id).kids_of(node).count()), id));
        own.into_iter().chain(roles).any(|id| self.spread(id, node))
    }

    /// Receivers of a stream that this node feeds and that feed nobody: those first whose going frees most, of those the
    /// ones with least to spare, because only the root's children can help; of equal ones the last.
    fn leaves(&self, id: StreamId, node: NodeId) -> Vec<(u64, NodeId)> {
        let Some(stream) = self.room.streams.get(&id) else {
            return Vec::new();
        };
        let tree = self.shape.tree(id);
        let leaves = tree
            .kids_of(node)
            .filter(|&kid| !self.room.is_relay(kid) && tree.is_leaf(kid));
        let mut leaves: Vec<(u64, Reverse<u64>, NodeId)> = leaves
            .map(|kid| {
                let bill = stream.bill(&tree.counts(kid), true).1;
                let spare = self.share(kid).target.saturating_sub(self.load(kid));
                (bill, Reverse(spare), kid)
            })
            .collect();
        leaves.sort_unstable_by(|a, b| b.cmp(a));
        leaves
            .into_iter()
            .map(|(bill, _, kid)| (bill, kid))
            .collect()
    }

    /// Move a leaf from one parent to another, if that may be and leaves the new parent, and the root, at no more than
    /// they may send. Nothing changes otherwise.
    fn shift(&mut self, id: StreamId, kid: NodeId, to: NodeId, cap: u64) -> bool {
        let (room, Some(stream)) = (self.room, self.room.streams.get(&id)) else {
            return false;
        };
        if kid == to || room.avoided(to, kid) || !room.may_feed(stream, to, kid) {
            return false;
        }
        let root = stream.root;
        let before = self.load(root);
        let Some(from) = self.shape.detach(room, id, kid) else {
            return false;
        };
        let fits = self.shape.allowed(room, id, kid, to)
            && self.shape.fit(room, id, kid, to, true).is_some()
            && {
                self.shape.attach(room, id, kid, to);
                let load = self.load(root);
                // A helper's own edge may have become dearer than the root can bear.
                let fits = self.load(to) <= cap
                    && (root == to || load <= before || load <= self.share(root).budget);
                if !fits {
                    self.shape.detach(room, id, kid);
                }
                fits
            };
        if !fits {
            self.shape.attach(room, id, kid, from);
            return false;
        }
        true
    }

    /// A helper's receivers go back to the root as far as the root has uplink to spare, until the helper sends no more
    /// than `goal`.
    fn give_back(&mut self, id: StreamId, helper: NodeId, goal: u64) -> bool {
        let Some(root) = self.room.streams.get(&id).map(|stream| stream.root) else {
            return false;
        };
        let share = self.share(root);
        let cap = share.target.min(share.budget);
        let mut moved = false;
        for (_, kid) in self.leaves(id, helper) {
            if self.load(helper) <= goal {
                break;
            }
            moved |= self.shift(id, kid, root, cap);
        }
        moved
    }

    /// Another child of the root takes a helper's whole place, if that leaves both within their shares: so a strong
    /// newcomer relieves the weak.
    fn pass_on(&mut self, id: StreamId, helper: NodeId) -> bool {
        let Some(stream) = self.room.streams.get(&id) else {
            return false;
        };
        let root = stream.root;
        let tree = self.shape.tree(id);
        let list = self.leaves(id, helper);
        if tree.parent.get(&helper) != Some(&root) || list.len() != tree.kids_of(helper).count() {
            return false;
        }
        let weight: u64 = list.iter().map(|&(bill, _)| bill).sum();
        let heir = tree.kids_of(root).filter(|&kid| {
            let share = self.share(kid);
            kid != helper
                && self.may_help(stream, kid)
                && self.load(kid) + weight <= share.goal()
                && (self.roles(kid) == 0 || !tree.is_leaf(kid))
        });
        let heir = heir.min_by_key(|&kid| {
            let spare = self.share(kid).goal() - self.load(kid);
            (tree.is_leaf(kid), Reverse(spare), kid)
        });
        let Some(heir) = heir else {
            // Or one whom it feeds takes its place.
            let heirs = list.iter().map(|&(_, kid)| kid);
            let heir = heirs.filter(|&kid| {
                self.may_help(stream, kid)
                    && self.roles(kid) == 0
                    && self.load(kid) + weight <= self.share(kid).goal()
            });
            let heir = heir.max_by_key(|&kid| self.share(kid).goal() - self.load(kid));
            return heir.is_some_and(|heir| swap(self.room, self.shape, id, helper, heir));
        };
        self.move_all(id, &list, helper, heir)
    }

    /// Hand leaves of a root or a helper to the best other helper, as many as it sends above its share.
    fn spread(&mut self, id: StreamId, from: NodeId) -> bool {
        let Some(stream) = self.room.streams.get(&id) else {
            return false;
        };
        let list = self.leaves(id, from);
        let goal = self.share(from).floor(self.aim);
        // What has to go, in whole receivers.
        let mut over = self.load(from).saturating_sub(goal);
        let (mut need, mut count, mut least, mut top) = (0, 0, u64::MAX, None);
        for &(bill, kid) in &list {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(bill);
            need += bill;
            count += 1;
            least = least.min(bill);
            top = top.max(self.room.top(stream, kid));
        }
        if count == 0 {
            return false;
        }
        // A helper costs the root a copy: is the next one the last it can afford?
        let last = stream.root == from && list.len() - count <= 1;
        let pressed = self.load(from) > self.share(from).budget;
        let tree = self.shape.tree(id);
        let offer = |helper: NodeId| {
            let (share, load) = (self.share(helper), self.load(helper));
            let blind = self.room.top(stream, helper) < top;
            if helper == from || !self.may_help(stream, helper) || (blind && count < 2) {
                return None;
            }
            let helps = !tree.is_leaf(helper);
            let roles = self.roles(helper) - usize::from(helps);
            // What it could hand over in turn.
            let freed = if last && self.enough {
                self.load_of_own(helper)
            } else {
                0
            };
            let (goal, limit) = (share.goal(), share.limit(Aim::Even));
            let whole = |cap: u64| load + need <= cap;
            let part = |cap: u64| load + least <= cap;
            let (class, cap) = if roles == 0 && whole(goal) {
                (u8::from(!helps), goal)
            } else if roles == 0 && whole(limit) {
                (2, limit)
            } else if roles == 0 && !last && part(goal) {
                (3, goal)
            } else if whole(goal) {
                (4, goal)
            } else if !last && part(goal) {
                (5, goal)
            } else if whole(limit) || (!last && part(limit)) {
                (6, limit)
            } else if pressed && whole(share.budget) {
                (7, share.budget)
            } else if last && whole(share.budget.max(load) + freed) {
                (8, share.budget.max(load) + freed)
            } else if pressed && part(share.budget) {
                (9, share.budget)
            } else {
                return None;
            };
            let fit = match (cap - load).checked_sub(need) {
                Some(left) if class < 7 => (left, Reverse(0)),
                _ => (
                    u64::MAX,
                    Reverse((share.target + freed).saturating_sub(load)),
                ),
            };
            Some(Offer {
                blind,
                class,
                roles,
                fit,
                helper,
                cap,
            })
        };
        let Some(best) = tree.kids_of(stream.root).filter_map(offer).min() else {
            return false;
        };
        let mut moved = false;
        for &(_, kid) in list.iter().filter(|&&(_, kid)| kid != best.helper) {
            if self.load(from) <= goal {
                break;
            }
            moved |= self.shift(id, kid, best.helper, best.cap);
        }
        moved
    }

    /// What a node sends of its own streams and could hand over: all but one copy of each.
    fn load_of_own(&self, node: NodeId) -> u64 {
        let own = self.own.get(&node).into_iter().flatten();
        own.map(|&id| {
            let leaves = self.leaves(id, node);
            leaves.iter().skip(1).map(|&(bill, _)| bill).sum::<u64>()
        })
        .sum()
    }

    fn may_help(&self, stream: &Stream, node: NodeId) -> bool {
        !self.room.is_relay(node)
            && !self.room.avoided(stream.root, node)
            && self
                .room
                .nodes
                .get(&node)
                .is_some_and(|node| node.facts.forwards && node.facts.slots > 0)
    }

    /// Move a whole list, or nothing.
    fn move_all(&mut self, id: StreamId, list: &[(u64, NodeId)], from: NodeId, to: NodeId) -> bool {
        let cap = self.share(to).goal();
        for (at, &(_, kid)) in list.iter().enumerate() {
            if !self.shift(id, kid, to, cap) {
                for &(_, kid) in list.iter().take(at) {
                    self.shift(id, kid, from, u64::MAX);
                }
                return false;
            }
        }
        true
    }

    /// Where a root has uplink to spare, fewer hops: its receivers come back, those of the smallest helpers first.
    fn take_back(&mut self) {
        for (&id, stream) in &self.room.streams {
            let tree = self.shape.tree(id);
            let mut helpers: Vec<(usize, NodeId)> = tree
                .kids_of(stream.root)
                .filter(|&kid| !self.room.is_relay(kid) && !tree.is_leaf(kid))
                .map(|kid| (tree.kids_of(kid).count(), kid))
                .collect();
            helpers.sort_unstable();
            for (_, helper) in helpers {
                self.give_back(id, helper, 0);
            }
        }
    }
}

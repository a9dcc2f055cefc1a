//! New parents for those who lost theirs.
//!
//! Whoever goes takes one slot with it and leaves c children. c edges are the least; they suffice where the children fit
//! into free slots at the level of whoever went and above, the slot it leaves and the free slots of the strongest child
//! counted in. Where they do not, a strong node without children takes the place with all of them: c + 1 edges and nobody
//! stands deeper. Subtrees move whole. What a slot's level allows needs no subtree heights: nobody is put deeper unless
//! nothing else is left, and only then are heights reckoned.

use super::grow::Look;
use super::index::{Bag, RANKS};
use super::nodes::{NONE, Nodes};
use super::tree::{AWAY, RELAY, SPARE, Tree};
use crate::Reason;

/// A subtree of at most this many nodes may be lifted while a single node's going is answered.
const LIFT: u32 = 32;
/// And each of the others of at most this many.
const LIGHT: u32 = 4;

/// Who lost what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    /// Whose slot became free; `NONE` if there is none to hand on.
    pub above: u32,
    /// The level of whoever fed them.
    pub level: u8,
}

impl Tree {
    /// Take a node's children off it.
    pub fn orphan(&mut self, node: u32, reason: Reason, make_before_break: bool) -> Vec<u32> {
        let orphans: Vec<u32> = self.children(node).collect();
        for &child in &orphans {
            self.note(child, reason, make_before_break);
            self.unlink(child);
        }
        orphans
    }

    /// Take a node out of the tree and the books; returns its children and what they lost.
    pub fn depart(&mut self, node: u32, reason: Reason, polite: bool) -> (Vec<u32>, Loss) {
        let place = *self.place(node);
        self.note(node, Reason::Ended, polite);
        if place.parent != NONE {
            self.unlink(node);
        }
        let orphans = self.orphan(node, reason, polite);
        if place.is(SPARE) {
            self.set_spare(node, false);
        } else {
            self.lapse(node);
        }
        self.erase(node);
        let loss = Loss {
            // A relay's children stand where the root's do: none of them can take its place.
            above: if place.is(RELAY) { NONE } else { place.parent },
            level: place.level,
        };
        (orphans, loss)
    }

    /// Give the orphans of one loss new parents.
    pub fn rehome(&mut self, nodes: &Nodes, loss: Loss, mut orphans: Vec<u32>) {
        if orphans.is_empty() {
            return;
        }
        // The strongest first; among equals the one that came last, which stands first in the list.
        orphans.sort_by_key(|&orphan| std::cmp::Reverse(self.place(orphan).free()));
        let above = self.opening(loss);
        let light: Vec<bool> = orphans
            .iter()
            .map(|&orphan| self.is_light(orphan))
            .collect();
        let heir = above.and_then(|above| self.heir(nodes, above, &orphans));
        let count = orphans.len() as u32;
        let lent = heir.map_or(0, |heir| u32::from(self.place(heir).free()));
        let taken = u32::from(heir.is_some());
        let heavy = light.iter().filter(|light| !**light).count() as u32;
        let level_free = self.free[usize::from(loss.level.min(self.depth))];
        let given = u32::from(heir.is_some() && above.is_some_and(|above| self.is_open(above)));
        let fits = count - taken <= self.free_upto(loss.level) + lent - given
            && heavy <= level_free + lent + taken;
        let mut heir = heir;
        let mut left = Vec::new();
        if !fits && let Some(above) = above {
            // Somebody for all of them; else for as many as there is somebody for, if that is more than the heir takes.
            let stand_in = self
                .stand_in(nodes, above, loss.level, &orphans, count as u16)
                .or_else(|| {
                    let (inner, children) = self.recall(nodes, above, loss.level, &orphans)?;
                    left = children;
                    Some(inner)
                })
                .or_else(|| {
                    let fewer = (lent.max(1)..count).rev();
                    fewer.into_iter().find_map(|some| {
                        self.stand_in(nodes, above, loss.level, &orphans, some as u16)
                    })
                });
            if let Some(spare) = stand_in {
                if self.place(spare).parent != NONE {
                    self.note(spare, Reason::Capacity, true);
                    self.unlink(spare);
                }
                self.link(above, spare);
                heir = Some(spare);
            } else if let Some(heir) = heir {
                self.link(above, heir);
            }
        } else if let (Some(above), Some(heir)) = (above, heir) {
            self.link(above, heir);
        }
        orphans.retain(|&orphan| Some(orphan) != heir);
        let mut rest = Vec::new();
        // Those that must keep their level first.
        orphans.sort_by_key(|&orphan| self.is_light(orphan));
        for orphan in orphans {
            let by_heir = heir.filter(|&heir| {
                self.place(heir).free() > 0
                    && self.place(heir).level < self.depth
                    && nodes.may(heir, orphan, false)
            });
            let parent = by_heir.or_else(|| {
                let upto = (1u32 << (loss.level + 1)) - 1;
                let levels = if self.is_light(orphan) {
                    upto
                } else {
                    1 << loss.level
                };
                self.free_slot(
                    nodes,
                    orphan,
                    levels & ((1 << self.depth) - 1),
                    Look::Down,
                    false,
                )
            });
            match parent {
                Some(parent) => self.link(parent, orphan),
                None => rest.push(orphan),
            }
        }
        self.rehome_hard(nodes, rest);
        if let Some(&child) = left.first() {
            let level = self.place(child).level - 1;
            self.rehome(nodes, Loss { above: NONE, level }, left);
        }
    }

    /// Where no strong node is without children, take one from the deepest level whose children have small subtrees, to stand in
    /// for whoever went; returns it adrift, and its children, who need others then.
    fn recall(
        &mut self,
        nodes: &Nodes,
        above: u32,
        level: u8,
        orphans: &[u32],
    ) -> Option<(u32, Vec<u32>)> {
        let deep = !((1u32 << (level + 1)) - 1);
        for region in 0..self.index.regions {
            for rank in orphans.len()..RANKS {
                let mask = self.index.masks(region).interior[rank] & deep;
                if mask == 0 {
                    continue;
                }
                let deepest = 31 - mask.leading_zeros() as u8;
                let found =
                    self.sample(Bag::Interior(region, deepest, rank as u8), |tree, node| {
                        usize::from(tree.place(node).cap) >= orphans.len()
                            && node != above
                            && nodes.may(above, node, false)
                            && orphans.iter().all(|&orphan| nodes.may(node, orphan, false))
                            && tree.children(node).all(|child| tree.is_light(child))
                    });
                if let Some(node) = found {
                    self.note(node, Reason::Capacity, true);
                    self.unlink(node);
                    return Some((node, self.orphan(node, Reason::Capacity, true)));
                }
            }
        }
        None
    }

    /// Whose slot can be handed on.
    fn opening(&self, loss: Loss) -> Option<u32> {
        let above = loss.above;
        (above != NONE
            && self.knows(above)
            && self.place(above).is_placed()
            && self.place(above).free() > 0)
            .then_some(above)
    }

    fn is_light(&self, orphan: u32) -> bool {
        let place = self.place(orphan);
        u32::from(place.used) < LIGHT
            && self
                .children(orphan)
                .all(|child| self.place(child).used == 0)
    }

    /// The orphan that takes the place of whoever went: the one with most free slots, if its subtree may be lifted.
    fn heir(&mut self, nodes: &Nodes, above: u32, orphans: &[u32]) -> Option<u32> {
        let mut tried = 0;
        for &orphan in orphans {
            if self.place(orphan).is(RELAY) || !nodes.may(above, orphan, false) {
                continue;
            }
            tried += 1;
            if self.extent(orphan, LIFT).is_some() {
                return Some(orphan);
            }
            if tried == 2 {
                break;
            }
        }
        None
    }

    /// The deepest node without children that can take so many of these orphans on and may stand below `above`.
    fn stand_in(
        &mut self,
        nodes: &Nodes,
        above: u32,
        level: u8,
        orphans: &[u32],
        count: u16,
    ) -> Option<u32> {
        let deep = !((1u32 << level) - 1);
        let fits = |tree: &Tree, node: u32| {
            let place = tree.place(node);
            place.used == 0
                && place.cap >= count
                && node != above
                && nodes.may(above, node, false)
                && orphans.iter().all(|&orphan| nodes.may(node, orphan, false))
        };
        for region in 0..self.index.regions {
            for rank in usize::from(count)..RANKS {
                let mask = self.index.masks(region).childless[rank] & deep;
                if mask != 0 {
                    let deepest = 31 - mask.leading_zeros() as u8;
                    let found = self.sample(Bag::Childless(region, deepest, rank as u8), fits);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        (0..self.index.regions).find_map(|region| {
            [false, true].into_iter().find_map(|strong| {
                self.sample(Bag::Spare(region, strong), |tree, node| {
                    tree.place(node).level >= level && fits(tree, node)
                })
            })
        })
    }

    /// Give orphans of many losses at once new parents: level by level from the top, the strongest first.
    pub fn rehome_many(&mut self, nodes: &Nodes, mut orphans: Vec<u32>) {
        orphans.sort_by_key(|&orphan| {
            let place = self.place(orphan);
            (place.used == 0, place.level, std::cmp::Reverse(place.cap))
        });
        self.rehome_hard(nodes, orphans);
    }

    /// Orphans for whom there is no cheap place: those with children first, because nobody else may be put below a
    /// subtree that hangs nowhere.
    fn rehome_hard(&mut self, nodes: &Nodes, orphans: Vec<u32>) {
        let mut queue = std::collections::VecDeque::new();
        let mut single = Vec::new();
        for orphan in orphans {
            if self.place(orphan).used > 0 {
                queue.push_back(orphan);
            } else {
                single.push(orphan);
            }
        }
        while let Some(orphan) = queue.pop_front() {
            if let Some(parent) = self.subtree_slot(nodes, orphan) {
                self.link(parent, orphan);
                continue;
            }
            for child in self.orphan(orphan, Reason::Capacity, true) {
                if self.place(child).used > 0 {
                    queue.push_back(child);
                } else {
                    single.push(child);
                }
            }
            single.push(orphan);
        }
        single.sort_by_key(|&orphan| std::cmp::Reverse(self.place(orphan).rank));
        let within = (1u32 << self.depth) - 1;
        for orphan in single {
            if self.place(orphan).is(RELAY) {
                self.shelve(orphan);
            } else if let Some(parent) = self.free_slot(nodes, orphan, within, Look::Up, false) {
                // One edge; whether it should stand higher is for later.
                self.link(parent, orphan);
            } else {
                self.settle(nodes, orphan);
            }
        }
    }

    /// A slot for an orphan with its whole subtree: no deeper than it stood; else a relay's; else deeper as far as its
    /// height allows.
    fn subtree_slot(&mut self, nodes: &Nodes, orphan: u32) -> Option<u32> {
        let place = *self.place(orphan);
        if place.is(RELAY) {
            return self.relay_slot(nodes, orphan);
        }
        let within = (1u32 << self.depth) - 1;
        let above = ((1u32 << place.level) - 1) & within;
        for lenient in [false, true] {
            if lenient && !nodes.avoids() {
                break;
            }
            if let Some(parent) = self.free_slot(nodes, orphan, above, Look::Up, lenient) {
                return Some(parent);
            }
            if let Some(relay) = self.paid_slot(nodes, orphan, lenient) {
                return Some(relay);
            }
        }
        if self.call_relay(nodes)
            && let Some(relay) = self.paid_slot(nodes, orphan, true)
        {
            return Some(relay);
        }
        let (_, height) = self.extent(orphan, u32::MAX)?;
        for level in place.level..self.depth.saturating_sub(height) {
            for region in 0..self.index.regions {
                let found = self.sample(Bag::Free(region, level), |tree, parent| {
                    nodes.may(parent, orphan, false) && !tree.is_below(parent, [orphan, NONE])
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Where a relay with children can go: the root, or a relay that is not below it.
    fn relay_slot(&mut self, nodes: &Nodes, relay: u32) -> Option<u32> {
        let root = self.root;
        if self.place(root).free() > 0 && nodes.may(root, relay, true) {
            return Some(root);
        }
        let found = self.sample(Bag::Paid, |tree, other| {
            nodes.may(other, relay, true) && !tree.is_below(other, [relay, NONE])
        });
        found.filter(|&found| self.place(found).level != AWAY)
    }

    /// A node has more children than slots: the lightest go.
    pub fn shed(&mut self, nodes: &Nodes, node: u32, reason: Reason) {
        let place = *self.place(node);
        if place.used <= place.cap {
            return;
        }
        let mut children: Vec<u32> = self.children(node).collect();
        children.sort_by_key(|&child| (self.place(child).is(RELAY), self.place(child).used));
        children.truncate(usize::from(place.used - place.cap));
        for &child in &children {
            self.note(child, reason, true);
            self.unlink(child);
        }
        let loss = Loss {
            above: NONE,
            level: place.level,
        };
        self.rehome(nodes, loss, children);
    }
}

//! Where a child goes by itself when its parent falls silent.
//!
//! Some nodes with slots and without children are kept as *hot spares*. Every receiver names one that stands neither below
//! it nor below its parent; a spare is named by some hundred, because they seldom need it together. Only its own slots are
//! lent, so nothing is taken away from anybody: most spares stand at the deepest level, where slots cannot be used for
//! anything else. For the moment between a failure and the planner's answer a subtree may therefore stand deeper than the
//! cap; the answer never leaves it there.
//!
//! A spare that goes is named by many. They are given new ones a few at a time, some in every call, so that no call costs
//! more for it; until then [`Tree::backup`] says that they have none.

use super::index::{Bag, RANKS};
use super::nodes::{NONE, Nodes};
use super::tree::{ADRIFT, HERE, RELAY, RENAMED, ROOT, SPARE, Tree, WARM};

/// Those of a lapsed spare that get new ones in one call.
const RENEW: usize = 16;
/// Names looked over in one call, whether they still hold.
const SWEEP: u32 = 2;
/// Links that a spare keeps warm for others.
const WARM_LINKS: u8 = 2;
/// One spare in so many is strong.
const STRONG_SHARE: u32 = 4;

impl Tree {
    fn spare_target(&self, nodes: &Nodes) -> u32 {
        let share = u64::from(self.receivers) * u64::from(nodes.options.spares) / 1000;
        if nodes.options.spares == 0 {
            0
        } else {
            share.max(2) as u32
        }
    }

    /// How many of them should be strong enough to stand in for anybody.
    pub fn strong_target(&self, nodes: &Nodes) -> u32 {
        self.spare_target(nodes) / STRONG_SHARE
    }

    /// Keep as many spares as the receivers need.
    pub fn keep_spares(&mut self, nodes: &Nodes) {
        let (target, strong) = (self.spare_target(nodes), self.strong_target(nodes));
        let mut tries = 2 + self.journal.len();
        while self.strong < strong && tries > 0 {
            tries -= 1;
            let ranks = (self.strength..RANKS as u8).rev();
            let Some(node) = self.spare_candidate(nodes, ranks) else {
                break;
            };
            self.set_spare(node, true);
        }
        while self.spares < target && tries > 0 {
            tries -= 1;
            // Those in the middle: more slots are better used nearer the root.
            let ranks = (4..self.strength)
                .chain((1..self.strength.min(4)).rev())
                .chain(self.strength..RANKS as u8);
            let Some(node) = self.spare_candidate(nodes, ranks) else {
                break;
            };
            self.set_spare(node, true);
        }
        while self.spares > target + target / 4 && tries > 0 {
            tries -= 1;
            let found = (0..self.index.regions)
                .find_map(|region| self.sample(Bag::Spare(region, false), |_, _| true));
            let Some(node) = found else {
                break;
            };
            self.set_spare(node, false);
        }
    }

    /// Somebody without children of the first of these ranks that anybody has, as deep as possible; those who
    /// have been here for a while first.
    fn spare_candidate(
        &mut self,
        nodes: &Nodes,
        ranks: impl Iterator<Item = u8> + Clone,
    ) -> Option<u32> {
        // Where people come and go, there spares are wanted.
        let busy = self
            .journal
            .last()
            .map_or(0, |touched| self.place(touched.child).region);
        for region in (0..self.index.regions).map(|step| (busy + step) % self.index.regions) {
            for rank in ranks.clone() {
                let mask = self.index.masks(region).childless[usize::from(rank)];
                if mask != 0 {
                    let level = 31 - mask.leading_zeros() as u8;
                    let bag = Bag::Childless(region, level, rank);
                    let settled = self.sample(bag, |tree, node| {
                        tree.place(node).cap > 0 && nodes.get(node).is_settled(nodes.now)
                    });
                    return settled
                        .or_else(|| self.sample(bag, |tree, node| tree.place(node).cap > 0));
                }
            }
        }
        None
    }

    /// Give names to whoever was moved by this call, to some of those whose spare lapsed, and look over some more.
    pub fn name_backups(&mut self, nodes: &Nodes) {
        for at in 0..self.journal.len() {
            let child = self.journal[at].child;
            self.name_backup(nodes, child);
        }
        let mut left = RENEW + self.journal.len();
        while let Some(&lapsed) = self.lapsed.last() {
            let child = self.place(lapsed).dependants;
            if child == NONE {
                self.lapsed.pop();
            } else if left == 0 {
                break;
            } else {
                left -= 1;
                self.name_backup(nodes, child);
            }
        }
        for _ in 0..SWEEP {
            if self.unnamed != NONE {
                self.name_backup(nodes, self.unnamed);
            }
            self.swept = if self.swept + 1 < self.len() {
                self.swept + 1
            } else {
                0
            };
            let place = self.place(self.swept);
            let named = place.backup != NONE;
            let wants_warm = place.used > 0 && !place.is(WARM);
            if named && (wants_warm || self.backup(self.swept).is_none()) {
                self.name_backup(nodes, self.swept);
            }
        }
    }

    /// Find a child a backup and put it on the list of that, or of those without one.
    fn name_backup(&mut self, nodes: &Nodes, child: u32) {
        self.touched += 1;
        let before = (self.place(child).backup, self.place(child).is(WARM));
        let place = *self.place(child);
        let needs = place.is(HERE) && !place.is(ROOT | RELAY) && place.parent != NONE;
        let kept = self
            .backup(child)
            .filter(|&spare| needs && nodes.may(spare, child, false));
        self.drop_backup(child);
        if needs {
            let spare = kept.or_else(|| self.find_backup(nodes, child));
            self.list(spare.unwrap_or(NONE), child);
        }
        let place = self.place_mut(child);
        if before != (place.backup, place.is(WARM)) && !place.is(RENAMED) {
            place.flags |= RENAMED;
            self.renamed.push(child);
        }
    }

    fn find_backup(&mut self, nodes: &Nodes, child: u32) -> Option<u32> {
        let place = *self.place(child);
        let above = self.excluded(child);
        for step in 0..self.index.regions {
            let region = (place.region + step) % self.index.regions;
            // Both kinds are named as often, so that nobody is named by many more than others.
            let strong =
                (self.turn.wrapping_mul(0x85eb_ca6b) >> 8) % self.spares.max(1) < self.strong;
            for strong in [strong, !strong] {
                let found = self.sample(Bag::Spare(region, strong), |tree, spare| {
                    nodes.may(spare, child, false) && !tree.is_below(spare, [child, above])
                });
                if found.is_some() {
                    return found;
                }
            }
        }
        self.sample(Bag::Paid, |tree, relay| {
            nodes.may(relay, child, false) && !tree.is_below(relay, [child, above])
        })
    }

    /// Whose subtree is no help to this child: its parent's, unless that is the root, with whom everything ends.
    fn excluded(&self, child: u32) -> u32 {
        let parent = self.place(child).parent;
        if parent == self.root { NONE } else { parent }
    }

    /// Where a child would go, if that is still a spare and stands where it should.
    pub fn backup(&self, child: u32) -> Option<u32> {
        let spare = self.place(child).backup;
        if spare == NONE || self.place(child).parent == NONE {
            return None;
        }
        let place = self.place(spare);
        let lends =
            place.is(SPARE | RELAY) && place.is_placed() && place.free() > 0 && !place.is(ADRIFT);
        (lends && !self.is_below(spare, [child, self.excluded(child)])).then_some(spare)
    }

    /// Forget a name that does not hold, so that the next one is told of even if it is the same.
    pub fn unname(&mut self, child: u32) {
        if self.place(child).backup != NONE {
            self.drop_backup(child);
            self.list(NONE, child);
        }
    }

    fn list(&mut self, spare: u32, child: u32) {
        let head = if spare == NONE {
            self.unnamed
        } else {
            self.place(spare).dependants
        };
        if head != NONE {
            self.place_mut(head).backup_prev = child;
        }
        let place = self.place_mut(child);
        (place.backup, place.backup_next, place.backup_prev) = (spare, head, NONE);
        let inner = place.used > 0;
        if spare == NONE {
            self.unnamed = child;
            return;
        }
        let relay = self.place(spare).is(RELAY);
        self.place_mut(spare).dependants = child;
        if inner && (relay || self.place(spare).warm < WARM_LINKS) {
            self.place_mut(spare).warm += u8::from(!relay);
            self.place_mut(child).flags |= WARM;
        }
    }

    /// Take a child off whatever list it is on.
    pub fn drop_backup(&mut self, child: u32) {
        let place = *self.place(child);
        let spare = place.backup;
        let listed = spare != NONE || place.backup_prev != NONE || self.unnamed == child;
        if !listed {
            return;
        }
        if place.backup_prev != NONE {
            self.place_mut(place.backup_prev).backup_next = place.backup_next;
        } else if spare == NONE {
            self.unnamed = place.backup_next;
        } else {
            self.place_mut(spare).dependants = place.backup_next;
        }
        if place.backup_next != NONE {
            self.place_mut(place.backup_next).backup_prev = place.backup_prev;
        }
        if place.is(WARM) && spare != NONE && !self.place(spare).is(RELAY) {
            let warm = &mut self.place_mut(spare).warm;
            *warm = warm.saturating_sub(1);
        }
        let place = self.place_mut(child);
        (place.backup, place.backup_next, place.backup_prev) = (NONE, NONE, NONE);
        place.flags &= !WARM;
    }

    /// A node lends its slots no longer: whoever named it gets another, a few in every call.
    pub fn lapse(&mut self, node: u32) {
        if self.place(node).dependants != NONE {
            self.lapsed.push(node);
        }
    }
}

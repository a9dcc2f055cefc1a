//! One tree as it stands: who hangs on whom, who is filed where, and what a call has changed so far.
//!
//! A placement is 52 bytes and lies in one cache line: operations jump from node to node, so the fields of one node belong
//! together. Links between siblings, bag positions and lists of dependants are intrusive; nothing is allocated per node.

use super::index::{Bag, Index, LEVELS, RANKS};
use super::nodes::NONE;
use crate::{Millis, Reason};

/// Level of whoever has no way to the root.
pub(super) const AWAY: u8 = u8::MAX;

/// Receives, sends or relays this stream.
pub(super) const HERE: u16 = 1;
pub(super) const ROOT: u16 = 2;
pub(super) const RELAY: u16 = 4;
/// A hot spare: gets no children of its own but by failures.
pub(super) const SPARE: u16 = 8;
/// Has said that it has the stream.
pub(super) const READY: u16 = 16;
/// Changed during this call.
const DIRTY: u16 = 32;
/// Taken out of its place, with its subtree; filed nowhere until it is hung up again.
pub(super) const ADRIFT: u16 = 64;
/// Helps without watching.
pub(super) const HELPER: u16 = 128;
/// Its backup is to be connected ahead.
pub(super) const WARM: u16 = 256;
/// One of the strongest spares: able to stand in for anybody.
pub(super) const STRONG: u16 = 1024;
/// Its backup has changed since it was last told.
pub(super) const RENAMED: u16 = 512;

/// Wants no layer at all.
pub(super) const SOUND: u8 = u8::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub parent: u32,
    pub first: u32,
    pub next: u32,
    prev: u32,
    slot_at: u32,
    rank_at: u32,
    /// The spare it would go to, and its neighbours in that spare's list.
    pub backup: u32,
    pub backup_next: u32,
    pub backup_prev: u32,
    /// Head of the list of those that would come here.
    pub dependants: u32,
    pub cap: u16,
    pub used: u16,
    pub level: u8,
    pub rank: u8,
    pub region: u8,
    /// Links that are kept warm to it.
    pub warm: u8,
    /// The highest layer that it shows; [`SOUND`] for none.
    pub want: u8,
    pub flags: u16,
}

impl Place {
    const EMPTY: Place = Place {
        parent: NONE,
        first: NONE,
        next: NONE,
        prev: NONE,
        slot_at: NONE,
        rank_at: NONE,
        backup: NONE,
        backup_next: NONE,
        backup_prev: NONE,
        dependants: NONE,
        cap: 0,
        used: 0,
        level: AWAY,
        rank: 0,
        flags: 0,
        region: 0,
        warm: 0,
        want: SOUND - 1,
    };

    pub fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn free(&self) -> u16 {
        self.cap.saturating_sub(self.used)
    }

    pub fn is_placed(&self) -> bool {
        self.level != AWAY && !self.is(ADRIFT)
    }
}

/// One edge that a call has changed, as it was before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Touched {
    pub child: u32,
    pub old: u32,
    /// Level before; `AWAY` if it had no parent.
    pub level: u8,
    pub reason: Reason,
    pub make_before_break: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    places: Vec<Place>,
    pub index: Index,
    /// The stream's number.
    pub stream: u32,
    pub root: u32,
    /// Bit/s of one edge.
    pub rate: u32,
    pub depth: u8,
    /// Receivers by the slots they bring.
    pub caps: [u32; RANKS],
    pub receivers: u32,
    /// Free slots by level, those of spares and relays left out.
    pub free: [u32; LEVELS],
    /// Receivers and helpers by level, spares left out.
    pub population: [u32; LEVELS],
    /// Receivers and helpers that hang on relays.
    pub paid: u32,
    /// How many of those there should be: what the bound asks for beyond the root's own slots.
    pub allowance: u32,
    /// Receivers that came, went or changed what they offer since that was reckoned.
    pub drift: u32,
    /// Relays and helpers that lost their last child during this call.
    pub bare: Vec<u32>,
    pub journal: Vec<Touched>,
    /// Nodes written or looked at by this call.
    pub touched: u32,
    /// Turns the samples round.
    pub turn: u32,
    /// Head of the list of those that have no backup though they should.
    pub unnamed: u32,
    pub spares: u32,
    /// Those of them that are strong.
    pub strong: u32,
    /// The rank that is strong: one receiver in 64 has it, or more.
    pub strength: u8,
    /// Whoever is no backup any more but is still named as one.
    pub lapsed: Vec<u32>,
    /// Whose backup changed since that was last asked for.
    pub renamed: Vec<u32>,
    /// Where the sweep over the backups stands.
    pub swept: u32,
    /// Thousandths of an edge that re-balancing may still change.
    pub budget: u64,
    /// Receivers that came or went since that was last added to.
    pub earned: u32,
    /// Relay slots asked for, and since when fewer would do.
    pub wanted: u32,
    pub slack_since: Option<Millis>,
}

impl Tree {
    pub fn new(stream: u32, root: u32, rate: u32, depth: u8) -> Self {
        Tree {
            places: Vec::new(),
            index: Index::new(),
            stream,
            root,
            rate,
            depth,
            caps: [0; RANKS],
            receivers: 0,
            free: [0; LEVELS],
            population: [0; LEVELS],
            paid: 0,
            allowance: 0,
            drift: 0,
            bare: Vec::new(),
            journal: Vec::new(),
            touched: 0,
            turn: 0,
            unnamed: NONE,
            spares: 0,
            strong: 0,
            strength: 1,
            lapsed: Vec::new(),
            renamed: Vec::new(),
            swept: 0,
            budget: 0,
            earned: 0,
            wanted: 0,
            slack_since: None,
        }
    }

    pub fn place(&self, node: u32) -> &Place {
        &self.places[node as usize]
    }

    pub fn place_mut(&mut self, node: u32) -> &mut Place {
        &mut self.places[node as usize]
    }

    /// Is this node in this tree's books at all?
    pub fn knows(&self, node: u32) -> bool {
        self.places
            .get(node as usize)
            .is_some_and(|place| place.is(HERE))
    }

    /// Does anybody name this node as a backup?
    pub fn is_named(&self, node: u32) -> bool {
        self.places
            .get(node as usize)
            .is_some_and(|place| place.dependants != NONE)
    }

    pub fn len(&self) -> u32 {
        self.places.len() as u32
    }

    /// Take a node into the books, without a place.
    pub fn enter(&mut self, node: u32, flags: u16, region: u8, cap: u16, rank: u8) {
        if self.places.len() <= node as usize {
            self.places.resize(node as usize + 1, Place::EMPTY);
        }
        self.places[node as usize] = Place {
            flags: flags | HERE | (self.places[node as usize].flags & (DIRTY | RENAMED)),
            dependants: self.places[node as usize].dependants,
            region,
            cap,
            rank,
            level: if flags & ROOT != 0 { 0 } else { AWAY },
            ..Place::EMPTY
        };
        if flags & (ROOT | RELAY | HELPER) == 0 {
            self.receivers += 1;
            self.drift += 1;
            self.earned += 1;
            self.caps[usize::from(cap.min(16))] += 1;
        }
        self.file(node);
    }

    /// Take a node without edges out of the books.
    pub fn erase(&mut self, node: u32) {
        self.unfile(node);
        let place = self.places[node as usize];
        debug_assert!(place.used == 0 && place.parent == NONE);
        if !place.is(ROOT | RELAY | HELPER) {
            self.receivers -= 1;
            self.drift += 1;
            self.earned += 1;
            self.caps[usize::from(place.cap.min(16))] -= 1;
        }
        self.drop_backup(node);
        self.places[node as usize] = Place {
            flags: place.flags & (DIRTY | RENAMED),
            dependants: self.places[node as usize].dependants,
            ..Place::EMPTY
        };
    }

    /// Change what a node offers. It may be left with more children than slots.
    pub fn offer(&mut self, node: u32, cap: u16, rank: u8, region: u8) {
        let place = self.places[node as usize];
        if (place.cap, place.rank, place.region) == (cap, rank, region) {
            return;
        }
        self.unfile(node);
        self.drift += 1;
        if (place.cap == 0) != (cap == 0) && place.parent != NONE {
            // Who may have children gets every layer, who may not the one that it shows.
            self.note(node, Reason::Layers, true);
        }
        if !place.is(ROOT | RELAY | HELPER) {
            self.caps[usize::from(place.cap.min(16))] -= 1;
            self.caps[usize::from(cap.min(16))] += 1;
        }
        let place = &mut self.places[node as usize];
        (place.cap, place.rank, place.region) = (cap, rank, region);
        self.file(node);
    }

    /// Make a childless node a hot spare, or an ordinary one again.
    pub fn set_spare(&mut self, node: u32, on: bool) {
        let place = self.places[node as usize];
        if place.is(SPARE) == on {
            return;
        }
        let strong = if on {
            place.rank >= self.strength
        } else {
            place.is(STRONG)
        };
        self.unfile(node);
        self.places[node as usize].flags ^= SPARE | if strong { STRONG } else { 0 };
        self.file(node);
        if on {
            self.spares += 1;
            self.strong += u32::from(strong);
        } else {
            self.spares -= 1;
            self.strong -= u32::from(strong);
            self.lapse(node);
        }
    }

    /// Change what decides where a node is filed.
    pub fn refile(&mut self, node: u32, change: impl FnOnce(&mut Place)) {
        self.unfile(node);
        change(&mut self.places[node as usize]);
        self.file(node);
    }

    fn slot_bag(&self, place: &Place) -> Option<Bag> {
        if place.flags & HERE == 0 || place.is(ADRIFT) {
            return None;
        }
        if place.level == AWAY {
            return match place.flags & (RELAY | HELPER) {
                0 => Some(Bag::Waiting(place.rank)),
                RELAY => Some(Bag::Idle),
                _ => Some(Bag::Standby),
            };
        }
        if place.free() == 0 {
            return None;
        }
        if place.is(RELAY) {
            Some(Bag::Paid)
        } else if place.is(SPARE) {
            Some(Bag::Spare(place.region, place.is(STRONG)))
        } else if place.level < self.depth {
            Some(Bag::Free(place.region, place.level))
        } else {
            None
        }
    }

    fn rank_bag(place: &Place) -> Option<Bag> {
        let hidden = place.flags & HERE == 0 || place.flags & (ROOT | RELAY | SPARE | ADRIFT) != 0;
        if hidden || place.level == AWAY {
            None
        } else if place.used == 0 {
            Some(Bag::Childless(place.region, place.level, place.rank))
        } else {
            Some(Bag::Interior(place.region, place.level, place.rank))
        }
    }

    fn file(&mut self, node: u32) {
        self.touched += 1;
        let place = self.places[node as usize];
        if let Some(bag) = self.slot_bag(&place) {
            self.places[node as usize].slot_at = self.index.insert(bag, node);
            if let Bag::Free(_, level) = bag {
                self.free[usize::from(level)] += u32::from(place.free());
            }
        }
        if let Some(bag) = Self::rank_bag(&place) {
            self.places[node as usize].rank_at = self.index.insert(bag, node);
            self.population[usize::from(place.level)] += 1;
        }
    }

    fn unfile(&mut self, node: u32) {
        let place = self.places[node as usize];
        if place.slot_at != NONE
            && let Some(bag) = self.slot_bag(&place)
        {
            if let Some(moved) = self.index.remove(bag, place.slot_at) {
                self.places[moved as usize].slot_at = place.slot_at;
            }
            if let Bag::Free(_, level) = bag {
                self.free[usize::from(level)] -= u32::from(place.free());
            }
            self.places[node as usize].slot_at = NONE;
        }
        if place.rank_at != NONE
            && let Some(bag) = Self::rank_bag(&place)
        {
            if let Some(moved) = self.index.remove(bag, place.rank_at) {
                self.places[moved as usize].rank_at = place.rank_at;
            }
            self.places[node as usize].rank_at = NONE;
            self.population[usize::from(place.level)] -= 1;
        }
    }

    /// Note what an edge was before this call touched it; the first reason given is the one that is told.
    pub fn note(&mut self, child: u32, reason: Reason, make_before_break: bool) {
        let place = &mut self.places[child as usize];
        if place.is(DIRTY) {
            return;
        }
        place.flags |= DIRTY;
        let (old, level) = (place.parent, place.level);
        self.journal.push(Touched {
            child,
            old,
            level,
            reason,
            make_before_break,
        });
    }

    /// The journal of this call; nobody is dirty afterwards.
    pub fn take_journal(&mut self) -> Vec<Touched> {
        for entry in &self.journal {
            self.places[entry.child as usize].flags &= !DIRTY;
        }
        std::mem::take(&mut self.journal)
    }

    /// Take a node with its subtree off its parent.
    pub fn unlink(&mut self, child: u32) {
        let place = self.places[child as usize];
        debug_assert!(place.parent != NONE);
        self.unfile(child);
        let parent = place.parent;
        self.unfile(parent);
        if place.prev == NONE {
            self.places[parent as usize].first = place.next;
        } else {
            self.places[place.prev as usize].next = place.next;
        }
        if place.next != NONE {
            self.places[place.next as usize].prev = place.prev;
        }
        self.places[parent as usize].used -= 1;
        self.file(parent);
        let peer = !place.is(RELAY);
        if self.places[parent as usize].is(RELAY) && peer {
            self.paid -= 1;
        }
        if self.places[parent as usize].is(RELAY | HELPER) && self.places[parent as usize].used == 0
        {
            self.bare.push(parent);
        }
        let place = &mut self.places[child as usize];
        (place.parent, place.next, place.prev) = (NONE, NONE, NONE);
        place.flags |= ADRIFT;
    }

    /// Hang a node without parent, with its subtree, on a placed one.
    pub fn link(&mut self, parent: u32, child: u32) {
        let above = self.places[parent as usize];
        debug_assert!(above.is_placed() && self.places[child as usize].parent == NONE);
        if above.is(SPARE) {
            // Whoever has children of its own is no spare any more.
            self.set_spare(parent, false);
        }
        self.unfile(child);
        self.unfile(parent);
        let first = above.first;
        if first != NONE {
            self.places[first as usize].prev = child;
        }
        let place = &mut self.places[child as usize];
        (place.parent, place.next, place.prev) = (parent, first, NONE);
        place.flags &= !ADRIFT;
        let relay = place.is(RELAY);
        let level = if relay { 0 } else { above.level + 1 };
        let before = place.level;
        place.level = level;
        let inner = place.used > 0;
        let place = &mut self.places[parent as usize];
        (place.first, place.used) = (child, place.used + 1);
        self.file(parent);
        self.file(child);
        if above.is(RELAY) && !relay {
            self.paid += 1;
        }
        if inner && before != level {
            self.relevel(child);
        }
    }

    /// Give everybody below a node the level that follows from its own.
    fn relevel(&mut self, top: u32) {
        let mut at = top;
        loop {
            at = self.after(top, at, true);
            if at == NONE {
                return;
            }
            let level = self.places[self.places[at as usize].parent as usize].level + 1;
            self.unfile(at);
            self.places[at as usize].level = level;
            self.file(at);
        }
    }

    /// The next node below `top` in depth-first order; with `down` false the children of `at` are left out.
    pub fn after(&self, top: u32, at: u32, down: bool) -> u32 {
        let first = self.places[at as usize].first;
        if down && first != NONE {
            return first;
        }
        let mut at = at;
        while at != top {
            let place = &self.places[at as usize];
            if place.next != NONE {
                return place.next;
            }
            at = place.parent;
        }
        NONE
    }

    /// Nodes in a subtree and the levels below its top, if there are at most `most` nodes.
    pub fn extent(&mut self, top: u32, most: u32) -> Option<(u32, u8)> {
        let base = self.places[top as usize].level;
        let (mut count, mut height, mut at) = (1, 0, top);
        loop {
            at = self.after(top, at, true);
            if at == NONE {
                self.touched += count;
                return Some((count, height));
            }
            count += 1;
            height = height.max(self.places[at as usize].level - base);
            if count > most {
                self.touched += count;
                return None;
            }
        }
    }

    pub fn children(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.places[node as usize].first;
        std::iter::successors((first != NONE).then_some(first), |&at| {
            let next = self.places[at as usize].next;
            (next != NONE).then_some(next)
        })
    }

    /// Does the way from a node up to the root pass one of these? Also true if it ends elsewhere than at the root.
    pub fn is_below(&self, node: u32, above: [u32; 2]) -> bool {
        let mut at = node;
        loop {
            if above.contains(&at) {
                return true;
            }
            let place = &self.places[at as usize];
            if place.parent == NONE {
                return !place.is(ROOT);
            }
            at = place.parent;
        }
    }

    /// Hops between the root and the relay that a node is, 0 for whoever is none.
    pub fn hops_to_relays(&self, node: u32) -> u8 {
        let mut hops: u8 = 0;
        let mut at = node;
        while self.places[at as usize].is(RELAY) && self.places[at as usize].parent != NONE {
            hops = hops.saturating_add(1);
            at = self.places[at as usize].parent;
        }
        hops
    }

    /// All edges, (child, parent), by index.
    pub fn edges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, place)| place.parent != NONE)
            .map(|(child, place)| (child, place.parent))
    }

    /// Free slots that peers and the root have at a level and above.
    pub fn free_upto(&self, level: u8) -> u32 {
        self.free[..=usize::from(level).min(LEVELS - 1)]
            .iter()
            .sum()
    }

    /// Are this placed node's slots filed as free?
    pub fn is_open(&self, node: u32) -> bool {
        matches!(self.slot_bag(self.place(node)), Some(Bag::Free(..)))
    }

    /// Panics if a node is not filed where it belongs, or is filed where it does not.
    pub fn check_filing(&self, node: u32) {
        let place = self.place(node);
        let filed = |bag: Option<Bag>, at: u32| match bag {
            Some(bag) => self.index.bag(bag).get(at as usize) == Some(&node),
            None => at == NONE,
        };
        assert!(
            filed(self.slot_bag(place), place.slot_at),
            "slots of {node}"
        );
        assert!(
            filed(Self::rank_bag(place), place.rank_at),
            "rank of {node}"
        );
    }
}

//! Finding a place: the shallowest free slot, or the place of somebody weaker who has no children.
//!
//! O(regions x ranks) mask scans and at most [`SAMPLES`] candidates per bag; one edge, or two where somebody steps down.

use super::index::{Bag, RANKS};
use super::nodes::{NONE, Nodes};
use super::tree::{ADRIFT, AWAY, HELPER, RELAY, Tree};
use crate::Reason;

/// Candidates looked at in one bag: with a fifth of all pairs barred all of them fail once in 400,000 times.
const SAMPLES: usize = 8;

/// One slot in so many is kept free on every level, for those whose parent goes: without it every departure from a full
/// level would cost an edge more. It costs a receiver in so many one level.
const KEPT: u32 = 128;

/// A place that could be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    /// Level of the place, and then the cost of the last hop: smaller is better.
    cost: u32,
    level: u8,
    who: u32,
}

/// Which of several levels to look at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The shallowest.
    Up,
    /// The deepest.
    Down,
}

impl Tree {
    /// Some node of a bag that `fits`, starting at a different one each time.
    pub fn sample(&mut self, bag: Bag, mut fits: impl FnMut(&Tree, u32) -> bool) -> Option<u32> {
        self.turn = self.turn.wrapping_add(1);
        let list = self.index.bag(bag);
        let len = list.len();
        if len == 0 {
            return None;
        }
        let start = (self.turn.wrapping_mul(0x9e37_79b9) >> 8) as usize % len;
        let mut found = None;
        let mut seen = 0;
        for step in 0..len.min(SAMPLES) {
            seen += 1;
            let at = start + step;
            let node = list[if at < len { at } else { at - len }];
            if fits(self, node) {
                found = Some(node);
                break;
            }
        }
        self.touched += seen;
        found
    }

    /// A node with a free slot on one of the levels of a mask that may feed `child`; `child` and what hangs on it must
    /// stand deeper than those levels, or be filed nowhere.
    pub fn free_slot(
        &mut self,
        nodes: &Nodes,
        child: u32,
        levels: u32,
        look: Look,
        lenient: bool,
    ) -> Option<u32> {
        let region = self.place(child).region;
        let mut best: Option<(u32, u8, u32)> = None;
        for from in 0..self.index.regions {
            let mut mask = self.index.masks(from).free & levels;
            while mask != 0 {
                let level = match look {
                    Look::Up => mask.trailing_zeros(),
                    Look::Down => 31 - mask.leading_zeros(),
                } as u8;
                mask &= !(1 << level);
                let hops = match look {
                    Look::Up => u32::from(level),
                    Look::Down => 31 - u32::from(level),
                };
                let cost = hops * nodes.hop(region, region) + nodes.hop(from, region);
                if best.is_some_and(|(least, ..)| least <= cost) {
                    break;
                }
                let bag = Bag::Free(from, level);
                if let Some(parent) =
                    self.sample(bag, |_, parent| nodes.may(parent, child, lenient))
                {
                    best = Some((cost, level, parent));
                    break;
                }
            }
        }
        best.map(|(.., parent)| parent)
    }

    /// A relay in the tree with a free slot that may feed this child, the nearest region first.
    pub fn paid_slot(&mut self, nodes: &Nodes, child: u32, lenient: bool) -> Option<u32> {
        let region = self.place(child).region;
        let list = self.index.bag(Bag::Paid);
        let looked_at = list.len().min(2 * SAMPLES);
        self.turn = self.turn.wrapping_add(1);
        let start = if looked_at < list.len() {
            self.turn as usize % list.len()
        } else {
            0
        };
        let near = list[start..]
            .iter()
            .chain(&list[..start])
            .copied()
            .take(looked_at)
            .filter(|&relay| nodes.may(relay, child, lenient))
            .min_by_key(|&relay| (nodes.hop(self.place(relay).region, region), relay));
        self.touched += looked_at as u32;
        near
    }

    fn cost(&self, nodes: &Nodes, parent: u32, child: u32) -> u32 {
        let (above, below) = (self.place(parent), self.place(child));
        u32::from(above.level) * nodes.hop(below.region, below.region)
            + nodes.hop(above.region, below.region)
    }

    /// A childless node of a lower rank that could step down below `node`.
    fn weaker(&mut self, nodes: &Nodes, node: u32, lenient: bool) -> Option<Offer> {
        let place = *self.place(node);
        let levels = (1u32 << self.depth) - 1;
        let mut best: Option<Offer> = None;
        for region in 0..self.index.regions {
            let mut lowest = u32::from(self.depth);
            for rank in 0..place.rank {
                let mask = self.index.masks(region).childless[usize::from(rank)] & levels;
                let level = mask.trailing_zeros();
                if mask == 0 || level >= lowest {
                    continue;
                }
                let found =
                    self.sample(Bag::Childless(region, level as u8, rank), |tree, other| {
                        other != node
                            && nodes.may(node, other, lenient)
                            && nodes.may(tree.place(other).parent, node, lenient)
                    });
                if let Some(who) = found {
                    lowest = level;
                    let cost = self.cost(nodes, self.place(who).parent, node);
                    if best.is_none_or(|offer| cost < offer.cost) {
                        best = Some(Offer {
                            cost,
                            level: level as u8,
                            who,
                        });
                    }
                }
            }
        }
        best
    }

    /// Give a node without children a place. False: there is none, it waits.
    pub fn settle(&mut self, nodes: &Nodes, node: u32) -> bool {
        if self.paid < self.allowance && self.index.bag(Bag::Paid).is_empty() {
            self.call_relay(nodes);
        }
        let mut done = self.try_settle(nodes, node, false)
            || (nodes.avoids() && self.try_settle(nodes, node, true));
        if !done && (self.call_relay(nodes) || self.call_helper(nodes)) {
            done = self.try_settle(nodes, node, true);
        }
        if !done {
            self.shelve(node);
        }
        done
    }

    fn try_settle(&mut self, nodes: &Nodes, node: u32, lenient: bool) -> bool {
        let levels = self.open_levels(self.depth);
        let mut open = self.free_slot(nodes, node, levels, Look::Up, lenient);
        if self.paid < self.allowance
            && let Some(relay) = self.paid_slot(nodes, node, lenient)
        {
            let nearer = |parent| self.cost(nodes, relay, node) < self.cost(nodes, parent, node);
            if open.is_none_or(nearer) {
                open = Some(relay);
            }
        }
        let open_cost = open.map(|parent| self.cost(nodes, parent, node));
        let reserved =
            self.place(node).rank >= self.strength && self.strong < self.strong_target(nodes);
        if self.place(node).cap > 0
            && !(reserved && open.is_some())
            && let Some(offer) = self.weaker(nodes, node, lenient)
            && open_cost.is_none_or(|cost| offer.cost < cost)
        {
            self.displace(offer.who, node);
            return true;
        }
        if let Some(parent) = open {
            self.link(parent, node);
            return true;
        }
        let kept = self.free_slot(nodes, node, (1 << self.depth) - 1, Look::Down, lenient);
        let borrowed = kept.or_else(|| self.paid_slot(nodes, node, lenient));
        let last = borrowed.or_else(|| self.spare_slot(nodes, node, lenient));
        if let Some(parent) = last {
            self.link(parent, node);
        }
        last.is_some()
    }

    /// `node` takes the place of the childless `other`, which becomes its child.
    pub fn displace(&mut self, other: u32, node: u32) {
        let parent = self.place(other).parent;
        self.note(other, Reason::Capacity, true);
        self.unlink(other);
        self.link(parent, node);
        self.link(node, other);
    }

    /// A spare's slot within the depth cap: people go before reserves.
    fn spare_slot(&mut self, nodes: &Nodes, child: u32, lenient: bool) -> Option<u32> {
        let depth = self.depth;
        let bags = (0..self.index.regions)
            .flat_map(|region| [Bag::Spare(region, false), Bag::Spare(region, true)]);
        bags.into_iter().find_map(|bag| {
            self.sample(bag, |tree, spare| {
                spare != child
                    && tree.place(spare).level < depth
                    && nodes.may(spare, child, lenient)
            })
        })
    }

    /// Free slots that a level keeps for orphans.
    pub fn kept(&self, level: u8) -> u32 {
        let below = self.population[usize::from(level) + 1];
        // Near the root few go, and every slot there is worth a whole subtree.
        if below < self.receivers / 16 {
            0
        } else {
            below / KEPT
        }
    }

    /// Levels above `below` that have more free slots than that.
    pub fn open_levels(&self, below: u8) -> u32 {
        let open = |level: &u8| self.free[usize::from(*level)] > self.kept(*level);
        (0..below.min(self.depth))
            .filter(open)
            .fold(0, |mask, level| mask | 1 << level)
    }

    /// Put a node without children aside until there is a place for it.
    pub fn shelve(&mut self, node: u32) {
        debug_assert!(self.place(node).used == 0);
        self.refile(node, |place| {
            place.level = AWAY;
            place.flags &= !ADRIFT;
        });
    }

    /// Bring a relay or a helper into the tree that stood by. A relay hangs on the root or on another relay; if the root
    /// is full, one of its children makes room and goes to the relay.
    pub fn bring_in(&mut self, nodes: &Nodes, relay: u32) -> bool {
        let root = self.root;
        if self.place(relay).cap == 0 {
            return false;
        }
        // Whatever it takes from the root is to be reckoned again.
        self.drift = u32::MAX / 2;
        if self.place(root).free() > 0 && nodes.may(root, relay, true) {
            self.note(relay, Reason::Joined, true);
            self.link(root, relay);
            return true;
        }
        let other = self.sample(Bag::Paid, |_, other| nodes.may(other, relay, true));
        if let Some(other) = other {
            self.note(relay, Reason::Joined, true);
            self.link(other, relay);
            return true;
        }
        let child = self
            .children(root)
            .find(|&child| !self.place(child).is(RELAY) && nodes.may(relay, child, false));
        if let Some(child) = child
            && nodes.may(root, relay, true)
        {
            self.note(relay, Reason::Joined, true);
            self.note(child, Reason::Capacity, true);
            self.unlink(child);
            self.link(root, relay);
            self.link(relay, child);
            return true;
        }
        false
    }

    /// Bring in a relay that stands by.
    pub fn call_relay(&mut self, nodes: &Nodes) -> bool {
        let idle = self.sample(Bag::Idle, |tree, relay| tree.place(relay).cap > 0);
        idle.is_some_and(|relay| self.bring_in(nodes, relay))
    }

    /// Bring in somebody who helps without watching, if that wins at least one slot.
    fn call_helper(&mut self, nodes: &Nodes) -> bool {
        let willing = self.sample(Bag::Standby, |tree, helper| tree.place(helper).cap > 1);
        willing.is_some_and(|helper| {
            self.note(helper, Reason::Joined, true);
            let placed = self.try_settle(nodes, helper, false);
            if !placed {
                self.shelve(helper);
            }
            placed
        })
    }

    /// Take a node into the books with what it is worth here.
    pub fn admit(&mut self, nodes: &Nodes, node: u32, flags: u16) {
        self.enter(node, flags, nodes.get(node).region, 0, 0);
        let (cap, rank) = self.worth(nodes, node);
        self.offer(node, cap, rank, nodes.get(node).region);
    }

    /// Slots and rank of a node in this tree.
    pub fn worth(&self, nodes: &Nodes, node: u32) -> (u16, u8) {
        let cap = nodes.slots(node, self.stream, self.rate);
        (cap, nodes.get(node).rank(cap))
    }

    /// Slots that all receivers together bring.
    pub fn slots(&self) -> u64 {
        let classes = (0u64..).zip(self.caps);
        classes.map(|(cap, count)| cap * u64::from(count)).sum()
    }

    /// Take newcomers in: relays and helpers stand by, receivers get places, the strongest first.
    pub fn fill(&mut self, nodes: &Nodes, newcomers: &[u32]) {
        let mut receivers = Vec::with_capacity(newcomers.len());
        for &node in newcomers {
            let facts = nodes.get(node);
            let flags = match (facts.is_relay(), facts.watches()) {
                (true, _) => RELAY,
                (false, true) => 0,
                (false, false) => HELPER,
            };
            self.admit(nodes, node, flags);
            if flags == 0 {
                receivers.push(node);
            }
        }
        if receivers.len() > 1 {
            receivers.sort_by_key(|&node| std::cmp::Reverse(self.place(node).rank));
        }
        self.reckon(nodes);
        // As many of the strongest as are wanted for spares come last: those before them are given children.
        let strong = receivers
            .iter()
            .filter(|&&node| self.place(node).rank >= self.strength)
            .count();
        let aside = self.strong_target(nodes).saturating_sub(self.strong) as usize;
        receivers[..strong].reverse();
        if receivers.len() > 1 {
            receivers.rotate_left(aside.min(strong / 2));
        }
        for node in receivers {
            self.note(node, Reason::Joined, true);
            self.settle(nodes, node);
        }
    }

    /// How many slots of relays may be used: what the bound asks for beyond the root's own. Reckoned again when the
    /// part of them in 256 has come, gone or changed: it cannot have moved far before.
    pub fn reckon(&mut self, nodes: &Nodes) {
        if self.drift <= self.receivers / 256 {
            return;
        }
        self.drift = 0;
        let mut strongest = 0;
        self.strength = (1..RANKS as u8)
            .rev()
            .find(|&rank| {
                strongest += self.caps[usize::from(rank)];
                strongest > self.receivers / 64
            })
            .unwrap_or(1);
        let feeds = self
            .children(self.root)
            .filter(|&child| self.place(child).is(RELAY))
            .count() as u64;
        // Spares have no children, so that their slots do not count.
        let mut caps = self.caps;
        let strong = self
            .strong_target(nodes)
            .min(caps[usize::from(self.strength)]);
        caps[usize::from(self.strength)] -= strong;
        // And some slots are kept free on full levels.
        caps[0] += strong + self.receivers / (2 * KEPT);
        let wanted = super::bound::root_slots(&caps, self.depth);
        let slots = u64::from(self.place(self.root).cap);
        // The first relay takes a slot of the root's itself.
        let feeds = if wanted > slots { feeds.max(1) } else { feeds };
        let own = slots.saturating_sub(feeds);
        self.allowance = wanted.saturating_sub(own).min(u64::from(u32::MAX)) as u32;
    }

    /// The end of a call: who waits is served if there is room now, and relays and helpers without children go.
    pub fn tidy(&mut self, nodes: &Nodes) {
        self.reckon(nodes);
        self.serve(nodes);
        self.budget +=
            u64::from(std::mem::take(&mut self.earned)) * u64::from(nodes.options.edge_budget);
        self.ask_for_relays(nodes.now);
        self.keep_spares(nodes);
        self.name_backups(nodes);
        while let Some(relay) = self.bare.pop() {
            let place = *self.place(relay);
            if place.is(RELAY | HELPER)
                && place.is_placed()
                && place.used == 0
                && place.parent != NONE
            {
                self.note(relay, Reason::Ended, true);
                self.unlink(relay);
                self.shelve(relay);
            }
        }
    }

    /// Try those who wait, the strongest first, until one finds nothing.
    fn serve(&mut self, nodes: &Nodes) {
        let mut ranks = self.index.waiting;
        while ranks != 0 {
            let rank = 31 - ranks.leading_zeros();
            let Some(node) = self.sample(Bag::Waiting(rank as u8), |_, _| true) else {
                ranks &= !(1 << rank);
                continue;
            };
            self.note(node, Reason::Capacity, true);
            if !self.settle(nodes, node) || self.index.bag(Bag::Waiting(rank as u8)).is_empty() {
                ranks &= !(1 << rank);
            }
        }
    }

    pub fn waiting(&self) -> usize {
        (0..RANKS as u8)
            .map(|rank| self.index.bag(Bag::Waiting(rank)).len())
            .sum()
    }

    pub fn waiting_nodes(&self) -> impl Iterator<Item = u32> + '_ {
        (0..RANKS as u8).flat_map(|rank| self.index.bag(Bag::Waiting(rank)).iter().copied())
    }
}

//! Who can be found where: bags of nodes by what they offer, and bit masks over the bags that hold somebody.
//!
//! A bag is an unordered vector; a node knows its position in it, so filing and removing are O(1) (the last one takes the
//! gap). Every search is a scan of at most [`REGIONS`] masks of one bit per level. A node stands in at most two bags: one
//! for its free slots and one for its rank among those that may be displaced.

use crate::REGIONS;

/// Levels that the masks can tell apart.
pub(super) const LEVELS: usize = 32;
/// Ranks: 0 feeds nobody, 16 is the strongest.
pub(super) const RANKS: usize = 17;

const PER_REGION: usize = 2 + LEVELS + 2 * LEVELS * RANKS;
/// Bags that know no region: relays with a slot left, relays and helpers not in the tree, and who waits, by rank.
const COMMON: usize = 3 + RANKS;

/// One of the bags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bag {
    /// Has a free slot: (region, level).
    Free(u8, u8),
    /// Kept as a hot spare, with a free slot: (region, strong).
    Spare(u8, bool),
    /// Has no child: (region, level, rank).
    Childless(u8, u8, u8),
    /// Has children: (region, level, rank).
    Interior(u8, u8, u8),
    /// A relay in the tree with a free slot.
    Paid,
    /// A relay that is not needed.
    Idle,
    /// Would help but is not needed.
    Standby,
    /// Receives nothing: (rank).
    Waiting(u8),
}

impl Bag {
    fn number(self) -> usize {
        let regional =
            |region: u8, offset: usize| COMMON + usize::from(region) * PER_REGION + offset;
        let ranked = |level: u8, rank: u8| usize::from(rank) * LEVELS + usize::from(level);
        match self {
            Bag::Paid => 0,
            Bag::Idle => 1,
            Bag::Standby => 2,
            Bag::Waiting(rank) => 3 + usize::from(rank),
            Bag::Spare(region, strong) => regional(region, usize::from(strong)),
            Bag::Free(region, level) => regional(region, 2 + usize::from(level)),
            Bag::Childless(region, level, rank) => {
                regional(region, 2 + LEVELS + ranked(level, rank))
            }
            Bag::Interior(region, level, rank) => {
                regional(region, 2 + LEVELS + LEVELS * RANKS + ranked(level, rank))
            }
        }
    }
}

/// Bit masks of one region: bit n is set while the bag of level n holds somebody.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Masks {
    pub free: u32,
    pub childless: [u32; RANKS],
    pub interior: [u32; RANKS],
}

/// All bags of one tree.
#[derive(Debug, Clone)]
pub(super) struct Index {
    bags: Vec<Vec<u32>>,
    masks: [Masks; REGIONS],
    /// Ranks among whom somebody waits.
    pub waiting: u32,
    /// Regions that hold anybody: searches stop there.
    pub regions: u8,
}

impl Index {
    pub fn new() -> Self {
        Index {
            bags: vec![Vec::new(); COMMON + PER_REGION],
            masks: [Masks::default(); REGIONS],
            waiting: 0,
            regions: 1,
        }
    }

    pub fn masks(&self, region: u8) -> &Masks {
        &self.masks[usize::from(region)]
    }

    pub fn bag(&self, bag: Bag) -> &[u32] {
        self.bags.get(bag.number()).map_or(&[], Vec::as_slice)
    }

    /// Put a node in; returns its position.
    pub fn insert(&mut self, bag: Bag, node: u32) -> u32 {
        if let Bag::Free(region, _)
        | Bag::Spare(region, _)
        | Bag::Childless(region, ..)
        | Bag::Interior(region, ..) = bag
            && region >= self.regions
        {
            self.regions = region + 1;
            self.bags
                .resize(COMMON + usize::from(self.regions) * PER_REGION, Vec::new());
        }
        let list = &mut self.bags[bag.number()];
        list.push(node);
        let at = list.len() as u32 - 1;
        if at == 0 {
            self.mark(bag, true);
        }
        at
    }

    /// Take the node at a position out; returns who stands there now.
    pub fn remove(&mut self, bag: Bag, at: u32) -> Option<u32> {
        let list = &mut self.bags[bag.number()];
        list.swap_remove(at as usize);
        let moved = list.get(at as usize).copied();
        if list.is_empty() {
            self.mark(bag, false);
        }
        moved
    }

    fn mark(&mut self, bag: Bag, on: bool) {
        let (mask, bit) = match bag {
            Bag::Free(region, level) => (&mut self.masks[usize::from(region)].free, level),
            Bag::Childless(region, level, rank) => (
                &mut self.masks[usize::from(region)].childless[usize::from(rank)],
                level,
            ),
            Bag::Interior(region, level, rank) => (
                &mut self.masks[usize::from(region)].interior[usize::from(rank)],
                level,
            ),
            Bag::Waiting(rank) => (&mut self.waiting, rank),
            Bag::Spare(..) | Bag::Paid | Bag::Idle | Bag::Standby => return,
        };
        if on {
            *mask |= 1 << bit;
        } else {
            *mask &= !(1 << bit);
        }
    }
}

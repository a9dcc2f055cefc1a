//! The books compared with the tree: what an index that is kept up step by step must still say.

use super::Broadcast;
use super::index::{Bag, LEVELS, RANKS};
use super::nodes::NONE;
use super::tree::{ADRIFT, AWAY, HELPER, HERE, RELAY, ROOT, Tree};

impl Broadcast {
    /// Compare every count and every bag with the trees.
    ///
    /// # Panics
    /// If they disagree. O(nodes): for tests and simulators.
    pub fn check(&self) {
        for stream in &self.streams {
            stream.tree.check();
        }
    }
}

impl Tree {
    fn check(&self) {
        let mut free = [0u32; LEVELS];
        let mut caps = [0u32; RANKS];
        let (mut paid, mut receivers, mut waiting) = (0, 0, 0);
        for node in 0..self.len() {
            let place = self.place(node);
            if !place.is(HERE) {
                assert!(place.parent == NONE && place.used == 0 && place.first == NONE);
                continue;
            }
            assert!(!place.is(ADRIFT), "{node} is adrift");
            let mut count = 0;
            for child in self.children(node) {
                count += 1;
                let below = self.place(child);
                assert_eq!(below.parent, node);
                let level = if below.is(RELAY) { 0 } else { place.level + 1 };
                assert_eq!(below.level, level, "level of {child}");
                paid += u32::from(place.is(RELAY) && !below.is(RELAY));
            }
            assert_eq!(count, place.used, "children of {node}");
            assert!(
                place.used <= place.cap,
                "{node} feeds {} of {}",
                place.used,
                place.cap
            );
            let served = place.parent != NONE || place.is(ROOT);
            assert_eq!(served, place.level != AWAY, "{node}");
            if !place.is(ROOT | RELAY | HELPER) {
                receivers += 1;
                caps[usize::from(place.cap.min(16))] += 1;
                waiting += usize::from(!served);
            }
            if served && self.is_open(node) {
                free[usize::from(place.level)] += u32::from(place.free());
            }
        }
        assert_eq!(free, self.free, "free slots by level");
        assert_eq!(caps, self.caps, "receivers by slots");
        assert_eq!(
            (paid, receivers, waiting),
            (self.paid, self.receivers, self.waiting())
        );
        for region in 0..self.index.regions {
            for level in 0..LEVELS as u8 {
                let bit = 1u32 << level;
                let masks = self.index.masks(region);
                let held = |bag| !self.index.bag(bag).is_empty();
                assert_eq!(masks.free & bit != 0, held(Bag::Free(region, level)));
                for rank in 0..RANKS as u8 {
                    let (childless, interior) = (
                        Bag::Childless(region, level, rank),
                        Bag::Interior(region, level, rank),
                    );
                    assert_eq!(
                        masks.childless[usize::from(rank)] & bit != 0,
                        held(childless)
                    );
                    assert_eq!(masks.interior[usize::from(rank)] & bit != 0, held(interior));
                }
            }
        }
        (0..self.len()).for_each(|node| self.check_filing(node));
    }
}

//! Bound B1: how shallow any tree over these receivers can be.
//!
//! Fill level by level, the strongest first: no tree with the same slots reaches further on any level, because exchanging a
//! stronger node for a weaker one further up never shrinks a later level. Over counts by class this is O(classes + depth).

use super::index::RANKS;

/// Receivers by the slots they bring: `caps[k]` of them bring k.
pub type Caps = [u32; RANKS];

/// Receivers per level of the shallowest tree below `slots` places at the top; stops at `most` levels. What does not fit
/// is left out, so the sum may be less than there are receivers.
pub fn levels(caps: &Caps, slots: u64, most: usize) -> Vec<u64> {
    let mut left = caps.map(u64::from);
    let mut strongest = RANKS;
    let mut room = slots;
    let mut levels = Vec::new();
    while room > 0 && levels.len() < most {
        let (mut here, mut next) = (0, 0);
        while strongest > 0 && here < room {
            let class = strongest - 1;
            let some = left[class].min(room - here);
            left[class] -= some;
            here += some;
            next += some * class as u64;
            if left[class] == 0 {
                strongest = class;
            }
        }
        if here == 0 {
            break;
        }
        levels.push(here);
        room = next;
    }
    levels
}

/// The fewest places at the top that let everybody stand within `depth` levels: S(D).
pub fn root_slots(caps: &Caps, depth: u8) -> u64 {
    let all: u64 = caps.iter().map(|&count| u64::from(count)).sum();
    let (mut low, mut high) = (0, all);
    while low < high {
        let middle = low + (high - low) / 2;
        if levels(caps, middle, usize::from(depth)).iter().sum::<u64>() >= all {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

/// Sum of levels and deepest level of the shallowest tree below `slots` places.
pub fn depths(caps: &Caps, slots: u64) -> (u64, usize) {
    let levels = levels(caps, slots, usize::MAX);
    let sum = levels
        .iter()
        .zip(1u64..)
        .map(|(count, level)| count * level)
        .sum();
    (sum, levels.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(total: u32, parts: &[(usize, u32)]) -> Caps {
        let mut caps = [0; RANKS];
        for &(class, percent) in parts {
            caps[class] = total / 100 * percent;
        }
        caps
    }

    #[test]
    fn a_million_viewers_need_the_root_slots_that_the_closed_form_says() {
        let base = mix(1_000_000, &[(0, 35), (1, 25), (2, 20), (4, 12), (8, 8)]);
        let slots: Vec<u64> = (2..=6).map(|depth| root_slots(&base, depth)).collect();
        assert_eq!(slots, [136_000, 18_379, 2_321, 291, 37]);
        let twos = mix(1_000_000, &[(2, 100)]);
        assert_eq!(
            (root_slots(&twos, 6), root_slots(&twos, 8)),
            (15_874, 3_922)
        );
        let weak = mix(1_000_000, &[(0, 60), (1, 10), (2, 20), (4, 10)]);
        assert_eq!(root_slots(&weak, 6), 100_000);
    }

    #[test]
    fn levels_are_filled_by_the_strongest_first() {
        let mut caps = [0; RANKS];
        (caps[0], caps[1], caps[3]) = (4, 1, 1);
        assert_eq!(levels(&caps, 1, 9), [1, 3, 1]);
        assert_eq!(depths(&caps, 1), (10, 3));
        assert_eq!(levels(&caps, 2, 9), [2, 4]);
    }
}

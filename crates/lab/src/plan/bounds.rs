//! What no planner can beat : depth and paid slots for the viewers that are there.

/// Levels of the best tree: viewers at level 1, 2 ... when every level is filled before the next, strong ones first.
///
/// `mix` is slots and how many viewers have them; `paid` the slots of the root and the relays. Whoever finds no room is
/// left out. Swapping a larger fan-out upwards never makes a later level smaller, so mean and maximum are least (B1).
/// Costs O(mix x levels).
pub(super) fn levels(mix: &[(u32, u64)], paid: u64) -> Vec<u64> {
    let mut left = mix.to_vec();
    left.sort_unstable_by(|a, b| b.cmp(a));
    let mut room = paid;
    let mut levels = Vec::new();
    loop {
        let (mut placed, mut below) = (0, 0);
        for (slots, count) in &mut left {
            let here = (*count).min(room - placed);
            *count -= here;
            placed += here;
            below += here * u64::from(*slots);
        }
        if placed == 0 {
            return levels;
        }
        levels.push(placed);
        room = below;
    }
}

/// Mean and maximum of levels.
pub(super) fn depth(levels: &[u64]) -> (f64, usize) {
    let viewers: u64 = levels.iter().sum();
    let hops: u64 = (1..).zip(levels).map(|(level, count)| level * count).sum();
    (hops as f64 / viewers.max(1) as f64, levels.len())
}

/// The fewest paid slots with which everybody fits within `cap` levels; includes what the viewers' slots lack (B1, B2).
pub(super) fn paid(mix: &[(u32, u64)], cap: usize) -> u64 {
    let viewers: u64 = mix.iter().map(|(_, count)| count).sum();
    let fits = |paid| levels(mix, paid).iter().take(cap).sum::<u64>() == viewers;
    let (mut no, mut yes) = (0, viewers);
    while no + 1 < yes {
        let middle = no + (yes - no) / 2;
        if fits(middle) {
            yes = middle
        } else {
            no = middle
        }
    }
    yes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::trace::Mix;

    #[test]
    fn a_million_viewers_need_the_paid_slots_that_the_goals_name() {
        let of = |mix: Mix, cap| paid(&mix.counts(1_000_000), cap);
        assert_eq!(
            [2, 3, 4, 5, 6].map(|cap| of(Mix::Base, cap)),
            [136_000, 18_379, 2_321, 291, 37]
        );
        assert_eq!([6, 8].map(|cap| of(Mix::Two, cap)), [15_874, 3_922]);
        assert_eq!([3, 6].map(|cap| of(Mix::Weak, cap)), [100_000, 100_000]);
    }

    #[test]
    fn no_order_of_ten_viewers_is_shallower_than_the_bound() {
        // Every order in which fan-outs can be filled in, level by level.
        let slots = [3u32, 2, 1, 1, 0, 0, 0];
        let mix = [(3, 1), (2, 1), (1, 2), (0, 3)];
        let (best, _) = depth(&levels(&mix, 2));
        let mut order: Vec<usize> = (0..slots.len()).collect();
        let mut least = f64::MAX;
        permute(&mut order, 0, &mut |order| {
            let (mut free, mut hops) = (std::collections::VecDeque::from([1u32, 1]), 0);
            for &i in order {
                let Some(level) = free.pop_front() else {
                    return;
                };
                hops += level;
                free.extend(std::iter::repeat_n(level + 1, slots[i] as usize));
            }
            least = least.min(f64::from(hops) / slots.len() as f64);
        });
        assert_eq!(best, least);
    }

    fn permute(order: &mut [usize], at: usize, visit: &mut impl FnMut(&[usize])) {
        if at == order.len() {
            return visit(order);
        }
        for i in at..order.len() {
            order.swap(at, i);
            permute(order, at + 1, visit);
            order.swap(at, i);
        }
    }

    #[test]
    fn whoever_finds_no_room_is_left_out() {
        assert_eq!(levels(&[(0, 5)], 2), [2]);
        assert_eq!(levels(&[(1, 5)], 2), [2, 2, 1]);
        assert_eq!(depth(&[2, 2, 1]), (1.8, 3));
        assert_eq!(depth(&[]), (0.0, 0));
    }
}

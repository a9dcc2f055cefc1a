//! Where chance comes from: a small generator for every entity, so that the same viewers come, stay and go in the same
//! way whoever plans for them.
//!
//! SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). Whole numbers everywhere;
//! floats only to draw how long somebody stays, which is done once and written down in microseconds.

/// A generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chance(u64);

impl Chance {
    /// The generator of one entity for one purpose.
    pub(super) fn of(seed: u64, entity: u64, purpose: u64) -> Self {
        let mut chance = Self(seed ^ mix(entity ^ mix(purpose)));
        chance.next();
        chance
    }

    /// 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A whole number below `n`; 0 when `n` is 0. Off by less than 2^-32 from even for every `n` of 32 bits.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// In so many of a thousand cases.
    pub(super) fn permille(&mut self, of_thousand: u32) -> bool {
        self.below(1000) < u64::from(of_thousand)
    }

    /// Above 0, at most 1.
    pub(super) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_splitmix64() {
        // Published with the reference code, for seed 1234567.
        let mut chance = Chance(1_234_567);
        assert_eq!(chance.next(), 6_457_827_717_110_365_317);
        assert_eq!(chance.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn entities_draw_apart_and_the_same_entity_draws_the_same() {
        let draw = |entity, purpose| Chance::of(7, entity, purpose).next();
        assert_eq!(draw(1, 1), draw(1, 1));
        assert_ne!(draw(1, 1), draw(2, 1));
        assert_ne!(draw(1, 1), draw(1, 2));
        let mut chance = Chance::of(1, 1, 1);
        let hits = (0..10_000).filter(|_| chance.permille(200)).count();
        assert!((1800..2200).contains(&hits), "{hits}");
    }
}

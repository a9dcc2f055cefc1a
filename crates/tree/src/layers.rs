//! Sets of spatial layers.

/// A set of spatial layers; bit `n` is layer `n`, 0 the lowest quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Layers(pub u8);

impl Layers {
    /// Layers a stream can have.
    pub const MAX: usize = 4;
    /// No video.
    pub const NONE: Layers = Layers(0);

    /// The set of one layer; empty if `layer` is not below [`Layers::MAX`].
    pub const fn one(layer: u8) -> Self {
        if (layer as usize) < Self::MAX {
            Layers(1 << layer)
        } else {
            Layers(0)
        }
    }

    /// Is this layer in the set?
    pub const fn contains(self, layer: u8) -> bool {
        (layer as usize) < Self::MAX && self.0 & (1 << layer) != 0
    }

    /// The set with one layer more.
    #[must_use]
    pub const fn with(self, layer: u8) -> Self {
        Layers(self.0 | Self::one(layer).0)
    }

    /// Is every layer of this set in `other`?
    pub const fn is_subset(self, other: Layers) -> bool {
        self.0 & !other.0 == 0
    }

    /// No layer at all: sound only.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The highest layer of the set.
    pub const fn top(self) -> Option<u8> {
        if self.0 == 0 {
            None
        } else {
            Some(7 - self.0.leading_zeros() as u8)
        }
    }

    /// The layers, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::MAX as u8).filter(move |&layer| self.contains(layer))
    }
}

#[cfg(test)]
mod tests {
    use super::Layers;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_beyond_the_last_layer() {
        let set = Layers::one(0).with(2).with(4).with(200);
        assert_eq!(set, Layers(0b101));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2]);
        assert_eq!((set.top(), Layers::NONE.top()), (Some(2), None));
        assert!(Layers::one(2).is_subset(set) && !Layers::one(1).is_subset(set));
        assert!(Layers::one(9).is_empty() && !set.contains(9));
    }
}

//! What the relay sheds when it has more to do than it can: the measured load in, a level out.
//!
//! The order is that of `docs/design/relay.md`, Overload: what is new goes before what is there, pictures before sound, and
//! whoever is in a call keeps sound and the lowest layer. A level changes with hysteresis and one step at a time, since what a
//! step spares shows in the load of the next second only.
//!
//! Cost: a look at two numbers each second; at a change a look at every edge.

use crate::Micros;
use crate::frame::MS;

/// Above this share of what the relay can do it sheds more.
const MORE_ABOVE: f64 = 0.9;
/// And below this share less. Between the two nothing changes.
const LESS_BELOW: f64 = 0.72;
/// How long the last step is given to show, before the next.
const MORE_AFTER: Micros = 2_000 * MS;
/// How long the load is to stay low before a step is taken back: people who come and go are no reason.
const LESS_AFTER: Micros = 5_000 * MS;
/// Layers are given back so often: what the last ones take shows after their key frames.
const EASE_EVERY: Micros = 3_000 * MS;
/// A load below this is as good as none.
const LEAST_LOAD: f64 = 0.01;
/// Pictures of so many who spoke last keep their higher layers for each child, while those of others lose them.
const LAST: usize = 4;

/// What a relay sheds at present. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Shedding {
    /// Nothing.
    #[default]
    Nothing,
    /// No edge begins a higher layer than it has; new edges have the lowest.
    NewLayers,
    /// A child keeps the higher layers of the 4 who spoke last only.
    Others,
    /// All higher layers: everybody has the lowest.
    HigherLayers,
    /// Peers that had no link here before are refused.
    Newcomers,
}

impl Shedding {
    const ALL: [Shedding; 5] = [
        Shedding::Nothing,
        Shedding::NewLayers,
        Shedding::Others,
        Shedding::HigherLayers,
        Shedding::Newcomers,
    ];

    fn step(self, by: isize) -> Self {
        let at = (self as usize).checked_add_signed(by);
        at.and_then(|at| Self::ALL.get(at)).copied().unwrap_or(self)
    }

    /// How many of a child's streams keep their higher layers.
    pub(crate) fn keeps(self) -> usize {
        match self {
            Shedding::Nothing | Shedding::NewLayers => usize::MAX,
            Shedding::Others => LAST,
            Shedding::HigherLayers | Shedding::Newcomers => 0,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    level: Shedding,
    changed_at: Micros,
    /// Since when the load is low.
    low_since: Option<Micros>,
    /// Share of what can be done, as last measured.
    load: f64,
    /// When layers were last given back.
    eased_at: Micros,
    /// Some edge may still be without a layer that it would have.
    pub holding: bool,
}

impl Overload {
    pub(crate) fn level(&self) -> Shedding {
        self.level
    }

    pub(crate) fn load(&self) -> f64 {
        self.load
    }

    /// Takes the load of the last second. True: more is shed than before.
    pub(crate) fn note(&mut self, load: f64, now: Micros) -> bool {
        self.load = load;
        let before = self.level;
        if load < LESS_BELOW {
            let since = *self.low_since.get_or_insert(now);
            if now - since >= LESS_AFTER {
                self.level = before.step(-1);
                self.low_since = Some(now);
            }
        } else {
            self.low_since = None;
            let shown = before == Shedding::Nothing || now - self.changed_at >= MORE_AFTER;
            if load > MORE_ABOVE && shown {
                self.level = before.step(1);
            }
        }
        if self.level != before {
            self.changed_at = now;
        }
        self.holding |= self.level > Shedding::Nothing;
        self.level > before
    }

    /// Of `sent` bit/s, how many more may go out before the load is no longer low: what load there is grows with them.
    /// `None`: nothing is to be given back now.
    pub(crate) fn spare(&mut self, sent: f64, now: Micros) -> Option<f64> {
        let due = now.saturating_sub(self.eased_at) >= EASE_EVERY;
        if !self.holding || self.level > Shedding::Nothing || self.load >= LESS_BELOW || !due {
            return None;
        }
        self.eased_at = now;
        Some(sent * (LESS_BELOW / self.load.max(LEAST_LOAD) - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(loads: impl IntoIterator<Item = f64>) -> Vec<u8> {
        let mut overload = Overload::default();
        let mut level = |(second, load): (u64, f64)| {
            overload.note(load, second * 1000 * MS);
            overload.level() as u8
        };
        (1..).zip(loads).map(&mut level).collect()
    }

    #[test]
    fn it_rises_a_step_each_two_seconds_and_falls_a_step_after_five_of_low_load() {
        let loads = [0.95; 9].into_iter().chain([0.5; 21]);
        let rises = [1, 1, 2, 2, 3, 3, 4, 4, 4];
        let falls = [
            4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 0,
        ];
        assert_eq!(levels(loads), [&rises[..], &falls[..]].concat());
    }

    #[test]
    fn between_the_two_bounds_nothing_changes() {
        assert_eq!(levels([0.9, 0.89, 0.73]), [0, 0, 0]);
        let loads = [0.91].into_iter().chain([0.9, 0.73].repeat(30));
        assert!(levels(loads).iter().all(|&level| level == 1));
        let loads = [0.91]
            .into_iter()
            .chain([0.5, 0.5, 0.5, 0.5, 0.75].repeat(10));
        assert!(
            levels(loads).iter().all(|&level| level == 1),
            "low for too short"
        );
    }
}

//! Key requests of one stream, merged per layer: at most one per [`KEY_INTERVAL`] goes up, and one that comes in between
//! goes at the end of the interval instead of being lost (without that trailing edge the second hop of a chain may never
//! start).

use crate::Micros;
use crate::command::Layers;
use crate::frame::MS;

/// A key frame costs every receiver of the layer; more than four a second help nobody.
pub(crate) const KEY_INTERVAL: Micros = 250 * MS;

#[derive(Debug, Default)]
pub(crate) struct KeyRequests {
    pending: Layers,
    sent: [Option<Micros>; Layers::MAX as usize],
}

impl KeyRequests {
    pub(crate) fn request(&mut self, layer: u8) {
        self.pending = self.pending.with(layer);
    }

    /// A key frame came and is on its way to everybody who asked before it.
    pub(crate) fn satisfied(&mut self, layer: u8) {
        self.pending = self.pending.without(layer);
    }

    /// Layers whose request goes up now.
    pub(crate) fn due(&self, now: Micros) -> Layers {
        let due = self.pending.iter().filter(|&layer| self.from(layer) <= now);
        due.fold(Layers::NONE, Layers::with)
    }

    /// The request for this layer was handed to the parent.
    pub(crate) fn sent(&mut self, layer: u8, now: Micros) {
        self.satisfied(layer);
        if let Some(sent) = self.sent.get_mut(usize::from(layer)) {
            *sent = Some(now);
        }
    }

    /// When to call again.
    pub(crate) fn next(&self) -> Option<Micros> {
        self.pending.iter().map(|layer| self.from(layer)).min()
    }

    fn from(&self, layer: u8) -> Micros {
        let sent = self.sent.get(usize::from(layer)).copied().flatten();
        sent.map_or(0, |sent| sent + KEY_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_merge_and_the_last_one_is_not_lost() {
        let mut keys = KeyRequests::default();
        keys.request(0);
        keys.request(0);
        assert_eq!(keys.due(0), Layers::one(0));
        keys.sent(0, 0);
        assert_eq!((keys.due(0), keys.next()), (Layers::NONE, None));
        keys.request(0);
        keys.request(2);
        assert_eq!(keys.due(249 * MS), Layers::one(2));
        assert_eq!(keys.due(250 * MS), Layers(0b101));
        keys.satisfied(0);
        assert_eq!(keys.due(250 * MS), Layers::one(2));
    }
}

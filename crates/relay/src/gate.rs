//! The decision: which frames of a stream one child gets. From headers and what the queue reports, without touching a byte, so
//! that a link on which frames leave as packets can use it as well: decide once per frame, then obey for all of its packets.
//!
//! A gate holds the layers that the child gets at present, what was left out on purpose (and so what must follow it out), and
//! the highest layer that fits. It does not know what is ordered or what comes: `room` chooses, and starts and stops layers.

use std::collections::VecDeque;

use grove_frame::Header;

use crate::Micros;
use crate::command::Layers;
use crate::frame::{MS, references};

/// Two give-ups of a layer within this time, and the lane falls back to a lower one.
const FALLBACK: Micros = 6000 * MS;
/// So does dropping without pause for this long: a lower layer at full frame rate is better than half of a higher.
const PRESSED: Micros = 3000 * MS;
/// A lane whose link was choked for so long in all falls back; one that has just returned, much sooner.
const CHOKED: Micros = 500 * MS;
const CHOKED_AGAIN: Micros = 250 * MS;
/// A drop counts as pressure for so long; droppable frames come each 66 ms.
const DROP_ECHO: Micros = 200 * MS;
/// Quiet time before the higher layer is tried again; doubled with each failure up to the maximum.
const RETURN: Micros = 5000 * MS;
const RETURN_MAX: Micros = 60_000 * MS;
/// First wait for a key frame that was asked for, and the longest.
const KEY_WAIT: Micros = 250 * MS;
const KEY_WAIT_MAX: Micros = 2000 * MS;
/// Numbers of dropped frames remembered per layer: what needs an older one has been dropped itself by then.
const DROPPED: usize = 64;
/// Time constant of the pressure, ms.
const PRESSURE_MS: f64 = 1000.0;

/// What becomes of a frame for one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Send,
    /// Needs something that the child was not sent: gone as well, and what needs it too.
    Leave,
    /// A layer that the child does not get, or waits for the key frame of.
    Pass,
}

#[derive(Debug)]
struct Layer {
    /// Nothing goes out before a key frame, which is wanted since then.
    needs_key: Option<Micros>,
    asked: Option<Micros>,
    wait: Micros,
    /// Left out on purpose, oldest first.
    dropped: VecDeque<u32>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    layers: [Option<Layer>; Layers::MAX as usize],
    /// The highest layer that fits, as far as is known.
    pub ceiling: Option<u8>,
    pub frames_dropped: u64,
    last_starved: Option<Micros>,
    last_drop: Option<Micros>,
    /// 0..1: share of the recent time spent under pressure.
    pressure: f64,
    easy_since: Micros,
    calm_since: Micros,
    /// Time for which sound stood in this lane's link, less a tenth of the time in which it did not.
    choked: Micros,
    return_after: Micros,
    returned_at: Option<Micros>,
}

impl Gate {
    pub(crate) fn new(now: Micros) -> Self {
        Self {
            layers: Default::default(),
            ceiling: None,
            frames_dropped: 0,
            last_starved: None,
            last_drop: None,
            pressure: 0.0,
            easy_since: now,
            calm_since: now,
            choked: 0,
            return_after: RETURN,
            returned_at: None,
        }
    }

    /// Begins a layer: `whole` when the child is given what a newcomer needs of it, else at the next key frame.
    pub(crate) fn start(&mut self, layer: u8, whole: bool, now: Micros) {
        if let Some(slot) = self.layers.get_mut(usize::from(layer)) {
            *slot = Some(Layer {
                needs_key: (!whole).then_some(now),
                asked: None,
                wait: KEY_WAIT,
                dropped: VecDeque::new(),
            });
        }
    }

    pub(crate) fn stop(&mut self, layer: u8) {
        if let Some(slot) = self.layers.get_mut(usize::from(layer)) {
            *slot = None;
        }
    }

    /// The layers that the child gets, those that wait for their key frame included.
    pub(crate) fn layers(&self) -> Layers {
        (0..Layers::MAX)
            .filter(|&layer| self.layer(layer).is_some())
            .fold(Layers::NONE, Layers::with)
    }

    /// The layer goes out at present.
    pub(crate) fn flows(&self, layer: u8) -> bool {
        self.layer(layer)
            .is_some_and(|layer| layer.needs_key.is_none())
    }

    /// The layer waits for its key frame.
    pub(crate) fn waits(&self, layer: u8) -> bool {
        self.layer(layer)
            .is_some_and(|layer| layer.needs_key.is_some())
    }

    /// What becomes of this frame.
    pub(crate) fn decide(&mut self, header: &Header) -> Decision {
        let starved = self.last_starved;
        let slot = self.layers.get_mut(usize::from(header.spatial));
        let Some(layer) = slot.and_then(Option::as_mut) else {
            return Decision::Pass;
        };
        if header.is_key() {
            layer.needs_key = None;
            layer.wait = KEY_WAIT;
            layer.dropped.clear();
            return Decision::Send;
        }
        if let Some(since) = layer.needs_key {
            if starved.is_some_and(|at| at >= since) {
                self.frames_dropped += 1;
            }
            return Decision::Pass;
        }
        if !layer.dropped.is_empty() && references(header).any(|n| layer.dropped.contains(&n)) {
            self.drop(header);
            return Decision::Leave;
        }
        Decision::Send
    }

    /// A frame that was to be sent is left out after all.
    pub(crate) fn drop(&mut self, header: &Header) {
        self.frames_dropped += 1;
        let slot = self.layers.get_mut(usize::from(header.spatial));
        if let Some(layer) = slot.and_then(Option::as_mut) {
            if layer.dropped.len() >= DROPPED {
                layer.dropped.pop_front();
            }
            layer.dropped.push_back(header.number);
        }
    }

    /// Droppable frames were left out because the queue is long.
    pub(crate) fn thinned(&mut self, now: Micros) {
        self.last_drop = Some(now);
    }

    /// The queue has given the layer up: nothing of it until its next key frame.
    pub(crate) fn give_up(&mut self, layer: u8, now: Micros) {
        let slot = self.layers.get_mut(usize::from(layer));
        let Some(state) = slot.and_then(Option::as_mut) else {
            return;
        };
        state.dropped.clear();
        if state.needs_key.is_some() {
            return;
        }
        state.needs_key = Some(now);
        if within(self.last_starved, FALLBACK, now) || within(self.returned_at, FALLBACK, now) {
            self.fall_back(layer, now);
        }
        self.last_starved = Some(now);
        self.calm_since = now;
    }

    /// By the clock: pressure, fallback and return. `held`: the queue is long; `choked`: sound stands before the socket.
    pub(crate) fn tick(&mut self, elapsed: Micros, held: bool, choked: bool, now: Micros) {
        let top = self.layers().top().unwrap_or(0);
        let pressed = choked || held || within(self.last_drop, DROP_ECHO, now) || self.starving();
        self.choked = if choked {
            self.choked + elapsed
        } else {
            self.choked.saturating_sub(elapsed / 10)
        };
        let patience = if within(self.returned_at, FALLBACK, now) {
            CHOKED_AGAIN
        } else {
            CHOKED
        };
        if self.choked >= patience {
            self.choked = 0;
            self.fall_back(top, now);
        }
        let share = (elapsed as f64 / MS as f64 / PRESSURE_MS).min(1.0);
        self.pressure += (f64::from(u8::from(pressed)) - self.pressure) * share;
        if pressed {
            self.calm_since = now;
        }
        if self.pressure < 0.5 {
            self.easy_since = now;
        } else if now - self.easy_since >= PRESSED {
            self.easy_since = now;
            self.fall_back(top, now);
        }
        if self.ceiling.is_some() && now - self.calm_since >= self.return_after {
            self.ceiling = None;
            self.returned_at = Some(now);
        }
    }

    /// Layers for which a key frame should be asked for now. Asked once there is room, with a growing wait.
    pub(crate) fn wants_key(&mut self, drained: bool, now: Micros) -> Layers {
        let mut wanted = Layers::NONE;
        for (at, slot) in (0..).zip(&mut self.layers) {
            let Some(layer) = slot
                .as_mut()
                .filter(|layer| drained && layer.needs_key.is_some())
            else {
                continue;
            };
            match layer.asked {
                Some(asked) if now - asked < layer.wait => continue,
                Some(_) => layer.wait = KEY_WAIT_MAX.min(layer.wait * 2),
                None => {}
            }
            layer.asked = Some(now);
            wanted = wanted.with(at);
        }
        wanted
    }

    /// When to call [`Gate::tick`] and [`Gate::wants_key`] again, as far as the gate knows; a queue has reasons of its own.
    pub(crate) fn next(&self, now: Micros) -> Option<Micros> {
        let keys = self
            .layers
            .iter()
            .flatten()
            .filter(|layer| layer.needs_key.is_some());
        let keys = keys.map(|layer| layer.asked.map_or(now, |asked| asked + layer.wait));
        let calm = self.ceiling.map(|_| self.calm_since + self.return_after);
        // What decays decays in small steps.
        let decay = (self.pressure > 0.01 || self.choked > 0).then_some(now + 100 * MS);
        keys.chain(calm).chain(decay).min()
    }

    /// Some layer was given up and waits for a key frame.
    fn starving(&self) -> bool {
        self.layers.iter().flatten().any(|layer| {
            layer
                .needs_key
                .is_some_and(|since| self.last_starved.is_some_and(|at| at >= since))
        })
    }

    fn fall_back(&mut self, layer: u8, now: Micros) {
        // A return that fails soon makes the next one wait twice as long; one that held starts over.
        if self.ceiling.is_none() {
            self.return_after = if within(self.returned_at, 2 * FALLBACK, now) {
                RETURN_MAX.min(self.return_after * 2)
            } else {
                RETURN
            };
        }
        self.ceiling = Some(layer.saturating_sub(1));
        self.calm_since = now;
    }

    fn layer(&self, layer: u8) -> Option<&Layer> {
        self.layers.get(usize::from(layer))?.as_ref()
    }
}

fn within(then: Option<Micros>, time: Micros, now: Micros) -> bool {
    then.is_some_and(|then| now.saturating_sub(then) < time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn delta(number: u32, farthest: u16, nearest: u16) -> Header {
        Header {
            spatial: 1,
            ..testing::delta(number, farthest, nearest)
        }
    }

    fn key(number: u32) -> Header {
        Header {
            spatial: 1,
            ..testing::key(number)
        }
    }

    #[test]
    fn what_needs_a_frame_that_was_left_out_is_left_out_until_the_next_key_frame() {
        let mut gate = Gate::new(0);
        gate.start(1, true, 0);
        assert_eq!(gate.decide(&key(10)), Decision::Send);
        gate.drop(&delta(11, 1, 1));
        assert_eq!(gate.decide(&delta(12, 2, 2)), Decision::Send);
        assert_eq!(
            gate.decide(&delta(13, 3, 2)),
            Decision::Leave,
            "its nearest is gone"
        );
        assert_eq!(
            gate.decide(&delta(14, 3, 1)),
            Decision::Leave,
            "both are gone"
        );
        assert_eq!(
            gate.decide(&delta(15, 1, 1)),
            Decision::Leave,
            "and what needs what was left out"
        );
        assert_eq!(gate.decide(&delta(16, 4, 4)), Decision::Send);
        assert_eq!(gate.decide(&key(17)), Decision::Send);
        assert_eq!(
            gate.decide(&delta(18, 3, 1)),
            Decision::Send,
            "all is forgiven"
        );
        assert_eq!(gate.frames_dropped, 4);
    }

    #[test]
    fn a_layer_that_was_given_up_waits_for_a_key_frame_and_asks_with_growing_patience() {
        let mut gate = Gate::new(0);
        gate.start(1, true, 0);
        gate.give_up(1, 0);
        assert_eq!(gate.decide(&delta(11, 0, 0)), Decision::Pass);
        assert_eq!(
            gate.wants_key(false, 0),
            Layers::NONE,
            "not while the link is full"
        );
        let asked: Vec<_> = (0..600)
            .map(|i| i * 10)
            .filter(|ms| !gate.wants_key(true, ms * MS).is_empty())
            .collect();
        assert_eq!(asked, [0, 250, 750, 1750, 3750, 5750]);
        assert_eq!(gate.decide(&key(12)), Decision::Send);
        assert_eq!(gate.wants_key(true, 9000 * MS), Layers::NONE);
    }

    #[test]
    fn two_give_ups_within_six_seconds_lower_the_ceiling_and_five_of_calm_lift_it() {
        let mut gate = Gate::new(0);
        gate.start(1, true, 0);
        gate.give_up(1, 0);
        gate.decide(&key(1));
        assert_eq!(gate.ceiling, None);
        gate.give_up(1, 5999 * MS);
        assert_eq!(gate.ceiling, Some(0));
        gate.stop(1);
        gate.start(0, true, 6000 * MS);
        for ms in (6000..10_990).step_by(10) {
            gate.tick(10 * MS, false, false, ms * MS);
            assert_eq!(gate.ceiling, Some(0), "{ms}");
        }
        gate.tick(10 * MS, false, false, 11_000 * MS);
        assert_eq!(gate.ceiling, None);
        // It fails at once: the next attempt waits twice as long.
        gate.start(1, true, 11_000 * MS);
        gate.give_up(1, 12_000 * MS);
        assert_eq!(gate.ceiling, Some(0));
        gate.stop(1);
        gate.tick(10 * MS, false, false, 21_990 * MS);
        assert_eq!(gate.ceiling, Some(0));
        gate.tick(10 * MS, false, false, 22_000 * MS);
        assert_eq!(gate.ceiling, None);
    }
}

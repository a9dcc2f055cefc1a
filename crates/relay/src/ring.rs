//! What a node remembers of one stream: per video layer the frames since the last key frame, at most [`RING`]. It answers
//! repairs by number and starts newcomers ("replay"). One per stream, whatever the number of children; it shares the
//! received bytes. Bounded in time and in bytes per layer. Sound is never asked for, so none is kept.

use std::collections::VecDeque;

use grove_frame::is_newer;

use crate::Micros;
use crate::command::Layers;
use crate::frame::{Frame, MS, needs_all, references};

/// How far back a replay may start. Longer saves key frames for newcomers and costs memory and a longer burst.
pub(crate) const RING: Micros = 2000 * MS;
/// Per layer: 2 s at 16 Mbit/s. Over it the oldest go, and with the key frame the replay.
const RING_BYTES: usize = 4 << 20;
/// A child may be so far ahead of us and still need nothing: it had a faster parent.
const AHEAD: u32 = 256;

#[derive(Debug)]
struct Layer {
    /// By number, each once.
    frames: VecDeque<Frame>,
    bytes: usize,
    key: Option<u32>,
    highest: u32,
    generation: u16,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    layers: [Option<Layer>; Layers::MAX as usize],
}

impl Ring {
    /// Remembers a video frame. A newer generation whose numbers start again replaces the layer.
    pub(crate) fn add(&mut self, frame: &Frame, now: Micros) {
        let h = &frame.header;
        let Some(slot) = self.layers.get_mut(usize::from(h.spatial)) else {
            return;
        };
        if slot
            .as_ref()
            .is_some_and(|l| is_newer(h.generation, l.generation) && h.number <= l.highest)
        {
            *slot = None;
        }
        let layer = slot.get_or_insert_with(|| Layer {
            frames: VecDeque::new(),
            bytes: 0,
            key: None,
            highest: h.number,
            generation: h.generation,
        });
        let at = layer.frames.partition_point(|f| f.header.number < h.number);
        if layer
            .frames
            .get(at)
            .is_some_and(|f| f.header.number == h.number)
        {
            return;
        }
        if h.number >= layer.highest {
            layer.highest = h.number;
            layer.generation = h.generation;
        }
        layer.frames.insert(at, frame.clone());
        layer.bytes += frame.sealed.len();
        if h.is_key() && layer.key.is_none_or(|key| h.number > key) {
            layer.key = Some(h.number);
            layer.forget_while(|f, _| f.header.number < h.number);
        }
        layer.expire(now);
    }

    /// The frame with this number, if it is still here.
    pub(crate) fn get(&self, layer: u8, number: u32) -> Option<&Frame> {
        let frames = &self.layer(layer)?.frames;
        let at = frames.partition_point(|f| f.header.number < number);
        frames.get(at).filter(|f| f.header.number == number)
    }

    /// What a newcomer needs of a layer, in order of numbers: the last key frame and all that depends on it and counts
    /// (droppable frames are left out: they only cost time now). `None`: no key frame young enough, or a hole behind it that
    /// frames depend on; a key request must go out.
    pub(crate) fn replay(&self, layer: u8, now: Micros) -> Option<Vec<Frame>> {
        let layer = self.layer(layer)?;
        let key = layer.key?;
        let from = layer.frames.partition_point(|f| f.header.number < key);
        if now - layer.frames.get(from)?.at > RING {
            return None;
        }
        let mut whole: Vec<u32> = Vec::new();
        let mut frames = Vec::new();
        for frame in layer.frames.iter().skip(from) {
            let h = &frame.header;
            let met = if h.is_key() {
                true
            } else if needs_all(h) {
                // What is whole lies between the key frame and this one, each once.
                whole.len() as u64 == u64::from(h.number - key)
            } else {
                references(h).all(|n| whole.binary_search(&n).is_ok())
            };
            match (met, h.droppable) {
                (true, droppable) => {
                    whole.push(h.number);
                    if !droppable {
                        frames.push(frame.clone());
                    }
                }
                (false, true) => {}
                (false, false) => return None,
            }
        }
        Some(frames)
    }

    /// Everything after `number` for somebody who has the layer up to there; `None` when the ring does not reach back so
    /// far, or counts differently.
    pub(crate) fn after(
        &self,
        layer: u8,
        generation: u16,
        number: u32,
        now: Micros,
    ) -> Option<Vec<Frame>> {
        let held = self.layer(layer)?;
        if held.frames.is_empty() || is_newer(generation, held.generation) {
            return None;
        }
        if number > held.highest {
            // Under an older generation it is the number of another count, and says nothing about this one.
            let ahead = generation == held.generation && number - held.highest < AHEAD;
            return ahead.then(Vec::new);
        }
        self.get(layer, number)
            .filter(|frame| frame.header.generation == generation)?;
        let later = held.frames.iter().filter(|f| f.header.number > number);
        Some(later.filter(|f| now - f.at <= RING).cloned().collect())
    }

    /// Drops what is too old.
    pub(crate) fn expire(&mut self, now: Micros) {
        for layer in self.layers.iter_mut().flatten() {
            layer.expire(now);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().flatten().map(|layer| layer.bytes).sum()
    }

    pub(crate) fn frames(&self) -> usize {
        self.layers
            .iter()
            .flatten()
            .map(|layer| layer.frames.len())
            .sum()
    }

    fn layer(&self, layer: u8) -> Option<&Layer> {
        self.layers.get(usize::from(layer))?.as_ref()
    }
}

impl Layer {
    fn forget_while(&mut self, mut old: impl FnMut(&Frame, usize) -> bool) {
        while let Some(frame) = self.frames.front() {
            if !old(frame, self.bytes) {
                return;
            }
            self.bytes -= frame.sealed.len();
            if self.key == Some(frame.header.number) {
                self.key = None;
            }
            self.frames.pop_front();
        }
        // A layer that has ended keeps no room for it.
        self.frames.shrink_to(0);
    }

    fn expire(&mut self, now: Micros) {
        self.forget_while(|frame, bytes| now - frame.at > RING || bytes > RING_BYTES);
    }
}

//! Opening: the keys of one remote sender, and each of its frames once.
//!
//! A generation becomes known by mail, or by ratcheting a known one when a frame of it opens. It expires
//! [`GENERATION_GRACE_MS`] after a newer one was first used. A frame that fails changes nothing but a counter.

use std::collections::HashMap;

use crate::header::{Header, is_newer};
use crate::seal::{BaseKey, FrameKeys};

/// How long a generation opens frames after a newer one was first used, ms: longer than a frame can be on its way.
pub const GENERATION_GRACE_MS: u64 = 10_000;
/// How many ratchet steps ahead a receiver goes without mail: joins that happen while a mail is on its way.
pub const RATCHET_WINDOW: u16 = 8;
/// How far behind the newest frame of a layer one may still open, frames: 34 s of video at 30/s, 20 s of audio at 50/s.
pub const REPLAY_WINDOW: u32 = 1024;
/// Generations held at once; the oldest goes first. A bound, not a schedule.
const MOST_GENERATIONS: usize = 32;

/// Why a frame did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Its generation is not known (yet).
    #[error("no key of its generation is known")]
    NoKey,
    /// It does not authenticate.
    #[error("it was altered, or sealed with another key")]
    Altered,
    /// It opened before, or is too old to tell.
    #[error("it was opened before")]
    Replayed,
    /// No header, or not of this sender.
    #[error("it is no frame of this sender")]
    Malformed,
}

/// What became of frames, counted since the opener was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub opened: u64,
    pub no_key: u64,
    pub altered: u64,
    pub replayed: u64,
    pub malformed: u64,
}

#[derive(Debug)]
struct Generation {
    /// It came by mail, or opened a frame. Otherwise it was ratcheted from one that did, on trial.
    believed: bool,
    base: BaseKey,
    keys: FrameKeys,
    /// By lane.
    windows: HashMap<u16, Window>,
    expires_ms: Option<u64>,
}

/// Opens what one remote sender sealed. Make a new one when the sender has a new identity.
#[derive(Debug)]
pub struct Opener {
    sender: u16,
    held: HashMap<u16, Generation>,
    /// The newest generation that opened a frame, and when it first did.
    used: Option<(u16, u64)>,
    /// The newest generation that expired. It and everything before it stay forgotten, whatever mail comes again.
    expired: Option<u16>,
    counts: Counts,
}

impl Opener {
    /// Knows no key yet.
    pub fn new(sender: u16) -> Self {
        Self {
            sender,
            held: HashMap::new(),
            used: None,
            expired: None,
            counts: Counts::default(),
        }
    }

    /// Takes a key that the sender mailed. The same key again changes nothing, another key under the same generation replaces
    /// it. False when the generation has expired already.
    pub fn add_key(&mut self, generation: u16, key: BaseKey) -> bool {
        if self
            .expired
            .is_some_and(|expired| !is_newer(generation, expired))
        {
            return false;
        }
        if let Some(held) = self.held.get_mut(&generation)
            && held.base == key
        {
            held.believed = true;
            return true;
        }
        // Steps that were derived past it stand on another key now; they are derived again when a frame asks for them.
        let mut next = generation.wrapping_add(1);
        while self.held.get(&next).is_some_and(|held| !held.believed) {
            self.held.remove(&next);
            next = next.wrapping_add(1);
        }
        self.hold(generation, key, true);
        true
    }

    /// The generations whose keys are believed, in no order.
    pub fn generations(&self) -> Vec<u16> {
        let believed = self.held.iter().filter(|(_, held)| held.believed);
        believed.map(|(generation, _)| *generation).collect()
    }

    /// What became of frames so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Opens a frame, at most once, and gives its header and payload. `now_ms` is any monotonic clock, always the same.
    pub fn open(&mut self, frame: &[u8], now_ms: u64) -> Result<(Header, Vec<u8>), Refusal> {
        let result = self.open_uncounted(frame, now_ms);
        let count = match &result {
            Ok(_) => &mut self.counts.opened,
            Err(Refusal::NoKey) => &mut self.counts.no_key,
            Err(Refusal::Altered) => &mut self.counts.altered,
            Err(Refusal::Replayed) => &mut self.counts.replayed,
            Err(Refusal::Malformed) => &mut self.counts.malformed,
        };
        *count += 1;
        result
    }

    fn open_uncounted(&mut self, frame: &[u8], now_ms: u64) -> Result<(Header, Vec<u8>), Refusal> {
        let header = Header::decode(frame)
            .filter(|header| header.sender == self.sender)
            .ok_or(Refusal::Malformed)?;
        self.expire(now_ms);
        let generation = header.generation;
        self.ratchet_to(generation);
        let held = self.held.get_mut(&generation).ok_or(Refusal::NoKey)?;
        let lane = header.lane();
        if held
            .windows
            .get(&lane)
            .is_some_and(|window| window.has(header.number))
        {
            return Err(Refusal::Replayed);
        }
        let payload = held.keys.open(&header, frame).ok_or(if held.believed {
            Refusal::Altered
        } else {
            Refusal::NoKey
        })?;
        held.windows.entry(lane).or_default().add(header.number);
        held.believed = true;
        if self.used.is_none_or(|(used, _)| is_newer(generation, used)) {
            self.used = Some((generation, now_ms));
            for (other, held) in &mut self.held {
                if is_newer(generation, *other) {
                    held.expires_ms.get_or_insert(now_ms + GENERATION_GRACE_MS);
                }
            }
        }
        Ok((header, payload))
    }

    fn expire(&mut self, now_ms: u64) {
        let due = |held: &Generation| held.expires_ms.is_some_and(|at| now_ms >= at);
        let due: Vec<u16> = self
            .held
            .iter()
            .filter(|(_, held)| due(held))
            .map(|(g, _)| *g)
            .collect();
        for generation in due {
            self.forget(generation);
        }
    }

    fn forget(&mut self, generation: u16) {
        self.held.remove(&generation);
        if self
            .expired
            .is_none_or(|expired| is_newer(generation, expired))
        {
            self.expired = Some(generation);
        }
    }

    /// Puts a generation that no mail brought on trial, from the closest believed one before it, unless that is too far.
    fn ratchet_to(&mut self, generation: u16) {
        if self.held.contains_key(&generation) {
            return;
        }
        let believed = |back: &u16| {
            let from = generation.wrapping_sub(*back);
            self.held.get(&from).is_some_and(|held| held.believed)
        };
        let Some(back) = (1..=RATCHET_WINDOW).find(believed) else {
            return;
        };
        for ahead in (1..=back).rev() {
            let (from, to) = (
                generation.wrapping_sub(ahead),
                generation.wrapping_sub(ahead - 1),
            );
            if self.held.contains_key(&to) {
                continue;
            }
            let Some(base) = self.held.get(&from).map(|held| held.base.ratchet()) else {
                return;
            };
            self.hold(to, base, false);
        }
    }

    fn hold(&mut self, generation: u16, base: BaseKey, believed: bool) {
        let keys = FrameKeys::derive(&base, self.sender, generation);
        let old = self.used.filter(|(used, _)| is_newer(*used, generation));
        let held = Generation {
            believed,
            base,
            keys,
            windows: HashMap::new(),
            expires_ms: old.map(|(_, since_ms)| since_ms + GENERATION_GRACE_MS),
        };
        self.held.insert(generation, held);
        if self.held.len() > MOST_GENERATIONS {
            let oldest = self
                .held
                .keys()
                .copied()
                .reduce(|a, b| if is_newer(a, b) { b } else { a });
            if let Some(oldest) = oldest {
                self.forget(oldest);
            }
        }
    }
}

/// Which of the last [`REPLAY_WINDOW`] numbers of a lane have opened.
#[derive(Debug)]
struct Window {
    /// One past the newest that opened; 0 when none has.
    end: u64,
    /// Bit `number % REPLAY_WINDOW`.
    bits: [u64; REPLAY_WINDOW as usize / 64],
}

impl Default for Window {
    fn default() -> Self {
        Self {
            end: 0,
            bits: [0; REPLAY_WINDOW as usize / 64],
        }
    }
}

impl Window {
    fn has(&self, number: u32) -> bool {
        let number = u64::from(number);
        number < self.end
            && (number + u64::from(REPLAY_WINDOW) < self.end
                || self.bits[word(number)] & bit(number) != 0)
    }

    fn add(&mut self, number: u32) {
        let number = u64::from(number);
        if number >= self.end {
            if number - self.end >= u64::from(REPLAY_WINDOW) {
                self.bits.fill(0);
            } else {
                for skipped in self.end..number {
                    self.bits[word(skipped)] &= !bit(skipped);
                }
            }
            self.end = number + 1;
        }
        self.bits[word(number)] |= bit(number);
    }
}

fn word(number: u64) -> usize {
    (number % u64::from(REPLAY_WINDOW)) as usize / 64
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

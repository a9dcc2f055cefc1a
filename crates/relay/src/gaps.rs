//! Which frames of one track and layer are missing, seen from headers alone: tells a duplicate from a new frame, and a loss
//! from a deliberate drop; says what to ask the parent for, and when to give up. Numbers only, no frames: at most
//! [`MAX_MISSING`] small entries.
//!
//! A frame is missed only when a frame that counts (not droppable) names it as needed. Frames between the needed one and the
//! last that came are asked for along with it, because they may be its ancestors; giving up on those alone costs nothing.
//! Sound is only counted: `docs/design/forwarding.md`, Sound.

use std::collections::BTreeMap;

use grove_frame::{Header, is_newer};

use crate::Micros;
use crate::frame::{MS, needs_all, references};

/// Entries kept. A larger jump is a new beginning: no repair could catch up with it.
pub(crate) const MAX_MISSING: u32 = 256;
/// Shortest and longest wait before the first question: below, reordering looks like loss; above, the player starves.
const REORDER: Micros = 25 * MS;
const REORDER_MAX: Micros = 120 * MS;
/// Questions per frame, and the time after which the answer is of no use to a player.
const MAX_TRIES: u32 = 3;
const GIVE_UP: Micros = 600 * MS;
/// How long a frame given up may still come by itself and count as new.
const KEEP: Micros = 1000 * MS;
/// A jump back by more than this, or an older generation, for [`STALE_RUN`] frames on end is a sender that counts anew, or an
/// earlier forgery.
const STALE_DISTANCE: u32 = 2048;
const STALE_RUN: u32 = 30;
/// A request may die on the way (a parent changes, an encoder restarts): it is repeated while nothing can be decoded.
const KEY_AGAIN: Micros = 500 * MS;
/// How often missing frames are looked at.
const LOOK: Micros = 10 * MS;

/// What a frame that came is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Filled,
    Duplicate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Want {
    No,
    /// May be an ancestor of a needed one.
    Suspect,
    /// Something that counts depends on it.
    Needed,
}

#[derive(Debug)]
struct Missing {
    since: Micros,
    want: Want,
    tries: u32,
    next: Micros,
    gone: bool,
}

/// What is to be done about missing frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Numbers to ask the parent for now.
    pub ask: Vec<u32>,
    /// Given up: to pass on to children.
    pub lost: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct Gaps {
    video: bool,
    highest: Option<u32>,
    pub generation: u16,
    missing: BTreeMap<u32, Missing>,
    key: Option<u32>,
    floor: u32,
    /// The last frames cannot be decoded until a key frame above this number comes.
    broken: Option<u32>,
    key_at: Micros,
    stale_run: u32,
    last_stale: Option<u32>,
    /// Sums that the caller takes away.
    pub repaired: u64,
    pub lost: u64,
}

impl Gaps {
    pub(crate) fn new(video: bool) -> Self {
        Self {
            video,
            highest: None,
            generation: 0,
            missing: BTreeMap::new(),
            key: None,
            floor: 0,
            broken: None,
            key_at: 0,
            stale_run: 0,
            last_stale: None,
            repaired: 0,
            lost: 0,
        }
    }

    /// A frame came. Anything but a duplicate is to be passed on.
    pub(crate) fn accept(&mut self, h: &Header, now: Micros) -> Verdict {
        let n = h.number;
        let Some(highest) = self.highest else {
            self.restart(h, now);
            return Verdict::New;
        };
        // Within one sealer numbers go on, so a higher number under an older generation is another count, and late.
        let late = n > highest && is_newer(self.generation, h.generation);
        if n > highest && !late {
            if n - highest > MAX_MISSING {
                self.restart(h, now);
                return Verdict::New;
            }
            for m in highest + 1..n {
                self.note(m, Want::No, now);
            }
            self.highest = Some(n);
            self.generation = h.generation;
            self.took(h, now);
            return Verdict::New;
        }
        if is_newer(h.generation, self.generation) {
            self.restart(h, now);
            return Verdict::New;
        }
        if let Some(entry) = self.missing.remove(&n) {
            if entry.tries > 0 {
                self.repaired += 1;
            }
            self.took(h, now);
            return Verdict::Filled;
        }
        // The first frames of a replay may overtake each other: the beginning moves back until a key frame has come.
        if n < self.floor && self.floor - n <= MAX_MISSING && (self.key.is_none() || h.is_key()) {
            for m in n + 1..self.floor {
                self.note(m, Want::Suspect, now);
            }
            self.floor = n;
            self.took(h, now);
            return Verdict::New;
        }
        let stale = late || highest.saturating_sub(n) > STALE_DISTANCE;
        if stale && self.last_stale.is_none_or(|last| n > last) {
            self.last_stale = Some(n);
            self.stale_run += 1;
            if self.stale_run >= STALE_RUN {
                self.restart(h, now);
                return Verdict::New;
            }
        }
        Verdict::Duplicate
    }

    /// The parent says that these will not come.
    pub(crate) fn miss(&mut self, numbers: &[u32], now: Micros) {
        for n in numbers {
            if let Some(entry) = self.missing.get_mut(n).filter(|entry| !entry.gone) {
                entry.since = entry.since.min(now.saturating_sub(GIVE_UP));
            }
        }
    }

    /// The parent says that `number` is the newest and was sent: if it did not come, it is missing and counts.
    pub(crate) fn tip(&mut self, generation: u16, number: u32, now: Micros) {
        let Some(highest) = self.highest.filter(|_| self.video) else {
            return;
        };
        if number <= highest
            || number - highest > MAX_MISSING
            || is_newer(self.generation, generation)
        {
            return;
        }
        for m in highest + 1..=number {
            self.note(m, Want::No, now);
        }
        self.highest = Some(number);
        if let Some(newest) = self.missing.get_mut(&number) {
            newest.want = Want::Needed;
        }
        self.suspect_below(number);
    }

    /// The parent changed: what is missing is asked of the new one from the beginning.
    pub(crate) fn reparent(&mut self, now: Micros) {
        for entry in self.missing.values_mut().filter(|entry| !entry.gone) {
            entry.tries = entry.tries.min(1);
            entry.since = now;
            entry.next = now;
        }
    }

    /// What is due now. `srtt` and `bound` (srtt + 4 rttvar) of the link to the parent, ms.
    pub(crate) fn poll(&mut self, now: Micros, srtt: f64, bound: f64) -> Due {
        let mut due = Due::default();
        if self.missing.is_empty() {
            return due;
        }
        let wait = ((1.25 * srtt * MS as f64) as Micros).clamp(REORDER, REORDER_MAX);
        let again = ((bound + 15.0).max(40.0) * MS as f64) as Micros;
        let (video, key) = (self.video, self.key);
        let mut broke = None;
        let mut lost = 0;
        self.missing.retain(|&n, entry| {
            let age = now.saturating_sub(entry.since);
            if age > KEEP && (entry.gone || !video) {
                lost += u64::from(!video);
                return false;
            }
            if !video || entry.gone {
                return true;
            }
            if entry.want == Want::No || key.is_some_and(|key| n <= key) {
                entry.gone = age >= wait;
            } else if age >= GIVE_UP || (entry.tries >= MAX_TRIES && now >= entry.next) {
                entry.gone = true;
                due.lost.push(n);
                if entry.want == Want::Needed {
                    lost += 1;
                    broke = Some(n);
                }
            } else if age >= wait && (entry.tries == 0 || now >= entry.next) {
                entry.tries += 1;
                entry.next = now + again * Micros::from(entry.tries);
                due.ask.push(n);
            }
            true
        });
        self.lost += lost;
        if let Some(n) = broke {
            self.break_at(n, now);
        }
        due
    }

    /// Is this number missing and still hoped for?
    pub(crate) fn awaits(&self, number: u32) -> bool {
        self.missing.get(&number).is_some_and(|entry| !entry.gone)
    }

    /// A key frame is wanted: at once when a frame was given up, then each [`KEY_AGAIN`] until one comes.
    pub(crate) fn wants_key(&mut self, now: Micros) -> bool {
        if self.broken.is_none() || now < self.key_at {
            return false;
        }
        self.key_at = now + KEY_AGAIN;
        true
    }

    /// When to call [`Gaps::poll`] again.
    pub(crate) fn next(&self, now: Micros) -> Option<Micros> {
        self.missing.first_key_value().map(|(_, oldest)| {
            if self.video {
                now + LOOK
            } else {
                oldest.since + KEEP + MS
            }
        })
    }

    /// When to call [`Gaps::wants_key`] again.
    pub(crate) fn next_key(&self) -> Option<Micros> {
        self.broken.map(|_| self.key_at)
    }

    /// The highest number that came, when a frame after it could be decoded, as far as headers tell.
    pub(crate) fn whole(&self) -> Option<u32> {
        self.highest
            .filter(|_| self.broken.is_none() && (!self.video || self.key.is_some()))
    }

    pub(crate) fn pending(&self) -> usize {
        self.missing.len()
    }

    fn restart(&mut self, h: &Header, now: Micros) {
        self.missing.clear();
        self.highest = Some(h.number);
        self.floor = h.number;
        self.generation = h.generation;
        self.key = None;
        self.broken = None;
        // The key frame, being large, may have been overtaken by what depends on it: any one will do.
        if self.video && !h.is_key() {
            self.break_at(0, now + REORDER_MAX);
        }
        self.took(h, now);
    }

    fn break_at(&mut self, n: u32, ask_at: Micros) {
        if self.broken.is_none() {
            self.key_at = ask_at;
        }
        self.broken = Some(self.broken.unwrap_or(0).max(n));
    }

    fn note(&mut self, n: u32, want: Want, now: Micros) {
        if self.missing.len() >= MAX_MISSING as usize {
            self.missing.pop_first();
        }
        let entry = Missing {
            since: now,
            want,
            tries: 0,
            next: now,
            gone: false,
        };
        self.missing.insert(n, entry);
    }

    fn took(&mut self, h: &Header, now: Micros) {
        self.stale_run = 0;
        self.last_stale = None;
        if !self.video {
            return;
        }
        if h.is_key() {
            let key = self.key.unwrap_or(0).max(h.number);
            self.key = Some(key);
            if self.broken.is_some_and(|broken| broken <= key) {
                self.broken = None;
            }
            return;
        }
        if h.droppable || self.missing.is_empty() {
            return;
        }
        let above_key = |n: u32| self.key.is_none_or(|key| n > key);
        if needs_all(h) {
            let all: Vec<u32> = self
                .missing
                .range(..h.number)
                .map(|(&n, _)| n)
                .filter(|&n| above_key(n))
                .collect();
            for n in all {
                self.need(n, now);
            }
            return;
        }
        for n in references(h) {
            if self.missing.contains_key(&n) && self.key.is_none_or(|key| n > key) {
                self.need(n, now);
                self.suspect_below(n);
            }
        }
    }

    /// Frames right below a missing one that counts may be its ancestors.
    fn suspect_below(&mut self, number: u32) {
        let mut expected = number;
        for (&m, entry) in self.missing.range_mut(..number).rev() {
            expected -= 1;
            if m != expected || self.key.is_some_and(|key| m <= key) {
                return;
            }
            if entry.want == Want::No {
                entry.want = Want::Suspect;
            }
        }
    }

    fn need(&mut self, n: u32, now: Micros) {
        let Some(entry) = self.missing.get_mut(&n) else {
            return;
        };
        if entry.gone {
            // Settled as a deliberate drop (or as a mere suspect), now known to count: it is asked for again.
            if entry.tries > 0 || now - entry.since > GIVE_UP {
                self.break_at(n, now);
                return;
            }
            entry.gone = false;
        }
        entry.want = Want::Needed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{delta, key};

    fn picture(number: u32, back: u16) -> Header {
        delta(number, back, back)
    }

    #[test]
    fn a_hole_that_nobody_names_is_no_loss_and_one_that_counts_is_asked_for_three_times() {
        let mut gaps = Gaps::new(true);
        gaps.accept(&key(10), 0);
        // 11 was left out on purpose: 12 does not need it.
        gaps.accept(&picture(12, 2), 0);
        gaps.accept(&picture(14, 1), 0);
        let mut asked = Vec::new();
        let mut lost = Vec::new();
        for ms in 0..1000 {
            let due = gaps.poll(ms * MS, 20.0, 40.0);
            asked.extend(due.ask.into_iter().map(|n| (n, ms)));
            lost.extend(due.lost.into_iter().map(|n| (n, ms)));
        }
        // After 1.25 srtt; then srtt + 4 rttvar + 15 ms, times the try; given up when the third answer does not come.
        assert_eq!(asked, [(13, 25), (13, 80), (13, 190)]);
        assert_eq!(lost, [(13, 355)]);
        assert!(
            gaps.wants_key(1000 * MS) && !gaps.wants_key(1499 * MS) && gaps.wants_key(1500 * MS)
        );
        assert_eq!(gaps.whole(), None);
        gaps.accept(&key(15), 1500 * MS);
        assert_eq!(gaps.whole(), Some(15));
    }

    #[test]
    fn a_frame_comes_once_whatever_its_way() {
        let mut gaps = Gaps::new(true);
        let verdicts = [
            key(5),
            picture(8, 1),
            picture(7, 1),
            picture(7, 1),
            key(5),
            picture(8, 1),
            key(4),
        ];
        let verdicts: Vec<_> = verdicts.iter().map(|h| gaps.accept(h, 0)).collect();
        use Verdict::{Duplicate, Filled, New};
        assert_eq!(
            verdicts,
            [New, New, Filled, Duplicate, Duplicate, Duplicate, New]
        );
    }

    #[test]
    fn a_forged_number_far_ahead_blinds_for_thirty_frames_and_not_for_good() {
        let mut gaps = Gaps::new(true);
        gaps.accept(&key(0), 0);
        gaps.accept(&picture(1_000_000, 1), 0);
        let old = (1..100).map(|n| gaps.accept(&picture(n, 1), 0));
        assert_eq!(
            old.filter(|&verdict| verdict == Verdict::Duplicate).count(),
            29
        );
        assert!(gaps.pending() <= MAX_MISSING as usize);
    }

    #[test]
    fn a_late_frame_of_an_older_generation_is_no_news_unless_the_sender_goes_on_so() {
        let mut gaps = Gaps::new(true);
        let under = |generation, h: Header| Header { generation, ..h };
        gaps.accept(&under(1, key(90)), 0);
        // A new sealer counts anew; then something of the old one comes after all.
        gaps.accept(&under(2, key(0)), 0);
        gaps.accept(&under(2, picture(1, 1)), 0);
        assert_eq!(
            gaps.accept(&under(1, picture(91, 1)), 0),
            Verdict::Duplicate
        );
        assert_eq!((gaps.generation, gaps.whole()), (2, Some(1)));
        assert_eq!(gaps.pending(), 0);
        assert_eq!(gaps.accept(&under(2, picture(2, 1)), 0), Verdict::New);
        // A sealer whose clock was set back: refused at first, and not for good.
        let news = (100..150).map(|n| gaps.accept(&under(1, picture(n, 1)), 0));
        assert_eq!(news.filter(|&verdict| verdict == Verdict::New).count(), 21);
        assert_eq!(gaps.generation, 1);
    }

    #[test]
    fn numbers_at_the_end_of_the_range_break_nothing() {
        let mut gaps = Gaps::new(true);
        for n in [u32::MAX - 3, u32::MAX, u32::MAX - 1, 0, 1, u32::MAX] {
            gaps.accept(&picture(n, 2), 0);
            gaps.tip(1, u32::MAX, 0);
            gaps.poll(2000 * MS, 0.0, 0.0);
        }
        assert!(gaps.pending() <= MAX_MISSING as usize);
    }
}

//! The numbers of one outgoing RTP stream, whatever it is made of.
//!
//! A receiver that goes by sequence numbers alone must get them without a hole. So a packet that is left out on purpose
//! takes no number; one that has not come keeps its own, and if it then belongs to a frame that is left out, an empty packet
//! fills the place ([`Numbering::leave_out`]). At a switch the stream goes on with another source; the holes of the source
//! before can still be filled.
//!
//! A source's numbers are mapped by a list of runs that were left out. Bounds: [`SEGMENTS`] sources, [`RUNS`] runs each,
//! [`WINDOW`] numbers back. Cost: a binary search per packet; no allocation in the ordinary case.

use std::collections::VecDeque;

/// A layer of a stream, or its sound: any number that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u64);

/// Sources before the present one whose holes may still be filled.
pub const SEGMENTS: usize = 4;
/// Runs of left-out packets remembered of each source: at 15 dropped frames a second 17 s, retransmissions take less than 3.
pub const RUNS: usize = 256;
/// Outgoing numbers remembered as taken. Older ones are given out no more.
pub const WINDOW: u64 = 4096;
/// A larger gap in a source's numbers is no loss that a retransmission could mend: switch to the source anew.
pub const JUMP: u64 = 1024;

/// A stretch of the outgoing stream that comes from one source.
pub type SegmentId = u64;

/// Incoming numbers that were left out, one behind the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    count: u64,
    /// All that were left out before these.
    before: u64,
}

#[derive(Debug)]
struct Segment {
    id: SegmentId,
    source: Source,
    /// Its first incoming number, and the outgoing number of that one.
    from: u64,
    out: u64,
    /// The end of the incoming numbers that can get an outgoing one: beyond all that came, once a switch has closed it
    /// beyond all that went out.
    end: u64,
    /// Beyond the last that went out.
    sent: u64,
    runs: VecDeque<Run>,
    /// Numbers before this one lie before the runs that are remembered.
    floor: u64,
}

impl Segment {
    /// The outgoing number; `None` for one that was left out, or lies too far back.
    fn number(&self, seq: u64) -> Option<u64> {
        if seq < self.floor {
            return None;
        }
        let behind = self.runs.partition_point(|run| run.first <= seq);
        let left_out = match behind.checked_sub(1).map(|at| self.runs[at]) {
            Some(run) if seq < run.first + run.count => return None,
            Some(run) => run.before + run.count,
            None => self.runs.front().map_or(0, |run| run.before),
        };
        Some(self.out + (seq - self.from) - left_out)
    }

    fn leave_out(&mut self, seq: u64) {
        let before = match self.runs.back_mut() {
            Some(run) if run.first + run.count == seq => {
                run.count += 1;
                return;
            }
            Some(run) => run.before + run.count,
            None => 0,
        };
        self.runs.push_back(Run {
            first: seq,
            count: 1,
            before,
        });
        if self.runs.len() > RUNS
            && let Some(run) = self.runs.pop_front()
        {
            self.floor = run.first + run.count;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Numbering {
    segments: VecDeque<Segment>,
    made: SegmentId,
    /// Beyond the highest number given out.
    next: u64,
    /// Which of the last [`WINDOW`] numbers were given out, by number modulo [`WINDOW`].
    taken: Box<[u64; (WINDOW / 64) as usize]>,
}

impl Numbering {
    /// The first number given out will be `first`.
    pub fn new(first: u64) -> Self {
        Self {
            segments: VecDeque::new(),
            made: 0,
            next: first,
            taken: Box::new([0; (WINDOW / 64) as usize]),
        }
    }

    /// From now on the stream is made of `source`, beginning with its packet `from`. What has not come of the source before
    /// and lies beyond the last packet that went out gets no number any more.
    pub fn switch(&mut self, source: Source, from: u64) -> SegmentId {
        if let Some(last) = self.segments.back_mut() {
            last.end = last.sent;
        }
        self.made += 1;
        self.segments.push_back(Segment {
            id: self.made,
            source,
            from,
            out: self.next,
            end: from,
            sent: from,
            runs: VecDeque::new(),
            floor: from,
        });
        if self.segments.len() > 1 + SEGMENTS {
            self.segments.pop_front();
        }
        self.made
    }

    /// Which stretch of the outgoing stream a packet belongs to: the present one, or a hole in one before. `None`: to none.
    pub fn locate(&self, source: Source, seq: u64) -> Option<SegmentId> {
        let last = self.segments.back()?;
        let mut of_source = self
            .segments
            .iter()
            .rev()
            .filter(|s| s.source == source && s.from <= seq);
        let segment = of_source.next()?;
        (segment.id == last.id || seq < segment.end).then_some(segment.id)
    }

    /// The stretch is the present one.
    pub fn is_open(&self, id: SegmentId) -> bool {
        self.segments.back().is_some_and(|s| s.id == id)
    }

    /// The number lies too far ahead to be the present source's next.
    pub fn is_jump(&self, source: Source, seq: u64) -> bool {
        let present = self.segments.back();
        present.is_some_and(|s| s.source == source && seq > s.end + JUMP)
    }

    /// The packet goes out: with this number. `None` when it went out before, was left out, or belongs nowhere.
    pub fn forward(&mut self, source: Source, seq: u64) -> Option<u64> {
        let id = self.locate(source, seq)?;
        let segment = self.segments.iter_mut().find(|s| s.id == id)?;
        let number = segment.number(seq)?;
        segment.end = segment.end.max(seq + 1);
        segment.sent = segment.sent.max(seq + 1);
        self.take(number)
    }

    /// The packet is left out on purpose. `Some`: later packets went past it, so an empty packet must take this number.
    pub fn leave_out(&mut self, source: Source, seq: u64) -> Option<u64> {
        let id = self.locate(source, seq)?;
        let segment = self.segments.iter_mut().find(|s| s.id == id)?;
        if seq >= segment.end {
            segment.leave_out(seq);
            segment.end = seq + 1;
            return None;
        }
        let number = segment.number(seq)?;
        segment.sent = segment.sent.max(seq + 1);
        self.take(number)
    }

    /// Beyond the highest number given out.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn is_taken(&self, number: u64) -> bool {
        let bit = number % WINDOW;
        number < self.next
            && number + WINDOW >= self.next
            && self.taken[(bit / 64) as usize] >> (bit % 64) & 1 == 1
    }

    fn take(&mut self, number: u64) -> Option<u64> {
        if number + WINDOW < self.next || self.is_taken(number) {
            return None;
        }
        // Numbers on the way from the last one are free until their packets come.
        for skipped in self.next.max((number + 1).saturating_sub(WINDOW))..=number {
            let bit = skipped % WINDOW;
            self.taken[(bit / 64) as usize] &= !(1 << (bit % 64));
        }
        self.next = self.next.max(number + 1);
        let bit = number % WINDOW;
        self.taken[(bit / 64) as usize] |= 1 << (bit % 64);
        Some(number)
    }
}

#[cfg(test)]
mod tests;

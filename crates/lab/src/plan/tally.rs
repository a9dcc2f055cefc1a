//! What a run counts. Nothing here influences the run.

use super::overlay::Micros;

/// A viewer sees it.
pub(super) const VISIBLE: Micros = 200_000;
/// What a buffer of ten seconds hides.
pub(super) const BUFFERED: Micros = 10_000_000;

/// Times in buckets of a millisecond, the last one open.
#[derive(Debug, Clone)]
pub(super) struct Times {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            buckets: vec![0; 20_001],
            count: 0,
        }
    }
}

impl Times {
    pub(super) fn add(&mut self, time: Micros) {
        let last = self.buckets.len() - 1;
        self.buckets[last.min((time / 1000) as usize)] += 1;
        self.count += 1;
    }

    /// The time in ms within which the share `q` of them was, by the nearest rank.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets
            .iter()
            .position(|count| {
                seen += count;
                seen >= rank
            })
            .map(|ms| ms as f64)
    }
}

/// What one kind of operation cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub operations: u64,
    /// Edges that a surviving child got.
    pub edges: u64,
    /// Of a single operation.
    pub most_edges: u64,
    /// Nodes whose records were read or changed.
    pub touched: u64,
    pub most_touched: u64,
    /// Of this process.
    pub nanos: u64,
    pub most_nanos: u64,
}

/// Operations by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Join,
    Leave,
    Uplink,
    Tick,
    Other,
}

/// One look at the trees.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Look {
    /// Viewers in the plan, and those whose bytes arrive.
    pub planned: u64,
    pub fed: u64,
    /// Viewers at level 1, 2 ... of the plan (of all stripes).
    pub levels: Vec<u64>,
    /// The best there could be with the paid slots in use (B1), per stripe.
    pub best: Vec<u64>,
    /// Copies that the root and the relays send, in copies of the whole stream.
    pub paid: f64,
    /// Copies that the plan asks of viewers beyond their uplinks.
    pub overdrawn: f64,
    /// The fewest paid slots within the depth that was allowed.
    pub least_paid: u64,
    /// Delay from the root, mean over viewers of their slowest stripe.
    pub delay_ms: f64,
    /// Of viewers below level 0, stripe by stripe: those with a legal backup, and all.
    pub backups: (u64, u64),
    /// Viewers without children who are somebody's backup.
    pub reserved: u64,
}

/// A run in figures.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Trees that a viewer is in.
    pub stripes: u64,
    /// Time that viewers who had begun to see something spent here.
    pub watched: Micros,
    /// How often somebody stopped getting everything, and for how long.
    pub interruptions: u64,
    pub visible: u64,
    pub past_buffer: u64,
    pub gaps: Times,
    /// Of the stream, in stream-microseconds, what did not arrive.
    pub missing: Micros,
    /// How often nothing at all arrived for longer than is visible.
    pub black: u64,
    /// From wanting to watch to the first whole picture.
    pub starts: Times,
    pub arrivals: u64,
    pub departures: u64,
    /// Gone again before anything came, having waited for five seconds or more.
    pub never_fed: u64,
    pub costs: [Cost; 5],
    /// Children whose parent went, and what became of them.
    pub orphans: u64,
    pub orphan_edges: u64,
    pub partings: u64,
    pub partings_minimal: u64,
    pub worst_surplus: u64,
    /// Nodes that a departure touched beyond its orphans, at most.
    pub touched_beyond: u64,
    pub deepened: u64,
    /// Children that went to their backup by themselves, and those that found it unable.
    pub fallbacks: u64,
    pub fallbacks_failed: u64,
    pub barred: u64,
    /// Backups that were named while it counted.
    pub backups_told: u64,
    /// What a plan must never do: an edge without a way to the root, a change that changes nothing, a child forgotten.
    pub violations: u64,
    pub looks: Vec<Look>,
}

impl Tally {
    pub(super) fn cost(&mut self, kind: Kind) -> &mut Cost {
        &mut self.costs[kind as usize]
    }

    pub(super) fn hours(&self) -> f64 {
        self.watched as f64 / 3.6e9
    }

    /// Per hour of one viewer's watching.
    pub(super) fn hourly(&self, count: u64) -> f64 {
        count as f64 / self.hours().max(1e-9)
    }

    pub(super) fn gap(&mut self, length: Micros) {
        self.gaps.add(length);
        self.visible += u64::from(length > VISIBLE);
        self.past_buffer += u64::from(length > BUFFERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_times_take_the_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        for ms in [5, 1, 4, 2, 90_000] {
            times.add(ms * 1000);
        }
        assert_eq!(times.quantile(0.5), Some(4.0));
        assert_eq!(times.quantile(1.0), Some(20_000.0), "the last is open");
    }

    #[test]
    fn a_gap_counts_as_visible_when_longer_than_a_fifth_of_a_second() {
        let mut tally = Tally::default();
        for length in [VISIBLE, VISIBLE + 1, BUFFERED + 1] {
            tally.gap(length);
        }
        assert_eq!((tally.visible, tally.past_buffer), (2, 1));
    }
}

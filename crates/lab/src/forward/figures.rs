//! What a run of the bench says: figures for the report, rows for whoever waits, bars.

use super::shape::Shape;
use super::tally::Count;
use super::{Family, Subject};
use crate::report::{Measure, quantile};
use crate::svg::Panel;
use clap::ValueEnum;

/// What is aimed at: times the floor with GSO, Janus's share, bytes a receiver.
const GOAL_FLOOR: f64 = 1.4;
const GOAL_JANUS: f64 = 4.0;
const GOAL_MEMORY: f64 = 102_400.0;

/// One server under one load.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Seconds of the server's processor time while it was counted.
    pub cpu: f64,
    /// How long that was meant to be.
    pub seconds: f64,
    /// Resident bytes before anybody came, and at the end.
    pub rss: (u64, u64),
    /// Resident bytes when counting began.
    pub rss_begun: u64,
    /// Datagrams to the server for which the kernel had no room while it was counted.
    pub dropped: u64,
    pub count: Count,
}

impl Outcome {
    /// Microseconds of processor time for each packet that arrived.
    pub(super) fn cost(&self) -> f64 {
        self.cpu * 1e6 / self.count.packets_came.max(1) as f64
    }

    /// Bytes of memory per receiver.
    pub(super) fn memory(&self) -> f64 {
        let grown = self.rss.1 as f64 - self.rss.0 as f64;
        grown / self.count.receivers.max(1) as f64
    }

    /// Percent of the frames that the publisher, on a busy machine, was too late to send.
    pub(super) fn not_sent(&self, shape: Shape) -> f64 {
        let due = self.seconds * f64::from(shape.frames_per_second());
        let sent = self.count.frames_due as f64 / self.count.receivers.max(1) as f64;
        // The window may hold one frame more or less.
        (100.0 * (due - sent - 1.0) / due).max(0.0)
    }

    pub(super) fn delay(&self, q: f64) -> Option<f64> {
        quantile(&self.count.delays_ms, q)
    }
}

/// The run whose cost is in the middle, with everything else that it saw.
pub(super) fn median(mut outcomes: Vec<Outcome>) -> Outcome {
    outcomes.sort_by(|a, b| a.cost().total_cmp(&b.cost()));
    outcomes.swap_remove((outcomes.len() - 1) / 2)
}

pub(super) fn measures<'a>(
    shape: Shape,
    of: impl Fn(Subject) -> Option<&'a Outcome>,
) -> Vec<Measure> {
    let mut measures = Vec::new();
    let single = of(Subject::FloorSingle).map(Outcome::cost);
    let gso = of(Subject::FloorGso).map(Outcome::cost);
    for &subject in Subject::value_variants() {
        let Some(outcome) = of(subject) else {
            continue;
        };
        let named = |name: &str, unit: &str, value| {
            Measure::new(
                format!("{}_{}_{name}", shape.name(), subject.name()),
                unit,
                value,
            )
        };
        let ours = subject == Subject::Grove;
        let cost = outcome.cost();
        measures.push(named("cpu_per_packet", "us", cost).reference(gso));
        if subject.family() != Family::Floor {
            if let Some(single) = single {
                measures.push(named("over_floor_single", "1", cost / single));
            }
            if let Some(gso) = gso {
                let goal = (ours && !shape.is_audio()).then_some(GOAL_FLOOR);
                measures.push(named("over_floor_gso", "1", cost / gso).goal(goal));
            }
            let goal = ours.then_some(GOAL_MEMORY);
            measures.push(named("memory_per_receiver", "bytes", outcome.memory()).goal(goal));
        }
        let goal = ours.then_some(0.0);
        let count = &outcome.count;
        measures.push(named("packets_lost", "%", count.packet_loss()).goal(goal));
        measures.push(named("frames_lost", "%", count.frame_loss()).goal(goal));
        for (name, q) in [("delay_p50", 0.5), ("delay_p99", 0.99)] {
            measures.extend(outcome.delay(q).map(|delay| named(name, "ms", delay)));
        }
        let forwarded = count.packets_came.max(1) as f64;
        let again = 100.0 * count.packets_twice as f64 / forwarded;
        measures.push(named("packets_again", "%", again));
        let all = count.datagrams as f64 / forwarded;
        measures.push(named("datagrams_per_packet", "1", all));
        let bytes = count.bytes as f64 / forwarded;
        measures.push(named("bytes_per_packet", "bytes", bytes));
        measures.push(named("links_lost", "1", count.links_lost as f64));
        measures.push(named("frames_not_sent", "%", outcome.not_sent(shape)));
    }
    if let (Some(grove), Some(janus)) = (of(Subject::Grove), of(Subject::Janus)) {
        let name = format!("{}_janus_over_grove", shape.name());
        let times = Measure::new(name, "1", janus.cost() / grove.cost());
        measures.push(times.higher().goal(Some(GOAL_JANUS)));
    }
    measures
}

/// The head of the rows.
pub(super) const HEAD: [&str; 9] = [
    "load",
    "server",
    "us/packet",
    "packets",
    "lost %",
    "frames lost %",
    "KiB/receiver",
    "p50 ms",
    "p99 ms",
];

pub(super) fn row(cells: &[String; 9]) -> String {
    let [load, server, rest @ ..] = cells;
    let mut line = format!("{load:9} {server:12}");
    for cell in rest {
        line += &format!(" {cell:>13}");
    }
    line
}

pub(super) fn cells(subject: Subject, shape: Shape, outcome: &Outcome) -> [String; 9] {
    let delay = |q| outcome.delay(q).map_or("-".into(), |ms| format!("{ms:.2}"));
    [
        shape.name().to_owned(),
        subject.name().to_owned(),
        format!("{:.2}", outcome.cost()),
        outcome.count.packets_came.to_string(),
        format!("{:.3}", outcome.count.packet_loss()),
        format!("{:.3}", outcome.count.frame_loss()),
        format!("{:.0}", outcome.memory() / 1024.0),
        delay(0.5),
        delay(0.99),
    ]
}

pub(super) fn panels<'a>(
    shapes: &[Shape],
    subjects: &[Subject],
    of: impl Fn(usize, Subject) -> Option<&'a Outcome>,
) -> Vec<Panel> {
    let panel = |title: &str, unit: &str, subjects: &[Subject], value: fn(&Outcome) -> f64| {
        let values = |subject| {
            let value = |at| of(at, subject).map(value);
            (0..shapes.len()).map(value).collect()
        };
        Panel::Bars {
            title: title.into(),
            unit: unit.into(),
            groups: shapes.iter().map(|s| s.name().to_owned()).collect(),
            series: subjects
                .iter()
                .map(|&subject| (subject.title().to_owned(), values(subject)))
                .collect(),
        }
    };
    let served: Vec<Subject> = subjects
        .iter()
        .copied()
        .filter(|subject| subject.family() != Family::Floor)
        .collect();
    vec![
        panel(
            "Processor time of the server for one forwarded packet",
            "us",
            subjects,
            Outcome::cost,
        ),
        panel("Memory of the server per receiver", "KiB", &served, |o| {
            o.memory() / 1024.0
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn outcome(cpu: f64, packets: usize) -> Outcome {
        Outcome {
            cpu,
            seconds: 0.1,
            rss: (10 << 20, 15 << 20),
            rss_begun: 12 << 20,
            dropped: 0,
            count: Count {
                receivers: 50,
                frames_due: 100,
                frames_whole: 99,
                packets_due: 1000,
                packets_lost: 5,
                packets_came: packets,
                delays_ms: vec![1.0, 2.0, 3.0, 4.0],
                ..Count::default()
            },
        }
    }

    fn values(measures: &[Measure]) -> BTreeMap<&str, f64> {
        measures
            .iter()
            .map(|m| (m.name.as_str(), m.value))
            .collect()
    }

    #[test]
    fn a_report_sets_grove_beside_both_floors_and_janus() {
        let by = BTreeMap::from([
            (Subject::FloorSingle, outcome(0.004, 1000)),
            (Subject::FloorGso, outcome(0.002, 1000)),
            (Subject::Grove, outcome(0.003, 1000)),
            (Subject::Janus, outcome(0.012, 1000)),
        ]);
        let measures = measures(Shape::Video50, |subject| by.get(&subject));
        let values = values(&measures);
        for (name, value) in [
            ("video50_floor_gso_cpu_per_packet", 2.0),
            ("video50_grove_cpu_per_packet", 3.0),
            ("video50_grove_over_floor_single", 0.75),
            ("video50_grove_over_floor_gso", 1.5),
            ("video50_grove_memory_per_receiver", 104_857.6),
            ("video50_grove_packets_lost", 0.5),
            ("video50_grove_frames_lost", 1.0),
            ("video50_grove_delay_p50", 2.0),
            ("video50_grove_delay_p99", 4.0),
            ("video50_janus_over_grove", 4.0),
        ] {
            assert_eq!(values.get(name), Some(&value), "{name}");
        }
        let names: std::collections::BTreeSet<_> = values.keys().collect();
        assert_eq!(names.len(), measures.len(), "names are unique");
    }

    #[test]
    fn what_was_not_measured_is_not_reported() {
        let grove = outcome(0.003, 1000);
        let measures = measures(Shape::Audio50, |subject| {
            (subject == Subject::Grove).then_some(&grove)
        });
        assert!(
            measures
                .iter()
                .all(|m| m.name.starts_with("audio50_grove_"))
        );
        assert!(!values(&measures).contains_key("audio50_grove_over_floor_gso"));
        assert_eq!(measures[0].reference, None);
    }

    #[test]
    fn the_median_run_is_one_of_the_runs() {
        let costs = |given: &[f64]| median(given.iter().map(|&c| outcome(c, 1000)).collect()).cpu;
        assert_eq!(costs(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(costs(&[4.0, 1.0]), 1.0);
        assert_eq!(costs(&[7.0]), 7.0);
    }
}

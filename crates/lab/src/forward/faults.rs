//! What the others notice of a fault: one publisher, twenty receivers and the relay, first alone, then with each fault beside
//! them. The flood comes from one thread as fast as that can send, on the same machine, so it also takes processor time from
//! everybody; what that alone does is measured, too, by a flood that goes elsewhere.

use super::figures::Outcome;
use super::flood::Fault;
use super::shape::Shape;
use super::{Case, Subject, load_average, measure, own_address};
use crate::report::{Measure, Report};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::{Args, ValueEnum};

/// Memory may grow by so much beside a flood, bytes.
const GOAL_GROWN: f64 = 1_048_576.0;
const SHAPE: Shape = Shape::Video20;
const MIB: f64 = 1_048_576.0;

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Which faults.
    #[arg(long, value_delimiter = ',', default_values_t = Fault::value_variants().to_vec(), value_enum)]
    only: Vec<Fault>,
    /// How long each lasts, seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Run it.
///
/// # Errors
/// When the relay or the load does not start, or nothing arrives.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let address = own_address();
    let mut report = Report::new("faults");
    report.condition("seconds", options.seconds);
    report.condition("address", address.to_string());
    report.condition("receivers", SHAPE.receivers());
    report.condition("video", "30 frames/s of 4 datagrams of about 1200 bytes");
    report.condition("load_average_before", load_average());
    let of = |fault| {
        let case = Case {
            fault,
            ..Case::of(Subject::Grove, SHAPE)
        };
        let outcome = measure(case, options.seconds, address)?;
        eprintln!("{}", row(&cells(fault, &outcome)));
        Ok((fault, outcome))
    };
    eprintln!("{}", row(&HEAD.map(str::to_owned)));
    let mut outcomes = vec![of(None)?];
    for &fault in &options.only {
        outcomes.push(of(Some(fault))?);
    }
    report.condition("load_average_after", load_average());
    let alone = outcomes[0].1.clone();
    for (fault, outcome) in &outcomes {
        report.measures.extend(measures(*fault, outcome, &alone));
    }
    Ok((report, panels(&outcomes)))
}

fn name(fault: Option<Fault>) -> String {
    fault.map_or("none".to_owned(), Fault::name)
}

/// Beside each figure stands that of the call alone.
fn measures(fault: Option<Fault>, outcome: &Outcome, alone: &Outcome) -> Vec<Measure> {
    let named = |what: &str, unit: &str, value: fn(&Outcome) -> Option<f64>| {
        let measure = Measure::new(format!("{}_{what}", name(fault)), unit, value(outcome)?);
        Some(measure.reference(fault.and_then(|_| value(alone))))
    };
    let lost = named("frames_lost", "%", |o| Some(o.count.frame_loss()));
    let grown = named("memory_grown", "bytes", |o| Some(grown(o)));
    let flooded = outcome.count.flooded as f64 / outcome.seconds;
    let flood = Measure::new(format!("{}_datagrams_beside", name(fault)), "1/s", flooded);
    [
        Some(flood.higher()),
        lost.map(|measure| measure.goal(Some(0.0))),
        named("delay_p50", "ms", |o| o.delay(0.5)),
        named("delay_p99", "ms", |o| o.delay(0.99)),
        named("relay_processor", "cores", |o| Some(o.cpu / o.seconds)),
        named("memory", "bytes", |o| Some(o.rss.1 as f64)),
        grown.map(|measure| measure.goal(Some(GOAL_GROWN))),
        named("kernel_dropped", "1", |o| Some(o.dropped as f64)),
        named("links_lost", "1", |o| Some(o.count.links_lost as f64)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Bytes by which the relay grew while it was counted.
fn grown(outcome: &Outcome) -> f64 {
    outcome.rss.1 as f64 - outcome.rss_begun as f64
}

const HEAD: [&str; 10] = [
    "beside",
    "1/s",
    "frames",
    "lost %",
    "p50 ms",
    "p99 ms",
    "cores",
    "MiB, then",
    "kernel drops",
    "links lost",
];

fn row(cells: &[String; 10]) -> String {
    let [fault, rest @ ..] = cells;
    let mut line = format!("{fault:11}");
    for cell in rest {
        line += &format!(" {cell:>12}");
    }
    line
}

fn cells(fault: Option<Fault>, outcome: &Outcome) -> [String; 10] {
    let delay = |q| outcome.delay(q).map_or("-".into(), |ms| format!("{ms:.2}"));
    let count = &outcome.count;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let (before, after) = (mib(outcome.rss_begun), mib(outcome.rss.1));
    [
        name(fault),
        format!("{:.0}", count.flooded as f64 / outcome.seconds),
        count.frames_due.to_string(),
        format!("{:.3}", count.frame_loss()),
        delay(0.5),
        delay(0.99),
        format!("{:.3}", outcome.cpu / outcome.seconds),
        format!("{before:.1} {after:.1}"),
        outcome.dropped.to_string(),
        count.links_lost.to_string(),
    ]
}

fn panels(outcomes: &[(Option<Fault>, Outcome)]) -> Vec<Panel> {
    let delays = |q| {
        outcomes
            .iter()
            .map(|(_, outcome)| outcome.delay(q))
            .collect()
    };
    let groups = || outcomes.iter().map(|(fault, _)| name(*fault)).collect();
    let cores = |(_, outcome): &(_, Outcome)| Some(outcome.cpu / outcome.seconds);
    vec![
        Panel::Bars {
            title: "From the publisher's first packet to a receiver's last".into(),
            unit: "ms".into(),
            groups: groups(),
            series: vec![("p50".into(), delays(0.5)), ("p99".into(), delays(0.99))],
        },
        Panel::Bars {
            title: "Processor time of the relay".into(),
            unit: "cores".into(),
            groups: groups(),
            series: vec![("relay".into(), outcomes.iter().map(cores).collect())],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tally::Count;
    use super::*;

    fn outcome(cpu: f64, flooded: u64) -> Outcome {
        Outcome {
            cpu,
            seconds: 2.0,
            rss: (5 << 20, 12 << 20),
            rss_begun: 10 << 20,
            dropped: 3,
            count: Count {
                receivers: 20,
                frames_due: 100,
                frames_whole: 99,
                delays_ms: vec![1.0, 2.0, 3.0, 4.0],
                flooded,
                ..Count::default()
            },
        }
    }

    #[test]
    fn each_figure_stands_beside_that_of_the_call_alone() {
        let (alone, beside) = (outcome(0.2, 0), outcome(0.5, 80_000));
        let measures = measures(Some(Fault::OwnCopies), &beside, &alone);
        let of = |name: &str| {
            let measure = measures.iter().find(|measure| measure.name == name);
            measure.map(|measure| (measure.value, measure.reference))
        };
        for (name, value, reference) in [
            ("own_copies_datagrams_beside", 40_000.0, None),
            ("own_copies_frames_lost", 1.0, Some(1.0)),
            ("own_copies_delay_p99", 4.0, Some(4.0)),
            ("own_copies_relay_processor", 0.25, Some(0.1)),
            ("own_copies_memory_grown", 2_097_152.0, Some(2_097_152.0)),
            ("own_copies_kernel_dropped", 3.0, Some(3.0)),
        ] {
            let (came, beside) = of(name).expect(name);
            assert_eq!(came, value, "{name}");
            assert_eq!(beside.is_some(), reference.is_some(), "{name}");
        }
        assert_eq!(
            of("own_copies_frames_lost").map(|of| of.0.round()),
            Some(1.0)
        );
    }

    #[test]
    fn the_call_alone_stands_beside_nothing() {
        let alone = outcome(0.2, 0);
        let measures = measures(None, &alone, &alone);
        assert!(measures.iter().all(|measure| measure.reference.is_none()));
        assert!(
            measures
                .iter()
                .all(|measure| measure.name.starts_with("none_"))
        );
    }
}

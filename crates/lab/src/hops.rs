//! What one more browser between sender and receiver costs. A chain (`tree(1)`) of two pages, then of five: one sends its
//! camera, the others receive, open, decode and pass on. CPU per hop is the difference divided by three; delay per hop is
//! the time between the same frame's departures from neighbouring pages. The bytes must be the same at every hop.

use crate::browsers::drive;
use crate::process::find_server;
use crate::report::{Measure, Report, mean, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::Args;

/// Re-encoding at each hop, 640x360 at 30 fps, on this project's reference machine: cores.
const REENCODING_CPU: f64 = 0.13;
/// Data channels in workers in the same trial: cores, milliseconds.
const FORWARDING_DELAY: f64 = 0.8;
/// At most this share of re-encoding.
const GOAL_CPU_SHARE: f64 = 0.3;
const GOAL_DELAY: f64 = 2.0;

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Seconds to measure each chain.
    #[arg(long, default_value_t = 15)]
    seconds: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Run it.
///
/// # Errors
/// When the browsers or the server are not there.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let grove = find_server(options.common.grove.clone())?;
    let wanted = serde_json::json!({ "seconds": options.seconds });
    let observed = drive("hops", &wanted, &grove)?;
    let mut report = Report::new("hops");
    report.condition("seconds", options.seconds);
    report.condition("seed", options.common.seed);
    report.condition(
        "reference",
        "CPU: re-encoding per hop, delay: forwarding per hop, trial of Chromium 156 on 2 cores",
    );
    report.conditions.extend(observed.conditions.clone());
    if !observed.problems.is_empty() {
        report.condition("without_result", observed.problems.clone());
    }
    let cpu = |chain: &str| mean(observed.samples("cpu", chain));
    // Re-encoding beside it in the same run where that worked, else the published figure.
    let reencoding = mean(observed.samples("cpu_reencoding", "per hop")).unwrap_or(REENCODING_CPU);
    if let (Some(short), Some(long)) = (cpu("2 pages"), cpu("5 pages")) {
        let per_hop = Measure::new("cpu_per_hop", "cores", (long - short) / 3.0);
        report.measures.push(
            per_hop
                .reference(Some(reencoding))
                .goal(Some(GOAL_CPU_SHARE * reencoding)),
        );
    }
    let mut delays = Vec::new();
    for hop in 1..=3 {
        let samples = observed.samples("delay", &format!("hop {hop}"));
        delays.push(quantile(samples, 0.5));
        for (name, q) in [("p50", 0.5), ("p95", 0.95)] {
            if let Some(value) = quantile(samples, q) {
                let goal = (name == "p50").then_some(GOAL_DELAY * f64::from(hop));
                let reference = (name == "p50").then_some(FORWARDING_DELAY * f64::from(hop));
                let measure = Measure::new(format!("delay_to_hop_{hop}_{name}"), "ms", value);
                report
                    .measures
                    .push(measure.reference(reference).goal(goal));
            }
        }
    }
    for name in ["frames_compared", "frames_identical"] {
        let value = observed.samples(name, "5 pages").iter().sum();
        report
            .measures
            .push(Measure::new(name, "1", value).higher());
    }
    let panel = Panel::Bars {
        title: "Delay from the sender's departure to each further page's departure (median)".into(),
        unit: "ms".into(),
        groups: (1..=3).map(|hop| format!("hop {hop}")).collect(),
        series: vec![
            ("this run".into(), delays),
            (
                "trial".into(),
                (1..=3)
                    .map(|hop| Some(FORWARDING_DELAY * f64::from(hop)))
                    .collect(),
            ),
        ],
    };
    Ok((report, vec![panel]))
}

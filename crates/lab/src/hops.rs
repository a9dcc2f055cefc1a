//! What one more browser between sender and receiver costs, and what it costs where browsers decode and encode again. A chain
//! of two pages, then of five, once in a room (`tree(1)`) and once of RTCPeerConnections that hand received tracks on. In
//! both one page sends camera and sound, and all others show and play them. CPU per hop is the whole browser's, the
//! difference divided by three, with no tap in the pages. Delay per hop is taken afterwards: ours between the same
//! frame's departures from neighbouring pages, the other between the same picture's arrivals. Our bytes must be the same at
//! every hop.

use crate::browsers::drive;
use crate::process::find_server;
use crate::report::{Measure, Report, mean, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::Args;

/// At most this share of re-encoding.
const GOAL_CPU_SHARE: f64 = 0.3;
/// Milliseconds.
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
    report.condition("reference", "re-encoding in the same run");
    report.conditions.extend(observed.conditions.clone());
    if !observed.problems.is_empty() {
        report.condition("without_result", observed.problems.clone());
    }
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    // Of two pages, of five, and per hop.
    let costs = |name: &str| -> Vec<Option<f64>> {
        let [short, long] =
            ["2 pages", "5 pages"].map(|chain| mean(observed.samples(name, chain)).map(round));
        let per_hop = short
            .zip(long)
            .map(|(short, long)| round((long - short) / 3.0));
        vec![short, long, per_hop]
    };
    let [ours, others] = ["cpu", "cpu_reencoding"].map(costs);
    for (i, name) in ["cpu_2_pages", "cpu_5_pages", "cpu_per_hop"]
        .into_iter()
        .enumerate()
    {
        if let Some(value) = ours[i] {
            let goal = others[i].filter(|_| name == "cpu_per_hop");
            let measure = Measure::new(name, "cores", value).reference(others[i]);
            report
                .measures
                .push(measure.goal(goal.map(|of| round(GOAL_CPU_SHARE * of))));
        }
    }
    let delay = |name: &str, hop: u8, q: f64| {
        quantile(observed.samples(name, &format!("hop {hop}")), q).map(round)
    };
    for hop in 1..=3 {
        for (name, q) in [("p50", 0.5), ("p95", 0.95)] {
            if let Some(value) = delay("delay", hop, q) {
                let goal = (name == "p50").then_some(GOAL_DELAY * f64::from(hop));
                let measure = Measure::new(format!("delay_to_hop_{hop}_{name}"), "ms", value);
                report.measures.push(
                    measure
                        .reference(delay("delay_reencoding", hop, q))
                        .goal(goal),
                );
            }
        }
    }
    for name in ["frames_compared", "frames_identical"] {
        let value = observed.samples(name, "5 pages").iter().sum();
        report
            .measures
            .push(Measure::new(name, "1", value).higher());
    }
    let medians = |name: &str| (1..=3).map(|hop| delay(name, hop, 0.5)).collect();
    let panels = vec![
        Panel::Bars {
            title: "Processor time of the whole browser".into(),
            unit: "cores".into(),
            groups: ["2 pages", "5 pages", "per hop"].map(String::from).into(),
            series: vec![("forwarding".into(), ours), ("re-encoding".into(), others)],
        },
        Panel::Bars {
            title: "Delay that hops add (median)".into(),
            unit: "ms".into(),
            groups: (1..=3).map(|hop| format!("hop {hop}")).collect(),
            series: vec![
                ("forwarding".into(), medians("delay")),
                ("re-encoding".into(), medians("delay_reencoding")),
            ],
        },
    ];
    Ok((report, panels))
}

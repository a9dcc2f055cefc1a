//! BBVoice's experiment with real browsers: how long a newcomer, a leave and a crash take to settle, and how a page's
//! bandwidth moves meanwhile.
//!
//! A newcomer stands in front of the door with its microphone open and presses Join; times run from that moment to the
//! first frame of each stream at each receiver. Everybody is a page of one browser on one machine, with sound only, as in
//! the published run (`--video` adds cameras). After a join an interior node leaves politely, another one is killed.

use crate::browsers::{Observed, drive};
use crate::process::find_server;
use crate::report::{Measure, Report, mean, quantile};
use crate::svg::Panel;
use crate::{Common, LabError, join_native};
use clap::{Args, ValueEnum};
use grove_server::signal::message::Policy;

/// Published by Prisca (Aarhus, 2017): peers; until existing peers receive a newcomer; until it receives everybody, ms.
pub(crate) const BBVOICE: [(u32, f64, f64); 3] =
    [(5, 80.0, 68.0), (7, 163.0, 100.0), (10, 200.0, 191.0)];
/// The same work's estimate for re-balancing after a leave, ms per connection.
const BBVOICE_REATTACH: f64 = 40.0;
/// From pressing Join to the first frame of anybody, 95th percentile on loopback, ms.
const GOAL_FIRST_FRAME: f64 = 500.0;
/// From the crash of an interior node to the orphan's next frame, 95th percentile on loopback, ms.
const GOAL_CRASH: f64 = 150.0;

/// Which trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// Everybody sends to everybody.
    Mesh,
    /// At most two children per node and tree, as published.
    Tree,
    /// Everything through the server's relay; native peers only.
    Relay,
}

impl PolicyName {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Tree => "tree",
            Self::Relay => "relay",
        }
    }

    pub(crate) fn policy(self) -> Policy {
        match self {
            Self::Mesh => Policy::Mesh,
            Self::Tree => Policy::Tree { branching: 2 },
            Self::Relay => Policy::Relay,
        }
    }
}

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// People in the room once the newcomer is in, one experiment each.
    #[arg(long, value_delimiter = ',', default_values_t = [5, 7, 10])]
    pub peers: Vec<u32>,
    /// Which trees.
    #[arg(long, value_delimiter = ',', default_values_t = [PolicyName::Mesh, PolicyName::Tree], value_enum)]
    pub policy: Vec<PolicyName>,
    /// Joins, leaves and crashes per setting.
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: u32,
    /// Cameras too.
    #[arg(long, conflicts_with = "native")]
    video: bool,
    /// Native peers over QUIC in place of browsers; joins only.
    #[arg(long)]
    native: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Run it.
///
/// # Errors
/// When the browsers or the server are not there.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    if options.native {
        return join_native::run(options);
    }
    if options.policy.contains(&PolicyName::Relay) {
        let why = "with browsers the policies are mesh and tree; relay needs --native";
        return Err(LabError::CannotRun(why.into()));
    }
    let grove = find_server(options.common.grove.clone())?;
    let policies: Vec<&str> = options.policy.iter().map(|p| p.label()).collect();
    let wanted = serde_json::json!({
        "peers": options.peers, "policies": policies, "runs": options.runs, "video": options.video,
        "seed": options.common.seed,
    });
    let observed = drive("join-times", &wanted, &grove)?;
    Ok(summarize(options, &observed))
}

fn summarize(options: &Options, observed: &Observed) -> (Report, Vec<Panel>) {
    let mut report = Report::new("join-times");
    report.condition("runs", options.runs);
    report.condition("seed", options.common.seed);
    report.condition(
        "media",
        if options.video {
            "sound and video"
        } else {
            "sound"
        },
    );
    report.condition(
        "reference",
        "BBVoice (Prisca 2017): sound, all clients in tabs of one machine",
    );
    report.conditions.extend(observed.conditions.clone());
    if !observed.problems.is_empty() {
        report.condition("without_result", observed.problems.clone());
    }
    for policy in &options.policy {
        for &peers in &options.peers {
            report
                .measures
                .extend(measures(policy.label(), peers, observed));
        }
    }
    let panels = panels(options, observed);
    (report, panels)
}

fn measures(policy: &str, peers: u32, observed: &Observed) -> Vec<Measure> {
    let setting = format!("{policy} {peers}");
    let published = BBVOICE.iter().find(|row| row.0 == peers);
    let samples = |name: &str| observed.samples(name, &setting);
    let median = |name: &str| quantile(samples(name), 0.5);
    let p95 = |name: &str| quantile(samples(name), 0.95);
    let rows = [
        (
            "existing_receive_newcomer_mean",
            mean(samples("existing_each")),
            published.map(|r| r.1),
            None,
        ),
        (
            "existing_receive_newcomer_last_median",
            median("existing_last"),
            published.map(|r| r.1),
            None,
        ),
        (
            "newcomer_receives_all_median",
            median("newcomer_all"),
            published.map(|r| r.2),
            None,
        ),
        (
            "click_to_first_remote_frame_p95",
            p95("first_frame"),
            None,
            Some(GOAL_FIRST_FRAME),
        ),
        (
            "reattach_after_leave_median",
            median("leave_each"),
            Some(BBVOICE_REATTACH),
            None,
        ),
        (
            "reattach_after_crash_p95",
            p95("crash_each"),
            Some(BBVOICE_REATTACH),
            Some(GOAL_CRASH),
        ),
    ];
    rows.into_iter()
        .filter_map(|(name, value, reference, goal)| {
            let name = format!("{policy}_{peers}_{name}");
            Some(
                Measure::new(name, "ms", value?)
                    .reference(reference)
                    .goal(goal),
            )
        })
        .collect()
}

fn panels(options: &Options, observed: &Observed) -> Vec<Panel> {
    let groups = || options.peers.iter().map(|n| format!("{n} peers")).collect();
    let ours = |name: &str| {
        let of = |policy: &PolicyName| {
            let values = options.peers.iter().map(|n| {
                let setting = format!("{} {n}", policy.label());
                quantile(observed.samples(name, &setting), 0.5)
            });
            (policy.label().to_owned(), values.collect())
        };
        options.policy.iter().map(of).collect::<Vec<_>>()
    };
    let published = |pick: fn(&(u32, f64, f64)) -> f64| {
        let value = |n: &u32| BBVOICE.iter().find(|r| r.0 == *n).map(pick);
        (
            "BBVoice, published".to_owned(),
            options.peers.iter().map(value).collect::<Vec<_>>(),
        )
    };
    let bars = |title: &str, name: &str, published: (String, Vec<Option<f64>>)| Panel::Bars {
        title: title.into(),
        unit: "ms".into(),
        groups: groups(),
        series: ours(name).into_iter().chain([published]).collect(),
    };
    let estimate = (
        "BBVoice, estimate per connection".to_owned(),
        vec![Some(BBVOICE_REATTACH); options.peers.len()],
    );
    let mut panels = vec![
        bars(
            "Until the last existing peer receives the newcomer (median)",
            "existing_last",
            published(|r| r.1),
        ),
        bars(
            "Until the newcomer receives everybody (median)",
            "newcomer_all",
            published(|r| r.2),
        ),
        bars(
            "From a polite leave to an orphan's next parent (median)",
            "leave_each",
            estimate.clone(),
        ),
        bars(
            "From a crash to an orphan's next parent (median)",
            "crash_each",
            estimate,
        ),
    ];
    panels.extend(observed.plots.iter().map(|(name, plot)| Panel::Lines {
        title: name.clone(),
        unit: "bit/s".into(),
        series: plot.series.clone(),
        marks: plot.marks.clone(),
    }));
    panels
}

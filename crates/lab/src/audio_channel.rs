//! Which options suit the data channel that carries sound. Two people in a call, camera and microphone on, behind an
//! emulated link (loss and delay in both directions, or a bottleneck); a fresh call for each kind of channel, which goes
//! through all conditions. Sound heard is what counts: the share that had to be concealed, and the delay that playing
//! took for it. Both directions of a call are samples of the same setting.

use crate::browsers::drive;
use crate::process::find_server;
use crate::report::{Measure, Report, mean, quantile};
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::Args;

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Seconds of each setting.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// Calls per kind of channel, each with a seed of its own.
    #[arg(long, default_value_t = 2)]
    runs: u32,
    /// Packets lost in each direction, percent.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,5")]
    loss: Vec<f64>,
    /// Round-trip times, ms.
    #[arg(long, value_delimiter = ',', default_value = "20,50,100")]
    rtt: Vec<f64>,
    /// Mean length of runs of lost packets; 1: each is lost by itself.
    #[arg(long, default_value_t = 1.0)]
    burst: f64,
    /// Bottlenecks to try beside them, kbit/s (50 ms, 200 ms of queue).
    #[arg(long, value_delimiter = ',', default_value = "600,300")]
    narrow: Vec<u32>,
    /// Kinds of channel: `lifetime` in ms or `retransmits`.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "lifetime 100,lifetime 250,retransmits 0,retransmits 1"
    )]
    channels: Vec<String>,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Name in the report, name in the script, quantile (or the mean), unit.
const MEASURES: [(&str, &str, Option<f64>, &str); 6] = [
    ("concealed", "concealed", None, "%"),
    ("missing", "missing", None, "%"),
    ("target", "target", None, "ms"),
    ("arrival_p50", "arrival", Some(0.5), "ms"),
    ("arrival_p95", "arrival", Some(0.95), "ms"),
    ("frames_lost", "lost", None, "%"),
];

/// Run it.
///
/// # Errors
/// When the browsers or the server are not there.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let grove = find_server(options.common.grove.clone())?;
    let wanted = serde_json::json!({
        "seconds": options.seconds,
        "runs": options.runs,
        "loss": options.loss,
        "rttMs": options.rtt,
        "burst": options.burst,
        "narrow": options.narrow,
        "seed": options.common.seed,
        "channels": options.channels,
    });
    let observed = drive("audio-channel", &wanted, &grove)?;
    let mut report = Report::new("audio-channel");
    report.condition("seconds", options.seconds);
    report.condition("runs", options.runs);
    report.condition("burst", options.burst);
    report.condition("seed", options.common.seed);
    report.conditions.extend(observed.conditions.clone());
    if !observed.problems.is_empty() {
        report.condition("without_result", observed.problems.clone());
    }
    let settings = settings(options);
    let value = |channel: &str, setting: &str, name: &str, share: Option<f64>| {
        let samples = observed.samples(name, &format!("{channel}, {setting}"));
        share.map_or_else(|| mean(samples), |share| quantile(samples, share))
    };
    for setting in &settings {
        for channel in &options.channels {
            for (measure, name, share, unit) in MEASURES {
                if let Some(found) = value(channel, setting, name, share) {
                    let full = format!("{measure} ({channel}, {setting})");
                    report.measures.push(Measure::new(full, unit, found));
                }
            }
            if let Some(found) = value(channel, setting, "decoded", None) {
                let full = format!("frames_decoded ({channel}, {setting})");
                report
                    .measures
                    .push(Measure::new(full, "1/s", found).higher());
            }
        }
    }
    let panel = |title: &str, unit: &str, name: &str| Panel::Bars {
        title: title.into(),
        unit: unit.into(),
        groups: settings.clone(),
        series: options
            .channels
            .iter()
            .map(|channel| {
                let values = settings.iter().map(|s| value(channel, s, name, None));
                (channel.clone(), values.collect())
            })
            .collect(),
    };
    let panels = vec![
        panel("Sound concealed", "%", "concealed"),
        panel("Delay that playing aims at", "ms", "target"),
    ];
    Ok((report, panels))
}

/// As the script names them.
fn settings(options: &Options) -> Vec<String> {
    let lossy = options.rtt.iter().flat_map(|rtt| {
        let loss = options.loss.iter();
        loss.map(move |loss| format!("{loss} % {rtt} ms"))
    });
    let narrow = options.narrow.iter();
    lossy
        .chain(narrow.map(|rate| format!("{rate} kbit/s 50 ms")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn settings_are_named_as_the_script_names_them() {
        let line = ["lab", "--loss", "0,2.5", "--rtt", "50", "--narrow", "600"];
        let settings = settings(&Cli::parse_from(line).options);
        assert_eq!(settings, ["0 % 50 ms", "2.5 % 50 ms", "600 kbit/s 50 ms"]);
    }
}

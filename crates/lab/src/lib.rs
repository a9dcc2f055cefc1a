//! Experiments with the whole product, load, and the reproduction of published results.
//!
//! Every scenario ends in one [`report::Report`], printed for people or, with `--json`, for programs, and where it says
//! more than numbers, in a picture (`--svg`). A scenario exits 0 when it ran, whatever it found, and says so when it
//! could not run. Nothing here asserts times: tests assert counts and order, times and ratios are reported.

mod audio_channel;
mod browsers;
mod client;
mod forward;
mod hops;
mod join_native;
mod join_times;
mod limit;
mod narrow;
mod native;
mod plan;
mod process;
mod relay_call;
pub mod report;
mod rooms;
mod star;
pub mod svg;

use clap::{Args, Parser, Subcommand};
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Why a scenario has no result.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Something that it needs is not here.
    #[error("could not run: {0}")]
    CannotRun(String),
    /// The report or picture could not be written.
    #[error("could not write {0}: {1}")]
    CannotWrite(PathBuf, std::io::Error),
}

#[derive(Debug, Parser)]
#[command(
    name = "grove-lab",
    version,
    about = "Experiments with Grove: reproduce, measure, load"
)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// How long a newcomer, a leave and a crash take to settle, with real browsers or native peers (BBVoice's experiment).
    JoinTimes(join_times::Options),
    /// What one more browser between sender and receiver costs: processor and delay.
    Hops(hops::Options),
    /// Which options suit the channel that carries sound, by loss and round-trip time.
    AudioChannel(audio_channel::Options),
    /// A call that goes through the relay as a whole: delay, losses and what a forwarded frame costs the server.
    RelayCall(relay_call::Options),
    /// One sends, the relay hands it to many: what that costs the server (StreamSmart's star).
    Star(star::Options),
    /// What a forwarded packet costs the relay, beside the least that it could and beside Janus.
    Forward(forward::Options),
    /// A call through the relay, and beside it each of the faults that a network and its strangers may be guilty of.
    Faults(forward::faults::Options),
    /// A process of `forward` and `faults`.
    #[command(hide = true, subcommand)]
    ForwardPart(forward::Part),
    /// Simulated broadcasts under churn: the planner beside those it is compared with, and beside what is possible.
    Plan(plan::Options),
    /// Many small rooms at once: what the server uses under one processor and 512 MB.
    Rooms(rooms::Options),
}

/// What every scenario takes.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Write the report as JSON: to FILE, or to standard output without one.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Write the plot.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Where chance comes from: the same seed makes the same choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server's binary; else the one beside this program.
    #[arg(long, value_name = "FILE")]
    grove: Option<PathBuf>,
}

/// Run what the command line asks for.
pub fn run() -> ExitCode {
    let (common, outcome) = match Cli::parse().scenario {
        Scenario::JoinTimes(options) => (options.common.clone(), join_times::run(&options)),
        Scenario::Hops(options) => (options.common.clone(), hops::run(&options)),
        Scenario::AudioChannel(options) => (options.common.clone(), audio_channel::run(&options)),
        Scenario::RelayCall(options) => (options.common.clone(), relay_call::run(&options)),
        Scenario::Star(options) => (options.common.clone(), star::run(&options)),
        Scenario::Forward(options) => (options.common.clone(), forward::run(&options)),
        Scenario::Faults(options) => (options.common.clone(), forward::faults::run(&options)),
        Scenario::ForwardPart(part) => return exit(forward::run_part(&part)),
        Scenario::Plan(options) => (options.common.clone(), plan::run(&options)),
        Scenario::Rooms(options) => (options.common.clone(), rooms::run(&options)),
    };
    exit(outcome.and_then(|(report, panels)| write(&common, &report, &panels)))
}

fn exit(outcome: Result<(), LabError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("grove-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(common: &Common, report: &Report, panels: &[svg::Panel]) -> Result<(), LabError> {
    let json = serde_json::to_string_pretty(report)
        .expect("a report is made of strings and finite numbers");
    let to_stdout = common
        .json
        .as_ref()
        .is_some_and(|path| path.as_os_str() == "-");
    if to_stdout {
        println!("{json}");
    } else {
        print!("{report}");
        if let Some(path) = &common.json {
            std::fs::write(path, json + "\n")
                .map_err(|e| LabError::CannotWrite(path.clone(), e))?;
        }
    }
    if let Some(path) = &common.svg {
        std::fs::write(path, svg::document(panels))
            .map_err(|e| LabError::CannotWrite(path.clone(), e))?;
    }
    Ok(())
}

/// A progress line on a terminal, nothing elsewhere.
fn progress(len: u64) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")
        .expect("the template is a constant");
    let bar = indicatif::ProgressBar::new(len).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_without_a_file_means_standard_output() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().scenario {
            Scenario::Rooms(options) => options.common.json,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse("grove-lab rooms --json"), Some("-".into()));
        assert_eq!(
            parse("grove-lab rooms --json out.json"),
            Some("out.json".into())
        );
        assert_eq!(parse("grove-lab rooms"), None);
    }

    #[test]
    fn join_times_runs_mesh_and_tree_unless_told() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().scenario {
            Scenario::JoinTimes(options) => (options.peers, options.policy),
            other => panic!("{other:?}"),
        };
        let both = vec![join_times::PolicyName::Mesh, join_times::PolicyName::Tree];
        assert_eq!(
            parse("grove-lab join-times --peers 5,7"),
            (vec![5, 7], both)
        );
        assert_eq!(
            parse("grove-lab join-times --policy mesh").1,
            vec![join_times::PolicyName::Mesh]
        );
    }
}

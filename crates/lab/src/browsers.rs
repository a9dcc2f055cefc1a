//! Scenarios with real browsers: a script of `web/e2e/lab` drives them and says what it sees, one JSON object per line.

use crate::LabError;
use indicatif::ProgressBar;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the script says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// Where it is.
    Step { done: u64, of: u64, label: String },
    /// Samples of a measure in one setting.
    Samples {
        name: String,
        setting: String,
        values: Vec<f64>,
    },
    /// A line of a plot: seconds and values.
    Series {
        plot: String,
        name: String,
        points: Vec<(f64, f64)>,
    },
    /// A moment of a plot.
    Mark { plot: String, at: f64, word: String },
    /// Something about the run.
    Condition {
        name: String,
        value: serde_json::Value,
    },
    /// A part of the run that gave no result, and why.
    Problem { message: String },
}

/// A plot over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plot {
    /// Name and points.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
    /// Seconds and words.
    pub marks: Vec<(f64, String)>,
}

/// All that a script said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    samples: BTreeMap<(String, String), Vec<f64>>,
    /// By name.
    pub plots: BTreeMap<String, Plot>,
    /// For the report.
    pub conditions: BTreeMap<String, serde_json::Value>,
    /// Parts that gave no result.
    pub problems: Vec<String>,
}

impl Observed {
    /// All samples of a measure in a setting, over all runs.
    pub fn samples(&self, name: &str, setting: &str) -> &[f64] {
        self.samples
            .get(&(name.to_owned(), setting.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, line: Line, bar: &ProgressBar) {
        match line {
            Line::Step { done, of, label } => {
                bar.set_length(of);
                bar.set_position(done);
                bar.set_message(label);
            }
            Line::Samples {
                name,
                setting,
                values,
            } => {
                self.samples
                    .entry((name, setting))
                    .or_default()
                    .extend(values);
            }
            Line::Series { plot, name, points } => self
                .plots
                .entry(plot)
                .or_default()
                .series
                .push((name, points)),
            Line::Mark { plot, at, word } => {
                self.plots.entry(plot).or_default().marks.push((at, word))
            }
            Line::Condition { name, value } => {
                self.conditions.insert(name, value);
            }
            Line::Problem { message } => self.problems.push(message),
        }
    }
}

/// Run the script for `scenario` with `options` against `grove`, and collect what it says.
///
/// # Errors
/// When Node, the script or a browser is missing, or the script ends badly.
pub fn drive(
    scenario: &str,
    options: &serde_json::Value,
    grove: &Path,
) -> Result<Observed, LabError> {
    let script = find_script()?;
    let grove = std::path::absolute(grove).map_err(|e| LabError::CannotRun(e.to_string()))?;
    let mut child = Command::new("node")
        .arg(&script)
        .args([scenario, &options.to_string()])
        .env("GROVE_BIN", grove)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| LabError::CannotRun(format!("node does not start: {e}")))?;
    let mut complaints = child.stderr.take().expect("stderr is piped");
    let listener = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = complaints.read_to_string(&mut text);
        text
    });
    let bar = crate::progress(1);
    let mut observed = Observed::default();
    for line in BufReader::new(child.stdout.take().expect("stdout is piped"))
        .lines()
        .map_while(Result::ok)
    {
        match serde_json::from_str(&line) {
            Ok(line) => observed.take(line, &bar),
            Err(error) => observed
                .problems
                .push(format!("the script said {line:?}: {error}")),
        }
    }
    bar.finish_and_clear();
    let status = child
        .wait()
        .map_err(|e| LabError::CannotRun(e.to_string()))?;
    if status.success() {
        return Ok(observed);
    }
    let complaints = listener.join().unwrap_or_default();
    let tail: Vec<&str> = complaints.lines().rev().take(20).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(LabError::CannotRun(format!(
        "the browser script ended with {status}:\n{}",
        tail.join("\n")
    )))
}

/// `web/e2e/lab/run.mjs` in the current directory or above this program.
fn find_script() -> Result<PathBuf, LabError> {
    let exe = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let places = here.ancestors().chain(exe.ancestors());
    places
        .map(|place| place.join("web/e2e/lab/run.mjs"))
        .find(|script| script.exists())
        .ok_or_else(|| {
            LabError::CannotRun(
                "web/e2e/lab/run.mjs not found: run grove-lab inside the repository".into(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_says_is_collected_over_runs_and_unknown_lines_are_refused() {
        let said = r#"{"event":"samples","name":"a","setting":"mesh 5","values":[1,2]}
            {"event":"samples","name":"a","setting":"mesh 5","values":[3]}
            {"event":"series","plot":"video","name":"sent","points":[[0,1],[1,2]]}
            {"event":"mark","plot":"video","at":1.5,"word":"leave"}
            {"event":"problem","message":"run 2 did not settle"}"#;
        let mut observed = Observed::default();
        for line in said.lines() {
            observed.take(serde_json::from_str(line).unwrap(), &ProgressBar::hidden());
        }
        assert_eq!(observed.samples("a", "mesh 5"), [1.0, 2.0, 3.0]);
        assert_eq!(observed.samples("a", "mesh 7"), [0.0; 0]);
        assert_eq!(
            observed.plots["video"].series,
            [("sent".to_owned(), vec![(0.0, 1.0), (1.0, 2.0)])]
        );
        assert_eq!(observed.plots["video"].marks, [(1.5, "leave".to_owned())]);
        assert_eq!(observed.problems, ["run 2 did not settle"]);
        assert!(serde_json::from_str::<Line>(r#"{"event":"other"}"#).is_err());
    }
}

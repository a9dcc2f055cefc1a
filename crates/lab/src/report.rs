//! The one shape of every report, so that runs can be compared and checked by a script.
//!
//! ```json
//! {"scenario": "...", "conditions": {...},
//!  "measures": [{"name": "...", "unit": "...", "value": 1.2, "reference": 3.4, "goal": 2.0, "better": "lower"}]}
//! ```

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    /// What was measured; unique in the report.
    pub name: String,
    /// `ms`, `bit/s`, `cores`, `bytes`, `1`.
    pub unit: String,
    /// The figure of this run.
    pub value: f64,
    /// What somebody else published, or what was measured beside it in the same run.
    pub reference: Option<f64>,
    /// What this project aims at.
    pub goal: Option<f64>,
    /// Which way is good.
    pub better: Better,
}

impl Measure {
    /// A figure with neither reference nor goal, of which less is better.
    pub fn new(name: impl Into<String>, unit: &str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            // Half a microsecond, or half a bit, is no information.
            value: (value * 1000.0).round() / 1000.0,
            reference: None,
            goal: None,
            better: Better::Lower,
        }
    }

    /// Put somebody else's figure beside it.
    pub fn reference(mut self, reference: Option<f64>) -> Self {
        self.reference = reference;
        self
    }

    /// Put the project's own aim beside it.
    pub fn goal(mut self, goal: Option<f64>) -> Self {
        self.goal = goal;
        self
    }

    /// More is better.
    pub fn higher(mut self) -> Self {
        self.better = Better::Higher;
        self
    }

    /// Whether the goal is met; `None` without a goal.
    pub fn meets_goal(&self) -> Option<bool> {
        self.goal.map(|goal| match self.better {
            Better::Lower => self.value <= goal,
            Better::Higher => self.value >= goal,
        })
    }
}

/// A run of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name, as on the command line.
    pub scenario: String,
    /// Everything a reader needs to judge or repeat the run.
    pub conditions: BTreeMap<String, serde_json::Value>,
    /// The figures.
    pub measures: Vec<Measure>,
}

impl Report {
    /// An empty report that knows the machine it was made on.
    pub fn new(scenario: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let conditions = BTreeMap::from([("cores".to_owned(), cores.into())]);
        Self {
            scenario: scenario.to_owned(),
            conditions,
            measures: Vec::new(),
        }
    }

    /// Note a condition of the run.
    pub fn condition(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.conditions.insert(name.to_owned(), value.into());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        for (name, value) in &self.conditions {
            writeln!(f, "  {name}: {value}")?;
        }
        let width = self
            .measures
            .iter()
            .map(|m| m.name.len())
            .max()
            .unwrap_or(0);
        for m in &self.measures {
            write!(f, "  {:width$}  {:>10} {}", m.name, m.value, m.unit)?;
            if let Some(reference) = m.reference {
                write!(f, "  (reference {reference})")?;
            }
            if let Some(goal) = m.goal {
                let word = if m.meets_goal() == Some(true) {
                    "met"
                } else {
                    "missed"
                };
                write!(f, "  (goal {goal}: {word})")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The value below which the share `q` (0..=1) of the samples lies, by the nearest rank. `None` without samples.
pub fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// `None` without samples.
pub fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_exactly_the_agreed_shape() {
        let mut report = Report::new("rooms");
        report.conditions.clear();
        report.condition("rooms", 50);
        report
            .measures
            .push(Measure::new("server_cpu", "cores", 0.12345).goal(Some(1.0)));
        report.measures.push(
            Measure::new("joins", "1", 200.0)
                .reference(Some(190.0))
                .higher(),
        );
        let expected = serde_json::json!({
            "scenario": "rooms",
            "conditions": {"rooms": 50},
            "measures": [
                {"name": "server_cpu", "unit": "cores", "value": 0.123, "reference": null, "goal": 1.0, "better": "lower"},
                {"name": "joins", "unit": "1", "value": 200.0, "reference": 190.0, "goal": null, "better": "higher"},
            ],
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    }

    #[test]
    fn a_goal_is_met_on_the_good_side_and_at_the_line() {
        let at = |value: f64| Measure::new("x", "1", value).goal(Some(2.0));
        assert_eq!(at(2.0).meets_goal(), Some(true));
        assert_eq!(at(2.1).meets_goal(), Some(false));
        assert_eq!(at(1.9).higher().meets_goal(), Some(false));
        assert_eq!(Measure::new("x", "1", 9.0).meets_goal(), None);
    }

    #[test]
    fn quantiles_take_the_nearest_rank_whatever_the_order() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&samples, 0.5), Some(3.0));
        assert_eq!(quantile(&samples, 0.95), Some(5.0));
        assert_eq!(quantile(&samples, 0.0), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(mean(&[1.0, 2.0]), Some(1.5));
    }
}

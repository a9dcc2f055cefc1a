//! A star of browsers: one sends 2.5 Mbit/s by RTP, the relay hands it to so many. Relay and load are those of the bench, so the
//! processor time is the relay's own, without signalling.

use super::figures::Outcome;
use super::shape::Shape;
use super::{Case, Subject, measure, own_address};
use crate::LabError;
use crate::report::Measure;

/// What is sent.
pub(crate) const MEDIA: &str = "30 pictures/s of 9 packets, 2.5 Mbit/s";

/// What one number of receivers cost.
#[derive(Debug)]
pub(crate) struct Star {
    receivers: usize,
    outcome: Outcome,
}

impl Star {
    /// Runs it.
    ///
    /// # Errors
    /// When relay or load do not start, or nothing arrives.
    pub(crate) fn run(receivers: usize, seconds: u64) -> Result<Self, LabError> {
        let case = Case {
            receivers,
            ..Case::of(Subject::Grove, Shape::Video16)
        };
        let outcome = measure(case, seconds, own_address())?;
        Ok(Self { receivers, outcome })
    }

    /// Processor time of the relay, percent of a core.
    pub(crate) fn cpu(&self) -> f64 {
        100.0 * self.outcome.cpu / self.outcome.seconds
    }

    /// What there is to say beside that.
    pub(crate) fn measures(&self) -> Vec<Measure> {
        let Self { receivers, outcome } = self;
        let count = &outcome.count;
        let named = |name: &str, unit: &str, value| {
            Measure::new(format!("{receivers}_rtp_{name}"), unit, value)
        };
        let mut measures = vec![
            named("relay_cpu_per_packet", "us", outcome.cost()),
            named("pictures_lost", "%", count.frame_loss()).goal(Some(0.0)),
            named("pictures_not_sent", "%", outcome.not_sent(Shape::Video16)),
            named("relay_memory_per_receiver", "bytes", outcome.memory()).goal(Some(102_400.0)),
            named("links_lost", "1", count.links_lost as f64),
        ];
        for (name, q) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            let delay = outcome.delay(q);
            measures.extend(delay.map(|ms| named(&format!("picture_delay_{name}"), "ms", ms)));
        }
        measures
    }
}

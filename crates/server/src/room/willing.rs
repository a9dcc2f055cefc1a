//! How willing a participant is to forward for others, by its own reports.
//!
//! Its own switch is its own word and honoured whatever follows. A metered line and a battery that runs low are reasons to ask
//! somebody else first: they are honoured where the others can carry it, which [`super::state::Room`] finds out by planning the
//! room without. A lie spares the liar, or makes it work; it breaks no rule of the plan.

use crate::signal::message::{Battery, Report};

/// A battery below this, and not being charged, is spared.
const LOW: f32 = 0.2;

/// What somebody said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Willing {
    passes_on: bool,
    metered: bool,
    runs_low: bool,
}

impl Default for Willing {
    /// Who has said nothing forwards.
    fn default() -> Self {
        Self {
            passes_on: true,
            metered: false,
            runs_low: false,
        }
    }
}

impl Willing {
    /// Takes a report; true if it changes anything. What it leaves out stays as it was, and so does what cannot be.
    pub fn handle_report(&mut self, report: &Report) -> bool {
        let before = *self;
        self.passes_on = report.passes_on.unwrap_or(self.passes_on);
        self.metered = report.metered.unwrap_or(self.metered);
        if let Some(Battery { charging, level }) = report.battery
            && (0.0..=1.0).contains(&level)
        {
            self.runs_low = !charging && level < LOW;
        }
        *self != before
    }

    /// Forwards nothing that is not its own.
    pub fn refuses(self) -> bool {
        !self.passes_on
    }

    /// Others are to be asked first.
    pub fn is_reluctant(self) -> bool {
        self.metered || self.runs_low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn battery(charging: bool, level: f32) -> Report {
        Report {
            battery: Some(Battery { charging, level }),
            ..Report::default()
        }
    }

    #[test]
    fn a_battery_that_runs_low_and_is_not_charged_is_spared_and_nonsense_changes_nothing() {
        let mut willing = Willing::default();
        let mut told = Vec::new();
        for (charging, level) in [
            (false, 0.2),
            (false, 0.19),
            (false, f32::NAN),
            (false, -1.0),
            (true, f32::INFINITY),
            (true, 0.1),
            (true, 1.01),
            (false, 0.0),
        ] {
            told.push((
                willing.handle_report(&battery(charging, level)),
                willing.runs_low,
            ));
        }
        let nothing = (false, true);
        let low = (true, true);
        assert_eq!(
            told,
            [
                (false, false),
                low,
                nothing,
                nothing,
                nothing,
                (true, false),
                (false, false),
                low
            ]
        );
    }

    #[test]
    fn what_a_report_leaves_out_is_as_it_was() {
        let mut willing = Willing::default();
        let switch = |passes_on| Report {
            passes_on: Some(passes_on),
            ..Report::default()
        };
        assert!(willing.handle_report(&switch(false)) && willing.refuses());
        assert!(!willing.handle_report(&battery(true, 0.5)) && willing.refuses());
        assert!(willing.handle_report(&switch(true)) && !willing.refuses());
        assert!(!willing.is_reluctant());
    }
}

//! The planner among those it is compared with, in a simulated world (`docs/design/planner.md`).
//!
//! A discrete-event simulation: viewers come and go by a trace, the planner hears of it late and answers late, connections
//! take round trips, crashes are noticed by silence. Every planner sees the same viewers and the same network. Reported is
//! what viewers notice, what the organisation pays, how much the trees change, and how far each is from what is possible.

mod baseline;
mod bounds;
mod chance;
mod control;
mod direct;
mod figures;
mod flow;
mod forest;
mod goals;
mod grove;
mod look;
mod network;
mod oplog;
mod overlay;
mod people;
mod tally;
#[cfg(test)]
mod tests;
mod trace;
mod world;

pub use trace::{Mix, Trace};

use crate::report::Report;
use crate::svg::Panel;
use crate::{Common, LabError};
use clap::{Args, ValueEnum};
use figures::{Run, Sweep};
use oplog::{Hash, Log};
use overlay::Overlay;
use std::path::{Path, PathBuf};
use world::{Conditions, World};

/// Viewers of a run that only looks at who sends how much.
const SWEEP_VIEWERS: u32 = 3_000;

/// Who plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Planner {
    /// This project's.
    Grove,
    /// Two children each, in order of joining.
    Bbvoice,
    /// Any parent with a free slot.
    Random,
    /// The shallowest free slot.
    MinDepth,
    /// Four stripes over interior-disjoint trees.
    Splitstream,
    /// A random mesh that pulls.
    Mesh,
    /// A tree that balances itself.
    Streamsmart,
}

impl Planner {
    fn name(self) -> &'static str {
        match self {
            Self::Grove => "grove",
            Self::Bbvoice => "bbvoice",
            Self::Random => "random",
            Self::MinDepth => "min_depth",
            Self::Splitstream => "splitstream",
            Self::Mesh => "mesh",
            Self::Streamsmart => "streamsmart",
        }
    }

    /// With backups and without, where that makes a difference worth a run.
    fn variants(self, options: &Options) -> Vec<bool> {
        match self {
            _ if options.no_backups => vec![false],
            Self::Grove if options.record.is_none() => vec![false, true],
            _ => vec![true],
        }
    }

    fn overlay(self, conditions: &Conditions) -> Box<dyn Overlay> {
        let Conditions {
            root_slots,
            cap,
            seed,
            ..
        } = *conditions;
        match self {
            Self::Grove => Box::new(grove::planner(root_slots, cap)),
            Self::Bbvoice => Box::new(baseline::bbvoice::planner()),
            Self::Random => Box::new(baseline::random_parent::planner(root_slots, seed)),
            Self::MinDepth => Box::new(baseline::min_depth::planner(root_slots)),
            Self::Splitstream => Box::new(baseline::splitstream::planner(root_slots)),
            Self::Mesh => Box::new(baseline::mesh::planner(root_slots, seed)),
            Self::Streamsmart => Box::new(baseline::streamsmart::planner(root_slots, cap)),
        }
    }
}

/// The command line.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many watch.
    #[arg(long, default_value_t = 10_000)]
    pub viewers: u32,
    /// How long is simulated after the warm-up, seconds.
    #[arg(long, default_value_t = 600)]
    pub seconds: u64,
    /// Before anything is counted, seconds; the first half of it is when everybody comes.
    #[arg(long, default_value_t = 120)]
    pub warmup: u64,
    /// How viewers come and go.
    #[arg(long, value_enum, default_value_t = Trace::Lognormal)]
    pub trace: Trace,
    /// What uplinks they have.
    #[arg(long, value_enum, default_value_t = Mix::Base)]
    pub mix: Mix,
    /// Who plans; all of them unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub planners: Vec<Planner>,
    /// Slots of the root.
    #[arg(long, default_value_t = 64)]
    pub root_slots: u32,
    /// The deepest level.
    #[arg(long, default_value_t = 6)]
    pub depth: u32,
    /// How old the planner's view is when its answer arrives, ms.
    #[arg(long, default_value_t = 50)]
    pub staleness: u64,
    /// Round trips from the order to the first frame on a new connection: 6 with ICE, DTLS 1.2 and SCTP, 2 at best.
    #[arg(long, default_value_t = 6)]
    pub connection: u64,
    /// Control messages lost, in a thousand.
    #[arg(long, default_value_t = 10)]
    pub loss: u32,
    /// Departures without a goodbye, percent.
    #[arg(long, default_value_t = 20)]
    pub crashes: u32,
    /// A fifth of all pairs can't connect.
    #[arg(long)]
    pub nat: bool,
    /// Uplinks are measured a tenth too high or too low, every second anew.
    #[arg(long)]
    pub noise: bool,
    /// Nobody goes to a backup by itself.
    #[arg(long)]
    pub no_backups: bool,
    /// Measure the planner's goals instead of comparing it with others.
    #[arg(long, conflicts_with_all = ["planners", "record", "replay", "no_backups"])]
    pub goals: bool,
    /// Write the log of all operations of the last planner.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Simulate nothing; give the operations of this log to each planner and say what its answers hash to.
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    pub replay: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: Common,
}

impl Options {
    fn conditions(&self) -> Conditions {
        let warmup = if self.trace == Trace::Flash {
            0
        } else {
            self.warmup
        };
        Conditions {
            viewers: self.viewers,
            seconds: warmup + self.seconds,
            warmup,
            trace: self.trace,
            mix: self.mix,
            root_slots: self.root_slots,
            cap: self.depth,
            staleness: self.staleness * 1000,
            connection: self.connection,
            loss: self.loss.min(1000),
            crashes: self.crashes.min(100) * 10,
            nat: self.nat,
            noise: self.noise,
            backups: !self.no_backups,
            seed: self.common.seed,
        }
    }

    fn planners(&self) -> Vec<Planner> {
        if self.planners.is_empty() {
            Planner::value_variants().to_vec()
        } else {
            self.planners.clone()
        }
    }
}

/// Run it.
///
/// # Errors
/// When a log can't be read or written.
pub fn run(options: &Options) -> Result<(Report, Vec<Panel>), LabError> {
    let mut report = figures::report(options);
    if let Some(path) = &options.replay {
        let log = load(path)?;
        for planner in options.planners() {
            let hash = replay(&log, planner, options);
            report.condition(
                &format!("{}_answers", planner.name()),
                format!("{:016x}", hash.0),
            );
        }
        report.condition("operations", log.operations.len());
        return Ok((report, Vec::new()));
    }
    if options.goals {
        goals::run(options, &mut report);
        return Ok((report, Vec::new()));
    }
    let mut runs = Vec::new();
    for planner in options.planners() {
        for backups in planner.variants(options) {
            let conditions = Conditions {
                backups,
                ..options.conditions()
            };
            let world = simulate(conditions, planner, options.record.is_some());
            let mut name = planner.name().to_owned();
            if planner == Planner::Grove && !backups {
                name.push_str("_without_backups");
            }
            report.condition(&format!("{name}_answers"), format!("{:016x}", world.hash.0));
            if let (Some(path), Some(log)) = (&options.record, &world.log) {
                std::fs::write(path, oplog::write(log))
                    .map_err(|e| LabError::CannotWrite(path.clone(), e))?;
            }
            runs.push(Run {
                planner,
                name,
                tally: world.tally,
            });
        }
    }
    let sweeps = match options.planners().len() {
        1 => Vec::new(),
        _ => sweeps(options),
    };
    figures::fill(&mut report, &runs, &sweeps);
    Ok((report, figures::panels(&runs, &sweeps)))
}

/// Everybody under every mix, with as many slots at the root as the bound asks for.
fn sweeps(options: &Options) -> Vec<Sweep> {
    let viewers = options.viewers.min(SWEEP_VIEWERS);
    [Mix::Weak, Mix::Base, Mix::Two, Mix::Strong]
        .into_iter()
        .map(|mix| {
            let least = bounds::paid(&mix.counts(viewers.into()), options.depth as usize);
            let mut bound = 0.0;
            let offload = options.planners().into_iter().map(|planner| {
                let conditions = Conditions {
                    viewers,
                    mix,
                    root_slots: least as u32,
                    warmup: 60,
                    seconds: 180,
                    ..options.conditions()
                };
                let tally = simulate(conditions, planner, false).tally;
                bound = figures::average(&tally, figures::offload_bound);
                (planner, figures::average(&tally, figures::offload))
            });
            let offload = offload.collect();
            Sweep {
                mix,
                bound,
                offload,
            }
        })
        .collect()
}

fn simulate(conditions: Conditions, planner: Planner, record: bool) -> World {
    let overlay = planner.overlay(&conditions);
    let bar = crate::progress(conditions.seconds);
    bar.set_message(planner.name());
    let mut world = World::new(conditions, overlay, record);
    world.run(|second| bar.set_position(second));
    bar.finish_and_clear();
    world
}

fn load(path: &Path) -> Result<Log, LabError> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|e| LabError::CannotRun(format!("{name} can't be read: {e}")))?;
    oplog::read(&bytes).map_err(|e| LabError::CannotRun(format!("{name}: {e}")))
}

/// Give a log to a planner: the hash of its answers.
fn replay(log: &Log, planner: Planner, options: &Options) -> Hash {
    let conditions = Conditions {
        root_slots: log.root_slots,
        cap: log.cap,
        ..options.conditions()
    };
    let mut overlay = planner.overlay(&conditions);
    let mut hash = Hash::default();
    let mut moves = Vec::new();
    for (at, op) in &log.operations {
        moves.clear();
        overlay.handle(*op, *at, &mut moves);
        hash.answer(&moves);
    }
    hash
}

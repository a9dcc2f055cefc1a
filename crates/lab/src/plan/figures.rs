//! What runs say: measures for the report, bars for the picture.

use super::tally::{Look, Tally};
use super::trace::Mix;
use super::{Options, Planner, bounds};
use crate::report::{Measure, Report};
use crate::svg::Panel;
use clap::ValueEnum;

/// An empty report with the conditions of the run.
pub(super) fn report(options: &Options) -> Report {
    let mut report = Report::new("plan");
    let word = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |v| v.get_name().to_owned())
    };
    report.condition("viewers", options.viewers);
    report.condition("seconds", options.seconds);
    report.condition("warmup_seconds", options.warmup);
    report.condition("trace", word(options.trace.to_possible_value()));
    report.condition("mix", word(options.mix.to_possible_value()));
    report.condition("mean_slots", options.mix.mean());
    report.condition("root_slots", options.root_slots);
    report.condition("depth_cap", options.depth);
    report.condition("staleness_ms", options.staleness);
    report.condition("connection_round_trips", options.connection);
    report.condition("lost_messages_permille", options.loss);
    report.condition("crashes_percent", options.crashes);
    report.condition("a_fifth_of_pairs_barred", options.nat);
    report.condition("uplink_noise", options.noise);
    report.condition("backups", !options.no_backups);
    report.condition("seed", options.common.seed);
    report
}

/// Averages over a run's looks.
pub(super) fn average(tally: &Tally, of: impl Fn(&Look) -> f64) -> f64 {
    let sum: f64 = tally.looks.iter().map(of).sum();
    sum / tally.looks.len().max(1) as f64
}

/// Copies that peers can't carry and somebody must pay for, or viewers lack.
pub(super) fn unpaid(look: &Look) -> f64 {
    look.paid + look.overdrawn
}

/// Percent of the copies that viewers send one another.
pub(super) fn offload(look: &Look) -> f64 {
    100.0 * (1.0 - unpaid(look) / look.planned.max(1) as f64)
}

/// The most that could be.
pub(super) fn offload_bound(look: &Look) -> f64 {
    100.0 * (1.0 - look.least_paid as f64 / look.planned.max(1) as f64)
}

/// The measures of one run, under the planner's name.
pub(super) fn measures(name: &str, tally: &Tally) -> Vec<Measure> {
    let named =
        |what: &str, unit: &str, value: f64| Measure::new(format!("{name}_{what}"), unit, value);
    let hourly = |count| tally.hourly(count);
    let mut measures = vec![
        named("interruptions", "1/h", hourly(tally.interruptions)),
        named("visible_gaps", "1/h", hourly(tally.visible)),
        named("black_gaps", "1/h", hourly(tally.black)),
        named(
            "gaps_past_a_buffer_of_10_s",
            "1/h",
            hourly(tally.past_buffer),
        ),
        named(
            "stream_missing",
            "ppm",
            1e6 * tally.missing as f64 / tally.watched.max(1) as f64,
        ),
        named("never_fed", "1", tally.never_fed as f64),
    ];
    for (what, times) in [("gap", &tally.gaps), ("start", &tally.starts)] {
        for (suffix, q) in [("p50", 0.5), ("p95", 0.95)] {
            if let Some(ms) = times.quantile(q) {
                measures.push(named(&format!("{what}_{suffix}"), "ms", ms));
            }
        }
    }
    let depth = |levels: &[u64]| bounds::depth(levels);
    let best = average(tally, |look| depth(&look.best).0);
    let deepest = |of: fn(&Look) -> &[u64]| {
        tally
            .looks
            .iter()
            .map(|look| depth(of(look)).1)
            .max()
            .unwrap_or(0) as f64
    };
    measures.extend([
        named(
            "depth_mean",
            "hops",
            average(tally, |look| depth(&look.levels).0),
        )
        .reference(Some(round(best))),
        named("depth_max", "hops", deepest(|look| &look.levels))
            .reference(Some(deepest(|look| &look.best))),
        named("delay", "ms", average(tally, |look| look.delay_ms)),
        named("paid_slots", "1", average(tally, |look| look.paid))
            .reference(Some(round(average(tally, |look| look.least_paid as f64)))),
        named(
            "copies_beyond_uplinks",
            "1",
            average(tally, |look| look.overdrawn),
        ),
        named("offload", "%", average(tally, offload))
            .reference(Some(round(average(tally, offload_bound))))
            .higher(),
        named(
            "edges_per_orphan",
            "1",
            tally.orphan_edges as f64 / tally.orphans.max(1) as f64,
        ),
        named(
            "departures_with_the_fewest_edges",
            "%",
            100.0 * tally.partings_minimal as f64 / tally.partings.max(1) as f64,
        )
        .higher(),
        named(
            "edges_beyond_the_fewest_at_worst",
            "1",
            tally.worst_surplus as f64,
        ),
        named(
            "orphans_put_deeper",
            "%",
            100.0 * tally.deepened as f64 / tally.orphans.max(1) as f64,
        ),
        named("rebalance_edges_per_operation", "1", rebalance(tally)),
    ]);
    let all = tally.costs.iter();
    let (operations, nanos) =
        all.fold((0, 0), |(n, t), cost| (n + cost.operations, t + cost.nanos));
    measures.push(named(
        "planner_time_per_operation",
        "us",
        nanos as f64 / 1e3 / operations.max(1) as f64,
    ));
    let [join, leave, _, tick, _] = tally.costs;
    for (what, cost) in [("join", join), ("departure", leave), ("tick", tick)] {
        if cost.most_touched > 0 {
            let name = format!("nodes_touched_by_a_{what}_at_most");
            measures.push(named(&name, "1", cost.most_touched as f64));
        }
    }
    let (legal, all) = tally.looks.iter().fold((0, 0), |(l, a), look| {
        (l + look.backups.0, a + look.backups.1)
    });
    if tally.backups_told > 0 {
        let moved = (join.operations + leave.operations).max(1) as f64;
        measures.push(named(
            "backups_told_per_operation",
            "1",
            tally.backups_told as f64 / moved,
        ));
    }
    if legal > 0 {
        measures.push(
            named(
                "backups_named",
                "%",
                100.0 * legal as f64 / all.max(1) as f64,
            )
            .higher(),
        );
        measures.push(
            named(
                "backups_that_answered",
                "%",
                100.0 * tally.fallbacks as f64
                    / (tally.fallbacks + tally.fallbacks_failed).max(1) as f64,
            )
            .higher(),
        );
    }
    measures.push(named("plan_violations", "1", tally.violations as f64).goal(Some(0.0)));
    measures
}

/// Edges that nobody's coming or going asked for, per viewer who came or went: those of ticks, and those beyond its own of a
/// join.
pub(super) fn rebalance(tally: &Tally) -> f64 {
    let [join, leave, _, tick, _] = tally.costs;
    let extra = tick.edges + join.edges.saturating_sub(join.operations * tally.stripes);
    extra as f64 / (join.operations + leave.operations).max(1) as f64
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One planner's run.
#[derive(Debug)]
pub(super) struct Run {
    pub planner: Planner,
    /// What its measures are called by.
    pub name: String,
    pub tally: Tally,
}

/// Offload by mix: what share of the copies viewers carry, percent, and the most they could.
#[derive(Debug)]
pub(super) struct Sweep {
    pub mix: Mix,
    pub bound: f64,
    pub offload: Vec<(Planner, f64)>,
}

/// All runs into the report.
pub(super) fn fill(report: &mut Report, runs: &[Run], sweeps: &[Sweep]) {
    for run in runs {
        if let Some(look) = run.tally.looks.last() {
            report.condition(&format!("{}_levels", run.name), look.levels.clone());
        }
        report.measures.extend(measures(&run.name, &run.tally));
    }
    for sweep in sweeps {
        for (planner, offload) in &sweep.offload {
            let name = format!("{}_offload_at_{}_slots", planner.name(), sweep.mix.mean());
            let measure = Measure::new(name, "%", *offload);
            report
                .measures
                .push(measure.reference(Some(round(sweep.bound))).higher());
        }
    }
}

/// The picture: interruptions, depth, offload, edges.
pub(super) fn panels(runs: &[Run], sweeps: &[Sweep]) -> Vec<Panel> {
    let names = || -> Vec<String> {
        let short = |run: &Run| match run.name.strip_suffix("_without_backups") {
            Some(_) => "no backups".to_owned(),
            None => run.name.replace('_', " "),
        };
        runs.iter().map(short).collect()
    };
    let each = |of: &dyn Fn(&Tally) -> f64| -> Vec<Option<f64>> {
        runs.iter().map(|run| Some(of(&run.tally))).collect()
    };
    let mut panels = vec![Panel::Bars {
        title: "Interruptions longer than 200 ms, for each hour that a viewer watches".into(),
        unit: "1/h".into(),
        groups: names(),
        series: vec![
            (
                "a part of the stream or all of it".into(),
                each(&|t| t.hourly(t.visible)),
            ),
            ("all of it".into(), each(&|t| t.hourly(t.black))),
        ],
    }];
    panels.push(depths(runs));
    if !sweeps.is_empty() {
        panels.push(offloads(sweeps));
    }
    panels.push(Panel::Bars {
        title: "Edges that change".into(),
        unit: "edges".into(),
        groups: names(),
        series: vec![
            (
                "for each orphan of a departure".into(),
                each(&|t| t.orphan_edges as f64 / t.orphans.max(1) as f64),
            ),
            (
                "to re-balance, for each who comes or goes".into(),
                each(&rebalance),
            ),
        ],
    });
    panels
}

/// Levels that have a place of their own in the picture.
const LEVELS: usize = 12;

fn depths(runs: &[Run]) -> Panel {
    let shares = |levels: &[u64]| -> Vec<Option<f64>> {
        let all = levels.iter().sum::<u64>().max(1) as f64;
        let of = |count: u64| Some(100.0 * count as f64 / all);
        let mut shares: Vec<_> = (0..LEVELS - 1)
            .map(|i| of(levels.get(i).copied().unwrap_or(0)))
            .collect();
        shares.push(of(levels.iter().skip(LEVELS - 1).sum()));
        shares
    };
    let shown = |run: &&Run| {
        matches!(
            run.planner,
            Planner::Grove | Planner::MinDepth | Planner::Streamsmart | Planner::Bbvoice
        ) && !run.name.ends_with("backups")
    };
    let mut series = Vec::new();
    for (i, run) in runs.iter().filter(shown).enumerate() {
        let Some(look) = run.tally.looks.last() else {
            continue;
        };
        if i == 0 {
            series.push((
                "the best with as many paid slots".to_owned(),
                shares(&look.best),
            ));
        }
        series.push((run.name.replace('_', " "), shares(&look.levels)));
    }
    let mut groups: Vec<String> = (1..LEVELS).map(|level| level.to_string()).collect();
    groups.push(format!("{LEVELS}+"));
    Panel::Bars {
        title: "Viewers by level".into(),
        unit: "%".into(),
        groups,
        series,
    }
}

fn offloads(sweeps: &[Sweep]) -> Panel {
    let mut series = vec![(
        "possible".to_owned(),
        sweeps.iter().map(|sweep| Some(sweep.bound)).collect(),
    )];
    let planners = sweeps.first().map_or(&[][..], |sweep| &sweep.offload);
    // As many as there are colours.
    let shown = |planner: Planner| !matches!(planner, Planner::Random | Planner::Streamsmart);
    for (i, (planner, _)) in planners.iter().enumerate().filter(|(_, (p, _))| shown(*p)) {
        let of = |sweep: &Sweep| sweep.offload.get(i).map(|(_, offload)| *offload);
        series.push((
            planner.name().replace('_', " "),
            sweeps.iter().map(of).collect(),
        ));
    }
    Panel::Bars {
        title: "Copies that viewers send one another, by the slots they have on average".into(),
        unit: "%".into(),
        groups: sweeps
            .iter()
            .map(|sweep| format!("{} slots", sweep.mix.mean()))
            .collect(),
        series,
    }
}

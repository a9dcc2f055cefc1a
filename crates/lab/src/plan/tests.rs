//! Whole runs, small enough for a debug build.

use super::overlay::ROOT;
use super::*;
use tally::Tally;

/// 300 viewers for three minutes after one of warm-up, in quick succession.
fn small() -> Conditions {
    Conditions {
        viewers: 300,
        seconds: 240,
        warmup: 60,
        trace: Trace::Lognormal,
        mix: Mix::Base,
        root_slots: 16,
        cap: 6,
        staleness: 50_000,
        connection: 6,
        loss: 10,
        crashes: 200,
        nat: false,
        noise: false,
        backups: true,
        seed: 1,
    }
}

fn ran(conditions: Conditions, planner: Planner) -> World {
    simulate(conditions, planner, true)
}

fn all() -> &'static [Planner] {
    Planner::value_variants()
}

#[test]
fn every_plan_is_a_tree_over_all_who_are_there() {
    for &planner in all() {
        let world = ran(small(), planner);
        assert_eq!(world.tally.violations, 0, "{planner:?}");
        let last = world.tally.looks.last().expect("five looks");
        assert!(
            last.planned.abs_diff(300) < 30,
            "{planner:?}: {}",
            last.planned
        );
        let stripes = world.plan.len() as u64;
        assert_eq!(
            last.levels.iter().sum::<u64>(),
            last.planned * stripes,
            "{planner:?}"
        );
    }
}

#[test]
fn planners_that_know_uplinks_ask_nobody_for_more() {
    for &planner in all() {
        let overdrawn = figures::average(&ran(small(), planner).tally, |look| look.overdrawn);
        // BBVoice gives two children to whoever comes.
        assert_eq!(
            overdrawn > 0.0,
            planner == Planner::Bbvoice,
            "{planner:?}: {overdrawn}"
        );
    }
}

#[test]
fn in_quiet_with_a_fresh_view_and_no_loss_nobody_is_unfed() {
    let quiet = Conditions {
        trace: Trace::Quiet,
        staleness: 0,
        loss: 0,
        ..small()
    };
    for &planner in all() {
        let world = ran(quiet.clone(), planner);
        let last = world.tally.looks.last().expect("five looks");
        assert_eq!((last.fed, last.planned), (300, 300), "{planner:?}");
        assert_eq!(
            (world.tally.interruptions, world.tally.missing),
            (0, 0),
            "{planner:?}"
        );
    }
}

#[test]
fn after_a_storm_everybody_is_fed_again() {
    // The last ten seconds are calm: whoever is left at the end of an exodus stays.
    let storm = Conditions {
        trace: Trace::Exodus,
        loss: 100,
        staleness: 200_000,
        ..small()
    };
    for &planner in all() {
        let world = ran(storm.clone(), planner);
        let last = world.tally.looks.last().expect("five looks");
        assert!(last.planned < 200, "{planner:?}: {}", last.planned);
        assert!(
            last.planned - last.fed < last.planned / 20,
            "{planner:?}: {last:?}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_answers_and_another_seed_others() {
    for &planner in all() {
        let hash = |seed| {
            ran(
                Conditions {
                    seed,
                    seconds: 90,
                    ..small()
                },
                planner,
            )
            .hash
        };
        assert_eq!(hash(1), hash(1), "{planner:?}");
        assert_ne!(hash(1), hash(2), "{planner:?}");
    }
}

#[test]
fn a_log_that_was_written_and_read_gives_the_same_answers() {
    for &planner in all() {
        let world = ran(
            Conditions {
                seconds: 120,
                ..small()
            },
            planner,
        );
        let log = world.log.expect("it was recorded");
        let again = oplog::read(&oplog::write(&log)).expect("it is whole");
        assert!(again.operations.len() > 300);
        assert_eq!(
            replay(&again, planner, &options()),
            world.hash,
            "{planner:?}"
        );
    }
}

#[test]
fn everybody_plans_for_the_same_viewers() {
    let counts: Vec<_> = all()
        .iter()
        .map(|planner| {
            let tally = ran(small(), *planner).tally;
            (tally.arrivals, tally.departures)
        })
        .collect();
    assert!(counts[0].1 > 100, "{counts:?}");
    assert!(counts.iter().all(|c| *c == counts[0]), "{counts:?}");
}

#[test]
fn who_leaves_politely_is_not_missed() {
    let polite = Conditions {
        crashes: 0,
        loss: 0,
        ..small()
    };
    for planner in [Planner::MinDepth, Planner::Splitstream] {
        let tally = ran(polite.clone(), planner).tally;
        assert!(tally.orphans > 50, "{planner:?}");
        assert_eq!(tally.interruptions, 0, "{planner:?}: make before break");
    }
}

#[test]
fn a_crash_is_noticed_by_everybody_below_and_by_nobody_else() {
    let crashes = |planner| -> Tally {
        ran(
            Conditions {
                crashes: 1000,
                ..small()
            },
            planner,
        )
        .tally
    };
    let tally = crashes(Planner::MinDepth);
    assert!(tally.interruptions >= tally.orphans);
    // 100 ms of silence, the way to the planner and back, and six round trips.
    assert!(tally.gaps.quantile(0.2).is_some_and(|ms| ms >= 150.0));
    // Whoever partners with others is not cut off whole.
    let mesh = crashes(Planner::Mesh);
    assert!(
        mesh.black * 4 < tally.black,
        "{} {}",
        mesh.black,
        tally.black
    );
}

#[test]
fn a_mesh_is_calm_behind_a_buffer_and_late() {
    let of = |planner| ran(small(), planner).tally;
    let (mesh, tree) = (of(Planner::Mesh), of(Planner::MinDepth));
    assert_eq!(mesh.past_buffer, 0);
    let delay = |tally: &Tally| figures::average(tally, |look| look.delay_ms);
    assert!(
        delay(&mesh) > 5.0 * delay(&tree),
        "{} {}",
        delay(&mesh),
        delay(&tree)
    );
}

#[test]
fn noise_alone_moves_children_of_those_who_have_no_hysteresis() {
    let noisy = Conditions {
        trace: Trace::Quiet,
        noise: true,
        loss: 0,
        ..small()
    };
    let edges = |planner| {
        ran(noisy.clone(), planner)
            .tally
            .cost(tally::Kind::Uplink)
            .edges
    };
    assert!(edges(Planner::MinDepth) > 0);
    assert_eq!(edges(Planner::Bbvoice), 0, "it looks at no uplink");
}

#[test]
fn barred_pairs_go_to_a_paid_slot() {
    let open = ran(small(), Planner::MinDepth).tally;
    let barred = ran(
        Conditions {
            nat: true,
            ..small()
        },
        Planner::MinDepth,
    )
    .tally;
    assert!(barred.barred > 20 && open.barred == 0, "{}", barred.barred);
    let paid = |tally: &Tally| figures::average(tally, |look| look.paid);
    assert!(
        paid(&barred) > paid(&open) + 20.0,
        "{} {}",
        paid(&barred),
        paid(&open)
    );
}

#[test]
fn the_adversary_kills_ten_times_a_second() {
    let world = ran(
        Conditions {
            trace: Trace::Adversary,
            seconds: 80,
            ..small()
        },
        Planner::MinDepth,
    );
    assert!(world.tally.departures > 150, "{}", world.tally.departures);
    assert_eq!(world.tally.violations, 0);
    assert!(world.plan[0].count(ROOT) > 0);
}

#[test]
fn backups_shorten_gaps() {
    for planner in [Planner::Mesh, Planner::Grove] {
        let crashes = Conditions {
            crashes: 1000,
            loss: 0,
            staleness: 200_000,
            ..small()
        };
        let with = ran(crashes.clone(), planner).tally;
        let without = Conditions {
            backups: false,
            ..crashes
        };
        let without = ran(without, planner).tally;
        assert!(
            with.fallbacks > 20 && without.fallbacks == 0,
            "{planner:?}: {}",
            with.fallbacks
        );
        let middle = |tally: &Tally| tally.gaps.quantile(0.5);
        assert!(
            middle(&with) < middle(&without),
            "{:?} {:?}",
            middle(&with),
            middle(&without)
        );
        assert!(with.missing < without.missing);
    }
}

#[test]
fn backups_that_are_named_are_legal_and_reach_the_root_when_one_vanishes() {
    let world = ran(small(), Planner::Grove);
    let (legal, all) = world.tally.looks.last().expect("five looks").backups;
    assert!(all > 200 && legal * 100 >= all * 98, "{legal} of {all}");
    for id in 1..world.viewers.len() as u32 {
        if world.plan[0].parent(id).is_some() {
            let (orphans, again) = world.were_to_vanish(&[id]);
            assert!(orphans - again <= 1, "{id}: {again} of {orphans}");
        }
    }
}

#[test]
fn an_older_view_makes_longer_gaps() {
    let of = |staleness| {
        let conditions = Conditions {
            crashes: 1000,
            loss: 0,
            backups: false,
            staleness,
            ..small()
        };
        ran(conditions, Planner::MinDepth).tally.gaps.quantile(0.5)
    };
    assert!(of(0) < of(50_000) && of(50_000) < of(200_000));
}

#[test]
fn half_of_a_crowd_vanishes_and_the_rest_keep_their_way_to_the_root() {
    let mut overlay = Planner::MinDepth.overlay(&small());
    let (_, blow) = direct::blow(&mut *overlay, 2_000, 1);
    assert!(blow.orphans > 300, "{blow:?}");
    assert_eq!(blow.lost, 0, "{blow:?}");
    let mut overlay = Planner::Grove.overlay(&small());
    let (_, blow) = direct::blow(&mut *overlay, 2_000, 1);
    assert_eq!(blow.lost, 0, "{blow:?}");
    assert!(
        blow.orphans > 300 && blow.edges <= blow.orphans * 11 / 10,
        "{blow:?}"
    );
}

#[test]
fn a_single_operation_touches_few_nodes_however_many_watch() {
    let touched = |viewers| {
        let mut overlay = Planner::Grove.overlay(&small());
        direct::speeds(&mut *overlay, viewers, 1).touched
    };
    let few = touched(1_000);
    assert!(touched(8_000) <= few.max(16) * 4, "{few}");
}

#[test]
fn the_goals_are_measured_each_once() {
    use clap::Parser;
    let line = [
        "plan",
        "--goals",
        "--viewers",
        "1000",
        "--seconds",
        "60",
        "--warmup",
        "30",
    ];
    let (report, _) = run(&Line::parse_from(line).options).expect("it runs");
    for goal in [
        "p1_", "p2_", "p3_", "p4_", "p8_", "p9_", "p10_", "p11_", "p12_", "p13_",
    ] {
        assert!(
            report
                .measures
                .iter()
                .any(|m| m.name.starts_with(goal) && m.goal.is_some()),
            "{goal}"
        );
    }
    let mut names: Vec<_> = report.measures.iter().map(|m| m.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), report.measures.len());
    let value = |name: &str| {
        report
            .measures
            .iter()
            .find(|m| m.name == name)
            .map(|m| m.value)
    };
    assert_eq!(value("p9_replays_that_differ"), Some(0.0));
    assert_eq!(value("plan_violations"), Some(0.0));
    assert_eq!(value("p8_survivors_forgotten"), Some(0.0));
}

#[test]
fn a_damaged_log_can_t_be_run_and_says_why() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), b"grvl\x01\x40\x06\x09").expect("it is written");
    let options = Options {
        replay: Some(file.path().to_owned()),
        ..options()
    };
    let error = run(&options).expect_err("it is damaged").to_string();
    assert!(
        error.ends_with("at byte 7: no operation has the code 9"),
        "{error}"
    );
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options() -> Options {
    use clap::Parser;
    Line::parse_from(["plan"]).options
}

#[test]
fn a_day_swells_and_ebbs() {
    let day = Conditions {
        trace: Trace::Diurnal,
        seconds: 660,
        ..small()
    };
    let looks = ran(day, Planner::MinDepth).tally.looks;
    let most = looks.iter().map(|look| look.planned).max();
    let least = looks.iter().map(|look| look.planned).min();
    assert!(
        most >= Some(260) && least <= Some(200),
        "{most:?} {least:?}"
    );
}

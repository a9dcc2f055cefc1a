//! What the estimator says of links of which everything is known, in virtual time.
//!
//! With `--nocapture` each test prints the figures that `docs/design/estimate.md` quotes.

mod hostile;
mod sim;

use sim::{Load, MS, SECOND, Scene, Trace, run, run_all};

const SEEDS: std::ops::Range<u64> = 1..4;

/// Means of the estimate, of the worst two seconds of it, and of what came, as parts of `bps`; the queue's 95th percentile in
/// ms. Over all seeds, from 5 s to 30 s: the least of each, but the most of the queue.
#[derive(Debug)]
struct Steady {
    mean: f64,
    least: f64,
    through: f64,
    queue_ms: f64,
}

fn steady(scene: &Scene, bps: u64) -> Steady {
    let bps = bps as f64;
    let mut all = Steady {
        mean: f64::MAX,
        least: f64::MAX,
        through: f64::MAX,
        queue_ms: 0.0,
    };
    for seed in SEEDS {
        let scene = Scene {
            seed,
            ..scene.clone()
        };
        let trace = run(&scene, 30 * SECOND);
        let (from, to) = (5 * SECOND, 30 * SECOND);
        let means = (0..24).map(|at| from + at * SECOND);
        let means = means.map(|at| trace.mean(at, at + 2 * SECOND) / bps);
        all.least = means.fold(all.least, f64::min);
        all.mean = all.mean.min(trace.mean(from, to) / bps);
        all.through = all.through.min(trace.through(from, to) / bps);
        all.queue_ms = all.queue_ms.max(trace.queue(0.95, from, to));
        assert!(
            trace.mean(from, to) <= bps,
            "{scene:?}: no more than there is"
        );
    }
    all
}

/// Looks at which the estimate is below what came just before.
fn below_acked(trace: &Trace) -> usize {
    let below = trace.looks.iter().filter(|look| look.bps < look.acked);
    below.count()
}

#[test]
fn a_bottleneck_is_found_within_five_seconds_and_its_queue_stays_short() {
    for bps in [300_000, 1_000_000, 2_500_000, 10_000_000] {
        for queue_ms in [200, 500] {
            let scene = Scene {
                queue_ms,
                ..Scene::new(Load::Greedy, bps)
            };
            let found = steady(&scene, bps);
            println!("bottleneck {bps} queue {queue_ms} ms: {found:.2?}");
            assert!(found.mean >= 0.85 && found.least >= 0.75, "{bps} {found:?}");
            assert!(found.queue_ms < 120.0, "{bps}, {queue_ms} ms: {found:?}");
        }
    }
}

#[test]
fn longer_ways_and_other_queues_are_found_as_well() {
    // One way (ms), queue (ms), least part of 1.5 Mbit/s that is found.
    for (delay, queue_ms, part) in [
        (1, 300, 0.75),
        (75, 300, 0.75),
        (200, 300, 0.7),
        (20, 10, 0.6),
        (20, 60, 0.75),
        (20, 3_000, 0.65),
    ] {
        let scene = Scene {
            delay: delay * MS,
            queue_ms,
            ..Scene::new(Load::Greedy, 1_500_000)
        };
        let found = steady(&scene, 1_500_000);
        println!("one way {delay} ms, queue {queue_ms} ms: {found:.2?}");
        assert!(found.least >= part, "{delay} {queue_ms} {found:?}");
    }
}

#[test]
fn stalls_of_either_side_are_not_taken_for_a_full_link() {
    // Mean time between two stalls of one side, and the longest (ms).
    for (every, longest) in [(200, 50), (50, 50), (25, 50), (400, 150)] {
        let mut least = u64::MAX;
        for seed in 1..9 {
            let scene = Scene {
                seed,
                stalls: 20 * SECOND,
                stalls_every: every * MS,
                stalls_longest: longest * MS,
                demand: 2_500_000,
                ..Scene::new(Load::Stream(2_000_000), u64::MAX)
            };
            let trace = run(&scene, 30 * SECOND);
            assert_eq!(below_acked(&trace), 0, "{scene:?}");
            least = least.min(trace.least(0, 30 * SECOND));
            assert!(least > 2_500_000, "{scene:?}: {least}");
        }
        println!("stalls every {every} ms to {longest} ms: never below {least}");
    }
}

#[test]
fn what_stalls_take_from_the_estimate_comes_back_at_once() {
    // With the last, each side stands still for almost half of the time.
    for (every, longest) in [(200, 150), (400, 300), (200, 300)] {
        let mut most = 0;
        for seed in 1..9 {
            let scene = Scene {
                seed,
                stalls: 20 * SECOND,
                stalls_every: every * MS,
                stalls_longest: longest * MS,
                demand: 2_500_000,
                ..Scene::new(Load::Stream(2_000_000), u64::MAX)
            };
            let trace = run(&scene, 30 * SECOND);
            let below = trace.looks.iter().filter(|look| look.bps < 2_000_000);
            most = most.max(below.count() * 10);
            assert!(most <= 1_000, "{scene:?}: {most}");
            let after = trace.least(23 * SECOND, 30 * SECOND);
            assert!(after > 2_500_000, "{scene:?}: {after}");
        }
        println!("stalls every {every} ms to {longest} ms: below 2 Mbit/s for {most} ms of 20 s");
    }
}

#[test]
fn an_estimate_that_begins_low_grows_beyond_the_demand_in_spite_of_stalls() {
    for seed in 1..9 {
        let scene = Scene {
            seed,
            stalls: 20 * SECOND,
            stalls_every: 200 * MS,
            start_bps: 300_000,
            demand: 2_500_000,
            ..Scene::new(Load::Stream(2_000_000), u64::MAX)
        };
        let trace = run(&scene, 20 * SECOND);
        let after = trace.first(0, |bps| bps > 2_500_000);
        println!("from 300 kbit/s under stalls: beyond 2.5 Mbit/s after {after:?} us");
        assert!(after.is_some_and(|after| after < 3 * SECOND), "{seed}");
        assert!(trace.least(5 * SECOND, 20 * SECOND) > 2_500_000, "{seed}");
    }
}

#[test]
fn a_bottleneck_is_found_in_spite_of_stalls() {
    for bps in [300_000, 2_500_000] {
        let scene = Scene {
            stalls_every: 200 * MS,
            ..Scene::new(Load::Greedy, bps)
        };
        let found = steady(&scene, bps);
        println!("bottleneck {bps} under stalls: {found:.2?}");
        assert!(found.mean >= 0.8, "{bps} {found:?}");
        assert!(found.queue_ms < 200.0, "{bps} {found:?}");
    }
}

#[test]
fn a_link_that_narrows_is_followed_within_two_seconds_and_back_within_eight() {
    for load in [Load::Greedy, Load::Stream(2_000_000)] {
        for seed in 1..7 {
            let (narrow, wide) = (15 * SECOND, 30 * SECOND + seed * 700 * MS);
            let scene = Scene {
                seed,
                demand: 3_000_000,
                capacity: vec![(0, 2_500_000), (narrow, 600_000), (wide, 2_500_000)],
                ..Scene::new(load, 2_500_000)
            };
            let trace = run(&scene, wide + 10 * SECOND);
            let down = trace.first(narrow, |bps| bps <= 600_000).unwrap();
            let back = trace.first(wide, |bps| bps >= 2_000_000).unwrap();
            let queue = trace.queue(0.95, narrow + 3 * SECOND, wide);
            let stood = trace.looks.iter().filter(|look| look.queue_ms > 200.0);
            let stood = stood.filter(|look| look.at >= narrow).count() * 10;
            println!(
                "{load:?}: down after {down} us, back after {back} us, queue {queue:.0} ms, \
                 over 200 ms for {stood} ms"
            );
            assert!(down <= 2 * SECOND && back <= 8 * SECOND, "{load:?} {seed}");
            assert!(queue < 200.0, "{load:?} {seed}");
            assert!(trace.mean(narrow + 3 * SECOND, wide) >= 450_000.0, "{seed}");
        }
    }
}

#[test]
fn a_pacer_that_looks_seldom_finds_a_bottleneck_as_well() {
    for grain in [5, 10, 33] {
        for bps in [300_000, 2_500_000] {
            let scene = Scene {
                grain: grain * MS,
                ..Scene::new(Load::Greedy, bps)
            };
            let found = steady(&scene, bps);
            println!("pacer of {grain} ms at {bps}: {found:.2?}");
            assert!(found.least >= 0.7, "{grain} {bps} {found:?}");
            assert!(found.queue_ms < 200.0, "{grain} {bps} {found:?}");
        }
    }
}

#[test]
fn radio_that_hands_packets_on_in_bunches_is_measured_as_well() {
    for bunch in [5, 10, 20, 40] {
        let radio = Scene {
            bunch: bunch * MS,
            ..Scene::new(Load::Greedy, 5_000_000)
        };
        let found = steady(&radio, 5_000_000);
        println!("bunches of {bunch} ms: {found:.2?}");
        assert!(
            found.least >= 0.75 && found.queue_ms < 120.0,
            "{bunch} {found:?}"
        );
        let wide = Scene {
            start_bps: 300_000,
            demand: 2_500_000,
            capacity: vec![(0, 20_000_000)],
            load: Load::Stream(2_000_000),
            ..radio
        };
        let after = run(&wide, 20 * SECOND).first(0, |bps| bps > 2_500_000);
        println!("bunches of {bunch} ms: from 300 kbit/s beyond 2.5 Mbit/s after {after:?} us");
        assert!(after.is_some_and(|after| after < 5 * SECOND), "{bunch}");
    }
}

#[test]
fn loss_by_chance_is_not_taken_for_congestion() {
    for (loss, part) in [(0.02, 0.7), (0.05, 0.7), (0.10, 0.4), (0.20, 0.4)] {
        for bps in [600_000, 2_500_000] {
            let scene = Scene {
                loss,
                ..Scene::new(Load::Greedy, bps)
            };
            let found = steady(&scene, bps);
            println!("loss {loss} at {bps}: {found:.2?}");
            assert!(found.least >= part, "{loss} {bps} {found:?}");
        }
    }
}

#[test]
fn a_little_sound_is_enough_to_find_what_the_link_carries() {
    for (bps, least, most) in [
        (400_000, 300_000, 400_000),
        (2_500_000, 2_000_000, 2_500_000),
        (50_000_000, 3_000_000, 4_500_000),
    ] {
        let scene = Scene {
            start_bps: 300_000,
            demand: 3_000_000,
            ..Scene::new(Load::Stream(20_000), bps)
        };
        let trace = run(&scene, 20 * SECOND);
        let found = least..=most;
        let (low, high) = (
            trace.least(5 * SECOND, 20 * SECOND),
            trace.most(5 * SECOND, 20 * SECOND),
        );
        println!(
            "sound over {bps}: {low} to {high}, {} probes",
            trace.probes.len()
        );
        assert!(found.contains(&low) && found.contains(&high), "{bps}");
        assert!(trace.queue(0.99, 0, 20 * SECOND) < 100.0);
    }
}

#[test]
fn nothing_is_probed_beyond_what_is_wanted() {
    let scene = Scene {
        demand: 2_000_000,
        start_bps: 1_000_000,
        ..Scene::new(Load::Stream(1_000_000), u64::MAX)
    };
    let trace = run(&scene, 30 * SECOND);
    let beyond = trace
        .probes
        .iter()
        .filter(|(_, probe)| probe.bps > 3_000_000);
    assert_eq!(beyond.count(), 0);
    assert!(trace.probes.len() <= 3, "{:?}", trace.probes);
    assert!(trace.most(0, 30 * SECOND) <= 3_000_000);
    assert!(trace.least(5 * SECOND, 30 * SECOND) > 2_000_000);
}

#[test]
fn a_way_that_gets_longer_costs_two_and_a_half_seconds_at_most() {
    for longer in [30, 100, 200] {
        let scene = Scene {
            demand: 2_500_000,
            detour: (10 * SECOND, longer * MS),
            ..Scene::new(Load::Stream(2_000_000), u64::MAX)
        };
        let trace = run(&scene, 30 * SECOND);
        let narrow = trace.looks.iter().filter(|look| look.bps < 2_000_000);
        let narrow = narrow.count() * 10;
        println!("{longer} ms longer: below the stream's rate for {narrow} ms");
        assert!(narrow < 2_500, "{longer}");
        assert!(trace.least(15 * SECOND, 30 * SECOND) > 2_500_000);
    }
}

#[test]
fn an_outage_is_made_up_for_within_three_seconds_of_its_end() {
    for long in [300, 1_000, 3_000, 6_000] {
        for load in [Load::Greedy, Load::Stream(2_000_000)] {
            let end = (10_000 + long) * MS;
            let scene = Scene {
                demand: 2_500_000,
                outage: (10 * SECOND, end),
                ..Scene::new(load, 2_500_000)
            };
            let trace = run(&scene, 30 * SECOND);
            let narrow = trace.looks.iter().rev().find(|look| look.bps < 1_900_000);
            let back = narrow.map_or(0, |look| look.at.saturating_sub(end));
            println!("{load:?}: {back} us after an outage of {long} ms");
            assert!(back <= 3 * SECOND, "{load:?} {long}: {back}");
        }
    }
}

#[test]
fn feedback_that_is_lost_late_or_told_twice_changes_little() {
    for (lost, twice, late) in [
        (0.3, 0.0, 0.0),
        (0.6, 0.0, 0.0),
        (0.0, 0.5, 0.0),
        (0.0, 0.0, 0.3),
        (0.2, 0.2, 0.2),
    ] {
        let scene = Scene {
            feedback_lost: lost,
            feedback_twice: twice,
            feedback_late: late,
            ..Scene::new(Load::Greedy, 1_500_000)
        };
        let found = steady(&scene, 1_500_000);
        println!("feedback lost {lost}, twice {twice}, late {late}: {found:.2?}");
        assert!(found.mean >= 0.75, "{lost} {twice} {late} {found:?}");
        assert!(found.queue_ms < 200.0, "{lost} {twice} {late} {found:?}");
    }
}

#[test]
fn clocks_that_wrap_or_drift_change_nothing() {
    let plain = Scene::new(Load::Greedy, 2_500_000);
    let wrap = (1i64 << 24) * 64_000 - 12_000_000;
    let shifted = [
        Scene {
            clock: wrap,
            ..plain.clone()
        },
        Scene {
            clock: wrap / 2 + 6_000_000,
            first_seq: 0,
            ..plain.clone()
        },
    ];
    let expected = run(&plain, 30 * SECOND).mean(5 * SECOND, 30 * SECOND);
    for scene in shifted {
        let mean = run(&scene, 30 * SECOND).mean(5 * SECOND, 30 * SECOND);
        // Arrivals are rounded elsewhere.
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean} {expected}");
    }
    for drift in [-2e-4, 2e-4] {
        let scene = Scene {
            drift,
            ..plain.clone()
        };
        let found = steady(&scene, 2_500_000);
        println!("drift {drift}: {found:.2?}");
        assert!(found.least >= 0.75, "{drift} {found:?}");
    }
}

#[test]
fn who_sends_more_than_the_estimate_gets_no_more_for_it() {
    for bps in [300_000, 2_500_000] {
        let scene = Scene {
            ignores: true,
            demand: 4_000_000,
            ..Scene::new(Load::Stream(4_000_000), bps)
        };
        let trace = run(&scene, 30 * SECOND);
        let mean = trace.mean(5 * SECOND, 30 * SECOND) / bps as f64;
        println!("ignored at {bps}: {mean:.2}");
        assert!((0.5..=1.0).contains(&mean), "{bps}: {mean}");
    }
}

#[test]
fn links_that_share_a_bottleneck_share_it() {
    for (bps, links) in [(1_000_000, 2), (3_000_000, 2), (3_000_000, 4)] {
        let scenes = (0..links).map(|at| {
            let scene = Scene {
                seed: 5 * at + 1,
                demand: 5_000_000,
                ..Scene::new(Load::Greedy, bps)
            };
            (at * 5 * SECOND, scene)
        });
        let scenes: Vec<_> = scenes.collect();
        let (from, to) = (30 * SECOND, 60 * SECOND);
        let traces = run_all(&scenes, to);
        let fair = bps as f64 / links as f64;
        let shares = traces.iter().map(|trace| trace.through(from, to) / fair);
        let shares: Vec<f64> = shares.collect();
        let sum = shares.iter().sum::<f64>() / links as f64;
        let queue = traces[0].queue(0.95, from, to);
        println!(
            "{links} share {bps}: {shares:.2?} of a fair share, in all {sum:.2}, queue {queue:.0} ms"
        );
        assert!(shares.iter().all(|share| *share > 0.4), "{shares:?}");
        assert!(sum > 0.85 && queue < 200.0, "{sum} {queue}");
    }
}

#[test]
fn beside_a_download_a_share_is_left_and_afterwards_all_of_it() {
    // Capacity, queue (ms), least part that is left.
    for (bps, queue_ms, part) in [
        (1_000_000, 100, 0.05),
        (1_000_000, 500, 0.1),
        (3_000_000, 200, 0.2),
        (3_000_000, 500, 0.2),
        (10_000_000, 200, 0.3),
    ] {
        let scene = Scene {
            queue_ms,
            demand: 10_000_000,
            download: Some((20 * SECOND, 50 * SECOND)),
            ..Scene::new(Load::Greedy, bps)
        };
        let trace = run(&scene, 65 * SECOND);
        let beside = trace.through(25 * SECOND, 50 * SECOND) / bps as f64;
        let after = trace.mean(55 * SECOND, 65 * SECOND) / bps as f64;
        println!("beside a download, {bps}, {queue_ms} ms: {beside:.2}, after it {after:.2}");
        assert!(beside > part && after > 0.75, "{bps} {queue_ms}");
    }
}

#[test]
fn the_same_link_gives_the_same_estimates() {
    let scene = Scene {
        stalls_every: 100 * MS,
        loss: 0.03,
        ..Scene::new(Load::Greedy, 1_000_000)
    };
    let all = |trace: Trace| -> Vec<u64> { trace.looks.iter().map(|look| look.bps).collect() };
    assert_eq!(all(run(&scene, 10 * SECOND)), all(run(&scene, 10 * SECOND)));
}

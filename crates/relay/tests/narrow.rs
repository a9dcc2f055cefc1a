//! What a relay does for a child whose link carries less than it is given, and what the others notice of it: nothing.

mod support;

use grove_frame::{Header, Kind};
use grove_relay::{Close, Event, Layers, Lost, Settings, Stream};
use support::{Camera, MS, Sim, frame, header};

const CAMERA: Stream = Stream::new(1, 0);
const LOW: Layers = Layers(0b01);
const BOTH: Layers = Layers(0b11);

/// About 240 kbit/s in the low layer, 1.45 Mbit/s in the high one.
fn camera() -> Camera {
    Camera::new(CAMERA, &[1000, 6000])
}

fn slow_down(sim: &mut Sim, node: u16, bps: u64) {
    sim.peers.get_mut(&node).expect("there").bps = Some(bps);
}

#[test]
fn a_slow_child_delays_nobody_else() {
    let run = |slow: bool| {
        let mut sim = Sim::new();
        sim.root(camera());
        for child in 2..6 {
            sim.child(CAMERA, child, BOTH, 2_000_000);
        }
        if slow {
            slow_down(&mut sim, 2, 300_000);
        }
        sim.run(10_000);
        (3..6)
            .map(|child| {
                sim.peers[&child]
                    .got
                    .iter()
                    .map(|got| (got.at, got.header))
                    .collect()
            })
            .collect::<Vec<Vec<_>>>()
    };
    let alone = run(false);
    assert_eq!(alone[0].len(), 500 + 2 * 303);
    // The slow one makes the root send key frames; times and numbers stay as they were.
    let beside = run(true);
    for (a, b) in alone.iter().flatten().zip(beside.iter().flatten()) {
        assert_eq!(
            (a.0, a.1.number, a.1.spatial, a.1.track),
            (b.0, b.1.number, b.1.spatial, b.1.track)
        );
    }
    assert_eq!(
        alone.iter().map(Vec::len).sum::<usize>(),
        beside.iter().map(Vec::len).sum::<usize>()
    );
}

#[test]
fn droppable_pictures_go_first_and_sound_never() {
    let mut sim = Sim::new();
    let mut camera = Camera::new(CAMERA, &[6000]);
    camera.key = 2;
    sim.root(camera);
    sim.child(CAMERA, 2, LOW, 2_000_000);
    sim.run(1000);
    // Three quarters of what comes.
    slow_down(&mut sim, 2, 1_150_000);
    let before = sim.pictures(2, 0).count();
    sim.run(3000);
    let (thin, full): (Vec<_>, Vec<_>) = sim
        .pictures(2, 0)
        .skip(before)
        .partition(|got| got.header.droppable);
    assert!(thin.len() < 35, "{} of 45 that may be left out", thin.len());
    assert!(full.len() > 40, "{} of 45 that count", full.len());
    for pair in full.windows(2) {
        assert_eq!(pair[1].header.number - pair[0].header.number, 2);
    }
    assert!(sim.decodable(2, 0));
    assert!(
        (198..=200).contains(&sim.sounds(2)),
        "{} of 200",
        sim.sounds(2)
    );
}

#[test]
fn sound_stands_behind_one_picture_at_most() {
    let mut sim = Sim::new();
    sim.root(camera());
    sim.child(CAMERA, 2, BOTH, 2_000_000);
    sim.run(500);
    slow_down(&mut sim, 2, 800_000);
    sim.run(10_000);
    // A key frame of the high layer alone takes 300 ms, an ordinary one 60.
    let late = sim.peers[&2].got.iter().filter(|got| got.header.track == 0);
    let late: Vec<_> = late
        .map(|got| (got.at - got.header.capture_us) / MS)
        .collect();
    assert!(late.iter().all(|&ms| ms <= 400), "{:?}", late.iter().max());
    assert!(
        late.iter().filter(|&&ms| ms > 75).count() < late.len() / 10,
        "{late:?}"
    );
    assert_eq!(
        late.len() + sim.peers[&2].got.len(),
        sim.peers[&2].got.len() + sim.sounds(2)
    );
    assert!(sim.sounds(2) > 500);
}

#[test]
fn a_link_too_narrow_for_the_higher_layer_gets_the_lower_and_later_the_higher_again() {
    let mut sim = Sim::new();
    sim.root(camera());
    sim.child(CAMERA, 2, Layers(0b10), 2_000_000);
    sim.run(2000);
    assert_eq!(sim.numbers(2, 0).len(), 0);
    slow_down(&mut sim, 2, 600_000);
    sim.run(12_000);
    let told: Vec<_> = sim
        .texts(2, "layers")
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert!(
        told.contains(&r#"{"t":"layers","s":16,"l":[0]}"#.to_owned()),
        "{told:?}"
    );
    assert!(sim.numbers(2, 0).len() > 100);

    sim.peers.get_mut(&2).expect("there").bps = None;
    sim.run(70_000);
    let told = sim.texts(2, "layers");
    assert_eq!(
        told.last().expect("told").1,
        r#"{"t":"layers","s":16,"l":[1]}"#
    );
    let before = sim.numbers(2, 1).len();
    sim.run(3300);
    assert_eq!(sim.numbers(2, 1).len() - before, 100);
    assert!(sim.decodable(2, 0) && sim.decodable(2, 1));
    let size = sim.relay.stats(sim.now).size;
    assert!(size.queued_bytes < 20_000, "{size:?}");
}

#[test]
fn layers_that_do_not_come_are_replaced_by_the_next_lower_and_return() {
    let mut sim = Sim::new();
    sim.root(camera());
    sim.child(CAMERA, 2, Layers(0b10), 2_000_000);
    sim.run(1000);
    sim.text(1, r#"{"t":"layers","s":16,"l":[0]}"#);
    sim.run(500);
    assert_eq!(
        sim.texts(2, "layers").last().expect("told").1,
        r#"{"t":"layers","s":16,"l":[0]}"#
    );
    let low = sim.numbers(2, 0).len();
    assert!(low > 20);
    sim.text(1, r#"{"t":"layers","s":16,"l":[0,1]}"#);
    sim.run(1000);
    assert_eq!(
        sim.texts(2, "layers").last().expect("told").1,
        r#"{"t":"layers","s":16,"l":[1]}"#
    );
    assert!(sim.decodable(2, 1));
}

#[test]
fn a_child_that_stops_reading_holds_no_more_than_its_bound_and_is_ended_after_ten_seconds() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000, 20_000]));
    sim.child(CAMERA, 2, BOTH, 6_000_000);
    sim.child(CAMERA, 3, BOTH, 6_000_000);
    sim.run(1000);
    slow_down(&mut sim, 2, 0);
    for _ in 0..99 {
        sim.run(100);
        let size = sim.relay.stats(sim.now).size;
        assert!(size.queued_bytes < 700_000, "{size:?}");
    }
    assert_eq!(sim.peers[&2].closed, None);
    sim.run(300);
    assert_eq!(sim.peers[&2].closed, Some(Close::Stuck));
    sim.run(600);
    let lost: Vec<_> = sim
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Lost { .. }))
        .collect();
    assert!(
        matches!(
            lost[..],
            [(
                _,
                Event::Lost {
                    peer: 2,
                    why: Lost::Silent,
                    ..
                }
            )]
        ),
        "{lost:?}"
    );
    assert_eq!(sim.numbers(3, 1), (0..357).collect::<Vec<_>>());
    assert_eq!(sim.relay.stats(sim.now).counters.stuck, 1);
    assert!(sim.relay.stats(sim.now).size.queued_bytes < 1000);
}

#[test]
fn what_leaves_in_all_stays_under_the_cap_and_sound_is_not_held_back() {
    let mut sim = Sim::with(Settings {
        egress_bps: 2_000_000,
        ..Settings::default()
    });
    sim.root(camera());
    for child in 2..6 {
        sim.child(CAMERA, child, BOTH, 2_000_000);
    }
    sim.run(3000);
    let mut most = 0;
    for _ in 0..70 {
        sim.run(100);
        most = most.max(sim.relay.stats(sim.now).sent_bps);
    }
    assert!(most < 2_400_000, "{most}");
    for child in 2..6 {
        assert_eq!(sim.sounds(child), 500, "child {child}");
        assert!(sim.pictures(child, 0).count() > 50, "child {child}");
    }
}

#[test]
fn a_lane_is_paced_to_twice_its_allotted_rate_and_a_burst_does_not_go_at_once() {
    let mut sim = Sim::new();
    let mut camera = Camera::new(CAMERA, &[4000]);
    camera.key = 40;
    camera.sound = false;
    sim.root(camera);
    sim.child(CAMERA, 2, LOW, 500_000);
    sim.run(5000);
    // 970 kbit/s come, 1 Mbit/s may go: every picture that counts arrives, none later than the soft bound.
    let full: Vec<_> = sim
        .pictures(2, 0)
        .filter(|got| !got.header.droppable)
        .collect();
    assert_eq!(full.len(), 76);
    assert!(
        full.iter()
            .all(|got| got.at - got.header.capture_us <= 160 * MS)
    );
}

#[test]
fn a_stream_of_key_frames_gets_three_times_the_allotted_rate_and_no_more() {
    let mut sim = Sim::new();
    let mut silent = Camera::new(CAMERA, &[1000]);
    silent.until = 0;
    sim.root(silent);
    sim.child(CAMERA, 2, LOW, 300_000);
    let kind = Kind::Key {
        width: 640,
        height: 360,
    };
    for number in 0..900 {
        let h = Header {
            kind,
            ..header(CAMERA, number)
        };
        sim.send(1, frame(h, 100_000));
        sim.run(33);
    }
    let bytes: usize = sim.pictures(2, 0).map(|got| got.bytes.len()).sum();
    let bps = bytes as u64 * 8000 / (sim.now / MS);
    assert!((300_000..=950_000).contains(&bps), "{bps}");
}

#[test]
fn an_edge_begins_with_no_more_than_may_wait_for_it_and_else_with_a_key_frame() {
    let begins = |bytes| {
        let mut sim = Sim::new();
        sim.root(Camera::new(CAMERA, &[bytes]));
        sim.run(1500);
        sim.child(CAMERA, 2, LOW, 300_000);
        sim.run(1);
        (sim.numbers(2, 0).len(), sim.camera(CAMERA).asked.len())
    };
    // 22 pictures and a key frame of five times the size: 405 kB, and 540 kB.
    assert_eq!(begins(15_000), (23, 0));
    assert_eq!(begins(20_000), (0, 1));
}

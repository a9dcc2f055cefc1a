//! Standing by for somebody's child, and turning to somebody who stands by.

mod support;

use grove_relay::{Command, Event, Input, Layers, Lost, Node, Stream};
use support::{Camera, MS, ROOM, Sim};

const CAMERA: Stream = Stream::new(1, 0);
const LOW: Layers = Layers(0b01);

fn stand_by(sim: &mut Sim, child: Node) {
    sim.command(Command::StandBy {
        room: ROOM,
        stream: CAMERA,
        child,
        layers: LOW,
        rate_bps: 1_000_000,
    });
}

fn take(sim: &mut Sim, child: Node, last: u32) {
    let (s, n) = (CAMERA.0, last);
    let text =
        format!(r#"{{"t":"take","s":{s},"have":[{{"layer":0,"generation":1,"number":{n}}}]}}"#);
    sim.text(child, &text);
}

fn drop_it(sim: &mut Sim, child: Node) {
    sim.text(child, &format!(r#"{{"t":"drop","s":{}}}"#, CAMERA.0));
}

fn misplaced(sim: &mut Sim) -> u64 {
    sim.relay.stats(sim.now).counters.misplaced
}

/// A camera at 1, and a child 2 that the relay stands by for.
fn host() -> Sim {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.join(2);
    stand_by(&mut sim, 2);
    sim
}

#[test]
fn who_stands_by_sends_nothing_until_it_is_asked_and_then_at_once_what_the_child_has_not() {
    let mut sim = host();
    sim.run(2000);
    assert_eq!(sim.peers[&2].got.len(), 0);
    take(&mut sim, 2, 50);
    sim.tick();
    let numbers = sim.numbers(2, 0);
    assert_eq!(numbers, (51..=59).collect::<Vec<_>>());
    sim.run(1000);
    let numbers = sim.numbers(2, 0);
    assert_eq!(numbers, (51..=89).collect::<Vec<_>>());
    assert!(sim.sounds(2) >= 49);
    assert_eq!(
        sim.camera(CAMERA).asked.len(),
        0,
        "it had all that was needed"
    );
}

#[test]
fn a_child_that_is_served_elsewhere_stops_it_and_may_ask_again() {
    let mut sim = host();
    sim.run(1000);
    take(&mut sim, 2, 29);
    sim.run(500);
    drop_it(&mut sim, 2);
    let before = sim.peers[&2].got.len();
    assert!(before > 30);
    sim.run(1000);
    assert_eq!(sim.peers[&2].got.len(), before);
    take(&mut sim, 2, 74);
    sim.run(100);
    let numbers = sim.numbers(2, 0);
    assert!(numbers.ends_with(&[44, 75, 76, 77]), "{numbers:?}");
    assert_eq!(misplaced(&mut sim), 0);
}

#[test]
fn an_ordinary_edge_is_not_stopped_by_its_child_and_who_stands_by_answers_nothing_else() {
    let mut sim = host();
    sim.child(CAMERA, 3, LOW, 1_000_000);
    sim.run(1000);
    drop_it(&mut sim, 3);
    drop_it(&mut sim, 1);
    assert_eq!(misplaced(&mut sim), 2);
    sim.text(
        2,
        &format!(r#"{{"t":"need","s":{},"l":0,"n":[10]}}"#, CAMERA.0),
    );
    sim.text(2, &format!(r#"{{"t":"key","s":{},"l":0}}"#, CAMERA.0));
    assert_eq!(misplaced(&mut sim), 4);
    sim.run(1000);
    assert_eq!(sim.numbers(3, 0), (0..=59).collect::<Vec<_>>());
    assert_eq!(sim.peers[&2].got.len(), 0);
}

#[test]
fn an_order_to_feed_goes_on_with_what_has_begun() {
    let mut sim = host();
    sim.run(1000);
    take(&mut sim, 2, 29);
    sim.run(500);
    sim.feed(CAMERA, 2, LOW, 1_000_000);
    sim.run(1500);
    assert_eq!(sim.numbers(2, 0), (30..=89).collect::<Vec<_>>());
    drop_it(&mut sim, 2);
    sim.run(100);
    assert_eq!(misplaced(&mut sim), 1);
    assert_eq!(sim.numbers(2, 0).last(), Some(&92));
}

#[test]
fn an_order_to_feed_begins_what_nobody_has_asked_for_after_300_ms() {
    let mut sim = host();
    sim.run(1000);
    sim.feed(CAMERA, 2, LOW, 1_000_000);
    sim.run(299);
    assert_eq!(sim.peers[&2].got.len(), 0);
    sim.run(20);
    assert!(sim.peers[&2].got.len() > 10);
}

#[test]
fn an_order_to_stand_by_ends_an_edge_until_its_child_asks_and_release_ends_that() {
    let mut sim = host();
    sim.child(CAMERA, 3, LOW, 1_000_000);
    sim.run(1000);
    stand_by(&mut sim, 3);
    let before = sim.peers[&3].got.len();
    sim.run(1000);
    assert_eq!(sim.peers[&3].got.len(), before);
    let (room, stream) = (ROOM, CAMERA);
    for child in [2, 3] {
        sim.command(Command::Release {
            room,
            stream,
            child,
        });
        take(&mut sim, child, 59);
        sim.run(1000);
    }
    assert_eq!(sim.relay.stats(sim.now).size.edges, 0);
    assert_eq!(sim.peers[&2].got.len(), 0);
    assert_eq!(sim.peers[&3].got.len(), before);
}

/// The camera at 1 feeds the relay, which feeds 9; 2 stands by for it.
fn guarded() -> Sim {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.join(2);
    sim.child(CAMERA, 9, LOW, 4_000_000);
    backup(&mut sim, Some(2));
    sim.run(2000);
    assert_eq!(sim.texts(2, "take"), []);
    sim
}

fn backup(sim: &mut Sim, parent: Option<Node>) {
    sim.command(Command::Backup {
        room: ROOM,
        stream: CAMERA,
        parent,
        layers: LOW,
    });
}

/// From now on the camera's frames come from this peer, as if it had them from elsewhere; the others say nothing any more.
fn comes_from(sim: &mut Sim, node: Node, mute: Node) {
    sim.cameras[0].0 = node;
    sim.peers.get_mut(&mute).expect("there").mute = true;
}

/// The camera goes on, but what it sends comes nowhere.
fn falls_silent(sim: &mut Sim, node: Node) {
    sim.peers.get_mut(&node).expect("there").mute = true;
    let camera = &mut sim.cameras[0].1;
    camera.from = sim.now + 60_000 * MS;
}

fn speaks_again(sim: &mut Sim, node: Node) {
    sim.cameras[0].0 = node;
    sim.cameras[0].1.from = sim.now;
    sim.peers.get_mut(&node).expect("there").mute = false;
}

fn ready(sim: &Sim, parent: Node) -> usize {
    let is = |event: &Event| matches!(event, Event::Ready { parent: p, .. } if *p == parent);
    sim.events.iter().filter(|(_, event)| is(event)).count()
}

#[test]
fn a_silent_parent_is_stood_in_for_within_a_tenth_of_a_second_and_the_children_miss_nothing() {
    let mut sim = guarded();
    let silent = sim.now;
    falls_silent(&mut sim, 1);
    sim.run(99);
    assert_eq!(sim.texts(2, "take"), []);
    sim.run(51);
    let taken = sim.texts(2, "take");
    assert_eq!(taken.len(), 1);
    assert!((100 * MS..=140 * MS).contains(&(taken[0].0 - silent)));
    assert!(taken[0].1.contains(r#""number":59"#), "{}", taken[0].1);
    speaks_again(&mut sim, 2);
    sim.run(3000);
    assert_eq!(sim.numbers(9, 0), (0..=150).collect::<Vec<_>>());
    assert_eq!(ready(&sim, 2), 0, "nobody has ordered it yet");
    // What was lost is reported, and the order names who delivers already.
    let lost = Event::Lost {
        room: ROOM,
        peer: 1,
        why: Lost::Silent,
    };
    assert!(sim.events.iter().any(|(_, event)| *event == lost));
    sim.parent(CAMERA, 2, LOW);
    backup(&mut sim, None);
    assert_eq!(ready(&sim, 2), 1);
    sim.run(1000);
    assert_eq!(sim.texts(2, "take").len(), 1, "nothing begins anew");
    assert_eq!(sim.texts(2, "drop"), []);
    assert_eq!(sim.numbers(9, 0), (0..=180).collect::<Vec<_>>());
    assert_eq!(sim.camera(CAMERA).asked.len(), 1, "the first child's");
}

#[test]
fn a_parent_that_is_heard_again_in_time_has_its_place_back() {
    let mut sim = guarded();
    falls_silent(&mut sim, 1);
    sim.run(300);
    assert_eq!(sim.texts(2, "take").len(), 1);
    speaks_again(&mut sim, 1);
    sim.run(100);
    assert_eq!(sim.texts(2, "drop").len(), 1);
    let stray = sim.relay.stats(sim.now).counters.stray;
    let late = support::frame(support::header(CAMERA, 200), 500);
    sim.send(2, late);
    assert_eq!(sim.relay.stats(sim.now).counters.stray, stray + 1);
    sim.run(1000);
    assert_eq!(sim.texts(2, "take").len(), 1);
    let numbers = sim.numbers(9, 0);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    // And again.
    falls_silent(&mut sim, 1);
    sim.run(300);
    assert_eq!(sim.texts(2, "take").len(), 2);
}

#[test]
fn a_parent_that_comes_back_after_its_silence_was_reported_waits_for_an_order() {
    let mut sim = guarded();
    comes_from(&mut sim, 2, 1);
    sim.run(3000);
    sim.peers.get_mut(&1).expect("there").mute = false;
    sim.run(1000);
    assert_eq!(sim.texts(2, "drop"), []);
    sim.parent(CAMERA, 1, LOW);
    sim.run(10);
    assert_eq!(sim.texts(2, "drop").len(), 1);
}

#[test]
fn an_order_that_names_another_is_a_move_from_the_backup_to_it() {
    let mut sim = guarded();
    comes_from(&mut sim, 2, 1);
    sim.run(1000);
    sim.join(3);
    sim.parent(CAMERA, 3, LOW);
    sim.run(500);
    assert_eq!(sim.texts(3, "take").len(), 1);
    let numbers = sim.numbers(9, 0);
    assert_eq!(numbers.last(), Some(&105), "the backup is heard meanwhile");
    sim.cameras[0].0 = 3;
    sim.run(900);
    assert_eq!(sim.texts(2, "drop"), []);
    sim.run(300);
    assert_eq!(sim.texts(2, "drop").len(), 1);
    assert_eq!(ready(&sim, 3), 1);
    let numbers = sim.numbers(9, 0);
    // What the camera made while the link to 1 was silent is lost here: nobody but the camera has it.
    assert!(
        numbers.windows(2).all(|two| two[1] - two[0] <= 5),
        "{numbers:?}"
    );
    assert_eq!(sim.texts(2, "take").len(), 1);
}

#[test]
fn a_link_that_closes_is_silent_at_once() {
    let mut sim = guarded();
    sim.input(1, Input::Closed);
    sim.tick();
    assert_eq!(sim.texts(2, "take").len(), 1);
    sim.attach(1);
    sim.run(100);
    assert_eq!(sim.texts(2, "drop").len(), 1);
}

#[test]
fn a_backup_whose_link_opens_late_is_asked_then() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    backup(&mut sim, Some(2));
    sim.run(1000);
    falls_silent(&mut sim, 1);
    sim.run(1000);
    sim.join(2);
    sim.run(20);
    assert_eq!(sim.texts(2, "take").len(), 1);
}

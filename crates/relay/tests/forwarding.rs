//! What a relay does with frames that come: to whom they go, in which order, and what a newcomer gets.

mod support;

use grove_relay::{Command, Event, Layers, Node, Stream};
use support::{Camera, MS, ROOM, Sim, frame};

const CAMERA: Stream = Stream::new(1, 0);
const LOW: Layers = Layers(0b01);
const BOTH: Layers = Layers(0b11);

#[test]
fn every_frame_reaches_every_child_once_in_order_and_unchanged() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000, 4000]));
    for child in 2..12 {
        sim.child(CAMERA, child, BOTH, 4_000_000);
    }
    sim.run(3000);
    let sent: Vec<_> = (0..10).map(|i| sim.peers[&(i + 2)].got.clone()).collect();
    for (child, got) in (2..).zip(&sent) {
        for layer in 0..2 {
            let numbers = sim.numbers(child, layer);
            assert_eq!(
                numbers,
                (0..90).collect::<Vec<_>>(),
                "child {child}, layer {layer}"
            );
            assert!(sim.decodable(child, layer));
        }
        assert_eq!(sim.sounds(child), 150);
        for (a, b) in got.iter().zip(&sent[0]) {
            assert_eq!(a.bytes, b.bytes);
        }
        for got in got.iter().filter(|got| got.header.track == 1) {
            assert_eq!(
                got.bytes,
                frame(got.header, got.bytes.len()),
                "the root's bytes"
            );
        }
    }
    assert_eq!(
        sim.events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Ready { .. }))
            .count(),
        1
    );
    // Ten children that had nothing, two layers: one request for each layer.
    assert_eq!(sim.camera(CAMERA).asked.len(), 2);
}

#[test]
fn a_newcomer_gets_the_key_frame_first_and_at_once_without_asking_the_root() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.run(1000);
    sim.child(CAMERA, 2, LOW, 1_000_000);
    let before = sim.now;
    sim.tick();
    let got: Vec<_> = sim.pictures(2, 0).cloned().collect();
    assert!(got[0].header.is_key() && got[0].header.number == 0);
    assert!(
        got.iter()
            .all(|got| !got.header.droppable && got.at == before + MS)
    );
    assert_eq!(
        got.len(),
        15,
        "every second of the 30 pictures of the last second"
    );
    sim.run(500);
    assert!(sim.decodable(2, 0));
    assert_eq!(sim.camera(CAMERA).asked, []);
}

#[test]
fn a_newcomer_whose_key_frame_has_left_the_ring_makes_the_root_send_one() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.run(4000);
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(1);
    assert_eq!(sim.camera(CAMERA).asked.len(), 1);
    assert!(sim.numbers(2, 0).is_empty());
    sim.run(200);
    assert!(sim.pictures(2, 0).next().expect("came").header.is_key());
    assert!(sim.decodable(2, 0));
}

#[test]
fn key_requests_of_fifty_children_go_up_as_one_per_250_ms() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    for child in 2..52 {
        sim.child(CAMERA, child, LOW, 1_000_000);
    }
    sim.run(1000);
    sim.camera(CAMERA).asked.clear();
    for _ in 0..4 {
        for child in 2..52 {
            sim.text(child, r#"{"t":"key","s":16,"l":0}"#);
            sim.run(1);
        }
        sim.run(200);
    }
    let asked: Vec<_> = sim
        .camera(CAMERA)
        .asked
        .iter()
        .map(|(at, _)| at / MS)
        .collect();
    assert!(
        asked.len() >= 3 && asked.windows(2).all(|pair| pair[1] - pair[0] >= 250),
        "{asked:?}"
    );
}

#[test]
fn a_child_cannot_ask_for_key_frames_without_end() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(1000);
    for _ in 0..1000 {
        sim.text(2, r#"{"t":"key","s":16,"l":0}"#);
        sim.run(10);
    }
    // Five at once, then one each second.
    let asked = sim.camera(CAMERA).asked.len();
    assert!((10..=15).contains(&asked), "{asked}");
}

#[test]
fn a_child_that_moves_here_goes_on_exactly_after_what_it_has() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000, 3000]));
    sim.run(1500);
    sim.join(2);
    sim.text(2, r#"{"t":"take","s":16,"have":[{"layer":0,"generation":1,"number":30},{"layer":1,"generation":1,"number":41}]}"#);
    sim.feed(CAMERA, 2, BOTH, 4_000_000);
    sim.run(500);
    assert_eq!(sim.numbers(2, 0), (31..60).collect::<Vec<_>>());
    assert_eq!(sim.numbers(2, 1), (42..60).collect::<Vec<_>>());
    assert_eq!(sim.camera(CAMERA).asked, []);
}

#[test]
fn the_relay_moves_to_another_parent_without_a_key_frame_and_says_what_it_has() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(1000);
    // A second way for the same camera: what node 3 sends is what node 1 would.
    sim.join(3);
    sim.parent(CAMERA, 3, LOW);
    sim.run(1);
    assert_eq!(
        sim.texts(3, "take")[0].1,
        r#"{"t":"take","s":16,"have":[{"layer":0,"generation":1,"number":29}]}"#
    );
    sim.run(199);
    assert_eq!(
        sim.numbers(2, 0).len(),
        36,
        "the former parent is heard until the new one delivers"
    );
    sim.cameras[0].0 = 3;
    sim.run(300);
    assert!(
        sim.events
            .iter()
            .any(|(_, event)| matches!(event, Event::Ready { parent: 3, .. }))
    );
    assert_eq!(sim.numbers(2, 0), (0..45).collect::<Vec<_>>());
    assert_eq!(
        sim.camera(CAMERA).asked.len(),
        1,
        "the child's own, at first"
    );
    sim.run(1000);
    // From then on the former parent is a stranger.
    let before = sim.relay.stats(sim.now).counters.stray;
    sim.cameras[0].0 = 1;
    sim.run(100);
    assert_eq!(sim.relay.stats(sim.now).counters.stray, before + 8);
}

#[test]
fn sound_alone_is_what_a_child_without_layers_gets() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, Layers::NONE, 100_000);
    sim.run(1000);
    assert_eq!((sim.sounds(2), sim.numbers(2, 0)), (50, vec![]));
    assert_eq!(
        sim.texts(2, "layers")[0].1,
        r#"{"t":"layers","s":16,"l":[]}"#
    );
}

#[test]
fn a_child_that_never_takes_is_fed_after_300_ms() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.run(100);
    sim.join(2);
    sim.feed(CAMERA, 2, LOW, 1_000_000);
    let ordered = sim.now;
    sim.run(600);
    let first = sim.peers[&2].got[0].at - ordered;
    assert!((300 * MS..=311 * MS).contains(&first), "{first}");
    assert!(sim.decodable(2, 0));
}

#[test]
fn a_lost_picture_is_asked_for_once_and_handed_on_when_it_comes() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(500);
    sim.camera(CAMERA).asked.clear();
    sim.lose.insert((CAMERA, 0, 40));
    sim.run(940);
    let asked = sim.texts(1, "need");
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0]
            .1
            .starts_with(r#"{"t":"need","s":16,"l":0,"n":[40"#),
        "{asked:?}"
    );
    let late = support::header(CAMERA, 40);
    let kind = grove_frame::Kind::Delta {
        farthest: 2,
        nearest: 2,
    };
    sim.send(1, frame(grove_frame::Header { kind, ..late }, 1000));
    sim.run(500);
    assert_eq!(sim.numbers(2, 0).iter().filter(|&&n| n == 40).count(), 1);
    assert_eq!(sim.relay.stats(sim.now).counters.frames_repaired, 1);
    assert_eq!(sim.camera(CAMERA).asked, []);
}

#[test]
fn a_picture_that_does_not_come_after_all_is_missed_by_name_and_a_key_frame_asked_for() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(500);
    sim.camera(CAMERA).asked.clear();
    sim.lose.insert((CAMERA, 0, 40));
    sim.run(2000);
    assert_eq!(sim.texts(2, "miss").len(), 1);
    assert!(sim.texts(2, "miss")[0].1.contains("40"));
    assert_eq!(sim.camera(CAMERA).asked.len(), 1);
    assert_eq!(sim.relay.stats(sim.now).counters.frames_lost, 1);
}

#[test]
fn a_child_gets_from_the_ring_what_it_needs_and_a_miss_for_what_is_not_there() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(1000);
    sim.text(2, r#"{"t":"need","s":16,"l":0,"n":[10,11,4000]}"#);
    sim.run(5);
    let numbers = sim.numbers(2, 0);
    assert_eq!(numbers.iter().filter(|&&n| n == 10).count(), 2);
    assert_eq!(
        numbers.iter().filter(|&&n| n == 11).count(),
        1,
        "droppable frames are not sent again"
    );
    assert_eq!(
        sim.texts(2, "miss")[0].1,
        r#"{"t":"miss","s":16,"l":0,"n":[4000]}"#
    );
}

#[test]
fn a_pause_is_told_with_the_number_of_the_last_frame_that_counts() {
    let mut sim = Sim::new();
    let mut camera = Camera::new(CAMERA, &[1000]);
    camera.until = 1000 * MS;
    sim.root(camera);
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(3000);
    let tips = sim.texts(2, "tip");
    assert_eq!(tips.len(), 1);
    assert_eq!(tips[0].1, r#"{"t":"tip","s":16,"l":0,"g":1,"n":28}"#);
}

#[test]
fn nobody_gets_a_stream_that_is_not_fed_to_him() {
    let other = Stream::new(5, 1);
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.root(Camera::new(other, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.child(other, 3, LOW, 1_000_000);
    sim.text(3, r#"{"t":"take","s":16,"have":[]}"#);
    sim.run(1000);
    let senders = |node: Node| -> Vec<Node> {
        let mut senders: Vec<_> = sim.peers[&node]
            .got
            .iter()
            .map(|got| got.header.sender)
            .collect();
        senders.dedup();
        senders
    };
    assert_eq!(
        (senders(2), senders(3), senders(1), senders(5)),
        (vec![1], vec![5], vec![], vec![])
    );
}

#[test]
fn sizes_are_zero_again_when_everything_was_taken_back() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000, 3000]));
    sim.child(CAMERA, 2, BOTH, 2_000_000);
    sim.child(CAMERA, 3, BOTH, 2_000_000);
    sim.peers.get_mut(&3).expect("there").bps = Some(10_000);
    sim.lose.insert((CAMERA, 0, 20));
    sim.run(900);
    let size = sim.relay.stats(sim.now).size;
    assert_eq!(
        (size.rooms, size.peers, size.links, size.streams, size.edges),
        (1, 3, 3, 1, 2)
    );
    assert!(
        size.ring_bytes > 100_000 && size.queued_bytes > 10_000 && size.missing > 0,
        "{size:?}"
    );

    for child in [2, 3] {
        sim.command(Command::Release {
            room: ROOM,
            stream: CAMERA,
            child,
        });
    }
    sim.command(Command::Forget {
        room: ROOM,
        stream: CAMERA,
    });
    let size = sim.relay.stats(sim.now).size;
    assert_eq!(
        (size.streams, size.edges, size.ring_bytes, size.missing),
        (0, 0, 0, 0)
    );
    for peer in [1, 2, 3] {
        sim.command(Command::Unlink { room: ROOM, peer });
    }
    let size = sim.relay.stats(sim.now).size;
    assert_eq!((size.peers, size.links, size.queued_bytes), (0, 0, 0));
    sim.command(Command::Leave { room: ROOM });
    assert_eq!(sim.relay.stats(sim.now).size, Default::default());
    sim.run(20_000);
    assert_eq!(sim.relay.poll_timeout(), None);
}

#[test]
fn leaving_a_room_closes_its_links_and_frees_everything_at_once() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000, 3000]));
    sim.child(CAMERA, 2, BOTH, 2_000_000);
    sim.run(900);
    sim.command(Command::Leave { room: ROOM });
    assert_eq!(sim.relay.stats(sim.now).size, Default::default());
    assert_eq!(sim.relay.poll_timeout(), None);
    assert!(sim.peers.values().all(|peer| peer.closed.is_some()));
}

#[test]
fn a_parent_that_is_ordered_again_is_ready_again_while_its_link_is_open_and_else_with_its_first_frame()
 {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.run(500);
    let ready = |sim: &Sim| -> Vec<_> {
        let events = sim.events.iter();
        let ready = events.filter_map(|(at, event)| match event {
            Event::Ready { parent, .. } => Some((*at / MS, *parent)),
            _ => None,
        });
        ready.collect()
    };
    assert_eq!(ready(&sim), [(33, 1)]);
    sim.parent(CAMERA, 1, LOW);
    assert_eq!(ready(&sim), [(33, 1), (500, 1)], "at once");
    // Between two pictures (594 and 627) its link goes; 621 is when it comes back, and 640 its next sound.
    sim.run(110);
    sim.input(1, grove_relay::Input::Closed);
    sim.parent(CAMERA, 1, LOW);
    sim.run(5);
    sim.attach(1);
    assert_eq!(ready(&sim).len(), 2, "not before it delivers");
    sim.run(100);
    assert_eq!(ready(&sim)[2..], [(627, 1)]);
}

#[test]
fn what_a_child_has_under_an_older_key_says_nothing_about_frames_under_a_newer_one() {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.run(1500);
    sim.join(2);
    // Numbers of a count that has ended; the ring's highest is 44, its generation 1.
    sim.text(
        2,
        r#"{"t":"take","s":16,"have":[{"layer":0,"generation":0,"number":100}]}"#,
    );
    sim.feed(CAMERA, 2, LOW, 1_000_000);
    sim.join(3);
    sim.text(
        3,
        r#"{"t":"take","s":16,"have":[{"layer":0,"generation":0,"number":30}]}"#,
    );
    sim.feed(CAMERA, 3, LOW, 1_000_000);
    sim.run(500);
    for child in [2, 3] {
        assert_eq!(sim.numbers(child, 0)[0], 0, "child {child}: the key frame");
        assert!(sim.decodable(child, 0));
    }
}

//! Peers that send what they should not: it is counted, it costs their own link at most, and it makes nothing grow.

mod support;

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::{
    Close, Command, Event, Input, Layers, Link, Lost, MAX_FRAME_BYTES, Outgoing, Refused, Relay,
    Settings, Stream,
};
use support::{Camera, MS, RELAY, ROOM, Sim, frame, header, token};

const CAMERA: Stream = Stream::new(1, 0);
const LOW: Layers = Layers(0b01);

fn call() -> Sim {
    let mut sim = Sim::new();
    sim.root(Camera::new(CAMERA, &[1000]));
    sim.child(CAMERA, 2, LOW, 1_000_000);
    sim.run(500);
    sim
}

#[test]
fn frames_that_are_none_or_have_no_business_here_are_counted_and_go_nowhere() {
    let mut sim = call();
    let got = sim.peers[&2].got.len();
    let before = sim.relay.stats(sim.now);
    sim.send(1, Bytes::from_static(b"no frame"));
    sim.send(1, Bytes::new());
    sim.send(
        1,
        frame(
            Header {
                sender: RELAY,
                ..header(CAMERA, 1)
            },
            100,
        ),
    );
    sim.send(
        1,
        frame(
            Header {
                kind: Kind::Control,
                ..header(CAMERA, 1)
            },
            100,
        ),
    );
    sim.send(
        1,
        frame(
            Header {
                track: 3,
                ..header(CAMERA, 1)
            },
            100,
        ),
    );
    sim.send(1, frame(header(CAMERA, 99), MAX_FRAME_BYTES + 1));
    // A child is no parent, and a stream that nobody ordered is nobody's.
    sim.send(2, frame(header(CAMERA, 99), 100));
    for stream in 0..500 {
        sim.send(1, frame(header(Stream(stream + 32), 1), 100));
    }
    let after = sim.relay.stats(sim.now);
    let counters = (
        after.counters.malformed - before.counters.malformed,
        after.counters.looped - before.counters.looped,
        after.counters.foreign - before.counters.foreign,
        after.counters.oversized - before.counters.oversized,
        after.counters.stray - before.counters.stray,
    );
    assert_eq!(counters, (2, 1, 2, 1, 501));
    assert_eq!(after.size, before.size);
    assert_eq!(sim.peers[&2].got.len(), got);
    sim.run(100);
    assert!(sim.peers[&2].got.len() > got, "the call goes on");
}

#[test]
fn a_flood_of_messages_costs_the_flooder_only() {
    let mut sim = call();
    sim.child(CAMERA, 3, LOW, 1_000_000);
    for _ in 0..100 {
        for _ in 0..100 {
            sim.text(3, "nonsense");
        }
        sim.run(10);
    }
    let stats = sim.relay.stats(sim.now);
    assert!(
        (900..1100).contains(&stats.counters.junk),
        "{}",
        stats.counters.junk
    );
    assert_eq!(
        stats.counters.junk + stats.counters.flooded,
        10_000 + 20 - beats_heard(&stats)
    );
    assert_eq!(sim.numbers(2, 0), (0..45).collect::<Vec<_>>());
}

/// Heartbeats of the flooder that were heard among the rest.
fn beats_heard(stats: &grove_relay::Stats) -> u64 {
    10_020 - stats.counters.junk - stats.counters.flooded
}

#[test]
fn messages_about_streams_that_are_not_the_peers_are_misplaced_and_allocate_no_stream() {
    let mut sim = call();
    let before = sim.relay.stats(sim.now);
    for text in [
        r#"{"t":"key","s":32,"l":0}"#,
        r#"{"t":"key","s":16,"l":3}"#,
        r#"{"t":"need","s":48,"l":0,"n":[1]}"#,
        r#"{"t":"miss","s":16,"l":0,"n":[1]}"#,
        r#"{"t":"tip","s":16,"l":0,"g":1,"n":9}"#,
        r#"{"t":"layers","s":16,"l":[]}"#,
    ] {
        sim.text(2, text);
    }
    sim.text(2, r#"{"t":"later","s":16}"#);
    for s in 0..400 {
        sim.text(2, &format!(r#"{{"t":"take","s":{},"have":[]}}"#, s + 1000));
    }
    let after = sim.relay.stats(sim.now);
    assert_eq!(after.counters.misplaced - before.counters.misplaced, 6);
    assert_eq!(after.counters.unknown, 1);
    assert_eq!(after.size, before.size);
}

#[test]
fn a_second_link_with_the_same_token_replaces_the_first_and_begins_anew() {
    let mut sim = call();
    let first = sim.peers[&2].link.expect("open");
    let Some(peer) = sim.peers.remove(&2) else {
        panic!("there");
    };
    assert_eq!(peer.closed, None);
    let second = sim
        .relay
        .handle_attach(token(2), sim.now)
        .expect("still ordered");
    assert_ne!(first, second);
    let outputs: Vec<_> = std::iter::from_fn(|| sim.relay.poll_output()).collect();
    assert!(outputs.contains(&grove_relay::Output::Send(
        first,
        Outgoing::Close(Close::Replaced)
    )));
    // What still comes from the first is ignored, its end too.
    sim.relay.handle_input(first, Input::Closed, sim.now);
    assert_eq!(sim.relay.stats(sim.now).size.links, 2);
    sim.attach(2);
    sim.text(2, r#"{"t":"take","s":16,"have":[]}"#);
    sim.run(500);
    assert!(sim.decodable(2, 0) && sim.numbers(2, 0)[0] == 0);
}

#[test]
fn only_an_ordered_token_opens_a_link_and_no_more_links_than_may_be() {
    let mut relay = Relay::new(Settings {
        links: 2,
        ..Settings::default()
    });
    relay.handle_command(
        Command::Enter {
            room: ROOM,
            node: RELAY,
        },
        0,
    );
    for peer in 1..4 {
        relay.handle_command(
            Command::Link {
                room: ROOM,
                peer,
                token: token(peer),
            },
            0,
        );
    }
    assert_eq!(relay.handle_attach(token(9), 0), Err(Refused::Unknown));
    assert!(relay.handle_attach(token(1), 0).is_ok());
    assert!(relay.handle_attach(token(2), 0).is_ok());
    assert_eq!(relay.handle_attach(token(3), 0), Err(Refused::Full));
    assert!(
        relay.handle_attach(token(2), 0).is_ok(),
        "in place of its own"
    );
    // Another token, and the former is void.
    relay.handle_command(
        Command::Link {
            room: ROOM,
            peer: 1,
            token: token(100),
        },
        0,
    );
    assert_eq!(relay.handle_attach(token(1), 0), Err(Refused::Unknown));
    assert!(relay.handle_attach(token(100), 0).is_ok());
    relay.handle_command(
        Command::Unlink {
            room: ROOM,
            peer: 1,
        },
        0,
    );
    assert_eq!(relay.handle_attach(token(100), 0), Err(Refused::Unknown));
    assert_eq!(relay.stats(0).counters.refused, 4);
    assert_eq!(relay.stats(0).size.links, 1);
    let ended = closed_link(&mut relay);
    relay.handle_input(ended, Input::Closed, 0);
    assert_eq!(relay.stats(0).size.links, 1);
}

/// A link that has long ended.
fn closed_link(relay: &mut Relay) -> Link {
    let closed = std::iter::from_fn(|| relay.poll_output()).find_map(|output| match output {
        grove_relay::Output::Send(link, Outgoing::Close(_)) => Some(link),
        _ => None,
    });
    closed.expect("one was replaced")
}

#[test]
fn a_link_that_nobody_opens_is_lost_after_15_s_and_a_silent_one_after_2_1_s() {
    let mut sim = call();
    sim.command(Command::Link {
        room: ROOM,
        peer: 9,
        token: token(9),
    });
    let ordered = sim.now;
    sim.run(16_000);
    let lost = |sim: &Sim| -> Vec<_> {
        let lost = sim.events.iter().filter_map(|(at, event)| match event {
            Event::Lost { peer, why, .. } => Some((*at, *peer, *why)),
            _ => None,
        });
        lost.collect()
    };
    assert_eq!(lost(&sim), [(ordered + 15_000 * MS, 9, Lost::Never)]);
    sim.events.clear();
    sim.peers.get_mut(&2).expect("there").mute = true;
    let mute = sim.now;
    sim.run(5000);
    let silent = lost(&sim);
    assert!(
        matches!(silent[..], [(at, 2, Lost::Silent)] if (2_050 * MS..=2_160 * MS).contains(&(at - mute))),
        "{silent:?}"
    );
    // It speaks again and falls silent again.
    sim.peers.get_mut(&2).expect("there").mute = false;
    sim.run(100);
    sim.peers.get_mut(&2).expect("there").mute = true;
    sim.run(2500);
    assert_eq!(lost(&sim).len(), 2);
}

#[test]
fn a_socket_that_closes_is_lost_unless_the_peer_comes_back_within_half_a_second() {
    let mut sim = call();
    sim.events.clear();
    sim.input(2, Input::Closed);
    sim.run(400);
    sim.attach(2);
    sim.run(1000);
    assert_eq!(
        sim.events,
        [(
            900 * MS,
            Event::Up {
                room: ROOM,
                peer: 2
            }
        )]
    );
    sim.events.clear();
    sim.input(2, Input::Closed);
    sim.run(1000);
    let lost = Event::Lost {
        room: ROOM,
        peer: 2,
        why: Lost::Silent,
    };
    assert_eq!(sim.events, [(2400 * MS, lost)]);
}

#[test]
fn time_in_which_the_relay_itself_stood_still_is_no_silence() {
    let mut sim = call();
    sim.events.clear();
    sim.now += 5_000 * MS;
    sim.run(2000);
    assert_eq!(sim.events, []);
}

#[test]
fn a_heartbeat_goes_out_when_nothing_else_does_and_its_echo_gives_the_round_trip_time() {
    let mut sim = Sim::new();
    sim.join(1);
    sim.run(1000);
    let beats = sim.texts(1, "hb");
    assert!((19..=21).contains(&beats.len()), "{}", beats.len());
    for n in 21..60 {
        sim.run(50);
        // Heard 30 ms ago on a way of 20.
        sim.text(
            1,
            &format!(r#"{{"t":"hb","n":{n},"f":0,"e":{},"d":30}}"#, n - 1),
        );
    }
    sim.run(1100);
    let rtt = sim.reports.last().expect("a report each second").links[0].rtt_ms;
    assert!((15.0..=75.0).contains(&rtt), "{rtt}");
}

#[test]
fn a_child_that_begins_again_and_again_gets_the_ring_a_few_times_only() {
    let mut sim = call();
    for _ in 0..100 {
        sim.text(2, r#"{"t":"take","s":16,"have":[]}"#);
        sim.run(10);
    }
    let first = sim.numbers(2, 0).iter().filter(|&&n| n == 0).count();
    assert!((5..=8).contains(&first), "{first}");
}

#[test]
fn sound_over_2_kb_or_over_what_sound_needs_is_counted_and_goes_nowhere() {
    let mut sim = call();
    sim.camera(CAMERA).until = 0;
    let mut number = 1000;
    let mut sound = |sim: &mut Sim, count: usize, size: usize| {
        let before = (sim.sounds(2), sim.relay.stats(sim.now).counters);
        for _ in 0..count {
            let kind = Kind::Audio { level: 3 };
            let h = Header {
                kind,
                track: 0,
                ..header(CAMERA, number)
            };
            number += 1;
            sim.send(1, frame(h, size));
        }
        sim.run(1);
        let after = sim.relay.stats(sim.now).counters;
        (
            sim.sounds(2) - before.0,
            after.oversized - before.1.oversized,
            after.excess - before.1.excess,
        )
    };
    sim.run(2000);
    assert_eq!(sound(&mut sim, 3, 2049), (0, 3, 0));
    assert_eq!(sound(&mut sim, 20, 2048), (15, 0, 5), "256 kbit at once");
    sim.run(2000);
    assert_eq!(sound(&mut sim, 300, 50), (200, 0, 100), "200 at once");
    sim.run(499);
    assert_eq!(
        sound(&mut sim, 300, 50),
        (100, 0, 200),
        "and 200 in a second"
    );
    sim.run(499);
    assert_eq!(
        sound(&mut sim, 300, 320),
        (100, 0, 200),
        "one bound does not use up the other"
    );
}

#[test]
fn pictures_over_120_a_second_and_layer_are_counted_and_go_nowhere() {
    let mut sim = call();
    sim.camera(CAMERA).until = 0;
    sim.run(2000);
    let before = sim.relay.stats(sim.now).counters;
    for number in 0..1000 {
        sim.send(1, frame(header(CAMERA, 1000 + number), 50));
    }
    let after = sim.relay.stats(sim.now).counters;
    assert_eq!(
        (
            after.frames_received - before.frames_received,
            after.excess - before.excess
        ),
        (480, 520)
    );
    sim.run(500);
    for number in 0..1000 {
        sim.send(1, frame(header(CAMERA, 2000 + number), 50));
    }
    let last = sim.relay.stats(sim.now).counters;
    assert_eq!(last.frames_received - after.frames_received, 240);
}

/// Opens child 2's link again if it may, and asks to begin.
fn open_again(sim: &mut Sim) -> bool {
    let Ok(_) = sim.relay.handle_attach(token(2), sim.now) else {
        return false;
    };
    // The scripted peer takes the place of what was just opened.
    while sim.relay.poll_output().is_some() {}
    true
}

#[test]
fn a_link_is_opened_five_times_at_once_and_then_once_a_second() {
    let mut sim = Sim::new();
    sim.command(Command::Link {
        room: ROOM,
        peer: 2,
        token: token(2),
    });
    let opened = |sim: &mut Sim| (0..20).filter(|_| open_again(sim)).count();
    assert_eq!(opened(&mut sim), 5);
    sim.run(3000);
    assert_eq!(opened(&mut sim), 3);
    // Another token, the same peer.
    sim.command(Command::Link {
        room: ROOM,
        peer: 2,
        token: token(100),
    });
    assert_eq!(
        sim.relay.handle_attach(token(100), sim.now),
        Err(Refused::TooOften)
    );
    assert_eq!(sim.relay.stats(sim.now).counters.refused, 15 + 17 + 1);
}

#[test]
fn a_child_that_opens_its_link_again_and_again_gets_the_ring_no_more_often_than_one_that_stays() {
    let begun = |takes: bool| {
        let mut sim = call();
        // What is in the ring begins with picture 0 for its 2 s; after that a beginning costs a key frame.
        let (mut replays, mut asked) = (0, sim.camera(CAMERA).asked.len());
        for _ in 0..100 {
            let peer = sim.peers.get_mut(&2).expect("there");
            replays += peer.got.iter().filter(|got| got.header.is_key()).count();
            peer.got.clear();
            if let Ok(link) = sim.relay.handle_attach(token(2), sim.now) {
                let peer = sim.peers.get_mut(&2).expect("there");
                peer.link = Some(link);
            }
            if takes {
                sim.text(2, r#"{"t":"take","s":16,"have":[]}"#);
            }
            sim.run(50);
        }
        asked = sim.camera(CAMERA).asked.len() - asked;
        (replays, asked)
    };
    // The first is by order; then five at once and one a second, whether it asks or waits to be fed. Key frames that come for
    // it count as well.
    for takes in [true, false] {
        let (replays, asked) = begun(takes);
        assert!(replays <= 1 + 5 + 5 + asked, "{replays} with {asked} asked");
        assert!(asked <= 10, "{asked}");
    }
}

#[test]
fn a_broken_layer_that_the_parent_does_not_send_is_not_looked_at_until_it_is_promised_again() {
    let mut sim = Sim::new();
    sim.join(1);
    sim.parent(CAMERA, 1, Layers(0b11));
    let kind = Kind::Delta {
        farthest: 1,
        nearest: 1,
    };
    let h = Header {
        kind,
        spatial: 1,
        ..header(CAMERA, 5)
    };
    sim.send(1, frame(h, 100));
    sim.text(1, r#"{"t":"layers","s":16,"l":[0]}"#);
    sim.run(5000);
    let woken = |sim: &mut Sim| {
        let due = sim.relay.poll_timeout();
        let due = due.is_some_and(|due| due.at <= sim.now + MS);
        sim.tick();
        due
    };
    let woken = (0..1000).filter(|_| woken(&mut sim)).count();
    assert!(woken <= 25, "{woken}: heartbeats and a report");
    assert_eq!(sim.texts(1, "key"), []);
    sim.text(1, r#"{"t":"layers","s":16,"l":[0,1]}"#);
    sim.run(20);
    assert_eq!(sim.texts(1, "key").len(), 1);
}

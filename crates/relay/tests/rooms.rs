//! Two rooms at one relay that has little to spare: whatever peers of the one send, the other's peers get the same frames at the
//! same times as without them.

mod support;

use std::sync::LazyLock;

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::{
    Command, Counters, Incoming, Input, Layers, Link, Micros, Node, Settings, Stream,
};
use support::{Camera, MS, RELAY, Sim, frame, header, token};

const OTHER: u64 = 8;
const LOW: Layers = Layers(0b01);
const BOTH: Layers = Layers(0b11);
const FLOODER: Node = 101;
/// Streams of the flooder, each with a child of its own that is allotted 300 kbit/s.
const STREAMS: u8 = 12;
const SECONDS: u64 = 5;

/// What a child of the good room got: when, and what.
type Reception = Vec<(Micros, Bytes)>;

/// A flood: what stream `stream` sends in a millisecond, as header (its number is given) and size.
type Flood = fn(stream: u8, ms: u64) -> Vec<(Kind, bool, usize)>;

fn picture_key() -> Kind {
    Kind::Key {
        width: 64,
        height: 64,
    }
}

/// The flooder's room: everything in it is ordered, and its peers read and beat as they should.
struct Other {
    links: Vec<Link>,
    numbers: Vec<[u32; 2]>,
}

impl Other {
    fn new(sim: &mut Sim) -> Self {
        sim.command(Command::Enter {
            room: OTHER,
            node: RELAY,
        });
        let mut links = Vec::new();
        for peer in FLOODER..=FLOODER + Node::from(STREAMS) {
            sim.command(Command::Link {
                room: OTHER,
                peer,
                token: token(peer),
            });
            links.push(
                sim.relay
                    .handle_attach(token(peer), sim.now)
                    .expect("ordered"),
            );
        }
        for at in 0..STREAMS {
            let stream = Stream::new(FLOODER, at);
            sim.command(Command::Parent {
                room: OTHER,
                stream,
                parent: FLOODER,
                layers: LOW,
            });
            sim.command(Command::Feed {
                room: OTHER,
                stream,
                child: FLOODER + 1 + Node::from(at),
                layers: LOW,
                rate_bps: 300_000,
            });
        }
        Self {
            links,
            numbers: vec![[0; 2]; usize::from(STREAMS)],
        }
    }

    fn tick(&mut self, sim: &mut Sim, flood: Flood) {
        let ms = sim.now / MS;
        for (at, numbers) in (0..STREAMS).zip(&mut self.numbers) {
            for (kind, droppable, size) in flood(at, ms) {
                let sound = matches!(kind, Kind::Audio { .. });
                let number = &mut numbers[usize::from(sound)];
                let h = Header {
                    kind,
                    droppable,
                    track: u8::from(!sound),
                    ..header(Stream::new(FLOODER, at), *number)
                };
                *number += 1;
                let message = Incoming::Frame(frame(h, size));
                sim.relay
                    .handle_input(self.links[0], Input::Came(message), sim.now);
            }
        }
        for &link in &self.links {
            sim.relay.handle_input(link, Input::Unsent(0), sim.now);
            if ms.is_multiple_of(50) {
                let beat = Incoming::Text(r#"{"t":"hb","n":1,"f":0}"#.into());
                sim.relay.handle_input(link, Input::Came(beat), sim.now);
            }
        }
    }
}

/// A call of four beside the flood, on a relay that may send 40 Mbit/s: what its three listeners got, and what was counted.
fn beside(flood: Flood) -> (Vec<Reception>, Counters) {
    let camera = Stream::new(1, 0);
    let mut sim = Sim::with(Settings {
        egress_bps: 40_000_000,
        ..Settings::default()
    });
    sim.root(Camera::new(camera, &[1000, 6000]));
    for child in 2..5 {
        sim.child(camera, child, BOTH, 2_000_000);
    }
    let mut other = Other::new(&mut sim);
    for _ in 0..SECONDS * 1000 {
        sim.tick();
        other.tick(&mut sim, flood);
    }
    let receptions = (2..5).map(|child| {
        let got = sim.peers[&child].got.iter();
        got.map(|got| (got.at, got.bytes.clone())).collect()
    });
    let receptions = receptions.collect();
    (receptions, sim.relay.stats(sim.now).counters)
}

/// What the good room gets beside this flood is what it gets alone. What was counted in all, less what it was without.
fn harmless(flood: Flood) -> (u64, u64, u64) {
    static ALONE: LazyLock<(Vec<Reception>, Counters)> =
        LazyLock::new(|| beside(|_, _| Vec::new()));
    let (alone, quiet) = &*ALONE;
    let (with, counted) = beside(flood);
    assert!(alone.iter().all(|got| got.len() as u64 > SECONDS * 100));
    assert!(with == *alone, "the other room notices");
    (
        counted.frames_sent - quiet.frames_sent,
        counted.excess,
        counted.oversized,
    )
}

#[test]
fn sound_of_another_room_that_is_no_sound_costs_this_one_nothing() {
    // 96 Mbit/s in sound frames that no encoder makes.
    let (sent, excess, oversized) = harmless(|stream, _| {
        if stream == 0 {
            vec![(Kind::Audio { level: 3 }, false, 12_000)]
        } else {
            Vec::new()
        }
    });
    assert_eq!((sent, excess, oversized), (0, 0, SECONDS * 1000));
}

#[test]
fn a_flood_of_sound_in_another_room_costs_this_one_nothing() {
    // 24 Mbit/s in each of two streams.
    let (sent, excess, oversized) = harmless(|stream, _| {
        let count = if stream < 2 { 3 } else { 0 };
        vec![(Kind::Audio { level: 3 }, false, 1000); count]
    });
    // 32 packets of this size at once and each second; the first go nowhere, as nobody has begun.
    assert!(
        (2 * 32 * (SECONDS - 1)..=2 * 32 * (SECONDS + 1)).contains(&sent),
        "{sent}"
    );
    assert_eq!(oversized, 0);
    assert!(excess >= 6000 * (SECONDS - 1), "{excess}");
}

#[test]
fn key_frames_only_in_another_room_cost_this_one_nothing() {
    // 36 Mbit/s in each of 12 streams, of which 300 kbit/s are allotted. They do not begin all at once.
    let (sent, _, _) = harmless(|stream, ms| {
        if ms > 400 + u64::from(stream) * 137 && ms.is_multiple_of(33) {
            vec![(picture_key(), false, 150_000)]
        } else {
            Vec::new()
        }
    });
    assert!((12..=12 * 5).contains(&sent), "{sent}");
}

#[test]
fn tiny_frames_without_end_in_another_room_cost_this_one_nothing() {
    let (sent, excess, _) = harmless(|stream, ms| match stream {
        0 => vec![(picture_key(), false, 40); 10],
        1 if ms > 1 => vec![
            (
                Kind::Delta {
                    farthest: 0,
                    nearest: 0
                },
                true,
                40
            );
            10
        ],
        _ => Vec::new(),
    });
    // 480 a second and as many at once, in each of the two.
    let most = 2 * 480 * (SECONDS + 1);
    assert!(sent <= most, "{sent}");
    assert!(
        (2 * 10_000 * SECONDS - most - 100..2 * 10_000 * SECONDS).contains(&excess),
        "{excess}"
    );
}

//! A relay that has more to do than it can, in virtual time: what is new goes first, sound never, and all comes back.

mod support;

use grove_relay::{Command, Event, Layers, Node, Refused, Settings, Shedding, Stream};
use support::{Camera, MS, RELAY, ROOM, Sim, token};

const HIGH: Layers = Layers(0b10);
const BUSY: f64 = 0.95;
const CALM: f64 = 0.5;

fn stream(node: Node) -> Stream {
    Stream::new(node, 0)
}

/// About 240 kbit/s in the low layer, 1.45 Mbit/s in the high one, and 64 kbit/s of sound at speech level.
fn camera(node: Node) -> Camera {
    Camera::new(stream(node), &[1000, 6000])
}

/// Cameras at nodes from 1 on, and children from 100 on who get all of them in the higher layer.
fn call(settings: Settings, cameras: Node, children: Node) -> Sim {
    let mut sim = Sim::with(settings);
    (1..=cameras).for_each(|node| sim.root(camera(node)));
    for child in 100..100 + children {
        sim.join(child);
        feed_all(&mut sim, child, cameras);
    }
    sim
}

fn feed_all(sim: &mut Sim, child: Node, cameras: Node) {
    for node in 1..=cameras {
        sim.feed(stream(node), child, HIGH, 2_000_000);
    }
}

/// So many seconds, after each of which the relay hears how busy it is.
fn run(sim: &mut Sim, seconds: u64, busy: f64) {
    for _ in 0..seconds {
        sim.run(1_000);
        sim.relay.handle_load(busy, sim.now);
    }
}

fn level(sim: &mut Sim) -> Shedding {
    let now = sim.now;
    sim.relay.stats(now).shedding
}

/// Pictures of a camera's layer that came to a child within the last second.
fn lately(sim: &Sim, child: Node, node: Node, layer: u8) -> usize {
    let of = |at: u64, sender: Node| at + 1_000 * MS > sim.now && sender == node;
    let pictures = sim.pictures(child, layer);
    pictures.filter(|got| of(got.at, got.header.sender)).count()
}

fn attach(sim: &mut Sim, node: Node) -> Result<(), Refused> {
    sim.command(Command::Link {
        room: ROOM,
        peer: node,
        token: token(node),
    });
    let attached = sim.relay.handle_attach(token(node), sim.now);
    // Takes what the relay has to say.
    sim.command(Command::Enter {
        room: ROOM,
        node: RELAY,
    });
    attached.map(|_| ())
}

#[test]
fn what_is_shed_grows_in_the_order_new_layers_others_higher_layers_newcomers() {
    let mut sim = call(Settings::default(), 6, 1);
    run(&mut sim, 5, CALM);
    assert_eq!(level(&mut sim), Shedding::Nothing);
    // The last two fall silent for the relay: their microphones are off.
    for node in [5, 6] {
        sim.camera(stream(node)).sound = false;
    }
    run(&mut sim, 2, CALM);

    run(&mut sim, 1, BUSY);
    assert_eq!(level(&mut sim), Shedding::NewLayers);
    sim.join(200);
    feed_all(&mut sim, 200, 6);
    run(&mut sim, 1, BUSY);
    for node in 1..=6 {
        assert!(
            lately(&sim, 100, node, 1) > 25,
            "who is there keeps what it has"
        );
        assert_eq!(
            lately(&sim, 200, node, 1),
            0,
            "who is new gets the lowest layer"
        );
        assert!(lately(&sim, 200, node, 0) > 15);
    }

    run(&mut sim, 1, BUSY);
    assert_eq!(level(&mut sim), Shedding::Others);
    sim.run(1_100);
    let high: Vec<Node> = (1..=6)
        .filter(|&node| lately(&sim, 100, node, 1) > 0)
        .collect();
    assert_eq!(high, [1, 2, 3, 4], "who spoke last");
    run(&mut sim, 2, BUSY);
    assert_eq!(level(&mut sim), Shedding::HigherLayers);
    sim.run(1_100);
    assert!((1..=6).all(|node| lately(&sim, 100, node, 1) == 0));
    assert_eq!(attach(&mut sim, 300), Ok(()), "newcomers are refused last");

    run(&mut sim, 2, BUSY);
    assert_eq!(level(&mut sim), Shedding::Newcomers);
    assert_eq!(attach(&mut sim, 301), Err(Refused::Overloaded));
    let refused = |(_, event): &&(u64, Event)| {
        *event
            == Event::Refused {
                room: ROOM,
                peer: 301,
                why: Refused::Overloaded,
            }
    };
    assert_eq!(sim.events.iter().filter(refused).count(), 1);
    run(&mut sim, 60, BUSY);
    for child in [100, 200] {
        for node in 1..=6 {
            assert!(
                lately(&sim, child, node, 0) > 25,
                "the lowest layer goes on"
            );
        }
    }
}

#[test]
fn no_sound_is_shed_at_any_level() {
    let mut sim = call(Settings::default(), 3, 3);
    run(&mut sim, 2, CALM);
    let before: Vec<usize> = (100..103).map(|child| sim.sounds(child)).collect();
    run(&mut sim, 20, 1.0);
    assert_eq!(level(&mut sim), Shedding::Newcomers);
    for (child, before) in (100..103).zip(before) {
        assert_eq!(sim.sounds(child) - before, 3 * 20 * 50);
    }
}

#[test]
fn whoever_was_here_may_come_back_when_newcomers_may_not() {
    let mut sim = call(Settings::default(), 1, 2);
    run(&mut sim, 8, BUSY);
    assert_eq!(level(&mut sim), Shedding::Newcomers);
    // Its link broke, and the room has ordered another.
    sim.command(Command::Unlink {
        room: ROOM,
        peer: 100,
    });
    assert!(!sim.relay.is_refusing(ROOM, 100));
    assert_eq!(attach(&mut sim, 100), Ok(()));
    assert!(sim.relay.is_refusing(ROOM, 400));
    assert_eq!(attach(&mut sim, 400), Err(Refused::Overloaded));
}

#[test]
fn all_comes_back_when_the_load_has_fallen() {
    let mut sim = call(Settings::default(), 6, 2);
    run(&mut sim, 8, BUSY);
    assert_eq!(level(&mut sim), Shedding::Newcomers);
    run(&mut sim, 5, 0.8);
    assert_eq!(
        level(&mut sim),
        Shedding::Newcomers,
        "between the bounds nothing changes"
    );
    // Four steps of 5 s, the first of which begins with the first low second.
    run(&mut sim, 21, 0.3);
    assert_eq!(level(&mut sim), Shedding::Nothing);
    assert_eq!(attach(&mut sim, 300), Ok(()));
    run(&mut sim, 5, 0.3);
    let now = sim.now;
    assert_eq!(sim.relay.stats(now).size.held, 0);
    for node in 1..=6 {
        assert!(lately(&sim, 100, node, 1) > 25);
        assert_eq!(lately(&sim, 100, node, 0), 0);
    }
}

#[test]
fn an_egress_that_is_too_small_settles_without_swinging() {
    // All that is wanted is 5 x 4 x 1.5 Mbit/s.
    let settings = Settings {
        egress_bps: 20_000_000,
        ..Settings::default()
    };
    let mut sim = call(settings, 4, 5);
    let mut levels = Vec::new();
    for _ in 0..180 {
        run(&mut sim, 1, 0.1);
        levels.push(level(&mut sim));
    }
    assert!(levels.contains(&Shedding::HigherLayers), "{levels:?}");
    let late = &levels[60..];
    assert!(
        late.iter().all(|level| *level == Shedding::Nothing),
        "{late:?}"
    );
    let now = sim.now;
    let stats = sim.relay.stats(now);
    assert!((1..20).contains(&stats.size.held), "{}", stats.size.held);
    assert!(
        (400..=900).contains(&stats.load_permille),
        "{}",
        stats.load_permille
    );
    for child in 100..105 {
        for node in 1..=4 {
            let layers = [0, 1].map(|layer| lately(&sim, child, node, layer));
            assert!(
                layers.iter().sum::<usize>() > 15,
                "{child} {node}: {layers:?}"
            );
        }
    }
}

//! What a relay does for a child by RTP, of whose link it knows an estimated rate: layers that fit, sound always.

mod support;

use grove_relay::{Event, Input, Layers, Lost, Stream};
use support::{Camera, Got, MS, Sim};

const CAMERA: Stream = Stream::new(1, 0);
const OTHER: Stream = Stream::new(3, 0);
const HIGH: Layers = Layers(0b10);

/// About 240 kbit/s in the low layer, 1.45 Mbit/s in the high one, and 64 kbit/s of sound.
fn camera(stream: Stream) -> Camera {
    Camera::new(stream, &[1000, 6000])
}

/// A child by RTP that is to get the high layer.
fn call(streams: &[(Stream, u64)], bps: u64) -> Sim {
    let mut sim = Sim::new();
    sim.join(2);
    sim.attach_rtp(2, bps);
    for &(stream, rate) in streams {
        sim.root(camera(stream));
        sim.feed(stream, 2, HIGH, rate);
    }
    sim
}

fn since(sim: &Sim, at: u64, stream: Stream, layer: u8) -> usize {
    let of = |got: &&Got| got.at >= at * MS && got.header.sender == stream.node();
    sim.pictures(2, layer).filter(of).count()
}

#[test]
fn pictures_fall_to_the_layer_that_fits_and_return_when_there_is_room() {
    let mut sim = call(&[(CAMERA, 2_000_000)], 3_000_000);
    sim.run(5_000);
    assert_eq!(since(&sim, 2_000, CAMERA, 0), 0);
    assert!(since(&sim, 2_000, CAMERA, 1) > 80);
    sim.input(2, Input::Bandwidth(600_000));
    sim.run(5_000);
    assert_eq!(since(&sim, 6_500, CAMERA, 1), 0);
    assert!(since(&sim, 6_500, CAMERA, 0) > 100);
    sim.input(2, Input::Bandwidth(3_000_000));
    sim.run(10_000);
    assert_eq!(since(&sim, 18_000, CAMERA, 0), 0);
    assert!(since(&sim, 18_000, CAMERA, 1) > 50);
    let got = sim.peers[&2].got.iter();
    let sounds = got.filter(|got| got.header.track == 0 && got.at > 1_000 * MS);
    assert_eq!(sounds.count(), 950, "sound goes on whatever fits");
}

#[test]
fn the_edge_with_the_larger_allotment_gets_the_higher_layer_first() {
    let mut sim = call(&[(OTHER, 800_000), (CAMERA, 2_000_000)], 2_400_000);
    sim.run(8_000);
    assert_eq!(since(&sim, 6_000, OTHER, 1), 0);
    assert!(since(&sim, 6_000, OTHER, 0) > 50);
    assert_eq!(since(&sim, 6_000, CAMERA, 0), 0);
    assert!(since(&sim, 6_000, CAMERA, 1) > 50);
}

#[test]
fn sound_takes_room_from_pictures_as_far_as_there_is_any() {
    let high = |talkers: u16| {
        let mut sim = call(&[(CAMERA, 2_000_000)], 2_300_000);
        for node in 3..21 {
            let mut small = Camera::new(Stream::new(node, 0), &[50]);
            small.sound = node < 3 + talkers;
            sim.root(small);
            sim.feed(Stream::new(node, 0), 2, Layers(1), 100_000);
        }
        sim.run(10_000);
        since(&sim, 8_000, CAMERA, 1)
    };
    assert!(high(0) > 50);
    assert_eq!(high(18), 0);
}

#[test]
fn no_more_is_handed_out_than_the_estimate_carries() {
    let mut sim = call(&[(CAMERA, 2_000_000)], 1_000_000);
    sim.run(10_000);
    let after = |got: &&Got| got.at >= 5_000 * MS;
    let bytes = [0, 1].map(|layer| {
        let sizes = sim
            .pictures(2, layer)
            .filter(after)
            .map(|got| got.bytes.len());
        sizes.sum::<usize>()
    });
    assert!(bytes.iter().sum::<usize>() * 8 <= 5_500_000, "{bytes:?}");
}

#[test]
fn a_link_by_rtp_that_closes_is_lost_at_once() {
    let mut sim = call(&[(CAMERA, 2_000_000)], 3_000_000);
    sim.run(1_000);
    sim.input(2, Input::Closed);
    sim.run(1);
    let lost = |(_, event): &&(u64, Event)| {
        matches!(
            event,
            Event::Lost {
                peer: 2,
                why: Lost::Silent,
                ..
            }
        )
    };
    assert_eq!(sim.events.iter().filter(lost).count(), 1);
}

fn losses(sim: &Sim) -> usize {
    let lost = |(_, event): &&(u64, Event)| matches!(event, Event::Lost { peer: 2, .. });
    sim.events.iter().filter(lost).count()
}

#[test]
fn a_peer_whose_messages_stand_is_not_silent_while_anything_authentic_comes() {
    let mut sim = call(&[(CAMERA, 2_000_000)], 3_000_000);
    sim.run(1_000);
    sim.peers.get_mut(&2).expect("there").mute = true;
    for _ in 0..60 {
        sim.input(2, Input::Heard);
        sim.run(50);
    }
    assert_eq!(losses(&sim), 0);
    sim.run(2_000);
    assert_eq!(losses(&sim), 1, "then nothing comes at all");
    sim.input(2, Input::Heard);
    sim.run(2_000);
    assert_eq!(losses(&sim), 2, "once per silence");
}

/// How often the layer that comes changed, and key frames asked for, from 10 s on: a minute over a way of constant width, on
/// which a key frame has so many times the bytes of another.
fn changes(key: usize, bps: u64) -> (usize, usize) {
    let mut sim = Sim::new();
    sim.join(2);
    sim.attach_rtp(2, bps);
    let mut camera = camera(CAMERA);
    camera.key = key;
    sim.root(camera);
    sim.feed(CAMERA, 2, HIGH, 4_000_000);
    sim.run(70_000);
    let layers = sim.peers[&2].got.iter();
    let layers = layers.filter(|got| got.header.track == 1 && got.at > 10_000 * MS);
    let layers: Vec<u8> = layers.map(|got| got.header.spatial).collect();
    let changes = layers.windows(2).filter(|two| two[0] != two[1]).count();
    let asked = sim.camera(CAMERA).asked.iter();
    (changes, asked.filter(|(at, _)| *at > 10_000 * MS).count())
}

#[test]
fn a_way_of_constant_width_shows_one_layer_however_large_key_frames_are() {
    // With its headers and its sound the high layer takes 1.6 Mbit/s. What 1.8 leave carries a key frame of twenty times the
    // others in the time that is waited for it, one of forty times not.
    let wide = [(40, 1_600_000), (40, 2_200_000), (20, 1_800_000)];
    for (key, bps) in wide.into_iter().chain([(20, 1_600_000), (20, 2_200_000)]) {
        assert_eq!(changes(key, bps), (0, 0), "x{key} at {bps}");
    }
}

#[test]
fn a_layer_whose_key_frames_the_way_does_not_carry_is_tried_less_and_less_often() {
    let mut sim = call(&[(CAMERA, 2_000_000)], 600_000);
    sim.run(10_000);
    sim.camera(CAMERA).asked.clear();
    // Each key frame of the higher layer is followed by a second in which little is estimated.
    for _ in 0..180 {
        let narrow = since(&sim, sim.now / MS - 1_000, CAMERA, 1) > 0;
        let bps = if narrow { 600_000 } else { 3_000_000 };
        sim.input(2, Input::Bandwidth(bps));
        sim.run(1_000);
    }
    let asked = sim.camera(CAMERA).asked.iter();
    let tries: Vec<u64> = asked
        .filter(|(_, layer)| *layer == 1)
        .map(|(at, _)| at / MS)
        .collect();
    let pauses: Vec<u64> = tries.windows(2).map(|two| two[1] - two[0]).collect();
    assert!((3..=7).contains(&pauses.len()), "{tries:?}");
    assert!(
        pauses.windows(2).all(|two| two[1] + 1_000 > two[0]),
        "{tries:?}"
    );
    assert!(pauses.last() > Some(&40_000), "{tries:?}");
}

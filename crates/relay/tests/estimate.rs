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

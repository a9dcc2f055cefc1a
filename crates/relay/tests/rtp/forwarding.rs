//! What receivers get of what a sender sends.

use std::collections::BTreeSet;

use crate::net::{CLEAN, HARSH, MILD, Path};
use crate::world::World;

/// One sender, three receivers of a layer and its sound, each with one pair of slots. Nothing is lost in the
/// first second: a receiver that misses the very first packet of a slot does not know of it, and no NACK brings it.
fn room(path: Path, seed: u64, layer: u8) -> World {
    let calm = Path { loss: 0, ..path };
    let clients = [(true, 0), (false, 1), (false, 1), (false, 1)];
    let mut world = World::new(calm, seed, &clients);
    world.sound = true;
    for to in 1..4 {
        world.show(to, 0, layer);
    }
    world.run(1_000);
    world.net.path = path;
    world
}

#[test]
fn every_receiver_gets_every_frame_as_it_was_sealed() {
    // Nobody here leaves out what loss is taken to have no room for, but the low layer always has it.
    for (path, seed, layer) in [(CLEAN, 1, 1), (MILD, 2, 0), (HARSH, 3, 0)] {
        let mut world = room(path, seed, layer);
        world.run(4_000);
        world.settle();
        for to in 1..4 {
            let shown = world.shown(to, 1);
            assert_eq!(shown.holes, 0);
            assert!(shown.frames.len() > 120, "{} frames", shown.frames.len());
            let numbers: BTreeSet<u32> = shown.frames.iter().map(|f| f.number).collect();
            let (first, last) = (numbers.first(), numbers.last());
            let span = last
                .zip(first)
                .map(|(last, first)| (last - first) as usize + 1);
            assert_eq!(span, Some(numbers.len()), "none is missing");
            assert_eq!(numbers.len(), shown.frames.len(), "none came twice");
            // What came twice came as a probe, under its old number.
            let sums = world.links[to].sums();
            if path.loss == 0 {
                assert_eq!(sums.retransmitted, 0);
            } else {
                assert!(sums.retransmitted > 0);
            }
        }
    }
}

#[test]
fn sound_comes_in_order_one_packet_a_frame() {
    let mut world = room(CLEAN, 4, 1);
    world.run(4_000);
    world.settle();
    for to in 1..4 {
        // Signs of life came before the first and after the last.
        let mut got = world.got(to, 0);
        got.retain(|(_, packet)| packet.payload.len() > 1);
        assert!(got.len() > 200);
        for (n, (seq, packet)) in got.iter().enumerate() {
            assert_eq!(*seq, got[0].0 + n as u64);
            let header = grove_frame::Header::decode(&packet.payload).expect("a header");
            let sealed = &world.sealed[&(header.sender, 255, header.number)];
            assert_eq!(&packet.payload[..], &sealed[..]);
        }
    }
}

#[test]
fn the_packets_of_a_picture_leave_together() {
    let mut world = room(CLEAN, 5, 1);
    world.sound = false;
    let before = world.counts.batches;
    world.run(2_000);
    // 60 pictures of four packets to three receivers, and key frames in several batches.
    let batches = world.counts.batches - before;
    assert!(batches >= 160, "{batches}");
}

#[test]
fn a_slot_goes_to_another_stream_once_its_own_is_silent() {
    let mut world = World::new(CLEAN, 6, &[(true, 0), (true, 0), (false, 1)]);
    world.show(2, 0, 0);
    world.run(1_000);
    world.show(2, 1, 0);
    world.run(1_000);
    let only = |world: &World, sender| {
        let frames = world.shown(2, 1).frames;
        frames.iter().all(|frame| frame.sender == sender)
    };
    assert!(only(&world, 100), "the second waits");
    world.sending[0] = 0;
    world.run(3_000);
    world.clients[1].want_key();
    world.run(1_000);
    world.settle();
    let shown = world.shown(2, 1);
    assert_eq!(shown.holes, 0);
    assert!(shown.frames.iter().any(|frame| frame.sender == 101));
}

#[test]
fn repetitions_are_a_small_part_of_what_leaves_whatever_is_asked_for() {
    let mut path = HARSH;
    path.loss = 400;
    let mut world = room(path, 7, 0);
    world.run(5_000);
    for to in 1..4 {
        let sums = world.links[to].sums();
        assert!(sums.retransmitted > 0);
        assert!(sums.retransmitted * 3 < sums.packets, "{sums:?}");
    }
}

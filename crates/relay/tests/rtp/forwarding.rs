//! What receivers get of a stream in two layers.

use grove_relay::rtp::decide::ALL;

use crate::net::{CLEAN, HARSH, MILD, Path};
use crate::world::World;

/// One sender, three receivers; the receivers' video slots are the fed 1, 3 and 5.
fn room(path: Path, seed: u64) -> World {
    let mut world = World::new(path, seed, &[(true, 0), (false, 1), (false, 1), (false, 1)]);
    world.run(1_000);
    for fed in [1, 3, 5] {
        world.show(fed, 0, 1, false);
    }
    world.run_calm(500);
    world.run(1_000);
    world
}

/// The sender stops, and what is on its way arrives or is asked for again. (A loss at the very end would show nobody a gap.)
fn settle(world: &mut World) {
    world.net.path.loss = 0;
    world.run(300);
    world.sending[0] = 0;
    world.run(3_000);
}

#[test]
fn every_receiver_gets_every_frame_as_it_was_sealed() {
    for (path, seed) in [(CLEAN, 1), (MILD, 2), (HARSH, 3)] {
        let mut world = room(path, seed);
        world.run(4_000);
        settle(&mut world);
        for fed in [1, 3, 5] {
            let shown = world.shown(fed);
            assert_eq!((shown.holes, shown.empty), (0, 0));
            assert!(shown.frames.len() > 120, "{} frames", shown.frames.len());
            let numbers: Vec<u32> = shown.frames.iter().map(|f| f.number).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
            assert!(shown.frames[0].is_key());
        }
        assert!(world.clients.iter().all(|client| client.twice == 0));
        assert_eq!(world.counts.stray_layers, 0);
    }
}

#[test]
fn layers_change_both_ways_without_a_missing_reference() {
    for (path, seed) in [(CLEAN, 11), (MILD, 12), (HARSH, 13)] {
        let mut world = room(path, seed);
        for layer in [0, 1, 0, 1] {
            world.show(1, 0, layer, false);
            world.run(1_500);
        }
        settle(&mut world);
        let shown = world.shown(1);
        let layers: Vec<u8> = shown.runs().iter().map(|((_, layer), _)| *layer).collect();
        assert_eq!((layers, shown.holes), (vec![1, 0, 1, 0, 1], 0));
        // Only the end of a frame that is lost is not waited for.
        assert!(shown.torn <= if path.loss == 0 { 0 } else { 2 });
        // In between no frame is missing: the old layer is shown until the new one's key frame.
        for pair in shown.frames.windows(2) {
            assert!(pair[0].spatial != pair[1].spatial || pair[1].number == pair[0].number + 1);
        }
        // Others are not disturbed by it.
        assert_eq!(world.shown(3).runs().len(), 1);
    }
}

#[test]
fn temporal_layers_are_dropped_and_come_back() {
    for (path, seed) in [(CLEAN, 21), (MILD, 22), (HARSH, 23)] {
        let mut world = room(path, seed);
        for limit in [1, 0, ALL, 1, ALL, 0, ALL] {
            world.fed[1].slot.set_limit(limit);
            world.run(700);
        }
        world.fed[3].slot.set_limit(0);
        world.run(2_000);
        settle(&mut world);
        let (thinned, whole) = (world.shown(1), world.shown(5));
        assert_eq!((thinned.holes, whole.holes), (0, 0));
        assert!(thinned.frames.len() < whole.frames.len());
        // Layer 0 is never left out, and the highest comes back to the end.
        assert_eq!(thinned.count(0), whole.count(0));
        assert_eq!(thinned.frames.last(), whole.frames.last());
        let only = world.shown(3);
        let low = only
            .frames
            .iter()
            .rev()
            .take_while(|f| f.temporal == 0)
            .count();
        assert!(low >= 12, "{low} frames of layer 0 at the end");
    }
}

#[test]
fn a_late_joiner_begins_with_the_ring_and_needs_no_key_frame() {
    for (path, seed) in [(CLEAN, 31), (HARSH, 32)] {
        let mut world = room(path, seed);
        let n = world.join(false, 1);
        world.run_until(|world| world.clients[n].connected && world.fed.len() == 8);
        // Somebody else's key frame is young: one for a layer is one for all.
        world.show(1, 0, 0, false);
        world.run_until(|world| world.fed[1].slot.waiting().is_none());
        world.run(300);
        let asked = world.counts.key_requests;
        world.show(7, 0, 1, true);
        world.run_calm(200);
        world.run(1_000);
        settle(&mut world);
        assert_eq!(world.counts.key_requests, asked);
        let shown = world.shown(7);
        assert!(shown.frames[0].is_key());
        assert_eq!(shown.holes, 0);
        assert_eq!(shown.frames.last(), world.shown(3).frames.last());
        assert!(shown.frames.len() > 30);
    }
}

#[test]
fn a_slot_goes_on_with_another_stream() {
    for (path, seed) in [(CLEAN, 41), (HARSH, 42)] {
        let mut world = World::new(path, seed, &[(true, 0), (true, 0), (false, 1)]);
        // The second sender's clock began long before.
        world.clients[1].start -= std::time::Duration::from_secs(5_000);
        world.run(1_000);
        for (client, layer) in [(0, 1), (1, 1), (1, 0), (0, 0)] {
            world.show(1, client, layer, false);
            world.run_calm(500);
            world.run(1_000);
        }
        world.sending[1] = 0;
        settle(&mut world);
        let shown = world.shown(1);
        let order: Vec<(u16, u8)> = shown.runs().into_iter().map(|(id, _)| id).collect();
        assert_eq!(order, [(100, 1), (101, 1), (101, 0), (100, 0)]);
        assert_eq!(shown.holes, 0);
        // Its clock makes no leap: 6 s of pictures are 6 s on it, give or take a wait for a key frame.
        let (first, last) = (shown.times[0], shown.times[shown.times.len() - 1]);
        assert!((4 * 90_000..8 * 90_000).contains(&(last - first)));
    }
}

#[test]
fn sound_comes_once_and_in_order_and_changes_its_source_at_once() {
    for (path, seed) in [(CLEAN, 51), (HARSH, 52)] {
        let mut world = World::new(path, seed, &[(true, 0), (true, 0), (false, 1)]);
        world.sound = true;
        world.run(1_000);
        world.show(0, 0, 2, false);
        world.run(1_000);
        world.show(0, 1, 2, false);
        world.run(1_000);
        let client = &world.clients[2];
        let mid = client.slots[0];
        let heard: Vec<(u16, u32)> = client
            .got
            .range((mid, 0)..=(mid, u64::MAX))
            .map(|(_, got)| {
                let header = grove_frame::Header::decode(&got.payload).expect("a frame");
                let id = (header.sender, 255, header.number);
                assert_eq!(world.sealed[&id], got.payload[..]);
                (header.sender, header.number)
            })
            .collect();
        assert!(heard.is_sorted() && heard.windows(2).all(|pair| pair[0] != pair[1]));
        let of_first = heard.iter().filter(|(sender, _)| *sender == 100).count();
        let of_second = heard.len() - of_first;
        // 50 packets a second each, of which a lossy path takes twice 5 %.
        assert!((30..=51).contains(&of_first) && (30..=51).contains(&of_second));
    }
}

#[test]
fn a_silent_layer_leaves_the_slot_with_what_it_shows_until_a_key_frame_is_there() {
    let mut world = room(CLEAN, 61);
    world.show(1, 0, 0, false);
    world.run(1_000);
    world.sending[0] = 1;
    world.run(500);
    // The upper layer has stopped; the slot asks for it in vain and goes on with the lower one.
    world.show(1, 0, 1, false);
    world.run(1_000);
    assert_eq!(world.fed[1].slot.source(), Some(world.source(0, 0)));
    assert_eq!(world.fed[1].slot.waiting(), Some(world.source(0, 1)));
    world.sending[0] = 2;
    world.run(1_000);
    assert_eq!(world.fed[1].slot.waiting(), None);
    settle(&mut world);
    let shown = world.shown(1);
    let layers: Vec<u8> = shown.runs().iter().map(|((_, layer), _)| *layer).collect();
    assert_eq!((layers, shown.holes), (vec![1, 0, 1], 0));
}

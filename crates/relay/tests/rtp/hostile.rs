//! What strangers, and members that mean harm, may send to a link.

use std::net::SocketAddr;

use grove_relay::rtp::Todo;

use crate::net::CLEAN;
use crate::world::{RELAY, World, address};

/// A packet of RTP that nobody sealed, with the name of a track under this id.
fn forged(ssrc: u32, payload_type: u8, id: u8, mid: &str) -> Vec<u8> {
    let mut extension = vec![id << 4 | (mid.len() as u8 - 1)];
    extension.extend(mid.bytes());
    extension.resize(extension.len().next_multiple_of(4), 0);
    let mut packet = vec![0x90, payload_type, 0, 7, 0, 0, 0, 1];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, extension.len() as u8 / 4]);
    packet.extend(extension);
    packet.extend([9; 40]);
    packet
}

#[test]
fn a_forged_packet_that_names_a_track_takes_nothing_from_it() {
    let mut world = World::new(CLEAN, 81, &[(true, 0), (false, 1)]);
    world.sound = true;
    world.run(10_000);
    let mid = world.clients[0].audio.expect("a track").to_string();
    for id in 1..=14 {
        let packet = forged(900_000 + u32::from(id), 111, id, &mid);
        world.net.send(address(0), RELAY.into(), packet, world.now);
    }
    world.run(100);
    let before = world.counts.sounds;
    world.run(2_000);
    assert!(world.counts.sounds >= before + 99, "a sound each 20 ms");
}

#[test]
fn the_goodbye_of_a_link_leaves_whatever_it_had_to_tell() {
    let mut world = World::new(CLEAN, 82, &[(false, 1)]);
    world.run(500);
    world.clients[0].say("hello");
    let mut came = false;
    while let Ok(str0m::Output::Transmit(t)) = world.clients[0].rtc.poll_output() {
        let (from, now) = (t.source, world.now);
        world.links[0].handle_datagram(from, &t.contents, now);
        came = true;
    }
    assert!(came);
    for (todo, bytes) in world.links[0].farewell(world.now) {
        if let Todo::Transmit { .. } = todo {
            world.net.send(RELAY.into(), address(0), bytes, world.now);
        }
    }
    world.run(100);
    assert!(!world.clients[0].rtc.is_alive());
}

#[test]
fn a_browser_that_is_seen_under_another_address_goes_on_there_within_seconds() {
    let mut world = World::new(CLEAN, 83, &[(true, 0), (false, 1)]);
    world.show(1, 0, 1);
    world.run(2_000);
    let new = SocketAddr::from(([203, 0, 113, 9], 2222));
    world.nat.insert(1, new);
    let before = world.shown(1, 1).frames.len();
    world.run(6_000);
    let frames = world.shown(1, 1).frames.len() - before;
    // Checks that tell of it come each 5 s at most.
    assert!(frames > 20, "{frames} of 180 frames");
    let between = world.counts.elsewhere.remove(&address(1));
    assert!(between.is_some(), "the former address got the rest");
    world.run(2_000);
    assert_eq!(world.counts.elsewhere.get(&address(1)), None);
}

#[test]
fn a_member_that_names_another_address_as_its_own_has_no_more_sent_there_than_it_sends() {
    let mut world = World::new(CLEAN, 84, &[(true, 0), (false, 1)]);
    world.show(1, 0, 1);
    world.run(1_000);
    world.keep_checks = true;
    world.run(5_000);
    world.keep_checks = false;
    let victim = SocketAddr::from(([203, 0, 113, 9], 53));
    let checks = std::mem::take(&mut world.checks);
    assert!(!checks.is_empty());
    let mut sent = 0;
    for check in checks {
        sent += check.len();
        world.net.send(victim, RELAY.into(), check, world.now);
        world.run(500);
    }
    let got = world.counts.elsewhere[&victim];
    // An answer to the check itself, which is shorter, and what it gave credit for.
    assert!(got > 0 && got <= 2 * sent, "{got} bytes for {sent}");
}

#[test]
fn checks_of_a_browser_that_are_sent_again_from_elsewhere_reach_nothing() {
    let mut world = World::new(CLEAN, 85, &[(true, 0), (false, 1)]);
    world.keep_checks = true;
    world.run(10_000);
    world.keep_checks = false;
    let checks = std::mem::take(&mut world.checks);
    assert!(!checks.is_empty());
    for check in &checks {
        world
            .net
            .send(address(0), RELAY.into(), check.clone(), world.now);
        world
            .net
            .send(address(1), RELAY.into(), check.clone(), world.now);
    }
    world.run(100);
    let before = world.counts.unrouted;
    for port in 1..100 {
        let elsewhere = SocketAddr::from(([203, 0, 113, 9], port));
        for check in &checks {
            world
                .net
                .send(elsewhere, RELAY.into(), check.clone(), world.now);
        }
    }
    world.run(100);
    assert_eq!(world.counts.unrouted, before + 99 * checks.len());
    assert!(world.counts.elsewhere.is_empty());
}

//! The connection itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use grove_relay::rtp::{MAX_SLOTS, Offer, OfferError, Session};

use crate::client::Client;
use crate::net::{CLEAN, HARSH, MILD};
use crate::world::{RELAY, World, address};

#[test]
fn control_messages_go_both_ways() {
    let mut world = World::new(HARSH, 71, &[(false, 1), (false, 1)]);
    world.run_until(|world| world.clients.iter().all(|client| client.open));
    world.run(1_000);
    for n in 0..2 {
        for i in 0..20 {
            world.clients[n].say(&format!("{{\"t\":\"hb\",\"n\":{i}}}"));
            world.tell(n, &format!("{{\"t\":\"slots\",\"n\":{i}}}"));
        }
    }
    world.clients[0].say(&"x".repeat(4097));
    world.run_until(|world| {
        let come = world
            .clients
            .iter()
            .all(|client| client.control.len() >= 20);
        come && world.counts.control.len() >= 40
    });
    world.run(1_000);
    let heard = |n| {
        world
            .counts
            .control
            .iter()
            .filter(move |(from, _)| *from == n)
    };
    assert_eq!((heard(0).count(), heard(1).count()), (20, 20));
    let expected: Vec<String> = (0..20)
        .map(|i| format!("{{\"t\":\"slots\",\"n\":{i}}}"))
        .collect();
    assert_eq!(world.clients[0].control, expected);
    assert_eq!(world.clients[1].control, expected);
}

#[test]
fn a_further_offer_adds_slots_behind_those_that_are_there() {
    let mut world = World::new(CLEAN, 72, &[(true, 0), (true, 0), (true, 0), (false, 1)]);
    world.show(3, 0, 1);
    world.run(500);
    world.show(3, 1, 0);
    world.show(3, 2, 1);
    // A stream that begins does so with a key frame, as the core asks for; what follows waits behind it.
    world.clients[1].want_key();
    world.clients[2].want_key();
    world.run(100);
    assert_eq!(world.shown(3, 1).frames.last().map(|f| f.sender), Some(100));
    let made = |sender, layer| {
        let all = (sender, layer, 0)..=(sender, layer, u32::MAX);
        world.sealed.range(all).count() as u32
    };
    let made = [made(100, 1), made(101, 0), made(102, 1)];
    world.add_slots(3, 2);
    world.run(1_000);
    world.settle();
    let slots = [(1, 100, 1), (3, 101, 0), (5, 102, 1)];
    for ((slot, sender, layer), made) in slots.into_iter().zip(made) {
        let shown = world.shown(3, slot);
        assert_eq!(shown.holes, 0);
        assert!(shown.frames.len() > 30);
        assert!(
            shown
                .frames
                .iter()
                .all(|f| (f.sender, f.spatial) == (sender, layer))
        );
        assert!(
            shown.frames[0].number + 2 < made,
            "what waited for the slot came"
        );
    }
    let first = world.shown(3, 1).frames;
    let numbers = first
        .windows(2)
        .all(|pair| pair[1].number == pair[0].number + 1);
    assert!(numbers, "the first goes on as it was");
}

/// An offer of the slots that are there and one more, without the parts that lead to slots.
fn without_slots(offer: &str) -> String {
    let mut parts: Vec<String> = vec![String::new()];
    for line in offer.lines() {
        if line.starts_with("m=") {
            parts.push(String::new());
        }
        let part = parts.last_mut().expect("the head");
        part.push_str(line);
        part.push_str("\r\n");
    }
    parts.retain(|part| !part.contains("a=recvonly"));
    let mids = parts.iter().flat_map(|part| part.lines());
    let mids: Vec<&str> = mids
        .filter_map(|line| line.strip_prefix("a=mid:"))
        .collect();
    let bundle = format!("a=group:BUNDLE {}", mids.join(" "));
    let lines = parts.iter().flat_map(|part| part.lines());
    let lines = lines.map(|line| {
        if line.starts_with("a=group:BUNDLE") {
            &bundle
        } else {
            line
        }
    });
    lines.map(|line| format!("{line}\r\n")).collect()
}

#[test]
fn no_number_is_sealed_twice_though_an_offer_leaves_slots_out() {
    let mut world = World::new(CLEAN, 82, &[(true, 0), (true, 1)]);
    world.sound = true;
    world.show(1, 0, 0);
    world.run(1_500);
    let (offer, _) = world.clients[1].offer(false, 1);
    let offer = Offer::read(&without_slots(&offer)).expect("an offer");
    world.links[1].accept(offer).expect("an answer");
    world.counts.reports.clear();
    world.run(20_000);
    let (mut ours, mut others, mut all) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut count = 0;
    for (_, report) in world.counts.reports.iter().filter(|(n, _)| *n == 1) {
        let (sender, index) = (&report[4..8], &report[report.len() - 4..]);
        if report[1] == 200 {
            ours.insert(sender);
            count += 1;
        } else {
            others.insert(sender);
        }
        let former = all.insert((sender, index), report);
        assert!(
            former.is_none_or(|former| former == report),
            "two under one number"
        );
    }
    assert!(ours.is_disjoint(&others) && !others.is_empty());
    assert!(
        (19..=21).contains(&count),
        "only ours report on slots: {count}"
    );
}

#[test]
fn what_comes_from_an_unverified_address_reaches_no_session() {
    let mut world = World::new(CLEAN, 74, &[(true, 0), (false, 1)]);
    world.run(1_000);
    let before = world.counts.unrouted;
    let stranger: SocketAddr = ([10, 9, 9, 9], 1).into();
    let relay: SocketAddr = ([10, 0, 0, 1], 3478).into();
    for datagram in [
        &[22, 254, 253, 0][..],
        &[0x80, 96, 0, 1],
        &[0x80, 200, 0, 1],
    ] {
        world
            .net
            .send(stranger, relay, datagram.to_vec(), world.now);
    }
    world.run(100);
    assert_eq!(world.counts.unrouted, before + 3);
    assert!(world.clients.iter().all(|client| client.connected));
}

#[test]
fn what_browsers_are_told_need_not_be_an_address_of_the_relay() {
    let public = ([203, 0, 113, 7], 3478).into();
    let mut world = World::behind(public, CLEAN, 78, &[(true, 0), (false, 1)]);
    world.show(1, 0, 1);
    world.run(2_000);
    assert!(world.shown(1, 1).frames.len() > 30);
}

#[test]
fn a_wide_path_is_believed_to_carry_what_is_sent() {
    let mut world = World::new(CLEAN, 75, &[(true, 0), (false, 1)]);
    world.show(1, 0, 1);
    world.run(6_000);
    assert!(!world.counts.bandwidth.is_empty());
    // A clean path of no bound carries what is sent, 1 Mbit/s.
    assert!(world.counts.bandwidth.iter().all(|bps| *bps > 1_000_000));
}

#[test]
fn a_closed_link_is_told_to_the_browser_and_others_go_on() {
    let mut world = World::new(CLEAN, 76, &[(true, 0), (false, 1), (false, 1)]);
    world.show(1, 0, 1);
    world.show(2, 0, 1);
    world.run(1_500);
    world.close(1);
    world.run(1_000);
    assert!(!world.clients[1].rtc.is_alive());
    world.settle();
    let (ended, other) = (world.shown(1, 1), world.shown(2, 1));
    assert!(ended.frames.len() + 20 < other.frames.len());
    assert_eq!(other.holes, 0);
}

#[test]
fn reports_tell_the_browser_what_was_sent() {
    let mut world = World::new(CLEAN, 77, &[(true, 0), (false, 1)]);
    world.show(1, 0, 1);
    world.sound = true;
    world.run(4_000);
    assert_eq!(world.clients[1].reported.len(), 2, "sound and pictures");
}

#[test]
fn an_offer_of_as_many_slots_as_a_link_may_have_is_taken() {
    let now = std::time::Instant::now();
    let mut session = Session::new(&[([10, 0, 0, 1], 3478).into()], 0, now);
    let mut client = Client::new(([10, 0, 0, 2], 1).into(), 1, now);
    let (offer, _) = client.offer(true, MAX_SLOTS);
    let offer = Offer::read(&offer).expect("SDP");
    let answer = session.accept(offer).expect("an answer");
    assert_eq!(answer.matches("\nm=").count(), 2 * MAX_SLOTS + 3);
}

#[test]
fn an_offer_that_does_not_fit_is_refused_and_a_good_one_is_still_taken() {
    let now = std::time::Instant::now();
    let mut session = Session::new(&[([10, 0, 0, 1], 3478).into()], 0, now);
    let (offer, _) = Client::new(([10, 0, 0, 2], 1).into(), 1, now).offer(true, 1);
    assert!(offer.contains("a=candidate:"));
    let read = |offer: &str| Offer::read(offer).expect("SDP");
    let plain = read(&offer.replace("a=fingerprint:", "a=finger:"));
    let refused = session.accept(plain);
    assert!(
        matches!(refused, Err(OfferError::Unacceptable(_))),
        "{refused:?}"
    );
    let mut session = Session::new(&[([10, 0, 0, 1], 3478).into()], 0, now);
    let answer = session.accept(read(&offer)).expect("an answer");
    assert!(answer.contains("a=ice-lite") && answer.contains("10.0.0.1 3478"));
    assert!(
        !answer.contains("10.0.0.2"),
        "candidates in it are not heard"
    );
    assert!(answer.contains("a=simulcast:recv l;h"));
    assert!(!answer.contains("ssrc-audio-level") && !answer.contains("video-orientation"));
}

#[test]
fn who_only_watches_and_says_nothing_is_heard_by_the_reports_on_what_it_gets() {
    let mut world = World::new(MILD, 79, &[(true, 0), (false, 1)]);
    world.show(1, 0, 1);
    world.run(2_000);
    world.counts.heard.clear();
    world.counts.control.clear();
    world.run(5_000);
    assert!(world.counts.control.is_empty());
    let heard = |n| world.counts.heard.iter().filter(|&&of| of == n).count();
    assert!(heard(1) >= 10, "{}", heard(1));
}

#[test]
fn junk_from_the_address_of_a_browser_is_not_heard() {
    let heard = |junk: bool| {
        let mut world = World::new(CLEAN, 80, &[(false, 1)]);
        for n in 0..100u8 {
            world.run(20);
            for first in [128, 200, 22, 23] {
                let mut bytes = vec![n; 80];
                (bytes[0], bytes[1]) = (first, 201);
                if junk {
                    let now = world.now;
                    world.net.send(address(0), RELAY.into(), bytes, now);
                }
            }
        }
        world.counts.heard.len()
    };
    assert_eq!(heard(true), heard(false));
}

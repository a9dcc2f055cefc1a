//! Rooms on several threads behind one UDP port: whichever thread the kernel gives a datagram to, it comes to its own. The
//! kernel chooses by a hash of the ports that nobody knows ahead, so browsers join, or change their ports, until it has chosen
//! another thread than theirs; what was handed over is counted by the thread that it came to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use grove_frame::Header;
use grove_relay::{Event, Node, Outgoing, Settings, Udp, spawn_threads};
use tokio::net::UdpSocket;

use crate::faults::{Random, Strangers, assert_whole, beside, check, forged, frames, settle};
use crate::udp::{Call, count, room, token};

/// Browsers that join at most. That none of so many is at a wrong thread does not happen.
const MOST: Node = 40;

fn relay(threads: usize) -> Call {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let udp = Udp::bind(&[localhost], 0, threads).expect("a free port");
    let port = udp.candidates()[0];
    let udp = Some(Arc::new(udp));
    Call::of(spawn_threads(Settings::default(), udp, threads), port)
}

/// Datagrams that each thread has handed to others.
fn handed(call: &Call) -> Vec<u64> {
    let shards = call.handle.shards();
    shards.map(|s| s.counters.datagrams_handed).collect()
}

/// A second of the call, after which the figures are those of its end.
async fn second(call: &mut Call) {
    for _ in 0..2 {
        let before = call.handle.stats().counters.bytes_received;
        call.run_until(|call| call.handle.stats().counters.bytes_received > before)
            .await;
    }
}

/// Two rooms, one on each of two threads, both of which have come by datagrams of the other's. In each everybody sees
/// everybody.
async fn two_rooms() -> Call {
    let mut call = relay(2);
    for n in 1..=MOST {
        for peer in [n, 200 + n] {
            call.join(peer).await;
            call.run_until(|call| call.is_up(peer)).await;
        }
        second(&mut call).await;
        if n > 1 && handed(&call).iter().all(|&handed| handed > 0) {
            break;
        }
    }
    let peers: Vec<Node> = call.browsers.iter().map(|b| b.client.sender).collect();
    for &from in &peers {
        for &to in peers
            .iter()
            .filter(|&&to| to != from && room(to) == room(from))
        {
            call.edge(from, to);
        }
    }
    call.run_until(|call| {
        pairs(call).all(|(at, from)| {
            let sender = call.browsers[from].client.sender;
            frames(&call.browsers[at], sender).len() >= 40
        })
    })
    .await;
    call
}

/// Who receives from whom, by their places.
fn pairs(call: &Call) -> impl Iterator<Item = (usize, usize)> {
    let rooms: Vec<_> = call
        .browsers
        .iter()
        .map(|b| room(b.client.sender))
        .collect();
    let all = (0..rooms.len()).flat_map(move |at| (0..rooms.len()).map(move |from| (at, from)));
    let rooms: Vec<_> = call
        .browsers
        .iter()
        .map(|b| room(b.client.sender))
        .collect();
    all.filter(move |&(at, from)| at != from && rooms[at] == rooms[from])
}

fn assert_nobody_lost(call: &Call) {
    let lost = |event: &&Event| matches!(event, Event::Lost { .. } | Event::Left { .. });
    assert_eq!(call.heard.iter().find(lost), None);
}

#[tokio::test]
async fn rooms_on_two_threads_lose_nothing_whichever_of_them_their_datagrams_come_to() {
    let mut call = two_rooms().await;
    let before = handed(&call);
    let since = beside(&mut call, |_, _| {}).await;
    let stats = settle(&mut call).await;
    let missing: u64 = pairs(&call)
        .map(|(at, from)| {
            let from = call.browsers[from].client.sender;
            assert_whole(&call, &call.browsers[at], from, &since)
        })
        .sum();
    assert!(missing <= stats.counters.frames_dropped, "{missing}");
    assert_nobody_lost(&call);
    let now = handed(&call);
    assert!(now.iter().zip(&before).all(|(now, before)| now > before));
    assert_eq!(stats.counters.datagrams_untaken, 0);
    assert_eq!(stats.counters.datagrams_unsent, 0);
    let shards: Vec<_> = call.handle.shards().collect();
    let half = call.browsers.len() / 2;
    for shard in &shards {
        assert_eq!((shard.size.rooms, shard.size.links), (1, half));
    }
    assert_eq!((stats.size.rooms, stats.size.links), (2, 2 * half));
}

#[tokio::test]
async fn a_browser_whose_port_changes_to_one_at_another_thread_is_followed() {
    let mut call = relay(4);
    call.join(1).await;
    call.run_until(|call| call.is_up(1)).await;
    call.link(2);
    let mut other = call.handle.attach(token(2)).await.expect("ordered");
    call.edge(1, 2);
    call.edge(2, 1);
    // The only browser: whoever hands something over is where its datagrams come to.
    let mut places = Vec::new();
    while places.iter().max() == places.iter().min() {
        assert!(places.len() < usize::from(MOST), "it came to {places:?}");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        call.browsers[0].socket = socket.expect("a socket");
        let heard = call.browsers[0].client.control.len();
        let sound = call.browsers[0].client.sounds();
        // Its next check comes within 5 s; then sound goes up, and the relay's heartbeats come down.
        let mut came = 0;
        for _ in 0..4_000 {
            call.step().await;
            let soon = std::time::Duration::from_millis(1);
            while let Ok(Some(out)) = tokio::time::timeout(soon, other.outgoing.recv()).await {
                if let Outgoing::Frame(frame) = out {
                    let header = Header::decode(&frame).expect("a header");
                    came += usize::from(header.track == 0 && header.number > sound);
                }
            }
            if came >= 50 && call.browsers[0].client.control.len() > heard + 10 {
                break;
            }
        }
        assert!(came >= 50, "only {came} after the change");
        assert!(call.browsers[0].client.control.len() > heard + 10);
        second(&mut call).await;
        let before = handed(&call);
        second(&mut call).await;
        let now = handed(&call);
        places.push(
            now.iter()
                .zip(before)
                .position(|(now, before)| *now > before),
        );
    }
    assert_eq!(call.handle.stats().size.links, 2);
}

#[tokio::test]
async fn of_too_many_links_in_the_making_on_all_threads_the_eldest_of_all_goes() {
    let mut call = relay(2);
    let mut begun = Vec::new();
    for peer in (1..=90).chain(201..=250) {
        call.link(peer);
        begun.push((peer, call.offer(peer).await));
    }
    // Twelve are gone.
    let asked = [1, 12, 13, 90, 250];
    for (peer, (pending, answer)) in begun {
        if asked.contains(&peer) {
            call.answered(pending, &answer);
        }
    }
    call.run_until(|call| [13, 90, 250].iter().all(|&peer| call.is_up(peer)))
        .await;
    assert!(!call.is_up(1) && !call.is_up(12));
    second(&mut call).await;
    let links: Vec<_> = call.handle.shards().map(|shard| shard.size.links).collect();
    assert_eq!(links, [2, 1]);
}

#[tokio::test]
async fn a_flood_at_one_thread_stops_neither_its_own_room_nor_the_others() {
    let mut call = two_rooms().await;
    let (stranger, mut random) = (Strangers::new(1), Random(9));
    let check = check(&call);
    let before: Vec<_> = pairs(&call)
        .map(|(at, from)| frames(&call.browsers[at], call.browsers[from].client.sender).len())
        .collect();
    for turn in 0..100 {
        for _ in 0..40 {
            let mut junk = random.bytes(200);
            junk[0] = [1, 22, 64, 128][turn % 4];
            stranger.send(0, &junk, call.port);
            // For whom it says it is, wherever it comes to.
            stranger.send(0, &forged(&check, &mut random), call.port);
        }
        call.step().await;
    }
    for (n, (at, from)) in pairs(&call).enumerate() {
        let from = call.browsers[from].client.sender;
        let came = frames(&call.browsers[at], from);
        assert!(came.len() > before[n] + 40, "{from}: {}", came.len());
        let of: Vec<_> = came.into_iter().map(|(_, frame)| frame).collect();
        count(&of, from, &call.sealed);
    }
    let stats = settle(&mut call).await;
    assert_nobody_lost(&call);
    assert_eq!(stranger.heard(), Vec::<Vec<u8>>::new());
    assert_eq!(stats.size.links, call.browsers.len());
    assert_eq!(stats.counters.datagrams_untaken, 0);
}

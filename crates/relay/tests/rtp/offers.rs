//! Offers through the driver: what they cost others, and which connection of a peer is its link.

use std::time::{Duration, Instant};

use grove_relay::{Command, Event, Outgoing, Token};

use crate::client::Client;
use crate::udp::{Call, ROOM, count, token};

fn lost(event: &&Event) -> bool {
    matches!(event, Event::Lost { .. })
}

#[tokio::test]
async fn a_peer_that_offers_again_and_again_is_answered_now_and_then_and_costs_others_nothing() {
    let mut call = Call::new(2).await;
    call.edge(1, 2);
    let seen = |call: &Call| count(&call.browsers[1].frames(), 1, &call.sealed).1;
    call.run_until(|call| seen(call) >= 30).await;
    call.order(Command::Enter {
        room: 2,
        node: 65_535,
    });
    call.order(Command::Link {
        room: 2,
        peer: 9,
        token: Token([9; 16]),
    });
    let (offer, _) = Client::new(call.port, 9, Instant::now()).offer(true, 1);
    // As dear to parse as may be.
    let track = format!("m=audio 0 UDP/TLS/RTP/SAVPF 0\r\n{}", "a=x\r\n".repeat(190));
    for n in 0..40 {
        let other = offer.replace("a=ice-ufrag:", &format!("a=ice-ufrag:q{n}"));
        let sdp = format!("{other}{}", track.repeat(100));
        call.order(Command::Offer {
            room: 2,
            peer: 9,
            sdp,
        });
    }
    let answered = |call: &Call| {
        let answers = call.heard.iter();
        answers
            .filter(|event| matches!(event, Event::Answer { room: 2, .. }))
            .count()
    };
    let before = seen(&call);
    call.run_until(|call| answered(call) >= 2 && seen(call) >= before + 30)
        .await;
    assert_eq!(answered(&call), 2, "the first and the last");
    assert_eq!(call.heard.iter().filter(lost).count(), 0);
}

#[tokio::test]
async fn a_link_that_was_opened_by_a_socket_is_not_taken_from_it_by_a_late_answer() {
    let mut call = Call::new(0).await;
    call.link(7);
    let (browser, answer) = call.offer(7).await;
    let mut attached = call.handle.attach(token(7)).await.expect("ordered");
    call.answered(browser, &answer);
    for _ in 0..200 {
        call.step().await;
        let soon = Duration::from_millis(1);
        if let Ok(out) = tokio::time::timeout(soon, attached.outgoing.recv()).await {
            assert!(!matches!(out, None | Some(Outgoing::Close(_))), "{out:?}");
        }
    }
    assert!(!call.browsers[0].client.open);
}

#[tokio::test]
async fn a_further_connection_replaces_the_open_one_only_once_it_is_open_and_nothing_is_lost() {
    let mut call = Call::new(2).await;
    call.edge(2, 1);
    let frames = |call: &Call, at: usize| count(&call.browsers[at].frames(), 2, &call.sealed).0;
    call.run_until(|call| frames(call, 0) >= 10).await;
    // A refused one costs it nothing, nor does one that comes to nothing.
    call.order(Command::Offer {
        room: ROOM,
        peer: 1,
        sdp: "v=0".to_owned(),
    });
    let refused = Event::Answer {
        room: ROOM,
        peer: 1,
        sdp: String::new(),
    };
    call.run_until(|call| call.heard.contains(&refused)).await;
    let _ = call.offer(1).await;
    let before = frames(&call, 0);
    call.run_until(|call| frames(call, 0) >= before + 20).await;
    let (browser, answer) = call.offer(1).await;
    call.answered(browser, &answer);
    call.run_until(|call| frames(call, 2) >= 20).await;
    call.run_until(|call| !call.browsers[0].client.rtc.is_alive())
        .await;
    assert_eq!(call.heard.iter().filter(lost).count(), 0);
    assert_eq!(call.handle.stats().size.links, 2);
}

#[tokio::test]
async fn of_too_many_links_in_the_making_the_eldest_goes() {
    let mut call = Call::new(0).await;
    let mut begun = Vec::new();
    for peer in 1..=130 {
        call.link(peer);
        begun.push(call.offer(peer).await);
    }
    for (pending, answer) in begun.drain(1..4) {
        call.answered(pending, &answer);
    }
    call.run_until(|call| call.browsers[1..].iter().all(|b| b.client.open))
        .await;
    let up = |event: &&Event| matches!(event, Event::Up { .. });
    let up = call.heard.iter().filter(up).collect::<Vec<_>>();
    assert_eq!(up.len(), 2, "{up:?}");
    assert!(!call.browsers[0].client.open, "peer 2");
}

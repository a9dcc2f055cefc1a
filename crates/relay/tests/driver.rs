//! The task and its queues, with real channels and the test runtime's clock.

use std::time::Duration;

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::{
    AttachError, Close, Command, Event, Handle, Incoming, Layers, Node, Outgoing, Refused,
    Settings, Shedding, Stream, Token, spawn,
};
use tokio::sync::mpsc::UnboundedReceiver;

const ROOM: u64 = 1;
const CAMERA: Stream = Stream::new(1, 0);

fn token(peer: Node) -> Token {
    Token([peer as u8; 16])
}

fn relay(peers: &[Node]) -> (Handle, UnboundedReceiver<Event>) {
    let (handle, events) = spawn(Settings::default(), None);
    handle.command(Command::Enter {
        room: ROOM,
        node: 65535,
    });
    for &peer in peers {
        handle.command(Command::Link {
            room: ROOM,
            peer,
            token: token(peer),
        });
    }
    (handle, events)
}

fn picture(number: u32) -> Bytes {
    let header = Header {
        kind: Kind::Key {
            width: 64,
            height: 64,
        },
        spatial: 0,
        temporal: 0,
        number,
        capture_us: 0,
        sender: 1,
        stream: 0,
        track: 1,
        generation: 1,
        droppable: false,
        rotation: 0,
    };
    let mut bytes = header.encode().expect("valid").to_vec();
    bytes.resize(10_000, number as u8);
    bytes.into()
}

#[tokio::test(start_paused = true)]
async fn a_frame_goes_from_one_socket_to_another() {
    let (handle, mut events) = relay(&[1, 2]);
    assert_eq!(
        handle.attach(token(3)).await.err(),
        Some(AttachError::Unknown)
    );
    let root = handle.attach(token(1)).await.expect("ordered");
    let mut leaf = handle.attach(token(2)).await.expect("ordered");
    let layers = Layers::one(0);
    handle.command(Command::Parent {
        room: ROOM,
        stream: CAMERA,
        parent: 1,
        layers,
    });
    handle.command(Command::Feed {
        room: ROOM,
        stream: CAMERA,
        child: 2,
        layers,
        rate_bps: 1_000_000,
    });
    let take = r#"{"t":"take","s":16,"have":[]}"#.to_owned();
    leaf.incoming
        .send(Incoming::Text(take))
        .await
        .expect("open");
    root.incoming
        .send(Incoming::Frame(picture(7)))
        .await
        .expect("open");
    let came = loop {
        if let Some(Outgoing::Frame(bytes)) = leaf.outgoing.recv().await {
            break bytes;
        }
    };
    assert_eq!(came, picture(7));
    assert_eq!(
        events.recv().await,
        Some(Event::Up {
            room: ROOM,
            peer: 1
        })
    );
    assert_eq!(
        events.recv().await,
        Some(Event::Up {
            room: ROOM,
            peer: 2
        })
    );
    assert_eq!(
        events.recv().await,
        Some(Event::Ready {
            room: ROOM,
            stream: CAMERA,
            parent: 1
        })
    );
    assert_eq!(handle.instance().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_socket_gets_one_picture_at_a_time_and_the_next_when_it_has_sent_that() {
    let (handle, _events) = relay(&[1, 2]);
    let root = handle.attach(token(1)).await.expect("ordered");
    let mut leaf = handle.attach(token(2)).await.expect("ordered");
    let layers = Layers::one(0);
    handle.command(Command::Parent {
        room: ROOM,
        stream: CAMERA,
        parent: 1,
        layers,
    });
    handle.command(Command::Feed {
        room: ROOM,
        stream: CAMERA,
        child: 2,
        layers,
        rate_bps: 9_000_000,
    });
    let take = r#"{"t":"take","s":16,"have":[]}"#.to_owned();
    leaf.incoming
        .send(Incoming::Text(take))
        .await
        .expect("open");
    for number in 0..3 {
        root.incoming
            .send(Incoming::Frame(picture(number)))
            .await
            .expect("open");
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut numbers = Vec::new();
    while numbers.len() < 3 {
        match leaf.outgoing.recv().await {
            Some(Outgoing::Frame(bytes)) => {
                numbers.push(bytes[5]);
                // Until the socket asks for the next one, none is in its queue.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            Some(Outgoing::Text(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(numbers, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_does_not_read_is_told_to_end_and_its_peer_is_lost() {
    let (handle, mut events) = relay(&[2]);
    let leaf = handle.attach(token(2)).await.expect("ordered");
    let mut ended = leaf.ended.clone();
    assert_eq!(ended.wait().await, Close::Stuck);
    let mut lost = false;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(2), events.recv()).await {
        lost |= matches!(event, Event::Lost { peer: 2, .. });
    }
    assert!(lost);
    let mut outgoing = leaf.outgoing;
    assert_eq!(outgoing.recv().await, Some(Outgoing::Close(Close::Stuck)));
    assert_eq!(outgoing.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_second_attach_ends_the_first_and_dropping_a_socket_frees_its_link() {
    let (handle, _events) = relay(&[2]);
    let mut first = handle.attach(token(2)).await.expect("ordered");
    let second = handle.attach(token(2)).await.expect("ordered");
    assert_eq!(
        first.outgoing.recv().await,
        Some(Outgoing::Close(Close::Replaced))
    );
    drop(first);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(handle.stats().size.links, 1);
    drop(second.outgoing);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(handle.stats().size.links, 0);
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_handles_are_gone_ends_its_links() {
    let (handle, mut events) = relay(&[2]);
    let mut leaf = handle.attach(token(2)).await.expect("ordered");
    drop(handle);
    loop {
        match leaf.outgoing.recv().await {
            Some(Outgoing::Close(close)) => {
                assert_eq!(close, Close::Stopped);
                break;
            }
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
    assert!(
        leaf.incoming
            .send(Incoming::Frame(picture(0)))
            .await
            .is_err()
    );
    while events.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_faster_than_the_relay_reads_waits_at_its_own_door() {
    let (handle, _events) = relay(&[1, 2]);
    let fast = handle.attach(token(1)).await.expect("ordered");
    let other = handle.attach(token(2)).await.expect("ordered");
    let big = Bytes::from(vec![0; 200_000]);
    // Nobody reads meanwhile: the task runs when this one waits.
    let mut taken = 0;
    loop {
        let send = fast.incoming.send(Incoming::Frame(big.clone()));
        let sent = tokio::select! {
            biased;
            sent = send => sent.is_ok(),
            () = std::future::ready(()) => false,
        };
        if !sent {
            break;
        }
        taken += 1;
    }
    assert_eq!(taken, 5, "a mebibyte");
    let others = other.incoming.send(Incoming::Frame(big.clone()));
    let others = tokio::select! {
        biased;
        sent = others => sent.is_ok(),
        () = std::future::ready(()) => false,
    };
    assert!(others, "the other's door is open");
    fast.incoming
        .send(Incoming::Frame(big))
        .await
        .expect("once the relay has read");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(handle.stats().counters.malformed, 7);
}

#[tokio::test(start_paused = true)]
async fn the_task_tells_the_relay_its_load_each_second_and_a_newcomer_is_refused_with_a_reason() {
    // Heartbeats alone are more than may go out.
    let settings = Settings {
        egress_bps: 1_000,
        ..Settings::default()
    };
    let (handle, mut events) = spawn(settings, None);
    let enter = Command::Enter {
        room: ROOM,
        node: 65535,
    };
    handle.command(enter);
    for peer in [1, 2] {
        let (room, token) = (ROOM, token(peer));
        handle.command(Command::Link { room, peer, token });
    }
    let mut first = handle.attach(token(1)).await.expect("ordered");
    let mut levels = Vec::new();
    for _ in 0..90 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        while let Ok(Some(_)) =
            tokio::time::timeout(Duration::from_millis(1), first.outgoing.recv()).await
        {}
        levels.push(handle.stats().shedding);
    }
    levels.dedup();
    assert_eq!(
        levels,
        [
            Shedding::Nothing,
            Shedding::NewLayers,
            Shedding::Others,
            Shedding::HigherLayers,
            Shedding::Newcomers
        ]
    );
    assert!(handle.stats().load_permille > 900);
    assert_eq!(
        handle.attach(token(2)).await.err(),
        Some(AttachError::Overloaded)
    );
    assert_eq!(handle.stats().counters.shed, 0, "there was nothing to shed");
    let why = Refused::Overloaded;
    let (room, peer) = (ROOM, 2);
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        told += usize::from(event == Event::Refused { room, peer, why });
    }
    assert_eq!(told, 1);
}

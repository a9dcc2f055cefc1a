//! Links over QUIC, with real sockets: two relays, one of which listens, and a neighbour on either side that needs none.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::quic::{DialError, End, Endpoint, HelloError};
use grove_relay::{
    Attached, Command, Event, Handle, Incoming, Layers, Node, Outgoing, Settings, Stream, Token,
    spawn,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

const ROOM: u64 = 1;
const ROOT: Node = 1;
const LEAF: Node = 2;
const LISTENER: Node = 65535;
const DIALER: Node = 65534;
const CAMERA: Stream = Stream::new(ROOT, 0);
const BACK: Stream = Stream::new(LEAF, 0);
const LAYERS: Layers = Layers::one(0);
/// Sound below this number only shows that an edge is there: sound is not sent again to those who come later.
const FIRST: u32 = 1000;
const RATE: u64 = 20_000_000;

fn token(peer: Node) -> Token {
    let mut token = [7; 16];
    token[..2].copy_from_slice(&peer.to_be_bytes());
    Token(token)
}

/// A relay that expects these.
fn relay(node: Node, peers: &[Node]) -> (Handle, UnboundedReceiver<Event>) {
    let (handle, events) = spawn(Settings::default(), None);
    handle.command(Command::Enter { room: ROOM, node });
    for &peer in peers {
        handle.command(Command::Link {
            room: ROOM,
            peer,
            token: token(peer),
        });
    }
    (handle, events)
}

fn parent(relay: &Handle, stream: Stream, parent: Node) {
    relay.command(Command::Parent {
        room: ROOM,
        stream,
        parent,
        layers: LAYERS,
    });
}

fn feed(relay: &Handle, stream: Stream, child: Node) {
    relay.command(Command::Feed {
        room: ROOM,
        stream,
        child,
        layers: LAYERS,
        rate_bps: RATE,
    });
}

fn local() -> Endpoint {
    Endpoint::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port is free")
}

/// Attaches everybody who shows the right token, and says how each link began or ended.
fn listen(relay: &Handle) -> (Endpoint, UnboundedReceiver<Result<End, HelloError>>) {
    let endpoint = local();
    let (listening, relay) = (endpoint.clone(), relay.clone());
    let (ends, ended) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(arriving) = listening.accept().await {
            let (relay, ends) = (relay.clone(), ends.clone());
            tokio::spawn(async move {
                let opening = match arriving.hello(4400, "no hello").await {
                    Ok(opening) => opening,
                    Err(error) => {
                        let _ = ends.send(Err(error));
                        return;
                    }
                };
                let attached = match relay.attach(opening.token()).await {
                    Ok(attached) => attached,
                    Err(error) => return opening.refuse(4401, &error.to_string()),
                };
                let instance = relay.instance().to_owned();
                let mut socket = opening.welcome(&instance).await.expect("they are there");
                let end = socket.run(attached).await;
                socket.close(1000, "over");
                let _ = ends.send(Ok(end));
            });
        }
    });
    (endpoint, ended)
}

/// Links `relay` with the listener, which knows it as `DIALER`.
async fn dial(relay: &Handle, own: &Endpoint, to: &Endpoint) {
    let address = to.address().expect("it is bound");
    let (mut socket, _) = own
        .dial(address, to.certificate_sha256(), token(DIALER))
        .await
        .expect("it is expected");
    let attached = relay.attach(token(LISTENER)).await.expect("ordered");
    tokio::spawn(async move { socket.run(attached).await });
}

fn frame(sender: Node, number: u32, kind: Kind, bytes: usize) -> Bytes {
    let header = Header {
        kind,
        spatial: 0,
        temporal: 0,
        number,
        capture_us: u64::from(number) * 33_000,
        sender,
        stream: 0,
        track: u8::from(!matches!(kind, Kind::Audio { .. })),
        generation: 1,
        droppable: false,
        rotation: 0,
    };
    let mut frame = header.encode().expect("valid").to_vec();
    frame.extend((0..bytes).map(|n| (n as u32 ^ number) as u8));
    frame.into()
}

fn picture(sender: Node, number: u32) -> Bytes {
    let (width, height) = (640, 360);
    match number {
        0 => frame(sender, 0, Kind::Key { width, height }, 200_000),
        _ => frame(
            sender,
            number,
            Kind::Delta {
                farthest: 1,
                nearest: 1,
            },
            3000,
        ),
    }
}

fn sound(sender: Node, number: u32) -> Bytes {
    frame(sender, FIRST + number, Kind::Audio { level: 40 }, 80)
}

fn is_first(frame: &Bytes) -> bool {
    let header = Header::decode(frame).expect("it is one");
    matches!(header.kind, Kind::Audio { .. }) && header.number < FIRST
}

async fn send(to: &Attached, frame: Bytes) {
    to.incoming.send(Incoming::Frame(frame)).await.expect("up");
}

async fn take(from: &Attached, stream: Stream) {
    let text = format!(r#"{{"t":"take","s":{},"have":[]}}"#, stream.0);
    from.incoming.send(Incoming::Text(text)).await.expect("up");
}

/// The next `count` frames.
async fn frames(of: &mut Attached, count: usize) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let all = async {
        while frames.len() < count {
            match of.outgoing.recv().await.expect("the link is open") {
                Outgoing::Frame(frame) if !is_first(&frame) => frames.push(frame),
                Outgoing::Frame(_) | Outgoing::Text(_) => {}
                Outgoing::Close(close) => panic!("{close:?}"),
            }
        }
    };
    let all = timeout(Duration::from_secs(20), all).await;
    assert!(all.is_ok(), "{} of {count}", frames.len());
    frames
}

async fn until(events: &mut UnboundedReceiver<Event>, wanted: Event) {
    let seen = async { while events.recv().await.expect("it runs") != wanted {} };
    timeout(Duration::from_secs(20), seen)
        .await
        .expect("it comes");
}

/// Sent over a few seconds, as by an encoder.
async fn stream(to: &Attached, sender: Node, count: u32) {
    for number in 0..count {
        send(to, picture(sender, number)).await;
        send(to, sound(sender, number)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// All pictures in order and all sound, byte by byte.
fn assert_whole(came: &[Bytes], sender: Node, count: u32) {
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    for frame in came {
        match Header::decode(frame).expect("it is one").kind {
            Kind::Audio { .. } => sounds.push(frame.clone()),
            _ => pictures.push(frame.clone()),
        }
    }
    // Streams and datagrams may overtake each other.
    let number = |frame: &Bytes| Header::decode(frame).map(|h| h.number);
    pictures.sort_by_key(number);
    sounds.sort_by_key(number);
    assert_eq!(
        pictures,
        (0..count).map(|n| picture(sender, n)).collect::<Vec<_>>()
    );
    assert_eq!(
        sounds,
        (0..count).map(|n| sound(sender, n)).collect::<Vec<_>>()
    );
}

/// Until sound gets through.
async fn begin(from: &mut Attached, sender: Node, to: &mut Attached) {
    for number in 0..FIRST {
        send(from, frame(sender, number, Kind::Audio { level: 40 }, 80)).await;
        let came = async { while !matches!(to.outgoing.recv().await, Some(Outgoing::Frame(_))) {} };
        if timeout(Duration::from_millis(20), came).await.is_ok() {
            return;
        }
    }
    panic!("the edge does not begin");
}

/// Root, listening relay, QUIC, dialling relay, leaf; a stream in either direction.
async fn chain() -> Chain {
    let (up, up_events) = relay(LISTENER, &[ROOT, DIALER]);
    let (down, _) = relay(DIALER, &[LEAF, LISTENER]);
    let (endpoint, _) = listen(&up);
    let own = local();
    dial(&down, &own, &endpoint).await;
    for (relay, stream, from, to) in [
        (&up, CAMERA, ROOT, DIALER),
        (&down, CAMERA, LISTENER, LEAF),
        (&down, BACK, LEAF, LISTENER),
        (&up, BACK, DIALER, ROOT),
    ] {
        parent(relay, stream, from);
        feed(relay, stream, to);
    }
    let root = up.attach(token(ROOT)).await.expect("ordered");
    let leaf = down.attach(token(LEAF)).await.expect("ordered");
    take(&leaf, CAMERA).await;
    take(&root, BACK).await;
    let (mut root, mut leaf) = (root, leaf);
    begin(&mut root, ROOT, &mut leaf).await;
    begin(&mut leaf, LEAF, &mut root).await;
    Chain {
        up,
        up_events,
        _down: down,
        endpoint,
        own,
        root,
        leaf,
    }
}

struct Chain {
    up: Handle,
    up_events: UnboundedReceiver<Event>,
    _down: Handle,
    endpoint: Endpoint,
    own: Endpoint,
    root: Attached,
    leaf: Attached,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_byte_by_byte() {
    let mut chain = chain().await;
    let (root, leaf) = (chain.root.incoming.clone(), chain.leaf.incoming.clone());
    let stream = |to: grove_relay::Inbound, sender| async move {
        for number in 0..100 {
            for frame in [picture(sender, number), sound(sender, number)] {
                to.send(Incoming::Frame(frame)).await.expect("up");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (_, _, down, up) = tokio::join!(
        stream(root, ROOT),
        stream(leaf, LEAF),
        frames(&mut chain.leaf, 200),
        frames(&mut chain.root, 200),
    );
    assert_whole(&down, ROOT, 100);
    assert_whole(&up, LEAF, 100);
}

#[tokio::test]
async fn a_wrong_token_is_refused_in_words_and_a_wrong_certificate_gets_no_token() {
    let (up, _events) = relay(LISTENER, &[DIALER]);
    let (endpoint, mut ended) = listen(&up);
    let own = local();
    let address = endpoint.address().expect("it is bound");
    let hash = endpoint.certificate_sha256();
    match own.dial(address, hash, token(ROOT)).await {
        Err(DialError::Refused(words)) => {
            assert_eq!(words, "no link with this token is expected");
        }
        other => panic!("{other:?}"),
    }
    let mut other = hash;
    other[0] ^= 1;
    match own.dial(address, other, token(DIALER)).await {
        Err(DialError::Connection(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(ended.recv().await, Some(Err(HelloError::Gone)));
    // Nobody has used the token: it still opens the link.
    let opened = own.dial(address, hash, token(DIALER)).await;
    assert_eq!(opened.expect("it is expected").1, up.instance());
}

#[tokio::test]
async fn a_second_hello_with_the_same_token_replaces_the_first() {
    let (up, _events) = relay(LISTENER, &[DIALER]);
    let (endpoint, mut ended) = listen(&up);
    let own = local();
    let address = endpoint.address().expect("it is bound");
    let hash = endpoint.certificate_sha256();
    let first = own.dial(address, hash, token(DIALER)).await;
    let second = own.dial(address, hash, token(DIALER)).await;
    let replaced = End::Closed(grove_relay::Close::Replaced);
    assert_eq!(ended.recv().await, Some(Ok(replaced)));
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_at_the_port_disturbs_no_call() {
    let mut chain = chain().await;
    let address = chain.endpoint.address().expect("it is bound");
    let junk = tokio::spawn(async move {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("free");
        for n in 0_u32.. {
            let mut datagram = vec![n as u8; 1 + (n as usize * 37) % 1400];
            // Every other one looks like the first of a connection (RFC 9000 section 17.2.2).
            if n % 2 == 0 {
                datagram.resize(1200, 0);
                datagram[..7].copy_from_slice(&[0xc0 | n as u8 & 15, 0, 0, 0, 1, 8, n as u8]);
            }
            let _ = socket.send_to(&datagram, address).await;
            if n % 16 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let Chain { root, leaf, .. } = &mut chain;
    let (_, came) = tokio::join!(stream(root, ROOT, 100), frames(leaf, 200));
    junk.abort();
    assert_whole(&came, ROOT, 100);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(chain.up.stats().size.links, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_is_reported_and_costs_nobody_else_a_frame() {
    const DEAF: Node = 9;
    let mut chain = chain().await;
    chain.up.command(Command::Link {
        room: ROOM,
        peer: DEAF,
        token: token(DEAF),
    });
    feed(&chain.up, CAMERA, DEAF);
    let address = chain.endpoint.address().expect("it is bound");
    let hash = chain.endpoint.certificate_sha256();
    // The connection lives, and nobody takes anything from it.
    let deaf = chain.own.dial(address, hash, token(DEAF)).await;
    let Chain { root, leaf, .. } = &mut chain;
    let (_, came) = tokio::join!(stream(root, ROOT, 300), frames(leaf, 600));
    assert_whole(&came, ROOT, 300);
    let lost = Event::Lost {
        room: ROOM,
        peer: DEAF,
        why: grove_relay::Lost::Silent,
    };
    until(&mut chain.up_events, lost).await;
    assert!(deaf.is_ok());
}

#[tokio::test]
async fn a_text_above_the_limit_ends_its_own_link_only() {
    let (up, _events) = relay(LISTENER, &[DIALER, LEAF]);
    let (endpoint, mut ended) = listen(&up);
    let own = local();
    let address = endpoint.address().expect("it is bound");
    let hash = endpoint.certificate_sha256();
    let kept = own.dial(address, hash, token(LEAF)).await;
    let long = own.dial(address, hash, token(DIALER)).await;
    let (mut long, _) = long.expect("expected");
    assert!(long.say(&"x".repeat(20_000)).await);
    assert_eq!(ended.recv().await, Some(Ok(End::TooLarge)));
    let (mut kept, _) = kept.expect("expected");
    assert!(kept.say(r#"{"t":"hb","n":1,"f":0}"#).await);
    kept.close(1000, "over");
    assert_eq!(ended.recv().await, Some(Ok(End::Gone)));
}

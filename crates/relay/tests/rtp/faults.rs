//! A call through the relay over real sockets, and beside it what a network and its strangers may do at full rate: junk, the
//! call's own datagrams again and bent, handshakes and checks of nobody, and receivers that read no more.
//!
//! Relay, browsers and the flood take turns on one thread, and a turn's flood is less than what the kernel holds for the
//! port: so every frame is asked for, whatever else the machine does, but for pictures that the relay says it left out: one
//! that gets too little of the processor does that, as on a narrow link.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use grove_frame::Header;
use grove_relay::{Event, Lost, Node, Outgoing, Size, Stats, Stream};

use crate::udp::{Browser, Call, ROOM, token};

/// Turns of 5 ms for which the flood lasts.
const TURNS: usize = 100;
/// Datagrams of a stranger in each.
const BURST: usize = 150;
/// The same from a browser's own address: each is looked at under the browser's keys.
const OWN_BURST: usize = 40;

/// xorshift64*
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }

    /// One of these datagrams: as it is, cut short, or with a bit turned.
    fn bent(&mut self, of: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = of[self.below(of.len())].clone();
        let at = self.below(bytes.len());
        match self.below(3) {
            0 => {}
            1 => bytes.truncate(at),
            _ => bytes[at] ^= 1 << self.below(8),
        }
        bytes
    }
}

/// Strangers, each at a port of its own.
pub struct Strangers(Vec<UdpSocket>);

impl Strangers {
    pub fn new(count: usize) -> Self {
        let socket = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            socket.set_nonblocking(true).expect("a socket");
            socket
        };
        Self((0..count).map(socket).collect())
    }

    pub fn send(&self, turn: usize, datagram: &[u8], to: SocketAddr) {
        let _ = self.0[turn % self.0.len()].send_to(datagram, to);
    }

    /// What they were answered.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        let mut bytes = [0; 2048];
        for socket in &self.0 {
            while let Ok(length) = socket.recv(&mut bytes) {
                heard.push(bytes[..length].to_vec());
            }
        }
        heard
    }
}

/// Everybody sees everybody, and what was there before has come, which is when the flood may begin.
async fn call(browsers: Node) -> Call {
    let mut call = Call::new(browsers).await;
    for from in 1..=browsers {
        for to in (1..=browsers).filter(|to| *to != from) {
            call.edge(from, to);
        }
    }
    call.run_until(|call| {
        let sees = |at: usize, from| pictures(&frames(&call.browsers[at], from)) >= 20;
        (1..=browsers).all(|from| {
            (0..usize::from(browsers)).all(|at| at + 1 == usize::from(from) || sees(at, from))
        })
    })
    .await;
    call
}

/// (layer, number) of the frames that came to a browser from another, sound as layer 255. Fails on one that is not as it was
/// sealed.
fn received(call: &Call, at: &Browser, from: Node) -> Vec<(u8, u32)> {
    let of = frames(at, from);
    for (id, frame) in &of {
        assert_eq!(call.sealed.get(&(from, id.0, id.1)), Some(frame), "{id:?}");
    }
    of.into_iter().map(|(id, _)| id).collect()
}

pub fn frames(at: &Browser, from: Node) -> Vec<((u8, u32), Vec<u8>)> {
    let header = |frame: &Vec<u8>| Header::decode(frame).expect("a header");
    let of = |frame: Vec<u8>| {
        let header = header(&frame);
        let sound = header.track == 0;
        let layer = if sound { 255 } else { header.spatial };
        (header.sender == from).then_some(((layer, header.number), frame))
    };
    at.frames().into_iter().filter_map(of).collect()
}

fn pictures(of: &[((u8, u32), Vec<u8>)]) -> usize {
    of.iter().filter(|((layer, _), _)| *layer != 255).count()
}

/// The next numbers of everybody's sound (layer 255) and pictures.
pub type Since = BTreeMap<(Node, u8), u32>;

fn next(call: &Call, from: Node, layer: u8) -> u32 {
    let of = (from, layer, 0)..=(from, layer, u32::MAX);
    call.sealed.range(of).last().map_or(0, |(id, _)| id.2 + 1)
}

/// Whatever `from` has sealed since then came, once and in order: all sound, and of the pictures all but so many as are
/// returned. A picture may come in either layer.
pub fn assert_whole(call: &Call, at: &Browser, from: Node, since: &Since) -> u64 {
    let came = received(call, at, from);
    let numbers = |layer: u8| -> Vec<u32> {
        let of = came.iter().filter(|id| id.0 == layer).map(|id| id.1);
        of.filter(|&number| number >= since[&(from, layer)])
            .collect()
    };
    let all = |layer| (since[&(from, layer)]..next(call, from, layer)).collect::<Vec<_>>();
    assert!(all(255).len() > 20 && all(0).len() > 10, "a call goes on");
    assert_eq!(numbers(255), all(255), "sound of {from}");
    let [low, high] = [0, 1].map(numbers);
    for layer in [&low, &high] {
        assert!(layer.is_sorted_by(|a, b| a < b), "{layer:?}");
    }
    let mut either = [low, high].concat();
    either.sort_unstable();
    either.dedup();
    assert_eq!(at.client.twice, 0, "a number has one packet");
    let missing = all(0).len() - either.len();
    assert!(missing < all(0).len(), "no picture of {from}");
    missing as u64
}

/// Cameras go off, and what is on its way comes; then the relay's figures, which are told each second.
pub async fn settle(call: &mut Call) -> Stats {
    call.quiet = true;
    for _ in 0..40 {
        call.step().await;
    }
    let before = call.handle.stats().counters.bytes_received;
    // Heartbeats go on.
    call.run_until(|call| call.handle.stats().counters.bytes_received > before)
        .await;
    call.handle.stats()
}

/// The call has lost nothing, and the relay holds what it held before.
async fn assert_unharmed(call: &mut Call, since: &Since) {
    let stats = settle(call).await;
    let mut missing = 0;
    for (n, browser) in call.browsers.iter().enumerate() {
        for (m, from) in call.browsers.iter().enumerate() {
            if n != m {
                missing += assert_whole(call, browser, from.client.sender, since);
            }
        }
    }
    assert!(
        missing <= stats.counters.frames_dropped,
        "{missing} {stats:?}"
    );
    let lost = |event: &&Event| matches!(event, Event::Lost { .. } | Event::Left { .. });
    assert_eq!(call.heard.iter().find(lost), None);
    let all = call.browsers.len();
    for peer in 1..=all as Node {
        let up = Event::Up { room: ROOM, peer };
        assert_eq!(call.heard.iter().filter(|e| **e == up).count(), 1);
    }
    let counters = stats.counters;
    let none = [
        counters.malformed,
        counters.junk,
        counters.unknown,
        counters.duplicates,
        counters.looped,
        counters.foreign,
        counters.oversized,
        counters.frames_lost,
        counters.stuck,
    ];
    assert_eq!(none, [0; 9], "{counters:?}");
    assert!(counters.frames_received <= call.sealed.len() as u64);
    let size = stats.size;
    let edges = all * (all - 1);
    let expected = Size {
        rooms: 2,
        peers: all,
        links: all,
        streams: all,
        edges,
        ring_bytes: size.ring_bytes,
        ring_frames: size.ring_frames,
        ..Size::default()
    };
    assert_eq!(size, expected);
    assert!(size.ring_bytes <= all * 2 * (4 << 20), "{size:?}");
}

/// For some turns of the call, with this done ahead of each.
pub async fn beside(call: &mut Call, mut flood: impl FnMut(&Call, usize)) -> Since {
    let senders = call.browsers.iter().map(|browser| browser.client.sender);
    let streams = senders.flat_map(|from| [0, 1, 255].map(|layer| (from, layer)));
    let since = streams.map(|(from, layer)| ((from, layer), next(call, from, layer)));
    let since = since.collect();
    for turn in 0..TURNS {
        flood(call, turn);
        call.step().await;
    }
    since
}

#[tokio::test]
async fn junk_from_strangers_at_full_rate_takes_no_frame_from_a_call_and_is_not_answered() {
    let mut call = call(3).await;
    let (strangers, mut random) = (Strangers::new(8), Random(1));
    let since = beside(&mut call, |call, _| {
        for n in 0..BURST {
            let length = 1 + random.below(1_400);
            let mut junk = random.bytes(length);
            // Each kind that shares the port (RFC 7983), and none.
            junk[0] = [0, 1, 22, 23, 64, 128, 129, 191, 255][random.below(9)];
            strangers.send(n, &junk, call.port);
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
    assert_eq!(strangers.heard(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn the_calls_own_datagrams_whole_or_bent_reach_nothing_from_strangers() {
    let mut call = call(2).await;
    let (strangers, mut random) = (Strangers::new(8), Random(2));
    let since = beside(&mut call, |call, _| {
        for n in 0..BURST {
            let sent = &call.browsers[n % 2].sent;
            let copy = random.bent(sent);
            strangers.send(n, &copy, call.port);
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
    // A check without its user name asks for its address, as anybody may.
    let mine = |answer: &Vec<u8>| matches!(answer[..], [1, 1, 0, 12, ..]);
    assert!(strangers.heard().iter().all(mine));
}

#[tokio::test]
async fn the_calls_own_datagrams_again_or_bent_change_nothing_from_the_browsers_own_address() {
    let mut call = call(2).await;
    let mut random = Random(3);
    let since = beside(&mut call, |call, _| {
        for n in 0..OWN_BURST {
            let browser = &call.browsers[n % 2];
            let copy = random.bent(&browser.sent);
            let _ = browser.socket.try_send_to(&copy, call.port);
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
}

/// A record of DTLS that nobody sealed (RFC 6347 section 4.1).
fn record(kind: u8, epoch: u16, number: u64, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 254, 253];
    record.extend(epoch.to_be_bytes());
    record.extend(&number.to_be_bytes()[2..]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test]
async fn forged_alerts_and_handshakes_from_a_browsers_own_address_end_nothing() {
    let mut call = call(2).await;
    let hello = client_hello(&call);
    let mut random = Random(4);
    let since = beside(&mut call, |call, turn| {
        let browser = &call.browsers[turn % 2];
        let number = 1_000 + turn as u64;
        // close_notify, handshake_failure, bad_record_mac, unexpected_message.
        let alerts = [[1, 0], [2, 40], [2, 20], [2, 10]];
        let mut flood: Vec<Vec<u8>> = Vec::new();
        for epoch in 0..3 {
            flood.extend(alerts.map(|alert| record(21, epoch, number, &alert)));
            flood.push(record(20, epoch, number, &[1]));
            flood.push(record(22, epoch, number, &random.bytes(60)));
            flood.push(record(23, epoch, number, &random.bytes(60)));
        }
        flood.push(fresh(&hello, &mut random));
        for datagram in flood {
            let _ = browser.socket.try_send_to(&datagram, call.port);
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
}

/// How the first browser's handshake began.
pub fn client_hello(call: &Call) -> Vec<u8> {
    let is_hello =
        |datagram: &&Vec<u8>| matches!(datagram[..], [22, 254, _, 0, 0, ..]) && datagram[13] == 1;
    let hello = call.browsers[0].sent.iter().find(is_hello);
    hello
        .expect("the browser is the handshake's client")
        .clone()
}

/// The same with another random number.
fn fresh(hello: &[u8], random: &mut Random) -> Vec<u8> {
    let mut hello = hello.to_vec();
    // Heads of record and message, the version.
    hello[13 + 12 + 2..][..32].copy_from_slice(&random.bytes(32));
    hello
}

#[tokio::test]
async fn handshakes_begun_from_hundreds_of_unverified_ports_are_not_answered() {
    let mut call = call(3).await;
    let hello = client_hello(&call);
    let (strangers, mut random) = (Strangers::new(400), Random(5));
    let since = beside(&mut call, |call, turn| {
        for n in 0..BURST {
            let hello = fresh(&hello, &mut random);
            strangers.send(turn * BURST + n, &hello, call.port);
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
    assert_eq!(strangers.heard(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn a_browser_that_joins_beside_a_flood_gets_every_frame_from_then_on() {
    let mut call = call(2).await;
    let hello = client_hello(&call);
    let check = check(&call);
    let (strangers, mut random) = (Strangers::new(100), Random(8));
    let mut flood = |call: &Call, turn: usize| {
        for n in 0..BURST / 3 {
            let length = 1 + random.below(1_400);
            let junk = random.bytes(length);
            for datagram in [
                &fresh(&hello, &mut random),
                &forged(&check, &mut random),
                &junk,
            ] {
                strangers.send(turn * BURST + n, datagram, call.port);
            }
        }
    };
    call.link(3);
    let (browser, answer) = call.offer(3).await;
    call.answered(browser, &answer);
    let up = Event::Up {
        room: ROOM,
        peer: 3,
    };
    let mut turns = 0;
    while !call.heard.contains(&up) || !call.browsers[2].client.open {
        turns += 1;
        assert!(turns < 2_000, "no link came of it");
        flood(&call, turns);
        call.step().await;
    }
    for other in [1, 2] {
        call.edge(3, other);
        call.edge(other, 3);
    }
    let sees = |call: &Call, at: usize, from| pictures(&frames(&call.browsers[at], from)) >= 10;
    while !(sees(&call, 2, 1) && sees(&call, 2, 2) && sees(&call, 0, 3) && sees(&call, 1, 3)) {
        turns += 1;
        assert!(turns < 2_000, "nothing came");
        flood(&call, turns);
        call.step().await;
    }
    let since = beside(&mut call, flood).await;
    assert_unharmed(&mut call, &since).await;
}

pub fn check(call: &Call) -> Vec<u8> {
    let is_check = |datagram: &&Vec<u8>| matches!(datagram[..], [0, 1, ..]);
    let check = call.browsers[0].sent.iter().find(is_check);
    check.expect("a check").clone()
}

/// With another transaction, to which the signature does not fit.
pub fn forged(check: &[u8], random: &mut Random) -> Vec<u8> {
    let mut forged = check.to_vec();
    forged[8..20].copy_from_slice(&random.bytes(12));
    forged
}

#[tokio::test]
async fn checks_that_are_signed_wrongly_are_not_answered_and_verify_no_address() {
    let mut call = call(2).await;
    let (check, hello) = (check(&call), client_hello(&call));
    let (strangers, mut random) = (Strangers::new(100), Random(6));
    let since = beside(&mut call, |call, turn| {
        for n in 0..BURST / 2 {
            // What would follow, were the check to count.
            for datagram in [&forged(&check, &mut random), &hello] {
                strangers.send(turn * BURST / 2 + n, datagram, call.port);
            }
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
    assert_eq!(strangers.heard(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn a_flood_of_plain_stun_requests_gets_a_few_answers_and_takes_no_frame_from_a_call() {
    let mut call = call(2).await;
    let (strangers, mut random) = (Strangers::new(100), Random(7));
    let began = std::time::Instant::now();
    let since = beside(&mut call, |call, turn| {
        for n in 0..BURST {
            let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
            request.extend(random.bytes(12));
            strangers.send(turn * BURST + n, &request, call.port);
        }
    })
    .await;
    assert_unharmed(&mut call, &since).await;
    // Five to a network in each second that was begun with.
    let most = 5 * (began.elapsed().as_secs() as usize + 2);
    let answers = strangers.heard();
    assert!((1..=most).contains(&answers.len()), "{}", answers.len());
    assert!(answers.iter().all(|answer| answer.len() == 32));
}

#[tokio::test]
async fn a_browser_that_reads_no_more_is_lost_once_and_the_others_get_every_frame() {
    let mut call = call(3).await;
    // Its socket stays open, and fills.
    let stuck = call.browsers.pop().expect("three");
    let lost = Event::Lost {
        room: ROOM,
        peer: 3,
        why: Lost::Silent,
    };
    call.run_until(|call| call.heard.contains(&lost)).await;
    let since = beside(&mut call, |_, _| {}).await;
    let stats = settle(&mut call).await;
    let missing = assert_whole(&call, &call.browsers[0], 2, &since)
        + assert_whole(&call, &call.browsers[1], 1, &since);
    assert!(
        missing <= stats.counters.frames_dropped,
        "{missing} {stats:?}"
    );
    let losses = |event: &&Event| matches!(event, Event::Lost { .. });
    assert_eq!(
        call.heard.iter().filter(losses).collect::<Vec<_>>(),
        [&lost]
    );
    assert!(stats.size.queued_bytes <= 2 * (512 << 10), "{stats:?}");
    drop(stuck);
}

#[tokio::test]
async fn a_socket_that_reads_no_more_holds_one_picture_and_what_may_wait_and_the_others_get_every_frame()
 {
    let mut call = call(2).await;
    call.link(3);
    let mut stuck = call.handle.attach(token(3)).await.expect("ordered");
    call.edge(1, 3);
    call.edge(2, 3);
    // It reads until pictures of both have come, and then never again.
    let mut seen = BTreeMap::new();
    while seen.len() < 2 {
        call.step().await;
        while let Ok(Some(out)) =
            tokio::time::timeout(std::time::Duration::ZERO, stuck.outgoing.recv()).await
        {
            if let Outgoing::Frame(frame) = out {
                let header = Header::decode(&frame).expect("a header");
                if header.track == 1 {
                    seen.insert(Stream::new(header.sender, 0), header.number);
                }
            }
        }
    }
    let since = beside(&mut call, |_, _| {}).await;
    let stats = settle(&mut call).await;
    let missing = assert_whole(&call, &call.browsers[0], 2, &since)
        + assert_whole(&call, &call.browsers[1], 1, &since);
    assert!(
        missing <= stats.counters.frames_dropped,
        "{missing} {stats:?}"
    );
    // 512 kB and half a second of each stream.
    assert!(stats.size.queued_bytes <= 2 * (512 << 10), "{stats:?}");
    assert_eq!(stats.counters.stuck, 0, "10 s are not over");
}

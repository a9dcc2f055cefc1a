//! Links by RTP through the driver, over real sockets: two browsers played by str0m, and peers that speak in frames.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grove_frame::{BaseKey, FrameKeys, Header, Kind};
use grove_relay::{
    Attached, Command, Event, Handle, Incoming, Layers, Lost, Node, Outgoing, Room, Settings,
    Stream, Token, Udp, spawn,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::client::{Client, Sealed};

pub const ROOM: u64 = 1;
const BOTH: Layers = Layers(0b11);

/// The room that a peer is in. Peers from 200 on are in the second.
pub fn room(peer: Node) -> Room {
    ROOM + Room::from(peer / 200)
}

pub fn token(peer: Node) -> Token {
    Token([peer as u8; 16])
}

pub struct Browser {
    pub client: Client,
    pub socket: UdpSocket,
    pub local: SocketAddr,
    pub beats: u32,
    /// Its datagrams, all of them.
    pub sent: Vec<Vec<u8>>,
    /// Of the media that comes one datagram in so many is lost; 0: none.
    pub loses: usize,
    came: usize,
}

/// A browser that waits for its answer.
pub type Pending = (Browser, str0m::change::SdpPendingOffer);

pub struct Call {
    pub handle: Handle,
    pub events: UnboundedReceiver<Event>,
    pub port: SocketAddr,
    pub browsers: Vec<Browser>,
    pub sealed: Sealed,
    pub heard: Vec<Event>,
    pub ticks: u64,
    /// Cameras and microphones are off.
    pub quiet: bool,
}

impl Call {
    /// A relay, and browsers 1, 2, ... that are linked to it by RTP.
    pub async fn new(browsers: Node) -> Self {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let udp = Udp::bind(&[localhost], 0, 1).expect("a free port");
        let port = udp.candidates()[0];
        let relay = spawn(Settings::default(), Some(Arc::new(udp)));
        let mut call = Self::of(relay, port);
        for peer in 1..=browsers {
            call.join(peer).await;
        }
        call.run_until(|call| (1..=browsers).all(|peer| call.is_up(peer)))
            .await;
        call
    }

    /// A relay that is in both rooms and has no peers.
    pub fn of((handle, events): (Handle, UnboundedReceiver<Event>), port: SocketAddr) -> Self {
        let call = Self {
            handle,
            events,
            port,
            browsers: Vec::new(),
            sealed: Sealed::new(),
            heard: Vec::new(),
            ticks: 0,
            quiet: false,
        };
        for room in [ROOM, ROOM + 1] {
            call.order(Command::Enter { room, node: 65_535 });
        }
        call
    }

    /// A browser that is linked as time goes on.
    pub async fn join(&mut self, peer: Node) {
        self.link(peer);
        let (browser, answer) = self.offer(peer).await;
        self.answered(browser, &answer);
    }

    /// Have both sides of this peer's link opened it?
    pub fn is_up(&self, peer: Node) -> bool {
        let room = room(peer);
        let browser = self.browsers.iter().rfind(|b| b.client.sender == peer);
        let up = Event::Up { room, peer };
        self.heard.contains(&up) && browser.is_some_and(|browser| browser.client.open)
    }

    /// A browser that offers, and what it is answered.
    pub async fn offer(&mut self, peer: Node) -> (Pending, String) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a socket");
        let local = socket.local_addr().expect("an address");
        let mut client = Client::new(local, peer, Instant::now());
        let (sdp, pending) = client.offer(true, 4);
        let room = room(peer);
        self.order(Command::Offer { room, peer, sdp });
        let answer = loop {
            match self.events.recv().await.expect("a relay") {
                Event::Answer { peer: to, sdp, .. } if to == peer => break sdp,
                other => self.heard.push(other),
            }
        };
        let browser = Browser {
            client,
            socket,
            local,
            beats: 0,
            sent: Vec::new(),
            loses: 0,
            came: 0,
        };
        ((browser, pending), answer)
    }

    /// The answer comes to the browser, which connects as time goes on.
    pub fn answered(&mut self, (mut browser, pending): Pending, answer: &str) {
        let (answer, name) = answer.split_once("a=grove-offer:").expect("a name");
        assert!(!name.trim_end().is_empty());
        browser.client.answer(pending, answer);
        self.browsers.push(browser);
    }

    pub fn order(&self, command: Command) {
        self.handle.command(command);
    }

    pub fn link(&self, peer: Node) {
        self.order(Command::Link {
            room: room(peer),
            peer,
            token: token(peer),
        });
    }

    /// The stream of `from` goes to `to`.
    pub fn edge(&self, from: Node, to: Node) {
        let stream = Stream::new(from, 0);
        self.order(Command::Parent {
            room: room(from),
            stream,
            parent: from,
            layers: BOTH,
        });
        self.order(Command::Feed {
            room: room(from),
            stream,
            child: to,
            layers: BOTH,
            rate_bps: 4_000_000,
        });
    }

    pub async fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let latest = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            let in_time = Instant::now() < latest;
            let shards: Vec<_> = self.handle.shards().collect();
            assert!(in_time, "nothing came of it in 30 s: {shards:?}");
            self.step().await;
        }
    }

    pub async fn step(&mut self) {
        self.ticks += 1;
        let beat = self.ticks.is_multiple_of(10);
        for browser in &mut self.browsers {
            if beat {
                browser.beat();
            }
            let now = Instant::now();
            if !self.quiet && self.ticks.is_multiple_of(4) {
                browser.client.send_sound(now, &mut self.sealed);
            }
            if !self.quiet && self.ticks.is_multiple_of(7) {
                browser.client.send_picture(2, now, &mut self.sealed);
            }
            browser.poll();
        }
        while let Ok(event) = self.events.try_recv() {
            self.heard.push(event);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Browser {
    fn beat(&mut self) {
        if self.client.open && self.client.rtc.is_alive() {
            self.beats += 1;
            let beat = format!(r#"{{"t":"hb","n":{},"f":0}}"#, self.beats);
            self.client.say(&beat);
        }
    }

    fn poll(&mut self) {
        let rtc_now = Instant::now();
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = self.socket.try_recv_from(&mut bytes) {
            let media = bytes[0] >> 6 == 2;
            self.came += usize::from(media);
            if media && self.loses > 0 && self.came.is_multiple_of(self.loses) {
                continue;
            }
            let receive = str0m::net::Receive::new(
                str0m::net::Protocol::Udp,
                from,
                self.local,
                &bytes[..length],
            );
            // An answer to a plain STUN request is for whoever made the request.
            let Ok(receive) = receive else {
                continue;
            };
            let input = str0m::Input::Receive(rtc_now, receive);
            self.client.rtc.handle_input(input).expect("well-formed");
            self.drain();
        }
        let input = str0m::Input::Timeout(rtc_now);
        self.client.rtc.handle_input(input).expect("alive");
        self.drain();
    }

    pub fn drain(&mut self) {
        loop {
            match self.client.rtc.poll_output() {
                Ok(str0m::Output::Transmit(t)) => {
                    let _ = self.socket.try_send_to(&t.contents, t.destination);
                    self.sent.push(t.contents.to_vec());
                }
                Ok(str0m::Output::Event(event)) => self.client.note(event),
                Ok(str0m::Output::Timeout(_)) | Err(_) => return,
            }
        }
    }

    /// The sealed frames that came to the slots, in the order of their numbers. Half of one is none.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut making: Option<(u64, Vec<u8>)> = None;
        for ((_, seq), got) in &self.client.got {
            if Header::decode(&got.payload).is_some_and(|h| h.track == 0) {
                frames.push(got.payload.to_vec());
                continue;
            }
            let Some((descriptor, rest)) = got.payload.split_first() else {
                continue;
            };
            making = match making.take() {
                _ if *descriptor == 0x10 => Some((*seq, rest.to_vec())),
                Some((last, mut frame)) if last + 1 == *seq => {
                    frame.extend(rest);
                    Some((*seq, frame))
                }
                _ => None,
            };
            if got.marker
                && let Some((_, frame)) = making.take()
            {
                frames.push(frame);
            }
        }
        frames
    }
}

/// Of these frames, how many are sound and how many pictures of the higher layer. Fails on one that its sender did not seal.
pub fn count(frames: &[Vec<u8>], from: Node, sealed: &Sealed) -> (usize, usize) {
    let mut counts = (0, 0);
    for frame in frames {
        let header = Header::decode(frame).expect("a header");
        if header.sender != from {
            continue;
        }
        let layer = if header.track == 0 {
            255
        } else {
            header.spatial
        };
        assert_eq!(Some(frame), sealed.get(&(from, layer, header.number)));
        counts.0 += usize::from(layer == 255);
        counts.1 += usize::from(layer == 1);
    }
    counts
}

/// A sealed picture of the higher layer: a key frame, or one that needs the one before.
fn picture(sender: Node, number: u32) -> Vec<u8> {
    let kind = if number.is_multiple_of(30) {
        Kind::Key {
            width: 640,
            height: 360,
        }
    } else {
        Kind::Delta {
            farthest: 1,
            nearest: 1,
        }
    };
    let header = Header {
        kind,
        spatial: 1,
        temporal: 0,
        number,
        capture_us: u64::from(number) * 33_000,
        sender,
        stream: 0,
        track: 1,
        generation: 1,
        droppable: false,
        rotation: 0,
    };
    let keys = FrameKeys::derive(&BaseKey::from_bytes([7; 16]), sender, 1);
    let payload = vec![number as u8; 5_000];
    keys.seal(&header, &payload).expect("a valid header")
}

async fn frames_of(attached: &mut Attached, into: &mut Vec<Vec<u8>>) {
    let soon = Duration::from_millis(1);
    while let Ok(Some(out)) = tokio::time::timeout(soon, attached.outgoing.recv()).await {
        if let Outgoing::Frame(frame) = out {
            into.push(frame.to_vec());
        }
    }
}

#[tokio::test]
async fn two_browsers_see_and_hear_each_other() {
    let mut call = Call::new(2).await;
    call.edge(1, 2);
    call.edge(2, 1);
    let enough = |call: &Call, at: usize, from: Node| {
        let (sounds, pictures) = count(&call.browsers[at].frames(), from, &call.sealed);
        sounds >= 50 && pictures >= 30
    };
    call.run_until(|call| enough(call, 0, 2) && enough(call, 1, 1))
        .await;
    for (peer, stream) in [(1, Stream::new(1, 0)), (2, Stream::new(2, 0))] {
        let ready = Event::Ready {
            room: ROOM,
            stream,
            parent: peer,
        };
        assert_eq!(
            call.heard.iter().filter(|&event| *event == ready).count(),
            1
        );
    }
    let counters = call.handle.stats().counters;
    assert_eq!(
        (counters.malformed, counters.junk, counters.stuck),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn frames_pass_between_a_link_by_rtp_and_one_in_frames_unchanged() {
    let mut call = Call::new(1).await;
    call.link(2);
    let mut other = call.handle.attach(token(2)).await.expect("ordered");
    call.edge(1, 2);
    call.edge(2, 1);
    let mut came = Vec::new();
    let latest = Instant::now() + Duration::from_secs(30);
    let (mut number, mut there, mut back) = (0, (0, 0), (0, 0));
    while there.0 < 50 || there.1 < 30 || back.1 < 30 {
        assert!(Instant::now() < latest, "{there:?} {back:?}");
        call.step().await;
        if call.ticks.is_multiple_of(7) {
            let sealed = picture(2, number);
            call.sealed.insert((2, 1, number), sealed.clone());
            number += 1;
            let frame = Incoming::Frame(Bytes::from(sealed));
            other.incoming.send(frame).await.expect("open");
        }
        frames_of(&mut other, &mut came).await;
        there = count(&came, 1, &call.sealed);
        back = count(&call.browsers[0].frames(), 2, &call.sealed);
    }
}

#[tokio::test]
async fn junk_from_strangers_costs_a_call_nothing() {
    let mut call = Call::new(2).await;
    call.edge(1, 2);
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a socket");
    let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    request.extend([7; 12]);
    let mut answers = 0;
    let mut buffer = [0; 64];
    for n in 0..200_u32 {
        let mut junk = vec![[0x80, 22, 0, 0xff][n as usize % 4]; 1 + n as usize * 7 % 1400];
        junk.extend(n.to_be_bytes());
        for datagram in [&junk, &request] {
            let _ = stranger.try_send_to(datagram, call.port);
        }
        call.step().await;
        while stranger.try_recv_from(&mut buffer).is_ok() {
            answers += 1;
        }
    }
    call.run_until(|call| count(&call.browsers[1].frames(), 1, &call.sealed).1 >= 30)
        .await;
    assert!((1..=60).contains(&answers), "{answers}");
    assert_eq!(call.handle.stats().size.links, 2);
    assert!(!call.heard.iter().any(|e| matches!(e, Event::Lost { .. })));
}

#[tokio::test]
async fn a_browser_that_closes_its_connection_is_lost_and_the_other_goes_on() {
    let mut call = Call::new(2).await;
    call.edge(1, 2);
    call.browsers[0].client.rtc.close().expect("alive");
    call.browsers[0].drain();
    let lost = Event::Lost {
        room: ROOM,
        peer: 1,
        why: Lost::Silent,
    };
    call.browsers.remove(0);
    call.run_until(|call| call.heard.contains(&lost)).await;
    let others = |event: &&Event| matches!(event, Event::Lost { peer: 2, .. });
    assert_eq!(call.heard.iter().filter(others).count(), 0);
}

#[tokio::test]
async fn an_offer_of_nobody_expected_gets_an_empty_answer_and_no_link() {
    let mut call = Call::new(1).await;
    let mut client = Client::new(call.port, 9, Instant::now());
    let (sdp, _) = client.offer(true, 1);
    for (peer, sdp) in [(9, sdp), (1, "v=0".to_owned())] {
        call.order(Command::Offer {
            room: ROOM,
            peer,
            sdp,
        });
        let empty = Event::Answer {
            room: ROOM,
            peer,
            sdp: String::new(),
        };
        call.run_until(|call| call.heard.contains(&empty)).await;
    }
}

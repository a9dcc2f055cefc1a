//! Browsers around one relay: the parts of `grove_relay::rtp` put together as the relay's core does, over [`Net`], in
//! virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use grove_frame::{Header, Kind};
use grove_relay::rtp::{
    Config, Demux, Outgoing, Output, PacketRing, Route, Session, SessionEvent, Slot, Source,
    TrackId, Way,
};

use crate::client::{Client, FRAME, Got, Sealed};
use crate::net::{Net, Path};

const RELAY: ([u8; 4], u16) = ([10, 0, 0, 1], 3478);
const MERGE: Duration = Duration::from_millis(250);

/// A browser's slot, at the relay.
pub struct Fed {
    pub client: usize,
    track: TrackId,
    pub audio: bool,
    pub slot: Slot,
}

#[derive(Default)]
pub struct Counts {
    pub unrouted: usize,
    pub key_requests: usize,
    pub keys_wanted: usize,
    pub bandwidth: Vec<u64>,
    pub control: Vec<(usize, String)>,
    pub stray_layers: usize,
}

pub struct World {
    pub now: Instant,
    start: Instant,
    pub clients: Vec<Client>,
    sessions: Vec<Session>,
    timeouts: Vec<Option<Instant>>,
    demux: Demux<usize>,
    pub net: Net,
    rings: BTreeMap<Source, PacketRing>,
    /// The RTP stream of a client's layer (2: its sound).
    sources: BTreeMap<(usize, u8), (Source, TrackId)>,
    pub fed: Vec<Fed>,
    /// The numbers written to each slot.
    sent: BTreeMap<usize, BTreeSet<u64>>,
    pub sealed: Sealed,
    asked: BTreeMap<usize, Instant>,
    pub counts: Counts,
    ticks: u64,
    /// Layers that each client sends at present.
    pub sending: Vec<usize>,
    pub sound: bool,
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2 + n as u8], 1000))
}

impl World {
    /// Connected clients: (does it send, how many pairs of slots).
    pub fn new(path: Path, seed: u64, clients: &[(bool, usize)]) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            clients: Vec::new(),
            sessions: Vec::new(),
            timeouts: Vec::new(),
            demux: Demux::default(),
            net: Net::new(path, seed),
            rings: BTreeMap::new(),
            sources: BTreeMap::new(),
            fed: Vec::new(),
            sent: BTreeMap::new(),
            sealed: Sealed::new(),
            asked: BTreeMap::new(),
            counts: Counts::default(),
            ticks: 0,
            sending: Vec::new(),
            sound: false,
        };
        for &(sends, slots) in clients {
            world.join(sends, slots);
        }
        world.run_until(|world| world.clients.iter().all(|client| client.connected));
        world
    }

    /// A further client. It connects as time goes on.
    pub fn join(&mut self, sends: bool, slots: usize) -> usize {
        let n = self.clients.len();
        let mut client = Client::new(address(n), 100 + n as u16, self.now);
        let (offer, pending) = client.offer(sends, slots);
        let config = Config {
            candidates: vec![RELAY.into()],
            start_bps: 4_000_000,
        };
        let micros = self.now.duration_since(self.start).as_micros() as u64;
        let mut session = Session::new(&config, self.now, micros);
        let answer = session.accept(&offer).expect("an answer");
        client.answer(pending, &answer);
        self.demux.add(n, &session.ufrag());
        session.set_demand(0, 10_000_000);
        self.clients.push(client);
        self.sessions.push(session);
        self.timeouts.push(Some(self.now));
        self.sending.push(if sends { 2 } else { 0 });
        self.poll_session(n);
        self.poll_client(n);
        n
    }

    /// A further offer of a client: more slots.
    pub fn add_slots(&mut self, n: usize, slots: usize) {
        let (offer, pending) = self.clients[n].offer(false, slots);
        let answer = self.sessions[n].accept(&offer).expect("an answer");
        self.clients[n].answer(pending, &answer);
        self.poll_session(n);
        self.poll_client(n);
    }

    pub fn source(&self, client: usize, layer: u8) -> Source {
        self.sources[&(client, layer)].0
    }

    pub fn tell(&mut self, n: usize, text: &str) {
        assert!(self.sessions[n].send_control(text));
        self.poll_session(n);
    }

    pub fn close(&mut self, n: usize) {
        self.sessions[n].close();
        self.poll_session(n);
    }

    /// Shows a client's layer in a slot: from the ring if it can, else from the next key frame on.
    pub fn show(&mut self, fed: usize, client: usize, layer: u8, replay: bool) {
        let source = self.source(client, layer);
        self.fed[fed].slot.want(Some(source));
        let mut out = Vec::new();
        if replay {
            self.fed[fed].slot.replay(&self.rings[&source], &mut out);
            self.send(fed, out);
        }
        self.ask_keys();
    }

    /// As [`World::run`], but nothing is lost: a receiver that misses the very first packet of a slot does not know of it,
    /// and no NACK brings it.
    pub fn run_calm(&mut self, ms: u64) {
        let path = self.net.path;
        self.net.path.loss = 0;
        self.run(ms);
        self.net.path = path;
    }

    pub fn run(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        self.run_until(|world| world.now >= end);
    }

    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let latest = self.now + Duration::from_secs(60);
        while !done(self) {
            assert!(self.now < latest, "nothing came of it in a minute");
            self.step();
        }
    }

    fn step(&mut self) {
        let tick = self.start + FRAME * 3 / 5 * self.ticks as u32;
        let clients = self.clients.iter().map(|client| client.timeout);
        let sessions = self.timeouts.iter().flatten().copied();
        let next = clients.chain(sessions).chain(self.net.next()).min();
        self.now = next.unwrap_or(tick).min(tick).max(self.now);
        if tick <= self.now {
            // Five ticks of 20 ms are three of 33 ms.
            self.ticks += 1;
            for n in 0..self.clients.len() {
                if self.sound {
                    self.clients[n].send_sound(self.now, &mut self.sealed);
                }
                if matches!(self.ticks % 5, 0 | 2 | 4) && self.sending[n] > 0 {
                    let layers = self.sending[n];
                    self.clients[n].send_picture(layers, self.now, &mut self.sealed);
                }
                self.tick_client(n);
            }
            self.ask_keys();
        }
        while let Some(datagram) = self.net.due(self.now) {
            if datagram.to == RELAY.into() {
                match self.demux.route(datagram.from, &datagram.bytes) {
                    Route::Session(n) => {
                        let session = &mut self.sessions[n];
                        let (from, to) = (datagram.from, datagram.to);
                        if session.handle_datagram(from, to, &datagram.bytes, self.now) {
                            self.demux.verified(n, from);
                        }
                        self.poll_session(n);
                    }
                    Route::Answer(_) | Route::Drop => self.counts.unrouted += 1,
                }
            } else if let Some(n) = (0..self.clients.len()).find(|&n| address(n) == datagram.to) {
                let receive = str0m::net::Receive::new(
                    str0m::net::Protocol::Udp,
                    datagram.from,
                    datagram.to,
                    &datagram.bytes,
                );
                let input = str0m::Input::Receive(self.now, receive.expect("a datagram"));
                self.clients[n]
                    .rtc
                    .handle_input(input)
                    .expect("well-formed");
                self.poll_client(n);
            }
        }
        for n in 0..self.clients.len() {
            if self.clients[n].timeout <= self.now {
                self.tick_client(n);
            }
            if self.timeouts[n].is_some_and(|at| at <= self.now) {
                self.sessions[n].handle_timeout(self.now);
                self.poll_session(n);
            }
        }
    }

    fn tick_client(&mut self, n: usize) {
        let input = str0m::Input::Timeout(self.now);
        self.clients[n].rtc.handle_input(input).expect("alive");
        self.poll_client(n);
    }

    fn poll_client(&mut self, n: usize) {
        let client = &mut self.clients[n];
        loop {
            match client.rtc.poll_output().expect("alive") {
                str0m::Output::Timeout(at) => break client.timeout = at,
                str0m::Output::Transmit(t) => {
                    self.net
                        .send(t.source, t.destination, t.contents.to_vec(), self.now);
                }
                str0m::Output::Event(event) => client.note(event),
            }
        }
    }

    fn poll_session(&mut self, n: usize) {
        loop {
            match self.sessions[n].poll_output() {
                Output::Timeout(at) => break self.timeouts[n] = at,
                Output::Transmit {
                    source,
                    destination,
                    datagram,
                } => self.net.send(source, destination, datagram, self.now),
                Output::Event(event) => self.note(n, event),
            }
        }
    }

    fn note(&mut self, n: usize, event: SessionEvent) {
        match event {
            SessionEvent::Track {
                track,
                audio,
                way: Way::Down,
            } => {
                let slot = if audio {
                    Slot::audio(65_500, 1_000_000)
                } else {
                    Slot::video(65_000, 4_294_900_000)
                };
                self.fed.push(Fed {
                    client: n,
                    track,
                    audio,
                    slot,
                });
            }
            SessionEvent::Track {
                way: Way::Up { layers },
                audio,
                ..
            } => assert_eq!(layers, if audio { 1 } else { 2 }),
            SessionEvent::Packet {
                track,
                layer,
                ssrc,
                packet,
            } => {
                let source = Source((n as u64) << 32 | u64::from(ssrc));
                let audio = packet
                    .header
                    .is_some_and(|h| matches!(h.kind, Kind::Audio { .. }));
                if packet.header.is_some_and(|h| h.spatial != layer) {
                    self.counts.stray_layers += 1;
                }
                let layer = if audio { 2 } else { layer };
                self.sources.insert((n, layer), (source, track));
                let ring = self.rings.entry(source).or_default();
                if !audio {
                    ring.add(&packet);
                }
                let mut sends = Vec::new();
                for (at, fed) in self.fed.iter_mut().enumerate() {
                    if fed.audio == audio {
                        let mut out = Vec::new();
                        fed.slot.handle(source, &packet, ring, &mut out);
                        sends.push((at, out));
                    }
                }
                for (fed, out) in sends {
                    self.send(fed, out);
                }
            }
            SessionEvent::KeyWanted(track) => {
                self.counts.keys_wanted += 1;
                let fed = self.fed.iter().find(|f| f.client == n && f.track == track);
                let source = fed.expect("a slot").slot.source();
                self.ask_key(source);
            }
            SessionEvent::Bandwidth(bps) => self.counts.bandwidth.push(bps),
            SessionEvent::Control(text) => self.counts.control.push((n, text)),
            SessionEvent::Connected | SessionEvent::ControlOpen => {}
            SessionEvent::Closed => self.demux.remove(n),
        }
    }

    fn send(&mut self, fed: usize, out: Vec<Outgoing>) {
        if out.is_empty() {
            return;
        }
        let (n, track) = (self.fed[fed].client, self.fed[fed].track);
        let numbers = out.iter().map(|packet| packet.seq);
        self.sent.entry(fed).or_default().extend(numbers);
        self.sessions[n].send(track, out, self.now);
        // What it makes of that is polled at once, unless this is in the middle of polling it.
        self.timeouts[n] = Some(self.now);
    }

    fn ask_keys(&mut self) {
        for at in 0..self.fed.len() {
            self.ask_key(self.fed[at].slot.waiting().filter(|_| !self.fed[at].audio));
        }
    }

    fn ask_key(&mut self, source: Option<Source>) {
        let found = self
            .sources
            .iter()
            .find(|(_, known)| Some(known.0) == source);
        let Some((&(n, layer), &(_, track))) = found else {
            return;
        };
        if self.asked.get(&n).is_some_and(|&at| self.now < at + MERGE) {
            return;
        }
        assert!(self.sessions[n].request_key(track, layer));
        self.asked.insert(n, self.now);
        self.counts.key_requests += 1;
        self.timeouts[n] = Some(self.now);
    }

    /// What a receiver that goes by sequence numbers alone makes of a slot's packets. Fails on a frame that differs from the
    /// sealed one, lacks a reference, or comes out of order.
    pub fn shown(&self, fed: usize) -> Shown {
        let client = &self.clients[self.fed[fed].client];
        let of_client = self
            .fed
            .iter()
            .take(fed)
            .filter(|f| f.client == self.fed[fed].client);
        let mid = client.slots[of_client.count()];
        let got: Vec<(u64, &Got)> = client
            .got
            .range((mid, 0)..=(mid, u64::MAX))
            .map(|((_, seq), got)| (*seq, got))
            .collect();
        let mut shown = Shown::default();
        let mut frame: Option<(u64, Vec<u8>)> = None;
        let mut whole: BTreeMap<(u16, u8), Vec<u32>> = BTreeMap::new();
        let mut last = None;
        for (at, (seq, packet)) in got.iter().enumerate() {
            if at > 0 {
                let missing = got[at - 1].0 + 1..*seq;
                if !missing.is_empty() {
                    shown.holes += seq - missing.start;
                    let sent = &self.sent[&fed];
                    shown.unsent += missing.filter(|seq| !sent.contains(seq)).count();
                    frame = None;
                }
            }
            let Some((&descriptor, body)) = packet.payload.split_first() else {
                shown.empty += 1;
                assert!(frame.is_none(), "an empty packet in the middle of a frame");
                continue;
            };
            if descriptor == 0x10 {
                // A switch did not wait for the end of a frame that was lost.
                shown.torn += usize::from(frame.is_some());
                frame = Some((packet.time, Vec::new()));
            }
            let Some((time, bytes)) = frame.as_mut() else {
                assert!(shown.holes > 0, "a frame's first packet comes first");
                continue;
            };
            assert_eq!(*time, packet.time, "a frame has one time");
            bytes.extend(body);
            if !packet.marker {
                continue;
            }
            let (time, bytes) = frame.take().expect("just seen");
            assert!(last < Some(time), "time goes on");
            last = Some(time);
            let header = Header::decode(&bytes).expect("a header");
            let id = (header.sender, header.spatial, header.number);
            assert_eq!(self.sealed.get(&id), Some(&bytes), "{id:?} has changed");
            let lane = whole.entry((header.sender, header.spatial)).or_default();
            match header.kind {
                Kind::Key { .. } => lane.clear(),
                Kind::Delta { farthest, nearest } => {
                    for distance in [farthest, nearest] {
                        let number = header.number - u32::from(distance);
                        let there = lane.contains(&number) || shown.holes > 0;
                        assert!(there, "{id:?} lacks {number}");
                    }
                }
                _ => panic!("no picture"),
            }
            lane.push(header.number);
            shown.frames.push(header);
            shown.times.push(time);
        }
        shown.packets = got.len();
        shown
    }
}

/// What came of a slot.
#[derive(Debug, Default)]
pub struct Shown {
    pub frames: Vec<Header>,
    /// RTP times of the frames, extended.
    pub times: Vec<u64>,
    pub packets: usize,
    /// Packets that only kept a number.
    pub empty: usize,
    /// Frames whose end is missing.
    pub torn: usize,
    /// Numbers that never came.
    pub holes: u64,
    /// Numbers that the relay never wrote.
    pub unsent: usize,
}

impl Shown {
    /// The layers in the order in which they were shown, each run with its number of frames.
    pub fn runs(&self) -> Vec<((u16, u8), usize)> {
        let mut runs: Vec<((u16, u8), usize)> = Vec::new();
        for frame in &self.frames {
            let id = (frame.sender, frame.spatial);
            match runs.last_mut() {
                Some((last, count)) if *last == id => *count += 1,
                _ => runs.push((id, 1)),
            }
        }
        runs
    }

    pub fn count(&self, temporal: u8) -> usize {
        self.frames
            .iter()
            .filter(|f| f.temporal == temporal)
            .count()
    }
}

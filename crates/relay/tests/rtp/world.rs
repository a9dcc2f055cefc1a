//! Browsers around one relay: links by RTP over [`Net`], in virtual time. Instead of the core a small switch says whose
//! frames go to whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::rtp::{Config, Demux, LinkEvent, Offer, Pool, Route, RtpLink, To, Todo};

use crate::client::{Client, FRAME, Got, Sealed};
use crate::net::{Datagram, Net, Path};

pub const RELAY: ([u8; 4], u16) = ([10, 0, 0, 1], 3478);

#[derive(Default)]
pub struct Counts {
    pub unrouted: usize,
    /// Bytes to addresses where nobody is.
    pub elsewhere: BTreeMap<SocketAddr, usize>,
    pub bandwidth: Vec<u64>,
    pub control: Vec<(usize, String)>,
    pub open: usize,
    /// Whose links said that something authentic came.
    pub heard: Vec<usize>,
    /// Batches of more than one datagram.
    pub batches: usize,
    /// RTCP of the relay's, by the client that it went to.
    pub reports: Vec<(usize, Vec<u8>)>,
    /// Frames that came from clients, and whose.
    pub came: Vec<(usize, Bytes)>,
    pub frames: usize,
    /// Those of them that are sound.
    pub sounds: usize,
}

pub struct World {
    pub now: Instant,
    start: Instant,
    pub clients: Vec<Client>,
    pub links: Vec<RtpLink>,
    timeouts: Vec<Option<Instant>>,
    demux: Demux<usize>,
    pub net: Net,
    /// Of this client's frames those go there: a layer (`None`: no picture), and sound or not.
    pub routes: BTreeMap<(usize, usize), (Option<u8>, bool)>,
    pub sealed: Sealed,
    pub counts: Counts,
    ticks: u64,
    told: SocketAddr,
    /// Clients that are seen under another address.
    pub nat: BTreeMap<usize, SocketAddr>,
    /// Checks of clients go here and not to the relay.
    pub keep_checks: bool,
    pub checks: Vec<Vec<u8>>,
    /// Layers that each client sends at present.
    pub sending: Vec<usize>,
    pub sound: bool,
}

pub fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2 + n as u8], 1000))
}

impl World {
    /// Connected clients: (does it send, how many pairs of slots).
    pub fn new(path: Path, seed: u64, clients: &[(bool, usize)]) -> Self {
        Self::behind(RELAY.into(), path, seed, clients)
    }

    /// With a relay that has its address told to be this one, which something before it translates.
    pub fn behind(told: SocketAddr, path: Path, seed: u64, clients: &[(bool, usize)]) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            start: now,
            clients: Vec::new(),
            links: Vec::new(),
            timeouts: Vec::new(),
            demux: Demux::default(),
            net: Net::new(path, seed),
            routes: BTreeMap::new(),
            sealed: Sealed::new(),
            counts: Counts::default(),
            ticks: 0,
            told,
            nat: BTreeMap::new(),
            keep_checks: false,
            checks: Vec::new(),
            sending: Vec::new(),
            sound: false,
        };
        for &(sends, slots) in clients {
            world.join(sends, slots);
        }
        world.run_until(|world| world.counts.open == clients.len());
        world
    }

    /// A further client. It connects as time goes on.
    pub fn join(&mut self, sends: bool, slots: usize) -> usize {
        let n = self.clients.len();
        let mut client = Client::new(address(n), 100 + n as u16, self.now);
        let (offer, pending) = client.offer(sends, slots);
        let config = Config {
            candidates: vec![self.told],
            start_bps: 4_000_000,
            making: Pool::default(),
            shard: 0,
        };
        let micros = self.now.duration_since(self.start).as_micros() as u64;
        let offer = Offer::read(&offer).expect("an offer");
        let mut link = RtpLink::new(&config, &offer, self.now, micros);
        let answer = link.accept(offer).expect("an answer");
        let of = |address: SocketAddr| format!(" {} {} typ", address.ip(), address.port());
        assert!(answer.contains(&of(self.told)));
        // The translation, played.
        client.answer(pending, &answer.replace(&of(self.told), &of(RELAY.into())));
        let (ufrag, password) = link.credentials();
        self.demux.add(n, &ufrag, &password);
        link.set_demand(10_000_000);
        self.clients.push(client);
        self.links.push(link);
        self.timeouts.push(Some(self.now));
        self.sending.push(if sends { 2 } else { 0 });
        self.poll_link(n);
        self.poll_client(n);
        n
    }

    /// A further offer of a client: more slots.
    pub fn add_slots(&mut self, n: usize, slots: usize) {
        let (offer, pending) = self.clients[n].offer(false, slots);
        let offer = Offer::read(&offer).expect("an offer");
        let answer = self.links[n].accept(offer).expect("an answer");
        self.clients[n].answer(pending, &answer);
        self.poll_link(n);
        self.poll_client(n);
    }

    /// A frame goes to a client that has no route to its sender.
    pub fn hand(&mut self, n: usize, sealed: Bytes) {
        self.links[n].send_frame(sealed, self.now);
        self.poll_link(n);
    }

    /// A client says something.
    pub fn say(&mut self, n: usize, text: &str) {
        self.clients[n].say(text);
        self.tick_client(n);
    }

    pub fn tell(&mut self, n: usize, text: &str) {
        assert!(self.links[n].send_text(text));
        self.poll_link(n);
    }

    pub fn close(&mut self, n: usize) {
        self.links[n].close();
        self.poll_link(n);
    }

    /// A client's layer, and its sound, go to another from now on.
    pub fn show(&mut self, to: usize, from: usize, layer: u8) {
        self.routes.insert((from, to), (Some(layer), true));
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

    /// Senders stop, and what is on its way arrives or is asked for again. (A loss at the very end would show nobody a gap.)
    pub fn settle(&mut self) {
        self.net.path.loss = 0;
        self.run(300);
        self.sending.fill(0);
        self.sound = false;
        self.run(3_000);
    }

    fn step(&mut self) {
        let tick = self.start + FRAME * 3 / 5 * self.ticks as u32;
        let clients = self.clients.iter().map(|client| client.timeout);
        let links = self.timeouts.iter().flatten().copied();
        let next = clients.chain(links).chain(self.net.next()).min();
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
        }
        while let Some(datagram) = self.net.due(self.now) {
            if datagram.to == RELAY.into() {
                self.receive(&datagram);
            } else if let Some(n) = self.at(datagram.to) {
                let receive = str0m::net::Receive::new(
                    str0m::net::Protocol::Udp,
                    datagram.from,
                    address(n),
                    &datagram.bytes,
                );
                let input = str0m::Input::Receive(self.now, receive.expect("a datagram"));
                self.clients[n]
                    .rtc
                    .handle_input(input)
                    .expect("well-formed");
                self.poll_client(n);
            } else {
                *self.counts.elsewhere.entry(datagram.to).or_default() += datagram.bytes.len();
            }
        }
        for n in 0..self.clients.len() {
            if self.clients[n].timeout <= self.now {
                self.tick_client(n);
            }
            if self.timeouts[n].is_some_and(|at| at <= self.now) {
                self.links[n].handle_timeout(self.now);
                self.poll_link(n);
            }
        }
    }

    fn receive(&mut self, datagram: &Datagram) {
        let (from, to) = (datagram.from, datagram.to);
        let micros = self.micros();
        match self.demux.route(from, to, &datagram.bytes, micros) {
            Route::Session(n) => {
                self.links[n].handle_datagram(from, &datagram.bytes, self.now);
                self.poll_link(n);
            }
            Route::Answer(_) | Route::Drop => self.counts.unrouted += 1,
        }
    }

    pub fn micros(&self) -> u64 {
        self.now.duration_since(self.start).as_micros() as u64
    }

    /// Whose address is this?
    fn at(&self, public: SocketAddr) -> Option<usize> {
        (0..self.clients.len()).find(|&n| self.public(n) == public)
    }

    /// Where a client is seen: its own address, unless a NAT has chosen another.
    pub fn public(&self, n: usize) -> SocketAddr {
        self.nat.get(&n).copied().unwrap_or_else(|| address(n))
    }

    fn tick_client(&mut self, n: usize) {
        let input = str0m::Input::Timeout(self.now);
        self.clients[n].rtc.handle_input(input).expect("alive");
        self.poll_client(n);
    }

    fn poll_client(&mut self, n: usize) {
        let public = self.public(n);
        let client = &mut self.clients[n];
        loop {
            match client.rtc.poll_output().expect("alive") {
                str0m::Output::Timeout(at) => break client.timeout = at,
                str0m::Output::Transmit(t) => {
                    let bytes = t.contents.to_vec();
                    if self.keep_checks && bytes[0] == 0 && bytes[1] == 1 {
                        self.checks.push(bytes);
                    } else {
                        self.net.send(public, t.destination, bytes, self.now);
                    }
                }
                str0m::Output::Event(event) => client.note(event),
            }
        }
    }

    fn poll_link(&mut self, n: usize) {
        let mut out = Vec::new();
        loop {
            match self.links[n].poll(self.now, &mut out) {
                Todo::Timeout(at) => break self.timeouts[n] = at,
                Todo::Heard(source) => {
                    let micros = self.micros();
                    self.demux.heard(n, source, micros);
                    self.counts.heard.push(n);
                }
                Todo::Transmit { to, size } => {
                    let way = match to {
                        To::Address(remote) => self.demux.way(n, remote),
                        To::Path => self.demux.path(n, out.len()),
                    };
                    let Some((source, destination)) = way else {
                        continue;
                    };
                    self.counts.batches += usize::from(out.len() > size);
                    for datagram in out.chunks(size) {
                        if matches!(datagram, [128..=191, 192..=223, ..]) {
                            self.counts.reports.push((n, datagram.to_vec()));
                        }
                        self.net
                            .send(source, destination, datagram.to_vec(), self.now);
                    }
                }
                Todo::Event(event) => self.note(n, event),
            }
        }
    }

    fn note(&mut self, n: usize, event: LinkEvent) {
        match event {
            LinkEvent::Open => self.counts.open += 1,
            LinkEvent::Frame(sealed) => self.forward(n, &sealed),
            LinkEvent::Bandwidth(bps) => self.counts.bandwidth.push(bps),
            LinkEvent::Unsent(_) => {}
            LinkEvent::Text(text) => self.counts.control.push((n, text)),
            LinkEvent::Closed => self.demux.remove(n),
        }
    }

    fn forward(&mut self, from: usize, sealed: &Bytes) {
        self.counts.frames += 1;
        self.counts.came.push((from, sealed.clone()));
        let header = Header::decode(sealed).expect("a header");
        self.counts.sounds += usize::from(matches!(header.kind, Kind::Audio { .. }));
        for to in 0..self.clients.len() {
            let wanted = self.routes.get(&(from, to)).is_some_and(|(layer, sound)| {
                let audio = matches!(header.kind, Kind::Audio { .. });
                if audio {
                    *sound
                } else {
                    *layer == Some(header.spatial)
                }
            });
            if wanted {
                self.links[to].send_frame(sealed.clone(), self.now);
                self.poll_link(to);
            }
        }
    }

    /// What came to a client's slot, counted in the order of its offers (sound and pictures in turn).
    pub fn got(&self, n: usize, slot: usize) -> Vec<(u64, &Got)> {
        let client = &self.clients[n];
        let mid = client.slots[slot];
        let got = client.got.range((mid, 0)..=(mid, u64::MAX));
        got.map(|((_, seq), got)| (*seq, got)).collect()
    }

    /// What a receiver that goes by sequence numbers alone makes of a slot's pictures. Fails on a frame that differs from the
    /// sealed one.
    pub fn shown(&self, n: usize, slot: usize) -> Shown {
        let got = self.got(n, slot);
        let mut shown = Shown::default();
        let mut frame: Option<(u64, Vec<u8>)> = None;
        let mut before = None;
        for (seq, packet) in got {
            if before.is_some_and(|before| before + 1 != seq) {
                shown.holes += 1;
                frame = None;
            }
            before = Some(seq);
            let (&descriptor, body) = packet.payload.split_first().expect("no empty packets");
            if descriptor == 0x10 {
                frame = Some((packet.time, Vec::new()));
            }
            let Some((time, bytes)) = frame.as_mut() else {
                continue;
            };
            assert_eq!(*time, packet.time, "a frame has one time");
            bytes.extend(body);
            if !packet.marker {
                continue;
            }
            let (time, bytes) = frame.take().expect("just seen");
            assert!(shown.times.last() < Some(&time), "time goes on");
            let header = Header::decode(&bytes).expect("a header");
            let id = (header.sender, header.spatial, header.number);
            assert_eq!(self.sealed.get(&id), Some(&bytes), "{id:?} has changed");
            shown.frames.push(header);
            shown.times.push(time);
        }
        shown
    }
}

/// What came of a slot.
#[derive(Debug, Default)]
pub struct Shown {
    pub frames: Vec<Header>,
    /// RTP times of the frames, extended.
    pub times: Vec<u64>,
    /// Places where numbers never came.
    pub holes: u64,
}

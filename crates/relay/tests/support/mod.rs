//! A relay between scripted peers, in virtual time, millisecond by millisecond. Cameras publish at their peers; sockets take
//! what they are given at a rate of their own, or not at all; every peer sends heartbeats unless it is mute.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use grove_frame::{EVERYTHING, Header, Kind};
use grove_relay::{
    Close, Command, Event, Incoming, Input, Layers, Link, Micros, Node, Outgoing, Output, Relay,
    Report, Settings, Stream, Token,
};

pub const ROOM: u64 = 7;
pub const RELAY: Node = 65535;
pub const MS: Micros = 1000;

/// A sealed frame's form: any header, and a payload that depends on it.
pub fn frame(header: Header, size: usize) -> Bytes {
    let mut bytes = header.encode().expect("a valid header").to_vec();
    let seed = header
        .number
        .wrapping_mul(31)
        .wrapping_add(u32::from(header.spatial) << 8);
    bytes.extend(seed.to_be_bytes());
    bytes.resize(size.max(40), seed as u8);
    bytes.into()
}

/// A header of `stream`: video in layer 0, needing nothing.
pub fn header(stream: Stream, number: u32) -> Header {
    Header {
        kind: Kind::Delta {
            farthest: 0,
            nearest: 0,
        },
        spatial: 0,
        temporal: 0,
        number,
        capture_us: u64::from(number) * 33_333,
        sender: stream.node(),
        stream: stream.stream(),
        track: 1,
        generation: 1,
        droppable: false,
        rotation: 0,
    }
}

pub fn token(node: Node) -> Token {
    let mut token = [0; 16];
    token[..2].copy_from_slice(&node.to_be_bytes());
    Token(token)
}

/// A camera with a microphone. Even pictures need the even one before; odd ones need the one before and are droppable.
#[derive(Clone)]
pub struct Camera {
    pub stream: Stream,
    /// Bytes of a delta frame per layer; a key frame has `key` times as many.
    pub layers: Vec<usize>,
    pub key: usize,
    pub sound: bool,
    pub from: Micros,
    pub until: Micros,
    number: Vec<u32>,
    wanted: Vec<bool>,
    packets: u32,
    /// Key requests that came, per layer: when.
    pub asked: Vec<(Micros, u8)>,
}

impl Camera {
    pub fn new(stream: Stream, layers: &[usize]) -> Self {
        Self {
            stream,
            layers: layers.to_vec(),
            key: 5,
            sound: true,
            from: 0,
            until: Micros::MAX,
            number: vec![0; layers.len()],
            wanted: vec![true; layers.len()],
            packets: 0,
            asked: Vec::new(),
        }
    }

    fn due(&mut self, now: Micros) -> Vec<Bytes> {
        let ms = now / MS;
        let mut out = Vec::new();
        if now < self.from || now >= self.until {
            return out;
        }
        if self.sound && ms.is_multiple_of(20) {
            let kind = Kind::Audio { level: 30 };
            let h = Header {
                kind,
                track: 0,
                capture_us: now,
                ..header(self.stream, self.packets)
            };
            out.push(frame(h, 160));
            self.packets += 1;
        }
        if ms.is_multiple_of(33) {
            for layer in 0..self.layers.len() {
                out.push(self.picture(layer, now));
            }
        }
        out
    }

    fn picture(&mut self, layer: usize, now: Micros) -> Bytes {
        let number = self.number[layer];
        let key = self.wanted[layer] && number.is_multiple_of(2);
        let back = if number.is_multiple_of(2) { 2 } else { 1 };
        let kind = if key {
            self.wanted[layer] = false;
            Kind::Key {
                width: 640,
                height: 360,
            }
        } else {
            Kind::Delta {
                farthest: back,
                nearest: back,
            }
        };
        let h = Header {
            kind,
            spatial: layer as u8,
            temporal: u8::from(number % 2 == 1),
            capture_us: now,
            droppable: number % 2 == 1,
            ..header(self.stream, number)
        };
        self.number[layer] += 1;
        frame(h, self.layers[layer] * if key { self.key } else { 1 })
    }
}

#[derive(Clone)]
pub struct Got {
    pub at: Micros,
    pub header: Header,
    pub bytes: Bytes,
}

/// A peer: a socket, and what came through it.
pub struct Peer {
    pub link: Option<Link>,
    /// Bit/s that its socket takes; `None`: whatever comes.
    pub bps: Option<u64>,
    pub mute: bool,
    queue: VecDeque<Outgoing>,
    /// Bytes of the first message that are gone already.
    credit: f64,
    pub got: Vec<Got>,
    pub texts: Vec<(Micros, String)>,
    pub closed: Option<Close>,
    beats: u32,
}

pub struct Sim {
    pub relay: Relay,
    pub now: Micros,
    pub peers: BTreeMap<Node, Peer>,
    pub cameras: Vec<(Node, Camera)>,
    pub events: Vec<(Micros, Event)>,
    pub reports: Vec<Report>,
    /// Frames that a camera's peer loses on the way to the relay, by (stream, layer, number).
    pub lose: BTreeSet<(Stream, u8, u32)>,
}

impl Sim {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let mut sim = Self {
            relay: Relay::new(settings),
            now: 0,
            peers: BTreeMap::new(),
            cameras: Vec::new(),
            events: Vec::new(),
            reports: Vec::new(),
            lose: BTreeSet::new(),
        };
        sim.command(Command::Enter {
            room: ROOM,
            node: RELAY,
        });
        sim
    }

    pub fn command(&mut self, command: Command) {
        self.relay.handle_command(command, self.now);
        self.settle();
    }

    /// Orders a link and opens it.
    pub fn join(&mut self, node: Node) {
        self.command(Command::Link {
            room: ROOM,
            peer: node,
            token: token(node),
        });
        self.attach(node);
    }

    pub fn attach(&mut self, node: Node) {
        let link = self.relay.handle_attach(token(node), self.now);
        self.attached(node, link.expect("ordered"));
    }

    /// The same by RTP, with a first estimate of what the way carries.
    pub fn attach_rtp(&mut self, node: Node, bps: u64) {
        let link = self.relay.handle_attach_rtp(token(node), bps, self.now);
        self.attached(node, link.expect("ordered"));
    }

    fn attached(&mut self, node: Node, link: Link) {
        let peer = Peer {
            link: Some(link),
            bps: None,
            mute: false,
            queue: VecDeque::new(),
            credit: 0.0,
            got: Vec::new(),
            texts: Vec::new(),
            closed: None,
            beats: 0,
        };
        self.peers.insert(node, peer);
        self.settle();
    }

    /// A camera at `stream`'s own node, which feeds the relay.
    pub fn root(&mut self, camera: Camera) {
        let (stream, node) = (camera.stream, camera.stream.node());
        let layers = (0..camera.layers.len() as u8).fold(Layers::NONE, Layers::with);
        self.join(node);
        self.cameras.push((node, camera));
        self.parent(stream, node, layers);
    }

    pub fn parent(&mut self, stream: Stream, parent: Node, layers: Layers) {
        self.command(Command::Parent {
            room: ROOM,
            stream,
            parent,
            layers,
        });
    }

    pub fn feed(&mut self, stream: Stream, child: Node, layers: Layers, rate_bps: u64) {
        self.command(Command::Feed {
            room: ROOM,
            stream,
            child,
            layers,
            rate_bps,
        });
    }

    /// A child that joins, is fed and says so.
    pub fn child(&mut self, stream: Stream, child: Node, layers: Layers, rate_bps: u64) {
        self.join(child);
        self.feed(stream, child, layers, rate_bps);
        self.text(
            child,
            &format!(r#"{{"t":"take","s":{},"have":[]}}"#, stream.0),
        );
    }

    pub fn input(&mut self, node: Node, input: Input) {
        if let Some(link) = self.peers[&node].link {
            self.relay.handle_input(link, input, self.now);
            self.settle();
        }
    }

    pub fn text(&mut self, from: Node, text: &str) {
        self.input(from, Input::Came(Incoming::Text(text.to_owned())));
    }

    pub fn send(&mut self, from: Node, bytes: Bytes) {
        self.input(from, Input::Came(Incoming::Frame(bytes)));
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.tick();
        }
    }

    /// One millisecond.
    pub fn tick(&mut self) {
        self.now += MS;
        let now = self.now;
        if self.relay.poll_timeout().is_some_and(|due| due.at <= now) {
            self.relay.handle_timeout(now);
            self.settle();
        }
        for at in 0..self.cameras.len() {
            let (node, camera) = &mut self.cameras[at];
            let node = *node;
            for bytes in camera.due(now) {
                let h = Header::decode(&bytes).expect("a camera's frame");
                let stream = Stream::new(h.sender, h.stream);
                if h.track == 0 || !self.lose.remove(&(stream, h.spatial, h.number)) {
                    self.send(node, bytes);
                }
            }
        }
        for node in self.peers.keys().copied().collect::<Vec<_>>() {
            self.socket(node);
        }
    }

    /// What a peer's socket does in a millisecond.
    fn socket(&mut self, node: Node) {
        let now = self.now;
        let peer = self.peers.get_mut(&node).expect("there");
        if !peer.mute && (now / MS).is_multiple_of(50) {
            peer.beats += 1;
            let text = format!(r#"{{"t":"hb","n":{},"f":0}}"#, peer.beats);
            self.text(node, &text);
        }
        let peer = self.peers.get_mut(&node).expect("there");
        peer.credit = match peer.bps {
            Some(bps) => {
                (peer.credit + bps as f64 / 8000.0).min((bps as f64 / 8000.0).max(65_536.0))
            }
            None => f64::INFINITY,
        };
        // Without a rate the socket takes all that comes, and says so; the relay may then give it more at once.
        loop {
            let peer = self.peers.get_mut(&node).expect("there");
            let mut took = false;
            while let Some(first) = peer.queue.front() {
                let bytes = first.bytes() as f64;
                if bytes > peer.credit {
                    break;
                }
                peer.credit -= bytes;
                took = true;
                match peer.queue.pop_front() {
                    Some(Outgoing::Frame(bytes)) => {
                        let header = Header::decode(&bytes).expect("only frames are forwarded");
                        peer.got.push(Got {
                            at: now,
                            header,
                            bytes,
                        });
                    }
                    Some(Outgoing::Text(text)) => peer.texts.push((now, text)),
                    _ => {}
                }
            }
            if peer.queue.is_empty() && peer.bps.is_some() {
                peer.credit = 0.0;
            }
            if !took {
                return;
            }
            let unsent = peer.queue.iter().map(Outgoing::bytes).sum();
            self.input(node, Input::Unsent(unsent));
        }
    }

    /// Takes the relay's outputs.
    fn settle(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Event(Event::Report { report, .. }) => self.reports.push(report),
                Output::Event(event) => self.events.push((self.now, event)),
                Output::Send(link, message) => {
                    let peer = self.peers.values_mut().find(|peer| peer.link == Some(link));
                    let Some(peer) = peer else {
                        continue;
                    };
                    if let Outgoing::Close(close) = message {
                        peer.closed = Some(close);
                        peer.link = None;
                        peer.queue.clear();
                        continue;
                    }
                    if let Outgoing::Text(text) = &message {
                        self.cameras
                            .iter_mut()
                            .for_each(|(_, camera)| camera.hears(text, self.now));
                    }
                    peer.queue.push_back(message);
                }
            }
        }
    }

    pub fn camera(&mut self, stream: Stream) -> &mut Camera {
        let found = self
            .cameras
            .iter_mut()
            .find(|(_, camera)| camera.stream == stream);
        &mut found.expect("a camera").1
    }

    /// Pictures of one layer that a peer got: their numbers in the order in which they came.
    pub fn numbers(&self, node: Node, layer: u8) -> Vec<u32> {
        self.pictures(node, layer)
            .map(|got| got.header.number)
            .collect()
    }

    pub fn pictures(&self, node: Node, layer: u8) -> impl Iterator<Item = &Got> {
        let got = self.peers[&node].got.iter();
        got.filter(move |got| got.header.track == 1 && got.header.spatial == layer)
    }

    pub fn sounds(&self, node: Node) -> usize {
        self.peers[&node]
            .got
            .iter()
            .filter(|got| got.header.track == 0)
            .count()
    }

    /// Texts of one kind that a peer got.
    pub fn texts(&self, node: Node, t: &str) -> Vec<(Micros, String)> {
        let start = format!(r#"{{"t":"{t}""#);
        self.peers[&node]
            .texts
            .iter()
            .filter(|(_, text)| text.starts_with(&start))
            .cloned()
            .collect()
    }

    /// Every picture of a layer can be decoded with those that came before it.
    pub fn decodable(&self, node: Node, layer: u8) -> bool {
        let mut have = BTreeSet::new();
        self.pictures(node, layer).all(|got| {
            let h = got.header;
            let met = match h.kind {
                Kind::Key { .. } => {
                    have.clear();
                    true
                }
                Kind::Delta {
                    farthest: EVERYTHING,
                    ..
                } => have.contains(&h.number.wrapping_sub(1)),
                Kind::Delta { farthest, nearest } => [farthest, nearest]
                    .iter()
                    .all(|&d| d == 0 || have.contains(&(h.number - u32::from(d)))),
                _ => false,
            };
            have.insert(h.number);
            met
        })
    }
}

impl Camera {
    /// The relay asks for a key frame.
    fn hears(&mut self, text: &str, now: Micros) {
        for layer in 0..self.layers.len() {
            if text == format!(r#"{{"t":"key","s":{},"l":{layer}}}"#, self.stream.0) {
                self.wanted[layer] = true;
                self.asked.push((now, layer as u8));
            }
        }
    }
}

//! What must hold for any orders and any messages from any peers. The bytes are a script: orders, frames and texts both
//! well-formed and not, sockets that take what they like, time that passes. The fuzz target, the test of its seeds and the
//! property test of the crate all include this.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::{
    Command, Incoming, Input, Layers, Link, Micros, Node, Outgoing, Output, Relay, Room, Settings,
    Stream, Token,
};

const RELAY: Node = 65535;
const MS: Micros = 1000;
/// What a link or a lane may hold, frames of the largest size and control messages included.
const QUEUE_BYTES: usize = 1 << 20;

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

#[derive(Default)]
struct Open {
    room: Room,
    node: Node,
    unsent: Vec<usize>,
    /// Frames that were sent, by their bytes: how often.
    sent: HashMap<Bytes, usize>,
    /// How often each (stream, layer, number) was asked for.
    asked: BTreeMap<(Stream, u8, u32), usize>,
    /// How often the edge began, or its layers changed.
    began: BTreeMap<Stream, usize>,
}

#[derive(Default)]
struct World {
    now: Micros,
    links: BTreeMap<Link, Open>,
    /// What was ordered: (room, stream, child).
    fed: BTreeSet<(Room, Stream, Node)>,
    /// Every frame that came, by its bytes: how often, in which room.
    came: HashMap<(Room, Bytes), usize>,
    tokens: BTreeMap<u8, Token>,
}

/// Runs a script. How many frames were forwarded.
pub fn check(script: &[u8]) -> u64 {
    let settings = Settings {
        egress_bps: 50_000_000,
        links: 5,
        queue_bytes: QUEUE_BYTES,
    };
    let mut relay = Relay::new(settings);
    let mut world = World::default();
    let mut script = Script(script);
    let mut steps = 0;
    while world.step(&mut relay, &mut script).is_some() {
        world.settle(&mut relay);
        steps += 1;
        if steps % 16 == 0 {
            world.bounded(&mut relay);
        }
    }
    world.bounded(&mut relay);
    let forwarded = relay.stats(world.now).counters.frames_sent;
    for room in 0..2 {
        relay.handle_command(Command::Leave { room }, world.now);
    }
    assert_eq!(
        relay.stats(world.now).size,
        Default::default(),
        "what was left holds nothing"
    );
    assert_eq!(relay.poll_timeout(), None);
    forwarded
}

impl World {
    fn step(&mut self, relay: &mut Relay, script: &mut Script<'_>) -> Option<()> {
        let (op, a, b) = (script.byte()?, script.byte()?, script.byte()?);
        let room = Room::from(op >> 7);
        let peer = Node::from(a % 6) + 1;
        let stream = Stream::new(Node::from(a >> 4 & 3) + 1, a >> 6 & 1);
        let layers = Layers(b & 15);
        let now = self.now;
        match op % 24 {
            0 => relay.handle_command(Command::Enter { room, node: RELAY }, now),
            1 if b < 8 => {
                self.fed.retain(|fed| fed.0 != room);
                relay.handle_command(Command::Leave { room }, now);
            }
            1 | 2 => {
                // Now and then a token of before.
                let mut token = [a; 16];
                token[1] = op;
                token[2] = b & 1;
                self.tokens.insert(peer as u8 | op & 0x80, Token(token));
                relay.handle_command(
                    Command::Link {
                        room,
                        peer,
                        token: Token(token),
                    },
                    now,
                );
            }
            3 => relay.handle_command(Command::Unlink { room, peer }, now),
            4 | 5 => {
                let rate_bps = u64::from(b) << 14;
                self.fed.insert((room, stream, peer));
                for open in self.links.values_mut() {
                    *open.began.entry(stream).or_default() += 2;
                }
                let child = peer;
                let order = if b < 192 {
                    Command::Feed {
                        room,
                        stream,
                        child,
                        layers,
                        rate_bps,
                    }
                } else {
                    Command::StandBy {
                        room,
                        stream,
                        child,
                        layers,
                        rate_bps,
                    }
                };
                relay.handle_command(order, now);
            }
            6 => {
                self.fed.remove(&(room, stream, peer));
                relay.handle_command(
                    Command::Release {
                        room,
                        stream,
                        child: peer,
                    },
                    now,
                );
            }
            8 if b >= 160 => {
                let parent = Some(peer).filter(|_| b < 240);
                let order = Command::Backup {
                    room,
                    stream,
                    parent,
                    layers,
                };
                relay.handle_command(order, now);
            }
            7 | 8 => {
                relay.handle_command(
                    Command::Parent {
                        room,
                        stream,
                        parent: peer,
                        layers,
                    },
                    now,
                );
            }
            9 if b < 64 => {
                self.fed.retain(|fed| (fed.0, fed.1) != (room, stream));
                relay.handle_command(Command::Forget { room, stream }, now);
            }
            9..=11 => {
                let token = self
                    .tokens
                    .get(&(peer as u8 | op & 0x80))
                    .copied()
                    .unwrap_or(Token([b; 16]));
                if let Ok(link) = relay.handle_attach(token, now) {
                    // Whose it is the relay says when it is up; until then its own order says it.
                    self.links.insert(
                        link,
                        Open {
                            room,
                            node: peer,
                            ..Open::default()
                        },
                    );
                }
            }
            12..=15 => self.frame(relay, a, b, script),
            16 | 17 => self.text(relay, a, b, script),
            18 => {
                let bytes = script.take(b.into());
                let message = match String::from_utf8(bytes) {
                    Ok(text) if a & 64 == 0 => Incoming::Text(text),
                    Ok(text) => Incoming::Frame(text.into_bytes().into()),
                    Err(error) => Incoming::Frame(error.into_bytes().into()),
                };
                if let Incoming::Frame(bytes) = &message {
                    self.note_frame(a, bytes);
                }
                self.input(relay, a, Input::Came(message));
            }
            19 | 20 => self.sockets(relay, a, b),
            21 if b < 64 => {
                if let Some(link) = self.pick(a) {
                    self.links.remove(&link);
                    relay.handle_input(link, Input::Closed, now);
                }
            }
            23 if a & 1 == 1 => {
                relay.handle_load(f64::from(b) / 128.0, now);
                self.settle(relay);
                self.input(relay, a, Input::Heard);
            }
            21 | 22 => self.pass(relay, Micros::from(b) * MS / 4),
            _ => self.pass(relay, Micros::from(b) * 10 * MS),
        }
        Some(())
    }

    fn pick(&self, a: u8) -> Option<Link> {
        self.links.keys().nth(usize::from(a % 6)).copied()
    }

    fn input(&mut self, relay: &mut Relay, a: u8, input: Input) {
        if let Some(link) = self.pick(a) {
            relay.handle_input(link, input, self.now);
        }
    }

    fn note_frame(&mut self, a: u8, bytes: &Bytes) {
        if let Some(open) = self.pick(a).and_then(|link| self.links.get(&link)) {
            *self.came.entry((open.room, bytes.clone())).or_default() += 1;
        }
    }

    /// Some frames in a row, numbers going on from where the script says.
    fn frame(&mut self, relay: &mut Relay, a: u8, b: u8, script: &mut Script<'_>) {
        let (c, d) = (script.byte().unwrap_or(0), script.byte().unwrap_or(1));
        let sound = c & 0x60 == 0x60;
        for i in 0..1 + u32::from(d & 15) {
            let number = (u32::from(b) * if c & 0x80 != 0 { 40 } else { 4 } + i).wrapping_sub(2);
            let back = 1 + u16::from(number % 2 == 0);
            let kind = match c & 3 {
                _ if sound => Kind::Audio { level: b & 127 },
                0 => Kind::Key {
                    width: 64,
                    height: 36,
                },
                1 => Kind::Delta {
                    farthest: back,
                    nearest: back,
                },
                2 => Kind::Delta {
                    farthest: 0xffff,
                    nearest: 1,
                },
                _ => Kind::Delta {
                    farthest: 0,
                    nearest: 0,
                },
            };
            let header = Header {
                kind,
                spatial: if sound { 0 } else { c >> 2 & 3 },
                temporal: 0,
                number,
                capture_us: self.now,
                sender: Node::from(a >> 4 & 3) + 1,
                stream: a >> 6 & 1,
                track: u8::from(!sound),
                generation: 1 + u16::from(d >> 6),
                droppable: number % 2 == 1 && c & 16 != 0,
                rotation: 0,
            };
            let mut bytes = header.encode().expect("valid").to_vec();
            bytes.resize(40 + usize::from(d) * if d & 32 != 0 { 200 } else { 4 }, b);
            let bytes = Bytes::from(bytes);
            self.note_frame(a, &bytes);
            self.input(relay, a, Input::Came(Incoming::Frame(bytes)));
            self.settle(relay);
        }
    }

    fn text(&mut self, relay: &mut Relay, a: u8, b: u8, script: &mut Script<'_>) {
        let (c, d) = (script.byte().unwrap_or(0), script.byte().unwrap_or(0));
        let stream = Stream::new(Node::from(a >> 4 & 3) + 1, a >> 6 & 1);
        let (s, l, n) = (
            stream.0,
            c & 3,
            u32::from(d) * if c & 0x80 != 0 { 40 } else { 4 },
        );
        let numbers: Vec<_> = (0..1 + u32::from(c >> 2 & 7)).map(|i| n + i).collect();
        let Some(open) = self.pick(a).and_then(|link| self.links.get_mut(&link)) else {
            return;
        };
        let text = match b % 8 {
            0 => format!(r#"{{"t":"take","s":{s},"have":[]}}"#),
            1 => format!(
                r#"{{"t":"take","s":{s},"have":[{{"layer":{l},"generation":1,"number":{n}}}]}}"#
            ),
            2 if d >= 128 => format!(r#"{{"t":"drop","s":{s}}}"#),
            2 => format!(r#"{{"t":"key","s":{s},"l":{l}}}"#),
            3 => format!(r#"{{"t":"need","s":{s},"l":{l},"n":{numbers:?}}}"#),
            4 => format!(r#"{{"t":"miss","s":{s},"l":{l},"n":{numbers:?}}}"#),
            5 => format!(r#"{{"t":"tip","s":{s},"l":{l},"g":1,"n":{n}}}"#),
            6 => format!(r#"{{"t":"layers","s":{s},"l":[{l},{}]}}"#, d & 3),
            _ => format!(r#"{{"t":"hb","n":{c},"f":{n},"e":{d},"d":{b}}}"#),
        };
        match b % 8 {
            0 | 1 => *open.began.entry(stream).or_default() += 1,
            3 => {
                for n in numbers {
                    *open.asked.entry((stream, l, n)).or_default() += 1;
                }
            }
            _ => {}
        }
        self.input(relay, a, Input::Came(Incoming::Text(text)));
    }

    /// A socket takes some of what waits, or every socket takes all.
    fn sockets(&mut self, relay: &mut Relay, a: u8, b: u8) {
        let picked = self.pick(a);
        let links: Vec<_> = self
            .links
            .keys()
            .copied()
            .filter(|&link| b >= 128 || Some(link) == picked)
            .collect();
        for link in links {
            let Some(open) = self.links.get_mut(&link) else {
                continue;
            };
            let takes = if b >= 128 {
                open.unsent.len()
            } else {
                usize::from(b % 16).min(open.unsent.len())
            };
            open.unsent.drain(..takes);
            let unsent = open.unsent.iter().sum();
            relay.handle_input(link, Input::Unsent(unsent), self.now);
            self.settle(relay);
        }
    }

    /// Time passes, deadline by deadline.
    fn pass(&mut self, relay: &mut Relay, time: Micros) {
        let until = self.now + time;
        while let Some(due) = relay.poll_timeout().filter(|due| due.at <= until) {
            self.now = self.now.max(due.at);
            relay.handle_timeout(self.now);
            assert!(
                relay.poll_timeout().is_none_or(|next| next.at > self.now),
                "what was due is done: {:?}",
                relay.poll_timeout()
            );
            self.settle(relay);
        }
        self.now = until;
    }

    /// Looks at everything that the relay wants done.
    fn settle(&mut self, relay: &mut Relay) {
        while let Some(output) = relay.poll_output() {
            let Output::Send(link, message) = output else {
                continue;
            };
            let Some(open) = self.links.get_mut(&link) else {
                // An end that we gave up ourselves a moment ago is not spoken to again.
                assert!(
                    matches!(message, Outgoing::Close(_)),
                    "{message:?} to a link that has ended"
                );
                continue;
            };
            open.unsent.push(message.bytes());
            match message {
                Outgoing::Close(_) => {
                    self.links.remove(&link);
                }
                Outgoing::Text(text) => {
                    assert!(text.len() <= 4096);
                    if let Some(rest) = text.strip_prefix(r#"{"t":"layers","s":"#) {
                        let s = rest
                            .split(',')
                            .next()
                            .and_then(|s| s.parse().ok())
                            .expect("a number");
                        *open.began.entry(Stream(s)).or_default() += 1;
                    }
                }
                Outgoing::Frame(bytes) => {
                    let h = Header::decode(&bytes).expect("only frames are forwarded");
                    let stream = Stream::new(h.sender, h.stream);
                    assert!(
                        self.fed.contains(&(open.room, stream, open.node)),
                        "{stream:?} was not fed to {}",
                        open.node
                    );
                    let came = self
                        .came
                        .get(&(open.room, bytes.clone()))
                        .copied()
                        .unwrap_or(0);
                    assert!(
                        came > 0,
                        "a forwarded frame is one that came, byte for byte"
                    );
                    let sent = open.sent.entry(bytes).or_default();
                    *sent += 1;
                    let asked = open
                        .asked
                        .get(&(stream, h.spatial, h.number))
                        .copied()
                        .unwrap_or(0);
                    // An edge begins by itself once, when the child says nothing.
                    let began = open.began.get(&stream).copied().unwrap_or(0) + 1;
                    assert!(
                        *sent <= came + asked + began,
                        "{stream:?} {} came twice to {}",
                        h.number,
                        open.node
                    );
                }
            }
        }
    }

    fn bounded(&mut self, relay: &mut Relay) {
        let size = relay.stats(self.now).size;
        assert!(
            size.rooms <= 2 && size.peers <= 12 && size.links <= 5 && size.streams <= 16,
            "{size:?}"
        );
        assert!(
            size.edges <= 96 && size.missing <= size.streams * 5 * 256,
            "{size:?}"
        );
        // A layer's ring may be over its cap by the frame that came last; so may a queue.
        assert!(
            size.ring_bytes <= size.streams * 4 * ((4 << 20) + (256 << 10)),
            "{size:?}"
        );
        let most = (size.edges + size.links) * (QUEUE_BYTES + (256 << 10));
        assert!(size.queued_bytes <= most, "{size:?}");
    }
}

//! A participant without a browser that sends and receives for real: sealed frames over QUIC, to the relay and to other
//! native peers.
//!
//! What a browser's media worker does about links, edges, rings and repair, a relay's core does too; so a native peer is a
//! core of its own with one link more: to itself ([`HOME`]). Its camera puts sealed frames in there as its own number, and
//! its screen is fed from there as a child of every stream. Orders of the server are given to the core as they are.

mod links;
pub mod media;
#[cfg(test)]
pub(crate) mod served;

use crate::client::{Client, ClientError};
use fastrand::Rng;
use grove_relay::quic::Endpoint;
use grove_relay::{
    AttachError, Attached, Command, Event, Handle, Inbound, Incoming, Layers, Lost, Outgoing,
    Settings, Stream, Token,
};
use grove_server::signal::message::{
    ClientMessage, DescriptionKind, EdgeReason, EdgeReport, LinkReport, LostReason, Order, Orders,
    Report, ServerMessage, StreamRef,
};
use links::{Offer, bytes};
use media::{Camera, Keyring, Screen, Seen, Shape};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// The core's number in its own eyes. No node of a room has it: participants stay below 65000, relays count down from 65535.
const HOME: u16 = 65_000;
/// The core knows one room.
const ROOM: u64 = 1;
/// No bound for the way to the own screen.
const UNBOUNDED: u64 = 1 << 34;
/// Sent to the own core so that it hears the screen.
const BEAT: Duration = Duration::from_millis(500);

/// Who takes part, in what, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The server.
    pub address: SocketAddr,
    /// The room.
    pub room: String,
    /// The peer's name.
    pub name: String,
    /// Everybody's keys.
    pub keyring: Keyring,
    /// What it sends, if anything.
    pub shape: Option<Shape>,
    /// What it says it can send in all, bit/s.
    pub uplink_bps: u64,
    /// Capture and arrival are counted from here.
    pub epoch: Instant,
    /// Capture times that count, microseconds since then.
    pub window: Range<u64>,
    /// Told of the first frame from each sender.
    pub first: mpsc::UnboundedSender<First>,
    /// Becomes true when it is to leave.
    pub over: watch::Receiver<bool>,
}

/// Somebody's first frame was opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct First {
    /// Who opened it.
    pub at: u16,
    /// Who sealed it.
    pub from: u16,
    /// When.
    pub when: Instant,
}

/// What a peer has to say at its end.
#[derive(Debug, Default)]
pub struct Tally {
    /// What it was shown.
    pub seen: Seen,
    /// Pictures and packets of sound that it captured within the window.
    pub pictures: usize,
    /// Packets of sound.
    pub sounds: usize,
    /// From its join to the server's answer.
    pub answered: Duration,
    /// Links that the core found lost.
    pub lost: usize,
    /// Streams that nobody could deliver by the server's last word on them, and its reason.
    pub unserved: BTreeMap<StreamRef, EdgeReason>,
    /// Words of the server.
    pub errors: Vec<String>,
    /// Why it gave up.
    pub failure: Option<String>,
}

/// A peer that stands before the door: connected, with its port open, not in the room.
#[derive(Debug)]
pub struct Peer {
    setup: Setup,
    client: Client,
    rng: Rng,
    core: Handle,
    events: mpsc::UnboundedReceiver<Event>,
    home: Option<Inbound>,
    endpoint: Endpoint,
    listening: JoinHandle<()>,
    dialling: BTreeMap<u16, JoinHandle<()>>,
    links: BTreeSet<u16>,
    streams: BTreeSet<StreamRef>,
    camera: Option<Camera>,
    screen: Screen,
    met: BTreeSet<u16>,
    tally: Tally,
    beats: u32,
    frames: u32,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.listening.abort();
        self.endpoint.close(1000, "left");
    }
}

impl Peer {
    /// Comes to the door.
    pub async fn arrive(setup: Setup, mut rng: Rng) -> Result<Self, ClientError> {
        let client = Client::connect(setup.address, rng.fork()).await?;
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint =
            Endpoint::bind(own).map_err(|error| ClientError::Refused(error.to_string()))?;
        let (core, events) = grove_relay::spawn(Settings::default(), None);
        core.command(Command::Enter {
            room: ROOM,
            node: HOME,
        });
        let listening = tokio::spawn(links::listen(endpoint.clone(), core.clone()));
        let screen = Screen::new(setup.keyring.clone(), setup.window.clone());
        Ok(Self {
            setup,
            client,
            rng,
            core,
            events,
            home: None,
            endpoint,
            listening,
            dialling: BTreeMap::new(),
            links: BTreeSet::new(),
            streams: BTreeSet::new(),
            camera: None,
            screen,
            met: BTreeSet::new(),
            tally: Tally::default(),
            beats: 0,
            frames: 0,
        })
    }

    /// Enters, and takes part until it is over.
    pub async fn live(mut self) -> Tally {
        if let Err(error) = self.take_part().await {
            self.tally.failure = Some(error.to_string());
        }
        let mut tally = std::mem::take(&mut self.tally);
        tally.seen = std::mem::take(&mut self.screen.seen);
        tally.errors.append(&mut self.client.errors);
        tally
    }

    async fn take_part(&mut self) -> Result<(), ClientError> {
        let Setup {
            room,
            name,
            uplink_bps,
            ..
        } = &self.setup;
        let before = Instant::now();
        let joined = self.client.enter(room, name, Some(*uplink_bps)).await?;
        self.tally.answered = before.elapsed();
        let node = joined.node;
        let token = self.expect(node);
        let refused = |error: AttachError| ClientError::Refused(error.to_string());
        let Attached {
            mut outgoing,
            incoming,
            ..
        } = self.core.attach(token).await.map_err(refused)?;
        self.home = Some(incoming);
        if let Some(shape) = self.setup.shape {
            self.camera = Some(Camera::new(shape, node, &self.setup.keyring));
            let layers = (0..shape.layers.len() as u8).fold(Layers::NONE, Layers::with);
            self.core.command(Command::Parent {
                room: ROOM,
                stream: Stream::new(node, 0),
                parent: node,
                layers,
            });
            self.client.publish(shape.layers.len()).await?;
        }
        self.obey(&joined.orders).await?;

        let shape = self.setup.shape;
        let mut pictures = ticks(shape.map_or(BEAT, |shape| shape.picture_every));
        let mut sounds = ticks(Duration::from_millis(20));
        let mut beats = ticks(BEAT);
        let mut over = self.setup.over.clone();
        loop {
            tokio::select! {
                () = ended(&mut over) => return Ok(()),
                message = self.client.receive() => self.handle(message?).await?,
                Some(event) = self.events.recv() => self.tell(event).await?,
                message = outgoing.recv() => match message {
                    Some(Outgoing::Frame(frame)) => self.show(&frame),
                    Some(Outgoing::Text(text)) => self.hear(&text),
                    _ => return Err(ClientError::Refused("the own core ended".into())),
                },
                _ = beats.tick() => self.beat().await,
                _ = pictures.tick(), if self.camera.is_some() => self.picture().await,
                _ = sounds.tick(), if shape.is_some_and(|shape| shape.sound) => self.sound().await,
            }
        }
    }

    fn now(&self) -> u64 {
        self.setup.epoch.elapsed().as_micros() as u64
    }

    fn token(&mut self) -> Token {
        let mut token = Token([0; 16]);
        self.rng.fill(&mut token.0);
        token
    }

    /// The own core expects a link with `peer` from now on, under this token.
    fn expect(&mut self, peer: u16) -> Token {
        let (room, token) = (ROOM, self.token());
        self.core.command(Command::Link { room, peer, token });
        token
    }

    // --- what the server says ---

    async fn handle(&mut self, message: ServerMessage) -> Result<(), ClientError> {
        match message {
            ServerMessage::Orders(orders) => self.obey(&orders).await,
            ServerMessage::Description {
                from,
                kind: DescriptionKind::Offer,
                sdp,
                ..
            } => {
                if let Some(offer) = Offer::decode(&sdp) {
                    self.dial(from, offer);
                }
                Ok(())
            }
            ServerMessage::Error { message, .. } => {
                self.client.errors.push(message);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn obey(&mut self, orders: &Orders) -> Result<(), ClientError> {
        if orders.reset {
            for peer in std::mem::take(&mut self.links) {
                self.unlink(peer);
            }
            for stream in std::mem::take(&mut self.streams) {
                let (room, stream) = (ROOM, number(stream));
                self.core.command(Command::Forget { room, stream });
            }
        }
        for change in &orders.changes {
            self.obey_one(change).await?;
        }
        Ok(())
    }

    async fn obey_one(&mut self, order: &Order) -> Result<(), ClientError> {
        let room = ROOM;
        match order {
            Order::Link {
                peer,
                relay: Some(relay),
                ..
            } => {
                let quic = relay.quic.as_ref();
                let offer = quic.and_then(|quic| {
                    Some(Offer {
                        address: SocketAddr::new(self.setup.address.ip(), quic.port),
                        certificate_sha256: bytes(&quic.certificate_sha256)?,
                        token: Token(bytes(&relay.token)?),
                    })
                });
                let offer = offer
                    .ok_or_else(|| ClientError::Refused("the relay takes no QUIC links".into()))?;
                self.links.insert(*peer);
                self.dial(*peer, offer);
            }
            Order::Link { peer, offer, .. } => {
                self.links.insert(*peer);
                let token = self.expect(*peer);
                if *offer {
                    let address = self.endpoint.address();
                    let offer = Offer {
                        address: address.map_err(|e| ClientError::Refused(e.to_string()))?,
                        certificate_sha256: self.endpoint.certificate_sha256(),
                        token,
                    };
                    self.client.offer(*peer, offer.encode()).await?;
                }
            }
            Order::Unlink { peer } => {
                self.links.remove(peer);
                self.unlink(*peer);
            }
            Order::Feed {
                stream,
                child,
                layers,
                rate_bps,
            } => self.core.command(Command::Feed {
                room,
                stream: number(*stream),
                child: *child,
                layers: set(layers),
                rate_bps: (*rate_bps).into(),
            }),
            Order::StandBy {
                stream,
                child,
                layers,
                rate_bps,
            } => self.core.command(Command::StandBy {
                room,
                stream: number(*stream),
                child: *child,
                layers: set(layers),
                rate_bps: (*rate_bps).into(),
            }),
            Order::Backup {
                stream,
                parent,
                layers,
            } => self.core.command(Command::Backup {
                room,
                stream: number(*stream),
                parent: *parent,
                layers: set(layers),
            }),
            Order::Release { stream, child } => self.core.command(Command::Release {
                room,
                stream: number(*stream),
                child: *child,
            }),
            Order::Parent {
                stream,
                parent,
                layers,
                reason,
            } => {
                self.streams.insert(*stream);
                match parent {
                    Some(_) => self.tally.unserved.remove(stream),
                    None => self.tally.unserved.insert(*stream, *reason),
                };
                self.watch(number(*stream), *parent, set(layers)).await;
            }
        }
        Ok(())
    }

    /// A stream comes from `parent`, and is shown here.
    async fn watch(&mut self, stream: Stream, parent: Option<u16>, layers: Layers) {
        let room = ROOM;
        let Some(parent) = parent else {
            return self.core.command(Command::Forget { room, stream });
        };
        self.core.command(Command::Parent {
            room,
            stream,
            parent,
            layers,
        });
        self.core.command(Command::Feed {
            room,
            stream,
            child: self.client.node,
            layers,
            rate_bps: UNBOUNDED,
        });
        self.send(Incoming::Text(format!(
            r#"{{"t":"take","s":{},"have":[]}}"#,
            stream.0
        )))
        .await;
    }

    fn dial(&mut self, peer: u16, offer: Offer) {
        let own = self.expect(peer);
        let dialling = links::dial(self.endpoint.clone(), self.core.clone(), offer, own);
        if let Some(former) = self.dialling.insert(peer, dialling) {
            former.abort();
        }
    }

    fn unlink(&mut self, peer: u16) {
        // A link that is open ends by the core's word, so that the other side is told.
        self.core.command(Command::Unlink { room: ROOM, peer });
        self.dialling.remove(&peer);
    }

    // --- what the core says ---

    async fn tell(&mut self, event: Event) -> Result<(), ClientError> {
        let own = self.client.node;
        let message = match event {
            Event::Ready { stream, parent, .. } if parent != own => ClientMessage::Ready {
                stream: reference(stream),
                parent,
            },
            Event::Lost { peer, why, .. } if peer != own => {
                self.tally.lost += 1;
                let why = match why {
                    Lost::Silent => LostReason::Silent,
                    Lost::Never => LostReason::Never,
                };
                ClientMessage::Lost { peer, why }
            }
            Event::Report { report, .. } => {
                let links = report.links.iter().filter(|link| link.peer != own);
                let links = links.map(|link| LinkReport {
                    peer: link.peer,
                    rtt_ms: link.rtt_ms,
                    sent_bps: link.sent_bps,
                    loss: link.loss,
                });
                let edges = report.edges.iter().filter(|edge| edge.parent != own);
                let edges = edges.map(|edge| EdgeReport {
                    stream: reference(edge.stream),
                    parent: edge.parent,
                    bps: edge.bps,
                    delay_ms: edge.delay_ms,
                    layer: edge.layer,
                });
                ClientMessage::Report(Report {
                    uplink_bps: Some(self.setup.uplink_bps),
                    links: links.collect(),
                    edges: edges.collect(),
                    ..Report::default()
                })
            }
            _ => return Ok(()),
        };
        self.client.send(&message).await
    }

    fn show(&mut self, frame: &[u8]) {
        let now = self.now();
        if let Some(from) = self.screen.show(frame, now)
            && self.met.insert(from)
        {
            let (at, when) = (self.client.node, Instant::now());
            // Nobody has to be interested.
            let _ = self.setup.first.send(First { at, from, when });
        }
    }

    /// What a forwarder tells its neighbour; only wishes for key frames are for a camera.
    fn hear(&mut self, text: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return;
        };
        if message["t"] == "key"
            && let (Some(camera), Some(layer)) = (&mut self.camera, message["l"].as_u64())
        {
            camera.key_please(layer as usize);
        }
    }

    // --- what goes into the core ---

    async fn send(&mut self, message: Incoming) {
        self.frames += u32::from(matches!(message, Incoming::Frame(_)));
        if let Some(home) = &self.home {
            // Fails with the core only, whose end the loop sees.
            let _ = home.send(message).await;
        }
    }

    async fn beat(&mut self) {
        self.beats += 1;
        let beat = format!(r#"{{"t":"hb","n":{},"f":{}}}"#, self.beats, self.frames);
        self.send(Incoming::Text(beat)).await;
    }

    async fn picture(&mut self) {
        let now = self.now();
        self.tally.pictures += usize::from(self.setup.window.contains(&now));
        let frames = self.camera.as_mut().map(|camera| camera.picture(now));
        for frame in frames.into_iter().flatten() {
            self.send(Incoming::Frame(frame)).await;
        }
    }

    async fn sound(&mut self) {
        let now = self.now();
        self.tally.sounds += usize::from(self.setup.window.contains(&now));
        if let Some(frame) = self.camera.as_mut().map(|camera| camera.sound(now)) {
            self.send(Incoming::Frame(frame)).await;
        }
    }
}

/// It is over, or nobody is there any more to say so.
async fn ended(over: &mut watch::Receiver<bool>) {
    let _ = over.wait_for(|over| *over).await;
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

fn set(layers: &[u8]) -> Layers {
    layers.iter().copied().fold(Layers::NONE, Layers::with)
}

fn number(stream: StreamRef) -> Stream {
    Stream::new(stream.node, stream.stream)
}

fn reference(stream: Stream) -> StreamRef {
    StreamRef {
        node: stream.node(),
        stream: stream.stream(),
    }
}

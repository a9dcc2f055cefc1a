//! A room with clients that do what they are told, and remember it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grove_relay::{Command, Event};
use grove_server::room::member::Token;
use grove_server::room::relay::RELAY;
use grove_server::room::state::Room;
use grove_server::room::{ConnectionId, Input, Opening, Output, RelaySettings, Settings};
use grove_server::signal::close::Close;
use grove_server::signal::message::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

pub const GRACE: u64 = 30_000;
pub const EMPTY: u64 = 600_000;

pub fn settings() -> Settings {
    Settings {
        resume: GRACE,
        empty: EMPTY,
        people: 0,
        uplink: 20_000_000,
        slots: 64,
        policy: Policy::Auto,
        ice_servers: Vec::new(),
        relay: None,
    }
}

/// The same, with a relay.
pub fn relay_settings() -> Settings {
    let relay = RelaySettings {
        egress: 1_000_000_000,
        slots: 4096,
        rtp: true,
        quic: None,
    };
    Settings {
        relay: Some(relay),
        ..settings()
    }
}

pub fn opening(policy: Policy) -> Opening {
    Opening {
        policy,
        never_relay: false,
        number: ROOM,
        instance: "first".into(),
        key: [7; 32],
        unix_ms: 1_700_000_000_000,
    }
}

/// The room's number at the relay.
pub const ROOM: grove_relay::Room = 42;

/// Unpadded base64url of `length` bytes that `seed` decides.
pub fn text(seed: u64, length: usize) -> String {
    URL_SAFE_NO_PAD.encode(
        seed.to_be_bytes()
            .into_iter()
            .cycle()
            .take(length)
            .collect::<Vec<_>>(),
    )
}

pub fn join(seed: u64, resume: Option<String>) -> Join {
    Join {
        version: VERSION,
        room: "AAAAAAAAAAAAAAAA".into(),
        participant: text(seed, 12),
        name: format!("Person {seed}"),
        identity: Identity {
            nonce: text(seed, 16),
            kem_key: text(seed, 32),
            sign_key: text(seed, 32),
            mac: text(seed, 32),
        },
        capabilities: Capabilities {
            frames: true,
            forward: true,
        },
        uplink_bps: None,
        resume,
    }
}

pub fn camera() -> Publication {
    let layer = |width, bps| VideoLayer {
        width,
        height: width / 2,
        bps,
    };
    let layers = vec![layer(320, 150_000), layer(1280, 1_000_000)];
    Publication {
        stream: 0,
        kind: StreamKind::Camera,
        audio_bps: Some(32_000),
        layers,
    }
}

/// What one client has been told, and does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shadow {
    pub node: Node,
    pub token: String,
    pub links: BTreeMap<Node, bool>,
    /// What the link to a relay is opened with.
    pub relays: BTreeMap<Node, RelayLink>,
    pub feeds: BTreeMap<(StreamRef, Node), (Vec<u8>, u32)>,
    pub parents: BTreeMap<StreamRef, (Option<Node>, Vec<u8>)>,
    /// Whom it stands by for, and with what.
    pub stands_by: BTreeMap<(StreamRef, Node), (Vec<u8>, u32)>,
    /// Who stands by for it.
    pub backups: BTreeMap<StreamRef, (Node, Vec<u8>)>,
    /// Streams whose parent is another than before and has yet to deliver.
    pub owes: BTreeSet<StreamRef>,
    pub people: BTreeSet<Node>,
}

impl Shadow {
    fn obey(&mut self, orders: &Orders) {
        if orders.reset {
            self.links.clear();
            self.relays.clear();
            self.feeds.clear();
            self.parents.clear();
            self.stands_by.clear();
            self.backups.clear();
        }
        for order in &orders.changes {
            match order.clone() {
                Order::Link { peer, offer, relay } => {
                    assert_eq!(relay.is_some(), peer == RELAY);
                    self.links.insert(peer, offer);
                    relay.map(|relay| self.relays.insert(peer, relay));
                }
                Order::Unlink { peer } => {
                    self.links.remove(&peer);
                    self.relays.remove(&peer);
                }
                Order::Feed {
                    stream,
                    child,
                    layers,
                    rate_bps,
                } => {
                    assert!(
                        self.links.contains_key(&child),
                        "node {} feeds {child} without a link",
                        self.node
                    );
                    self.stands_by.remove(&(stream, child));
                    self.feeds.insert((stream, child), (layers, rate_bps));
                }
                Order::Release { stream, child } => {
                    self.feeds.remove(&(stream, child));
                    self.stands_by.remove(&(stream, child));
                }
                Order::StandBy {
                    stream,
                    child,
                    layers,
                    rate_bps,
                } => {
                    assert!(
                        self.links.contains_key(&child),
                        "node {} stands by for {child} without a link",
                        self.node
                    );
                    self.feeds.remove(&(stream, child));
                    self.stands_by.insert((stream, child), (layers, rate_bps));
                }
                Order::Backup {
                    stream,
                    parent: Some(parent),
                    layers,
                } => {
                    assert!(
                        self.links.contains_key(&parent),
                        "node {} may turn to {parent} without a link",
                        self.node
                    );
                    self.backups.insert(stream, (parent, layers));
                }
                Order::Backup { stream, .. } => drop(self.backups.remove(&stream)),
                Order::Parent {
                    stream,
                    parent,
                    layers,
                    reason: _,
                } => {
                    if let Some(parent) = parent {
                        assert!(
                            self.links.contains_key(&parent),
                            "node {} hears {parent} without a link",
                            self.node
                        );
                    }
                    if self.backups.get(&stream).map(|known| known.0) == parent {
                        self.backups.remove(&stream);
                    }
                    let known = self.parents.insert(stream, (parent, layers));
                    match parent {
                        None => {
                            self.backups.remove(&stream);
                            self.owes.remove(&stream);
                        }
                        Some(_) if known.and_then(|known| known.0) == parent => {}
                        Some(_) => drop(self.owes.insert(stream)),
                    }
                }
            }
        }
    }

    fn hear(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Joined(joined) => {
                self.node = joined.node;
                self.token = joined.resume.clone();
                self.people = joined.participants.iter().map(|one| one.node).collect();
                assert!(joined.orders.reset);
                self.obey(&joined.orders);
            }
            ServerMessage::Entered { participant } => {
                assert!(
                    self.people.insert(participant.node),
                    "a node number was given out twice"
                );
            }
            ServerMessage::Left { node, .. } => {
                assert!(
                    self.people.remove(node),
                    "{node} left without having been there"
                );
            }
            ServerMessage::Orders(orders) => {
                assert!(!orders.reset);
                self.obey(orders);
            }
            _ => {}
        }
    }
}

/// What the relay has been told, in one room.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RelayShadow {
    pub is_in: bool,
    pub links: BTreeMap<Node, String>,
    pub offers: Vec<(Node, String)>,
    pub feeds: BTreeMap<(StreamRef, Node), (Vec<u8>, u32)>,
    pub parents: BTreeMap<StreamRef, (Node, Vec<u8>)>,
    pub stands_by: BTreeMap<(StreamRef, Node), (Vec<u8>, u32)>,
    /// What came to it.
    pub has: BTreeSet<StreamRef>,
    /// What it has yet to say: once per order of a parent, and never unasked.
    pub owes: BTreeMap<StreamRef, Node>,
}

fn stream_ref(stream: grove_relay::Stream) -> StreamRef {
    StreamRef {
        node: stream.node(),
        stream: stream.stream(),
    }
}

impl RelayShadow {
    /// The same in a participant's words.
    fn as_participant(&self) -> Shadow {
        let parents = self.parents.iter();
        let parents =
            parents.map(|(stream, (parent, layers))| (*stream, (Some(*parent), layers.clone())));
        Shadow {
            node: RELAY,
            links: self.links.keys().map(|peer| (*peer, false)).collect(),
            feeds: self.feeds.clone(),
            stands_by: self.stands_by.clone(),
            parents: parents.collect(),
            ..Shadow::default()
        }
    }

    fn obey(&mut self, command: &Command) {
        if let Command::Enter { room, node } = command {
            assert_eq!((*room, *node), (ROOM, RELAY));
            self.is_in = true;
            return;
        }
        if let Command::Leave { room } = command {
            assert_eq!(*room, ROOM);
            *self = Self::default();
            return;
        }
        assert!(self.is_in, "it is not in the room: {command:?}");
        match command.clone() {
            Command::Enter { .. } | Command::Leave { .. } => {}
            Command::Link { peer, token, .. } => {
                self.links.insert(peer, URL_SAFE_NO_PAD.encode(token.0));
            }
            Command::Offer { peer, sdp, .. } => {
                assert!(
                    self.links.contains_key(&peer),
                    "{peer} has no link to offer"
                );
                self.offers.push((peer, sdp));
            }
            Command::Unlink { peer, .. } => drop(self.links.remove(&peer)),
            Command::Feed {
                stream,
                child,
                layers,
                rate_bps,
                ..
            } => {
                let stream = stream_ref(stream);
                assert!(
                    self.links.contains_key(&child),
                    "the relay feeds {child} without a link"
                );
                assert!(
                    self.has.contains(&stream),
                    "the relay feeds {stream:?}, which it has not got"
                );
                let layers = layers.iter().collect();
                self.stands_by.remove(&(stream, child));
                self.feeds
                    .insert((stream, child), (layers, rate_bps as u32));
            }
            Command::Release { stream, child, .. } => {
                self.feeds.remove(&(stream_ref(stream), child));
                self.stands_by.remove(&(stream_ref(stream), child));
            }
            Command::StandBy {
                stream,
                child,
                layers,
                rate_bps,
                ..
            } => {
                assert!(
                    self.links.contains_key(&child),
                    "the relay stands by for {child} without a link"
                );
                let seat = (stream_ref(stream), child);
                self.feeds.remove(&seat);
                let layers = layers.iter().collect();
                self.stands_by.insert(seat, (layers, rate_bps as u32));
            }
            Command::Backup { .. } => panic!("nobody stands by for a relay"),
            Command::Parent {
                stream,
                parent,
                layers,
                ..
            } => {
                assert!(
                    self.links.contains_key(&parent),
                    "the relay hears {parent} without a link"
                );
                let (stream, layers) = (stream_ref(stream), layers.iter().collect());
                self.parents.insert(stream, (parent, layers));
                self.owes.insert(stream, parent);
            }
            Command::Forget { stream, .. } => {
                let stream = stream_ref(stream);
                self.owes.remove(&stream);
                self.parents.remove(&stream);
                self.has.remove(&stream);
                assert!(
                    self.feeds.keys().all(|(fed, _)| *fed != stream),
                    "the relay forgets {stream:?}, which it feeds"
                );
                self.stands_by.retain(|(fed, _), _| *fed != stream);
            }
        }
    }
}

/// No two rooms give out the same token.
static TOKENS: AtomicU64 = AtomicU64::new(1);

pub struct World {
    pub room: Room,
    pub now: u64,
    pub shadows: BTreeMap<ConnectionId, Shadow>,
    /// The same clients, with every message given to them twice.
    twice: BTreeMap<ConnectionId, Shadow>,
    pub heard: BTreeMap<ConnectionId, Vec<ServerMessage>>,
    pub closed: BTreeMap<ConnectionId, Close>,
    pub relay: RelayShadow,
    relay_twice: RelayShadow,
    /// What the relay was told, for whoever takes it.
    pub commands: Vec<Command>,
    starts: u32,
    last: u64,
}

impl World {
    pub fn new(policy: Policy) -> Self {
        Self::of(Room::new(settings(), opening(policy)).expect("the policy is one"))
    }

    /// A room that may use a relay.
    pub fn with_relay(policy: Policy) -> Self {
        Self::of(Room::new(relay_settings(), opening(policy)).expect("the policy is one"))
    }

    pub fn of(room: Room) -> Self {
        Self {
            room,
            now: 1_000,
            shadows: BTreeMap::new(),
            twice: BTreeMap::new(),
            heard: BTreeMap::new(),
            closed: BTreeMap::new(),
            relay: RelayShadow::default(),
            relay_twice: RelayShadow::default(),
            commands: Vec::new(),
            starts: 0,
            last: 0,
        }
    }

    pub fn token(&self, connection: ConnectionId) -> String {
        self.shadows[&connection].token.clone()
    }

    pub fn node(&self, connection: ConnectionId) -> Node {
        self.shadows[&connection].node
    }

    /// Somebody new.
    pub fn enter(&mut self) -> ConnectionId {
        self.enter_as(join(self.last + 1, None))
    }

    pub fn enter_as(&mut self, join: Join) -> ConnectionId {
        self.last += 1;
        let connection = ConnectionId(self.last);
        let mut token = [self.last as u8; 32];
        token[..8].copy_from_slice(&TOKENS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let token = Token::new(token);
        self.handle(Input::Join {
            connection,
            join: Box::new(join),
            token,
        });
        connection
    }

    /// Somebody new who sends camera and microphone.
    pub fn enter_sending(&mut self) -> ConnectionId {
        let connection = self.enter();
        self.say(
            connection,
            ClientMessage::Publish {
                publication: camera(),
            },
        );
        connection
    }

    pub fn say(&mut self, connection: ConnectionId, message: ClientMessage) {
        if !self.closed.contains_key(&connection) {
            self.handle(Input::Message {
                connection,
                message,
            });
        }
    }

    pub fn cut(&mut self, connection: ConnectionId) {
        self.shadows.remove(&connection);
        self.twice.remove(&connection);
        self.handle(Input::Disconnected { connection });
    }

    pub fn lost(&mut self, reporter: ConnectionId, peer: Node, why: LostReason) {
        self.say(reporter, ClientMessage::Lost { peer, why });
    }

    /// The relay says something.
    pub fn hear_relay(&mut self, event: Event) {
        self.handle(Input::Relay(event));
    }

    /// A stream came to the relay from this parent.
    pub fn relay_has(&mut self, stream: StreamRef, parent: Node) {
        if self.relay.parents.get(&stream).map(|known| known.0) == Some(parent) {
            for relay in [&mut self.relay, &mut self.relay_twice] {
                relay.has.insert(stream);
                relay.owes.remove(&stream);
            }
        }
        self.hear_relay(Event::Ready {
            room: ROOM,
            stream: grove_relay::Stream::new(stream.node, stream.stream),
            parent,
        });
    }

    /// A stream came to a client from its parent: it says so once per parent.
    pub fn client_has(&mut self, connection: ConnectionId, stream: StreamRef) {
        let Some(shadow) = self.shadows.get_mut(&connection) else {
            return;
        };
        let parent = shadow.parents.get(&stream).and_then(|known| known.0);
        if let Some(parent) = parent.filter(|_| shadow.owes.remove(&stream)) {
            if let Some(twice) = self.twice.get_mut(&connection) {
                twice.owes.remove(&stream);
            }
            self.say(connection, ClientMessage::Ready { stream, parent });
        }
    }

    /// Everything that the relay waits for comes to it; it says so once.
    pub fn relay_is_ready(&mut self) {
        for (stream, parent) in self.relay.owes.clone() {
            self.relay_has(stream, parent);
        }
    }

    /// The relay loses all that it knew of this room.
    pub fn relay_drops_the_room(&mut self) {
        self.relay = RelayShadow::default();
        self.relay_twice = RelayShadow::default();
        self.hear_relay(Event::Left { room: ROOM });
    }

    /// The relay loses all that it knew.
    pub fn restart_relay(&mut self) {
        self.restart_relay_with(relay_settings().relay.expect("there is one"));
    }

    /// It starts anew, by order, or comes where there was none.
    pub fn restart_relay_with(&mut self, settings: RelaySettings) {
        self.relay = RelayShadow::default();
        self.relay_twice = RelayShadow::default();
        self.starts += 1;
        self.hear_start(&format!("start {}", self.starts), settings);
    }

    /// The room is told of a start.
    pub fn hear_start(&mut self, instance: &str, settings: RelaySettings) {
        let instance = instance.to_owned();
        self.handle(Input::RelayStarted { instance, settings });
    }

    /// The relay is turned off.
    pub fn end_relay(&mut self) {
        self.relay = RelayShadow::default();
        self.relay_twice = RelayShadow::default();
        self.handle(Input::RelayEnded);
    }

    fn handle(&mut self, input: Input) {
        let outputs = self.room.handle(input, self.now);
        self.carry_out(outputs);
    }

    /// Time passes, and every deadline on the way is kept.
    pub fn pass(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(due) = self
            .room
            .poll_timeout()
            .filter(|due| *due <= end && !self.room.is_over(self.now))
        {
            self.now = self.now.max(due);
            let outputs = self.room.handle_timeout(self.now);
            self.carry_out(outputs);
            let again = self.room.poll_timeout();
            assert!(
                again.is_none_or(|again| again > due) || self.room.is_over(self.now),
                "a deadline stays: {due}"
            );
        }
        self.now = end;
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    for connection in to {
                        assert!(
                            !self.closed.contains_key(&connection),
                            "a message after the close: {message:?}"
                        );
                        self.heard
                            .entry(connection)
                            .or_default()
                            .push(message.clone());
                        if matches!(message, ServerMessage::Error { .. }) {
                            continue;
                        }
                        self.shadows.entry(connection).or_default().hear(&message);
                        let twice = self.twice.entry(connection).or_default();
                        twice.hear(&message);
                        if let ServerMessage::Orders(orders) = &message {
                            twice.obey(orders);
                        }
                    }
                }
                Output::Close { connection, why } => {
                    self.shadows.remove(&connection);
                    self.twice.remove(&connection);
                    self.closed.insert(connection, why);
                }
                Output::Relay(command) => {
                    self.relay.obey(&command);
                    self.relay_twice.obey(&command);
                    self.relay_twice.obey(&command);
                    self.commands.push(command);
                }
                Output::Joined { .. } | Output::Moved { .. } => {}
            }
        }
    }

    /// What somebody heard since the last call.
    pub fn take(&mut self, connection: ConnectionId) -> Vec<ServerMessage> {
        self.heard.remove(&connection).unwrap_or_default()
    }

    /// The orders that somebody got since the last call.
    pub fn take_orders(&mut self, connection: ConnectionId) -> Vec<Order> {
        let orders = |message| match message {
            ServerMessage::Orders(orders) => orders.changes,
            _ => Vec::new(),
        };
        self.take(connection).into_iter().flat_map(orders).collect()
    }

    /// Who feeds whom in the first tree.
    pub fn edges(&self) -> Vec<(Node, Node)> {
        let trees = self.room.plan().trees();
        let edges = trees.iter().flat_map(|tree| &tree.edges);
        edges
            .map(|view| (view.edge.parent.0 as Node, view.child.0 as Node))
            .collect()
    }

    /// Every child says that its stream comes from its parent, until nothing new follows from it.
    pub fn everybody_is_ready(&mut self) {
        for _ in 0..20 {
            let before = (self.shadows.clone(), self.relay.clone());
            self.relay_is_ready();
            for (connection, shadow) in before.0.clone() {
                for (stream, (parent, _)) in shadow.parents {
                    if let Some(parent) = parent {
                        self.say(connection, ClientMessage::Ready { stream, parent });
                    }
                }
            }
            if (&self.shadows, &self.relay) == (&before.0, &before.1) {
                return;
            }
        }
        panic!("being ready leads to new parents without end");
    }

    /// Whoever may turn to somebody is expected there, over a link, and by nobody else.
    fn check_backups(&self, by_node: &BTreeMap<Node, &Shadow>) {
        let mut expected = BTreeSet::new();
        for (&child, shadow) in by_node {
            for (stream, (backup, layers)) in &shadow.backups {
                let parent = shadow.parents.get(stream).and_then(|known| known.0);
                assert!(parent.is_some() && parent != Some(*backup));
                expected.insert((*backup, *stream, child));
                let Some(host) = by_node.get(backup) else {
                    continue;
                };
                let told = host.stands_by.get(&(*stream, child));
                assert_eq!(told.map(|told| &told.0), Some(layers));
                assert!(host.links.contains_key(&child) && shadow.links.contains_key(backup));
            }
        }
        for (&node, shadow) in by_node {
            for (stream, child) in shadow.stands_by.keys() {
                assert!(
                    expected.contains(&(node, *stream, *child)) || !by_node.contains_key(child),
                    "{node} stands by for {child} with {stream:?}, who does not know"
                );
            }
        }
    }

    /// What the clients do is at least what the plan says; once everybody is ready, it is exactly that.
    pub fn check(&self, exactly: bool) {
        assert_eq!(self.shadows, self.twice, "orders given twice do harm");
        assert_eq!(self.relay, self.relay_twice, "orders given twice do harm");
        let relay = self.relay.as_participant();
        let mut by_node: BTreeMap<Node, &Shadow> = self
            .shadows
            .values()
            .map(|shadow| (shadow.node, shadow))
            .collect();
        for shadow in by_node.values() {
            if let Some(link) = shadow.relays.get(&RELAY) {
                let expected = self.relay.links.get(&shadow.node);
                assert_eq!(expected, Some(&link.token), "{}", shadow.node);
            }
        }
        if self.relay.is_in {
            by_node.insert(RELAY, &relay);
        }
        let mut feeds: BTreeMap<Node, BTreeSet<(StreamRef, Node)>> = BTreeMap::new();
        let mut parents: BTreeMap<Node, usize> = BTreeMap::new();
        for tree in self.room.plan().trees() {
            let stream = StreamRef {
                node: (tree.stream.0 / 16) as Node,
                stream: (tree.stream.0 % 16) as u8,
            };
            for view in &tree.edges {
                let (parent, child) = (view.edge.parent.0 as Node, view.child.0 as Node);
                let layers: Vec<u8> = (0..4)
                    .filter(|layer| view.edge.layers.0 & (1 << layer) != 0)
                    .collect();
                assert!(
                    view.edge.feed || parent != RELAY || !exactly,
                    "the relay has not begun to feed {child} with {stream:?}"
                );
                if let Some(shadow) = by_node.get(&child) {
                    assert_eq!(
                        shadow.parents.get(&stream),
                        Some(&(Some(parent), layers.clone())),
                        "{child} in {stream:?}"
                    );
                    *parents.entry(child).or_default() += 1;
                }
                if let Some(shadow) = by_node.get(&parent).filter(|_| view.edge.feed) {
                    assert_eq!(
                        shadow.feeds.get(&(stream, child)),
                        Some(&(layers, view.edge.rate)),
                        "{parent} to {child}"
                    );
                    feeds.entry(parent).or_default().insert((stream, child));
                }
                if let (Some(a), Some(b)) = (by_node.get(&parent), by_node.get(&child)) {
                    let ends = (a.links.get(&child), b.links.get(&parent));
                    assert!(
                        matches!(ends, (Some(x), Some(y)) if x != y),
                        "{parent} to {child}: {ends:?}"
                    );
                }
            }
            for (child, _) in &tree.unserved {
                if let Some(shadow) = by_node.get(&(child.0 as Node)) {
                    assert_eq!(
                        shadow.parents.get(&stream).map(|known| known.0),
                        Some(None),
                        "{child:?} is unserved"
                    );
                }
            }
        }
        if exactly {
            self.check_backups(&by_node);
        }
        let present: BTreeSet<Node> = self
            .room
            .participants()
            .map(|one| one.node)
            .chain(self.room.relays())
            .collect();
        for (node, shadow) in by_node
            .into_iter()
            .filter(|(node, _)| present.contains(node))
        {
            let told = shadow
                .parents
                .values()
                .filter(|(parent, _)| parent.is_some())
                .count();
            let planned = parents.get(&node).copied().unwrap_or(0);
            // A relay that is taken out of a tree goes on for those who move away from it.
            assert!(
                told == planned || (node == RELAY && told > planned && !exactly),
                "{node} hears {told}, in the plan {planned}"
            );
            if exactly {
                let fed = feeds.get(&node).cloned().unwrap_or_default();
                let told: BTreeSet<(StreamRef, Node)> = shadow.feeds.keys().copied().collect();
                assert_eq!(told, fed, "{node} feeds others than the plan says");
            }
        }
    }
}

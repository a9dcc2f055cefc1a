//! A room, the relay's core and model browsers together, in virtual time: frames really go along the trees, so whatever
//! room and relay misunderstand about each other shows as somebody who gets no pictures.

use crate::world::{ROOM, World, camera, join};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::{
    Command, Event, Incoming, Input, Link, Outgoing, Output, Relay, Settings, Token,
};
use grove_server::room::ConnectionId;
use grove_server::room::relay::RELAY;
use grove_server::signal::message::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Milliseconds between two looks at everything.
const TICK: u64 = 10;
/// Milliseconds between two pictures.
const PICTURE: u64 = 30;
/// Milliseconds from the order of a link between browsers until it carries.
const NEGOTIATION: u64 = 700;
/// Milliseconds after which a browser turns to its backup.
const QUIET: u64 = 100;
/// Milliseconds after which a browser says that a neighbour is silent.
const SILENT: u64 = 2_000;
/// What a browser has at the latest when nothing happens any more.
const CALM: u64 = 5_000;

/// What goes from one node to another.
struct Parcel {
    from: Node,
    to: Node,
    bytes: Bytes,
}

struct Call {
    world: World,
    relay: Relay,
    /// Open links to the relay, and what they were opened with.
    links: BTreeMap<Node, (Link, String)>,
    /// Links between browsers, and when both ends were told of them.
    pairs: BTreeMap<(Node, Node), u64>,
    /// Who delivered a stream last.
    heard: BTreeMap<(Node, StreamRef), Node>,
    /// The newest number of a stream and track, and when it came.
    newest: BTreeMap<(Node, StreamRef, u8, u8), (u32, u64)>,
    /// Whose neighbour does not answer, and since when.
    silent: BTreeMap<(Node, Node), u64>,
    /// Who was told to begin although nobody ordered it to feed: the backup, the stream, the child.
    taken: BTreeSet<(Node, StreamRef, Node)>,
    /// What came to whom, by number, where somebody wants to know.
    log: Vec<(Node, Header, Node)>,
    senders: BTreeSet<Node>,
    beats: u32,
    seed: u64,
}

impl Call {
    fn new(policy: Policy) -> Self {
        Self {
            world: World::with_relay(policy),
            relay: Relay::new(Settings::default()),
            links: BTreeMap::new(),
            pairs: BTreeMap::new(),
            heard: BTreeMap::new(),
            newest: BTreeMap::new(),
            silent: BTreeMap::new(),
            taken: BTreeSet::new(),
            log: Vec::new(),
            senders: BTreeSet::new(),
            beats: 0,
            seed: 1_000,
        }
    }

    fn enter(&mut self, sends: bool, uplink: u64) -> ConnectionId {
        self.seed += 1;
        let one = self.world.enter_as(Join {
            uplink_bps: Some(uplink),
            ..join(self.seed, None)
        });
        if sends {
            let publication = camera();
            self.world.say(one, ClientMessage::Publish { publication });
            self.senders.insert(self.world.node(one));
        }
        one
    }

    fn set(&mut self, by: ConnectionId, policy: Policy, never_relay: Option<bool>) {
        let message = ClientMessage::SetPolicy {
            policy,
            never_relay,
        };
        self.world.say(by, message);
    }

    /// The page is loaded again: it leaves, and 300 ms later somebody new comes.
    fn reload(&mut self, one: ConnectionId, sends: bool, uplink: u64) -> ConnectionId {
        self.world.say(one, ClientMessage::Leave);
        self.pass(300);
        self.enter(sends, uplink)
    }

    /// The relay loses this room by a fault of its own.
    fn drop_room(&mut self) {
        self.obey();
        self.relay
            .handle_command(Command::Leave { room: ROOM }, self.micros());
        self.deliver(VecDeque::new());
        self.world.relay_drops_the_room();
    }

    fn restart_relay(&mut self) {
        self.relay = Relay::new(Settings::default());
        self.links.clear();
        self.world.commands.clear();
        self.world.restart_relay();
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / TICK {
            self.world.pass(TICK);
            self.tick();
        }
    }

    fn micros(&self) -> u64 {
        self.world.now * 1_000
    }

    fn connection(&self, node: Node) -> Option<ConnectionId> {
        let mut shadows = self.world.shadows.iter();
        let found = shadows.find(|(_, shadow)| shadow.node == node)?;
        Some(*found.0)
    }

    fn obey(&mut self) {
        let now = self.micros();
        for command in std::mem::take(&mut self.world.commands) {
            self.relay.handle_command(command, now);
        }
    }

    fn tick(&mut self) {
        self.obey();
        self.open_links();
        self.report_the_silent();
        let now = self.micros();
        if self.world.now.is_multiple_of(50) {
            self.beats += 1;
            let text = format!(r#"{{"t":"hb","n":{},"f":0}}"#, self.beats);
            for (link, _) in self.links.values() {
                let beat = Input::Came(Incoming::Text(text.clone()));
                self.relay.handle_input(*link, beat, now);
            }
        }
        if self.relay.poll_timeout().is_some_and(|due| due.at <= now) {
            self.relay.handle_timeout(now);
        }
        let parcels = if self.world.now.is_multiple_of(PICTURE) {
            self.pictures()
        } else {
            VecDeque::new()
        };
        self.deliver(parcels);
    }

    /// Browsers open what they are told to open, and close what they are told to close.
    fn open_links(&mut self) {
        let now = self.micros();
        let shadows = self.world.shadows.values();
        let told: BTreeSet<(Node, Node)> = shadows
            .flat_map(|one| one.links.keys().map(|&peer| (one.node, peer)))
            .collect();
        let both = |&(a, b): &(Node, Node)| a < b && told.contains(&(b, a));
        self.pairs
            .retain(|pair, _| told.contains(pair) && both(pair));
        for &pair in told.iter().filter(|pair| both(pair)) {
            self.pairs.entry(pair).or_insert(self.world.now);
        }
        let ordered: BTreeMap<Node, String> = self
            .world
            .shadows
            .values()
            .filter_map(|one| Some((one.node, one.relays.get(&RELAY)?.token.clone())))
            .collect();
        let over = |(node, (_, token)): &(&Node, &(Link, String))| ordered.get(node) != Some(token);
        let over: Vec<Node> = self.links.iter().filter(over).map(|one| *one.0).collect();
        for node in over {
            if let Some((link, _)) = self.links.remove(&node) {
                self.relay.handle_input(link, Input::Closed, now);
            }
        }
        for (node, token) in ordered {
            if self.links.contains_key(&node) {
                continue;
            }
            let mut bytes = [0; 16];
            let decoded = URL_SAFE_NO_PAD.decode(&token).expect("the room's own");
            bytes.copy_from_slice(&decoded);
            if let Ok(link) = self.relay.handle_attach(Token(bytes), now) {
                self.links.insert(node, (link, token));
                self.silent.remove(&(node, RELAY));
            }
        }
    }

    /// Whoever waits for a neighbour that is gone says so after a while.
    fn report_the_silent(&mut self) {
        let mut gone = Vec::new();
        for (&connection, one) in &self.world.shadows {
            for &peer in one.links.keys() {
                let answers = if peer == RELAY {
                    self.links.contains_key(&one.node)
                } else {
                    self.connection(peer).is_some()
                };
                if !answers {
                    gone.push((connection, one.node, peer));
                }
            }
        }
        let here: BTreeSet<(Node, Node)> = gone.iter().map(|&(_, me, peer)| (me, peer)).collect();
        self.silent.retain(|pair, _| here.contains(pair));
        let stands = |host: Node, seat: &(StreamRef, Node)| {
            let mut all = self.world.shadows.values();
            let told = all.find(|one| one.node == host);
            let told = told.is_some_and(|one| one.stands_by.contains_key(seat));
            told || (host == RELAY && self.world.relay.stands_by.contains_key(seat))
        };
        self.taken
            .retain(|&(host, stream, child)| stands(host, &(stream, child)));
        for (connection, me, peer) in gone {
            // What another said before may have ended its connection.
            if !self.world.shadows.contains_key(&connection) {
                continue;
            }
            let since = *self.silent.entry((me, peer)).or_insert(self.world.now);
            if self.world.now >= since + QUIET {
                self.turn_to_backups(connection, me, peer);
            }
            if self.world.now >= since + SILENT {
                self.silent.remove(&(me, peer));
                self.world.lost(connection, peer, LostReason::Silent);
            }
        }
    }

    /// Whatever came from `peer` is taken from the backups.
    fn turn_to_backups(&mut self, connection: ConnectionId, me: Node, peer: Node) {
        let shadow = &self.world.shadows[&connection];
        let orphaned = shadow
            .parents
            .iter()
            .filter(|(_, known)| known.0 == Some(peer));
        let backups = orphaned.filter_map(|(s, _)| Some((*s, shadow.backups.get(s)?.0)));
        for (stream, host) in backups.collect::<Vec<_>>() {
            if !self.taken.insert((host, stream, me)) || host != RELAY {
                continue;
            }
            let key = u32::from(stream.node) * 16 + u32::from(stream.stream);
            let text = format!(r#"{{"t":"take","s":{key},"have":[]}}"#);
            if let Some((link, _)) = self.links.get(&me) {
                let take = Input::Came(Incoming::Text(text));
                self.relay.handle_input(*link, take, self.world.now * 1_000);
            }
        }
    }

    /// One moment of every camera: two layers and sound, all of it key frames, to whoever is to have it.
    fn pictures(&mut self) -> VecDeque<Parcel> {
        let mut parcels = VecDeque::new();
        let number = (self.world.now / PICTURE) as u32;
        for one in self.world.shadows.values() {
            if !self.senders.contains(&one.node) {
                continue;
            }
            for (track, spatial) in [(0, 0), (1, 0), (1, 1)] {
                let kind = match track {
                    0 => Kind::Audio { level: 30 },
                    _ => Kind::Key {
                        width: 64,
                        height: 64,
                    },
                };
                let header = Header {
                    kind,
                    spatial,
                    temporal: 0,
                    number,
                    capture_us: self.world.now * 1_000,
                    sender: one.node,
                    stream: 0,
                    track,
                    generation: 1,
                    droppable: false,
                    rotation: 0,
                };
                let mut bytes = header.encode().expect("a valid header").to_vec();
                bytes.resize(100, 0);
                self.forward(one.node, &header, &bytes.into(), &mut parcels);
            }
        }
        parcels
    }

    /// To the node's children.
    fn forward(&self, node: Node, h: &Header, bytes: &Bytes, parcels: &mut VecDeque<Parcel>) {
        let stream = StreamRef {
            node: h.sender,
            stream: h.stream,
        };
        let me = self.connection(node).map(|one| &self.world.shadows[&one]);
        let standing = me.iter().flat_map(|me| &me.stands_by);
        let begun = standing.filter(|((s, child), _)| self.taken.contains(&(node, *s, *child)));
        for ((fed, child), (layers, _)) in me.iter().flat_map(|me| &me.feeds).chain(begun) {
            if *fed == stream && (h.track == 0 || layers.contains(&h.spatial)) {
                parcels.push_back(Parcel {
                    from: node,
                    to: *child,
                    bytes: bytes.clone(),
                });
            }
        }
    }

    fn deliver(&mut self, mut parcels: VecDeque<Parcel>) {
        let now = self.micros();
        loop {
            while let Some(output) = self.relay.poll_output() {
                match output {
                    Output::Send(link, message) => {
                        let mut links = self.links.iter();
                        let Some(to) = links.find(|open| open.1.0 == link).map(|open| *open.0)
                        else {
                            continue;
                        };
                        match message {
                            Outgoing::Close(_) => drop(self.links.remove(&to)),
                            Outgoing::Frame(bytes) => parcels.push_back(Parcel {
                                from: RELAY,
                                to,
                                bytes,
                            }),
                            Outgoing::Text(_) => {}
                        }
                        self.relay.handle_input(link, Input::Unsent(0), now);
                    }
                    Output::Event(Event::Ready { stream, parent, .. }) => {
                        let stream = StreamRef {
                            node: stream.node(),
                            stream: stream.stream(),
                        };
                        self.world.relay_has(stream, parent);
                    }
                    Output::Event(event) => self.world.hear_relay(event),
                }
                self.obey();
            }
            let Some(Parcel { from, to, bytes }) = parcels.pop_front() else {
                return;
            };
            if to == RELAY {
                if let Some((link, _)) = self.links.get(&from) {
                    let frame = Input::Came(Incoming::Frame(bytes));
                    self.relay.handle_input(*link, frame, now);
                }
                continue;
            }
            self.receive(from, to, &bytes, &mut parcels);
        }
    }

    /// A browser takes what its parent sends, or the one who delivered before, and hands it on.
    fn receive(&mut self, from: Node, me: Node, bytes: &Bytes, parcels: &mut VecDeque<Parcel>) {
        let header = Header::decode(bytes).expect("a camera's frame");
        let stream = StreamRef {
            node: header.sender,
            stream: header.stream,
        };
        let Some(connection) = self.connection(me) else {
            return;
        };
        let shadow = &self.world.shadows[&connection];
        let parent = shadow.parents.get(&stream).and_then(|known| known.0);
        let heard = self.heard.get(&(me, stream)).copied();
        let since = self.pairs.get(&(me.min(from), me.max(from)));
        let up = since.is_some_and(|since| since + NEGOTIATION <= self.world.now);
        let linked = from == RELAY || up;
        let backs = self.taken.contains(&(from, stream, me));
        if !linked || (parent != Some(from) && heard != Some(from) && !backs) {
            return;
        }
        let key = (me, stream, header.track, header.spatial);
        let new = self
            .newest
            .get(&key)
            .is_none_or(|known| known.0 < header.number);
        if new {
            self.newest.insert(key, (header.number, self.world.now));
            self.log.push((me, header, from));
            self.forward(me, &header, bytes, parcels);
        }
        if parent == Some(from) {
            self.heard.insert((me, stream), from);
            self.world.client_has(connection, stream);
        }
    }

    /// Everybody whom the plan serves got something new within the last moment: pictures, where it says pictures.
    fn check(&mut self) {
        if !self.world.relay.is_in {
            // It may be waiting to come in again after a fault.
            self.pass(CALM);
        }
        self.pass(CALM);
        for tree in self.world.room.plan().trees() {
            let stream = StreamRef {
                node: (tree.stream.0 / 16) as Node,
                stream: (tree.stream.0 % 16) as u8,
            };
            // Of a sender that vanished nothing comes; that only the relay misses it does not end its grace period.
            if self.connection(stream.node).is_none() {
                continue;
            }
            for view in &tree.edges {
                let child = view.child.0 as Node;
                if self.connection(child).is_none() {
                    continue;
                }
                let track = u8::from(view.edge.layers.0 != 0);
                let came =
                    (0..2).filter_map(|layer| self.newest.get(&(child, stream, track, layer)));
                let last = came.map(|known| known.1).max();
                assert!(
                    last.is_some_and(|last| last + 500 >= self.world.now),
                    "{child} got the last of {stream:?} at {last:?}, now {}, by {view:?}",
                    self.world.now
                );
            }
        }
    }
}

#[test]
fn policy_relay_mesh_and_relay_again_within_the_overlap_leaves_nobody_in_the_dark() {
    for millis in [0, 100, 500, 1_000, 1_900, 2_500] {
        let mut call = Call::new(Policy::Relay);
        let first = call.enter(true, 20_000_000);
        call.enter(false, 20_000_000);
        call.enter(false, 20_000_000);
        call.check();
        call.set(first, Policy::Mesh, None);
        call.pass(millis);
        call.set(first, Policy::Relay, None);
        call.check();
        let edges = call.world.edges();
        assert_eq!(edges, [(1, RELAY), (RELAY, 2), (RELAY, 3)], "{millis}");
    }
}

#[test]
fn a_watcher_of_a_weak_sender_who_loads_the_page_again_sees_it_again() {
    for uplink in [1_300_000, 1_600_000, 2_000_000] {
        let mut call = Call::new(Policy::Auto);
        call.enter(true, uplink);
        call.enter(false, 64_000);
        let mut one = call.enter(false, 64_000);
        call.pass(20_000);
        call.check();
        for _ in 0..3 {
            assert!(call.world.edges().contains(&(1, RELAY)), "{uplink}");
            one = call.reload(one, false, 64_000);
            call.check();
        }
    }
}

/// Everybody whose parent was the node that vanishes now, with what it gets from then on for a while: how long it got nothing,
/// and the numbers that it missed after that.
fn vanish(call: &mut Call, gone: Node) -> Vec<(Node, StreamRef, u64, usize)> {
    let connection = call.connection(gone).expect("it is here");
    let shadows = call.world.shadows.values();
    let orphans: Vec<(Node, StreamRef, Node)> = shadows
        .flat_map(|one| {
            one.parents
                .iter()
                .map(move |(stream, known)| (one, stream, known))
        })
        .filter(|(_, stream, known)| known.0 == Some(gone) && stream.node != gone)
        .filter_map(|(one, stream, _)| Some((one.node, *stream, one.backups.get(stream)?.0)))
        .collect();
    call.log.clear();
    let before = call.world.now;
    call.world.cut(connection);
    call.pass(4_000);
    let mut seen = Vec::new();
    for (child, stream, backup) in orphans {
        let sound = call.log.iter().filter(|(me, header, _)| {
            (*me, header.sender, header.track) == (child, stream.node, 0)
        });
        let sound: Vec<&(Node, Header, Node)> = sound.collect();
        let first = sound.first().expect("something came");
        assert_eq!(first.2, backup, "the first to help is the backup");
        let numbers: Vec<u32> = sound.iter().map(|one| one.1.number).collect();
        let missed = numbers
            .windows(2)
            .map(|two| two[1] - two[0] - 1)
            .sum::<u32>();
        let shadow = &call.world.shadows[&call.connection(child).expect("it is here")];
        let parent = shadow.parents[&stream].0;
        assert_eq!(
            parent,
            Some(backup),
            "the server settles on who delivers already"
        );
        seen.push((
            child,
            stream,
            first.1.capture_us / 1_000 - before,
            missed as usize,
        ));
    }
    seen
}

#[test]
fn children_of_a_node_that_vanishes_turn_to_their_backups_and_miss_nothing_when_the_server_settles_it()
 {
    for (policy, uplink) in [
        (Policy::Tree { branching: 2 }, 20_000_000),
        (Policy::Auto, 3_000_000),
    ] {
        let mut call = Call::new(policy);
        call.enter(true, uplink);
        for _ in 0..6 {
            call.enter(false, 20_000_000);
        }
        call.pass(5_000);
        call.check();
        let edges = call.world.edges();
        let helper = edges
            .iter()
            .find(|(parent, _)| *parent != 1 && *parent != RELAY);
        let helper = helper.expect("somebody helps").0;
        let seen = vanish(&mut call, helper);
        assert!(!seen.is_empty(), "{policy:?}");
        for (child, stream, dark, missed) in seen {
            assert!(
                dark <= QUIET + PICTURE + TICK,
                "{child} got nothing for {dark} ms"
            );
            assert_eq!(missed, 0, "{child} missed frames of {stream:?}");
        }
        call.check();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Policy(Policy, Option<bool>),
    Enter { sends: bool, uplink: u64 },
    Leave,
    Reload { sends: bool, uplink: u64 },
    Vanish,
    Uplink(u64),
    RelayDropsTheRoom,
    RelayStarts,
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let uplink = || {
        prop_oneof![
            Just(64_000),
            Just(1_300_000),
            Just(1_600_000),
            Just(2_000_000),
            Just(20_000_000)
        ]
    };
    let policy = prop_oneof![
        1 => Just(Policy::Mesh),
        2 => Just(Policy::Auto),
        2 => Just(Policy::Relay),
        1 => Just(Policy::Tree { branching: 2 })
    ];
    let never = prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)];
    prop_oneof![
        5 => (policy, never).prop_map(|(policy, never_relay)| Step::Policy(policy, never_relay)),
        4 => (any::<bool>(), uplink()).prop_map(|(sends, uplink)| Step::Enter { sends, uplink }),
        1 => Just(Step::Leave),
        2 => (any::<bool>(), uplink()).prop_map(|(sends, uplink)| Step::Reload { sends, uplink }),
        1 => Just(Step::Vanish),
        2 => uplink().prop_map(Step::Uplink),
        1 => Just(Step::RelayDropsTheRoom),
        1 => Just(Step::RelayStarts),
        8 => prop_oneof![0..500_u64, 0..4_000_u64].prop_map(|millis| Step::Pass { millis }),
    ]
}

fn take_step(call: &mut Call, who: usize, step: Step) {
    let here: Vec<ConnectionId> = call.world.shadows.keys().copied().collect();
    let Some(&one) = here.get(who % here.len().max(1)) else {
        call.enter(true, 1_600_000);
        return;
    };
    match step {
        Step::Policy(policy, never_relay) => call.set(one, policy, never_relay),
        Step::Enter { .. } if here.len() >= 6 => {}
        Step::Enter { sends, uplink } => {
            call.enter(sends, uplink);
        }
        Step::Leave => call.world.say(one, ClientMessage::Leave),
        Step::Reload { sends, uplink } => {
            call.reload(one, sends, uplink);
        }
        Step::Vanish => call.world.cut(one),
        Step::Uplink(bps) => {
            let report = Report {
                uplink_bps: Some(bps),
                ..Report::default()
            };
            call.world.say(one, ClientMessage::Report(report));
        }
        Step::RelayDropsTheRoom => call.drop_room(),
        Step::RelayStarts => call.restart_relay(),
        Step::Pass { millis } => call.pass(millis),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_five_quiet_seconds_later_everybody_gets_what_the_plan_says(
        first in prop_oneof![Just(Policy::Auto), Just(Policy::Relay)],
        steps in prop::collection::vec((0..6_usize, step()), 1..30),
    ) {
        let mut call = Call::new(first);
        call.enter(true, 1_600_000);
        call.enter(false, 64_000);
        for (who, step) in steps {
            take_step(&mut call, who, step);
        }
        call.check();
    }
}

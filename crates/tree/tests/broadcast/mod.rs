//! A naive model of a broadcast: facts and edges in maps, every rule checked by walking.
#![allow(dead_code)] // Each test binary uses its part.

use std::collections::{BTreeMap, BTreeSet};

use grove_tree::broadcast::{Broadcast, Options};
use grove_tree::{
    EdgeChange, Fact, Frailty, Kind, Layers, Nat, NodeFacts, NodeId, Rates, Reason, StreamId,
};
use proptest::prelude::*;

pub const STREAM: StreamId = StreamId(7);
pub const ROOT: NodeId = NodeId(0);
pub const RATE: u32 = 1_000_000;

/// One video layer of [`RATE`].
pub fn rates() -> Rates {
    let mut layers = [0; Layers::MAX];
    layers[0] = RATE;
    Rates { audio: 0, layers }
}

/// A participant for whom slots are the limit, never the uplink.
pub fn peer(slots: u16) -> NodeFacts {
    NodeFacts {
        uplink: 1_000 * u64::from(RATE),
        slots,
        ..NodeFacts::default()
    }
}

pub fn relay(slots: u16) -> NodeFacts {
    NodeFacts {
        kind: Kind::Relay,
        uplink: 1_000_000 * u64::from(RATE),
        ..peer(slots)
    }
}

#[derive(Debug, Clone)]
pub enum Op {
    One(Fact),
    Many(Vec<Fact>),
    Wait(u64),
}

fn facts() -> impl Strategy<Value = NodeFacts> {
    let slots = prop_oneof![4 => 0u16..4, 2 => 4u16..10, 1 => Just(40u16)];
    let nat = prop_oneof![6 => Just(Nat::Cone), 2 => Just(Nat::Symmetric), 1 => Just(Nat::Open), 1 => Just(Nat::Blocked)];
    let frailty = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let rest = (
        0u64..12,
        0u8..3,
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.9),
        0u8..120,
    );
    (slots, nat, frailty, rest, prop::bool::weighted(0.1)).prop_map(
        |(slots, nat, frailty, rest, is_relay)| {
            let (copies, region, forwards, watches, contribution) = rest;
            let (background, battery, metered) = frailty;
            NodeFacts {
                kind: if is_relay {
                    Kind::Relay
                } else {
                    Kind::Participant
                },
                uplink: copies * u64::from(RATE),
                forwards,
                slots,
                region,
                nat,
                frailty: Frailty {
                    background,
                    battery,
                    metered,
                },
                contribution,
                watches,
                ..NodeFacts::default()
            }
        },
    )
}

/// One operation about nodes 0..ids.
pub fn op(ids: u32) -> impl Strategy<Value = Op> {
    let id = move || (0..ids).prop_map(NodeId);
    let going = || prop_oneof![id().prop_map(Fact::Left), id().prop_map(Fact::Failed)];
    let coming = || (1..ids, facts()).prop_map(|(id, facts)| Fact::Node(NodeId(id), facts));
    let batch = prop::collection::vec(prop_oneof![3 => coming(), 2 => going()], 1..12);
    let start = (0u32..2, 0..ids, 1u32..4).prop_map(|(stream, root, times)| {
        let mut rates = rates();
        rates.layers[0] *= times;
        Fact::Stream(StreamId(STREAM.0 + stream), NodeId(root), rates)
    });
    prop_oneof![
        12 => coming().prop_map(Op::One),
        6 => going().prop_map(Op::One),
        3 => batch.prop_map(Op::Many),
        2 => (id(), id()).prop_map(|(a, b)| Op::One(Fact::LinkLost(a, b))),
        1 => (id(), id()).prop_map(|(a, b)| Op::One(Fact::Barred(a, b))),
        2 => (id(), id()).prop_map(|(a, b)| Op::One(Fact::Ready(STREAM, a, b))),
        2 => (id(), id()).prop_map(|(a, b)| Op::One(Fact::Blamed(a, b))),
        2 => (id(), any::<bool>()).prop_map(|(a, on)| Op::One(Fact::Watches(STREAM, a, on))),
        1 => (id(), prop::option::of(0u8..4)).prop_map(|(a, layer)| Op::One(Fact::Wants(STREAM, a, layer))),
        1 => start.prop_map(Op::One),
        1 => (0u32..2).prop_map(|stream| Op::One(Fact::Ended(StreamId(STREAM.0 + stream)))),
        2 => (0u64..40_000).prop_map(Op::Wait),
    ]
}

pub fn options() -> impl Strategy<Value = Options> {
    (1u8..7, 1u8..9, 0u16..200, 0u16..2000).prop_map(|(depth, hub, spares, edge_budget)| {
        let mut options = Options {
            depth,
            hub,
            spares,
            edge_budget,
            ..Options::default()
        };
        for from in 0..3usize {
            for to in 0..3usize {
                options.rtt_ms[from][to] = 40 * from.abs_diff(to) as u16;
            }
        }
        options
    })
}

/// What the facts say, and the edges that the answers add up to.
#[derive(Debug)]
pub struct Model {
    pub plan: Broadcast,
    pub options: Options,
    pub now: u64,
    pub nodes: BTreeMap<NodeId, NodeFacts>,
    pub barred: BTreeSet<(NodeId, NodeId)>,
    /// Stream to (root, rate).
    pub streams: BTreeMap<StreamId, (NodeId, u32)>,
    /// (stream, child) to parent.
    pub edges: BTreeMap<(StreamId, NodeId), NodeId>,
    pub answers: Vec<EdgeChange>,
    epoch: u64,
}

impl Model {
    /// A broadcast whose root has three slots.
    pub fn new(options: Options) -> Self {
        let mut model = Model {
            plan: Broadcast::new(options.clone()),
            options,
            now: 0,
            nodes: BTreeMap::new(),
            barred: BTreeSet::new(),
            streams: BTreeMap::new(),
            edges: BTreeMap::new(),
            answers: Vec::new(),
            epoch: 0,
        };
        model.run(&Op::One(Fact::Node(ROOT, peer(3))));
        model.run(&Op::One(Fact::Stream(STREAM, ROOT, rates())));
        model
    }

    pub fn run(&mut self, op: &Op) {
        self.now += 10;
        let changes = match op {
            Op::One(fact) => {
                self.learn(fact);
                self.plan.handle(*fact, self.now)
            }
            Op::Many(facts) => {
                facts.iter().for_each(|fact| self.learn(fact));
                self.plan.handle_batch(facts, self.now)
            }
            Op::Wait(time) => {
                let until = self.now + time;
                while let Some(at) = self.plan.poll_timeout().filter(|at| *at <= until) {
                    self.now = self.now.max(at);
                    let changes = self.plan.handle_timeout(self.now);
                    self.obey(&changes, op);
                    if self
                        .plan
                        .poll_timeout()
                        .is_some_and(|next| next <= self.now)
                    {
                        panic!("a timeout asks for itself again");
                    }
                }
                self.now = until;
                Vec::new()
            }
        };
        self.obey(&changes, op);
    }

    fn learn(&mut self, fact: &Fact) {
        match *fact {
            Fact::Node(id, facts) => {
                let kind = self.nodes.get(&id).map_or(facts.kind, |known| known.kind);
                let watches = self
                    .nodes
                    .get(&id)
                    .map_or(facts.watches, |known| known.watches);
                self.nodes.insert(
                    id,
                    NodeFacts {
                        kind,
                        watches,
                        ..facts
                    },
                );
            }
            Fact::Left(id) | Fact::Failed(id) => {
                self.nodes.remove(&id);
                self.barred.retain(|pair| pair.0 != id && pair.1 != id);
                self.streams.retain(|_, (root, _)| *root != id);
            }
            Fact::Barred(a, b)
                if a != b && self.nodes.contains_key(&a) && self.nodes.contains_key(&b) =>
            {
                self.barred.insert((a, b));
                self.barred.insert((b, a));
            }
            Fact::Stream(id, root, rates)
                if self
                    .nodes
                    .get(&root)
                    .is_some_and(|facts| facts.kind != Kind::Relay) =>
            {
                self.streams.insert(id, (root, rates.layers.iter().sum()));
            }
            Fact::Ended(id) => {
                self.streams.remove(&id);
            }
            _ => {}
        }
    }

    /// Apply an answer entry by entry, and hold every prefix to the rules.
    fn obey(&mut self, changes: &[EdgeChange], op: &Op) {
        if let Some(first) = changes.first() {
            self.epoch += 1;
            assert_eq!(first.epoch, self.epoch, "an answer raises the epoch by one");
        }
        let mut seen = BTreeSet::new();
        for (at, change) in changes.iter().enumerate() {
            let key = (change.stream, change.child);
            assert_eq!(change.epoch, self.epoch);
            assert!(seen.insert(key), "two entries about {key:?}");
            assert_eq!(
                self.edges.get(&key).copied(),
                change.old,
                "the old parent of {key:?}"
            );
            assert!(change.old.is_some() || !change.make_before_break);
            match change.new {
                Some(edge) => {
                    let same = change.old == Some(edge.parent);
                    let again = matches!(
                        change.reason,
                        Reason::ParentReady | Reason::Layers | Reason::Joined
                    );
                    assert!(
                        !same || again || self.came_back(edge.parent, op),
                        "{change:?}"
                    );
                    self.edges.insert(key, edge.parent);
                }
                None => {
                    self.edges.remove(&key);
                }
            }
            let later: BTreeSet<_> = changes[at + 1..]
                .iter()
                .map(|change| (change.stream, change.child))
                .collect();
            self.check_prefix(&later);
        }
        self.answers.extend_from_slice(changes);
        self.check();
    }

    /// Did a node leave and come back within this operation?
    fn came_back(&self, node: NodeId, op: &Op) -> bool {
        let gone = |fact: &Fact| *fact == Fact::Left(node) || *fact == Fact::Failed(node);
        matches!(op, Op::Many(facts) if facts.iter().any(gone))
    }

    /// No cycle; level and a way to the root for whoever's way no later entry touches.
    fn check_prefix(&self, later: &BTreeSet<(StreamId, NodeId)>) {
        for &(stream, child) in self.edges.keys() {
            let mut at = child;
            let mut steps = 0;
            let mut settled = !later.contains(&(stream, child));
            while let Some(&parent) = self.edges.get(&(stream, at)) {
                at = parent;
                steps += 1;
                settled &= !later.contains(&(stream, at));
                assert!(steps <= self.edges.len(), "a cycle above {child:?}");
            }
            if settled && let Some(&(root, _)) = self.streams.get(&stream) {
                assert_eq!(at, root, "{child:?} hangs on {at:?}");
            }
        }
    }

    /// The level of a receiver: hops from the root or the last relay above it.
    pub fn level(&self, stream: StreamId, child: NodeId) -> u8 {
        let (mut level, mut at) = (0, child);
        while let Some(&parent) = self.edges.get(&(stream, at)) {
            if self.nodes[&at].kind == Kind::Relay {
                break;
            }
            level += 1;
            at = parent;
        }
        level
    }

    /// All rules on the tree as it stands.
    pub fn check(&self) {
        self.check_prefix(&BTreeSet::new());
        let mut load: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for (&(stream, child), &parent) in &self.edges {
            let (_, rate) = self.streams[&stream];
            let carried = load.entry(parent).or_default();
            carried.0 += u64::from(rate);
            carried.1 += 1;
            assert!(self.nodes.contains_key(&child) && self.nodes.contains_key(&parent));
            assert!(
                !self.barred.contains(&(parent, child)),
                "{parent:?} is barred from {child:?}"
            );
            let (above, below) = (&self.nodes[&parent], &self.nodes[&child]);
            let relayed = above.kind == Kind::Relay || below.kind == Kind::Relay;
            assert!(relayed || self.options.nat[above.nat as usize][below.nat as usize]);
            let level = self.level(stream, child);
            assert!(level <= self.options.depth, "{child:?} at level {level}");
            let root = self.streams[&stream].0;
            assert!(
                parent == root || above.kind == Kind::Relay || above.forwards,
                "{parent:?} may not forward"
            );
            if below.kind == Kind::Relay {
                assert!(
                    parent == root || above.kind == Kind::Relay,
                    "a relay hangs on {parent:?}"
                );
            }
            if above.kind != Kind::Relay && parent != root {
                let fan_out = self
                    .edges
                    .iter()
                    .filter(|(key, p)| key.0 == stream && **p == parent)
                    .count();
                assert!(fan_out <= usize::from(self.options.hub));
            }
        }
        for (node, (rate, edges)) in load {
            let facts = &self.nodes[&node];
            assert!(
                rate <= facts.uplink,
                "{node:?} carries {rate} of {}",
                facts.uplink
            );
            assert!(
                edges <= u64::from(facts.slots),
                "{node:?} has {edges} of {} slots",
                facts.slots
            );
        }
        for &stream in self.streams.keys() {
            let view = self.plan.tree(stream).expect("a stream that was started");
            let mine: Vec<_> = self
                .edges
                .iter()
                .filter(|(key, _)| key.0 == stream)
                .collect();
            assert_eq!(view.edges.len(), mine.len());
            for edge in &view.edges {
                assert_eq!(
                    self.edges.get(&(stream, edge.child)),
                    Some(&edge.edge.parent)
                );
                if self.nodes[&edge.child].kind != Kind::Relay {
                    assert_eq!(
                        edge.level,
                        self.level(stream, edge.child),
                        "level of {:?}",
                        edge.child
                    );
                }
            }
        }
        assert_eq!(self.plan.epoch(), self.epoch);
        self.plan.check();
    }
}

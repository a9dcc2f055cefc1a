//! A second, naive opinion on what a plan may be: believes nothing but the facts and the changes.
//!
//! Numbers in messages are the invariants of `docs/design/planner.md`. Entries of one list that are still to come count
//! as follows. An edge that a later entry moves or takes away is not billed any more (while it overlaps with the new one
//! in reality, only the new one is reckoned); one that a later entry changes is billed at its new rate. Level, layers and
//! rootedness are demanded of every node whose way to the root no later entry touches; cycles are forbidden throughout.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};

use grove_tree::{
    DEPTH_CAP, Edge, EdgeChange, Fact, Kind, Layers, Millis, NodeFacts, NodeId, Plan, Policy,
    Rates, Reason, StreamId,
};

pub mod ops;

pub type Seat = (StreamId, NodeId);

#[derive(Debug, Clone)]
pub struct StreamFacts {
    pub root: NodeId,
    pub rates: Rates,
    pub wants: BTreeMap<NodeId, Option<u8>>,
    pub ready: BTreeSet<NodeId>,
}

impl StreamFacts {
    fn available(&self) -> Vec<u8> {
        (0..4)
            .filter(|&layer| self.rates.layers[usize::from(layer)] > 0)
            .collect()
    }

    pub fn top(&self, node: NodeId) -> Option<u8> {
        let want = self.wants.get(&node).copied().unwrap_or(Some(3))?;
        self.available()
            .into_iter()
            .filter(|&layer| layer <= want)
            .max()
    }

    pub fn floor(&self) -> u64 {
        let lowest = self
            .available()
            .first()
            .map_or(0, |&layer| self.rates.layers[usize::from(layer)]);
        u64::from(if self.rates.audio > 0 {
            self.rates.audio
        } else {
            lowest
        })
    }
}

/// A plan, and what somebody who sees only its answers believes.
#[derive(Debug, Clone)]
pub struct Shadow {
    pub plan: Plan,
    pub now: Millis,
    pub policy: Policy,
    pub nodes: BTreeMap<NodeId, NodeFacts>,
    pub streams: BTreeMap<StreamId, StreamFacts>,
    pub barred: BTreeSet<(NodeId, NodeId)>,
    pub edges: BTreeMap<Seat, Edge>,
    pub unserved: BTreeMap<Seat, Reason>,
    pub epoch: u64,
    /// Entries seen.
    pub entries: usize,
}

impl Shadow {
    pub fn new(policy: Policy) -> Self {
        Shadow {
            plan: Plan::new(policy),
            now: 0,
            policy,
            nodes: BTreeMap::new(),
            streams: BTreeMap::new(),
            barred: BTreeSet::new(),
            edges: BTreeMap::new(),
            unserved: BTreeMap::new(),
            epoch: 0,
            entries: 0,
        }
    }

    pub fn fact(&mut self, fact: Fact) -> Vec<EdgeChange> {
        let changes = self.plan.handle(fact, self.now);
        self.learn(fact);
        self.apply(&changes);
        changes
    }

    /// Let time pass to `until`, waking the plan whenever it wants.
    pub fn pass(&mut self, until: Millis) {
        for _ in 0..1_000 {
            match self.plan.poll_timeout() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    let changes = self.plan.handle_timeout(self.now);
                    self.apply(&changes);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!(
            "the plan never comes to rest: {:?} at {}",
            self.plan.poll_timeout(),
            self.now
        );
    }

    /// Frames flow: everybody who is fed says so.
    pub fn deliver(&mut self) {
        loop {
            let fed: Vec<(Seat, NodeId)> = self
                .edges
                .iter()
                .filter(|((id, child), edge)| edge.feed && !self.streams[id].ready.contains(child))
                .map(|(&seat, edge)| (seat, edge.parent))
                .collect();
            if fed.is_empty() {
                return;
            }
            for ((id, child), parent) in fed {
                self.fact(Fact::Ready(id, child, parent));
            }
        }
    }

    /// Nothing happens for five minutes.
    pub fn quiet(&mut self) {
        self.deliver();
        for _ in 0..30 {
            self.pass(self.now + 10_000);
            self.deliver();
        }
        self.homes();
    }

    /// In quiet, whoever hangs on a relay hangs there because no participant would do as the trees stand.
    fn homes(&self) {
        if self.policy == Policy::Relay {
            return;
        }
        let auto = self.policy == Policy::Auto;
        for (&(id, child), edge) in &self.edges {
            if self.is_relay(child) || !self.is_relay(edge.parent) {
                continue;
            }
            let stream = &self.streams[&id];
            for &node in self.nodes.keys().filter(|&&node| !self.is_relay(node)) {
                let level = if node == stream.root {
                    Some(0)
                } else {
                    self.level((id, node), &BTreeMap::new())
                };
                let Some(level) = level.filter(|_| !self.below((id, node), child)) else {
                    continue;
                };
                let height = self.height((id, child));
                let hops = if auto && node != stream.root {
                    2
                } else {
                    DEPTH_CAP
                };
                let fits = self.may_feed(stream, node, child)
                    && !self.barred(node, child)
                    && level + 1 + height <= hops
                    && self.kids((id, node)) < self.breadth()
                    && self.spare_slot(node)
                    && if auto {
                        self.full_fit(id, child, node)
                    } else {
                        self.floors(node) + stream.floor() <= self.nodes[&node].uplink
                    };
                assert!(
                    !fits,
                    "11: {child:?} of {id:?} stays with {:?} though {node:?} would do: {:?}",
                    edge.parent,
                    self.plan.trees()
                );
            }
        }
    }

    fn breadth(&self) -> usize {
        match self.policy {
            Policy::Tree(b) => usize::from(b.max(1)),
            _ => usize::MAX,
        }
    }

    fn kids(&self, (id, node): Seat) -> usize {
        let mut edges = self.edges.iter();
        edges
            .by_ref()
            .filter(|(seat, edge)| seat.0 == id && edge.parent == node)
            .count()
    }

    /// Is the node the other one or below it?
    fn below(&self, (id, node): Seat, top: NodeId) -> bool {
        let mut at = node;
        loop {
            if at == top {
                return true;
            }
            match self.edges.get(&(id, at)) {
                Some(edge) => at = edge.parent,
                None => return false,
            }
        }
    }

    fn height(&self, (id, node): Seat) -> u8 {
        let kids = self
            .edges
            .iter()
            .filter(|((other, _), edge)| *other == id && edge.parent == node);
        kids.map(|((_, kid), _)| 1 + self.height((id, *kid)))
            .max()
            .unwrap_or(0)
    }

    fn spare_slot(&self, node: NodeId) -> bool {
        let edges = self.edges.values().filter(|edge| edge.parent == node);
        edges.count() < usize::from(self.nodes[&node].slots)
    }

    /// What a node sends at the least.
    fn floors(&self, node: NodeId) -> u64 {
        let edges = self.edges.iter().filter(|(_, edge)| edge.parent == node);
        edges.map(|((id, _), _)| self.streams[id].floor()).sum()
    }

    /// What everybody in the subtree shows when capacity is plenty, as this edge's bill.
    fn wanted(&self, id: StreamId, node: NodeId, extra: Option<NodeId>) -> u64 {
        let stream = &self.streams[&id];
        let (mut layers, mut leaf) = (Layers::NONE, true);
        let mut todo = vec![node];
        todo.extend(extra);
        while let Some(at) = todo.pop() {
            if !self.is_relay(at)
                && let Some(top) = stream.top(at)
            {
                layers = layers.with(top);
            }
            let kids = self
                .edges
                .iter()
                .filter(|((other, _), edge)| *other == id && edge.parent == at);
            let before = todo.len();
            todo.extend(kids.map(|((_, kid), _)| *kid));
            leaf &= todo.len() == before && extra.is_none();
        }
        if !leaf && !layers.is_empty() {
            layers = stream
                .available()
                .first()
                .map_or(layers, |&lowest| layers.with(lowest));
        }
        let video = layers
            .iter()
            .map(|layer| u64::from(stream.rates.layers[usize::from(layer)]));
        u64::from(stream.rates.audio) + video.sum::<u64>()
    }

    /// Would everything the child wants fit at this participant, which is the root or the root's child?
    fn full_fit(&self, id: StreamId, child: NodeId, parent: NodeId) -> bool {
        let full = |node: NodeId| -> u64 {
            let edges = self.edges.iter().filter(|(_, edge)| edge.parent == node);
            edges
                .map(|((id, kid), _)| self.wanted(*id, *kid, None))
                .sum()
        };
        let low = |node: NodeId| -> u64 {
            let edges = self.edges.iter().filter(|(_, edge)| edge.parent == node);
            let low = |id: &StreamId| {
                let stream = &self.streams[id];
                let lowest = stream.available().first().copied();
                let video = lowest.map_or(0, |layer| stream.rates.layers[usize::from(layer)]);
                u64::from(stream.rates.audio) + u64::from(video)
            };
            edges.map(|((id, _), _)| low(id)).sum::<u64>() + low(&id)
        };
        let root = self.streams[&id].root;
        let at_parent = full(parent) + self.wanted(id, child, None) <= self.nodes[&parent].uplink;
        let at_root = parent == root || {
            let (old, new) = (
                self.wanted(id, parent, None),
                self.wanted(id, parent, Some(child)),
            );
            new <= old || full(root) + new - old <= self.nodes[&root].uplink
        };
        at_parent && at_root && low(parent) <= self.nodes[&parent].uplink
    }

    pub fn barred(&self, a: NodeId, b: NodeId) -> bool {
        self.barred.contains(&(a.min(b), a.max(b)))
    }

    pub fn is_relay(&self, node: NodeId) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|facts| facts.kind == Kind::Relay)
    }

    /// By what they are and by the policy: may the one feed the other?
    pub fn may_feed(&self, stream: &StreamFacts, parent: NodeId, child: NodeId) -> bool {
        let helps = self.nodes.get(&parent).is_some_and(|facts| facts.forwards);
        match self.policy {
            _ if parent != stream.root && self.is_relay(parent) => helps,
            Policy::Mesh => parent == stream.root,
            Policy::Relay => parent == stream.root && self.is_relay(child),
            Policy::Tree(_) | Policy::Auto => {
                parent == stream.root || (helps && !self.is_relay(child))
            }
        }
    }

    /// Everybody who is to have the stream.
    pub fn receivers(&self, stream: &StreamFacts) -> Vec<NodeId> {
        let here = self.nodes.keys().copied();
        here.filter(|&node| node != stream.root && !self.is_relay(node))
            .collect()
    }

    fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Node(id, facts) => {
                self.nodes.insert(id, facts);
            }
            Fact::Left(id) | Fact::Failed(id) => {
                if self.nodes.remove(&id).is_some() {
                    self.streams.retain(|_, stream| stream.root != id);
                    for stream in self.streams.values_mut() {
                        stream.wants.remove(&id);
                        stream.ready.remove(&id);
                    }
                    self.barred.retain(|&(a, b)| a != id && b != id);
                }
            }
            Fact::Barred(a, b) => {
                if a != b && self.nodes.contains_key(&a) && self.nodes.contains_key(&b) {
                    self.barred.insert((a.min(b), a.max(b)));
                }
            }
            Fact::Stream(id, root, rates) => {
                if self.nodes.contains_key(&root) && !self.is_relay(root) {
                    match self.streams.get_mut(&id) {
                        Some(stream) if stream.root == root => stream.rates = rates,
                        _ => {
                            let (wants, ready) = (BTreeMap::new(), BTreeSet::new());
                            self.streams.insert(
                                id,
                                StreamFacts {
                                    root,
                                    rates,
                                    wants,
                                    ready,
                                },
                            );
                        }
                    }
                }
            }
            Fact::Ended(id) => {
                self.streams.remove(&id);
            }
            Fact::Wants(id, node, want) => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && stream.root != node
                    && self
                        .nodes
                        .get(&node)
                        .is_some_and(|facts| facts.kind == Kind::Participant)
                {
                    stream.wants.insert(node, want);
                }
            }
            Fact::Ready(id, node, _) => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && self.edges.contains_key(&(id, node))
                {
                    stream.ready.insert(node);
                }
            }
            Fact::Policy(policy) => self.policy = policy,
            Fact::LinkLost(..) | Fact::Watches(..) | Fact::Blamed(..) => {}
        }
        // Who is gone needs no entry to stop waiting.
        let (nodes, streams) = (&self.nodes, &self.streams);
        self.unserved.retain(|(id, node), _| {
            nodes.contains_key(node) && streams.get(id).is_some_and(|s| s.root != *node)
        });
    }

    pub fn apply(&mut self, changes: &[EdgeChange]) {
        let mut pending: BTreeMap<Seat, Option<Edge>> = BTreeMap::new();
        for change in changes {
            assert_eq!(change.epoch, self.epoch + 1, "8: one epoch per answer");
            let twice = pending.insert((change.stream, change.child), change.new);
            assert!(
                twice.is_none(),
                "8: {:?} stands twice in {changes:?}",
                change.child
            );
        }
        if changes.is_empty() {
            assert_eq!(self.plan.epoch(), self.epoch);
        } else {
            self.epoch += 1;
            self.entries += changes.len();
            assert_eq!(self.plan.epoch(), self.epoch);
        }
        self.order(changes);
        self.check(&pending);
        for change in changes {
            let seat = (change.stream, change.child);
            let before = self.edges.get(&seat).copied();
            assert_eq!(change.old, before.map(|edge| edge.parent), "8: {change:?}");
            pending.remove(&seat);
            match change.new {
                Some(edge) => {
                    assert_ne!(Some(edge), before, "8: {change:?} changes nothing");
                    self.edges.insert(seat, edge);
                    self.unserved.remove(&seat);
                }
                None => {
                    self.edges.remove(&seat);
                    if let Some(stream) = self.streams.get_mut(&change.stream) {
                        stream.ready.remove(&change.child);
                    }
                    if change.reason != Reason::Ended {
                        assert_ne!(
                            self.unserved.insert(seat, change.reason),
                            Some(change.reason),
                            "8: {change:?}"
                        );
                    }
                }
            }
            self.check(&pending);
        }
        self.settled();
    }

    /// Parents' entries ahead of their children's.
    fn order(&self, changes: &[EdgeChange]) {
        let mut later: BTreeSet<Seat> = changes
            .iter()
            .filter(|c| c.new.is_some())
            .map(|c| (c.stream, c.child))
            .collect();
        for change in changes {
            later.remove(&(change.stream, change.child));
            if let Some(edge) = change.new {
                assert!(
                    !later.contains(&(change.stream, edge.parent)),
                    "8: {change:?} ahead of its parent's"
                );
            }
        }
    }

    /// The way to the root: its length, or `None` if it breaks or a later entry touches it.
    fn level(&self, (id, node): Seat, pending: &BTreeMap<Seat, Option<Edge>>) -> Option<u8> {
        let root = self.streams.get(&id)?.root;
        let (mut at, mut level) = (node, 0u8);
        let mut touched = pending.contains_key(&(id, node));
        while at != root {
            touched |= pending.contains_key(&(id, at));
            let edge = self.edges.get(&(id, at))?;
            at = edge.parent;
            level += 1;
            assert!(
                usize::from(level) <= self.edges.len(),
                "1: {id:?} runs in a circle at {node:?}"
            );
        }
        (!touched).then_some(level)
    }

    /// What must hold after every prefix of an answer.
    fn check(&self, pending: &BTreeMap<Seat, Option<Edge>>) {
        let mut bill: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for (&seat, &edge) in &self.edges {
            let (id, child) = seat;
            let billed = match pending.get(&seat) {
                None => Some(edge.rate),
                Some(Some(later)) if later.parent == edge.parent => Some(later.rate),
                Some(_) => None,
            };
            if let Some(rate) = billed {
                let sum = bill.entry(edge.parent).or_default();
                sum.0 += u64::from(rate);
                sum.1 += 1;
            }
            let Some(level) = self.level(seat, pending) else {
                assert!(!pending.is_empty(), "1: {seat:?} hangs on nothing");
                continue;
            };
            let stream = &self.streams[&id];
            assert!(
                (1..=DEPTH_CAP).contains(&level),
                "2: {seat:?} at level {level}"
            );
            assert!(self.nodes.contains_key(&child), "1: {seat:?} is not here");
            assert!(
                self.may_feed(stream, edge.parent, child),
                "5: {:?} must not forward {id:?} to {child:?}",
                edge.parent
            );
            assert!(
                !self.barred(edge.parent, child),
                "5: {seat:?} cannot reach {:?}",
                edge.parent
            );
            if edge.parent != stream.root {
                let from = self.edges[&(id, edge.parent)];
                assert!(
                    edge.layers.is_subset(from.layers),
                    "4: {seat:?} is owed what its parent has not got"
                );
                assert!(
                    !edge.feed || stream.ready.contains(&edge.parent),
                    "4: {seat:?} fed before its parent"
                );
            }
            let video: u32 = edge
                .layers
                .iter()
                .map(|layer| stream.rates.layers[usize::from(layer)])
                .sum();
            assert_eq!(
                edge.rate,
                stream.rates.audio + video,
                "3: {seat:?} is billed wrongly"
            );
        }
        for (node, (rate, edges)) in bill {
            let Some(facts) = self.nodes.get(&node) else {
                continue;
            };
            assert!(
                rate <= facts.uplink,
                "3: {node:?} sends {rate} of {} bit/s",
                facts.uplink
            );
            assert!(
                edges <= u64::from(facts.slots),
                "3: {node:?} has {edges} of {} slots",
                facts.slots
            );
        }
    }

    /// What must hold between answers.
    fn settled(&self) {
        let views = self.plan.trees();
        assert_eq!(
            views.iter().map(|v| v.stream).collect::<Vec<_>>(),
            self.streams.keys().copied().collect::<Vec<_>>()
        );
        let mut edges = BTreeMap::new();
        let mut unserved = BTreeMap::new();
        for view in &views {
            assert_eq!(view.root, self.streams[&view.stream].root);
            let mut seen = BTreeSet::from([view.root]);
            for edge in &view.edges {
                assert!(
                    seen.contains(&edge.edge.parent),
                    "8: views list parents first"
                );
                seen.insert(edge.child);
                edges.insert((view.stream, edge.child), edge.edge);
                assert_eq!(
                    Some(edge.level),
                    self.level((view.stream, edge.child), &BTreeMap::new())
                );
                assert_eq!(
                    edge.ready,
                    self.streams[&view.stream].ready.contains(&edge.child)
                );
            }
            unserved.extend(
                view.unserved
                    .iter()
                    .map(|&(node, reason)| ((view.stream, node), reason)),
            );
        }
        assert_eq!(edges, self.edges, "8: the changes lead to the trees");
        assert_eq!(unserved, self.unserved, "8: the changes lead to the trees");
        for (&id, stream) in &self.streams {
            let near = self.reachable(stream);
            assert!(!self.is_relay(stream.root), "10: {id:?} starts at a relay");
            for &node in self.nodes.keys().filter(|&&node| node != stream.root) {
                let (edge, why) = (self.edges.get(&(id, node)), self.unserved.get(&(id, node)));
                let kids = self
                    .edges
                    .iter()
                    .filter(|(seat, edge)| seat.0 == id && edge.parent == node)
                    .count();
                if self.is_relay(node) {
                    assert_eq!(why, None, "10: {node:?} waits for {id:?}");
                    assert_eq!(
                        edge.is_some(),
                        kids > 0,
                        "10: {node:?} feeds {kids} of {id:?}"
                    );
                    assert!(
                        edge.is_none_or(
                            |edge| edge.parent == stream.root || self.is_relay(edge.parent)
                        ),
                        "10: {node:?} has {id:?} from {edge:?}, which does not send it itself"
                    );
                } else {
                    assert!(
                        edge.is_some() != why.is_some(),
                        "1: {node:?} of {id:?} has {edge:?} and {why:?}"
                    );
                }
                let expected = if near.contains(&node) {
                    Reason::NoCapacity
                } else {
                    Reason::Unreachable
                };
                assert!(
                    why.is_none_or(|&why| why == expected),
                    "1: {node:?} of {id:?} is {why:?}"
                );
                if let Some(edge) = edge {
                    self.layers((id, node), stream, edge.layers);
                }
                if let Policy::Tree(b) = self.policy
                    && !self.is_relay(node)
                {
                    assert!(
                        kids <= usize::from(b.max(1)),
                        "2: {node:?} has {kids} children of {id:?}"
                    );
                }
            }
        }
    }

    /// A leaf takes one layer that it wants; a node with children the lowest and what is taken below.
    fn layers(&self, (id, node): Seat, stream: &StreamFacts, layers: Layers) {
        let below: Vec<Layers> = self
            .edges
            .iter()
            .filter(|((other, _), edge)| *other == id && edge.parent == node)
            .map(|(_, edge)| edge.layers)
            .collect();
        if below.is_empty() {
            assert!(
                layers.iter().count() <= 1,
                "6: the leaf {node:?} of {id:?} takes {layers:?}"
            );
            assert!(
                layers.top() <= stream.top(node),
                "6: {node:?} of {id:?} gets more than it wants"
            );
            return;
        }
        let taken = below.iter().fold(0, |sum, set| sum | set.0);
        let own = Layers(layers.0 & !taken);
        let lowest = stream.available().first().copied();
        assert!(
            !self.is_relay(node) || own.iter().all(|layer| Some(layer) == lowest),
            "6: the relay {node:?} of {id:?} takes {layers:?}"
        );
        assert!(
            layers.is_empty() || lowest.is_none_or(|lowest| layers.contains(lowest)),
            "6: {node:?} {layers:?}"
        );
        assert!(
            own.iter().filter(|&layer| Some(layer) != lowest).count() <= 1,
            "6: {node:?} of {id:?} {layers:?}"
        );
    }

    pub fn reachable(&self, stream: &StreamFacts) -> BTreeSet<NodeId> {
        let mut near = BTreeSet::from([stream.root]);
        for _ in 0..DEPTH_CAP {
            let more: Vec<NodeId> = self
                .nodes
                .keys()
                .copied()
                .filter(|&child| {
                    near.iter()
                        .any(|&p| self.may_feed(stream, p, child) && !self.barred(p, child))
                })
                .collect();
            near.extend(more);
        }
        near
    }
}

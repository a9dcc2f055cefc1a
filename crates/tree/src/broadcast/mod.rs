//! The planner of a broadcast: one or few streams, up to millions of watchers.
//!
//! Owns the same question as [`Plan`](crate::Plan), *who hands a stream to whom*, for the case in which a fact must not
//! cost more than the few nodes that it is about. Facts, changes and reasons are the same.
//!
//! Contract: [`Broadcast::handle`] and [`Broadcast::handle_batch`] answer with the net changes, top-down, one epoch per
//! list; [`Broadcast::poll_timeout`] names when [`Broadcast::handle_timeout`] wants to be called. The level of a receiver
//! counts hops from the root or a relay: relays stand beside the root, at level 0. Nobody stands deeper than
//! [`Options::depth`]; where that is too narrow, [`Broadcast::relay_slots_wanted`] says how many places relays should
//! bring, exactly as many as the bound ([`bound`]) says.
//!
//! Costs: a join touches a constant number of nodes, a departure as many as the node had children, times a small constant;
//! [`Counters`] proves it. A placement is 48 bytes and some 12 in the index; a node 24 and some 20 in the table of numbers.
//! Rules and invariants: `docs/design/planner.md`, *Broadcasts*.

mod answer;
mod backup;
mod balance;
mod blame;
pub mod bound;
mod check;
mod grow;
mod index;
mod nodes;
mod options;
mod repair;
mod tree;

use std::collections::BTreeSet;

use crate::{EdgeChange, Fact, Millis, NodeFacts, NodeId, Rates, Reason, StreamId, TreeView};
use answer::{Entry, merge};
pub use blame::DEMOTED_MS;
use nodes::{NONE, Nodes};
pub use options::{Backup, Counters, Helpers, Options};
use repair::Loss;
use tree::{HELPER, READY, RELAY, RENAMED, ROOT, SOUND, Tree, WARM};

/// How often time has something to do while a broadcast is not settled.
pub const TICK_MS: Millis = 1_000;

#[derive(Debug, Clone)]
struct Stream {
    id: StreamId,
    rates: Rates,
    tree: Tree,
}

/// The planner of one broadcast.
///
/// It starts empty; a fact about something unknown is ignored. Times must not go backwards. Node numbers may be any, but
/// the caller's own: they are not meant to be chosen by strangers.
#[derive(Debug, Clone)]
pub struct Broadcast {
    nodes: Nodes,
    /// By id.
    streams: Vec<Stream>,
    epoch: u64,
    counters: Counters,
    /// Nodes to forget when the answer is written.
    gone: Vec<u32>,
    /// What ended during this call.
    ended: Vec<EdgeChange>,
    /// Something that ended during this call may have begun again.
    again: bool,
    blames: blame::Blames,
    tick: Option<Millis>,
}

impl Broadcast {
    /// An empty broadcast.
    pub fn new(options: Options) -> Self {
        let options = Options {
            depth: options.depth.clamp(1, 31),
            ..options
        };
        Broadcast {
            nodes: Nodes::new(options),
            streams: Vec::new(),
            epoch: 0,
            counters: Counters::default(),
            gone: Vec::new(),
            ended: Vec::new(),
            again: false,
            blames: blame::Blames::default(),
            tick: None,
        }
    }

    /// Take one fact; returns what changes, in order.
    pub fn handle(&mut self, fact: Fact, now: Millis) -> Vec<EdgeChange> {
        self.begin(now);
        let before = self.counters;
        self.learn(fact);
        let changes = self.finish();
        let counters = &mut self.counters;
        counters.touched_worst = counters.touched_worst.max(counters.touched);
        let orphans = counters.orphans - before.orphans;
        if orphans > 0 {
            let edges = counters.edges - before.edges;
            counters.repairs += edges;
            counters.departures += 1;
            counters.minimal += u64::from(edges == orphans);
        }
        changes
    }

    /// Take many facts as one: newcomers are placed strongest first, and those who lost their parents are placed when
    /// everybody who goes is gone.
    pub fn handle_batch(&mut self, facts: &[Fact], now: Millis) -> Vec<EdgeChange> {
        self.begin(now);
        let mut newcomers = Vec::new();
        let mut rest = facts;
        while let Some((&fact, more)) = rest.split_first() {
            match fact {
                Fact::Node(id, facts) if self.nodes.index(id).is_none() => {
                    self.again |= !self.gone.is_empty();
                    newcomers.push(self.nodes.insert(id, &facts));
                    rest = more;
                }
                Fact::Left(_) | Fact::Failed(_) => {
                    self.admit(&mut newcomers);
                    let end = rest
                        .iter()
                        .position(|fact| !matches!(fact, Fact::Left(_) | Fact::Failed(_)))
                        .unwrap_or(rest.len());
                    let (going, later) = rest.split_at(end);
                    self.part_with(going);
                    rest = later;
                }
                other => {
                    self.admit(&mut newcomers);
                    self.learn(other);
                    rest = more;
                }
            }
        }
        self.admit(&mut newcomers);
        self.finish()
    }

    fn begin(&mut self, now: Millis) {
        self.nodes.now = now;
        self.counters.operations += 1;
        self.counters.touched = 0;
    }

    fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Node(id, facts) => match self.nodes.index(id) {
                Some(node) => self.update(node, &facts),
                None => {
                    let node = self.nodes.insert(id, &facts);
                    self.admit(&mut vec![node]);
                }
            },
            Fact::Left(id) | Fact::Failed(id) => {
                if let Some(node) = self.nodes.index(id) {
                    self.remove(node, matches!(fact, Fact::Left(_)));
                }
            }
            Fact::LinkLost(a, b) => {
                if let Some((a, b)) = self.pair(a, b) {
                    self.nodes.avoid(a, b, self.nodes.now + crate::AVOID_MS);
                    self.separate(a, b);
                }
            }
            Fact::Barred(a, b) => {
                if let Some((a, b)) = self.pair(a, b)
                    && self.nodes.bar(a, b)
                {
                    self.separate(a, b);
                }
            }
            Fact::Stream(id, root, rates) => self.start(id, root, rates),
            Fact::Ended(id) => self.stop(id),
            Fact::Watches(id, node, watches) => self.watches(id, node, watches),
            Fact::Ready(id, node, parent) => self.ready(id, node, parent),
            Fact::Wants(id, node, layer) => self.wants(id, node, layer),
            Fact::Blamed(child, parent) => self.blame(child, parent),
            Fact::Policy(_) => {}
        }
    }

    fn pair(&self, a: NodeId, b: NodeId) -> Option<(u32, u32)> {
        let (a, b) = (self.nodes.index(a)?, self.nodes.index(b)?);
        (a != b).then_some((a, b))
    }

    /// Give newcomers places in every tree, the strongest first.
    fn admit(&mut self, newcomers: &mut Vec<u32>) {
        self.assign(newcomers);
        for stream in &mut self.streams {
            stream.tree.fill(&self.nodes, newcomers);
        }
        newcomers.clear();
    }

    /// Give each of these nodes' uplinks to the stream whose receivers bring least.
    fn assign(&mut self, nodes: &[u32]) {
        let mut slots: Vec<u64> = self
            .streams
            .iter()
            .map(|stream| stream.tree.slots())
            .collect();
        for &node in nodes {
            let facts = self.nodes.get(node);
            for (stream, slots) in self.streams.iter().zip(&mut slots) {
                if stream.id.0 == facts.fertile && stream.tree.knows(node) {
                    *slots = slots.saturating_sub(u64::from(stream.tree.place(node).cap));
                }
            }
            let poorest = (0..slots.len()).min_by_key(|&at| slots[at]);
            let fertile = poorest.map_or(NONE, |at| {
                let rate = self.streams[at].tree.rate;
                slots[at] += u64::from(facts.slots(&self.nodes.options, rate, 0, self.nodes.now));
                self.streams[at].id.0
            });
            self.nodes.get_mut(node).fertile = fertile;
        }
    }

    /// The streams have changed: whoever feeds nobody goes to the stream that needs it most, and whoever served a stream
    /// that is gone to another.
    fn assign_again(&mut self) {
        let streams = self.streams.iter();
        self.nodes.streams = streams
            .map(|stream| (stream.id.0, stream.tree.root))
            .collect();
        let idle = |node: &u32| {
            let fertile = self.nodes.get(*node).fertile;
            let tree = self
                .streams
                .iter()
                .find(|stream| stream.id.0 == fertile)
                .map(|stream| &stream.tree);
            tree.is_none_or(|tree| !tree.knows(*node) || tree.place(*node).used == 0)
        };
        let (free, busy): (Vec<u32>, Vec<u32>) = self.nodes.indices().partition(idle);
        self.assign(&free);
        for node in free {
            self.reoffer(node);
        }
        for node in busy {
            if self.nodes.get(node).is_relay()
                || self.nodes.streams.iter().any(|(_, root)| *root == node)
            {
                self.reoffer(node);
            }
        }
    }

    fn update(&mut self, node: u32, facts: &NodeFacts) {
        if self.nodes.update(node, facts) {
            for at in 0..self.streams.len() {
                let tree = &self.streams[at].tree;
                if !tree.knows(node) {
                    continue;
                }
                let around = tree.children(node).chain([tree.place(node).parent]);
                let barred: Vec<u32> = around
                    .filter(|&other| other != NONE && !self.nodes.may(other, node, true))
                    .collect();
                for other in barred {
                    self.separate(node, other);
                }
            }
        }
        self.reoffer(node);
    }

    /// A node offers more or less than before.
    fn reoffer(&mut self, node: u32) {
        for stream in &mut self.streams {
            let tree = &mut stream.tree;
            if !tree.knows(node) {
                continue;
            }
            let (cap, rank) = tree.worth(&self.nodes, node);
            tree.offer(node, cap, rank, self.nodes.get(node).region);
            tree.shed(&self.nodes, node, Reason::Capacity);
        }
    }

    fn remove(&mut self, node: u32, polite: bool) {
        let reason = if polite {
            Reason::ParentLeft
        } else {
            Reason::ParentLost
        };
        self.stop_streams_of(node);
        for stream in &mut self.streams {
            let tree = &mut stream.tree;
            if tree.knows(node) {
                let (orphans, loss) = tree.depart(node, reason, polite);
                tree.rehome(&self.nodes, loss, orphans);
            }
        }
        self.nodes.forget(node);
        self.blames.forget(node);
        self.gone.push(node);
    }

    /// Many go at once: all of them first, and then those who lost their parents find new ones.
    fn part_with(&mut self, going: &[Fact]) {
        let known: Vec<(u32, bool)> = going
            .iter()
            .filter_map(|fact| match *fact {
                Fact::Left(id) => Some((self.nodes.index(id)?, true)),
                Fact::Failed(id) => Some((self.nodes.index(id)?, false)),
                _ => None,
            })
            .collect();
        if let [(node, polite)] = known[..] {
            return self.remove(node, polite);
        }
        for &(node, _) in &known {
            self.stop_streams_of(node);
        }
        for stream in &mut self.streams {
            let tree = &mut stream.tree;
            let mut orphans = Vec::new();
            for &(node, polite) in &known {
                if tree.knows(node) {
                    let reason = if polite {
                        Reason::ParentLeft
                    } else {
                        Reason::ParentLost
                    };
                    orphans.extend(tree.depart(node, reason, polite).0);
                }
            }
            orphans.retain(|&orphan| tree.knows(orphan));
            tree.reckon(&self.nodes);
            tree.rehome_many(&self.nodes, orphans);
        }
        for (node, _) in known {
            if self.nodes.index(self.nodes.id(node)) == Some(node) {
                self.nodes.forget(node);
                self.blames.forget(node);
                self.gone.push(node);
            }
        }
    }

    /// Two nodes cannot or should not feed each other: whoever does is moved.
    fn separate(&mut self, a: u32, b: u32) {
        for stream in &mut self.streams {
            let tree = &mut stream.tree;
            if !tree.knows(a) || !tree.knows(b) {
                continue;
            }
            for (parent, child) in [(a, b), (b, a)] {
                if tree.place(child).parent == parent {
                    tree.note(child, Reason::ParentLost, false);
                    tree.unlink(child);
                    let loss = Loss {
                        above: NONE,
                        level: tree.place(parent).level,
                    };
                    tree.rehome(&self.nodes, loss, vec![child]);
                }
            }
        }
    }

    fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    fn start(&mut self, id: StreamId, root: NodeId, rates: Rates) {
        let Some(root) = self
            .nodes
            .index(root)
            .filter(|&root| !self.nodes.get(root).is_relay())
        else {
            return;
        };
        let rate = rates
            .layers
            .iter()
            .fold(rates.audio, |sum, &rate| sum.saturating_add(rate));
        let known = self.streams.iter_mut().find(|stream| stream.id == id);
        if let Some(stream) = known.filter(|stream| stream.tree.root == root) {
            stream.rates = rates;
            stream.tree.rate = rate;
            let indices: Vec<u32> = self.nodes.indices().collect();
            for node in indices {
                self.reoffer(node);
            }
            return;
        }
        self.stop(id);
        self.again |= !self.ended.is_empty();
        let tree = Tree::new(id.0, root, rate, self.nodes.options.depth);
        let at = self.streams.partition_point(|stream| stream.id < id);
        self.streams.insert(at, Stream { id, rates, tree });
        self.nodes.streams = self
            .streams
            .iter()
            .map(|stream| (stream.id.0, stream.tree.root))
            .collect();
        self.streams[at].tree.admit(&self.nodes, root, ROOT);
        let others: Vec<u32> = self.nodes.indices().filter(|&node| node != root).collect();
        // It has nobody yet and is therefore the poorest: of those who feed nobody some are asked.
        self.assign_again();
        self.streams[at].tree.fill(&self.nodes, &others);
    }

    fn stop(&mut self, id: StreamId) {
        let Some(at) = self.streams.iter().position(|stream| stream.id == id) else {
            return;
        };
        let mut stream = self.streams.remove(at);
        let journal = stream.tree.take_journal();
        let dirty: BTreeSet<u32> = journal.iter().map(|touched| touched.child).collect();
        let told = journal.iter().map(|touched| (touched.child, touched.old));
        let others = stream
            .tree
            .edges()
            .filter(|(child, _)| !dirty.contains(child));
        for (child, parent) in others.chain(told).filter(|&(_, parent)| parent != NONE) {
            self.ended.push(EdgeChange {
                epoch: 0,
                stream: id,
                child: self.nodes.id(child),
                old: Some(self.nodes.id(parent)),
                new: None,
                reason: Reason::Ended,
                make_before_break: false,
            });
        }
        self.assign_again();
    }

    fn stop_streams_of(&mut self, root: u32) {
        let own: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|stream| stream.tree.root == root)
            .map(|stream| stream.id)
            .collect();
        for id in own {
            self.stop(id);
        }
    }

    fn watches(&mut self, id: StreamId, node: NodeId, watches: bool) {
        let Some(node) = self.nodes.index(node) else {
            return;
        };
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return;
        };
        let tree = &mut stream.tree;
        if !tree.knows(node)
            || tree.place(node).is(ROOT | RELAY)
            || tree.place(node).is(HELPER) != watches
        {
            return;
        }
        self.nodes.get_mut(node).set_watches(watches);
        let (orphans, loss) = tree.depart(node, Reason::ParentLeft, true);
        tree.rehome(&self.nodes, loss, orphans);
        if watches {
            tree.fill(&self.nodes, &[node]);
        } else {
            tree.admit(&self.nodes, node, HELPER);
        }
    }

    fn ready(&mut self, id: StreamId, node: NodeId, parent: NodeId) {
        let Some((node, parent)) = self.pair(node, parent) else {
            return;
        };
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return;
        };
        let tree = &mut stream.tree;
        if !tree.knows(node) || tree.place(node).parent != parent || tree.place(node).is(READY) {
            return;
        }
        tree.place_mut(node).flags |= READY;
        let children: Vec<u32> = tree.children(node).collect();
        for child in children {
            tree.note(child, Reason::ParentReady, true);
        }
    }

    fn wants(&mut self, id: StreamId, node: NodeId, layer: Option<u8>) {
        let Some(node) = self.nodes.index(node) else {
            return;
        };
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else {
            return;
        };
        let tree = &mut stream.tree;
        let want = layer.map_or(SOUND, |layer| layer.min(SOUND - 1));
        if tree.knows(node) && !tree.place(node).is(ROOT | RELAY) && tree.place(node).want != want {
            let before = stream.layers(node);
            stream.tree.place_mut(node).want = want;
            if stream.layers(node) != before && stream.tree.place(node).parent != NONE {
                stream.tree.note(node, Reason::Layers, true);
            }
        }
    }

    /// Write down what this call changed.
    fn finish(&mut self) -> Vec<EdgeChange> {
        let mut entries: Vec<Entry> = self
            .ended
            .drain(..)
            .map(|change| ((0, 0, 0), change))
            .collect();
        for stream in &mut self.streams {
            stream.tree.tidy(&self.nodes);
            self.counters.touched += std::mem::take(&mut stream.tree.touched);
            for touched in stream.tree.take_journal() {
                entries.extend(stream.change(&self.nodes, &touched, &mut self.counters));
            }
        }
        // An index is used again once nobody names it as a backup any more.
        let (nodes, streams) = (&mut self.nodes, &self.streams);
        self.gone.retain(|&node| {
            let named = streams.iter().any(|stream| stream.tree.is_named(node));
            if !named {
                nodes.vacate(node);
            }
            named
        });
        if std::mem::take(&mut self.again) {
            merge(&mut entries);
        }
        if entries.is_empty() {
            return Vec::new();
        }
        self.epoch += 1;
        self.tick = self.tick.or(Some(self.nodes.now + TICK_MS));
        entries.sort_by_key(|entry| entry.0);
        let epoch = self.epoch;
        entries
            .into_iter()
            .map(|(_, change)| EdgeChange { epoch, ..change })
            .collect()
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.tick
    }

    /// Let time pass.
    pub fn handle_timeout(&mut self, now: Millis) -> Vec<EdgeChange> {
        if self.tick.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.begin(now);
        self.tick = None;
        self.nodes.forgive();
        self.pardon();
        for stream in &mut self.streams {
            stream.tree.balance(&self.nodes);
        }
        let before = self.counters.edges;
        let changes = self.finish();
        self.counters.balanced += self.counters.edges - before;
        let restless = self.streams.iter().any(|stream| stream.tree.is_restless());
        if restless || !changes.is_empty() || self.nodes.avoids() {
            self.tick = Some(now + TICK_MS);
        }
        self.tick = self.tick.into_iter().chain(self.blames.next()).min();
        changes
    }

    /// Calls so far that changed something.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Places that relays should bring beside those that the roots have, over all streams: exactly what the bound asks for.
    pub fn relay_slots_wanted(&self) -> u32 {
        self.streams
            .iter()
            .map(|stream| stream.tree.allowance)
            .sum()
    }

    /// Places below relays that are taken now.
    pub fn relay_slots_used(&self) -> u32 {
        self.streams.iter().map(|stream| stream.tree.paid).sum()
    }

    /// Who feeds a node, and its level.
    pub fn parent(&self, stream: StreamId, child: NodeId) -> Option<(NodeId, u8)> {
        let tree = &self.stream(stream)?.tree;
        let child = self.nodes.index(child).filter(|&child| tree.knows(child))?;
        let place = tree.place(child);
        (place.parent != NONE).then(|| (self.nodes.id(place.parent), place.level))
    }

    /// Where a child goes by itself when its parent falls silent.
    pub fn backup(&self, stream: StreamId, child: NodeId) -> Option<Backup> {
        let tree = &self.stream(stream)?.tree;
        let child = self.nodes.index(child).filter(|&child| tree.knows(child))?;
        let spare = tree.backup(child)?;
        Some(Backup {
            parent: self.nodes.id(spare),
            warm: tree.place(child).is(WARM),
        })
    }

    /// The next child whose backup has changed since this was last asked, and what it is now. A node that is gone is not
    /// told of.
    pub fn poll_backup(&mut self) -> Option<(StreamId, NodeId, Option<Backup>)> {
        for at in 0..self.streams.len() {
            let stream = &mut self.streams[at];
            while let Some(child) = stream.tree.renamed.pop() {
                stream.tree.place_mut(child).flags &= !RENAMED;
                if stream.tree.knows(child) {
                    if stream.tree.backup(child).is_none() {
                        stream.tree.unname(child);
                    }
                    let (id, child) = (stream.id, self.nodes.id(child));
                    return Some((id, child, self.backup(id, child)));
                }
            }
        }
        None
    }

    /// Receivers without a parent.
    pub fn unserved(&self, stream: StreamId) -> usize {
        self.stream(stream)
            .map_or(0, |stream| stream.tree.waiting())
    }

    /// A tree as it stands. O(n log n).
    pub fn tree(&self, stream: StreamId) -> Option<TreeView> {
        self.stream(stream).map(|stream| stream.view(&self.nodes))
    }
}

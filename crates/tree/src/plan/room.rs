//! The facts as they stand, and what follows from them alone.

use std::collections::{BTreeMap, BTreeSet};

use super::map::NodeMap;
use crate::{Kind, Layers, Millis, NodeFacts, NodeId, Policy, Rates, StreamId};

/// Rates above this are counted as this, so that an edge's bill fits its 32 bits; bit/s.
const RATE_LIMIT: u32 = 800_000_000;

/// How often each layer is asked for in a subtree.
pub(super) type Counts = [u16; Layers::MAX];

/// A report of a higher uplink that has stood this long is believed, however small the gain.
const STEADY_MS: Millis = 10_000;

/// A node and the uplink the plan reckons with.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub facts: NodeFacts,
    /// Follows the uplink down at once, up only past a quarter more or once it has stood still: an estimate that swings
    /// by a tenth either way never moves anything back and forth.
    pub budget: u64,
    /// When the uplink was last reported to be another.
    since: Millis,
}

impl Node {
    pub fn new(facts: NodeFacts, now: Millis) -> Self {
        Node {
            facts,
            budget: facts.uplink,
            since: now,
        }
    }

    /// Take new facts; true if they matter to the plan. What kind of node it is stands as long as it is here.
    pub fn update(&mut self, facts: NodeFacts, now: Millis) -> bool {
        let kind = self.facts.kind;
        let facts = NodeFacts { kind, ..facts };
        let old = std::mem::replace(&mut self.facts, facts);
        if facts.uplink != old.uplink {
            self.since = now;
        }
        let jump = facts.uplink >= self.budget.saturating_add(self.budget / 4)
            && facts.uplink != self.budget;
        let moved = facts.uplink < self.budget || jump;
        if moved {
            self.budget = facts.uplink;
        }
        moved || (facts.forwards, facts.slots) != (old.forwards, old.slots)
    }

    /// When a higher report will have stood long enough; `None` if there is none.
    pub fn steady_at(&self) -> Option<Millis> {
        (self.facts.uplink > self.budget).then(|| self.since.saturating_add(STEADY_MS))
    }

    /// Believe the report if it has stood long enough.
    pub fn settle(&mut self, now: Millis) {
        if self.steady_at().is_some_and(|at| at <= now) {
            self.budget = self.facts.uplink;
        }
    }
}

/// A stream and what its receivers said about it.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub root: NodeId,
    pub rates: Rates,
    /// Receivers that said what they show; all others want everything.
    pub wants: NodeMap<Option<u8>>,
    /// Receivers that have the stream.
    pub ready: BTreeSet<NodeId>,
}

impl Stream {
    pub fn new(root: NodeId, rates: Rates) -> Self {
        let mut stream = Stream {
            root,
            rates,
            wants: NodeMap::new(),
            ready: BTreeSet::new(),
        };
        stream.set_rates(rates);
        stream
    }

    pub fn set_rates(&mut self, mut rates: Rates) {
        rates.audio = rates.audio.min(RATE_LIMIT);
        for rate in &mut rates.layers {
            *rate = (*rate).min(RATE_LIMIT);
        }
        self.rates = rates;
    }

    /// The layers this stream has, lowest first.
    pub fn available(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        (0..Layers::MAX as u8).filter(|&layer| self.rates.layers[usize::from(layer)] > 0)
    }

    fn lowest_rate(&self) -> u64 {
        self.available()
            .next()
            .map_or(0, |layer| u64::from(self.rates.layers[usize::from(layer)]))
    }

    /// The least an edge of this stream needs: its audio, or its lowest layer if it is silent.
    pub fn floor(&self) -> u64 {
        if self.rates.audio > 0 {
            u64::from(self.rates.audio)
        } else {
            self.lowest_rate()
        }
    }

    /// Audio and the lowest layer.
    pub fn low(&self) -> u64 {
        u64::from(self.rates.audio) + self.lowest_rate()
    }

    /// Audio and the dearest layer.
    pub fn most(&self) -> u64 {
        let layer = self.rates.layers.iter().max().copied().unwrap_or(0);
        u64::from(self.rates.audio) + u64::from(layer)
    }

    /// What an interior node's edge takes on top of a leaf's: the lowest layer, where there are several.
    pub fn helper_extra(&self) -> u64 {
        if self.available().count() > 1 {
            self.lowest_rate()
        } else {
            0
        }
    }

    /// The layer a receiver shows when capacity is plenty; `None` = sound only. Of a relay ask [`Room::top`].
    fn top(&self, node: NodeId) -> Option<u8> {
        self.shown(self.wants.get(&node).copied())
    }

    fn shown(&self, said: Option<Option<u8>>) -> Option<u8> {
        let want = said.unwrap_or(Some(Layers::MAX as u8))?;
        self.available().rfind(|&layer| layer <= want)
    }

    /// Does a receiver that now says `want` show another layer than with what it said `before`, if anything?
    pub fn shows_other(&self, before: Option<Option<u8>>, want: Option<u8>) -> bool {
        self.shown(before) != self.shown(Some(want))
    }

    /// Layers and bill of an edge whose subtree asks for `counts`. A leaf takes what it shows; a node with children also
    /// takes the lowest layer, unless nobody below takes any video.
    pub fn bill(&self, counts: &Counts, leaf: bool) -> (Layers, u64) {
        let mut layers = Layers::NONE;
        for (layer, &count) in (0u8..).zip(counts) {
            if count > 0 {
                layers = layers.with(layer);
            }
        }
        if !leaf && !layers.is_empty() {
            layers = self
                .available()
                .next()
                .map_or(layers, |lowest| layers.with(lowest));
        }
        let video: u64 = layers
            .iter()
            .map(|layer| u64::from(self.rates.layers[usize::from(layer)]))
            .sum();
        (layers, u64::from(self.rates.audio) + video)
    }
}

/// Two nodes, in either order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair(NodeId, NodeId);

impl Pair {
    pub fn new(a: NodeId, b: NodeId) -> Self {
        Pair(a.min(b), a.max(b))
    }

    pub fn has(self, node: NodeId) -> bool {
        self.0 == node || self.1 == node
    }
}

/// Everything the plan was told.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub policy: Policy,
    pub nodes: NodeMap<Node>,
    pub streams: BTreeMap<StreamId, Stream>,
    pub barred: BTreeSet<Pair>,
    /// Pairs whose link was lost, and until when they come last.
    pub avoid: BTreeMap<Pair, Millis>,
}

impl Room {
    /// Who is to have the stream: everybody but its root and the relays.
    pub fn receivers<'a>(&'a self, stream: &'a Stream) -> impl Iterator<Item = NodeId> + 'a {
        self.nodes
            .iter()
            .filter(move |&(&id, node)| id != stream.root && node.facts.kind != Kind::Relay)
            .map(|(&id, _)| id)
    }

    pub fn is_relay(&self, node: NodeId) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.facts.kind == Kind::Relay)
    }

    pub fn relays(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes
            .iter()
            .filter(|(_, node)| node.facts.kind == Kind::Relay)
            .map(|(&id, _)| id)
    }

    /// The layer a node shows when capacity is plenty; `None` = sound only, or a relay, which shows nothing.
    pub fn top(&self, stream: &Stream, node: NodeId) -> Option<u8> {
        if self.is_relay(node) {
            None
        } else {
            stream.top(node)
        }
    }

    pub fn barred(&self, a: NodeId, b: NodeId) -> bool {
        !self.barred.is_empty() && self.barred.contains(&Pair::new(a, b))
    }

    pub fn avoided(&self, a: NodeId, b: NodeId) -> bool {
        !self.avoid.is_empty() && self.avoid.contains_key(&Pair::new(a, b))
    }

    /// May `parent` feed `child` in a tree of the stream, by the policy, by what they are and by their link?
    pub fn may_feed(&self, stream: &Stream, parent: NodeId, child: NodeId) -> bool {
        if parent == child || self.barred(parent, child) {
            return false;
        }
        if parent == stream.root {
            return self.policy != Policy::Relay || self.is_relay(child);
        }
        self.nodes.get(&parent).is_some_and(|node| {
            // A browser sends a relay nothing but its own: others' streams it has as sealed frames, which do not fit
            // every kind of link to a relay.
            let helps =
                matches!(self.policy, Policy::Tree(_) | Policy::Auto) && !self.is_relay(child);
            node.facts.forwards && (helps || node.facts.kind == Kind::Relay)
        })
    }

    /// Children this node may have in one tree. The breadth of `Tree(b)` spares participants; it does not bind relays.
    pub fn fan_out(&self, node: NodeId) -> usize {
        match self.policy {
            Policy::Tree(b) if !self.is_relay(node) => usize::from(b.clamp(1, 16)),
            _ => usize::MAX,
        }
    }

    /// Streams that `Auto` sends straight from the root: those whose copies, at all the layers wanted, fit the root's
    /// uplink and slots, reckoned stream by stream.
    pub fn direct(&self) -> BTreeSet<StreamId> {
        let mut direct = BTreeSet::new();
        if self.policy != Policy::Auto {
            return direct;
        }
        let mut spent: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
        for (&id, stream) in &self.streams {
            let Some(root) = self.nodes.get(&stream.root) else {
                continue;
            };
            let (mut rate, mut edges) = spent.get(&stream.root).copied().unwrap_or_default();
            for receiver in self
                .receivers(stream)
                .filter(|&node| !self.barred(stream.root, node))
            {
                let mut counts = Counts::default();
                if let Some(top) = self.top(stream, receiver) {
                    counts[usize::from(top)] = 1;
                }
                rate += stream.bill(&counts, true).1;
                edges += 1;
            }
            if rate <= root.budget && edges <= u64::from(root.facts.slots) {
                spent.insert(stream.root, (rate, edges));
                direct.insert(id);
            }
        }
        direct
    }

    /// Under `Auto`: do all copies at all the layers wanted add up to more than the participants' uplinks? Then no plan
    /// without relays gives everybody everything.
    pub fn in_deficit(&self) -> bool {
        let copies = self.streams.values().map(|stream| {
            let bill = |node| {
                let mut counts = Counts::default();
                if let Some(top) = self.top(stream, node) {
                    counts[usize::from(top)] = 1;
                }
                stream.bill(&counts, true).1
            };
            self.receivers(stream).map(bill).sum::<u64>()
        });
        let uplinks = self.nodes.values();
        let uplinks = uplinks.filter(|node| node.facts.kind != Kind::Relay);
        self.policy == Policy::Auto
            && copies.sum::<u64>() > uplinks.map(|node| node.budget).fold(0, u64::saturating_add)
    }

    /// Nodes that a chain of possible links of at most `cap` hops joins to the stream's root.
    pub fn reachable(&self, stream: &Stream, cap: u8) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::from([stream.root]);
        let mut ring = vec![stream.root];
        for _ in 0..cap {
            let mut next = Vec::new();
            for &parent in &ring {
                for &child in self.nodes.keys() {
                    if self.may_feed(stream, parent, child) && seen.insert(child) {
                        next.push(child);
                    }
                }
            }
            ring = next;
        }
        seen
    }
}

//! Who hangs below whom, and what that costs: the trees without any choice in them.

use std::collections::{BTreeMap, BTreeSet};

use super::map::NodeMap;
use super::room::{Counts, Room, Stream};
use crate::{NodeId, Policy, StreamId};

/// Edges from a tree's root to its deepest leaf, at most.
pub const DEPTH_CAP: u8 = 6;

/// One stream's forest: the tree at the root, and subtrees that have lost their parent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub parent: NodeMap<NodeId>,
    /// By node.
    kids: NodeMap<Vec<NodeId>>,
    /// How many nodes of each subtree, its top included, show each layer when capacity is plenty.
    demand: NodeMap<Counts>,
}

impl Tree {
    pub fn kids_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.kids.get(&node).into_iter().flatten().copied()
    }

    pub fn is_leaf(&self, node: NodeId) -> bool {
        self.kids.get(&node).is_none_or(Vec::is_empty)
    }

    /// Hops from the root; `None` below a subtree that has lost its parent.
    pub fn level(&self, root: NodeId, node: NodeId) -> Option<u8> {
        let (mut at, mut level) = (node, 0u8);
        while at != root {
            at = *self.parent.get(&at)?;
            level = level.checked_add(1)?;
        }
        Some(level)
    }

    /// Edges from here to the deepest leaf below.
    pub fn height(&self, node: NodeId) -> u8 {
        self.kids_of(node)
            .map(|kid| 1 + self.height(kid))
            .max()
            .unwrap_or(0)
    }

    /// Nodes below, this one included.
    pub fn weight(&self, node: NodeId) -> usize {
        1 + self
            .kids_of(node)
            .map(|kid| self.weight(kid))
            .sum::<usize>()
    }

    /// Everything that hangs on `root`, parents first, level by level and by node, with its level.
    pub fn top_down(&self, root: NodeId) -> Vec<(NodeId, u8)> {
        let mut order: Vec<(NodeId, u8)> = Vec::new();
        let mut ring = vec![root];
        let mut level = 0;
        while !ring.is_empty() {
            level += 1;
            let mut next: Vec<NodeId> = ring.iter().flat_map(|&node| self.kids_of(node)).collect();
            next.sort_unstable();
            order.extend(next.iter().map(|&node| (node, level)));
            ring = next;
        }
        order
    }

    pub fn counts(&self, node: NodeId) -> Counts {
        self.demand.get(&node).copied().unwrap_or_default()
    }
}

/// What a node sends in all trees together, three ways: at the least, with one layer, with everything wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub edges: u64,
    pub floor: u64,
    pub low: u64,
    pub full: u64,
    /// Other people's streams among them.
    pub roles: usize,
}

/// How well an edge would fit: the smaller the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// Everything wanted, all the way up.
    Full,
    /// Audio and the lowest layer.
    Low,
    /// Audio only.
    Floor,
}

/// All trees of a room.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub trees: BTreeMap<StreamId, Tree>,
    pub load: NodeMap<Load>,
    /// Trees that differ from the committed ones, or may.
    pub touched: BTreeSet<StreamId>,
}

impl Shape {
    /// A room in which nobody has a parent.
    pub fn empty(room: &Room) -> Self {
        let mut shape = Shape::default();
        for &id in room.streams.keys() {
            shape.begin(room, id, &[]);
        }
        shape
    }

    pub fn load(&self, node: NodeId) -> Load {
        self.load.get(&node).copied().unwrap_or_default()
    }

    pub fn tree(&self, stream: StreamId) -> &Tree {
        static NONE: Tree = Tree {
            parent: NodeMap::new(),
            kids: NodeMap::new(),
            demand: NodeMap::new(),
        };
        self.trees.get(&stream).unwrap_or(&NONE)
    }

    /// A node is there: it may receive every stream but its own.
    pub fn welcome(&mut self, room: &Room, node: NodeId) {
        for (id, stream) in &room.streams {
            if let Some(tree) = self.trees.get_mut(id).filter(|_| stream.root != node) {
                tree.demand.insert(node, shown(room, stream, node));
            }
        }
    }

    /// A node goes, which is no root any more: its children lose their parent.
    pub fn dismiss(&mut self, room: &Room, node: NodeId) {
        for &id in room.streams.keys() {
            let kids: Vec<NodeId> = self.tree(id).kids_of(node).collect();
            for kid in kids {
                self.detach(room, id, kid);
            }
            self.detach(room, id, node);
            if let Some(tree) = self.trees.get_mut(&id) {
                tree.demand.remove(&node);
            }
        }
        self.load.remove(&node);
    }

    /// A stream ends, or its rates are about to change: its tree goes. Returns the edges, parents first.
    pub fn clear(&mut self, room: &Room, id: StreamId) -> Vec<(NodeId, NodeId)> {
        let mut edges = Vec::new();
        if let Some(stream) = room.streams.get(&id) {
            let tree = self.tree(id);
            let order = tree.top_down(stream.root).into_iter();
            edges = order
                .filter_map(|(child, _)| Some((child, *tree.parent.get(&child)?)))
                .collect();
            for &(child, _) in edges.iter().rev() {
                self.detach(room, id, child);
            }
        }
        self.trees.remove(&id);
        self.touched.insert(id);
        edges
    }

    /// A stream begins, or goes on with these edges, parents first.
    pub fn begin(&mut self, room: &Room, id: StreamId, edges: &[(NodeId, NodeId)]) {
        let Some(stream) = room.streams.get(&id) else {
            return;
        };
        let receivers = room.receivers(stream).chain(room.relays());
        let demand = receivers.map(|node| (node, shown(room, stream, node)));
        let tree = Tree {
            demand: demand.collect(),
            ..Tree::default()
        };
        self.trees.insert(id, tree);
        self.touched.insert(id);
        for &(child, parent) in edges {
            self.attach(room, id, child, parent);
        }
    }

    /// A receiver shows another layer.
    pub fn show(&mut self, room: &Room, id: StreamId, node: NodeId) {
        let parent = self.detach(room, id, node);
        let (Some(stream), Some(tree)) = (room.streams.get(&id), self.trees.get_mut(&id)) else {
            return;
        };
        let mut counts = shown(room, stream, node);
        for kid in tree.kids.get(&node).into_iter().flatten() {
            for (sum, count) in counts
                .iter_mut()
                .zip(tree.demand.get(kid).into_iter().flatten())
            {
                *sum = sum.saturating_add(*count);
            }
        }
        tree.demand.insert(node, counts);
        self.touched.insert(id);
        if let Some(parent) = parent {
            self.attach(room, id, node, parent);
        }
    }

    /// Hang `child`, with all below it, on `parent`. The child must have no parent.
    pub fn attach(&mut self, room: &Room, id: StreamId, child: NodeId, parent: NodeId) {
        self.join(room, id, child, parent, true);
    }

    /// Take `child`, with all below it, off its parent.
    pub fn detach(&mut self, room: &Room, id: StreamId, child: NodeId) -> Option<NodeId> {
        let parent = *self.tree(id).parent.get(&child)?;
        self.join(room, id, child, parent, false);
        Some(parent)
    }

    fn join(&mut self, room: &Room, id: StreamId, child: NodeId, parent: NodeId, on: bool) {
        let (Some(stream), Some(tree)) = (room.streams.get(&id), self.trees.get_mut(&id)) else {
            return;
        };
        self.touched.insert(id);
        let added = tree.counts(child);
        let before = path_bills(stream, tree, parent);
        if on {
            tree.parent.insert(child, parent);
            let kids = tree.kids.slot(parent);
            if let Err(at) = kids.binary_search(&child) {
                kids.insert(at, child);
            }
        } else {
            tree.parent.remove(&child);
            if let Some(kids) = tree.kids.get_mut(&parent) {
                kids.retain(|&kid| kid != child);
            }
        }
        let mut at = Some(parent);
        while let Some(node) = at {
            if let Some(counts) = tree.demand.get_mut(&node) {
                for (count, add) in counts.iter_mut().zip(added) {
                    *count = if on {
                        count.saturating_add(add)
                    } else {
                        count.saturating_sub(add)
                    };
                }
            }
            at = tree.parent.get(&node).copied();
        }
        let after = path_bills(stream, tree, parent);
        for ((payer, old), (_, new)) in before.into_iter().zip(after) {
            let load = self.load.slot(payer);
            load.full = load.full + new - old;
        }
        let own = stream.bill(&added, tree.is_leaf(child)).1;
        let load = self.load.slot(parent);
        let (helps, kids) = (parent != stream.root, tree.kids.get(&parent));
        if helps && on && kids.is_some_and(|kids| kids.len() == 1) {
            load.roles += 1;
        }
        if helps && !on && kids.is_none_or(Vec::is_empty) {
            load.roles -= 1;
        }
        if on {
            load.edges += 1;
            load.floor += stream.floor();
            load.low += stream.low();
            load.full += own;
        } else {
            load.edges -= 1;
            load.floor -= stream.floor();
            load.low -= stream.low();
            load.full -= own;
        }
    }

    /// Has this node a slot, and uplink for one more edge of at least `floor` bit/s?
    pub fn has_room(&self, room: &Room, node: NodeId, floor: u64) -> bool {
        let load = self.load(node);
        room.nodes.get(&node).is_some_and(|node| {
            load.edges < u64::from(node.facts.slots) && load.floor + floor <= node.budget
        })
    }

    /// Is there any node with room for the least of the streams? Without one, moving edges about serves nobody more.
    pub fn has_any_room(&self, room: &Room) -> bool {
        let least = room.streams.values().map(Stream::floor).min().unwrap_or(0);
        room.nodes
            .keys()
            .any(|&node| self.has_room(room, node, least))
    }

    /// Could `parent` feed `child` if capacity were no matter? Both the tree's rules and the room's.
    pub fn allowed(&self, room: &Room, id: StreamId, child: NodeId, parent: NodeId) -> bool {
        let Some(stream) = room.streams.get(&id) else {
            return false;
        };
        let tree = self.tree(id);
        room.may_feed(stream, parent, child)
            && tree.kids.get(&parent).map_or(0, Vec::len) < room.fan_out(parent)
            && tree
                .level(stream.root, parent)
                .is_some_and(|level| level + 1 + tree.height(child) <= DEPTH_CAP)
    }

    /// How well one more edge from `parent` to the parentless `child` would fit; `None` if not at all.
    pub fn fit(
        &self,
        room: &Room,
        id: StreamId,
        child: NodeId,
        parent: NodeId,
        direct: bool,
    ) -> Option<Fit> {
        let (stream, node) = (room.streams.get(&id)?, room.nodes.get(&parent)?);
        let (tree, load) = (self.tree(id), self.load(parent));
        if !self.has_room(room, parent, stream.floor()) {
            return None;
        }
        if load.low + stream.low() > node.budget {
            return Some(Fit::Floor);
        }
        let added = tree.counts(child);
        let mut own = stream.bill(&added, tree.is_leaf(child)).1;
        if room.policy == Policy::Auto && parent == stream.root && !direct {
            // A root that cannot feed everybody needs a helper, whose edge takes the lowest layer too: keep that free.
            // A relay is such a helper, and its own bill says so.
            let helped = room.is_relay(child) || tree.kids_of(parent).any(|kid| !tree.is_leaf(kid));
            own += if helped { 0 } else { stream.helper_extra() };
        }
        if load.full + own > node.budget {
            return Some(Fit::Low);
        }
        let mut at = parent;
        while let Some(&above) = tree.parent.get(&at) {
            let mut counts = tree.counts(at);
            let old = stream.bill(&counts, tree.is_leaf(at)).1;
            for (count, add) in counts.iter_mut().zip(added) {
                *count = count.saturating_add(add);
            }
            let new = stream.bill(&counts, false).1;
            let budget = room.nodes.get(&above).map_or(0, |node| node.budget);
            if new > old && self.load(above).full + new - old > budget {
                return Some(Fit::Low);
            }
            at = above;
        }
        Some(Fit::Full)
    }

    /// Receivers that hang on a relay although the policy would rather have participants feed them.
    pub fn relayed(&self, room: &Room) -> usize {
        if room.policy == Policy::Relay {
            return 0;
        }
        room.relays()
            .flat_map(|relay| self.edges_of(relay))
            .filter(|&(_, kid)| !room.is_relay(kid))
            .count()
    }

    /// Edges over links that were just lost.
    pub fn avoided(&self, room: &Room) -> usize {
        if room.avoid.is_empty() {
            return 0;
        }
        let edges = self.trees.values().flat_map(|tree| tree.parent.iter());
        edges
            .filter(|&(&child, &parent)| room.avoided(parent, child))
            .count()
    }

    /// Take out the relays that feed nobody; true if there were any.
    pub fn prune(&mut self, room: &Room) -> bool {
        let mut pruned = false;
        for relay in room.relays() {
            for &id in room.streams.keys() {
                let mut at = relay;
                while room.is_relay(at)
                    && self.tree(id).is_leaf(at)
                    && let Some(parent) = self.detach(room, id, at)
                {
                    pruned = true;
                    at = parent;
                }
            }
        }
        pruned
    }

    /// The edges a node feeds, over all trees.
    pub fn edges_of(&self, parent: NodeId) -> Vec<(StreamId, NodeId)> {
        self.trees
            .iter()
            .flat_map(|(&id, tree)| tree.kids_of(parent).map(move |kid| (id, kid)))
            .collect()
    }
}

/// The bill of every edge from `from` up to the root, and who pays it.
fn path_bills(stream: &Stream, tree: &Tree, from: NodeId) -> Vec<(NodeId, u64)> {
    let mut bills = Vec::new();
    let mut at = from;
    while let Some(&above) = tree.parent.get(&at) {
        bills.push((above, stream.bill(&tree.counts(at), tree.is_leaf(at)).1));
        at = above;
    }
    bills
}

/// What a node itself asks for.
pub(super) fn shown(room: &Room, stream: &Stream, node: NodeId) -> Counts {
    let mut counts = Counts::default();
    if let Some(top) = room.top(stream, node) {
        counts[usize::from(top)] = 1;
    }
    counts
}

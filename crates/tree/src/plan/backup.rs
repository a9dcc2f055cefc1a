//! Who takes a parent's place at once should it fall silent: a backup for every receiver, beside the committed plan.
//!
//! Contract: [`renew`] is a function of the facts, the committed edges and the backups so far; [`adopt`] is the only way in which
//! backups touch a plan. A backup may feed the receiver in every respect in which a parent may, has the stream, is neither the
//! parent nor below it, and has slots and uplink left for audio and the lowest layer beside all that it sends. **One reserve
//! serves many**: only one failure at a time is reckoned with, so what is kept free at a node is the most that any single failure,
//! of a node or of a link, would bring it. After any one such failure all the backups can therefore step in together.
//!
//! Costs: building the tables takes the edges times the logarithm of their number; then each backup that stays is looked at
//! once, and each receiver without one looks at all nodes of its tree.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::diff::{Cause, Held, Trees};
use super::map::NodeMap;
use super::place::Seat;
use super::room::{Pair, Room, Stream};
use super::shape::{DEPTH_CAP, Fit, Shape};
use crate::{Backup, BackupChange, EdgeChange, Kind, Layers, NodeId, StreamId};

/// Links that a participant keeps warm for backups and for nothing else, at most.
pub const EXTRA_LINKS: usize = 2;

/// What may go wrong: one of these at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Node(usize),
    /// The smaller number first.
    Link(usize, usize),
}

/// What a failure brings a node beside what it carries.
#[derive(Debug, Clone, Copy, Default)]
struct Burden {
    rate: u64,
    edges: u64,
}

/// A node by its place in the tables.
#[derive(Debug, Clone)]
struct Host {
    id: NodeId,
    relay: bool,
    /// What is left beside its edges, bit/s and edges.
    spare: Burden,
    extra_links: usize,
}

/// A node's place in a tree.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    parent: usize,
    level: u8,
    height: u8,
    kids: usize,
    /// It could feed others at once.
    has: bool,
    takes_video: bool,
    is_in: bool,
}

/// One tree; places by node.
struct Tree<'a> {
    id: StreamId,
    stream: &'a Stream,
    root: usize,
    places: Vec<Place>,
}

/// How good a backup is: the smaller the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    relay: bool,
    /// Needs a link of its own; of those who do, who keeps fewer: there are two ends to each.
    new_link: bool,
    extra_links: usize,
    level: u8,
    spare: Reverse<u64>,
    node: usize,
}

struct Tables<'a> {
    room: &'a Room,
    hosts: Vec<Host>,
    trees: Vec<Tree<'a>>,
    /// Pairs that an edge uses.
    linked: BTreeSet<(usize, usize)>,
    /// Pairs that only backups use.
    warm: BTreeSet<(usize, usize)>,
    burdens: BTreeMap<(usize, Failure), Burden>,
    /// Children that a failure brings a node in one tree.
    broods: BTreeMap<(usize, Failure, usize), usize>,
}

/// The backups that hold from now on: every one that still may stay, and new ones where there are none.
pub(super) fn renew(
    room: &Room,
    shape: &Shape,
    held: &Trees<Held>,
    old: &BTreeMap<Seat, Backup>,
) -> BTreeMap<Seat, Backup> {
    let mut tables = Tables::new(room, shape, held);
    let mut new = BTreeMap::new();
    let mut without = Vec::new();
    for at in 0..tables.trees.len() {
        let tree = &tables.trees[at];
        let id = tree.id;
        let children = (0..tables.hosts.len())
            .filter(|&node| tree.places[node].is_in && !tables.hosts[node].relay);
        for child in children.collect::<Vec<_>>() {
            let node = tables.hosts[child].id;
            let stays = old
                .get(&(id, node))
                .and_then(|backup| tables.place_of(backup.parent))
                .filter(|&host| tables.is_legal(at, child, host));
            match stays {
                Some(host) => {
                    new.insert((id, node), tables.take(at, child, host));
                }
                None => without.push((Reverse(tables.trees[at].places[child].height), at, child)),
            }
        }
    }
    // Whoever has most below it finds least room.
    without.sort_unstable();
    for (_, at, child) in without {
        if let Some(host) = tables.best(at, child) {
            let seat = (tables.trees[at].id, tables.hosts[child].id);
            new.insert(seat, tables.take(at, child, host));
        }
    }
    new
}

/// Whose backup ends with these changes of the trees, and who gets one only by a new answer: the child or the backup goes out of
/// the tree, or the child hangs on its backup from now on.
pub(super) fn voided(backups: &BTreeMap<Seat, Backup>, changes: &[EdgeChange]) -> Vec<Seat> {
    let mut out = BTreeSet::new();
    let mut void = Vec::new();
    for change in changes {
        let seat = (change.stream, change.child);
        match change.new {
            None => drop(out.insert(seat)),
            Some(edge) if backups.get(&seat).map(|b| b.parent) == Some(edge.parent) => {
                void.push(seat);
            }
            Some(_) => {}
        }
    }
    if !out.is_empty() {
        let ends = |seat: &Seat, backup: &Backup| {
            out.contains(seat) || out.contains(&(seat.0, backup.parent))
        };
        let ended = backups.iter().filter(|(seat, backup)| ends(seat, backup));
        void.extend(ended.map(|(&seat, _)| seat));
    }
    void
}

/// What differs, by stream and child, and what holds again after it was `void`.
pub(super) fn changes(
    old: &BTreeMap<Seat, Backup>,
    new: &BTreeMap<Seat, Backup>,
    void: &BTreeSet<Seat>,
) -> Vec<BackupChange> {
    let seats: BTreeSet<Seat> = old.keys().chain(new.keys()).copied().collect();
    let change = |seat: Seat| {
        let (before, after) = (old.get(&seat), new.get(&seat));
        let again = after.is_some() && void.contains(&seat);
        (before != after || again).then(|| BackupChange {
            stream: seat.0,
            child: seat.1,
            old: before.map(|backup| backup.parent),
            new: after.copied(),
        })
    };
    seats.into_iter().filter_map(change).collect()
}

/// Hang whoever lost its parent by this on its backup, where that still may feed it with audio and the lowest layer. True if
/// that moved anybody.
pub(super) fn adopt(
    room: &Room,
    shape: &mut Shape,
    (held, backups): (&Trees<Held>, &BTreeMap<Seat, Backup>),
    direct: &BTreeSet<StreamId>,
    cause: &Cause,
) -> bool {
    let mut adopted = false;
    for (&(id, child), backup) in backups {
        let lost = held_by(held, (id, child)).is_some_and(|held| match cause {
            Cause::Failed(node) => *node == held.edge.parent,
            Cause::Lost(pair) => *pair == Pair::new(child, held.edge.parent),
            _ => false,
        });
        let parent = backup.parent;
        if lost
            && room.nodes.contains_key(&child)
            && !shape.tree(id).parent.contains_key(&child)
            && !room.avoided(parent, child)
            && return_relay(room, shape, held, (id, parent))
            && shape.allowed(room, id, child, parent)
            && shape
                .fit(room, id, child, parent, direct.contains(&id))
                .is_some_and(|fit| fit <= Fit::Low)
        {
            shape.attach(room, id, child, parent);
            adopted = true;
        }
    }
    adopted
}

/// A relay that has just left the tree because whoever failed was its last child there comes back for the one it stands by for.
/// True if the node is in the tree.
fn return_relay(room: &Room, shape: &mut Shape, held: &Trees<Held>, (id, node): Seat) -> bool {
    let root = room.streams.get(&id).map(|stream| stream.root);
    if root.is_some_and(|root| shape.tree(id).level(root, node).is_some()) {
        return true;
    }
    let above = held_by(held, (id, node)).map(|held| held.edge.parent);
    let Some(above) = above.filter(|_| room.is_relay(node)) else {
        return false;
    };
    let returns = !shape.tree(id).parent.contains_key(&node)
        && return_relay(room, shape, held, (id, above))
        && shape.allowed(room, id, node, above)
        && shape.fit(room, id, node, above, true).is_some();
    if returns {
        shape.attach(room, id, node, above);
    }
    returns
}

/// The committed edge of a receiver.
fn held_by(held: &Trees<Held>, (id, child): Seat) -> Option<&Held> {
    held.get(&id)?.get(&child)
}

impl<'a> Tables<'a> {
    fn new(room: &'a Room, shape: &Shape, held: &Trees<Held>) -> Self {
        let index: BTreeMap<NodeId, usize> = room.nodes.keys().copied().zip(0..).collect();
        let mut bills = vec![(0u64, 0u64, 0u64); index.len()];
        let mut trees = Vec::new();
        let mut linked = BTreeSet::new();
        for (&id, stream) in &room.streams {
            let Some(&root) = index.get(&stream.root) else {
                continue;
            };
            let mut places = vec![Place::default(); index.len()];
            places[root].has = true;
            let levels = shape.tree(id).top_down(stream.root).into_iter();
            let levels: BTreeMap<NodeId, u8> = levels.collect();
            for (&child, held) in held.get(&id).into_iter().flat_map(NodeMap::iter) {
                let (Some(&at), Some(&parent)) = (index.get(&child), index.get(&held.edge.parent))
                else {
                    continue;
                };
                linked.insert((at.min(parent), at.max(parent)));
                places[parent].kids += 1;
                let place = &mut places[at];
                place.parent = parent;
                place.level = levels.get(&child).copied().unwrap_or(DEPTH_CAP);
                place.has = stream.ready.contains(&child) || room.is_relay(child);
                place.takes_video = !held.edge.layers.is_empty();
                place.is_in = true;
                let (bill, low, count) = &mut bills[parent];
                *bill += u64::from(held.edge.rate);
                *low += stream.low();
                *count += 1;
            }
            let tree = Tree {
                id,
                stream,
                root,
                places,
            };
            trees.push(tree.with_heights());
        }
        let host = |((&id, node), (bill, low, count)): ((&NodeId, &super::room::Node), _)| {
            let sent = u64::max(bill, low);
            let slots = u64::from(node.facts.slots);
            Host {
                id,
                relay: node.facts.kind == Kind::Relay,
                spare: Burden {
                    rate: node.budget.saturating_sub(sent),
                    // Who cannot give all its children a picture takes no more of them, be they ever so cheap.
                    edges: if sent > node.budget {
                        0
                    } else {
                        slots.saturating_sub(count)
                    },
                },
                extra_links: 0,
            }
        };
        Tables {
            room,
            hosts: room.nodes.iter().zip(bills).map(host).collect(),
            trees,
            linked,
            warm: BTreeSet::new(),
            burdens: BTreeMap::new(),
            broods: BTreeMap::new(),
        }
    }

    fn place_of(&self, node: NodeId) -> Option<usize> {
        self.hosts.binary_search_by_key(&node, |host| host.id).ok()
    }

    /// The failures that would make the child turn to its backup. Who fails takes its own streams along.
    fn failures(&self, at: usize, child: usize) -> impl Iterator<Item = Failure> + use<> {
        let tree = &self.trees[at];
        let parent = tree.places[child].parent;
        let node = (parent != tree.root).then_some(Failure::Node(parent));
        let link = Failure::Link(child.min(parent), child.max(parent));
        node.into_iter().chain([link])
    }

    fn is_new_link(&self, a: usize, b: usize) -> bool {
        let pair = (a.min(b), a.max(b));
        !self.linked.contains(&pair) && !self.warm.contains(&pair)
    }

    fn may_link(&self, node: usize) -> bool {
        self.hosts[node].relay || self.hosts[node].extra_links < EXTRA_LINKS
    }

    /// May this node stand by for the child, as things are?
    fn is_legal(&self, at: usize, child: usize, host: usize) -> bool {
        let tree = &self.trees[at];
        let (place, below) = (tree.places[host], tree.places[child]);
        if !place.has || host == child || host == below.parent {
            return false;
        }
        // Below a root is everybody; but who loses the link to it goes anywhere except below itself.
        let top = if below.parent == tree.root {
            child
        } else {
            below.parent
        };
        if place.level + 1 + below.height > DEPTH_CAP || tree.is_below(host, top) {
            return false;
        }
        if self.is_new_link(host, child) && !(self.may_link(host) && self.may_link(child)) {
            return false;
        }
        let (rate, spare) = (tree.stream.low(), self.hosts[host].spare);
        let fan_out = self.room.fan_out(self.hosts[host].id);
        let bears = |failure: Failure| {
            let burden = self
                .burdens
                .get(&(host, failure))
                .copied()
                .unwrap_or_default();
            let brood = self.broods.get(&(host, failure, at)).copied().unwrap_or(0);
            burden.rate + rate <= spare.rate
                && burden.edges < spare.edges
                && place.kids.saturating_add(brood) < fan_out
        };
        let (parent, child_id) = (self.hosts[host].id, self.hosts[child].id);
        self.failures(at, child).all(bears)
            && self.room.may_feed(tree.stream, parent, child_id)
            && !self.room.avoided(parent, child_id)
    }

    /// The best of those who may: a participant before a relay, a link that is there before a new one, then nearer the root,
    /// then who has most to spare.
    fn best(&self, at: usize, child: usize) -> Option<usize> {
        let mut best: Option<Key> = None;
        for (node, host) in self.hosts.iter().enumerate() {
            let place = self.trees[at].places[node];
            if !place.has {
                continue;
            }
            let new_link = self.is_new_link(node, child);
            let key = Key {
                relay: host.relay,
                new_link,
                extra_links: if new_link { host.extra_links } else { 0 },
                level: place.level,
                spare: Reverse(host.spare.rate),
                node,
            };
            if best.is_none_or(|best| key < best) && self.is_legal(at, child, node) {
                best = Some(key);
            }
        }
        best.map(|key| key.node)
    }

    /// Reserve what the child would need there.
    fn take(&mut self, at: usize, child: usize, host: usize) -> Backup {
        if self.is_new_link(host, child) {
            self.warm.insert((host.min(child), host.max(child)));
            self.hosts[host].extra_links += 1;
            self.hosts[child].extra_links += 1;
        }
        for failure in self.failures(at, child) {
            let burden = self.burdens.entry((host, failure)).or_default();
            burden.rate += self.trees[at].stream.low();
            burden.edges += 1;
            *self.broods.entry((host, failure, at)).or_default() += 1;
        }
        let tree = &self.trees[at];
        let lowest = tree.stream.available().next();
        let lowest = lowest.filter(|_| tree.places[child].takes_video);
        let layers = lowest.map_or(Layers::NONE, Layers::one);
        let rates = tree.stream.rates;
        let video = lowest.map_or(0, |layer| rates.layers[usize::from(layer)]);
        Backup {
            parent: self.hosts[host].id,
            layers,
            rate: rates.audio + video,
        }
    }
}

impl Tree<'_> {
    /// Each node's edges down to the deepest leaf below.
    fn with_heights(mut self) -> Self {
        let mut deepest: Vec<(Reverse<u8>, usize)> = (0..self.places.len())
            .filter(|&node| self.places[node].is_in)
            .map(|node| (Reverse(self.places[node].level), node))
            .collect();
        deepest.sort_unstable();
        for (_, node) in deepest {
            let Place { parent, height, .. } = self.places[node];
            let above = &mut self.places[parent];
            above.height = above.height.max(height + 1);
        }
        self
    }

    /// Is the node the other one or below it?
    fn is_below(&self, node: usize, top: usize) -> bool {
        let mut at = node;
        while at != self.root {
            if at == top {
                return true;
            }
            at = self.places[at].parent;
        }
        false
    }
}

//! From edges to orders: what every node has to do so that the trees of the plan stand.
//!
//! Owns the links of a room, the edges as last ordered, and the old edges that go on until a new one has delivered.
//! Takes the plan's changes in order; hands out orders per node. An order names one pair or one edge and may be given
//! twice without harm. Those for the relay come out as commands in its own words ([`super::relay`]). Memory: one entry per link and per edge; a change costs the logarithm of that, except that
//! [`Wiring::all`] and [`Wiring::remove`] walk the room.

use super::relay::{self, RELAY};
use crate::signal::message::{EdgeReason, Node, Order, RelayLink, StreamRef};
use grove_relay::{Command, Token};
use grove_tree::{BackupChange, Edge, EdgeChange, Layers, Millis, NodeId, Reason, StreamId};
use std::collections::{BTreeMap, BTreeSet};

/// An old parent goes on feeding at most this long after a new one was ordered: long enough for a link to come up in
/// one network, short enough that a child that died in between does not cost its parent an uplink.
pub const OVERLAP: Millis = 2_000;

/// A link without edges stays this long: re-planning often comes back to a pair within seconds, and a new link costs
/// a second of negotiation.
pub const LINGER: Millis = 5_000;

/// Reports of loss are not believed of a link younger than this: they speak of the one before it.
pub const SETTLING: Millis = 1_000;

/// Two nodes, the smaller number first.
type Pair = (Node, Node);

fn pair(a: Node, b: Node) -> Pair {
    (a.min(b), a.max(b))
}

#[derive(Debug, Clone, Copy)]
struct Link {
    offerer: Node,
    made: Millis,
    /// When the last edge left it.
    idle: Option<Millis>,
    /// What it is opened with, where one end is the relay.
    token: Option<Token>,
}

#[derive(Debug, Clone, Copy)]
struct Wire {
    edge: Edge,
    reason: EdgeReason,
}

/// Who takes the parent's place at once should it fall silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Backup {
    parent: Node,
    layers: Layers,
    rate: u32,
}

/// An edge that is fed although the plan has it no more.
#[derive(Debug, Clone, Copy)]
struct Retiring {
    edge: Edge,
    until: Millis,
}

/// The links and edges of one room.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "holds secrets")]
pub struct Wiring {
    relay: Option<relay::Orders>,
    links: BTreeMap<Pair, Link>,
    edges: BTreeMap<(StreamId, Node), Wire>,
    unserved: BTreeMap<(StreamId, Node), EdgeReason>,
    retiring: BTreeMap<(StreamId, Node, Node), Retiring>,
    backups: BTreeMap<(StreamId, Node), Backup>,
    orders: BTreeMap<Node, Vec<Order>>,
    /// Streams that the relay was told a parent of.
    relayed: BTreeSet<StreamId>,
}

impl Wiring {
    /// Nothing yet. Without a `relay` no node may have its number.
    pub fn new(relay: Option<relay::Orders>) -> Self {
        Self {
            relay,
            ..Self::default()
        }
    }

    /// The relay, where there is one.
    pub fn relay(&mut self) -> Option<&mut relay::Orders> {
        self.relay.as_mut()
    }

    /// Obeys the plan.
    pub fn handle_changes(&mut self, changes: &[EdgeChange], now: Millis) {
        for change in changes {
            self.handle_change(change, now);
        }
        self.settle(now);
    }

    fn handle_change(&mut self, change: &EdgeChange, now: Millis) {
        let (stream, child) = (change.stream, node(change.child));
        let was = self.edges.get(&(stream, child)).copied();
        let Some(edge) = change.new else {
            self.edges.remove(&(stream, child));
            if let Some(was) = was.filter(|_| change.make_before_break) {
                // The child is leaving, or a relay that is no longer needed here, and goes on feeding for a moment what
                // it gets, if it gets anything yet.
                if was.edge.feed {
                    let key = (stream, child, node(was.edge.parent));
                    self.retiring.insert(
                        key,
                        Retiring {
                            edge: was.edge,
                            until: now + OVERLAP,
                        },
                    );
                }
                return;
            }
            if let Some(was) = was {
                self.release(stream, child, was.edge);
            }
            let backup = self.backups.remove(&(stream, child));
            self.end_overlap(stream, child);
            if let Some(backup) = backup {
                self.stand_down(stream, child, backup);
            }
            if child == RELAY {
                return;
            }
            let why = reason(change.reason).unwrap_or(EdgeReason::Ended);
            match why {
                EdgeReason::Ended => self.unserved.remove(&(stream, child)),
                _ => self.unserved.insert((stream, child), why),
            };
            self.order(child, parent_order(stream, None, why));
            return;
        };
        let parent = node(edge.parent);
        self.link(parent, child, now);
        let moved = was.is_none_or(|was| was.edge.parent != edge.parent);
        let why = match (reason(change.reason), was) {
            (Some(why), _) => why,
            (None, Some(was)) => was.reason,
            (None, None) => EdgeReason::Joined,
        };
        self.edges
            .insert((stream, child), Wire { edge, reason: why });
        if child == RELAY {
            self.relayed.insert(stream);
        }
        let waited = self.unserved.remove(&(stream, child)).is_some();
        let resumed = self.retiring.remove(&(stream, child, parent));
        if moved && let Some(was) = was.filter(|was| was.edge.feed) {
            if change.make_before_break {
                let key = (stream, child, node(was.edge.parent));
                self.retiring.insert(
                    key,
                    Retiring {
                        edge: was.edge,
                        until: now + OVERLAP,
                    },
                );
            } else {
                self.release(stream, child, was.edge);
            }
        }
        let same = was.filter(|_| !moved).map(|was| was.edge);
        if edge.feed {
            if same.is_none_or(|was| was != edge) {
                self.order(parent, feed_order(stream, child, edge));
            }
        } else if let Some(fed) = same.or(resumed.map(|old| old.edge)) {
            self.release(stream, child, fed);
        }
        if waited || same.is_none_or(|was| was.layers != edge.layers) {
            self.order(child, parent_order(stream, Some(edge), why));
        }
    }

    /// Obeys the plan in who stands by for whom.
    pub fn handle_backups(&mut self, changes: &[BackupChange], now: Millis) {
        for change in changes {
            let (stream, child) = (change.stream, node(change.child));
            let new = change.new.map(|backup| Backup {
                parent: node(backup.parent),
                layers: backup.layers,
                rate: backup.rate,
            });
            let old = match new {
                Some(new) => self.backups.insert((stream, child), new),
                None => self.backups.remove(&(stream, child)),
            };
            if let Some(old) = old.filter(|old| new.is_none_or(|new| new.parent != old.parent)) {
                self.stand_down(stream, child, old);
            }
            if let Some(new) = new {
                self.link(new.parent, child, now);
                if !self.retiring.contains_key(&(stream, child, new.parent)) {
                    self.order(new.parent, stand_by_order(stream, child, new));
                }
            }
            self.order(child, backup_order(stream, new));
        }
        self.settle(now);
    }

    /// A backup is one no more. Where it has become the parent, or still is for a moment, it goes on.
    fn stand_down(&mut self, stream: StreamId, child: Node, old: Backup) {
        let feeds = self.parent_of(stream, child) == Some(old.parent)
            || self.retiring.contains_key(&(stream, child, old.parent));
        if !feeds {
            let stream = stream_ref(stream);
            self.order(old.parent, Order::Release { stream, child });
        }
    }

    /// The child has `stream` from `parent` now: older parents may stop.
    pub fn handle_ready(&mut self, stream: StreamId, child: Node, parent: Node, now: Millis) {
        let current = self
            .edges
            .get(&(stream, child))
            .map(|wire| node(wire.edge.parent));
        if current == Some(parent) {
            self.end_overlap(stream, child);
            self.settle(now);
        }
    }

    /// The link between two nodes is of no use any more: both forget it. Edges that the plan leaves on the pair get a
    /// new one.
    pub fn handle_cut(&mut self, a: Node, b: Node, now: Millis) {
        let on_pair = |x: Node, y: Node| pair(x, y) == pair(a, b);
        let over = self
            .retiring
            .iter()
            .filter(|(key, _)| on_pair(key.1, key.2));
        for (key, old) in over.map(|(key, old)| (*key, *old)).collect::<Vec<_>>() {
            self.retiring.remove(&key);
            self.release(key.0, key.1, old.edge);
        }
        if self.links.remove(&pair(a, b)).is_some() {
            self.order(a, Order::Unlink { peer: b });
            self.order(b, Order::Unlink { peer: a });
        }
        let stay = self
            .edges
            .iter()
            .filter(|((_, child), wire)| on_pair(*child, node(wire.edge.parent)));
        for ((stream, child), wire) in stay.map(|(key, wire)| (*key, *wire)).collect::<Vec<_>>() {
            self.link(node(wire.edge.parent), child, now);
            if wire.edge.feed {
                self.order(node(wire.edge.parent), feed_order(stream, child, wire.edge));
            }
            self.order(child, parent_order(stream, Some(wire.edge), wire.reason));
        }
        self.settle(now);
    }

    /// A node is gone, and its number with it.
    pub fn remove(&mut self, gone: Node, now: Millis) {
        let received = self.edges.iter().filter(|((_, child), _)| *child == gone);
        for ((stream, _), wire) in received
            .map(|(key, wire)| (*key, *wire))
            .collect::<Vec<_>>()
        {
            self.release(stream, gone, wire.edge);
        }
        let over = self
            .retiring
            .iter()
            .filter(|((_, child, _), _)| *child == gone);
        for ((stream, ..), old) in over.map(|(key, old)| (*key, *old)).collect::<Vec<_>>() {
            self.release(stream, gone, old.edge);
        }
        self.edges
            .retain(|(_, child), wire| *child != gone && node(wire.edge.parent) != gone);
        self.unserved.retain(|(_, child), _| *child != gone);
        self.backups
            .retain(|(_, child), backup| *child != gone && backup.parent != gone);
        self.retiring
            .retain(|&(_, child, parent), _| child != gone && parent != gone);
        let links = self.links.keys().filter(|(a, b)| *a == gone || *b == gone);
        for (a, b) in links.copied().collect::<Vec<_>>() {
            self.links.remove(&(a, b));
            self.order(if a == gone { b } else { a }, Order::Unlink { peer: gone });
        }
        self.orders.remove(&gone);
        if gone == RELAY {
            self.relayed.clear();
        }
        self.settle(now);
    }

    /// Ends overlaps and links whose time has come.
    pub fn handle_timeout(&mut self, now: Millis) {
        let over = self.retiring.iter().filter(|(_, old)| old.until <= now);
        for (key, old) in over.map(|(key, old)| (*key, *old)).collect::<Vec<_>>() {
            self.retire(key, old);
        }
        self.settle(now);
        let idle = self
            .links
            .iter()
            .filter(|(_, link)| link.idle.is_some_and(|since| since + LINGER <= now));
        for (a, b) in idle.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.links.remove(&(a, b));
            self.order(a, Order::Unlink { peer: b });
            self.order(b, Order::Unlink { peer: a });
        }
    }

    /// When [`Wiring::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let overlaps = self.retiring.values().map(|old| old.until);
        let links = self
            .links
            .values()
            .filter_map(|link| link.idle.map(|since| since + LINGER));
        overlaps.chain(links).min()
    }

    /// What every node has to do since the last call.
    pub fn take_orders(&mut self) -> BTreeMap<Node, Vec<Order>> {
        std::mem::take(&mut self.orders)
    }

    /// What the relay has to do since the last call.
    pub fn take_commands(&mut self) -> Vec<Command> {
        self.relay
            .as_mut()
            .map_or_else(Vec::new, relay::Orders::take)
    }

    /// Everything that holds for one node: for a newcomer, and for one that comes back.
    pub fn all(&self, me: Node) -> Vec<Order> {
        let links = self.links.iter().filter_map(|(&(a, b), link)| {
            let peer = if a == me { b } else { a };
            (a == me || b == me).then(|| Order::Link {
                peer,
                offer: link.offerer == me,
                relay: self.words(link.token),
            })
        });
        let parent = |wire: &Wire| node(wire.edge.parent);
        let feeds = self
            .edges
            .iter()
            .filter(|(_, wire)| parent(wire) == me && wire.edge.feed);
        let feeds = feeds.map(|(&(stream, child), wire)| feed_order(stream, child, wire.edge));
        let retiring = self.retiring.iter().filter(|(key, _)| key.2 == me);
        let retiring = retiring.map(|(key, old)| feed_order(key.0, key.1, old.edge));
        // Whose child hangs on it by now is none any more, though another is yet to be named.
        let backups = self
            .backups
            .iter()
            .filter(|(key, backup)| self.parent_of(key.0, key.1) != Some(backup.parent));
        let backs = backups.clone().filter(|(key, backup)| {
            backup.parent == me && !self.retiring.contains_key(&(key.0, key.1, me))
        });
        let backs = backs.map(|(&(stream, child), backup)| stand_by_order(stream, child, *backup));
        let parents = self.edges.iter().filter(|((_, child), _)| *child == me);
        let parents = parents.map(|(key, wire)| parent_order(key.0, Some(wire.edge), wire.reason));
        let unserved = self.unserved.iter().filter(|((_, child), _)| *child == me);
        let unserved = unserved.map(|(key, why)| parent_order(key.0, None, *why));
        let backed = backups.filter(|((_, child), _)| *child == me);
        let backed = backed.map(|(key, backup)| backup_order(key.0, Some(*backup)));
        links
            .chain(feeds)
            .chain(retiring)
            .chain(backs)
            .chain(parents)
            .chain(backed)
            .chain(unserved)
            .collect()
    }

    /// Is there a link, and who offers? With the time it was ordered.
    pub fn link_between(&self, a: Node, b: Node) -> Option<(Node, Millis)> {
        self.links
            .get(&pair(a, b))
            .map(|link| (link.offerer, link.made))
    }

    /// The parent of `child` in a tree.
    pub fn parent_of(&self, stream: StreamId, child: Node) -> Option<Node> {
        self.edges
            .get(&(stream, child))
            .map(|wire| node(wire.edge.parent))
    }

    /// Who stands by for `child` in a tree.
    pub fn backup_of(&self, stream: StreamId, child: Node) -> Option<Node> {
        self.backups
            .get(&(stream, child))
            .map(|backup| backup.parent)
    }

    /// Why an edge is as it is.
    pub fn reason_of(&self, stream: StreamId, child: Node) -> Option<EdgeReason> {
        self.edges.get(&(stream, child)).map(|wire| wire.reason)
    }

    /// Does a node still feed children that have been given to others?
    pub fn is_retiring(&self, parent: Node) -> bool {
        self.retiring.keys().any(|key| key.2 == parent)
    }

    fn link(&mut self, parent: Node, child: Node, now: Millis) {
        if let Some(link) = self.links.get_mut(&pair(parent, child)) {
            link.idle = None;
            return;
        }
        let offerer = if parent == RELAY { child } else { parent };
        let mut link = Link {
            offerer,
            made: now,
            idle: None,
            token: None,
        };
        if let Some(relay) = self
            .relay
            .as_mut()
            .filter(|_| parent == RELAY || child == RELAY)
        {
            link.token = Some(relay.link(offerer));
        }
        self.links.insert(pair(parent, child), link);
        for (end, peer) in [(parent, child), (child, parent)] {
            if end != RELAY {
                let order = Order::Link {
                    peer,
                    offer: end == offerer,
                    relay: self.words(link.token),
                };
                self.order(end, order);
            }
        }
    }

    fn words(&self, token: Option<Token>) -> Option<RelayLink> {
        self.relay
            .as_ref()
            .zip(token)
            .map(|(relay, token)| relay.words(token))
    }

    fn end_overlap(&mut self, stream: StreamId, child: Node) {
        let keys = (stream, child, Node::MIN)..=(stream, child, Node::MAX);
        for (key, old) in self
            .retiring
            .range(keys)
            .map(|(key, old)| (*key, *old))
            .collect::<Vec<_>>()
        {
            self.retire(key, old);
        }
    }

    /// An old edge ends. Whoever fed it may stand by from now on.
    fn retire(&mut self, key: (StreamId, Node, Node), old: Retiring) {
        let (stream, child, parent) = key;
        self.retiring.remove(&key);
        self.release(stream, child, old.edge);
        if let Some(&backup) = self.backups.get(&(stream, child))
            && backup.parent == parent
        {
            self.order(parent, stand_by_order(stream, child, backup));
        }
    }

    fn release(&mut self, stream: StreamId, child: Node, edge: Edge) {
        if edge.feed {
            self.order(
                node(edge.parent),
                Order::Release {
                    stream: stream_ref(stream),
                    child,
                },
            );
        }
    }

    fn order(&mut self, to: Node, order: Order) {
        if let Some(relay) = self.relay.as_mut().filter(|_| to == RELAY) {
            return relay.give(order);
        }
        self.orders.entry(to).or_default().push(order);
    }

    /// Notes which links carry nothing, and since when; lets the relay forget streams that it has no part in any more.
    fn settle(&mut self, now: Millis) {
        let over = self.relayed.iter().copied().filter(|&stream| {
            let edges = (stream, Node::MIN, Node::MIN)..=(stream, Node::MAX, Node::MAX);
            let mut still_fed = self.retiring.range(edges).map(|(key, _)| key.2);
            !self.edges.contains_key(&(stream, RELAY)) && !still_fed.any(|parent| parent == RELAY)
        });
        for stream in over.collect::<Vec<_>>() {
            self.relayed.remove(&stream);
            self.end_overlap(stream, RELAY);
            self.order(RELAY, parent_order(stream, None, EdgeReason::Ended));
        }
        let fed = self
            .edges
            .iter()
            .map(|((_, child), wire)| pair(*child, node(wire.edge.parent)));
        let retiring = self
            .retiring
            .keys()
            .map(|&(_, child, parent)| pair(child, parent));
        let backed = self
            .backups
            .iter()
            .map(|((_, child), backup)| pair(*child, backup.parent));
        let used: BTreeSet<Pair> = fed.chain(retiring).chain(backed).collect();
        for (pair, link) in &mut self.links {
            link.idle = if used.contains(pair) {
                None
            } else {
                link.idle.or(Some(now))
            };
        }
    }
}

/// The planner's number of a node.
pub fn node_id(node: Node) -> NodeId {
    NodeId(u32::from(node))
}

/// The room's number of a planner's node: the planner knows no others than the room gave it.
pub fn node(id: NodeId) -> Node {
    Node::try_from(id.0).expect("the planner returns the numbers it was given")
}

/// The planner's number of a stream.
pub fn stream_id(stream: StreamRef) -> StreamId {
    StreamId(u32::from(stream.node) * 16 + u32::from(stream.stream))
}

/// The stream behind a planner's number.
pub fn stream_ref(id: StreamId) -> StreamRef {
    let sender = Node::try_from(id.0 / 16).expect("the planner returns the numbers it was given");
    StreamRef {
        node: sender,
        stream: (id.0 % 16) as u8,
    }
}

/// Spatial layers in a set, lowest first.
pub fn layer_list(layers: Layers) -> Vec<u8> {
    (0..Layers::MAX as u8)
        .filter(|layer| layers.0 & (1 << layer) != 0)
        .collect()
}

/// `None`: not a reason of its own; the edge keeps the one it had.
pub fn reason(reason: Reason) -> Option<EdgeReason> {
    Some(match reason {
        Reason::Joined => EdgeReason::Joined,
        Reason::ParentReady => return None,
        Reason::ParentLeft => EdgeReason::ParentLeft,
        Reason::ParentLost => EdgeReason::ParentLost,
        Reason::Capacity => EdgeReason::Capacity,
        Reason::Layers => EdgeReason::Layers,
        Reason::Policy => EdgeReason::Policy,
        Reason::Ended => EdgeReason::Ended,
        Reason::NoCapacity => EdgeReason::NoCapacity,
        Reason::Unreachable => EdgeReason::Unreachable,
    })
}

fn feed_order(stream: StreamId, child: Node, edge: Edge) -> Order {
    Order::Feed {
        stream: stream_ref(stream),
        child,
        layers: layer_list(edge.layers),
        rate_bps: edge.rate,
    }
}

fn stand_by_order(stream: StreamId, child: Node, backup: Backup) -> Order {
    Order::StandBy {
        stream: stream_ref(stream),
        child,
        layers: layer_list(backup.layers),
        rate_bps: backup.rate,
    }
}

fn backup_order(stream: StreamId, backup: Option<Backup>) -> Order {
    Order::Backup {
        stream: stream_ref(stream),
        parent: backup.map(|backup| backup.parent),
        layers: backup.map_or_else(Vec::new, |backup| layer_list(backup.layers)),
    }
}

fn parent_order(stream: StreamId, edge: Option<Edge>, reason: EdgeReason) -> Order {
    Order::Parent {
        stream: stream_ref(stream),
        parent: edge.map(|edge| node(edge.parent)),
        layers: edge.map_or_else(Vec::new, |edge| layer_list(edge.layers)),
        reason,
    }
}

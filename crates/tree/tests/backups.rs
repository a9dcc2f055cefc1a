//! Backups: every rule holds for every one of them after every fact, nobody goes without who could have one, and after any single
//! failure they step in together.

mod common;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use common::{Seat, Shadow, ops};
use grove_tree::{
    AVOID_MS, Backup, DEPTH_CAP, EXTRA_LINKS, Edge, Fact, Kind, Millis, NodeFacts, NodeId, Policy,
    Rates, StreamId,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

type Pair = (NodeId, NodeId);

fn pair(a: NodeId, b: NodeId) -> Pair {
    (a.min(b), a.max(b))
}

/// A room, and what its backups are by what the plan has answered.
#[derive(Clone)]
struct Watch {
    shadow: Shadow,
    backups: BTreeMap<Seat, Backup>,
    avoid: BTreeMap<Pair, Millis>,
}

impl Watch {
    fn new(policy: Policy) -> Self {
        Watch {
            shadow: Shadow::new(policy),
            backups: BTreeMap::new(),
            avoid: BTreeMap::new(),
        }
    }

    fn fact(&mut self, fact: Fact) {
        if let Fact::LinkLost(a, b) = fact
            && a != b
            && [a, b].iter().all(|end| self.shadow.nodes.contains_key(end))
        {
            self.avoid.insert(pair(a, b), self.shadow.now + AVOID_MS);
        }
        if let Fact::Left(gone) | Fact::Failed(gone) = fact {
            self.avoid.retain(|&(a, b), _| a != gone && b != gone);
        }
        self.shadow.fact(fact);
        self.look();
    }

    fn deliver(&mut self) {
        self.shadow.deliver();
        self.look();
    }

    fn run(&mut self, op: &ops::Op) {
        match *op {
            ops::Op::Fact(fact) => self.fact(fact),
            ops::Op::Deliver => self.deliver(),
            ops::Op::Pass(millis) => {
                self.shadow.pass(self.shadow.now + millis);
                self.look();
            }
        }
    }

    /// Take the plan's answer, and check everything.
    fn look(&mut self) {
        let mut before = None;
        for change in self.shadow.plan.renew_backups() {
            let seat = (change.stream, change.child);
            assert!(before < Some(seat), "each receiver once, in order");
            before = Some(seat);
            let old = match change.new {
                Some(new) => self.backups.insert(seat, new),
                None => self.backups.remove(&seat),
            };
            assert_eq!(change.old, old.map(|old| old.parent));
            assert_ne!(change.new, old, "an entry changes something");
        }
        assert_eq!(
            self.shadow.plan.renew_backups(),
            [],
            "nothing has happened since"
        );
        let now = self.shadow.now;
        self.avoid.retain(|_, until| now < *until);
        for (&seat, backup) in &self.backups {
            let others = self.without(seat);
            assert_eq!(
                others.objection(seat, backup.parent, 1.0),
                None,
                "{:?} stands by for {seat:?} in {:?}",
                backup.parent,
                self.shadow.plan.trees()
            );
            self.carries_the_least(seat, backup);
        }
        for &seat in self.shadow.edges.keys() {
            if self.backups.contains_key(&seat) || self.shadow.is_relay(seat.1) {
                continue;
            }
            for &host in self.shadow.nodes.keys() {
                // What the plan reckons with is more than four fifths of the last report.
                let objection = self.objection(seat, host, 0.8);
                assert!(
                    objection.is_some(),
                    "{host:?} could stand by for {seat:?} in {:?}",
                    self.shadow.plan.trees()
                );
            }
        }
    }

    fn carries_the_least(&self, (id, child): Seat, backup: &Backup) {
        let (rates, edge) = (
            self.shadow.streams[&id].rates,
            self.shadow.edges[&(id, child)],
        );
        let lowest = (0u8..4).find(|&layer| rates.layers[usize::from(layer)] > 0);
        let lowest = lowest.filter(|_| edge.layers.0 != 0);
        let video = lowest.map_or(0, |layer| rates.layers[usize::from(layer)]);
        assert_eq!(backup.layers.top(), lowest);
        assert_eq!(backup.layers.iter().count(), usize::from(lowest.is_some()));
        assert_eq!(backup.rate, rates.audio + video);
    }

    /// The same room, in which this receiver has no backup.
    fn without(&self, seat: Seat) -> View<'_> {
        View {
            watch: self,
            but: Some(seat),
        }
    }

    fn objection(&self, seat: Seat, host: NodeId, share: f64) -> Option<&'static str> {
        View {
            watch: self,
            but: None,
        }
        .objection(seat, host, share)
    }
}

struct View<'a> {
    watch: &'a Watch,
    but: Option<Seat>,
}

impl View<'_> {
    fn shadow(&self) -> &Shadow {
        &self.watch.shadow
    }

    fn backups(&self) -> impl Iterator<Item = (&Seat, &Backup)> {
        let all = self.watch.backups.iter();
        all.filter(|(seat, _)| Some(**seat) != self.but)
    }

    fn parent(&self, seat: Seat) -> Option<NodeId> {
        self.shadow().edges.get(&seat).map(|edge| edge.parent)
    }

    /// Hops from the root, if the way does not lead through `gone`.
    fn level(&self, (id, node): Seat, gone: NodeId) -> Option<u8> {
        let (mut at, mut level) = (node, 0);
        while at != self.shadow().streams[&id].root {
            if at == gone {
                return None;
            }
            at = self.parent((id, at))?;
            level += 1;
        }
        Some(level)
    }

    fn height(&self, (id, node): Seat) -> u8 {
        let kids = self.shadow().edges.iter();
        let kids = kids.filter(|((other, _), edge)| *other == id && edge.parent == node);
        kids.map(|((_, kid), _)| 1 + self.height((id, *kid)))
            .max()
            .unwrap_or(0)
    }

    fn low(&self, id: StreamId) -> u64 {
        let rates = self.shadow().streams[&id].rates;
        let video = rates.layers.iter().copied().find(|&rate| rate > 0);
        u64::from(rates.audio) + u64::from(video.unwrap_or(0))
    }

    /// Whoever turns to `host` when `parent` fails (`link: None`), or its link with `link`.
    fn brood(&self, host: NodeId, parent: NodeId, link: Option<NodeId>) -> Vec<Seat> {
        let turns = |&(id, child): &Seat| {
            let from = self.parent((id, child));
            match link {
                None => from == Some(parent) && self.shadow().streams[&id].root != parent,
                Some(other) => from.is_some_and(|from| pair(from, child) == pair(parent, other)),
            }
        };
        let here = self.backups().filter(|(_, backup)| backup.parent == host);
        here.map(|(seat, _)| *seat).filter(turns).collect()
    }

    fn extra(&self, node: NodeId, with: Pair) -> usize {
        let edges = self.shadow().edges.iter();
        let linked: BTreeSet<Pair> = edges
            .map(|((_, child), edge)| pair(*child, edge.parent))
            .collect();
        let warm = self.backups().map(|((_, child), b)| pair(*child, b.parent));
        let warm: BTreeSet<Pair> = warm.chain([with]).collect();
        let extra = warm.difference(&linked);
        extra.filter(|(a, b)| *a == node || *b == node).count()
    }

    /// Why `host` may not stand by for the receiver, if it may not; `share` of its uplink counts.
    fn objection(&self, (id, child): Seat, host: NodeId, share: f64) -> Option<&'static str> {
        let shadow = self.shadow();
        let stream = &shadow.streams[&id];
        let Some(parent) = self.parent((id, child)) else {
            return Some("a backup without a parent");
        };
        if host == child || host == parent {
            return Some("itself or the parent");
        }
        if !shadow.may_feed(stream, host, child) {
            return Some("may not feed it");
        }
        if shadow.barred(host, child) || self.watch.avoid.contains_key(&pair(host, child)) {
            return Some("barred or just lost");
        }
        let relayed = shadow.is_relay(host) && shadow.edges.contains_key(&(id, host));
        if host != stream.root && !stream.ready.contains(&host) && !relayed {
            return Some("has not got the stream");
        }
        let gone = if parent == stream.root { child } else { parent };
        let Some(level) = self.level((id, host), gone) else {
            return Some("below the parent or the child");
        };
        if level + 1 + self.height((id, child)) > DEPTH_CAP {
            return Some("too deep");
        }
        for end in [host, child] {
            if !shadow.is_relay(end) && self.extra(end, pair(host, child)) > EXTRA_LINKS {
                return Some("too many links");
            }
        }
        let sent: Vec<(&Seat, &Edge)> = shadow
            .edges
            .iter()
            .filter(|(_, edge)| edge.parent == host)
            .collect();
        let bills: u64 = sent.iter().map(|(_, edge)| u64::from(edge.rate)).sum();
        let lows: u64 = sent.iter().map(|((id, _), _)| self.low(*id)).sum();
        let kids = sent.iter().filter(|((other, _), _)| *other == id).count();
        let facts = shadow.nodes[&host];
        let node = self.brood(host, parent, None);
        let node = if parent == stream.root {
            Vec::new()
        } else {
            node
        };
        for brood in [node, self.brood(host, parent, Some(child))] {
            let more: u64 = brood.iter().map(|(id, _)| self.low(*id)).sum();
            let same = brood.iter().filter(|(other, _)| *other == id).count();
            let uplink = facts.uplink as f64 * share;
            if (bills.max(lows) + more + self.low(id)) as f64 > uplink {
                return Some("no uplink");
            }
            if sent.len() + brood.len() >= usize::from(facts.slots) {
                return Some("no slot");
            }
            let broad = match shadow.policy {
                Policy::Tree(b) if !shadow.is_relay(host) => usize::from(b.max(1)),
                _ => usize::MAX,
            };
            if kids + same >= broad {
                return Some("too broad");
            }
        }
        None
    }
}

/// How many orphans single failures made that had a backup, and how many of those went elsewhere.
#[derive(Default)]
struct Tally {
    repaired: Cell<usize>,
    elsewhere: Cell<usize>,
}

/// Any one node fails, or any one link: whoever lost its parent is with its backup, all of them together. Others who have no
/// backup and find no place may push them away again, and so may what `Auto` would rather have straight from a root.
fn survives_any_failure(watch: &Watch, tally: &Tally) -> Result<(), TestCaseError> {
    let edges = &watch.shadow.edges;
    let parents: BTreeSet<NodeId> = edges.values().map(|edge| edge.parent).collect();
    let links = edges.iter().map(|((_, c), edge)| pair(*c, edge.parent));
    let nodes = parents.into_iter().map(|node| (node, None));
    let links = links.collect::<BTreeSet<Pair>>().into_iter();
    for (node, other) in nodes.chain(links.map(|(a, b)| (a, Some(b)))) {
        let mut after = watch.clone();
        after.shadow.fact(match other {
            None => Fact::Failed(node),
            Some(other) => Fact::LinkLost(node, other),
        });
        let hit = |&(&(id, child), edge): &(&Seat, &Edge)| {
            let lost = match other {
                None => edge.parent == node,
                Some(other) => pair(child, edge.parent) == pair(node, other),
            };
            lost && after.shadow.streams.contains_key(&id) && !watch.shadow.is_relay(child)
        };
        let orphans: Vec<Seat> = edges.iter().filter(hit).map(|(seat, _)| *seat).collect();
        let calm = watch.shadow.policy != Policy::Auto
            && watch.shadow.unserved.is_empty()
            && orphans.iter().all(|seat| watch.backups.contains_key(seat));
        for seat in orphans {
            let Some(backup) = watch.backups.get(&seat) else {
                continue;
            };
            let parent = after.shadow.edges.get(&seat).map(|edge| edge.parent);
            if parent == Some(backup.parent) {
                tally.repaired.set(tally.repaired.get() + 1);
                continue;
            }
            tally.elsewhere.set(tally.elsewhere.get() + 1);
            prop_assert!(
                !calm,
                "{seat:?} went to {parent:?}, not to {:?}, after {node:?} {other:?}: {edges:?} of {:?}",
                backup.parent,
                watch.shadow.nodes
            );
        }
    }
    Ok(())
}

/// Random rooms: so many cases of so many nodes, streams and operations.
fn random_rooms(cases: u32, nodes: usize, streams: u32, steps: usize) {
    let tally = Tally::default();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let rich = (1_000_000u64..60_000_000).prop_map(person);
    let facts = prop_oneof![4 => rich, 1 => ops::facts()];
    let start = prop::collection::vec(facts, 2..nodes + 1);
    let relays = prop::collection::vec(ops::relay_facts(), 0..3);
    let first = prop::collection::vec(ops::rates(), 1..streams as usize);
    let list = prop::collection::vec(ops::op(nodes as u32, streams), 1..steps);
    let rooms = (ops::policy(), start, relays, first, list);
    let done = TestRunner::new(config).run(&rooms, |(policy, start, relays, first, list)| {
        let mut watch = Watch::new(policy);
        for (id, facts) in (0..).zip(start).chain((ops::RELAYS..).zip(relays)) {
            watch.shadow.fact(Fact::Node(NodeId(id), facts));
        }
        for (id, rates) in (0..).zip(first) {
            watch.fact(Fact::Stream(StreamId(id), NodeId(id), rates));
        }
        watch.deliver();
        survives_any_failure(&watch, &tally)?;
        for op in &list {
            watch.run(op);
        }
        watch.deliver();
        survives_any_failure(&watch, &tally)
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    let (repaired, elsewhere) = (tally.repaired.get(), tally.elsewhere.get());
    println!("{repaired} orphans are with their backups, {elsewhere} elsewhere");
    assert!(repaired > 200);
    assert!(elsewhere * 1_000 <= repaired, "{elsewhere} of {repaired}");
}

#[test]
fn after_every_fact_backups_are_legal_nobody_lacks_one_that_could_be_and_any_failure_is_survived() {
    random_rooms(400, 8, 5, 40);
}

#[test]
fn rooms_of_up_to_thirty_keep_the_rules_of_backups_too() {
    random_rooms(12, 30, 6, 20);
}

fn person(uplink: u64) -> NodeFacts {
    NodeFacts {
        kind: Kind::Participant,
        uplink,
        forwards: true,
        slots: 64,
        ..NodeFacts::default()
    }
}

const RELAY: NodeId = NodeId(ops::RELAYS);
const RATES: Rates = Rates {
    audio: 32_000,
    layers: [150_000, 1_200_000, 0, 0],
};
const LOW: u64 = 182_000;

/// Node 0 sends; all have it.
fn room(policy: Policy, uplinks: &[u64]) -> Watch {
    let mut watch = Watch::new(policy);
    for (id, &uplink) in (0..).zip(uplinks) {
        watch.fact(Fact::Node(NodeId(id), person(uplink)));
    }
    watch.fact(Fact::Stream(StreamId(0), NodeId(0), RATES));
    watch.deliver();
    watch
}

impl Watch {
    fn backup(&self, child: u32) -> Option<u32> {
        let backup = self.backups.get(&(StreamId(0), NodeId(child)))?;
        Some(backup.parent.0)
    }

    fn parent(&self, child: u32) -> Option<u32> {
        let edge = self.shadow.edges.get(&(StreamId(0), NodeId(child)))?;
        Some(edge.parent.0)
    }
}

#[test]
fn in_a_room_with_plenty_everybody_has_a_backup_at_the_cost_of_two_links_each_at_most() {
    for policy in [Policy::Auto, Policy::Tree(2), Policy::Tree(3)] {
        let watch = room(policy, &[20_000_000; 12]);
        let served = watch.shadow.edges.len();
        assert_eq!((served, watch.backups.len()), (11, 11), "{policy:?}");
    }
}

#[test]
fn a_mesh_has_nobody_to_stand_by_but_a_relay_that_is_in_the_tree() {
    let mut watch = room(Policy::Mesh, &[20_000_000; 4]);
    assert_eq!(watch.backups.len(), 0);
    let relay = NodeFacts {
        kind: Kind::Relay,
        ..person(1_000_000_000)
    };
    watch.fact(Fact::Node(RELAY, relay));
    assert_eq!(watch.backups.len(), 0, "it is in no tree");
    watch.fact(Fact::Barred(NodeId(0), NodeId(3)));
    watch.deliver();
    assert_eq!(watch.parent(3), Some(RELAY.0));
    assert_eq!(
        (watch.backup(1), watch.backup(2)),
        (Some(RELAY.0), Some(RELAY.0))
    );
    assert_eq!(watch.backup(3), None, "its link to the root is barred");
}

#[test]
fn a_relay_stands_by_last() {
    let mut watch = room(Policy::Auto, &[20_000_000; 4]);
    let relay = NodeFacts {
        kind: Kind::Relay,
        ..person(1_000_000_000)
    };
    watch.fact(Fact::Node(RELAY, relay));
    watch.fact(Fact::Barred(NodeId(0), NodeId(3)));
    watch.fact(Fact::Barred(NodeId(1), NodeId(3)));
    watch.fact(Fact::Barred(NodeId(2), NodeId(3)));
    watch.deliver();
    assert_eq!(watch.parent(3), Some(RELAY.0));
    let others = [watch.backup(1), watch.backup(2)];
    assert_eq!(others, [Some(2), Some(1)]);
    assert_eq!(watch.backup(3), None);
}

#[test]
fn one_reserve_serves_the_children_of_different_parents_but_not_of_the_same() {
    // 0 feeds 1, 2 and 3; two leaves hang on each of 1 and 2, and 3 has room for one.
    let mut watch = Watch::new(Policy::Tree(3));
    let idle = NodeFacts {
        forwards: false,
        ..person(0)
    };
    let two = person(2 * 1_232_000 + LOW - 1);
    for (id, facts) in (0..).zip([
        person(20_000_000),
        two,
        two,
        person(LOW),
        idle,
        idle,
        idle,
        idle,
    ]) {
        watch.fact(Fact::Node(NodeId(id), facts));
    }
    watch.fact(Fact::Barred(NodeId(3), NodeId(1)));
    watch.fact(Fact::Barred(NodeId(3), NodeId(2)));
    watch.fact(Fact::Stream(StreamId(0), NodeId(0), RATES));
    watch.deliver();
    let parents: Vec<Option<u32>> = (4..8).map(|child| watch.parent(child)).collect();
    let mut backed: Vec<Option<u32>> = (4..8)
        .filter(|&child| watch.backup(child) == Some(3))
        .map(|child| watch.parent(child))
        .collect();
    backed.sort_unstable();
    assert_eq!(
        backed,
        [Some(1), Some(2)],
        "{parents:?} {:?}",
        watch.backups
    );
}

#[test]
fn a_backup_stays_although_a_better_one_comes() {
    let mut watch = room(Policy::Auto, &[20_000_000, 3_000_000, 3_000_000]);
    assert_eq!((watch.backup(1), watch.backup(2)), (Some(2), Some(1)));
    watch.fact(Fact::Node(NodeId(3), person(500_000_000)));
    watch.deliver();
    assert_eq!((watch.backup(1), watch.backup(2)), (Some(2), Some(1)));
    watch.fact(Fact::Left(NodeId(2)));
    assert_eq!(watch.backup(1), Some(3));
}

#[test]
fn a_backup_goes_when_its_uplink_has_no_room_for_it_any_more() {
    let mut watch = room(Policy::Auto, &[20_000_000, LOW, LOW]);
    assert_eq!((watch.backup(1), watch.backup(2)), (Some(2), Some(1)));
    watch.fact(Fact::Node(NodeId(2), person(LOW - 1)));
    assert_eq!((watch.backup(1), watch.backup(2)), (None, Some(1)));
}

#[test]
fn whoever_loses_its_parent_is_with_its_backup_in_the_same_answer() {
    let mut watch = room(Policy::Tree(2), &[20_000_000; 7]);
    let failed = NodeId(1);
    let orphans: Vec<u32> = (0..7).filter(|&c| watch.parent(c) == Some(1)).collect();
    let backups: Vec<Option<u32>> = orphans.iter().map(|&c| watch.backup(c)).collect();
    assert_eq!(orphans.len(), 2);
    assert!(backups.iter().all(Option::is_some));
    watch.fact(Fact::Failed(failed));
    let parents: Vec<Option<u32>> = orphans.iter().map(|&c| watch.parent(c)).collect();
    assert_eq!(parents, backups);
}

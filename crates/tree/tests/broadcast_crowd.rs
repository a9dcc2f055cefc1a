//! Crowds of some thousands: what a planner may cost, counted in nodes and edges, never in time.

mod broadcast;

use std::collections::BTreeSet;

use broadcast::{Model, Op, RATE, ROOT, STREAM, peer, rates, relay};
use grove_tree::broadcast::{Broadcast, DEMOTED_MS, Helpers, Options, bound};
use grove_tree::{
    EdgeChange, Fact, Frailty, Kind, Nat, NodeFacts, NodeId, Reason, StreamId, Trust,
};

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn watcher(&mut self) -> NodeFacts {
        peer(match self.below(100) {
            0..35 => 0,
            35..60 => 1,
            60..80 => 2,
            80..92 => 4,
            _ => 8,
        })
    }
}

/// A crowd and who is in it.
struct Crowd {
    plan: Broadcast,
    draw: Draw,
    alive: Vec<(NodeId, NodeFacts)>,
    next: u32,
    now: u64,
}

impl Crowd {
    fn new(count: u32, root_slots: u16, relays: u32, options: Options) -> Self {
        let mut plan = Broadcast::new(options);
        plan.handle(Fact::Node(ROOT, peer(root_slots)), 0);
        plan.handle(Fact::Stream(STREAM, ROOT, rates()), 0);
        for id in 1..=relays {
            plan.handle(Fact::Node(NodeId(id), relay(1_000)), 0);
        }
        let mut draw = Draw(1);
        let alive: Vec<_> = (100..100 + count)
            .map(|id| (NodeId(id), draw.watcher()))
            .collect();
        let facts: Vec<Fact> = alive
            .iter()
            .map(|(id, facts)| Fact::Node(*id, *facts))
            .collect();
        plan.handle_batch(&facts, 0);
        Crowd {
            plan,
            draw,
            alive,
            next: 100 + count,
            now: 0,
        }
    }

    fn caps(&self) -> bound::Caps {
        let mut caps = bound::Caps::default();
        for (_, facts) in &self.alive {
            caps[usize::from(facts.slots)] += 1;
        }
        caps
    }

    /// One goes and one comes, ten in a second.
    fn churn(&mut self, pairs: u32) {
        for pair in 0..pairs {
            self.now += 100;
            let at = self.draw.below(self.alive.len() as u64) as usize;
            let (gone, _) = self.alive.swap_remove(at);
            self.plan.handle(
                if pair % 2 == 0 {
                    Fact::Left(gone)
                } else {
                    Fact::Failed(gone)
                },
                self.now,
            );
            self.join();
            while self.plan.poll_timeout().is_some_and(|at| at <= self.now) {
                self.plan.handle_timeout(self.now);
            }
        }
    }

    fn join(&mut self) {
        let facts = self.draw.watcher();
        let id = NodeId(self.next);
        self.next += 1;
        self.alive.push((id, facts));
        self.plan.handle(Fact::Node(id, facts), self.now);
    }

    fn levels(&self) -> (u64, u8) {
        let levels = self
            .alive
            .iter()
            .map(|(id, _)| self.plan.parent(STREAM, *id).expect("served").1);
        levels.fold((0, 0), |(sum, deepest), level| {
            (sum + u64::from(level), deepest.max(level))
        })
    }

    fn named(&self) -> usize {
        self.alive
            .iter()
            .filter(|(id, _)| self.plan.backup(STREAM, *id).is_some())
            .count()
    }
}

#[test]
fn churn_costs_hardly_more_edges_than_there_are_orphans_and_puts_nobody_deeper() {
    let mut crowd = Crowd::new(5_000, 16, 4, Options::default());
    crowd.churn(5_000);
    let counters = crowd.plan.counters();
    assert!(
        counters.repairs * 100 <= counters.orphans * 103,
        "{counters:?}"
    );
    assert!(
        counters.minimal * 100 >= counters.departures * 90,
        "{counters:?}"
    );
    assert_eq!(counters.deepened, 0);
    assert!(
        counters.balanced <= 3_000,
        "0.3 edges an operation: {counters:?}"
    );
    crowd.plan.check();
    let (sum, deepest) = crowd.levels();
    let (best, least) = bound::depths(&crowd.caps(), 16);
    assert!(sum * 100 <= best * 102, "{sum} against {best}");
    assert!(usize::from(deepest) <= least + 1);
}

#[test]
fn almost_everybody_has_a_backup_all_the_time_and_few_nodes_are_kept_for_it() {
    let mut crowd = Crowd::new(4_000, 16, 0, Options::default());
    let (mut with, mut all) = (0, 0);
    for _ in 0..200 {
        crowd.churn(10);
        // A spare that goes leaves some hundred without a name, for a few calls.
        assert!(
            crowd.named() + 250 >= crowd.alive.len(),
            "{}",
            crowd.named()
        );
        with += crowd.named();
        all += crowd.alive.len();
    }
    assert!(with * 1000 >= all * 998, "{with} of {all}");
    let mut spares: Vec<NodeId> = crowd
        .alive
        .iter()
        .filter_map(|(id, _)| crowd.plan.backup(STREAM, *id))
        .map(|b| b.parent)
        .collect();
    spares.sort();
    spares.dedup();
    assert!(spares.len() <= 40, "{} spares", spares.len());
}

#[test]
fn a_spare_stands_neither_below_the_child_nor_below_its_parent_and_keeps_two_links_warm() {
    let mut crowd = Crowd::new(1_000, 8, 0, Options::default());
    crowd.churn(300);
    let mut warm = std::collections::BTreeMap::<NodeId, u32>::new();
    for (child, _) in &crowd.alive {
        let Some(backup) = crowd.plan.backup(STREAM, *child) else {
            continue;
        };
        let (parent, _) = crowd.plan.parent(STREAM, *child).expect("served");
        *warm.entry(backup.parent).or_default() += u32::from(backup.warm);
        let mut at = backup.parent;
        while at != ROOT {
            assert!(at != *child && at != parent, "{child:?}");
            at = crowd.plan.parent(STREAM, at).expect("served").0;
        }
    }
    assert!(warm.values().all(|&links| links <= 2));
    assert!(warm.values().sum::<u32>() > 0);
}

#[test]
fn backups_are_told_when_they_change_and_what_is_told_last_is_what_holds() {
    let mut crowd = Crowd::new(500, 8, 0, Options::default());
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..50 {
        crowd.churn(10);
        while let Some((_, child, backup)) = crowd.plan.poll_backup() {
            told.insert(child, backup.map(|backup| backup.parent));
        }
    }
    let wrong = crowd.alive.iter().filter(|(id, _)| {
        let holds = crowd.plan.backup(STREAM, *id).map(|backup| backup.parent);
        holds.is_some() && told.get(id).copied().flatten() != holds
    });
    assert_eq!(wrong.count(), 0);
}

#[test]
fn a_tenth_of_noise_on_every_uplink_moves_nobody() {
    let mut plan = Broadcast::new(Options::default());
    let watcher = |id: u32, percent: u64| {
        let uplink = u64::from(RATE) * u64::from(id % 9) * percent / 100;
        Fact::Node(
            NodeId(id),
            NodeFacts {
                uplink,
                slots: 64,
                ..NodeFacts::default()
            },
        )
    };
    plan.handle(Fact::Node(ROOT, peer(16)), 0);
    plan.handle(Fact::Stream(STREAM, ROOT, rates()), 0);
    let mut draw = Draw(3);
    let facts: Vec<Fact> = (1..800)
        .map(|id| watcher(id, 90 + draw.below(21)))
        .collect();
    plan.handle_batch(&facts, 0);
    for second in 1..60 {
        while plan.poll_timeout().is_some_and(|at| at <= second * 1000) {
            plan.handle_timeout(second * 1000);
        }
    }
    let mut moved = 0;
    for second in 60..90 {
        for id in 1..800 {
            moved += plan
                .handle(watcher(id, 90 + draw.below(21)), second * 1000)
                .len();
        }
        while plan.poll_timeout().is_some_and(|at| at <= second * 1000) {
            moved += plan.handle_timeout(second * 1000).len();
        }
    }
    assert_eq!(moved, 0);
}

#[test]
fn relays_bring_exactly_what_the_bound_asks_for_and_get_it_back() {
    let mut crowd = Crowd::new(
        3_000,
        2,
        4,
        Options {
            depth: 4,
            ..Options::default()
        },
    );
    let need = bound::root_slots(&crowd.caps(), 4);
    let used = u64::from(crowd.plan.relay_slots_used());
    assert_eq!(crowd.plan.unserved(STREAM), 0);
    assert!(used <= need + need / 50 + 2, "{used} of {need}");
    assert!(u64::from(crowd.plan.relay_slots_wanted()).abs_diff(need) <= need / 50 + 2);
    while crowd.alive.len() > 60 {
        crowd.now += 20;
        let (gone, _) = crowd.alive.pop().expect("somebody");
        crowd.plan.handle(Fact::Left(gone), crowd.now);
    }
    for _ in 0..200 {
        crowd.now += 1_000;
        crowd.plan.handle_timeout(crowd.now);
    }
    let need = bound::root_slots(&crowd.caps(), 4).saturating_sub(1);
    assert!(
        u64::from(crowd.plan.relay_slots_used()) <= need + 1,
        "{} of {need}",
        crowd.plan.relay_slots_used()
    );
    assert!(u64::from(crowd.plan.relay_slots_wanted()) <= need + 1);
}

#[test]
fn half_of_a_crowd_dies_at_once_and_everybody_else_is_served_within_two_levels_of_the_bound() {
    let mut crowd = Crowd::new(6_000, 24, 4, Options::default());
    let before = crowd.plan.counters();
    let dead: Vec<Fact> = crowd
        .alive
        .iter()
        .step_by(2)
        .map(|(id, _)| Fact::Failed(*id))
        .collect();
    crowd.alive = crowd.alive.iter().skip(1).step_by(2).copied().collect();
    crowd.plan.handle_batch(&dead, 1_000);
    crowd.plan.check();
    assert_eq!(crowd.plan.unserved(STREAM), 0);
    let counters = crowd.plan.counters();
    let (edges, orphans) = (
        counters.edges - before.edges,
        counters.orphans - before.orphans,
    );
    assert!(
        edges * 100 <= orphans * 106,
        "{edges} edges for {orphans} orphans"
    );
    let (_, deepest) = crowd.levels();
    assert!(usize::from(deepest) <= bound::depths(&crowd.caps(), 24).1 + 2);
}

#[test]
fn killing_the_root_s_best_child_again_and_again_seldom_touches_many_nodes_and_keeps_the_depth() {
    let mut crowd = Crowd::new(3_000, 4, 4, Options::default());
    let mut costly = 0;
    for _ in 0..500 {
        crowd.now += 100;
        let view = crowd.plan.tree(STREAM).expect("a stream");
        let mut size = std::collections::BTreeMap::<NodeId, u32>::new();
        for edge in view.edges.iter().rev() {
            let own = 1 + size.get(&edge.child).copied().unwrap_or(0);
            *size.entry(edge.edge.parent).or_default() += own;
        }
        let victim = crowd
            .alive
            .iter()
            .map(|(id, _)| *id)
            .max_by_key(|id| size.get(id).copied().unwrap_or(0));
        let victim = victim.expect("somebody");
        crowd.alive.retain(|(id, _)| *id != victim);
        crowd.plan.handle(Fact::Failed(victim), crowd.now);
        costly += u32::from(crowd.plan.counters().touched > 400);
        crowd.join();
        crowd.plan.handle_timeout(crowd.now);
    }
    // Now and then the strongest are used up and a subtree is given new levels.
    assert!(costly <= 5, "{costly} of 500");
    assert_eq!(crowd.plan.unserved(STREAM), 0);
    assert!(crowd.levels().1 <= 6);
    crowd.plan.check();
}

#[test]
fn a_batch_gives_the_shallowest_tree_there_is() {
    // Against every tree there is, by enumeration: five receivers, every parent vector.
    let mut draw = Draw(11);
    for _ in 0..60 {
        let caps: Vec<u16> = (0..5).map(|_| draw.below(4) as u16).collect();
        let slots = 1 + draw.below(3) as u16;
        let best = shallowest(&caps, slots);
        let mut plan = Broadcast::new(Options {
            spares: 0,
            ..Options::default()
        });
        plan.handle(Fact::Node(ROOT, peer(slots)), 0);
        plan.handle(Fact::Stream(STREAM, ROOT, rates()), 0);
        let facts: Vec<Fact> = (1u32..)
            .zip(&caps)
            .map(|(id, &cap)| Fact::Node(NodeId(id), peer(cap)))
            .collect();
        plan.handle_batch(&facts, 0);
        let levels: Vec<u8> = (1..=5)
            .filter_map(|id| plan.parent(STREAM, NodeId(id)))
            .map(|(_, level)| level)
            .collect();
        match best {
            Some(best) => {
                let sum: u32 = levels.iter().map(|&level| u32::from(level)).sum();
                assert_eq!(
                    (levels.len(), sum),
                    (5, best),
                    "caps {caps:?}, {slots} at the root"
                );
            }
            None => assert!(levels.len() < 5),
        }
    }
}

/// The least sum of levels over all trees of five receivers, if they all fit.
fn shallowest(caps: &[u16], slots: u16) -> Option<u32> {
    let count = caps.len();
    let mut best = None;
    for code in 0..(count + 1).pow(count as u32) {
        let parents: Vec<usize> = (0..count)
            .map(|at| code / (count + 1).pow(at as u32) % (count + 1))
            .collect();
        let fan_out = |node: usize| parents.iter().filter(|&&parent| parent == node).count();
        let fits = fan_out(count) <= usize::from(slots)
            && (0..count).all(|node| fan_out(node) <= usize::from(caps[node]));
        let level = |node: usize| {
            let (mut at, mut level) = (node, 0);
            while at != count && level <= count {
                at = parents[at];
                level += 1;
            }
            level
        };
        let levels: Vec<usize> = (0..count).map(level).collect();
        if fits && levels.iter().all(|&level| level <= count) {
            let sum = levels.iter().sum::<usize>() as u32;
            best = Some(best.map_or(sum, |best: u32| best.min(sum)));
        }
    }
    best
}

#[test]
fn a_strong_newcomer_takes_the_place_of_a_weaker_leaf_nearer_the_root() {
    let mut model = Model::new(Options {
        spares: 0,
        ..Options::default()
    });
    for id in 1..=3 {
        model.run(&Op::One(Fact::Node(NodeId(id), peer(0))));
    }
    model.run(&Op::One(Fact::Node(NodeId(9), peer(4))));
    assert_eq!(model.level(STREAM, NodeId(9)), 1);
    let stepped: Vec<&EdgeChange> = model
        .answers
        .iter()
        .filter(|change| change.reason == Reason::Capacity)
        .collect();
    assert_eq!(stepped.len(), 1);
    assert!(
        stepped[0].make_before_break && stepped[0].new.is_some_and(|edge| edge.parent == NodeId(9))
    );
}

#[test]
fn one_child_s_complaint_moves_itself_and_three_demote_for_a_while() {
    let mut model = Model::new(Options {
        spares: 0,
        ..Options::default()
    });
    model.run(&Op::One(Fact::Node(NodeId(1), peer(8))));
    for id in 2..=3 {
        model.run(&Op::One(Fact::Node(NodeId(id), peer(8))));
    }
    for id in 10..16 {
        model.run(&Op::One(Fact::Node(NodeId(id), peer(0))));
    }
    let fed = |model: &Model, parent: NodeId| {
        model
            .edges
            .iter()
            .filter(|(_, at)| **at == parent)
            .map(|(key, _)| key.1)
            .collect::<Vec<_>>()
    };
    let helper = (1..=3)
        .map(NodeId)
        .max_by_key(|id| fed(&model, *id).len())
        .expect("three");
    // Everybody hangs there for the test's sake.
    let before = fed(&model, helper);
    assert!(!before.is_empty());
    model.run(&Op::One(Fact::Blamed(before[0], helper)));
    assert_eq!(
        fed(&model, helper),
        before[1..].to_vec(),
        "one word moves one edge"
    );
    let mut words = 1;
    while words < 3 {
        let child = fed(&model, helper).first().copied();
        let child = child.unwrap_or_else(|| {
            let id = NodeId(100 + words);
            model.run(&Op::One(Fact::Node(id, peer(0))));
            id
        });
        if fed(&model, helper).contains(&child) {
            model.run(&Op::One(Fact::Blamed(child, helper)));
            words += 1;
        }
        if fed(&model, helper).is_empty() && words < 3 {
            // Fill the others, so that the next comes here.
            for id in 200..260 {
                model.run(&Op::One(Fact::Node(NodeId(id), peer(0))));
            }
        }
    }
    assert!(
        fed(&model, helper).is_empty(),
        "a demoted helper feeds nobody"
    );
    model.run(&Op::Wait(DEMOTED_MS + 2_000));
    for id in 300..330 {
        model.run(&Op::One(Fact::Node(NodeId(id), peer(0))));
    }
    assert!(
        !fed(&model, helper).is_empty(),
        "and helps again when its time is over"
    );
}

#[test]
fn frail_and_unreachable_nodes_are_leaves() {
    let frail = [
        NodeFacts {
            frailty: Frailty {
                background: true,
                ..Frailty::default()
            },
            ..peer(8)
        },
        NodeFacts {
            frailty: Frailty {
                metered: true,
                ..Frailty::default()
            },
            ..peer(8)
        },
        NodeFacts {
            nat: Nat::Blocked,
            ..peer(8)
        },
        NodeFacts {
            forwards: false,
            ..peer(8)
        },
    ];
    for facts in frail {
        let mut model = Model::new(Options::default());
        model.run(&Op::One(Fact::Node(NodeId(50), relay(10))));
        model.run(&Op::One(Fact::Node(NodeId(1), facts)));
        for id in 2..12 {
            model.run(&Op::One(Fact::Node(NodeId(id), peer(0))));
        }
        assert!(
            model.edges.contains_key(&(STREAM, NodeId(1))),
            "{facts:?} is served"
        );
        assert!(
            !model.edges.values().any(|parent| *parent == NodeId(1)),
            "{facts:?} feeds nobody"
        );
    }
}

#[test]
fn whoever_does_not_watch_helps_only_where_the_source_allows_it_and_others_need_it() {
    let idle = NodeFacts {
        watches: false,
        ..peer(5)
    };
    for (helpers, trust, asked) in [
        (Helpers::Watchers, Trust::Contact, false),
        (Helpers::Contacts, Trust::Member, false),
        (Helpers::Contacts, Trust::Contact, true),
        (Helpers::Room, Trust::Stranger, false),
        (Helpers::Room, Trust::Member, true),
        (Helpers::Anyone, Trust::Stranger, true),
    ] {
        let mut model = Model::new(Options {
            spares: 0,
            helpers,
            ..Options::default()
        });
        model.run(&Op::One(Fact::Node(
            NodeId(70),
            NodeFacts { trust, ..idle },
        )));
        for id in 1..=3 {
            model.run(&Op::One(Fact::Node(NodeId(id), peer(0))));
        }
        assert!(
            !model.edges.contains_key(&(STREAM, NodeId(70))),
            "nobody needs it yet"
        );
        model.run(&Op::One(Fact::Left(NodeId(3))));
        model.run(&Op::Many(
            (4..=7).map(|id| Fact::Node(NodeId(id), peer(0))).collect(),
        ));
        let helped = model
            .edges
            .values()
            .filter(|parent| **parent == NodeId(70))
            .count();
        assert_eq!(helped > 0, asked, "{helpers:?} {trust:?}");
        assert_eq!(asked, model.edges.contains_key(&(STREAM, NodeId(70))));
        for id in 1..=7 {
            model.run(&Op::One(Fact::Left(NodeId(id))));
        }
        assert!(
            !model.edges.contains_key(&(STREAM, NodeId(70))),
            "it goes with its last child"
        );
    }
}

#[test]
fn the_same_log_gives_the_same_bytes_everywhere() {
    let mut crowd = Crowd::new(400, 6, 2, Options::default());
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut eat = |changes: &[EdgeChange]| {
        for change in changes {
            let new = change.new.map_or(u64::MAX, |edge| u64::from(edge.parent.0));
            let old = change.old.map_or(u64::MAX, |id| u64::from(id.0));
            for word in [
                change.epoch,
                u64::from(change.child.0),
                old,
                new,
                change.reason as u64,
            ] {
                hash = (hash ^ word).wrapping_mul(0x100_0000_01b3);
            }
        }
    };
    for step in 0..400u64 {
        let at = crowd.draw.below(crowd.alive.len() as u64) as usize;
        let (gone, _) = crowd.alive.swap_remove(at);
        eat(&crowd.plan.handle(Fact::Failed(gone), step * 50));
        let facts = crowd.draw.watcher();
        let id = NodeId(10_000 + step as u32);
        crowd.alive.push((id, facts));
        eat(&crowd.plan.handle(Fact::Node(id, facts), step * 50));
        eat(&crowd.plan.handle_timeout(step * 50));
    }
    assert_eq!(hash, 5_929_564_400_865_305_712);
    assert!(
        crowd
            .alive
            .iter()
            .all(|(_, facts)| facts.kind == Kind::Participant)
    );
}

#[test]
fn two_streams_of_one_root_give_everybody_two_parents_that_no_single_failure_takes() {
    // The second one carries other layers, or the same again: it is a stream like any other.
    let mut model = Model::new(Options::default());
    model.run(&Op::One(Fact::Node(ROOT, peer(40))));
    let second = StreamId(STREAM.0 + 1);
    model.run(&Op::One(Fact::Stream(second, ROOT, rates())));
    let mut draw = Draw(5);
    model.run(&Op::Many(
        (1..=60)
            .map(|id| Fact::Node(NodeId(id), draw.watcher()))
            .collect(),
    ));
    let inner = |model: &Model, stream: StreamId| -> BTreeSet<NodeId> {
        let edges = model.edges.iter().filter(|(key, _)| key.0 == stream);
        edges
            .map(|(_, parent)| *parent)
            .filter(|parent| *parent != ROOT)
            .collect()
    };
    let (one, two) = (inner(&model, STREAM), inner(&model, second));
    assert!(!one.is_empty() && !two.is_empty());
    assert!(one.is_disjoint(&two), "{one:?} {two:?}");
    for id in (1..=60).map(NodeId) {
        assert!(
            model.edges.contains_key(&(STREAM, id)) && model.edges.contains_key(&(second, id)),
            "{id:?}"
        );
    }
}

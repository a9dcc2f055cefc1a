//! Who stands by for whom, and who would rather not forward, as clients are told.

use crate::world::{World, camera, join};
use grove_server::room::ConnectionId;
use grove_server::signal::message::*;

const STREAM: StreamRef = StreamRef { node: 1, stream: 0 };

/// Node 1 sends and feeds 2 and 3, which feed 4 and 5; all have it, and backups are named.
fn tree() -> (World, Vec<ConnectionId>) {
    let mut world = World::new(Policy::Tree { branching: 2 });
    let mut all = vec![world.enter_sending()];
    all.extend((0..4).map(|_| world.enter()));
    world.everybody_is_ready();
    world.pass(1_000);
    world.check(true);
    assert_eq!(world.edges(), [(1, 2), (1, 3), (2, 4), (3, 5)]);
    for &one in &all {
        world.take(one);
    }
    (world, all)
}

fn parent(world: &World, child: Node) -> Option<Node> {
    let mut edges = world.edges().into_iter();
    edges.find(|edge| edge.1 == child).map(|edge| edge.0)
}

#[test]
fn a_backup_is_linked_and_told_to_stand_by_before_the_child_is_told_of_it() {
    let mut world = World::new(Policy::Tree { branching: 2 });
    let all = [world.enter_sending(), world.enter(), world.enter()];
    world.everybody_is_ready();
    for one in all {
        world.take(one);
    }
    world.pass(100);
    let link = |peer, offer| Order::Link {
        peer,
        offer,
        relay: None,
    };
    let (layers, rate_bps) = (vec![0], 182_000);
    let stand_by = |child| Order::StandBy {
        stream: STREAM,
        child,
        layers: layers.clone(),
        rate_bps,
    };
    let backup = |parent| Order::Backup {
        stream: STREAM,
        parent: Some(parent),
        layers: layers.clone(),
    };
    let orders = all.map(|one| world.take_orders(one));
    assert_eq!(
        orders,
        [
            vec![],
            vec![link(3, false), backup(3), stand_by(3)],
            vec![link(2, true), stand_by(2), backup(2)],
        ]
    );
    world.pass(60_000);
    assert_eq!(
        world.take_orders(all[1]),
        [],
        "the link stays while it is a backup's"
    );
}

#[test]
fn whoever_loses_its_parent_is_ordered_to_the_backup_which_goes_on() {
    let (mut world, all) = tree();
    let (child, backup) = (all[3], world.shadows[&all[3]].backups[&STREAM].0);
    let host = all[usize::from(backup) - 1];
    world.lost(child, 2, LostReason::Silent);
    assert_eq!(parent(&world, 4), Some(backup));
    let told = world.take_orders(host);
    let (layers, rate_bps) = (vec![1], 1_032_000);
    let feed = Order::Feed {
        stream: STREAM,
        child: 4,
        layers: layers.clone(),
        rate_bps,
    };
    assert!(told.contains(&feed), "{told:?}");
    let ends = |order: &Order| matches!(order, Order::Release { .. } | Order::Unlink { .. });
    assert!(!told.iter().any(ends), "{told:?}");
    let parent = Order::Parent {
        stream: STREAM,
        parent: Some(backup),
        layers,
        reason: EdgeReason::ParentLost,
    };
    let told = world.take_orders(child);
    assert_eq!(told.first(), Some(&parent));
    let named = |order: &&Order| matches!(order, Order::Backup { .. });
    assert_eq!(told.iter().filter(named).count(), 1, "{told:?}");
    world.everybody_is_ready();
    world.pass(10_000);
    world.everybody_is_ready();
    world.check(true);
}

#[test]
fn word_of_a_parent_that_was_changed_meanwhile_is_too_late_to_matter() {
    let (mut world, all) = tree();
    world.lost(all[3], 2, LostReason::Silent);
    let epoch = world.room.plan().epoch();
    let (stream, parent) = (STREAM, 2);
    world.take(all[1]);
    world.say(all[3], ClientMessage::Ready { stream, parent });
    assert_eq!(world.room.plan().epoch(), epoch);
    assert_eq!(world.take_orders(all[1]), []);
}

#[test]
fn a_backup_that_leaves_is_replaced_and_a_stream_that_ends_needs_none() {
    let (mut world, all) = tree();
    let backup = world.shadows[&all[3]].backups[&STREAM].0;
    world.say(all[usize::from(backup) - 1], ClientMessage::Leave);
    world.everybody_is_ready();
    world.pass(3_000);
    let other = world.shadows[&all[3]].backups.get(&STREAM).cloned();
    assert!(other.is_some_and(|(other, _)| other != backup));
    world.say(all[0], ClientMessage::Unpublish { stream: 0 });
    world.pass(10_000);
    for shadow in world.shadows.values() {
        assert!(shadow.backups.is_empty() && shadow.stands_by.is_empty());
        assert!(shadow.links.is_empty(), "links that only backups used go");
    }
}

#[test]
fn who_comes_back_just_after_it_became_the_parent_of_whom_it_stood_by_for_goes_on_feeding() {
    let mut world = World::new(Policy::Tree { branching: 2 });
    let all = [
        world.enter_sending(),
        world.enter(),
        world.enter(),
        world.enter(),
    ];
    world.everybody_is_ready();
    world.pass(1_000);
    let (host, _) = world.shadows[&all[3]].backups[&STREAM];
    assert_eq!((parent(&world, 4), host), (Some(2), 3));
    report(&mut world, all[1], switch(false));
    assert_eq!(parent(&world, 4), Some(host));
    let token = world.token(all[2]);
    let back = world.enter_as(join(host.into(), Some(token)));
    assert!(world.shadows[&back].feeds.contains_key(&(STREAM, 4)));
    world.pass(10_000);
    world.everybody_is_ready();
    world.check(true);
}

#[test]
fn the_picture_of_the_trees_shows_backups() {
    let (mut world, all) = tree();
    world.say(all[0], ClientMessage::Trees { watch: true });
    world.pass(2_000);
    let trees = |message| match message {
        ServerMessage::Trees(trees) => Some(trees),
        _ => None,
    };
    let trees = world.take(all[0]).into_iter().find_map(trees);
    let trees = trees.expect("it watches").trees;
    let edges = trees.iter().flat_map(|tree| &tree.edges);
    for edge in edges {
        let shadow = &world.shadows[&all[usize::from(edge.child) - 1]];
        let told = shadow.backups.get(&STREAM).map(|backup| backup.0);
        assert_eq!(edge.backup, told);
        assert!(told.is_some());
    }
}

fn report(world: &mut World, who: ConnectionId, report: Report) {
    world.say(who, ClientMessage::Report(report));
}

fn switch(passes_on: bool) -> Report {
    Report {
        passes_on: Some(passes_on),
        ..Report::default()
    }
}

fn metered(metered: bool) -> Report {
    Report {
        metered: Some(metered),
        ..Report::default()
    }
}

#[test]
fn who_does_not_pass_on_feeds_nobody_from_then_on_and_goes_on_until_others_do() {
    let (mut world, all) = tree();
    report(&mut world, all[1], switch(false));
    assert_ne!(parent(&world, 4), Some(2));
    let release = Order::Release {
        stream: STREAM,
        child: 4,
    };
    assert!(!world.take_orders(all[1]).contains(&release));
    world.everybody_is_ready();
    assert!(world.take_orders(all[1]).contains(&release));
    world.pass(1_000);
    world.check(true);
    assert!(world.shadows[&all[1]].stands_by.is_empty());
    report(&mut world, all[1], switch(true));
    world.pass(60_000);
    world.check(true);
    assert!(!world.shadows[&all[1]].stands_by.is_empty());
}

#[test]
fn a_metered_line_and_a_low_battery_are_spared_while_others_can_do_without() {
    let battery = Report {
        battery: Some(Battery {
            charging: false,
            level: 0.1,
        }),
        ..Report::default()
    };
    for first in [metered(true), battery] {
        let (mut world, all) = tree();
        report(&mut world, all[1], first.clone());
        assert_ne!(parent(&world, 4), Some(2), "3 can carry it");
        report(&mut world, all[2], first);
        world.everybody_is_ready();
        let helped = world.edges().into_iter().filter(|edge| edge.0 != 1);
        assert_eq!(
            helped.count(),
            2,
            "nobody goes without: {:?}",
            world.edges()
        );
    }
}

#[test]
fn who_is_spared_helps_again_when_somebody_goes_without_and_is_spared_again_when_others_come() {
    // 1 carries one copy; 2 can carry many and would rather not; 3 can carry nothing.
    let mut world = World::new(Policy::Auto);
    let enter = |world: &mut World, seed, uplink| {
        let uplink_bps = Some(uplink);
        world.enter_as(Join {
            uplink_bps,
            ..join(seed, None)
        })
    };
    let sender = enter(&mut world, 1, 1_300_000);
    let publication = camera();
    world.say(sender, ClientMessage::Publish { publication });
    let reluctant = enter(&mut world, 2, 20_000_000);
    report(&mut world, reluctant, metered(true));
    for seed in 3..=45 {
        enter(&mut world, seed, 64_000);
    }
    world.everybody_is_ready();
    world.pass(1_000);
    let unserved = |world: &World| world.room.plan().trees()[0].unserved.len();
    let fed = |world: &World, parent| {
        let edges = world.edges().into_iter();
        edges.filter(|edge| edge.0 == parent).count()
    };
    assert!(fed(&world, 2) > 0, "{:?}", world.edges());
    let waiting = unserved(&world);
    let willing = enter(&mut world, 46, 500_000_000);
    world.everybody_is_ready();
    for _ in 0..6 {
        world.pass(10_000);
        world.everybody_is_ready();
    }
    let helper = world.node(willing);
    assert_eq!(fed(&world, 2), 0, "{:?}", world.edges());
    assert!(fed(&world, helper) > 0);
    assert!(unserved(&world) <= waiting);
}

#[test]
fn nonsense_in_reports_breaks_nothing() {
    let (mut world, all) = tree();
    let before = world.edges();
    for battery in [
        (false, f32::NAN),
        (false, -1.0),
        (false, f32::INFINITY),
        (true, 7.0),
    ] {
        let battery = Some(Battery {
            charging: battery.0,
            level: battery.1,
        });
        let nonsense = Report {
            battery,
            uplink_bps: Some(u64::MAX),
            hidden: Some(true),
            edges: vec![EdgeReport {
                stream: StreamRef {
                    node: 9,
                    stream: 99,
                },
                parent: 4,
                bps: u32::MAX,
                delay_ms: f32::NAN,
                layer: Some(200),
            }],
            ..Report::default()
        };
        report(&mut world, all[1], nonsense);
        world.check(true);
    }
    assert_eq!(world.edges(), before);
}

/// Node 1 feeds somebody itself and the others through the relay, which stands by for who hangs on the root.
fn relayed() -> (World, Vec<ConnectionId>) {
    let mut world = World::with_relay(Policy::Auto);
    let mut all = Vec::new();
    for (seed, uplink) in [3_700_000, 64_000, 64_000, 64_000, 64_000]
        .into_iter()
        .enumerate()
    {
        let uplink_bps = Some(uplink);
        all.push(world.enter_as(Join {
            uplink_bps,
            ..join(seed as u64 + 1, None)
        }));
    }
    let publication = camera();
    world.say(all[0], ClientMessage::Publish { publication });
    world.everybody_is_ready();
    world.pass(1_000);
    world.check(true);
    (world, all)
}

#[test]
fn who_stood_by_stands_by_again_when_a_stream_ends_and_begins_anew_at_once() {
    let (mut world, all) = relayed();
    let named = |world: &World| {
        let backups = all.iter().map(|one| world.shadows[one].backups.clone());
        backups.collect::<Vec<_>>()
    };
    let before = (named(&world), world.relay.stands_by.clone());
    assert!(!before.1.is_empty(), "the relay stands by for somebody");
    world.say(all[0], ClientMessage::Unpublish { stream: 0 });
    let publication = camera();
    world.say(all[0], ClientMessage::Publish { publication });
    world.everybody_is_ready();
    world.pass(1_000);
    world.check(true);
    assert_eq!((named(&world), world.relay.stands_by.clone()), before);
}

#[test]
fn who_flaps_between_passing_on_and_not_moves_the_trees_a_few_times_and_no_more() {
    let (mut world, all) = tree();
    let before = world.room.plan().epoch();
    for at in 0..200u32 {
        report(&mut world, all[1], switch(at % 2 == 1));
        report(
            &mut world,
            all[2],
            Report {
                uplink_bps: Some(if at % 2 == 0 { 64_000 } else { 1_000_000_000 }),
                ..Report::default()
            },
        );
        world.everybody_is_ready();
        world.pass(10);
    }
    let moved = world.room.plan().epoch() - before;
    assert!(
        moved <= 12,
        "the trees changed {moved} times in two seconds"
    );
    world.pass(2_000);
    world.check(true);
    report(&mut world, all[1], switch(false));
    report(&mut world, all[1], switch(true));
    report(&mut world, all[1], switch(false));
    assert!(world.edges().iter().all(|edge| edge.0 != 2));
    report(&mut world, all[1], switch(true));
    world.pass(60_000);
    assert!(
        !world.shadows[&all[1]].stands_by.is_empty()
            || world.edges().iter().any(|edge| edge.0 == 2)
    );
}

#[test]
fn a_stream_of_sound_alone_is_no_reason_to_ask_those_who_are_spared() {
    let (mut world, all) = tree();
    report(&mut world, all[1], metered(true));
    world.everybody_is_ready();
    world.pass(1_000);
    assert!(world.edges().iter().all(|edge| edge.0 != 2));
    let publication = Publication {
        layers: Vec::new(),
        ..camera()
    };
    world.say(all[4], ClientMessage::Publish { publication });
    world.everybody_is_ready();
    world.pass(1_000);
    assert!(world.shadows[&all[1]].stands_by.is_empty(), "2 is spared");
    assert!(world.edges().iter().all(|edge| edge.0 != 2));
}

#[test]
fn no_deadline_lies_in_the_past_when_an_uplink_stood_long_while_nothing_was_to_be_bettered() {
    let mut world = World::new(Policy::Auto);
    let all = [
        world.enter(),
        world.enter(),
        world.enter_sending(),
        world.enter(),
        world.enter(),
    ];
    world.everybody_is_ready();
    let uplink_bps = Some(22_000_001);
    let little_more = Report {
        uplink_bps,
        ..Report::default()
    };
    report(&mut world, all[0], little_more);
    world.pass(1_000);
    world.lost(all[4], 3, LostReason::Silent);
    world.pass(60_000);
    world.check(false);
}

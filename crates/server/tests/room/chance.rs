//! Random inputs: nothing panics, and clients that obey do what the plan says.

use crate::world::{ROOM, World, camera, join};
use grove_relay::{Event, Lost};
use grove_server::room::ConnectionId;
use grove_server::room::relay::RELAY;
use grove_server::signal::message::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Enter {
        sends: bool,
        forwards: bool,
    },
    Resume {
        who: usize,
    },
    Cut {
        who: usize,
    },
    Say {
        who: usize,
        message: Box<ClientMessage>,
    },
    Ready {
        who: usize,
    },
    EverybodyReady,
    RelayReady,
    RelaySays {
        up: bool,
        peer: Node,
    },
    RelayStarts,
    RelayDropsTheRoom,
    Pass {
        millis: u64,
    },
}

fn stream() -> impl Strategy<Value = StreamRef> {
    (0..12_u16, 0..3_u8).prop_map(|(node, stream)| StreamRef { node, stream })
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Mesh),
        Just(Policy::Auto),
        Just(Policy::Relay),
        (1..4_u8).prop_map(|branching| Policy::Tree { branching })
    ]
}

fn why_lost() -> impl Strategy<Value = LostReason> {
    prop_oneof![Just(LostReason::Silent), Just(LostReason::Never)]
}

fn willing() -> impl Strategy<Value = Report> {
    let battery = (any::<bool>(), any::<f32>());
    let battery = battery.prop_map(|(charging, level)| Battery { charging, level });
    let switch = || prop::option::of(any::<bool>());
    let all = (switch(), prop::option::of(battery), switch(), switch());
    all.prop_map(|(hidden, battery, metered, passes_on)| Report {
        hidden,
        battery,
        metered,
        passes_on,
        ..Report::default()
    })
}

fn message() -> impl Strategy<Value = ClientMessage> {
    let layer = prop_oneof![Just(None), (0..4_u8).prop_map(Some)];
    prop_oneof![
        2 => Just(ClientMessage::Leave),
        3 => (0..2_u8).prop_map(|stream| ClientMessage::Publish { publication: Publication { stream, ..camera() } }),
        1 => (0..2_u8).prop_map(|stream| ClientMessage::Unpublish { stream }),
        2 => (stream(), layer).prop_map(|(stream, layer)| ClientMessage::Want { wants: vec![Want { stream, layer }] }),
        4 => (0..12_u16, why_lost()).prop_map(|(peer, why)| ClientMessage::Lost { peer, why }),
        1 => (stream(), 0..12_u16).prop_map(|(stream, parent)| ClientMessage::Ready { stream, parent }),
        2 => (0..40_000_000_u64).prop_map(|uplink| {
            ClientMessage::Report(Report { uplink_bps: Some(uplink), ..Report::default() })
        }),
        3 => willing().prop_map(ClientMessage::Report),
        1 => (policy(), prop::option::of(any::<bool>())).prop_map(|(policy, never_relay)| {
            ClientMessage::SetPolicy { policy, never_relay }
        }),
        2 => why_lost().prop_map(|why| ClientMessage::Lost { peer: RELAY, why }),
        1 => Just(ClientMessage::Trees { watch: true }),
        1 => (0..12_u16).prop_map(|to| ClientMessage::Mail { to, body: "AAAA".into() }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..8_usize;
    prop_oneof![
        4 => (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(sends, forwards)| Step::Enter { sends, forwards }),
        2 => who().prop_map(|who| Step::Resume { who }),
        2 => who().prop_map(|who| Step::Cut { who }),
        8 => (who(), message().prop_map(Box::new)).prop_map(|(who, message)| Step::Say { who, message }),
        6 => who().prop_map(|who| Step::Ready { who }),
        1 => Just(Step::EverybodyReady),
        3 => Just(Step::RelayReady),
        2 => (any::<bool>(), 0..12_u16).prop_map(|(up, peer)| Step::RelaySays { up, peer }),
        1 => Just(Step::RelayStarts),
        1 => Just(Step::RelayDropsTheRoom),
        4 => prop_oneof![0..3_000_u64, 0..40_000_u64].prop_map(|millis| Step::Pass { millis }),
    ]
}

/// Those who joined, with what they need to come back.
type People = Vec<(ConnectionId, u64, String)>;

fn take_step(world: &mut World, people: &mut People, step: Step) {
    let connected: Vec<ConnectionId> = world.shadows.keys().copied().collect();
    let pick = |who: usize| (!connected.is_empty()).then(|| connected[who % connected.len()]);
    match step {
        Step::Enter { .. } if connected.len() >= 8 => {}
        Step::Enter { sends, forwards } => {
            let seed = people.len() as u64 + 1;
            let mut newcomer = join(seed, None);
            newcomer.capabilities.forward = forwards;
            let connection = world.enter_as(newcomer);
            people.push((connection, seed, world.token(connection)));
            if sends {
                world.say(
                    connection,
                    ClientMessage::Publish {
                        publication: camera(),
                    },
                );
            }
        }
        Step::Resume { who } if !people.is_empty() => {
            let at = who % people.len();
            let (_, seed, token) = people[at].clone();
            let connection = world.enter_as(join(seed, Some(token)));
            if world.room.is_member(connection) {
                people[at] = (connection, seed, world.token(connection));
            }
        }
        Step::Resume { .. } => {}
        Step::Cut { who } => {
            if let Some(connection) = pick(who) {
                world.cut(connection);
            }
        }
        Step::Say { who, message } => {
            if let Some(connection) = pick(who) {
                world.say(connection, *message);
            }
        }
        Step::Ready { who } => {
            if let Some(connection) = pick(who) {
                for (stream, (parent, _)) in world.shadows[&connection].parents.clone() {
                    if let Some(parent) = parent {
                        world.say(connection, ClientMessage::Ready { stream, parent });
                    }
                }
            }
        }
        Step::EverybodyReady => world.everybody_is_ready(),
        Step::RelayReady => world.relay_is_ready(),
        Step::RelaySays { up, peer } => {
            let (room, why) = (ROOM, Lost::Silent);
            world.hear_relay(if up {
                Event::Up { room, peer }
            } else {
                Event::Lost { room, peer, why }
            });
        }
        Step::RelayStarts => world.restart_relay(),
        Step::RelayDropsTheRoom => world.relay_drops_the_room(),
        Step::Pass { millis } => world.pass(millis),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clients_that_obey_stand_as_the_plan_says(
        first in policy(),
        relay in prop::bool::weighted(0.8),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = if relay || first == Policy::Relay { World::with_relay(first) } else { World::new(first) };
        let mut people = People::new();
        for step in steps {
            take_step(&mut world, &mut people, step);
            world.check(false);
        }
        world.pass(40_000);
        world.everybody_is_ready();
        world.check(true);
    }
}

//! The port by itself, with a socket that takes nothing: one that was just bound is not known to be writable before the task
//! has waited once.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use bytes::Bytes;
use str0m::change::SdpAnswer;
use str0m::channel::ChannelConfig;
use str0m::{Candidate, Rtc, RtcConfig};

use super::*;
use crate::command::{Command, Layers, Stream};
use crate::relay::Settings;

const ROOM: Room = 1;

/// A port with a link in the making for each of these peers.
struct World {
    port: Port,
    relay: Relay,
    peers: Vec<Browser>,
    now: Now,
}

/// A peer's side, as far as its checks.
struct Browser {
    key: Key,
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
}

impl Browser {
    /// Its next check.
    fn check(&mut self, mut now: Instant) -> Bytes {
        loop {
            match self.rtc.poll_output().expect("alive") {
                str0m::Output::Transmit(transmit) => return Vec::from(transmit.contents).into(),
                str0m::Output::Event(_) => {}
                str0m::Output::Timeout(at) => {
                    now = at.max(now);
                    self.rtc
                        .handle_input(str0m::Input::Timeout(now))
                        .expect("alive");
                }
            }
        }
    }
}

impl World {
    fn new(peers: Node) -> Self {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let udp = Udp::bind(&[localhost], 0, 1).expect("a port");
        let settings = Settings::default();
        let (exchange, bounds) = (Exchange::new(1), Bounds::new(settings, 1));
        let port = Port::new(&udp, exchange.into(), bounds.into(), 0);
        let mut world = Self {
            port: port.expect("sockets"),
            relay: Relay::new(settings),
            peers: Vec::new(),
            now: Now {
                instant: Instant::now(),
                micros: 0,
            },
        };
        let node = 65_535;
        world.order(Command::Enter { room: ROOM, node });
        for peer in 1..=peers {
            let token = Token([peer as u8; 16]);
            let room = ROOM;
            world.order(Command::Link { room, peer, token });
            let socket = UdpSocket::bind((localhost, 0)).expect("a port");
            socket.set_nonblocking(true).expect("a socket");
            let local = socket.local_addr().expect("bound");
            let mut rtc = RtcConfig::new().build(world.now.instant);
            rtc.add_local_candidate(Candidate::host(local, "udp").expect("an address"));
            let mut api = rtc.sdp_api();
            api.add_channel_with_config(ChannelConfig {
                label: "control".to_owned(),
                negotiated: Some(0),
                ..ChannelConfig::default()
            });
            let (offer, pending) = api.apply().expect("something to offer");
            let offer = offer.to_sdp_string();
            assert!(world.port.offer((room, peer), offer, &world.relay));
            let reading = world.port.reading(&world.relay, world.now);
            let read = reading.expect("an offer").read();
            let (_, answer) = world.port.read(read, &mut world.relay, world.now);
            let (answer, _) = answer.split_once("a=grove-offer:").expect("an answer");
            let answer = SdpAnswer::from_sdp_string(answer).expect("an answer");
            let taken = rtc.sdp_api().accept_answer(pending, answer);
            taken.expect("a fitting answer");
            world.peers.push(Browser {
                key: (room, peer, u64::from(peer)),
                rtc,
                socket,
                local,
            });
        }
        world
    }

    fn order(&mut self, command: Command) {
        self.relay.handle_command(command.clone(), self.now.micros);
        self.port.ordered(&command, &mut self.relay, self.now);
    }

    fn poll(&mut self) {
        self.port.poll(&mut self.relay, self.now);
    }

    /// A check of each peer comes: each is to get an answer.
    fn checks(&mut self) {
        for browser in &mut self.peers {
            let datagram = Datagram {
                local: self.port.candidates[0],
                source: browser.local,
                bytes: browser.check(self.now.instant),
            };
            self.port.datagram(&datagram, self.now);
            self.port.poll(&mut self.relay, self.now);
        }
    }

    /// Datagrams that have come to each peer.
    fn got(&self) -> Vec<usize> {
        let mut buffer = [0; 2048];
        let all = |browser: &Browser| {
            std::iter::from_fn(|| browser.socket.recv(&mut buffer).ok()).count()
        };
        self.peers.iter().map(all).collect()
    }
}

#[tokio::test]
async fn what_a_full_socket_refuses_reaches_every_link_once_it_is_writable() {
    let mut world = World::new(20);
    world.checks();
    assert!(!world.port.outboxes.is_free(0));
    assert_eq!(world.got(), [0; 20]);
    world.port.writable().await;
    world.port.resume();
    world.poll();
    assert!(world.port.outboxes.is_free(0));
    assert_eq!(world.got(), [1; 20]);
    assert_eq!(world.port.unsent(), 0);
    // And then nothing stands.
    world.checks();
    assert_eq!(world.got(), [1; 20]);
}

#[tokio::test]
async fn links_of_a_full_socket_are_not_polled_and_then_in_the_order_in_which_they_came_to_wait() {
    let mut world = World::new(4);
    world.checks();
    let keys: Vec<Key> = world.peers.iter().map(|browser| browser.key).collect();
    let order = [3, 1, 0, 2].map(|at: usize| keys[at]);
    let now = world.now.instant;
    for _ in 0..2 {
        for key in order {
            world.port.with(key, |rtp| rtp.handle_timeout(now));
        }
        world.poll();
    }
    let waits = |world: &World| {
        keys.iter()
            .filter(|key| world.port.entries[key].waits)
            .count()
    };
    assert_eq!(waits(&world), 4);
    world.port.writable().await;
    world.port.touch(keys[0]);
    world.port.resume();
    // The one that came up meanwhile is there already and keeps its place.
    let first = [order[0], order[1], order[3], order[2]];
    assert_eq!(world.port.touched, first);
    world.poll();
    assert!(world.port.touched.is_empty());
    assert_eq!(waits(&world), 0);
}

#[tokio::test]
async fn a_stream_that_is_forgotten_is_wanted_of_no_link_any_more() {
    let mut world = World::new(3);
    let streams = [Stream::new(9, 0), Stream::new(9, 1)];
    let (room, layers, rate_bps) = (ROOM, Layers(1), 1_000_000);
    let (keys, now) = (world.peers.iter().map(|browser| browser.key), world.now);
    let keys: Vec<Key> = keys.collect();
    // The last is not open yet.
    for &key in &keys[..2] {
        let World { port, relay, .. } = &mut world;
        port.note(key, LinkEvent::Open, relay, now);
        for stream in streams {
            let child = key.1;
            world.order(Command::Parent {
                room,
                stream,
                parent: 9,
                layers,
            });
            world.order(Command::Feed {
                room,
                stream,
                child,
                layers,
                rate_bps,
            });
        }
    }
    let demand = |world: &World| {
        let of = |key| world.port.entries[key].demand;
        keys.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        demand(&world),
        [Some((2, 2 * rate_bps)), Some((2, 2 * rate_bps)), None]
    );
    let stream = streams[0];
    world.order(Command::Forget { room, stream });
    assert_eq!(
        demand(&world),
        [Some((1, rate_bps)), Some((1, rate_bps)), None]
    );
}

//! Who is there and who is not: the core's heartbeats and those of a browser, as the web client sends them
//! (`web/client/src/transport/link.ts`), over links by RTP in virtual time.

use std::time::Duration;

use grove_relay::{
    Command, Event, Incoming, Input, Layers, Link, Lost, Node, Outgoing, Output, Relay, Settings,
    Stream, Token,
};
use serde_json::Value;

use crate::net::{CLEAN, HARSH, Path};
use crate::world::{RELAY, World, address};

const ROOM: u64 = 1;
const MS: u64 = 1_000;

/// A browser's page, as far as heartbeats go. It sees messages and what comes of packets.
#[derive(Default)]
struct Page {
    sends: bool,
    beats: u32,
    probed_at: Option<u64>,
    sent_at: u64,
    heard_at: u64,
    echo: Option<(u64, u64)>,
    texts: usize,
    packets: usize,
    silent: bool,
    /// When it said that the relay is silent.
    silences: Vec<u64>,
}

impl Page {
    /// What came since it was last asked.
    fn hear(&mut self, texts: &[String], packets: usize, now: u64) {
        for text in texts.iter().skip(self.texts) {
            let message: Value = serde_json::from_str(text).expect("a message");
            if message["t"] == "hb" {
                self.echo = message["n"].as_u64().map(|n| (n, now));
            }
        }
        if texts.len() > self.texts || packets > self.packets {
            self.heard_at = now;
            self.silent = false;
        }
        (self.texts, self.packets) = (texts.len(), packets);
    }

    fn beat(&mut self, now: u64) -> Option<String> {
        let silent = now - self.heard_at >= 600 * MS;
        if silent && !self.silent {
            self.silent = true;
            self.silences.push(now);
        }
        if self.sends {
            self.sent_at = now;
        }
        let quiet = now - self.sent_at.max(self.heard_at) >= 150 * MS;
        let probe = self.probed_at.is_none_or(|at| now - at >= 1_000 * MS);
        if !quiet && !probe {
            return None;
        }
        self.beats += 1;
        (self.probed_at, self.sent_at) = (Some(now), now);
        let mut beat = serde_json::json!({ "t": "hb", "n": self.beats, "f": 0 });
        if let Some((n, at)) = self.echo {
            beat["e"] = n.into();
            beat["d"] = ((now - at) as f64 / MS as f64).into();
        }
        Some(beat.to_string())
    }
}

/// What flows between browsers and the relay.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flow {
    Idle,
    /// The first sends, nobody gets it.
    Up,
    /// The first sends, and the second gets it.
    Down,
    /// Both send and get the other's.
    Both,
}

/// Two browsers at a relay.
struct Life {
    world: World,
    relay: Relay,
    links: Vec<Link>,
    pages: Vec<Page>,
    lost: Vec<(Node, u64)>,
    /// Heartbeats of the relay's, by browser.
    told: Vec<usize>,
    heard: usize,
    said: usize,
    came: usize,
}

fn node(n: usize) -> Node {
    100 + n as Node
}

impl Life {
    fn new(flow: Flow, path: Path, seed: u64) -> Self {
        let both = flow == Flow::Both;
        let mut world = World::new(path, seed, &[(flow != Flow::Idle, 1), (both, 1)]);
        world.run_until(|world| world.clients.iter().all(|client| client.open));
        world.sound = flow != Flow::Idle;
        let mut relay = Relay::new(Settings::default());
        let now = world.micros();
        let room = ROOM;
        relay.handle_command(Command::Enter { room, node: 9 }, now);
        let mut links = Vec::new();
        for n in 0..2 {
            let (peer, token) = (node(n), Token([n as u8; 16]));
            relay.handle_command(Command::Link { room, peer, token }, now);
            let link = relay.handle_attach_rtp(token, 4_000_000, now);
            links.push(link.expect("it was ordered"));
        }
        let layers = Layers::one(0);
        for (from, to) in [(0, 1), (1, 0)] {
            let stream = Stream::new(node(from), 0);
            let parent = Command::Parent {
                room,
                stream,
                parent: node(from),
                layers,
            };
            let feed = Command::Feed {
                room,
                stream,
                child: node(to),
                layers,
                rate_bps: 2_000_000,
            };
            let sends = world.sending[from] > 0;
            if sends {
                relay.handle_command(parent, now);
            }
            if sends && flow != Flow::Up {
                relay.handle_command(feed, now);
            }
        }
        let page = |n: usize| Page {
            sends: world.sending[n] > 0,
            heard_at: now,
            ..Page::default()
        };
        Self {
            pages: (0..2).map(page).collect(),
            world,
            relay,
            links,
            lost: Vec::new(),
            told: vec![0; 2],
            heard: 0,
            said: 0,
            came: 0,
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.world.now + Duration::from_millis(ms);
        while self.world.now < end {
            self.world.run(5);
            let now = self.world.micros();
            self.take(now);
            if self.relay.poll_timeout().is_some_and(|due| due.at <= now) {
                self.relay.handle_timeout(now);
            }
            self.obey(now);
            for (n, page) in self.pages.iter_mut().enumerate() {
                let client = &self.world.clients[n];
                page.hear(&client.control, client.got.len(), now);
                if let Some(beat) = page.beat(now) {
                    self.world.say(n, &beat);
                }
            }
        }
    }

    fn take(&mut self, now: u64) {
        let (counts, relay, links) = (&self.world.counts, &mut self.relay, &self.links);
        for &n in &counts.heard[self.heard..] {
            relay.handle_input(links[n], Input::Heard, now);
        }
        for (n, text) in &counts.control[self.said..] {
            let text = Incoming::Text(text.clone());
            relay.handle_input(links[*n], Input::Came(text), now);
        }
        for (n, sealed) in &counts.came[self.came..] {
            let frame = Incoming::Frame(sealed.clone());
            relay.handle_input(links[*n], Input::Came(frame), now);
        }
        self.heard = counts.heard.len();
        self.said = counts.control.len();
        self.came = counts.came.len();
    }

    fn obey(&mut self, now: u64) {
        while let Some(output) = self.relay.poll_output() {
            let (link, message) = match output {
                Output::Send(link, message) => (link, message),
                Output::Event(Event::Lost { peer, why, .. }) => {
                    assert_eq!(why, Lost::Silent);
                    self.lost.push((peer, now));
                    continue;
                }
                Output::Event(_) => continue,
            };
            let n = self.links.iter().position(|of| *of == link);
            let n = n.expect("one of ours");
            match message {
                Outgoing::Frame(sealed) => self.world.hand(n, sealed),
                Outgoing::Text(text) => {
                    self.told[n] += usize::from(text.contains(r#""hb""#));
                    self.world.tell(n, &text);
                }
                Outgoing::Close(why) => panic!("{why:?}"),
            }
        }
    }

    fn silences(&self) -> usize {
        self.pages.iter().map(|page| page.silences.len()).sum()
    }
}

const FLOWS: [Flow; 4] = [Flow::Idle, Flow::Up, Flow::Down, Flow::Both];

#[test]
fn a_browser_that_is_cut_off_is_told_of_once_and_in_time_whatever_flows() {
    for flow in FLOWS {
        for n in 0..2 {
            let mut life = Life::new(flow, CLEAN, 90);
            life.run(4_000);
            assert_eq!((life.lost.len(), life.silences()), (0, 0), "{flow:?}");
            let at = life.world.micros();
            life.world.net.mute.insert(address(n));
            life.run(3_000);
            // It was heard last up to a quarter of a second before: feedback and acknowledgements are no oftener.
            let late = life.lost.iter().map(|(peer, then)| (*peer, then - at));
            let late: Vec<_> = late.collect();
            let [(peer, after)] = late[..] else {
                panic!("{flow:?} {n}: {late:?}");
            };
            assert_eq!(peer, node(n));
            assert!((350 * MS..=650 * MS).contains(&after), "{flow:?}: {after}");
        }
    }
}

#[test]
fn a_relay_that_is_cut_off_is_told_of_once_and_in_time_whatever_flows() {
    for flow in FLOWS {
        let mut life = Life::new(flow, CLEAN, 91);
        life.run(4_000);
        let at = life.world.micros();
        life.world.net.mute.insert(RELAY.into());
        life.run(2_000);
        for page in &life.pages {
            let [then] = page.silences[..] else {
                panic!("{flow:?}: {:?}", page.silences);
            };
            let after = then - at;
            assert!((500 * MS..=650 * MS).contains(&after), "{flow:?}: {after}");
        }
        assert!(life.lost.is_empty(), "the relay hears them as before");
    }
}

#[test]
fn on_a_way_that_loses_five_of_a_hundred_nobody_is_called_silent_though_messages_are_lost_twice() {
    let seeds = [92, 93, 94, 95];
    for (flow, seed) in FLOWS.into_iter().zip(seeds) {
        let mut life = Life::new(flow, HARSH, seed);
        life.run(60_000);
        assert!(life.lost.is_empty(), "{flow:?}: {:?}", life.lost);
        for page in &life.pages {
            let silences = &page.silences;
            assert!(silences.is_empty(), "{flow:?}: {silences:?}");
        }
    }
}

#[test]
fn whatever_flows_a_heartbeat_a_second_goes_each_way() {
    for flow in FLOWS {
        let mut life = Life::new(flow, CLEAN, 96);
        life.run(2_000);
        let sums = |life: &Life| {
            let beats = life.pages.iter().map(|page| page.beats as usize);
            [beats.collect(), life.told.clone()].concat()
        };
        let before = sums(&life);
        life.run(10_000);
        let sums = sums(&life).into_iter().zip(before);
        let each: Vec<usize> = sums.map(|(after, before)| after - before).collect();
        assert_eq!(each, [10; 4], "{flow:?}");
    }
}

#[test]
fn what_the_relay_says_is_followed_by_heartbeats_that_show_whether_it_came() {
    let mut life = Life::new(Flow::Down, CLEAN, 97);
    life.run(2_100);
    let before = life.told.clone();
    // A child that asks for what is not there is told so.
    life.world
        .say(1, r#"{"t":"need","s":1600,"l":0,"n":[4000000]}"#);
    life.run(900);
    let told = [life.told[0] - before[0], life.told[1] - before[1]];
    assert!(told[0] <= 1 && (9..=12).contains(&told[1]), "{told:?}");
}

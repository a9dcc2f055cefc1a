//! Bounds that are for a relay as a whole, however many shards it has: open links, and what leaves in all.
//!
//! A shard's core knows its own part only and is told what that is. A link is reserved before it is opened and given back when
//! it has closed, so all shards together never have more. Of the egress each shard may have what the others did not use in
//! the last [`LOOK`], and an equal share at least: whoever is alone has all, and when another begins to send, both are
//! within the cap one look later, which is as long as a core's own bucket evens out. What is shed is decided by what all send.
//!
//! Cost: two atomic stores a step; ten times a second, while it has something to do, a shard reads one number of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::Micros;
use crate::frame::MS;
use crate::relay::{Relay, Settings};

/// How often a shard looks at what the others send.
const LOOK: Micros = 100 * MS;

#[derive(Debug, Default)]
struct Part {
    /// Links that are reserved for the shard; written by it only.
    links: AtomicUsize,
    /// Bytes that it has sent; written by it only.
    sent: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Bounds {
    settings: Settings,
    links: AtomicUsize,
    parts: Box<[Part]>,
}

impl Bounds {
    /// For so many shards together.
    pub(crate) fn new(settings: Settings, shards: usize) -> Self {
        Self {
            settings,
            links: AtomicUsize::new(0),
            parts: (0..shards).map(|_| Part::default()).collect(),
        }
    }

    /// Links that may be open at a time.
    pub(crate) fn links(&self) -> usize {
        self.settings.links
    }

    /// Reserves a link, if there is one left: to be called before one is opened. The core is told how many it may have.
    pub(crate) fn make_room(&self, shard: usize, relay: &mut Relay) {
        self.settle(shard, relay);
        let Some(part) = self.parts.get(shard) else {
            return;
        };
        let most = self.settings.links;
        let next = |links| (links < most).then_some(links + 1);
        let got = self
            .links
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        let links = relay.links() + usize::from(got.is_ok());
        part.links.store(links, Ordering::Relaxed);
        relay.set_links(links);
    }

    /// Gives back what was reserved and is not open: to be called after each step.
    pub(crate) fn settle(&self, shard: usize, relay: &Relay) {
        let Some(part) = self.parts.get(shard) else {
            return;
        };
        let (had, has) = (part.links.load(Ordering::Relaxed), relay.links());
        if had > has {
            part.links.store(has, Ordering::Relaxed);
            self.links.fetch_sub(had - has, Ordering::AcqRel);
        }
    }
}

/// One shard's look at what leaves in all.
#[derive(Debug)]
pub(crate) struct Egress {
    bounds: Arc<Bounds>,
    shard: usize,
    looked_at: Micros,
    /// What the others had sent then.
    others: u64,
    measured_at: Micros,
    /// What all had sent then.
    all: u64,
}

impl Egress {
    pub(crate) fn new(bounds: Arc<Bounds>, shard: usize) -> Self {
        Self {
            bounds,
            shard,
            looked_at: 0,
            others: 0,
            measured_at: 0,
            all: 0,
        }
    }

    /// What all shards together have sent since the last call, as a share of what may be: so they shed before that bound blows,
    /// and give back no more than fits below it. To be called once a second; a shard that is alone measures it itself.
    pub(crate) fn load(&mut self, now: Micros) -> f64 {
        let parts = &self.bounds.parts;
        let passed = now.saturating_sub(self.measured_at);
        if parts.len() < 2 || passed == 0 {
            return 0.0;
        }
        let all = parts.iter().map(|part| part.sent.load(Ordering::Relaxed));
        let all = all.sum::<u64>();
        let bps = all.saturating_sub(self.all) as f64 * 8.0 * 1e6 / passed as f64;
        (self.measured_at, self.all) = (now, all);
        bps / self.bounds.settings.egress_bps.max(1) as f64
    }

    /// To be called after each step: tells what was sent, and the core what may be.
    pub(crate) fn note(&mut self, relay: &mut Relay, now: Micros) {
        let shards = self.bounds.parts.len() as u64;
        if shards < 2 {
            return;
        }
        if let Some(part) = self.bounds.parts.get(self.shard) {
            part.sent.store(relay.bytes_sent(), Ordering::Relaxed);
        }
        let passed = now.saturating_sub(self.looked_at);
        if passed < LOOK {
            return;
        }
        let parts = self.bounds.parts.iter().enumerate();
        let others = parts.filter(|(shard, _)| *shard != self.shard);
        let others = others
            .map(|(_, part)| part.sent.load(Ordering::Relaxed))
            .sum::<u64>();
        let sent = others.saturating_sub(self.others);
        (self.looked_at, self.others) = (now, others);
        let bps = (sent as f64 * 8.0 * 1e6 / passed as f64) as u64;
        let all = self.bounds.settings.egress_bps;
        relay.set_egress(all.saturating_sub(bps).max(all / shards));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Token};
    use crate::relay::{Input, Link, Refused};

    fn relay(settings: Settings) -> Relay {
        let mut relay = Relay::new(settings);
        relay.handle_command(Command::Enter { room: 1, node: 9 }, 0);
        for peer in 1..=3 {
            let token = Token([peer as u8; 16]);
            let room = 1;
            relay.handle_command(Command::Link { room, peer, token }, 0);
        }
        relay
    }

    #[test]
    fn all_shards_together_have_no_more_links_than_one_may_and_what_closes_is_free_for_any() {
        let settings = Settings {
            links: 3,
            ..Settings::default()
        };
        let bounds = Bounds::new(settings, 2);
        let mut relays = [relay(settings), relay(settings)];
        let mut open = |shard: usize, peer: u8| -> Result<Link, Refused> {
            let relay = &mut relays[shard];
            bounds.make_room(shard, relay);
            let opened = relay.handle_attach(Token([peer; 16]), 0);
            bounds.settle(shard, relay);
            opened
        };
        let first = open(0, 1).expect("there is room");
        for (shard, peer) in [(1, 1), (1, 2)] {
            assert!(open(shard, peer).is_ok());
        }
        assert_eq!([open(0, 2), open(1, 3)], [Err(Refused::Full); 2]);
        // Whoever has one opens it anew, and an unknown token takes none.
        assert!(open(1, 1).is_ok());
        assert_eq!(open(0, 7), Err(Refused::Unknown));
        relays[0].handle_input(first, Input::Closed, 0);
        let again = relays[0].handle_attach(Token([1; 16]), 0);
        assert!(again.is_ok());
        bounds.settle(0, &relays[0]);
        assert_eq!(bounds.links.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_shard_may_send_what_the_others_do_not_and_an_equal_share_at_least() {
        let settings = Settings {
            egress_bps: 9_000_000,
            ..Settings::default()
        };
        let bounds = Arc::new(Bounds::new(settings, 3));
        let mut relay = relay(settings);
        let mut egress = Egress::new(Arc::clone(&bounds), 0);
        let mut others = 0;
        let told = [0, 12_500, 50_000, 500_000, 0].map(|bytes| {
            others += bytes;
            bounds.parts[2].sent.store(others, Ordering::Relaxed);
            let now = egress.looked_at + LOOK;
            egress.note(&mut relay, now);
            relay.settings().egress_bps
        });
        assert_eq!(
            told,
            [9_000_000, 8_000_000, 5_000_000, 3_000_000, 9_000_000]
        );
    }
}

//! How the port's links come about, what is wanted of them, and how they end: offers, orders, goodbyes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::exchange::PENDING;
use super::offers::{Outcome, Read, Reading};
use super::{Entry, Key, Now, OPEN_WITHIN, Peer, Port, START_BPS, way};
use crate::command::{Command, Node, Token};
use crate::relay::{Input, Relay};
use crate::rtp::{Config, RtpLink, Todo};

impl Port {
    /// Takes an offer; the answer comes with [`Port::read`]. False: there will be none.
    pub(crate) fn offer(&mut self, peer: Peer, offer: String, relay: &Relay) -> bool {
        let (room, node) = peer;
        let expected = relay.token(room, node).is_some() && !relay.is_refusing(room, node);
        expected && self.offers.push(peer, offer)
    }

    /// The next offer to be read, beside the relay's task.
    pub(crate) fn reading(&mut self, relay: &Relay, now: Now) -> Option<Reading> {
        loop {
            let (peer, offer) = self.offers.begin()?;
            let Some(token) = relay.token(peer.0, peer.1) else {
                self.offers.done(peer);
                continue;
            };
            let same = self.of(peer).filter(|(_, entry)| entry.token == token);
            return Some(Reading {
                peer,
                token,
                offer,
                known: same
                    .map(|(_, entry)| entry.rtp.theirs().to_owned())
                    .collect(),
                config: Config {
                    candidates: self.candidates.clone(),
                    start_bps: START_BPS,
                    making: self.exchange.making.clone(),
                    shard: self.shard,
                },
                now,
            });
        }
    }

    /// An offer was read. The answer; empty when there is no link by RTP.
    pub(crate) fn read(&mut self, read: Read, relay: &mut Relay, now: Now) -> (Peer, String) {
        let (peer, token) = (read.peer, read.token);
        let wanted = self.offers.done(peer) && relay.token(peer.0, peer.1) == Some(token);
        let answer = match read.outcome {
            Outcome::Further(offer) if wanted => {
                let same = |(_, entry): &(&Key, &Entry)| {
                    entry.token == token && entry.rtp.theirs() == offer.ufrag()
                };
                let key = self.of(peer).find(same).map(|(&key, _)| key);
                key.and_then(|key| self.with(key, |rtp| rtp.accept(offer))?.ok())
            }
            Outcome::Fresh(rtp, answer) if wanted => {
                self.add(peer, token, *rtp, relay, now).then_some(answer)
            }
            Outcome::Further(_) | Outcome::Fresh(..) | Outcome::Refused => None,
        };
        (peer, answer.unwrap_or_default())
    }

    /// False: there are too many.
    fn add(
        &mut self,
        peer: Peer,
        token: Token,
        mut rtp: RtpLink,
        relay: &mut Relay,
        now: Now,
    ) -> bool {
        let former = self.of(peer).find(|(_, entry)| entry.link.is_none());
        if let Some(key) = former.map(|(&key, _)| key) {
            self.remove(key, relay, now);
        }
        if self.entries.len() >= self.bounds.links() + PENDING {
            return false;
        }
        let (number, eldest) = self.exchange.begin(self.shard);
        if let Some(&eldest) = eldest.and_then(|eldest| self.pending.get(&eldest)) {
            self.remove(eldest, relay, now);
        }
        let key = (peer.0, peer.1, number);
        let (ufrag, password) = rtp.credentials();
        self.demux.add(key, &ufrag, &password);
        let entry = Entry {
            rtp,
            token,
            link: None,
            due: None,
            open_by: now.instant + OPEN_WITHIN,
            demand: None,
            heard_at: 0,
            touched: true,
            waits: false,
            came: false,
            socket: None,
        };
        self.entries.insert(key, entry);
        self.pending.insert(number, key);
        self.touched.push_back(key);
        true
    }

    fn of(&self, (room, peer): Peer) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.range((room, peer, 0)..=(room, peer, u64::MAX))
    }

    /// The peer has opened its link by other means: what it has begun here is void.
    pub(crate) fn attached(&mut self, peer: Peer, relay: &mut Relay, now: Now) {
        self.offers.void(peer);
        self.remove_pending(relay, now, |key, _| (key.0, key.1) == peer);
    }

    fn remove_pending(
        &mut self,
        relay: &mut Relay,
        now: Now,
        which: impl Fn(&Key, &Entry) -> bool,
    ) {
        let of = |key: &&Key| self.entries.get(key).is_some_and(|entry| which(key, entry));
        let void: Vec<Key> = self.pending.values().filter(of).copied().collect();
        for key in void {
            self.remove(key, relay, now);
        }
    }

    /// An order was obeyed: links that are not expected any more end, and demand may have changed.
    pub(crate) fn ordered(&mut self, command: &Command, relay: &mut Relay, now: Now) {
        match *command {
            // Links that are open are closed by the core.
            Command::Link { room, peer, .. } | Command::Unlink { room, peer } => {
                let token = relay.token(room, peer);
                self.remove_pending(relay, now, |key, entry| {
                    (key.0, key.1) == (room, peer) && Some(entry.token) != token
                });
            }
            Command::Leave { room } => self.remove_pending(relay, now, |key, _| key.0 == room),
            Command::Feed { room, child, .. }
            | Command::StandBy { room, child, .. }
            | Command::Release { room, child, .. } => {
                self.demand((room, child), relay);
            }
            Command::Forget { room, .. } => {
                let of = self.entries.range((room, Node::MIN, 0)..);
                let of = of.map(|(&key, _)| key).take_while(|key| key.0 == room);
                for key in of.collect::<Vec<_>>() {
                    self.demand_of(key, relay);
                }
            }
            Command::Enter { .. }
            | Command::Offer { .. }
            | Command::Parent { .. }
            | Command::Backup { .. } => {}
        }
    }

    fn demand(&mut self, peer: Peer, relay: &Relay) {
        let open = self.of(peer).find(|(_, entry)| entry.link.is_some());
        let Some(key) = open.map(|(&key, _)| key) else {
            return;
        };
        self.demand_of(key, relay);
    }

    /// Tells a link what is wanted of it, if it is open and that has changed.
    pub(super) fn demand_of(&mut self, key: Key, relay: &Relay) {
        let demand = relay.demand(key.0, key.1);
        let entry = self.entries.get_mut(&key);
        let Some(entry) =
            entry.filter(|entry| entry.link.is_some() && entry.demand != Some(demand))
        else {
            return;
        };
        entry.demand = Some(demand);
        let (streams, bps) = demand;
        self.with(key, |rtp| {
            rtp.expect(streams);
            rtp.set_demand(bps);
        });
    }

    /// Ends a link, with a goodbye to the browser, and tells the core.
    pub(super) fn remove(&mut self, key: Key, relay: &mut Relay, now: Now) {
        if self.pending.remove(&key.2).is_some() {
            self.exchange.begun(key.2);
        }
        let Some(mut entry) = self.entries.remove(&key) else {
            return;
        };
        if let Some(at) = entry.due {
            self.due.remove(&(at, key));
        }
        if let Some(link) = entry.link {
            self.by_link.remove(&link);
            relay.handle_input(link, Input::Closed, now.micros);
        }
        // Whatever breaks now breaks nothing: the link is gone.
        let last = catch_unwind(AssertUnwindSafe(|| entry.rtp.farewell(now.instant)));
        for (todo, datagrams) in last.unwrap_or_default() {
            if let Todo::Transmit { to, size } = todo {
                let way = way(&mut self.demux, key, to, datagrams.len());
                self.outboxes.send(way, &datagrams, size);
            }
        }
        self.ended += entry.rtp.sums();
        self.demux.remove(key);
    }
}

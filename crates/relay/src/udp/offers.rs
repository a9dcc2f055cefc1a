//! Offers that wait to be read. Reading one takes a processor for milliseconds, so it is done beside the relay's task: at most
//! [`AT_WORK`] at a time, one of each peer, in the order in which they came. A peer that makes another before its last was
//! begun with is taken at its latest word.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Now, Peer};
use crate::command::Token;
use crate::rtp::{Config, Offer, RtpLink};

/// Offers read at a time, of all peers: the relay's own task needs a processor, too. Of several shards each has its part of
/// them, and one at least.
const AT_WORK: usize = 2;
/// Offers that wait. At 12 ms each the last is read after 1 s.
const WAITING: usize = 128;

/// See the module. `P` names a peer.
#[derive(Debug)]
pub(super) struct Offers<P> {
    /// How many may be read at a time.
    most: usize,
    waiting: VecDeque<(P, String)>,
    /// True: what comes of it is not wanted any more.
    at_work: BTreeMap<P, bool>,
}

impl<P> Offers<P> {
    /// At one of so many shards.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            most: (AT_WORK / shards.max(1)).max(1),
            waiting: VecDeque::new(),
            at_work: BTreeMap::new(),
        }
    }
}

impl<P: Copy + Ord> Offers<P> {
    /// False: too many wait.
    pub(super) fn push(&mut self, peer: P, offer: String) -> bool {
        if let Some((_, former)) = self.waiting.iter_mut().find(|(of, _)| *of == peer) {
            *former = offer;
            return true;
        }
        let room = self.waiting.len() < WAITING;
        if room {
            self.waiting.push_back((peer, offer));
        }
        room
    }

    /// The next to be read now. To be told when it is [`Offers::done`].
    pub(super) fn begin(&mut self) -> Option<(P, String)> {
        if self.at_work.len() >= self.most {
            return None;
        }
        let free = |(peer, _): &(P, String)| !self.at_work.contains_key(peer);
        let at = self.waiting.iter().position(free)?;
        let next = self.waiting.remove(at)?;
        self.at_work.insert(next.0, false);
        Some(next)
    }

    /// False: what came of it is not wanted.
    pub(super) fn done(&mut self, peer: P) -> bool {
        self.at_work.remove(&peer) == Some(false)
    }

    /// The peer's offers are not wanted any more.
    pub(super) fn void(&mut self, peer: P) {
        self.waiting.retain(|(of, _)| *of != peer);
        if let Some(void) = self.at_work.get_mut(&peer) {
            *void = true;
        }
    }
}

/// An offer to be read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(super) peer: Peer,
    pub(super) token: Token,
    pub(super) offer: String,
    /// What the peer's connections are known by ([`RtpLink::theirs`]).
    pub(super) known: Vec<String>,
    pub(super) config: Config,
    pub(super) now: Now,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is for a connection that is there.
    Further(Offer),
    /// It made a new one; with the answer.
    Fresh(Box<RtpLink>, String),
    Refused,
}

/// An offer that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(super) peer: Peer,
    pub(super) token: Token,
    pub(super) outcome: Outcome,
}

impl Reading {
    /// Reads it, for milliseconds.
    pub(crate) fn read(self) -> Read {
        let (peer, token) = (self.peer, self.token);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.outcome()));
        Read {
            peer,
            token,
            outcome: outcome.unwrap_or(Outcome::Refused),
        }
    }

    fn outcome(self) -> Outcome {
        let Ok(offer) = Offer::read(&self.offer) else {
            return Outcome::Refused;
        };
        if self.known.iter().any(|known| known == offer.ufrag()) {
            return Outcome::Further(offer);
        }
        let mut link = RtpLink::new(&self.config, &offer, self.now.instant, self.now.micros);
        match link.accept(offer) {
            Ok(answer) => Outcome::Fresh(Box::new(link), answer),
            Err(_) => Outcome::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_peer_one_offer_is_read_at_a_time_and_then_its_latest() {
        let mut offers = Offers::new(1);
        for (peer, offer) in [(1, "a"), (1, "b"), (2, "c")] {
            assert!(offers.push(peer, offer.to_owned()));
        }
        assert_eq!(offers.begin(), Some((1, "b".to_owned())));
        for offer in ["d", "e"] {
            assert!(offers.push(1, offer.to_owned()));
        }
        assert_eq!(offers.begin(), Some((2, "c".to_owned())));
        assert_eq!(offers.begin(), None);
        assert!(offers.done(2));
        assert_eq!(offers.begin(), None);
        assert!(offers.done(1));
        assert_eq!(offers.begin(), Some((1, "e".to_owned())));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_begun_with_and_comes_to_nothing() {
        let mut offers = Offers::new(1);
        for peer in [1, 2] {
            offers.push(peer, "a".to_owned());
            assert!(offers.begin().is_some());
            offers.push(peer, "b".to_owned());
        }
        offers.void(1);
        assert_eq!((offers.done(1), offers.done(2)), (false, true));
        assert_eq!(offers.begin(), Some((2, "b".to_owned())));
        assert_eq!(offers.begin(), None);
    }

    #[test]
    fn what_waits_is_bounded_and_a_peer_that_waits_keeps_its_place() {
        let mut offers = Offers::new(1);
        for peer in 0..WAITING {
            assert!(offers.push(peer, String::new()));
        }
        assert!(!offers.push(WAITING, String::new()));
        assert!(offers.push(0, "again".to_owned()));
        assert_eq!(offers.begin(), Some((0, "again".to_owned())));
        assert!(offers.push(WAITING, String::new()));
    }
}

//! The addresses of one session: which may speak for it, and which of them is spoken to.
//!
//! A genuine check (ICE) makes an address speak for its session. That proves who wrote the check, not whence it came: whoever
//! sees it may send it again from elsewhere, and a member may put another's address on its own. So
//!
//! - a check counts from one address only, the first that it came from;
//! - new addresses are few: a burst of [`BURST`], then one a second, [`MOST`] in all, since str0m keeps each for good;
//! - the path to the browser leads where something came from last that only the browser can make *and* that is no check: DTLS,
//!   SRTP, SRTCP;
//! - an address that the browser nominates and was not heard from yet gets no more bytes than came from there, beside the answers
//!   to its checks: a little sound, for the browser to speak up at when its network has changed;
//! - an address that was heard from within [`HOLD`] passes to no other session, of this shard or another ([`super::claims`]).
//!
//! Bounds: [`ADDRESSES`] addresses and [`CHECKS`] checks, 64 KiB. Cost: a look at each address; of a check, at each check.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::claims::Claim;
use crate::Micros;

/// Addresses at a time: a browser with several interfaces, behind a NAT that changes its mind.
pub const ADDRESSES: usize = 8;
/// Checks that are remembered: hours of one network, at the pace of browsers.
const CHECKS: usize = 4096;
/// New addresses at once; then one each [`EACH`].
const BURST: u64 = 32;
const EACH: Micros = 1_000_000;
/// New addresses of a session's life. A day on a train has fewer.
const MOST: u32 = 1024;
/// How long an address stays with whom it was last heard from. Browsers are never silent for a second.
pub(super) const HOLD: Micros = 5_000_000;

/// From one of our addresses to the browser's.
pub type Way = (SocketAddr, SocketAddr);

/// A check that is genuine.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its random number.
    pub transaction: [u8; 12],
    /// The browser will use this address, or does.
    pub nominates: bool,
    /// Bytes of it.
    pub bytes: usize,
}

#[derive(Debug)]
struct Address {
    remote: SocketAddr,
    /// Which of ours it speaks to.
    local: SocketAddr,
    /// Tells it from all others of the session.
    number: u32,
    /// When something but a check came from there.
    heard: Option<Micros>,
    checked: Micros,
    /// Bytes that came from there and were not answered in kind.
    credit: usize,
    /// What the other shards know of it.
    claim: Option<Arc<Claim>>,
}

impl Address {
    /// No other shard has taken it over.
    fn stands(&self) -> bool {
        self.claim.as_ref().is_none_or(|claim| claim.stands())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Addresses {
    known: Vec<Address>,
    path: Option<SocketAddr>,
    nominated: Option<SocketAddr>,
    /// With the number of the address from which each came.
    checks: VecDeque<([u8; 12], u32)>,
    made: u32,
    /// When the burst of new addresses is whole again.
    whole_at: Micros,
}

/// What becomes of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It counts. This address speaks for the session no more.
    Counts(Option<SocketAddr>),
    /// It came before from elsewhere, or from one new address too many.
    Ignored,
}

impl Addresses {
    /// A genuine check came.
    pub fn check(&mut self, (local, remote): Way, check: Check, now: Micros) -> Checked {
        let first = self.checks.iter().rev();
        let first = first
            .copied()
            .find(|(transaction, _)| *transaction == check.transaction);
        let at = self.known.iter().position(|known| known.remote == remote);
        let number = at
            .and_then(|at| self.known.get(at))
            .map(|known| known.number);
        if first.is_some_and(|(_, from)| Some(from) != number) {
            return Checked::Ignored;
        }
        let mut gone = None;
        let number = match number {
            Some(number) => number,
            None => {
                if !self.may_grow(now) {
                    return Checked::Ignored;
                }
                gone = self.make_room();
                self.made += 1;
                self.known.push(Address {
                    remote,
                    local,
                    number: self.made,
                    heard: None,
                    checked: now,
                    credit: 0,
                    claim: None,
                });
                self.made
            }
        };
        if first.is_none() {
            self.checks.push_back((check.transaction, number));
            if self.checks.len() > CHECKS {
                self.checks.pop_front();
            }
        }
        if let Some(known) = self.find(remote) {
            known.checked = now;
            known.local = local;
            known.credit += check.bytes;
        }
        if check.nominates {
            self.nominated = Some(remote);
        }
        Checked::Counts(gone)
    }

    fn may_grow(&mut self, now: Micros) -> bool {
        let whole_at = self.whole_at.max(now) + EACH;
        let may = whole_at - now <= BURST * EACH && self.made < MOST;
        if may {
            self.whole_at = whole_at;
        }
        may
    }

    /// All shards know that it speaks for this session.
    pub fn claimed(&mut self, remote: SocketAddr, claim: Arc<Claim>) {
        if let Some(known) = self.find(remote) {
            known.claim = Some(claim);
        }
    }

    /// The one that has not been heard from for longest goes, never the one in use. What another shard has goes first.
    fn make_room(&mut self) -> Option<SocketAddr> {
        if self.known.len() < ADDRESSES {
            return None;
        }
        let known = self.known.iter().enumerate();
        let idle = known.filter(|(_, known)| Some(known.remote) != self.path);
        let (at, _) = idle.min_by_key(|(_, known)| (known.stands(), known.heard, known.checked))?;
        Some(self.known.remove(at).remote)
    }

    fn find(&mut self, remote: SocketAddr) -> Option<&mut Address> {
        self.known.iter_mut().find(|known| known.remote == remote)
    }

    /// The same, if it is still the session's.
    fn find_own(&mut self, remote: SocketAddr) -> Option<&mut Address> {
        self.find(remote).filter(|known| known.stands())
    }

    /// A datagram that is no check came from there; whether it is genuine shows later.
    pub fn came(&mut self, remote: SocketAddr, bytes: usize) {
        if let Some(known) = self.find(remote) {
            known.credit += bytes;
        }
    }

    /// It was genuine: the browser speaks from there.
    pub fn heard(&mut self, remote: SocketAddr, now: Micros) {
        if let Some(known) = self.find_own(remote) {
            known.heard = Some(now);
            if let Some(claim) = &known.claim {
                claim.heard(now);
            }
            self.path = Some(remote);
        }
    }

    /// Where so many bytes go to the browser now. `None`: it has not been heard from.
    pub fn path(&mut self, bytes: usize) -> Option<Way> {
        let path = self.path?;
        let nominated = self.nominated.filter(|&nominated| nominated != path);
        if let Some(known) = nominated.and_then(|nominated| self.find_own(nominated))
            && let Some(left) = known.credit.checked_sub(bytes)
        {
            known.credit = left;
            return Some((known.local, known.remote));
        }
        self.find_own(path).map(|known| {
            known.credit = 0;
            (known.local, known.remote)
        })
    }

    /// How this address is spoken to.
    pub fn way(&self, remote: SocketAddr) -> Option<Way> {
        let mut known = self.known.iter();
        let known = known.find(|known| known.remote == remote && known.stands());
        known.map(|known| (known.local, known.remote))
    }

    /// Does this address stay, whoever else claims it?
    pub fn holds(&self, remote: SocketAddr, now: Micros) -> bool {
        let known = self.known.iter().find(|known| known.remote == remote);
        let heard = known.and_then(|known| known.heard);
        heard.is_some_and(|heard| now.saturating_sub(heard) <= HOLD)
    }

    /// It belongs to another session now.
    pub fn lose(&mut self, remote: SocketAddr) {
        self.known.retain(|known| known.remote != remote);
    }

    /// All that speak for the session.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> {
        self.known.iter().map(|known| known.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const BYTES: usize = 100;

    fn local() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 1))
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn way(port: u16) -> Way {
        (local(), at(port))
    }

    fn check(n: u32) -> Check {
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&n.to_be_bytes());
        Check {
            transaction,
            nominates: true,
            bytes: BYTES,
        }
    }

    fn counts(addresses: &mut Addresses, port: u16, n: u32, now: Micros) -> bool {
        addresses.check(way(port), check(n), now) != Checked::Ignored
    }

    #[test]
    fn a_check_counts_from_the_first_address_that_it_came_from_and_no_other() {
        let mut addresses = Addresses::default();
        let came = [(1, 7), (1, 7), (2, 7), (2, 8), (1, 8), (2, 8), (1, 7)];
        let counted = came.map(|(port, n)| counts(&mut addresses, port, n, 0));
        assert_eq!(counted, [true, true, false, true, false, true, true]);
        assert_eq!(addresses.all().collect::<Vec<_>>(), [at(1), at(2)]);
    }

    #[test]
    fn the_path_leads_where_something_but_a_check_came_from_last() {
        let mut addresses = Addresses::default();
        assert!(counts(&mut addresses, 1, 1, 0));
        assert_eq!(addresses.path(1), None);
        addresses.heard(at(9), 0);
        assert_eq!(addresses.path(1), None);
        addresses.heard(at(1), 0);
        assert_eq!(addresses.path(1_000), Some(way(1)));
        assert!(counts(&mut addresses, 2, 2, 0));
        assert_eq!(addresses.path(1_000), Some(way(1)));
        addresses.heard(at(2), 0);
        assert_eq!(addresses.path(1_000), Some(way(2)));
        addresses.heard(at(1), 0);
        assert_eq!(addresses.path(1_000), Some(way(1)));
    }

    #[test]
    fn an_address_that_is_nominated_and_not_heard_from_gets_no_more_than_came_from_it() {
        let mut addresses = Addresses::default();
        assert!(counts(&mut addresses, 1, 1, 0));
        addresses.heard(at(1), 0);
        assert!(counts(&mut addresses, 2, 2, 0));
        addresses.came(at(2), 20);
        let sent = [60, 70, 60, 1, 10].map(|bytes| (bytes, addresses.path(bytes)));
        let to_new = sent.iter().filter(|(_, to)| *to == Some(way(2)));
        assert_eq!(to_new.map(|(bytes, _)| bytes).sum::<usize>(), 120);
        assert!(sent.iter().all(|(_, to)| to.is_some()));
        assert_eq!(addresses.path(1), Some(way(1)));
    }

    #[test]
    fn new_addresses_are_a_burst_and_then_one_a_second_and_never_push_out_the_one_in_use() {
        let mut addresses = Addresses::default();
        assert!(counts(&mut addresses, 0, 0, 0));
        addresses.heard(at(0), 0);
        let burst = (1..200).filter(|&n| counts(&mut addresses, n, n.into(), 0));
        assert_eq!(burst.count(), 31);
        assert_eq!(addresses.all().count(), ADDRESSES);
        assert!(addresses.all().any(|address| address == at(0)));
        let later = (200..400).filter(|&n| counts(&mut addresses, n, n.into(), 10 * SECOND));
        assert_eq!(later.count(), 10);
        assert!(counts(&mut addresses, 0, 1_000, 10 * SECOND));
        let all = (0..5_000u32).filter(|&n| {
            let now = SECOND * u64::from(100 + n);
            counts(&mut addresses, 1_000 + n as u16, 2_000 + n, now)
        });
        assert_eq!(all.count() + 42, MOST as usize);
        assert_eq!(addresses.path(1_000), Some(way(0)));
    }

    #[test]
    fn an_address_is_held_for_five_seconds_after_it_was_heard_from() {
        let mut addresses = Addresses::default();
        assert!(counts(&mut addresses, 1, 1, 0));
        assert!(!addresses.holds(at(1), 0));
        addresses.heard(at(1), SECOND);
        assert!(addresses.holds(at(1), 6 * SECOND));
        assert!(!addresses.holds(at(1), 6 * SECOND + 1));
        addresses.lose(at(1));
        assert_eq!(addresses.path(1), None);
    }

    #[test]
    fn checks_are_remembered_within_a_bound() {
        let mut addresses = Addresses::default();
        for n in 0..2 * CHECKS as u32 {
            assert!(counts(&mut addresses, 1, n, 0));
        }
        assert_eq!(addresses.checks.len(), CHECKS);
        assert!(!counts(&mut addresses, 2, CHECKS as u32, 0));
    }
}

//! Whose datagram is it? Many sessions share one port.
//!
//! A STUN check goes to the session whose ICE user name it carries, if it is signed with that session's password and comes from
//! an address that may speak for it ([`Addresses`]). Everything else (DTLS, RTP, RTCP) goes by its source address, and only from
//! those addresses: the rest is dropped unread. A STUN request without a user name is answered with its own address; how often
//! is for the port to bound. Cost: a hash lookup; of a check, a HMAC.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;

use super::addresses::{Addresses, Check, Checked, Way};
use super::claims::{Claim, Claims};
use super::protocol::Protocol;
use super::stun::Stun;
use crate::Micros;

/// What is to be done with a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<K> {
    /// Give it to this session. If it turns out that only its browser can have sent it, tell [`Demux::heard`].
    Session(K),
    /// Send these bytes back.
    Answer(Vec<u8>),
    /// Nothing: malformed, forged, sent again, for a session that is not there, or from an unverified address.
    Drop,
}

/// See the module. `K` names a session.
#[derive(Debug)]
pub struct Demux<K> {
    by_ufrag: HashMap<String, K>,
    by_address: HashMap<SocketAddr, Owner<K>>,
    sessions: HashMap<K, Known>,
    claims: Arc<Claims>,
    shard: usize,
}

/// For whom an address speaks, as long as the claim stands.
#[derive(Debug)]
struct Owner<K> {
    session: K,
    claim: Arc<Claim>,
}

/// What leads to a session.
#[derive(Debug)]
struct Known {
    ufrag: String,
    password: hmac::Key,
    addresses: Addresses,
}

impl<K> Default for Demux<K> {
    /// For a shard that is alone.
    fn default() -> Self {
        Self::new(Arc::new(Claims::new(1)), 0)
    }
}

impl<K> Demux<K> {
    /// For one of the shards that share these claims.
    pub fn new(claims: Arc<Claims>, shard: usize) -> Self {
        Self {
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            sessions: HashMap::new(),
            claims,
            shard,
        }
    }
}

impl<K: Copy + Eq + Hash + fmt::Debug> Demux<K> {
    /// Expects checks for a session under its own ICE user name, signed with its password. They stay as they are: browsers
    /// make a new connection where others restart ICE.
    pub fn add(&mut self, session: K, ufrag: &str, password: &str) {
        self.remove(session);
        self.by_ufrag.insert(ufrag.to_owned(), session);
        let known = Known {
            ufrag: ufrag.to_owned(),
            password: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()),
            addresses: Addresses::default(),
        };
        self.sessions.insert(session, known);
    }

    /// Forgets a session.
    pub fn remove(&mut self, session: K) {
        let Some(known) = self.sessions.remove(&session) else {
            return;
        };
        self.by_ufrag.remove(&known.ufrag);
        for address in known.addresses.all() {
            if self.owner(address) == Some(session) {
                self.forget(address);
            }
        }
    }

    /// For whom the address speaks, or did until another shard took it over.
    fn owner(&self, address: SocketAddr) -> Option<K> {
        self.by_address.get(&address).map(|owner| owner.session)
    }

    fn forget(&mut self, address: SocketAddr) {
        if let Some(owner) = self.by_address.remove(&address) {
            self.claims.release(address, &owner.claim);
        }
    }

    /// The session for which an address speaks.
    fn session(&self, address: SocketAddr) -> Option<K> {
        let owner = self.by_address.get(&address);
        owner
            .filter(|owner| owner.claim.stands())
            .map(|owner| owner.session)
    }

    /// Something that only the session's browser can make, and is no check, came from this address.
    pub fn heard(&mut self, session: K, source: SocketAddr, now: Micros) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.addresses.heard(source, now);
        }
    }

    /// Where so many bytes go to the session's browser. `None`: it has not been heard from.
    pub fn path(&mut self, session: K, bytes: usize) -> Option<Way> {
        self.sessions.get_mut(&session)?.addresses.path(bytes)
    }

    /// How an address that speaks for the session is spoken to: from where it speaks to.
    pub fn way(&self, session: K, remote: SocketAddr) -> Option<Way> {
        self.sessions.get(&session)?.addresses.way(remote)
    }

    /// Is it an address that some session has verified?
    pub fn knows(&self, source: SocketAddr) -> bool {
        self.session(source).is_some()
    }

    /// Whose datagram is this? It came to `local`, one of our addresses.
    pub fn route(
        &mut self,
        source: SocketAddr,
        local: SocketAddr,
        datagram: &[u8],
        now: Micros,
    ) -> Route<K> {
        match Protocol::of(datagram) {
            Some(Protocol::Stun) => {
                let Some(stun) = Stun::parse(datagram) else {
                    return Route::Drop;
                };
                match (stun.ufrag, stun.answer(source)) {
                    (Some(_), _) => self.check((local, source), &stun, datagram, now),
                    (None, Some(answer)) => Route::Answer(answer),
                    // We ask nobody anything, so nothing is an answer.
                    (None, None) => Route::Drop,
                }
            }
            Some(Protocol::Dtls | Protocol::Rtp | Protocol::Rtcp) => {
                let Some(session) = self.session(source) else {
                    return Route::Drop;
                };
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.addresses.came(source, datagram.len());
                }
                Route::Session(session)
            }
            None => Route::Drop,
        }
    }

    fn check(&mut self, way: Way, stun: &Stun<'_>, datagram: &[u8], now: Micros) -> Route<K> {
        let (_, source) = way;
        let session = stun.ufrag.and_then(|ufrag| self.by_ufrag.get(ufrag));
        let Some(&session) = session.filter(|_| stun.request) else {
            return Route::Drop;
        };
        let genuine = |known: &Known| stun.is_signed(datagram, &known.password);
        if !self.sessions.get(&session).is_some_and(genuine) {
            return Route::Drop;
        }
        let owner = self.session(source);
        let former = owner.filter(|&owner| owner != session);
        let held = |former| {
            let former = self.sessions.get(&former);
            former.is_some_and(|former| former.addresses.holds(source, now))
        };
        if former.is_some_and(held)
            || (owner.is_none() && self.claims.is_held(source, self.shard, now))
        {
            return Route::Drop;
        }
        let Some(known) = self.sessions.get_mut(&session) else {
            return Route::Drop;
        };
        let check = Check {
            transaction: stun.transaction,
            nominates: stun.nominates,
            bytes: datagram.len(),
        };
        let Checked::Counts(gone) = known.addresses.check(way, check, now) else {
            return Route::Drop;
        };
        let claim = (owner != Some(session)).then(|| self.claims.take(source, self.shard, now));
        match &claim {
            // Another shard has just heard from it.
            Some(None) => known.addresses.lose(source),
            Some(Some(claim)) => known.addresses.claimed(source, Arc::clone(claim)),
            None => {}
        }
        // Whatever came of the claim: these the session does not know any more.
        let lost = matches!(claim, Some(None)).then_some(source);
        for address in gone.into_iter().chain(lost) {
            if self.owner(address) == Some(session) {
                self.forget(address);
            }
        }
        match claim {
            Some(None) => return Route::Drop,
            Some(Some(claim)) => drop(self.by_address.insert(source, Owner { session, claim })),
            None => {}
        }
        // It may pass on: the browser behind it has reloaded its page.
        if let Some(former) = former.and_then(|former| self.sessions.get_mut(&former)) {
            former.addresses.lose(source);
        }
        Route::Session(session)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::testing::check;
    use super::*;

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    const DTLS: &[u8] = &[22, 254, 253];
    const RTP: &[u8] = &[0x80, 96];
    const SECOND: Micros = 1_000_000;

    /// With sessions 1 and 2.
    struct Two(Demux<u8>);

    impl Two {
        fn new() -> Self {
            Self::with(Demux::default())
        }

        fn with(mut demux: Demux<u8>) -> Self {
            demux.add(1, "one", "secret one");
            demux.add(2, "two", "secret two");
            Self(demux)
        }

        fn came(&mut self, port: u16, datagram: &[u8], now: Micros) -> Route<u8> {
            self.0.route(from(port), from(0), datagram, now)
        }
    }

    #[test]
    fn nothing_but_checks_is_heard_from_an_address_that_was_not_verified() {
        let mut two = Two::new();
        for datagram in [DTLS, RTP, &[0x80], &[64, 0, 0, 1], &[]] {
            assert_eq!(two.came(5, datagram, 0), Route::Drop);
        }
        assert_eq!(
            two.came(5, &check("three", "secret one", 1), 0),
            Route::Drop
        );
        assert_eq!(two.came(5, &check("one", "secret two", 1), 0), Route::Drop);
        assert_eq!(two.came(5, DTLS, 0), Route::Drop);
        let good = check("one", "secret one", 1);
        assert_eq!(two.came(5, &good, 0), Route::Session(1));
        assert_eq!(two.came(5, DTLS, 0), Route::Session(1));
        assert_eq!(two.came(5, RTP, 0), Route::Session(1));
        assert_eq!(two.came(6, RTP, 0), Route::Drop);
        two.0.remove(1);
        assert_eq!(two.came(5, RTP, 0), Route::Drop);
        assert_eq!(two.came(5, &good, 0), Route::Drop);
        assert!(two.0.by_address.is_empty() && two.0.by_ufrag.len() == 1);
    }

    #[test]
    fn a_check_that_is_bent_anywhere_ahead_of_its_signature_reaches_nobody() {
        let mut two = Two::new();
        let good = check("one", "secret one", 1);
        for at in 0..good.len() - 20 {
            let mut bent = good.clone();
            bent[at] ^= 4;
            assert_ne!(two.came(5, &bent, 0), Route::Session(1), "{at}");
        }
        assert_eq!(two.came(5, &good, 0), Route::Session(1));
    }

    #[test]
    fn an_address_passes_to_another_session_only_when_its_own_has_been_silent_there() {
        let mut two = Two::new();
        let one = |n| check("one", "secret one", n);
        let other = |n| check("two", "secret two", n);
        assert_eq!(two.came(5, &one(1), 0), Route::Session(1));
        assert_eq!(two.came(5, &other(2), 0), Route::Session(2));
        assert_eq!(two.came(5, RTP, 0), Route::Session(2));
        two.0.heard(2, from(5), 0);
        assert_eq!(two.came(5, &one(3), 4 * SECOND), Route::Drop);
        assert_eq!(two.came(5, RTP, 4 * SECOND), Route::Session(2));
        assert_eq!(two.came(5, &one(4), 6 * SECOND), Route::Session(1));
        assert_eq!(two.came(5, RTP, 6 * SECOND), Route::Session(1));
        two.0.remove(2);
        assert_eq!(two.came(5, RTP, 6 * SECOND), Route::Session(1));
    }

    #[test]
    fn a_check_that_is_sent_again_from_elsewhere_verifies_nothing() {
        let mut two = Two::new();
        let good = check("one", "secret one", 1);
        assert_eq!(two.came(5, &good, 0), Route::Session(1));
        assert_eq!(two.came(6, &good, 0), Route::Drop);
        assert_eq!(two.came(6, RTP, 0), Route::Drop);
        assert_eq!(two.0.by_address.len(), 1);
    }

    #[test]
    fn among_shards_an_address_passes_on_by_the_same_rules_and_its_former_session_sends_there_no_more()
     {
        let claims = Arc::new(Claims::new(2));
        let shard = |n| Demux::new(Arc::clone(&claims), n);
        let mut two = [Two::with(shard(0)), Two::with(shard(1))];
        let mut came = |shard: usize, datagram: &[u8], now| two[shard].came(5, datagram, now);
        assert_eq!(
            came(0, &check("one", "secret one", 1), 0),
            Route::Session(1)
        );
        // Nothing was heard from it yet.
        assert_eq!(
            came(1, &check("two", "secret two", 2), 0),
            Route::Session(2)
        );
        assert_eq!(
            [came(0, RTP, 0), came(1, RTP, 0)],
            [Route::Drop, Route::Session(2)]
        );
        two[1].0.heard(2, from(5), 0);
        assert_eq!(two[1].0.path(2, 1), Some((from(0), from(5))));
        let mut came = |shard: usize, datagram: &[u8], now| two[shard].came(5, datagram, now);
        assert_eq!(
            came(0, &check("one", "secret one", 3), 4 * SECOND),
            Route::Drop
        );
        assert_eq!(
            came(0, &check("one", "secret one", 4), 6 * SECOND),
            Route::Session(1)
        );
        assert_eq!(claims.owner(from(5)), Some(0));
        assert_eq!(two[1].0.path(2, 1), None);
        assert_eq!(two[1].0.way(2, from(5)), None);
        two[1].0.remove(2);
        assert_eq!(claims.owner(from(5)), Some(0));
        two[0].0.remove(1);
        assert_eq!(claims.count(), 0);
    }

    #[test]
    fn nothing_is_left_of_a_session_whose_check_comes_just_as_another_shard_hears_from_its_address()
    {
        let (other, now) = (from(99), 20 * SECOND);
        for _ in 0..300 {
            let claims = Arc::new(Claims::new(2));
            let mut two = Two::with(Demux::new(Arc::clone(&claims), 0));
            // As many addresses as it may have: the next takes the place of one.
            for n in 0..8 {
                two.came(u16::from(n), &check("one", "secret one", n), u64::from(n));
            }
            let theirs = claims.take(other, 1, 0).expect("it is free");
            let theirs = &theirs;
            let done = &AtomicBool::new(false);
            std::thread::scope(|scope| {
                // It was heard from long ago, or now: the answer changes at any moment.
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        theirs.heard(1);
                        theirs.heard(now);
                    }
                });
                for n in 8..40 {
                    two.came(99, &check("one", "secret one", n), now);
                }
                done.store(true, Ordering::Relaxed);
            });
            two.0.remove(1);
            assert!(two.0.by_address.is_empty());
            assert_eq!(claims.count(), usize::from(theirs.stands()));
        }
    }

    #[test]
    fn a_plain_request_is_answered() {
        let mut plain = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        plain.extend([7; 12]);
        let Route::Answer(answer) = Two::new().came(5, &plain, 0) else {
            panic!("not answered");
        };
        assert_eq!((answer.len(), &answer[8..20]), (32, &[7; 12][..]));
    }
}

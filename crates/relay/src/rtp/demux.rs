//! Whose datagram is this? One UDP port serves every session.
//!
//! A STUN check goes to the session whose ICE user name it carries. Everything else (DTLS, RTP, RTCP) goes by its source
//! address, and only from addresses that a session has verified by such a check: the rest is dropped unread. A STUN request
//! without a user name is answered with its own address; how often is for the port to bound. Bounds: [`ADDRESSES`] addresses
//! and [`NAMES`] user names a session. Cost: a hash lookup.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;

use super::stun::Stun;

/// Verified addresses of one session: a browser with several interfaces, behind a NAT that changes its mind.
pub const ADDRESSES: usize = 8;

/// User names of one session: after an ICE restart checks under the former one are still on their way.
pub const NAMES: usize = 2;

/// What is to be done with a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<K> {
    /// Give it to this session. If the session finds that it was a genuine check, tell [`Demux::verified`].
    Session(K),
    /// Send these bytes back.
    Answer(Vec<u8>),
    /// Nothing: malformed, for a session that is not there, or from an unverified address.
    Drop,
}

/// See the module. `K` names a session.
#[derive(Debug)]
pub struct Demux<K> {
    by_ufrag: HashMap<String, K>,
    by_address: HashMap<SocketAddr, K>,
    sessions: HashMap<K, Known>,
}

/// What leads to a session, oldest first.
#[derive(Debug, Default)]
struct Known {
    ufrags: VecDeque<String>,
    addresses: VecDeque<SocketAddr>,
}

impl<K> Default for Demux<K> {
    fn default() -> Self {
        Self {
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            sessions: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Hash + fmt::Debug> Demux<K> {
    /// Expects checks for a session under its own ICE user name. To be told again after each further offer: an ICE restart
    /// changes the name.
    pub fn add(&mut self, session: K, ufrag: &str) {
        if self.by_ufrag.insert(ufrag.to_owned(), session) == Some(session) {
            return;
        }
        let known = self.sessions.entry(session).or_default();
        known.ufrags.push_back(ufrag.to_owned());
        if known.ufrags.len() > NAMES
            && let Some(oldest) = known.ufrags.pop_front()
        {
            self.by_ufrag.remove(&oldest);
        }
    }

    /// Forgets a session.
    pub fn remove(&mut self, session: K) {
        let known = self.sessions.remove(&session).unwrap_or_default();
        for ufrag in known.ufrags {
            self.by_ufrag.remove(&ufrag);
        }
        for address in known.addresses {
            self.by_address.remove(&address);
        }
    }

    /// A genuine check for the session came from this address.
    pub fn verified(&mut self, session: K, source: SocketAddr) {
        if self.by_address.get(&source) == Some(&session) {
            return;
        }
        let Some(known) = self.sessions.get_mut(&session) else {
            return;
        };
        known.addresses.push_back(source);
        if known.addresses.len() > ADDRESSES
            && let Some(oldest) = known.addresses.pop_front()
        {
            self.by_address.remove(&oldest);
        }
        // An address may pass to another session: the browser behind it has reloaded its page.
        if let Some(former) = self.by_address.insert(source, session)
            && let Some(former) = self.sessions.get_mut(&former)
        {
            former.addresses.retain(|address| *address != source);
        }
    }

    /// Is it an address that some session has verified?
    pub fn knows(&self, source: SocketAddr) -> bool {
        self.by_address.contains_key(&source)
    }

    /// Whose datagram is this?
    pub fn route(&self, source: SocketAddr, datagram: &[u8]) -> Route<K> {
        let by_address = || match self.by_address.get(&source) {
            Some(&session) => Route::Session(session),
            None => Route::Drop,
        };
        // RFC 7983.
        match datagram.first() {
            Some(0..=3) => {
                let Some(stun) = Stun::parse(datagram) else {
                    return Route::Drop;
                };
                match (stun.ufrag, stun.answer(source)) {
                    (Some(ufrag), _) => match self.by_ufrag.get(ufrag) {
                        Some(&session) => Route::Session(session),
                        None => Route::Drop,
                    },
                    (None, Some(answer)) => Route::Answer(answer),
                    (None, None) => by_address(),
                }
            }
            Some(20..=63 | 128..=191) => by_address(),
            _ => Route::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ufrag: &str) -> Vec<u8> {
        let name = format!("{ufrag}:theirs");
        let padded = name.len().next_multiple_of(4);
        let mut bytes = vec![0, 1, 0, (4 + padded) as u8, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([7; 12]);
        bytes.extend([0, 6, 0, name.len() as u8]);
        bytes.extend(name.bytes());
        bytes.resize(24 + padded, 0);
        bytes
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    const DTLS: &[u8] = &[22, 254, 253];
    const RTP: &[u8] = &[0x80, 96];

    #[test]
    fn nothing_but_checks_is_heard_from_an_address_that_was_not_verified() {
        let mut demux = Demux::default();
        demux.add(1, "one");
        for datagram in [DTLS, RTP, &[0x80], &[64, 0, 0, 1], &[]] {
            assert_eq!(demux.route(from(5), datagram), Route::Drop);
        }
        assert_eq!(demux.route(from(5), &check("one")), Route::Session(1));
        assert_eq!(demux.route(from(5), &check("two")), Route::Drop);
        assert_eq!(demux.route(from(5), DTLS), Route::Drop);
        demux.verified(1, from(5));
        assert_eq!(demux.route(from(5), DTLS), Route::Session(1));
        assert_eq!(demux.route(from(5), RTP), Route::Session(1));
        assert_eq!(demux.route(from(6), RTP), Route::Drop);
        demux.remove(1);
        assert_eq!(demux.route(from(5), RTP), Route::Drop);
        assert_eq!(demux.route(from(5), &check("one")), Route::Drop);
    }

    #[test]
    fn an_address_belongs_to_the_session_that_verified_it_last() {
        let mut demux = Demux::default();
        demux.add(1, "one");
        demux.add(2, "two");
        demux.verified(1, from(5));
        demux.verified(2, from(5));
        demux.remove(1);
        assert_eq!(demux.route(from(5), RTP), Route::Session(2));
        demux.verified(1, from(5));
        assert_eq!(demux.route(from(5), RTP), Route::Session(2));
    }

    #[test]
    fn a_session_keeps_its_latest_addresses() {
        let mut demux = Demux::default();
        demux.add(1, "one");
        for port in 0..=ADDRESSES as u16 {
            demux.verified(1, from(port));
        }
        assert_eq!(demux.route(from(0), RTP), Route::Drop);
        assert_eq!(demux.route(from(1), RTP), Route::Session(1));
        assert_eq!(demux.by_address.len(), ADDRESSES);
    }

    #[test]
    fn a_session_answers_to_its_latest_names() {
        let mut demux = Demux::default();
        for name in ["one", "one", "two", "three"] {
            demux.add(1, name);
        }
        assert_eq!(demux.route(from(5), &check("one")), Route::Drop);
        for name in ["two", "three"] {
            assert_eq!(demux.route(from(5), &check(name)), Route::Session(1));
        }
        demux.remove(1);
        assert_eq!(demux.route(from(5), &check("three")), Route::Drop);
        assert!(demux.by_ufrag.is_empty());
    }

    #[test]
    fn a_plain_request_is_answered() {
        let demux = Demux::<u8>::default();
        let mut plain = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        plain.extend([7; 12]);
        let Route::Answer(answer) = demux.route(from(5), &plain) else {
            panic!("not answered");
        };
        assert_eq!((answer.len(), &answer[8..20]), (32, &[7; 12][..]));
    }
}

//! One UDP port that several shards share: which of them speaks with whom.
//!
//! The kernel decides by its own hash at which shard's socket a datagram comes, so any shard must be able to say whose it is.
//! A check says so itself: the ICE user names of a shard begin with its [`mark`]. Everything else goes by its source, which the
//! shard that verified it has claimed here before its answer left.
//!
//! An address has one claim, which lasts until its session is gone or another shard takes it over. What the claims of one
//! shard say to the others is what [`super::addresses`] says within one: an address that was heard from within 5 s stays.
//!
//! Cost: an address that is new, or gone, takes the lock; a datagram whose source is not the shard's own reads a map; a look at
//! one's own claim is an atomic load. With one shard nothing is looked up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::addresses::HOLD;
use crate::Micros;

/// Shards that can share a port: as many as there are characters in an ICE user name.
pub const MOST_SHARDS: usize = 64;
/// Those characters (RFC 8839 section 5.4).
const MARKS: &[u8; MOST_SHARDS] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With what the ICE user names of this shard begin.
pub fn mark(shard: usize) -> char {
    MARKS.get(shard).copied().unwrap_or(b'A').into()
}

/// Which shard a user name is of, if it is of one.
pub fn marked(ufrag: &str) -> Option<usize> {
    let first = ufrag.as_bytes().first()?;
    MARKS.iter().position(|mark| mark == first)
}

/// A shard's word on an address.
#[derive(Debug)]
pub struct Claim {
    shard: usize,
    /// When something but a check came from there last; 0: never.
    heard: AtomicU64,
    /// Another has the address now.
    lost: AtomicBool,
}

impl Claim {
    /// The address is still this one's.
    pub fn stands(&self) -> bool {
        !self.lost.load(Ordering::Acquire)
    }

    /// Something but a check came from there.
    pub fn heard(&self, now: Micros) {
        self.heard.store(now.max(1), Ordering::Relaxed);
    }

    fn holds(&self, now: Micros) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        heard > 0 && now.saturating_sub(heard) <= HOLD
    }
}

/// See the module.
#[derive(Debug)]
pub struct Claims {
    shards: usize,
    by_address: RwLock<HashMap<SocketAddr, Arc<Claim>>>,
}

impl Claims {
    /// For so many shards.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: shards.clamp(1, MOST_SHARDS),
            by_address: RwLock::default(),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// Which shard speaks with this address; with one alone there is nothing to ask.
    pub fn owner(&self, address: SocketAddr) -> Option<usize> {
        if self.shards == 1 {
            return None;
        }
        let by_address = self.by_address.read();
        let by_address = by_address.unwrap_or_else(PoisonError::into_inner);
        by_address.get(&address).map(|claim| claim.shard)
    }

    /// Does another shard hear from this address?
    pub fn is_held(&self, address: SocketAddr, from: usize, now: Micros) -> bool {
        let by_address = self.by_address.read();
        let by_address = by_address.unwrap_or_else(PoisonError::into_inner);
        let claim = by_address.get(&address);
        claim.is_some_and(|claim| claim.shard != from && claim.holds(now))
    }

    /// Claims an address, which whoever had it loses. `None`: another shard hears from it.
    pub fn take(&self, address: SocketAddr, shard: usize, now: Micros) -> Option<Arc<Claim>> {
        let by_address = self.by_address.write();
        let mut by_address = by_address.unwrap_or_else(PoisonError::into_inner);
        let former = by_address.get(&address);
        if former.is_some_and(|claim| claim.shard != shard && claim.holds(now)) {
            return None;
        }
        let claim = Arc::new(Claim {
            shard,
            heard: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        });
        if let Some(former) = by_address.insert(address, Arc::clone(&claim)) {
            former.lost.store(true, Ordering::Release);
        }
        Some(claim)
    }

    /// Nobody speaks with this address any more, if this claim is still the one.
    pub fn release(&self, address: SocketAddr, claim: &Arc<Claim>) {
        let by_address = self.by_address.write();
        let mut by_address = by_address.unwrap_or_else(PoisonError::into_inner);
        let same = by_address.get(&address);
        if same.is_some_and(|same| Arc::ptr_eq(same, claim)) {
            by_address.remove(&address);
        }
    }

    /// Addresses that are claimed.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        let by_address = self.by_address.read();
        by_address.unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn a_user_name_tells_its_shard_and_no_two_shards_begin_alike() {
        for shard in 0..MOST_SHARDS {
            assert_eq!(marked(&format!("{}xyz", mark(shard))), Some(shard));
        }
        for strange in ["", "-abc", "\u{fc}"] {
            assert_eq!(marked(strange), None);
        }
    }

    #[test]
    fn an_address_passes_to_another_shard_only_when_its_own_has_not_heard_from_it() {
        let claims = Claims::new(2);
        let address = SocketAddr::from(([192, 0, 2, 1], 5));
        assert_eq!(claims.owner(address), None);
        let first = claims.take(address, 0, 0).expect("it is free");
        let second = claims.take(address, 1, 0).expect("nothing came from it");
        assert_eq!((first.stands(), second.stands()), (false, true));
        second.heard(SECOND);
        assert!(claims.is_held(address, 0, 6 * SECOND));
        assert!(claims.take(address, 0, 6 * SECOND).is_none());
        assert!(!claims.is_held(address, 1, 6 * SECOND));
        assert_eq!(claims.owner(address), Some(1));
        claims.release(address, &first);
        assert_eq!(claims.owner(address), Some(1));
        let third = claims.take(address, 0, 6 * SECOND + 1);
        assert!(third.is_some_and(|claim| claim.stands()) && !second.stands());
    }
}

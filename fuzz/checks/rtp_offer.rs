//! What must hold for any text that claims to be a browser's offer. The fuzz target and the test of its seeds both include this.

use std::net::SocketAddr;
use std::time::Instant;

use grove_relay::rtp::{Config, Offer, OfferError, Pool, RtpLink};

/// The longest answer: what a browser is told must fit a message of the room.
const LONGEST_ANSWER: usize = 256 << 10;

/// True when the offer is answered.
pub fn check(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(offer) = Offer::read(&text) else {
        return false;
    };
    let again = Offer::read(&text).expect("it was read before");
    assert_eq!(
        (again.hash(), again.ufrag()),
        (offer.hash(), offer.ufrag()),
        "an offer is what it says"
    );
    let relay = SocketAddr::from(([10, 0, 0, 1], 3478));
    let config = Config {
        candidates: vec![relay],
        start_bps: 1_000_000,
        making: Pool::default(),
        shard: 0,
    };
    let mut link = RtpLink::new(&config, &offer, Instant::now(), 0);
    let answer = match link.accept(offer) {
        Ok(answer) => answer,
        Err(OfferError::Unacceptable(_)) => return false,
        Err(OfferError::TooLarge) => panic!("that was said when it was read"),
    };
    assert!(answer.len() <= LONGEST_ANSWER, "{}", answer.len());
    assert!(answer.contains("a=ice-lite"));
    let candidates = answer.matches("a=candidate:").count();
    assert_eq!(
        candidates,
        answer.matches("10.0.0.1 3478").count(),
        "ours alone"
    );
    assert_eq!(
        link.accept(again).ok(),
        Some(answer),
        "the same, if asked again"
    );
    true
}

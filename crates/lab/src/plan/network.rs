//! The ways between nodes: round trips, who can't reach whom, how long a control message takes and what a connection costs.
//!
//! A continent: eight regions on a ring, neighbours 12 ms of round trip apart, and 2 to 12 ms of last mile at either end.
//! Relays stand in every region. Nothing here is drawn anew: the same two nodes always see the same round trip.

use super::chance::Chance;
use super::overlay::{Micros, Peer};

/// Regions on the ring.
pub(super) const REGIONS: u8 = 8;
/// Round trip between neighbouring regions.
const STEP: Micros = 12_000;
/// Of a relay, which stands in a data centre.
const RELAY_MILE: Micros = 1_000;
/// The least silence that counts as a failure.
pub(super) const SILENCE: Micros = 100_000;
/// A control message that was lost is sent again after this, then after twice as long, and so on.
const RESEND: Micros = 250_000;
/// The link layer below gives up no later: the last attempt arrives.
const ATTEMPTS: u32 = 6;

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    region: u8,
    mile: Micros,
    symmetric: bool,
}

impl Place {
    pub(super) fn of(peer: Peer, chance: &mut Chance) -> Self {
        Self {
            region: peer.region % REGIONS,
            mile: 2_000 + chance.below(10_001),
            symmetric: peer.symmetric,
        }
    }
}

/// Round trip between two regions, the shorter way round.
pub(super) fn regions_apart(a: u8, b: u8) -> Micros {
    let apart = u64::from(a.abs_diff(b));
    STEP * apart.min(u64::from(REGIONS) - apart)
}

/// Round trip between two nodes of which `b` may be the root.
pub(super) fn rtt(a: Place, b: Option<Place>) -> Micros {
    match b {
        None => a.mile + RELAY_MILE,
        Some(b) => regions_apart(a.region, b.region) + a.mile + b.mile,
    }
}

/// Can't these two connect?
pub(super) fn barred(a: Place, b: Option<Place>) -> bool {
    b.is_some_and(|b| a.symmetric && b.symmetric)
}

/// The detector: nothing at all on the link for max(100 ms, srtt + 4 rttvar), with rttvar an eighth of a steady srtt.
pub(super) fn silence(rtt: Micros) -> Micros {
    SILENCE.max(rtt + rtt / 2)
}

/// From a node to the planner or back: half the staleness, and what lost copies cost.
pub(super) fn message(half: Micros, loss: u32, chance: &mut Chance) -> Micros {
    let mut wait = half;
    let mut resend = RESEND;
    for _ in 1..ATTEMPTS {
        if !chance.permille(loss) {
            break;
        }
        wait += resend;
        resend *= 2;
    }
    wait
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: u8, symmetric: bool) -> Place {
        Place {
            region,
            mile: 5_000,
            symmetric,
        }
    }

    #[test]
    fn the_ring_has_two_ways_round_and_the_shorter_counts() {
        let near = rtt(place(0, false), Some(place(7, false)));
        assert_eq!(near, 22_000);
        assert_eq!(rtt(place(0, false), Some(place(4, false))), 58_000);
        assert_eq!(rtt(place(3, false), None), 6_000);
    }

    #[test]
    fn only_two_symmetric_nats_bar_each_other() {
        assert!(barred(place(0, true), Some(place(0, true))));
        assert!(!barred(place(0, true), Some(place(0, false))));
        assert!(!barred(place(0, true), None), "a relay is reached by all");
    }

    #[test]
    fn a_lost_message_comes_later_and_comes() {
        let mut chance = Chance::of(1, 1, 1);
        assert_eq!(message(25_000, 0, &mut chance), 25_000);
        assert_eq!(message(25_000, 1000, &mut chance), 25_000 + 31 * RESEND);
    }
}

//! How many plain STUN requests are answered: a request may be forged, and its answer is longer by 12 bytes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Micros;

/// Answers each second, in all.
const ALL: usize = 5_000;
/// And to one network: a house, or a stranger who pretends to be one.
const NETWORK: u32 = 5;

/// How many plain STUN requests were answered in this second.
#[derive(Debug, Default)]
pub(super) struct Answers {
    second: Micros,
    by: HashMap<IpAddr, u32>,
    all: usize,
}

impl Answers {
    /// May this address be answered? Then it counts as answered.
    pub(super) fn may(&mut self, to: IpAddr, now: Micros) -> bool {
        let second = now / 1_000_000;
        // The clocks of shards are one, but each looks at its own moment.
        if second > self.second {
            self.second = second;
            self.by.clear();
            self.all = 0;
        }
        if self.all >= ALL {
            return false;
        }
        let one = self.by.entry(network(to)).or_default();
        if *one >= NETWORK {
            return false;
        }
        *one += 1;
        self.all += 1;
        true
    }
}

/// The first 24 bits of an address of version 4, 64 of one of version 6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(ip) => (ip & Ipv4Addr::new(255, 255, 255, 0)).into(),
        IpAddr::V6(ip) => (ip & Ipv6Addr::from_bits(u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_asks_too_often_takes_no_answers_from_others() {
        let mut answers = Answers::default();
        let four = |a: u8, b: u8| IpAddr::from([203, 0, a, b]);
        let six = |a: u8, b: u8| IpAddr::from([0x2001, 0xdb8, 0, a.into(), 0, 0, 0, b.into()]);
        let mut asks = |address| answers.may(address, 0);
        assert_eq!((0..200).filter(|&n| asks(four(1, n))).count(), 5);
        assert_eq!((0..200).filter(|&n| asks(six(1, n))).count(), 5);
        assert!(asks(four(2, 1)) && asks(six(2, 1)));
        assert!(answers.may(four(1, 1), 1_000_000));
    }

    #[test]
    fn in_all_so_many_are_answered_a_second() {
        let mut answers = Answers::default();
        let all = (0..=u16::MAX).filter(|n| {
            let [a, b] = n.to_be_bytes();
            answers.may(IpAddr::from([10, a, b, 1]), 0)
        });
        assert_eq!(all.count(), ALL);
    }
}

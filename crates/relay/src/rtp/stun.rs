//! As much of STUN (RFC 8489) as a port needs that many sessions share: for whom a check is and whether it is genuine, and the
//! answer to somebody who only asks for its own address. Cost: a walk over the attributes.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

const HEADER: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const REQUEST: [u8; 2] = [0, 1];
const SUCCESS: [u8; 2] = [1, 1];
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Attributes looked at. A check of today's browsers has 7.
const ATTRIBUTES: usize = 32;

/// A well-formed STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stun<'a> {
    /// It is a binding request.
    pub request: bool,
    /// The receiver's half of the user name, ahead of the colon.
    pub ufrag: Option<&'a str>,
    /// The address that it came from is the one in use (`USE-CANDIDATE`).
    pub nominates: bool,
    /// The sender's random number for it.
    pub transaction: [u8; 12],
    /// Bytes ahead of the signature.
    signed: Option<usize>,
}

impl<'a> Stun<'a> {
    /// Reads a datagram. `None` when it is no STUN message, or a malformed one.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = datagram.first_chunk()?;
        let mut attributes = &datagram[HEADER..];
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] & 0xc0 != 0 || header[4..8] != COOKIE || length != attributes.len() {
            return None;
        }
        let (mut ufrag, mut nominates, mut signed) = (None, false, None);
        for _ in 0..ATTRIBUTES {
            let Some((head, rest)) = attributes.split_first_chunk::<4>() else {
                break;
            };
            let kind = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = rest.get(..length)?;
            // What stands behind is not signed.
            if kind == MESSAGE_INTEGRITY {
                signed = Some(datagram.len() - attributes.len());
                break;
            }
            nominates |= kind == USE_CANDIDATE;
            if kind == USERNAME && ufrag.is_none() {
                let name = std::str::from_utf8(value).ok()?;
                ufrag = Some(name.split_once(':').map_or(name, |(local, _)| local));
            }
            attributes = rest.get(length.next_multiple_of(4)..)?;
        }
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        Some(Self {
            request: header[..2] == REQUEST,
            ufrag,
            nominates,
            transaction,
            signed,
        })
    }

    /// Is the message signed with this key (`MESSAGE-INTEGRITY`)? `datagram` is what it was read from.
    pub fn is_signed(&self, datagram: &[u8], key: &hmac::Key) -> bool {
        self.signature(datagram, key).is_some()
    }

    fn signature(&self, datagram: &[u8], key: &hmac::Key) -> Option<()> {
        let (signed, rest) = datagram.split_at_checked(self.signed?)?;
        let tag = rest.get(4..24)?;
        // As if the message ended with the signature (section 14.5).
        let length = u16::try_from(signed.len() + 24 - HEADER).ok()?;
        let mut context = hmac::Context::with_key(key);
        context.update(signed.get(..2)?);
        context.update(&length.to_be_bytes());
        context.update(signed.get(4..)?);
        let expected = context.sign();
        let whole = rest.get(2..4) == Some(&[0, 20]);
        verify_slices_are_equal(expected.as_ref(), tag)
            .ok()
            .filter(|()| whole)
    }

    /// The answer to a plain binding request: where it came from. `None` when it is none. The shortest request has 20 bytes
    /// and its answer 32 (IPv4) or 44, so whoever sends it bounds how many are sent to addresses that prove nothing.
    pub fn answer(&self, source: SocketAddr) -> Option<Vec<u8>> {
        if !self.request || self.ufrag.is_some() {
            return None;
        }
        let mut address = match source.ip().to_canonical() {
            IpAddr::V4(ip) => [&[0, 1, 0, 0][..], &ip.octets()].concat(),
            IpAddr::V6(ip) => [&[0, 2, 0, 0][..], &ip.octets()].concat(),
        };
        address[2..4].copy_from_slice(&source.port().to_be_bytes());
        let mask = COOKIE.iter().chain(&self.transaction);
        for (byte, mask) in address[2..4].iter_mut().zip(mask.clone()) {
            *byte ^= mask;
        }
        for (byte, mask) in address[4..].iter_mut().zip(mask) {
            *byte ^= mask;
        }
        let length = 4 + address.len();
        let mut answer = SUCCESS.to_vec();
        answer.extend((length as u16).to_be_bytes());
        answer.extend(COOKIE);
        answer.extend(self.transaction);
        answer.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
        answer.extend((address.len() as u16).to_be_bytes());
        answer.extend(address);
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The request of RFC 5769 section 2.1, as far as it matters here.
    fn message(kind: [u8; 2], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0x20);
        }
        let mut bytes = kind.to_vec();
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(COOKIE);
        bytes.extend([
            0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
        ]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_check_names_its_receiver() {
        let bytes = message(
            REQUEST,
            &[(0x8022, b"STUN test client"), (USERNAME, b"evtj:h6vY")],
        );
        let stun = Stun::parse(&bytes).expect("a message");
        assert_eq!((stun.request, stun.ufrag), (true, Some("evtj")));
        assert_eq!(
            stun.answer("192.0.2.1:32853".parse().expect("an address")),
            None
        );
        let answer = message(SUCCESS, &[(USERNAME, b"evtj:h6vY")]);
        assert!(!Stun::parse(&answer).expect("a message").request);
    }

    /// RFC 5769 section 2.1.
    #[test]
    fn a_signed_check_is_known_by_its_password() {
        let hex = "000100582112a442b7e7a701bc34d686fa87dfae\
            802200105354554e207465737420636c69656e74\
            002400046e0001ff80290008932ff9b151263b36\
            000600096576746a3a68367659202020\
            000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
            80280004e57a3bcf";
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..][..2], 16).expect("hex"))
            .collect();
        let stun = Stun::parse(&bytes).expect("a message");
        let key = |password: &str| {
            hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
        };
        assert!(stun.is_signed(&bytes, &key("VOkJxbRl1RmTxUk/WvJxBt")));
        assert!(!stun.is_signed(&bytes, &key("VOkJxbRl1RmTxUk/WvJxBs")));
        assert!(!stun.nominates);
    }

    #[test]
    fn what_stands_behind_the_signature_is_not_read() {
        let named = (USERNAME, &b"a:b"[..]);
        let (signed, nominates) = ((MESSAGE_INTEGRITY, &[0; 20][..]), (USE_CANDIDATE, &[][..]));
        for (attributes, read) in [
            ([named, nominates, signed], true),
            ([named, signed, nominates], false),
        ] {
            let bytes = message(REQUEST, &attributes);
            assert_eq!(Stun::parse(&bytes).expect("a message").nominates, read);
        }
        let bytes = message(REQUEST, &[signed, named]);
        assert_eq!(Stun::parse(&bytes).expect("a message").ufrag, None);
    }

    #[test]
    fn a_plain_request_learns_its_address_as_rfc_5769_writes_it() {
        let bytes = message(REQUEST, &[(0x8022, b"padding of twenty-four b")]);
        let stun = Stun::parse(&bytes).expect("a message");
        let answer = stun.answer("192.0.2.1:32853".parse().expect("an address"));
        let value = [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        assert_eq!(
            answer,
            Some(message(SUCCESS, &[(XOR_MAPPED_ADDRESS, &value)]))
        );
        let mapped = "[::ffff:192.0.2.1]:32853".parse().expect("an address");
        assert_eq!(stun.answer(mapped), answer);
        let six = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        let answer = stun.answer(six.parse().expect("an address"));
        let value = [
            0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4,
            0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(
            answer,
            Some(message(SUCCESS, &[(XOR_MAPPED_ADDRESS, &value)]))
        );
    }

    #[test]
    fn the_shortest_request_gets_an_answer_of_32_bytes() {
        let bare = message(REQUEST, &[]);
        let stun = Stun::parse(&bare).expect("a message");
        let answer = stun.answer("192.0.2.1:32853".parse().expect("an address"));
        assert_eq!(
            (bare.len(), answer.map(|answer| answer.len())),
            (20, Some(32))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_answer_with_more_than_44(
            bytes: Vec<u8>,
            kind in 0u8..4,
            attributes in prop::collection::vec((any::<u16>(), any::<Vec<u8>>()), 0..40),
        ) {
            let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, &value[..])).collect();
            let six = "[2001:db8::1]:1".parse().expect("an address");
            for datagram in [bytes, message([0, kind], &attributes)] {
                let answer = Stun::parse(&datagram).and_then(|stun| stun.answer(six));
                prop_assert!(answer.is_none_or(|answer| answer.len() <= 44));
            }
        }
    }
}

//! Which protocol a datagram of the shared port speaks, by its first two bytes (RFC 7983, RFC 5761 section 4).

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connectivity checks, and requests for one's own address.
    Stun,
    /// Handshake, and the data channel inside.
    Dtls,
    /// Media.
    Rtp,
    /// Reports on media.
    Rtcp,
}

impl Protocol {
    /// `None`: none that is spoken here.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram {
            [0..=3, ..] => Some(Self::Stun),
            [20..=63, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Rtcp),
            [128..=191, ..] => Some(Self::Rtp),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_range() {
        use Protocol::{Dtls, Rtcp, Rtp, Stun};
        for (datagram, expected) in [
            (&[0, 1][..], Some(Stun)),
            (&[3], Some(Stun)),
            (&[4], None),
            (&[19], None),
            (&[20], Some(Dtls)),
            (&[63, 200], Some(Dtls)),
            (&[64, 0], None),
            (&[127], None),
            (&[128], Some(Rtp)),
            (&[191, 191], Some(Rtp)),
            (&[128, 192], Some(Rtcp)),
            (&[144, 223], Some(Rtcp)),
            (&[128, 224], Some(Rtp)),
            (&[192, 200], None),
            (&[], None),
        ] {
            assert_eq!(Protocol::of(datagram), expected, "{datagram:?}");
        }
    }
}

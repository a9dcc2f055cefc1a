//! Letters between two participants that the server passes on and cannot read or forge: sender keys, sealed to the recipient
//! and signed by the sender, and signatures over the DTLS fingerprints of links.
//!
//! A letter is HPKE in base mode around the key, and Ed25519 over everything that says for whom and what it is.

use crate::derive::transcript;
use crate::hpke::{self, ENC_BYTES};
use crate::keys::{OwnIdentity, RemoteIdentity};
use crate::seal::{BaseKey, SenderKey};

const SENDER_KEY: u8 = 1;
const SEALED_BYTES: usize = 16 + 16;
const SIGNATURE_BYTES: usize = 64;
/// Bytes of a letter with a sender key.
pub const LETTER_BYTES: usize = 1 + 2 + ENC_BYTES + SEALED_BYTES + SIGNATURE_BYTES;
const INFO: &[u8] = b"Grove 1 mail";

/// One end of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party<'a> {
    /// The number in the room.
    pub node: u16,
    /// The participant's own id.
    pub id: &'a str,
}

/// Who writes to whom, in which room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The room's id.
    pub room: &'a str,
    /// Who writes.
    pub from: Party<'a>,
    /// Who reads.
    pub to: Party<'a>,
}

impl Envelope<'_> {
    fn transcript(&self, kem_key: &[u8; 32], generation: u16) -> Option<Vec<u8>> {
        transcript(&[
            b"Grove 1 sender key",
            self.room.as_bytes(),
            &self.from.node.to_be_bytes(),
            self.from.id.as_bytes(),
            &self.to.node.to_be_bytes(),
            self.to.id.as_bytes(),
            kem_key,
            &generation.to_be_bytes(),
        ])
    }
}

/// A letter that brings `key`, made by `own` (who is `envelope.from`) for `to`. `None` when the recipient's key is of low
/// order: nobody can be written to under it.
pub fn seal_sender_key(
    own: &OwnIdentity,
    envelope: &Envelope<'_>,
    to: &RemoteIdentity,
    key: &SenderKey,
) -> Option<Vec<u8>> {
    let covered = envelope.transcript(&to.kem_key, key.generation)?;
    let (enc, sealed) = hpke::seal(&to.kem_key, INFO, &covered, key.key.expose())?;
    let signature = own.sign(&signed(&covered, &enc, &sealed)?);
    Some(
        [
            &[SENDER_KEY],
            &key.generation.to_be_bytes()[..],
            &enc,
            &sealed,
            &signature,
        ]
        .concat(),
    )
}

/// The key in a letter that came for `own` (who is `envelope.to`) from `from`; `None` when it is anything else than that
/// sender's own letter, in this room, to this recipient.
pub fn open_sender_key(
    own: &OwnIdentity,
    envelope: &Envelope<'_>,
    from: &RemoteIdentity,
    letter: &[u8],
) -> Option<SenderKey> {
    let ([SENDER_KEY, high, low], rest) = letter.split_first_chunk()? else {
        return None;
    };
    let (enc, rest) = rest.split_first_chunk::<ENC_BYTES>()?;
    let (sealed, signature) = rest.split_first_chunk::<SEALED_BYTES>()?;
    let generation = u16::from_be_bytes([*high, *low]);
    let covered = envelope.transcript(&own.public().kem_key, generation)?;
    if signature.len() != SIGNATURE_BYTES
        || !from.signed(&signed(&covered, enc, sealed)?, signature)
    {
        return None;
    }
    let key = hpke::open(own.kem(), enc, INFO, &covered, sealed)?;
    let key = BaseKey::from_bytes(key.try_into().ok()?);
    Some(SenderKey { generation, key })
}

fn signed(covered: &[u8], enc: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    transcript(&[b"Grove 1 letter", covered, enc, sealed])
}

/// What is signed of a session description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description<'a> {
    /// The room's id.
    pub room: &'a str,
    /// The describing participant's own id.
    pub from: &'a str,
    /// The recipient's.
    pub to: &'a str,
    /// `offer` or `answer`.
    pub kind: &'a str,
    /// `sha-256 AB:CD:...`: the name in lower case, the digits in upper case.
    pub fingerprint: &'a str,
}

impl Description<'_> {
    fn transcript(&self) -> Option<Vec<u8>> {
        let fields = [self.room, self.from, self.to, self.kind, self.fingerprint];
        let [a, b, c, d, e] = fields.map(str::as_bytes);
        transcript(&[b"Grove 1 description", a, b, c, d, e])
    }

    /// Signs it; `None` when a field has more than 65535 bytes.
    pub fn sign(&self, own: &OwnIdentity) -> Option<[u8; 64]> {
        Some(own.sign(&self.transcript()?))
    }

    /// Whether `from` signed it.
    pub fn verify(&self, from: &RemoteIdentity, signature: &[u8]) -> bool {
        self.transcript()
            .is_some_and(|covered| from.signed(&covered, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::RoomKeys;

    const ENVELOPE: Envelope<'static> = Envelope {
        room: "room",
        from: Party { node: 1, id: "ada" },
        to: Party { node: 2, id: "ben" },
    };

    #[test]
    fn a_letter_opens_for_its_recipient_from_its_sender_unaltered_only() {
        let keys = RoomKeys::new("room", &[7; 16]).unwrap();
        let [ada, ben, eve] = ["ada", "ben", "eve"].map(|id| OwnIdentity::new(&keys, id));
        let seen = |id, own: &OwnIdentity| keys.verify(id, own.public()).unwrap();
        let (from, to) = (seen("ada", &ada), seen("ben", &ben));
        let key = SenderKey {
            generation: 9,
            key: BaseKey::random(),
        };
        let letter = seal_sender_key(&ada, &ENVELOPE, &to, &key).unwrap();
        assert_eq!(letter.len(), LETTER_BYTES);
        assert_eq!(open_sender_key(&ben, &ENVELOPE, &from, &letter), Some(key));

        assert_eq!(open_sender_key(&eve, &ENVELOPE, &from, &letter), None);
        assert_eq!(
            open_sender_key(&ben, &ENVELOPE, &seen("eve", &eve), &letter),
            None
        );
        for envelope in [
            Envelope {
                room: "other",
                ..ENVELOPE
            },
            Envelope {
                from: Party { node: 3, id: "ada" },
                ..ENVELOPE
            },
            Envelope {
                from: Party { node: 1, id: "eve" },
                ..ENVELOPE
            },
            Envelope {
                to: Party { node: 3, id: "ben" },
                ..ENVELOPE
            },
            Envelope {
                to: Party { node: 2, id: "eve" },
                ..ENVELOPE
            },
        ] {
            assert_eq!(
                open_sender_key(&ben, &envelope, &from, &letter),
                None,
                "{envelope:?}"
            );
        }
        for at in 0..letter.len() {
            let mut altered = letter.clone();
            altered[at] ^= 1;
            assert_eq!(
                open_sender_key(&ben, &ENVELOPE, &from, &altered),
                None,
                "byte {at}"
            );
            assert_eq!(
                open_sender_key(&ben, &ENVELOPE, &from, &letter[..at]),
                None,
                "{at} bytes"
            );
        }
    }

    #[test]
    fn a_signed_description_holds_for_what_was_signed_only() {
        let keys = RoomKeys::new("room", &[7; 16]).unwrap();
        let [ada, ben] = ["ada", "ben"].map(|id| OwnIdentity::new(&keys, id));
        let seen = |id, own: &OwnIdentity| keys.verify(id, own.public()).unwrap();
        let description = Description {
            room: "room",
            from: "ada",
            to: "ben",
            kind: "offer",
            fingerprint: "sha-256 AB:CD",
        };
        let signature = description.sign(&ada).unwrap();
        assert!(description.verify(&seen("ada", &ada), &signature));
        assert!(!description.verify(&seen("ben", &ben), &signature));
        for other in [
            Description {
                room: "other",
                ..description
            },
            Description {
                from: "ben",
                ..description
            },
            Description {
                to: "ada",
                ..description
            },
            Description {
                kind: "answer",
                ..description
            },
            Description {
                fingerprint: "sha-256 AB:CE",
                ..description
            },
        ] {
            assert!(!other.verify(&seen("ada", &ada), &signature), "{other:?}");
        }
    }
}

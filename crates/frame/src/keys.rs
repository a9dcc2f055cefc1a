//! Keys that bind a room together: what the room secret gives, and who a participant is.
//!
//! The room secret stands in the link's fragment and never reaches the server. From it come the identity key, which vouches
//! for participants' public keys, and the chat key. Whoever holds the link can make an identity: that is all that a verified
//! identity says.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{error::KeyRejected, hmac};
use zeroize::Zeroizing;

use crate::derive::{hkdf, random, transcript};
use crate::hpke;
use crate::seal::aead;

/// What the room secret gives.
pub struct RoomKeys {
    room: String,
    identity: hmac::Key,
    chat: LessSafeKey,
}

impl fmt::Debug for RoomKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomKeys({:?}, secret)", self.room)
    }
}

impl RoomKeys {
    /// The keys of the room with this id, from the 16 bytes of its secret. `None` when the id has more than 65535 bytes.
    pub fn new(room: &str, secret: &[u8; 16]) -> Option<Self> {
        u16::try_from(room.len()).ok()?;
        let identity: Zeroizing<[u8; 32]> =
            Zeroizing::new(hkdf(secret, room.as_bytes(), &[b"Grove 1 identity"]));
        let chat: Zeroizing<[u8; 16]> =
            Zeroizing::new(hkdf(secret, room.as_bytes(), &[b"Grove 1 chat"]));
        Some(Self {
            room: room.to_owned(),
            identity: hmac::Key::new(hmac::HMAC_SHA256, &identity[..]),
            chat: aead(&chat),
        })
    }

    /// The room's id.
    pub fn room(&self) -> &str {
        &self.room
    }

    /// Checks that whoever made the identity of `participant` has the room secret.
    pub fn verify(&self, participant: &str, identity: &PublicIdentity) -> Option<RemoteIdentity> {
        let covered = identity.transcript(&self.room, participant)?;
        hmac::verify(&self.identity, &covered, &identity.mac).ok()?;
        Some(RemoteIdentity {
            kem_key: identity.kem_key,
            sign_key: identity.sign_key,
        })
    }

    /// Seals a chat line of participant number `node`: nonce (12 bytes), ciphertext, tag.
    pub fn seal_chat(&self, node: u16, text: &str) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random();
        let mut sealed = text.as_bytes().to_vec();
        let aad = Aad::from(self.chat_context(node));
        self.chat
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("a chat line is far below the 64 GiB that AES-GCM can seal");
        [&nonce[..], &sealed].concat()
    }

    /// The text of a chat line that is said to come from `node`; `None` when it does not open for that node.
    pub fn open_chat(&self, node: u16, body: &[u8]) -> Option<String> {
        let (nonce, sealed) = body.split_first_chunk::<NONCE_LEN>()?;
        let mut text = sealed.to_vec();
        let aad = Aad::from(self.chat_context(node));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.chat.open_in_place(nonce, aad, &mut text).ok()?.len();
        text.truncate(length);
        String::from_utf8(text).ok()
    }

    fn chat_context(&self, node: u16) -> Vec<u8> {
        transcript(&[b"Grove 1 chat", self.room.as_bytes(), &node.to_be_bytes()])
            .expect("the length of the room's id was checked when the keys were made")
    }
}

/// A participant's public keys as they are announced: `Identity` of the signalling protocol, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicIdentity {
    /// Random, new for every join.
    pub nonce: [u8; 16],
    /// X25519.
    pub kem_key: [u8; 32],
    /// Ed25519.
    pub sign_key: [u8; 32],
    /// HMAC-SHA-256 under the room's identity key over room, participant, nonce and both keys.
    pub mac: [u8; 32],
}

impl PublicIdentity {
    fn transcript(&self, room: &str, participant: &str) -> Option<Vec<u8>> {
        transcript(&[
            b"Grove 1 identity",
            room.as_bytes(),
            participant.as_bytes(),
            &self.nonce,
            &self.kem_key,
            &self.sign_key,
        ])
    }
}

/// Somebody's identity whose MAC was right: the holder of these keys also has the room secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteIdentity {
    pub(crate) kem_key: [u8; 32],
    pub(crate) sign_key: [u8; 32],
}

impl RemoteIdentity {
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.sign_key)
            .verify(message, signature)
            .is_ok()
    }
}

/// Our own identity in one room, new for every join.
pub struct OwnIdentity {
    public: PublicIdentity,
    kem: PrivateKey,
    sign: Ed25519KeyPair,
}

impl fmt::Debug for OwnIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnIdentity({:?}, secret)", self.public)
    }
}

impl OwnIdentity {
    /// Makes an identity for `participant` and vouches for it with the room's key.
    ///
    /// # Panics
    /// When room and participant ids have more than 65535 bytes; they are our own.
    pub fn new(keys: &RoomKeys, participant: &str) -> Self {
        let (kem, sign) = (Zeroizing::new(random()), Zeroizing::new(random()));
        Self::from_parts(keys, participant, random(), &kem, &sign)
            .expect("any 32 bytes are a key of either curve")
    }

    /// An identity from parts: the nonce, the X25519 private key, the Ed25519 seed. For fixtures.
    pub fn from_parts(
        keys: &RoomKeys,
        participant: &str,
        nonce: [u8; 16],
        kem: &[u8; 32],
        sign: &[u8; 32],
    ) -> Result<Self, KeyRejected> {
        let kem = PrivateKey::from_private_key(&X25519, kem)?;
        let sign = Ed25519KeyPair::from_seed_unchecked(sign)?;
        let mut public = PublicIdentity {
            nonce,
            kem_key: hpke::public_key(&kem),
            sign_key: sign
                .public_key()
                .as_ref()
                .try_into()
                .expect("an Ed25519 public key has 32 bytes"),
            mac: [0; 32],
        };
        let covered = public
            .transcript(&keys.room, participant)
            .expect("our own ids are short");
        let mac = hmac::sign(&keys.identity, &covered);
        public.mac.copy_from_slice(mac.as_ref());
        Ok(Self { public, kem, sign })
    }

    /// What is announced.
    pub fn public(&self) -> &PublicIdentity {
        &self.public
    }

    pub(crate) fn kem(&self) -> &PrivateKey {
        &self.kem
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.sign.sign(message);
        signature
            .as_ref()
            .try_into()
            .expect("an Ed25519 signature has 64 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_verifies_with_the_same_secret_room_and_participant_only() {
        let keys = RoomKeys::new("room", &[1; 16]).unwrap();
        let own = OwnIdentity::new(&keys, "ada");
        assert!(keys.verify("ada", own.public()).is_some());
        assert_eq!(keys.verify("ben", own.public()), None);
        assert_eq!(
            RoomKeys::new("other", &[1; 16])
                .unwrap()
                .verify("ada", own.public()),
            None
        );
        assert_eq!(
            RoomKeys::new("room", &[2; 16])
                .unwrap()
                .verify("ada", own.public()),
            None
        );
        for at in 0..112 {
            let mut public = *own.public();
            match at {
                0..16 => public.nonce[at] ^= 1,
                16..48 => public.kem_key[at - 16] ^= 1,
                48..80 => public.sign_key[at - 48] ^= 1,
                _ => public.mac[at - 80] ^= 1,
            }
            assert_eq!(keys.verify("ada", &public), None, "byte {at}");
        }
    }

    #[test]
    fn a_chat_line_opens_for_its_own_writer_and_unaltered_only() {
        let keys = RoomKeys::new("room", &[1; 16]).unwrap();
        let body = keys.seal_chat(3, "Grüße");
        assert_eq!(keys.open_chat(3, &body).as_deref(), Some("Grüße"));
        assert_eq!(keys.open_chat(4, &body), None);
        assert_eq!(
            RoomKeys::new("other", &[1; 16])
                .unwrap()
                .open_chat(3, &body),
            None
        );
        for at in 0..body.len() {
            let mut altered = body.clone();
            altered[at] ^= 1;
            assert_eq!(keys.open_chat(3, &altered), None, "byte {at}");
            assert_eq!(keys.open_chat(3, &body[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let keys = RoomKeys::new("room", &[0xab; 16]).unwrap();
        assert_eq!(format!("{keys:?}"), "RoomKeys(\"room\", secret)");
        let key = crate::BaseKey::from_bytes([0xab; 16]);
        assert_eq!(format!("{key:?}"), "BaseKey(secret)");
    }
}

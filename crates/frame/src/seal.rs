//! Sealing: AES-128-GCM under keys that only the room's members have.
//!
//! A [`Sealer`] owns the keys and the frame numbers of one sender. No nonce is used twice because both live and die together:
//! numbers count on through every change of key, and a new sealer always makes a new random key.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::derive::{expand, extract, hkdf, random};
use crate::header::{FieldError, HEADER_BYTES, Header, Kind, TAG_BYTES};

/// `AES_128_GCM_SHA256_128` in the registry of RFC 9605.
const CIPHER_SUITE: u16 = 4;

/// A sender's secret for one generation: 16 bytes, from which its frame key comes.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseKey([u8; 16]);

impl BaseKey {
    /// A new one.
    pub fn random() -> Self {
        Self(random())
    }

    /// One that came by mail.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret, to be mailed.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// The next of the chain (RFC 9605 section 5.1, with a label of our own). It cannot be undone.
    pub fn ratchet(&self) -> Self {
        Self(hkdf(&self.0, &[], &[b"Grove 1 ratchet"]))
    }
}

impl Drop for BaseKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for BaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BaseKey(secret)")
    }
}

/// One generation of a sender's key, as it is mailed to the participants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderKey {
    /// Which.
    pub generation: u16,
    /// The secret.
    pub key: BaseKey,
}

/// What seals and opens the frames of one sender and generation.
pub struct FrameKeys {
    aead: LessSafeKey,
    salt: [u8; 12],
}

impl fmt::Debug for FrameKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKeys(secret)")
    }
}

impl FrameKeys {
    /// Derives the frame key and the salt (RFC 9605 section 4.4.2, with labels of our own).
    pub fn derive(base: &BaseKey, sender: u16, generation: u16) -> Self {
        let prk = extract(&[], &base.0);
        let (sender, generation, suite) = (
            sender.to_be_bytes(),
            generation.to_be_bytes(),
            CIPHER_SUITE.to_be_bytes(),
        );
        let key: [u8; 16] = expand(&prk, &[b"Grove 1 frame key ", &sender, &generation, &suite]);
        let salt = expand(
            &prk,
            &[b"Grove 1 frame salt ", &sender, &generation, &suite],
        );
        Self {
            aead: aead(&key),
            salt,
        }
    }

    /// Seals one frame exactly as its header says. The caller answers for the nonce: use a [`Sealer`], unless the frame is a
    /// fixture.
    pub fn seal(&self, header: &Header, payload: &[u8]) -> Result<Vec<u8>, FieldError> {
        let head = header.encode()?;
        let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len() + TAG_BYTES);
        frame.extend(head);
        frame.extend(payload);
        let tag = self
            .aead
            .seal_in_place_separate_tag(
                self.nonce(header),
                Aad::from(head),
                &mut frame[HEADER_BYTES..],
            )
            .expect("a frame is far below the 64 GiB that AES-GCM can seal");
        frame.extend(tag.as_ref());
        Ok(frame)
    }

    /// The payload, or `None` when the frame does not authenticate. `header` is decoded from `frame`.
    pub fn open(&self, header: &Header, frame: &[u8]) -> Option<Vec<u8>> {
        let (head, sealed) = frame.split_at_checked(HEADER_BYTES)?;
        let mut payload = sealed.to_vec();
        let length = self
            .aead
            .open_in_place(self.nonce(header), Aad::from(head), &mut payload)
            .ok()?
            .len();
        payload.truncate(length);
        Some(payload)
    }

    fn nonce(&self, header: &Header) -> Nonce {
        Nonce::assume_unique_for_key(self.nonce_bytes(header))
    }

    /// The 12 bytes of a frame's nonce: salt XOR (sender, stream and track, spatial layer, number, 0 0 0 0). Not secret.
    pub fn nonce_bytes(&self, header: &Header) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[0..2].copy_from_slice(&header.sender.to_be_bytes());
        nonce[2] = header.stream << 4 | header.track;
        nonce[3] = header.spatial;
        nonce[4..8].copy_from_slice(&header.number.to_be_bytes());
        for (byte, salt) in nonce.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        nonce
    }
}

/// AES-128-GCM under a key.
pub(crate) fn aead(key: &[u8; 16]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).expect("16 bytes are an AES-128 key"))
}

/// What a sealer is told about a frame; sender, number and generation are its own to give. Fields as in [`Header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Fields {
    pub kind: Kind,
    pub spatial: u8,
    pub temporal: u8,
    pub capture_us: u64,
    pub stream: u8,
    pub track: u8,
    pub droppable: bool,
    pub rotation: u8,
}

#[derive(Debug)]
struct Own {
    key: SenderKey,
    keys: FrameKeys,
}

impl Own {
    fn new(sender: u16, generation: u16, key: BaseKey) -> Self {
        let keys = FrameKeys::derive(&key, sender, generation);
        let key = SenderKey { generation, key };
        Self { key, keys }
    }
}

/// Seals everything that one sender sends. Two of them never share a key.
#[derive(Debug)]
pub struct Sealer {
    sender: u16,
    current: Own,
    /// Made but not in use, oldest first.
    prepared: VecDeque<Own>,
    /// The next number of each lane; `u64` so that the end can be seen.
    numbers: HashMap<u16, u64>,
    limit: u64,
    sealed: u64,
}

impl Sealer {
    /// With a new random key. `generation` should be newer than any that this sender used before: seconds of the wall clock,
    /// cut to 16 bits, do.
    pub fn new(sender: u16, generation: u16) -> Self {
        Self {
            sender,
            current: Own::new(sender, generation, BaseKey::random()),
            prepared: VecDeque::new(),
            numbers: HashMap::new(),
            limit: 1 << 32,
            sealed: 0,
        }
    }

    /// Allows each layer fewer numbers under one key than the format does (2^32).
    pub fn with_limit(mut self, numbers: u32) -> Self {
        self.limit = numbers.into();
        self
    }

    /// The key that seals at present. Compare its generation after [`Sealer::seal`]: a key whose numbers ran out was
    /// replaced, and the new one must be mailed.
    pub fn key(&self) -> &SenderKey {
        &self.current.key
    }

    /// Frames sealed under the present key: renew it before 2^24.
    pub fn sealed_under_key(&self) -> u64 {
        self.sealed
    }

    /// Seals a frame under the next number of its layer. A field that does not fit fails, and uses no number.
    pub fn seal(&mut self, fields: &Fields, payload: &[u8]) -> Result<Vec<u8>, FieldError> {
        let mut header = Header {
            kind: fields.kind,
            spatial: fields.spatial,
            temporal: fields.temporal,
            number: 0,
            capture_us: fields.capture_us,
            sender: self.sender,
            stream: fields.stream,
            track: fields.track,
            generation: self.current.key.generation,
            droppable: fields.droppable,
            rotation: fields.rotation,
        };
        header.encode()?;
        let lane = header.lane();
        let mut number = self.numbers.get(&lane).copied().unwrap_or(0);
        if number >= self.limit {
            // Under the old key numbers would come again. What was prepared is older than the new key, and goes.
            let generation = self.newest().generation.wrapping_add(1);
            self.prepared.clear();
            self.current = Own::new(self.sender, generation, BaseKey::random());
            self.sealed = 0;
            number = 0;
        }
        header.number = u32::try_from(number).expect("the limit is at most 2^32");
        header.generation = self.current.key.generation;
        self.numbers.insert(lane, number + 1);
        self.sealed += 1;
        self.current.keys.seal(&header, payload)
    }

    /// Prepares the next step of the newest key's chain, for a newcomer: it opens nothing sealed before.
    pub fn ratchet(&mut self) -> SenderKey {
        let key = self.newest().key.ratchet();
        self.prepare(key)
    }

    /// Prepares a new random key, after somebody left: whoever has only the older keys opens nothing.
    pub fn rotate(&mut self) -> SenderKey {
        self.prepare(BaseKey::random())
    }

    /// Seals with a prepared generation from now on, and forgets those before it. False when there is no such generation;
    /// then nothing changes.
    pub fn use_generation(&mut self, generation: u16) -> bool {
        if generation == self.current.key.generation {
            return true;
        }
        let Some(at) = self
            .prepared
            .iter()
            .position(|own| own.key.generation == generation)
        else {
            return false;
        };
        if let Some(own) = self.prepared.drain(..=at).next_back() {
            self.current = own;
            self.sealed = 0;
        }
        true
    }

    fn newest(&self) -> &SenderKey {
        &self.prepared.back().unwrap_or(&self.current).key
    }

    fn prepare(&mut self, key: BaseKey) -> SenderKey {
        let own = Own::new(self.sender, self.newest().generation.wrapping_add(1), key);
        let told = own.key.clone();
        self.prepared.push_back(own);
        told
    }
}

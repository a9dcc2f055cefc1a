//! SRTP and SRTCP (RFC 3711, RFC 7714) as far as a sender of media needs it: packets of its own sealed, the RTCP that comes
//! back opened, and the first packets of whoever begins to send looked at.
//!
//! The module owns the derivation of session keys from what DTLS-SRTP agreed on (RFC 5764), the layout of protected packets
//! and the window against replays. Numbers of RTP are the caller's: under one key no two packets may be sealed with the same
//! SSRC and index, not even if they differ in nothing but a header extension, else AES-GCM gives its authentication key away.
//! So what is sent again is sent as RTX with a number of its own, or in the very bytes that were sealed before. RTCP is
//! numbered here: whoever else holds the key, as str0m does, must never send as an SSRC that a [`Seal`] sends as.
//!
//! Cost: sealing works in place in the send buffer and allocates nothing as long as the buffer has room; 1200 bytes take
//! about 0.2 us with AES-GCM and four times as much with AES-CM and HMAC-SHA1.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

/// The unencrypted head of an RTCP packet: its first 4 bytes and the sender.
const RTCP_HEAD: usize = 8;
/// Above the index of an SRTCP packet: it is encrypted.
const ENCRYPTED: u32 = 1 << 31;
const GCM_TAG: usize = 16;
const SHA1_TAG: usize = 10;
const SHA1_KEY: usize = 20;
/// Senders of RTCP that a connection may have. A browser has one for each stream that it sends, and one for all that it
/// receives.
pub const SENDERS: usize = 256;
/// How far behind the newest a packet of RTCP may come (RFC 3711 section 3.3.2).
pub const WINDOW: u32 = 64;

/// How packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// AEAD_AES_128_GCM (RFC 7714).
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM (RFC 7714).
    AeadAes256Gcm,
    /// AES_CM_128_HMAC_SHA1_80 (RFC 3711).
    Aes128CmSha1_80,
}

impl Profile {
    /// Bytes of a master key and of a session key.
    pub fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt and of a session salt.
    pub fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }

    fn tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_TAG,
            Self::Aes128CmSha1_80 => SHA1_TAG,
        }
    }
}

/// What one direction's session keys are derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    /// The key, [`Profile::key_len`] bytes.
    pub key: Vec<u8>,
    /// The salt, [`Profile::salt_len`] bytes.
    pub salt: Vec<u8>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").finish_non_exhaustive()
    }
}

/// The keys of both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// What the DTLS client seals with.
    pub client: MasterKey,
    /// What the DTLS server seals with.
    pub server: MasterKey,
}

impl Keys {
    /// From the bytes that DTLS exports: client key, server key, client salt, server salt (RFC 5764 section 4.2). `None`:
    /// there are not as many as the profile takes.
    pub fn from_exporter(profile: Profile, bytes: &[u8]) -> Option<Self> {
        let (key, salt) = (profile.key_len(), profile.salt_len());
        if bytes.len() != 2 * (key + salt) {
            return None;
        }
        let (keys, salts) = bytes.split_at(2 * key);
        let master = |n: usize| MasterKey {
            key: keys[n * key..][..key].to_vec(),
            salt: salts[n * salt..][..salt].to_vec(),
        };
        Some(Self {
            client: master(0),
            server: master(1),
        })
    }
}

/// The pseudo-random function of RFC 3711 section 4.3 with a key derivation rate of 0: key stream of AES-CM under the master
/// key, at the master salt with the label in it. A salt of 12 bytes stands left (RFC 7714 section 11).
fn derive(profile: Profile, key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut iv = [0; 16];
    iv.get_mut(..salt.len())?.copy_from_slice(salt);
    iv[7] ^= label;
    out.fill(0);
    counter_mode(profile, key)?
        .less_safe_encrypt(out, EncryptionContext::Iv128(FixedLength::from(iv)))
        .ok()?;
    Some(())
}

fn counter_mode(profile: Profile, key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = match profile {
        Profile::AeadAes256Gcm => &AES_256,
        Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => &AES_128,
    };
    let key = UnboundCipherKey::new(algorithm, key).ok()?;
    EncryptingKey::ctr(key).ok()
}

/// The session keys of RTP, or of RTCP.
struct Session {
    key: Key,
    /// Of 12 bytes with AES-GCM, else of 14.
    salt: [u8; 14],
}

enum Key {
    Gcm(Box<LessSafeKey>),
    Cm(Box<(EncryptingKey, hmac::Key)>),
}

impl Session {
    /// `first_label` is 0 for RTP and 3 for RTCP: encryption, then authentication, then salt.
    fn derive(profile: Profile, key: &[u8], salt: &[u8], first_label: u8) -> Option<Self> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return None;
        }
        let mut session = ([0; 32], [0; SHA1_KEY], [0; 14]);
        let session_key = session.0.get_mut(..key.len())?;
        let session_salt = session.2.get_mut(..salt.len())?;
        derive(profile, key, salt, first_label, session_key)?;
        derive(profile, key, salt, first_label + 1, &mut session.1)?;
        derive(profile, key, salt, first_label + 2, session_salt)?;
        Self::new(profile, session_key, &session.1, session.2)
    }

    fn new(profile: Profile, key: &[u8], mac: &[u8], salt: [u8; 14]) -> Option<Self> {
        let algorithm = match profile {
            Profile::AeadAes128Gcm => &AES_128_GCM,
            Profile::AeadAes256Gcm => &AES_256_GCM,
            Profile::Aes128CmSha1_80 => {
                let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, mac);
                let key = Key::Cm(Box::new((counter_mode(profile, key)?, mac)));
                return Some(Self { key, salt });
            }
        };
        let key = UnboundKey::new(algorithm, key).ok()?;
        let key = Key::Gcm(Box::new(LessSafeKey::new(key)));
        Some(Self { key, salt })
    }

    /// RFC 7714 sections 8.1 and 9.1: two zero bytes, the sender, and the index of 48 bits (RTCP: of 31), over the salt.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.salt[..12]);
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[6..], &index.to_be_bytes()[2..]);
        Nonce::assume_unique_for_key(nonce)
    }

    /// RFC 3711 section 4.1.1: the salt above two bytes that count blocks, the sender and the index over it.
    fn counter(&self, ssrc: u32, index: u64) -> EncryptionContext {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        xor(&mut counter[4..8], &ssrc.to_be_bytes());
        xor(&mut counter[8..14], &index.to_be_bytes()[2..]);
        EncryptionContext::Iv128(FixedLength::from(counter))
    }
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// Bytes of a packet's header, with contributing sources and extension (RFC 3550 section 5.1).
fn rtp_head(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let head = 12 + 4 * usize::from(first & 15);
    if first & 0x10 == 0 {
        return Some(head);
    }
    let words = u16::from_be_bytes(*packet.get(head + 2..)?.first_chunk()?);
    Some(head + 4 + 4 * usize::from(words))
}

/// The whole of AES-GCM's associated data for SRTCP: the head and the index with its bit above.
fn rtcp_aad(head: &[u8; RTCP_HEAD], word: [u8; 4]) -> Aad<[u8; RTCP_HEAD + 4]> {
    let mut aad = [0; RTCP_HEAD + 4];
    aad[..RTCP_HEAD].copy_from_slice(head);
    aad[RTCP_HEAD..].copy_from_slice(&word);
    Aad::from(aad)
}

fn sender(head: &[u8; RTCP_HEAD]) -> u32 {
    u32::from_be_bytes([head[4], head[5], head[6], head[7]])
}

/// What we send: one direction's session keys, and the count of its RTCP.
pub struct Seal {
    profile: Profile,
    rtp: Session,
    rtcp: Session,
    next_rtcp: u32,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut seal = f.debug_struct("Seal");
        seal.field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Seal {
    /// `None`: the lengths are not the profile's.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Option<Self> {
        Some(Self {
            profile,
            rtp: Session::derive(profile, master_key, master_salt, 0)?,
            rtcp: Session::derive(profile, master_key, master_salt, 3)?,
            next_rtcp: 0,
        })
    }

    /// Bytes by which [`Self::rtp`] makes a packet longer.
    pub fn rtp_overhead(&self) -> usize {
        self.profile.tag_len()
    }

    /// Bytes by which [`Self::rtcp`] makes a packet longer.
    pub fn rtcp_overhead(&self) -> usize {
        self.profile.tag_len() + 4
    }

    /// Seals the packet in `buffer[start..]`, header and payload, in place and appends the tag. `index` is the rollover
    /// counter above the 16 bits of the sequence number, and below 2^48; `header_len` covers contributing sources and
    /// extension, which stay readable.
    ///
    /// # Panics
    /// When the buffer is shorter than `start + header_len`.
    pub fn rtp(
        &self,
        ssrc: u32,
        index: u64,
        header_len: usize,
        buffer: &mut Vec<u8>,
        start: usize,
    ) {
        let (header, payload) = buffer[start..].split_at_mut(header_len);
        match &self.rtp.key {
            Key::Gcm(key) => {
                let nonce = self.rtp.nonce(ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .expect("a packet is shorter than 64 GB");
                buffer.extend_from_slice(tag.as_ref());
            }
            Key::Cm(keys) => {
                let (key, mac) = &**keys;
                key.less_safe_encrypt(payload, self.rtp.counter(ssrc, index))
                    .expect("counter mode takes any length");
                // The rollover counter is authenticated but does not travel (RFC 3711 section 4.2).
                let end = buffer.len();
                buffer.extend_from_slice(&((index >> 16) as u32).to_be_bytes());
                let tag = hmac::sign(mac, &buffer[start..]);
                buffer.truncate(end);
                buffer.extend_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
    }

    /// Seals a compound of RTCP, in place, and appends what SRTCP appends. A packet without the 8 bytes of a head is emptied,
    /// and so is every packet behind the 2^31st: no index may be used twice.
    pub fn rtcp(&mut self, packet: &mut Vec<u8>) {
        let Some((head, body)) = packet.split_first_chunk_mut::<RTCP_HEAD>() else {
            packet.clear();
            return;
        };
        if self.next_rtcp >= ENCRYPTED {
            packet.clear();
            return;
        }
        let (ssrc, index) = (sender(head), u64::from(self.next_rtcp));
        let word = (ENCRYPTED | self.next_rtcp).to_be_bytes();
        self.next_rtcp += 1;
        match &self.rtcp.key {
            Key::Gcm(key) => {
                let nonce = self.rtcp.nonce(ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, rtcp_aad(head, word), body)
                    .expect("a packet is shorter than 64 GB");
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&word);
            }
            Key::Cm(keys) => {
                let (key, mac) = &**keys;
                key.less_safe_encrypt(body, self.rtcp.counter(ssrc, index))
                    .expect("counter mode takes any length");
                packet.extend_from_slice(&word);
                let tag = hmac::sign(mac, packet);
                packet.extend_from_slice(&tag.as_ref()[..SHA1_TAG]);
            }
        }
    }
}

/// What has come of one sender's RTCP.
#[derive(Debug, Clone, Copy)]
struct Heard {
    ssrc: u32,
    newest: u32,
    /// Bit n: the one n behind the newest came.
    seen: u64,
}

impl Heard {
    fn is_new(&self, index: u32) -> bool {
        match self.newest.checked_sub(index) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    fn take(&mut self, index: u32) {
        if let Some(behind) = self.newest.checked_sub(index) {
            self.seen |= 1 << behind;
        } else {
            let ahead = index - self.newest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.newest = index;
        }
    }
}

/// What comes: the RTCP of the other direction, and proof of who begins to send RTP.
pub struct Open {
    rtp: Session,
    session: Session,
    /// By SSRC.
    heard: Vec<Heard>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut open = f.debug_struct("Open");
        open.field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl Open {
    /// `None`: the lengths are not the profile's.
    pub fn new(profile: Profile, master_key: &[u8], master_salt: &[u8]) -> Option<Self> {
        Some(Self {
            rtp: Session::derive(profile, master_key, master_salt, 0)?,
            session: Session::derive(profile, master_key, master_salt, 3)?,
            heard: Vec::new(),
        })
    }

    /// Is this packet of RTP genuine, if its sender has just begun, so that its rollover counter is 0? What is in it is put into
    /// `out`, in place of what that held, and is nothing to use: replays are not looked for.
    pub fn begins(&self, datagram: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        self.rtp_body(datagram, out).is_some()
    }

    fn rtp_body(&self, datagram: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (header, rest) = datagram.split_at_checked(rtp_head(datagram)?)?;
        match &self.rtp.key {
            Key::Gcm(key) => {
                let ssrc = u32::from_be_bytes(*datagram.get(8..)?.first_chunk()?);
                let index = u16::from_be_bytes(*datagram.get(2..)?.first_chunk()?);
                let (body, tag) = rest.split_last_chunk::<GCM_TAG>()?;
                out.resize(body.len(), 0);
                let nonce = self.rtp.nonce(ssrc, index.into());
                key.open_separate_gather(nonce, Aad::from(header), body, tag, out)
                    .ok()
            }
            Key::Cm(keys) => {
                let (signed, tag) = datagram.split_last_chunk::<SHA1_TAG>()?;
                out.extend_from_slice(signed);
                out.extend_from_slice(&[0; 4]);
                let expected = hmac::sign(&keys.1, out);
                verify_slices_are_equal(&expected.as_ref()[..SHA1_TAG], tag).ok()
            }
        }
    }

    /// The RTCP in a datagram, put into `out` in place of what it held. `None`: it is forged, cut, not encrypted, came before,
    /// came [`WINDOW`] or more behind the newest of its sender, or is of one sender more than [`SENDERS`].
    pub fn rtcp<'a>(&mut self, datagram: &[u8], out: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        out.clear();
        let (head, rest) = datagram.split_first_chunk::<RTCP_HEAD>()?;
        let ssrc = sender(head);
        match &self.session.key {
            Key::Gcm(key) => {
                let (sealed, word) = rest.split_last_chunk::<4>()?;
                let (body, tag) = sealed.split_last_chunk::<GCM_TAG>()?;
                let (place, index) = self.place(ssrc, *word)?;
                out.extend_from_slice(head);
                out.resize(RTCP_HEAD + body.len(), 0);
                let nonce = self.session.nonce(ssrc, index.into());
                let aad = rtcp_aad(head, *word);
                key.open_separate_gather(nonce, aad, body, tag, &mut out[RTCP_HEAD..])
                    .inspect_err(|_| out.clear())
                    .ok()?;
                self.take(place, ssrc, index);
            }
            Key::Cm(keys) => {
                let (key, mac) = &**keys;
                let (signed, tag) = datagram.split_last_chunk::<SHA1_TAG>()?;
                let (sealed, word) = signed.split_last_chunk::<4>()?;
                let (place, index) = self.place(ssrc, *word)?;
                let expected = hmac::sign(mac, signed);
                verify_slices_are_equal(&expected.as_ref()[..SHA1_TAG], tag).ok()?;
                out.extend_from_slice(sealed);
                let counter = self.session.counter(ssrc, index.into());
                key.less_safe_encrypt(out.get_mut(RTCP_HEAD..)?, counter)
                    .ok()?;
                self.take(place, ssrc, index);
            }
        }
        Some(out)
    }

    /// Where the sender stands in `heard`, or would, and the index. `None`: it is nothing to look at closer.
    fn place(&self, ssrc: u32, word: [u8; 4]) -> Option<(Result<usize, usize>, u32)> {
        let word = u32::from_be_bytes(word);
        let index = word & !ENCRYPTED;
        let place = self.heard.binary_search_by_key(&ssrc, |heard| heard.ssrc);
        let wanted = match place {
            Ok(at) => self.heard[at].is_new(index),
            Err(_) => self.heard.len() < SENDERS,
        };
        (wanted && word >= ENCRYPTED).then_some((place, index))
    }

    /// The packet was genuine.
    fn take(&mut self, place: Result<usize, usize>, ssrc: u32, index: u32) {
        match place {
            Ok(at) => self.heard[at].take(index),
            Err(at) => {
                let heard = Heard {
                    ssrc,
                    newest: index,
                    seen: 1,
                };
                self.heard.insert(at, heard);
            }
        }
    }
}

#[cfg(test)]
mod tests;

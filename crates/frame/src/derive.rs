//! HKDF, transcripts and randomness: what every derivation here is made of.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA-256 extract (RFC 5869).
pub(crate) fn extract(salt: &[u8], secret: &[u8]) -> Prk {
    Salt::new(HKDF_SHA256, salt).extract(secret)
}

/// HKDF-SHA-256 expand (RFC 5869); `info` is the concatenation of its parts.
pub(crate) fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    prk.expand(info, Length(N))
        .and_then(|okm| okm.fill(&mut out))
        .expect("every output here is far below the 255 blocks that HKDF can make");
    out
}

/// HKDF-SHA-256, both steps.
pub(crate) fn hkdf<const N: usize>(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> [u8; N] {
    expand(&extract(salt, secret), info)
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// What a MAC or a signature covers: each field with its length ahead (u16, big endian), so that no two lists of fields
/// make the same bytes. The first field is a label of ours. `None` when a field has more than 65535 bytes.
pub(crate) fn transcript(fields: &[&[u8]]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| 2 + field.len()).sum());
    for field in fields {
        bytes.extend(u16::try_from(field.len()).ok()?.to_be_bytes());
        bytes.extend(*field);
    }
    Some(bytes)
}

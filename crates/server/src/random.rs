//! Random bytes from the one crypto provider, and labels that stand for secrets in the log.

use aws_lc_rs::{digest, rand};

/// Fresh random bytes.
///
/// # Panics
/// When the system's source of randomness fails: nothing may go on without it.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

/// The first four bytes of the SHA-256 of a room's id, in hex: enough to follow a room through a log, useless for
/// entering it.
pub fn label(id: &str) -> String {
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    hash.as_ref()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

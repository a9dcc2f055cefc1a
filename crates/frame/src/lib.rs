//! The unit that travels: a frame of sound or picture, sealed by its sender and forwarded as it is.
//!
//! This crate owns the format of sealed frames and everything cryptographic around them: [`Header`], sealing and opening
//! ([`Sealer`], [`Opener`]), the keys that the room secret gives ([`RoomKeys`]), identities, and the letters in which sender
//! keys travel ([`mail`]). It is pure: no IO, no clock; `now` and generations are arguments. Randomness is the operating
//! system's.
//!
//! `docs/ref/frame.md` is the exact format. The browser's twin is `web/client/src/frame/`; both read `fixtures/frame/`.
//! Bytes from elsewhere never cause a panic.
//!
//! Cost: one AES-128-GCM pass over a frame and two copies of it; a change of key costs two HKDFs.
#![forbid(unsafe_code)]

mod derive;
mod header;
mod hpke;
mod keys;
pub mod mail;
mod open;
mod seal;

pub use header::{
    EVERYTHING, FieldError, HEADER_BYTES, Header, Kind, Needs, TAG_BYTES, is_key, is_newer,
};
pub use keys::{OwnIdentity, PublicIdentity, RemoteIdentity, RoomKeys};
pub use open::{Counts, GENERATION_GRACE_MS, Opener, RATCHET_WINDOW, REPLAY_WINDOW, Refusal};
pub use seal::{BaseKey, Fields, FrameKeys, Sealer, SenderKey};

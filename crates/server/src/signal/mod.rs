//! Signalling: the WebSocket on which browsers and server talk. The protocol is in [`message`]; [`ws`] awaits.

pub mod close;
pub mod limit;
pub mod message;
pub mod outbox;
pub mod parse;
pub mod ws;

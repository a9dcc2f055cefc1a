//! A relay: a node with no screen, which takes a stream from its parent and hands it to many children.
//!
//! This crate owns everything between a frame's arrival at a relay and its departure: rings, repair, key requests, the
//! queue of each child, and what two neighbours tell each other beside frames. It knows rooms as numbers, has no key to any
//! frame, reads headers only and forwards the very bytes that came. Who is fed by whom is told to it ([`Command`]).
//!
//! [`Relay`] is the pure core: time, commands and messages in ([`Relay::handle_command`], [`Relay::handle_input`],
//! [`Relay::handle_timeout`]), messages and events out ([`Relay::poll_output`], [`Relay::poll_timeout`]). It never waits,
//! reads no clock and has no randomness. [`spawn`] runs one in a tokio task, [`spawn_threads`] several in
//! threads of their own as if they were one, and [`Handle::attach`] gives a socket its two queues.
//!
//! `docs/ref/links.md` is what goes over a link, `docs/design/relay.md` why it is so. The browser's twin is
//! `web/client/src/transport/`. Nothing that comes on a link allocates a stream, panics, or costs another link anything.
//!
//! Cost: a frame is held once however many children it has; each child costs a queue slot (no allocation in the ordinary
//! case), and an entry in the link's account until its socket has taken the bytes.
#![forbid(unsafe_code)]

mod backup;
mod bounds;
mod command;
mod common;
mod control;
mod driver;
mod edges;
mod event;
mod frame;
mod gaps;
mod gate;
mod handle;
mod keys;
mod lane;
mod link;
mod meter;
mod overload;
pub mod quic;
mod relay;
mod ring;
mod room;
pub mod rtp;
mod stream;
mod talk;
mod tend;
#[cfg(test)]
mod testing;
mod udp;

pub use command::{Command, Layers, Node, Room, Stream, Token};
pub use driver::{AttachError, Attached, Ended, Gone, Inbound, Outbound};
pub use event::{Counters, EdgeReport, Event, LinkReport, Lost, Report, Size, Stats};
pub use handle::{Handle, MOST_THREADS, spawn, spawn_threads};
pub use overload::Shedding;
pub use relay::{
    Close, Deadline, Incoming, Input, Link, MAX_FRAME_BYTES, Micros, Outgoing, Output, Reason,
    Refused, Relay, Settings,
};
pub use udp::{Buffers, Udp};

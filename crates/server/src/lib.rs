//! The Grove server: it hands out the web app, carries signalling, and decides in every room who feeds whom.
//!
//! It never sees what people say or show: media goes between browsers or, sealed, through its relay; chat and keys pass
//! sealed.
//!
//! ```text
//! cmd -> config -> server -> web (pages, health, headers)
//!     -> reload (a configuration that changes while the server runs)
//!                         -> signal (WebSockets) -> room (state machines) -> grove-tree (plans)
//!                         -> relay (WebSockets, orders of rooms) -> grove-relay (frames)
//! ```
//! `signal::ws`, `relay::ws` and `room::task` await; `room::state` and what it stands on decide without waiting.
#![forbid(unsafe_code)]

pub mod cmd;
pub mod config;
pub mod guard;
pub mod log;
pub mod metrics;
pub mod random;
pub mod relay;
pub mod reload;
pub mod room;
pub mod server;
pub mod signal;
pub mod socket;
pub mod tls;
pub mod web;

//! A real server on a port of its own, and clients on real sockets.

mod client;
mod life;
mod limits;
mod pages;
mod relay;
mod reload;
mod rooms;

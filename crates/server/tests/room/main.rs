//! Scenarios on the state machine of one room: no sockets, time as a number.

mod backups;
mod chance;
mod coming_and_going;
mod orders;
mod relay;
mod talk;
mod with_relay;
mod world;

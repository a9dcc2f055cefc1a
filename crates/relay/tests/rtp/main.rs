//! RTP links end to end, in memory and in virtual time: browsers played by str0m, the relay's sessions and slots, a network
//! that loses datagrams by a seed. What is counted is frames, holes and requests, never time.

mod client;
mod forwarding;
mod links;
mod net;
mod world;

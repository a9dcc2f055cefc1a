//! RTP links end to end: browsers played by str0m, the relay's sessions and slots, and a network in memory and virtual time
//! that loses datagrams by a seed. In `life` with the core, which says who is there. In `udp` the whole driver, over real sockets,
//! in `faults` beside floods, and in `shards` on several threads; in `srtp`
//! packets of our own sealing beside str0m's. What is counted is frames, holes and requests, never time.

mod client;
mod counts;
mod faults;
mod forwarding;
mod hostile;
mod life;
mod links;
mod net;
mod offers;
mod shards;
mod srtp;
mod udp;
mod world;

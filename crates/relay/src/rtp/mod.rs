//! The RTP side of the relay: sealed frames over WebRTC media, one peer connection per browser.
//!
//! Frames are forwarded whole: what comes is put together once per stream ([`Making`]), decided about by the core as on
//! every kind of link, and cut again as it leaves ([`Egress`]), where the packets of a frame go out together. [`RtpLink`] is a
//! link of frames and messages: what goes down is made here ([`srtp`], [`rtcp`], [`estimate`]), the rest of a connection is
//! [`Session`] (ICE, DTLS, SCTP, and what comes up, by str0m, whose keys [`keys`] shares). All of that is pure, without sockets.
//! [`Demux`] tells the datagrams of one UDP port apart, and which addresses are whose; [`Claims`] does among shards.
//!
//! Nothing that comes on the network panics or grows beyond a stated bound; what comes from an address that ICE has not
//! verified reaches nothing but the check itself.

mod addresses;
mod assemble;
mod claims;
mod demux;
mod descriptor;
mod egress;
pub mod estimate;
pub mod keys;
mod link;
mod offer;
mod packet;
mod protocol;
pub mod rtcp;
mod session;
pub mod srtp;
mod stun;
#[cfg(test)]
pub(crate) mod testing;

pub use addresses::Way;
pub use assemble::{Assembler, Making, Pool};
pub(crate) use claims::marked;
pub use claims::{Claims, MOST_SHARDS};
pub use demux::{Demux, Route};
pub use descriptor::Descriptor;
pub(crate) use egress::PAYLOAD;
pub use egress::{Egress, SlotNames, Sums};
pub use link::{Config, LinkEvent, MAX_SLOTS, RtpLink, Todo};
pub use offer::{Offer, OfferError};
pub use packet::Packet;
pub(crate) use protocol::Protocol;
pub use session::{Output, Session, SessionEvent, To};
pub use stun::Stun;

//! The RTP side of the relay: sealed frames over WebRTC media, one peer connection per browser.
//!
//! Decide per frame, forward per packet: a packet that comes ([`Packet`]) is put into the ring of its layer
//! ([`PacketRing`]) and offered to each receiver's [`Slot`], which decides by the frame's header ([`decide`]), numbers what
//! goes out without a gap ([`numbering`]) and keeps one clock across switches ([`timeline`]). Frames are put together
//! ([`Assembler`]) or split ([`Splitter`]) once per stream, for children or parents that speak in frames. All of that is
//! pure. [`RtpLink`] is a link of frames and messages over one [`Session`]. [`Session`] is one peer (ICE, DTLS, SRTP, RTCP and SCTP by str0m, without sockets), and [`Demux`] tells the datagrams
//! of one UDP port apart. For packets that do not go through str0m, [`keys`] takes the keys out of its handshake, [`srtp`]
//! seals with them, and [`rtcp`] reads what receivers tell.
//!
//! Nothing that comes on the network panics or grows beyond a stated bound; what comes from an address that ICE has not
//! verified reaches nothing but the check itself.

mod assemble;
pub mod decide;
mod demux;
mod descriptor;
pub mod keys;
mod link;
pub mod numbering;
mod packet;
mod packet_ring;
pub mod rtcp;
mod session;
mod slot;
mod split;
pub mod srtp;
mod stun;
#[cfg(test)]
mod testing;
pub mod timeline;

pub use assemble::Assembler;
pub use demux::{Demux, Route};
pub use descriptor::Descriptor;
pub use link::{LinkEvent, MAX_SLOTS, RtpLink, Todo};
pub use numbering::Source;
pub use packet::Packet;
pub use packet_ring::PacketRing;
pub use session::{Config, OfferError, Output, Session, SessionEvent, TrackId, Way};
pub use slot::{Outgoing, Slot};
pub use split::{PAYLOAD, Splitter};
pub use stun::Stun;

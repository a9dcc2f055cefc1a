//! What has come at the sockets and is still to be looked at.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use quinn_udp::RecvMeta;

use super::socket::{BUFFER, BUFFERS, Socket};
use crate::rtp::{Demux, Protocol};

/// STUN messages of strangers that wait. Anybody can send them, so more are dropped.
const STUN: usize = 256;

#[derive(Debug)]
pub(crate) struct Datagram {
    /// At which of the sockets it came.
    pub(super) socket: usize,
    pub(super) source: SocketAddr,
    pub(super) bytes: Bytes,
}

/// See the module. What is neither STUN nor from a verified address goes no further than the buffer of the system call; what is
/// from a verified one never waits behind strangers.
#[derive(Debug)]
pub(super) struct Inbox {
    buffers: [Vec<u8>; BUFFERS],
    heads: [RecvMeta; BUFFERS],
    known: VecDeque<Datagram>,
    stun: VecDeque<Datagram>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; BUFFER]),
            heads: [RecvMeta::default(); BUFFERS],
            known: VecDeque::new(),
            stun: VecDeque::new(),
        }
    }
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.stun.is_empty()
    }

    /// The next datagram. Reads the sockets when nothing waits that is from a verified address.
    pub(super) fn next(
        &mut self,
        sockets: &[Socket],
        demux: &Demux<super::Key>,
    ) -> Option<Datagram> {
        if self.known.is_empty() {
            for (index, socket) in sockets.iter().enumerate() {
                self.read(index, socket, demux);
            }
        }
        self.known.pop_front().or_else(|| self.stun.pop_front())
    }

    /// Takes what has come at one socket, as much as one system call gives.
    fn read(&mut self, index: usize, socket: &Socket, demux: &Demux<super::Key>) {
        // An error is about a datagram that was sent: nobody listens there.
        let count = socket
            .receive(&mut self.buffers, &mut self.heads)
            .unwrap_or(0);
        for (head, buffer) in self.heads.iter().zip(&self.buffers).take(count) {
            let run = buffer.get(..head.len).unwrap_or_default();
            let source = head.addr;
            let datagram = |bytes| Datagram {
                socket: index,
                source,
                bytes,
            };
            // Copied once, however many datagrams the kernel has put together.
            let copy = demux.knows(source).then(|| Bytes::copy_from_slice(run));
            let mut from = 0;
            for bytes in run.chunks(head.stride.max(1)) {
                let range = from..from + bytes.len();
                from = range.end;
                if let Some(run) = &copy {
                    self.known.push_back(datagram(run.slice(range)));
                } else if Protocol::of(bytes) == Some(Protocol::Stun) && self.stun.len() < STUN {
                    self.stun.push_back(datagram(Bytes::copy_from_slice(bytes)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::testing::check;
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    #[tokio::test]
    async fn junk_of_strangers_is_not_taken_in_and_their_checks_wait_behind_those_who_are_known() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ours = Socket::bind((localhost, 0)).expect("a port");
        let [stranger, peer] = [0; 2].map(|_| UdpSocket::bind((localhost, 0)).expect("a port"));
        let mut demux = Demux::default();
        demux.add((1, 2, 3), "name", "password");
        let check = check("name", "password", 1);
        demux.route(peer.local_addr().expect("bound"), ours.local, &check, 0);
        for _ in 0..STUN + 40 {
            for junk in [&[22, 254, 253][..], &[0x80, 96], &[0, 1]] {
                stranger.send_to(junk, ours.local).expect("sent");
            }
        }
        for datagram in [&[0x80, 1][..], &[0, 2]] {
            peer.send_to(datagram, ours.local).expect("sent");
        }
        ours.socket.readable().await.expect("a socket");
        let sockets = [ours];
        let mut inbox = Inbox::default();
        for _ in 0..STUN + 40 {
            inbox.read(0, &sockets[0], &demux);
        }
        let all: Vec<Bytes> = std::iter::from_fn(|| inbox.next(&sockets, &demux))
            .map(|datagram| datagram.bytes)
            .collect();
        assert_eq!(all.len(), 2 + STUN);
        assert_eq!((&all[0][..], &all[1][..]), (&[0x80, 1][..], &[0, 2][..]));
        assert!(all[2..].iter().all(|bytes| bytes[..] == [0, 1]));
    }
}

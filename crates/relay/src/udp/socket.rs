//! The sockets of the UDP port: one port number on each of the machine's addresses, a socket each, so that an answer leaves from
//! where the question came to. What the kernel does not take stands in an [`super::outbox`]; none of it waits here. The packets
//! of a frame leave in one system call, and what has come is taken in batches (segmentation offload, where the kernel has it).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Buffers filled by one system call, and the bytes of each: the kernel puts datagrams of one sender together.
pub(super) const BUFFERS: usize = 16;
pub(super) const BUFFER: usize = 1 << 16;
/// What the kernel is asked to hold of datagrams for us, either way: 30 ms at 1 Gbit/s. It gives no more than the system allows
/// (`net.core.wmem_max` and `net.core.rmem_max`, 208 KiB where nobody has changed them).
const KERNEL_BUFFER: usize = 4 << 20;

/// The relay's UDP port, bound.
#[derive(Debug)]
pub struct Udp {
    pub(super) sockets: Vec<Socket>,
    candidates: Vec<SocketAddr>,
    refused: Vec<(IpAddr, io::Error)>,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) socket: UdpSocket,
    state: UdpSocketState,
    buffers: Buffers,
}

/// What the kernel holds of datagrams for the port, bytes of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// What it was asked for, each way.
    pub asked: usize,
    /// What it gave of that for sending.
    pub send: usize,
    /// And for what comes.
    pub receive: usize,
}

impl Buffers {
    /// Is that less than it was asked for?
    pub fn are_small(&self) -> bool {
        self.send.min(self.receive) < self.asked
    }
}

impl Socket {
    pub(super) fn bind(address: (IpAddr, u16)) -> io::Result<Self> {
        Self::with_buffers(address, KERNEL_BUFFER)
    }

    fn with_buffers(address: (IpAddr, u16), asked: usize) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        // Less than asked for is no reason to go without.
        let _ = state.set_send_buffer_size((&socket).into(), asked);
        let _ = state.set_recv_buffer_size((&socket).into(), asked);
        // Linux says twice what it was asked for: the other half is for its own bookkeeping.
        let said = if cfg!(target_os = "linux") { 2 } else { 1 };
        let buffers = Buffers {
            asked,
            send: state.send_buffer_size((&socket).into())? / said,
            receive: state.recv_buffer_size((&socket).into())? / said,
        };
        socket.set_nonblocking(true)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket: UdpSocket::from_std(socket)?,
            state,
            buffers,
        })
    }

    /// Sends datagrams of `size` bytes each, the last may be shorter. How many bytes the kernel has taken: all, or its buffer is
    /// full. What fails otherwise is lost, as on any network.
    pub(super) fn send(&self, destination: SocketAddr, datagrams: &[u8], size: usize) -> usize {
        let mut taken = 0;
        for batch in datagrams.chunks(size.max(1) * self.state.max_gso_segments()) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: batch,
                segment_size: (batch.len() > size).then_some(size),
                src_ip: None,
            };
            let sent = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            });
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
            taken += batch.len();
        }
        taken
    }

    /// Takes as much as one system call gives: how many buffers it filled.
    pub(super) fn receive(
        &self,
        buffers: &mut [Vec<u8>; BUFFERS],
        heads: &mut [RecvMeta; BUFFERS],
    ) -> io::Result<usize> {
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv((&self.socket).into(), &mut slices, heads)
        })
    }
}

impl Udp {
    /// Takes `port` on each of these addresses that has it free ([`Udp::refused`] has the others); 0: any port, the same on
    /// all. An error when no address has it. To be called on a Tokio runtime.
    pub fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut sockets = Vec::new();
        let mut port = port;
        let mut refused = Vec::new();
        for &address in addresses {
            match Socket::bind((address, port)) {
                Ok(socket) => {
                    port = socket.local.port();
                    sockets.push(socket);
                }
                Err(error) => refused.push((address, error)),
            }
        }
        if sockets.is_empty() {
            let failed = refused.pop().map(|(_, error)| error);
            return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
        }
        let candidates = sockets.iter().map(|socket| socket.local).collect();
        Ok(Self {
            sockets,
            candidates,
            refused,
        })
    }

    /// With other addresses told to browsers than those that it has.
    #[must_use]
    pub fn with_candidates(mut self, candidates: Vec<SocketAddr>) -> Self {
        self.candidates = candidates;
        self
    }

    /// What it was to take and could not, and why.
    pub fn refused(&self) -> &[(IpAddr, io::Error)] {
        &self.refused
    }

    /// What the kernel holds of datagrams: too little, and a frame to many receivers leaves in several goes, and what comes at
    /// once may be lost.
    pub fn buffers(&self) -> Option<Buffers> {
        self.sockets.first().map(|socket| socket.buffers)
    }

    /// Where browsers are told to send to.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn a_buffer_smaller_than_asked_for_is_told() {
        let of = |asked| {
            let address = (Ipv4Addr::LOCALHOST.into(), 0);
            let socket = Socket::with_buffers(address, asked).expect("a port");
            socket.buffers
        };
        let granted = of(64 << 10);
        assert_eq!((granted.send, granted.receive), (64 << 10, 64 << 10));
        assert!(!granted.are_small());
        assert!(of(1 << 30).are_small());
    }
}

//! The sockets of the UDP port: one port number on each of the machine's addresses, a socket each, so that an answer leaves from
//! where the question came to. Where several shards share the port each has such sockets, and the kernel chooses among them. What the kernel does not take stands in an [`super::outbox`]; none of it waits here. The packets
//! of a frame leave in one system call, and what has come is taken in batches (segmentation offload, where the kernel has it).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::rtp::MOST_SHARDS;

/// Buffers filled by one system call, and the bytes of each: the kernel puts datagrams of one sender together.
pub(super) const BUFFERS: usize = 16;
pub(super) const BUFFER: usize = 1 << 16;
/// What the kernel is asked to hold of datagrams for us, either way: 30 ms at 1 Gbit/s. It gives no more than the system allows
/// (`net.core.wmem_max` and `net.core.rmem_max`, 208 KiB where nobody has changed them).
const KERNEL_BUFFER: usize = 4 << 20;

/// The relay's UDP port, bound.
#[derive(Debug)]
pub struct Udp {
    /// Of each shard, one for each address.
    bound: Vec<Vec<Bound>>,
    candidates: Vec<SocketAddr>,
    refused: Vec<(IpAddr, io::Error)>,
}

/// A socket that nobody reads yet.
#[derive(Debug)]
struct Bound {
    local: SocketAddr,
    socket: std::net::UdpSocket,
    buffers: Buffers,
}

/// A socket on the runtime that reads it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) socket: UdpSocket,
    state: UdpSocketState,
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

impl Bound {
    /// Takes an address, which nobody else may have. With others of ours to come they can be taken beside it.
    fn first(address: SocketAddr, others: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        // Only now: whoever shares a port shares it with all of the same user who want to, another server among them. A socket
        // that is alone as it is bound is refused where there is one already.
        socket.bind(&address.into())?;
        if others {
            share(&socket)?;
        }
        Self::new(socket.into(), KERNEL_BUFFER)
    }

    /// Takes the address of one of ours once more.
    fn further(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        share(&socket)?;
        socket.bind(&address.into())?;
        Self::new(socket.into(), KERNEL_BUFFER)
    }

    fn new(socket: std::net::UdpSocket, asked: usize) -> io::Result<Self> {
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
            socket,
            buffers,
        })
    }

    fn open(&self) -> io::Result<Socket> {
        let socket = self.socket.try_clone()?;
        Ok(Socket {
            local: self.local,
            state: UdpSocketState::new((&socket).into())?,
            socket: UdpSocket::from_std(socket)?,
        })
    }
}

/// Lets the kernel spread what comes over several sockets of the address.
#[cfg(target_os = "linux")]
fn share(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Elsewhere it would give everything to the last one.
#[cfg(not(target_os = "linux"))]
fn share(_: &socket2::Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Socket {
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
    /// Takes `port` on each of these addresses that has it free ([`Udp::refused`] has the others), for as many shards as this
    /// system can spread datagrams over, `shards` at most; 0: any port, the same on all. An error when no address has it.
    pub fn bind(addresses: &[IpAddr], port: u16, shards: usize) -> io::Result<Self> {
        let can = if cfg!(target_os = "linux") {
            MOST_SHARDS
        } else {
            1
        };
        let mut bound: Vec<_> = (0..shards.clamp(1, can)).map(|_| Vec::new()).collect();
        let mut candidates = Vec::new();
        let mut port = port;
        let mut refused = Vec::new();
        for &address in addresses {
            match of_all(SocketAddr::new(address, port), bound.len()) {
                Ok(sockets) => {
                    for (socket, of) in sockets.into_iter().zip(&mut bound) {
                        port = socket.local.port();
                        of.push(socket);
                    }
                    candidates.push(SocketAddr::new(address, port));
                }
                Err(error) => refused.push((address, error)),
            }
        }
        if candidates.is_empty() {
            let failed = refused.pop().map(|(_, error)| error);
            return Err(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
        }
        Ok(Self {
            bound,
            candidates,
            refused,
        })
    }

    /// For how many shards there are sockets.
    pub fn shards(&self) -> usize {
        self.bound.len()
    }

    /// The sockets of one of so many shards, on the current Tokio runtime. Those that would be nobody's are dealt out, too.
    pub(super) fn open(&self, shard: usize, of: usize) -> io::Result<Vec<Socket>> {
        let own = self.bound.iter().skip(shard).step_by(of.max(1));
        own.flatten().map(Bound::open).collect()
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
        let first = self.bound.iter().flatten().next();
        first.map(|socket| socket.buffers)
    }

    /// Where browsers are told to send to.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }
}

/// An address for so many shards.
fn of_all(address: SocketAddr, shards: usize) -> io::Result<Vec<Bound>> {
    let first = Bound::first(address, shards > 1)?;
    let local = first.local;
    let further = (1..shards).map(|_| Bound::further(local));
    std::iter::once(Ok(first)).chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_buffer_smaller_than_asked_for_is_told() {
        let of = |asked| {
            let socket = std::net::UdpSocket::bind((LOCALHOST, 0)).expect("a port");
            Bound::new(socket, asked).expect("a socket").buffers
        };
        let granted = of(64 << 10);
        assert_eq!((granted.send, granted.receive), (64 << 10, 64 << 10));
        assert!(!granted.are_small());
        assert!(of(1 << 30).are_small());
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_however_many_shards_want_it_and_have_it() {
        for (has, wants) in [(1, 1), (1, 4), (4, 1), (4, 4)] {
            let first = Udp::bind(&[LOCALHOST], 0, has).expect("a port");
            let port = first.candidates()[0].port();
            let second = Udp::bind(&[LOCALHOST], port, wants);
            let error = second.expect_err("it is taken").kind();
            assert_eq!(error, io::ErrorKind::AddrInUse, "{has} {wants}");
            drop(first);
            Udp::bind(&[LOCALHOST], port, wants).expect("it is free");
        }
    }
}

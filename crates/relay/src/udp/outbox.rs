//! What the kernel has not taken yet, per socket: datagrams that it refused because its buffer is full, and whose links wait.
//!
//! All links share a socket's buffer, which holds a few hundred packets where the system gives no more, and one frame to many
//! children is more than that. What is refused so stands here and goes first when the socket is writable again. Until then no
//! link of that socket is asked for more, so what leaves next is still for the link to decide, sound first; and they are
//! asked in the order in which they came to wait, so that it is not always the same ones who are last.
//!
//! Bounds: [`HELD`] bytes per socket, beyond one batch; each link waits once. Cost where nothing is refused: a comparison.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::socket::Socket;
use crate::rtp::Way;

/// Bytes that stand before one socket. Mostly it is one batch, since links are not asked for more; but one that something comes
/// from is, because that has to be dealt with. More is lost, and counted.
const HELD: usize = 1 << 20;

#[derive(Debug)]
struct Batch {
    destination: SocketAddr,
    datagrams: Vec<u8>,
    size: usize,
    /// Bytes of it that were taken.
    taken: usize,
}

/// Before one socket. `K` names a link.
#[derive(Debug)]
struct Outbox<K> {
    held: VecDeque<Batch>,
    bytes: usize,
    waiting: VecDeque<K>,
}

impl<K> Default for Outbox<K> {
    fn default() -> Self {
        Self {
            held: VecDeque::new(),
            bytes: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<K> Outbox<K> {
    /// Sends behind what stands here; `kernel` says how many bytes it takes. The datagrams that are lost.
    fn send(
        &mut self,
        (destination, datagrams, size): (SocketAddr, &[u8], usize),
        kernel: impl FnOnce(SocketAddr, &[u8], usize) -> usize,
    ) -> usize {
        let taken = if self.held.is_empty() {
            kernel(destination, datagrams, size)
        } else {
            0
        };
        let rest = datagrams.get(taken..).unwrap_or_default();
        if self.bytes >= HELD {
            return rest.len().div_ceil(size.max(1));
        }
        if !rest.is_empty() {
            self.bytes += rest.len();
            self.held.push_back(Batch {
                destination,
                datagrams: rest.to_vec(),
                size,
                taken: 0,
            });
        }
        0
    }

    /// The socket is writable. True when it has taken all that stood here.
    fn flush(&mut self, mut kernel: impl FnMut(SocketAddr, &[u8], usize) -> usize) -> bool {
        while let Some(batch) = self.held.front_mut() {
            let rest = batch.datagrams.get(batch.taken..).unwrap_or_default();
            let taken = kernel(batch.destination, rest, batch.size).min(rest.len());
            self.bytes -= taken;
            batch.taken += taken;
            if taken < rest.len() {
                return false;
            }
            self.held.pop_front();
        }
        true
    }
}

/// The way out of all sockets of the port.
#[derive(Debug)]
pub(super) struct Outboxes<K> {
    sockets: Arc<[Socket]>,
    by_socket: Vec<Outbox<K>>,
    /// Datagrams that went nowhere.
    lost: u64,
}

impl<K> Outboxes<K> {
    pub(super) fn new(sockets: Arc<[Socket]>) -> Self {
        let by_socket = sockets.iter().map(|_| Outbox::default()).collect();
        Self {
            sockets,
            by_socket,
            lost: 0,
        }
    }

    /// Datagrams that went nowhere: too many stood before the socket, or there was no way to the browser.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Sends datagrams of `size` bytes each, the last may be shorter: by which of the sockets.
    pub(super) fn send(
        &mut self,
        way: Option<Way>,
        datagrams: &[u8],
        size: usize,
    ) -> Option<usize> {
        let sockets = &self.sockets;
        let ends = way.and_then(|(local, remote)| {
            let at = sockets.iter().position(|socket| socket.local == local)?;
            Some((at, remote, sockets.get(at)?, self.by_socket.get_mut(at)?))
        });
        let Some((at, remote, socket, outbox)) = ends else {
            self.lost += datagrams.len().div_ceil(size.max(1)) as u64;
            return None;
        };
        let lost = outbox.send((remote, datagrams, size), |to, datagrams, size| {
            socket.send(to, datagrams, size)
        });
        self.lost += lost as u64;
        Some(at)
    }

    /// Has the kernel taken everything at this socket?
    pub(super) fn is_free(&self, socket: usize) -> bool {
        let outbox = self.by_socket.get(socket);
        outbox.is_none_or(|outbox| outbox.held.is_empty())
    }

    /// This link is to be asked again when the socket is free: [`Outboxes::resume`].
    pub(super) fn wait(&mut self, socket: usize, link: K) {
        if let Some(outbox) = self.by_socket.get_mut(socket) {
            outbox.waiting.push_back(link);
        }
    }

    /// Is there a socket that was full and is writable again?
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = false;
        for (socket, outbox) in self.sockets.iter().zip(&self.by_socket) {
            ready |= !outbox.held.is_empty() && socket.socket.poll_send_ready(context).is_ready();
        }
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Sends what stands before the sockets. The links that need not wait any more, in the order in which they began to.
    pub(super) fn resume(&mut self) -> VecDeque<K> {
        let mut links = VecDeque::new();
        for (socket, outbox) in self.sockets.iter().zip(&mut self.by_socket) {
            if outbox.flush(|to, datagrams, size| socket.send(to, datagrams, size)) {
                links.append(&mut outbox.waiting);
            }
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 100;

    /// A kernel that takes so many bytes, and what it took: first byte and length.
    struct Kernel(usize, Vec<(u16, u8, usize)>);

    impl Kernel {
        fn take(&mut self, to: SocketAddr, datagrams: &[u8], size: usize) -> usize {
            let room = self.0 / size * size;
            let taken = datagrams.len().min(room);
            for datagram in datagrams[..taken].chunks(size) {
                self.1.push((to.port(), datagram[0], datagram.len()));
            }
            self.0 -= taken;
            taken
        }
    }

    fn send(outbox: &mut Outbox<u8>, kernel: &mut Kernel, to: u16, datagrams: &[u8]) -> usize {
        let to = SocketAddr::from(([127, 0, 0, 1], to));
        outbox.send((to, datagrams, SIZE), |to, datagrams, size| {
            kernel.take(to, datagrams, size)
        })
    }

    #[test]
    fn what_the_kernel_refuses_leaves_later_once_and_in_order() {
        let (mut outbox, mut kernel) = (Outbox::default(), Kernel(250, Vec::new()));
        let batch: Vec<u8> = (0..4).flat_map(|n| [n; SIZE]).chain([4; 30]).collect();
        for to in [1, 2] {
            assert_eq!(send(&mut outbox, &mut kernel, to, &batch), 0);
        }
        let of = |to| (0..5).map(move |n| (to, n, if n < 4 { SIZE } else { 30 }));
        let all: Vec<_> = of(1).chain(of(2)).collect();
        assert_eq!(kernel.1, all[..2]);
        kernel.0 = 300;
        assert!(!outbox.flush(|to, datagrams, size| kernel.take(to, datagrams, size)));
        assert_eq!(kernel.1.len(), 5);
        kernel.0 = 10_000;
        // What comes meanwhile passes nothing.
        assert_eq!(send(&mut outbox, &mut kernel, 3, &[9; SIZE]), 0);
        assert!(outbox.flush(|to, datagrams, size| kernel.take(to, datagrams, size)));
        assert_eq!(kernel.1[..10], all);
        assert_eq!(kernel.1[10..], [(3, 9, SIZE)]);
        assert_eq!((outbox.bytes, outbox.held.len()), (0, 0));
    }

    #[test]
    fn what_stands_before_a_socket_is_bounded_and_the_rest_is_counted_as_lost() {
        let (mut outbox, mut kernel) = (Outbox::default(), Kernel(0, Vec::new()));
        let sent = 2 * HELD / SIZE / 10;
        let lost: usize = (0..sent)
            .map(|_| send(&mut outbox, &mut kernel, 1, &[0; 10 * SIZE]))
            .sum();
        assert!(outbox.bytes < HELD + 10 * SIZE);
        assert_eq!(outbox.bytes / SIZE + lost, 10 * sent);
        kernel.0 = usize::MAX;
        assert!(outbox.flush(|to, datagrams, size| kernel.take(to, datagrams, size)));
        assert_eq!(kernel.1.len(), 10 * sent - lost);
    }
}

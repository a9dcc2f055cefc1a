//! What has come at the sockets of a shard, and is still to be looked at; what is another shard's is handed over.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn_udp::RecvMeta;

use super::exchange::{Batch, Exchange};
use super::socket::{BUFFER, BUFFERS, Socket};
use crate::rtp::{Demux, Protocol, Stun, marked};

/// STUN messages of strangers that wait. Anybody can send them, so more are dropped.
pub(super) const STUN: usize = 256;
/// Bytes of one at most: what STUN over UDP may have on any path (RFC 8489 section 6.1). A browser's check has about 100.
const STUN_BYTES: usize = 1_280;

#[derive(Debug)]
pub(crate) struct Datagram {
    /// To which of our addresses it came.
    pub(super) local: SocketAddr,
    pub(super) source: SocketAddr,
    pub(super) bytes: Bytes,
}

/// See the module. What is neither STUN nor from a verified address goes no further than the buffer of the system call; what is
/// from a verified one never waits behind strangers. A check is for the shard that its user name tells, anything else for the
/// one that its source speaks with.
#[derive(Debug)]
pub(super) struct Inbox {
    shard: usize,
    exchange: Arc<Exchange>,
    buffers: [Vec<u8>; BUFFERS],
    heads: [RecvMeta; BUFFERS],
    own: Batch,
    /// For each shard, of what was read last.
    others: Box<[Batch]>,
    handed_over: u64,
    not_taken: u64,
    evicted: Vec<u64>,
}

impl Inbox {
    pub(super) fn new(exchange: Arc<Exchange>, shard: usize) -> Self {
        Self {
            shard,
            buffers: std::array::from_fn(|_| vec![0; BUFFER]),
            heads: [RecvMeta::default(); BUFFERS],
            own: Batch::default(),
            others: (0..exchange.shards()).map(|_| Batch::default()).collect(),
            exchange,
            handed_over: 0,
            not_taken: 0,
            evicted: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Datagrams that were handed to other shards, and those that they had no place for.
    pub(super) fn handed(&self) -> (u64, u64) {
        (self.handed_over, self.not_taken)
    }

    /// The links in the making that another shard's have pushed out, since the last call.
    pub(super) fn evicted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.evicted)
    }

    /// The next datagram. Reads sockets and mailbox when nothing waits that is from a verified address.
    pub(super) fn next(
        &mut self,
        sockets: &[Socket],
        demux: &Demux<super::Key>,
    ) -> Option<Datagram> {
        if self.own.known.is_empty() {
            for socket in sockets {
                self.read(socket, demux);
            }
            self.hand_over();
            self.exchange
                .collect(self.shard, &mut self.own, &mut self.evicted);
        }
        let own = &mut self.own;
        own.known.pop_front().or_else(|| own.stun.pop_front())
    }

    fn hand_over(&mut self) {
        for (to, batch) in self.others.iter_mut().enumerate() {
            self.handed_over += batch.known.len() as u64;
            self.not_taken += self.exchange.hand_over(to, batch) as u64;
        }
    }

    /// Takes what has come at one socket, as much as one system call gives.
    fn read(&mut self, socket: &Socket, demux: &Demux<super::Key>) {
        // An error is about a datagram that was sent: nobody listens there.
        let count = socket
            .receive(&mut self.buffers, &mut self.heads)
            .unwrap_or(0);
        let alone = self.exchange.shards() == 1;
        for (head, buffer) in self.heads.iter().zip(&self.buffers).take(count) {
            let run = buffer.get(..head.len).unwrap_or_default();
            let source = head.addr;
            let datagram = |bytes| Datagram {
                local: socket.local,
                source,
                bytes,
            };
            let owner = if demux.knows(source) {
                Some(self.shard)
            } else {
                self.exchange.claims.owner(source)
            };
            // Copied once, however many datagrams the kernel has put together.
            let copy = owner.map(|_| Bytes::copy_from_slice(run));
            let mut from = 0;
            for bytes in run.chunks(head.stride.max(1)) {
                let range = from..from + bytes.len();
                from = range.end;
                let stun = Protocol::of(bytes) == Some(Protocol::Stun);
                let named = (stun && !alone).then(|| named(bytes)).flatten();
                let to = named.or(owner).unwrap_or(self.shard);
                let batch = if to == self.shard {
                    &mut self.own
                } else if let Some(batch) = self.others.get_mut(to) {
                    batch
                } else {
                    continue;
                };
                if let Some(run) = copy.as_ref().filter(|_| owner == Some(to)) {
                    batch.known.push_back(datagram(run.slice(range)));
                } else if stun && bytes.len() <= STUN_BYTES && batch.stun.len() < STUN {
                    batch
                        .stun
                        .push_back(datagram(Bytes::copy_from_slice(bytes)));
                }
            }
        }
    }
}

/// The shard that a check is for, if it is one.
fn named(datagram: &[u8]) -> Option<usize> {
    marked(Stun::parse(datagram)?.ufrag?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::testing::check;
    use crate::udp::Udp;
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    #[tokio::test]
    async fn junk_of_strangers_is_not_taken_in_and_their_checks_wait_behind_those_who_are_known() {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ours = Udp::bind(&[localhost], 0, 1).expect("a port");
        let sockets = ours.open(0, 1).expect("a socket");
        let ours = &sockets[0];
        let [stranger, peer] = [0; 2].map(|_| UdpSocket::bind((localhost, 0)).expect("a port"));
        let mut demux = Demux::default();
        demux.add((1, 2, 3), "name", "password");
        let check = check("name", "password", 1);
        demux.route(peer.local_addr().expect("bound"), ours.local, &check, 0);
        let large = [0; 1 + STUN_BYTES];
        for _ in 0..STUN + 40 {
            for junk in [&[22, 254, 253][..], &[0x80, 96], &large, &[0, 1]] {
                stranger.send_to(junk, ours.local).expect("sent");
            }
        }
        for datagram in [&[0x80, 1][..], &[0, 2]] {
            peer.send_to(datagram, ours.local).expect("sent");
        }
        ours.socket.readable().await.expect("a socket");
        let mut inbox = Inbox::new(Arc::new(Exchange::new(1)), 0);
        for _ in 0..STUN + 40 {
            inbox.read(ours, &demux);
        }
        let all: Vec<Bytes> = std::iter::from_fn(|| inbox.next(&sockets, &demux))
            .map(|datagram| datagram.bytes)
            .collect();
        assert_eq!(all.len(), 2 + STUN);
        assert_eq!((&all[0][..], &all[1][..]), (&[0x80, 1][..], &[0, 2][..]));
        assert!(all[2..].iter().all(|bytes| bytes[..] == [0, 1]));
    }

    #[tokio::test]
    async fn what_comes_at_the_wrong_shard_goes_to_its_own_and_what_is_nobodys_to_none() {
        const PEERS: usize = 24;
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ours = Udp::bind(&[localhost], 0, 2).expect("a port");
        let port = ours.candidates()[0];
        let exchange = Arc::new(Exchange::new(2));
        let sockets = [0, 1].map(|shard| ours.open(shard, 2).expect("sockets"));
        let mut demuxes = [0, 1].map(|shard| Demux::new(Arc::clone(&exchange.claims), shard));
        let mut inboxes = [0, 1].map(|shard| Inbox::new(Arc::clone(&exchange), shard));
        let bind = |_| UdpSocket::bind((localhost, 0)).expect("a port");
        let (peers, strangers) = ([0; PEERS].map(bind), [0; PEERS].map(bind));
        // All of them are the second shard's, whose user names begin with B.
        for (n, peer) in (0..).zip(&peers) {
            let session = (1, 2, u64::from(n));
            demuxes[1].add(session, &format!("B{n}"), "password");
            let check = check(&format!("B{n}"), "password", n);
            demuxes[1].route(peer.local_addr().expect("bound"), port, &check, 0);
        }
        let plain = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        for (n, (peer, stranger)) in (0..).zip(peers.iter().zip(&strangers)) {
            for datagram in [&[0x80, n][..], &check("A1", "password", n)] {
                peer.send_to(datagram, port).expect("sent");
            }
            // The last is of no shard that there is.
            for name in ["A1", "B1", "C1"] {
                let check = check(name, "password", n);
                stranger.send_to(&check, port).expect("sent");
            }
            for datagram in [&[0x80, n][..], &[22, 254, n], &plain] {
                stranger.send_to(datagram, port).expect("sent");
            }
        }
        let (mut known, mut stun) = ([0; 2], [0; 2]);
        let latest = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while stun.iter().sum::<usize>() < 4 * PEERS || known[1] < PEERS {
            assert!(std::time::Instant::now() < latest, "{known:?} {stun:?}");
            tokio::task::yield_now().await;
            for shard in [0, 1] {
                while let Some(came) = inboxes[shard].next(&sockets[shard], &demuxes[shard]) {
                    let of = match Protocol::of(&came.bytes) {
                        Some(Protocol::Stun) => &mut stun[shard],
                        _ => &mut known[shard],
                    };
                    *of += 1;
                    let marked = named(&came.bytes).is_none_or(|of| of == shard);
                    assert!(marked && came.local == port);
                }
            }
        }
        assert_eq!((known, stun.iter().sum::<usize>()), ([0, PEERS], 4 * PEERS));
        let handed = inboxes.each_ref().map(Inbox::handed);
        assert!(handed[0].0 > 0 && handed[0].0 < PEERS as u64, "{handed:?}");
        assert_eq!(handed[1], (0, 0));
    }
}

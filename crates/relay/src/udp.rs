//! The UDP port: sockets, the links by RTP that come over it, and whose datagram is whose. Part of the driver; what a link is
//! to the core stands there.
//!
//! One port number on each of the machine's addresses, a socket each, so that an answer leaves from where the question came
//! to. Sockets never wait to send: what the kernel does not take is lost, as on any network, and repaired by RTP. The packets of
//! a frame leave in one system call, and what has come is taken in batches (segmentation offload, where the kernel has it). A peer has one
//! link at most, and only where one was ordered; its offer comes through whoever gives the orders. Should a session panic,
//! its link ends and no other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::command::{Command, Node, Room, Token};
use crate::relay::{Incoming, Input, Link, Micros, Outgoing, Relay};
use crate::rtp::{Config, Demux, LinkEvent, Pool, Route, RtpLink, Todo};

/// Buffers filled by one system call, and the bytes of each: the kernel puts datagrams of one sender together.
const BUFFERS: usize = 16;
const BUFFER: usize = 1 << 16;
/// What the kernel is asked to hold of datagrams for us, either way: 30 ms at 1 Gbit/s. It gives less to whom it does not trust.
const KERNEL_BUFFER: usize = 4 << 20;
/// What a link is believed to carry before it was measured, bit/s.
const START_BPS: u64 = 3_000_000;
/// How long a link may take from its offer to its control channel.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// Plain STUN requests answered each second, in all and to one address: a request may be forged, and its answer is longer
/// by 12 bytes.
const ANSWERS: usize = 100;
const ANSWERS_TO_ONE: u32 = 5;

/// The relay's UDP port, bound.
#[derive(Debug)]
pub struct Udp {
    sockets: Vec<Socket>,
    candidates: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Socket {
    local: SocketAddr,
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    fn bind(address: (IpAddr, u16)) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        // Less than asked for is no reason to go without.
        let _ = state.set_send_buffer_size((&socket).into(), KERNEL_BUFFER);
        let _ = state.set_recv_buffer_size((&socket).into(), KERNEL_BUFFER);
        socket.set_nonblocking(true)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket: UdpSocket::from_std(socket)?,
            state,
        })
    }

    /// Sends datagrams of `size` bytes each, the last may be shorter.
    fn send(&self, destination: SocketAddr, datagrams: &[u8], size: usize) {
        for batch in datagrams.chunks(size * self.state.max_gso_segments()) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: batch,
                segment_size: (batch.len() > size).then_some(size),
                src_ip: None,
            };
            let _ = self.socket.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            });
        }
    }

    /// Takes as much as one system call gives: how many buffers it filled.
    fn receive(
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
    /// Takes `port` on each of these addresses that has it free; 0: any port, the same on all. An error when no address has
    /// it. To be called on a Tokio runtime.
    pub fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let mut sockets = Vec::new();
        let mut port = port;
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for &address in addresses {
            match Socket::bind((address, port)) {
                Ok(socket) => {
                    port = socket.local.port();
                    sockets.push(socket);
                }
                Err(error) => failed = error,
            }
        }
        if sockets.is_empty() {
            return Err(failed);
        }
        let candidates = sockets.iter().map(|socket| socket.local).collect();
        Ok(Self {
            sockets,
            candidates,
        })
    }

    /// With further addresses under which browsers reach it.
    #[must_use]
    pub fn with_public(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.candidates.extend(addresses);
        self
    }

    /// Where browsers are told to send to.
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }
}

/// Names a link: whose it is.
type Key = (Room, Node);

#[derive(Debug)]
pub(crate) struct Datagram {
    socket: usize,
    source: SocketAddr,
    bytes: Bytes,
}

#[derive(Debug)]
struct Entry {
    rtp: RtpLink,
    token: Token,
    /// Once it is open.
    link: Option<Link>,
    due: Option<Instant>,
    open_by: Instant,
}

/// How many plain STUN requests were answered in this second.
#[derive(Debug, Default)]
struct Answers {
    second: Micros,
    by: HashMap<IpAddr, u32>,
    all: usize,
}

impl Answers {
    fn may(&mut self, to: IpAddr, now: Micros) -> bool {
        let second = now / 1_000_000;
        if second != self.second {
            *self = Self {
                second,
                ..Self::default()
            };
        }
        if self.all >= ANSWERS {
            return false;
        }
        let one = self.by.entry(to).or_default();
        if *one >= ANSWERS_TO_ONE {
            return false;
        }
        *one += 1;
        self.all += 1;
        true
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Port {
    udp: Arc<Udp>,
    /// Taken from the sockets, and still to be looked at.
    inbox: VecDeque<Datagram>,
    buffers: [Vec<u8>; BUFFERS],
    heads: [RecvMeta; BUFFERS],
    /// What is being sent.
    out: Vec<u8>,
    demux: Demux<Key>,
    entries: BTreeMap<Key, Entry>,
    by_link: HashMap<Link, Key>,
    due: BTreeSet<(Instant, Key)>,
    /// To be polled.
    touched: BTreeSet<Key>,
    broken: Vec<Key>,
    answers: Answers,
    /// What the links have in the making.
    making: Pool,
}

impl Port {
    pub(crate) fn new(udp: Arc<Udp>) -> Self {
        Self {
            udp,
            inbox: VecDeque::new(),
            buffers: std::array::from_fn(|_| vec![0; BUFFER]),
            heads: [RecvMeta::default(); BUFFERS],
            out: Vec::new(),
            demux: Demux::default(),
            entries: BTreeMap::new(),
            by_link: HashMap::new(),
            due: BTreeSet::new(),
            touched: BTreeSet::new(),
            broken: Vec::new(),
            answers: Answers::default(),
            making: Pool::default(),
        }
    }

    /// Waits until something has come. Losing the future loses nothing.
    pub(crate) async fn readable(&self) {
        std::future::poll_fn(|context| {
            let mut ready = !self.inbox.is_empty();
            for socket in &self.udp.sockets {
                ready |= socket.socket.poll_recv_ready(context).is_ready();
            }
            if ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The next datagram that has come.
    pub(crate) fn receive(&mut self) -> Option<Datagram> {
        if self.inbox.is_empty() {
            for index in 0..self.udp.sockets.len() {
                self.read(index);
            }
        }
        self.inbox.pop_front()
    }

    /// Takes what has come at one socket, as much as one system call gives.
    fn read(&mut self, index: usize) {
        let Some(socket) = self.udp.sockets.get(index) else {
            return;
        };
        // An error is about a datagram that was sent: nobody listens there.
        let count = socket
            .receive(&mut self.buffers, &mut self.heads)
            .unwrap_or(0);
        for (head, buffer) in self.heads.iter().zip(&self.buffers).take(count) {
            let run = Bytes::copy_from_slice(buffer.get(..head.len).unwrap_or_default());
            let mut from = 0;
            while from < run.len() {
                let to = (from + head.stride.max(1)).min(run.len());
                self.inbox.push_back(Datagram {
                    socket: index,
                    source: head.addr,
                    bytes: run.slice(from..to),
                });
                from = to;
            }
        }
    }

    /// When to call [`Port::tick`].
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes an offer. The answer; empty when there is no link by RTP.
    pub(crate) fn offer(&mut self, key: Key, sdp: &str, relay: &mut Relay, now: Now) -> String {
        let (room, peer) = key;
        let Some(token) = relay.token(room, peer) else {
            return String::new();
        };
        let known = self.entries.get(&key);
        if !known.is_some_and(|entry| entry.token == token && entry.rtp.is_same(sdp)) {
            self.remove(key, relay, now);
            if self.entries.len() >= relay.settings().links || relay.is_refusing(room, peer) {
                return String::new();
            }
            let config = Config {
                candidates: self.udp.candidates.clone(),
                start_bps: START_BPS,
                making: self.making.clone(),
            };
            let entry = Entry {
                rtp: RtpLink::new(&config, sdp, now.instant, now.micros),
                token,
                link: None,
                due: None,
                open_by: now.instant + OPEN_WITHIN,
            };
            self.entries.insert(key, entry);
        }
        let answer = self.with(key, |rtp| {
            let answer = rtp.accept(sdp);
            (answer, rtp.ufrag())
        });
        match answer {
            Some((Ok(answer), ufrag)) => {
                self.demux.add(key, &ufrag);
                answer
            }
            Some((Err(_), _)) | None => {
                self.remove(key, relay, now);
                String::new()
            }
        }
    }

    /// An order was obeyed: links that are not expected any more end, and demand may have changed.
    pub(crate) fn ordered(&mut self, command: &Command, relay: &mut Relay, now: Now) {
        match *command {
            Command::Link { room, peer, .. } | Command::Unlink { room, peer } => {
                let token = relay.token(room, peer);
                let key = (room, peer);
                // An open one is closed by the core.
                let void = |entry: &Entry| entry.link.is_none() && Some(entry.token) != token;
                if self.entries.get(&key).is_some_and(void) {
                    self.remove(key, relay, now);
                }
            }
            Command::Leave { room } => {
                let all = self.entries.range((room, 0)..=(room, Node::MAX));
                let pending = all.filter(|(_, entry)| entry.link.is_none());
                for key in pending.map(|(&key, _)| key).collect::<Vec<_>>() {
                    self.remove(key, relay, now);
                }
            }
            Command::Feed { room, child, .. } | Command::Release { room, child, .. } => {
                self.demand((room, child), relay);
            }
            _ => {}
        }
    }

    fn demand(&mut self, key: Key, relay: &Relay) {
        let (streams, bps) = relay.demand(key.0, key.1);
        self.with(key, |rtp| {
            rtp.expect(streams);
            rtp.set_demand(bps);
        });
    }

    pub(crate) fn datagram(&mut self, datagram: &Datagram, now: Now) {
        let Datagram {
            socket,
            source,
            bytes,
        } = datagram;
        let Some(socket) = self.udp.sockets.get(*socket) else {
            return;
        };
        match self.demux.route(*source, bytes) {
            Route::Drop => {}
            Route::Answer(answer) => {
                if self.answers.may(source.ip(), now.micros) {
                    socket.send(*source, &answer, answer.len());
                }
            }
            Route::Session(key) => {
                let (local, source) = (socket.local, *source);
                let genuine = self.with(key, |rtp| {
                    rtp.handle_datagram(source, local, bytes, now.instant)
                });
                if genuine == Some(true) {
                    self.demux.verified(key, source);
                }
            }
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, relay: &mut Relay, now: Now) {
        while let Some(&(at, key)) = self.due.first()
            && at <= now.instant
        {
            self.due.pop_first();
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.due = None;
            if entry.link.is_none() && entry.open_by <= now.instant {
                self.remove(key, relay, now);
                continue;
            }
            self.with(key, |rtp| rtp.handle_timeout(now.instant));
        }
    }

    /// Is this one of the port's links? Then the message is sent there.
    pub(crate) fn send(
        &mut self,
        link: Link,
        message: Outgoing,
        relay: &mut Relay,
        now: Now,
    ) -> Option<Outgoing> {
        let Some(&key) = self.by_link.get(&link) else {
            return Some(message);
        };
        match message {
            Outgoing::Frame(sealed) => {
                self.with(key, |rtp| rtp.send_frame(sealed, now.instant));
            }
            Outgoing::Text(text) => {
                if self.with(key, |rtp| rtp.send_text(&text)) == Some(false) {
                    self.remove(key, relay, now);
                }
            }
            Outgoing::Close(_) => self.remove(key, relay, now),
        }
        None
    }

    /// Carries out what links want done. True when the core may have something to say.
    pub(crate) fn poll(&mut self, relay: &mut Relay, now: Now) -> bool {
        let mut told = false;
        loop {
            for key in std::mem::take(&mut self.broken) {
                self.remove(key, relay, now);
                told = true;
            }
            let Some(key) = self.touched.pop_first() else {
                return told;
            };
            let mut out = std::mem::take(&mut self.out);
            while let Some(todo) = self.with(key, |rtp| rtp.poll(now.instant, &mut out)) {
                match todo {
                    Todo::Transmit {
                        source,
                        destination,
                        size,
                    } => self.transmit(source, destination, &out, size),
                    Todo::Timeout(at) => {
                        self.touched.remove(&key);
                        self.wait(key, at);
                        break;
                    }
                    Todo::Event(event) => {
                        told = true;
                        self.note(key, event, relay, now);
                    }
                }
            }
            self.out = out;
        }
    }

    fn note(&mut self, key: Key, event: LinkEvent, relay: &mut Relay, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let input = match event {
            LinkEvent::Open => {
                match relay.handle_attach_rtp(entry.token, START_BPS, now.micros) {
                    Ok(link) => {
                        entry.link = Some(link);
                        self.by_link.insert(link, key);
                        self.demand(key, relay);
                    }
                    Err(_) => self.remove(key, relay, now),
                }
                return;
            }
            LinkEvent::Closed => return self.remove(key, relay, now),
            LinkEvent::Text(text) => Input::Came(Incoming::Text(text)),
            LinkEvent::Frame(sealed) => Input::Came(Incoming::Frame(sealed)),
            LinkEvent::Heard => Input::Heard,
            LinkEvent::Bandwidth(bps) => Input::Bandwidth(bps),
        };
        if let Some(link) = entry.link {
            relay.handle_input(link, input, now.micros);
        }
    }

    /// Ends a link, with a goodbye to the browser, and tells the core.
    fn remove(&mut self, key: Key, relay: &mut Relay, now: Now) {
        self.demux.remove(key);
        self.touched.remove(&key);
        let Some(mut entry) = self.entries.remove(&key) else {
            return;
        };
        if let Some(at) = entry.due {
            self.due.remove(&(at, key));
        }
        if let Some(link) = entry.link {
            self.by_link.remove(&link);
            relay.handle_input(link, Input::Closed, now.micros);
        }
        // Whatever breaks now breaks nothing: the link is gone.
        let rest = catch_unwind(AssertUnwindSafe(|| {
            entry.rtp.close();
            let (mut last, mut out) = (Vec::new(), Vec::new());
            while let Todo::Transmit {
                source,
                destination,
                size,
            } = entry.rtp.poll(now.instant, &mut out)
            {
                last.push((source, destination, out.clone(), size));
            }
            last
        }));
        for (source, destination, datagrams, size) in rest.unwrap_or_default() {
            self.transmit(source, destination, &datagrams, size);
        }
    }

    fn transmit(&self, source: SocketAddr, destination: SocketAddr, datagrams: &[u8], size: usize) {
        let mut sockets = self.udp.sockets.iter();
        if let Some(socket) = sockets.find(|socket| socket.local == source) {
            socket.send(destination, datagrams, size);
        }
    }

    fn wait(&mut self, key: Key, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let open_by = entry.link.is_none().then_some(entry.open_by);
        let at = [at, open_by].into_iter().flatten().min();
        if let Some(former) = std::mem::replace(&mut entry.due, at) {
            self.due.remove(&(former, key));
        }
        self.due.extend(at.map(|at| (at, key)));
    }

    /// Lends a link out, and has it polled. `None`: there is none, or it broke.
    fn with<T>(&mut self, key: Key, work: impl FnOnce(&mut RtpLink) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&key)?;
        self.touched.insert(key);
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut entry.rtp)));
        if done.is_err() {
            self.broken.push(key);
        }
        done.ok()
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub instant: Instant,
    pub micros: Micros,
}

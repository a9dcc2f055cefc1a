//! The UDP port: the links by RTP that come over it, and whose datagram is whose. Part of the driver; what a link is to the core
//! stands there, sockets in [`socket`], offers and ends of links in [`links`].
//!
//! A peer has one link at most, and only where one was ordered; its offer comes through whoever gives the orders, and is read
//! beside the relay's task ([`offers`]). A further connection of a peer takes the place of the one that it has once it is open.
//! Should a session panic, its link ends and no other.
//!
//! Links that have something to do are asked one after the other, in the order in which that came up; one whose socket is full
//! waits ([`outbox`]).
//!
//! Each shard has a port of its own on the one number; what they share stands in [`exchange`].

mod answers;
mod exchange;
mod inbox;
mod links;
mod offers;
mod outbox;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

pub(crate) use self::exchange::Exchange;
pub(crate) use self::inbox::Datagram;
use self::inbox::Inbox;
use self::offers::Offers;
pub(crate) use self::offers::Read;
use self::outbox::Outboxes;
use self::socket::Socket;
pub use self::socket::{Buffers, Udp};
use crate::bounds::Bounds;
use crate::command::{Node, Room, Token};
use crate::relay::{Incoming, Input, Link, Micros, Outgoing, Relay};
use crate::rtp::{Demux, LinkEvent, Route, RtpLink, Sums, To, Todo, Way};

/// What a link is believed to carry before it was measured, bit/s.
const START_BPS: u64 = 3_000_000;
/// How often the core is told that something authentic came: as often as heartbeats go out.
const HEARD: Micros = 50_000;
/// How long a link may take from its offer to its control channel.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

/// Whose a link is.
pub(crate) type Peer = (Room, Node);

/// Names a link. A peer may have two, one that is open and one in the making; the last number rises.
type Key = (Room, Node, u64);

#[derive(Debug)]
struct Entry {
    rtp: RtpLink,
    token: Token,
    /// Once it is open.
    link: Option<Link>,
    due: Option<Instant>,
    open_by: Instant,
    /// What it was told last: streams, and bit/s in all.
    demand: Option<(usize, u64)>,
    /// When the core was told last that something came.
    heard_at: Micros,
    /// It stands in [`Port::touched`].
    touched: bool,
    /// It waits for its socket.
    waits: bool,
    /// Datagrams came from it since it was last polled: it does not wait, since no queue of its is to grow.
    came: bool,
    /// By which socket the last datagrams went to it.
    socket: Option<usize>,
}

/// Why a link is not polled on.
#[derive(Debug)]
enum Step {
    /// Its socket is full.
    Full,
    Heard(SocketAddr),
    Event(LinkEvent),
    /// There is nothing to do until then.
    Idle(Option<Instant>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Port {
    shard: usize,
    bounds: Arc<Bounds>,
    exchange: Arc<Exchange>,
    /// Where browsers are told to send to.
    candidates: Vec<SocketAddr>,
    sockets: Arc<[Socket]>,
    inbox: Inbox,
    outboxes: Outboxes<Key>,
    /// What is being sent.
    out: Vec<u8>,
    demux: Demux<Key>,
    offers: Offers<Peer>,
    entries: BTreeMap<Key, Entry>,
    /// Those of the entries that are not open, by their last number.
    pending: BTreeMap<u64, Key>,
    by_link: HashMap<Link, Key>,
    due: BTreeSet<(Instant, Key)>,
    /// To be polled, who came first first.
    touched: VecDeque<Key>,
    broken: Vec<Key>,
    /// What went down on links that have ended.
    ended: Sums,
}

impl Port {
    /// The port of one shard, on the current Tokio runtime.
    pub(crate) fn new(
        udp: &Udp,
        exchange: Arc<Exchange>,
        bounds: Arc<Bounds>,
        shard: usize,
    ) -> io::Result<Self> {
        let sockets: Arc<[Socket]> = udp.open(shard, exchange.shards())?.into();
        Ok(Self {
            shard,
            bounds,
            candidates: udp.candidates().to_vec(),
            inbox: Inbox::new(Arc::clone(&exchange), shard),
            outboxes: Outboxes::new(Arc::clone(&sockets)),
            sockets,
            out: Vec::new(),
            demux: Demux::new(Arc::clone(&exchange.claims), shard),
            offers: Offers::new(exchange.shards()),
            exchange,
            entries: BTreeMap::new(),
            pending: BTreeMap::new(),
            by_link: HashMap::new(),
            due: BTreeSet::new(),
            touched: VecDeque::new(),
            broken: Vec::new(),
            ended: Sums::default(),
        })
    }

    /// Waits until something has come. Losing the future loses nothing.
    pub(crate) async fn readable(&self) {
        std::future::poll_fn(|context| {
            let mut ready = !self.inbox.is_empty() || self.exchange.poll_mail(self.shard, context);
            for socket in self.sockets.iter() {
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

    /// Waits until a socket that was full can send again: [`Port::resume`]. Losing the future loses nothing.
    pub(crate) async fn writable(&self) {
        std::future::poll_fn(|context| self.outboxes.poll_writable(context)).await;
    }

    /// Goes on where full sockets stopped it.
    pub(crate) fn resume(&mut self) {
        for key in self.outboxes.resume().into_iter().rev() {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.waits = false;
            if !std::mem::replace(&mut entry.touched, true) {
                self.touched.push_front(key);
            }
        }
    }

    /// Datagrams that never left.
    pub(crate) fn unsent(&self) -> u64 {
        self.outboxes.lost()
    }

    /// Datagrams that were handed to other shards, and those that they had no place for.
    pub(crate) fn handed(&self) -> (u64, u64) {
        self.inbox.handed()
    }

    /// What went down on all links so far.
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = self.ended;
        for entry in self.entries.values() {
            sums += entry.rtp.sums();
        }
        sums
    }

    /// The next datagram that has come.
    pub(crate) fn receive(&mut self) -> Option<Datagram> {
        self.inbox.next(&self.sockets, &self.demux)
    }

    /// When to call [`Port::tick`].
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn datagram(&mut self, datagram: &Datagram, now: Now) {
        let Datagram {
            local,
            source,
            bytes,
        } = datagram;
        match self.demux.route(*source, *local, bytes, now.micros) {
            Route::Drop => {}
            Route::Answer(answer) => {
                let mut sockets = self.sockets.iter();
                if let Some(socket) = sockets.find(|socket| socket.local == *local)
                    && self.exchange.may_answer(source.ip(), now.micros)
                {
                    // A stranger's answer is not worth a place among what waits.
                    socket.send(*source, &answer, answer.len());
                }
            }
            Route::Session(key) => {
                let source = *source;
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.came = true;
                }
                self.with(key, |rtp| {
                    rtp.handle_datagram(source, bytes, now.instant);
                });
            }
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, relay: &mut Relay, now: Now) {
        for number in self.inbox.evicted() {
            if let Some(&key) = self.pending.get(&number) {
                self.remove(key, relay, now);
            }
        }
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
            let Some(key) = self.touched.pop_front() else {
                return told;
            };
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.touched = false;
            let socket = entry.socket.filter(|_| !entry.came);
            match socket.filter(|&socket| !self.outboxes.is_free(socket)) {
                Some(_) if entry.waits => {}
                Some(socket) => {
                    entry.waits = true;
                    self.outboxes.wait(socket, key);
                }
                None => told |= self.serve(key, relay, now),
            }
        }
    }

    /// Carries out what one link wants done. True when the core was told something.
    fn serve(&mut self, key: Key, relay: &mut Relay, now: Now) -> bool {
        let mut told = false;
        while let Some(step) = self.run(key, now) {
            match step {
                Step::Full => {
                    // It had its share: it waits behind the others.
                    self.touch(key);
                    break;
                }
                Step::Heard(source) => {
                    self.demux.heard(key, source, now.micros);
                    self.hear(key, relay, now.micros);
                }
                Step::Event(event) => {
                    told = true;
                    self.note(key, event, relay, now);
                }
                Step::Idle(at) => {
                    self.wait(key, at);
                    break;
                }
            }
        }
        told
    }

    /// Polls a link and sends what it has, until there is something else to do. `None`: it is not there, or it broke.
    fn run(&mut self, key: Key, now: Now) -> Option<Step> {
        let Self {
            demux,
            outboxes,
            out,
            ..
        } = self;
        let entry = self.entries.get_mut(&key)?;
        let work = || loop {
            match entry.rtp.poll(now.instant, out) {
                Todo::Transmit { to, size } => {
                    let way = way(demux, key, to, out.len());
                    let socket = outboxes.send(way, out, size);
                    entry.socket = socket.or(entry.socket);
                    if !entry.came && socket.is_some_and(|socket| !outboxes.is_free(socket)) {
                        return Step::Full;
                    }
                }
                Todo::Heard(source) => return Step::Heard(source),
                Todo::Event(event) => return Step::Event(event),
                Todo::Timeout(at) => {
                    entry.came = false;
                    return Step::Idle(at);
                }
            }
        };
        let done = catch_unwind(AssertUnwindSafe(work));
        if done.is_err() {
            self.broken.push(key);
        }
        done.ok()
    }

    /// Something authentic came: the core is told, each [`HEARD`] at most.
    fn hear(&mut self, key: Key, relay: &mut Relay, now: Micros) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        if let Some(link) = entry.link
            && now.saturating_sub(entry.heard_at) >= HEARD
        {
            entry.heard_at = now;
            relay.handle_input(link, Input::Heard, now);
        }
    }

    fn note(&mut self, key: Key, event: LinkEvent, relay: &mut Relay, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let input = match event {
            LinkEvent::Open => {
                self.bounds.make_room(self.shard, relay);
                match relay.handle_attach_rtp(entry.token, START_BPS, now.micros) {
                    Ok(link) => {
                        // The one that it has had goes: the core says so.
                        entry.link = Some(link);
                        if self.pending.remove(&key.2).is_some() {
                            self.exchange.begun(key.2);
                        }
                        self.by_link.insert(link, key);
                        self.demand_of(key, relay);
                    }
                    Err(_) => self.remove(key, relay, now),
                }
                return;
            }
            LinkEvent::Closed => return self.remove(key, relay, now),
            LinkEvent::Text(text) => Input::Came(Incoming::Text(text)),
            LinkEvent::Frame(sealed) => Input::Came(Incoming::Frame(sealed)),
            LinkEvent::Bandwidth(bps) => Input::Bandwidth(bps),
            LinkEvent::Unsent(bytes) => Input::Unsent(bytes),
        };
        if let Some(link) = entry.link {
            relay.handle_input(link, input, now.micros);
        }
    }

    fn wait(&mut self, key: Key, at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let open_by = entry.link.is_none().then_some(entry.open_by);
        let at = [at, open_by].into_iter().flatten().min();
        if entry.due == at {
            return;
        }
        if let Some(former) = std::mem::replace(&mut entry.due, at) {
            self.due.remove(&(former, key));
        }
        self.due.extend(at.map(|at| (at, key)));
    }

    /// Lends a link out, and has it polled. `None`: there is none, or it broke.
    fn with<T>(&mut self, key: Key, work: impl FnOnce(&mut RtpLink) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&key)?;
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut entry.rtp)));
        if done.is_err() {
            self.broken.push(key);
        }
        self.touch(key);
        done.ok()
    }

    /// Has a link polled, behind those that are to be.
    fn touch(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key)
            && !std::mem::replace(&mut entry.touched, true)
        {
            self.touched.push_back(key);
        }
    }
}

/// How so many bytes go to the browser of a link.
fn way(demux: &mut Demux<Key>, key: Key, to: To, bytes: usize) -> Option<Way> {
    match to {
        To::Address(remote) => demux.way(key, remote),
        To::Path => demux.path(key, bytes),
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub instant: Instant,
    pub micros: Micros,
}

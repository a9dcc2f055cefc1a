//! The tokio task that owns a [`Relay`], and the queues between it and the sockets. A relay has one of them, or one per thread,
//! its shards ([`crate::handle`]).
//!
//! One task, one channel in: commands, attached links, what came on them, what their sockets have taken. A link may have
//! [`INBOUND_BYTES`] of messages on the way to the task; then its socket waits, and the others do not. Outgoing messages
//! wait in a queue per link; the core counts what is in it and what the socket holds, and ends a link that does not read.
//!
//! The core is written and fuzzed not to panic whatever comes. Should it do so all the same, the link whose message it was is
//! ended, or the room is left when it happened by order or by the clock; the others go on, and the panic is printed. What
//! fails between core and sockets costs no more than the step.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::bounds::{Bounds, Egress};
use crate::command::{Command, Node, Room, Token};
use crate::event::{Event, Stats};
use crate::relay::{
    Close, Incoming, Input, Link, Micros, Outgoing, Output, Refused, Relay, Settings,
};
use crate::udp::{Exchange, Now, Port, Read, Udp};

/// Bytes of messages that one link may have on the way to the task: four of the largest.
const INBOUND_BYTES: usize = 1 << 20;
/// What a message costs beside its bytes.
const MESSAGE_BYTES: usize = 256;
/// Datagrams taken in one go, ahead of everything else that waits.
const BATCH: usize = 64;
/// How often [`Handle::stats`] sees new figures.
const STATS_EVERY: Duration = Duration::from_secs(1);

pub(crate) enum Message {
    Command(Command),
    Attach(Token, oneshot::Sender<Result<Attached, AttachError>>),
    Came(Link, Incoming, OwnedSemaphorePermit),
    Unsent(Link),
    Closed(Link),
    Read(Read),
    Stop,
}

/// Why a link was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// No order expects a link with this token (any more).
    #[error("no link with this token is expected")]
    Unknown,
    /// The relay has as many links as it may, or this one was opened too often within a few seconds.
    #[error("the relay has as many links as it may, or this one was opened too often")]
    Full,
    /// The relay has too much to do to take anybody who was not here before.
    #[error("the relay has too much to do to take anybody new")]
    Overloaded,
    /// The relay has stopped.
    #[error("the relay has stopped")]
    Stopped,
}

/// The relay has stopped, and all of its links with it. Of a single link's end [`Ended`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay has stopped")]
pub struct Gone;

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// One link's three ends for its socket. The link is closed when `outgoing` is dropped.
#[derive(Debug)]
pub struct Attached {
    /// What to send.
    pub outgoing: Outbound,
    /// Where to put what came.
    pub incoming: Inbound,
    /// Says when the relay has closed the link, also to a socket that is busy sending.
    pub ended: Ended,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    /// Bytes in the queue, or taken and not yet sent.
    queued: AtomicUsize,
    /// Bytes that the socket took and has not sent.
    held: AtomicUsize,
    /// The task has been told that the number changed and has not looked yet.
    told: AtomicBool,
    messages: mpsc::WeakUnboundedSender<Message>,
}

impl Shared {
    fn unsent(&self) -> usize {
        self.queued.load(Ordering::Acquire) + self.held.load(Ordering::Acquire)
    }

    fn send(&self, message: Message) -> Result<(), Gone> {
        let messages = self.messages.upgrade().ok_or(Gone)?;
        messages.send(message).map_err(|_| Gone)
    }

    fn changed(&self) {
        if !self.told.swap(true, Ordering::AcqRel) {
            let _ = self.send(Message::Unsent(self.link));
        }
    }
}

/// The outgoing queue of one link.
#[derive(Debug)]
pub struct Outbound {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    ended: watch::Receiver<Option<Close>>,
    taken: usize,
    closed: bool,
}

impl Outbound {
    /// The next message. What was taken before counts as sent from now on, so call it only when the socket has taken that
    /// wholly. The last one is [`Outgoing::Close`]; it comes at once, whatever stands before it. Then `None`. Losing the
    /// future loses no message.
    pub async fn recv(&mut self) -> Option<Outgoing> {
        if self.taken > 0 {
            self.shared.queued.fetch_sub(self.taken, Ordering::AcqRel);
            self.taken = 0;
            self.shared.changed();
        }
        if self.closed {
            return None;
        }
        let close = *self.ended.borrow();
        let next = match close {
            Some(close) => Some(Outgoing::Close(close)),
            None => self.queue.recv().await,
        };
        // Whatever was queued when the link ended is void.
        let close = *self.ended.borrow();
        let next = match (close, next) {
            (Some(close), _) => Outgoing::Close(close),
            (None, Some(next)) => next,
            (None, None) => Outgoing::Close(Close::Stopped),
        };
        self.closed = matches!(next, Outgoing::Close(_));
        self.taken = next.bytes();
        Some(next)
    }

    /// Says how many bytes of what was taken the socket still holds, where it can tell. The core hands out the next picture
    /// only when nothing is left, so that sound never stands behind two.
    pub fn holds(&self, bytes: usize) {
        if self.shared.held.swap(bytes, Ordering::AcqRel) != bytes {
            self.shared.changed();
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        let _ = self.shared.send(Message::Closed(self.shared.link));
    }
}

/// The way in for what came on one link.
#[derive(Debug, Clone)]
pub struct Inbound {
    shared: Arc<Shared>,
    budget: Arc<Semaphore>,
}

impl Inbound {
    /// Hands over a message. Waits while this link has too much on the way: a peer that sends faster than the relay reads
    /// is slowed down by its own socket. Give it one message at a time, in the order in which they came.
    pub async fn send(&self, message: Incoming) -> Result<(), Gone> {
        let bytes = match &message {
            Incoming::Frame(frame) => frame.len(),
            Incoming::Text(text) => text.len(),
        };
        let cost = (bytes + MESSAGE_BYTES).min(INBOUND_BYTES) as u32;
        let permit = self.budget.clone().acquire_many_owned(cost).await;
        self.shared.send(Message::Came(
            self.shared.link,
            message,
            permit.map_err(|_| Gone)?,
        ))
    }
}

/// Says when a link has ended.
#[derive(Debug, Clone)]
pub struct Ended(watch::Receiver<Option<Close>>);

impl Ended {
    /// Waits until the relay has closed the link, and says why.
    pub async fn wait(&mut self) -> Close {
        match self.0.wait_for(Option::is_some).await {
            Ok(close) => close.unwrap_or(Close::Stopped),
            Err(_) => Close::Stopped,
        }
    }
}

struct Socket {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Outgoing>,
    ended: watch::Sender<Option<Close>>,
}

pub(crate) struct Driver {
    shard: usize,
    bounds: Arc<Bounds>,
    egress: Egress,
    relay: Relay,
    port: Option<Port>,
    started: Instant,
    /// Looked up by key only.
    links: HashMap<Link, Socket>,
    messages: mpsc::WeakUnboundedSender<Message>,
    events: mpsc::UnboundedSender<Event>,
    publish: watch::Sender<Stats>,
    /// Since when the task works on what it woke up for.
    woke: Instant,
    /// Time that it has worked since the relay was last told.
    busy: Duration,
    told_at: Instant,
}

/// What a shard has to do with the rest of the relay.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Which shard it is.
    pub shard: usize,
    /// When the clock of all shards began.
    pub started: Instant,
    pub settings: Settings,
    pub bounds: Arc<Bounds>,
    /// The port, and what the ports of all shards share.
    pub port: Option<(Arc<Udp>, Arc<Exchange>)>,
    pub messages: mpsc::WeakUnboundedSender<Message>,
    pub events: mpsc::UnboundedSender<Event>,
    pub publish: watch::Sender<Stats>,
}

impl Driver {
    /// Takes its seat, on the current tokio runtime.
    ///
    /// # Panics
    /// When the system has no descriptors left for the port's sockets.
    pub(crate) fn new(seat: Seat) -> Self {
        let (shard, bounds) = (seat.shard, seat.bounds);
        let port = seat.port.map(|(udp, exchange)| {
            Port::new(&udp, exchange, Arc::clone(&bounds), shard)
                .expect("a bound socket can be opened while there are descriptors")
        });
        Self {
            shard,
            egress: Egress::new(Arc::clone(&bounds), shard),
            bounds,
            relay: Relay::new(seat.settings),
            port,
            started: seat.started,
            woke: Instant::now(),
            busy: Duration::ZERO,
            told_at: Instant::now(),
            links: HashMap::new(),
            messages: seat.messages,
            events: seat.events,
            publish: seat.publish,
        }
    }

    /// Drives the relay until nobody gives it orders any more.
    pub(crate) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut stats_at = Instant::now() + STATS_EVERY;
        loop {
            let due = self
                .relay
                .poll_timeout()
                .map(|deadline| self.started + Duration::from_micros(deadline.at));
            let port = self
                .port
                .as_ref()
                .and_then(Port::next)
                .map(Instant::from_std);
            let wake = due.into_iter().chain(port).fold(stats_at, Instant::min);
            let datagrams = async {
                match &self.port {
                    Some(port) => port.readable().await,
                    None => std::future::pending().await,
                }
            };
            let writable = async {
                match &self.port {
                    Some(port) => port.writable().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    None | Some(Message::Stop) => return,
                    Some(message) => {
                        self.woke = Instant::now();
                        self.guarded(|driver| driver.handle(message));
                    }
                },
                () = datagrams => {
                    self.woke = Instant::now();
                    self.take();
                }
                () = writable => {
                    self.woke = Instant::now();
                    self.guarded(|driver| {
                        if let Some(port) = &mut driver.port {
                            port.resume();
                        }
                    });
                }
                () = sleep_until(wake) => self.woke = Instant::now(),
            }
            let now = self.now();
            self.guarded(|driver| {
                let due = driver.relay.poll_timeout();
                if due.is_some_and(|deadline| deadline.at <= now) {
                    driver.relay.handle_timeout(now);
                }
                let now = driver.both();
                if let Some(port) = &mut driver.port {
                    port.tick(&mut driver.relay, now);
                }
            });
            self.flush();
            self.bounds.settle(self.shard, &self.relay);
            self.egress.note(&mut self.relay, now);
            let done = Instant::now();
            self.busy += done - self.woke;
            if done >= stats_at {
                stats_at = done + STATS_EVERY;
                self.tell_load(done);
                self.flush();
                self.tell_stats(now);
            }
        }
    }

    fn tell_stats(&mut self, now: Micros) {
        let mut stats = self.relay.stats(now);
        if let Some(port) = &self.port {
            let counters = &mut stats.counters;
            counters.datagrams_unsent = port.unsent();
            (counters.datagrams_handed, counters.datagrams_untaken) = port.handed();
            let sums = port.sums();
            counters.packets_retransmitted = sums.retransmitted;
            counters.frames_unsent = sums.dropped;
        }
        self.publish.send_replace(stats);
    }

    /// Runs a step. See the module for what a panic costs.
    fn guarded(&mut self, step: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| step(self))).is_err() {
            let now = self.now();
            self.relay.abandon(now);
        }
    }

    /// Tells the relay which share of its time the task has worked, or of the egress all shards have used. Being kept from working
    /// counts: what comes waits as long.
    fn tell_load(&mut self, done: Instant) {
        let all = (done - self.told_at).max(Duration::from_micros(1));
        let busy = self.busy.as_secs_f64() / all.as_secs_f64();
        (self.told_at, self.busy) = (done, Duration::ZERO);
        let now = self.now();
        let load = busy.max(self.egress.load(now));
        self.guarded(|driver| driver.relay.handle_load(load, now));
    }

    fn now(&self) -> Micros {
        self.started.elapsed().as_micros() as Micros
    }

    fn both(&self) -> Now {
        let now = Instant::now();
        Now {
            instant: now.into_std(),
            micros: (now - self.started).as_micros() as Micros,
        }
    }

    /// Takes datagrams that have come, some of them: others wait, too.
    fn take(&mut self) {
        for _ in 0..BATCH {
            let mut took = false;
            self.guarded(|driver| took = driver.take_one());
            if !took {
                return;
            }
        }
    }

    /// False: there is none.
    fn take_one(&mut self) -> bool {
        let now = self.both();
        let Some(port) = &mut self.port else {
            return false;
        };
        let Some(datagram) = port.receive() else {
            return false;
        };
        port.datagram(&datagram, now);
        // At once, each: a link's own messages stay in order, and no queue of its grows.
        port.poll(&mut self.relay, now);
        true
    }

    /// True when the core may have something to say.
    fn poll_port(&mut self) -> bool {
        let now = self.both();
        let Some(port) = &mut self.port else {
            return false;
        };
        port.poll(&mut self.relay, now)
    }

    fn command(&mut self, command: Command) {
        let now = self.both();
        if let Command::Offer { room, peer, sdp } = command {
            let port = self.port.as_mut();
            if port.is_some_and(|port| port.offer((room, peer), sdp, &self.relay)) {
                self.read_offers();
            } else {
                self.answer((room, peer), String::new());
            }
            return;
        }
        self.relay.handle_command(command.clone(), now.micros);
        if let Some(port) = &mut self.port {
            port.ordered(&command, &mut self.relay, now);
        }
    }

    /// Has offers read that wait for it.
    fn read_offers(&mut self) {
        let now = self.both();
        let Some(port) = &mut self.port else {
            return;
        };
        while let Some(reading) = port.reading(&self.relay, now) {
            let messages = self.messages.clone();
            tokio::task::spawn_blocking(move || {
                let read = reading.read();
                if let Some(messages) = messages.upgrade() {
                    let _ = messages.send(Message::Read(read));
                }
            });
        }
    }

    fn answer(&self, (room, peer): (Room, Node), sdp: String) {
        let _ = self.events.send(Event::Answer { room, peer, sdp });
    }

    fn handle(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Command(command) => self.command(command),
            Message::Attach(token, answer) => {
                let attached = self.attach(token, now);
                // Nobody waits any more: what was made is dropped, and that closes the link.
                let _ = answer.send(attached);
            }
            Message::Came(link, message, permit) => {
                self.relay.handle_input(link, Input::Came(message), now);
                drop(permit);
            }
            Message::Unsent(link) => {
                if let Some(Socket { shared, .. }) = self.links.get(&link) {
                    // A swap, not a store: `changed` may have just found `true` and sent no message. Reading what it wrote
                    // is what makes the number that it wrote before visible here; after a store the load might come first,
                    // and the last change would never be seen.
                    shared.told.swap(false, Ordering::AcqRel);
                    let unsent = shared.unsent();
                    self.relay.handle_input(link, Input::Unsent(unsent), now);
                }
            }
            Message::Closed(link) => {
                self.links.remove(&link);
                self.relay.handle_input(link, Input::Closed, now);
            }
            Message::Read(read) => {
                let now = self.both();
                if let Some(port) = &mut self.port {
                    let (peer, answer) = port.read(read, &mut self.relay, now);
                    self.answer(peer, answer);
                }
                self.read_offers();
            }
            // The task has ended then.
            Message::Stop => {}
        }
    }

    fn attach(&mut self, token: Token, now: Micros) -> Result<Attached, AttachError> {
        self.bounds.make_room(self.shard, &mut self.relay);
        let link = self
            .relay
            .handle_attach(token, now)
            .map_err(|refused| match refused {
                Refused::Unknown => AttachError::Unknown,
                Refused::Full | Refused::TooOften => AttachError::Full,
                Refused::Overloaded => AttachError::Overloaded,
            })?;
        let now = self.both();
        if let Some(port) = &mut self.port
            && let Some(peer) = self.relay.holder(token)
        {
            port.attached(peer, &mut self.relay, now);
        }
        let shared = Arc::new(Shared {
            link,
            queued: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            messages: self.messages.clone(),
        });
        let (queue, outgoing) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(None);
        self.links.insert(
            link,
            Socket {
                shared: Arc::clone(&shared),
                queue,
                ended: end,
            },
        );
        Ok(Attached {
            outgoing: Outbound {
                shared: Arc::clone(&shared),
                queue: outgoing,
                ended: ended.clone(),
                taken: 0,
                closed: false,
            },
            incoming: Inbound {
                shared,
                budget: Arc::new(Semaphore::new(INBOUND_BYTES)),
            },
            ended: Ended(ended),
        })
    }

    /// Carries out what the core wants done, and what that makes of the port's links.
    fn flush(&mut self) {
        loop {
            self.guarded(Self::flush_core);
            let mut told = false;
            self.guarded(|driver| told = driver.poll_port());
            if !told {
                return;
            }
        }
    }

    fn flush_core(&mut self) {
        // One moment for all: a frame to many children is many messages, and their datagrams leave later anyway.
        let now = self.both();
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Event(event) => {
                    let _ = self.events.send(event);
                }
                Output::Send(link, message) => self.send(link, message, now),
            }
        }
    }

    fn send(&mut self, link: Link, message: Outgoing, now: Now) {
        let message = match &mut self.port {
            Some(port) => port.send(link, message, &mut self.relay, now),
            None => Some(message),
        };
        match message {
            None => {}
            Some(Outgoing::Close(close)) => {
                if let Some(socket) = self.links.remove(&link) {
                    socket.ended.send_replace(Some(close));
                }
            }
            Some(message) => {
                if let Some(Socket { shared, queue, .. }) = self.links.get(&link) {
                    shared.queued.fetch_add(message.bytes(), Ordering::AcqRel);
                    let _ = queue.send(message);
                }
            }
        }
    }
}

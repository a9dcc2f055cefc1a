//! The relay inside this server: its life, its orders, what it says to rooms, and the
//! WebSockets and QUIC connections that lead to it.
//!
//! The relay itself is `grove-relay`; it knows rooms as numbers and decides everything about frames. Here it is started,
//! started again should it ever break or be wanted otherwise, given the orders of rooms, and its events are taken to them.
//! Rooms learn of a new start as an input like any other. One task owns its life ([`supervise`]): two starts never meet.

pub mod close;
pub mod quic;
pub mod udp;
pub mod ws;

use crate::config;
use crate::room::registry::Rooms;
use crate::room::{Input, QuicPort, RelaySettings};
use grove_relay::{AttachError, Attached, Command, Event, Handle, Settings, Stats, Token, Udp};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Between the end of a relay that broke and its next start: a fault at every start must not take a processor.
const PAUSE: Duration = Duration::from_millis(250);
/// A relay that ends lets go of its sockets within this time; then the next one tries to bind whether it has or not.
const LET_GO: Duration = Duration::from_secs(2);

/// What a relay is started with, again and again until it is changed.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its own bounds.
    pub settings: Settings,
    /// On how many threads it runs.
    pub threads: usize,
    /// Where links by RTP come in; kept from start to start.
    pub udp: Option<Arc<Udp>>,
    /// What rooms are told of it.
    pub rooms: RelaySettings,
}

impl Setup {
    /// As configured, with these sockets.
    pub fn new(config: &config::Relay, udp: Option<Udp>, quic: Option<QuicPort>) -> Self {
        Self {
            settings: Settings {
                egress_bps: config.egress_bps,
                links: config.max_links,
                ..Settings::default()
            },
            threads: config.threads,
            rooms: RelaySettings {
                egress: config.egress_bps,
                slots: config.slots,
                rtp: udp.is_some(),
                quic,
            },
            udp: udp.map(Arc::new),
        }
    }
}

/// The relay of this server, or the place for one.
#[derive(Debug)]
pub struct Relay {
    running: RwLock<Running>,
    changes: mpsc::UnboundedSender<Change>,
}

#[derive(Debug)]
enum Running {
    /// None is wanted.
    Off,
    /// Between the end of one and the start of the next.
    Between,
    On(Handle),
}

/// What [`supervise`] is asked for; answered once it is done.
#[derive(Debug)]
enum Change {
    /// No relay, for a moment: rooms are not told.
    End(oneshot::Sender<()>),
    /// This one instead of what there is.
    Run(Option<Setup>, oneshot::Sender<()>),
}

type Events = mpsc::UnboundedReceiver<Event>;

/// What [`supervise`] goes on with.
#[derive(Debug)]
pub struct Life {
    setup: Option<Setup>,
    events: Option<Events>,
    changes: mpsc::UnboundedReceiver<Change>,
}

impl Relay {
    /// Starts it, where one is wanted. Its life is for [`supervise`].
    pub fn start(setup: Option<Setup>) -> (Arc<Self>, Life) {
        let (changes, asked) = mpsc::unbounded_channel();
        let started = setup.as_ref().map(spawn);
        let (running, events) = match started {
            Some((handle, events)) => (Running::On(handle), Some(events)),
            None => (Running::Off, None),
        };
        let relay = Self {
            running: RwLock::new(running),
            changes,
        };
        let life = Life {
            setup,
            events,
            changes: asked,
        };
        (Arc::new(relay), life)
    }

    /// Looks at the one that runs. It is not cloned for that: whoever drops the last handle waits for threads.
    fn with<T>(&self, look: impl FnOnce(&Handle) -> T) -> Option<T> {
        match &*self.running.read().unwrap_or_else(PoisonError::into_inner) {
            Running::On(handle) => Some(look(handle)),
            Running::Off | Running::Between => None,
        }
    }

    /// Replaces the one that runs. It ends when what is returned is dropped, which takes its time: nobody who gives orders
    /// meanwhile has to wait for that.
    fn set(&self, running: Running) -> Running {
        let now = self.running.write();
        std::mem::replace(&mut *now.unwrap_or_else(PoisonError::into_inner), running)
    }

    /// Ends the one that runs; its threads are waited for beside the server's own.
    async fn stop(&self) {
        let former = self.set(Running::Between);
        // Fails when the server is going, and then it is dropped all the same.
        let _ = tokio::task::spawn_blocking(move || drop(former)).await;
    }

    /// Is there one, or will there be one at once?
    pub fn is_on(&self) -> bool {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        !matches!(*running, Running::Off)
    }

    /// Which start of the relay this is; empty while there is none.
    pub fn instance(&self) -> String {
        self.with(|handle| handle.instance().to_owned())
            .unwrap_or_default()
    }

    /// Gives an order of a room.
    pub fn command(&self, command: Command) {
        // Whatever is ordered while there is none is ordered again after the next start.
        self.with(|handle| handle.command(command));
    }

    /// What it counted.
    pub fn stats(&self) -> Stats {
        self.with(Handle::stats).unwrap_or_default()
    }

    /// The same, of each of its threads.
    pub fn shards(&self) -> Vec<Stats> {
        self.with(|handle| handle.shards().collect())
            .unwrap_or_default()
    }

    /// Opens a link, with the instance that it leads to.
    pub async fn attach(&self, token: Token) -> Result<(Attached, String), AttachError> {
        let handle = self.with(Handle::clone).ok_or(AttachError::Stopped)?;
        let attached = handle.attach(token).await?;
        Ok((attached, handle.instance().to_owned()))
    }

    /// Ends the one that runs, so that its sockets are free for the next: [`Relay::run`] has to follow. Rooms are not told.
    pub async fn end(&self) {
        self.ask(Change::End).await;
    }

    /// Runs this one instead of what there is; none: it is turned off. Rooms know when this returns.
    pub async fn run(&self, setup: Option<Setup>) {
        self.ask(|done| Change::Run(setup, done)).await;
    }

    async fn ask(&self, change: impl FnOnce(oneshot::Sender<()>) -> Change) {
        let (done, is_done) = oneshot::channel();
        // Without a supervisor the server is going, and nobody needs a relay.
        if self.changes.send(change(done)).is_ok() {
            let _ = is_done.await;
        }
    }
}

fn spawn(setup: &Setup) -> (Handle, Events) {
    grove_relay::spawn_threads(setup.settings, setup.udp.clone(), setup.threads)
}

/// Takes the relay's events to their rooms, starts it anew when it breaks, and changes it when asked to, until the server is
/// gone.
pub async fn supervise(relay: Weak<Relay>, mut life: Life, rooms: Weak<Rooms>) {
    loop {
        let said = async {
            match &mut life.events {
                Some(events) => events.recv().await,
                None => std::future::pending().await,
            }
        };
        let (said, asked) = tokio::select! {
            biased;
            change = life.changes.recv() => (None, change),
            said = said => (said, None),
        };
        let Some((relay, rooms)) = relay.upgrade().zip(rooms.upgrade()) else {
            return;
        };
        match (said, asked) {
            (Some(event), _) => rooms.tell(room_of(&event), Input::Relay(event)),
            (None, Some(Change::End(done))) => {
                life.end(&relay, &rooms).await;
                let _ = done.send(());
            }
            (None, Some(Change::Run(setup, done))) => {
                life.end(&relay, &rooms).await;
                life.setup = setup;
                life.start(&relay, &rooms);
                let _ = done.send(());
            }
            (None, None) => {
                tracing::error!("the relay broke; starting it anew");
                relay.stop().await;
                tokio::time::sleep(PAUSE).await;
                life.start(&relay, &rooms);
            }
        }
    }
}

impl Life {
    /// Starts what is wanted, and tells rooms.
    fn start(&mut self, relay: &Relay, rooms: &Rooms) {
        let Some(setup) = &self.setup else {
            drop(relay.set(Running::Off));
            return rooms.relay_ended();
        };
        let (handle, events) = spawn(setup);
        let instance = handle.instance().to_owned();
        drop(relay.set(Running::On(handle)));
        self.events = Some(events);
        rooms.relay_started(&instance, setup.rooms);
    }

    /// Ends the one that runs, and waits until its sockets are free.
    async fn end(&mut self, relay: &Relay, rooms: &Rooms) {
        relay.stop().await;
        if let Some(mut events) = self.events.take() {
            while let Some(event) = events.recv().await {
                rooms.tell(room_of(&event), Input::Relay(event));
            }
        }
        let udp = self.setup.take().and_then(|setup| setup.udp);
        let Some(udp) = udp.map(|udp| Arc::downgrade(&udp)) else {
            return;
        };
        let free = async {
            while udp.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(LET_GO, free).await.is_err() {
            tracing::warn!("the relay that ended has not let go of its sockets");
        }
    }
}

fn room_of(event: &Event) -> grove_relay::Room {
    match event {
        Event::Up { room, .. }
        | Event::Answer { room, .. }
        | Event::Lost { room, .. }
        | Event::Refused { room, .. }
        | Event::Ready { room, .. }
        | Event::Left { room }
        | Event::Report { room, .. } => *room,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::metrics::Metrics;
    use crate::room::Settings as RoomSettings;
    use crate::signal::message::Policy;
    use std::net::{IpAddr, Ipv4Addr};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn setup(udp: Option<Udp>) -> Setup {
        Setup::new(&Config::defaults().relay, udp, None)
    }

    /// A relay with one room in it, and who looks after it.
    fn start(setup: Setup) -> (Arc<Relay>, Arc<Rooms>, tokio::task::JoinHandle<()>) {
        let settings = RoomSettings {
            resume: 0,
            empty: 60_000,
            people: 0,
            uplink: 1_000_000,
            slots: 8,
            policy: Policy::Relay,
            ice_servers: Vec::new(),
            relay: Some(setup.rooms),
        };
        let (relay, life) = Relay::start(Some(setup));
        let metrics = Arc::new(Metrics::default());
        let rooms = Rooms::new(settings, 10, metrics, Some(relay.clone()));
        let supervisor = supervise(Arc::downgrade(&relay), life, Arc::downgrade(&rooms));
        rooms.create(None, false).expect("the policy can be had");
        (relay, rooms, tokio::spawn(supervisor))
    }

    async fn one_room(relay: &Relay) {
        while relay.stats().size.rooms != 1 {
            tokio::time::sleep(PAUSE / 10).await;
        }
    }

    #[tokio::test]
    async fn a_relay_that_breaks_starts_anew_and_rooms_enter_it_again() {
        let (relay, rooms, supervisor) = start(setup(None));
        let first = relay.instance();
        // The threads of a relay end with its last handle, as they would by a fault.
        drop(relay.set(Running::Between));
        while relay.instance().is_empty() {
            tokio::time::sleep(PAUSE / 10).await;
        }
        assert_ne!(relay.instance(), first);
        one_room(&relay).await;
        drop((relay, rooms));
        supervisor.await.expect("it ends with the server");
    }

    #[tokio::test]
    async fn a_relay_that_ends_lets_go_of_its_port_and_the_next_takes_it() {
        let bind = |port| Udp::bind(&[LOCAL], port, 2);
        let udp = bind(0).expect("a port is free");
        let port = udp.candidates()[0].port();
        let (relay, _rooms, _supervisor) = start(setup(Some(udp)));
        let first = relay.instance();
        assert!(bind(port).is_err(), "it is in use");
        relay.end().await;
        assert!(relay.is_on() && relay.instance().is_empty());
        let udp = bind(port).expect("it is free");
        relay.run(Some(setup(Some(udp)))).await;
        assert!(![first, String::new()].contains(&relay.instance()));
        one_room(&relay).await;
    }

    #[tokio::test]
    async fn nobody_who_gives_orders_waits_for_the_threads_of_a_relay_that_ends() {
        let one = Setup {
            threads: 1,
            ..setup(None)
        };
        let (relay, life) = Relay::start(Some(one));
        // It ends when it has obeyed.
        let node = 1;
        for room in 0..50_000 {
            relay.command(Command::Enter { room, node });
        }
        std::thread::scope(|scope| {
            scope.spawn(|| drop(relay.set(Running::Between)));
            while !relay.instance().is_empty() {
                std::thread::yield_now();
            }
            let events = life.events.as_ref().expect("there was one");
            assert!(!events.is_closed(), "it still runs");
        });
    }

    #[tokio::test]
    async fn a_relay_that_is_turned_off_stays_off_until_it_is_turned_on() {
        let (relay, rooms, _supervisor) = start(setup(None));
        relay.run(None).await;
        assert!(!relay.is_on());
        tokio::time::sleep(2 * PAUSE).await;
        assert!(!relay.is_on() && relay.instance().is_empty());
        assert!(rooms.create(Some(Policy::Relay), false).is_err());
        relay.run(Some(setup(None))).await;
        assert!(relay.is_on());
        one_room(&relay).await;
        assert!(rooms.create(Some(Policy::Relay), false).is_ok());
    }
}

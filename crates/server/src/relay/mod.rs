//! The relay inside this server: its life, its orders, what it says to rooms, and the
//! WebSockets and QUIC connections that lead to it.
//!
//! The relay itself is `grove-relay`; it knows rooms as numbers and decides everything about frames. Here it is started,
//! started again should it ever break, given the orders of rooms, and its events are taken to them. Rooms learn of a new
//! start as an input like any other.

pub mod close;
pub mod quic;
pub mod udp;
pub mod ws;

use crate::room::Input;
use crate::room::registry::Rooms;
use grove_relay::{AttachError, Attached, Command, Event, Handle, Settings, Stats, Token, Udp};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Between the end of a relay that broke and its next start: a fault at every start must not take a processor.
const PAUSE: Duration = Duration::from_millis(250);

/// The relay of this server.
#[derive(Debug)]
pub struct Relay {
    settings: Settings,
    /// On how many threads it runs.
    threads: usize,
    /// Where links by RTP come in; kept from start to start.
    udp: Option<Arc<Udp>>,
    /// None between the end of one and the start of the next.
    running: RwLock<Option<Handle>>,
}

/// What a relay says, until it ends.
pub type Events = mpsc::UnboundedReceiver<Event>;

impl Relay {
    /// Starts it. Its events are for [`supervise`].
    pub fn start(settings: Settings, threads: usize, udp: Option<Udp>) -> (Arc<Self>, Events) {
        let udp = udp.map(Arc::new);
        let (handle, events) = grove_relay::spawn_threads(settings, udp.clone(), threads);
        let running = RwLock::new(Some(handle));
        let relay = Self {
            settings,
            threads,
            udp,
            running,
        };
        (Arc::new(relay), events)
    }

    fn handle(&self) -> Option<Handle> {
        self.running
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the one that runs, or ends it.
    fn set(&self, handle: Option<Handle>) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// Which start of the relay this is; empty while there is none.
    pub fn instance(&self) -> String {
        self.handle()
            .map_or_else(String::new, |handle| handle.instance().to_owned())
    }

    /// Gives an order of a room.
    pub fn command(&self, command: Command) {
        // Whatever is ordered while there is none is ordered again after the next start.
        if let Some(handle) = self.handle() {
            handle.command(command);
        }
    }

    /// What it counted.
    pub fn stats(&self) -> Stats {
        self.handle()
            .map_or_else(Stats::default, |handle| handle.stats())
    }

    /// The same, of each of its threads.
    pub fn shards(&self) -> Vec<Stats> {
        self.handle()
            .map_or_else(Vec::new, |handle| handle.shards().collect())
    }

    /// Opens a link, with the instance that it leads to.
    pub async fn attach(&self, token: Token) -> Result<(Attached, String), AttachError> {
        let handle = self.handle().ok_or(AttachError::Stopped)?;
        let attached = handle.attach(token).await?;
        Ok((attached, handle.instance().to_owned()))
    }
}

/// Takes the relay's events to their rooms, and starts it anew when it ends, until the server is gone.
pub async fn supervise(relay: Weak<Relay>, mut events: Events, rooms: Weak<Rooms>) {
    loop {
        while let Some(event) = events.recv().await {
            let Some(rooms) = rooms.upgrade() else { return };
            rooms.tell(room_of(&event), Input::Relay(event));
        }
        // Ends with the server, or by a fault: its handle is still ours.
        if relay.upgrade().is_none() {
            return;
        }
        tracing::error!("the relay broke; starting it anew");
        tokio::time::sleep(PAUSE).await;
        let Some((relay, rooms)) = relay.upgrade().zip(rooms.upgrade()) else {
            return;
        };
        let (handle, fresh) =
            grove_relay::spawn_threads(relay.settings, relay.udp.clone(), relay.threads);
        let instance = handle.instance().to_owned();
        relay.set(Some(handle));
        events = fresh;
        rooms.tell_all(|| Input::RelayStarted {
            instance: instance.clone(),
        });
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
    use crate::metrics::Metrics;
    use crate::room::{RelaySettings, Settings as RoomSettings};
    use crate::signal::message::Policy;

    #[tokio::test]
    async fn a_relay_that_breaks_starts_anew_and_rooms_enter_it_again() {
        let (relay, events) = Relay::start(Settings::default(), 2, None);
        let settings = RoomSettings {
            resume: 0,
            empty: 60_000,
            people: 0,
            uplink: 1_000_000,
            slots: 8,
            ice_servers: Vec::new(),
            relay: Some(RelaySettings {
                egress: 1_000_000,
                slots: 8,
                rtp: false,
                quic: None,
            }),
        };
        let metrics = Arc::new(Metrics::default());
        let rooms = Rooms::new(settings, 10, metrics, Some(relay.clone()));
        let supervisor = supervise(Arc::downgrade(&relay), events, Arc::downgrade(&rooms));
        let supervisor = tokio::spawn(supervisor);
        rooms
            .create(Policy::Relay, false)
            .expect("the policy can be had");
        let first = relay.instance();
        // The threads of a relay end with its last handle, as it would by a fault.
        relay.set(None);
        while relay.instance().is_empty() {
            tokio::time::sleep(PAUSE / 10).await;
        }
        assert_ne!(relay.instance(), first);
        while relay.stats().size.rooms != 1 {
            tokio::time::sleep(PAUSE / 10).await;
        }
        drop(relay);
        drop(rooms);
        supervisor.abort();
    }
}

//! All rooms of the server, by id. Ids are 96 random bits: whoever knows one was told.

use super::state::Room;
use super::task::{self, Context, Handle};
use super::{ConnectionId, Input, Opening, RelaySettings, Settings};
use crate::metrics::Metrics;
use crate::random;
use crate::relay::Relay;
use crate::signal::message::Policy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Why there is no new room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The cap of the configuration.
    #[error("this server has as many rooms as it may; try later")]
    TooMany,
    /// Not a policy.
    #[error("{0}")]
    BadPolicy(&'static str),
}

/// The rooms.
pub struct Rooms {
    metrics: Arc<Metrics>,
    relay: Option<Arc<Relay>>,
    rooms: Mutex<All>,
    connections: AtomicU64,
    numbers: AtomicU64,
}

/// Rooms by id, for those who come, and by number, for the relay; and what the next one follows.
struct All {
    settings: Settings,
    most: usize,
    handles: HashMap<String, Handle>,
    numbers: HashMap<grove_relay::Room, mpsc::UnboundedSender<Input>>,
}

impl Rooms {
    /// None yet; at most `most`.
    pub fn new(
        settings: Settings,
        most: usize,
        metrics: Arc<Metrics>,
        relay: Option<Arc<Relay>>,
    ) -> Arc<Self> {
        let rooms = All {
            settings,
            most,
            handles: HashMap::new(),
            numbers: HashMap::new(),
        };
        Arc::new(Self {
            metrics,
            relay,
            rooms: Mutex::new(rooms),
            connections: AtomicU64::new(1),
            numbers: AtomicU64::new(1),
        })
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new connection.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a room and returns its id. Without a policy it gets the one for rooms that do not say, as far as it can have it.
    pub fn create(
        self: &Arc<Self>,
        policy: Option<Policy>,
        never_relay: bool,
    ) -> Result<String, CreateError> {
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        // Whoever starts the relay anew tells all rooms after this one is among them, or this one asks after the start. It may
        // know the new instance and the old settings: then it is told both, and compares.
        let mut rooms = self.all();
        if rooms.handles.len() >= rooms.most {
            return Err(CreateError::TooMany);
        }
        let has_relay = rooms.settings.relay.is_some() && !never_relay;
        let policy = policy.unwrap_or(match rooms.settings.policy {
            Policy::Relay if !has_relay => Policy::Auto,
            preset => preset,
        });
        let opening = Opening {
            policy,
            never_relay,
            number,
            instance: self
                .relay
                .as_ref()
                .map_or_else(String::new, |relay| relay.instance()),
            key: random::bytes(),
            unix_ms,
        };
        let room = Room::new(rooms.settings.clone(), opening).map_err(CreateError::BadPolicy)?;
        let id = URL_SAFE_NO_PAD.encode(random::bytes::<12>());
        let label = random::label(&id);
        tracing::info!(room = label, "room created");
        let all = Arc::downgrade(self);
        let ended = Box::new(move |id: &str| {
            if let Some(all) = all.upgrade() {
                let mut all = all.all();
                all.handles.remove(id);
                all.numbers.remove(&number);
            }
        });
        let (from_relay, inputs) = mpsc::unbounded_channel();
        let context = Context {
            id: id.clone(),
            label,
            metrics: self.metrics.clone(),
            number,
            relay: self.relay.clone(),
            started: Instant::now(),
            ended,
        };
        self.metrics.rooms.inc();
        rooms.numbers.insert(number, from_relay);
        rooms
            .handles
            .insert(id.clone(), task::spawn(room, context, inputs));
        Ok(id)
    }

    /// The queue of a room.
    pub fn find(&self, id: &str) -> Option<Handle> {
        self.all().handles.get(id).cloned()
    }

    /// Takes what the relay says to its room. A room that has ended hears nothing.
    pub fn tell(&self, number: grove_relay::Room, input: Input) {
        if let Some(room) = self.all().numbers.get(&number) {
            let _ = room.send(input);
        }
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.all().most
    }

    /// What rooms follow that are made from now on, and how many there may be. Of the relay only itself is believed.
    pub fn change(&self, settings: Settings, most: usize) {
        let mut all = self.all();
        let relay = all.settings.relay;
        all.settings = Settings { relay, ..settings };
        all.most = most;
    }

    /// The relay started, or started anew.
    pub fn relay_started(&self, instance: &str, settings: RelaySettings) {
        self.change_relay(Some(settings), || Input::RelayStarted {
            instance: instance.to_owned(),
            settings,
        });
    }

    /// There is no relay any more.
    pub fn relay_ended(&self) {
        self.change_relay(None, || Input::RelayEnded);
    }

    /// Tells every room, and rooms to come.
    fn change_relay(&self, settings: Option<RelaySettings>, input: impl Fn() -> Input) {
        let mut all = self.all();
        all.settings.relay = settings;
        for room in all.numbers.values() {
            let _ = room.send(input());
        }
    }
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms")
            .field("most", &self.most())
            .finish_non_exhaustive()
    }
}

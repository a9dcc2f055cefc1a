//! All rooms of the server, by id. Ids are 96 random bits: whoever knows one was told.

use super::state::Room;
use super::task::{self, Context, Handle};
use super::{ConnectionId, Settings};
use crate::metrics::Metrics;
use crate::random;
use crate::signal::message::Policy;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
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
    settings: Settings,
    most: usize,
    metrics: Arc<Metrics>,
    rooms: Mutex<HashMap<String, Handle>>,
    connections: AtomicU64,
}

impl Rooms {
    /// None yet; at most `most`.
    pub fn new(settings: Settings, most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let (rooms, connections) = (Mutex::default(), AtomicU64::new(1));
        Arc::new(Self {
            settings,
            most,
            metrics,
            rooms,
            connections,
        })
    }

    /// A number for a new connection.
    pub fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a room and returns its id.
    pub fn create(self: &Arc<Self>, policy: Policy) -> Result<String, CreateError> {
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let room =
            Room::new(self.settings.clone(), policy, unix_ms).map_err(CreateError::BadPolicy)?;
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() >= self.most {
            return Err(CreateError::TooMany);
        }
        let id = URL_SAFE_NO_PAD.encode(random::bytes::<12>());
        let label = random::label(&id);
        tracing::info!(room = label, "room created");
        let all = Arc::downgrade(self);
        let ended = Box::new(move |id: &str| {
            if let Some(all) = all.upgrade() {
                all.rooms
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(id);
            }
        });
        let context = Context {
            id: id.clone(),
            label,
            metrics: self.metrics.clone(),
            started: Instant::now(),
            ended,
        };
        self.metrics.rooms.inc();
        rooms.insert(id.clone(), task::spawn(room, context));
        Ok(id)
    }

    /// The queue of a room.
    pub fn find(&self, id: &str) -> Option<Handle> {
        self.rooms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

//! What waits to be written to one WebSocket: bounded in messages and bytes. A reader that falls behind is closed, so
//! that nobody else waits and memory stays bounded.

use super::close::Close;
use super::message::ServerMessage;
use axum::extract::ws::Utf8Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, watch};

/// Messages that may wait: a few seconds of a busy room.
const MESSAGES: usize = 1024;
/// Bytes that may wait: several times the largest `joined`.
const BYTES: usize = 4 * 1024 * 1024;

/// The writing end, for rooms and for the connection itself.
#[derive(Debug, Clone)]
pub struct Outbox {
    messages: mpsc::Sender<Utf8Bytes>,
    waiting: Arc<AtomicUsize>,
    close: Arc<watch::Sender<Option<Close>>>,
}

/// The reading end, for the task that writes to the socket.
#[derive(Debug)]
pub struct Waiting {
    messages: mpsc::Receiver<Utf8Bytes>,
    waiting: Arc<AtomicUsize>,
    close: watch::Receiver<Option<Close>>,
}

/// An outbox and its reading end.
pub fn outbox() -> (Outbox, Waiting) {
    let (sender, messages) = mpsc::channel(MESSAGES);
    let (close, closed) = watch::channel(None);
    let waiting = Arc::new(AtomicUsize::new(0));
    let outbox = Outbox {
        messages: sender,
        waiting: waiting.clone(),
        close: Arc::new(close),
    };
    (
        outbox,
        Waiting {
            messages,
            waiting,
            close: closed,
        },
    )
}

/// The text of a message.
pub fn text(message: &ServerMessage) -> Utf8Bytes {
    serde_json::to_string(message)
        .expect("a message is JSON")
        .into()
}

impl Outbox {
    /// Adds a message, or closes the connection when too much waits.
    pub fn send(&self, text: Utf8Bytes) {
        let bytes = text.len();
        let full = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > BYTES;
        if full
            || matches!(
                self.messages.try_send(text),
                Err(mpsc::error::TrySendError::Full(_))
            )
        {
            self.close(Close::TooSlow);
        }
    }

    /// Closes, after what waits already. The first reason counts.
    pub fn close(&self, why: Close) {
        self.close.send_if_modified(|close| {
            let first = close.is_none();
            close.get_or_insert(why);
            first
        });
    }

    /// A look at whether and why it closes.
    pub fn closing(&self) -> watch::Receiver<Option<Close>> {
        self.close.subscribe()
    }
}

impl Waiting {
    /// The next message; `Err` when the connection is to be closed.
    pub async fn next(&mut self) -> Result<Utf8Bytes, Close> {
        let text = tokio::select! {
            biased;
            close = self.close.wait_for(Option::is_some) => {
                return Err(close.ok().and_then(|close| *close).unwrap_or(Close::Left));
            }
            text = self.messages.recv() => text,
        };
        text.map(|text| self.taken(text)).ok_or(Close::Left)
    }

    /// What is left, without waiting.
    pub fn rest(&mut self) -> Option<Utf8Bytes> {
        self.messages.try_recv().ok().map(|text| self.taken(text))
    }

    fn taken(&self, text: Utf8Bytes) -> Utf8Bytes {
        self.waiting.fetch_sub(text.len(), Ordering::Relaxed);
        text
    }
}

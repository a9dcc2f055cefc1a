//! One link's frames and texts on their way over one connection.
//!
//! A picture has a stream of its own, so that a lost packet delays no other picture; sound goes in datagrams, which nothing
//! delays. A picture that was not acknowledged in time is given up: the reader asks for it if it still needs it. The core
//! is told what lies here beyond the congestion window: that waits, and pictures that wait are better left out there.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use grove_frame::{Header, Kind};
use quinn::{ReadToEndError, VarInt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::wire::{self, MAX_TEXT, TextError, Texts};
use crate::driver::{Attached, Inbound, Outbound};
use crate::relay::{Close, Incoming, MAX_FRAME_BYTES, Outgoing};

/// A picture is given up so long after its stream was opened, beside two round trips: what the lane in the core gives it.
const PICTURE: Duration = Duration::from_millis(500);
/// And a key frame, which on a narrow link alone may take a second.
const KEY: Duration = Duration::from_millis(1500);
/// With less than this unacknowledged nothing waits, and the congestion window is not asked for.
const SURELY_SENT: usize = 8 * 1024;
/// Code of the reset of a picture that was given up.
const LATE: VarInt = VarInt::from_u32(1);

/// Why a link is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other side closed the connection, or it is lost.
    Gone,
    /// The relay has ended the link.
    Closed(Close),
    /// A frame or a text above the limit came.
    TooLarge,
    /// Something came that is no text where one must be.
    Malformed,
}

/// An open connection.
#[derive(Debug)]
pub struct Socket {
    connection: quinn::Connection,
    send: quinn::SendStream,
    texts: Texts,
}

impl Socket {
    pub(super) fn new(
        connection: quinn::Connection,
        send: quinn::SendStream,
        texts: Texts,
    ) -> Self {
        // Small, rare, and what repairs and life signs depend on.
        let _ = send.set_priority(1);
        Self {
            connection,
            send,
            texts,
        }
    }

    /// Carries the link until it is over. The connection is still open then, unless it is lost: [`Socket::close`] it.
    pub async fn run(&mut self, attached: Attached) -> End {
        let Attached {
            outgoing,
            incoming,
            mut ended,
        } = attached;
        let connection = &self.connection;
        let (texts, queue) = mpsc::unbounded_channel();
        tokio::select! {
            biased;
            close = ended.wait() => End::Closed(close),
            end = write(connection, &mut self.send, outgoing, texts, queue) => end,
            end = pictures(connection, incoming.clone()) => end,
            end = sounds(connection, incoming.clone()) => end,
            end = words(&mut self.texts, incoming) => end,
        }
    }

    /// Says something before the link is carried, or in place of that. False: the connection is lost.
    pub async fn say(&mut self, text: &str) -> bool {
        self.send.write_all(&wire::pack(text)).await.is_ok()
    }

    /// Ends it, and tells why.
    pub fn close(self, code: u16, reason: &str) {
        self.connection.close(VarInt::from(code), reason.as_bytes());
    }
}

// --- in ---

/// Pictures, as they get whole. They wait for the core together with everything else that came on this link.
async fn pictures(connection: &quinn::Connection, incoming: Inbound) -> End {
    let mut reading = FuturesUnordered::new();
    loop {
        let came = tokio::select! {
            stream = connection.accept_uni() => {
                let Ok(mut stream) = stream else { return End::Gone };
                reading.push(async move { stream.read_to_end(MAX_FRAME_BYTES).await });
                continue;
            }
            Some(came) = reading.next() => came,
        };
        match came {
            Ok(frame) => {
                if incoming.send(Incoming::Frame(frame.into())).await.is_err() {
                    return End::Closed(Close::Stopped);
                }
            }
            Err(ReadToEndError::TooLong) => return End::TooLarge,
            // Given up by the sender, or the connection is lost, which `accept_uni` says.
            Err(ReadToEndError::Read(_)) => {}
        }
    }
}

async fn sounds(connection: &quinn::Connection, incoming: Inbound) -> End {
    loop {
        let Ok(frame) = connection.read_datagram().await else {
            return End::Gone;
        };
        if incoming.send(Incoming::Frame(frame)).await.is_err() {
            return End::Closed(Close::Stopped);
        }
    }
}

async fn words(texts: &mut Texts, incoming: Inbound) -> End {
    loop {
        let text = match texts.next(MAX_TEXT).await {
            Ok(Some(text)) => text,
            Ok(None) | Err(TextError::Gone) => return End::Gone,
            Err(TextError::TooLong) => return End::TooLarge,
            Err(TextError::Malformed) => return End::Malformed,
        };
        if incoming.send(Incoming::Text(text)).await.is_err() {
            return End::Closed(Close::Stopped);
        }
    }
}

// --- out ---

/// Hands out what the core wants sent. Never waits for a single message: each is on its way for itself.
async fn write(
    connection: &quinn::Connection,
    send: &mut quinn::SendStream,
    mut outgoing: Outbound,
    texts: mpsc::UnboundedSender<Vec<u8>>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
) -> End {
    let (written, mut done) = mpsc::unbounded_channel();
    // Texts leave in order, on their own: what a reader does not take of them stays here, and the core sees it stand.
    let speak = async move {
        while let Some(text) = queue.recv().await {
            if send.write_all(&text).await.is_err() {
                return;
            }
            let _ = written.send(text.len());
        }
    };
    let hand_out = async move {
        let mut flying = FuturesUnordered::new();
        let mut unsent = Unsent::default();
        loop {
            tokio::select! {
                biased;
                Some(bytes) = flying.next() => unsent.flying -= bytes,
                Some(bytes) = done.recv() => unsent.texts -= bytes,
                message = outgoing.recv() => match message {
                    Some(Outgoing::Frame(frame)) => {
                        if let Some(frame) = sound(connection, frame) {
                            unsent.flying += frame.len();
                            flying.push(picture(connection, frame));
                        }
                    }
                    Some(Outgoing::Text(text)) => {
                        let text = wire::pack(&text);
                        unsent.texts += text.len();
                        let _ = texts.send(text);
                    }
                    Some(Outgoing::Close(close)) => return End::Closed(close),
                    None => return End::Closed(Close::Stopped),
                },
            }
            outgoing.holds(unsent.waiting(connection));
        }
    };
    tokio::select! {
        () = speak => End::Gone,
        end = hand_out => end,
    }
}

/// What was taken from the core and has not arrived, as far as is known.
#[derive(Debug, Default)]
struct Unsent {
    flying: usize,
    texts: usize,
}

impl Unsent {
    /// What of it has not left: pictures beyond the congestion window, texts that the stream did not take.
    fn waiting(&self, connection: &quinn::Connection) -> usize {
        let window = if self.flying > SURELY_SENT {
            connection.stats().path.cwnd as usize
        } else {
            SURELY_SENT
        };
        self.flying.saturating_sub(window) + self.texts
    }
}

/// Sends a frame that is sound at once; gives back every other, and sound that is too long for a datagram here.
fn sound(connection: &quinn::Connection, frame: Bytes) -> Option<Bytes> {
    let is_sound = Header::decode(&frame).is_some_and(|h| matches!(h.kind, Kind::Audio { .. }));
    let fits = connection
        .max_datagram_size()
        .is_some_and(|most| frame.len() <= most);
    if !is_sound || !fits {
        return Some(frame);
    }
    // Fails only with the connection, which the readers notice.
    let _ = connection.send_datagram(frame);
    None
}

/// Sends a frame on a stream of its own; its size, once it has arrived or is given up. A reader who takes no stream keeps it
/// here for good: the core then ends the link.
async fn picture(connection: &quinn::Connection, frame: Bytes) -> usize {
    let bytes = frame.len();
    let patience = if grove_frame::is_key(&frame) {
        KEY
    } else {
        PICTURE
    };
    let Ok(mut stream) = connection.open_uni().await else {
        return bytes;
    };
    let arrival = async {
        stream.write_chunk(frame).await.ok()?;
        stream.finish().ok()?;
        stream.stopped().await.ok()
    };
    if timeout(patience + 2 * connection.rtt(), arrival)
        .await
        .is_err()
    {
        let _ = stream.reset(LATE);
    }
    bytes
}

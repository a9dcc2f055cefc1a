//! One WebSocket: the awaiting half of signalling. Reads frames within the caps, hands messages to the room, and
//! writes what the outbox holds. Nothing that one connection does makes another wait.

use super::close::Close;
use super::limit::{Limit, Verdict};
use super::message::{ClientMessage, ErrorCode, Policy, SUBPROTOCOL, ServerMessage};
use super::outbox::{Outbox, Waiting, outbox, text};
use super::parse::{self, ParseError};
use crate::random;
use crate::room::member::Token;
use crate::room::registry::CreateError;
use crate::room::task::{Command, Handle};
use crate::room::{ConnectionId, Input};
use crate::server::{Phase, Shared};
use crate::web::upgrade;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

/// Above this a frame is not even read to its end; between this and the cap the refusal can say why.
const MAX_READ: usize = 2 * parse::MAX_FRAME;
/// Rooms that one connection may make: a person needs one.
const MAX_CREATED: u32 = 10;
/// How long a last word may take to leave.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long one write may wait for a reader.
const WRITE: Duration = Duration::from_secs(10);

/// The handler of `/api/v1/signal`.
pub async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match upgrade::admit(&shared, &headers, socket, SUBPROTOCOL, Phase::Running) {
        Err(refusal) => refusal,
        Ok((socket, counted)) => socket
            .max_message_size(MAX_READ)
            .max_frame_size(MAX_READ)
            .on_upgrade(move |socket| async move { serve(socket, counted.shared()).await }),
    }
}

async fn serve(socket: WebSocket, shared: &Arc<Shared>) {
    let connection = shared.rooms.next_connection();
    let (sink, stream) = socket.split();
    let (outbox, waiting) = outbox();
    let ping = Duration::from_secs(shared.config.signal.ping_seconds.max(1));
    let writer = tokio::spawn(write(sink, waiting, ping));
    let mut client = Client {
        shared,
        connection,
        outbox: outbox.clone(),
        room: None,
        created: 0,
    };
    let why = client.read(stream, ping).await;
    if let Some(room) = client.room.take() {
        // The room ends only without members, so it hears this.
        let _ = room
            .send(Command::Input(Input::Disconnected { connection }))
            .await;
    }
    if let Some(why) = why {
        shared.metrics.closed(why.code());
        tracing::debug!(connection = connection.0, code = why.code(), "closed");
    }
    drop(outbox);
    drop(client);
    // The writer ends by itself: it was told to close, or its socket is gone.
    let _ = timeout(GOODBYE * 3, writer).await;
}

struct Client<'a> {
    shared: &'a Arc<Shared>,
    connection: ConnectionId,
    outbox: Outbox,
    room: Option<Handle>,
    created: u32,
}

impl Client<'_> {
    /// Reads until the connection ends; returns why, where the server ended it.
    async fn read(&mut self, mut stream: SplitStream<WebSocket>, ping: Duration) -> Option<Close> {
        let signal = &self.shared.config.signal;
        let mut limit = Limit::new(signal.messages_per_second, signal.burst);
        let started = Instant::now();
        let mut closing = self.outbox.closing();
        let mut phase = self.shared.phase.subscribe();
        let patience = ping * 5 / 2;
        loop {
            let frame = tokio::select! {
                biased;
                _ = closing.wait_for(Option::is_some) => break,
                _ = phase.changed() => {
                    match *phase.borrow_and_update() {
                        Phase::Running => {}
                        Phase::Draining => self.tell(&ServerMessage::Draining),
                        Phase::Closing => self.outbox.close(Close::Stopping),
                    }
                    continue;
                }
                frame = timeout(patience, stream.next()) => frame,
            };
            let message = match frame {
                Err(_) => {
                    self.outbox.close(Close::Silent);
                    break;
                }
                Ok(None) => return None,
                Ok(Some(Err(error))) => {
                    // Beyond even the generous cap the rest of the frame stays unread: the words may not arrive.
                    if error.to_string().contains("too long") {
                        self.outbox.close(Close::TooLarge);
                        return Some(Close::TooLarge);
                    }
                    return None;
                }
                Ok(Some(Ok(message))) => message,
            };
            match message {
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => return None,
                Message::Binary(_) => self.outbox.close(Close::Binary),
                Message::Text(text) if text.len() > parse::MAX_FRAME => {
                    self.outbox.close(Close::TooLarge)
                }
                Message::Text(text) => self.handle_text(&text).await,
            }
            match limit.handle_message(started.elapsed()) {
                Verdict::Pass => {}
                Verdict::Slow(wait) => tokio::time::sleep(wait).await,
                Verdict::Flood => self.outbox.close(Close::Flood),
            }
        }
        let why = *closing.borrow();
        // What the client had sent already is read and dropped: unread bytes would reset the connection, and the close
        // frame would be lost.
        let _ = timeout(GOODBYE, async {
            while let Some(Ok(_)) = stream.next().await {}
        })
        .await;
        why
    }

    async fn handle_text(&mut self, frame: &str) {
        self.shared.metrics.messages.inc();
        let message = match parse::parse(frame) {
            Ok(message) => message,
            Err(error) => {
                self.shared.metrics.refused(match error {
                    ParseError::Malformed => "malformed",
                    ParseError::UnknownType { .. } => "unknown_message",
                    ParseError::BadField { .. } => "bad_field",
                });
                return match error.answer() {
                    Some(answer) => self.tell(&answer),
                    None => self.outbox.close(Close::Malformed),
                };
            }
        };
        if let Some(room) = &self.room {
            let input = Input::Message {
                connection: self.connection,
                message,
            };
            if room.send(Command::Input(input)).await.is_err() {
                self.room = None;
            }
            return;
        }
        match message {
            ClientMessage::Ping { n } => self.tell(&ServerMessage::Pong { n }),
            ClientMessage::Create {
                policy,
                never_relay,
            } => self.create(policy, never_relay.unwrap_or(false)),
            ClientMessage::Look { room } => match self.shared.rooms.find(&room) {
                Some(handle) => {
                    let (answer, looked) = oneshot::channel();
                    let asked = handle.send(Command::Look { answer }).await.is_ok();
                    match looked.await {
                        Ok(looked) if asked => self.tell(&looked),
                        _ => self.no_such_room("look"),
                    }
                }
                None => self.no_such_room("look"),
            },
            ClientMessage::Join(join) => {
                let Some(handle) = self.shared.rooms.find(&join.room) else {
                    return self.no_such_room("join");
                };
                let token = Token::new(random::bytes());
                let input = Input::Join {
                    connection: self.connection,
                    join: Box::new(join),
                    token,
                };
                let (joined, entered) = oneshot::channel();
                let command = Command::Join {
                    input,
                    connection: self.connection,
                    outbox: self.outbox.clone(),
                    joined,
                };
                if handle.send(command).await.is_err() {
                    return self.no_such_room("join");
                }
                match entered.await {
                    Ok(true) => self.room = Some(handle),
                    Ok(false) => self.shared.metrics.refused("join"),
                    Err(_) => self.no_such_room("join"),
                }
            }
            _ => self.error(ErrorCode::WrongState, "join a room first", None),
        }
    }

    fn create(&mut self, policy: Option<Policy>, never_relay: bool) {
        if *self.shared.phase.borrow() != Phase::Running {
            return self.error(
                ErrorCode::Draining,
                "the server is stopping; try again soon",
                Some("create"),
            );
        }
        if self.created == MAX_CREATED {
            return self.error(
                ErrorCode::TooMany,
                "this connection has made enough rooms",
                Some("create"),
            );
        }
        match self.shared.rooms.create(policy, never_relay) {
            Ok(room) => {
                self.created += 1;
                self.tell(&ServerMessage::Created { room });
            }
            Err(error @ CreateError::TooMany) => {
                self.shared.metrics.refused("rooms");
                self.error(ErrorCode::TooMany, &error.to_string(), Some("create"));
            }
            Err(error @ CreateError::BadPolicy(_)) => {
                self.error(ErrorCode::BadField, &error.to_string(), Some("create"));
            }
        }
    }

    fn no_such_room(&self, refers_to: &str) {
        self.error(
            ErrorCode::NoSuchRoom,
            "there is no such room, or it has ended",
            Some(refers_to),
        );
    }

    fn error(&self, code: ErrorCode, words: &str, refers_to: Option<&str>) {
        let refers_to = refers_to.map(str::to_owned);
        self.tell(&ServerMessage::Error {
            code,
            message: words.to_owned(),
            refers_to,
        });
    }

    fn tell(&self, message: &ServerMessage) {
        self.outbox.send(text(message));
    }
}

/// Writes until told to close, or until the socket is gone.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut waiting: Waiting, ping: Duration) {
    let mut pings = tokio::time::interval(ping);
    let why = loop {
        let message = tokio::select! {
            next = waiting.next() => match next {
                Ok(text) => Message::Text(text),
                Err(why) => break why,
            },
            _ = pings.tick() => Message::Ping(axum::body::Bytes::new()),
        };
        match timeout(WRITE, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    };
    let goodbye = async {
        while let Some(text) = waiting.rest().filter(|_| why != Close::TooSlow) {
            sink.send(Message::Text(text)).await?;
        }
        let reason = Utf8Bytes::from_static(why.reason());
        sink.send(Message::Close(Some(CloseFrame {
            code: why.code(),
            reason,
        })))
        .await
    };
    // A reader that takes nothing gets no last word.
    let _ = timeout(GOODBYE, goodbye).await;
}

//! One link to the relay over a WebSocket: a hello with a token, then the link's own messages as they are. Sealed frames
//! are binary messages, control messages text (`docs/ref/links.md`).
//!
//! The relay paces to what the socket takes: the next message is taken out of its queue when the one before is wholly with
//! the kernel, which is told to hold little ([`crate::socket`]). A link costs its peer only: reading and writing wait for
//! each other nowhere.

use super::close::Close;
use crate::server::{Phase, Shared};
use crate::web::upgrade::{self, Counted};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use grove_relay::{Attached, Inbound, Incoming, MAX_FRAME_BYTES, Outbound, Outgoing, Token};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The WebSocket subprotocol of links to a relay.
pub const SUBPROTOCOL: &str = "grove.relay.v1";

/// Above this a message is not even read to its end; between this and the cap the refusal can say why.
const MAX_READ: usize = 2 * MAX_FRAME_BYTES;
/// From the upgrade to the hello.
const HELLO: Duration = Duration::from_secs(5);
/// A link on which nothing comes for so long is closed. Heartbeats come at least each 500 ms, and the relay has long said
/// that the link is lost.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a last word may take to leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// The first message of a link.
#[derive(Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum Hello {
    Hello { token: String },
}

/// The handler of `/api/v1/relay`.
pub async fn upgrade(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if !shared.relay.is_on() {
        return (StatusCode::NOT_FOUND, "This server has no relay.\n").into_response();
    }
    // While the server drains, calls go on: links that break may be made again.
    match upgrade::admit(&shared, &headers, socket, SUBPROTOCOL, Phase::Draining) {
        Err(refusal) => refusal,
        Ok((socket, counted)) => socket
            .max_message_size(MAX_READ)
            .max_frame_size(MAX_READ)
            .on_upgrade(move |socket| serve(socket, counted)),
    }
}

async fn serve(socket: WebSocket, counted: Counted) {
    let shared = counted.shared();
    let (mut sink, mut stream) = socket.split();
    let mut phase = shared.phase.subscribe();
    let why = tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => Some(Close::Stopping),
        why = link(&mut sink, &mut stream, shared) => why,
    };
    let Some(why) = why else { return };
    shared.metrics.closed(why.code());
    tracing::debug!(code = why.code(), "relay link closed");
    let reason = Utf8Bytes::from_static(why.reason());
    let close = Message::Close(Some(CloseFrame {
        code: why.code(),
        reason,
    }));
    let goodbye = async {
        // Unread bytes would reset the connection, and the close frame would be lost.
        let read = async { while let Some(Ok(_)) = stream.next().await {} };
        tokio::join!(sink.send(close), read)
    };
    // A reader that takes nothing gets no last word.
    let _ = timeout(GOODBYE, goodbye).await;
}

/// Until the link ends; why, where the other side does not know.
async fn link(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    shared: &Shared,
) -> Option<Close> {
    let attached = match timeout(HELLO, hello(stream)).await {
        Err(_) => Err(Close::NoHello),
        Ok(None) => return None,
        Ok(Some(Err(close))) => Err(close),
        Ok(Some(Ok(token))) => shared.relay.attach(token).await.map_err(Close::from),
    };
    let (attached, instance) = match attached {
        Ok(attached) => attached,
        Err(close) => {
            shared.metrics.refused(close.limit());
            return Some(close);
        }
    };
    let Attached {
        outgoing,
        incoming,
        mut ended,
    } = attached;
    let welcome = serde_json::json!({ "t": "welcome", "instance": instance }).to_string();
    tokio::select! {
        biased;
        close = ended.wait() => Some(close.into()),
        why = read(stream, incoming) => why,
        why = write(sink, outgoing, welcome) => why,
    }
}

/// The token of the first message; `None`: the other side is gone.
async fn hello(stream: &mut SplitStream<WebSocket>) -> Option<Result<Token, Close>> {
    loop {
        let text = match stream.next().await?.ok()? {
            Message::Text(text) => text,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return None,
            Message::Binary(_) => return Some(Err(Close::NoHello)),
        };
        let Ok(Hello::Hello { token }) = serde_json::from_str(&text) else {
            return Some(Err(Close::NoHello));
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let token = bytes.and_then(|bytes| bytes.try_into().ok()).map(Token);
        return Some(token.ok_or(Close::Token));
    }
}

/// Hands on what comes.
async fn read(stream: &mut SplitStream<WebSocket>, incoming: Inbound) -> Option<Close> {
    loop {
        let message = match timeout(SILENCE, stream.next()).await {
            Err(_) => return Some(Close::Silent),
            Ok(None) => return None,
            Ok(Some(Err(error))) => {
                // Beyond even the generous cap the rest stays unread: the words may not arrive.
                let long = error.to_string().contains("too long");
                return long.then_some(Close::TooLarge);
            }
            Ok(Some(Ok(message))) => message,
        };
        let message = match message {
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return None,
            Message::Binary(frame) if frame.len() > MAX_FRAME_BYTES => {
                return Some(Close::TooLarge);
            }
            Message::Text(text) if text.len() > MAX_FRAME_BYTES => return Some(Close::TooLarge),
            Message::Binary(frame) => Incoming::Frame(frame),
            Message::Text(text) => Incoming::Text(text.as_str().to_owned()),
        };
        // The relay has ended the link: it says why at its own end.
        if incoming.send(message).await.is_err() {
            return Some(Close::Broken);
        }
    }
}

/// Hands out what the relay wants sent, one message at a time.
async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    mut outgoing: Outbound,
    welcome: String,
) -> Option<Close> {
    sink.send(Message::Text(welcome.into())).await.ok()?;
    while let Some(message) = outgoing.recv().await {
        let message = match message {
            Outgoing::Frame(frame) => Message::Binary(frame),
            Outgoing::Text(text) => Message::Text(text.into()),
            Outgoing::Close(close) => return Some(close.into()),
        };
        sink.send(message).await.ok()?;
    }
    None
}

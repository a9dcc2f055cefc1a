//! Who may open a WebSocket here: the one place that checks it, for signalling and for links to the relay.
//!
//! Anything but an upgrade is refused (426), and upgrades without the exact `Origin` (403), without the subprotocol
//! (400), above the connection cap and while the server stops (503).

use crate::server::{Phase, Shared};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;

/// Lets an upgrade in, with its place under the connection cap, or says why not. `last` is the last phase of the server
/// in which it still does.
#[expect(
    clippy::result_large_err,
    reason = "a refusal is the answer, and built once per connection"
)]
pub fn admit(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    subprotocol: &'static str,
    last: Phase,
) -> Result<(WebSocketUpgrade, Counted), Response> {
    let refuse = |status: StatusCode, limit, words: String| {
        shared.metrics.refused(limit);
        Err((status, words).into_response())
    };
    let Ok(socket) = socket else {
        let words = "This address speaks WebSocket (version 13) and nothing else. A proxy in between must pass on \
                     `Upgrade` and `Connection`.\n";
        return refuse(StatusCode::UPGRADE_REQUIRED, "upgrade", words.into());
    };
    if !is_own_origin(headers, shared) {
        let words =
            "This page may not use this server: its origin is not the server's public address.\n";
        return refuse(StatusCode::FORBIDDEN, "origin", words.into());
    }
    let offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    if !offered
        .flat_map(|value| value.split(','))
        .any(|name| name.trim() == subprotocol)
    {
        let words = format!("The WebSocket subprotocol must be {subprotocol}.\n");
        return refuse(StatusCode::BAD_REQUEST, "subprotocol", words);
    }
    if *shared.phase.borrow() > last {
        let words = "The server is stopping; try again soon.\n";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "draining", words.into());
    }
    if shared.metrics.connections.inc() >= shared.config.signal.max_connections as i64 {
        shared.metrics.connections.dec();
        let words = "The server is full; try again later.\n";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "connections", words.into());
    }
    let counted = Counted(shared.clone());
    Ok((socket.protocols([subprotocol]), counted))
}

/// A place under the connection cap, given back however the connection ends.
#[derive(Debug)]
pub struct Counted(Arc<Shared>);

impl Counted {
    /// The server whose place it is.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
    }
}

/// Exactly the public address, or, where none is configured, exactly the host that the page asked.
fn is_own_origin(headers: &HeaderMap, shared: &Shared) -> bool {
    let text = |name| {
        let mut values = headers.get_all(name).iter();
        let only = values.next().filter(|_| values.next().is_none());
        only.and_then(|value| value.to_str().ok())
    };
    let Some(origin) = text(header::ORIGIN) else {
        return false;
    };
    if !shared.config.public_url.is_empty() {
        return origin == shared.config.public_url;
    }
    text(header::HOST).is_some_and(|host| origin == format!("{}://{host}", shared.scheme()))
}

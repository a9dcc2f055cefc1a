//! For whoever watches the server.

use crate::server::{Phase, Shared};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use grove_relay::{Shedding, Stats};
use serde_json::json;
use std::sync::Arc;

/// When to come again, in seconds: what is shed changes in steps of 5 s.
const RETRY_AFTER_S: &str = "10";

/// The process is there.
pub async fn healthz() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

/// It takes new work. 503 with the reasons when it does not.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let mut reasons = Vec::new();
    if *shared.phase.borrow() != Phase::Running {
        reasons.push("draining");
    }
    if shared.metrics.connections.get() >= shared.config.signal.max_connections as i64 {
        reasons.push("connections");
    }
    if shared.metrics.rooms.get() >= shared.rooms.most() as i64 {
        reasons.push("rooms");
    }
    // New rooms go to the thread with the least to do, so one that takes people is enough.
    let shards = shared.relay.shards();
    let refuses = |stats: &Stats| stats.shedding == Shedding::Newcomers;
    if !shards.is_empty() && shards.iter().all(refuses) {
        reasons.push("relay");
    }
    answer(&reasons)
}

fn answer(reasons: &[&str]) -> Response {
    let body = Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }));
    if reasons.is_empty() {
        return body.into_response();
    }
    let later = [(header::RETRY_AFTER, RETRY_AFTER_S)];
    (StatusCode::SERVICE_UNAVAILABLE, later, body).into_response()
}

/// For Prometheus.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.page())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_turned_away_is_told_when_to_come_again() {
        let ready = answer(&[]);
        assert_eq!(ready.status(), StatusCode::OK);
        assert_eq!(ready.headers().get(header::RETRY_AFTER), None);
        let full = answer(&["relay"]);
        assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(full.headers()[header::RETRY_AFTER], RETRY_AFTER_S);
    }
}

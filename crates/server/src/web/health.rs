//! For whoever watches the server.

use crate::server::{Phase, Shared};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;
use std::sync::Arc;

/// The process is there.
pub async fn healthz() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

/// It takes new work. 503 with the reasons when it does not.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut reasons = Vec::new();
    if *shared.phase.borrow() != Phase::Running {
        reasons.push("draining");
    }
    if shared.metrics.connections.get() >= shared.config.signal.max_connections as i64 {
        reasons.push("connections");
    }
    if shared.metrics.rooms.get() >= shared.config.rooms.max as i64 {
        reasons.push("rooms");
    }
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })),
    )
}

/// For Prometheus.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shared.metrics.page())
}

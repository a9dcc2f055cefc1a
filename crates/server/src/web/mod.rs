//! HTTP: the app's pages, health, metrics, and the headers that all of them carry. Signalling and links to
//! the relay are mounted here.

pub mod assets;
pub mod headers;
pub mod health;
pub mod upgrade;

use crate::relay;
use crate::server::Shared;
use crate::signal;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use std::sync::Arc;

pub use assets::has_app;

/// Everything that this server answers.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/signal", get(signal::ws::upgrade))
        .route("/api/v1/relay", get(relay::ws::upgrade))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(assets::serve)
        .method_not_allowed_fallback(assets::wrong_method)
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(middleware::from_fn_with_state(shared.clone(), headers::add))
        .with_state(shared)
}

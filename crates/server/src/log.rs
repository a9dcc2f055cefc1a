//! The log: one line per event on standard error, in UTC. Rooms appear as labels, people not at all; tokens, names,
//! descriptions and bodies are never passed to it. Libraries speak from warnings on only: their debug output may quote
//! what they carry.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Libraries that warn of what a peer has sent: anybody could fill the log.
const OF_PEERS: [&str; 4] = ["str0m", "is", "dimpl", "sctp_proto"];

/// Starts logging for the process. A second call changes nothing.
pub fn start(log: &Log) {
    let level = log.level.parse().unwrap_or(LevelFilter::INFO);
    let targets = Targets::new()
        .with_target("grove", level)
        .with_default(LevelFilter::WARN.min(level))
        .with_targets(OF_PEERS.map(|library| (library, LevelFilter::ERROR.min(level))));
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // Refused when a test has set one up already: that one goes on.
    let _ = match log.format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}

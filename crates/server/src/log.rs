//! The log: one line per event on standard error, in UTC. Rooms appear as labels, people not at all; tokens, names,
//! descriptions and bodies are never passed to it. Libraries speak from warnings on only: their debug output may quote
//! what they carry.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

/// Libraries that warn of what a peer has sent: anybody could fill the log.
const OF_PEERS: [&str; 4] = ["str0m", "is", "dimpl", "sctp_proto"];

/// How much is logged; can be changed. Nothing in it: somebody else has set the log up.
#[derive(Debug, Clone, Default)]
pub struct Level(Option<reload::Handle<Targets, Registry>>);

impl Level {
    /// From now on so much.
    pub fn set(&self, log: &Log) {
        if let Some(handle) = &self.0 {
            // Fails when the log is gone, and then there is nothing to say.
            let _ = handle.reload(targets(log));
        }
    }
}

fn targets(log: &Log) -> Targets {
    let level = log.level.parse().unwrap_or(LevelFilter::INFO);
    Targets::new()
        .with_target("grove", level)
        .with_default(LevelFilter::WARN.min(level))
        .with_targets(OF_PEERS.map(|library| (library, LevelFilter::ERROR.min(level))))
}

/// Starts logging for the process. A second call changes nothing.
pub fn start(log: &Log) -> Level {
    let (targets, handle) = reload::Layer::new(targets(log));
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => registry.with(layer).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    // Refused when a test has set one up already: that one goes on.
    Level(started.is_ok().then_some(handle))
}

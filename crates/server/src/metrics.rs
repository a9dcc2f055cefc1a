//! What the server counts, for Prometheus. Base units, no ids of rooms or people in labels.

use crate::relay::Relay;
use crate::signal::message::EdgeReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::Arc;

type Labels = [(&'static str, String); 1];

/// Counters of one server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Rooms that exist.
    pub rooms: Gauge,
    /// People in them, those within their grace period included.
    pub participants: Gauge,
    /// WebSockets.
    pub connections: Gauge,
    /// Links to the relay over QUIC.
    pub quic_links: Gauge,
    /// 1 while the server stops.
    pub draining: Gauge,
    /// Messages read.
    pub messages: Counter,
    joins: Family<Labels, Counter>,
    moves: Family<Labels, Counter>,
    closes: Family<Labels, Counter>,
    quic_closes: Family<Labels, Counter>,
    refusals: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Metrics {
    /// Nothing counted yet. What the relay counts stands on the same page.
    pub fn new(relay: Option<Arc<Relay>>) -> Self {
        let mut registry = Registry::with_prefix("grove");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What runs", version);
        registry.register_collector(Box::new(Process));
        if let Some(relay) = relay {
            registry.register_collector(Box::new(Forwarded(relay)));
        }
        let mut metrics = Self {
            registry,
            rooms: Gauge::default(),
            participants: Gauge::default(),
            connections: Gauge::default(),
            quic_links: Gauge::default(),
            draining: Gauge::default(),
            messages: Counter::default(),
            joins: Family::default(),
            moves: Family::default(),
            closes: Family::default(),
            quic_closes: Family::default(),
            refusals: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("rooms", "Rooms that exist", metrics.rooms.clone());
        registry.register(
            "participants",
            "People in rooms",
            metrics.participants.clone(),
        );
        registry.register(
            "ws_connections",
            "Open WebSockets",
            metrics.connections.clone(),
        );
        registry.register(
            "relay_quic_links",
            "Open links to the relay over QUIC",
            metrics.quic_links.clone(),
        );
        registry.register(
            "relay_quic_closes",
            "Links over QUIC closed by the server, by code",
            metrics.quic_closes.clone(),
        );
        registry.register(
            "draining",
            "1 while the server stops",
            metrics.draining.clone(),
        );
        registry.register(
            "signal_messages",
            "Signalling messages read",
            metrics.messages.clone(),
        );
        registry.register("joins", "Joins, by result", metrics.joins.clone());
        registry.register(
            "tree_reparents",
            "Receivers that changed parents, by cause",
            metrics.moves.clone(),
        );
        registry.register(
            "ws_closes",
            "WebSockets closed by the server, by code",
            metrics.closes.clone(),
        );
        registry.register(
            "refusals",
            "What was refused, by reason",
            metrics.refusals.clone(),
        );
        metrics
    }

    /// Somebody came in or back.
    pub fn joined(&self, resumed: bool) {
        let result = if resumed { "resumed" } else { "new" };
        self.joins
            .get_or_create(&[("result", result.to_owned())])
            .inc();
    }

    /// A receiver changed parents.
    pub fn moved(&self, reason: EdgeReason) {
        let cause = serde_json::to_value(reason)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned));
        self.moves
            .get_or_create(&[("cause", cause.unwrap_or_default())])
            .inc();
    }

    /// The server closed a WebSocket, with this code.
    pub fn closed(&self, code: u16) {
        self.closes
            .get_or_create(&[("code", code.to_string())])
            .inc();
    }

    /// The server closed a link over QUIC, with this code.
    pub fn quic_closed(&self, code: u16) {
        self.quic_closes
            .get_or_create(&[("code", code.to_string())])
            .inc();
    }

    /// Something was refused; `docs/guide/operating.md` lists what stands here.
    pub fn refused(&self, limit: &'static str) {
        self.refusals
            .get_or_create(&[("limit", limit.to_owned())])
            .inc();
    }

    /// The page for Prometheus.
    pub fn page(&self) -> String {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry)
            .expect("a string takes everything");
        page
    }
}

/// What the relay holds and has forwarded. Counters start at zero again when it starts anew.
#[derive(Debug)]
struct Forwarded(Arc<Relay>);

impl Collector for Forwarded {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        let (size, counted) = (stats.size, stats.counters);
        let gauges = [
            ("relay_links", "Links open", size.links),
            ("relay_edges", "Edges to children", size.edges),
            (
                "relay_held_bytes",
                "Bytes of frames held for replay and repair",
                size.ring_bytes,
            ),
            (
                "relay_shedding",
                "What is shed: 0 nothing, 1 new layers, 2 others, 3 higher layers, 4 newcomers",
                stats.shedding as usize,
            ),
            (
                "relay_load_permille",
                "Egress or processor, whichever is nearer to its bound",
                stats.load_permille as usize,
            ),
            (
                "relay_edges_held",
                "Edges without a layer that they would have",
                size.held,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value as i64);
            let to = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(to)?;
        }
        let counters = [
            (
                "relay_frames_received",
                "Frames that came",
                counted.frames_received,
            ),
            (
                "relay_frames_sent",
                "Frames handed to links",
                counted.frames_sent,
            ),
            (
                "relay_frames_dropped",
                "Frames left out on purpose",
                counted.frames_dropped,
            ),
            (
                "relay_frames_lost",
                "Frames given up although needed",
                counted.frames_lost,
            ),
            (
                "relay_frames_excess",
                "Frames over the rate that one stream may have",
                counted.excess,
            ),
            (
                "relay_bytes_received",
                "Bytes that came on links",
                counted.bytes_received,
            ),
            (
                "relay_bytes_sent",
                "Bytes handed to links",
                counted.bytes_sent,
            ),
            (
                "relay_key_requests",
                "Key frames asked for",
                counted.key_requests,
            ),
            (
                "relay_stuck",
                "Links ended because nobody read them",
                counted.stuck,
            ),
            (
                "relay_datagrams_unsent",
                "Datagrams that never left the relay's UDP port",
                counted.datagrams_unsent,
            ),
            (
                "relay_datagrams_handed",
                "Datagrams that came at another of the relay's threads than theirs",
                counted.datagrams_handed,
            ),
            (
                "relay_datagrams_untaken",
                "Of those, dropped because their thread had too many",
                counted.datagrams_untaken,
            ),
            (
                "relay_packets_retransmitted",
                "Packets sent again by RTP because a browser asked",
                counted.packets_retransmitted,
            ),
            (
                "relay_frames_unsent",
                "Frames that links by RTP had taken and did not send",
                counted.frames_unsent,
            ),
            (
                "relay_layers_shed",
                "Edges that lost a layer because the relay had too much to do",
                counted.shed,
            ),
            (
                "relay_newcomers_refused",
                "Links refused because the relay had too much to do",
                counted.overloaded,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let to = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(to)?;
        }
        let (name, help) = (
            "relay_thread_load_permille",
            "The load of each of the relay's threads",
        );
        let mut to = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (thread, stats) in self.0.shards().into_iter().enumerate() {
            let gauge = ConstGauge::new(i64::from(stats.load_permille));
            let labels: Labels = [("thread", thread.to_string())];
            gauge.encode(to.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Memory, processor time and files of this process, read when asked for.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<i64>()
                .ok()
        });
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Fields 14 and 15 (user and system time) count from behind the name, which may hold spaces; 100 ticks a second.
        let ticks = stat.rsplit_once(')').map(|(_, rest)| {
            rest.split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum::<u64>()
        });
        let files = std::fs::read_dir("/proc/self/fd")
            .map(|files| files.count() as i64)
            .ok();
        if let Some(resident) = resident {
            let gauge = ConstGauge::new(resident * 1024);
            let to = encoder.encode_descriptor(
                "process_resident_memory_bytes",
                "Memory",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(to)?;
        }
        if let Some(ticks) = ticks {
            let counter = ConstCounter::new(ticks as f64 / 100.0);
            let to = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time",
                None,
                counter.metric_type(),
            )?;
            counter.encode(to)?;
        }
        if let Some(files) = files {
            let gauge = ConstGauge::new(files);
            let to = encoder.encode_descriptor(
                "process_open_fds",
                "Open files",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(to)?;
        }
        Ok(())
    }
}

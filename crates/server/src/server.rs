//! A server, loaded from a configuration: what `main` runs and what tests run.

use crate::config::{Config, TlsMode};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::relay::{self, Relay};
use crate::room::{QuicPort, RelaySettings, Settings, registry::Rooms};
use crate::socket::Prompt;
use crate::tls::{self, TlsError};
use crate::web;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsAcceptor;
use grove_relay::quic::{BindError, Endpoint};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A client may take this long to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for this long is given up.
const STALL: Duration = Duration::from_secs(30);
/// Requests that are being answered when the server stops get this long.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Where the server stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Told to stop: clients know, nothing new begins.
    Draining,
    /// Connections are being closed.
    Closing,
}

/// What every connection sees.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The rooms.
    pub rooms: Arc<Rooms>,
    /// The relay, unless it was turned off.
    pub relay: Option<Arc<Relay>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where the server stands.
    pub phase: watch::Sender<Phase>,
}

impl Shared {
    /// `https` under TLS.
    pub fn scheme(&self) -> &'static str {
        if self.config.tls.mode == TlsMode::Off {
            "http"
        } else {
            "https"
        }
    }
}

/// Why the server cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The port.
    #[error(
        "cannot listen on {address}: {error}; is another server running there? `--listen` chooses another port"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The UDP port of the relay.
    #[error(
        "cannot listen on UDP {address}: {error}; is another server running there? `--relay-udp` chooses another address, or off"
    )]
    Udp {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The data directory.
    #[error("cannot make the data directory {path}: {error}; `--data` chooses another place")]
    Data {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The relay's UDP port.
    #[error(
        "cannot take QUIC links on {address}: {error}; `--relay-quic-listen` chooses another port, or none"
    )]
    Quic {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: BindError,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that has its port and waits to run.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<axum_server::tls_rustls::RustlsConfig>,
    handle: Handle<SocketAddr>,
}

impl Server {
    /// Takes the port, reads or makes the certificate, and starts the relay, on the current Tokio runtime.
    pub fn load(config: Config) -> Result<Self, LoadError> {
        std::fs::create_dir_all(&config.data).map_err(|error| LoadError::Data {
            path: config.data.clone(),
            error,
        })?;
        let tls = tls::load(&config)?;
        let listener = listen(config.listen).map_err(|error| LoadError::Listen {
            address: config.listen,
            error,
        })?;
        let address = listener.local_addr().map_err(|error| LoadError::Listen {
            address: config.listen,
            error,
        })?;
        let udp = config
            .relay
            .enabled
            .then(|| relay::udp::bind(&config, address))
            .transpose()
            .map_err(|(address, error)| LoadError::Udp { address, error })?
            .flatten();
        let rtp = udp.is_some();
        let (relay, events) = config
            .relay
            .enabled
            .then(|| {
                let settings = grove_relay::Settings {
                    egress_bps: config.relay.egress_bps,
                    links: config.relay.max_links,
                    ..grove_relay::Settings::default()
                };
                Relay::start(settings, config.relay.threads, udp)
            })
            .unzip();
        let (quic, quic_port) = match config.relay.quic_listen.filter(|_| relay.is_some()) {
            Some(address) => quic(address).map(|(endpoint, port)| (Some(endpoint), Some(port)))?,
            None => (None, None),
        };
        let metrics = Arc::new(Metrics::new(relay.clone()));
        let settings = Settings {
            resume: config.rooms.resume_seconds * 1000,
            empty: config.rooms.empty_seconds * 1000,
            people: config.rooms.max_people,
            uplink: config.rooms.uplink_bps,
            slots: config.rooms.slots,
            ice_servers: config.links.stun.clone(),
            relay: relay.as_ref().map(|_| RelaySettings {
                egress: config.relay.egress_bps,
                slots: config.relay.slots,
                rtp,
                quic: quic_port,
            }),
        };
        let rooms = Rooms::new(settings, config.rooms.max, metrics.clone(), relay.clone());
        if let Some((relay, events)) = relay.as_ref().zip(events) {
            let (relay, rooms) = (Arc::downgrade(relay), Arc::downgrade(&rooms));
            tokio::spawn(relay::supervise(relay, events, rooms));
        }
        let (phase, _) = watch::channel(Phase::Running);
        let shared = Arc::new(Shared {
            config,
            rooms,
            relay,
            metrics,
            phase,
        });
        if let Some(endpoint) = quic {
            tokio::spawn(relay::quic::serve(endpoint, shared.clone()));
        }
        Ok(Self {
            shared,
            listener,
            address,
            tls,
            handle: Handle::new(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first line that an operator reads.
    pub fn greeting(&self) -> String {
        let shared = &self.shared;
        let port = self.address.port();
        let url = match (&shared.config.public_url, self.address.ip()) {
            (url, _) if !url.is_empty() => url.clone(),
            (_, ip) if ip.is_unspecified() || ip.is_loopback() => {
                format!("{}://localhost:{port}", shared.scheme())
            }
            _ => format!("{}://{}", shared.scheme(), self.address),
        };
        let mut lines = vec![format!("Grove serves on {url}")];
        if self.address.ip().is_unspecified() && shared.config.public_url.is_empty() {
            let hosts = tls::local_addresses()
                .into_iter()
                .filter(|ip| !ip.is_loopback());
            if shared.config.tls.mode == TlsMode::Off {
                lines.push("Other devices need a secure page for camera and microphone: add `--tls self-signed`".into());
            } else {
                lines.extend(hosts.map(|ip| {
                    format!("From other devices: https://{}", SocketAddr::new(ip, port))
                }));
            }
        }
        if !web::has_app() {
            lines.push("The web app is not built in: `make run` builds it".into());
        }
        lines.join("\n")
    }

    /// To stop it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            shared: self.shared.clone(),
            handle: self.handle.clone(),
        }
    }

    /// Serves until somebody stops it.
    pub async fn run(self) -> io::Result<()> {
        tracing::info!(address = %self.address, tls = self.tls.is_some(), "serving");
        let service = web::router(self.shared).into_make_service();
        self.listener.set_nonblocking(true)?;
        let done = match self.tls {
            Some(tls) => {
                let acceptor = guard(RustlsAcceptor::new(tls).acceptor(Prompt));
                let server = axum_server::from_tcp(self.listener)?.acceptor(acceptor);
                let mut server = server.handle(self.handle);
                limit(server.http_builder());
                server.serve(service).await
            }
            None => {
                let acceptor = guard(Prompt);
                let server = axum_server::from_tcp(self.listener)?.acceptor(acceptor);
                let mut server = server.handle(self.handle);
                limit(server.http_builder());
                server.serve(service).await
            }
        };
        tracing::info!("stopped");
        done
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second one stops at once.
    pub async fn run_until_signal(self) -> io::Result<()> {
        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stopper = self.stopper();
        let signals = async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tokio::select! {
                () = stopper.drain() => {}
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            stopper.handle.shutdown();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = self.run() => done,
            () = signals => Ok(()),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Stops a running server.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    handle: Handle<SocketAddr>,
}

impl Stopper {
    /// Politely: not ready any more, clients told, then closed, then gone.
    pub async fn drain(&self) {
        tracing::info!("draining");
        self.shared.metrics.draining.set(1);
        self.shared.phase.send_replace(Phase::Draining);
        if self.shared.metrics.connections.get() > 0 {
            tokio::time::sleep(Duration::from_secs(self.shared.config.signal.drain_seconds)).await;
        }
        self.shared.phase.send_replace(Phase::Closing);
        self.handle.graceful_shutdown(Some(LAST_ANSWERS));
        let all_closed = async {
            while self.shared.metrics.connections.get() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Whoever does not close in time is cut off.
        let _ = tokio::time::timeout(LAST_ANSWERS, all_closed).await;
    }
}

impl std::fmt::Debug for Stopper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}

fn guard<A>(acceptor: A) -> Guard<A> {
    Guard {
        acceptor,
        first: HEAD,
        stall: STALL,
    }
}

fn limit(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(32 * 1024);
}

/// The port for links over QUIC, and what nodes are told of it.
fn quic(address: SocketAddr) -> Result<(Endpoint, QuicPort), LoadError> {
    let failed = |error| LoadError::Quic { address, error };
    let endpoint = Endpoint::bind(address).map_err(failed)?;
    let bound = endpoint.address().map_err(|error| failed(error.into()))?;
    let port = QuicPort {
        port: bound.port(),
        certificate_sha256: endpoint.certificate_sha256(),
    };
    tracing::info!(address = %bound, "taking QUIC links");
    Ok((endpoint, port))
}

/// A machine without IPv6 still has every IPv4 address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).or_else(|error| {
        let any = address.is_ipv6() && address.ip().is_unspecified();
        match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ if any => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())),
            _ => Err(error),
        }
    })
}

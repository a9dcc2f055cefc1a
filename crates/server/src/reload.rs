//! Takes a configuration over while the server runs, as far as that can be done. What is to be done is decided by
//! [`Change::between`]; here it is carried out, and said in the log.
//!
//! Nothing happens to a server whose new configuration cannot be read, or whose certificate cannot be used. Where only the
//! relay's new ports cannot be had, it goes on with the former ones and the rest holds; the next time they are tried again.

use crate::config::change::{Change, Effect, Relay};
use crate::config::{Config, ConfigError};
use crate::log;
use crate::relay::close::Close;
use crate::relay::{self, Setup, udp};
use crate::room::QuicPort;
use crate::server::{LoadError, Shared, bind_quic, bind_udp, room_settings};
use crate::tls::{self, TlsError};
use axum_server::tls_rustls::RustlsConfig;
use grove_relay::Udp;
use grove_relay::quic::Endpoint;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::signal::unix::Signal;

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no new configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Changes one server.
#[expect(missing_debug_implementations, reason = "holds a private key")]
pub struct Reloader {
    pub(crate) shared: Arc<Shared>,
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// What holds.
    pub(crate) config: Config,
    pub(crate) tls: Option<RustlsConfig>,
    /// The relay's UDP sockets, as they were asked for.
    pub(crate) udp: Option<udp::Wanted>,
    pub(crate) quic: Option<(Endpoint, QuicPort)>,
    pub(crate) log: log::Level,
}

/// Takes over what `read` gives at each signal, until the terminal is gone that the server was started on: then the signal
/// says only that, and whoever waits for this is to stop the server.
pub async fn at_each(
    mut hangup: Signal,
    mut reloader: Reloader,
    read: impl Fn() -> Result<Config, ConfigError>,
) {
    let had_terminal = std::io::stderr().is_terminal();
    while hangup.recv().await.is_some() {
        if had_terminal && !std::io::stderr().is_terminal() {
            return;
        }
        // What has gone wrong is in the log, and there is nobody else to tell.
        let _ = reloader.reload(read()).await;
    }
}

impl Reloader {
    /// Takes over what was read, on the machine as it is now. Returns what was done, or why nothing was.
    pub async fn reload(
        &mut self,
        read: Result<Config, ConfigError>,
    ) -> Result<Change, ReloadError> {
        let done = match read {
            Ok(new) => self.take_over(&new).await,
            Err(error) => Err(error.into()),
        };
        match &done {
            Ok(change) => say(change),
            Err(error) => tracing::error!("nothing of the configuration has changed: {error}"),
        }
        done
    }

    async fn take_over(&mut self, new: &Config) -> Result<Change, ReloadError> {
        let wanted = udp::wanted(new, self.address, &tls::outside_addresses());
        let mut change = Change::between(&self.config, self.udp.as_ref(), new, wanted.as_ref());
        // Ahead of everything else, because it may fail; and always, because files are renewed under their old names.
        if let Some((tls, fresh)) = self.tls.as_ref().zip(tls::load(&change.config)?) {
            tls.reload_from_config(fresh);
        }
        if let Err(error) = self.change_relay(&change, wanted).await {
            tracing::error!("the relay goes on as it was: {error}");
            change.config.relay = self.config.relay.clone();
            change.keys.retain(|(_, effect)| *effect != Effect::Relay);
            change.relay = Relay::Keep;
        }
        self.log.set(&change.config.log);
        let settings = room_settings(&change.config, None);
        self.shared.rooms.change(settings, change.config.rooms.max);
        self.config = change.config.clone();
        Ok(change)
    }

    async fn change_relay(
        &mut self,
        change: &Change,
        wanted: Option<udp::Wanted>,
    ) -> Result<(), LoadError> {
        let relay = self.shared.relay.clone();
        let end_first = match change.relay {
            Relay::Keep => return Ok(()),
            Relay::End => {
                relay.run(None).await;
                self.udp = None;
                self.set_quic(None);
                return Ok(());
            }
            Relay::Start { end_first } => end_first,
        };
        let (old, new) = (&self.config, &change.config);
        let quic = match new.relay.quic_listen {
            Some(address) if self.quic.is_none() || old.relay.quic_listen != Some(address) => {
                Some(bind_quic(address)?)
            }
            Some(_) => self.quic.clone(),
            None => None,
        };
        if end_first {
            relay.end().await;
        }
        match bind(new, wanted.as_ref()) {
            Ok(udp) => {
                let port = quic.as_ref().map(|(_, port)| *port);
                self.set_quic(quic);
                relay.run(Some(Setup::new(&new.relay, udp, port))).await;
                self.udp = wanted;
                Ok(())
            }
            Err(error) => {
                if end_first {
                    // Its port was given back a moment ago. Should it be gone all the same, the next reload tries again.
                    let udp = match bind(old, self.udp.as_ref()) {
                        Ok(udp) => udp,
                        Err(error) => {
                            tracing::error!("media goes over WebSockets: {error}");
                            self.udp = None;
                            None
                        }
                    };
                    let port = self.quic.as_ref().map(|(_, port)| *port);
                    relay.run(Some(Setup::new(&old.relay, udp, port))).await;
                }
                Err(error)
            }
        }
    }

    /// Takes links over QUIC there, and nowhere else.
    fn set_quic(&mut self, quic: Option<(Endpoint, QuicPort)>) {
        let port = |quic: &Option<(Endpoint, QuicPort)>| quic.as_ref().map(|(_, port)| *port);
        if port(&quic) == port(&self.quic) {
            return;
        }
        if let Some((endpoint, _)) = &quic {
            tokio::spawn(relay::quic::serve(endpoint.clone(), self.shared.clone()));
        }
        if let Some((endpoint, _)) = std::mem::replace(&mut self.quic, quic) {
            endpoint.close(Close::Broken.code(), Close::Broken.reason());
        }
    }
}

fn bind(config: &Config, wanted: Option<&udp::Wanted>) -> Result<Option<Udp>, LoadError> {
    let bound = wanted.map(|wanted| bind_udp(config, wanted));
    bound.transpose().map(Option::flatten)
}

/// What an operator wants to know of it.
fn say(change: &Change) {
    for key in change.with(Effect::Restart) {
        tracing::warn!("`{key}` has changed; it takes effect after a restart");
    }
    for key in change.with(Effect::NewRooms) {
        tracing::info!("`{key}` has changed; it holds for rooms made from now on");
    }
    let keys: Vec<_> = change.with(Effect::Relay).collect();
    match change.relay {
        Relay::Keep => {}
        Relay::End => tracing::info!("the relay has ended"),
        Relay::Start { .. } => {
            tracing::info!(?keys, appeared = ?change.appeared, "the relay has started anew");
        }
    }
    tracing::info!("the configuration was read again");
}

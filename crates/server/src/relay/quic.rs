//! Links to the relay over QUIC, for native peers: the same hello, the same reasons to close, another kind of socket
//! (`docs/ref/links.md`). The port is the relay's own; where it is and what certificate it shows is told with every order
//! to link.

use super::close::Close;
use crate::metrics::Metrics;
use crate::relay::Relay;
use crate::room::QuicPort;
use crate::server::{Phase, Shared};
use grove_relay::quic::{Arriving, BindError, End, Endpoint, HelloError};
use std::net::SocketAddr;
use std::sync::Arc;

/// Takes the port: the endpoint, and what nodes are told of it.
pub fn bind(address: SocketAddr) -> Result<(Endpoint, QuicPort), BindError> {
    let endpoint = Endpoint::bind(address)?;
    let bound = endpoint.address()?;
    let port = QuicPort {
        port: bound.port(),
        certificate_sha256: endpoint.certificate_sha256(),
    };
    tracing::info!(address = %bound, "taking QUIC links");
    Ok((endpoint, port))
}

/// Takes links until the server or the endpoint closes.
pub async fn serve(endpoint: Endpoint, shared: Arc<Shared>) {
    let mut phase = shared.phase.subscribe();
    loop {
        let arriving = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Closing) => break,
            arriving = endpoint.accept() => arriving,
        };
        let Some(arriving) = arriving else { return };
        tokio::spawn(link(arriving, shared.relay.clone(), shared.metrics.clone()));
    }
    endpoint.close(Close::Stopping.code(), Close::Stopping.reason());
}

/// One link, from its first datagram to its end.
async fn link(arriving: Arriving, relay: Arc<Relay>, metrics: Arc<Metrics>) {
    let no_hello = Close::NoHello;
    let opening = match arriving.hello(no_hello.code(), no_hello.reason()).await {
        Ok(opening) => opening,
        Err(HelloError::Gone) => return,
        Err(HelloError::NoHello) => {
            metrics.refused("relay_hello");
            return metrics.quic_closed(no_hello.code());
        }
    };
    let (attached, instance) = match relay.attach(opening.token()).await {
        Ok(attached) => attached,
        Err(error) => {
            let close = Close::from(error);
            metrics.refused(close.limit());
            metrics.quic_closed(close.code());
            return opening.refuse(close.code(), close.reason());
        }
    };
    let Some(mut socket) = opening.welcome(&instance).await else {
        return;
    };
    metrics.quic_links.inc();
    let end = socket.run(attached).await;
    metrics.quic_links.dec();
    let close = match end {
        End::Gone => return,
        End::Closed(close) => close.into(),
        End::TooLarge => Close::TooLarge,
        End::Malformed => Close::Malformed,
    };
    tracing::debug!(code = close.code(), "relay link over QUIC closed");
    metrics.quic_closed(close.code());
    socket.close(close.code(), close.reason());
}

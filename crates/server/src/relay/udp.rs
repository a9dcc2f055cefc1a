//! The relay's UDP port: which addresses it takes, and what browsers are told of them.

use crate::config::{self, Config};
use grove_relay::{Buffers, Udp};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The sockets that a configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Each gets a socket.
    pub addresses: Vec<IpAddr>,
    /// The same everywhere; 0: a free one.
    pub port: u16,
}

/// Which sockets there are to be on a machine with these `outside` addresses: where the server listens (at `served`) unless the
/// configuration says otherwise. `None`: there is to be no relay, or no port.
pub fn wanted(config: &Config, served: SocketAddr, outside: &[IpAddr]) -> Option<Wanted> {
    let listen = match config.relay.udp_listen.as_str() {
        _ if !config.relay.enabled => return None,
        "off" => return None,
        text => text.parse().unwrap_or(served),
    };
    let mut addresses = vec![listen.ip()];
    if listen.ip().is_unspecified() {
        addresses = outside.to_vec();
        addresses.retain(|ip| ip.is_ipv4() || listen.is_ipv6());
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    Some(Wanted {
        addresses,
        port: listen.port(),
    })
}

/// Takes the port. `None`: no browser could reach it.
pub fn bind(config: &Config, wanted: &Wanted) -> io::Result<Option<Udp>> {
    let udp = Udp::bind(&wanted.addresses, wanted.port, config.relay.threads)?;
    for (address, error) in udp.refused() {
        tracing::warn!(%address, %error, "no media by UDP at this address");
    }
    if let Some(buffers) = udp.buffers().filter(Buffers::are_small) {
        tracing::warn!(
            asked = buffers.asked,
            send = buffers.send,
            receive = buffers.receive,
            "the system gives the UDP port small buffers; net.core.wmem_max and net.core.rmem_max change that"
        );
    }
    let bound = udp.candidates();
    let port = bound.first().map_or(0, SocketAddr::port);
    let public = config.relay.public_addresses.iter();
    let public: Vec<_> = public
        .filter_map(|text| config::public_address(text, port))
        .collect();
    let told = told(bound, &public, is_local(&config.public_url));
    tracing::info!(bound = ?bound, ?told, "taking media by UDP");
    if told.is_empty() {
        tracing::warn!(
            "browsers cannot reach the UDP port, so media goes over WebSockets; relay.udp_listen or relay.public_addresses \
             change that"
        );
        return Ok(None);
    }
    Ok(Some(udp.with_candidates(told)))
}

/// What browsers are told: the public addresses, if any are named; else those that are bound, and the loopback only when there
/// is nothing else and browsers run on this machine.
fn told(bound: &[SocketAddr], public: &[SocketAddr], local: bool) -> Vec<SocketAddr> {
    if !public.is_empty() {
        return public.to_vec();
    }
    let outside = bound.iter().filter(|address| !address.ip().is_loopback());
    let outside: Vec<_> = outside.copied().collect();
    if outside.is_empty() && local {
        return bound.to_vec();
    }
    outside
}

/// May the pages of this URL be opened on this machine only? Without one, nothing says otherwise.
fn is_local(public_url: &str) -> bool {
    let (_, rest) = public_url.split_once("://").unwrap_or(("", public_url));
    let end = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
    let host = rest[..end.unwrap_or(rest.len())].trim_matches(['[', ']']);
    let ip = host.parse::<IpAddr>();
    host.is_empty() || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_what_they_can_reach_and_nothing_else() {
        let parse = |text: &str| -> Vec<SocketAddr> {
            let each = text.split_whitespace().map(str::parse);
            each.collect::<Result<_, _>>().expect("addresses")
        };
        let bound = "10.0.0.5:3478 [2001:db8::5]:3478 127.0.0.1:3478";
        let outside = "10.0.0.5:3478 [2001:db8::5]:3478";
        let loopback = "127.0.0.1:3478";
        let public = "203.0.113.7:3478";
        for (has, public, local, expected) in [
            (bound, public, true, public),
            (bound, public, false, public),
            (bound, "", true, outside),
            (bound, "", false, outside),
            (loopback, "", true, loopback),
            (loopback, "", false, ""),
            (loopback, public, false, public),
        ] {
            let told = told(&parse(has), &parse(public), local);
            assert_eq!(told, parse(expected), "{has} {public} {local}");
        }
    }

    #[test]
    fn a_public_url_says_whether_browsers_run_on_this_machine() {
        let local = [
            "",
            "http://localhost:8080",
            "http://127.0.0.1",
            "http://[::1]:1",
        ];
        assert!(local.iter().all(|url| is_local(url)));
        let remote = [
            "https://grove.example",
            "https://203.0.113.7:8443",
            "http://[2001:db8::1]",
        ];
        assert!(!remote.iter().any(|url| is_local(url)));
    }
}

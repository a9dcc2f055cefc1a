//! The server within a test, with a port for QUIC links.

use grove_server::config::{Config, Flags};
use grove_server::server::Server;
use std::net::SocketAddr;

/// Where it listens, and its directory, which lives as long as it is held.
pub(crate) fn start() -> (SocketAddr, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a directory for the test");
    let mut flags = Flags::default();
    let path = data.path().display().to_string();
    flags.values.extend([
        ("listen", "127.0.0.1:0".to_owned()),
        ("data", path),
        ("relay.quic_listen", "127.0.0.1:0".to_owned()),
    ]);
    let config = Config::load(&flags, std::iter::empty()).expect("this is a configuration");
    let server = Server::load(config).expect("the server loads");
    let address = server.address();
    tokio::spawn(server.run());
    (address, data)
}

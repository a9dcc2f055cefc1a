//! QUIC links: what native peers have in place of a WebSocket, and relays will have between each other.
//!
//! An [`Endpoint`] is one UDP port for any number of links, made by others ([`Endpoint::accept`]) or by itself
//! ([`Endpoint::dial`]). Who listens shows a certificate that was made at its start, and whoever dials has been told the hash
//! of it; who dials shows a token. Nobody's name means anything. Then [`Socket::run`] carries a link's two queues
//! ([`crate::Attached`]): control messages on one stream in both directions, every picture on a stream of its own that is
//! given up after a while, sound in datagrams. `docs/ref/links.md` has the bytes.
//!
//! This is beside `driver` the only part of the crate that awaits, and the only one with a socket. What a peer sends costs at
//! most its own link: streams, windows and datagrams of each are bounded, and so are handshakes, which unverified addresses
//! have to repeat once many are on their way.

mod socket;
mod tls;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use quinn::congestion::BbrConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::command::Token;
use crate::relay::MAX_FRAME_BYTES;
pub use socket::{End, Socket};
use wire::{MAX_GREETING, Texts};

/// What both sides of a connection must speak.
pub const ALPN: &[u8] = b"grove.relay.v1";

/// From the first datagram of a connection to its hello; and to the welcome, for whoever dials.
const HELLO: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for so long is lost. Heartbeats come at least each 500 ms.
const IDLE: Duration = Duration::from_secs(15);
/// Connections that have not said hello. When half of them are taken, a new address must show that it can be reached; beyond
/// them the first datagram is dropped, and the other side tries again.
const OPENING: usize = 512;
/// Pictures on their way to one reader; more wait with their sender.
const STREAMS: u32 = 128;
/// Bytes of streams that one peer may have sent and that were not read: several of the largest frames.
const RECEIVE: u32 = 2 << 20;
/// Bytes that may wait for acknowledgements. The relay's core hands out nothing beyond the congestion window, so this is
/// only reached by what a long path holds.
const SEND: u64 = 4 << 20;
/// Bytes that the kernel may hold for the port, each way: all links share them, and sound that does not fit is lost.
const KERNEL: usize = 4 << 20;
/// A reader is asked to acknowledge so many packets at once, or what came within 25 ms (QUIC's default delay). With QUIC's own
/// two, a star of 16 cost a relay a tenth more; with many more, losses would be noticed late.
const ACK_AFTER: u32 = 10;
/// Bytes of sound that wait; the oldest go.
const DATAGRAMS: usize = 64 * 1024;

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket.
    #[error("cannot use the UDP port: {0}")]
    Socket(#[from] io::Error),
    /// The certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
}

/// Why somebody who came gets no link. Their connection is closed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// It was over before a hello was due: another certificate was expected, another protocol spoken, or nobody is there.
    #[error("the connection ended before it was made")]
    Gone,
    /// Something else came, or nothing in time.
    #[error("no hello came")]
    NoHello,
}

/// Why a link could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not there, or not with this certificate.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// The other side's words.
    #[error("refused: {0}")]
    Refused(String),
    /// Neither welcome nor refusal in time.
    #[error("no welcome came")]
    NoWelcome,
}

/// One UDP port. Clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    certificate_sha256: [u8; 32],
    transport: Arc<quinn::TransportConfig>,
    opening: Arc<Semaphore>,
}

impl Endpoint {
    /// Takes the port, on the current tokio runtime, and makes a certificate for as long as this runs.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let identity = tls::Identity::new().map_err(BindError::Certificate)?;
        let transport = Arc::new(transport());
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(identity.server));
        server.transport_config(transport.clone());
        server.max_incoming(OPENING);
        Ok(Self {
            quinn: quinn::Endpoint::new(
                quinn::EndpointConfig::default(),
                Some(server),
                listen(address)?,
                Arc::new(quinn::TokioRuntime),
            )?,
            certificate_sha256: identity.sha256,
            transport,
            opening: Arc::new(Semaphore::new(OPENING)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// By what it is known: SHA-256 of its certificate, DER.
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.certificate_sha256
    }

    /// The next one who comes; `None` once the endpoint is closed. Losing the future loses nobody.
    pub async fn accept(&self) -> Option<Arriving> {
        loop {
            let incoming = self.quinn.accept().await?;
            let Ok(permit) = Arc::clone(&self.opening).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            if self.opening.available_permits() < OPENING / 2 && incoming.may_retry() {
                // Costs an attacker with a forged address everything, and somebody real one round trip.
                let _ = incoming.retry();
                continue;
            }
            if let Ok(connecting) = incoming.accept() {
                return Some(Arriving { connecting, permit });
            }
        }
    }

    /// Makes a link with whoever listens at `address`, has this certificate and expects this token. The word beside it is
    /// the other side's instance.
    pub async fn dial(
        &self,
        address: SocketAddr,
        certificate_sha256: [u8; 32],
        token: Token,
    ) -> Result<(Socket, String), DialError> {
        let crypto = tls::client(certificate_sha256).map_err(DialError::Connection)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone());
        let opening = async {
            let connection = self
                .quinn
                .connect_with(config, address, tls::NAME)
                .map_err(|error| DialError::Connection(error.to_string()))?
                .await
                .map_err(|error| DialError::Connection(error.to_string()))?;
            let refused = |connection: &quinn::Connection| match connection.close_reason() {
                Some(quinn::ConnectionError::ApplicationClosed(close)) => {
                    DialError::Refused(String::from_utf8_lossy(&close.reason).into_owned())
                }
                Some(other) => DialError::Connection(other.to_string()),
                None => DialError::NoWelcome,
            };
            let Ok((mut send, receive)) = connection.open_bi().await else {
                return Err(refused(&connection));
            };
            let hello = wire::pack(&wire::hello(token));
            if send.write_all(&hello).await.is_err() {
                return Err(refused(&connection));
            }
            let mut texts = Texts::new(receive);
            match texts.next(MAX_GREETING).await {
                Ok(Some(text)) => {
                    let instance = wire::read_welcome(&text).ok_or(DialError::NoWelcome)?;
                    Ok((Socket::new(connection, send, texts), instance))
                }
                _ => Err(refused(&connection)),
            }
        };
        match timeout(HELLO, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(DialError::NoWelcome),
        }
    }

    /// Ends every link, with these words, and takes no more.
    pub fn close(&self, code: u16, reason: &str) {
        self.quinn.close(VarInt::from(code), reason.as_bytes());
    }
}

/// Somebody whose first datagram has come.
#[derive(Debug)]
pub struct Arriving {
    connecting: quinn::Connecting,
    permit: OwnedSemaphorePermit,
}

impl Arriving {
    /// Waits for the handshake and the hello, at most 5 s. `code` and `reason` are for those who say something else.
    pub async fn hello(self, code: u16, reason: &str) -> Result<Opening, HelloError> {
        let Self { connecting, permit } = self;
        let deadline = tokio::time::Instant::now() + HELLO;
        let connection = match tokio::time::timeout_at(deadline, connecting).await {
            Ok(Ok(connection)) => connection,
            _ => return Err(HelloError::Gone),
        };
        let greeting = async {
            let (send, receive) = connection.accept_bi().await.ok()?;
            let mut texts = Texts::new(receive);
            let text = texts.next(MAX_GREETING).await.ok()??;
            Some((send, texts, wire::read_hello(&text)?))
        };
        match tokio::time::timeout_at(deadline, greeting).await {
            Ok(Some((send, texts, token))) => Ok(Opening {
                connection,
                send,
                texts,
                token,
                _permit: permit,
            }),
            _ => {
                connection.close(VarInt::from(code), reason.as_bytes());
                Err(HelloError::NoHello)
            }
        }
    }
}

/// Somebody who has said hello and waits for an answer.
#[derive(Debug)]
pub struct Opening {
    connection: quinn::Connection,
    send: quinn::SendStream,
    texts: Texts,
    token: Token,
    _permit: OwnedSemaphorePermit,
}

impl Opening {
    /// What was shown.
    pub fn token(&self) -> Token {
        self.token
    }

    /// They are welcome to this instance.
    pub async fn welcome(self, instance: &str) -> Option<Socket> {
        let Self {
            connection,
            mut send,
            texts,
            ..
        } = self;
        let welcome = wire::pack(&wire::welcome(instance));
        send.write_all(&welcome).await.ok()?;
        Some(Socket::new(connection, send, texts))
    }

    /// They are not.
    pub fn refuse(self, code: u16, reason: &str) {
        self.connection.close(VarInt::from(code), reason.as_bytes());
    }
}

/// Every address of the machine where `address` is `[::]`, IPv4 too.
fn listen(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel may give less than that; the port works with what it gives.
    let _ = socket.set_recv_buffer_size(KERNEL);
    let _ = socket.set_send_buffer_size(KERNEL);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn transport() -> quinn::TransportConfig {
    let mut acknowledgements = quinn::AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER));
    let mut transport = quinn::TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(BbrConfig::default()))
        .max_idle_timeout(Some(
            IDLE.try_into()
                .expect("15 s fits into QUIC's 62 bits of ms"),
        ))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .stream_receive_window(VarInt::from_u32(MAX_FRAME_BYTES as u32))
        .receive_window(VarInt::from_u32(RECEIVE))
        .send_window(SEND)
        .datagram_receive_buffer_size(Some(DATAGRAMS))
        .datagram_send_buffer_size(DATAGRAMS)
        .ack_frequency_config(Some(acknowledgements))
        // Older pictures first: the half of two is worth less than the whole of one.
        .send_fairness(false);
    transport
}

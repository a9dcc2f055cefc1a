//! One end of a call as a browser would be: ICE, DTLS, SRTP and feedback by str0m, over a socket of its own.
//!
//! It offers or answers, sends what it is given and tells what came. Packets are opened and acknowledged, their content is
//! not looked at.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::crypto::CryptoProvider;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::flood::Tap;
use super::shape::Shape;

/// What str0m offers for VP8 and Opus.
const VP8: u8 = 96;
const OPUS: u8 = 111;
/// Longer datagrams do not come.
const DATAGRAM: usize = 2048;

/// Why a peer is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("the socket: {0}")]
    Socket(#[from] io::Error),
    #[error("the description does not fit: {0}")]
    Description(String),
    #[error("the connection: {0}")]
    Connection(#[from] str0m::error::RtcError),
    #[error("the connection ended")]
    Ended,
}

/// All that came to the sockets of all receivers, connected or not: what a server sends beside packets is in it.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    datagrams: AtomicUsize,
    bytes: AtomicUsize,
}

impl Arrivals {
    pub(crate) fn add(&self, bytes: usize) {
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Datagrams and their bytes.
    pub(crate) fn sum(&self) -> (usize, usize) {
        (
            self.datagrams.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// What came.
#[derive(Debug)]
pub(crate) enum Came {
    Packet { seq: u64, payload: Arc<[u8]> },
    Text(String),
    KeyWanted,
}

/// See the module.
pub(crate) struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    timeout: Instant,
    channel: Option<ChannelId>,
    sends: Option<Mid>,
    connected: bool,
    open: bool,
    seq: u64,
    arrivals: Arc<Arrivals>,
    tap: Option<Arc<Tap>>,
}

fn crypto() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(str0m::crypto::from_feature_flags())))
}

fn misfit(error: impl std::fmt::Display) -> PeerError {
    PeerError::Description(error.to_string())
}

impl Peer {
    /// A peer at a free port of `address`, whose datagrams are counted in `arrivals`.
    pub(crate) async fn bind(address: IpAddr, arrivals: &Arc<Arrivals>) -> Result<Self, PeerError> {
        let socket = UdpSocket::bind((address, 0)).await?;
        let local = socket.local_addr()?;
        let now = Instant::now();
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(crypto())
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp").map_err(misfit)?);
        Ok(Self {
            rtc,
            socket,
            local,
            timeout: now,
            channel: None,
            sends: None,
            connected: false,
            open: false,
            seq: 0,
            arrivals: Arc::clone(arrivals),
            tap: None,
        })
    }

    /// Whatever it sends is noted there from now on.
    pub(crate) fn tap(&mut self, tap: Arc<Tap>) {
        self.tap = Some(tap);
    }

    /// Offers the control channel of a relay's link, if wanted, and a part for each of `kinds`. A peer that sends does so on
    /// the last.
    pub(crate) fn offer(
        &mut self,
        control: bool,
        kinds: &[MediaKind],
        sends: bool,
    ) -> Result<(String, SdpPendingOffer), PeerError> {
        let mut api = self.rtc.sdp_api();
        if control {
            self.channel = Some(api.add_channel_with_config(ChannelConfig {
                label: "control".to_owned(),
                negotiated: Some(0),
                ..ChannelConfig::default()
            }));
        }
        for &kind in kinds {
            let direction = if sends {
                Direction::SendOnly
            } else {
                Direction::RecvOnly
            };
            let mid = api.add_media(kind, direction, None, None, None);
            self.sends = sends.then_some(mid);
        }
        let (offer, pending) = api.apply().ok_or(PeerError::Ended)?;
        Ok((offer.to_sdp_string(), pending))
    }

    /// Takes the answer to its offer.
    pub(crate) fn accept(&mut self, pending: SdpPendingOffer, sdp: &str) -> Result<(), PeerError> {
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(misfit)?;
        let api = self.rtc.sdp_api();
        Ok(api.accept_answer(pending, answer)?)
    }

    /// Answers an offer.
    pub(crate) fn answer(&mut self, sdp: &str) -> Result<String, PeerError> {
        let offer = SdpOffer::from_sdp_string(sdp).map_err(misfit)?;
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        Ok(answer.to_sdp_string())
    }

    /// Connected, and if it has a control channel, that is open.
    pub(crate) fn is_up(&self) -> bool {
        self.connected && (self.open || self.channel.is_none())
    }

    /// Sends a frame's packets now.
    pub(crate) fn send(
        &mut self,
        shape: Shape,
        payloads: Vec<Vec<u8>>,
        number: u32,
    ) -> Result<(), PeerError> {
        let (pt, clock) = if shape.is_audio() {
            (OPUS, 48_000)
        } else {
            (VP8, 90_000)
        };
        let time = number.wrapping_mul(clock / shape.frames_per_second());
        let mid = self.sends.ok_or(PeerError::Ended)?;
        let now = Instant::now();
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).ok_or(PeerError::Ended)?;
        let last = payloads.len().saturating_sub(1);
        for (n, payload) in payloads.into_iter().enumerate() {
            let write = RtpWrite::new(pt.into(), self.seq.into(), time, now, payload);
            let marker = n == last && !shape.is_audio();
            stream.write_rtp(write.marker(marker).nackable(!shape.is_audio()));
            self.seq += 1;
        }
        self.rtc.handle_input(Input::Timeout(now))?;
        // What comes of sending is sent; nothing is received by it.
        self.drain(&mut |_| {})
    }

    /// Says something on the control channel.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), PeerError> {
        if let Some(mut channel) = self.channel.and_then(|id| self.rtc.channel(id)) {
            // A message that finds no room is one heartbeat less.
            let _ = channel.write(false, text.as_bytes());
        }
        self.rtc.handle_input(Input::Timeout(Instant::now()))?;
        self.drain(&mut |_| {})
    }

    /// Waits for what comes, until `latest`, and tells it.
    pub(crate) async fn step(
        &mut self,
        latest: Instant,
        note: &mut impl FnMut(Came),
    ) -> Result<(), PeerError> {
        let until = self.timeout.min(latest);
        tokio::select! {
            ready = self.socket.readable() => ready?,
            () = sleep_until(until.into()) => {}
        }
        let mut bytes = [0; DATAGRAM];
        while let Ok((length, from)) = self.socket.try_recv_from(&mut bytes) {
            self.arrivals.add(length);
            let datagram = bytes.get(..length).unwrap_or_default();
            if let Ok(receive) = Receive::new(Protocol::Udp, from, self.local, datagram) {
                self.rtc
                    .handle_input(Input::Receive(Instant::now(), receive))?;
                self.drain(note)?;
            }
        }
        let now = Instant::now();
        if self.timeout <= now {
            self.rtc.handle_input(Input::Timeout(now))?;
            self.drain(note)?;
        }
        if self.rtc.is_alive() {
            Ok(())
        } else {
            Err(PeerError::Ended)
        }
    }

    fn drain(&mut self, note: &mut impl FnMut(Came)) -> Result<(), PeerError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return Ok(());
                }
                Output::Transmit(t) => {
                    // What the kernel does not take is lost, as on any network.
                    let _ = self.socket.try_send_to(&t.contents, t.destination);
                    if let Some(tap) = &self.tap {
                        tap.note(&t.contents, t.destination, &self.socket)?;
                    }
                }
                Output::Event(event) => match event {
                    Event::Connected => self.connected = true,
                    Event::ChannelOpen(..) => self.open = true,
                    Event::ChannelData(data) => {
                        note(Came::Text(String::from_utf8_lossy(&data.data).into_owned()));
                    }
                    Event::KeyframeRequest(_) => note(Came::KeyWanted),
                    Event::RtpPacket(packet) => note(Came::Packet {
                        seq: *packet.seq_no,
                        payload: packet.payload,
                    }),
                    _ => {}
                },
            }
        }
    }
}

//! One browser's peer connection, as the relay sees it: ICE-lite, DTLS, SRTP, RTCP and SCTP by str0m, in RTP mode.
//!
//! No socket and no clock: the offer and datagrams in, the answer, datagrams and events out. The browser offers and relays
//! only answer. Its tracks are of two sorts: those on which it sends, whose packets come out as [`SessionEvent::Packet`],
//! and those on which it receives, its slots, to which [`Session::send`] writes. Both keep their [`TrackId`] for the life of
//! the connection; a further offer ([`Session::accept`]) adds tracks behind those that are there. Control messages go over
//! the data channel 0, negotiated in advance.
//!
//! The relay's address is in the answer; the browser's are learned from its checks, those in its offer are ignored. Bytes
//! that come cost at most this connection. Retransmissions, congestion feedback and bandwidth estimation are str0m's.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use str0m::bwe::{Bitrate, BweKind};
use str0m::change::SdpOffer;
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::config::CryptoProvider;
use str0m::media::{Direction, KeyframeRequestKind, MediaAdded, MediaKind, Mid, Pt, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap, RtpPacket, RtpWrite, Ssrc};
use str0m::{Candidate, Event, IceConnectionState, Input, Output as RtcOutput, Rtc, RtcConfig};

use super::packet::Packet;
use super::slot::Outgoing;
use crate::Micros;

/// Bytes of SDP in an offer. One with 64 pairs of tracks takes 150 kB.
const OFFER_BYTES: usize = 256 << 10;
/// Tracks of a connection, both ways.
const TRACKS: usize = 160;
/// Characters of a control message (`docs/ref/links.md`).
const CONTROL_BYTES: usize = 4096;
/// Incoming streams (SSRCs) remembered, a browser has one per layer.
const STREAMS: usize = 64;
/// What a NACK can still be answered from: 2 s at 4 Mbit/s.
const RTX_PACKETS: usize = 1024;
const RTX_AGE: Duration = Duration::from_secs(2);
/// Of all that is sent, at most this share again. Two lossy hops at 5 % need 10 %; without a bound a narrow link would carry
/// nothing but repetitions.
const RTX_SHARE: f32 = 0.3;

/// What a session needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the relay's UDP port can be reached.
    pub candidates: Vec<SocketAddr>,
    /// The bandwidth to begin with, bit/s.
    pub start_bps: u64,
}

/// Why an offer is refused.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// Above 256 KiB, or 160 tracks.
    #[error("the offer is too large")]
    TooLarge,
    /// No SDP, or one that does not fit the session.
    #[error("the offer is not acceptable: {0}")]
    Unacceptable(String),
}

/// A track of the connection, counted from 0 in the order of the offers' m-lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u16);

/// Which way a track goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The browser sends on it, in so many layers.
    Up {
        /// 1 without simulcast.
        layers: u8,
    },
    /// It is a slot of the browser's.
    Down,
}

/// Something that happened on the connection.
#[derive(Debug)]
pub enum SessionEvent {
    /// The offer named a further track.
    Track {
        /// Which.
        track: TrackId,
        /// Sound, else video.
        audio: bool,
        /// Which way it goes.
        way: Way,
    },
    /// Media may flow.
    Connected,
    /// The control channel is open.
    ControlOpen,
    /// A control message.
    Control(String),
    /// A packet came.
    Packet {
        /// On which track.
        track: TrackId,
        /// Of which layer, counted in the order of the offer's simulcast line; 0 without.
        layer: u8,
        /// Its RTP stream. Numbers and times count within it; a layer that begins anew gets another.
        ssrc: u32,
        /// The packet, stripped.
        packet: Packet,
    },
    /// The browser needs a key frame in this slot.
    KeyWanted(TrackId),
    /// What the way down carries, bit/s.
    Bandwidth(u64),
    /// The connection has ended: nothing else comes.
    Closed,
}

/// What the session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// From which of the relay's addresses.
        source: SocketAddr,
        /// To whom.
        destination: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Take note.
    Event(SessionEvent),
    /// Nothing now; call [`Session::handle_timeout`] at this time at the latest. `None`: there is nothing to wait for.
    Timeout(Option<Instant>),
}

#[derive(Debug)]
struct Track {
    mid: Mid,
    audio: bool,
    /// Layers by name, in the offer's order.
    rids: Vec<Rid>,
    /// For a slot: what its packets are labelled with.
    pt: Option<Pt>,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    rtc: Rtc,
    /// Where `Micros` count from.
    start: (Instant, Micros),
    tracks: Vec<Track>,
    /// Whose an incoming SSRC is.
    streams: HashMap<Ssrc, (u16, u8)>,
    control: Option<ChannelId>,
    events: VecDeque<SessionEvent>,
    closed: bool,
}

fn crypto() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(str0m::crypto::from_feature_flags())))
}

/// The header extensions in use: those that name a packet's track and layer, and the counter of congestion feedback. Level
/// of sound and orientation would tell in clear what the seal hides.
fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::empty();
    map.set(1, Extension::TransportSequenceNumber);
    map.set(2, Extension::RtpMid);
    map.set(3, Extension::RtpStreamId);
    map.set(4, Extension::RepairedRtpStreamId);
    map.set(5, Extension::AbsoluteSendTime);
    map
}

impl Session {
    /// A session that waits for its offer. `now` and `micros` are the same moment.
    pub fn new(config: &Config, now: Instant, micros: Micros) -> Self {
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(crypto())
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_extension_map(extensions())
            .enable_bwe(Some(Bitrate::bps(config.start_bps)))
            .build(now);
        for &address in &config.candidates {
            if let Ok(candidate) = Candidate::host(address, "udp") {
                rtc.add_local_candidate(candidate);
            }
        }
        rtc.direct_api().create_data_channel(ChannelConfig {
            label: "control".to_owned(),
            negotiated: Some(0),
            ..ChannelConfig::default()
        });
        Self {
            rtc,
            start: (now, micros),
            tracks: Vec::new(),
            streams: HashMap::new(),
            control: None,
            events: VecDeque::new(),
            closed: false,
        }
    }

    /// The answer to the browser's offer, the first or a further one.
    pub fn accept(&mut self, offer: &str) -> Result<String, OfferError> {
        let lines = || offer.lines();
        let media = lines().filter(|line| line.starts_with("m=")).count();
        if offer.len() > OFFER_BYTES || media > TRACKS {
            return Err(OfferError::TooLarge);
        }
        let mut heard = String::with_capacity(offer.len());
        for line in lines().filter(|line| !line.starts_with("a=candidate:")) {
            heard.push_str(line);
            heard.push_str("\r\n");
        }
        let offer = SdpOffer::from_sdp_string(&heard)
            .map_err(|error| OfferError::Unacceptable(error.to_string()))?;
        let answer = self.rtc.sdp_api().accept_offer(offer);
        answer
            .map(|answer| answer.to_sdp_string())
            .map_err(|error| OfferError::Unacceptable(error.to_string()))
    }

    /// The session's own ICE user name: what the browser's checks carry. A further offer may change it (ICE restart).
    pub fn ufrag(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// A datagram came. True: it was a genuine check, so its source is an address of this browser.
    pub fn handle_datagram(
        &mut self,
        source: SocketAddr,
        local: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        let Ok(receive) = Receive::new(Protocol::Udp, source, local, datagram) else {
            return false;
        };
        let input = Input::Receive(now, receive);
        if !self.rtc.accepts(&input) {
            return false;
        }
        // An error is about this datagram; one that ends the connection shows in `is_alive`.
        let taken = self.rtc.handle_input(input).is_ok();
        taken && datagram.first().is_some_and(|&first| first < 4)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            self.rtc.disconnect();
        }
    }

    /// What is to be done next; to be called until it says [`Output::Timeout`], after every other call.
    pub fn poll_output(&mut self) -> Output {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Output::Event(event);
            }
            if self.closed {
                return Output::Timeout(None);
            }
            match self.rtc.poll_output() {
                Ok(RtcOutput::Transmit(transmit)) => {
                    return Output::Transmit {
                        source: transmit.source,
                        destination: transmit.destination,
                        datagram: transmit.contents.into(),
                    };
                }
                Ok(RtcOutput::Event(event)) => self.note(event),
                Ok(RtcOutput::Timeout(at)) if self.rtc.is_alive() => {
                    return Output::Timeout(Some(at));
                }
                Ok(RtcOutput::Timeout(_)) | Err(_) => self.end(),
            }
        }
    }

    /// Writes packets to a slot, in the order given.
    pub fn send(
        &mut self,
        track: TrackId,
        packets: impl IntoIterator<Item = Outgoing>,
        now: Instant,
    ) {
        let Some(Track {
            mid,
            audio,
            pt: Some(pt),
            ..
        }) = self.tracks.get(usize::from(track.0))
        else {
            return;
        };
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(*mid, None) else {
            return;
        };
        for packet in packets {
            let write = RtpWrite::new(
                *pt,
                packet.seq.into(),
                packet.time as u32,
                now,
                packet.payload,
            );
            stream.write_rtp(write.marker(packet.marker).nackable(!audio));
        }
        self.handle_timeout(now);
    }

    /// Sends a control message. False: the channel is not open, or what it holds unsent is at its bound.
    pub fn send_control(&mut self, text: &str) -> bool {
        let channel = self.control.and_then(|id| self.rtc.channel(id));
        channel.is_some_and(|mut channel| channel.write(false, text.as_bytes()).unwrap_or(false))
    }

    /// Asks the browser for a key frame of a layer that it sends. Browsers answer with key frames of all layers, so requests
    /// are to be merged per browser. False: nothing of the layer has come yet.
    pub fn request_key(&mut self, track: TrackId, layer: u8) -> bool {
        let Some(track) = self.tracks.get(usize::from(track.0)) else {
            return false;
        };
        let rid = track.rids.get(usize::from(layer)).copied();
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_rx_by_mid(track.mid, rid) else {
            return false;
        };
        stream.request_keyframe(KeyframeRequestKind::Pli);
        true
    }

    /// What is to be sent at present at least, and what could be used, bit/s: how far the estimate probes upward.
    pub fn set_demand(&mut self, least_bps: u64, most_bps: u64) {
        let (least, most) = (Bitrate::bps(least_bps), Bitrate::bps(most_bps));
        self.rtc.bwe().set_bitrate(least, most);
    }

    /// Ends the connection, with a goodbye to the browser.
    pub fn close(&mut self) {
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    fn end(&mut self) {
        self.rtc.disconnect();
        self.closed = true;
        self.events.push_back(SessionEvent::Closed);
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Connected => self.events.push_back(SessionEvent::Connected),
            Event::MediaAdded(media) => self.add_track(&media),
            Event::ChannelOpen(id, _) if self.control.is_none() => {
                self.control = Some(id);
                self.events.push_back(SessionEvent::ControlOpen);
            }
            Event::ChannelData(data) if Some(data.id) == self.control && !data.binary => {
                if data.data.len() <= CONTROL_BYTES
                    && let Ok(text) = String::from_utf8(data.data)
                {
                    self.events.push_back(SessionEvent::Control(text));
                }
            }
            Event::RtpPacket(packet) => self.take_packet(&packet),
            Event::KeyframeRequest(request) => {
                if let Some(at) = self.tracks.iter().position(|t| t.mid == request.mid) {
                    let track = TrackId(at as u16);
                    self.events.push_back(SessionEvent::KeyWanted(track));
                }
            }
            Event::EgressBitrateEstimate(BweKind::Twcc { estimate, .. }) => {
                let bps = estimate.as_u64();
                self.events.push_back(SessionEvent::Bandwidth(bps));
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.end();
            }
            _ => {}
        }
    }

    fn add_track(&mut self, media: &MediaAdded) {
        let audio = media.kind == MediaKind::Audio;
        let down = matches!(media.direction, Direction::SendOnly | Direction::SendRecv);
        let mut track = Track {
            mid: media.mid,
            audio,
            rids: Vec::new(),
            pt: None,
        };
        if down {
            track.pt = self.payload_type(media.mid);
            let mut api = self.rtc.direct_api();
            if let Some(stream) = api.stream_tx_by_mid(media.mid, None) {
                stream.set_rtx_cache(RTX_PACKETS, RTX_AGE, Some(RTX_SHARE));
            }
        } else if let Some(simulcast) = &media.simulcast {
            let names = simulcast.recv.iter().map(|layer| layer.rid);
            track.rids = names.take(crate::Layers::MAX.into()).collect();
        }
        let way = if down {
            Way::Down
        } else {
            Way::Up {
                layers: track.rids.len().max(1) as u8,
            }
        };
        let id = TrackId(self.tracks.len() as u16);
        self.tracks.push(track);
        self.events.push_back(SessionEvent::Track {
            track: id,
            audio,
            way,
        });
    }

    /// What both sides call the track's codec. Each kind has just one.
    fn payload_type(&mut self, mid: Mid) -> Option<Pt> {
        let agreed = self.rtc.media(mid)?.remote_pts().to_vec();
        let known = self.rtc.codec_config().params();
        agreed
            .into_iter()
            .find(|pt| known.iter().any(|p| p.pt() == *pt))
    }

    fn take_packet(&mut self, rtp: &RtpPacket) {
        let ssrc = rtp.header.ssrc;
        let Some((track, layer)) = self.whose(ssrc) else {
            return;
        };
        let (seq, time) = (*rtp.seq_no, rtp.time.numer());
        let (start, micros) = self.start;
        let at = micros + rtp.timestamp.saturating_duration_since(start).as_micros() as Micros;
        let audio = self.tracks.get(usize::from(track)).is_some_and(|t| t.audio);
        let packet = if audio {
            Packet::audio(seq, time, &rtp.payload, at)
        } else {
            Packet::video(seq, time, rtp.header.marker, &rtp.payload, at)
        };
        self.events.push_back(SessionEvent::Packet {
            track: TrackId(track),
            layer,
            ssrc: *ssrc,
            packet,
        });
    }

    fn whose(&mut self, ssrc: Ssrc) -> Option<(u16, u8)> {
        if let Some(&known) = self.streams.get(&ssrc) {
            return Some(known);
        }
        let (mid, rid) = {
            let mut api = self.rtc.direct_api();
            let stream = api.stream_rx(&ssrc)?;
            (stream.mid(), stream.rid())
        };
        let track = self.tracks.iter().position(|track| track.mid == mid)?;
        let rids = &self.tracks[track].rids;
        let layer = match rid {
            Some(rid) => rids.iter().position(|known| *known == rid)?,
            None => 0,
        };
        if self.streams.len() >= STREAMS {
            self.streams.clear();
        }
        let found = (track as u16, layer as u8);
        self.streams.insert(ssrc, found);
        Some(found)
    }
}

//! One browser's peer connection but for what goes down on it: ICE-lite, DTLS, SCTP, and what the browser sends, by str0m in
//! RTP mode.
//!
//! No socket and no clock: the offer and datagrams in, the answer, datagrams and events out. The browser offers and relays
//! only answer; a further offer ([`Session::accept`]) adds tracks behind those that are there. What the browser sends comes
//! out packet by packet. For what it receives, its slots, the session tells names and keys ([`SessionEvent::Slot`],
//! [`SessionEvent::Secured`]); packets are made elsewhere ([`super::Egress`]). str0m never sends by a slot's SSRC: two counters
//! under one key would meet. Control messages go over the data channel 0, negotiated in advance.
//!
//! The relay's address is in the answer; the browser's are learned from its checks, those in its offer are ignored. Bytes
//! that come cost at most this connection. Repair and feedback of what comes are str0m's.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use str0m::channel::{ChannelConfig, ChannelId};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{self, Receive};
use str0m::rtp::{Extension, ExtensionMap, RtpPacket, Ssrc};
use str0m::{Candidate, Event, IceConnectionState, Input, Output as RtcOutput, Rtc, RtcConfig};

use super::claims::mark;
use super::egress::SlotNames;
use super::keys::{Caught, Place, catching};
use super::offer::{Offer, OfferError};
use super::packet::{Packet, sound};
use super::protocol::Protocol;
use super::srtp::Open;

/// Characters of a control message (`docs/ref/links.md`).
const CONTROL_BYTES: usize = 4096;
/// Incoming streams (SSRCs) remembered. A browser has two per layer, one of them for retransmissions.
const STREAMS: usize = 256;

/// Something that happened on the connection.
#[derive(Debug)]
pub enum SessionEvent {
    /// The offer named a further slot.
    Slot(SlotNames),
    /// The handshake is done: these are the keys of media.
    Secured(Caught),
    /// The control channel is open.
    ControlOpen,
    /// A control message.
    Control(String),
    /// A sealed frame of sound came.
    Sound(Bytes),
    /// A packet of a picture came. Numbers and times count within its SSRC; a layer that begins anew gets another.
    Packet(u32, Packet),
    /// From there came something that only the browser can make, and that is no check.
    Heard(SocketAddr),
    /// The connection has ended: nothing else comes.
    Closed,
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To where a check came from ([`super::Demux::way`]).
    Address(SocketAddr),
    /// To the browser, wherever it is ([`super::Demux::path`]).
    Path,
}

/// What the session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// To whom.
        to: To,
        /// What.
        datagram: Vec<u8>,
    },
    /// Take note.
    Event(SessionEvent),
    /// Nothing now; call [`Session::handle_timeout`] at this time at the latest. `None`: there is nothing to wait for.
    Timeout(Option<Instant>),
}

/// A slot whose names stay as they were through further offers.
#[derive(Debug)]
struct Slot {
    mid: Mid,
    ssrc: Ssrc,
    rtx: Option<Ssrc>,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    rtc: Rtc,
    candidates: Vec<SocketAddr>,
    slots: Vec<Slot>,
    place: Place,
    secured: bool,
    /// Looks at who begins to send, once the connection is secured.
    open: Option<Open>,
    /// Incoming SSRCs that are proven, and str0m knows whose they are.
    proven: BTreeSet<Ssrc>,
    scratch: Vec<u8>,
    /// Of incoming SSRCs: is it sound?
    sounds: HashMap<Ssrc, bool>,
    /// Where the datagram that is being handled came from, unless that was told already.
    source: Option<SocketAddr>,
    /// Records of DTLS that were seen to be genuine.
    records: usize,
    /// The browser has been heard from.
    heard: bool,
    control: Option<ChannelId>,
    events: VecDeque<SessionEvent>,
    closed: bool,
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
    /// A session of this shard that waits for its offer, at a relay that can be reached at these addresses.
    pub fn new(candidates: &[SocketAddr], shard: usize, now: Instant) -> Self {
        let config = RtcConfig::new()
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_extension_map(extensions());
        let (mut rtc, place) = catching(config, now);
        let mut credentials = rtc.direct_api().local_ice_credentials();
        credentials.ufrag.insert(0, mark(shard));
        rtc.direct_api().set_local_ice_credentials(credentials);
        for &address in candidates {
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
            candidates: candidates.to_vec(),
            slots: Vec::new(),
            place,
            secured: false,
            open: None,
            proven: BTreeSet::new(),
            scratch: Vec::new(),
            sounds: HashMap::new(),
            source: None,
            records: 0,
            heard: false,
            control: None,
            events: VecDeque::new(),
            closed: false,
        }
    }

    /// The answer to the browser's offer, the first or a further one.
    pub fn accept(&mut self, offer: Offer) -> Result<String, OfferError> {
        self.lend_slots();
        let answer = self.rtc.sdp_api().accept_offer(offer.sdp);
        let named = self.take_slots(&offer.mids);
        let answer = answer.map_err(|error| OfferError::Unacceptable(error.to_string()))?;
        if !named {
            let why = "a receiver without our codecs, or without feedback on all that comes";
            return Err(OfferError::Unacceptable(why.to_owned()));
        }
        Ok(answer.to_sdp_string())
    }

    /// Lets str0m know of the slots, so that the next answer names them as before.
    fn lend_slots(&mut self) {
        for slot in &self.slots {
            // A part of the description that is used anew is forgotten.
            if self.rtc.media(slot.mid).is_some() {
                let mut api = self.rtc.direct_api();
                api.declare_stream_tx(slot.ssrc, slot.rtx, slot.mid, None);
            }
        }
    }

    /// Takes the slots away from str0m: those that were lent to it, whatever came of the offer and whether it names them, and
    /// new ones in its order. False: there is one that cannot be used.
    fn take_slots(&mut self, mids: &[Mid]) -> bool {
        let mut named = true;
        for slot in &self.slots {
            self.rtc.direct_api().remove_stream_tx(slot.ssrc);
        }
        for &mid in mids {
            let names = self.slot_names(mid);
            let mut api = self.rtc.direct_api();
            let stream = api.stream_tx_by_mid(mid, None);
            let Some((ssrc, rtx)) = stream.map(|stream| (stream.ssrc(), stream.rtx())) else {
                continue;
            };
            api.remove_stream_tx(ssrc);
            if self.slots.iter().any(|slot| slot.mid == mid) {
                continue;
            }
            let Some(names) = names else {
                named = false;
                continue;
            };
            self.slots.push(Slot { mid, ssrc, rtx });
            let rtx = rtx.zip(names.rtx);
            self.events.push_back(SessionEvent::Slot(SlotNames {
                ssrc: *ssrc,
                rtx: rtx.map(|(ssrc, (_, payload_type))| (*ssrc, payload_type)),
                ..names
            }));
        }
        named
    }

    /// What both sides call the slot's codec, of which each kind has just one, and its extension. SSRCs are still to be filled
    /// in.
    fn slot_names(&self, mid: Mid) -> Option<SlotNames> {
        let media = self.rtc.media(mid)?;
        if !matches!(media.direction(), Direction::SendOnly | Direction::SendRecv) {
            return None;
        }
        let known = self.rtc.codec_config().params();
        let codec = known
            .iter()
            .find(|codec| media.remote_pts().contains(&codec.pt()))?;
        let extension = media
            .remote_extmap()
            .id_of(Extension::TransportSequenceNumber)?;
        Some(SlotNames {
            audio: media.kind() == MediaKind::Audio,
            ssrc: 0,
            payload_type: *codec.pt(),
            rtx: codec.resend().map(|payload_type| (0, *payload_type)),
            transport: extension,
        })
    }

    /// The session's own ICE user name and password: what the browser's checks carry, and are signed with.
    pub fn credentials(&mut self) -> (String, String) {
        let credentials = self.rtc.direct_api().local_ice_credentials();
        (credentials.ufrag, credentials.pass)
    }

    /// A datagram came, from an address that speaks for this browser ([`super::Demux`]).
    pub fn handle_datagram(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) {
        let Some(local) = self.candidate_for(source) else {
            return;
        };
        let Ok(receive) = Receive::new(net::Protocol::Udp, source, local, datagram) else {
            return;
        };
        let input = Input::Receive(now, receive);
        if Protocol::of(datagram) == Some(Protocol::Stun) && !self.rtc.accepts(&input) {
            return;
        }
        let Ok(beginner) = self.beginner(datagram) else {
            return;
        };
        self.source = Some(source);
        // An error is about this datagram; one that ends the connection shows in `is_alive`.
        let _ = self.rtc.handle_input(input);
        if let Some(ssrc) = beginner {
            self.remember(ssrc);
        }
    }

    /// Which of our addresses str0m is told that it came to: one of those that the browser was told. There may be others, and
    /// a translator of addresses before us.
    fn candidate_for(&self, source: SocketAddr) -> Option<SocketAddr> {
        let all = || self.candidates.iter().copied();
        let like = |candidate: &SocketAddr| candidate.is_ipv4() == source.is_ipv4();
        all().find(like).or_else(|| all().next())
    }

    /// The SSRC of a packet of RTP, if it is one that begins. str0m gives a track to whatever names it before it looks whether
    /// that is genuine, so what begins is looked at here.
    fn beginner(&mut self, datagram: &[u8]) -> Result<Option<Ssrc>, Forged> {
        if Protocol::of(datagram) != Some(Protocol::Rtp) {
            return Ok(None);
        }
        let ssrc = datagram.get(8..).and_then(<[u8]>::first_chunk);
        let ssrc = Ssrc::from(u32::from_be_bytes(*ssrc.ok_or(Forged)?));
        if self.proven.contains(&ssrc) {
            return Ok(None);
        }
        let open = self.open.as_ref().ok_or(Forged)?;
        if self.proven.len() < STREAMS && open.begins(datagram, &mut self.scratch) {
            Ok(Some(ssrc))
        } else {
            Err(Forged)
        }
    }

    /// What begins may stand in another's place, which is to prove itself anew.
    fn remember(&mut self, ssrc: Ssrc) {
        self.proven.insert(ssrc);
        let mut api = self.rtc.direct_api();
        let mut known = BTreeSet::new();
        for main in &self.proven {
            if let Some(stream) = api.stream_rx(main) {
                known.insert(*main);
                known.extend(stream.rtx());
            }
        }
        self.proven.retain(|ssrc| known.contains(ssrc));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.source = None;
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
            let output = self.rtc.poll_output();
            if std::mem::replace(&mut self.records, self.place.records()) != self.records {
                self.hear();
            }
            match output {
                Ok(RtcOutput::Transmit(transmit)) => {
                    // Answers go back where a check came from. Before the browser was heard from so does the handshake, which
                    // is a few packets.
                    let stun = Protocol::of(&transmit.contents) == Some(Protocol::Stun);
                    let answer = stun || !self.heard;
                    return Output::Transmit {
                        to: if answer {
                            To::Address(transmit.destination)
                        } else {
                            To::Path
                        },
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

    /// Sends a control message. False: the channel is not open, or what it holds unsent is at its bound.
    pub fn send_control(&mut self, text: &str) -> bool {
        let channel = self.control.and_then(|id| self.rtc.channel(id));
        channel.is_some_and(|mut channel| channel.write(false, text.as_bytes()).unwrap_or(false))
    }

    /// Ends the connection, with a goodbye to the browser.
    pub fn close(&mut self) {
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    /// What came last is genuine.
    fn hear(&mut self) {
        if let Some(source) = self.source.take() {
            self.heard = true;
            self.events.push_back(SessionEvent::Heard(source));
        }
    }

    fn end(&mut self) {
        self.rtc.disconnect();
        self.closed = true;
        self.events.push_back(SessionEvent::Closed);
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.hear();
                self.secure();
            }
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
            Event::RtpPacket(packet) => {
                self.hear();
                self.take_packet(&packet);
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.end();
            }
            _ => {}
        }
    }

    fn secure(&mut self) {
        if let Some(caught) = self.place.caught()
            && !std::mem::replace(&mut self.secured, true)
        {
            self.open = caught.open();
            self.events.push_back(SessionEvent::Secured(caught.clone()));
        }
    }

    fn take_packet(&mut self, rtp: &RtpPacket) {
        let ssrc = rtp.header.ssrc;
        let event = match self.is_sound(ssrc) {
            None => return,
            Some(true) => match sound(&rtp.payload) {
                Some(sealed) => SessionEvent::Sound(Bytes::copy_from_slice(sealed)),
                None => return,
            },
            Some(false) => {
                let (seq, time) = (*rtp.seq_no, rtp.time.numer());
                let packet = Packet::video(seq, time, rtp.header.marker, &rtp.payload);
                SessionEvent::Packet(*ssrc, packet)
            }
        };
        self.events.push_back(event);
    }

    fn is_sound(&mut self, ssrc: Ssrc) -> Option<bool> {
        if let Some(&known) = self.sounds.get(&ssrc) {
            return Some(known);
        }
        let mid = self.rtc.direct_api().stream_rx(&ssrc)?.mid();
        let audio = self.rtc.media(mid)?.kind() == MediaKind::Audio;
        if self.sounds.len() >= STREAMS {
            self.sounds.clear();
        }
        self.sounds.insert(ssrc, audio);
        Some(audio)
    }
}

/// Nobody with the keys made this.
struct Forged;

//! One browser's link by RTP, in the words of any link: sealed frames and control messages in and out, over a [`Session`].
//!
//! What the browser sends is put together into frames, once per layer. What it receives is split into packets and goes to
//! its slots: any slot carries any stream, because frames say themselves whose they are; a stream keeps its slot while it
//! goes on. Slots are asked for as streams need them ([`RtpLink::expect`]). Until they are there frames wait, within
//! [`WAIT_FRAMES`] and [`WAIT_BYTES`].
//!
//! A receiver's request for a key frame (`PLI`) is ignored: it speaks for the browser's decoder, which is not used; the
//! control message `key` is what counts (`docs/ref/links.md`).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use grove_frame::Header;

use super::assemble::Assembler;
use super::session::{Config, OfferError, Output, Session, SessionEvent, TrackId, Way};
use super::slot::Outgoing;
use super::split::Splitter;
use super::timeline::ticks;
use crate::Micros;
use crate::command::Stream;
use crate::frame::{MS, Track, track};

/// Most pairs of slots of one link (`docs/ref/links.md`).
pub const MAX_SLOTS: usize = 64;
/// Slots are asked for in steps of so many, since each step costs an exchange of descriptions.
const STEP: usize = 4;
/// A slot whose stream has sent nothing for so long may be given to another: its stream pauses, or has gone elsewhere.
const IDLE: Micros = 2_000 * MS;
/// Frames that wait for slots; over it the newest are dropped. Longer than any exchange of descriptions takes.
const WAIT_FRAMES: usize = 512;
const WAIT_BYTES: usize = 2 << 20;
/// Layers in the making: those of all streams that a browser sends.
const LAYERS: usize = 16;

/// What happened on the link.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Control messages and frames may go both ways.
    Open,
    /// A control message.
    Text(String),
    /// A sealed frame, if it is one. Frames of one layer come in any order.
    Frame(Bytes),
    /// What the way down carries, bit/s.
    Bandwidth(u64),
    /// Nothing else comes.
    Closed,
}

/// What is to be done.
#[derive(Debug)]
pub enum Todo {
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
    Event(LinkEvent),
    /// Nothing now; call [`RtpLink::handle_timeout`] at this time at the latest.
    Timeout(Option<Instant>),
}

/// A receiver of the browser's.
#[derive(Debug)]
struct Receiver {
    track: TrackId,
    audio: bool,
    stream: Option<Stream>,
    splitter: Splitter,
    /// The last RTP time.
    time: u64,
    used: Micros,
}

/// See the module.
#[derive(Debug)]
pub struct RtpLink {
    session: Session,
    /// The ICE user name of the offer: another connection of the browser's has another.
    theirs: String,
    /// What was answered, and to which offer.
    answered: Option<(String, String)>,
    start: (Instant, Micros),
    receivers: Vec<Receiver>,
    /// By SSRC.
    making: BTreeMap<u32, Assembler>,
    waiting: VecDeque<(Header, Bytes)>,
    waiting_bytes: usize,
    /// Pairs that were asked for.
    asked: usize,
    open: bool,
}

/// The ICE user name in a description.
fn ice_ufrag(sdp: &str) -> Option<&str> {
    sdp.lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))
        .map(str::trim_end)
}

impl RtpLink {
    /// A link for the connection that makes this offer. `now` and `micros` are the same moment.
    pub fn new(config: &Config, offer: &str, now: Instant, micros: Micros) -> Self {
        Self {
            session: Session::new(config, now, micros),
            theirs: ice_ufrag(offer).unwrap_or_default().to_owned(),
            answered: None,
            start: (now, micros),
            receivers: Vec::new(),
            making: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            asked: 0,
            open: false,
        }
    }

    /// Is this an offer of the same connection?
    pub fn is_same(&self, offer: &str) -> bool {
        ice_ufrag(offer) == Some(&self.theirs)
    }

    /// The answer, which names its offer. The same offer again gets the same answer: the first may have been lost.
    pub fn accept(&mut self, offer: &str) -> Result<String, OfferError> {
        if let Some((former, answer)) = &self.answered
            && former == offer
        {
            return Ok(answer.clone());
        }
        let mut answer = self.session.accept(offer)?;
        answer.push_str("a=grove-offer:");
        answer.push_str(&self.theirs);
        answer.push_str("\r\n");
        self.answered = Some((offer.to_owned(), answer.clone()));
        Ok(answer)
    }

    /// See [`Session::ufrag`].
    pub fn ufrag(&mut self) -> String {
        self.session.ufrag()
    }

    /// See [`Session::handle_datagram`].
    pub fn handle_datagram(
        &mut self,
        source: SocketAddr,
        local: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> bool {
        self.session.handle_datagram(source, local, datagram, now)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
    }

    /// What is to be done next; to be called until it says [`Todo::Timeout`], after every other call.
    pub fn poll(&mut self, now: Instant) -> Todo {
        loop {
            let event = match self.session.poll_output() {
                Output::Timeout(at) => return Todo::Timeout(at),
                Output::Transmit {
                    source,
                    destination,
                    datagram,
                } => {
                    return Todo::Transmit {
                        source,
                        destination,
                        datagram,
                    };
                }
                Output::Event(event) => event,
            };
            if let Some(event) = self.note(event, now) {
                return Todo::Event(event);
            }
        }
    }

    fn note(&mut self, event: SessionEvent, now: Instant) -> Option<LinkEvent> {
        match event {
            SessionEvent::Track {
                track,
                audio,
                way: Way::Down,
            } => {
                self.receivers.push(Receiver {
                    track,
                    audio,
                    stream: None,
                    splitter: Splitter::default(),
                    time: 0,
                    used: 0,
                });
                self.catch_up(now);
                None
            }
            SessionEvent::ControlOpen => {
                self.open = true;
                Some(LinkEvent::Open)
            }
            SessionEvent::Control(text) => Some(LinkEvent::Text(text)),
            SessionEvent::Packet { ssrc, packet, .. } => {
                if packet
                    .header
                    .is_some_and(|h| track(&h) == Some(Track::Audio))
                {
                    return Some(LinkEvent::Frame(Bytes::from_owner(packet.payload)));
                }
                if self.making.len() >= LAYERS && !self.making.contains_key(&ssrc) {
                    self.making.clear();
                }
                let whole = self.making.entry(ssrc).or_default().add(&packet);
                whole.map(|(_, sealed)| LinkEvent::Frame(sealed))
            }
            SessionEvent::Bandwidth(bps) => Some(LinkEvent::Bandwidth(bps)),
            SessionEvent::Closed => Some(LinkEvent::Closed),
            SessionEvent::Track { .. } | SessionEvent::Connected | SessionEvent::KeyWanted(_) => {
                None
            }
        }
    }

    /// So many streams are to go to the browser: asks for slots if there are too few.
    pub fn expect(&mut self, streams: usize) {
        let wanted = streams.next_multiple_of(STEP).min(MAX_SLOTS);
        let there = self.pairs().max(self.asked);
        if self.open && wanted > there {
            self.asked = wanted;
            self.send_text(&format!(r#"{{"t":"slots","n":{wanted}}}"#));
        }
    }

    fn pairs(&self) -> usize {
        self.receivers.len() / 2
    }

    /// Sends a control message. False: the browser has taken nothing for so long that the link is dead.
    pub fn send_text(&mut self, text: &str) -> bool {
        self.session.send_control(text)
    }

    /// Sends a sealed frame.
    pub fn send_frame(&mut self, sealed: Bytes, now: Instant) {
        let Some(header) = Header::decode(&sealed) else {
            return;
        };
        if self.write(&header, &sealed, now)
            || self.waiting.len() >= WAIT_FRAMES
            || self.waiting_bytes + sealed.len() > WAIT_BYTES
        {
            return;
        }
        self.waiting_bytes += sealed.len();
        self.waiting.push_back((header, sealed));
        let streams: std::collections::BTreeSet<u16> =
            self.waiting.iter().map(|(h, _)| h.sender).collect();
        self.expect(self.pairs() + streams.len());
    }

    /// What is to be sent at present at least, and what could be used, bit/s.
    pub fn set_demand(&mut self, least_bps: u64, most_bps: u64) {
        self.session.set_demand(least_bps, most_bps);
    }

    /// Ends the connection, with a goodbye to the browser.
    pub fn close(&mut self) {
        self.session.close();
    }

    /// There are more slots: what waited goes out.
    fn catch_up(&mut self, now: Instant) {
        self.waiting_bytes = 0;
        for (header, sealed) in std::mem::take(&mut self.waiting) {
            if !self.write(&header, &sealed, now) {
                self.waiting_bytes += sealed.len();
                self.waiting.push_back((header, sealed));
            }
        }
    }

    /// False: there is no slot for it yet.
    fn write(&mut self, header: &Header, sealed: &Bytes, now: Instant) -> bool {
        let audio = track(header) == Some(Track::Audio);
        let stream = Stream::new(header.sender, header.stream);
        let (start, micros) = self.start;
        let at = micros + now.saturating_duration_since(start).as_micros() as Micros;
        let of = |r: &Receiver| r.audio == audio && r.stream == Some(stream);
        let free = |r: &&mut Receiver| {
            r.audio == audio && (r.stream.is_none() || at.saturating_sub(r.used) > IDLE)
        };
        let receiver = match self.receivers.iter().position(of) {
            Some(at) => self.receivers.get_mut(at),
            None => self
                .receivers
                .iter_mut()
                .filter(free)
                .min_by_key(|r| (r.stream.is_some(), r.used)),
        };
        let Some(receiver) = receiver else {
            return false;
        };
        receiver.stream = Some(stream);
        receiver.used = at;
        // Nobody shows what is behind the seal by these times; they only have to grow from frame to frame.
        let rate = if audio { 48_000 } else { 90_000 };
        receiver.time = (receiver.time + 1).max(ticks(at as i64, rate) as u64);
        let packets = if audio {
            vec![receiver.splitter.audio(header, sealed, at)]
        } else {
            receiver.splitter.video(header, sealed, at)
        };
        let time = receiver.time;
        let packets = packets.into_iter().map(|packet| Outgoing {
            seq: packet.seq,
            time,
            marker: packet.marker,
            payload: packet.payload,
        });
        self.session.send(receiver.track, packets, now);
        true
    }
}

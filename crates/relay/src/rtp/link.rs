//! One browser's link by RTP, in the words of any link: sealed frames and control messages in and out. A [`Session`] for what
//! comes up and the connection itself, an [`Egress`] for what goes down.
//!
//! What the browser sends is put together into frames, once per layer. Slots for what it receives are asked for as streams
//! need them ([`RtpLink::expect`]).
//!
//! A receiver's request for a key frame (`PLI`) is ignored: it speaks for the browser's decoder, which is not used; the
//! control message `key` is what counts (`docs/ref/links.md`).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grove_frame::Header;

use super::assemble::{Making, Pool};
use super::egress::{Egress, Sums};
use super::offer::{Offer, OfferError};
use super::protocol::Protocol;
use super::rtcp;
use super::session::{Output, Session, SessionEvent, To};
use super::srtp::Open;
use crate::Micros;

/// Most pairs of slots of one link (`docs/ref/links.md`).
pub const MAX_SLOTS: usize = 64;
/// Slots are asked for in steps of so many, since each step costs an exchange of descriptions.
const STEP: usize = 4;
/// What may still be done for a link that ends: sound and repetitions stand before its goodbye.
const LAST_WORDS: usize = 1_024;

/// What a link needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the browser is told that the relay's UDP port can be reached.
    pub candidates: Vec<SocketAddr>,
    /// What the way down is believed to carry at first, bit/s.
    pub start_bps: u64,
    /// What the relay's links have in the making.
    pub making: Pool,
    /// Which of the relay's shards the link is of.
    pub shard: usize,
}

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
    /// So many bytes of pictures wait for the pacer, and no more should come; 0: they may.
    Unsent(usize),
    /// Nothing else comes.
    Closed,
}

/// What is to be done.
#[derive(Debug)]
pub enum Todo {
    /// Send what is in the buffer, as datagrams of this size; the last may be shorter.
    Transmit {
        /// To whom.
        to: To,
        /// Bytes of a datagram.
        size: usize,
    },
    /// Take note.
    Event(LinkEvent),
    /// From there came something that only the browser can make, and that is no check ([`super::Demux::heard`]).
    Heard(SocketAddr),
    /// Nothing now; call [`RtpLink::handle_timeout`] at this time at the latest.
    Timeout(Option<Instant>),
}

/// See the module.
#[derive(Debug)]
pub struct RtpLink {
    session: Session,
    /// When the session wants to be called; `None`: at once.
    session_at: Option<Option<Instant>>,
    egress: Egress,
    reports: Option<Open>,
    /// Where a genuine report came from.
    heard: Option<SocketAddr>,
    /// Reports as they are read.
    compound: Vec<u8>,
    /// The ICE user name of the offer: another connection of the browser's has another.
    theirs: String,
    /// What was answered, and to which offer (its hash).
    answered: Option<([u8; 32], String)>,
    start: (Instant, Micros),
    making: Making,
    /// Pairs that were asked for.
    asked: usize,
    open: bool,
}

impl RtpLink {
    /// A link for the connection that makes this offer. `now` and `micros` are the same moment.
    pub fn new(config: &Config, offer: &Offer, now: Instant, micros: Micros) -> Self {
        Self {
            session: Session::new(&config.candidates, config.shard, now),
            session_at: None,
            egress: Egress::new(config.start_bps, micros),
            reports: None,
            heard: None,
            compound: Vec::new(),
            theirs: offer.ufrag().to_owned(),
            answered: None,
            start: (now, micros),
            making: Making::new(config.making.clone()),
            asked: 0,
            open: false,
        }
    }

    /// The ICE user name in the browser's offers. One with another is not of this connection.
    pub fn theirs(&self) -> &str {
        &self.theirs
    }

    /// The answer, which names its offer. The same offer again gets the same answer: the first may have been lost.
    pub fn accept(&mut self, offer: Offer) -> Result<String, OfferError> {
        let hash = offer.hash();
        if let Some((former, answer)) = &self.answered
            && *former == hash
        {
            return Ok(answer.clone());
        }
        self.session_at = None;
        let mut answer = self.session.accept(offer)?;
        answer.push_str("a=grove-offer:");
        answer.push_str(&self.theirs);
        answer.push_str("\r\n");
        self.answered = Some((hash, answer.clone()));
        Ok(answer)
    }

    /// See [`Session::credentials`].
    pub fn credentials(&mut self) -> (String, String) {
        self.session.credentials()
    }

    /// A datagram came, from an address that speaks for this browser ([`super::Demux`]).
    pub fn handle_datagram(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) {
        if Protocol::of(datagram) == Some(Protocol::Rtcp) {
            self.hear_report(source, datagram, now);
            // What the browser says of its own sending is for the session, what it says of ours is not.
            if datagram.get(1) != Some(&rtcp::SENDER_REPORT) {
                return;
            }
        }
        self.session_at = None;
        self.session.handle_datagram(source, datagram, now);
    }

    fn hear_report(&mut self, source: SocketAddr, datagram: &[u8], now: Instant) {
        let at = self.micros(now);
        let Some(open) = &mut self.reports else {
            return;
        };
        if let Some(compound) = open.rtcp(datagram, &mut self.compound) {
            self.heard = Some(source);
            rtcp::read(compound, |feedback| self.egress.handle(feedback, at));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.making.expire(self.micros(now));
        if self
            .session_at
            .is_none_or(|at| at.is_some_and(|at| at <= now))
        {
            self.session_at = None;
            self.session.handle_timeout(now);
        }
    }

    /// What is to be done next; to be called until it says [`Todo::Timeout`], after every other call. Datagrams are put into
    /// `out`.
    pub fn poll(&mut self, now: Instant, out: &mut Vec<u8>) -> Todo {
        let at = self.micros(now);
        if let Some(source) = self.heard.take() {
            return Todo::Heard(source);
        }
        if let Some(size) = self.egress.poll(at, out) {
            let to = To::Path;
            return Todo::Transmit { to, size };
        }
        if let Some(bps) = self.egress.bandwidth() {
            return Todo::Event(LinkEvent::Bandwidth(bps));
        }
        if let Some(bytes) = self.egress.unsent() {
            return Todo::Event(LinkEvent::Unsent(bytes));
        }
        while self.session_at.is_none() {
            let event = match self.session.poll_output() {
                Output::Timeout(at) => {
                    self.session_at = Some(at);
                    break;
                }
                Output::Transmit { to, datagram } => {
                    out.clear();
                    out.extend_from_slice(&datagram);
                    let size = datagram.len();
                    return Todo::Transmit { to, size };
                }
                Output::Event(SessionEvent::Heard(source)) => return Todo::Heard(source),
                Output::Event(event) => event,
            };
            if let Some(event) = self.note(event, at) {
                return Todo::Event(event);
            }
        }
        let (start, micros) = self.start;
        let instant = |at: Micros| start + Duration::from_micros(at.saturating_sub(micros));
        let egress = self.egress.timeout().map(instant);
        Todo::Timeout(
            [self.session_at.flatten(), egress]
                .into_iter()
                .flatten()
                .min(),
        )
    }

    fn note(&mut self, event: SessionEvent, at: Micros) -> Option<LinkEvent> {
        match event {
            SessionEvent::Slot(names) => self.egress.add_slot(names, at),
            SessionEvent::Secured(caught) => {
                let Some((seal, open)) = caught.seal().zip(caught.open()) else {
                    return Some(LinkEvent::Closed);
                };
                self.egress.secure(seal, at);
                self.reports = Some(open);
            }
            SessionEvent::ControlOpen => {
                self.open = true;
                return Some(LinkEvent::Open);
            }
            SessionEvent::Control(text) => return Some(LinkEvent::Text(text)),
            SessionEvent::Sound(sealed) => return Some(LinkEvent::Frame(sealed)),
            SessionEvent::Packet(ssrc, packet) => {
                let whole = self.making.add(ssrc, &packet, at);
                return whole.map(|(_, sealed)| LinkEvent::Frame(sealed));
            }
            SessionEvent::Closed => return Some(LinkEvent::Closed),
            // Told as it comes.
            SessionEvent::Heard(_) => {}
        }
        None
    }

    /// So many streams are to go to the browser: asks for slots if there are too few.
    pub fn expect(&mut self, streams: usize) {
        let wanted = streams.next_multiple_of(STEP).min(MAX_SLOTS);
        let there = self.egress.pairs().max(self.asked);
        if self.open && wanted > there {
            let asked = self.send_text(&format!(r#"{{"t":"slots","n":{wanted}}}"#));
            self.asked = if asked { wanted } else { 0 };
        }
    }

    /// Sends a control message. False: the browser has taken nothing for so long that the link is dead.
    pub fn send_text(&mut self, text: &str) -> bool {
        self.session_at = None;
        self.session.send_control(text)
    }

    /// Sends a sealed frame.
    pub fn send_frame(&mut self, sealed: Bytes, now: Instant) {
        let Some(header) = Header::decode(&sealed) else {
            return;
        };
        let at = self.micros(now);
        if self.egress.send(&header, sealed, at) {
            self.expect(self.egress.pairs() + self.egress.short_of());
        }
    }

    /// What could be used of the way down, bit/s.
    pub fn set_demand(&mut self, bps: u64) {
        self.egress.set_demand(bps);
    }

    /// What went down.
    pub fn sums(&self) -> Sums {
        self.egress.sums()
    }

    /// Ends the connection, with a goodbye to the browser.
    pub fn close(&mut self) {
        self.session_at = None;
        self.session.close();
    }

    /// Closes it, for whoever will not poll it again: what is still to be sent, each with its datagrams.
    pub fn farewell(&mut self, now: Instant) -> Vec<(Todo, Vec<u8>)> {
        self.close();
        let mut last = Vec::new();
        for _ in 0..LAST_WORDS {
            let mut out = Vec::new();
            match self.poll(now, &mut out) {
                todo @ Todo::Transmit { .. } => last.push((todo, out)),
                Todo::Event(_) | Todo::Heard(_) => {}
                Todo::Timeout(_) => break,
            }
        }
        last
    }

    fn micros(&self, now: Instant) -> Micros {
        let (start, micros) = self.start;
        micros + now.saturating_duration_since(start).as_micros() as Micros
    }
}

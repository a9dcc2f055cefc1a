//! One open link: heartbeats, round-trip time, loss, silence, the rate of control messages, and the account of what its socket
//! has not taken yet. What is decided about frames stands elsewhere.
//!
//! The link is one ordered stream of bytes, so the account knows which of the bytes still waiting are sound and which are
//! picture: that is what a browser reads from its two channels.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Micros;
use crate::common::Common;
use crate::control::{Control, Refused, parse};
use crate::frame::MS;
use crate::meter::{Bucket, Loss, Rate, Rtt};
use crate::relay::{Link, Outgoing};
use crate::rtp::PAYLOAD;

/// Idle time after which a heartbeat goes out.
const HEARTBEAT: Micros = 50 * MS;
/// A heartbeat goes out at least so often, however busy the link, for the sake of its round-trip time.
const PROBE: Micros = 500 * MS;
/// The same by RTP, where each message, with its acknowledgement, costs more than a picture does, and where idle packets say
/// that the relay is there (`rtp/egress`).
const PROBE_RTP: Micros = 1_000 * MS;
/// By RTP also for so long after another message, each [`HEARTBEAT`]: what follows a lost one is what shows that it was lost.
const ATTENTIVE: Micros = 500 * MS;
/// Silence: nothing at all for max(this, srtt + 4 rttvar).
const SILENCE_MS: f64 = 100.0;
/// By RTP a backup waits longer: what says that the other end is there comes each 100 to 150 ms, and one may be lost.
const QUIET_RTP_MS: f64 = 250.0;
/// And reported when it has lasted so much longer: on a socket a heartbeat stands behind the picture that is on its way,
/// 250 kB at 1 Mbit/s.
const SILENCE_REPORT: Micros = 2_000 * MS;
/// The same by RTP, where no long message stands before a heartbeat: as between browsers.
const SILENCE_REPORT_RTP: Micros = 500 * MS;
/// Control messages handled per second and peer, with a burst of as many; the rest is dropped and counted.
const CONTROL_PER_S: f64 = 500.0;
/// Heartbeats remembered for the echo.
const PINGS: u32 = 64;
/// Sound that stands before the socket, bytes per lane and time: two packets for this long. It is sent at once, so when it
/// stands the link carries less than it is given, and every picture makes it worse: none is handed over meanwhile.
const CHOKED_BYTES: usize = 400;
const CHOKED_AFTER: Micros = 60 * MS;
/// Sound waiting beyond this (over 5 s at 48 kbit/s) means that the link is dead.
const AUDIO_LIMIT_BYTES: usize = 32 * 1024;
/// With so many bytes of control messages waiting no heartbeat is added: nobody reads.
const BEAT_LIMIT_BYTES: usize = 4096;
/// A socket that has taken nothing for so long is dead. Longer than an ordinary outage that TCP survives, shorter than what
/// anybody waits for.
pub(crate) const STUCK: Micros = 10_000 * MS;
/// Entries of the account. Neighbours of a kind are one entry, so this takes a peer that has read nothing for minutes.
const ACCOUNT: usize = 4096;

/// What bytes on their way are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Video,
    Audio,
    Control,
}

/// What was handed over and has not left, oldest first.
#[derive(Debug, Default)]
struct Account {
    parts: VecDeque<(Part, usize)>,
    video: usize,
    audio: usize,
    control: usize,
}

impl Account {
    fn total(&self) -> usize {
        self.video + self.audio + self.control
    }

    fn sum(&mut self, part: Part) -> &mut usize {
        match part {
            Part::Video => &mut self.video,
            Part::Audio => &mut self.audio,
            Part::Control => &mut self.control,
        }
    }

    fn add(&mut self, part: Part, bytes: usize) {
        match self.parts.back_mut() {
            Some((last, sum)) if *last == part => *sum += bytes,
            _ => self.parts.push_back((part, bytes)),
        }
        *self.sum(part) += bytes;
    }

    /// So many bytes are left: the oldest have gone.
    fn settle(&mut self, unsent: usize) {
        let mut gone = self.total().saturating_sub(unsent);
        while gone > 0
            && let Some((part, bytes)) = self.parts.front_mut()
        {
            let (part, most) = (*part, gone.min(*bytes));
            *bytes -= most;
            if *bytes == 0 {
                self.parts.pop_front();
            }
            *self.sum(part) -= most;
            gone -= most;
        }
    }
}

/// How far a link by RTP is given pictures ahead of its estimated rate: its own pacer spreads them, and nothing is looked at
/// more often than each 10 ms.
const AHEAD: Micros = 20 * MS;
/// What is owed at most, as time at the estimated rate: an estimate that rises again is not held back by what was sent before.
const OWED_S: f64 = 2.0;
/// No estimate is taken for less, and none is made.
const MIN_ESTIMATE_BPS: u64 = crate::rtp::estimate::MIN_BPS;
/// What a packet takes beside its payload: headers of RTP, UDP and IP, a tag, a descriptor.
const PACKET: usize = 70;

/// What a link by RTP was given, as if it left at the estimated rate. Sound is not held back, but counts.
#[derive(Debug)]
struct Pace {
    bps: u64,
    /// Bytes that waited at that time.
    waited: f64,
    at: Micros,
    /// More waits there than its pacer lets go soon: repetitions and probes have gone before.
    stands: bool,
}

impl Pace {
    fn waits(&self, now: Micros) -> f64 {
        let gone = self.bps as f64 / 8.0 * now.saturating_sub(self.at) as f64 / 1e6;
        (self.waited - gone).max(0.0)
    }

    fn add(&mut self, bytes: usize, now: Micros) {
        let most = self.bps as f64 / 8.0 * OWED_S;
        self.waited = (self.waits(now) + bytes as f64).min(most);
        self.at = now;
    }

    fn set(&mut self, bps: u64, now: Micros) {
        self.add(0, now);
        self.bps = bps.max(MIN_ESTIMATE_BPS);
    }

    fn ready(&self, now: Micros) -> bool {
        !self.stands && self.waits(now) <= self.bps as f64 / 8.0 * AHEAD as f64 / 1e6
    }
}

/// What a text message was.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// For the streams.
    Message(Control),
    /// For the link itself, or for nobody.
    Done,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub id: Link,
    pub rtt: Rtt,
    pub loss: Loss,
    pub sent: Rate,
    account: Account,
    /// A link by RTP has this instead of the account.
    pace: Option<Pace>,
    opened_at: Micros,
    heard_at: Micros,
    /// `Common::stood` at that time.
    heard_stood: Micros,
    sent_at: Micros,
    /// When something was said that is no heartbeat.
    said_at: Option<Micros>,
    probed_at: Option<Micros>,
    silence_reported: bool,
    frames_sent: u64,
    frames_came: u64,
    ping: u32,
    pings: VecDeque<Micros>,
    echo: Option<(u32, Micros)>,
    budget: Bucket,
    stands_since: Option<Micros>,
    /// The socket has taken something, or had nothing to take.
    moved_at: Micros,
}

impl LinkState {
    pub(crate) fn new(id: Link, stood: Micros, now: Micros) -> Self {
        Self {
            id,
            rtt: Rtt::default(),
            loss: Loss::default(),
            sent: Rate::default(),
            account: Account::default(),
            pace: None,
            opened_at: now,
            heard_at: now,
            heard_stood: stood,
            sent_at: now,
            said_at: None,
            probed_at: None,
            silence_reported: false,
            frames_sent: 0,
            frames_came: 0,
            ping: 0,
            pings: VecDeque::new(),
            echo: None,
            budget: Bucket::new(CONTROL_PER_S, CONTROL_PER_S, now),
            stands_since: None,
            moved_at: now,
        }
    }

    /// The same by RTP, of which so many bit/s are believed to go out.
    pub(crate) fn by_rtp(id: Link, bps: u64, stood: Micros, now: Micros) -> Self {
        let pace = Pace {
            bps: bps.max(MIN_ESTIMATE_BPS),
            waited: 0.0,
            at: now,
            stands: false,
        };
        Self {
            pace: Some(pace),
            ..Self::new(id, stood, now)
        }
    }

    pub(crate) fn is_rtp(&self) -> bool {
        self.pace.is_some()
    }

    /// What the way to the peer carries, bit/s: for a link by RTP.
    pub(crate) fn estimated(&mut self, bps: u64, now: Micros) {
        if let Some(pace) = &mut self.pace {
            pace.set(bps, now);
        }
    }

    /// What the way to the peer carries, bit/s, where that is estimated.
    pub(crate) fn carries(&self) -> Option<u64> {
        self.pace.as_ref().map(|pace| pace.bps)
    }

    // --- out ---

    pub(crate) fn control(&mut self, message: &Control, common: &mut Common, now: Micros) {
        if !matches!(message, Control::Beat { .. }) {
            self.said_at = Some(now);
        }
        self.send(Part::Control, Outgoing::Text(message.encode()), common, now);
    }

    pub(crate) fn video(&mut self, sealed: Bytes, common: &mut Common, now: Micros) {
        self.frames_sent += 1;
        self.send(Part::Video, Outgoing::Frame(sealed), common, now);
    }

    /// Sound: at once. False: dropped, because the socket does not move any more.
    pub(crate) fn audio(
        &mut self,
        sealed: Bytes,
        lanes: usize,
        common: &mut Common,
        now: Micros,
    ) -> bool {
        if self.account.audio > AUDIO_LIMIT_BYTES {
            return false;
        }
        self.frames_sent += 1;
        self.send(Part::Audio, Outgoing::Frame(sealed), common, now);
        self.note_standing(lanes, now);
        true
    }

    fn send(&mut self, part: Part, message: Outgoing, common: &mut Common, now: Micros) {
        let bytes = message.bytes();
        if self.account.total() == 0 {
            self.moved_at = now;
        }
        match &mut self.pace {
            None => self.account.add(part, bytes),
            Some(_) if part == Part::Control => {}
            Some(pace) => pace.add(bytes + PACKET * bytes.div_ceil(PAYLOAD), now),
        }
        self.sent_at = now;
        self.sent.add(bytes, now);
        common.send(self.id, message, now);
    }

    /// So many bytes of what was handed over have not left.
    pub(crate) fn unsent(&mut self, bytes: usize, lanes: usize, now: Micros) {
        if let Some(pace) = &mut self.pace {
            pace.stands = bytes > 0;
            return;
        }
        let before = self.account.total();
        self.account.settle(bytes);
        if self.account.total() < before || before == 0 {
            self.moved_at = now;
        }
        self.note_standing(lanes, now);
    }

    fn note_standing(&mut self, lanes: usize, now: Micros) {
        if self.account.audio <= CHOKED_BYTES * lanes.max(1) {
            self.stands_since = None;
        } else if self.stands_since.is_none() {
            self.stands_since = Some(now);
        }
    }

    /// Sound stands before the socket.
    pub(crate) fn choked(&self, now: Micros) -> bool {
        self.stands_since
            .is_some_and(|since| now - since >= CHOKED_AFTER)
    }

    /// Sound has begun to stand: [`LinkState::choked`] may follow.
    pub(crate) fn stands(&self) -> bool {
        self.stands_since.is_some()
    }

    /// The socket has taken every picture, and sound does not stand.
    pub(crate) fn drained(&self, now: Micros) -> bool {
        if let Some(pace) = &self.pace {
            return pace.ready(now);
        }
        self.account.video == 0 && !self.choked(now)
    }

    /// The peer does not read: too much waits, or for too long.
    pub(crate) fn stuck(&self, most: usize, now: Micros) -> bool {
        let waits = self.account.total();
        waits > most
            || self.account.parts.len() > ACCOUNT
            || (waits > 0 && now - self.moved_at >= STUCK)
    }

    pub(crate) fn queued(&self) -> usize {
        self.account.total()
    }

    // --- in ---

    /// Something authentic came: a message, or a part of one, or what the connection sends by itself.
    pub(crate) fn alive(&mut self, common: &Common, now: Micros) {
        self.heard_at = now;
        self.heard_stood = common.stood;
        self.silence_reported = false;
    }

    fn heard(&mut self, bytes: usize, common: &mut Common, now: Micros) {
        self.alive(common, now);
        common.counters.bytes_received += bytes as u64;
        common.received.add(bytes, now);
    }

    pub(crate) fn frame_came(&mut self, bytes: usize, common: &mut Common, now: Micros) {
        self.heard(bytes, common, now);
        self.frames_came += 1;
    }

    pub(crate) fn text_came(&mut self, text: &str, common: &mut Common, now: Micros) -> Heard {
        self.heard(text.len(), common, now);
        if !self.budget.take(1.0, now) {
            common.counters.flooded += 1;
            return Heard::Done;
        }
        match parse(text) {
            Err(Refused::Unknown) => common.counters.unknown += 1,
            Err(Refused::Malformed) => common.counters.junk += 1,
            Ok(Control::Beat { n, f, echo }) => {
                self.echo = Some((n, now));
                self.loss.note(f, self.frames_came, now);
                if let Some((e, held)) = echo {
                    self.echoed(e, held, now);
                }
            }
            Ok(message) => return Heard::Message(message),
        }
        Heard::Done
    }

    fn echoed(&mut self, n: u32, held_ms: f64, now: Micros) {
        let back = self.ping.wrapping_sub(n) as usize;
        // The last ping stands at the end.
        let at = self
            .pings
            .len()
            .checked_sub(back + 1)
            .and_then(|at| self.pings.get(at));
        if let Some(sent) = at.filter(|_| n != 0) {
            self.rtt.sample((now - sent) as f64 / MS as f64 - held_ms);
        }
    }

    // --- the clock ---

    /// A heartbeat, if one is due.
    pub(crate) fn beat(&mut self, common: &mut Common, now: Micros) {
        if now < self.beat_at() || self.account.control > BEAT_LIMIT_BYTES {
            return;
        }
        self.ping = self.ping.wrapping_add(1);
        if self.pings.len() >= PINGS as usize {
            self.pings.pop_front();
        }
        self.pings.push_back(now);
        self.probed_at = Some(now);
        let echo = self
            .echo
            .map(|(n, at)| (n, ((now - at) as f64 / MS as f64).min(60_000.0)));
        let beat = Control::Beat {
            n: self.ping,
            f: self.frames_sent,
            echo,
        };
        self.control(&beat, common, now);
    }

    /// True once per silence.
    pub(crate) fn fell_silent(&mut self, common: &Common, now: Micros) -> bool {
        let silent = !self.silence_reported && now >= self.silent_at(common.stood);
        self.silence_reported |= silent;
        silent
    }

    pub(crate) fn silence_reported(&self) -> bool {
        self.silence_reported
    }

    /// When to look at heartbeats and silence again.
    pub(crate) fn next(&self, stood: Micros, now: Micros) -> Micros {
        let beat = if self.account.control > BEAT_LIMIT_BYTES {
            now + PROBE
        } else {
            self.beat_at()
        };
        if self.silence_reported {
            beat
        } else {
            beat.min(self.silent_at(stood))
        }
    }

    fn beat_at(&self) -> Micros {
        let Some(probed) = self.probed_at else {
            return self.opened_at;
        };
        if !self.is_rtp() {
            return (self.sent_at + HEARTBEAT).min(probed + PROBE);
        }
        let follows = self.said_at.and_then(|said| {
            let at = probed.max(said) + HEARTBEAT;
            (at <= said + ATTENTIVE).then_some(at)
        });
        follows
            .unwrap_or(probed + PROBE_RTP)
            .min(probed + PROBE_RTP)
    }

    /// When nothing at all will have come for longer than usual: backups begin.
    pub(crate) fn quiet_at(&self, stood: Micros) -> Micros {
        let unusual = if self.is_rtp() {
            QUIET_RTP_MS
        } else {
            SILENCE_MS
        };
        self.after(unusual, stood)
    }

    /// When nothing will have come for so long, or for longer than an answer may take.
    fn after(&self, ms: f64, stood: Micros) -> Micros {
        let bound = self.rtt.bound(0.0).max(ms);
        self.heard_at + (bound * MS as f64) as Micros + (stood - self.heard_stood)
    }

    fn silent_at(&self, stood: Micros) -> Micros {
        let report = if self.is_rtp() {
            SILENCE_REPORT_RTP
        } else {
            SILENCE_REPORT
        };
        self.after(SILENCE_MS, stood) + report
    }
}

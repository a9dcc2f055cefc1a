//! What the way down to a browser carries, by transport-wide feedback: Google congestion control
//! (draft-ietf-rmcat-gcc-02, with what libwebrtc does since where it matters). `docs/design/estimate.md` says why each
//! constant is what it is, and what was measured.
//!
//! [`Estimator`] is told what leaves ([`Estimator::sent`]) and what the receiver tells ([`Estimator::feedback`],
//! [`Estimator::report`]), and says at what rate to send. It is pure: no clock, no randomness. Two rates stand beside each
//! other, the lesser counts: the one that delay allows (`delay`, `queue`, `aimd`) and the one that loss allows (`loss`).
//! `probe` shows when more gets through.
//!
//! Nothing that a receiver tells panics, makes a rate other than a number, or raises it beyond [`WANTED`] times what is
//! wanted. Bounds: 4096 packets of 16 bytes, and a few hundred entries beside.
//! Cost: constant per packet.

mod acked;
mod aimd;
mod delay;
mod history;
mod loss;
mod probe;
mod queue;

use crate::Micros;
use acked::Acked;
use aimd::{Aimd, BETA};
use delay::{Delay, Signal};
use history::History;
use loss::Loss;
use probe::Probes;
use queue::Queue;

use super::rtcp::TransportFeedback;
pub use probe::Probe;

/// No raise beyond so many times what is wanted: room for a key frame, and for a layer that needs a quarter to spare.
pub const WANTED: f64 = 1.5;
/// Less is not believed of any link, bit/s: sound and control need as much.
pub const MIN_BPS: u64 = 50_000;
/// More is not looked for, bit/s.
pub const MAX_BPS: u64 = 1_000_000_000;
/// No more probes once the estimate is so many times what is wanted.
const ENOUGH: f64 = 1.1;
/// The pacer's rate by the estimate, when no queue stands: a picture of the average size leaves in 13 of 33 ms.
const PACING: f64 = 2.5;
/// A queue (ms) into which nothing is sent faster than the estimate, nor probed.
const QUEUE_MS: f64 = 15.0;
/// Windows of the acknowledged rate, us: what a full link carries just now, and what is proven.
const NOW: i64 = 250_000;
const PROVEN: i64 = 500_000;
/// Bounds of the round trip.
const ROUND_TRIP: (Micros, Micros) = (1_000, 2_000_000);

/// What the rate that delay allows is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    Increase,
    Hold,
    Decrease,
}

/// How it stands, to be shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    pub bps: u64,
    /// What came, over the last half second of arrivals; 0 as long as that is not known.
    pub acked_bps: u64,
    /// Growth of the delay, ms per ms.
    pub delay_gradient: f64,
    /// The queue that stands, ms.
    pub queue_ms: f64,
    /// Part of the packets that was lost, at the last look.
    pub loss: f64,
    pub round_trip: Micros,
    pub state: State,
}

/// See the module.
#[derive(Debug)]
pub struct Estimator {
    history: History,
    acked: Acked,
    delay: Delay,
    queue: Queue,
    aimd: Aimd,
    loss: Loss,
    probes: Probes,
    wanted: f64,
    round_trip: Option<Micros>,
    /// A report told the round trip: better than what feedback shows, which waits for its turn.
    reported: bool,
    /// As of the last feedback: what stands (ms), and what was acknowledged, bit/s.
    standing_ms: f64,
    acked_bps: Option<f64>,
}

impl Estimator {
    /// Begins with an estimate. As much is wanted, until [`Self::set_demand`] says otherwise.
    pub fn new(start_bps: u64, now: Micros) -> Self {
        let start = start_bps.clamp(MIN_BPS, MAX_BPS) as f64;
        Self {
            history: History::default(),
            acked: Acked::default(),
            delay: Delay::default(),
            queue: Queue::default(),
            aimd: Aimd::new(start, now),
            loss: Loss::default(),
            probes: Probes::new(start, now),
            wanted: start,
            round_trip: None,
            reported: false,
            standing_ms: 0.0,
            acked_bps: None,
        }
    }

    /// A packet leaves. `seq` is its transport-wide number, `bytes` its size on the wire with IP and UDP headers; `probe`: it
    /// belongs to the train that [`Self::next_probe`] asked for.
    pub fn sent(&mut self, seq: u16, bytes: usize, now: Micros, probe: bool) {
        if let Some(number) = self.history.sent(seq, bytes, now) {
            self.probes.sent(number, bytes, probe, now);
        }
    }

    /// Feedback came. True: the estimate changed.
    pub fn feedback(&mut self, feedback: &TransportFeedback, now: Micros) -> bool {
        let before = self.bps();
        let mut over = false;
        let mut arrived = 0;
        let mut newest = None;
        let mut probed = None;
        let news = self.history.feedback(feedback, |arrival| {
            arrived += 1;
            newest = Some(arrival.sent);
            self.acked
                .arrived(arrival.arrived, arrival.bytes, arrival.gap);
            let sent = i64::try_from(arrival.sent).unwrap_or(i64::MAX);
            let way = arrival.arrived.saturating_sub(sent);
            self.queue.arrived(arrival.arrived, way);
            // Overuse is told at one burst and may be gone at the next; a message stands for all of its bursts.
            over |= self.delay.arrived(&arrival) && self.delay.signal() == Signal::Over;
            probed = self.probes.arrived(&arrival, now).or(probed);
        });
        if let Some(sent) = newest {
            self.standing_ms = self.queue.standing_ms();
            self.acked_bps = self.acked.bps(PROVEN);
            self.waited(now.saturating_sub(sent));
            self.decide(over, now);
        }
        if let Some(bps) = probed {
            self.raise(bps);
        }
        let facts = self.loss_facts();
        let counts = (arrived, news.lost, news.recovered);
        self.loss.feedback(counts, &facts, now);
        self.bps() != before
    }

    /// Loss as the receiver reports it (of 256), and the round trip. True: the estimate changed.
    pub fn report(&mut self, fraction_lost: u8, round_trip: Micros, now: Micros) -> bool {
        let before = self.bps();
        self.reported = true;
        self.round_trip = Some(round_trip.clamp(ROUND_TRIP.0, ROUND_TRIP.1));
        let facts = self.loss_facts();
        self.loss.report(fraction_lost, &facts, now);
        self.bps() != before
    }

    /// What could be used, bit/s. No estimate is raised beyond [`WANTED`] times that; one that is higher stays.
    pub fn set_demand(&mut self, wanted_bps: u64) {
        self.wanted = wanted_bps.min(MAX_BPS) as f64;
    }

    /// The estimate, bit/s.
    pub fn bps(&self) -> u64 {
        let bps = self.aimd.bps();
        let bps = self.loss.limit().map_or(bps, |limit| bps.min(limit));
        (bps as u64).clamp(MIN_BPS, MAX_BPS)
    }

    /// What the pacer may send at, bit/s.
    pub fn pacing_bps(&self) -> u64 {
        let bps = self.bps();
        // Who has more than the estimate to send, and only the pacer to slow him, is not given room for bursts.
        let acked = self.acked_bps.unwrap_or(0.0);
        if self.standing_ms < QUEUE_MS && acked < ENOUGH * bps as f64 {
            (bps as f64 * PACING) as u64
        } else {
            bps
        }
    }

    /// A train of padding that is to be sent now. Ask after each feedback, and at [`Self::timeout`].
    pub fn next_probe(&mut self, now: Micros) -> Option<Probe> {
        let ready = self.is_ready();
        let bps = self.bps() as f64;
        self.probes.next(bps, self.most(), ready, now)
    }

    /// When [`Self::next_probe`] is to be asked if nothing happens before.
    pub fn timeout(&self) -> Option<Micros> {
        self.probes.timeout(self.is_ready())
    }

    /// How it stands.
    pub fn stats(&self) -> Stats {
        Stats {
            bps: self.bps(),
            acked_bps: self.acked_bps.unwrap_or(0.0) as u64,
            delay_gradient: self.delay.trend(),
            queue_ms: self.standing_ms,
            loss: self.loss.fraction(),
            round_trip: self.round_trip(),
            state: self.aimd.state(),
        }
    }

    fn most(&self) -> f64 {
        (WANTED * self.wanted).min(MAX_BPS as f64)
    }

    fn round_trip(&self) -> Micros {
        self.round_trip.unwrap_or(100_000)
    }

    /// More is wanted, something has come, and nothing speaks against a probe.
    fn is_ready(&self) -> bool {
        self.round_trip.is_some()
            && ENOUGH * self.wanted > self.bps() as f64
            && self.aimd.state() == State::Increase
            && self.standing_ms < QUEUE_MS
            && !self.loss.holds()
    }

    fn waited(&mut self, sample: Micros) {
        if self.reported {
            return;
        }
        let sample = sample.clamp(ROUND_TRIP.0, ROUND_TRIP.1);
        let known = self.round_trip.unwrap_or(sample);
        self.round_trip = Some((7 * known + sample) / 8);
    }

    fn decide(&mut self, over: bool, now: Micros) {
        let before = self.aimd.bps();
        let facts = aimd::Facts {
            signal: if over {
                Signal::Over
            } else {
                self.delay.signal()
            },
            standing_ms: self.standing_ms,
            acked_now: self.acked.bps(NOW),
            acked: self.acked_bps,
            round_trip: self.round_trip(),
            most: self.most(),
            least: MIN_BPS as f64,
        };
        if self.aimd.update(&facts, now) {
            self.queue.accept();
            self.standing_ms = self.queue.standing_ms();
        }
        if self.aimd.bps() < BETA * BETA * before {
            self.probes.narrowed(now);
        }
    }

    fn raise(&mut self, bps: f64) {
        let bps = bps.min(self.most());
        self.aimd.raise(bps);
        self.loss.raise(bps);
    }

    fn loss_facts(&self) -> loss::Facts {
        loss::Facts {
            bps: self.aimd.bps(),
            acked: self.acked_bps,
            least: MIN_BPS as f64,
            round_trip: self.round_trip(),
        }
    }
}

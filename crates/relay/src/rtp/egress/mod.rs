//! The way down to one browser: whole sealed frames in, sealed RTP packets out, straight into the buffer that is sent.
//!
//! Pure: no socket, and time is passed in. A frame is cut where it lies and never copied but into the buffer; what was sent is
//! remembered as (frame, piece), so a retransmission costs no memory but a share in the frame's bytes. What leaves, leaves in
//! batches of equal packets for one system call ([`Egress::poll`]).
//!
//! Order: reports, then sound, then retransmissions, then pictures, then probes, then signs of life. Reports and sound do not wait for the pacer, but
//! count against it. Everything that leaves bears a transport-wide number, and the estimate of what the way carries rests on
//! that (`docs/design/estimate.md`).
//!
//! Any slot carries any stream, because frames say themselves whose they are; a stream keeps its slot while it goes on. Frames
//! wait for slots in their order, within [`WAIT_FRAMES`], [`WAIT_BYTES`] and [`WAIT`]. Pictures that wait for the pacer are told
//! ([`Egress::unsent`]), so that no more come: where they wait, they can be left out for the better. SRTP forbids two packets
//! under one number, so numbers only grow here, and nobody else may send by these SSRCs.

mod pacer;
mod sent;
mod slot;

use std::collections::VecDeque;

use bytes::Bytes;
use grove_frame::Header;

pub use slot::SlotNames;

use self::pacer::Pacer;
pub(crate) use self::slot::PAYLOAD;
use self::slot::{Cut, Piece, Slot};
use super::estimate::{Estimator, Probe};
use super::rtcp::{Feedback, write_sender_reports};
use super::srtp::Seal;
use crate::Micros;
use crate::command::Stream;
use crate::frame::{MS, Track, track};

/// A slot whose stream has sent nothing for so long may be given to another: its stream pauses, or has gone elsewhere.
const IDLE: Micros = 2_000 * MS;
/// Frames that wait for slots, or for the pacer; over it the newest are dropped. Longer than any exchange of descriptions
/// takes.
const WAIT_FRAMES: usize = 512;
const WAIT_BYTES: usize = 2 << 20;
/// Packets of one batch. The kernel takes 64 of a full path's size.
const BATCH: usize = 40;
/// Frames of sound that wait to be polled: one second of five people.
const SOUNDS: usize = 256;
/// Retransmissions that wait. A browser that asks for more in one round trip has lost the picture.
const RETRANSMISSIONS: usize = 256;
/// How long frames wait for a slot. What nobody can see any more is not worth its place on the way.
const WAIT: Micros = 1_000 * MS;
/// Retransmissions are at most this part of the estimate. Two lossy hops at 5 % need 10 %; without a bound a narrow way would
/// carry nothing but retransmissions.
const RTX_PART: u64 = 4;
/// What of it may be saved up: a burst of losses is worth repairing at once.
const RTX_SAVED: Micros = 250 * MS;
/// And at least so many bytes: a few packets.
const RTX_LEAST: u64 = 6_000;
/// Pictures that wait for the pacer for longer, at its rate, are told; and that they do not any more, below a third of that.
const STANDS: Micros = 60 * MS;
/// How often slots that send are reported on.
const REPORT: Micros = 1_000 * MS;
/// Reports in one datagram: 28 bytes each.
const REPORTS: usize = 32;
/// Where neither sound nor the end of a picture left for so long, a packet does that says nothing but that the relay is there. Six of them
/// must be lost on end before a page takes it for silence; each costs a wake-up here and in the browser.
const LIFE: Micros = 100 * MS;
/// What is in it: too short for a frame (`docs/ref/links.md`).
const LIFE_SIGN: Bytes = Bytes::from_static(&[0]);
/// The round trip before one was measured.
const FIRST_ROUND_TRIP: Micros = 100 * MS;
/// The relay's name in its reports.
const NAME: &str = "grove";
/// What IP (version 4) and UDP put before a packet.
const BELOW: usize = 28;

/// A frame on its way out.
#[derive(Debug)]
struct Job {
    slot: usize,
    sealed: Bytes,
    cut: Cut,
    /// The number of its first piece.
    first: u64,
    time: u32,
    /// Pieces that have left.
    done: usize,
}

/// A frame that waits for a slot.
#[derive(Debug)]
struct Waiting {
    header: Header,
    sealed: Bytes,
    since: Micros,
}

impl Waiting {
    /// Whose it is, and whether it is sound.
    fn of(&self) -> (Stream, bool) {
        of(&self.header)
    }
}

fn of(header: &Header) -> (Stream, bool) {
    let stream = Stream::new(header.sender, header.stream);
    (stream, track(header) == Some(Track::Audio))
}

/// Sums since the link was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// RTP packets.
    pub packets: u64,
    /// Their bytes, with headers and tags.
    pub bytes: u64,
    /// Of the packets: those sent again because they were asked for.
    pub retransmitted: u64,
    /// Of the packets: those sent again to learn what the way carries.
    pub probes: u64,
    /// Frames that were not sent: sound that fits no packet or that nobody took, what waited for a slot for too long, and
    /// pictures above what may wait.
    pub dropped: u64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.retransmitted += other.retransmitted;
        self.probes += other.probes;
        self.dropped += other.dropped;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Egress {
    seal: Option<Seal>,
    slots: Vec<Slot>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    sounds: VecDeque<Job>,
    retransmissions: VecDeque<(usize, u64)>,
    rtx_credit: u64,
    rtx_credited: Micros,
    jobs: VecDeque<Job>,
    job_bytes: usize,
    /// It was told that pictures stand.
    stands: bool,
    /// The slot of the last picture that could be sent again.
    probing: Option<usize>,
    /// What of a probe has still to leave.
    probe: Option<Probe>,
    pacer: Pacer,
    estimator: Estimator,
    /// The next transport-wide number.
    number: u16,
    round_trip: Micros,
    report_at: Micros,
    /// When sound, a picture to its end, or a sign of life left last.
    lived_at: Micros,
    told_bps: u64,
    sums: Sums,
}

impl Egress {
    /// A way that is believed to carry `start_bps`, bit/s. Nothing leaves before it has keys and slots.
    pub fn new(start_bps: u64, now: Micros) -> Self {
        Self {
            seal: None,
            slots: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sounds: VecDeque::new(),
            retransmissions: VecDeque::new(),
            rtx_credit: RTX_LEAST,
            rtx_credited: now,
            jobs: VecDeque::new(),
            job_bytes: 0,
            stands: false,
            probing: None,
            probe: None,
            pacer: Pacer::default(),
            estimator: Estimator::new(start_bps, now),
            number: 0,
            round_trip: FIRST_ROUND_TRIP,
            report_at: now + REPORT,
            lived_at: now,
            told_bps: start_bps,
            sums: Sums::default(),
        }
    }

    /// The keys of this way are known. They never change: numbers would begin anew under the same ones.
    pub fn secure(&mut self, seal: Seal, now: Micros) {
        self.seal.get_or_insert(seal);
        self.catch_up(now);
    }

    /// The browser has a further slot. What waited for one goes out.
    pub fn add_slot(&mut self, names: SlotNames, now: Micros) {
        self.slots.push(Slot::new(names));
        self.catch_up(now);
    }

    fn catch_up(&mut self, now: Micros) {
        self.waiting_bytes = 0;
        let mut gone: Vec<(Stream, bool)> = Vec::new();
        for frame in std::mem::take(&mut self.waiting) {
            let of = frame.of();
            // What follows a picture that is gone can be shown from the next key frame on.
            if frame.header.is_key() {
                gone.retain(|other| *other != of);
            }
            let old = now.saturating_sub(frame.since) > WAIT;
            if old || (!of.1 && gone.contains(&of)) {
                self.sums.dropped += 1;
                gone.push(of);
            } else if !self.put(&frame.header, &frame.sealed, now) {
                self.waiting_bytes += frame.sealed.len();
                self.waiting.push_back(frame);
            }
        }
    }

    /// Slots, in pairs of sound and picture.
    pub fn pairs(&self) -> usize {
        self.slots.len() / 2
    }

    /// Streams whose frames wait for slots.
    pub fn short_of(&self) -> usize {
        let mut streams: Vec<Stream> = self.waiting.iter().map(|frame| frame.of().0).collect();
        streams.sort_unstable();
        streams.dedup();
        streams.len()
    }

    /// Sends a sealed frame, or has it wait for a slot. True: it waits.
    pub fn send(&mut self, header: &Header, sealed: Bytes, now: Micros) -> bool {
        if !self.waiting.is_empty() {
            self.catch_up(now);
        }
        let of = of(header);
        let behind = self.waiting.iter().any(|frame| frame.of() == of);
        if !behind && self.put(header, &sealed, now) {
            return false;
        }
        let full =
            self.waiting.len() >= WAIT_FRAMES || self.waiting_bytes + sealed.len() > WAIT_BYTES;
        // The beginning of what waits is sound, or a key frame: nothing else can be shown.
        let whole = of.1 || header.is_key() || behind;
        if full || !whole {
            self.sums.dropped += 1;
            return full;
        }
        self.waiting_bytes += sealed.len();
        self.waiting.push_back(Waiting {
            header: *header,
            sealed,
            since: now,
        });
        true
    }

    /// Bytes of pictures that stand before the pacer, if that has changed: 0 while few do.
    pub fn unsent(&mut self) -> Option<usize> {
        let rate = self.estimator.pacing_bps();
        let most = rate * STANDS / 8_000_000;
        let stands = self.job_bytes as u64 > if self.stands { most / 3 } else { most };
        let changed = stands != self.stands;
        self.stands = stands;
        changed.then_some(if stands { self.job_bytes } else { 0 })
    }

    /// False: there is no slot for it yet, or no key.
    fn put(&mut self, header: &Header, sealed: &Bytes, now: Micros) -> bool {
        if self.seal.is_none() {
            return false;
        }
        let (stream, audio) = of(header);
        if audio && sealed.len() > PAYLOAD {
            self.sums.dropped += 1;
            return true;
        }
        let of = |slot: &Slot| slot.names.audio == audio && slot.stream == Some(stream);
        let free = |slot: &Slot| {
            slot.names.audio == audio
                && (slot.stream.is_none() || now.saturating_sub(slot.used) > IDLE)
        };
        let found = self.slots.iter().position(of).or_else(|| {
            let free = self.slots.iter().enumerate().filter(|(_, slot)| free(slot));
            free.min_by_key(|(_, slot)| (slot.stream.is_some(), slot.used))
                .map(|(at, _)| at)
        });
        let Some((at, slot)) = found.and_then(|at| Some((at, self.slots.get_mut(at)?))) else {
            return false;
        };
        slot.stream = Some(stream);
        let full = self.jobs.len() >= WAIT_FRAMES || self.job_bytes + sealed.len() > WAIT_BYTES;
        if full && !audio {
            self.sums.dropped += 1;
            return true;
        }
        let cut = if audio {
            Cut::whole(sealed.len())
        } else {
            Cut::picture(sealed.len())
        };
        let (first, time) = slot.take(sealed, cut, now);
        if !audio && slot.can_probe() {
            self.probing = Some(at);
        }
        let job = Job {
            slot: at,
            sealed: sealed.clone(),
            cut,
            first,
            time,
            done: 0,
        };
        if audio {
            self.sounds.push_back(job);
            // They only stand while the socket takes nothing.
            if self.sounds.len() > SOUNDS {
                self.sounds.pop_front();
                self.sums.dropped += 1;
            }
        } else {
            self.job_bytes += sealed.len();
            self.jobs.push_back(job);
        }
        true
    }

    /// What the browser says of what came.
    pub fn handle(&mut self, feedback: Feedback, now: Micros) {
        match feedback {
            Feedback::Nack { media, lost } => self.retransmit(media, &lost, now),
            Feedback::Transport(transport) => {
                self.estimator.feedback(&transport, now);
            }
            Feedback::Report(block) => {
                if !self.slots.iter().any(|slot| slot.names.ssrc == block.ssrc) {
                    return;
                }
                if let Some(round_trip) = slot::round_trip(block.last_sr, block.delay_since, now) {
                    self.round_trip = round_trip;
                }
                self.estimator
                    .report(block.fraction_lost, self.round_trip, now);
            }
            Feedback::PictureLoss { .. } => {}
        }
    }

    fn retransmit(&mut self, media: u32, lost: &[u16], now: Micros) {
        let Some(at) = self.slots.iter().position(|slot| slot.names.ssrc == media) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        for &number in lost {
            if self.retransmissions.len() >= RETRANSMISSIONS {
                return;
            }
            if let Some(number) = slot.wanted_again(number, now, self.round_trip) {
                self.retransmissions.push_back((at, number));
            }
        }
    }

    /// What the way is wanted to carry, bit/s: there is no looking for more.
    pub fn set_demand(&mut self, bps: u64) {
        self.estimator.set_demand(bps);
    }

    /// What the way carries, bit/s, if that has changed since it was last asked.
    pub fn bandwidth(&mut self) -> Option<u64> {
        let bps = self.estimator.bps();
        let changed = bps != self.told_bps;
        self.told_bps = bps;
        changed.then_some(bps)
    }

    /// Sums since the link was made.
    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// The next batch: `out` is filled with datagrams of equal size, the last may be shorter. The size of one, in bytes.
    /// `None`: nothing until [`Egress::timeout`].
    pub fn poll(&mut self, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        out.clear();
        let mut seal = self.seal.take()?;
        if self.probe.is_none() && self.probing.is_some() {
            self.probe = self.estimator.next_probe(now);
        }
        let size = self
            .reports(&mut seal, now, out)
            .or_else(|| self.sound(&seal, now, out))
            .or_else(|| self.retransmission(&seal, now, out))
            .or_else(|| self.picture(&seal, now, out))
            .or_else(|| self.padding(&seal, now, out))
            .or_else(|| self.life(&seal, now, out));
        self.seal = Some(seal);
        size
    }

    /// When to poll again at the latest.
    pub fn timeout(&self) -> Option<Micros> {
        self.seal.as_ref()?;
        let paced =
            !self.jobs.is_empty() || !self.retransmissions.is_empty() || self.probe.is_some();
        let paced = paced.then(|| self.pacer.next());
        let reports = self
            .slots
            .iter()
            .any(|slot| slot.has_news() || slot.is_old());
        let reports = reports.then_some(self.report_at);
        let probes = self.estimator.timeout();
        let probes = probes.filter(|_| self.probing.is_some() && self.probe.is_none());
        let life = self.slots.iter().any(|slot| slot.names.audio);
        let life = life.then_some(self.lived_at + LIFE);
        [paced, reports, probes, life].into_iter().flatten().min()
    }

    fn reports(&mut self, seal: &mut Seal, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        if now < self.report_at {
            return None;
        }
        let news = self.slots.iter_mut().filter_map(|slot| slot.report(now));
        let reports: Vec<_> = news.take(REPORTS).collect();
        if reports.is_empty() {
            self.report_at = now + REPORT;
            for slot in &mut self.slots {
                slot.expire(now);
            }
            return None;
        }
        write_sender_reports(&reports, NAME, out);
        seal.rtcp(out);
        Some(out.len())
    }

    fn sound(&mut self, seal: &Seal, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        let job = self.sounds.pop_front()?;
        self.write(seal, &job, 0, now, out);
        Some(out.len())
    }

    fn retransmission(&mut self, seal: &Seal, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        if self.retransmissions.is_empty() {
            return None;
        }
        self.pacer.allowance(self.rate(), now)?;
        self.credit_rtx(now);
        while let Some((slot, number)) = self.retransmissions.pop_front() {
            if self.rtx_credit < PAYLOAD as u64 {
                // Who still misses them asks again.
                self.retransmissions.clear();
                return None;
            }
            if let Some(size) = self.write_again(seal, slot, number, now, out) {
                self.rtx_credit = self.rtx_credit.saturating_sub(size as u64);
                self.sums.retransmitted += 1;
                return Some(size);
            }
        }
        None
    }

    fn credit_rtx(&mut self, now: Micros) {
        let rate = self.estimator.bps() / RTX_PART;
        let since = now.saturating_sub(self.rtx_credited);
        self.rtx_credited = now;
        let most = (rate * RTX_SAVED / 8_000_000).max(RTX_LEAST);
        let grown = self.rtx_credit + rate * since.min(RTX_SAVED) / 8_000_000;
        self.rtx_credit = grown.min(most);
    }

    fn picture(&mut self, seal: &Seal, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        let most = self.pacer.allowance(self.rate(), now)?;
        let mut job = self.jobs.pop_front()?;
        let left = job.cut.count - job.done;
        // The packets of a probe leave one by one: in one go they show nothing.
        let most = if self.probe.is_some() { 0 } else { most };
        let pieces = (most / job.cut.piece).clamp(1, BATCH).min(left);
        let mut size = 0;
        for _ in 0..pieces {
            self.write(seal, &job, job.done, now, out);
            job.done += 1;
            if size == 0 {
                size = out.len();
            }
        }
        if job.done == job.cut.count {
            self.job_bytes -= job.sealed.len();
        } else {
            self.jobs.push_front(job);
        }
        Some(size)
    }

    /// Sends again what was sent last, so that a probe is as large as it must be.
    fn padding(&mut self, seal: &Seal, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        self.probe.as_ref()?;
        self.pacer.allowance(self.rate(), now)?;
        let number = self
            .probing
            .and_then(|slot| self.slots.get_mut(slot)?.probe_with());
        let size = self
            .probing
            .zip(number)
            .and_then(|(slot, number)| self.write_again(seal, slot, number, now, out));
        match size {
            Some(_) => self.sums.probes += 1,
            None => self.probe = None,
        }
        size
    }

    /// What a page is to hear of where it gets nothing else. It is lost or not by itself, where a message that is lost holds up
    /// those behind it.
    fn life(&mut self, seal: &Seal, now: Micros, out: &mut Vec<u8>) -> Option<usize> {
        if now < self.lived_at + LIFE {
            return None;
        }
        let slots = self.slots.iter_mut().enumerate();
        let of_sound = slots.filter(|(_, slot)| slot.names.audio);
        let (at, slot) = of_sound.min_by_key(|(_, slot)| slot.stream.is_some())?;
        // A stream does not keep its slot by this.
        let used = slot.used;
        let cut = Cut::whole(LIFE_SIGN.len());
        let (first, time) = slot.take(&LIFE_SIGN, cut, now);
        slot.used = used;
        let job = Job {
            slot: at,
            sealed: LIFE_SIGN,
            cut,
            first,
            time,
            done: 0,
        };
        self.write(seal, &job, 0, now, out);
        Some(out.len())
    }

    /// What pictures and probes leave at, bit/s.
    fn rate(&self) -> u64 {
        let probe = self.probe.as_ref().map_or(0, |probe| probe.bps);
        probe.max(self.estimator.pacing_bps())
    }

    fn write(&mut self, seal: &Seal, job: &Job, n: usize, now: Micros, out: &mut Vec<u8>) {
        let start = out.len();
        let Some(slot) = self.slots.get_mut(job.slot) else {
            return;
        };
        let piece = Piece {
            sealed: &job.sealed,
            cut: job.cut,
            n,
            time: job.time,
        };
        let written = slot.write(job.first + n as u64, piece, self.number, out);
        seal.rtp(written.ssrc, written.index, written.header, out, start);
        // A page hears of whole frames only, and a large one takes its time on a narrow way.
        if n + 1 == job.cut.count {
            self.lived_at = now;
        }
        self.left(out.len() - start, now);
    }

    fn write_again(
        &mut self,
        seal: &Seal,
        slot: usize,
        number: u64,
        now: Micros,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let start = out.len();
        let again = self.slots.get_mut(slot)?;
        let written = again.write_again(number, self.number, out)?;
        seal.rtp(written.ssrc, written.index, written.header, out, start);
        self.left(out.len() - start, now);
        Some(out.len() - start)
    }

    /// A packet leaves.
    fn left(&mut self, bytes: usize, now: Micros) {
        self.sums.packets += 1;
        self.sums.bytes += bytes as u64;
        let bytes = bytes + BELOW;
        self.pacer.spend(bytes, self.rate(), now);
        let probing = self.probe.is_some();
        self.estimator.sent(self.number, bytes, now, probing);
        self.number = self.number.wrapping_add(1);
        if let Some(probe) = &mut self.probe {
            probe.bytes = probe.bytes.saturating_sub(bytes);
            probe.packets_at_least = probe.packets_at_least.saturating_sub(1);
            if probe.bytes == 0 && probe.packets_at_least == 0 {
                self.probe = None;
            }
        }
    }
}

//! The core, the way down and its estimate together, over a bottleneck in virtual time: how old pictures are when they leave.

mod support;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use grove_frame::{Header, Kind};
use grove_relay::rtp::rtcp::{Feedback, TransportFeedback};
use grove_relay::rtp::srtp::{Profile, Seal};
use grove_relay::rtp::{Egress, SlotNames};
use grove_relay::{Command, Input, Layers, Micros, Stream};
use support::{Camera, MS, ROOM, Sim, token};

const CHILD: u16 = 100;
const PICTURES: u32 = 0x2_0000;
const AGAIN: u32 = 0x3_0000;
/// Each way, and the queue before the bottleneck.
const WAY: Micros = 20 * MS;
const QUEUE: Micros = 300 * MS;

fn egress(start_bps: u64, pairs: u32) -> Egress {
    let mut egress = Egress::new(start_bps, 0);
    let seal = Seal::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12]);
    egress.secure(seal.expect("its lengths"), 0);
    add_slots(&mut egress, 0..pairs, 0);
    egress
}

fn add_slots(egress: &mut Egress, pairs: std::ops::Range<u32>, now: Micros) {
    for n in pairs {
        for audio in [true, false] {
            let names = SlotNames {
                audio,
                ssrc: if audio { 0x1_0000 } else { PICTURES } + n,
                payload_type: if audio { 111 } else { 96 },
                rtx: (!audio).then_some((AGAIN + n, 97)),
                transport: 3,
            };
            egress.add_slot(names, now);
        }
    }
}

fn ssrc(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]])
}

/// A child of `cameras` by RTP, behind a bottleneck.
struct Call {
    sim: Sim,
    egress: Egress,
    capacity: u64,
    free: Micros,
    /// What is on its way: when it comes, its number, whether it is lost.
    flight: VecDeque<(Micros, u16, bool)>,
    told: Micros,
    count: u8,
    taken: usize,
    /// When the pictures were made that have not left wholly.
    made: VecDeque<Micros>,
    /// When pictures left, and how old they were.
    left: Vec<(Micros, Micros)>,
}

impl Call {
    fn new(cameras: u16, layer_bytes: usize, allotted: u64, capacity: u64) -> Self {
        let mut sim = Sim::new();
        let streams = (1..=cameras).map(|n| Stream::new(n, 0));
        for stream in streams.clone() {
            sim.root(Camera::new(stream, &[layer_bytes]));
        }
        sim.command(Command::Link {
            room: ROOM,
            peer: CHILD,
            token: token(CHILD),
        });
        sim.attach_rtp(CHILD, 3_000_000);
        for stream in streams {
            sim.feed(stream, CHILD, Layers(1), allotted);
            let take = format!(r#"{{"t":"take","s":{},"have":[]}}"#, stream.0);
            sim.text(CHILD, &take);
        }
        let mut egress = egress(3_000_000, cameras.into());
        egress.set_demand(sim.relay.demand(ROOM, CHILD).1);
        Self {
            sim,
            egress,
            capacity,
            free: 0,
            flight: VecDeque::new(),
            told: 0,
            count: 0,
            taken: 0,
            made: VecDeque::new(),
            left: Vec::new(),
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.sim.tick();
            let now = self.sim.now;
            self.feedback(now);
            let came = self.sim.peers[&CHILD].got[self.taken..].to_vec();
            self.taken += came.len();
            for got in came {
                if got.header.track == 1 {
                    self.made.push_back(got.header.capture_us);
                }
                self.egress.send(&got.header, got.bytes, now);
                self.leave(now);
            }
            self.leave(now);
            if let Some(bps) = self.egress.bandwidth() {
                self.sim.input(CHILD, Input::Bandwidth(bps));
            }
            if let Some(bytes) = self.egress.unsent() {
                self.sim.input(CHILD, Input::Unsent(bytes));
            }
        }
    }

    fn leave(&mut self, now: Micros) {
        let mut out = Vec::new();
        while let Some(size) = self.egress.poll(now, &mut out) {
            for packet in out.chunks(size).filter(|packet| packet[1] != 200) {
                let start = self.free.max(now);
                let lost = start - now > QUEUE;
                if !lost {
                    let bits = (packet.len() as u64 + 28) * 8;
                    self.free = start + bits * 1_000_000 / self.capacity;
                }
                let number = u16::from_be_bytes([packet[17], packet[18]]);
                self.flight.push_back((self.free + WAY, number, lost));
                let picture = (PICTURES..AGAIN).contains(&ssrc(packet));
                if picture
                    && packet[1] & 0x80 != 0
                    && let Some(made) = self.made.pop_front()
                {
                    self.left.push((now, now - made));
                }
            }
        }
    }

    fn feedback(&mut self, now: Micros) {
        if now < self.told + 50 * MS {
            return;
        }
        let due = self.flight.iter().take_while(|sent| sent.0 + WAY <= now);
        let told: Vec<_> = self.flight.drain(..due.count()).collect();
        let Some(&(first, base_seq, _)) = told.first() else {
            return;
        };
        self.told = now;
        let reference = first / 64_000;
        let mut last = reference * 256;
        let packets = told.iter().map(|&(at, _, lost)| {
            let delta = (at / 250) as i32 - last as i32;
            (!lost).then(|| {
                last = at / 250;
                delta
            })
        });
        let feedback = TransportFeedback {
            base_seq,
            count: self.count,
            reference_64ms: reference as i32,
            packets: packets.collect(),
        };
        self.count = self.count.wrapping_add(1);
        self.egress.handle(Feedback::Transport(feedback), now);
    }

    /// Pictures that have left since then, and the age of the oldest.
    fn since(&self, at: Micros) -> (usize, Micros) {
        let left = self.left.iter().filter(|left| left.0 >= at);
        (
            left.clone().count(),
            left.map(|left| left.1).max().unwrap_or(0),
        )
    }
}

#[test]
fn pictures_wait_where_they_can_be_left_out_and_not_before_the_pacer() {
    // More than the way carries: 720 kbit/s and sound on 600.
    let mut call = Call::new(3, 1000, 300_000, 600_000);
    call.run(30_000);
    let (left, oldest) = call.since(4_000 * MS);
    assert!(left > 500, "{left}");
    assert!(oldest < 1_000 * MS, "{oldest}");
    // Just what it carries.
    let mut call = Call::new(5, 600, 200_000, 1_200_000);
    call.run(30_000);
    let (left, oldest) = call.since(6_000 * MS);
    assert!(left > 3_000, "{left}");
    assert!(oldest < 300 * MS, "{oldest}");
}

#[test]
fn nothing_old_leaves_when_a_way_is_wide_again() {
    let mut call = Call::new(8, 600, 200_000, 5_000_000);
    call.run(6_000);
    call.capacity = 400_000;
    call.run(20_000);
    call.capacity = 5_000_000;
    call.run(6_000);
    let back = call.sim.now;
    call.run(4_000);
    let (left, oldest) = call.since(back);
    assert!(left > 900, "all pictures come again: {left}");
    let (_, ever) = call.since(6_500 * MS);
    assert!(ever < 1_000 * MS && oldest < 100 * MS, "{ever} {oldest}");
}

fn picture(sender: u16, number: u32, bytes: usize) -> (Header, Bytes) {
    let mut header = support::header(Stream::new(sender, 0), number);
    if number == 0 {
        (header.kind, header.droppable) = (
            Kind::Key {
                width: 640,
                height: 360,
            },
            false,
        );
    }
    (header, support::frame(header, bytes))
}

/// All that leaves in this time, by a look each millisecond.
fn run(egress: &mut Egress, now: &mut Micros, ms: u64) -> Vec<(Micros, Vec<u8>)> {
    let (mut left, mut out) = (Vec::new(), Vec::new());
    for _ in 0..ms {
        while let Some(size) = egress.poll(*now, &mut out) {
            left.extend(out.chunks(size).map(|packet| (*now, packet.to_vec())));
        }
        *now += MS;
    }
    left
}

#[test]
fn repetitions_are_a_part_of_what_the_way_carries_and_paced_whatever_left_before() {
    let (mut egress, mut now) = (egress(3_000_000, 1), 0);
    let mut last = 0;
    for number in 0..1_800 {
        let (header, sealed) = picture(1, number, 11_000);
        egress.send(&header, sealed, now);
        for (_, packet) in run(&mut egress, &mut now, 33) {
            if ssrc(&packet) == PICTURES {
                last = u16::from_be_bytes([packet[2], packet[3]]);
            }
        }
    }
    let before = egress.sums();
    let mut most = 0;
    for _ in 0..25 {
        let lost = (0..250).map(|n| last.wrapping_sub(n)).collect();
        let media = PICTURES;
        egress.handle(Feedback::Nack { media, lost }, now);
        let left = run(&mut egress, &mut now, 80);
        let first = left.first().map_or(0, |first| first.0);
        let at_once = left.iter().filter(|(at, _)| *at == first);
        most = most.max(at_once.map(|(_, packet)| packet.len()).sum());
    }
    let after = egress.sums();
    assert!(after.retransmitted > before.retransmitted + 20);
    // A quarter of 3 Mbit/s for 2 s, and what was saved up.
    let bytes = after.bytes - before.bytes;
    assert!(bytes < 187_500 + 30_000, "{bytes}");
    assert!(most < 20_000, "{most}");
}

#[test]
fn frames_wait_for_a_slot_in_their_order_and_not_for_long() {
    let (mut egress, mut now) = (egress(3_000_000, 1), 0);
    // Signs of life go in the slots of sound.
    let pictures = |left: Vec<(Micros, Vec<u8>)>| -> usize {
        let of = left.iter().filter(|(_, packet)| ssrc(packet) >= PICTURES);
        of.count()
    };
    let (header, sealed) = picture(1, 0, 100);
    egress.send(&header, sealed, now);
    run(&mut egress, &mut now, 10);
    // Another stream has no slot for half a second: it waits, in its order.
    for number in 0..15 {
        let (header, sealed) = picture(2, number, 100);
        assert!(egress.send(&header, sealed, now), "it waits");
        assert_eq!(pictures(run(&mut egress, &mut now, 33)), 0);
    }
    assert_eq!(egress.short_of(), 1);
    add_slots(&mut egress, 1..2, now);
    assert_eq!(pictures(run(&mut egress, &mut now, 100)), 15);
    // A third waits for seconds: what nobody can show any more never leaves.
    for number in 0..90 {
        let (header, sealed) = picture(3, number, 100);
        egress.send(&header, sealed, now);
        now += 33 * MS;
        let (header, sealed) = picture(1, 1 + number, 100);
        egress.send(&header, sealed, now);
        let (header, sealed) = picture(2, 15 + number, 100);
        egress.send(&header, sealed, now);
    }
    run(&mut egress, &mut now, 100);
    add_slots(&mut egress, 2..3, now);
    let stale = run(&mut egress, &mut now, 1_000);
    assert!(stale.iter().all(|(_, packet)| ssrc(packet) != PICTURES + 2));
    assert!(egress.sums().dropped >= 89);
}

#[test]
fn every_slot_that_sends_is_reported_on() {
    let (mut egress, mut now) = (egress(3_000_000, 40), 0);
    let mut told = BTreeSet::new();
    for number in 0..90 {
        for sender in 1..=40 {
            let (header, sealed) = picture(sender, number, 60);
            egress.send(&header, sealed, now);
        }
        for (_, packet) in run(&mut egress, &mut now, 33) {
            if packet[1] == 200 {
                // The first report of the compound is in clear; the others are counted by the compound's size.
                told.insert((now / 1_000_000, packet.len()));
            }
        }
    }
    let (second, _) = told.first().copied().expect("reports");
    let sizes = told.iter().filter(|(at, _)| *at == second + 1).count();
    assert_eq!(sizes, 2, "32 in one datagram, and 8 in another");
}

#[test]
fn where_nothing_else_leaves_a_sign_of_life_does_each_tenth_of_a_second_and_takes_nobodys_slot() {
    let (mut egress, mut now) = (egress(3_000_000, 2), 0);
    let signs = |left: Vec<(Micros, Vec<u8>)>| -> Vec<(Micros, u32)> {
        let media = left.iter().filter(|(_, packet)| packet[1] & 0x7f == 111);
        media.map(|(at, packet)| (*at / MS, ssrc(packet))).collect()
    };
    let slot = 0x1_0000;
    let first = signs(run(&mut egress, &mut now, 350));
    assert_eq!(first, [(100, slot), (200, slot), (300, slot)]);
    // While pictures leave there are none.
    for number in 0..20 {
        let (header, sealed) = picture(1, number, 100);
        egress.send(&header, sealed, now);
        assert_eq!(signs(run(&mut egress, &mut now, 33)), []);
    }
    // Two pairs are there, and two streams get them.
    let (header, sealed) = picture(2, 0, 100);
    assert!(!egress.send(&header, sealed, now), "it need not wait");
    assert_eq!(signs(run(&mut egress, &mut now, 250)).len(), 2);
}

#[test]
fn a_picture_that_leaves_slowly_is_no_sign_of_life_before_its_last_packet() {
    let (mut egress, mut now) = (egress(300_000, 1), 0);
    let (header, sealed) = picture(1, 0, 75_000);
    egress.send(&header, sealed, now);
    let left = run(&mut egress, &mut now, 1_500);
    let pieces = left.iter().filter(|(_, packet)| ssrc(packet) == PICTURES);
    let last = pieces.map(|(at, _)| *at).max().expect("it left");
    assert!(last > 400 * MS, "{last}");
    // What a page hears of: sound, or what is in a slot of it, and whole pictures.
    let heard = left.iter().filter(|(_, packet)| {
        let whole = ssrc(packet) == PICTURES && packet[1] & 0x80 != 0;
        packet[1] & 0x7f == 111 || whole
    });
    let mut before = 0;
    for (at, _) in heard {
        assert!(at - before <= 110 * MS, "{before} {at}");
        before = *at;
    }
    assert!(before >= 1_400 * MS, "{before}");
}

//! What must hold for any datagrams and any packets of media. The bytes are a script: datagrams at the relay's port, packets
//! of three sources both well-formed and not, in any order, and a way down that sends what comes together and hears anything
//! of it. The fuzz target and the test of its seeds both include this.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aws_lc_rs::hmac;
use grove_frame::{HEADER_BYTES, Header, Kind, TAG_BYTES};
use grove_relay::MAX_FRAME_BYTES;
use grove_relay::rtp::rtcp::{Feedback, LOST, ReportBlock, STATUSES, TransportFeedback, read};
use grove_relay::rtp::srtp::{Open, Profile, SENDERS, Seal};
use grove_relay::rtp::{Assembler, Demux, Descriptor, Egress, Packet, Route, SlotNames};

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n % 4], 1000))
}

/// A genuine check, whose transaction begins like these bytes.
fn signed(bytes: &[u8]) -> Vec<u8> {
    let mut check = vec![0, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42];
    check.extend((0..12).map(|n| bytes.get(n).copied().unwrap_or_default()));
    check.extend([0, 6, 0, 11]);
    check.extend(b"ufrg:theirs\0");
    check.extend([0, 0x25, 0, 0]);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"password");
    let tag = hmac::sign(&key, &check);
    check.extend([0, 8, 0, 20]);
    check.extend(tag.as_ref());
    check
}

/// A source: where its packets are, and what became of them.
#[derive(Default)]
struct Sent {
    seq: u64,
    time: u64,
    assembler: Assembler,
    whole: BTreeSet<u64>,
}

impl Sent {
    fn step(&mut self, seq: u8, time: u8) {
        self.seq = self.seq.saturating_add_signed(i64::from(seq as i8));
        self.time = self.time.saturating_add_signed(i64::from(time as i8) * 500);
    }
}

/// Both ends of a connection's RTCP, for each profile.
struct Control {
    ends: Vec<(Seal, Open)>,
    /// Whose RTCP was opened.
    senders: BTreeSet<Vec<u8>>,
}

impl Control {
    fn new() -> Self {
        let profiles = [
            Profile::AeadAes128Gcm,
            Profile::AeadAes256Gcm,
            Profile::Aes128CmSha1_80,
        ];
        let ends = profiles.map(|profile| {
            let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
            let seal = Seal::new(profile, &key, &salt).expect("its lengths");
            (seal, Open::new(profile, &key, &salt).expect("its lengths"))
        });
        Self {
            ends: ends.into(),
            senders: BTreeSet::new(),
        }
    }

    /// The bytes as a datagram are forged; sealed they are opened, once, but not with a bit of them changed.
    fn take(&mut self, bytes: &[u8], change: u8) {
        let sender = bytes.get(4..8).map(<[u8]>::to_vec);
        let known = |sender| self.senders.contains(sender) || self.senders.len() < SENDERS;
        let heard = sender.as_ref().is_some_and(known);
        let mut out = Vec::new();
        for (seal, open) in &mut self.ends {
            assert!(open.rtcp(bytes, &mut out).is_none(), "forged");
            let mut sealed = bytes.to_vec();
            seal.rtcp(&mut sealed);
            if heard {
                let at = usize::from(change) % sealed.len();
                sealed[at] ^= 1 << (change % 8);
                assert!(open.rtcp(&sealed, &mut out).is_none(), "changed");
                sealed[at] ^= 1 << (change % 8);
                assert_eq!(open.rtcp(&sealed, &mut out), Some(bytes));
            }
            let again = open.rtcp(&sealed, &mut out);
            assert!(again.is_none(), "came before, or of a sender too many");
        }
        self.senders.extend(sender.filter(|_| heard));
        let (mut calls, mut statuses) = (0, 0);
        read(bytes, |feedback| {
            calls += 1;
            match feedback {
                Feedback::Nack { lost, .. } => assert!((1..=LOST).contains(&lost.len())),
                Feedback::Transport(told) => statuses += told.packets.len(),
                Feedback::Report(_) | Feedback::PictureLoss { .. } => {}
            }
        });
        assert!(calls <= bytes.len() / 8 && statuses <= STATUSES);
    }
}

/// The way down, and what left on it.
struct Down {
    egress: Egress,
    now: u64,
    /// By SSRC: the numbers of packets, which may not leave twice.
    numbers: BTreeMap<u32, BTreeSet<u16>>,
    packets: usize,
}

const SLOTS: [SlotNames; 3] = [
    SlotNames {
        audio: true,
        ssrc: 1,
        payload_type: 111,
        rtx: None,
        transport: 2,
    },
    SlotNames {
        audio: false,
        ssrc: 0xffff,
        payload_type: 96,
        rtx: Some((3, 97)),
        transport: 1,
    },
    SlotNames {
        audio: false,
        ssrc: 4,
        payload_type: 96,
        rtx: None,
        transport: 14,
    },
];

impl Down {
    fn new() -> Self {
        let mut egress = Egress::new(1_000_000, 0);
        let seal = Seal::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12]);
        egress.secure(seal.expect("its lengths"), 0);
        for names in SLOTS {
            egress.add_slot(names, 0);
        }
        Self {
            egress,
            now: 0,
            numbers: BTreeMap::new(),
            packets: 0,
        }
    }

    /// Time passes, and all that is due leaves.
    fn run(&mut self, micros: u64) {
        let end = self.now + micros;
        let mut out = Vec::new();
        loop {
            while let Some(size) = self.egress.poll(self.now, &mut out) {
                assert!(size > 0 && out.len() <= 64 * 1252 && size <= 1252);
                for datagram in out.chunks(size) {
                    self.left(datagram);
                }
            }
            match self.egress.timeout() {
                Some(at) if at <= end => {
                    assert!(at > self.now, "a deadline that is over");
                    self.now = at;
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn left(&mut self, datagram: &[u8]) {
        self.packets += 1;
        if (192..224).contains(&datagram[1]) {
            return;
        }
        let number = u16::from_be_bytes([datagram[2], datagram[3]]);
        let ssrc = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
        let numbers = self.numbers.entry(ssrc).or_default();
        assert!(numbers.insert(number), "a number left twice");
        // They come round after 65536; the other half of the circle is past.
        if numbers.len() > 1 << 15 {
            numbers.clear();
        }
    }
}

/// How many packets went out.
pub fn check(script: &[u8]) -> usize {
    let mut script = Script(script);
    let mut demux = Demux::default();
    demux.add(1u8, "ufrg", "password");
    let mut verified = BTreeSet::new();
    let mut sources: [Sent; 3] = Default::default();
    let mut control = Control::new();
    let mut down = Down::new();
    while let Some(what) = script.byte() {
        let (a, b, c) = (script.byte(), script.byte(), script.byte());
        let (a, b, c) = (a.unwrap_or(0), b.unwrap_or(0), c.unwrap_or(0));
        match what % 6 {
            0 => {
                let datagram = script.take(b.into());
                control.take(&datagram, c);
                if what & 128 != 0 {
                    read(&datagram, |feedback| down.egress.handle(feedback, down.now));
                }
                let from = address(a);
                let mut routed = demux.route(from, address(9), &datagram, down.now);
                match &routed {
                    Route::Answer(answer) => assert!(answer.len() <= 44),
                    Route::Session(_) => {
                        assert!(verified.contains(&from), "an unverified datagram");
                    }
                    Route::Drop => {}
                }
                if what & 64 != 0 {
                    routed = demux.route(from, address(9), &signed(&datagram), down.now);
                    if routed == Route::Session(1) {
                        verified.insert(from);
                    }
                }
                if routed == Route::Session(1) && c % 2 == 0 {
                    demux.heard(1, from, down.now);
                }
                assert!(
                    demux.way(1, from).is_none() || verified.contains(&from),
                    "a way to an unverified address"
                );
            }
            // Any bytes as payload.
            1 => {
                let sent = &mut sources[usize::from(a % 3)];
                sent.step(b, c);
                let length = script.byte().unwrap_or(0);
                let payload = script.take(length.into());
                if let Some(found) = Descriptor::parse(&payload) {
                    assert!(found.bytes < payload.len());
                }
                let packet = Packet::video(sent.seq, sent.time, what & 64 != 0, &payload.into());
                offer(sent, &packet, &mut down);
            }
            // A picture in packets, of which some are left out, in either order.
            2 | 3 => {
                let sent = &mut sources[usize::from(a % 3)];
                sent.step(b, 3);
                let kind = if what & 8 != 0 {
                    Kind::Key {
                        width: 1,
                        height: 1,
                    }
                } else {
                    let nearest = u16::from(c % 4);
                    Kind::Delta {
                        farthest: nearest * (1 + u16::from(c / 64)),
                        nearest,
                    }
                };
                let header = Header {
                    kind,
                    spatial: 0,
                    temporal: c / 16 % 4,
                    number: sent.seq as u32,
                    capture_us: u64::from(c) * 1000,
                    sender: u16::from(a),
                    stream: 0,
                    track: 1,
                    generation: u16::from(what >> 6),
                    droppable: c & 1 == 1,
                    rotation: 0,
                };
                let mut bytes = header.encode().expect("a header").to_vec();
                bytes.resize(HEADER_BYTES + TAG_BYTES + usize::from(b) * 40, c);
                let mut packets: Vec<Packet> = Vec::new();
                let last = bytes.chunks(1000).len() - 1;
                for (n, piece) in bytes.chunks(1000).enumerate() {
                    let payload = [&[if n == 0 { 0x10 } else { 0 }], piece].concat();
                    let seq = sent.seq + n as u64;
                    packets.push(Packet::video(seq, sent.time, n == last, &payload.into()));
                }
                sent.seq += packets.len() as u64 - 1;
                if what & 16 != 0 {
                    packets.reverse();
                }
                if what & 32 != 0 {
                    packets.pop();
                }
                for packet in &packets {
                    offer(sent, packet, &mut down);
                }
            }
            // What receivers tell of what was sent: any of it, or of what was not.
            4 => {
                let media = SLOTS[usize::from(a % 3)].ssrc;
                let feedback = match b % 3 {
                    0 => Feedback::Nack {
                        media,
                        lost: (0..c)
                            .map(|n| (media as u16 & 0x7fff) + u16::from(n))
                            .collect(),
                    },
                    1 => Feedback::Transport(TransportFeedback {
                        base_seq: u16::from(b / 3) * u16::from(what),
                        count: c,
                        reference_64ms: i32::from(a),
                        packets: (0..c)
                            .map(|n| (n % 7 != 0).then_some(i32::from(n)))
                            .collect(),
                    }),
                    _ => Feedback::Report(ReportBlock {
                        ssrc: media,
                        fraction_lost: c,
                        lost: 0,
                        highest_seq: 0,
                        jitter: 0,
                        last_sr: (1 << 20 << 16) + u32::from(a) * 1000,
                        delay_since: u32::from(b),
                    }),
                };
                down.egress.handle(feedback, down.now);
                if let Some(bps) = down.egress.bandwidth() {
                    assert!(bps <= 1_500_000, "more than is wanted");
                }
            }
            _ => down.run(u64::from(a) * 10_000 + u64::from(b)),
        }
    }
    down.run(1_000_000);
    down.packets
}

fn offer(sent: &mut Sent, packet: &Packet, down: &mut Down) {
    if let Some((header, frame)) = sent.assembler.add(packet, down.now) {
        assert_eq!(Header::decode(&frame), Some(header));
        assert!(frame.len() <= MAX_FRAME_BYTES);
        assert!(sent.whole.insert(packet.time), "a frame came out twice");
        down.egress.send(&header, frame, down.now);
    }
    let (open, bytes) = sent.assembler.size();
    assert!(open <= 64 && bytes <= 4 << 20);
}

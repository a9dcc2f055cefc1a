//! What must hold for any datagrams and any packets of media. The bytes are a script: datagrams at the relay's port, packets
//! of three sources both well-formed and not, in any order, and slots that want this or that. The fuzz target and the test of
//! its seeds both include this.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use grove_frame::{HEADER_BYTES, Header, Kind, TAG_BYTES};
use grove_relay::MAX_FRAME_BYTES;
use grove_relay::rtp::rtcp::{Feedback, LOST, STATUSES, read};
use grove_relay::rtp::srtp::{Open, Profile, SENDERS, Seal};
use grove_relay::rtp::{
    Assembler, Demux, Descriptor, Outgoing, Packet, PacketRing, Route, Slot, Source, Splitter, Stun,
};

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

/// A source: where its packets are, and what became of them.
#[derive(Default)]
struct Sent {
    seq: u64,
    time: u64,
    ring: PacketRing,
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

/// How many packets went out.
pub fn check(script: &[u8]) -> usize {
    let mut script = Script(script);
    let mut demux = Demux::default();
    demux.add(1u8, "ufrg");
    let mut verified = BTreeSet::new();
    let mut control = Control::new();
    let mut sources: [Sent; 3] = Default::default();
    let mut slots = [Slot::video(0, 0), Slot::video(65_535, u32::MAX)];
    slots[0].want(Some(Source(0)));
    slots[1].want(Some(Source(1)));
    let mut numbers: [BTreeSet<u64>; 2] = Default::default();
    let mut now = 0;
    while let Some(what) = script.byte() {
        let (a, b, c) = (script.byte(), script.byte(), script.byte());
        let (a, b, c) = (a.unwrap_or(0), b.unwrap_or(0), c.unwrap_or(0));
        let mut out: [Vec<Outgoing>; 2] = Default::default();
        match what % 6 {
            0 => {
                let datagram = script.take(b.into());
                let from = address(a);
                control.take(&datagram, c);
                match demux.route(from, &datagram) {
                    Route::Answer(answer) => assert!(answer.len() <= 44),
                    Route::Session(_) => {
                        let check = Stun::parse(&datagram);
                        let named = check.is_some_and(|stun| stun.ufrag == Some("ufrg"));
                        assert!(named || verified.contains(&from), "an unverified datagram");
                        if named && c % 2 == 0 {
                            demux.verified(1, from);
                            verified.insert(from);
                        }
                    }
                    Route::Drop => {}
                }
            }
            // Any bytes as payload.
            1 => {
                let sent = &mut sources[usize::from(a % 3)];
                sent.step(b, c);
                let length = script.byte().unwrap_or(0);
                let payload = script.take(length.into());
                if let Some(found) = Descriptor::parse(&payload) {
                    assert!(found.bytes < payload.len() && found.temporal < 4);
                }
                let packet = Packet::video(sent.seq, sent.time, what & 64 != 0, &payload, now);
                offer(a % 3, sent, &packet, &mut slots, &mut out);
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
                let mut packets = Splitter::default().video(&header, &bytes, now);
                for packet in &mut packets {
                    packet.seq += sent.seq;
                    packet.time = sent.time;
                }
                sent.seq += packets.len() as u64 - 1;
                if what & 16 != 0 {
                    packets.reverse();
                }
                if what & 32 != 0 {
                    packets.pop();
                }
                for packet in &packets {
                    offer(a % 3, sent, packet, &mut slots, &mut out);
                }
            }
            4 => {
                let slot = &mut slots[usize::from(a % 2)];
                slot.set_limit(c % 4);
                slot.want((b % 4 < 3).then_some(Source(u64::from(b % 4))));
                if b & 8 != 0
                    && let Some(Source(wanted)) = slot.waiting()
                {
                    let ring = &sources[wanted as usize].ring;
                    slot.replay(ring, &mut out[usize::from(a % 2)]);
                }
            }
            _ => {
                now += u64::from(a) * 10_000;
                for sent in &mut sources {
                    sent.ring.expire(now);
                }
            }
        }
        for (numbers, out) in numbers.iter_mut().zip(&out) {
            for packet in out {
                assert!(numbers.insert(packet.seq), "a number went out twice");
            }
        }
    }
    numbers.iter().map(BTreeSet::len).sum()
}

fn offer(
    source: u8,
    sent: &mut Sent,
    packet: &Packet,
    slots: &mut [Slot; 2],
    out: &mut [Vec<Outgoing>; 2],
) {
    sent.ring.add(packet);
    assert!(sent.ring.bytes() <= 4 << 20);
    for (slot, out) in slots.iter_mut().zip(out) {
        slot.handle(Source(source.into()), packet, &sent.ring, out);
    }
    if let Some((header, frame)) = sent.assembler.add(packet) {
        assert_eq!(Header::decode(&frame), Some(header));
        assert!(frame.len() <= MAX_FRAME_BYTES);
        assert!(sent.whole.insert(packet.time), "a frame came out twice");
    }
    let (open, bytes) = sent.assembler.size();
    assert!(open <= 64 && bytes <= 4 << 20);
}

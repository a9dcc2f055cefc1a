//! The floor: the least that a server can do for the same packets, at the same pace, to the same number of live sockets.
//!
//! Each packet is received once; for every receiver it is copied behind a header of its own, sealed by AES-128-GCM under the
//! receiver's key and sent, one datagram a call, or all packets of a frame in one (UDP GSO). No ICE, no DTLS, no feedback.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn_udp::{Transmit, UdpSocketState};
use serde::{Deserialize, Serialize};

use super::shape::{RTP_HEADER, TAG};

/// What the floor is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub address: IpAddr,
    pub receivers: Vec<SocketAddr>,
    pub packets: usize,
    pub gso: bool,
}

/// What stands in the clear header of the floor's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub number: u32,
    /// Of the packet in its frame.
    pub part: u16,
}

impl Place {
    /// A header in which it stands: of RTP's shape, with 16 bytes of extensions.
    pub(crate) fn header(self, seq: u16, ssrc: u32) -> [u8; RTP_HEADER] {
        let mut header = [0; RTP_HEADER];
        header[0] = 0x90;
        header[1] = 96;
        header[2..4].copy_from_slice(&seq.to_be_bytes());
        header[4..8].copy_from_slice(&self.number.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        header[12..16].copy_from_slice(&[0xbe, 0xde, 0, 3]);
        header[16..18].copy_from_slice(&self.part.to_be_bytes());
        header
    }

    /// What stands in a datagram, and how many bytes of payload a sealed one has.
    pub(crate) fn read(datagram: &[u8]) -> Option<(Self, usize)> {
        let payload = datagram.len().checked_sub(RTP_HEADER + TAG)?;
        let number = datagram.get(4..8)?.try_into().ok()?;
        let part = datagram.get(16..18)?.try_into().ok()?;
        let place = Place {
            number: u32::from_be_bytes(number),
            part: u16::from_be_bytes(part),
        };
        Some((place, payload))
    }
}

struct Receiver {
    address: SocketAddr,
    key: LessSafeKey,
    ssrc: u32,
    seq: u32,
}

impl Receiver {
    fn new(n: u32, address: SocketAddr) -> Self {
        let mut key = [0x11; 16];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let key = UnboundKey::new(&AES_128_GCM, &key).expect("16 bytes are a key");
        Self {
            address,
            key: LessSafeKey::new(key),
            ssrc: n,
            seq: 0,
        }
    }

    /// Appends a packet, sealed.
    fn seal(&mut self, place: Place, payload: &[u8], out: &mut Vec<u8>) {
        self.seq += 1;
        let header = place.header(self.seq as u16, self.ssrc);
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.ssrc.to_be_bytes());
        nonce[8..].copy_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&header);
        let from = out.len();
        out.extend_from_slice(payload);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[from..])
            .expect("a packet is not too long");
        out.extend_from_slice(tag.as_ref());
    }
}

/// Runs until it is killed. Prints where it takes its plan; the answer to that is where packets are to go.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (mut control, _) = listener.accept()?;
    let mut line = String::new();
    BufReader::new(control.try_clone()?).read_line(&mut line)?;
    let plan: Plan = serde_json::from_str(&line)?;
    let inward = UdpSocket::bind((plan.address, 0))?;
    let outward = UdpSocket::bind((plan.address, 0))?;
    let batches = UdpSocketState::new((&outward).into())?;
    outward.set_nonblocking(false)?;
    writeln!(control, "{}", inward.local_addr()?)?;

    let numbered = (0..).zip(&plan.receivers);
    let mut receivers: Vec<Receiver> = numbered.map(|(n, &to)| Receiver::new(n, to)).collect();
    let mut came = [0; 2048];
    let mut frame: Vec<(Place, Vec<u8>)> = Vec::new();
    let mut out = Vec::new();
    loop {
        let (length, _) = inward.recv_from(&mut came)?;
        let Some((place, _)) = Place::read(&came[..length]) else {
            continue;
        };
        let payload = &came[RTP_HEADER..length - TAG];
        // A send that fails is a packet that does not come, which the receivers count.
        if !plan.gso {
            for receiver in &mut receivers {
                out.clear();
                receiver.seal(place, payload, &mut out);
                let _ = outward.send_to(&out, receiver.address);
            }
            continue;
        }
        frame.push((place, payload.to_vec()));
        if usize::from(place.part) + 1 < plan.packets {
            continue;
        }
        for receiver in &mut receivers {
            out.clear();
            for (place, payload) in &frame {
                receiver.seal(*place, payload, &mut out);
            }
            let segment = out.len() / frame.len();
            let transmit = Transmit {
                destination: receiver.address,
                ecn: None,
                contents: &out,
                segment_size: (frame.len() > 1).then_some(segment),
                src_ip: None,
            };
            let _ = batches.try_send((&outward).into(), &transmit);
        }
        frame.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_packet_says_in_clear_where_it_belongs_and_opens_under_its_receivers_key() {
        let mut receiver = Receiver::new(7, "127.0.0.1:9".parse().unwrap());
        let place = Place {
            number: 70_000,
            part: 3,
        };
        let payload = [0x5a; 100];
        let mut out = Vec::new();
        receiver.seal(place, &payload, &mut out);
        receiver.seal(place, &payload, &mut out);
        assert_eq!(out.len(), 2 * (RTP_HEADER + 100 + TAG));
        let (first, second) = out.split_at_mut(RTP_HEADER + 100 + TAG);
        assert_eq!(Place::read(first), Some((place, 100)));
        assert_ne!(first[RTP_HEADER..], second[RTP_HEADER..]);
        let (header, sealed) = second.split_at_mut(RTP_HEADER);
        let nonce = Nonce::assume_unique_for_key([0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2]);
        let opened = receiver.key.open_in_place(nonce, Aad::from(header), sealed);
        assert_eq!(opened.unwrap(), payload);
    }

    #[test]
    fn what_is_too_short_has_no_place() {
        assert_eq!(Place::read(&[0; RTP_HEADER + TAG - 1]), None);
    }
}

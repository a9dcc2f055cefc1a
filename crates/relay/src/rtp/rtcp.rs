//! RTCP as far as a sender of media needs it (RFC 3550, RFC 4585, RFC 5104, and transport-wide feedback as in
//! draft-holmer-rmcat-transport-wide-cc-extensions-01): what receivers say of what they got is read, and reports of the
//! sender are written.
//!
//! [`read`] takes bytes of the network, authenticated ones but of a peer that may mean harm. Its work is proportional to the
//! datagram except where few bytes stand for many packets, and there the bounds are [`LOST`] and [`STATUSES`]. Nothing is
//! kept between calls.

pub(super) const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA: u8 = 4;
const CNAME: u8 = 1;

/// Packets that one NACK may ask for, the rest is not heard. libwebrtc's list of missing packets holds 1000.
pub const LOST: usize = 1024;
/// Packets that the transport-wide feedback in one datagram may tell of; feedback beyond is not heard. A browser tells of
/// what came in 50 to 250 ms, and after an outage of what was sent meanwhile. A datagram of 1500 bytes could otherwise claim
/// two million.
pub const STATUSES: usize = 16_384;

/// Something that a receiver told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// Packets of a stream are missing.
    Nack {
        /// The stream.
        media: u32,
        /// Their sequence numbers, as listed; at most [`LOST`].
        lost: Vec<u16>,
    },
    /// When packets came.
    Transport(TransportFeedback),
    /// How a stream fares.
    Report(ReportBlock),
    /// A key frame is needed.
    PictureLoss {
        /// Of this stream.
        media: u32,
    },
}

/// Which packets of a connection came, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportFeedback {
    /// The transport-wide number of the first packet told of.
    pub base_seq: u16,
    /// Counts feedback, to tell whether some was lost.
    pub count: u8,
    /// What the first time is relative to, in 64 ms of the receiver's clock; 24 bits, signed.
    pub reference_64ms: i32,
    /// Each packet from `base_seq` on, one at least: `None` if it did not come, else how much later than the one before that
    /// came (the first: than the reference), in 250 us.
    pub packets: Vec<Option<i32>>,
}

/// How a stream fares, from a sender's or a receiver's report (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Share lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning; less than none if more came than were expected.
    pub lost: i32,
    /// The highest sequence number that came, below the number of its wraps.
    pub highest_seq: u32,
    /// In units of the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time in the last sender report that came, 0: none did.
    pub last_sr: u32,
    /// How long ago that was, in 1/65536 s.
    pub delay_since: u32,
}

/// What a sender says of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// The stream.
    pub ssrc: u32,
    /// The time, as in NTP: seconds since 1900 above 32 bits of fraction.
    pub ntp: u64,
    /// The same moment by the stream's clock.
    pub rtp_time: u32,
    /// Packets sent.
    pub packets: u32,
    /// Bytes of payload sent.
    pub bytes: u32,
}

/// A walk over bytes; `None` where they end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// 24 bits, signed.
    fn i24(&mut self) -> Option<i32> {
        let [a, b, c] = self.array()?;
        Some(i32::from_be_bytes([a, b, c, 0]) >> 8)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

/// Reads a compound, or a single packet (RFC 5506), and hands on what is in it, in its order. Packets of other kinds and
/// malformed ones are skipped by their length; one whose length is beyond the end, or of another version, ends the reading.
pub fn read(compound: &[u8], mut each: impl FnMut(Feedback)) {
    let mut rest = compound;
    let mut statuses = STATUSES;
    while let Some((&[first, kind, high, low], _)) = rest.split_first_chunk() {
        let length = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        let Some((packet, behind)) = rest.split_at_checked(length) else {
            return;
        };
        if first >> 6 != 2 {
            return;
        }
        rest = behind;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            let padding = body.last().map_or(0, |&bytes| usize::from(bytes));
            match body.len().checked_sub(padding) {
                Some(length) if padding > 0 => body = &body[..length],
                _ => continue,
            }
        }
        let mut body = Bytes(body);
        // `None`: cut, of which nothing is to be done.
        let _ = match (kind, first & 0x1f) {
            (SENDER_REPORT, blocks) => {
                let head = body.array::<24>();
                head.and_then(|_| read_blocks(body, blocks, &mut each))
            }
            (RECEIVER_REPORT, blocks) => {
                let head = body.array::<4>();
                head.and_then(|_| read_blocks(body, blocks, &mut each))
            }
            (TRANSPORT_FEEDBACK, NACK) => read_nack(body).map(&mut each),
            (TRANSPORT_FEEDBACK, TRANSPORT_WIDE) => read_transport(body, statuses).map(|found| {
                statuses -= found.packets.len();
                each(Feedback::Transport(found));
            }),
            (PAYLOAD_FEEDBACK, PICTURE_LOSS) => read_streams(body).map(|([_, media], _)| {
                each(Feedback::PictureLoss { media });
            }),
            // Streams that are asked for stand in entries of 8 bytes.
            (PAYLOAD_FEEDBACK, FULL_INTRA) => read_streams(body).map(|(_, mut body)| {
                while let (Some(media), Some(_number)) = (body.u32(), body.u32()) {
                    each(Feedback::PictureLoss { media });
                }
            }),
            _ => None,
        };
    }
}

/// The SSRCs ahead of all feedback: its sender, and the stream that it is about.
fn read_streams(mut body: Bytes<'_>) -> Option<([u32; 2], Bytes<'_>)> {
    Some(([body.u32()?, body.u32()?], body))
}

fn read_blocks(mut body: Bytes<'_>, blocks: u8, each: &mut impl FnMut(Feedback)) -> Option<()> {
    for _ in 0..blocks {
        each(Feedback::Report(ReportBlock {
            ssrc: body.u32()?,
            fraction_lost: body.u8()?,
            lost: body.i24()?,
            highest_seq: body.u32()?,
            jitter: body.u32()?,
            last_sr: body.u32()?,
            delay_since: body.u32()?,
        }));
    }
    Some(())
}

/// RFC 4585 section 6.2.1: pairs of a number and of bits for the 16 behind it.
fn read_nack(body: Bytes<'_>) -> Option<Feedback> {
    let ([_, media], mut body) = read_streams(body)?;
    let mut lost = Vec::new();
    while let (Some(first), Some(more)) = (body.u16(), body.u16()) {
        lost.push(first);
        let behind = (0..16).filter(|bit| more >> bit & 1 == 1);
        lost.extend(behind.map(|bit| first.wrapping_add(bit + 1)));
        if lost.len() >= LOST {
            lost.truncate(LOST);
            break;
        }
    }
    (!lost.is_empty()).then_some(Feedback::Nack { media, lost })
}

/// Section 3.1 of the draft. `most`: how many packets may be told of.
fn read_transport(body: Bytes<'_>, most: usize) -> Option<TransportFeedback> {
    let (_, mut body) = read_streams(body)?;
    let base_seq = body.u16()?;
    let told = usize::from(body.u16()?);
    if told == 0 || told > most {
        return None;
    }
    let reference_64ms = body.i24()?;
    let count = body.u8()?;
    // First how many bytes each one's time takes (its symbol says so), then the times.
    let mut packets = Vec::with_capacity(told.min(4 * body.0.len()));
    while packets.len() < told {
        let chunk = body.u16()?;
        let left = told - packets.len();
        match chunk >> 14 {
            0 | 1 => {
                let run = usize::from(chunk & 0x1fff).min(left);
                packets.resize(packets.len() + run, width(chunk >> 13)?);
            }
            2 => {
                let bits = (0..14).rev().take(left);
                packets.extend(bits.map(|bit| (chunk >> bit & 1 == 1).then_some(1)));
            }
            _ => {
                for pair in (0..7).rev().take(left) {
                    packets.push(width(chunk >> (2 * pair))?);
                }
            }
        }
    }
    for packet in &mut packets {
        *packet = match *packet {
            None => None,
            Some(1) => Some(body.u8()?.into()),
            Some(_) => Some(i16::from_be_bytes(body.array()?).into()),
        };
    }
    Some(TransportFeedback {
        base_seq,
        count,
        reference_64ms,
        packets,
    })
}

/// What the lower two bits, a symbol, say of a packet's time: there is none, or it takes 1 byte, or 2. The fourth symbol is
/// reserved.
fn width(symbol: u16) -> Option<Option<i32>> {
    match symbol & 3 {
        0 => Some(None),
        1 => Some(Some(1)),
        2 => Some(Some(2)),
        _ => None,
    }
}

/// Appends one compound with the reports, in their order, and the name of each one's source (RFC 3550 section 6.1); nothing
/// without a report. A report takes 28 bytes and its name up to 11 more than the name has; what fits a datagram is the
/// caller's to see to. Of a name 255 bytes count.
pub fn write_sender_reports(reports: &[SenderReport], cname: &str, out: &mut Vec<u8>) {
    for report in reports {
        out.extend_from_slice(&[0x80, SENDER_REPORT, 0, 6]);
        out.extend_from_slice(&report.ssrc.to_be_bytes());
        out.extend_from_slice(&report.ntp.to_be_bytes());
        out.extend_from_slice(&report.rtp_time.to_be_bytes());
        out.extend_from_slice(&report.packets.to_be_bytes());
        out.extend_from_slice(&report.bytes.to_be_bytes());
    }
    let name = cname.as_bytes();
    let name = &name[..name.len().min(255)];
    // A name ends with a zero at least, and on a word.
    let zeros = 4 - (2 + name.len()) % 4;
    let words = (4 + 2 + name.len() + zeros) / 4;
    // 5 bits count the sources.
    for sources in reports.chunks(31) {
        let count = sources.len();
        out.extend_from_slice(&[0x80 | count as u8, SOURCE_DESCRIPTION]);
        out.extend_from_slice(&((count * words) as u16).to_be_bytes());
        for report in sources {
            out.extend_from_slice(&report.ssrc.to_be_bytes());
            out.extend_from_slice(&[CNAME, name.len() as u8]);
            out.extend_from_slice(name);
            out.extend_from_slice(&[0; 4][..zeros]);
        }
    }
}

#[cfg(test)]
mod tests;

//! The operation log: everything that reached the planner, in order, small and checkable.
//!
//! ```text
//! log     = "grvl" version=1 root_slots cap operation* end
//! number  = LEB128: seven bits a byte, the lowest first, the top bit says that more follow; at most ten bytes
//! operation = code(1 byte) microseconds-since-the-last(number) fields
//!   1 join      id uplink region(1 byte) symmetric(1 byte, 0 or 1)      4 uplink    id uplink
//!   2 leave     id                                                      5 barred    child parent
//!   3 crash     id                                                      6 switched  child stripe(1 byte) to
//!                                                                       7 tick
//! end     = 0 operations(number) FNV-1a-64 of everything before it (8 bytes, little endian)
//! ```
//!
//! [`read`] is a pure function of the bytes; whatever it is given, it returns a log that [`write()`] turns into the same
//! bytes or says where and why not. The same log gives the same answers, hence one [`Hash`] of them.

use super::overlay::{Id, Micros, Move, Op, Peer};

const MAGIC: &[u8; 4] = b"grvl";
const VERSION: u8 = 1;
const END: u8 = 0;

/// A log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    /// Slots of the root.
    pub root_slots: u32,
    /// The deepest level.
    pub cap: u32,
    /// When and what.
    pub operations: Vec<(Micros, Op)>,
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damaged {
    #[error("this is no operation log: it does not begin with \"grvl\"")]
    Foreign,
    #[error("version {0} of the operation log is not known here; this program reads version 1")]
    Version(u8),
    #[error("the log breaks off after {0} bytes")]
    Short(usize),
    #[error("at byte {0}: no operation has the code {1}")]
    Code(usize, u8),
    #[error("at byte {0}: a number is too large or not written the shortest way")]
    Number(usize),
    #[error("at byte {0}: a flag is neither 0 nor 1")]
    Flag(usize),
    #[error("the log says that it has {said} operations and has {found}")]
    Count { said: u64, found: u64 },
    #[error("the checksum does not fit: a byte of the log has changed")]
    Checksum,
    #[error("bytes follow the end of the log at byte {0}")]
    Trailing(usize),
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): for accidents, not against forgers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(pub u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// An answer: how many moves, then each.
    pub(super) fn answer(&mut self, moves: &[Move]) {
        self.bytes(&(moves.len() as u32).to_le_bytes());
        for Move {
            child,
            stripe,
            parent,
        } in moves
        {
            self.bytes(&child.to_le_bytes());
            self.bytes(&[*stripe, u8::from(parent.is_some())]);
            self.bytes(&parent.unwrap_or(0).to_le_bytes());
        }
    }
}

/// A log as bytes.
pub(super) fn write(log: &Log) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    number(&mut out, log.root_slots.into());
    number(&mut out, log.cap.into());
    let mut last = 0;
    for (at, op) in &log.operations {
        let (code, fields, flags): (u8, &[u32], &[u8]) = match op {
            Op::Join(id, p) => (1, &[*id, p.uplink], &[p.region, u8::from(p.symmetric)]),
            Op::Leave(id) => (2, &[*id], &[]),
            Op::Crash(id) => (3, &[*id], &[]),
            Op::Uplink(id, uplink) => (4, &[*id, *uplink], &[]),
            Op::Barred(child, parent) => (5, &[*child, *parent], &[]),
            Op::Switched { child, stripe, to } => (6, &[*child, *to], &[*stripe]),
            Op::Tick => (7, &[], &[]),
        };
        out.push(code);
        number(&mut out, at.saturating_sub(last));
        last = last.max(*at);
        for field in fields {
            number(&mut out, (*field).into());
        }
        out.extend_from_slice(flags);
    }
    out.push(END);
    number(&mut out, log.operations.len() as u64);
    let mut hash = Hash::default();
    hash.bytes(&out);
    out.extend_from_slice(&hash.0.to_le_bytes());
    out
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes as a log.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn read(bytes: &[u8]) -> Result<Log, Damaged> {
    if !bytes.starts_with(MAGIC) {
        return Err(Damaged::Foreign);
    }
    let mut reader = Reader {
        bytes,
        at: MAGIC.len(),
    };
    match reader.byte()? {
        VERSION => {}
        other => return Err(Damaged::Version(other)),
    }
    let mut log = Log {
        root_slots: reader.small()?,
        cap: reader.small()?,
        operations: Vec::new(),
    };
    let mut now: Micros = 0;
    loop {
        let start = reader.at;
        let code = reader.byte()?;
        if code == END {
            break;
        }
        if code > 7 {
            return Err(Damaged::Code(start, code));
        }
        let place = reader.at;
        now = now
            .checked_add(reader.number()?)
            .ok_or(Damaged::Number(place))?;
        let op = match code {
            1 => {
                let (id, uplink) = (reader.small()?, reader.small()?);
                let region = reader.byte()?;
                let symmetric = reader.flag()?;
                Op::Join(
                    id,
                    Peer {
                        uplink,
                        region,
                        symmetric,
                    },
                )
            }
            2 => Op::Leave(reader.small()?),
            3 => Op::Crash(reader.small()?),
            4 => Op::Uplink(reader.small()?, reader.small()?),
            5 => Op::Barred(reader.small()?, reader.small()?),
            6 => {
                let (child, to) = (reader.small()?, reader.small()?);
                Op::Switched {
                    child,
                    to,
                    stripe: reader.byte()?,
                }
            }
            _ => Op::Tick,
        };
        log.operations.push((now, op));
    }
    let (said, found) = (reader.number()?, log.operations.len() as u64);
    if said != found {
        return Err(Damaged::Count { said, found });
    }
    let mut hash = Hash::default();
    hash.bytes(&bytes[..reader.at]);
    for expected in hash.0.to_le_bytes() {
        if reader.byte()? != expected {
            return Err(Damaged::Checksum);
        }
    }
    if reader.at < bytes.len() {
        return Err(Damaged::Trailing(reader.at));
    }
    Ok(log)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = self
            .bytes
            .get(self.at)
            .ok_or(Damaged::Short(self.bytes.len()))?;
        self.at += 1;
        Ok(*byte)
    }

    fn flag(&mut self) -> Result<bool, Damaged> {
        let place = self.at;
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged::Flag(place)),
        }
    }

    /// Fits 32 bits.
    fn small(&mut self) -> Result<Id, Damaged> {
        let place = self.at;
        Id::try_from(self.number()?).map_err(|_| Damaged::Number(place))
    }

    fn number(&mut self) -> Result<u64, Damaged> {
        let place = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || (byte == 0 && shift > 0) {
                return Err(Damaged::Number(place));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged::Number(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::chance::Chance;

    fn sample() -> Log {
        let peer = Peer {
            uplink: 8500,
            region: 7,
            symmetric: true,
        };
        Log {
            root_slots: 64,
            cap: 6,
            operations: vec![
                (0, Op::Join(1, peer)),
                (
                    200,
                    Op::Join(
                        2,
                        Peer {
                            uplink: 0,
                            region: 0,
                            symmetric: false,
                        },
                    ),
                ),
                (200, Op::Uplink(1, 4_000_000_000)),
                (1 << 40, Op::Barred(2, 1)),
                (
                    1 << 40,
                    Op::Switched {
                        child: 2,
                        stripe: 3,
                        to: 0,
                    },
                ),
                (u64::MAX, Op::Tick),
                (u64::MAX, Op::Leave(1)),
                (u64::MAX, Op::Crash(Id::MAX)),
            ],
        }
    }

    #[test]
    fn a_log_comes_back_as_it_was() {
        assert_eq!(read(&write(&sample())), Ok(sample()));
    }

    #[test]
    fn no_log_with_a_changed_bit_is_read() {
        let good = write(&sample());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_log_that_breaks_off_or_goes_on_says_so() {
        let good = write(&sample());
        assert_eq!(read(&[]), Err(Damaged::Foreign));
        for end in 4..good.len() {
            assert_eq!(read(&good[..end]), Err(Damaged::Short(end)));
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(read(&long), Err(Damaged::Trailing(good.len())));
        let mut newer = good;
        newer[4] = 2;
        assert_eq!(read(&newer), Err(Damaged::Version(2)));
    }

    #[test]
    fn whatever_is_read_is_written_the_same() {
        let good = write(&sample());
        for round in 0..20_000 {
            let mut chance = Chance::of(1, round, 9);
            let mut bytes = good.clone();
            for _ in 0..=chance.below(3) {
                let at = chance.below(bytes.len() as u64 - 5) as usize + 5;
                bytes[at] = chance.next() as u8;
            }
            // The checksum made good, so that everything else is reached.
            let mut hash = Hash::default();
            let end = bytes.len() - 8;
            hash.bytes(&bytes[..end]);
            bytes[end..].copy_from_slice(&hash.0.to_le_bytes());
            if let Ok(log) = read(&bytes) {
                assert_eq!(write(&log), bytes);
            }
        }
    }
}

//! What one slot has sent of late, by number: for retransmissions.

use std::collections::VecDeque;

use bytes::Bytes;

use super::slot::Cut;
use crate::Micros;
use crate::frame::MS;

/// How long a picture can be asked for again: past it a browser shows a newer one.
const AGE: Micros = 1_500 * MS;
/// Pictures remembered at most; each is 80 bytes here, and its own bytes are shared with whoever else holds them.
const PICTURES: usize = 128;
/// Bytes of pictures held for one slot at most.
const BYTES: usize = 4 << 20;

/// A picture that was sent.
#[derive(Debug, Clone)]
pub struct Picture {
    pub sealed: Bytes,
    pub cut: Cut,
    /// The number of its first piece.
    pub first: u64,
    /// Its RTP time.
    pub time: u32,
    pub at: Micros,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sent {
    pictures: VecDeque<Picture>,
    bytes: usize,
}

impl Sent {
    pub fn add(&mut self, picture: Picture) {
        let now = picture.at;
        self.bytes += picture.sealed.len();
        self.pictures.push_back(picture);
        self.expire(now);
    }

    /// Forgets what is too old, or too much; never the latest.
    pub fn expire(&mut self, now: Micros) {
        while self.pictures.len() > 1
            && (self.pictures.len() > PICTURES
                || self.bytes > BYTES
                || self.pictures.front().is_some_and(|p| p.at + AGE < now))
            && let Some(oldest) = self.pictures.pop_front()
        {
            self.bytes -= oldest.sealed.len();
        }
    }

    /// More than the latest is held.
    pub fn is_old(&self) -> bool {
        self.pictures.len() > 1
    }

    /// The picture that this number is a piece of, and which piece.
    pub fn find(&self, number: u64) -> Option<(&Picture, usize)> {
        let after = self.pictures.partition_point(|p| p.first <= number);
        let picture = self.pictures.get(after.checked_sub(1)?)?;
        let piece = (number - picture.first) as usize;
        (piece < picture.cut.count).then_some((picture, piece))
    }

    /// The largest picture.
    pub fn largest(&self) -> Option<&Picture> {
        self.pictures.iter().max_by_key(|p| p.sealed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(first: u64, bytes: usize, at: Micros) -> Picture {
        Picture {
            sealed: vec![0; bytes].into(),
            cut: Cut::picture(bytes),
            first,
            time: 0,
            at,
        }
    }

    #[test]
    fn every_piece_is_found_and_nothing_else() {
        let mut sent = Sent::default();
        sent.add(picture(10, 3_000, 0));
        sent.add(picture(13, 1, 0));
        let found = |number| sent.find(number).map(|(p, piece)| (p.first, piece));
        let all: Vec<_> = (9..=14).map(found).collect();
        let (one, two) = (|n| Some((10, n)), Some((13, 0)));
        assert_eq!(all, [None, one(0), one(1), one(2), two, None]);
    }

    #[test]
    fn the_oldest_are_forgotten_by_age_by_number_and_by_bytes() {
        let mut sent = Sent::default();
        sent.add(picture(0, 1, 0));
        sent.add(picture(1, 1, AGE + 1));
        assert_eq!((sent.find(0).is_some(), sent.pictures.len()), (false, 1));
        for n in 2..=PICTURES as u64 + 2 {
            sent.add(picture(n, 1, AGE + 1));
        }
        assert_eq!((sent.pictures.len(), sent.bytes), (PICTURES, PICTURES));
        for n in 0..3 {
            sent.add(picture(1_000_000 * (n + 1), BYTES / 2, AGE + 1));
        }
        assert_eq!((sent.pictures.len(), sent.bytes), (2, BYTES));
    }
}

//! The last lines of a room's chat, as sealed bytes. They live as long as the room, in memory only.

use crate::signal::message::{ChatLine, Node};
use std::collections::VecDeque;

/// A newcomer can read this many lines back.
const LINES: usize = 200;
/// And no more than this in all: `Joined` carries them.
const BYTES: usize = 256 * 1024;

/// The last lines, oldest first.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<ChatLine>,
    bytes: usize,
}

impl History {
    /// Adds a line and returns it, as everybody gets it.
    pub fn add(&mut self, node: Node, name: String, body: String, at_ms: u64) -> ChatLine {
        let line = ChatLine {
            node,
            name,
            at_ms,
            body,
        };
        self.bytes += line.body.len();
        self.lines.push_back(line.clone());
        while self.lines.len() > LINES || self.bytes > BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.body.len());
        }
        line
    }

    /// All of them.
    pub fn lines(&self) -> Vec<ChatLine> {
        self.lines.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_two_hundred_lines_are_kept() {
        let mut history = History::default();
        for at_ms in 0..205 {
            history.add(1, "Ada".into(), "AAAA".into(), at_ms);
        }
        let kept: Vec<u64> = history.lines().iter().map(|line| line.at_ms).collect();
        assert_eq!(kept, (5..205).collect::<Vec<_>>());
    }

    #[test]
    fn long_lines_push_out_more_than_one() {
        let mut history = History::default();
        for at_ms in 0..100 {
            history.add(1, "Ada".into(), "A".repeat(8192), at_ms);
        }
        assert_eq!(history.lines().len(), BYTES / 8192);
    }
}

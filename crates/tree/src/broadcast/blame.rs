//! Helpers that their children complain of.
//!
//! A child's word moves its own edge and nothing else, whatever it says. A helper is demoted, and feeds nobody for a while,
//! when several children that have complained of few others say the same within a short time: one liar moves only itself,
//! and whoever complains of everybody is believed by nobody. Only a helper's present children are heard, and a child that
//! has complained hangs elsewhere, so that nobody counts twice.

use std::collections::BTreeMap;

use super::Broadcast;
use super::nodes::{NONE, Nodes};
use crate::{Millis, NodeId};

/// Children that must say so.
const WITNESSES: usize = 3;
/// Within this time, ms.
const WINDOW: Millis = 30_000;
/// A demoted helper feeds nobody for this long, ms.
pub const DEMOTED_MS: Millis = 60_000;
/// Whoever has complained more often than this within ten windows is no witness.
const CREDIT: u32 = 3;

/// Who complained of whom, by index.
#[derive(Debug, Clone, Default)]
pub(super) struct Blames {
    /// Helper to (witness, when).
    heard: BTreeMap<u32, Vec<(u32, Millis)>>,
    /// Witness to (complaints, since when).
    made: BTreeMap<u32, (u32, Millis)>,
    /// Demoted helpers, until when.
    demoted: BTreeMap<u32, Millis>,
}

impl Blames {
    /// True if that is one witness too many.
    fn hear(&mut self, child: u32, parent: u32, now: Millis) -> bool {
        let made = self.made.entry(child).or_insert((0, now));
        if now >= made.1 + 10 * WINDOW {
            *made = (0, now);
        }
        made.0 += 1;
        if made.0 > CREDIT {
            return false;
        }
        let heard = self.heard.entry(parent).or_default();
        heard.retain(|&(witness, when)| now < when + WINDOW && witness != child);
        heard.push((child, now));
        heard.len() >= WITNESSES
    }

    /// Forget a node that is gone.
    pub fn forget(&mut self, node: u32) {
        self.heard.remove(&node);
        self.made.remove(&node);
        self.demoted.remove(&node);
    }

    /// When the next demotion ends.
    pub fn next(&self) -> Option<Millis> {
        self.demoted.values().copied().min()
    }

    /// Helpers whose demotion is over; what is too old to count is forgotten.
    fn pardon(&mut self, now: Millis) -> Vec<u32> {
        self.heard.retain(|_, heard| {
            heard.retain(|&(_, when)| now < when + WINDOW);
            !heard.is_empty()
        });
        self.made.retain(|_, made| now < made.1 + 10 * WINDOW);
        let over: Vec<u32> = self
            .demoted
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(&node, _)| node)
            .collect();
        self.demoted.retain(|_, until| now < *until);
        over
    }
}

impl Broadcast {
    /// A child complains of its parent: it is moved, and the parent demoted if enough others said so too.
    pub(super) fn blame(&mut self, child: NodeId, parent: NodeId) {
        let Some((child, parent)) = self.pair(child, parent) else {
            return;
        };
        let feeds = |nodes: &Nodes, tree: &super::Tree| {
            tree.knows(child)
                && tree.place(child).parent == parent
                && parent != NONE
                && !nodes.get(parent).is_relay()
        };
        let mut streams = self.streams.iter();
        if !streams.any(|stream| feeds(&self.nodes, &stream.tree) && stream.tree.root != parent) {
            return;
        }
        let now = self.nodes.now;
        self.nodes.avoid(child, parent, now + crate::AVOID_MS);
        self.separate(child, parent);
        if self.blames.hear(child, parent, now) {
            self.blames.heard.remove(&parent);
            // Whole seconds are kept: the end is the next one.
            let until = (now + DEMOTED_MS).next_multiple_of(1000);
            self.nodes.get_mut(parent).demote(until);
            self.blames.demoted.insert(parent, until);
            self.reoffer(parent);
        }
    }

    /// Let those whose time is over help again.
    pub(super) fn pardon(&mut self) {
        for node in self.blames.pardon(self.nodes.now) {
            self.reoffer(node);
        }
    }
}

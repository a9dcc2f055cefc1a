//! What is said between viewers and the planner: late, in order per viewer, sent again when lost; and what the planner
//! answers, checked against the announced trees before it is sent.

use super::network;
use super::overlay::{Id, Micros, Move, Op, ROOT};
use super::tally::Kind;
use super::trace::SECOND;
use super::world::{Conditions, Event, World};
use std::time::Instant;

/// Two that can't connect know it after this.
const REFUSED: Micros = SECOND;
/// A viewer without a parent asks again after this.
const ASK_AGAIN: Micros = SECOND;
/// A parent that is still below its child is tried again after this.
const STILL_BELOW: Micros = 50_000;

impl World {
    /// Somebody tells the planner that `dead` is gone; the first word counts.
    pub(super) fn notice(&mut self, dead: Id, teller: Id) {
        if dead == ROOT || self.present(dead) || self.viewers[dead as usize].noticed {
            return;
        }
        self.viewers[dead as usize].noticed = true;
        let wait = self.message(teller);
        // What it said itself comes first.
        let time = (self.now + wait).max(self.viewers[dead as usize].up + 1);
        self.at(time, Event::ToPlanner(Op::Crash(dead)));
    }

    pub(super) fn message(&mut self, of: Id) -> Micros {
        let Conditions {
            staleness, loss, ..
        } = self.conditions;
        network::message(staleness / 2, loss, &mut self.viewers[of as usize].chance)
    }

    pub(super) fn tell(&mut self, from: Id, op: Op) {
        let wait = self.message(from);
        let viewer = &mut self.viewers[from as usize];
        viewer.up = (self.now + wait).max(viewer.up + 1);
        let time = viewer.up;
        self.at(time, Event::ToPlanner(op));
    }

    /// The planner takes what has reached it; its answer is checked, written down and sent.
    pub(super) fn decide(&mut self, op: Op) {
        let counting = self.counting();
        if let Some(log) = &mut self.log {
            log.operations.push((self.now, op));
        }
        let mut moves = std::mem::take(&mut self.moves);
        moves.clear();
        let told = self.overlay.backups_told();
        let begun = Instant::now();
        self.overlay.handle(op, self.now, &mut moves);
        let nanos = begun.elapsed().as_nanos() as u64;
        let told = self.overlay.backups_told() - told;
        let touched = self.overlay.touched().unwrap_or(0);
        self.hash.answer(&moves);
        let surplus = self.announce(op, &moves);
        if counting {
            self.tally.backups_told += told;
            let kind = match op {
                Op::Join(..) => Kind::Join,
                Op::Leave(_) | Op::Crash(_) => Kind::Leave,
                Op::Uplink(..) => Kind::Uplink,
                Op::Tick => Kind::Tick,
                Op::Barred(..) | Op::Switched { .. } => Kind::Other,
            };
            let edges = moves.iter().filter(|m| m.parent.is_some()).count() as u64;
            let cost = self.tally.cost(kind);
            cost.operations += 1;
            cost.edges += edges;
            cost.most_edges = cost.most_edges.max(edges);
            cost.touched += touched;
            cost.most_touched = cost.most_touched.max(touched);
            cost.nanos += nanos;
            cost.most_nanos = cost.most_nanos.max(nanos);
            if let Some((orphans, _)) = surplus {
                let beyond = touched.saturating_sub(orphans);
                self.tally.touched_beyond = self.tally.touched_beyond.max(beyond);
            }
            if let Some((orphans, deepened)) = surplus.filter(|(orphans, _)| *orphans > 0) {
                self.tally.orphans += orphans;
                self.tally.orphan_edges += edges;
                self.tally.partings += 1;
                self.tally.partings_minimal += u64::from(edges <= orphans);
                self.tally.worst_surplus =
                    self.tally.worst_surplus.max(edges.saturating_sub(orphans));
                self.tally.deepened += deepened;
            }
        }
        for Move {
            child,
            stripe,
            parent,
        } in moves.drain(..)
        {
            if let Some(parent) = parent {
                self.order(child, stripe, parent);
            }
        }
        self.moves = moves;
    }

    /// Apply an answer to the announced trees. Of a departure: how many orphans there were, and how many of them the
    /// answer put deeper than they had been.
    pub(super) fn announce(&mut self, op: Op, moves: &[Move]) -> Option<(u64, u64)> {
        let gone = match op {
            Op::Leave(id) | Op::Crash(id) => Some(id),
            _ => None,
        };
        let orphans = gone.map(|id| self.plan.iter().map(|f| u64::from(f.count(id))).sum());
        let before: Vec<Option<u32>> = match gone {
            Some(_) => moves
                .iter()
                .map(|m| self.plan[usize::from(m.stripe)].level(m.child))
                .collect(),
            None => Vec::new(),
        };
        for Move {
            child,
            stripe,
            parent,
        } in moves
        {
            let forest = &mut self.plan[usize::from(*stripe)];
            let known = (*child as usize) < self.viewers.len() && *child != ROOT;
            let parent_known = parent.is_none_or(|p| (p as usize) < self.viewers.len());
            if !known || !parent_known || forest.parent(*child) == *parent {
                self.tally.violations += 1;
            } else if let Some(parent) = parent {
                forest.attach(*child, *parent);
            } else {
                forest.detach(*child);
            }
        }
        if let Some(id) = gone {
            for forest in &mut self.plan {
                forest.detach(id);
                let left: Vec<Id> = forest.children(id).collect();
                self.tally.violations += left.len() as u64;
                left.into_iter().for_each(|child| forest.detach(child));
            }
        }
        let mut deepened = 0;
        for (
            i,
            Move {
                child,
                stripe,
                parent,
            },
        ) in moves.iter().enumerate()
        {
            let level = self.plan[usize::from(*stripe)].level(*child);
            // An edge must lead to the root, unless somebody above waits for room.
            self.tally.violations += u64::from(parent.is_some() && level.is_none());
            deepened += u64::from(
                before
                    .get(i)
                    .is_some_and(|was| was.is_some() && level > *was),
            );
        }
        orphans.map(|orphans| (orphans, deepened))
    }

    /// Send the planner's word to a child.
    pub(super) fn order(&mut self, child: Id, stripe: u8, parent: Id) {
        let wait = self.message(child);
        let viewer = &mut self.viewers[child as usize];
        viewer.down = (self.now + wait).max(viewer.down + 1);
        let (time, generation) = (viewer.down, viewer.generation);
        let number = self.made;
        self.at(
            time,
            Event::Order {
                child,
                generation,
                stripe,
                parent,
                number,
            },
        );
    }

    pub(super) fn refused(&mut self, child: Id, parent: Id) {
        let generation = self.viewers[child as usize].generation;
        self.after(
            REFUSED,
            Event::Refused {
                child,
                generation,
                parent,
            },
        );
    }

    pub(super) fn is_newest(&self, child: Id, stripe: u8, number: u64) -> bool {
        self.newest[usize::from(stripe)][child as usize] == number
    }

    pub(super) fn set_newest(&mut self, child: Id, stripe: u8, number: u64) -> bool {
        let newest = &mut self.newest[usize::from(stripe)][child as usize];
        let newer = *newest < number;
        *newest = number.max(*newest);
        newer
    }

    pub(super) fn try_again(&mut self, child: Id, stripe: u8, parent: Id, number: u64) {
        self.after(
            STILL_BELOW,
            Event::Connected {
                child,
                stripe,
                parent,
                number,
            },
        );
    }

    pub(super) fn ask_again(&mut self, child: Id, stripe: u8) {
        let generation = self.viewers[child as usize].generation;
        self.after(
            ASK_AGAIN,
            Event::Recheck {
                child,
                generation,
                stripe,
            },
        );
    }
}

//! Second thoughts: what a timeout looks at, and when another plan is worth its moves.
//!
//! A fact places whom it left without a parent and lets be what stands. Whether all could stand better is asked on
//! timeouts only: first by levelling what stands, then by building from nothing, which is taken only for more people, more
//! video, a quarter fewer layers missing, a twentieth less of a relay, or uplinks that levelling could not even out.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::Cause;
use super::level;
use super::place::{self, Effort, Seat};
use super::shape::Shape;
use super::shares::{self, Aim};
use super::{Plan, QUICK, RETRY_MS, exchange, fill, promote, rates, relay};
use crate::{EdgeChange, Millis, NodeId, Policy, Reason, StreamId};

/// While rebuilding finds nothing better and only uplinks change, it waits twice as long each time, up to this.
const PATIENCE_MS: Millis = 16_000;

/// Exchanges tried on a timeout, times the receivers in the room (counted as 100 at least).
const EXCHANGES: usize = 20_000;

/// Edges reckoned through on one call to see which participants a relay relieves: a call's worth of rooms of ten.
const RELIEFS: usize = 2_000;

/// On a timeout.
const THOROUGH: Effort = Effort {
    depth: 3,
    attempts: 3_000,
    relays: true,
};

/// Trees, and who is in none of them.
type Placed = (Shape, BTreeMap<Seat, Reason>);

impl Plan {
    /// Let time pass: retries what had no capacity, lets lost pairs be used again. Call when `poll_timeout` says so.
    pub fn handle_timeout(&mut self, now: Millis) -> Vec<EdgeChange> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.backups_stale = true;
        self.room.avoid.retain(|_, until| now < *until);
        let retry = self.retry().is_some_and(|at| at <= now);
        if retry {
            self.retry = None;
        }
        self.settle(now);
        let cause = Cause::Time;
        let direct = self.room.direct();
        let mut shape = self.standing(&cause);
        let effort = if retry { THOROUGH } else { QUICK };
        let mut unserved = place::place(&self.room, &mut shape, &direct, effort);
        if retry {
            (shape, unserved) = self.rebuilt((shape, unserved), &direct, now);
        }
        self.relieve(&mut shape, &direct, &unserved, now);
        relay::come_home(&self.room, &mut shape, &direct);
        if retry {
            (shape, unserved) = self.without_relays((shape, unserved), &direct, now);
        }
        let changes = self.commit(shape, unserved, &cause, now);
        if retry {
            let longer = if changes.is_empty() {
                self.patience * 2
            } else {
                RETRY_MS
            };
            self.patience = longer.min(PATIENCE_MS);
        }
        changes
    }

    /// What stands, levelled, or trees from nothing where those are worth the moves.
    fn rebuilt(
        &self,
        (mut shape, mut unserved): Placed,
        direct: &BTreeSet<StreamId>,
        now: Millis,
    ) -> Placed {
        let room = &self.room;
        let mut old = self.score(&shape, &unserved, now);
        if room.policy == Policy::Auto {
            let mut levelled = shape.clone();
            level::level(room, &mut levelled, Aim::Even);
            let new = self.score(&levelled, &unserved, now);
            if (new.starved, new.missing) <= (old.starved, old.missing) {
                (shape, old) = (levelled, new);
            }
        }
        let mut promoted = shape.clone();
        promote::promote(room, &mut promoted);
        let new = self.score(&promoted, &unserved, now);
        if (new.starved, new.missing) <= (old.starved, old.missing) {
            (shape, old) = (promoted, new);
        }
        let choice = room.policy != Policy::Mesh || room.relays().next().is_some();
        if choice && !(room.policy == Policy::Auto && old.is_good()) {
            let mut fresh = fill::fill(room, &shape, true).unwrap_or_else(|| Shape::empty(room));
            let fresh_unserved = place::place(room, &mut fresh, direct, THOROUGH);
            self.relieve(&mut fresh, direct, &fresh_unserved, now);
            let new = self.score(&fresh, &fresh_unserved, now);
            if self.is_better(new, old) {
                (shape, unserved) = (fresh, fresh_unserved);
            }
        }
        if choice && !unserved.is_empty() {
            // The bigger the room the dearer an exchange, and the less one more receiver weighs.
            let seats: usize = shape.trees.values().map(|tree| tree.parent.len()).sum();
            let seats = seats + unserved.len();
            let attempts = EXCHANGES / seats.max(100);
            (shape, unserved) = exchange::exchange(room, shape, unserved, direct, attempts);
        }
        (shape, unserved)
    }

    /// Trees that need no relay, if there are any and nobody is worse off for it.
    fn without_relays(
        &self,
        (shape, unserved): Placed,
        direct: &BTreeSet<StreamId>,
        now: Millis,
    ) -> Placed {
        let room = &self.room;
        if shape.relayed(room) == 0 {
            return (shape, unserved);
        }
        let old = self.score(&shape, &unserved, now);
        if old.missing == 0 && room.in_deficit() {
            return (shape, unserved);
        }
        let alone = Effort {
            relays: false,
            ..THOROUGH
        };
        let mut fresh = fill::fill(room, &shape, false).unwrap_or_else(|| Shape::empty(room));
        let fresh_unserved = place::place(room, &mut fresh, direct, alone);
        let new = self.score(&fresh, &fresh_unserved, now);
        if self.is_as_good((&fresh, new), (&shape, old)) {
            (fresh, fresh_unserved)
        } else {
            (shape, unserved)
        }
    }

    /// Let relays take what participants cannot send in full, wherever that gives somebody more.
    pub(super) fn relieve(
        &self,
        shape: &mut Shape,
        direct: &BTreeSet<StreamId>,
        unserved: &BTreeMap<Seat, Reason>,
        now: Millis,
    ) {
        let over = relay::overdrawn(&self.room, shape);
        if over.is_empty() {
            return;
        }
        // The bigger the room the dearer a comparison, so they are asked in groups.
        let seats: usize = shape.trees.values().map(|tree| tree.parent.len()).sum();
        let groups = (RELIEFS / seats.max(1)).clamp(1, over.len());
        let mut best = self.score(shape, unserved, now);
        for group in over.chunks(over.len().div_ceil(groups)) {
            let mut trial = shape.clone();
            for &node in group {
                relay::relieve(&self.room, &mut trial, direct, node);
            }
            let score = self.score(&trial, unserved, now);
            if (score.starved, score.missing) < (best.starved, best.missing) {
                (*shape, best) = (trial, score);
            }
        }
    }

    fn score(&self, shape: &Shape, unserved: &BTreeMap<Seat, Reason>, now: Millis) -> Score {
        let (starved, missing) = if shares::is_carried(&self.room, shape) {
            (0, 0)
        } else {
            let rates = rates::share(&self.room, shape, &self.takes, now, false);
            (rates.starved, rates.missing)
        };
        Score {
            unserved: unserved.len(),
            starved,
            missing,
            relayed: shape.relayed(&self.room),
            avoided: shape.avoided(&self.room),
            uneven: shares::unevenness(&self.room, shape),
        }
    }

    /// What counts before single layers.
    fn rank(&self, score: Score) -> (usize, usize, u32) {
        match self.room.policy {
            Policy::Mesh | Policy::Tree(_) => (score.unserved, score.relayed, score.starved),
            Policy::Relay | Policy::Auto => (score.unserved, 0, score.starved),
        }
    }

    /// Is the fresh shape worth the moves? It serves more, starves fewer, or lacks a quarter fewer layers; or, under
    /// `Auto`, it needs less of a relay or evens out what levelling could not.
    fn is_better(&self, new: Score, old: Score) -> bool {
        let (fresh, kept) = (self.rank(new), self.rank(old));
        if fresh != kept {
            return fresh < kept;
        }
        let calmer = self.room.policy == Policy::Auto
            && new.missing <= old.missing
            && new.avoided <= old.avoided;
        let thrifty = new.relayed * 20 < old.relayed * 19;
        let even = new.relayed <= old.relayed && new.uneven == 0 && old.uneven > 0;
        let fuller = new.missing < old.missing
            && new.missing * 4 < old.missing * 3 + u32::from(old.missing < 4);
        fuller || (calmer && (thrifty || even))
    }

    /// Is a shape without relays good enough to do without them? Under `Auto` it must cost no layer, and no third hop
    /// that the relays spare; and it must not lean on links that were just lost.
    fn is_as_good(&self, (fresh, new): (&Shape, Score), (kept, old): (&Shape, Score)) -> bool {
        if new.avoided > old.avoided {
            return false;
        }
        if self.room.policy != Policy::Auto {
            return new.unserved <= old.unserved;
        }
        let hops = |shape: &Shape, id: StreamId, root: NodeId| shape.tree(id).height(root);
        let streams = &self.room.streams;
        let shallow = streams.iter().all(|(&id, stream)| {
            hops(fresh, id, stream.root) <= hops(kept, id, stream.root).max(2)
        });
        shallow && (self.rank(new), new.missing) <= (self.rank(old), old.missing)
    }
}

/// How good a plan is; the less the better.
#[derive(Debug, Clone, Copy)]
struct Score {
    unserved: usize,
    /// Receivers that want video and get none.
    starved: u32,
    /// Layers wanted and not got, summed.
    missing: u32,
    /// Receivers on relays that participants should feed.
    relayed: usize,
    /// Edges over links that were just lost.
    avoided: usize,
    /// Under `Auto`: what is sent above everybody's share, bit/s.
    uneven: u64,
}

impl Score {
    /// Is there nothing that another plan could better?
    fn is_good(&self) -> bool {
        (self.unserved, self.missing, self.relayed, self.uneven) == (0, 0, 0, 0)
    }
}

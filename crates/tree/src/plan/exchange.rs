//! A last resort on timeouts: somebody unserved in the place of somebody served.

use std::collections::{BTreeMap, BTreeSet};

use super::place::{Effort, Seat, Work, place};
use super::room::Room;
use super::shape::Shape;
use super::spot::RELAYS_IN_A_ROW;
use crate::{NodeId, Reason, StreamId};

/// Within an exchange.
const MODEST: Effort = Effort {
    depth: 2,
    attempts: 200,
    relays: true,
};

/// Where the greedy way ends short of what is possible: let an unserved receiver take the place of a served one, and
/// keep that if fewer go without in the end. Tries at most `attempts` exchanges.
pub(super) fn exchange(
    room: &Room,
    shape: Shape,
    unserved: BTreeMap<Seat, Reason>,
    direct: &BTreeSet<StreamId>,
    mut attempts: usize,
) -> (Shape, BTreeMap<Seat, Reason>) {
    let (mut shape, mut unserved) = (shape, unserved);
    'again: while shape.has_any_room(room) {
        for &(id, child) in unserved
            .iter()
            .filter(|(_, why)| **why == Reason::NoCapacity)
            .map(|(seat, _)| seat)
        {
            let Some(stream) = room.streams.get(&id) else {
                continue;
            };
            let parents: Vec<NodeId> = shape
                .tree(id)
                .parent
                .keys()
                .copied()
                .chain([stream.root])
                .collect();
            for parent in parents {
                for (other, kid) in shape.edges_of(parent) {
                    if attempts == 0 {
                        return (shape, unserved);
                    }
                    let mut trial = shape.clone();
                    trial.detach(room, other, kid);
                    if !trial.allowed(room, id, child, parent)
                        || trial.fit(room, id, child, parent, true).is_none()
                    {
                        continue;
                    }
                    attempts -= 1;
                    trial.attach(room, id, child, parent);
                    let left = place(room, &mut trial, direct, MODEST);
                    if left.len() < unserved.len() {
                        (shape, unserved) = (trial, left);
                        continue 'again;
                    }
                }
            }
            // Another relay may be the better first one.
            for relay in room.relays() {
                let mut trial = shape.clone();
                for (other, kid) in room.relays().flat_map(|relay| shape.edges_of(relay)) {
                    if other == id {
                        trial.detach(room, id, kid);
                    }
                }
                trial.prune(room);
                if attempts == 0
                    || trial.tree(id).parent.contains_key(&relay)
                    || !trial.tree(id).is_leaf(relay)
                    || !room.may_feed(stream, relay, child)
                {
                    continue;
                }
                attempts -= 1;
                let mut work = Work::new(room, &mut trial, direct, MODEST);
                let Some(spot) = work.through((id, child), relay, RELAYS_IN_A_ROW) else {
                    continue;
                };
                work.hang((id, child), &spot);
                let left = place(room, &mut trial, direct, MODEST);
                if left.len() < unserved.len() {
                    (shape, unserved) = (trial, left);
                    continue 'again;
                }
            }
        }
        break;
    }
    (shape, unserved)
}

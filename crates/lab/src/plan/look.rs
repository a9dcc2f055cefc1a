//! Looks at the trees from outside: depth, paid slots and delay beside their bounds, backups and what they are good for.
//!
//! Costs: O(viewers x depth) a look.

use super::bounds;
use super::network;
use super::overlay::{Id, Micros, NONE, ROOT};
use super::tally::Look;
use super::world::{Presence, World};
use std::collections::BTreeMap;

impl World {
    /// Write down how things stand.
    pub(super) fn look(&mut self) {
        let look = self.seen();
        self.tally.looks.push(look);
    }

    fn seen(&self) -> Look {
        let stripes = self.plan.len() as u64;
        let mut look = Look::default();
        let mut mix: BTreeMap<u32, u64> = BTreeMap::new();
        let mut copies = vec![0u64; self.viewers.len()];
        let mut slowest: Vec<Micros> = vec![0; self.viewers.len()];
        for (stripe, plan) in (0u8..).zip(&self.plan) {
            let mut levels = vec![0u32; self.viewers.len()];
            plan.walk(ROOT, |child, parent| {
                let level = levels[parent as usize] + 1;
                levels[child as usize] = level;
                if look.levels.len() < level as usize {
                    look.levels.resize(level as usize, 0);
                }
                look.levels[level as usize - 1] += 1;
                copies[parent as usize] += 1;
            });
            let mut delays: Vec<Micros> = vec![0; self.viewers.len()];
            self.flow[usize::from(stripe)].walk(ROOT, |child, parent| {
                let hop = self.rtt(child, parent) / 2 + self.overlay.hop();
                delays[child as usize] = delays[parent as usize] + hop;
                slowest[child as usize] = slowest[child as usize].max(delays[child as usize]);
            });
            self.backups(stripe, &levels, &mut look);
        }
        let mut waited = 0u128;
        for (id, viewer) in (0..).zip(&self.viewers).skip(1) {
            let planned = self.plan.iter().any(|plan| plan.parent(id).is_some());
            look.planned += u64::from(planned);
            if planned {
                *mix.entry(viewer.peer.slots()).or_default() += 1;
                let room = u64::from(viewer.peer.slots()) * stripes;
                look.overdrawn += copies[id as usize].saturating_sub(room) as f64 / stripes as f64;
            }
            if viewer.presence == Presence::Here && viewer.fed == self.full {
                look.fed += 1;
                waited += u128::from(slowest[id as usize]);
            }
        }
        look.paid = copies[ROOT as usize] as f64 / stripes as f64;
        look.delay_ms = waited as f64 / look.fed.max(1) as f64 / 1000.0;
        let mix: Vec<(u32, u64)> = mix.into_iter().collect();
        look.best = bounds::levels(&mix, look.paid.ceil() as u64);
        look.least_paid = bounds::paid(&mix, self.conditions.cap as usize);
        look
    }

    /// Backups that hold: here, not in the child's own subtree, not below its parent, not the parent itself.
    fn backups(&self, stripe: u8, levels: &[u32], look: &mut Look) {
        let plan = &self.plan[usize::from(stripe)];
        let mut reserve = vec![false; self.viewers.len()];
        for id in 1..self.viewers.len() as Id {
            let Some(parent) = plan.parent(id).filter(|p| *p != ROOT) else {
                continue;
            };
            if levels[id as usize] == 0 {
                continue;
            }
            look.backups.1 += 1;
            let legal = self.overlay.backup(id, stripe).is_some_and(|backup| {
                reserve[backup.parent as usize] |= plan.count(backup.parent) == 0;
                let apart = !plan.below(backup.parent, parent);
                let reached = backup.parent == ROOT || levels[backup.parent as usize] > 0;
                let place = self.viewers[id as usize].place;
                apart && reached && !network::barred(place, self.place(backup.parent))
            });
            look.backups.0 += u64::from(legal);
        }
        look.reserved += reserve.into_iter().filter(|reserved| *reserved).count() as u64;
    }

    /// Were these to vanish at once: children that lose their parent, and those that reach the root again because all
    /// orphans go to their backups and nobody asks the planner.
    pub(super) fn were_to_vanish(&self, gone: &[Id]) -> (u64, u64) {
        let plan = &self.plan[0];
        let mut dead = vec![false; self.viewers.len()];
        for &id in gone {
            dead[id as usize] = true;
        }
        let mut orphans = Vec::new();
        let mut parents = vec![NONE; self.viewers.len()];
        for id in 1..self.viewers.len() as Id {
            let Some(parent) = plan.parent(id).filter(|_| !dead[id as usize]) else {
                continue;
            };
            parents[id as usize] = parent;
            if dead[parent as usize] {
                orphans.push(id);
                let backup = self.overlay.backup(id, 0).map(|b| b.parent);
                parents[id as usize] = backup.filter(|b| !dead[*b as usize]).unwrap_or(NONE);
            }
        }
        let reach = |from: Id| {
            let mut at = from;
            for _ in 0..=parents.len() {
                if at == ROOT {
                    return true;
                }
                at = parents[at as usize];
                if at == NONE {
                    return false;
                }
            }
            false
        };
        let again = orphans.iter().filter(|id| reach(**id)).count() as u64;
        (orphans.len() as u64, again)
    }
}

//! What flows: connections that come about and break, who is fed because everybody above is, and what a viewer notices.
//!
//! A viewer is fed a stripe when its parent in that stripe is. Whoever is cut off takes everybody below along; they do not
//! act, because their own links are not silent (heartbeats), and get the stream again together with whoever was cut off.
//!
//! Costs: O(subtree) when a feed begins or ends, which over trees is the mean depth plus one.

use super::network;
use super::overlay::{Backup, Id, Op, ROOT};
use super::tally::VISIBLE;
use super::trace::SECOND;
use super::world::{Event, Presence, World};

/// Whoever goes without having seen anything is counted after this long.
const PATIENCE: u64 = 5 * SECOND;

impl World {
    /// The child does what the planner says.
    pub(super) fn obey(&mut self, child: Id, stripe: u8, parent: Id, number: u64) {
        if !self.set_newest(child, stripe, number)
            || self.flow[usize::from(stripe)].parent(child) == Some(parent)
        {
            return;
        }
        if !self.present(parent) {
            // Nobody answers there.
            let wait = network::silence(self.rtt(child, parent));
            self.after(wait, Event::Notice { dead: parent });
        } else if network::barred(self.viewers[child as usize].place, self.place(parent)) {
            self.refused(child, parent);
        } else {
            let wait = self.rtt(child, parent) * self.conditions.connection;
            self.after(
                wait,
                Event::Connected {
                    child,
                    stripe,
                    parent,
                    number,
                },
            );
        }
    }

    /// The connection stands: with the first frame the old parent is dropped.
    pub(super) fn connected(&mut self, child: Id, stripe: u8, parent: Id, number: u64) {
        if !self.is_newest(child, stripe, number)
            || self.viewers[child as usize].presence != Presence::Here
        {
            return;
        }
        if !self.present(parent) {
            self.notice(parent, child);
        } else if self.flow[usize::from(stripe)].below(parent, child)
            || (self.has(child, stripe) && !self.has(parent, stripe))
        {
            // Its own frames would come back, or none yet: the old parent goes on until the new one has delivered.
            self.try_again(child, stripe, parent, number);
        } else {
            self.hang(child, stripe, parent);
        }
    }

    /// A child finds its parent silent: the planner hears of it, and the child turns to its backup.
    pub(super) fn silent(&mut self, child: Id, stripe: u8, of: Id, backup: Option<Backup>) {
        if self.flow[usize::from(stripe)].parent(child).is_some() {
            return;
        }
        self.notice(of, child);
        if let Some(Backup { parent: to, warm }) = backup.filter(|_| self.conditions.backups) {
            let rtt = self.rtt(child, to);
            let wait = if warm {
                rtt
            } else {
                rtt * self.conditions.connection
            };
            let generation = self.viewers[child as usize].generation;
            self.after(
                wait,
                Event::Fallback {
                    child,
                    generation,
                    stripe,
                    to,
                },
            );
        }
        self.ask_again(child, stripe);
    }

    /// The backup answers, or has nothing itself.
    pub(super) fn fall_back(&mut self, child: Id, stripe: u8, to: Id) {
        let flow = &self.flow[usize::from(stripe)];
        if flow.parent(child).is_some() {
            return;
        }
        let backup = &self.viewers[to as usize];
        let able = to == ROOT || backup.presence == Presence::Here && self.has(to, stripe);
        if able && !network::barred(self.viewers[child as usize].place, self.place(to)) {
            self.tally.fallbacks += u64::from(self.counting());
            self.hang(child, stripe, to);
            self.tell(child, Op::Switched { child, stripe, to });
        } else {
            self.tally.fallbacks_failed += u64::from(self.counting());
        }
    }

    /// A child without a parent reminds the server, which says again what it planned.
    pub(super) fn recheck(&mut self, child: Id, stripe: u8) {
        let s = usize::from(stripe);
        if self.flow[s].parent(child).is_some() {
            return;
        }
        if let Some(parent) = self.plan[s].parent(child).filter(|p| self.present(*p)) {
            self.order(child, stripe, parent);
        }
        self.ask_again(child, stripe);
    }

    fn has(&self, id: Id, stripe: u8) -> bool {
        self.viewers[id as usize].fed & (1 << stripe) != 0
    }

    fn hang(&mut self, child: Id, stripe: u8, parent: Id) {
        let flow = &mut self.flow[usize::from(stripe)];
        let old = flow.parent(child);
        flow.attach(child, parent);
        let fed = self.has(parent, stripe);
        self.feed(child, stripe, fed);
        if let Some(old) = old {
            self.release(old);
        }
    }

    /// Take a child from whoever feeds it.
    pub(super) fn cut(&mut self, child: Id, stripe: u8) {
        let flow = &mut self.flow[usize::from(stripe)];
        let Some(old) = flow.parent(child) else {
            return;
        };
        flow.detach(child);
        self.feed(child, stripe, false);
        if old != ROOT {
            self.release(old);
        }
    }

    /// The stripe begins or ends for a node and all below it.
    fn feed(&mut self, top: Id, stripe: u8, fed: bool) {
        let bit = 1 << stripe;
        if (self.viewers[top as usize].fed & bit != 0) == fed {
            return;
        }
        let mut stack = vec![top];
        while let Some(id) = stack.pop() {
            stack.extend(self.flow[usize::from(stripe)].children(id));
            self.notes(id);
            let viewer = &mut self.viewers[id as usize];
            let was = viewer.fed;
            viewer.fed = if fed { was | bit } else { was & !bit };
            if viewer.presence == Presence::Here {
                self.notices(id, was);
            }
        }
    }

    /// Bring what a viewer missed up to now.
    fn notes(&mut self, id: Id) {
        let from = self.conditions.warmup * SECOND;
        let (now, full) = (self.now, self.full);
        let viewer = &mut self.viewers[id as usize];
        if viewer.presence == Presence::Here && viewer.first.is_some() && now > from {
            let length = now - viewer.changed.clamp(from, now);
            let missing = u64::from((full & !viewer.fed).count_ones());
            self.tally.missing += length * missing / u64::from(full.count_ones());
        }
        viewer.changed = now;
    }

    /// What a change of its feed means to a viewer.
    fn notices(&mut self, id: Id, was: u8) {
        let (now, full, counting) = (self.now, self.full, self.counting());
        let viewer = &mut self.viewers[id as usize];
        let is = viewer.fed;
        if viewer.first.is_none() {
            if is == full {
                viewer.first = Some(now);
                if counting {
                    self.tally.starts.add(now - viewer.joined);
                }
            }
            return;
        }
        if was == full {
            viewer.since = now;
            self.tally.interruptions += u64::from(counting);
        } else if is == full && counting {
            self.tally.gap(now - viewer.since);
        }
        if is == 0 {
            viewer.black_since = now;
        } else if was == 0 && counting {
            self.tally.black += u64::from(now - viewer.black_since > VISIBLE);
        }
    }

    /// A viewer goes: what it saw is counted.
    pub(super) fn stop_watching(&mut self, id: Id) {
        self.notes(id);
        let from = self.conditions.warmup * SECOND;
        let (now, full, counting) = (self.now, self.full, self.counting());
        let viewer = &self.viewers[id as usize];
        match viewer.first {
            Some(first) => {
                self.tally.watched += now.saturating_sub(first.max(from));
                if viewer.fed != full && counting {
                    self.tally.gap(now - viewer.since);
                }
                if viewer.fed == 0 && counting {
                    self.tally.black += u64::from(now - viewer.black_since > VISIBLE);
                }
            }
            None => {
                let waited = now - viewer.joined;
                self.tally.never_fed += u64::from(counting && waited >= PATIENCE);
            }
        }
    }

    /// The run is over for everybody.
    pub(super) fn close(&mut self) {
        for id in 1..self.viewers.len() as Id {
            if self.viewers[id as usize].presence == Presence::Here {
                self.stop_watching(id);
            }
        }
    }
}

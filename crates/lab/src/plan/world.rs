//! The simulation: viewers come, watch, and go; their control messages take time, get lost and are sent again; the planner
//! decides on what has reached it; orders travel back, connections are made, and bytes flow along edges that may not be
//! the plan's any more.
//!
//! Owns the queue of events (a binary heap, whole microseconds; events of the same time in the order in which they were
//! made) and who is here. What flows is in `flow`, what is looked at in `look`. The same conditions and seed give the same
//! run, apart from the planner's own time, which is read but never decides anything.
//!
//! Costs: some ten events for each who comes and goes, O(log events) each; about 150 bytes a viewer and stripe.

use super::chance::Chance;
use super::forest::Forest;
use super::network::{self, Place};
use super::oplog::{Hash, Log};
use super::overlay::{Backup, Id, Micros, Move, NONE, Op, Overlay, Peer, ROOT};
use super::tally::{Kind, Tally};
use super::trace::{Arrival, Arrivals, Mix, SECOND, Trace};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

/// A polite leaver forwards no longer than this.
const LINGER: Micros = SECOND;
/// The server's own link to a viewer is found dead after this, if no child says so first.
const SERVER_NOTICES: Micros = SECOND;
/// A number is used again after this, when no message about its last holder can be on its way.
const QUARANTINE: Micros = 60 * SECOND;
/// Two that can't connect know it after this.
const REFUSED: Micros = SECOND;
/// A viewer without a parent asks again after this.
const ASK_AGAIN: Micros = SECOND;
/// A parent that is still below its child is tried again after this.
const STILL_BELOW: Micros = 50_000;
pub(super) const TICK: Micros = SECOND / 4;
const KILLS: Micros = SECOND / 10;
/// Purposes of generators.
const NETWORK: u64 = 11;
const LEAVING: u64 = 12;
const NOISE: u64 = 13;

/// What is simulated.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    pub viewers: u32,
    /// Simulated, warm-up included.
    pub seconds: u64,
    /// Not counted.
    pub warmup: u64,
    pub trace: Trace,
    pub mix: Mix,
    pub root_slots: u32,
    /// The deepest level asked for.
    pub cap: u32,
    /// From an event to the planner's order at whom it concerns, without the planner's own time.
    pub staleness: Micros,
    /// Of control messages, permille.
    pub loss: u32,
    /// Of departures, permille.
    pub crashes: u32,
    /// A fifth of the pairs can't connect.
    pub nat: bool,
    /// Every uplink is measured a tenth too high or too low, each second anew.
    pub noise: bool,
    /// Children go to their backups by themselves.
    pub backups: bool,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Here,
    /// Has said goodbye and forwards until nobody needs it.
    Lingering,
}

/// A viewer.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    pub presence: Presence,
    /// Counts the holders of the number.
    pub generation: u32,
    pub peer: Peer,
    pub place: Place,
    crashes: bool,
    noticed: bool,
    chance: Chance,
    ordinal: u64,
    /// Messages on one connection stay in order: when the last one arrives, up and down.
    up: Micros,
    down: Micros,
    pub joined: Micros,
    /// Since when it has been watching.
    pub first: Option<Micros>,
    /// A bit for each stripe that arrives.
    pub fed: u8,
    /// When `fed` last changed, and since when it has not been full, and has been empty.
    pub changed: Micros,
    pub since: Micros,
    pub black_since: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Arrive {
        initial: bool,
    },
    Depart(Id, u32),
    Gone(Id, u32),
    ToPlanner(Op),
    /// The planner's word is at the child.
    Order {
        child: Id,
        generation: u32,
        stripe: u8,
        parent: Id,
        number: u64,
    },
    Connected {
        child: Id,
        stripe: u8,
        parent: Id,
        number: u64,
    },
    Refused {
        child: Id,
        generation: u32,
        parent: Id,
    },
    Silent {
        child: Id,
        generation: u32,
        stripe: u8,
        of: Id,
        backup: Option<Backup>,
    },
    Fallback {
        child: Id,
        generation: u32,
        stripe: u8,
        to: Id,
    },
    Recheck {
        child: Id,
        generation: u32,
        stripe: u8,
    },
    Notice {
        dead: Id,
    },
    Tick,
    Second,
    Exodus,
    Kill,
}

/// A run.
pub(super) struct World {
    pub(super) conditions: Conditions,
    pub(super) overlay: Box<dyn Overlay>,
    pub(super) now: Micros,
    queue: BinaryHeap<Entry>,
    made: u64,
    arrivals: Arrivals,
    replacing: bool,
    pub(super) viewers: Vec<Viewer>,
    pub(super) here: u32,
    free: VecDeque<(Micros, Id)>,
    /// What was announced and what flows, by stripe.
    pub(super) plan: Vec<Forest>,
    pub(super) flow: Vec<Forest>,
    /// The newest order of each child, by stripe.
    newest: Vec<Vec<u64>>,
    pub(super) full: u8,
    pub(super) tally: Tally,
    /// Of all answers.
    pub(super) hash: Hash,
    pub(super) log: Option<Log>,
    moves: Vec<Move>,
}

/// An event in the queue: the earliest first, of the same time the one that was made first.
#[derive(Debug, Clone, Copy)]
struct Entry {
    due: (Micros, u64),
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap's greatest is the earliest.
        other.due.cmp(&self.due)
    }
}

impl World {
    pub(super) fn new(conditions: Conditions, overlay: Box<dyn Overlay>, record: bool) -> Self {
        let stripes = usize::from(overlay.stripes());
        let c = &conditions;
        let mut world = Self {
            arrivals: Arrivals::new(c.seed, c.trace, c.mix, c.nat, c.crashes),
            log: record.then(|| Log {
                root_slots: c.root_slots,
                cap: c.cap,
                operations: Vec::new(),
            }),
            overlay,
            now: 0,
            queue: BinaryHeap::new(),
            made: 0,
            replacing: true,
            viewers: Vec::new(),
            here: 0,
            free: VecDeque::new(),
            plan: vec![Forest::default(); stripes],
            flow: vec![Forest::default(); stripes],
            newest: vec![Vec::new(); stripes],
            full: ((1u16 << stripes) - 1) as u8,
            tally: Tally {
                stripes: stripes as u64,
                ..Tally::default()
            },
            hash: Hash::default(),
            moves: Vec::new(),
            conditions,
        };
        // The root has a record, so that numbers are places; it never comes or goes.
        let nobody = Peer {
            uplink: 0,
            region: 0,
            symmetric: false,
        };
        world.settle(
            ROOT,
            &Arrival {
                ordinal: u64::MAX,
                peer: nobody,
                stay: None,
                crashes: false,
            },
        );
        world.viewers[ROOT as usize].fed = world.full;
        for forest in world.plan.iter_mut().chain(&mut world.flow) {
            forest.reach(ROOT);
        }
        world.at(0, Event::Arrive { initial: true });
        world.at(TICK, Event::Tick);
        world.at(SECOND, Event::Second);
        match world.conditions.trace {
            Trace::Adversary => world.at(world.conditions.warmup * SECOND, Event::Kill),
            Trace::Exodus => world.at(world.conditions.seconds * SECOND / 2, Event::Exodus),
            _ => {}
        }
        world
    }

    /// Run to the end; `passed` hears of every simulated second.
    pub(super) fn run(&mut self, mut passed: impl FnMut(u64)) {
        let end = self.conditions.seconds * SECOND;
        let looks = 5;
        let span = (self.conditions.seconds - self.conditions.warmup) * SECOND / looks;
        let mut next = end - span * (looks - 1);
        let mut second = 0;
        while let Some(Entry {
            due: (at, _),
            event,
        }) = self.queue.pop()
        {
            while next <= at.min(end) {
                self.look();
                next += span.max(1);
            }
            if at > end {
                break;
            }
            self.now = at;
            if at / SECOND > second {
                second = at / SECOND;
                passed(second);
            }
            self.handle(event);
        }
        self.now = end;
        self.close();
    }

    pub(super) fn counting(&self) -> bool {
        self.now >= self.conditions.warmup * SECOND
    }

    pub(super) fn at(&mut self, time: Micros, event: Event) {
        self.made += 1;
        self.queue.push(Entry {
            due: (time, self.made),
            event,
        });
    }

    pub(super) fn after(&mut self, wait: Micros, event: Event) {
        self.at(self.now + wait, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { initial } => self.arrive(initial),
            Event::Depart(id, generation) => self.depart(id, generation),
            Event::Gone(id, generation) => self.gone(id, generation),
            Event::ToPlanner(op) => self.decide(op),
            Event::Order {
                child,
                generation,
                stripe,
                parent,
                number,
            } => {
                if self.holds(child, generation) {
                    self.obey(child, stripe, parent, number);
                }
            }
            Event::Connected {
                child,
                stripe,
                parent,
                number,
            } => {
                self.connected(child, stripe, parent, number);
            }
            Event::Refused {
                child,
                generation,
                parent,
            } => {
                if self.holds(child, generation) {
                    self.tally.barred += 1;
                    self.tell(child, Op::Barred(child, parent));
                }
            }
            Event::Silent {
                child,
                generation,
                stripe,
                of,
                backup,
            } => {
                if self.holds(child, generation)
                    && self.flow[usize::from(stripe)].parent(child).is_none()
                {
                    self.notice(of, child);
                    if let Some(backup) = backup.filter(|_| self.conditions.backups) {
                        let rtt = self.rtt(child, backup.parent);
                        let wait = if backup.warm {
                            rtt
                        } else {
                            network::connect(rtt)
                        };
                        self.after(
                            wait,
                            Event::Fallback {
                                child,
                                generation,
                                stripe,
                                to: backup.parent,
                            },
                        );
                    }
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
            Event::Fallback {
                child,
                generation,
                stripe,
                to,
            } => {
                if self.holds(child, generation) {
                    self.fall_back(child, stripe, to);
                }
            }
            Event::Recheck {
                child,
                generation,
                stripe,
            } => {
                if self.holds(child, generation) {
                    self.recheck(child, stripe);
                }
            }
            Event::Notice { dead } => self.notice(dead, dead),
            Event::Tick => {
                self.decide(Op::Tick);
                self.after(TICK, Event::Tick);
            }
            Event::Second => {
                self.second();
                self.after(SECOND, Event::Second);
            }
            Event::Exodus => self.exodus(),
            Event::Kill => {
                self.kill();
                self.after(KILLS, Event::Kill);
            }
        }
    }

    fn holds(&self, id: Id, generation: u32) -> bool {
        let viewer = &self.viewers[id as usize];
        viewer.generation == generation && viewer.presence == Presence::Here
    }

    pub(super) fn present(&self, id: Id) -> bool {
        self.viewers[id as usize].presence != Presence::Absent
    }

    pub(super) fn place(&self, id: Id) -> Option<Place> {
        (id != ROOT).then(|| self.viewers[id as usize].place)
    }

    pub(super) fn rtt(&self, child: Id, parent: Id) -> Micros {
        network::rtt(self.viewers[child as usize].place, self.place(parent))
    }

    fn settle(&mut self, id: Id, arrival: &Arrival) {
        let mut chance = Chance::of(self.conditions.seed, arrival.ordinal, NETWORK);
        let place = Place::of(arrival.peer, &mut chance);
        let viewer = Viewer {
            presence: Presence::Here,
            generation: self
                .viewers
                .get(id as usize)
                .map_or(0, |v| v.generation + 1),
            peer: arrival.peer,
            place,
            crashes: arrival.crashes,
            noticed: false,
            chance,
            ordinal: arrival.ordinal,
            up: 0,
            down: 0,
            joined: self.now,
            first: None,
            fed: 0,
            changed: self.now,
            since: self.now,
            black_since: self.now,
        };
        if (id as usize) < self.viewers.len() {
            self.viewers[id as usize] = viewer;
        } else {
            self.viewers.push(viewer);
            for newest in &mut self.newest {
                newest.push(0);
            }
            for forest in self.plan.iter_mut().chain(&mut self.flow) {
                forest.reach(id);
            }
        }
        for newest in &mut self.newest {
            // Whatever was said to the number's last holder is older.
            newest[id as usize] = self.made;
        }
    }

    fn arrive(&mut self, initial: bool) {
        let arrival = self.arrivals.next();
        let id = match self.free.front() {
            Some(&(since, id)) if since + QUARANTINE <= self.now => {
                self.free.pop_front();
                id
            }
            _ => self.viewers.len() as Id,
        };
        self.settle(id, &arrival);
        self.here += 1;
        self.tally.arrivals += 1;
        self.tell(id, Op::Join(id, arrival.peer));
        for stripe in 0..self.overlay.stripes() {
            self.ask_again(id, stripe);
        }
        if let Some(stay) = arrival.stay {
            let generation = self.viewers[id as usize].generation;
            self.after(stay, Event::Depart(id, generation));
        }
        if initial {
            let all = match self.conditions.trace {
                Trace::Diurnal => u64::from(self.conditions.viewers) * 2 / 5,
                _ => u64::from(self.conditions.viewers),
            };
            if arrival.ordinal + 1 < all {
                let ramp = match self.conditions.trace {
                    Trace::Flash => 10 * SECOND,
                    _ => self.conditions.warmup * SECOND / 2,
                };
                let next = ramp * (arrival.ordinal + 1) / all;
                self.at(next.max(self.now), Event::Arrive { initial: true });
            }
        }
    }

    fn depart(&mut self, id: Id, generation: u32) {
        if !self.holds(id, generation) {
            return;
        }
        self.here -= 1;
        self.tally.departures += 1;
        self.stop_watching(id);
        if self.replacing {
            let wait = self.mood(id).below(2 * SECOND);
            self.after(wait, Event::Arrive { initial: false });
        }
        if self.viewers[id as usize].crashes {
            self.die(id);
            self.after(SERVER_NOTICES, Event::Notice { dead: id });
        } else {
            self.viewers[id as usize].presence = Presence::Lingering;
            self.tell(id, Op::Leave(id));
            self.after(LINGER, Event::Gone(id, generation));
            self.release(id);
        }
    }

    fn gone(&mut self, id: Id, generation: u32) {
        let viewer = &self.viewers[id as usize];
        if viewer.generation == generation && viewer.presence == Presence::Lingering {
            self.viewers[id as usize].noticed = true;
            self.die(id);
        }
    }

    /// Nothing comes from it any more.
    fn die(&mut self, id: Id) {
        self.viewers[id as usize].presence = Presence::Absent;
        self.free.push_back((self.now, id));
        for stripe in 0..self.overlay.stripes() {
            self.cut(id, stripe);
            let children: Vec<Id> = self.flow[usize::from(stripe)].children(id).collect();
            for child in children {
                self.cut(child, stripe);
                let rtt = self.rtt(child, id);
                let wait = self.overlay.patience().unwrap_or(network::silence(rtt));
                let generation = self.viewers[child as usize].generation;
                // What the planner has named until now has been said.
                let backup = self.overlay.backup(child, stripe);
                self.after(
                    wait,
                    Event::Silent {
                        child,
                        generation,
                        stripe,
                        of: id,
                        backup,
                    },
                );
            }
        }
    }

    /// A leaver whom nobody needs is gone.
    pub(super) fn release(&mut self, id: Id) {
        let viewer = &self.viewers[id as usize];
        if viewer.presence == Presence::Lingering && self.flow.iter().all(|f| f.count(id) == 0) {
            self.after(0, Event::Gone(id, viewer.generation));
        }
    }

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

    fn message(&mut self, of: Id) -> Micros {
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
    fn decide(&mut self, op: Op) {
        let counting = self.counting();
        if let Some(log) = &mut self.log {
            log.operations.push((self.now, op));
        }
        let mut moves = std::mem::take(&mut self.moves);
        moves.clear();
        let begun = Instant::now();
        self.overlay.handle(op, self.now, &mut moves);
        let nanos = begun.elapsed().as_nanos() as u64;
        let touched = self.overlay.touched().unwrap_or(0);
        self.hash.answer(&moves);
        let surplus = self.announce(op, &moves);
        if counting {
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

    /// Apply an answer to the announced trees. Of a departure: how many orphans there were, and how many of them the
    /// answer put deeper than they had been.
    fn announce(&mut self, op: Op, moves: &[Move]) -> Option<(u64, u64)> {
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

    fn second(&mut self) {
        if self.conditions.trace == Trace::Diurnal {
            let turn = self.now as f64 / (self.conditions.seconds * SECOND) as f64;
            let swell = 0.7 - 0.3 * (std::f64::consts::TAU * turn).cos();
            let target = (f64::from(self.conditions.viewers) * swell) as u32;
            // Those on their way make up for the two seconds that they take.
            self.replacing = self.here < target;
            for i in 0..u64::from(target.saturating_sub(self.here)) / 2 {
                let wait = Chance::of(self.conditions.seed, self.now + i, LEAVING).below(SECOND);
                self.after(wait, Event::Arrive { initial: false });
            }
        }
        if self.conditions.noise {
            for id in 1..self.viewers.len() as Id {
                let viewer = &self.viewers[id as usize];
                if viewer.presence == Presence::Here && viewer.up < self.now {
                    let mut chance = Chance::of(
                        self.conditions.seed,
                        u64::from(id) << 32 | self.now / SECOND,
                        NOISE,
                    );
                    let uplink = u64::from(viewer.peer.uplink) * (900 + chance.below(201)) / 1000;
                    self.decide(Op::Uplink(id, uplink as u32));
                }
            }
        }
    }

    /// What a viewer does of its own accord, whatever it is shown.
    fn mood(&self, id: Id) -> Chance {
        let ordinal = self.viewers[id as usize].ordinal;
        Chance::of(self.conditions.seed, ordinal, LEAVING)
    }

    fn exodus(&mut self) {
        self.replacing = false;
        for id in 1..self.viewers.len() as Id {
            let viewer = &self.viewers[id as usize];
            let (presence, generation) = (viewer.presence, viewer.generation);
            let mut mood = self.mood(id);
            if presence == Presence::Here && mood.permille(600) {
                let wait = mood.below(30 * SECOND);
                self.after(wait, Event::Depart(id, generation));
            }
        }
    }

    /// Whoever feeds most is a child of the root.
    fn kill(&mut self) {
        let mut largest = (0, NONE);
        for child in self.plan[0].children(ROOT) {
            let mut size = 0u32;
            self.plan[0].walk(child, |_, _| size += 1);
            if self.viewers[child as usize].presence == Presence::Here && (size, child) > largest {
                largest = (size, child);
            }
        }
        if largest.1 != NONE && largest.0 > 0 {
            let viewer = &mut self.viewers[largest.1 as usize];
            viewer.crashes = true;
            let generation = viewer.generation;
            self.depart(largest.1, generation);
        }
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

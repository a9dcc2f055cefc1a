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
use super::overlay::{Backup, Id, Micros, Move, Op, Overlay, Peer, ROOT};
use super::tally::Tally;
use super::trace::{Arrival, Arrivals, Mix, SECOND, Trace};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

pub(super) const TICK: Micros = SECOND / 4;

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
    /// Round trips from the order to the first frame on a new connection.
    pub connection: u64,
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
    pub crashes: bool,
    pub noticed: bool,
    pub chance: Chance,
    pub ordinal: u64,
    /// Messages on one connection stay in order: when the last one arrives, up and down.
    pub up: Micros,
    pub down: Micros,
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
    pub(super) made: u64,
    pub(super) arrivals: Arrivals,
    pub(super) replacing: bool,
    pub(super) viewers: Vec<Viewer>,
    pub(super) here: u32,
    pub(super) free: VecDeque<(Micros, Id)>,
    /// What was announced and what flows, by stripe.
    pub(super) plan: Vec<Forest>,
    pub(super) flow: Vec<Forest>,
    /// The newest order of each child, by stripe.
    pub(super) newest: Vec<Vec<u64>>,
    pub(super) full: u8,
    pub(super) tally: Tally,
    /// Of all answers.
    pub(super) hash: Hash,
    pub(super) log: Option<Log>,
    pub(super) moves: Vec<Move>,
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
                if self.holds(child, generation) {
                    self.silent(child, stripe, of, backup);
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
            Event::Kill => self.kill(),
        }
    }

    pub(super) fn holds(&self, id: Id, generation: u32) -> bool {
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
}

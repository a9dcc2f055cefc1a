//! Who comes and goes in the simulation, politely or not, and what the day, the crowd and the adversary do to them.

use super::chance::Chance;
use super::network::{self, Place};
use super::overlay::{Id, Micros, NONE, Op, ROOT};
use super::trace::{Arrival, SECOND, Trace};
use super::world::{Event, Presence, Viewer, World};

/// A polite leaver forwards no longer than this.
const LINGER: Micros = SECOND;
/// The server's own link to a viewer is found dead after this, if no child says so first.
const SERVER_NOTICES: Micros = SECOND;
/// A number is used again after this, when no message about its last holder can be on its way.
const QUARANTINE: Micros = 60 * SECOND;
const KILLS: Micros = SECOND / 10;
/// Purposes of generators.
const NETWORK: u64 = 11;
const LEAVING: u64 = 12;
const NOISE: u64 = 13;

impl World {
    pub(super) fn settle(&mut self, id: Id, arrival: &Arrival) {
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

    pub(super) fn arrive(&mut self, initial: bool) {
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

    pub(super) fn depart(&mut self, id: Id, generation: u32) {
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

    pub(super) fn gone(&mut self, id: Id, generation: u32) {
        let viewer = &self.viewers[id as usize];
        if viewer.generation == generation && viewer.presence == Presence::Lingering {
            self.viewers[id as usize].noticed = true;
            self.die(id);
        }
    }

    /// Nothing comes from it any more.
    pub(super) fn die(&mut self, id: Id) {
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

    pub(super) fn second(&mut self) {
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
                        (u64::from(id) << 32) | (self.now / SECOND),
                        NOISE,
                    );
                    let uplink = u64::from(viewer.peer.uplink) * (900 + chance.below(201)) / 1000;
                    self.decide(Op::Uplink(id, uplink as u32));
                }
            }
        }
    }

    /// What a viewer does of its own accord, whatever it is shown.
    pub(super) fn mood(&self, id: Id) -> Chance {
        let ordinal = self.viewers[id as usize].ordinal;
        Chance::of(self.conditions.seed, ordinal, LEAVING)
    }

    pub(super) fn exodus(&mut self) {
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
    pub(super) fn kill(&mut self) {
        self.after(KILLS, Event::Kill);
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
}

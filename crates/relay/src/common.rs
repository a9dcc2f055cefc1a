//! What all rooms share: outputs, deadlines, counters, the budget for what leaves in all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::command::{Node, Room, Stream};
use crate::event::{Counters, Event};
use crate::frame::MS;
use crate::meter::Rate;
use crate::overload::Overload;
use crate::relay::{Close, Deadline, Link, Micros, Outgoing, Output, Reason, Settings};

/// What a deadline belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Peer(Room, Node),
    Stream(Room, Stream),
    Room(Room),
}

/// When its owner is to be looked at next: at most one entry per owner.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<(Micros, Reason)>);

/// Every deadline in one ordered set: setting and taking one costs a logarithm, and nothing is scanned.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeSet<(Micros, Owner, Reason)>);

impl Deadlines {
    /// Sets or (`None`) clears the owner's deadline.
    pub(crate) fn set(&mut self, timer: &mut Timer, owner: Owner, next: Option<(Micros, Reason)>) {
        if timer.0 == next {
            return;
        }
        if let Some((at, why)) = timer.0.take() {
            self.0.remove(&(at, owner, why));
        }
        if let Some((at, why)) = next {
            self.0.insert((at, owner, why));
        }
        timer.0 = next;
    }

    /// Brings the owner's deadline forward, if `at` is before it.
    pub(crate) fn wake(&mut self, timer: &mut Timer, owner: Owner, at: Micros, why: Reason) {
        if timer.0.is_none_or(|(then, _)| at < then) {
            self.set(timer, owner, Some((at, why)));
        }
    }

    pub(crate) fn first(&self) -> Option<Deadline> {
        let &(at, _, why) = self.0.first()?;
        Some(Deadline { at, why })
    }

    /// Takes the first deadline that is due. Its owner must set its timer anew, or go.
    pub(crate) fn pop(&mut self, now: Micros) -> Option<(Micros, Owner)> {
        let &(at, owner, _) = self.0.first().filter(|(at, _, _)| *at <= now)?;
        self.0.pop_first();
        Some((at, owner))
    }
}

impl Timer {
    /// The deadline was taken.
    pub(crate) fn taken(&mut self) {
        self.0 = None;
    }
}

/// How long a pause of sending may be made up for.
const EGRESS_MS: f64 = 100.0;

/// What may leave in all: a bucket of [`EGRESS_MS`].
#[derive(Debug)]
struct Egress {
    bps: u64,
    tokens: f64,
    filled: Micros,
}

impl Egress {
    fn depth(&self) -> f64 {
        self.bps as f64 / 8000.0 * EGRESS_MS
    }

    fn open(&mut self, now: Micros) -> bool {
        let ms = now.saturating_sub(self.filled) as f64 / MS as f64;
        self.filled = now;
        self.tokens = self
            .depth()
            .min(self.tokens + self.bps as f64 / 8000.0 * ms);
        self.tokens > 0.0
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Common {
    pub settings: Settings,
    pub counters: Counters,
    pub deadlines: Deadlines,
    /// Open links, and whose they are.
    pub links: BTreeMap<Link, (Room, Node)>,
    pub sent: Rate,
    pub received: Rate,
    /// Time in which nobody called the core although something was due: peers were not heard because nobody listened.
    pub stood: Micros,
    pub overload: Overload,
    outputs: VecDeque<Output>,
    egress: Egress,
}

impl Common {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut egress = Egress {
            bps: settings.egress_bps,
            tokens: 0.0,
            filled: 0,
        };
        egress.tokens = egress.depth();
        Self {
            settings,
            counters: Counters::default(),
            deadlines: Deadlines::default(),
            links: BTreeMap::new(),
            sent: Rate::default(),
            received: Rate::default(),
            stood: 0,
            overload: Overload::default(),
            outputs: VecDeque::new(),
            egress,
        }
    }

    /// So much may leave in all from now on.
    pub(crate) fn set_egress(&mut self, bps: u64) {
        self.settings.egress_bps = bps;
        self.egress.bps = bps;
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// The link has ended; `why` is told to a socket that is still there.
    pub(crate) fn close(&mut self, link: Link, why: Option<Close>) {
        self.links.remove(&link);
        let Some(why) = why else {
            return;
        };
        self.outputs
            .push_back(Output::Send(link, Outgoing::Close(why)));
    }

    pub(crate) fn send(&mut self, link: Link, message: Outgoing, now: Micros) {
        let bytes = message.bytes();
        self.counters.bytes_sent += bytes as u64;
        self.counters.frames_sent += u64::from(matches!(message, Outgoing::Frame(_)));
        self.sent.add(bytes, now);
        // Sound goes whatever the budget says; what it overdraws is owed for one bucket at most.
        self.egress.tokens = (self.egress.tokens - bytes as f64).max(-self.egress.depth());
        self.outputs.push_back(Output::Send(link, message));
    }

    /// May a picture leave?
    pub(crate) fn may_send(&mut self, now: Micros) -> bool {
        self.egress.open(now)
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

//! Everybody the planner knows, by index: facts, and who may feed whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::options::{Helpers, Options};
use crate::{Kind, Millis, Nat, NodeFacts, NodeId, REGIONS, Trust};

pub(super) const NONE: u32 = u32::MAX;

/// Seconds after which a node counts as settled.
const SETTLED: u32 = 30;

const RELAY: u8 = 1;
const NATIVE: u8 = 2;
const FORWARDS: u8 = 4;
const BACKGROUND: u8 = 8;
const BATTERY: u8 = 16;
const METERED: u8 = 32;
const WATCHES: u8 = 64;

/// Spreads the caller's numbers over the table. They are the caller's own, so nobody can choose colliding ones, and the
/// table is never iterated: any fixed function will do.
#[derive(Debug, Clone, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

/// One node, 28 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub id: u32,
    /// kbit/s that are reckoned with: follows reports outside the dead zone only.
    uplink: u32,
    /// Second of its coming.
    joined: u32,
    /// Second until which it feeds nobody.
    demoted: u32,
    /// The stream that its uplink goes to, `NONE` for none. A root's goes to its own streams, a relay's to all.
    pub fertile: u32,
    slots: u16,
    pub region: u8,
    nat: Nat,
    trust: Trust,
    bits: u8,
    contribution: u8,
}

impl Node {
    fn new(id: u32, facts: &NodeFacts, now: Millis) -> Self {
        let mut node = Node {
            id,
            uplink: kbits(facts.uplink),
            joined: seconds(now),
            demoted: 0,
            fertile: NONE,
            slots: 0,
            region: 0,
            nat: facts.nat,
            trust: facts.trust,
            bits: 0,
            contribution: 0,
        };
        node.bits = match facts.kind {
            Kind::Relay => RELAY,
            Kind::Native => NATIVE,
            Kind::Participant => 0,
        };
        node.set_watches(facts.watches);
        node.set(facts);
        node
    }

    fn set(&mut self, facts: &NodeFacts) {
        let flags = [
            (facts.forwards, FORWARDS),
            (facts.frailty.background, BACKGROUND),
            (facts.frailty.battery, BATTERY),
            (facts.frailty.metered, METERED),
        ];
        self.bits &= RELAY | NATIVE | WATCHES;
        for (on, bit) in flags {
            self.bits |= if on { bit } else { 0 };
        }
        self.slots = facts.slots;
        self.region = if usize::from(facts.region) < REGIONS {
            facts.region
        } else {
            0
        };
        self.nat = facts.nat;
        self.trust = facts.trust;
        self.contribution = facts.contribution;
    }

    pub fn is_relay(&self) -> bool {
        self.bits & RELAY != 0
    }

    pub fn watches(&self) -> bool {
        self.bits & WATCHES != 0
    }

    /// Edges at `rate` bit/s that it can be planned with; `share`: between how many streams a root or a relay divides what
    /// it has, 0 for everybody else.
    pub fn slots(&self, options: &Options, rate: u32, share: u16, now: Millis) -> u16 {
        let budget = u64::from(self.uplink) * 10 * u64::from(options.headroom.min(100));
        let split = u64::from(share.max(1));
        let fit =
            (budget / split / u64::from(rate.max(1))).min(u64::from(self.slots) / split) as u16;
        if share > 0 {
            return fit;
        }
        let trusted = match options.helpers {
            Helpers::Watchers => self.watches(),
            Helpers::Anyone => true,
            Helpers::Contacts => self.trust == Trust::Contact,
            Helpers::Room => self.trust >= Trust::Member,
        };
        let leaf = self.bits & FORWARDS == 0
            || self.bits & (BACKGROUND | METERED) != 0
            || self.nat == Nat::Blocked
            || !trusted
            || seconds(now) < self.demoted;
        let fit = if self.bits & BATTERY != 0 {
            fit / 2
        } else {
            fit
        };
        if leaf {
            0
        } else {
            fit.min(u16::from(options.hub.clamp(1, 16)))
        }
    }

    /// Where it stands among those with as many slots: who has given as much as it took counts for one slot more, and so
    /// does who hands packets on as they come.
    pub fn rank(&self, slots: u16) -> u8 {
        if slots == 0 {
            return 0;
        }
        let merit = u16::from(self.contribution >= 100) + u16::from(self.bits & NATIVE != 0);
        (slots.min(16) + merit).min(16) as u8
    }

    /// Has it been here for a while? Whoever has stayed is likelier to stay on.
    pub fn is_settled(&self, now: Millis) -> bool {
        seconds(now) >= self.joined.saturating_add(SETTLED)
    }

    pub fn set_watches(&mut self, watches: bool) {
        self.bits = self.bits & !WATCHES | if watches { WATCHES } else { 0 };
    }

    pub fn demote(&mut self, until: Millis) {
        self.demoted = seconds(until);
    }
}

fn kbits(uplink: u64) -> u32 {
    (uplink / 1000).min(u64::from(u32::MAX)) as u32
}

fn seconds(now: Millis) -> u32 {
    (now / 1000).min(u64::from(u32::MAX)) as u32
}

/// All nodes, and the pairs that must not or should not meet.
#[derive(Debug, Clone)]
pub(super) struct Nodes {
    list: Vec<Node>,
    ids: HashMap<u32, u32, BuildHasherDefault<Spread>>,
    vacant: Vec<u32>,
    /// Both ways round.
    barred: BTreeSet<(u32, u32)>,
    /// Both ways round, until when.
    avoided: BTreeMap<(u32, u32), Millis>,
    pub options: Options,
    pub now: Millis,
    /// Streams and their roots.
    pub streams: Vec<(u32, u32)>,
}

impl Nodes {
    pub fn new(options: Options) -> Self {
        Nodes {
            list: Vec::new(),
            ids: HashMap::default(),
            vacant: Vec::new(),
            barred: BTreeSet::new(),
            avoided: BTreeMap::new(),
            options,
            now: 0,
            streams: Vec::new(),
        }
    }

    pub fn index(&self, id: NodeId) -> Option<u32> {
        self.ids.get(&id.0).copied()
    }

    pub fn get(&self, index: u32) -> &Node {
        &self.list[index as usize]
    }

    pub fn get_mut(&mut self, index: u32) -> &mut Node {
        &mut self.list[index as usize]
    }

    pub fn id(&self, index: u32) -> NodeId {
        NodeId(self.list[index as usize].id)
    }

    pub fn insert(&mut self, id: NodeId, facts: &NodeFacts) -> u32 {
        let node = Node::new(id.0, facts, self.now);
        let index = match self.vacant.pop() {
            Some(index) => {
                self.list[index as usize] = node;
                index
            }
            None => {
                self.list.push(node);
                self.list.len() as u32 - 1
            }
        };
        self.ids.insert(id.0, index);
        index
    }

    /// Take new facts; a report within a fifth below and a quarter above what is reckoned with changes no uplink.
    /// True if others may have become unreachable.
    pub fn update(&mut self, index: u32, facts: &NodeFacts) -> bool {
        let node = &mut self.list[index as usize];
        let nat = node.nat;
        let (old, new) = (u64::from(node.uplink), u64::from(kbits(facts.uplink)));
        if new * 5 < old * 4 || new * 4 > old * 5 {
            node.uplink = new as u32;
        }
        node.set(facts);
        node.nat != nat
    }

    /// Forget a node's number; its index stays taken until [`Nodes::vacate`].
    pub fn forget(&mut self, index: u32) {
        self.ids.remove(&self.list[index as usize].id);
        let around = (index, 0)..=(index, NONE);
        let partners: Vec<u32> = self
            .barred
            .range(around.clone())
            .map(|pair| pair.1)
            .collect();
        for other in partners {
            self.barred.remove(&(index, other));
            self.barred.remove(&(other, index));
        }
        let partners: Vec<u32> = self.avoided.range(around).map(|(pair, _)| pair.1).collect();
        for other in partners {
            self.avoided.remove(&(index, other));
            self.avoided.remove(&(other, index));
        }
    }

    pub fn vacate(&mut self, index: u32) {
        self.vacant.push(index);
    }

    pub fn bar(&mut self, a: u32, b: u32) -> bool {
        self.barred.insert((b, a));
        self.barred.insert((a, b))
    }

    pub fn avoid(&mut self, a: u32, b: u32, until: Millis) {
        self.avoided.insert((a, b), until);
        self.avoided.insert((b, a), until);
    }

    pub fn forgive(&mut self) {
        let now = self.now;
        self.avoided.retain(|_, until| now < *until);
    }

    pub fn avoids(&self) -> bool {
        !self.avoided.is_empty()
    }

    /// May these two be connected? `lenient`: even if they have just lost each other.
    pub fn may(&self, parent: u32, child: u32, lenient: bool) -> bool {
        let (a, b) = (self.get(parent), self.get(child));
        if !a.is_relay() && !b.is_relay() {
            let table = &self.options.nat;
            let (x, y) = (a.nat as usize, b.nat as usize);
            if !(table[x][y] && table[y][x]) {
                return false;
            }
        }
        if !self.barred.is_empty() && self.barred.contains(&(parent, child)) {
            return false;
        }
        let avoided = !lenient && !self.avoided.is_empty();
        !(avoided
            && self
                .avoided
                .get(&(parent, child))
                .is_some_and(|until| self.now < *until))
    }

    /// Edges of `rate` that a node can be planned with in one stream's tree. Every node's uplink goes to one stream, so that
    /// trees need not know of each other; roots divide theirs between their own streams, relays between all.
    pub fn slots(&self, index: u32, stream: u32, rate: u32) -> u16 {
        let node = self.get(index);
        let own = self
            .streams
            .iter()
            .filter(|(_, root)| *root == index)
            .count();
        let share = if node.is_relay() {
            self.streams.len()
        } else {
            own
        };
        let fertile =
            node.is_relay() || node.fertile == stream || self.streams.contains(&(stream, index));
        let barren = !fertile || own > 0 && !self.streams.contains(&(stream, index));
        if barren {
            0
        } else {
            node.slots(&self.options, rate, share as u16, self.now)
        }
    }

    /// What a hop between two regions costs, ms.
    pub fn hop(&self, from: u8, to: u8) -> u32 {
        let rtt = self.options.rtt_ms[usize::from(from)][usize::from(to)];
        u32::from(self.options.hop_ms) + u32::from(rtt)
    }

    /// Everybody's index, in order.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.list.len() as u32)
            .filter(|&index| self.ids.get(&self.get(index).id) == Some(&index))
    }
}

//! The relay's place in a room: when it comes and goes, what it says, and the policies that need or forbid it.

use super::Room;
use crate::room::relay::RELAY;
use crate::room::{RelaySettings, Settings, member, relay, wiring};
use crate::signal::message::{DescriptionKind, ErrorCode, Node, Policy, ServerMessage};
use grove_relay::{Event, Refused};
use grove_tree::{Fact, Kind, Millis, NodeFacts};

/// A relay that drops the room again within this time is asked in only at its end: a fault at every entry must not take a
/// processor.
const FAULT_PAUSE: Millis = 5_000;

/// How often somebody is told again that the relay refuses the link. Browsers try by themselves every few seconds.
const REFUSED_AGAIN: Millis = 30_000;

/// The longest offer to the relay, bytes: with 64 pairs of receivers one has 150,000.
const MOST_OFFER: usize = 192 * 1024;

/// In place of a participant's number, where the server did something by itself.
const SERVER: Node = 0;

/// Is the relay in the room's plan?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is none, or the room forbids it.
    Out,
    /// Its streams may pass there.
    In,
    /// Forbidden from now on: it still feeds whoever has no new parent yet.
    Leaving,
}

/// The planner's name of a policy, or why this room cannot have it.
pub(super) fn check_policy(
    policy: Policy,
    never_relay: bool,
    settings: &Settings,
) -> Result<grove_tree::Policy, &'static str> {
    if policy == Policy::Relay && settings.relay.is_none() {
        return Err("this server has no relay: choose another policy");
    }
    if policy == Policy::Relay && never_relay {
        return Err("this room never uses a relay: allow it, or choose another policy");
    }
    member::check_policy(policy)
}

impl Room {
    /// The relays that may stand in the trees.
    pub fn relays(&self) -> Vec<Node> {
        match self.relay {
            Standing::In => vec![RELAY],
            Standing::Out | Standing::Leaving => Vec::new(),
        }
    }

    pub(super) fn set_policy(
        &mut self,
        from: Node,
        policy: Policy,
        never_relay: Option<bool>,
        now: Millis,
    ) {
        let never_relay = never_relay.unwrap_or(self.never_relay);
        let planned = match check_policy(policy, never_relay, &self.settings) {
            Ok(planned) => planned,
            Err(words) => {
                return self.complain(from, ErrorCode::BadField, words, "set_policy");
            }
        };
        self.change_policy(from, policy, planned, never_relay, now);
    }

    fn change_policy(
        &mut self,
        by: Node,
        policy: Policy,
        planned: grove_tree::Policy,
        never_relay: bool,
        now: Millis,
    ) {
        (self.policy, self.never_relay) = (policy, never_relay);
        self.tell_all(ServerMessage::PolicyChanged {
            policy,
            never_relay,
            by,
        });
        if !never_relay {
            self.enter_relay(now);
        } else {
            self.relay_due = None;
        }
        // What the new policy moves away from the relay is moved politely; only then the relay goes.
        self.fact(Fact::Policy(planned), now);
        self.flush_orders(None);
        if never_relay && self.relay == Standing::In {
            self.relay = Standing::Leaving;
            self.fact(Fact::Left(wiring::node_id(RELAY)), now);
        }
    }

    /// The relay comes in, if there is one and it is not in already.
    pub(super) fn enter_relay(&mut self, now: Millis) {
        let Some(settings) = self.settings.relay else {
            return;
        };
        match self.relay {
            Standing::In => return,
            Standing::Leaving => self.remove_relay(now),
            Standing::Out => {}
        }
        self.relay = Standing::In;
        self.relay_due = None;
        if let Some(orders) = self.wiring.relay() {
            orders.enter();
        }
        let facts = NodeFacts {
            kind: Kind::Relay,
            uplink: settings.egress,
            forwards: true,
            slots: settings.slots,
            ..NodeFacts::default()
        };
        self.fact(Fact::Node(wiring::node_id(RELAY), facts), now);
    }

    /// Nothing passes there any more.
    pub(super) fn remove_relay(&mut self, now: Millis) {
        self.relay = Standing::Out;
        self.doubted.clear();
        self.renew_backups(now);
        self.wiring.remove(RELAY, now);
        self.picture.remove(RELAY);
        if let Some(orders) = self.wiring.relay() {
            orders.leave();
        }
    }

    /// An offer for the relay: it answers, and never offers. Nobody signs: there is no identity at the other end.
    pub(super) fn describe_to_relay(
        &mut self,
        from: Node,
        kind: DescriptionKind,
        sdp: String,
        signature: &str,
        now: Millis,
    ) {
        if sdp.len() > MOST_OFFER || kind != DescriptionKind::Offer || !signature.is_empty() {
            let words = "to a relay goes an offer of at most 196608 bytes, without a signature";
            return self.complain(from, ErrorCode::BadField, words, "description");
        }
        let member = self.members.get_mut(&from);
        if !member.is_some_and(|member| member.pace.may_offer(now)) {
            let words = "too many offers to the relay: one each second";
            return self.complain(from, ErrorCode::TooMany, words, "description");
        }
        // For a link that was just given up: dropped without a word.
        if self.wiring.link_between(from, RELAY).is_some()
            && let Some(orders) = self.wiring.relay()
        {
            orders.offer(from, sdp);
        }
    }

    pub(super) fn handle_relay(&mut self, event: Event, now: Millis) {
        if self.relay == Standing::Out {
            return;
        }
        match event {
            Event::Up { peer, .. } => drop(self.doubted.remove(&peer)),
            Event::Answer { peer, sdp, .. } => {
                if self.wiring.link_between(peer, RELAY).is_some() {
                    let (from, kind) = (RELAY, DescriptionKind::Answer);
                    let signature = String::new();
                    let answer = ServerMessage::Description {
                        from,
                        kind,
                        sdp,
                        signature,
                    };
                    self.pass(peer, answer);
                }
            }
            Event::Lost { peer, .. } => self.doubt(peer, now),
            Event::Refused { peer, why, .. } => self.refused_by_relay(peer, why, now),
            Event::Ready { stream, parent, .. } => {
                let stream = wiring::stream_ref(grove_tree::StreamId(stream.0));
                self.ready(RELAY, stream, parent, now);
            }
            Event::Left { .. } => {
                let again = self.relay_fault.replace(now);
                let due = again.map_or(now, |last| now.max(last + FAULT_PAUSE));
                self.renew_relay(due, now);
            }
            Event::Report { report, .. } => self.report(RELAY, &relay::report(&report), now),
        }
    }

    /// The relay does not take the link: whoever waits for it hears why, in words for people.
    fn refused_by_relay(&mut self, peer: Node, why: Refused, now: Millis) {
        let told = self.refused.get(&peer);
        let again = told.is_none_or(|told| now >= told + REFUSED_AGAIN);
        if !again || self.wiring.link_between(peer, RELAY).is_none() {
            return;
        }
        let words = match why {
            Refused::Overloaded => {
                "the server has too much to do to send you pictures and sound; it tries again by itself, or come back in \
                 a few minutes"
            }
            Refused::Full => {
                "the server's relay has as many links as it may; it tries again by itself, or come back later"
            }
            Refused::Unknown | Refused::TooOften => return,
        };
        self.refused.insert(peer, now);
        self.complain(peer, ErrorCode::TooMany, words, "relay");
    }

    /// All that the relay knew is gone, its links are dead: it comes in anew. Where there was none it comes in.
    pub(super) fn handle_relay_started(
        &mut self,
        instance: String,
        settings: RelaySettings,
        now: Millis,
    ) {
        let Some(orders) = self.wiring.relay() else {
            return;
        };
        let before = self.settings.relay.replace(settings);
        if before == Some(settings) && orders.instance() == instance {
            return;
        }
        orders.set_instance(instance, &settings);
        self.renew_relay(now, now);
        if before.is_none() && !self.never_relay {
            self.enter_relay(now);
        }
    }

    /// It was turned off. A room that cannot do without goes on with what browsers can carry.
    pub(super) fn handle_relay_ended(&mut self, now: Millis) {
        self.settings.relay = None;
        self.relay_due = None;
        if self.relay != Standing::Out {
            self.fact(Fact::Failed(wiring::node_id(RELAY)), now);
            self.remove_relay(now);
        }
        let (auto, never_relay) = (Policy::Auto, self.never_relay);
        if self.policy == Policy::Relay
            && let Ok(planned) = check_policy(auto, never_relay, &self.settings)
        {
            self.change_policy(SERVER, auto, planned, never_relay, now);
        }
    }

    /// The relay has lost everything of this room. Where it stood it comes in anew when it is due, over new links.
    fn renew_relay(&mut self, due: Millis, now: Millis) {
        let was = self.relay;
        if was != Standing::Out {
            self.fact(Fact::Failed(wiring::node_id(RELAY)), now);
            self.remove_relay(now);
        }
        if was == Standing::In {
            self.relay_due = Some(due);
        }
        self.handle_relay_due(now);
    }

    pub(super) fn handle_relay_due(&mut self, now: Millis) {
        if self.relay_due.take_if(|due| *due <= now).is_some() {
            self.enter_relay(now);
        }
    }

    /// One end says that the link between the relay and `peer` does not carry. It is made anew, with a new token,
    /// wherever the plan still needs it; a link to the server is never barred, because whoever has signalling can reach
    /// it. What is said of a link younger than [`wiring::SETTLING`] may speak of the one before: it counts once the link
    /// is old enough, unless it came up meanwhile.
    ///
    /// The relay's silence is no sign that a participant without a connection is gone: both take the same way.
    pub(super) fn doubt(&mut self, peer: Node, now: Millis) {
        if let Some((_, made)) = self.wiring.link_between(peer, RELAY) {
            let due = made + wiring::SETTLING;
            if due <= now {
                self.relink(peer, now);
            } else {
                self.doubted.insert(peer, due);
            }
        }
    }

    pub(super) fn handle_doubts(&mut self, now: Millis) {
        while let Some((&peer, _)) = self.doubted.iter().find(|(_, due)| **due <= now) {
            self.doubted.remove(&peer);
            let link = self.wiring.link_between(peer, RELAY);
            if link.is_some_and(|(_, made)| made + wiring::SETTLING <= now) {
                self.relink(peer, now);
            }
        }
    }

    fn relink(&mut self, peer: Node, now: Millis) {
        self.doubted.remove(&peer);
        self.fact(
            Fact::LinkLost(wiring::node_id(peer), wiring::node_id(RELAY)),
            now,
        );
        self.renew_backups(now);
        self.wiring.handle_cut(peer, RELAY, now);
    }
}

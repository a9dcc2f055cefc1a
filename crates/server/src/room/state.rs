//! One room as a state machine: `(input, now)` in, outputs out; no clock, no randomness, no waiting.
//!
//! Owns who is in the room, what they send, the last chat lines, and the plan of its trees. Everything that a member
//! sends comes here in the order in which it was read; everything that leaves goes to a connection, never to a node
//! without one. A message costs the number of those it is passed on to; a change of the trees what the plan costs.
//!
//! - A socket that breaks starts a grace period. Until it ends the participant keeps its number and its places in the
//!   trees: media goes on without the server. If a neighbour then says that nothing comes from it, it is gone.
//! - Node numbers rise and are never given out twice.

mod hear;
mod relay;
mod reluctant;
mod tell;

use super::chat::History;
use super::member::{self, Member, Token};
use super::picture::Picture;
use super::wiring::{self, Wiring};
use super::{ConnectionId, Input, Opening, Output, Settings};
use crate::signal::close::Close;
use crate::signal::message::{
    ErrorCode, Join, Joined, LeftReason, Node, Orders, Participant, Policy, ServerMessage, VERSION,
};
use grove_tree::{EdgeChange, Fact, Kind, Millis, NodeFacts, Plan, Reason};
use relay::Standing;
use std::collections::{BTreeMap, HashMap};

/// A neighbour's word that somebody fell silent counts this long when the socket breaks after it.
const SILENCE_COUNTS: Millis = 5_000;
/// Backups are named so long after something happened: what comes at once is looked at together.
const BACKUPS_AFTER: Millis = 100;
/// What any uplink is believed to be within, bit/s.
const UPLINKS: std::ops::RangeInclusive<u64> = 64_000..=10_000_000_000;

/// A room.
pub struct Room {
    settings: Settings,
    policy: Policy,
    never_relay: bool,
    relay: Standing,
    /// When it last dropped the room by a fault, and when it is asked in after that.
    relay_fault: Option<Millis>,
    relay_due: Option<Millis>,
    /// When backups are named anew.
    backups_due: Option<Millis>,
    /// Somebody got nothing, or no pictures, since the last look.
    wanting: bool,
    /// When those who would rather not forward, and have to, are looked at again.
    reluctant_due: Option<Millis>,
    unix_ms: u64,
    plan: Plan,
    members: BTreeMap<Node, Member>,
    connections: HashMap<ConnectionId, Node>,
    last_node: Node,
    wiring: Wiring,
    picture: Picture,
    chat: History,
    empty_since: Option<Millis>,
    /// Links to the relay that were reported lost while they were too young to believe it, and when to believe it.
    doubted: BTreeMap<Node, Millis>,
    /// Who was told that the relay refuses its link, and when.
    refused: BTreeMap<Node, Millis>,
    outputs: Vec<Output>,
}

impl Room {
    /// An empty room, or what is wrong with its policy.
    pub fn new(settings: Settings, opening: Opening) -> Result<Self, &'static str> {
        let Opening {
            policy,
            never_relay,
            unix_ms,
            ..
        } = opening;
        let planned = relay::check_policy(policy, never_relay, &settings)?;
        let mut orders = super::relay::Orders::new(opening.number, opening.key);
        if let Some(relay) = &settings.relay {
            orders.set_instance(opening.instance, relay);
        }
        let mut room = Self {
            plan: Plan::new(planned),
            settings,
            policy,
            never_relay,
            relay: Standing::Out,
            relay_fault: None,
            relay_due: None,
            backups_due: None,
            wanting: false,
            reluctant_due: None,
            unix_ms,
            members: BTreeMap::new(),
            connections: HashMap::new(),
            last_node: 0,
            wiring: Wiring::new(Some(orders)),
            picture: Picture::default(),
            chat: History::default(),
            empty_since: Some(0),
            doubted: BTreeMap::new(),
            refused: BTreeMap::new(),
            outputs: Vec::new(),
        };
        if !never_relay {
            room.enter_relay(0);
        }
        Ok(room)
    }

    /// Takes one input.
    pub fn handle(&mut self, input: Input, now: Millis) -> Vec<Output> {
        match input {
            Input::Join {
                connection,
                join,
                token,
            } => self.handle_join(connection, *join, token, now),
            Input::Message {
                connection,
                message,
            } => match self.connections.get(&connection) {
                Some(&node) => self.handle_message(node, message, now),
                None => self.refuse(connection, ErrorCode::WrongState, "join the room first"),
            },
            Input::Disconnected { connection } => self.handle_disconnected(connection, now),
            Input::Relay(event) => self.handle_relay(event, now),
            Input::RelayStarted { instance, settings } => {
                self.handle_relay_started(instance, settings, now);
            }
            Input::RelayEnded => self.handle_relay_ended(now),
        }
        self.finish(now)
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Millis) -> Vec<Output> {
        let grace = self.settings.resume;
        let over = |member: &&Member| {
            member
                .broke
                .is_some_and(|broke| member.connection.is_none() && broke + grace <= now)
        };
        let over: Vec<Node> = self
            .members
            .values()
            .filter(over)
            .map(|member| member.participant.node)
            .collect();
        for node in over {
            self.fail(node, now);
        }
        if self.plan.poll_timeout().is_some_and(|due| due <= now) {
            let changes = self.plan.handle_timeout(now);
            self.obey(&changes, now);
        }
        self.handle_relay_due(now);
        self.handle_doubts(now);
        self.handle_reluctant(now);
        if self.backups_due.is_some_and(|due| due <= now) {
            self.renew_backups(now);
        }
        self.wiring.handle_timeout(now);
        self.finish(now)
    }

    /// When [`Room::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let broken = |member: &Member| member.broke.filter(|_| member.connection.is_none());
        let grace = self
            .members
            .values()
            .filter_map(broken)
            .map(|broke| broke + self.settings.resume)
            .min();
        let empty = self.empty_since.map(|since| since + self.settings.empty);
        let picture = self
            .picture
            .poll_timeout()
            .filter(|_| self.watchers().next().is_some());
        [
            grace,
            empty,
            picture,
            self.relay_due,
            self.backups_due,
            self.reluctant_due,
            self.doubted.values().copied().min(),
            self.plan.poll_timeout(),
            self.wiring.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Has the room been empty for its grace period?
    pub fn is_over(&self, now: Millis) -> bool {
        self.empty_since
            .is_some_and(|since| since + self.settings.empty <= now)
    }

    /// Is this connection a participant's?
    pub fn is_member(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
    }

    /// How many people are here.
    pub fn count(&self) -> usize {
        self.present().count()
    }

    /// The first names and the number, for those at the door.
    pub fn look(&self, room: String) -> ServerMessage {
        let names = self
            .present()
            .take(50)
            .map(|member| member.participant.name.clone())
            .collect();
        ServerMessage::Looked {
            room,
            names,
            count: self.count() as u32,
        }
    }

    /// Everybody that a newcomer is shown, in order of arrival.
    pub fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.present().map(|member| &member.participant)
    }

    /// The plan, to compare orders with.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn handle_join(&mut self, connection: ConnectionId, join: Join, token: Token, now: Millis) {
        let name = match member::check_join(&join) {
            _ if join.version != VERSION => {
                let words = "this server speaks version 1 of the protocol; reload the page";
                return self.refuse(connection, ErrorCode::Version, words);
            }
            Ok(name) => name,
            Err(words) => return self.refuse(connection, ErrorCode::BadField, words),
        };
        if self.connections.contains_key(&connection) {
            return self.refuse(
                connection,
                ErrorCode::WrongState,
                "this connection is in the room already",
            );
        }
        if let Some(node) = self.by_token(join.resume.as_deref()) {
            if self.members[&node].participant.identity == join.identity {
                return self.resume(node, connection, now);
            }
            // New keys: a page that was loaded again. Its links and counters are gone, so its number goes with them.
            self.close(node, Close::Replaced);
            self.fail(node, now);
        }
        if self
            .members
            .values()
            .any(|member| member.participant.id == join.participant)
        {
            let words = "somebody has this participant id: choose a new one for every join";
            return self.refuse(connection, ErrorCode::BadField, words);
        }
        if self.settings.people != 0 && self.count() >= self.settings.people {
            return self.refuse(connection, ErrorCode::TooMany, "the room is full");
        }
        let next = self.last_node + 1;
        let Some(node) = Some(next).filter(|node| *node < super::relay::FIRST) else {
            return self.refuse(
                connection,
                ErrorCode::TooMany,
                "this room has used up its numbers: open a new one",
            );
        };
        self.last_node = node;
        self.empty_since = None;
        let uplink = join
            .uplink_bps
            .unwrap_or(self.settings.uplink)
            .clamp(*UPLINKS.start(), *UPLINKS.end());
        let member = Member::new(node, join, name, token, connection, uplink);
        let participant = member.participant.clone();
        self.members.insert(node, member);
        self.connections.insert(connection, node);
        self.tell_others(node, ServerMessage::Entered { participant });
        self.fact_node(node, now);
        self.welcome(node, false);
    }

    fn resume(&mut self, node: Node, connection: ConnectionId, now: Millis) {
        self.close(node, Close::Replaced);
        let member = self
            .members
            .get_mut(&node)
            .expect("the token is a member's");
        member.connection = Some(connection);
        member.broke = member.broke.map(|_| now);
        let was_away = !std::mem::replace(&mut member.participant.connected, true);
        let kept = member.take_kept();
        self.connections.insert(connection, node);
        self.welcome(node, true);
        for message in kept {
            self.outputs.push(Output::Send {
                to: vec![connection],
                message,
            });
        }
        if was_away {
            self.tell_others(
                node,
                ServerMessage::Connection {
                    node,
                    connected: true,
                },
            );
        }
    }

    /// `Joined`: the whole state, the orders included.
    fn welcome(&mut self, node: Node, resumed: bool) {
        self.flush_orders(Some(node));
        let member = &self.members[&node];
        let message = ServerMessage::Joined(Joined {
            node,
            resume: member.token.text(),
            resumed,
            policy: self.policy,
            never_relay: self.never_relay,
            relays: self.relays(),
            participants: self
                .present()
                .map(|member| member.participant.clone())
                .collect(),
            chat: self.chat.lines(),
            ice_servers: self.settings.ice_servers.clone(),
            orders: Orders {
                epoch: self.plan.epoch(),
                reset: true,
                changes: self.wiring.all(node),
            },
        });
        self.tell(node, message);
        self.outputs.push(Output::Joined { resumed });
    }

    fn leave(&mut self, node: Node, now: Millis) {
        self.members
            .get_mut(&node)
            .expect("the sender is a member")
            .leaving = true;
        self.fact(Fact::Left(wiring::node_id(node)), now);
        self.flush_orders(None);
        self.tell_others(
            node,
            ServerMessage::Left {
                node,
                why: LeftReason::Left,
            },
        );
    }

    /// A node vanished.
    fn fail(&mut self, node: Node, now: Millis) {
        let leaving = self.members.get(&node).is_some_and(|member| member.leaving);
        self.fact(Fact::Failed(wiring::node_id(node)), now);
        self.remove(node, now);
        self.flush_orders(None);
        if !leaving {
            self.tell_all(ServerMessage::Left {
                node,
                why: LeftReason::Lost,
            });
        }
    }

    fn remove(&mut self, node: Node, now: Millis) {
        if let Some(member) = self.members.remove(&node) {
            member
                .connection
                .map(|connection| self.connections.remove(&connection));
        }
        self.doubted.remove(&node);
        self.refused.remove(&node);
        self.renew_backups(now);
        self.wiring.remove(node, now);
        self.picture.remove(node);
        if self.members.is_empty() {
            self.empty_since = Some(now);
        }
    }

    fn handle_disconnected(&mut self, connection: ConnectionId, now: Millis) {
        let Some(node) = self.connections.remove(&connection) else {
            return;
        };
        let member = self
            .members
            .get_mut(&node)
            .expect("a connection belongs to a member");
        member.connection = None;
        member.participant.connected = false;
        member.broke = Some(now);
        if member.leaving
            || member
                .silent
                .is_some_and(|silent| now < silent + SILENCE_COUNTS)
        {
            return self.fail(node, now);
        }
        self.tell_others(
            node,
            ServerMessage::Connection {
                node,
                connected: false,
            },
        );
    }

    /// Ends what is due, and hands out what has gathered.
    fn finish(&mut self, now: Millis) -> Vec<Output> {
        self.press_if_wanting(now);
        let gone =
            |member: &&Member| member.leaving && !self.wiring.is_retiring(member.participant.node);
        let gone: Vec<Node> = self
            .members
            .values()
            .filter(gone)
            .map(|member| member.participant.node)
            .collect();
        for node in gone {
            self.flush_orders(None);
            self.close(node, Close::Left);
            self.remove(node, now);
        }
        if self.relay == Standing::Leaving && !self.wiring.is_retiring(super::relay::RELAY) {
            self.remove_relay(now);
        }
        self.flush_orders(None);
        if self.watchers().next().is_some()
            && let Some(trees) = self.picture.draw(&self.plan, &self.wiring, now)
        {
            let to = self.watchers().collect();
            self.outputs.push(Output::Send {
                to,
                message: ServerMessage::Trees(trees),
            });
        }
        std::mem::take(&mut self.outputs)
    }

    fn watchers(&self) -> impl Iterator<Item = ConnectionId> {
        self.members
            .values()
            .filter(|member| member.watches_trees)
            .filter_map(|member| member.connection)
    }

    fn fact_node(&mut self, node: Node, now: Millis) {
        let member = &self.members[&node];
        let capabilities = member.participant.capabilities;
        if capabilities.frames {
            let facts = NodeFacts {
                kind: Kind::Participant,
                uplink: member.uplink,
                forwards: capabilities.forward && !member.willing.refuses() && !member.spared,
                slots: self.settings.slots,
                ..NodeFacts::default()
            };
            self.fact(Fact::Node(wiring::node_id(node), facts), now);
        }
    }

    fn fact(&mut self, fact: Fact, now: Millis) {
        let changes = self.plan.handle(fact, now);
        self.obey(&changes, now);
    }

    fn obey(&mut self, changes: &[EdgeChange], now: Millis) {
        self.backups_due.get_or_insert(now + BACKUPS_AFTER);
        let goes_without = |change: &EdgeChange| match change.reason {
            Reason::NoCapacity | Reason::Unreachable => true,
            Reason::Joined | Reason::Capacity => self.plan.is_starved(change.stream, change.child),
            _ => false,
        };
        self.wanting |= changes.iter().any(goes_without);
        if changes.is_empty() {
            return;
        }
        self.wiring.handle_changes(changes, now);
        self.picture.handle_change();
        let moved = |change: &&EdgeChange| {
            change.old.is_some() && change.new.map(|edge| edge.parent) != change.old
        };
        for change in changes.iter().filter(moved) {
            if let Some(reason) = wiring::reason(change.reason) {
                self.outputs.push(Output::Moved { reason });
            }
        }
    }

    /// Names who stands by for whom. Ahead of whatever ends a link or a node: nobody stands by there any more.
    fn renew_backups(&mut self, now: Millis) {
        self.backups_due = None;
        let changes = self.plan.renew_backups();
        if !changes.is_empty() {
            self.wiring.handle_backups(&changes, now);
            self.picture.handle_change();
        }
    }

    fn by_token(&self, text: Option<&str>) -> Option<Node> {
        let text = text?;
        let matches = |member: &&Member| !member.leaving && member.token.matches(text);
        self.members
            .values()
            .find(matches)
            .map(|member| member.participant.node)
    }

    fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.leaving)
    }

    fn is_present(&self, node: Node) -> bool {
        self.members
            .get(&node)
            .is_some_and(|member| !member.leaving)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room")
            .field("people", &self.count())
            .field("epoch", &self.plan.epoch())
            .finish_non_exhaustive()
    }
}

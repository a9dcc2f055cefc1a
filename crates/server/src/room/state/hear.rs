//! What members say: checked, obeyed, passed on.

use super::{Room, UPLINKS};
use crate::room::relay::RELAY;
use crate::room::{member, wiring};
use crate::signal::message::{
    ClientMessage, DescriptionKind, ErrorCode, LostReason, Node, Publication, Report,
    ServerMessage, StreamRef,
};
use grove_tree::{Fact, Millis};

/// The planner hears of an uplink when it changed by more than a tenth: estimates wander.
const UPLINK_STEP: u64 = 10;

impl Room {
    pub(super) fn handle_message(&mut self, from: Node, message: ClientMessage, now: Millis) {
        if self.members[&from].leaving {
            return;
        }
        match message {
            ClientMessage::Leave => self.leave(from, now),
            ClientMessage::Publish { publication } => self.publish(from, publication, now),
            ClientMessage::Unpublish { stream } => self.unpublish(from, stream, now),
            ClientMessage::Want { wants } => {
                let known = wants.iter().filter(|want| want.stream.stream <= 15);
                let wants = known.map(|want| (wiring::stream_id(want.stream), want.layer));
                let changes = self.plan.handle_wants(wiring::node_id(from), wants, now);
                self.obey(&changes, now);
            }
            ClientMessage::Ready { stream, parent } => self.ready(from, stream, parent, now),
            ClientMessage::Lost { peer, why } => self.lost(from, peer, why, now),
            ClientMessage::Description {
                to,
                kind,
                sdp,
                signature,
            } => {
                self.describe(from, to, kind, sdp, signature, now);
            }
            ClientMessage::Candidate { to, candidate, mid } => {
                if candidate.len() > 1024 || mid.as_ref().is_some_and(|mid| mid.len() > 32) {
                    return self.complain(
                        from,
                        ErrorCode::BadField,
                        "a candidate has at most 1024 characters",
                        "candidate",
                    );
                }
                if self.is_linked(from, to, "candidate") {
                    self.pass(
                        to,
                        ServerMessage::Candidate {
                            from,
                            candidate,
                            mid,
                        },
                    );
                }
            }
            ClientMessage::Mail { to, body } => {
                if !member::is_sealed(&body, 8 * 1024) {
                    return self.complain(
                        from,
                        ErrorCode::BadField,
                        "mail is 1 to 8192 characters of base64url",
                        "mail",
                    );
                }
                if !self.is_present(to) {
                    return self.complain(
                        from,
                        ErrorCode::NoSuchTarget,
                        "nobody has this number",
                        "mail",
                    );
                }
                self.pass(to, ServerMessage::Mail { from, body });
            }
            ClientMessage::Chat { body } => {
                if !member::is_sealed(&body, 8 * 1024) {
                    let words = "a chat line is 1 to 8192 characters of base64url";
                    return self.complain(from, ErrorCode::BadField, words, "chat");
                }
                let name = self.members[&from].participant.name.clone();
                let line = self.chat.add(from, name, body, self.unix_ms + now);
                self.tell_all(ServerMessage::Chat(line));
            }
            ClientMessage::Presence { presence } => {
                let member = self.members.get_mut(&from).expect("the sender is a member");
                if std::mem::replace(&mut member.participant.presence, presence) != presence {
                    self.tell_others(
                        from,
                        ServerMessage::Presence {
                            node: from,
                            presence,
                        },
                    );
                }
            }
            ClientMessage::Report(report) => self.report(from, &report, now),
            ClientMessage::Trees { watch } => {
                let member = self.members.get_mut(&from).expect("the sender is a member");
                if !std::mem::replace(&mut member.watches_trees, watch) && watch {
                    self.picture.handle_watcher();
                }
            }
            ClientMessage::SetPolicy {
                policy,
                never_relay,
            } => self.set_policy(from, policy, never_relay, now),
            ClientMessage::Ping { n } => self.tell(from, ServerMessage::Pong { n }),
            ClientMessage::Create { .. } | ClientMessage::Join(_) | ClientMessage::Look { .. } => {
                self.complain(
                    from,
                    ErrorCode::WrongState,
                    "this connection is in a room: open another one",
                    "join",
                );
            }
        }
    }

    fn publish(&mut self, from: Node, publication: Publication, now: Millis) {
        let rates = match member::check_publication(&publication) {
            Ok(rates) => rates,
            Err(words) => return self.complain(from, ErrorCode::BadField, words, "publish"),
        };
        let member = self.members.get_mut(&from).expect("the sender is a member");
        if !member.participant.capabilities.frames {
            let words = "this participant said that it cannot send frames";
            return self.complain(from, ErrorCode::WrongState, words, "publish");
        }
        let stream = StreamRef {
            node: from,
            stream: publication.stream,
        };
        let publications = &mut member.participant.publications;
        publications.retain(|known| known.stream != publication.stream);
        publications.push(publication.clone());
        publications.sort_by_key(|known| known.stream);
        self.tell_others(
            from,
            ServerMessage::Published {
                node: from,
                publication,
            },
        );
        self.fact(
            Fact::Stream(wiring::stream_id(stream), wiring::node_id(from), rates),
            now,
        );
    }

    fn unpublish(&mut self, from: Node, stream: u8, now: Millis) {
        let member = self.members.get_mut(&from).expect("the sender is a member");
        let publications = &mut member.participant.publications;
        let before = publications.len();
        publications.retain(|known| known.stream != stream);
        if publications.len() == before {
            return self.complain(
                from,
                ErrorCode::NoSuchTarget,
                "this stream is not being sent",
                "unpublish",
            );
        }
        let stream = StreamRef { node: from, stream };
        self.fact(Fact::Ended(wiring::stream_id(stream)), now);
        self.flush_orders(None);
        self.tell_others(from, ServerMessage::Unpublished { stream });
    }

    pub(super) fn ready(&mut self, child: Node, stream: StreamRef, parent: Node, now: Millis) {
        if stream.stream > 15 {
            return;
        }
        let id = wiring::stream_id(stream);
        if self.wiring.parent_of(id, child) != Some(parent) {
            return;
        }
        self.heard_from(parent);
        self.wiring.handle_ready(id, child, parent, now);
        self.fact(
            Fact::Ready(id, wiring::node_id(child), wiring::node_id(parent)),
            now,
        );
    }

    fn lost(&mut self, from: Node, peer: Node, why: LostReason, now: Millis) {
        let Some((_, made)) = self.wiring.link_between(from, peer) else {
            return;
        };
        if peer == RELAY {
            return self.doubt(from, now);
        }
        let Some(other) = self.members.get_mut(&peer) else {
            return;
        };
        if now < made + wiring::SETTLING {
            return;
        }
        let pair = (wiring::node_id(from), wiring::node_id(peer));
        match why {
            LostReason::Silent if other.connection.is_none() => return self.fail(peer, now),
            LostReason::Silent => {
                other.silent = Some(now);
                self.fact(Fact::LinkLost(pair.0, pair.1), now);
            }
            // A link whose negotiation may have been lost with a socket proves nothing about the pair.
            LostReason::Never if self.broke_since(from, made) || self.broke_since(peer, made) => {
                self.fact(Fact::LinkLost(pair.0, pair.1), now);
            }
            LostReason::Never => self.fact(Fact::Barred(pair.0, pair.1), now),
        }
        self.renew_backups(now);
        self.wiring.handle_cut(from, peer, now);
    }

    fn broke_since(&self, node: Node, made: Millis) -> bool {
        self.members
            .get(&node)
            .is_none_or(|member| member.broke.is_some_and(|broke| broke >= made))
    }

    fn describe(
        &mut self,
        from: Node,
        to: Node,
        kind: DescriptionKind,
        sdp: String,
        signature: String,
        now: Millis,
    ) {
        if to == RELAY {
            return self.describe_to_relay(from, kind, sdp, &signature, now);
        }
        if sdp.len() > 16 * 1024 || !member::is_signature(&signature) {
            let words =
                "a description has at most 16384 bytes and a signature of 64 bytes in base64url";
            return self.complain(from, ErrorCode::BadField, words, "description");
        }
        if !self.is_linked(from, to, "description") {
            return;
        }
        let offers = self
            .wiring
            .link_between(from, to)
            .is_some_and(|(offerer, _)| offerer == from);
        if offers != (kind == DescriptionKind::Offer) {
            let words = "the other end of this link was named to offer";
            return self.complain(from, ErrorCode::WrongState, words, "description");
        }
        self.pass(
            to,
            ServerMessage::Description {
                from,
                kind,
                sdp,
                signature,
            },
        );
    }

    /// Is there a link to negotiate? Messages for one that was just given up are dropped without a word.
    fn is_linked(&mut self, from: Node, to: Node, refers_to: &str) -> bool {
        if to == 0 || to > self.last_node || to == from {
            self.complain(
                from,
                ErrorCode::NoSuchTarget,
                "nobody has this number",
                refers_to,
            );
            return false;
        }
        self.wiring.link_between(from, to).is_some()
    }

    pub(super) fn report(&mut self, from: Node, report: &Report, now: Millis) {
        self.picture.handle_report(from, report, &self.wiring);
        let heard = report
            .edges
            .iter()
            .filter(|edge| edge.bps > 0 && edge.stream.stream <= 15);
        for edge in heard {
            if self.wiring.parent_of(wiring::stream_id(edge.stream), from) == Some(edge.parent) {
                self.heard_from(edge.parent);
            }
        }
        self.weigh(from, report, now);
        let Some(uplink) = report
            .uplink_bps
            .map(|bps| bps.clamp(*UPLINKS.start(), *UPLINKS.end()))
        else {
            return;
        };
        let member = self.members.get_mut(&from).expect("the sender is a member");
        if uplink.abs_diff(member.uplink) > member.uplink / UPLINK_STEP {
            member.uplink = uplink;
            self.fact_node(from, now);
        }
    }

    fn heard_from(&mut self, node: Node) {
        if let Some(member) = self.members.get_mut(&node) {
            member.silent = None;
        }
    }
}

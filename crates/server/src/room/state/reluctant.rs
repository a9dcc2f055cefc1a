//! Who would rather not forward is spared while the others can do without.
//!
//! Whether they can is found by planning the room once more without it, on a copy: nobody may go unserved or without pictures for
//! it. When somebody gets nothing or no pictures later, all who were spared have to forward again at once, and are asked again
//! [`AGAIN`] later. Cost: a copy of the plan and one fact per reluctant participant, when it says so and every [`AGAIN`]
//! while it has to forward.

use super::Room;
use crate::room::wiring;
use crate::signal::message::{Node, Report};
use grove_tree::{Fact, Kind, Millis, NodeFacts, Plan};

/// How long whoever has to forward against its wish does so before that is looked at again.
const AGAIN: Millis = 10_000;

impl Room {
    /// Takes what a report says of forwarding.
    pub(super) fn weigh(&mut self, from: Node, report: &Report, now: Millis) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        if member.willing.handle_report(report) {
            self.settle_willing(from, now);
        }
    }

    /// Those who have to forward against their wish: can the others do without by now?
    pub(super) fn handle_reluctant(&mut self, now: Millis) {
        if self.reluctant_due.take_if(|due| *due <= now).is_none() {
            return;
        }
        let pressed = self
            .members
            .values()
            .filter(|member| member.willing.is_reluctant() && !member.spared && !member.leaving);
        let pressed = pressed.map(|member| member.participant.node);
        for node in pressed.collect::<Vec<_>>() {
            self.settle_willing(node, now);
        }
    }

    /// Somebody goes without: nobody is spared any more.
    pub(super) fn press_if_wanting(&mut self, now: Millis) {
        if !std::mem::take(&mut self.wanting) {
            return;
        }
        let members = self.members.values();
        let spared = members.filter(|member| member.spared && !member.leaving);
        let spared = spared.map(|member| member.participant.node);
        for node in spared.collect::<Vec<_>>() {
            if let Some(member) = self.members.get_mut(&node) {
                member.spared = false;
            }
            self.fact_node(node, now);
            self.reluctant_due = Some(now + AGAIN);
        }
    }

    fn settle_willing(&mut self, node: Node, now: Millis) {
        let spared = self.can_spare(node, now);
        let Some(member) = self.members.get_mut(&node).filter(|one| !one.leaving) else {
            return;
        };
        member.spared = spared;
        if member.willing.is_reluctant() && !spared {
            self.reluctant_due.get_or_insert(now + AGAIN);
        }
        self.fact_node(node, now);
    }

    fn can_spare(&self, node: Node, now: Millis) -> bool {
        let Some(member) = self.members.get(&node) else {
            return false;
        };
        if !member.willing.is_reluctant() {
            return false;
        }
        let facts = NodeFacts {
            kind: Kind::Participant,
            uplink: member.uplink,
            forwards: false,
            slots: self.settings.slots,
            ..NodeFacts::default()
        };
        let mut without = self.plan.clone();
        without.handle(Fact::Node(wiring::node_id(node), facts), now);
        wanting(&without) <= wanting(&self.plan)
    }
}

/// Who gets nothing, and who gets no pictures.
fn wanting(plan: &Plan) -> (usize, usize) {
    let trees = plan.trees();
    let dark = trees.iter().flat_map(|tree| &tree.edges);
    let dark = dark.filter(|view| view.edge.layers.is_empty()).count();
    (trees.iter().map(|tree| tree.unserved.len()).sum(), dark)
}

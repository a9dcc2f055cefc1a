//! A picture of the trees for people: the plan's edges with what the nodes measured on them.
//!
//! Measurements come from the nodes themselves. They are believed only about edges and links that the reporter has, and
//! within bounds; a lie shows wrong numbers on the liar's own edges and nothing else.

use super::wiring::{self, Wiring};
use crate::signal::message::{
    EdgeReason, EdgeReport, LinkReport, Node, Report, StreamRef, Tree, TreeEdge, Trees,
};
use grove_tree::{Layers, Millis, Plan};
use std::collections::BTreeMap;

/// No browser link carries more.
const MOST_BPS: u32 = 100_000_000;
/// A minute.
const MOST_MS: f32 = 60_000.0;
/// Pictures are sent at most this often.
pub const INTERVAL: Millis = 1_000;

fn bounded(value: f32, most: f32) -> f32 {
    if value.is_finite() {
        value.clamp(0.0, most)
    } else {
        0.0
    }
}

/// The measurements of a room, and when it was last drawn.
#[derive(Debug, Default)]
pub struct Picture {
    edges: BTreeMap<(StreamRef, Node), EdgeReport>,
    links: BTreeMap<(Node, Node), LinkReport>,
    changed: bool,
    drawn: Option<Millis>,
    last: Option<Trees>,
}

impl Picture {
    /// Takes what `from` measured.
    pub fn handle_report(&mut self, from: Node, report: &Report, wiring: &Wiring) {
        for edge in &report.edges {
            if edge.stream.stream <= 15
                && wiring.parent_of(wiring::stream_id(edge.stream), from) == Some(edge.parent)
            {
                let edge = EdgeReport {
                    bps: edge.bps.min(MOST_BPS),
                    delay_ms: bounded(edge.delay_ms, MOST_MS),
                    layer: edge.layer.filter(|layer| usize::from(*layer) < Layers::MAX),
                    ..*edge
                };
                self.edges.insert((edge.stream, from), edge);
                self.changed = true;
            }
        }
        for link in &report.links {
            if wiring.link_between(from, link.peer).is_some() {
                let link = LinkReport {
                    rtt_ms: bounded(link.rtt_ms, MOST_MS),
                    loss: bounded(link.loss, 1.0),
                    sent_bps: link.sent_bps.min(MOST_BPS),
                    ..*link
                };
                self.links.insert((from, link.peer), link);
                self.changed = true;
            }
        }
    }

    /// The trees changed.
    pub fn handle_change(&mut self) {
        self.changed = true;
    }

    /// Somebody new looks: the next picture is sent even if nothing changed.
    pub fn handle_watcher(&mut self) {
        self.changed = true;
        self.last = None;
    }

    /// A node is gone.
    pub fn remove(&mut self, node: Node) {
        self.edges.retain(|(stream, child), edge| {
            *child != node && stream.node != node && edge.parent != node
        });
        self.links.retain(|(a, b), _| *a != node && *b != node);
        self.changed = true;
    }

    /// When the next picture is due.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.changed
            .then(|| self.drawn.map_or(0, |drawn| drawn + INTERVAL))
    }

    /// The picture, when it is due and differs from the last.
    pub fn draw(&mut self, plan: &Plan, wiring: &Wiring, now: Millis) -> Option<Trees> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return None;
        }
        self.changed = false;
        self.drawn = Some(now);
        let trees = Trees {
            epoch: plan.epoch(),
            trees: self.trees(plan, wiring),
        };
        if self.last.as_ref() == Some(&trees) {
            return None;
        }
        self.last = Some(trees.clone());
        Some(trees)
    }

    fn trees(&self, plan: &Plan, wiring: &Wiring) -> Vec<Tree> {
        let edge = |stream: StreamRef, view: &grove_tree::EdgeView| {
            let (parent, child) = (wiring::node(view.edge.parent), wiring::node(view.child));
            let measured = self
                .edges
                .get(&(stream, child))
                .filter(|report| report.parent == parent);
            let link = self.links.get(&(child, parent));
            TreeEdge {
                parent,
                child,
                backup: wiring.backup_of(wiring::stream_id(stream), child),
                level: view.level,
                layer: wiring::layer_list(view.edge.layers).last().copied(),
                live: view.ready,
                bps: measured.map_or(0, |report| report.bps),
                delay_ms: measured.map_or(0.0, |report| report.delay_ms),
                rtt_ms: link.map_or(0.0, |report| report.rtt_ms),
                loss: link.map_or(0.0, |report| report.loss),
                reason: wiring
                    .reason_of(wiring::stream_id(stream), child)
                    .unwrap_or(EdgeReason::Joined),
            }
        };
        let tree = |view: grove_tree::TreeView| {
            let stream = wiring::stream_ref(view.stream);
            Tree {
                stream,
                edges: view.edges.iter().map(|view| edge(stream, view)).collect(),
                unserved: view
                    .unserved
                    .iter()
                    .map(|(child, _)| wiring::node(*child))
                    .collect(),
            }
        };
        plan.trees().into_iter().map(tree).collect()
    }
}

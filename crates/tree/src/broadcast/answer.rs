//! What a call tells: the net difference of a stream's tree, entry by entry, and the tree as it stands.

use super::Stream;
use super::nodes::{NONE, Nodes};
use super::options::Counters;
use super::tree::{HELPER, READY, RELAY, ROOT, SOUND, Touched};
use crate::{Edge, EdgeChange, EdgeView, Layers, NodeId, Reason, TreeView};

/// An entry of an answer behind what orders it: phase, level, hops between relays.
pub(super) type Entry = ((u8, u8, u8), EdgeChange);

/// What ended and began again in one call is one entry: from the old parent to the new one.
pub(super) fn merge(entries: &mut Vec<Entry>) {
    entries.sort_by_key(|(_, change)| (change.stream, change.child, change.old.is_none()));
    entries.dedup_by(|(order, begun), (first, ended)| {
        let same = (begun.stream, begun.child) == (ended.stream, ended.child);
        if same {
            (*first, ended.new, ended.reason) = (*order, begun.new, begun.reason);
            ended.make_before_break = false;
        }
        same
    });
}

impl Stream {
    /// What a node receives: every layer if it may have children, else the one that it shows. All edges are billed as if
    /// they carried every layer, so that a leaf may turn into a forwarder where it stands.
    pub(super) fn layers(&self, child: u32) -> Layers {
        let all = (0..Layers::MAX as u8).filter(|&layer| self.rates.layers[usize::from(layer)] > 0);
        let place = self.tree.place(child);
        if place.cap > 0 || place.is(RELAY) {
            return all.fold(Layers::NONE, Layers::with);
        }
        let shown = all.filter(|&layer| place.want != SOUND && layer <= place.want);
        shown.max().map_or(Layers::NONE, Layers::one)
    }

    fn edge(&self, nodes: &Nodes, parent: u32, child: u32) -> Edge {
        let layers = self.layers(child);
        let video = layers
            .iter()
            .map(|layer| self.rates.layers[usize::from(layer)]);
        Edge {
            parent: nodes.id(parent),
            layers,
            rate: video.fold(self.rates.audio, u32::saturating_add),
            feed: self.tree.place(parent).is(ROOT | READY),
        }
    }

    /// One entry of the answer with its place in it, if there is anything to tell.
    pub(super) fn change(
        &self,
        nodes: &Nodes,
        touched: &Touched,
        counters: &mut Counters,
    ) -> Option<Entry> {
        let place = *self.tree.place(touched.child);
        let new = (place.parent != NONE).then(|| self.edge(nodes, place.parent, touched.child));
        let told = touched.old == place.parent
            && matches!(touched.reason, Reason::ParentReady | Reason::Layers);
        if touched.old == place.parent
            && !told
            && !(new.is_none() && touched.reason == Reason::Joined)
        {
            return None;
        }
        let gone = new.is_none();
        let leaves = gone && (!self.tree.knows(touched.child) || place.is(RELAY | HELPER));
        let order = match (gone, leaves && touched.make_before_break) {
            (false, _) => (1, place.level, self.tree.hops_to_relays(touched.child)),
            (true, false) => (0, 0, 0),
            (true, true) => (2, 0, 0),
        };
        if leaves && touched.old == NONE {
            return None;
        }
        if !gone && !told {
            counters.edges += 1;
        }
        if matches!(touched.reason, Reason::ParentLeft | Reason::ParentLost) && !leaves {
            counters.orphans += 1;
            counters.deepened += u64::from(gone || place.level > touched.level);
        }
        let reason = match (gone, leaves) {
            (true, true) => Reason::Ended,
            (true, false) => Reason::NoCapacity,
            (false, _) if touched.reason == Reason::Ended => Reason::Joined,
            (false, _) => touched.reason,
        };
        let change = EdgeChange {
            epoch: 0,
            stream: self.id,
            child: nodes.id(touched.child),
            old: (touched.old != NONE).then(|| nodes.id(touched.old)),
            new,
            reason,
            make_before_break: touched.make_before_break && touched.old != NONE,
        };
        Some((order, change))
    }

    pub(super) fn view(&self, nodes: &Nodes) -> TreeView {
        let mut edges: Vec<EdgeView> = self
            .tree
            .edges()
            .map(|(child, parent)| EdgeView {
                child: nodes.id(child),
                edge: self.edge(nodes, parent, child),
                level: self.tree.place(child).level,
                ready: self.tree.place(child).is(READY),
                reason: Reason::Joined,
            })
            .collect();
        edges.sort_by_key(|edge| (edge.level, edge.child));
        let unserved = self.tree.waiting_nodes();
        let mut unserved: Vec<(NodeId, Reason)> = unserved
            .map(|node| (nodes.id(node), Reason::NoCapacity))
            .collect();
        unserved.sort();
        TreeView {
            stream: self.id,
            root: nodes.id(self.tree.root),
            edges,
            unserved,
        }
    }
}

//! Trees as lists of children within arrays: who hands one stripe to whom. The simulator keeps two of them per stripe, the
//! plan as announced and the edges over which bytes flow; the baselines keep their own.
//!
//! Costs: attaching and detaching O(1); 16 bytes a node.

use super::overlay::{Id, NONE, ROOT};

/// A forest over nodes 0..; whoever has no parent is the root of its own tree.
#[derive(Debug, Clone, Default)]
pub(super) struct Forest {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    parent: Id,
    first: Id,
    next: Id,
    previous: Id,
    children: u32,
}

const ALONE: Node = Node {
    parent: NONE,
    first: NONE,
    next: NONE,
    previous: NONE,
    children: 0,
};

impl Forest {
    /// Make room for a node.
    pub(super) fn reach(&mut self, id: Id) {
        if self.nodes.len() <= id as usize {
            self.nodes.resize(id as usize + 1, ALONE);
        }
    }

    pub(super) fn parent(&self, id: Id) -> Option<Id> {
        let parent = self.nodes.get(id as usize)?.parent;
        (parent != NONE).then_some(parent)
    }

    pub(super) fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        let mut at = self.nodes.get(id as usize).map_or(NONE, |node| node.first);
        std::iter::from_fn(move || {
            let child = (at != NONE).then_some(at)?;
            at = self.nodes[child as usize].next;
            Some(child)
        })
    }

    pub(super) fn count(&self, id: Id) -> u32 {
        self.nodes.get(id as usize).map_or(0, |node| node.children)
    }

    /// Hang `child` below `parent`, away from whoever had it.
    pub(super) fn attach(&mut self, child: Id, parent: Id) {
        self.reach(child.max(parent));
        self.detach(child);
        let first = self.nodes[parent as usize].first;
        let node = &mut self.nodes[child as usize];
        node.parent = parent;
        node.next = first;
        if first != NONE {
            self.nodes[first as usize].previous = child;
        }
        self.nodes[parent as usize].first = child;
        self.nodes[parent as usize].children += 1;
    }

    /// Take `child` from its parent; its own children stay with it.
    pub(super) fn detach(&mut self, child: Id) {
        let Some(parent) = self.parent(child) else {
            return;
        };
        let Node { next, previous, .. } = self.nodes[child as usize];
        if previous == NONE {
            self.nodes[parent as usize].first = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[parent as usize].children -= 1;
        let node = &mut self.nodes[child as usize];
        (node.parent, node.next, node.previous) = (NONE, NONE, NONE);
    }

    /// Is `id` in the tree below `top`, or `top` itself?
    pub(super) fn below(&self, id: Id, top: Id) -> bool {
        let mut at = Some(id);
        // A plan that is wrong may go round; longer than there are nodes no way is.
        for _ in 0..=self.nodes.len() {
            match at {
                Some(node) if node == top => return true,
                Some(node) => at = self.parent(node),
                None => return false,
            }
        }
        false
    }

    /// Hops to the root; `None`: no way leads there.
    pub(super) fn level(&self, id: Id) -> Option<u32> {
        let mut at = id;
        for level in 0..=self.nodes.len() as u32 {
            if at == ROOT {
                return Some(level);
            }
            at = self.parent(at)?;
        }
        None
    }

    /// `visit(node, its parent)` for everybody below `top`, parents first.
    pub(super) fn walk(&self, top: Id, mut visit: impl FnMut(Id, Id)) {
        let mut stack = vec![top];
        while let Some(parent) = stack.pop() {
            for child in self.children(parent) {
                visit(child, parent);
                stack.push(child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Forest {
        let mut forest = Forest::default();
        for id in 1..=4 {
            forest.attach(id, id - 1);
        }
        forest
    }

    #[test]
    fn whoever_is_attached_twice_hangs_below_the_second_only() {
        let mut forest = chain();
        forest.attach(3, 1);
        assert_eq!(forest.parent(3), Some(1));
        assert_eq!(forest.children(2).count(), 0);
        assert_eq!(forest.children(1).collect::<Vec<_>>(), [3, 2]);
        assert_eq!((forest.count(1), forest.count(2)), (2, 0));
        assert_eq!(forest.level(4), Some(3), "its subtree came along");
    }

    #[test]
    fn a_subtree_that_is_cut_off_has_no_level() {
        let mut forest = chain();
        forest.detach(2);
        assert_eq!((forest.level(1), forest.level(4)), (Some(1), None));
        assert!(forest.below(4, 2) && !forest.below(1, 2));
        let mut met = Vec::new();
        forest.walk(2, |child, parent| met.push((child, parent)));
        assert_eq!(met, [(3, 2), (4, 3)]);
    }

    #[test]
    fn going_round_has_no_level_and_ends() {
        let mut forest = chain();
        forest.attach(2, 4);
        assert_eq!(forest.level(4), None);
        assert!(!forest.below(4, ROOT));
    }
}

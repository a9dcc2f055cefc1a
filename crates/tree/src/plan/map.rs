//! A map from nodes for rooms: a sorted list, which for tens of nodes is searched, walked and copied faster than a tree.

use crate::NodeId;

/// A sorted map from nodes. Finding is O(log n), putting in and taking out O(n).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeMap<V>(Vec<(NodeId, V)>);

impl<V> Default for NodeMap<V> {
    fn default() -> Self {
        NodeMap::new()
    }
}

impl<V> NodeMap<V> {
    pub const fn new() -> Self {
        NodeMap(Vec::new())
    }

    fn find(&self, node: NodeId) -> Result<usize, usize> {
        // Most maps hold every node of a room that numbers them from nought or one.
        let guess = node.0 as usize;
        for at in [guess, guess.wrapping_sub(1)] {
            if self.0.get(at).is_some_and(|(id, _)| *id == node) {
                return Ok(at);
            }
        }
        self.0.binary_search_by_key(&node, |(id, _)| *id)
    }

    pub fn get(&self, node: &NodeId) -> Option<&V> {
        let at = self.find(*node).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, node: &NodeId) -> Option<&mut V> {
        let at = self.find(*node).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub fn contains_key(&self, node: &NodeId) -> bool {
        self.find(*node).is_ok()
    }

    pub fn insert(&mut self, node: NodeId, value: V) -> Option<V> {
        match self.find(node) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (node, value));
                None
            }
        }
    }

    pub fn remove(&mut self, node: &NodeId) -> Option<V> {
        let at = self.find(*node).ok()?;
        Some(self.0.remove(at).1)
    }

    /// The value, put in if there was none.
    pub fn slot(&mut self, node: NodeId) -> &mut V
    where
        V: Default,
    {
        let at = match self.find(node) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (node, V::default()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&NodeId, &V)> {
        self.0.iter().map(|(node, value)| (node, value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&NodeId, &mut V)> {
        self.0.iter_mut().map(|(node, value)| (&*node, value))
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &NodeId> {
        self.0.iter().map(|(node, _)| node)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<V> FromIterator<(NodeId, V)> for NodeMap<V> {
    /// Of two about the same node the later counts.
    fn from_iter<I: IntoIterator<Item = (NodeId, V)>>(list: I) -> Self {
        let mut map = NodeMap::new();
        for (node, value) in list {
            map.insert(node, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::NodeMap;
    use crate::NodeId;

    #[test]
    fn a_map_is_sorted_and_holds_one_value_for_a_node() {
        let mut map: NodeMap<u8> = [(9, 1), (0, 2), (4, 3)]
            .map(|(id, v)| (NodeId(id), v))
            .into_iter()
            .collect();
        assert_eq!(
            (map.insert(NodeId(4), 7), map.insert(NodeId(2), 8)),
            (Some(3), None)
        );
        *map.slot(NodeId(1)) += 5;
        assert_eq!(
            map.iter().map(|(id, v)| (id.0, *v)).collect::<Vec<_>>(),
            [(0, 2), (1, 5), (2, 8), (4, 7), (9, 1)]
        );
        assert_eq!(
            (map.remove(&NodeId(0)), map.remove(&NodeId(0)), map.len()),
            (Some(2), None, 4)
        );
        assert_eq!((map.get(&NodeId(9)), map.get(&NodeId(3))), (Some(&1), None));
    }
}

//! What the cluster has decided about itself: its feature level, and the nodes that are gone for
//! good. Part of the header, so that they are there before any row is read.

/// Retired ids that are kept; the oldest make room. Ids are random 64-bit numbers: only a data
/// directory that comes back could show one again.
const MAX_RETIRED: usize = 4096;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterFacts {
    /// Commands of a higher level are not proposed. 0: never raised, as level 1.
    pub feature_level: u32,
    /// Node ids that never take part again, oldest first.
    pub retired: Vec<u64>,
}

impl ClusterFacts {
    pub(crate) fn raise(&mut self, level: u32) {
        self.feature_level = self.feature_level.max(level);
    }

    pub(crate) fn retire(&mut self, nodes: &[u64]) {
        for node in nodes {
            if !self.retired.contains(node) {
                self.retired.push(*node);
            }
        }
        let excess = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..excess);
    }

    /// Nothing for a cluster that decided nothing: as release 0.1 hashes it.
    pub(crate) fn hash_into(&self, text: &mut Vec<u8>) {
        if *self == Self::default() {
            return;
        }
        text.extend_from_slice(&self.feature_level.to_be_bytes());
        for node in &self.retired {
            text.extend_from_slice(&node.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_only_rise_and_retired_ids_are_bounded() {
        let mut facts = ClusterFacts::default();
        facts.raise(2);
        facts.raise(1);
        assert_eq!(facts.feature_level, 2);
        facts.retire(&[7, 7]);
        let more: Vec<u64> = (100..100 + MAX_RETIRED as u64).collect();
        facts.retire(&more);
        assert_eq!((facts.retired.len(), facts.retired.first()), (MAX_RETIRED, Some(&100)));
    }
}

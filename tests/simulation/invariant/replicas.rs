//! Replicas at one revision are equal: same state hash, on every node, at every start.

use std::collections::BTreeMap;

use quorate_core::store::Fingerprint;

#[derive(Debug, Default)]
pub(crate) struct Replicas {
    /// The first one seen at each revision, and where.
    marks: BTreeMap<u64, (Fingerprint, usize)>,
    pub(crate) compared: u64,
}

impl Replicas {
    /// Notes the state of a node. `Some`: it differs from another's at the same revision.
    pub(crate) fn observe(&mut self, node: usize, mark: Fingerprint) -> Option<String> {
        let (first, at) = *self.marks.entry(mark.revision.0).or_insert((mark, node));
        self.compared += u64::from(at != node);
        (first != mark).then(|| {
            let (one, other) = (hex(&first.hash), hex(&mark.hash));
            format!("replicas differ at revision {}: n{at} {one}, n{node} {other}", mark.revision)
        })
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

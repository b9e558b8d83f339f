//! Time and order as apply sees them: the leader's stamp and the cluster's revision.

/// The leader's wall clock in an entry: milliseconds since 1970-01-01 UTC. Never runs backwards
/// inside the store (`design.md` §4: the larger of the last stamp and the entry's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogTime(pub u64);

/// Position of a change in the whole cluster: base + log index of the entry that made it.
/// 0 is "before any change".
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

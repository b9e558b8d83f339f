//! The datum store: the whole replicated state in memory, read by every node from its own copy.
//!
//! [`Store::apply`] is a pure function of (state, revision, proposal). One writer, the state
//! machine, applies; readers take the lock for one look-up. Freezing for a snapshot is O(1): the
//! maps are persistent and share their nodes.

pub mod disk;
pub mod dump;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{RwLock, RwLockWriteGuard};

use crate::command::Proposal;
use crate::content::{ContentType, Md5};
use crate::key::GroupKey;
use crate::kind::config::ConfigDatum;
use crate::kind::gray::{Gray, Labels, Rule, Standing};
use crate::time::{LogTime, Revision};

pub use state::{Applied, Change, Header, State, StateBuilder};

/// The state of this node and the only way to it.
#[derive(Debug, Default)]
pub struct Store {
    state: RwLock<State>,
}

/// What a client sees of a configuration.
#[derive(Debug, Clone)]
pub enum Seen {
    /// What everybody gets who is in no rule.
    Formal(ConfigDatum),
    /// A gray release, and the type of the formal content when there is one.
    Gray(Arc<Gray>, Option<ContentType>),
}

impl Seen {
    /// The content, shared with the store.
    #[must_use]
    pub fn content(&self) -> Bytes {
        match self {
            Self::Formal(datum) => datum.content(),
            Self::Gray(gray, _) => gray.content.clone(),
        }
    }

    /// Of the content.
    #[must_use]
    pub fn md5(&self) -> Md5 {
        match self {
            Self::Formal(datum) => datum.md5(),
            Self::Gray(gray, _) => gray.md5,
        }
    }

    /// Declared type, of a release that of the formal content.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        match self {
            Self::Formal(datum) => datum.content_type(),
            Self::Gray(_, content_type) => content_type.unwrap_or_default(),
        }
    }

    /// The leader's time of the last write.
    #[must_use]
    pub fn modified(&self) -> LogTime {
        match self {
            Self::Formal(datum) => datum.modified(),
            Self::Gray(gray, _) => gray.modified,
        }
    }

    /// `encryptedDataKey`
    #[must_use]
    pub fn encrypted_data_key(&self) -> String {
        match self {
            Self::Formal(datum) => datum.detail().encrypted_data_key,
            Self::Gray(gray, _) => gray.encrypted_data_key.to_string(),
        }
    }

    /// The rule that chose it.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Formal(_) => None,
            Self::Gray(gray, _) => Some(&gray.rule),
        }
    }
}

/// What one node can say of its state, to be compared with another's at the same revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The last applied revision.
    pub revision: Revision,
    /// Hash of everything replicated.
    pub hash: [u8; 16],
    /// Number of configurations.
    pub configs: usize,
}

impl Store {
    /// A store that starts from a loaded state.
    #[must_use]
    pub const fn new(state: State) -> Self {
        Self { state: RwLock::new(state) }
    }

    /// The configuration and the revision that this node has applied.
    #[must_use]
    pub fn config(&self, key: &GroupKey) -> (Option<ConfigDatum>, Revision) {
        let state = self.state.read();
        (state.config(key).cloned(), state.header().revision)
    }

    /// What one client sees of a configuration, and the revision that this node has applied.
    #[must_use]
    pub fn seen(&self, key: &GroupKey, labels: &Labels) -> (Option<Seen>, Revision) {
        let state = self.state.read();
        let gray = state.releases(key).and_then(|releases| releases.matching(labels));
        let seen = match gray {
            Some(gray) => {
                let content_type = state.config(key).map(ConfigDatum::content_type);
                Some(Seen::Gray(Arc::clone(gray), content_type))
            }
            None => state.config(key).cloned().map(Seen::Formal),
        };
        (seen, state.header().revision)
    }

    /// The formal md5 of a configuration, if it exists.
    #[must_use]
    pub fn md5(&self, key: &GroupKey) -> Option<Md5> {
        self.state.read().config(key).map(|datum| datum.md5())
    }

    /// The md5 that one client sees.
    #[must_use]
    pub fn md5_for(&self, key: &GroupKey, labels: &Labels) -> Option<Md5> {
        let state = self.state.read();
        let gray = state.releases(key).and_then(|releases| releases.matching(labels));
        gray.map_or_else(|| state.config(key).map(|datum| datum.md5()), |gray| Some(gray.md5))
    }

    /// What everybody sees of a key.
    #[must_use]
    pub fn standing(&self, key: &GroupKey) -> Standing {
        self.state.read().standing(key)
    }

    /// The last applied revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.state.read().header().revision
    }

    /// What to compare with other replicas.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let frozen = self.freeze();
        Fingerprint {
            revision: frozen.header().revision,
            hash: frozen.hash(),
            configs: frozen.config_count(),
        }
    }

    /// Whether a node id was removed from the cluster for good.
    #[must_use]
    pub fn is_retired(&self, node: u64) -> bool {
        self.state.read().header().cluster.retired.contains(&node)
    }

    /// The feature level that the cluster has agreed upon; 0 before it did.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.state.read().header().cluster.feature_level
    }

    /// Configurations with this data id, in any namespace and group, for the start only.
    #[must_use]
    pub fn configs_of_data_id(&self, data_id: &str) -> Vec<(GroupKey, ConfigDatum)> {
        let frozen = self.freeze();
        frozen
            .configs()
            .filter(|(key, _)| key.data_id() == data_id)
            .map(|(key, datum)| (key.clone(), datum.clone()))
            .collect()
    }

    /// A consistent copy, O(1).
    #[must_use]
    pub fn freeze(&self) -> State {
        self.state.read().clone()
    }

    /// Opens the store for applying. Readers wait until the guard is dropped.
    #[must_use]
    pub fn apply(&self) -> Apply<'_> {
        Apply { state: self.state.write(), touched: BTreeSet::new() }
    }

    /// Puts another state in place, as a snapshot install does, and returns the old one.
    pub fn replace(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.write(), state)
    }
}

/// The store while entries are applied to it, in index order.
#[derive(Debug)]
pub struct Apply<'a> {
    state: RwLockWriteGuard<'a, State>,
    /// Origins whose kept replies changed.
    touched: BTreeSet<u64>,
}

impl Apply<'_> {
    /// Applies one proposal at its revision.
    pub fn proposal(&mut self, revision: Revision, proposal: &Proposal) -> Applied {
        if proposal.id.sequence > 0 {
            self.touched.insert(proposal.id.origin);
        }
        self.state.apply(revision, proposal)
    }

    /// What the disk must know of the kept replies that changed under this guard.
    pub fn origin_changes(&mut self) -> Vec<Change> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|id| self.state.origin_change(id)).collect()
    }

    /// Notes the log position and members that the state now includes. Opaque to the store.
    pub fn mark(&mut self, term: u64, index: u64, revision: Revision) {
        self.state.mark(term, index, revision);
    }

    /// A consistent copy of the state as it stands, O(1).
    #[must_use]
    pub fn freeze(&self) -> State {
        self.state.clone()
    }

    /// Notes the members, encoded by the raft crate.
    pub fn set_membership(&mut self, membership: Bytes) {
        self.state.set_membership(membership);
    }

    /// The header as it stands.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.state.header()
    }

    /// The header as a record, for the batch that goes to disk.
    #[must_use]
    pub fn header_record(&self) -> Bytes {
        self.state.header_record()
    }
}

#[cfg(test)]
mod tests;

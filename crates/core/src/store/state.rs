//! The replicated state itself: maps, header and hash; apply, rows out, rows in.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use prost::Message;

use crate::command::{ChangeEvent, Command, Outcome, Proposal, Publish, Remove, Reply};
use crate::content::Md5;
use crate::key::GroupKey;
use crate::kind::cluster::ClusterFacts;
use crate::kind::config::{self, ConfigDatum};
use crate::kind::origin::{self, MAX_ORIGINS, Origin, Verdict};
use crate::record::{RecordError, exact, wire};
use crate::time::{LogTime, Revision};

/// What the state says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Log position of the last applied entry: term and index.
    pub applied: Option<(u64, u64)>,
    /// Revision of the last applied entry.
    pub revision: Revision,
    /// The largest leader's stamp so far.
    pub time: LogTime,
    /// The members, in the raft crate's encoding.
    pub membership: Bytes,
    /// What the cluster has decided about itself.
    pub cluster: ClusterFacts,
}

/// One thing that the disk must be told.
#[derive(Debug, Clone)]
pub enum Change {
    /// A configuration was written, or removed when `None`.
    Config(GroupKey, Option<ConfigDatum>),
    /// An origin's replies.
    Origin(u64, Option<Arc<Origin>>),
}

/// What applying one proposal did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The answer for the proposer.
    pub reply: Reply,
    /// For listeners, when a content changed.
    pub event: Option<ChangeEvent>,
    /// For the disk. Kept replies are not among them: [`super::Apply::origin_changes`].
    pub changes: Vec<Change>,
}

/// The replicated state. A clone is O(1) and independent.
#[derive(Debug, Clone, Default)]
pub struct State {
    configs: OrdMap<GroupKey, ConfigDatum>,
    origins: OrdMap<u64, Arc<Origin>>,
    header: Header,
    /// Sum of the digests of all configurations, so that it costs O(1) a change.
    config_hash: u128,
}

impl State {
    /// What the state says of itself.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// One configuration.
    #[must_use]
    pub fn config(&self, key: &GroupKey) -> Option<&ConfigDatum> {
        self.configs.get(key)
    }

    /// All configurations, by namespace, group, data id.
    pub fn configs(&self) -> impl Iterator<Item = (&GroupKey, &ConfigDatum)> {
        self.configs.iter()
    }

    /// Number of configurations.
    #[must_use]
    pub fn config_count(&self) -> usize {
        self.configs.len()
    }

    /// The reply kept for a proposal, if it was applied and may still be asked about.
    #[must_use]
    pub fn kept_reply(&self, origin: u64, nonce: u64, sequence: u64) -> Option<Reply> {
        self.origins.get(&origin)?.kept(nonce, sequence)
    }

    /// Hash of everything replicated but the log position: configurations, kept replies, revision
    /// and time. Equal at equal revision on every replica.
    #[must_use]
    pub fn hash(&self) -> [u8; 16] {
        let mut text = self.config_hash.to_be_bytes().to_vec();
        text.extend_from_slice(&self.header.revision.0.to_be_bytes());
        text.extend_from_slice(&self.header.time.0.to_be_bytes());
        for (id, origin) in &self.origins {
            text.extend_from_slice(&origin::row(*id, origin));
        }
        self.header.cluster.hash_into(&mut text);
        Md5::of(&text).0
    }

    /// The hash computed from every datum instead of step by step, to check a loaded state.
    #[must_use]
    pub fn recomputed_config_hash(&self) -> u128 {
        self.configs().fold(0, |sum, (key, datum)| sum.wrapping_add(datum.digest(key)))
    }

    /// Applies one proposal. Cannot fail: a refusal is a reply.
    pub fn apply(&mut self, revision: Revision, proposal: &Proposal) -> Applied {
        self.header.time = self.header.time.max(proposal.time);
        let id = proposal.id;
        if id.sequence == 0 {
            return self.execute(revision, &proposal.command);
        }
        let origin = Arc::make_mut(self.origins.entry(id.origin).or_default());
        let verdict = origin.admit(id, revision);
        let mut applied = match verdict {
            Verdict::Apply => self.execute(revision, &proposal.command),
            Verdict::Repeat(reply) => Applied { reply, ..Applied::default() },
            Verdict::Superseded => {
                Applied { reply: origin::superseded(revision), ..Applied::default() }
            }
        };
        if verdict == Verdict::Apply
            && let Some(origin) = self.origins.get_mut(&id.origin)
        {
            Arc::make_mut(origin).keep(id.sequence, applied.reply);
        }
        self.evict_origin(&mut applied);
        applied
    }

    fn evict_origin(&mut self, applied: &mut Applied) {
        if self.origins.len() > MAX_ORIGINS
            && let Some(oldest) =
                self.origins.iter().min_by_key(|(_, origin)| origin.seen()).map(|(id, _)| *id)
        {
            self.origins.remove(&oldest);
            applied.changes.push(Change::Origin(oldest, None));
        }
    }

    /// What the disk must know of an origin: asked once for a group of proposals, because a
    /// shared copy of the replies makes the next proposal of that origin copy them.
    pub(super) fn origin_change(&self, id: u64) -> Option<Change> {
        self.origins.get(&id).map(|origin| Change::Origin(id, Some(Arc::clone(origin))))
    }

    fn execute(&mut self, revision: Revision, command: &Command) -> Applied {
        match command {
            Command::Publish(publish) => self.publish(revision, publish),
            Command::Remove(remove) => self.remove(revision, remove),
            Command::Raise { level } => self.decide(revision, |facts| facts.raise(*level)),
            Command::Retire { nodes } => self.decide(revision, |facts| facts.retire(nodes)),
            Command::Checkpoint => self.decide(revision, |_| ()),
        }
    }

    fn decide(&mut self, revision: Revision, decide: impl FnOnce(&mut ClusterFacts)) -> Applied {
        decide(&mut self.header.cluster);
        Applied { reply: Reply { revision, ..Reply::default() }, ..Applied::default() }
    }

    fn publish(&mut self, revision: Revision, publish: &Publish) -> Applied {
        let before = self.configs.get(&publish.key);
        let (datum, reply) = config::publish(before, publish, revision, self.header.time);
        let Some(datum) = datum else {
            return Applied { reply, ..Applied::default() };
        };
        let changed = before.map(|before| before.md5()) != Some(datum.md5());
        self.forget_hash_of(&publish.key);
        self.config_hash = self.config_hash.wrapping_add(datum.digest(&publish.key));
        let key = self.insert(&publish.key, datum.clone());
        let md5 = Some(datum.md5());
        Applied {
            reply,
            event: changed.then(|| ChangeEvent { key: key.clone(), md5 }),
            changes: vec![Change::Config(key, Some(datum))],
        }
    }

    /// Inserts under the key that is already there, so that its text stays shared.
    fn insert(&mut self, key: &GroupKey, datum: ConfigDatum) -> GroupKey {
        if let Some((held, _)) = self.configs.get_key_value(key) {
            let held = held.clone();
            self.configs.insert(held.clone(), datum);
            return held;
        }
        self.configs.insert(key.clone(), datum);
        key.clone()
    }

    fn remove(&mut self, revision: Revision, remove: &Remove) -> Applied {
        self.forget_hash_of(&remove.key);
        let Some(datum) = self.configs.remove(&remove.key) else {
            let reply = Reply { revision, version: 0, outcome: Outcome::Absent };
            return Applied { reply, ..Applied::default() };
        };
        Applied {
            reply: Reply { revision, version: datum.version(), outcome: Outcome::Done },
            event: Some(ChangeEvent { key: remove.key.clone(), md5: None }),
            changes: vec![Change::Config(remove.key.clone(), None)],
        }
    }

    fn forget_hash_of(&mut self, key: &GroupKey) {
        if let Some(datum) = self.configs.get(key) {
            self.config_hash = self.config_hash.wrapping_sub(datum.digest(key));
        }
    }

    pub(super) fn mark(&mut self, term: u64, index: u64, revision: Revision) {
        self.header.applied = Some((term, index));
        self.header.revision = revision;
    }

    pub(super) fn set_membership(&mut self, membership: Bytes) {
        self.header.membership = membership;
    }

    /// The header as a record.
    #[must_use]
    pub fn header_record(&self) -> Bytes {
        let Header { applied, revision, time, membership, cluster } = &self.header;
        let (term, index) = applied.unwrap_or_default();
        exact(&wire::StoreHeader {
            applied_term: term,
            applied_index: index,
            has_applied: applied.is_some(),
            time_ms: time.0,
            revision: revision.0,
            membership: membership.clone(),
            config_count: self.configs.len() as u64,
            config_hash: Bytes::copy_from_slice(&self.config_hash.to_be_bytes()),
            feature_level: cluster.feature_level,
            retired: cluster.retired.clone(),
        })
    }

    /// Every row of the state, by kind and key.
    pub fn rows(&self) -> impl Iterator<Item = Bytes> {
        let configs = self.configs.iter().map(|(key, datum)| config::row(key, datum));
        configs.chain(self.origins.iter().map(|(id, origin)| origin::row(*id, origin)))
    }
}

/// A state that is being read from rows.
#[derive(Debug, Default)]
pub struct StateBuilder {
    state: State,
    configs: Vec<(GroupKey, ConfigDatum)>,
}

/// A map with well-filled nodes. Keys that come in order split each node in halves and never
/// fill them: of five neighbours three go in first, and two into the gaps.
fn packed<K: Ord + Clone, V: Clone>(entries: Vec<(K, V)>) -> OrdMap<K, V> {
    let mut map = OrdMap::new();
    let mut later = Vec::with_capacity(entries.len() / 5 * 2 + 2);
    for (number, (key, value)) in entries.into_iter().enumerate() {
        if number % 5 % 2 == 1 {
            later.push((key, value));
        } else {
            map.insert(key, value);
        }
    }
    map.extend(later);
    map
}

impl StateBuilder {
    /// Adds one row, as [`State::rows`] made it, in any order.
    ///
    /// # Errors
    /// [`RecordError`] when this release cannot read it.
    pub fn row(&mut self, bytes: Bytes) -> Result<(), RecordError> {
        let row = wire::Row::decode(bytes)?;
        match row.row.ok_or(RecordError::UnknownKind)? {
            wire::row::Row::Config(row) => {
                let (key, datum) = config::from_row(row)?;
                let digest = datum.digest(&key);
                self.state.config_hash = self.state.config_hash.wrapping_add(digest);
                self.configs.push((key, datum));
            }
            wire::row::Row::Origin(row) => {
                let (id, origin) = origin::from_row(row)?;
                self.state.origins.insert(id, Arc::new(origin));
            }
        }
        Ok(())
    }

    /// Ends with the header and compares its counts and hash.
    ///
    /// # Errors
    /// [`RecordError::Field`] when the rows are not those that the header counted.
    pub fn finish(mut self, header: &[u8]) -> Result<State, RecordError> {
        self.state.configs = packed(self.configs);
        let header = wire::StoreHeader::decode(header)?;
        self.state.header = Header {
            applied: header.has_applied.then_some((header.applied_term, header.applied_index)),
            revision: Revision(header.revision),
            time: LogTime(header.time_ms),
            membership: Bytes::copy_from_slice(&header.membership),
            cluster: ClusterFacts { feature_level: header.feature_level, retired: header.retired },
        };
        if self.state.configs.len() as u64 != header.config_count {
            return Err(RecordError::Field("config_count"));
        }
        if self.state.config_hash.to_be_bytes() != *header.config_hash {
            return Err(RecordError::Field("config_hash"));
        }
        Ok(self.state)
    }
}

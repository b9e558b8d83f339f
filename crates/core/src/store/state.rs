//! The replicated state itself: maps, header and hash; rows out, rows in. What commands do to it is
//! in `execute`, the history of it in `past`.

mod build;
mod execute;
mod past;

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

pub use self::build::StateBuilder;
use self::past::Past;
use crate::command::{ChangeEvent, Command, Proposal, Reply};
use crate::content::Md5;
use crate::key::{GroupKey, NamespaceId};
use crate::kind::cluster::ClusterFacts;
use crate::kind::config::{self, ConfigDatum};
use crate::kind::gray::{self, Gray, Releases, Standing};
use crate::kind::history::{self, History};
use crate::kind::namespace::{self, Namespace};
use crate::kind::origin::{self, MAX_ORIGINS, Origin, Verdict};
use crate::record::{exact, wire};
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
    /// A gray release of this name was written, or ended when `None`.
    Gray(GroupKey, Box<str>, Option<Arc<Gray>>),
    /// A history record of this id was added, or removed when `None`.
    History(u64, Option<Arc<History>>),
    /// A namespace was written, or removed when `None`.
    Namespace(NamespaceId, Option<Arc<Namespace>>),
}

/// What applying one proposal did.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The answer for the proposer.
    pub reply: Reply,
    /// For listeners: the keys of which somebody now sees another content.
    pub events: Vec<ChangeEvent>,
    /// For the disk. Kept replies are not among them: [`super::Apply::origin_changes`].
    pub changes: Vec<Change>,
}

/// The replicated state. A clone is O(1) and independent.
#[derive(Debug, Clone, Default)]
pub struct State {
    configs: OrdMap<GroupKey, ConfigDatum>,
    origins: OrdMap<u64, Arc<Origin>>,
    grays: OrdMap<GroupKey, Releases>,
    namespaces: OrdMap<NamespaceId, Arc<Namespace>>,
    past: Past,
    header: Header,
    /// Sum of the digests of all configurations, so that it costs O(1) a change.
    config_hash: u128,
    /// The same of gray releases, history and namespaces, and their number.
    extra: Sum,
}

/// Count and sum of digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum {
    count: u64,
    hash: u128,
}

impl Sum {
    const fn add(&mut self, digest: u128) {
        self.count = self.count.wrapping_add(1);
        self.hash = self.hash.wrapping_add(digest);
    }

    const fn subtract(&mut self, digest: u128) {
        self.count = self.count.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(digest);
    }
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

    /// The configurations of one namespace, by group, data id.
    pub fn configs_in<'a>(
        &'a self,
        namespace: &NamespaceId,
    ) -> impl Iterator<Item = (&'a GroupKey, &'a ConfigDatum)> + use<'a> {
        let name = namespace.clone();
        self.configs
            .range(GroupKey::first_of(namespace)..)
            .take_while(move |(key, _)| key.namespace() == name.as_str())
    }

    /// The gray releases of a configuration.
    #[must_use]
    pub fn releases(&self, key: &GroupKey) -> Option<&Releases> {
        // Most clusters have none at all.
        if self.grays.is_empty() { None } else { self.grays.get(key) }
    }

    /// All configurations with gray releases.
    pub fn all_releases(&self) -> impl Iterator<Item = (&GroupKey, &Releases)> {
        self.grays.iter()
    }

    /// What everybody sees of a key.
    #[must_use]
    pub fn standing(&self, key: &GroupKey) -> Standing {
        Standing {
            formal: self.config(key).map(|datum| datum.md5()),
            releases: self.releases(key).cloned(),
        }
    }

    /// A namespace that was made.
    #[must_use]
    pub fn namespace(&self, id: &NamespaceId) -> Option<&Arc<Namespace>> {
        self.namespaces.get(id)
    }

    /// All that were made, by id. The public one is not among them.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// A history record.
    #[must_use]
    pub fn history(&self, id: u64) -> Option<&Arc<History>> {
        self.past.get(id)
    }

    /// The history of a configuration, newest first.
    pub fn history_of<'a>(
        &'a self,
        key: &GroupKey,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<History>> + use<'a> {
        self.past.of(key)
    }

    /// All history records, oldest first.
    pub fn all_history(&self) -> impl DoubleEndedIterator<Item = &Arc<History>> {
        self.past.all()
    }

    /// Number of history records.
    #[must_use]
    pub fn history_count(&self) -> usize {
        self.past.len()
    }

    /// Weight of all history records, in bytes ([`History::weight`]).
    #[must_use]
    pub fn history_bytes(&self) -> u64 {
        self.past.bytes()
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
        // Nothing before level 3: as the releases before it hash.
        if self.past.last() > 0 || self.extra != Sum::default() {
            text.extend_from_slice(&self.past.last().to_be_bytes());
            text.extend_from_slice(&self.extra.count.to_be_bytes());
            text.extend_from_slice(&self.extra.hash.to_be_bytes());
        }
        Md5::of(&text).0
    }

    /// The hash computed from every datum instead of step by step, to check a loaded state.
    #[must_use]
    pub fn recomputed_config_hash(&self) -> u128 {
        self.configs().fold(0, |sum, (key, datum)| sum.wrapping_add(datum.digest(key)))
    }

    /// Whether the sums over everything else are those that were kept step by step.
    #[must_use]
    pub fn is_extra_hash_right(&self) -> bool {
        let mut sum = Sum::default();
        for (key, releases) in &self.grays {
            releases.iter().for_each(|gray| sum.add(gray.digest(key)));
        }
        self.past.all().for_each(|record| sum.add(record.digest()));
        self.namespaces.values().for_each(|namespace| sum.add(namespace.digest()));
        sum == self.extra
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

    /// What a command would do to this state at the next revision, and the state after it. O(log n).
    #[must_use]
    pub fn foretell(&self, command: &Command) -> (Applied, Self) {
        let mut after = self.clone();
        let next = Revision(self.header.revision.0 + 1);
        let applied = after.execute(next, command);
        (applied, after)
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

    pub(super) fn mark(&mut self, term: u64, index: u64, revision: Revision) {
        self.header.applied = Some((term, index));
        self.header.revision = revision;
    }

    pub(super) fn set_membership(&mut self, membership: Bytes) {
        self.header.membership = membership;
    }

    /// The same state with other members, in the raft crate's encoding: for a restore.
    #[must_use]
    pub fn with_membership(mut self, membership: Bytes) -> Self {
        self.set_membership(membership);
        self
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
            last_history: self.past.last(),
            extra_count: self.extra.count,
            extra_hash: if self.extra == Sum::default() {
                Bytes::new()
            } else {
                Bytes::copy_from_slice(&self.extra.hash.to_be_bytes())
            },
        })
    }

    /// Every row of the state, by kind and key.
    pub fn rows(&self) -> impl Iterator<Item = Bytes> {
        self.rows_without_history().chain(self.past.all().map(|record| history::row(record)))
    }

    /// Every row but those of the history.
    pub(super) fn rows_without_history(&self) -> impl Iterator<Item = Bytes> {
        let configs = self.configs.iter().map(|(key, datum)| config::row(key, datum));
        let origins = self.origins.iter().map(|(id, origin)| origin::row(*id, origin));
        let grays = self
            .grays
            .iter()
            .flat_map(|(key, releases)| releases.iter().map(move |gray| gray::row(key, gray)));
        let namespaces = self.namespaces.values().map(|namespace| namespace::row(namespace));
        configs.chain(origins).chain(grays).chain(namespaces)
    }
}

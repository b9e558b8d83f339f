//! What is proposed, and what apply answers: one variant for each replicated write.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::content::{ContentType, Md5};
use crate::key::{GroupKey, NamespaceId};
use crate::kind::gray::Rule;
use crate::record::RecordError;
use crate::time::{LogTime, Revision};

/// Who asked for a write (config.md §0.3). Both may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Writer {
    /// `src_user`, or the authenticated identity.
    pub user: String,
    /// Client address as the edge saw it.
    pub ip: String,
}

/// The descriptive fields of a configuration (config.md §1.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Describe {
    /// `appName`; `None` keeps the stored one.
    pub app: Option<String>,
    /// `config_tags`; `None` keeps the stored ones, empty removes all.
    pub tags: Option<String>,
    /// `desc`; empty erases, as do the three below.
    pub description: String,
    /// `use`
    pub used_for: String,
    /// `effect`
    pub effect: String,
    /// `schema`
    pub schema: String,
    /// `encryptedDataKey`, empty when the content is not encrypted.
    pub encrypted_data_key: String,
}

/// The md5 that a compare-and-set publish expects (config.md §5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedMd5 {
    /// This digest.
    Digest(Md5),
    /// A text that is no digest: equals no stored md5.
    NeverEqual,
}

/// Whether the configuration must be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// Either way.
    #[default]
    Any,
    /// It must not be there. Level 3.
    New,
    /// It must be there. Level 3.
    Old,
}

/// Why somebody wrote, for the history. Level 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cause {
    /// A client or an administrator published or removed.
    #[default]
    Publish,
    /// Came with an imported archive.
    Import,
    /// A copy of another configuration.
    Clone,
    /// An old version was put back.
    Rollback {
        /// The history record that it came from.
        of: u64,
    },
}

impl Cause {
    pub(crate) const fn code(self) -> (u32, u64) {
        match self {
            Self::Publish => (0, 0),
            Self::Import => (1, 0),
            Self::Clone => (2, 0),
            Self::Rollback { of } => (3, of),
        }
    }

    pub(crate) const fn from_code(code: u32, of: u64) -> Result<Self, RecordError> {
        match code {
            0 => Ok(Self::Publish),
            1 => Ok(Self::Import),
            2 => Ok(Self::Clone),
            3 => Ok(Self::Rollback { of }),
            _ => Err(RecordError::Field("cause")),
        }
    }
}

/// Publishes one configuration: creates or replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Which one.
    pub key: GroupKey,
    /// UTF-8 bytes, at most [`crate::content::MAX_CONTENT_UNITS`] UTF-16 units.
    pub content: Bytes,
    /// Of `content`, computed before proposing.
    pub md5: Md5,
    /// Declared type.
    pub content_type: ContentType,
    /// Descriptive fields.
    pub describe: Describe,
    /// Who asked.
    pub writer: Writer,
    /// When set and the configuration exists, its md5 must be this one.
    pub expected: Option<ExpectedMd5>,
    /// Whether it must exist.
    pub presence: Presence,
    /// Why.
    pub cause: Cause,
}

/// Removes one configuration; removing what is not there succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    /// Which one.
    pub key: GroupKey,
    /// Who asked.
    pub writer: Writer,
    /// When set and the configuration exists, its md5 must be this one. Level 3.
    pub expected: Option<ExpectedMd5>,
    /// Whether it must exist.
    pub presence: Presence,
    /// Why.
    pub cause: Cause,
}

impl Remove {
    /// Removes it, whatever it is.
    #[must_use]
    pub const fn new(key: GroupKey, writer: Writer) -> Self {
        Self { key, writer, expected: None, presence: Presence::Any, cause: Cause::Publish }
    }
}

/// Publishes a gray release: creates or replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishGray {
    /// Of which configuration, which need not exist.
    pub key: GroupKey,
    /// For whom; the release's name follows from it.
    pub rule: Rule,
    /// As of [`Publish`].
    pub content: Bytes,
    /// Of `content`.
    pub md5: Md5,
    /// `appName`; `None` keeps the stored one.
    pub app: Option<String>,
    /// `encryptedDataKey`
    pub encrypted_data_key: String,
    /// Who asked.
    pub writer: Writer,
    /// When set and the release exists, its md5 must be this one.
    pub expected: Option<ExpectedMd5>,
}

/// Ends a gray release; ending what is not there succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveGray {
    /// Of which configuration.
    pub key: GroupKey,
    /// `beta` or `tag_…`.
    pub name: String,
    /// Who asked.
    pub writer: Writer,
}

/// Creates a namespace, or changes its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetNamespace {
    /// Which one.
    pub id: NamespaceId,
    /// `namespaceShowName`
    pub name: String,
    /// `namespaceDesc`
    pub description: String,
    /// Create: refused when there is one. Otherwise: nothing when there is none.
    pub is_new: bool,
}

/// Removes a namespace. Its configurations stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveNamespace {
    /// Which one.
    pub id: NamespaceId,
    /// Even if it holds configurations.
    pub force: bool,
}

/// Removes old history records, the oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimHistory {
    /// Those that were written before.
    pub before: LogTime,
    /// And those of a configuration beyond its newest so many; 0: none.
    pub versions: u32,
    /// At most so many in one go.
    pub limit: u32,
}

/// One part of an atomic change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "most are publishes")]
pub enum ChangeItem {
    /// Publish.
    Publish(Publish),
    /// Remove.
    Remove(Remove),
}

impl ChangeItem {
    /// Of which configuration.
    #[must_use]
    pub const fn key(&self) -> &GroupKey {
        match self {
            Self::Publish(publish) => &publish.key,
            Self::Remove(remove) => &remove.key,
        }
    }
}

/// A replicated write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Publish a configuration.
    Publish(Publish),
    /// Remove a configuration.
    Remove(Remove),
    /// Raise the cluster's feature level. Level 2.
    Raise {
        /// The new level; a lower one than there is changes nothing.
        level: u32,
    },
    /// Remember node ids that never take part again. Level 2.
    Retire {
        /// The ids.
        nodes: Vec<u64>,
    },
    /// Changes nothing: each replica remembers its state at this revision. Level 2.
    Checkpoint,
    /// Publish a gray release. Level 3.
    PublishGray(PublishGray),
    /// End a gray release. Level 3.
    RemoveGray(RemoveGray),
    /// Create or edit a namespace. Level 3.
    SetNamespace(SetNamespace),
    /// Remove a namespace. Level 3.
    RemoveNamespace(RemoveNamespace),
    /// Remove old history records. Level 3.
    TrimHistory(TrimHistory),
    /// Publish and remove several configurations, all or none. Level 3.
    Changes(Vec<ChangeItem>),
}

impl Command {
    /// The feature level from which on it may be proposed.
    #[must_use]
    pub fn level(&self) -> u32 {
        let of = |presence: Presence, cause: Cause| {
            if presence == Presence::Any && cause == Cause::Publish { 1 } else { 3 }
        };
        match self {
            Self::Publish(publish) => of(publish.presence, publish.cause),
            Self::Remove(remove) if remove.expected.is_some() => 3,
            Self::Remove(remove) => of(remove.presence, remove.cause),
            Self::Raise { .. } | Self::Retire { .. } | Self::Checkpoint => 2,
            Self::PublishGray(_)
            | Self::RemoveGray(_)
            | Self::SetNamespace(_)
            | Self::RemoveNamespace(_)
            | Self::TrimHistory(_)
            | Self::Changes(_) => 3,
        }
    }
}

/// Names one proposal for ever, so that apply recognises a repeat (raft-storage.md §6.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ProposalId {
    /// Id of the node that took the request.
    pub origin: u64,
    /// That node's start counter; grows with each start.
    pub nonce: u64,
    /// From 1 within one start. 0: not remembered, applied each time it is seen.
    pub sequence: u64,
    /// The lowest sequence that is still open at the origin: replies below are forgotten.
    pub floor: u64,
}

/// One log entry's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its name.
    pub id: ProposalId,
    /// The leader's stamp.
    pub time: LogTime,
    /// The write.
    pub command: Command,
}

/// How applying ended. Every outcome but `Done` and `Absent` left the state as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Outcome {
    /// Written.
    #[default]
    Done,
    /// Compare-and-set: the stored md5 is another one.
    CasMismatch,
    /// A sequence or nonce older than what its origin still has open: not applied.
    Superseded,
    /// Removed something that was not there, or was to change it.
    Absent,
    /// Was to create something that is there.
    Exists,
    /// The configuration has as many gray releases as it may.
    TooManyReleases,
    /// The namespace holds configurations, or there are as many namespaces as there may be.
    InUse,
}

/// What apply answers the proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Of the entry that was applied: for a repeat, of the first one.
    pub revision: Revision,
    /// Version of the datum after it, 0 when there is none. Of an atomic change that was refused:
    /// the number of the part that refused it, from 1. Of trimming: how many records went.
    pub version: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What one applied entry made different for listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The configuration.
    pub key: GroupKey,
    /// The formal md5 after the change, `None` when there is none.
    pub md5: Option<Md5>,
}

//! What is proposed, and what apply answers: one variant for each replicated write.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::content::{ContentType, Md5};
use crate::key::GroupKey;
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
}

/// Removes one configuration; removing what is not there succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    /// Which one.
    pub key: GroupKey,
    /// Who asked.
    pub writer: Writer,
}

/// A replicated write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one lives for a few lines, and most are publishes")]
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
    /// Removed something that was not there.
    Absent,
}

/// What apply answers the proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Of the entry that was applied: for a repeat, of the first one.
    pub revision: Revision,
    /// Version of the datum after it, 0 when there is none.
    pub version: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What one applied entry made different for listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The configuration.
    pub key: GroupKey,
    /// Its md5 after the change, `None` when it is gone.
    pub md5: Option<Md5>,
}

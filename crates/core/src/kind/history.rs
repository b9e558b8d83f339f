//! What was written before: one record for each publish and removal, from feature level 3 on.
//!
//! A record keeps what the reference's does (config.md §6.1): the new content of a creation, the
//! content *before* an update, the content that a removal took away. It refers to the datum itself,
//! which nothing copies. Records are bounded in apply, by [`MAX_VERSIONS`] for each configuration and
//! [`MAX_BYTES`] for all, and by age and a lower count in [`crate::command::TrimHistory`], which the
//! leader proposes now and then.

use std::sync::Arc;

use bytes::Bytes;

use super::config::ConfigDatum;
use super::gray::Gray;
use crate::command::{Cause, Writer};
use crate::content::Md5;
use crate::key::GroupKey;
use crate::record::{RecordError, exact, wire};
use crate::time::{LogTime, Revision};

/// Most records of one configuration, all its releases together. The oldest gives way.
pub const MAX_VERSIONS: usize = 100;
/// Most bytes of all records together, as [`History::weight`] counts. The oldest give way.
pub const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// What a record takes besides its content, about.
const OVERHEAD_BYTES: u64 = 512;
/// Records are kept from this feature level on.
pub const LEVEL: u32 = 3;

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `I`: created; the record has the new content.
    Insert,
    /// `U`: replaced; the record has the content before it.
    Update,
    /// `D`: removed; the record has what was there.
    Delete,
}

impl Operation {
    /// The reference's letter.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Insert => "I",
            Self::Update => "U",
            Self::Delete => "D",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::Insert => 0,
            Self::Update => 1,
            Self::Delete => 2,
        }
    }

    const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Insert),
            1 => Some(Self::Update),
            2 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// What a record keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The formal content with all its fields.
    Formal(ConfigDatum),
    /// A gray release.
    Gray(Arc<Gray>),
}

impl Kept {
    /// The content.
    #[must_use]
    pub fn content(&self) -> Bytes {
        match self {
            Self::Formal(datum) => datum.content(),
            Self::Gray(gray) => gray.content.clone(),
        }
    }

    /// Of the content.
    #[must_use]
    pub fn md5(&self) -> Md5 {
        match self {
            Self::Formal(datum) => datum.md5(),
            Self::Gray(gray) => gray.md5,
        }
    }

    /// Name of the gray release.
    #[must_use]
    pub fn gray_name(&self) -> Option<&str> {
        match self {
            Self::Formal(_) => None,
            Self::Gray(gray) => Some(&gray.name),
        }
    }
}

/// One record. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// From 1, one more for each record of the cluster: the reference's `nid`.
    pub id: u64,
    /// Of which configuration.
    pub key: GroupKey,
    /// What was done.
    pub operation: Operation,
    /// To what.
    pub kept: Kept,
    /// Who did it, and from where.
    pub writer: Writer,
    /// Why.
    pub cause: Cause,
    /// By which command: the records of one atomic change share it.
    pub revision: Revision,
    /// The leader's time of it.
    pub time: LogTime,
}

impl History {
    fn to_wire(&self) -> wire::HistoryRow {
        let (formal, gray) = match &self.kept {
            Kept::Formal(datum) => (Some(datum.to_wire()), None),
            Kept::Gray(kept) => (None, Some(kept.to_wire())),
        };
        let (cause, cause_of) = self.cause.code();
        wire::HistoryRow {
            id: self.id,
            key: self.key.as_str().to_owned(),
            operation: self.operation.code(),
            formal,
            gray,
            writer_user: self.writer.user.clone(),
            writer_ip: self.writer.ip.clone(),
            cause,
            cause_of,
            revision: self.revision.0,
            time_ms: self.time.0,
        }
    }

    /// What it counts against [`MAX_BYTES`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        let content = match &self.kept {
            Kept::Formal(datum) => datum.content_bytes(),
            Kept::Gray(gray) => gray.content.len(),
        };
        content as u64 + OVERHEAD_BYTES
    }

    /// Its share of the state hash. For what it keeps stand md5, version and the revision that wrote
    /// it: the hash covered all of it while it was in force.
    pub(crate) fn digest(&self) -> u128 {
        let Self { id, key, operation, kept, writer, cause, revision, time } = self;
        let (written, version) = match kept {
            Kept::Formal(datum) => (datum.modify_revision(), datum.version()),
            Kept::Gray(gray) => (gray.modify_revision, gray.version),
        };
        let (cause, cause_of) = cause.code();
        let mut text = Vec::with_capacity(256);
        for part in [key.as_str(), &writer.user, &writer.ip, kept.gray_name().unwrap_or_default()] {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        text.extend_from_slice(&kept.md5().0);
        for number in [operation.code(), cause] {
            text.extend_from_slice(&number.to_be_bytes());
        }
        for number in [*id, cause_of, revision.0, time.0, written.0, version] {
            text.extend_from_slice(&number.to_be_bytes());
        }
        u128::from_be_bytes(Md5::of(&text).0)
    }
}

/// The row that keeps a record.
pub(crate) fn row(history: &History) -> Bytes {
    exact(&wire::Row { row: Some(wire::row::Row::History(history.to_wire())) })
}

/// Reads the record of a row.
pub(crate) fn from_row(row: wire::HistoryRow) -> Result<History, RecordError> {
    let kept = match (row.formal, row.gray) {
        (Some(datum), None) => Kept::Formal(ConfigDatum::from_wire(datum)?),
        (None, Some(gray)) => Kept::Gray(Arc::new(Gray::from_wire(gray)?)),
        _ => return Err(RecordError::Field("kept")),
    };
    Ok(History {
        id: row.id,
        key: GroupKey::from_record(&row.key)?,
        operation: Operation::from_code(row.operation).ok_or(RecordError::Field("operation"))?,
        kept,
        writer: Writer { user: row.writer_user, ip: row.writer_ip },
        cause: Cause::from_code(row.cause, row.cause_of)?,
        revision: Revision(row.revision),
        time: LogTime(row.time_ms),
    })
}

//! Namespaces as somebody made them (config.md §6.4). A configuration needs none to be there: a
//! namespace is a name and a description.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::SetNamespace;
use crate::content::Md5;
use crate::key::NamespaceId;
use crate::record::{RecordError, exact, wire};
use crate::time::{LogTime, Revision};

/// Most namespaces.
pub const MAX_NAMESPACES: usize = 10_000;

/// A namespace. Immutable: a change replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its id.
    pub id: NamespaceId,
    /// `namespaceShowName`
    pub name: Box<str>,
    /// `namespaceDesc`
    pub description: Box<str>,
    /// Revision that created it.
    pub create_revision: Revision,
    /// Revision that wrote it last.
    pub modify_revision: Revision,
    /// The leader's time of the last write.
    pub modified: LogTime,
}

impl Namespace {
    /// What a command makes of the namespace that was there before it.
    pub(crate) fn next(
        before: Option<&Self>,
        set: &SetNamespace,
        revision: Revision,
        time: LogTime,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: set.id.clone(),
            name: set.name.as_str().into(),
            description: set.description.as_str().into(),
            create_revision: before.map_or(revision, |before| before.create_revision),
            modify_revision: revision,
            modified: time,
        })
    }

    /// Its share of the state hash.
    pub(crate) fn digest(&self) -> u128 {
        u128::from_be_bytes(Md5::of(&row(self)).0)
    }
}

/// The row that keeps a namespace.
pub(crate) fn row(namespace: &Namespace) -> Bytes {
    let Namespace { id, name, description, create_revision, modify_revision, modified } = namespace;
    exact(&wire::Row {
        row: Some(wire::row::Row::Namespace(wire::NamespaceRow {
            id: id.as_str().to_owned(),
            name: name.to_string(),
            description: description.to_string(),
            create_revision: create_revision.0,
            modify_revision: modify_revision.0,
            modified_ms: modified.0,
        })),
    })
}

/// Reads the namespace of a row.
pub(crate) fn from_row(row: wire::NamespaceRow) -> Result<Namespace, RecordError> {
    Ok(Namespace {
        id: NamespaceId::parse(&row.id)?,
        name: row.name.into_boxed_str(),
        description: row.description.into_boxed_str(),
        create_revision: Revision(row.create_revision),
        modify_revision: Revision(row.modify_revision),
        modified: LogTime(row.modified_ms),
    })
}

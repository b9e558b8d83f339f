//! Namespaces: names for them. A configuration needs none (config.md §6.4).

use std::collections::BTreeMap;

use quorate_core::command::{Command, RemoveNamespace, Reply, SetNamespace};
use quorate_core::key::{NamespaceId, PUBLIC_NAMESPACE};
use quorate_core::store::State;
use quorate_raft::node::Node;
use tokio::time::Instant;

use super::config::propose;
use crate::failure::{Failure, Subject};

/// A namespace as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    /// Formal configurations in it.
    pub(crate) configs: usize,
}

impl Listed {
    pub(crate) fn is_public(&self) -> bool {
        self.id == PUBLIC_NAMESPACE
    }
}

fn counts(state: &State) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (key, _) in state.configs() {
        match counts.get_mut(key.namespace()) {
            Some(count) => *count += 1,
            None => drop(counts.insert(key.namespace().to_owned(), 1)),
        }
    }
    counts
}

/// The public one, then those that were made, by id.
pub(crate) fn list(state: &State) -> Vec<Listed> {
    let counts = counts(state);
    let count = |id: &str| counts.get(id).copied().unwrap_or_default();
    let public = Listed {
        id: PUBLIC_NAMESPACE.to_owned(),
        name: PUBLIC_NAMESPACE.to_owned(),
        description: "Default Namespace".to_owned(),
        configs: count(PUBLIC_NAMESPACE),
    };
    let made = state.namespaces().map(|namespace| Listed {
        id: namespace.id.as_str().to_owned(),
        name: namespace.name.to_string(),
        description: namespace.description.to_string(),
        configs: count(namespace.id.as_str()),
    });
    std::iter::once(public).chain(made).collect()
}

/// Whether it is the public one or was made.
pub(crate) fn exists(node: &Node, id: &NamespaceId) -> bool {
    id.as_str() == PUBLIC_NAMESPACE || node.store().freeze().namespace(id).is_some()
}

/// Makes a namespace.
///
/// # Errors
/// [`Failure::Exists`] when there is one; others.
pub(crate) async fn create(
    node: &Node,
    id: NamespaceId,
    name: String,
    description: String,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let set = SetNamespace { id: id.clone(), name, description, is_new: true };
    propose(node, Subject::Namespace(id), Command::SetNamespace(set), deadline).await
}

/// Changes the texts of a namespace.
///
/// # Errors
/// [`Failure::Absent`] when there is none; others.
pub(crate) async fn edit(
    node: &Node,
    id: NamespaceId,
    name: String,
    description: String,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let set = SetNamespace { id: id.clone(), name, description, is_new: false };
    propose(node, Subject::Namespace(id), Command::SetNamespace(set), deadline).await
}

/// Removes a namespace; what is in it stays and can be read.
///
/// # Errors
/// [`Failure::InUse`] when it holds configurations and this is not forced; [`Failure::Absent`];
/// others.
pub(crate) async fn remove(
    node: &Node,
    id: NamespaceId,
    force: bool,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let remove = RemoveNamespace { id: id.clone(), force };
    propose(node, Subject::Namespace(id), Command::RemoveNamespace(remove), deadline).await
}

//! Several configurations changed at once, all or none, and such a change undone.

use quorate_core::command::{
    Cause, ChangeItem, Command, Describe, ExpectedMd5, Presence, Publish, Remove, Reply, Writer,
};
use quorate_core::content::Md5;
use quorate_core::kind::config::ConfigDatum;
use quorate_core::kind::history::{History, Kept, Operation};
use quorate_core::time::Revision;
use quorate_raft::node::Node;
use tokio::time::Instant;

use super::config::propose;
use super::listeners::{Awaited, Reached, Wait};
use super::validation;
use crate::failure::{Failure, Subject};

/// Most parts of one change: it is applied in one go.
pub(crate) const MAX_PARTS: usize = 1000;

/// Makes all changes under one revision, or none.
///
/// # Errors
/// [`Failure`]; where one part refuses, its number from 1.
pub(crate) async fn change(
    node: &Node,
    items: Vec<ChangeItem>,
    deadline: Instant,
) -> Result<Reply, Failure> {
    for (part, item) in (1..).zip(&items) {
        if let ChangeItem::Publish(publish) = item {
            let Publish { key, content_type, content, .. } = publish;
            match validation::check(node, key, *content_type, content).await {
                Err(Failure::Invalid { text, .. }) => return Err(Failure::Invalid { part, text }),
                checked => checked?,
            }
        }
    }
    let subject = Subject::Changes(items.len());
    propose(node, subject, Command::Changes(items), deadline).await
}

/// Makes all changes, and waits for the listeners of all their keys when that is wished.
///
/// # Errors
/// As [`change`].
pub(crate) async fn change_and_wait(
    node: &Node,
    items: Vec<ChangeItem>,
    wait: Option<Wait>,
    deadline: Instant,
) -> Result<(Reply, Option<Reached>), Failure> {
    let Some(Wait { share, at_most }) = wait else {
        return Ok((change(node, items, deadline).await?, None));
    };
    let keys = items.iter().map(|item| item.key().clone()).collect();
    let awaited = Awaited::begin(node, keys, share, deadline).await;
    let reply = change(node, items, deadline).await?;
    Ok((reply, Some(awaited.wait(node, Instant::now() + at_most).await)))
}

/// What is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    /// All that one command changed.
    Revision(Revision),
    /// What one history record tells of.
    Record(u64),
}

/// Puts back what was there before, under one revision.
///
/// Unless `force`, a configuration that somebody wrote since is not overwritten: the whole is
/// refused with [`Failure::CasMismatch`].
///
/// # Errors
/// [`Failure::Absent`] when no history is kept of it, or only of gray releases; others.
pub(crate) async fn undo(
    node: &Node,
    undo: Undo,
    force: bool,
    writer: &Writer,
    deadline: Instant,
) -> Result<(Reply, usize), Failure> {
    let state = node.store().freeze();
    let records: Vec<&History> = match undo {
        Undo::Record(id) => state.history(id).map(AsRef::as_ref).into_iter().collect(),
        Undo::Revision(revision) => {
            // Ids and revisions grow together: the newest ones are looked at first.
            let newest = state.all_history().rev().skip_while(|it| it.revision > revision);
            newest.take_while(|it| it.revision == revision).map(AsRef::as_ref).collect()
        }
    };
    let mut items = Vec::new();
    for record in records {
        let Kept::Formal(kept) = &record.kept else { continue };
        let now = state.config(&record.key);
        // Written by this command and by none since.
        let is_as_left = match record.operation {
            Operation::Delete => now.is_none(),
            Operation::Insert | Operation::Update => {
                now.is_some_and(|now| now.modify_revision() == record.revision)
            }
        };
        if !force && !is_as_left {
            let part = u64::try_from(items.len() + 1).unwrap_or(u64::MAX);
            return Err(Failure::CasMismatch { part });
        }
        items.push(inverse(record, kept, now.filter(|_| !force), force, writer));
    }
    if items.is_empty() {
        return Err(Failure::Absent { part: 0, revision: node.store().revision() });
    }
    let count = items.len();
    drop(state);
    Ok((change(node, items, deadline).await?, count))
}

/// The part that undoes a record, upon what is there now.
fn inverse(
    record: &History,
    kept: &ConfigDatum,
    now: Option<&ConfigDatum>,
    force: bool,
    writer: &Writer,
) -> ChangeItem {
    let cause = Cause::Rollback { of: record.id };
    let (key, writer) = (record.key.clone(), writer.clone());
    // Between looking and writing somebody may write: then the whole is refused.
    let expected = now.map(|now| ExpectedMd5::Digest(now.md5()));
    if record.operation == Operation::Insert {
        return ChangeItem::Remove(Remove {
            key,
            writer,
            expected,
            presence: Presence::Any,
            cause,
        });
    }
    let presence = match record.operation {
        Operation::Delete if !force => Presence::New,
        Operation::Insert | Operation::Update | Operation::Delete => Presence::Any,
    };
    let detail = kept.detail();
    let content = kept.content();
    ChangeItem::Publish(Publish {
        key,
        md5: Md5::of(&content),
        content,
        content_type: kept.content_type(),
        describe: Describe {
            app: Some(detail.app),
            tags: Some(detail.tags),
            description: detail.description,
            used_for: detail.used_for,
            effect: detail.effect,
            schema: detail.schema,
            encrypted_data_key: detail.encrypted_data_key,
        },
        writer,
        expected,
        presence,
        cause,
    })
}

//! Publish, get and remove one configuration.

use bytes::Bytes;
use quorate_core::command::{
    Cause, Command, Describe, ExpectedMd5, Outcome, Presence, Publish, PublishGray, Remove,
    RemoveGray, Reply, Writer,
};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::{Labels, Rule};
use quorate_core::store::Seen;
use quorate_core::time::Revision;
use quorate_raft::node::Node;
use tokio::time::Instant;

use super::listeners::{Awaited, Reached, Wait};
use super::validation;
use crate::failure::{Failure, Subject};

/// How new the state that answers a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Freshness {
    /// Whatever this node has applied.
    #[default]
    Local,
    /// Every write that was acknowledged anywhere before the read.
    Linearizable,
    /// At least this revision.
    AtLeast(Revision),
    /// Both of the above.
    LinearizableAtLeast(Revision),
}

/// Waits until this node may answer.
///
/// # Errors
/// [`Failure::Read`] when it may not by the deadline.
pub(crate) async fn await_freshness(
    node: &Node,
    freshness: Freshness,
    deadline: Instant,
) -> Result<(), Failure> {
    let (linearizable, at_least) = match freshness {
        Freshness::Local => (false, None),
        Freshness::Linearizable => (true, None),
        Freshness::AtLeast(revision) => (false, Some(revision)),
        Freshness::LinearizableAtLeast(revision) => (true, Some(revision)),
    };
    if linearizable {
        node.read_barrier(deadline).await.map_err(Failure::Read)?;
    }
    if let Some(revision) = at_least {
        node.wait_revision(revision, deadline).await.map_err(Failure::Read)?;
    }
    Ok(())
}

/// What a client sees of a configuration, and the revision it was read at. An explicit tag never
/// falls back to the formal content (config.md §2.1.2).
pub(crate) fn get(
    node: &Node,
    key: &GroupKey,
    labels: &Labels,
    is_explicit: bool,
) -> (Option<Seen>, Revision) {
    let (seen, revision) = node.store().seen(key, labels);
    (seen.filter(|seen| !is_explicit || matches!(seen, Seen::Gray(..))), revision)
}

/// A publish whose key and content were checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PublishRequest {
    /// Which configuration.
    pub(crate) key: GroupKey,
    /// In an allocation of its own and of its size: it goes into the log and the store.
    pub(crate) content: Bytes,
    /// Of `content`.
    pub(crate) md5: Md5,
    /// Declared type.
    pub(crate) content_type: ContentType,
    /// Descriptive fields; their limits are checked by [`publish`].
    pub(crate) describe: Describe,
    /// Who asked.
    pub(crate) writer: Writer,
    /// For compare-and-set.
    pub(crate) expected: Option<ExpectedMd5>,
    /// For whom: everybody, or the clients inside a rule.
    pub(crate) rule: Option<Rule>,
    /// Whether it must exist.
    pub(crate) presence: Presence,
    /// Why.
    pub(crate) cause: Cause,
}

impl PublishRequest {
    /// What is proposed.
    pub(crate) fn into_command(self) -> Command {
        let PublishRequest {
            key,
            content,
            md5,
            content_type,
            describe,
            writer,
            expected,
            rule,
            presence,
            cause,
        } = self;
        if let Some(rule) = rule {
            let Describe { app, encrypted_data_key, .. } = describe;
            Command::PublishGray(PublishGray {
                key,
                rule,
                content,
                md5,
                app,
                encrypted_data_key,
                writer,
                expected,
            })
        } else {
            Command::Publish(Publish {
                key,
                content,
                md5,
                content_type,
                describe,
                writer,
                expected,
                presence,
                cause,
            })
        }
    }
}

/// The rule of a publish that names addresses, which go first, or a tag.
pub(crate) fn rule(beta_ips: Option<&str>, tag: Option<&str>) -> Option<Rule> {
    let filled = |text: Option<&str>| text.filter(|text| !text.trim().is_empty()).map(Box::from);
    let beta = filled(beta_ips).map(Rule::Beta);
    beta.or_else(|| filled(tag).map(|tag: Box<str>| Rule::Tag(tag.trim().into())))
}

/// Publishes and answers after a majority has it and this node has applied it.
///
/// # Errors
/// [`Failure`] says whether anything may have been written.
pub(crate) async fn publish(
    node: &Node,
    request: PublishRequest,
    deadline: Instant,
) -> Result<Reply, Failure> {
    check(node, &request).await?;
    let key = request.key.clone();
    propose(node, Subject::Config(key), request.into_command(), deadline).await
}

/// Publishes, and waits for the key's listeners when that is wished. That some did not hear of it
/// in time is no failure.
///
/// # Errors
/// As [`publish`].
pub(crate) async fn publish_and_wait(
    node: &Node,
    request: PublishRequest,
    wait: Option<Wait>,
    deadline: Instant,
) -> Result<(Reply, Option<Reached>), Failure> {
    let Some(Wait { share, at_most }) = wait else {
        return Ok((publish(node, request, deadline).await?, None));
    };
    let awaited = Awaited::begin(node, vec![request.key.clone()], share, deadline).await;
    let reply = publish(node, request, deadline).await?;
    Ok((reply, Some(awaited.wait(node, Instant::now() + at_most).await)))
}

/// The checks before a publish is proposed: its fields, and what its namespace demands.
///
/// # Errors
/// Those of [`check_fields`] and [`validation::check`].
pub(crate) async fn check(node: &Node, request: &PublishRequest) -> Result<(), Failure> {
    check_fields(&request.describe, &request.writer)?;
    // A release has no type of its own: its content is of the formal one's.
    let formal = request.rule.as_ref().and_then(|_| node.store().config(&request.key).0);
    let kind = formal.map_or(request.content_type, |formal| formal.content_type());
    validation::check(node, &request.key, kind, &request.content).await
}

/// Ends a gray release; one that is not there has ended already.
///
/// # Errors
/// [`Failure`] says whether anything may have been written.
pub(crate) async fn end_release(
    node: &Node,
    key: GroupKey,
    name: String,
    writer: Writer,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let revision = node.store().revision();
    if node.store().standing(&key).releases.is_none_or(|held| held.named(&name).is_none()) {
        return Ok(Reply { revision, version: 0, outcome: Outcome::Absent });
    }
    let command = Command::RemoveGray(RemoveGray { key: key.clone(), name, writer });
    absent_is_done(propose(node, Subject::Config(key), command, deadline).await, revision)
}

/// Removes; what is not there is removed already.
///
/// # Errors
/// [`Failure`] says whether anything may have been written.
pub(crate) async fn remove(
    node: &Node,
    key: GroupKey,
    writer: Writer,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let revision = node.store().revision();
    let command = Command::Remove(Remove::new(key.clone(), writer));
    absent_is_done(propose(node, Subject::Config(key), command, deadline).await, revision)
}

fn absent_is_done(ended: Result<Reply, Failure>, before: Revision) -> Result<Reply, Failure> {
    match ended {
        Err(Failure::Absent { revision, .. }) => {
            let revision = revision.max(before);
            Ok(Reply { revision, version: 0, outcome: Outcome::Absent })
        }
        ended => ended,
    }
}

/// Proposes a command, if the cluster can apply it, and tells its refusals from its success.
///
/// # Errors
/// [`Failure`] says whether anything may have been written.
pub(crate) async fn propose(
    node: &Node,
    subject: Subject,
    command: Command,
    deadline: Instant,
) -> Result<Reply, Failure> {
    check_level(node, &command, deadline).await?;
    match node.propose(command, deadline).await {
        Ok(reply) => done(reply, subject),
        Err(cause) => Err(Failure::Propose { subject, cause }),
    }
}

/// Waits until the cluster can apply a command, if it comes to that.
///
/// # Errors
/// [`Failure::FeatureLevel`]: some member cannot.
pub(crate) async fn check_level(
    node: &Node,
    command: &Command,
    deadline: Instant,
) -> Result<(), Failure> {
    let wanted = command.level();
    if node.reach_level(wanted, deadline).await {
        return Ok(());
    }
    Err(Failure::FeatureLevel { wanted, has: node.feature_level() })
}

/// A reply that says that it was done.
///
/// # Errors
/// What it says instead.
pub(crate) fn done(reply: Reply, subject: Subject) -> Result<Reply, Failure> {
    match reply.outcome {
        Outcome::Done => Ok(reply),
        Outcome::Absent => Err(Failure::Absent { part: reply.version, revision: reply.revision }),
        Outcome::CasMismatch => Err(Failure::CasMismatch { part: reply.version }),
        Outcome::Exists => Err(Failure::Exists { part: reply.version }),
        Outcome::TooManyReleases => Err(Failure::TooManyReleases),
        Outcome::InUse => Err(Failure::InUse),
        Outcome::Superseded => Err(Failure::Superseded { subject }),
    }
}

/// The limits of the descriptive fields (config.md §1.2), in UTF-16 units. The last three have
/// none in the reference but the width of their columns.
///
/// # Errors
/// [`Failure::FieldTooLong`], [`Failure::FieldDoesNotFit`].
pub(crate) fn check_fields(describe: &Describe, writer: &Writer) -> Result<(), Failure> {
    const TAGS: usize = 5;
    let Describe { app, tags, description, used_for, effect, schema, encrypted_data_key } =
        describe;
    let longer =
        |text: &str, limit: usize| text.len() > limit && text.encode_utf16().nth(limit).is_some();
    // Empty pieces at the end do not count.
    let tags = || tags.as_deref().unwrap_or_default().trim_end_matches(',').split(',');
    let described = tags().count() <= TAGS
        && tags().all(|tag| !longer(tag, 64))
        && !longer(description, 128)
        && !longer(used_for, 32)
        && !longer(effect, 32)
        && !longer(schema, 32_768);
    if !described {
        return Err(Failure::FieldTooLong);
    }
    let fits = !longer(app.as_deref().unwrap_or_default(), 128)
        && !longer(&writer.user, 128)
        && !longer(encrypted_data_key, 1024);
    if fits { Ok(()) } else { Err(Failure::FieldDoesNotFit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_descriptive_fields() {
        let with = |change: fn(&mut Describe, String), length: usize| {
            let mut describe = Describe::default();
            change(&mut describe, "x".repeat(length));
            check_fields(&describe, &Writer::default())
                .err()
                .map(|failure| failure.status().as_u16())
        };
        type Change = fn(&mut Describe, String);
        let fields: [(Change, usize, u16); 7] = [
            (|it, text| it.tags = Some(text), 64, 400),
            (|it, text| it.description = text, 128, 400),
            (|it, text| it.used_for = text, 32, 400),
            (|it, text| it.effect = text, 32, 400),
            (|it, text| it.schema = text, 32_768, 400),
            (|it, text| it.app = Some(text), 128, 500),
            (|it, text| it.encrypted_data_key = text, 1024, 500),
        ];
        for (change, limit, status) in fields {
            assert_eq!((with(change, limit), with(change, limit + 1)), (None, Some(status)));
        }
        for (tags, refused) in [("a,b,c,d,e", false), ("a,b,c,d,e,,", false), ("a,b,c,d,e,f", true)]
        {
            let describe = Describe { tags: Some(tags.to_owned()), ..Describe::default() };
            assert_eq!(check_fields(&describe, &Writer::default()).is_err(), refused, "{tags}");
        }
    }
}

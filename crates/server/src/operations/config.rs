//! Publish, get and remove one configuration.

use bytes::Bytes;
use quorate_core::command::{
    Command, Describe, ExpectedMd5, Outcome, Publish, Remove, Reply, Writer,
};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::kind::config::ConfigDatum;
use quorate_core::time::Revision;
use quorate_raft::node::Node;
use tokio::time::Instant;

use crate::failure::Failure;

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

/// The configuration, if there is one, and the revision it was read at.
pub(crate) fn get(node: &Node, key: &GroupKey) -> (Option<ConfigDatum>, Revision) {
    node.store().config(key)
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
    /// Which release of it.
    pub(crate) release: Release,
}

/// Which release of a configuration a publish is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// What everybody gets.
    Formal,
    /// What some clients get: for a list of addresses, or for a tag.
    Gray,
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
    check(&request.describe, &request.writer)?;
    let PublishRequest { key, content, md5, content_type, describe, writer, expected, release } =
        request;
    if release == Release::Gray {
        return Err(Failure::GrayRelease);
    }
    let publish =
        Publish { key: key.clone(), content, md5, content_type, describe, writer, expected };
    propose(node, key, Command::Publish(publish), deadline).await
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
    let remove = Remove { key: key.clone(), writer };
    propose(node, key, Command::Remove(remove), deadline).await
}

async fn propose(
    node: &Node,
    key: GroupKey,
    command: Command,
    deadline: Instant,
) -> Result<Reply, Failure> {
    let reply = match node.propose(command, deadline).await {
        Ok(reply) => reply,
        Err(cause) => return Err(Failure::Propose { key, cause }),
    };
    match reply.outcome {
        Outcome::Done | Outcome::Absent => Ok(reply),
        Outcome::CasMismatch => Err(Failure::CasMismatch),
        Outcome::Superseded => Err(Failure::Superseded { key }),
    }
}

/// The limits of the descriptive fields (config.md §1.2), in UTF-16 units. The last three have
/// none in the reference but the width of their columns.
fn check(describe: &Describe, writer: &Writer) -> Result<(), Failure> {
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
            check(&describe, &Writer::default()).err().map(|failure| failure.status().as_u16())
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
            assert_eq!(check(&describe, &Writer::default()).is_err(), refused, "{tags}");
        }
    }
}

//! Commands and values as bytes: `proto/record.proto` on one side, the crate's types on the other.
//!
//! Decoding accepts whatever an older release wrote and refuses what it does not know.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::command::{
    Cause, ChangeItem, Command, Describe, ExpectedMd5, Outcome, Presence, Proposal, ProposalId,
    Publish, PublishGray, Remove, RemoveGray, RemoveNamespace, Reply, SetNamespace, TrimHistory,
    Writer,
};
use crate::content::{ContentType, Md5};
use crate::key::{GroupKey, InvalidKey, NamespaceId};
use crate::kind::gray::{Rule, rule_from_wire};
use crate::time::{LogTime, Revision};

/// The generated messages.
#[expect(unreachable_pub, clippy::large_enum_variant, reason = "generated")]
pub(crate) mod wire {
    include!(concat!(env!("OUT_DIR"), "/quorate.record.rs"));
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not protobuf, or not ours.
    #[error("record does not decode")]
    Malformed(#[from] prost::DecodeError),
    /// A kind of command or row that this release does not know.
    #[error("record of an unknown kind: written by a newer release")]
    UnknownKind,
    /// A field has a length or value it cannot have.
    #[error("record field {0} is malformed")]
    Field(&'static str),
    /// A key that no edge lets in.
    #[error("record key is malformed")]
    Key(#[from] InvalidKey),
}

/// A command without its proposal's head: what a proposer encodes and a follower forwards.
#[must_use]
pub fn encode_command(command: &Command) -> Bytes {
    use wire::proposal::Command as Wire;
    let body = match command {
        Command::Publish(publish) => Wire::PublishConfig(publish_to_wire(publish)),
        Command::Remove(remove) => Wire::RemoveConfig(remove_to_wire(remove)),
        Command::Raise { level } => Wire::RaiseLevel(wire::RaiseLevel { level: *level }),
        Command::Retire { nodes } => Wire::RetireNodes(wire::RetireNodes { nodes: nodes.clone() }),
        Command::Checkpoint => Wire::Checkpoint(wire::Checkpoint {}),
        Command::PublishGray(publish) => Wire::PublishGray(gray_to_wire(publish)),
        Command::RemoveGray(remove) => Wire::RemoveGray(wire::RemoveGray {
            key: remove.key.as_str().to_owned(),
            name: remove.name.clone(),
            writer_user: remove.writer.user.clone(),
            writer_ip: remove.writer.ip.clone(),
        }),
        Command::SetNamespace(set) => Wire::SetNamespace(wire::SetNamespace {
            id: set.id.as_str().to_owned(),
            name: set.name.clone(),
            description: set.description.clone(),
            mode: u32::from(!set.is_new),
        }),
        Command::RemoveNamespace(remove) => Wire::RemoveNamespace(wire::RemoveNamespace {
            id: remove.id.as_str().to_owned(),
            force: remove.force,
        }),
        Command::TrimHistory(trim) => Wire::TrimHistory(wire::TrimHistory {
            before_ms: trim.before.0,
            versions: trim.versions,
            limit: trim.limit,
        }),
        Command::Changes(items) => {
            Wire::Changes(wire::Changes { items: items.iter().map(item_to_wire).collect() })
        }
    };
    exact(&wire::Proposal { command: Some(body), ..wire::Proposal::default() })
}

/// Puts the head in front of an encoded command: the payload of a log entry, in one allocation of
/// its exact size.
#[must_use]
pub fn seal(id: ProposalId, time: LogTime, command: &[u8]) -> Bytes {
    let ProposalId { origin, nonce, sequence, floor } = id;
    let head = wire::Proposal { origin, nonce, sequence, floor, time_ms: time.0, command: None };
    let mut buffer = BytesMut::with_capacity(head.encoded_len() + command.len());
    head.encode_raw(&mut buffer);
    buffer.put_slice(command);
    buffer.freeze()
}

/// Reads a log entry's payload. The content is a slice of `bytes`, not a copy.
///
/// # Errors
/// [`RecordError`] when this release cannot apply it.
pub fn decode_proposal(bytes: Bytes) -> Result<Proposal, RecordError> {
    let wire::Proposal { origin, nonce, sequence, floor, time_ms, command } =
        wire::Proposal::decode(bytes)?;
    let command = command_from_wire(command.ok_or(RecordError::UnknownKind)?)?;
    let id = ProposalId { origin, nonce, sequence, floor };
    Ok(Proposal { id, time: LogTime(time_ms), command })
}

fn command_from_wire(command: wire::proposal::Command) -> Result<Command, RecordError> {
    use wire::proposal::Command as Wire;
    Ok(match command {
        Wire::PublishConfig(publish) => Command::Publish(publish_from_wire(publish)?),
        Wire::RemoveConfig(remove) => Command::Remove(remove_from_wire(remove)?),
        Wire::RaiseLevel(raise) => Command::Raise { level: raise.level },
        Wire::RetireNodes(retire) => Command::Retire { nodes: retire.nodes },
        Wire::Checkpoint(wire::Checkpoint {}) => Command::Checkpoint,
        Wire::PublishGray(publish) => Command::PublishGray(gray_from_wire(publish)?),
        Wire::RemoveGray(remove) => Command::RemoveGray(RemoveGray {
            key: GroupKey::from_record(&remove.key)?,
            name: remove.name,
            writer: Writer { user: remove.writer_user, ip: remove.writer_ip },
        }),
        Wire::SetNamespace(set) => Command::SetNamespace(SetNamespace {
            id: NamespaceId::parse(&set.id)?,
            name: set.name,
            description: set.description,
            is_new: set.mode == 0,
        }),
        Wire::RemoveNamespace(remove) => Command::RemoveNamespace(RemoveNamespace {
            id: NamespaceId::parse(&remove.id)?,
            force: remove.force,
        }),
        Wire::TrimHistory(trim) => Command::TrimHistory(TrimHistory {
            before: LogTime(trim.before_ms),
            versions: trim.versions,
            limit: trim.limit,
        }),
        Wire::Changes(changes) => {
            let items = changes.items.into_iter().map(item_from_wire);
            Command::Changes(items.collect::<Result<_, _>>()?)
        }
    })
}

fn item_to_wire(item: &ChangeItem) -> wire::ChangeItem {
    use wire::change_item::Item;
    let item = match item {
        ChangeItem::Publish(publish) => Item::Publish(publish_to_wire(publish)),
        ChangeItem::Remove(remove) => Item::Remove(remove_to_wire(remove)),
    };
    wire::ChangeItem { item: Some(item) }
}

fn item_from_wire(item: wire::ChangeItem) -> Result<ChangeItem, RecordError> {
    use wire::change_item::Item;
    Ok(match item.item.ok_or(RecordError::UnknownKind)? {
        Item::Publish(publish) => ChangeItem::Publish(publish_from_wire(publish)?),
        Item::Remove(remove) => ChangeItem::Remove(remove_from_wire(remove)?),
    })
}

fn expected_to_wire(expected: Option<ExpectedMd5>) -> Option<Bytes> {
    expected.map(|expected| match expected {
        ExpectedMd5::Digest(md5) => Bytes::copy_from_slice(&md5.0),
        ExpectedMd5::NeverEqual => Bytes::new(),
    })
}

fn expected_from_wire(expected: Option<Bytes>) -> Option<ExpectedMd5> {
    expected
        .map(|digest| md5_from_wire(&digest).map_or(ExpectedMd5::NeverEqual, ExpectedMd5::Digest))
}

const fn presence(only_new: bool, only_old: bool) -> Presence {
    match (only_new, only_old) {
        (true, _) => Presence::New,
        (false, true) => Presence::Old,
        (false, false) => Presence::Any,
    }
}

fn remove_to_wire(remove: &Remove) -> wire::RemoveConfig {
    let Remove { key, writer, expected, presence, cause } = remove;
    let (cause, cause_of) = cause.code();
    wire::RemoveConfig {
        key: key.as_str().to_owned(),
        writer_user: writer.user.clone(),
        writer_ip: writer.ip.clone(),
        expected_md5: expected_to_wire(*expected),
        only_old: *presence == Presence::Old,
        cause,
        cause_of,
    }
}

fn remove_from_wire(remove: wire::RemoveConfig) -> Result<Remove, RecordError> {
    Ok(Remove {
        key: GroupKey::from_record(&remove.key)?,
        writer: Writer { user: remove.writer_user, ip: remove.writer_ip },
        expected: expected_from_wire(remove.expected_md5),
        presence: presence(false, remove.only_old),
        cause: Cause::from_code(remove.cause, remove.cause_of)?,
    })
}

fn gray_to_wire(publish: &PublishGray) -> wire::PublishGray {
    let PublishGray { key, rule, content, md5, app, encrypted_data_key, writer, expected } =
        publish;
    wire::PublishGray {
        key: key.as_str().to_owned(),
        rule_kind: match rule {
            Rule::Beta(_) => 0,
            Rule::Tag(_) => 1,
        },
        expression: rule.expression().to_owned(),
        content: content.clone(),
        md5: Bytes::copy_from_slice(&md5.0),
        app: app.clone(),
        encrypted_data_key: encrypted_data_key.clone(),
        writer_user: writer.user.clone(),
        writer_ip: writer.ip.clone(),
        expected_md5: expected_to_wire(*expected),
    }
}

fn gray_from_wire(publish: wire::PublishGray) -> Result<PublishGray, RecordError> {
    Ok(PublishGray {
        key: GroupKey::from_record(&publish.key)?,
        rule: rule_from_wire(publish.rule_kind, publish.expression.into_boxed_str())?,
        // A slice would keep the whole entry alive.
        content: Bytes::copy_from_slice(&publish.content),
        md5: md5_from_wire(&publish.md5)?,
        app: publish.app,
        encrypted_data_key: publish.encrypted_data_key,
        writer: Writer { user: publish.writer_user, ip: publish.writer_ip },
        expected: expected_from_wire(publish.expected_md5),
    })
}

fn publish_to_wire(publish: &Publish) -> wire::PublishConfig {
    let Publish { key, content, md5, content_type, describe, writer, expected, presence, cause } =
        publish;
    let (cause, cause_of) = cause.code();
    let Describe { app, tags, description, used_for, effect, schema, encrypted_data_key } =
        describe.clone();
    wire::PublishConfig {
        key: key.as_str().to_owned(),
        content: content.clone(),
        md5: Bytes::copy_from_slice(&md5.0),
        content_type: u32::from(content_type.code()),
        app,
        tags,
        description,
        r#use: used_for,
        effect,
        schema,
        encrypted_data_key,
        writer_user: writer.user.clone(),
        writer_ip: writer.ip.clone(),
        expected_md5: expected_to_wire(*expected),
        only_new: *presence == Presence::New,
        only_old: *presence == Presence::Old,
        cause,
        cause_of,
    }
}

fn publish_from_wire(publish: wire::PublishConfig) -> Result<Publish, RecordError> {
    Ok(Publish {
        key: GroupKey::from_record(&publish.key)?,
        content: publish.content,
        md5: md5_from_wire(&publish.md5)?,
        content_type: ContentType::from_code(publish.content_type),
        describe: Describe {
            app: publish.app,
            tags: publish.tags,
            description: publish.description,
            used_for: publish.r#use,
            effect: publish.effect,
            schema: publish.schema,
            encrypted_data_key: publish.encrypted_data_key,
        },
        writer: Writer { user: publish.writer_user, ip: publish.writer_ip },
        expected: expected_from_wire(publish.expected_md5),
        presence: presence(publish.only_new, publish.only_old),
        cause: Cause::from_code(publish.cause, publish.cause_of)?,
    })
}

pub(crate) fn md5_from_wire(bytes: &[u8]) -> Result<Md5, RecordError> {
    bytes.try_into().map(Md5).map_err(|_| RecordError::Field("md5"))
}

/// A message in one allocation of its exact size.
pub(crate) fn exact(message: &impl Message) -> Bytes {
    let mut buffer = BytesMut::with_capacity(message.encoded_len());
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

impl From<Reply> for wire::Reply {
    fn from(reply: Reply) -> Self {
        let outcome = match reply.outcome {
            Outcome::Done => 0,
            Outcome::CasMismatch => 1,
            Outcome::Superseded => 2,
            Outcome::Absent => 3,
            Outcome::Exists => 4,
            Outcome::TooManyReleases => 5,
            Outcome::InUse => 6,
        };
        Self { revision: reply.revision.0, version: reply.version, outcome }
    }
}

impl TryFrom<wire::Reply> for Reply {
    type Error = RecordError;

    fn try_from(reply: wire::Reply) -> Result<Self, RecordError> {
        let outcome = match reply.outcome {
            0 => Outcome::Done,
            1 => Outcome::CasMismatch,
            2 => Outcome::Superseded,
            3 => Outcome::Absent,
            4 => Outcome::Exists,
            5 => Outcome::TooManyReleases,
            6 => Outcome::InUse,
            _ => return Err(RecordError::Field("outcome")),
        };
        Ok(Self { revision: Revision(reply.revision), version: reply.version, outcome })
    }
}

/// A reply as bytes, for the answer to a forwarded proposal.
#[must_use]
pub fn encode_reply(reply: Reply) -> Bytes {
    exact(&wire::Reply::from(reply))
}

/// Reads [`encode_reply`]'s bytes.
///
/// # Errors
/// [`RecordError`] when they are no reply.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, RecordError> {
    wire::Reply::decode(bytes)?.try_into()
}

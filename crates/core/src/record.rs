//! Commands and values as bytes: `proto/record.proto` on one side, the crate's types on the other.
//!
//! Decoding accepts whatever an older release wrote and refuses what it does not know.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::command::{
    Command, Describe, ExpectedMd5, Outcome, Proposal, ProposalId, Publish, Remove, Reply, Writer,
};
use crate::content::{ContentType, Md5};
use crate::key::{GroupKey, InvalidKey};
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
    let body = match command {
        Command::Publish(publish) => {
            wire::proposal::Command::PublishConfig(publish_to_wire(publish))
        }
        Command::Remove(remove) => wire::proposal::Command::RemoveConfig(wire::RemoveConfig {
            key: remove.key.as_str().to_owned(),
            writer_user: remove.writer.user.clone(),
            writer_ip: remove.writer.ip.clone(),
        }),
        Command::Raise { level } => {
            wire::proposal::Command::RaiseLevel(wire::RaiseLevel { level: *level })
        }
        Command::Retire { nodes } => {
            wire::proposal::Command::RetireNodes(wire::RetireNodes { nodes: nodes.clone() })
        }
        Command::Checkpoint => wire::proposal::Command::Checkpoint(wire::Checkpoint {}),
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
    let command = match command.ok_or(RecordError::UnknownKind)? {
        wire::proposal::Command::PublishConfig(publish) => {
            Command::Publish(publish_from_wire(publish)?)
        }
        wire::proposal::Command::RemoveConfig(remove) => Command::Remove(Remove {
            key: GroupKey::from_record(&remove.key)?,
            writer: Writer { user: remove.writer_user, ip: remove.writer_ip },
        }),
        wire::proposal::Command::RaiseLevel(raise) => Command::Raise { level: raise.level },
        wire::proposal::Command::RetireNodes(retire) => Command::Retire { nodes: retire.nodes },
        wire::proposal::Command::Checkpoint(wire::Checkpoint {}) => Command::Checkpoint,
    };
    let id = ProposalId { origin, nonce, sequence, floor };
    Ok(Proposal { id, time: LogTime(time_ms), command })
}

fn publish_to_wire(publish: &Publish) -> wire::PublishConfig {
    let Publish { key, content, md5, content_type, describe, writer, expected } = publish;
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
        expected_md5: expected.map(|expected| match expected {
            ExpectedMd5::Digest(md5) => Bytes::copy_from_slice(&md5.0),
            ExpectedMd5::NeverEqual => Bytes::new(),
        }),
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
        expected: publish.expected_md5.map(|digest| {
            md5_from_wire(&digest).map_or(ExpectedMd5::NeverEqual, ExpectedMd5::Digest)
        }),
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

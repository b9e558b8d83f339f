//! Raft's own types: node id, member, entry, and the configuration that openraft is built with.
//!
//! Everything of openraft stays inside this crate.

use std::fmt;

use bytes::Bytes;
use openraft::raft::responder::Responder;
use quorate_core::command::Reply;
use quorate_core::time::Revision;
use serde::{Deserialize, Serialize};

/// openraft's parameters. One leader per term: the standard leader id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Record;
    type R = Reply;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Record, NodeId, Member>;
    type Entry = openraft::impls::Entry<
        <Self::LeaderId as openraft::vote::RaftLeaderId>::Committed,
        Self::Payload,
    >;
    type AsyncRuntime = crate::host::Runtime;
    type Responder<T>
        = Outlet<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Takes the result of one write: a function that is called once, on openraft's own thread.
pub struct Outlet<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Outlet<T> {
    /// Must be quick and must not block.
    pub fn new(take: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(take))
    }
}

impl<T: openraft::OptionalSend + 'static> Responder<TypeConfig, T> for Outlet<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// Random 64-bit identity of a node, kept in its data directory and never reused.
pub type NodeId = u64;

/// A log index: 0 is the membership entry of founding.
pub type LogIndex = u64;

/// The revision of an entry: the log index counted from 1, so that 0 means "nothing yet".
#[must_use]
pub const fn revision_of(index: LogIndex) -> Revision {
    Revision(index + 1)
}

/// (term, index) of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote: term, candidate, whether a majority granted it.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// An entry of the log.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// The members as of some entry.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// A sealed proposal (`quorate_core::record::seal`): bytes in an allocation of their own, shared
/// by the log, replication and apply.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record(pub Bytes);

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} bytes)", self.0.len())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a member is found. Data, not identity: it may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Member {
    /// `host:port` of its peer listener.
    pub peer: String,
    /// `host:port` where clients reach its HTTP listener.
    pub http: String,
    /// `host:port` where clients reach its gRPC listener.
    pub grpc: String,
    /// Never promoted to a voter by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays_learner: bool,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer)
    }
}

/// A log id from its parts.
#[must_use]
pub const fn log_id(term: u64, index: LogIndex) -> LogId {
    LogId { leader_id: openraft::vote::leader_id_std::CommittedLeaderId { term }, index }
}

/// The term of a log id.
#[must_use]
pub const fn term_of(id: &LogId) -> u64 {
    id.leader_id.term
}

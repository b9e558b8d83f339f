//! Raft's own types: node id, member, entry, and the configuration that openraft is built with.
//!
//! Everything of openraft stays inside this crate.

use std::fmt;

use bytes::Bytes;
use quorate_core::command::Reply;
use quorate_core::time::Revision;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// openraft's parameters. One leader per term: the standard leader id.
    pub TypeConfig:
        D = Record,
        R = Reply,
        NodeId = NodeId,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// Random 64-bit identity of a node, kept in its data directory and never reused.
pub type NodeId = u64;

/// A log index: 0 is the membership entry of founding.
pub type LogIndex = u64;

/// The revision of an entry: the log index, counted from 1 so that 0 means "nothing yet".
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
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer)
    }
}

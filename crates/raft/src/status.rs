//! What a node says of itself and of its cluster, for probes, operators and tests.

use quorate_core::store::Fingerprint;

use crate::types::{LogIndex, Member, NodeId};

/// Part of a node in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Leads its term.
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows and does not vote.
    Learner,
}

/// A member as this node knows it.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Its identity.
    pub id: NodeId,
    /// Where it is found.
    pub member: Member,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it answered this node lately; true for this node itself.
    pub is_reachable: bool,
    /// The last entry that its log is known to have; the leader alone knows it of others.
    pub matching_index: Option<LogIndex>,
    /// Why a learner does not vote yet, and what an operator can do about it.
    pub waits: Option<String>,
}

/// One node's view at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// This node's addresses.
    pub me: Member,
    /// The cluster, `None` before founding or joining.
    pub cluster_id: Option<u64>,
    /// What this node is.
    pub role: Role,
    /// Its current term.
    pub term: u64,
    /// Whom it voted for in this term.
    pub voted_for: Option<NodeId>,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// All members, voters and learners.
    pub members: Vec<MemberStatus>,
    /// Last entry in its log.
    pub last_index: Option<LogIndex>,
    /// Last committed entry it knows of.
    pub commit_index: Option<LogIndex>,
    /// Last applied entry.
    pub applied_index: Option<LogIndex>,
    /// Last entry of its newest snapshot.
    pub snapshot_index: Option<LogIndex>,
    /// Last entry that its log no longer has.
    pub purged_index: Option<LogIndex>,
    /// Its state at one revision.
    pub fingerprint: Fingerprint,
    /// Commands up to this level are proposed; at least 1.
    pub feature_level: u32,
    /// Knows a leader and has applied to within a bound of what it knows to be committed.
    pub is_ready: bool,
}

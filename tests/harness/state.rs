//! What `GET /nacos/v1/ns/raft/state` tells about a node.

use serde::Deserialize;

/// One node's view of the cluster and of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RaftState {
    pub(crate) peers: Vec<PeerState>,
    pub(crate) node_id: String,
    pub(crate) cluster_id: Option<String>,
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) leader: Option<String>,
    pub(crate) commit_index: Option<u64>,
    pub(crate) applied_index: Option<u64>,
    pub(crate) revision: u64,
    pub(crate) state_hash: String,
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) purged_index: Option<u64>,
    pub(crate) config_count: u64,
}

/// A member as that node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerState {
    pub(crate) ip: String,
    pub(crate) vote_for: Option<String>,
    pub(crate) term: u64,
    pub(crate) state: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
}

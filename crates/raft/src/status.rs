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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use prometheus_client::registry::Registry;
    use quorate_core::poll::Capacity;

    use crate::host::Host;
    use crate::node::Node;
    use crate::start::{NodeConfig, WallClock};
    use crate::trim::HistoryBounds;
    use crate::types::Member;

    /// A status that looked at the leader twice, with a change of leader waiting in between, waited
    /// for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_status_is_answered_while_the_leader_changes() {
        let home = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap().to_string();
        let config = NodeConfig {
            data_dir: home.path().to_owned(),
            me: Member { peer, ..Member::default() },
            peers: Vec::new(),
            join_only: false,
            auto_replace: false,
            auto_replace_after: Duration::from_secs(30),
            history: HistoryBounds::default(),
            secret: None,
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1000),
            snapshot_every_bytes: u64::MAX,
            snapshot_every: Duration::from_hours(1),
            log_keep_bytes: 0,
            segment_bytes: 65_536,
            capacity: Capacity { polls: 1, keys: 1 },
            now_ms: WallClock::new(|| 1),
            host: Host::default(),
        };
        let node = Node::start(config, listener, &mut Registry::default()).await.unwrap();
        let (done, ended) = channel();
        let (looking, changing) = (node.clone(), node.clone());
        std::thread::spawn(move || {
            for _ in 0..20_000 {
                drop(looking.status());
            }
            done.send(()).unwrap();
        });
        std::thread::spawn(move || {
            for _ in 0..2_000_000 {
                changing.inner.leader.send_modify(|_| ());
            }
        });
        if ended.recv_timeout(Duration::from_secs(30)).is_err() {
            // A node in this state cannot be stopped, and a panic would wait for it.
            eprintln!("no status within 30 s: the node hangs");
            std::process::abort();
        }
        node.stop().await;
    }
}

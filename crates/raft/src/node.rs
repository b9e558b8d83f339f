//! The node: its parts, what it says of itself, and how it stops. Starting is [`crate::start`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use quorate_core::poll::PollService;
use quorate_core::store::Store;
use quorate_core::subscribe::Subscribers;
use quorate_core::watch::{AnnounceQueue, WatchIndex};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ask::Asking;
use crate::forward::Forwarder;
use crate::host::Host;
use crate::identity::Identity;
use crate::leader::Leader;
use crate::log::LogHandle;
use crate::machine::{Applied, Machine};
use crate::membership::Myself;
use crate::met::{Met, Run};
use crate::peer::Client;
use crate::start::WallClock;
use crate::status::{MemberStatus, Role, Status};
use crate::types::{Member, NodeId, TypeConfig};

/// openraft with this crate's types.
pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// Entries that a ready node may be behind what it knows to be committed.
const READY_LAG_ENTRIES: u64 = 1000;
/// A leader that no majority has answered for so long is not ready.
const LEASE: Duration = Duration::from_secs(3);
/// Longest that Raft may take to end by itself.
const RAFT_STOP_LIMIT: Duration = Duration::from_secs(2);
/// Longest that handing leadership over may take when the node stops.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// The parts of a node. Peers' calls and the node's handle share it.
pub(crate) struct Inner {
    pub(crate) id: NodeId,
    pub(crate) myself: Arc<Myself>,
    pub(crate) cluster: Arc<OnceLock<u64>>,
    pub(crate) identity: tokio::sync::Mutex<Identity>,
    pub(crate) raft: Raft,
    pub(crate) log: LogHandle,
    pub(crate) applied: Arc<Applied>,
    pub(crate) polls: Arc<PollService>,
    pub(crate) subscribers: Subscribers,
    pub(crate) index: Arc<WatchIndex>,
    pub(crate) leader: watch::Sender<Option<Leader>>,
    /// The highest term in which a leader has called this process.
    pub(crate) heard: watch::Sender<u64>,
    pub(crate) forwarder: Forwarder,
    pub(crate) reader: Mutex<Option<(Leader, Client)>>,
    pub(crate) asking: Asking,
    pub(crate) reachable: Mutex<BTreeSet<NodeId>>,
    pub(crate) met: Arc<Met>,
    /// Wakes who tells the members who this node is.
    pub(crate) introduce: Arc<Notify>,
    /// The processes that this one said hello to, and that did not refuse it.
    pub(crate) introduced: Mutex<BTreeMap<NodeId, Run>>,
    /// Where those are that called and were not said hello to yet.
    pub(crate) callers: Mutex<BTreeSet<String>>,
    /// Taken by whoever changes the members.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Taken by whoever builds a snapshot.
    pub(crate) snapshotting: tokio::sync::Mutex<()>,
    /// Why this process must not go on as this node.
    pub(crate) failed: watch::Sender<Option<String>>,
    pub(crate) now_ms: WallClock,
    pub(crate) refused_calls: Counter,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Where backups are kept that are being fetched.
    pub(crate) backups: std::path::PathBuf,
    pub(crate) runtime: Mutex<Option<tokio::runtime::Runtime>>,
    /// Keeps the data directory to this process.
    pub(crate) _lock: std::fs::File,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("me", &self.myself.me)
            .finish_non_exhaustive()
    }
}

/// A handle to this node. Clones are cheap and refer to the same node.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

impl Node {
    /// This node's copy of the state.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.applied.store
    }

    /// The long polls that this node holds.
    #[must_use]
    pub fn polls(&self) -> &Arc<PollService> {
        &self.inner.polls
    }

    /// The connections that listen at this node.
    #[must_use]
    pub fn subscribers(&self) -> &Subscribers {
        &self.inner.subscribers
    }

    /// Who waits for which key.
    #[must_use]
    pub fn watch_index(&self) -> &Arc<WatchIndex> {
        &self.inner.index
    }

    /// The changed keys that are being announced.
    #[must_use]
    pub fn announce_queue(&self) -> &Arc<AnnounceQueue> {
        &self.inner.applied.announce
    }

    /// Whether this node serves: knows a leader and is close to it. Cheap: for probes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    /// Resolves when this node can serve no more, with the reason: its log or store failed, or
    /// it must not go on as this node.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        let mut failed = self.inner.failed.subscribe();
        loop {
            if let Some(why) = failed.borrow_and_update().clone() {
                return why;
            }
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() {
                    return "raft ended".to_owned();
                },
                changed = failed.changed() => if changed.is_err() {
                    return "the node ended".to_owned();
                },
            }
        }
    }

    /// This node's view of itself and its cluster. Takes a few microseconds and freezes the store.
    #[must_use]
    pub fn status(&self) -> Status {
        let inner = &*self.inner;
        let metrics = inner.raft.metrics().borrow_watched().clone();
        // Cloned, not borrowed: `is_ready` below looks at it again, and a second borrow by one
        // thread waits for ever when a change of leader waits between the two.
        let leader = inner.leader.borrow().clone();
        let reachable = inner.reachable.lock().clone();
        let voters: BTreeSet<_> = metrics.membership_config.membership().voter_ids().collect();
        let has_majority = inner.has_majority();
        let leader = leader.filter(|leader| leader.id != inner.id || has_majority);
        let role = match metrics.state {
            ServerState::Leader if has_majority => Role::Leader,
            ServerState::Leader => Role::Candidate,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner if !voters.contains(&inner.id) => Role::Learner,
            ServerState::Learner | ServerState::Follower | ServerState::Shutdown => Role::Follower,
        };
        let matching = |id: NodeId| {
            if id == inner.id {
                return metrics.last_log_index;
            }
            metrics.replication.as_ref()?.get(&id)?.as_ref().map(|matching| matching.index)
        };
        let all = inner.members();
        let members = all.iter().cloned().map(|(id, member, is_voter)| MemberStatus {
            id,
            is_voter,
            is_reachable: id == inner.id || reachable.contains(&id),
            matching_index: matching(id),
            waits: if is_voter { None } else { Some(waits(id, &member, &all)) },
            member,
        });
        Status {
            id: inner.id,
            me: inner.myself.me.clone(),
            cluster_id: inner.cluster.get().copied(),
            role,
            term: metrics.current_term,
            voted_for: Some(metrics.vote.leader_id.voted_for).filter(|_| metrics.current_term > 0),
            leader: leader.filter(|leader| leader.term == metrics.current_term).map(|l| l.id),
            members: members.collect(),
            last_index: metrics.last_log_index,
            commit_index: metrics.local_committed.map(|id| id.index),
            applied_index: metrics.last_applied.map(|id| id.index),
            snapshot_index: metrics.snapshot.map(|id| id.index),
            purged_index: metrics.purged.map(|id| id.index),
            fingerprint: inner.applied.store.fingerprint(),
            feature_level: inner.feature_level(),
            is_ready: inner.is_ready(),
        }
    }

    /// What every member can apply, as the cluster has agreed; at least 1.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.inner.feature_level()
    }

    /// Whether the cluster is at a feature level, or comes to it by the deadline. It is not waited
    /// for where a member is not known to be able to apply it.
    pub async fn reach_level(&self, wanted: u32, deadline: Instant) -> bool {
        self.inner.reach_level(wanted, deadline).await
    }

    /// Builds a snapshot of what this node has applied. The index it covers.
    ///
    /// # Errors
    /// When nothing was applied yet, or it cannot be written.
    pub async fn take_snapshot(&self) -> std::io::Result<crate::types::LogIndex> {
        self.inner.take_snapshot().await
    }

    /// Hands leadership to another voter, if this node leads and there is one. Reads and writes go
    /// on here: writes are forwarded.
    pub async fn hand_over(&self) {
        self.inner.hand_over_leadership(None).await;
    }

    /// Stops: ends held polls, stops Raft, writes everything out. At most a few seconds. The
    /// runtime of Raft ends with it.
    pub async fn stop(&self) {
        let inner = &*self.inner;
        inner.polls.close();
        inner.applied.announce.close();
        inner.stop.cancel();
        inner.applied.snapshots.stop();
        let log = inner.log.clone();
        let ended = tokio::time::timeout(RAFT_STOP_LIMIT, inner.raft.shutdown()).await;
        if !matches!(ended, Ok(Ok(()))) {
            // It may wait for a disk that has no room; ending the log ends that wait.
            tracing::warn!("raft did not end by itself");
        }
        inner.tasks.close();
        inner.tasks.wait().await;
        inner.applied.disk.close().await;
        // An error means that the thread panicked: it has ended all the same.
        drop(inner.host().blocking(move || log.shutdown()).await);
        if let Some(runtime) = inner.runtime.lock().take() {
            runtime.shutdown_background();
        }
    }
}

/// What a learner waits for.
fn waits(id: NodeId, learner: &Member, members: &[(NodeId, Member, bool)]) -> String {
    let place = members.iter().find(|(_, held, votes)| *votes && held.peer == learner.peer);
    match place {
        Some((old, ..)) => format!(
            "in the place of {old:016x}, which had this address; when that one's disk is lost: \
             quorate cluster replace {old:016x} {id:016x}"
        ),
        None if learner.stays_learner => "stays a learner, as it was added".to_owned(),
        None => "votes once it has caught up".to_owned(),
    }
}

impl Inner {
    /// What this node stands on.
    pub(crate) fn host(&self) -> &Host {
        &self.myself.credentials.host
    }

    /// All members: id, addresses, whether it votes.
    pub(crate) fn members(&self) -> Vec<(NodeId, Member, bool)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        membership.nodes().map(|(id, member)| (*id, member.clone(), voters.contains(id))).collect()
    }

    pub(crate) fn is_ready(&self) -> bool {
        let metrics = self.raft.data_metrics().borrow_watched().clone();
        let index = |id: &Option<crate::types::LogId>| id.as_ref().map_or(0, |id| id.index + 1);
        let lag = index(&metrics.local_committed).saturating_sub(index(&metrics.last_applied));
        let has_leader = self.leader.borrow().is_some();
        lag <= READY_LAG_ENTRIES && has_leader && self.has_majority() && !self.stop.is_cancelled()
    }

    /// Whether a majority has answered this leader lately; true for whoever does not lead, and for
    /// the only voter. A leader without its majority is none, whatever it still calls itself.
    pub(crate) fn has_majority(&self) -> bool {
        let acknowledged = self.raft.data_metrics().borrow_watched().last_quorum_acked;
        let Some(acknowledged) = acknowledged else { return true };
        let voters = self.members().iter().filter(|(_, _, votes)| *votes).count();
        voters == 1 || acknowledged.elapsed() <= LEASE
    }

    /// Asks a voter, or the one with the longest log, to lead, and waits until somebody else does.
    pub(crate) async fn hand_over_leadership(&self, to: Option<NodeId>) {
        let target = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            if metrics.state != ServerState::Leader {
                return;
            }
            let voters: BTreeSet<_> = metrics.membership_config.membership().voter_ids().collect();
            let replication = metrics.replication.iter().flatten();
            replication
                .filter(|(id, _)| **id != self.id && voters.contains(id))
                .filter(|(id, _)| to.is_none_or(|to| to == **id))
                .max_by_key(|(_, matching)| matching.as_ref().map(|id| id.index))
                .map(|(id, _)| *id)
        };
        let Some(target) = target else { return };
        if self.raft.trigger().transfer_leader(target).await.is_err() {
            return;
        }
        let mut leaders = self.leader.subscribe();
        let moved = leaders.wait_for(|leader| leader.as_ref().is_some_and(|l| l.id != self.id));
        if tokio::time::timeout_at(Instant::now() + HAND_OVER_LIMIT, moved).await.is_err() {
            tracing::warn!("leadership was not taken over in time");
        }
    }
}

//! The leader this node knows, as one small watched value.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::node::Raft;
use crate::types::{Member, NodeId};

/// How often a leader that no majority has answered looks again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A leader and the term it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) id: NodeId,
    pub(crate) term: u64,
    pub(crate) member: Member,
}

/// Follows openraft's metrics and publishes each change of leader. Ends with `stop`.
///
/// `heard` is the highest term in which a leader has called this process: a stored vote alone
/// tells who led before a restart, not who leads.
pub(crate) async fn follow(
    raft: Raft,
    leader: watch::Sender<Option<Leader>>,
    mut heard: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let mut metrics = raft.server_metrics();
    let acknowledged = raft.data_metrics();
    loop {
        // A restarted leader leads on until it hears of another; but only a majority that
        // answered in this process makes it one.
        let is_acknowledged = acknowledged.borrow_watched().last_quorum_acked.is_some();
        let heard_term = *heard.borrow_and_update();
        let mut looks_again = false;
        let now = {
            let metrics = metrics.borrow_and_update();
            looks_again |= metrics.state == ServerState::Leader && !is_acknowledged;
            let term = metrics.vote.leader_id.term;
            // A candidate's vote is its own, and says nothing of who leads.
            let is_sure = match metrics.state {
                ServerState::Leader => is_acknowledged,
                ServerState::Follower | ServerState::Learner => heard_term == term,
                ServerState::Candidate | ServerState::Shutdown => false,
            };
            metrics.current_leader.filter(|_| is_sure).and_then(|id| {
                let members = metrics.membership_config.membership();
                let member = members.get_node(&id)?.clone();
                Some(Leader { id, term, member })
            })
        };
        leader.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                tracing::info!(leader = ?now.as_ref().map(|leader| format!("{:016x}", leader.id)),
                    term = now.as_ref().map(|leader| leader.term), "leader changed");
                *before = now;
            }
            changed
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() { return },
            changed = heard.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY), if looks_again => {}
        }
    }
}

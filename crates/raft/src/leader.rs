//! The leader this node knows, as one small watched value.

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::node::Raft;
use crate::types::{Member, NodeId};

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
    loop {
        let heard_term = *heard.borrow_and_update();
        let now = {
            let metrics = metrics.borrow_and_update();
            let term = metrics.vote.leader_id.term;
            // A candidate's vote is its own, and says nothing of who leads.
            let is_sure = match metrics.state {
                ServerState::Leader => true,
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
            changed = metrics.changed() => if changed.is_err() { return },
            changed = heard.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

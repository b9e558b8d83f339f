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
pub(crate) async fn follow(
    raft: Raft,
    leader: watch::Sender<Option<Leader>>,
    stop: CancellationToken,
) {
    let mut metrics = raft.server_metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            // A candidate's vote is its own, and says nothing of who leads.
            let known = metrics.current_leader.filter(|_| metrics.state != ServerState::Candidate);
            known.and_then(|id| {
                let members = metrics.membership_config.membership();
                let member = members.get_node(&id)?.clone();
                Some(Leader { id, term: metrics.vote.leader_id.term, member })
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
            () = stop.cancelled() => return,
        }
    }
}

//! The leader this node knows, as one small watched value; and a leader's resignation.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderId;
use openraft::{RaftLogReader, ServerState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::log::LogStore;
use crate::met::Met;
use crate::node::Raft;
use crate::types::{Member, NodeId, Vote};

/// How often a leader that no majority has answered looks again: that answers grow old is an event
/// of the clock alone.
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
    met: Arc<Met>,
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
                let mut member = members.get_node(&id)?.clone();
                if let Some(peer) = met.address_of(id) {
                    member.peer = peer;
                }
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

/// A node that led when it ended never leads on in that term.
///
/// openraft would take up the stored leadership where it was left. But a leader sends entries to
/// its followers while its own disk is still writing them: what was lost here may live on there
/// under the same term and index, and new entries under those log ids would make the logs differ
/// for ever. So this node votes for itself in the next term, which ends the old one for it, and
/// stands for election like anyone else.
pub(crate) async fn resign(log: &mut LogStore, id: NodeId) -> io::Result<()> {
    let Some(vote) = log.get_log_reader().await.read_vote().await? else { return Ok(()) };
    if !vote.committed || vote.leader_id.voted_for != id {
        return Ok(());
    }
    let term = vote.leader_id.term + 1;
    tracing::info!(term, "resigned from the leadership of before the restart");
    log.save_vote(&Vote { leader_id: RaftLeaderId::new(term, id), committed: false }).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogOptions;

    fn vote(term: u64, node: NodeId, committed: bool) -> Vote {
        Vote { leader_id: RaftLeaderId::new(term, node), committed }
    }

    #[tokio::test]
    async fn a_restarted_leader_resigns_and_a_follower_does_not() {
        for (stored, want) in [
            (vote(4, 1, true), vote(5, 1, false)),
            (vote(4, 1, false), vote(4, 1, false)),
            (vote(4, 2, true), vote(4, 2, true)),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, handle) = LogStore::open(dir.path(), LogOptions::default()).unwrap();
            log.save_vote(&stored).await.unwrap();
            resign(&mut log, 1).await.unwrap();
            assert_eq!(log.get_log_reader().await.read_vote().await.unwrap(), Some(want));
            handle.shutdown();
        }
    }
}

//! Reads that demand more than this node's own state: linearizable, or of a minimum revision.

use std::time::Duration;

use openraft::ReadPolicy;
use quorate_core::time::Revision;
use tokio::time::Instant;

use crate::error::ReadError;
use crate::leader::Leader;
use crate::node::{Inner, Node};
use crate::peer::{Client, wire};
use crate::types::{LogIndex, revision_of};

/// Longest that one question to a leader may take: it may have stopped, and another leads.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);
/// Pause between attempts while there is no leader.
const RETRY_PAUSE: Duration = Duration::from_millis(30);

impl Node {
    /// Waits until this node's state is at least as new as every write that was acknowledged
    /// anywhere before this call (read index, Raft dissertation §6.4).
    ///
    /// # Errors
    /// [`ReadError`] when no leader confirms it, or this node does not catch up, in time.
    pub async fn read_barrier(&self, deadline: Instant) -> Result<(), ReadError> {
        let started = Instant::now();
        let inner = &*self.inner;
        let asked = async {
            loop {
                let leader = inner.leader.borrow().clone();
                if let Some(leader) = leader
                    && let Some(index) = inner.read_index(&leader).await
                {
                    return index;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        };
        let index = tokio::select! {
            biased;
            () = inner.stop.cancelled() => return Err(ReadError::Stopped),
            asked = tokio::time::timeout_at(deadline, asked) => {
                asked.map_err(|_| ReadError::NoLeader { waited: started.elapsed() })?
            }
        };
        self.wait_revision(revision_of(index), deadline).await
    }

    /// Waits until this node has applied a revision.
    ///
    /// # Errors
    /// [`ReadError::Behind`] at the deadline.
    pub async fn wait_revision(
        &self,
        revision: Revision,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        let started = Instant::now();
        let progress = &self.inner.applied.progress;
        tokio::select! {
            biased;
            reached = tokio::time::timeout_at(deadline, progress.reached(revision)) => {
                reached.map_err(|_| ReadError::Behind {
                    wanted: revision.0,
                    applied: progress.applied().0,
                    waited: started.elapsed(),
                })
            }
            () = self.inner.stop.cancelled() => Err(ReadError::Stopped),
        }
    }
}

impl Inner {
    async fn read_index(&self, leader: &Leader) -> Option<LogIndex> {
        if leader.id == self.id {
            return self.own_read_index().await;
        }
        let mut client = self.reader_of(leader)?;
        let asked = client.read_index(wire::ReadIndexRequest {});
        let reply = tokio::time::timeout(ATTEMPT_LIMIT, asked).await.ok()?.ok()?;
        reply.into_inner().index
    }

    /// One connection to the leader, kept while it leads.
    fn reader_of(&self, leader: &Leader) -> Option<Client> {
        let mut reader = self.reader.lock();
        if let Some((held, client)) = &*reader
            && held == leader
        {
            return Some(client.clone());
        }
        let cluster = self.cluster.get().copied();
        let peer = &leader.member.peer;
        let client =
            crate::peer::client(peer, &self.myself.credentials, cluster, Some(leader.id)).ok()?;
        *reader = Some((leader.clone(), client.clone()));
        Some(client)
    }

    /// The read index, if this node leads and a majority confirms it. Concurrent calls share
    /// openraft's rounds.
    pub(crate) async fn own_read_index(&self) -> Option<LogIndex> {
        let (index, _) = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        Some(index.index())
    }
}

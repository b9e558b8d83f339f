//! Majority-ack publish: number it, hand it to the leader, wait until this node has applied it.
//!
//! The wait ends with this node's own apply and nothing else, so an answer means: a majority has
//! it on disk, and the next read here sees it. An attempt that came to nothing is repeated under
//! the same id until the deadline; apply takes it once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::ClientWriteError;
use quorate_core::command::{Command, Outcome, ProposalId, Reply};
use quorate_core::record::{encode_command, seal};
use quorate_core::time::LogTime;
use tokio::time::Instant;

use crate::error::ProposeError;
use crate::leader::Leader;
use crate::node::{Inner, Node};
use crate::pending::{NotTaken, Signal, Ticket};
use crate::types::{Outlet, Record};

/// Pause before an attempt that was refused is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(30);

/// What is known of the attempts so far.
#[derive(Debug, Default)]
struct Attempts {
    /// Handed to a leader that never said no: they may still commit.
    in_doubt: u32,
    /// The leader of the last one.
    last: Option<Leader>,
    /// Why the last refused one was refused.
    refused: Option<NotTaken>,
}

impl Node {
    /// Majority-ack write: answered after a majority has it on disk and this node has applied it.
    ///
    /// # Errors
    /// [`ProposeError`] tells "nothing was written" from "may have been written".
    pub async fn propose(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        self.inner.propose(command, deadline).await
    }
}

impl Inner {
    pub(crate) async fn propose(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let started = Instant::now();
        if self.stop.is_cancelled() {
            return Err(ProposeError::Stopped);
        }
        let bytes = encode_command(&command);
        drop(command);
        let mut ticket = self.applied.pending.open()?;
        let mut attempts = Attempts::default();
        let waited =
            tokio::time::timeout_at(deadline, self.attempt(&bytes, &mut ticket, &mut attempts));
        match waited.await {
            Ok(ended) => ended,
            Err(_) => Err(attempts.verdict(self.leader.borrow().as_ref(), started.elapsed())),
        }
    }

    async fn attempt(
        &self,
        bytes: &Bytes,
        ticket: &mut Ticket<'_>,
        attempts: &mut Attempts,
    ) -> Result<Reply, ProposeError> {
        let inner = self;
        let mut leaders = inner.leader.subscribe();
        loop {
            let leader = leaders.borrow_and_update().clone();
            if let Some(leader) = leader {
                attempts.in_doubt += 1;
                inner.hand_over(&leader, ticket.id(), bytes).await?;
                attempts.last = Some(leader);
            }
            tokio::select! {
                biased;
                signal = ticket.signal() => match signal {
                    Some(Signal::Applied(reply)) => return settled(reply, attempts),
                    Some(Signal::NotTaken(why)) => {
                        attempts.note(why);
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                    None => return Err(ProposeError::Stopped),
                },
                changed = leaders.changed() => if changed.is_err() {
                    return Err(ProposeError::Stopped);
                },
                () = inner.stop.cancelled() => return Err(ProposeError::Stopped),
            }
        }
    }
}

/// A proposal of an open sequence is never superseded; if it ever were, nothing is known of it.
fn settled(reply: Reply, attempts: &Attempts) -> Result<Reply, ProposeError> {
    match reply.outcome {
        Outcome::Superseded => Err(attempts.verdict(None, Duration::ZERO)),
        Outcome::Done
        | Outcome::CasMismatch
        | Outcome::Absent
        | Outcome::Exists
        | Outcome::TooManyReleases
        | Outcome::InUse => Ok(reply),
    }
}

impl Attempts {
    fn note(&mut self, why: NotTaken) {
        if why != NotTaken::LinkLost {
            self.in_doubt = self.in_doubt.saturating_sub(1);
        }
        self.refused = Some(why);
    }

    fn verdict(&self, leader: Option<&Leader>, waited: Duration) -> ProposeError {
        if self.in_doubt > 0 {
            let same = |now: &Leader| self.last.as_ref().is_some_and(|last| last.term == now.term);
            return if leader.is_some_and(same) {
                ProposeError::NoMajority { waited }
            } else {
                ProposeError::OutcomeUnknown { waited }
            };
        }
        match self.refused {
            Some(NotTaken::DiskFull) => ProposeError::DiskFull,
            Some(NotTaken::Overloaded) => {
                ProposeError::Overloaded { limit: quorate_core::kind::origin::MAX_REPLIES }
            }
            Some(NotTaken::NotLeader | NotTaken::LinkLost) | None => ProposeError::NoLeader,
        }
    }
}

impl Inner {
    async fn hand_over(
        &self,
        leader: &Leader,
        id: ProposalId,
        command: &Bytes,
    ) -> Result<(), ProposeError> {
        if leader.id != self.id {
            self.forwarder.send(leader, id, command.clone());
            return Ok(());
        }
        let applied = Arc::clone(&self.applied);
        let refuse = move |why| applied.pending.not_taken(id.sequence, why);
        self.lead(id, command, refuse).await.map_err(|_| ProposeError::Stopped)
    }

    /// Offers a proposal to this node's own Raft, stamped with this node's time.
    pub(crate) async fn lead(
        &self,
        id: ProposalId,
        command: &[u8],
        refuse: impl FnOnce(NotTaken) + Send + 'static,
    ) -> Result<(), openraft::errors::Fatal<crate::types::TypeConfig>> {
        if self.log.is_full() {
            refuse(NotTaken::DiskFull);
            return Ok(());
        }
        let sealed = seal(id, LogTime(self.now_ms.read()), command);
        let outlet =
            Outlet::new(move |result: openraft::raft::ClientWriteResult<_>| match result {
                Ok(_) => {}
                Err(ClientWriteError::ForwardToLeader(_)) => refuse(NotTaken::NotLeader),
                // It was appended and cut off by another leader, or the node stops: it may live on in
                // another log.
                Err(_) => refuse(NotTaken::LinkLost),
            });
        self.raft.client_write_ff(Record(sealed), Some(outlet)).await
    }
}

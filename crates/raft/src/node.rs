//! The node: start, stop, propose, read, status.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::command::{Command, Reply};
use quorate_core::poll::PollService;
use quorate_core::store::Store;
use quorate_core::time::Revision;
use tokio::time::Instant;

use crate::error::{ProposeError, ReadError};
use crate::status::Status;

/// A handle to this node. Clones are cheap and refer to the same node.
#[derive(Clone)]
pub struct Node {
    store: Arc<Store>,
    polls: Arc<PollService>,
}

impl Node {
    /// This node's copy of the state.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The long polls that this node holds.
    #[must_use]
    pub fn polls(&self) -> &Arc<PollService> {
        &self.polls
    }

    /// Majority-ack write: answered after a majority has it on disk and this node has applied it.
    ///
    /// # Errors
    /// [`ProposeError`] tells "nothing was written" from "may have been written".
    pub async fn propose(&self, _command: Command, _deadline: Instant) -> Result<Reply, ProposeError> {
        Err(ProposeError::NoLeader)
    }

    /// Waits until this node's state is at least as new as every write that was acknowledged
    /// anywhere before this call (read index).
    ///
    /// # Errors
    /// [`ReadError`] when no leader confirms it, or this node does not catch up, in time.
    pub async fn read_barrier(&self, _deadline: Instant) -> Result<(), ReadError> {
        Err(ReadError::NoLeader { waited: Duration::ZERO })
    }

    /// Waits until this node has applied a revision.
    ///
    /// # Errors
    /// [`ReadError::Behind`] at the deadline.
    pub async fn wait_revision(&self, _revision: Revision, _deadline: Instant) -> Result<(), ReadError> {
        Err(ReadError::Stopped)
    }

    /// This node's view of itself and its cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!("until the node is built")
    }

    /// Whether this node serves: knows a leader and is close to it. Cheap: for probes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        false
    }
}

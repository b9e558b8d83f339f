//! The queue between Raft and the log's thread: bounded in bytes, drained as a whole.

use std::collections::VecDeque;
use std::time::Duration;

use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::LogError;
use super::metrics::LogMetrics;
use crate::host::{Bell, Host};
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// What an operation weighs at least: this bounds their number as well.
const LEAST_COST: u32 = 1024;

/// One operation, in the order Raft asked for it.
pub(super) enum Operation {
    /// Write these, sync, then tell.
    Append(Vec<Entry>, IOFlushed<TypeConfig>),
    /// Write it, sync, then tell.
    Vote(Vote, oneshot::Sender<std::io::Result<()>>),
    /// Forget what is behind this.
    TruncateAfter(Option<LogId>),
    /// Forget up to this.
    Purge(LogId),
    /// Note how far the cluster has agreed.
    Committed(Option<LogId>),
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Bell,
    room: Semaphore,
    capacity: u32,
    metrics: LogMetrics,
}

#[derive(Default)]
struct Inner {
    operations: VecDeque<(Operation, u32)>,
    stopping: bool,
    #[cfg(test)]
    held: bool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("operations", &self.operations.len())
            .field("stopping", &self.stopping)
            .finish()
    }
}

impl Queue {
    /// A queue of this many bytes.
    pub(super) fn new(capacity: u32, metrics: LogMetrics, host: &Host) -> Self {
        let capacity = capacity.max(LEAST_COST);
        let room = usize::try_from(capacity).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            inner: Mutex::default(),
            changed: Bell::new(host),
            room: Semaphore::new(room),
            capacity,
            metrics,
        }
    }

    /// Waits until there is room for an operation of this many bytes. This is the back-pressure.
    ///
    /// # Errors
    /// [`LogError::Stopped`].
    pub(super) async fn reserve(&self, bytes: usize) -> Result<Room<'_>, LogError> {
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(LEAST_COST, self.capacity);
        let permit = self.room.acquire_many(cost).await.map_err(|_| LogError::Stopped)?;
        Ok(Room { queue: self, permit, cost })
    }

    /// Takes all that waits, up to the capacity. Waits while there is nothing; `None` at the end.
    pub(super) async fn drain(&self, into: &mut VecDeque<Operation>) -> Option<()> {
        let take = |inner: &mut Inner| {
            if inner.waits() {
                return None;
            }
            let mut taken = 0_u32;
            while taken < self.capacity
                && let Some((operation, cost)) = inner.operations.pop_front()
            {
                taken = taken.saturating_add(cost);
                into.push_back(operation);
            }
            Some(taken)
        };
        let taken = self.changed.wait(&self.inner, None, take).await?;
        if taken == 0 {
            return None;
        }
        self.metrics.queue_bytes.dec_by(i64::from(taken));
        self.room.add_permits(usize::try_from(taken).unwrap_or(0));
        Some(())
    }

    /// No more operations are accepted; those that wait are still taken.
    pub(super) fn stop(&self) {
        self.inner.lock().stopping = true;
        self.room.close();
        self.changed.ring();
    }

    /// Whether [`Self::stop`] was called.
    pub(super) fn is_stopping(&self) -> bool {
        self.inner.lock().stopping
    }

    /// Waits for `pause`, less when the queue is stopped.
    pub(super) async fn pause(&self, pause: Duration) {
        let stopping = |inner: &mut Inner| inner.stopping.then_some(());
        self.changed.wait(&self.inner, Some(pause), stopping).await;
    }

    /// Keeps the log's thread from taking anything.
    #[cfg(test)]
    pub(super) fn hold(&self, held: bool) {
        self.inner.lock().held = held;
        self.changed.ring();
    }
}

impl Inner {
    fn waits(&self) -> bool {
        #[cfg(test)]
        if self.held && !self.stopping {
            return true;
        }
        self.operations.is_empty() && !self.stopping
    }
}

/// Room for one operation.
#[derive(Debug)]
pub(super) struct Room<'a> {
    queue: &'a Queue,
    permit: tokio::sync::SemaphorePermit<'a>,
    cost: u32,
}

impl Room<'_> {
    /// Queues the operation.
    ///
    /// # Errors
    /// [`LogError::Stopped`].
    pub(super) fn push(self, operation: Operation) -> Result<(), LogError> {
        let mut inner = self.queue.inner.lock();
        if inner.stopping {
            return Err(LogError::Stopped);
        }
        inner.operations.push_back((operation, self.cost));
        self.queue.metrics.queue_bytes.inc_by(i64::from(self.cost));
        drop(inner);
        // The log's thread gives the permits back.
        self.permit.forget();
        self.queue.changed.ring();
        Ok(())
    }
}

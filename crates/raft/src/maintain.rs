//! Housekeeping of one node: snapshots by bytes and time, purging the log behind them, rebuilding
//! a store copy that failed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::machine::build;
use crate::node::Inner;
use crate::start::NodeConfig;
use crate::types::{LogIndex, log_id};

/// How often the log's bytes and the time since the last snapshot are looked at: neither is worth an
/// event for each entry.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause between rebuilds of a store copy that keeps failing.
const REBUILD_PAUSE: Duration = Duration::from_secs(30);
/// Longest that Raft may take to know of a snapshot.
const NOTE_LIMIT: Duration = Duration::from_secs(5);

/// The task's state.
pub(crate) struct Maintenance {
    inner: Arc<Inner>,
    every_bytes: u64,
    every: Duration,
    keep_bytes: u64,
    /// Appended when the last snapshot was asked for.
    appended_then: u64,
    asked_at: Instant,
    rebuilt_at: Option<Instant>,
}

impl Maintenance {
    pub(crate) fn new(inner: Arc<Inner>, config: &NodeConfig) -> Self {
        let appended_then = inner.log.metrics().appended_bytes.get();
        Self {
            inner,
            every_bytes: config.snapshot_every_bytes,
            every: config.snapshot_every,
            keep_bytes: config.log_keep_bytes,
            appended_then,
            asked_at: Instant::now(),
            rebuilt_at: None,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.snapshot().await.is_err() || self.purge().await.is_err() {
                // Raft has stopped; the node ends for that reason.
                return;
            }
            self.rebuild_store().await;
        }
    }

    async fn snapshot(&mut self) -> Result<(), Stopped> {
        let appended = self.inner.log.metrics().appended_bytes.get();
        let by_bytes = appended - self.appended_then >= self.every_bytes;
        let by_time = self.asked_at.elapsed() >= self.every && appended > self.appended_then;
        if by_bytes || by_time {
            self.appended_then = appended;
            self.asked_at = Instant::now();
            if let Err(error) = self.inner.take_snapshot().await {
                tracing::error!(%error, "snapshot not built: the one before stays");
                // Not at the next look, but long before the next is due.
                self.appended_then = appended.saturating_sub(self.every_bytes / 4 * 3);
            }
        }
        Ok(())
    }

    /// Purges up to the snapshot, but keeps the newest `keep_bytes` of entries. Never past a
    /// snapshot whose file and directory were fsynced.
    async fn purge(&mut self) -> Result<(), Stopped> {
        let Some(snapshot) = self.inner.applied.snapshots.current() else { return Ok(()) };
        let Some(snapshot) = snapshot.meta.last_log_id.map(|id| id.index) else { return Ok(()) };
        let kept_from = self.inner.log.index_keeping(self.keep_bytes);
        let Some(beyond) = kept_from.checked_sub(1) else { return Ok(()) };
        let upto = snapshot.min(beyond);
        if self.inner.log.purged().is_none_or(|purged| purged.index < upto) {
            self.inner.raft.trigger().purge_log(upto).await.map_err(|_| Stopped)?;
        }
        Ok(())
    }

    async fn rebuild_store(&mut self) {
        let disk = &self.inner.applied.disk;
        let waited = self.rebuilt_at.is_none_or(|at| at.elapsed() >= REBUILD_PAUSE);
        if disk.is_suspended() && waited {
            self.rebuilt_at = Some(Instant::now());
            // On the state machine's task, so that no batch slips in between.
            let rebuilt = self
                .inner
                .raft
                .with_state_machine(|machine| Box::pin(machine.rebuild_disk()))
                .await;
            if rebuilt.is_err() {
                tracing::warn!("raft stopped before the store could be rebuilt");
            }
        }
    }
}

impl Inner {
    /// Builds a snapshot of what is applied now, beside apply, and has Raft know it. One at a
    /// time: who comes while one is built waits for it, and gets one of its own.
    ///
    /// # Errors
    /// When there is nothing to build, or it cannot be written; nothing changed then.
    pub(crate) async fn take_snapshot(&self) -> io::Result<LogIndex> {
        let _one_at_a_time = self.snapshotting.lock().await;
        let state = self.applied.store.freeze();
        let at = state.header().applied.map(|(term, index)| log_id(term, index));
        let Some(at) = at else {
            return Err(io::Error::other("nothing was applied: there is nothing to snapshot"));
        };
        let current = self.applied.snapshots.current().and_then(|held| held.meta.last_log_id);
        if current < Some(at) {
            build(self.host(), Arc::clone(&self.applied.snapshots), state).await?;
            self.raft.trigger().snapshot().await.map_err(io::Error::other)?;
            // Raft takes note of it beside; whoever asked wants to see it in the status.
            let known = |metrics: &openraft::RaftMetrics<_>| metrics.snapshot >= Some(at);
            let noted = self.raft.wait(Some(NOTE_LIMIT)).metrics(known, "snapshot").await;
            if noted.is_err() {
                tracing::warn!(index = at.index, "raft has not taken note of the snapshot");
            }
        }
        Ok(at.index)
    }
}

/// Raft takes no more calls.
struct Stopped;

//! Keeping the history bounded: the leader, now and then, removes records that are too old or too
//! many. What it removes is a command like any other, so that all replicas remove the same.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::command::{Command, TrimHistory};
use quorate_core::kind::history;
use quorate_core::time::LogTime;
use tokio::time::Instant;

use crate::node::Inner;

const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Records removed by one command: it is applied at one go.
const AT_ONCE: u32 = 1000;
const LIMIT: Duration = Duration::from_secs(5);

/// How much history is kept. Counts on the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Older records go.
    pub keep: Duration,
    /// Records of one configuration, at most [`history::MAX_VERSIONS`].
    pub versions: u32,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        let versions = u32::try_from(history::MAX_VERSIONS).unwrap_or(u32::MAX);
        Self { keep: Duration::from_hours(30 * 24), versions }
    }
}

impl Inner {
    /// Runs on every node, works on the leader.
    pub(crate) async fn trim(self: Arc<Self>, bounds: HistoryBounds) {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            while self.leads() && self.trim_once(bounds).await {}
        }
    }

    /// Removes some; whether there may be more.
    async fn trim_once(&self, bounds: HistoryBounds) -> bool {
        let now = self.now_ms.read();
        let keep = u64::try_from(bounds.keep.as_millis()).unwrap_or(u64::MAX);
        let before = LogTime(now.saturating_sub(keep));
        let state = self.applied.store.freeze();
        let trim = TrimHistory { before, versions: bounds.versions, limit: AT_ONCE };
        if self.feature_level() < history::LEVEL || !state.would_trim(trim) {
            return false;
        }
        drop(state);
        match self.propose(Command::TrimHistory(trim), Instant::now() + LIMIT).await {
            Ok(reply) => {
                tracing::debug!(records = reply.version, "trimmed the history");
                reply.version >= u64::from(AT_ONCE)
            }
            Err(error) => {
                tracing::warn!(%error, "the history was not trimmed");
                false
            }
        }
    }
}

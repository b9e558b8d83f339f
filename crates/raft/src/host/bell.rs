//! How the log's threads wait for each other and for Raft.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::Host;

/// Wakes those who wait for a change behind a mutex. As a thread they block; in a simulation they
/// are tasks and do not.
#[derive(Debug)]
pub(crate) enum Bell {
    Thread(Condvar),
    Task(Notify),
}

impl Bell {
    pub(crate) fn new(host: &Host) -> Self {
        if host.is_simulated() { Self::Task(Notify::new()) } else { Self::Thread(Condvar::new()) }
    }

    /// Wakes all who wait.
    pub(crate) fn ring(&self) {
        match self {
            Self::Thread(condvar) => drop(condvar.notify_all()),
            Self::Task(notify) => notify.notify_waiters(),
        }
    }

    /// Waits until `look` finds something, at most for `limit`.
    pub(crate) async fn wait<T, R>(
        &self,
        mutex: &Mutex<T>,
        limit: Option<Duration>,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let notify = match self {
            Self::Thread(condvar) => return block(condvar, mutex, limit, look),
            Self::Task(notify) => notify,
        };
        let end = limit.map(|limit| tokio::time::Instant::now() + limit);
        loop {
            let notified = notify.notified();
            tokio::pin!(notified);
            // From here on a ring counts, so none is missed between look and wait.
            notified.as_mut().enable();
            if let Some(found) = look(&mut mutex.lock()) {
                return Some(found);
            }
            match end {
                None => notified.await,
                Some(end) => {
                    if tokio::time::timeout_at(end, notified).await.is_err() {
                        return look(&mut mutex.lock());
                    }
                }
            }
        }
    }
}

fn block<T, R>(
    condvar: &Condvar,
    mutex: &Mutex<T>,
    limit: Option<Duration>,
    mut look: impl FnMut(&mut T) -> Option<R>,
) -> Option<R> {
    let end = limit.map(|limit| std::time::Instant::now() + limit);
    let mut guard = mutex.lock();
    loop {
        if let Some(found) = look(&mut guard) {
            return Some(found);
        }
        match end {
            None => condvar.wait(&mut guard),
            Some(end) => {
                if condvar.wait_until(&mut guard, end).timed_out() {
                    return look(&mut guard);
                }
            }
        }
    }
}

//! Who waits for this node to have applied an index: woken in order, O(log n) each.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use quorate_core::time::Revision;
use tokio::sync::oneshot;

#[derive(Debug, Default)]
struct Inner {
    applied: Revision,
    next: u64,
    waiting: BTreeMap<(Revision, u64), oneshot::Sender<()>>,
}

/// How far this node has applied.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    inner: Mutex<Inner>,
}

/// Takes a waiter that gave up off the list.
struct Leave<'a>(&'a Progress, (Revision, u64));

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().waiting.remove(&self.1);
    }
}

impl Progress {
    /// Notes that everything up to `revision` is applied and wakes who waited for it.
    pub(crate) fn advance(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        inner.applied = inner.applied.max(revision);
        while let Some(entry) = inner.waiting.first_entry() {
            if entry.key().0 > revision {
                break;
            }
            if entry.remove().send(()).is_err() {
                // It gave up at this very moment: nothing to do about it.
                continue;
            }
        }
    }

    /// What is applied.
    pub(crate) fn applied(&self) -> Revision {
        self.inner.lock().applied
    }

    /// Resolves once `revision` is applied.
    pub(crate) async fn reached(&self, revision: Revision) {
        let (sender, reached) = oneshot::channel();
        let key = {
            let mut inner = self.inner.lock();
            if inner.applied >= revision {
                return;
            }
            inner.next += 1;
            let key = (revision, inner.next);
            inner.waiting.insert(key, sender);
            key
        };
        let leave = Leave(self, key);
        drop(reached.await);
        drop(leave);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_order_and_leave() {
        let progress = Progress::default();
        progress.advance(Revision(3));
        progress.reached(Revision(3)).await;
        let five = progress.reached(Revision(5));
        let nine = progress.reached(Revision(9));
        tokio::pin!(five, nine);
        assert!(futures_util::poll!(&mut five).is_pending());
        assert!(futures_util::poll!(&mut nine).is_pending());
        progress.advance(Revision(6));
        five.await;
        assert!(futures_util::poll!(&mut nine).is_pending());
        assert_eq!(progress.inner.lock().waiting.len(), 1);
        tokio::time::timeout(std::time::Duration::ZERO, nine.as_mut()).await.unwrap_err();
    }
}

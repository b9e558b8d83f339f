//! The order in which tasks run. Which tasks tokio wakes at a moment is decided by what happened,
//! but not in which order: its watch channels keep their waiters in random places. So a task that
//! is woken only takes its place in a round, and the round runs by the tasks' numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    numbers: u64,
    /// The next round.
    waiting: BTreeMap<u64, Waker>,
    /// Those of this round that have not run yet.
    admitted: BTreeSet<u64>,
    usher: Option<Waker>,
}

/// A task of none of the nodes.
struct Gated<F> {
    gate: Arc<Gate>,
    number: u64,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.gate.admits(self.number, context.waker()) {
            self.task.as_mut().poll(context)
        } else {
            Poll::Pending
        }
    }
}

impl Gate {
    /// A gate on the runtime of the caller.
    pub(crate) fn open() -> Arc<Self> {
        let gate = Arc::new(Self::default());
        let usher = Arc::downgrade(&gate);
        // Woken by the first of a round, it stands in tokio's queue behind all that were woken
        // with that one.
        let usher = poll_fn(move |context| match usher.upgrade() {
            Some(gate) => gate.begin_round(context.waker()),
            None => Poll::Ready(()),
        });
        drop(Handle::current().spawn(usher));
        gate
    }

    fn begin_round(&self, usher: &Waker) -> Poll<()> {
        let round = {
            let mut inner = self.0.lock();
            inner.usher = Some(usher.clone());
            let round = std::mem::take(&mut inner.waiting);
            inner.admitted.extend(round.keys().copied());
            round
        };
        round.into_values().for_each(Waker::wake);
        Poll::Pending
    }

    /// Numbers a task.
    pub(crate) fn number(&self) -> u64 {
        let mut inner = self.0.lock();
        inner.numbers += 1;
        inner.numbers
    }

    /// Whether a task may run. If not, it is woken when it may.
    pub(crate) fn admits(&self, number: u64, waker: &Waker) -> bool {
        let mut inner = self.0.lock();
        if inner.admitted.remove(&number) {
            return true;
        }
        inner.waiting.insert(number, waker.clone());
        let usher = inner.usher.take();
        drop(inner);
        if let Some(usher) = usher {
            usher.wake();
        }
        false
    }

    /// A task that was to run cannot.
    pub(crate) fn forget(&self, number: u64) {
        self.0.lock().admitted.remove(&number);
    }

    /// Starts a task that belongs to no node.
    pub(crate) fn spawn<F>(self: &Arc<Self>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (gate, number) = (Arc::clone(self), self.number());
        Handle::current().spawn(Gated { gate, number, task: Box::pin(task) })
    }
}

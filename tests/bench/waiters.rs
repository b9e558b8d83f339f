//! Thousands of clients that hold one long poll each, on connections of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::http::{Connection, listen};
use crate::wait;

/// Connections that one thread opens at a time: a listen backlog is finite.
const CONNECTING: usize = 64;

/// What the waiters listen to.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    /// A key of its own for each, which does not exist and never will.
    OwnAbsentKey(SocketAddr),
    /// The same key for all, in the state of the content `first + round`.
    SharedKey { address: SocketAddr, first: u64 },
}

impl Ask {
    /// The data id of the shared key.
    pub(crate) const SHARED_KEY: &'static str = "shared-by-all";

    /// A numbered content of the shared key.
    pub(crate) fn shared_content(number: u64) -> String {
        format!("content-{number}")
    }

    const fn address(self) -> SocketAddr {
        match self {
            Self::OwnAbsentKey(address) | Self::SharedKey { address, .. } => address,
        }
    }

    fn request(self, waiter: usize, round: u64) -> Vec<u8> {
        match self {
            Self::OwnAbsentKey(address) => listen(address, &format!("absent-{waiter:07}"), None),
            Self::SharedKey { address, first } => {
                let content = Self::shared_content(first + round);
                listen(address, Self::SHARED_KEY, Some(&content))
            }
        }
    }
}

#[derive(Default)]
struct Counts {
    armed: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    last_answer: Mutex<Option<Instant>>,
}

/// Running waiters; their connections are closed when this is dropped.
pub(crate) struct Waiters {
    count: u64,
    counts: Arc<Counts>,
    /// How many rounds of polls may have been sent; waiters end when it closes.
    rounds: Option<watch::Sender<u64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Waiters {
    /// Starts the waiters, which connect when they are armed for the first time.
    pub(crate) fn open(ask: Ask, count: usize, threads: usize) -> anyhow::Result<Self> {
        let (sender, receiver) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        let mut running = Vec::new();
        for thread in 0..threads.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let indices: Vec<usize> = (thread..count).step_by(threads.max(1)).collect();
            let counts = Arc::clone(&counts);
            let rounds = receiver.clone();
            running.push(std::thread::spawn(move || {
                runtime.block_on(hold_all(ask, &indices, &counts, &rounds));
            }));
        }
        Ok(Self { count: count as u64, counts, rounds: Some(sender), threads: running })
    }

    /// Lets every waiter send the poll of this round, and waits until all have.
    pub(crate) fn arm(&self, round: u64, patience: Duration) -> anyhow::Result<()> {
        self.rounds.as_ref().context("open")?.send_replace(round + 1);
        wait::until("all polls to be sent", patience, || {
            ensure!(self.failed() == 0, "{} polls failed", self.failed());
            let armed = self.counts.armed.load(Ordering::Acquire);
            Ok((armed >= (round + 1) * self.count).then_some(()))
        })
    }

    /// Answers so far, over all rounds.
    pub(crate) fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Acquire)
    }

    /// Polls that ended without a proper answer.
    pub(crate) fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Acquire)
    }

    /// When the latest answer came.
    pub(crate) fn last_answer(&self) -> Option<Instant> {
        *self.counts.last_answer.lock()
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        self.rounds = None;
        for thread in self.threads.drain(..) {
            // A panic there has been printed; the counts then never fit and end the measurement.
            drop(thread.join());
        }
    }
}

async fn hold_all(
    ask: Ask,
    indices: &[usize],
    counts: &Arc<Counts>,
    rounds: &watch::Receiver<u64>,
) {
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    let mut tasks = JoinSet::new();
    for index in indices.iter().copied() {
        let (counts, rounds) = (Arc::clone(counts), rounds.clone());
        let connecting = Arc::clone(&connecting);
        tasks.spawn(async move {
            let mut closed = rounds.clone();
            let work = hold(ask, index, &counts, rounds, &connecting);
            tokio::select! {
                outcome = work => if outcome.is_err() {
                    counts.failed.fetch_add(1, Ordering::AcqRel);
                },
                // The value changes with every round; only the closing ends the task.
                _ = closed.wait_for(|_| false) => {}
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Sends the poll of each round as soon as it may, and waits for the answer.
async fn hold(
    ask: Ask,
    index: usize,
    counts: &Counts,
    mut rounds: watch::Receiver<u64>,
    connecting: &Semaphore,
) -> anyhow::Result<()> {
    let mut connection = Connection::new(ask.address());
    for round in 0.. {
        rounds.wait_for(|allowed| *allowed > round).await?;
        let request = ask.request(index, round);
        {
            let _permit = connecting.acquire().await?;
            connection.send(&request).await?;
        }
        drop(request);
        counts.armed.fetch_add(1, Ordering::AcqRel);
        let (answer, _) = connection.receive().await?;
        let now = Instant::now();
        ensure!(answer.status == 200 && answer.length > 0, "not an answer of a change");
        {
            let mut last = counts.last_answer.lock();
            *last = (*last).max(Some(now));
        }
        counts.answered.fetch_add(1, Ordering::AcqRel);
    }
    Ok(())
}

//! The thread beside the log's own: it prepares the next segment before it is needed and deletes
//! those that were purged, so that neither is ever in the way of an fsync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_core::crash;

use super::LogError;
use super::disk::{self, Disk};
use super::metrics::LogMetrics;
use super::segment::{Blank, Segment};
use crate::host::Bell;

/// How long to wait before asking a full disk again.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(200);

/// The thread's handle.
#[derive(Debug)]
pub(super) struct Spares {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Desk {
    dir: PathBuf,
    bytes: u64,
    disk: Disk,
    full: Arc<AtomicBool>,
    metrics: LogMetrics,
    work: Mutex<Work>,
    changed: Bell,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Work {
    wanted: Option<u64>,
    ready: Option<Blank>,
    doomed: Vec<Arc<Segment>>,
    failed: Option<(PathBuf, &'static str, io::Error)>,
}

impl Spares {
    /// Starts the thread. `full` says whether the next segment cannot be had for want of space.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(
        dir: &Path,
        bytes: u64,
        disk: Disk,
        full: Arc<AtomicBool>,
        metrics: LogMetrics,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            dir: dir.to_owned(),
            bytes,
            changed: Bell::new(&disk.host),
            disk,
            full,
            metrics,
            work: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&desk);
        let host = desk.disk.host.clone();
        let thread = host.thread("raft-log-spare", async move { theirs.run().await })?;
        Ok(Self { desk, thread })
    }

    /// Asks for the segment with this number.
    pub(super) fn want(&self, sequence: u64) {
        self.desk.work.lock().wanted = Some(sequence);
        self.desk.changed.ring();
    }

    /// Gives these to be deleted, the oldest first. Their purge must be durable.
    pub(super) fn doom(&self, segments: Vec<Arc<Segment>>) {
        self.desk.work.lock().doomed.extend(segments);
        self.desk.changed.ring();
    }

    /// The wanted blank; waits for it as long as the disk has space or `go_on` says so.
    ///
    /// # Errors
    /// [`LogError::Io`]; [`LogError::Stopped`] when it was given up.
    pub(super) async fn take(&self, go_on: impl Fn() -> bool + Send) -> Result<Blank, LogError> {
        let look = |work: &mut Work| {
            if let Some((path, op, source)) = work.failed.take() {
                return Some(Err(LogError::Io { path, op, source }));
            }
            if let Some(blank) = work.ready.take() {
                return Some(Ok(blank));
            }
            let given_up = self.desk.full.load(Ordering::Relaxed) && !go_on();
            given_up.then_some(Err(LogError::Stopped))
        };
        loop {
            // Now and then without a ring: nobody rings when the log is told to stop.
            if let Some(taken) =
                self.desk.changed.wait(&self.desk.work, Some(FULL_PAUSE), look).await
            {
                return taken;
            }
        }
    }
}

impl Drop for Spares {
    /// Deletes what is doomed, then ends.
    fn drop(&mut self) {
        self.desk.stopping.store(true, Ordering::Relaxed);
        // Under the lock, so that the thread cannot miss it between its check and its wait.
        drop(self.desk.work.lock());
        self.desk.changed.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares log segments panicked");
        }
    }
}

/// What the thread does next.
enum Job {
    Delete(Vec<Arc<Segment>>),
    Prepare(u64),
    End,
}

impl Desk {
    async fn run(&self) {
        loop {
            match self.changed.wait(&self.work, None, |work| self.next(work)).await {
                Some(Job::Delete(doomed)) => {
                    if let Err(failure) = self.delete(&doomed).await {
                        self.work.lock().failed = Some(failure);
                    }
                }
                Some(Job::Prepare(sequence)) => {
                    let blank = self.prepare(sequence);
                    self.take_in(sequence, blank).await;
                }
                Some(Job::End) | None => return,
            }
        }
    }

    fn next(&self, work: &mut Work) -> Option<Job> {
        if !work.doomed.is_empty() {
            Some(Job::Delete(std::mem::take(&mut work.doomed)))
        } else if self.stopping.load(Ordering::Relaxed) {
            Some(Job::End)
        } else {
            work.wanted.map(Job::Prepare)
        }
    }

    fn prepare(&self, sequence: u64) -> io::Result<Blank> {
        let go_on = || !self.stopping.load(Ordering::Relaxed);
        Blank::create(&self.disk, &self.dir, sequence, self.bytes, go_on)
    }

    async fn take_in(&self, sequence: u64, blank: io::Result<Blank>) {
        match blank {
            Ok(blank) => {
                if self.full.swap(false, Ordering::Relaxed) {
                    self.metrics.full.dec();
                }
                self.metrics.disk_bytes.inc_by(i64::try_from(blank.bytes).unwrap_or(i64::MAX));
                let mut work = self.work.lock();
                work.wanted = None;
                work.ready = Some(blank);
            }
            Err(error) if disk::is_full(&error) => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    self.metrics.full.inc();
                    tracing::warn!(sequence, "no space for the next log segment");
                }
                let hurry = |work: &mut Work| {
                    let stopping = self.stopping.load(Ordering::Relaxed);
                    (stopping || !work.doomed.is_empty()).then_some(())
                };
                self.changed.wait(&self.work, Some(FULL_PAUSE), hurry).await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let mut work = self.work.lock();
                work.wanted = None;
                work.failed = Some((self.dir.clone(), "prepare a segment", error));
            }
        }
        self.changed.ring();
    }

    async fn delete(
        &self,
        doomed: &[Arc<Segment>],
    ) -> Result<(), (PathBuf, &'static str, io::Error)> {
        for segment in doomed {
            let path = &segment.path;
            let wrap = |e| (path.clone(), "delete a purged segment", e);
            let bytes = segment.file.metadata().map_err(wrap)?.len();
            self.disk.host.remove(path).map_err(wrap)?;
            crash::point("log-purge-deleted");
            // One by one: a crash must never leave a gap among the numbers.
            self.disk.sync_dir(&self.dir).await.map_err(wrap)?;
            self.metrics.disk_bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Ok(())
    }
}

//! The thread beside the log's own: it prepares the next segment before it is needed and deletes
//! those that were purged, so that neither is ever in the way of an fsync.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::LogError;
use super::disk::{self, Disk};
use super::metrics::LogMetrics;
use super::segment::{Blank, Segment};

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
    changed: Condvar,
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
            disk,
            full,
            metrics,
            work: Mutex::default(),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("raft-log-spare".into())
            .spawn(move || theirs.run())?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Asks for the segment with this number.
    pub(super) fn want(&self, sequence: u64) {
        self.desk.work.lock().wanted = Some(sequence);
        self.desk.changed.notify_all();
    }

    /// Gives these to be deleted, the oldest first. Their purge must be durable.
    pub(super) fn doom(&self, segments: Vec<Arc<Segment>>) {
        self.desk.work.lock().doomed.extend(segments);
        self.desk.changed.notify_all();
    }

    /// The wanted blank; waits for it as long as the disk has space or `go_on` says so.
    ///
    /// # Errors
    /// [`LogError::Io`]; [`LogError::Stopped`] when it was given up.
    pub(super) fn take(&self, go_on: impl Fn() -> bool) -> Result<Blank, LogError> {
        let mut work = self.desk.work.lock();
        loop {
            if let Some((path, op, source)) = work.failed.take() {
                return Err(LogError::Io { path, op, source });
            }
            if let Some(blank) = work.ready.take() {
                return Ok(blank);
            }
            if self.desk.full.load(Ordering::Relaxed) && !go_on() {
                return Err(LogError::Stopped);
            }
            self.desk.changed.wait_for(&mut work, FULL_PAUSE);
        }
    }
}

impl Drop for Spares {
    /// Deletes what is doomed, then ends.
    fn drop(&mut self) {
        self.desk.stopping.store(true, Ordering::Relaxed);
        // Under the lock, so that the thread cannot miss it between its check and its wait.
        drop(self.desk.work.lock());
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares log segments panicked");
        }
    }
}

impl Desk {
    fn run(&self) {
        let mut work = self.work.lock();
        loop {
            if !work.doomed.is_empty() {
                let doomed = std::mem::take(&mut work.doomed);
                if let Err(failure) = MutexGuard::unlocked(&mut work, || self.delete(&doomed)) {
                    work.failed = Some(failure);
                }
            } else if self.stopping.load(Ordering::Relaxed) {
                return;
            } else if let Some(sequence) = work.wanted {
                let blank = MutexGuard::unlocked(&mut work, || self.prepare(sequence));
                self.take_in(&mut work, sequence, blank);
            } else {
                self.changed.wait(&mut work);
            }
        }
    }

    fn prepare(&self, sequence: u64) -> io::Result<Blank> {
        let go_on = || !self.stopping.load(Ordering::Relaxed);
        Blank::create(&self.disk, &self.dir, sequence, self.bytes, go_on)
    }

    fn take_in(&self, work: &mut MutexGuard<'_, Work>, sequence: u64, blank: io::Result<Blank>) {
        match blank {
            Ok(blank) => {
                if self.full.swap(false, Ordering::Relaxed) {
                    self.metrics.full.dec();
                }
                self.metrics.disk_bytes.inc_by(i64::try_from(blank.bytes).unwrap_or(i64::MAX));
                work.wanted = None;
                work.ready = Some(blank);
            }
            Err(error) if disk::is_full(&error) => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    self.metrics.full.inc();
                    tracing::warn!(sequence, "no space for the next log segment");
                }
                self.changed.wait_for(work, FULL_PAUSE);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                work.wanted = None;
                work.failed = Some((self.dir.clone(), "prepare a segment", error));
            }
        }
        self.changed.notify_all();
    }

    fn delete(&self, doomed: &[Arc<Segment>]) -> Result<(), (PathBuf, &'static str, io::Error)> {
        for segment in doomed {
            let path = &segment.path;
            let wrap = |e| (path.clone(), "delete a purged segment", e);
            let bytes = segment.file.metadata().map_err(wrap)?.len();
            fs::remove_file(path).map_err(wrap)?;
            // One by one: a crash must never leave a gap among the numbers.
            self.disk.sync_dir(&self.dir).map_err(wrap)?;
            self.metrics.disk_bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Ok(())
    }
}

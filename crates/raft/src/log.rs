//! The Raft log: segment files, written by one thread, one fsync for all that waited.
//!
//! `append` puts entries into memory and a bounded queue and returns; the log's thread drains the
//! queue, writes once, syncs once and calls back. Votes wait for their fsync. What is not
//! acknowledged may be lost in a crash, what is acknowledged is not; damage to it is refused at
//! start, never repaired (`log/recovery.rs`). Disk use is bounded by purging: whole segments go.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, MutexGuard};

mod disk;
mod metrics;
mod queue;
mod reader;
mod record;
mod recovery;
mod segment;
mod spare;
mod state;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use metrics::LogMetrics;
pub use reader::LogReader;
pub use recovery::verify;
pub use store::LogStore;

use crate::host::Host;
use crate::types::{LogId, LogIndex, Vote};
use disk::Disk;
use queue::Queue;
use recovery::{Replay, Tail};
use segment::Blank;
use spare::Spares;
use state::State;
use writer::{Batch, Found, Head, Writer};

/// The file whose lock says that a process has the log open.
const LOCK_FILE: &str = "LOCK";

/// The first segment is small, so that an empty node starts without zeroing a large file.
const FIRST_SEGMENT_BYTES: u32 = 4 << 20;

/// What can go wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("{op} {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// The refusal.
        #[source]
        source: io::Error,
    },
    /// Bytes that were durable have changed. Move the directory away and join under a new id.
    #[error("damaged log: {} at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Written by a later release.
    #[error("{} has format version {version}, newer than this program reads", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Another process has it open.
    #[error("the log is open in another process: {}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The log was shut down, or its thread has ended.
    #[error("the log is closed")]
    Stopped,
}

impl LogError {
    fn io(path: &Path, op: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), op, source }
    }

    fn corrupt(path: &Path, offset: u64, what: &'static str) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what }
    }

    /// One failure for many who wait.
    fn shared(error: &Arc<Self>) -> io::Error {
        io::Error::new(error.kind(), Arc::clone(error))
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { source, .. } => source.kind(),
            Self::Corrupt { .. } | Self::NewerFormat { .. } => io::ErrorKind::InvalidData,
            Self::Locked { .. } => io::ErrorKind::ResourceBusy,
            Self::Stopped => io::ErrorKind::BrokenPipe,
        }
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// How the log is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a segment; an entry larger than this gets a segment of its own.
    pub segment_bytes: u32,
    /// Newest entries kept in memory, in bytes.
    pub cache_bytes: usize,
    /// Where a limited read is cut, in bytes.
    pub read_bytes: u64,
    /// Bytes that may wait to be written; beyond it `append` waits.
    pub queue_bytes: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            read_bytes: 4 << 20,
            queue_bytes: 8 << 20,
        }
    }
}

/// What an offline check has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Segment files.
    pub segments: usize,
    /// Valid records of any kind.
    pub records: u64,
    /// Bytes of valid records.
    pub bytes: u64,
    /// Entries that were neither truncated nor purged.
    pub entries: usize,
    /// The last log id that was purged.
    pub purged: Option<LogId>,
    /// The last log id.
    pub last_log_id: Option<LogId>,
    /// The vote.
    pub vote: Option<Vote>,
    /// The last committed log id that was noted.
    pub committed: Option<LogId>,
    /// File and offset of a torn tail, which opening cuts off.
    pub torn_at: Option<(PathBuf, u64)>,
}

/// What writer, readers and handles share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    queue: Queue,
    options: LogOptions,
    host: Host,
    metrics: LogMetrics,
    /// The next segment cannot be prepared.
    spare_full: Arc<AtomicBool>,
    /// A write waits for space.
    write_full: AtomicBool,
}

impl Shared {
    /// The state, unless the log has failed: then nothing of it may be trusted to be durable.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.failed.as_ref().map_or(Ok(()), |error| Err(LogError::shared(error)))?;
        Ok(state)
    }
}

/// The log's thread, joined when its last user is gone.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    fn stop(&self) {
        self.shared.queue.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Looks at the log from outside of Raft; clones share it.
#[derive(Debug, Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

impl LogHandle {
    /// The last log id in memory; it may not be durable yet.
    #[must_use]
    pub fn last_log_id(&self) -> Option<LogId> {
        self.shared.state.lock().last
    }

    /// The last purged log id.
    #[must_use]
    pub fn purged(&self) -> Option<LogId> {
        self.shared.state.lock().purged
    }

    /// Whether space is missing: for the next segment (this one still takes writes) or for a write.
    /// It falls by itself when space returns.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.spare_full.load(Ordering::Relaxed)
            || self.shared.write_full.load(Ordering::Relaxed)
    }

    /// Why the log has stopped, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<LogError>> {
        self.shared.state.lock().failed.clone()
    }

    /// Bytes on disk of the entries in `range`; those still queued do not count.
    #[must_use]
    pub fn bytes_between(&self, range: Range<LogIndex>) -> u64 {
        self.shared.state.lock().bytes_between(&range)
    }

    /// Bytes on disk of all entries that were not purged.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.bytes_between(0..LogIndex::MAX)
    }

    /// The lowest index such that the entries from it on take at most `bytes` on disk: what is
    /// below it may be purged when so much is to be kept.
    #[must_use]
    pub fn index_keeping(&self, bytes: u64) -> LogIndex {
        self.shared.state.lock().index_keeping(bytes)
    }

    /// What the log measures.
    #[must_use]
    pub fn metrics(&self) -> &LogMetrics {
        &self.shared.metrics
    }

    /// Writes what is queued, joins the log's thread and unlocks the directory. Blocks. Later
    /// operations fail. With a full disk what could not be written is given up, unacknowledged.
    pub fn shutdown(&self) {
        self.running.stop();
    }
}

impl LogStore {
    /// Opens or creates the log in `dir`. Blocks: call it from a thread that may.
    ///
    /// # Errors
    /// [`LogError::Locked`], [`LogError::Corrupt`], [`LogError::NewerFormat`], [`LogError::Io`].
    pub fn open(dir: &Path, options: LogOptions) -> Result<(Self, LogHandle), LogError> {
        Self::open_on(&Host::default(), dir, options)
    }

    /// As [`LogStore::open`], on what the node stands on.
    ///
    /// # Errors
    /// As [`LogStore::open`].
    pub(crate) fn open_on(
        host: &Host,
        dir: &Path,
        options: LogOptions,
    ) -> Result<(Self, LogHandle), LogError> {
        open_on(Disk::on(host), dir, options)
    }
}

/// Entries that stay in memory when the log is read at the start, in bytes: few will be asked for.
const RECOVERED_BYTES: usize = 128 << 10;

fn open_on(disk: Disk, dir: &Path, options: LogOptions) -> Result<(LogStore, LogHandle), LogError> {
    create_dir(&disk, dir)?;
    let lock = lock(dir)?;
    segment::remove_blanks(&disk, dir)?;
    let Replay { state, tail, summary } =
        recovery::replay(dir, options.cache_bytes.min(RECOVERED_BYTES), true)?;
    if let Some((path, offset)) = &summary.torn_at {
        tracing::warn!(path = %path.display(), offset, "cut the torn tail of the log");
    }
    let head = Head { vote: state.vote, committed: state.committed, purged: state.purged };
    let metrics = LogMetrics::default();
    let spare_full = Arc::new(AtomicBool::new(false));
    let spares = Spares::start(
        dir,
        options.segment_bytes.into(),
        disk.clone(),
        Arc::clone(&spare_full),
        metrics.clone(),
    )
    .map_err(|e| LogError::io(dir, "start a thread for", e))?;
    let next_index = state.next_index();
    let shared = Arc::new(Shared {
        queue: Queue::new(options.queue_bytes, metrics.clone(), &disk.host),
        state: Mutex::new(state),
        options,
        host: disk.host.clone(),
        metrics,
        spare_full,
        write_full: AtomicBool::new(false),
    });
    let (segment, offset, is_sealed) = match tail {
        Some(tail) => {
            tail.repair(&disk)?;
            let Tail { segment, end, is_sealed, .. } = tail;
            (segment, end, is_sealed)
        }
        None => first_segment(&disk, dir, &shared)?,
    };
    shared.metrics.disk_bytes.set(disk_bytes(dir)?);
    let metadata =
        segment.file.metadata().map_err(|e| LogError::io(&segment.path, "look at", e))?;
    let host = disk.host.clone();
    let writer = Writer {
        shared: Arc::clone(&shared),
        disk,
        dir: dir.to_owned(),
        spares,
        _lock: lock,
        segment,
        capacity: metadata.len(),
        offset,
        synced: offset,
        head,
        next_index,
        batch: Batch::default(),
    };
    let thread = host
        .thread("raft-log", writer.run(is_sealed))
        .map_err(|e| LogError::io(dir, "start a thread for", e))?;
    let running = Arc::new(Running { shared: Arc::clone(&shared), thread: Mutex::new(thread) });
    let store = LogStore { shared: Arc::clone(&shared), _running: Arc::clone(&running) };
    Ok((store, LogHandle { shared, running }))
}

fn first_segment(
    disk: &Disk,
    dir: &Path,
    shared: &Shared,
) -> Result<(Arc<segment::Segment>, u64, bool), LogError> {
    let bytes = shared.options.segment_bytes.min(FIRST_SEGMENT_BYTES);
    let blank = Blank::create(disk, dir, 1, bytes.into(), || true)
        .map_err(|e| LogError::io(dir, "create a segment in", e))?;
    let found = Found::new(disk, dir, &blank, 0, &Head::default())?;
    let (segment, offset) = found.name(disk, dir, &blank)?;
    shared.state.lock().add_segment(Arc::clone(&segment));
    Ok((segment, offset, false))
}

fn create_dir(disk: &Disk, dir: &Path) -> Result<(), LogError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| LogError::io(dir, "create", e))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            disk.host.sync_dir(parent).map_err(|e| LogError::io(parent, "fsync", e))
        }
        _ => Ok(()),
    }
}

fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| LogError::io(&path, "open", e))?;
    file.try_lock().map_err(|e| lock_error(&path, e))?;
    Ok(file)
}

fn lock_error(path: &Path, error: TryLockError) -> LogError {
    match error {
        TryLockError::WouldBlock => LogError::Locked { path: path.to_owned() },
        TryLockError::Error(source) => LogError::io(path, "lock", source),
    }
}

fn disk_bytes(dir: &Path) -> Result<i64, LogError> {
    let mut bytes = 0;
    for (_, path) in segment::list(dir)? {
        let metadata = fs::metadata(&path).map_err(|e| LogError::io(&path, "look at", e))?;
        bytes += i64::try_from(metadata.len()).unwrap_or(i64::MAX);
    }
    Ok(bytes)
}

/// Parses one record from arbitrary bytes, for fuzzing.
#[doc(hidden)]
pub fn fuzz_record(bytes: &[u8]) {
    drop(record::parse_any(bytes));
}

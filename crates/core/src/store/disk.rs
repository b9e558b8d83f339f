//! sled as a copy of the datum store that can be rebuilt: written behind apply by one thread,
//! read once at the start.
//!
//! The truth is the last snapshot and the log; nothing here is waited for by a write, unless the
//! thread falls behind by more than its queue holds. A directory that does not open, or does not
//! hold what its header counted, is set aside and written anew. A full disk suspends the copy and
//! nothing else.

pub(super) mod folder;
mod past;
mod queue;
mod rows;
mod scan;
mod tree;
mod writer;

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::queue::Message;
use self::writer::{Shared, Writer};
use super::{Change, State};
use crate::record::RecordError;

/// Sizes and times of the copy.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// sled's cache. Reads come from memory, so it only helps writing: what is not in it is read
    /// back before a row is put beside it.
    pub cache_bytes: u64,
    /// Batches that may wait.
    pub queue_batches: usize,
    /// Bytes of rows that may wait.
    pub queue_bytes: u64,
    /// How long the thread waits for more to write together.
    pub linger: Duration,
    /// Bytes that are written without waiting for more.
    pub merge_bytes: u64,
    /// Keys that are written without waiting for more: sled keeps a copy of the node around each
    /// until the end of the batch.
    pub merge_keys: usize,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 * 1024 * 1024,
            queue_batches: 4096,
            queue_bytes: 16 * 1024 * 1024,
            linger: Duration::from_millis(500),
            merge_bytes: 8 * 1024 * 1024,
            merge_keys: 1024,
        }
    }
}

/// What a directory holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, at the start")]
pub enum Loaded {
    /// A state that was once applied: its header says up to where.
    Good(State),
    /// There is no such directory.
    Empty,
    /// Damaged or not ours to read: to be set aside and rebuilt.
    Unusable {
        /// For the operator.
        why: String,
    },
}

/// What one group of applied entries changed.
#[derive(Debug, Clone)]
pub struct Batch {
    /// In the order of applying.
    pub changes: Vec<Change>,
    /// [`State::header_record`] after the last of them.
    pub header: Bytes,
}

/// Submitted and not yet written. Bytes are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Batches.
    pub batches: u64,
    /// Changes in them.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
}

/// Why the copy cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// It is suspended after a fault: [`Disk::rebuild`] it.
    #[error("store copy is suspended")]
    Suspended,
    /// It was closed.
    #[error("store copy is closed")]
    Closed,
}

/// What goes wrong below the surface.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("file: {0}")]
    Io(#[from] io::Error),
    #[error("row: {0}")]
    Row(#[from] RecordError),
    #[error("malformed {0}")]
    Malformed(&'static str),
    #[error("format {0} is not known to this release")]
    Format(u32),
    #[error("sled panicked: {0}")]
    Panicked(String),
    #[error("earlier openings never ended")]
    DiedOpening,
}

/// The open copy and its thread.
pub struct Disk {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    is_absent: bool,
}

impl Disk {
    /// Reads the directory into memory and closes it again. Blocks.
    #[must_use]
    pub fn load(dir: &Path, options: &DiskOptions) -> Loaded {
        let loaded = tree::guarded(|| {
            folder::finish_swap(dir)?;
            if folder::is_absent(dir)? {
                return Ok(None);
            }
            if !folder::begin_opening(dir)? {
                return Err(Fault::DiedOpening);
            }
            let state = tree::guarded(|| scan::read(dir, options));
            folder::clear_deaths(dir)?;
            state.map(Some)
        });
        match loaded {
            Ok(Some(state)) => Loaded::Good(state),
            Ok(None) => Loaded::Empty,
            Err(fault) => Loaded::Unusable { why: fault.to_string() },
        }
    }

    /// Moves an unusable directory to `<dir>.bad.<n>`, where the newest two are kept.
    ///
    /// # Errors
    /// The file system's.
    pub fn set_aside(dir: &Path) -> io::Result<PathBuf> {
        folder::set_aside(dir)
    }

    /// Starts the thread, which opens or creates the directory. If it cannot, the copy is
    /// suspended from the start. Unless the caller applies on top of exactly what [`Disk::load`]
    /// returned, a [`Disk::rebuild`] must follow before the first batch.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(dir: &Path, options: &DiskOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(options.clone()));
        let writer = Writer::new(dir.to_path_buf(), options.clone(), Arc::clone(&shared));
        let thread =
            std::thread::Builder::new().name("store-disk".to_owned()).spawn(|| writer.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), is_absent: false })
    }

    /// No copy at all: what is handed over is dropped.
    #[must_use]
    pub fn absent() -> Self {
        let shared = Arc::new(Shared::new(DiskOptions::default()));
        shared.queue.close();
        Self { shared, thread: Mutex::new(None), is_absent: true }
    }

    /// Hands over what was applied. Waits while the queue is full. Batches are written in the
    /// order of submitting: one task submits. Must be awaited to its end, else the batch is lost
    /// and the copy counts as damaged at the next start. After closing, batches are dropped.
    pub async fn submit(&self, batch: Batch) {
        let bytes = batch.changes.iter().map(change_bytes).sum::<u64>();
        let lag = Lag {
            batches: 1,
            entries: batch.changes.len() as u64,
            bytes: bytes.saturating_add(batch.header.len() as u64),
        };
        if let Some(ticket) = self.shared.queue.place(lag).await {
            self.shared.queue.push(Message::Batch(batch, ticket));
        }
    }

    /// Makes everything submitted before it durable and returns the log index up to which the
    /// directory then holds everything; `None` when nothing was ever submitted.
    ///
    /// # Errors
    /// [`DiskError`] when nothing is known to be durable.
    pub async fn sync(&self) -> Result<Option<u64>, DiskError> {
        let ticket = self.shared.queue.place(Lag::default()).await.ok_or(DiskError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Message::Sync(reply, ticket));
        answer.await.unwrap_or(Err(DiskError::Closed))
    }

    /// Replaces all that the directory holds by this state: after a snapshot was installed, after
    /// an unusable directory was set aside, and to end a suspension. Ordered with the batches.
    /// Returns when it is queued; [`Disk::sync`] tells when it is done, and how it ended.
    pub async fn rebuild(&self, state: State) {
        if let Some(ticket) = self.shared.queue.place(Lag::default()).await {
            self.shared.queue.push(Message::Rebuild(Box::new(state), ticket));
        }
    }

    /// Whether sled failed and is not used. The owner rebuilds it, now and then, until it holds.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.shared.is_suspended()
    }

    /// Submitted and not yet written.
    #[must_use]
    pub fn lag(&self) -> Lag {
        self.shared.queue.lag()
    }

    /// Log index of the last batch that was written: not necessarily durable.
    #[must_use]
    pub fn written(&self) -> Option<u64> {
        self.shared.written()
    }

    /// Writes and syncs all that was submitted, closes sled and ends the thread.
    pub async fn close(&self) {
        if self.is_absent {
            return;
        }
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(Message::Close(reply));
        self.shared.queue.close();
        // An error means that the thread has ended already.
        drop(answer.await);
        self.join();
    }

    fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("store copy's thread panicked");
        }
    }
}

impl Drop for Disk {
    /// As [`Disk::close`], but blocking.
    fn drop(&mut self) {
        self.shared.queue.close();
        self.join();
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("lag", &self.lag())
            .field("suspended", &self.is_suspended())
            .finish_non_exhaustive()
    }
}

/// What a change weighs in the queue, in memory.
fn change_bytes(change: &Change) -> u64 {
    /// Key, maps and allocations around a row.
    const OVERHEAD: usize = 128;
    /// One kept reply in an origin's map.
    const REPLY: usize = 48;
    let bytes = match change {
        Change::Config(key, datum) => {
            key.as_str().len() + datum.as_ref().map_or(0, |datum| datum.content_bytes())
        }
        // Each change holds a copy of the origin's map: apply goes on with another one.
        Change::Origin(_, kept) => kept.as_ref().map_or(0, |kept| kept.len() * REPLY),
        Change::Gray(key, _, kept) => {
            key.as_str().len() + kept.as_ref().map_or(0, |kept| kept.content.len())
        }
        Change::History(_, kept) => kept.as_ref().map_or(0, |kept| kept.kept.content().len()),
        Change::Namespace(..) => 256,
    };
    (bytes + OVERHEAD) as u64
}

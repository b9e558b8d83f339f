//! The thread that owns the newest segment: it drains the queue, writes once, syncs at most once,
//! and tells those who waited.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::FutureExt;
use openraft::storage::IOFlushed;
use quorate_core::crash;
use tokio::sync::oneshot;

use super::disk::{self, Disk};
use super::queue::Operation;
use super::record::{Draft, HEAD_BYTES, Kind};
use super::segment::{Blank, HEADER_BYTES, Header, Segment};
use super::spare::{FULL_PAUSE, Spares};
use super::state::{Change, Spot};
use super::{LogError, Shared};
use crate::types::{LogId, LogIndex, TypeConfig, Vote};

/// The write buffer's allocation that is kept between batches.
const KEPT_BUFFER_BYTES: usize = 1 << 20;

/// The log's thread.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Disk,
    pub(super) dir: PathBuf,
    pub(super) spares: Spares,
    /// Held until the thread has ended, so that nobody opens the directory before.
    pub(super) _lock: File,
    pub(super) segment: Arc<Segment>,
    /// The size of its file: beyond it a write would need new blocks.
    pub(super) capacity: u64,
    /// Where the next write goes.
    pub(super) offset: u64,
    /// Up to here the segment is durable.
    pub(super) synced: u64,
    /// What the next segment begins with.
    pub(super) head: Head,
    pub(super) next_index: LogIndex,
    pub(super) batch: Batch,
}

/// The facts that every segment repeats at its beginning, so that its predecessors can go.
#[derive(Debug, Default, Clone)]
pub(super) struct Head {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
}

/// What was taken from the queue and is not yet finished.
#[derive(Default)]
pub(super) struct Batch {
    operations: VecDeque<Operation>,
    buffer: Vec<u8>,
    changes: Vec<Change>,
    waiting: Vec<Waiting>,
    needs_sync: bool,
    may_free: bool,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("buffer", &self.buffer.len()).finish_non_exhaustive()
    }
}

enum Waiting {
    Append(IOFlushed<TypeConfig>),
    Vote(Vote, oneshot::Sender<io::Result<()>>),
}

impl Waiting {
    fn finish(self, result: io::Result<()>) {
        match self {
            Self::Append(done) => done.io_completed(result),
            // Nobody waits for it any more: the vote is durable all the same.
            Self::Vote(_, done) => drop(done.send(result)),
        }
    }
}

impl Writer {
    /// Works until the queue is stopped and empty, or something fails for good. `is_sealed`: the
    /// newest segment takes no more records.
    pub(super) async fn run(mut self, is_sealed: bool) {
        if let Err(error) = self.begin(is_sealed).await {
            return self.fail(error).await;
        }
        let shared = Arc::clone(&self.shared);
        while shared.queue.drain(&mut self.batch.operations).await.is_some() {
            let operations = self.batch.operations.len();
            shared
                .metrics
                .batch_operations
                .observe(f64::from(u32::try_from(operations).unwrap_or(u32::MAX)));
            // A panic must reach those who wait, or Raft would wait for ever.
            let outcome = AssertUnwindSafe(self.process()).catch_unwind().await;
            if let Err(error) = outcome.unwrap_or(Err(LogError::Stopped)) {
                self.fail(error).await;
                break;
            }
        }
    }

    /// Brings a log that was just opened to where it can go on.
    async fn begin(&mut self, is_sealed: bool) -> Result<(), LogError> {
        self.spares.want(self.segment.header.sequence + 1);
        if is_sealed {
            let blank = self.spares.take(|| !self.shared.queue.is_stopping()).await?;
            self.install(&blank).await?;
        }
        let emptied = self.shared.state.lock().take_emptied();
        self.spares.doom(emptied);
        Ok(())
    }

    async fn process(&mut self) -> Result<(), LogError> {
        while let Some(operation) = self.batch.operations.pop_front() {
            self.encode(operation).await?;
        }
        let truncates =
            self.batch.changes.iter().any(|change| matches!(change, Change::TruncateFrom(_)));
        self.write().await?;
        if truncates {
            crash::point("log-truncate-written");
        }
        let emptied = if std::mem::take(&mut self.batch.may_free) {
            self.shared.state.lock().take_emptied()
        } else {
            Vec::new()
        };
        // The purge must be durable before anything is deleted.
        if self.batch.needs_sync || !emptied.is_empty() {
            self.sync().await?;
        }
        self.batch.needs_sync = false;
        if !emptied.is_empty() {
            crash::point("log-purge-recorded");
        }
        self.spares.doom(emptied);
        self.finish();
        Ok(())
    }

    async fn encode(&mut self, operation: Operation) -> Result<(), LogError> {
        match operation {
            Operation::Append(entries, done) => {
                self.batch.waiting.push(Waiting::Append(done));
                self.batch.needs_sync = true;
                for entry in &entries {
                    let draft = Draft::entry(entry)
                        .map_err(|e| self.io_error("encode", io::Error::from(e)))?;
                    self.put(&draft).await?;
                    self.next_index = entry.log_id.index + 1;
                }
            }
            Operation::Vote(vote, done) => {
                self.batch.waiting.push(Waiting::Vote(vote, done));
                self.batch.needs_sync = true;
                self.put(&Draft::vote(&vote)).await?;
                self.head.vote = Some(vote);
            }
            Operation::TruncateAfter(after) => {
                self.put(&Draft::about(Kind::TruncateAfter, after.as_ref())).await?;
                let next = after.map_or(0, |id| id.index + 1);
                let floor = self.head.purged.map_or(0, |id| id.index + 1);
                self.next_index = self.next_index.min(next).max(floor);
                self.batch.changes.push(Change::TruncateFrom(next));
            }
            Operation::Purge(upto) => {
                self.put(&Draft::about(Kind::Purged, Some(&upto))).await?;
                self.head.purged = self.head.purged.max(Some(upto));
                self.next_index = self.next_index.max(upto.index + 1);
                self.batch.changes.push(Change::Purge(upto.index));
                self.batch.may_free = true;
            }
            Operation::Committed(committed) => {
                self.put(&Draft::about(Kind::Committed, committed.as_ref())).await?;
                self.head.committed = committed;
            }
        }
        Ok(())
    }

    /// Puts a record into the buffer, into the next segment if this one has no room.
    async fn put(&mut self, draft: &Draft<'_>) -> Result<(), LogError> {
        let record_bytes = (HEAD_BYTES + draft.payload_bytes()) as u64;
        let end = self.offset + self.batch.buffer.len() as u64;
        // An entry larger than a segment gets one of its own, which grows.
        if end + record_bytes + HEAD_BYTES as u64 > self.capacity && !self.is_fresh(end) {
            self.roll().await?;
        }
        let offset = self.offset + self.batch.buffer.len() as u64;
        let (offset, synced) = (self.narrow(offset)?, self.narrow(self.synced)?);
        let len = draft.put(&mut self.batch.buffer, self.segment.seed, synced);
        if draft.kind == Kind::Entry {
            self.batch.changes.push(Change::Entry(draft.index, Spot { offset, len }));
        }
        Ok(())
    }

    /// Whether the segment has nothing but its head, at most.
    fn is_fresh(&self, end: u64) -> bool {
        const FACTS: usize = 3;
        end <= (HEADER_BYTES + FACTS * (HEAD_BYTES + 1)) as u64
    }

    fn narrow(&self, offset: u64) -> Result<u32, LogError> {
        u32::try_from(offset).map_err(|_| {
            self.io_error("write", io::Error::new(io::ErrorKind::FileTooLarge, "a full segment"))
        })
    }

    /// Writes the buffer; then the entries in it can be read from the file.
    async fn write(&mut self) -> Result<(), LogError> {
        let len = self.batch.buffer.len();
        if len > 0 {
            self.retry("write", || {
                self.disk.write_at(&self.segment.file, &self.batch.buffer, self.offset)
            })
            .await?;
            self.offset += len as u64;
            self.shared.metrics.appended_bytes.inc_by(len as u64);
            self.shared
                .metrics
                .batch_bytes
                .observe(f64::from(u32::try_from(len).unwrap_or(u32::MAX)));
            self.batch.buffer.clear();
            if self.batch.buffer.capacity() > KEPT_BUFFER_BYTES {
                self.batch.buffer = Vec::new();
            }
        }
        let mut state = self.shared.state.lock();
        for change in self.batch.changes.drain(..) {
            state.place(&change);
        }
        state.evict(self.shared.options.cache_bytes);
        Ok(())
    }

    /// Makes what was written durable. A failure is final: the pages may be lost, so neither may
    /// the sync be repeated nor anything be acknowledged after it.
    async fn sync(&mut self) -> Result<(), LogError> {
        let begin = Instant::now();
        self.disk.sync(&self.segment.file).await.map_err(|e| self.io_error("fsync", e))?;
        self.shared.metrics.fsync_seconds.observe(begin.elapsed().as_secs_f64());
        self.shared.metrics.fsyncs.inc();
        self.synced = self.offset;
        Ok(())
    }

    /// Ends this segment and goes on in the next.
    async fn roll(&mut self) -> Result<(), LogError> {
        self.write().await?;
        // First the next one, then the seal: while space is missing this segment stays open.
        let blank = self.spares.take(|| !self.shared.queue.is_stopping()).await?;
        let synced = self.narrow(self.synced)?;
        let seal = Draft::about(Kind::Seal, None);
        seal.put(&mut self.batch.buffer, self.segment.seed, synced);
        self.write().await?;
        self.sync().await?;
        crash::point("log-roll-sealed");
        self.install(&blank).await
    }

    async fn install(&mut self, blank: &Blank) -> Result<(), LogError> {
        let Found { segment, bytes } =
            Found::new(&self.disk, &self.dir, blank, self.next_index, &self.head)?;
        let wrap = |op| move |e| LogError::io(&blank.path, op, e);
        self.retry("write", || self.disk.write_at(&segment.file, &bytes, 0)).await?;
        self.disk.sync(&segment.file).await.map_err(wrap("fsync"))?;
        self.retry("rename", || self.disk.host.rename(&blank.path, &segment.path)).await?;
        crash::point("log-roll-named");
        self.disk.sync_dir(&self.dir).await.map_err(wrap("fsync the directory of"))?;
        crash::point("log-roll-done");
        let offset = bytes.len() as u64;
        self.shared.state.lock().add_segment(Arc::clone(&segment));
        self.spares.want(segment.header.sequence + 1);
        self.segment = segment;
        self.capacity = blank.bytes;
        // All of the last one may have been purged while it was the newest.
        self.batch.may_free = true;
        self.offset = offset;
        self.synced = offset;
        Ok(())
    }

    /// Repeats a write while the disk is full. No fsync goes through here.
    async fn retry(
        &self,
        op: &'static str,
        mut write: impl FnMut() -> io::Result<()> + Send,
    ) -> Result<(), LogError> {
        loop {
            match write() {
                Ok(()) => {
                    if self.shared.write_full.swap(false, Ordering::Relaxed) {
                        self.shared.metrics.full.dec();
                    }
                    return Ok(());
                }
                Err(error) if disk::is_full(&error) => {
                    if !self.shared.write_full.swap(true, Ordering::Relaxed) {
                        self.shared.metrics.full.inc();
                        tracing::warn!(path = %self.segment.path.display(), "no space for the log");
                    }
                    if self.shared.queue.is_stopping() {
                        return Err(LogError::Stopped);
                    }
                    self.shared.queue.pause(FULL_PAUSE).await;
                }
                Err(error) => return Err(self.io_error(op, error)),
            }
        }
    }

    /// Tells those who waited.
    fn finish(&mut self) {
        for waiting in self.batch.waiting.drain(..) {
            if let Waiting::Vote(vote, _) = &waiting {
                self.shared.state.lock().vote = Some(*vote);
            }
            waiting.finish(Ok(()));
        }
    }

    /// Remembers why the log stopped and tells all who wait or will come.
    async fn fail(&mut self, error: LogError) {
        tracing::error!(%error, "the log has stopped");
        let error = Arc::new(error);
        self.shared.state.lock().failed = Some(Arc::clone(&error));
        self.shared.queue.stop();
        while self.shared.queue.drain(&mut self.batch.operations).await.is_some() {}
        for operation in self.batch.operations.drain(..) {
            match operation {
                Operation::Append(_, done) => self.batch.waiting.push(Waiting::Append(done)),
                Operation::Vote(vote, done) => {
                    self.batch.waiting.push(Waiting::Vote(vote, done));
                }
                Operation::TruncateAfter(_) | Operation::Purge(_) | Operation::Committed(_) => {}
            }
        }
        for waiting in self.batch.waiting.drain(..) {
            waiting.finish(Err(LogError::shared(&error)));
        }
    }

    fn io_error(&self, op: &'static str, source: io::Error) -> LogError {
        LogError::io(&self.segment.path, op, source)
    }
}

/// What makes a segment of a blank: header and facts, to be synced before it gets its name.
pub(super) struct Found {
    segment: Arc<Segment>,
    bytes: Vec<u8>,
}

impl Found {
    /// # Errors
    /// [`LogError::Io`].
    pub(super) fn new(
        disk: &Disk,
        dir: &Path,
        blank: &Blank,
        first_index: LogIndex,
        facts: &Head,
    ) -> Result<Self, LogError> {
        let wrap = |op| move |e| LogError::io(&blank.path, op, e);
        let Head { vote, committed, purged } = facts;
        let about = |kind, id: &Option<LogId>| id.as_ref().map(|id| Draft::about(kind, Some(id)));
        let drafts: Vec<_> = [
            vote.as_ref().map(Draft::vote),
            about(Kind::Committed, committed),
            about(Kind::Purged, purged),
        ]
        .into_iter()
        .flatten()
        .collect();
        let facts_bytes: usize =
            drafts.iter().map(|draft| HEAD_BYTES + draft.payload_bytes()).sum();
        let facts_bytes = u32::try_from(facts_bytes).unwrap_or(0);
        let header = Header::new(disk, blank.sequence, first_index, facts_bytes)
            .map_err(wrap("choose a salt for"))?;
        let file = blank.file.try_clone().map_err(wrap("clone"))?;
        let segment = Segment::new(file, blank.final_path(dir), header);
        let mut bytes = header.bytes();
        for draft in drafts {
            draft.put(&mut bytes, segment.seed, 0);
        }
        Ok(Self { segment: Arc::new(segment), bytes })
    }

    /// Writes it and gives it its name, at once. Gives the offset behind the facts too.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub(super) fn name(
        self,
        disk: &Disk,
        dir: &Path,
        blank: &Blank,
    ) -> Result<(Arc<Segment>, u64), LogError> {
        let wrap = |op| move |e| LogError::io(&blank.path, op, e);
        let Self { segment, bytes } = self;
        disk.write_at(&segment.file, &bytes, 0).map_err(wrap("write"))?;
        disk.sync_now(&segment.file).map_err(wrap("fsync"))?;
        disk.host.rename(&blank.path, &segment.path).map_err(wrap("rename"))?;
        disk.host.sync_dir(dir).map_err(wrap("fsync the directory of"))?;
        Ok((segment, bytes.len() as u64))
    }
}

//! The disk thread: merges what apply submitted and writes it in one batch with its header.
//!
//! A fault of sled never reaches the owner as an error. The thread closes sled, says so once, and
//! goes on emptying the queue until the owner gives it a state to rebuild from.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::queue::{Message, Queue, Ticket};
use super::rows;
use super::tree::{Tree, guarded};
use super::{Batch, DiskError, DiskOptions, Fault, change_bytes, folder};
use crate::crash;
use crate::store::{Change, State};

/// Merged changes beyond which a rebuild lets apply wait.
const REBUILD_PENDING_BYTES: u64 = 32 * 1024 * 1024;
/// Rows written in one go by a rebuild.
const REBUILD_BATCH_BYTES: usize = 1024 * 1024;
/// [`Shared::written`] when nothing is.
const NOTHING: u64 = u64::MAX;

/// What the handle and the thread both see.
pub(super) struct Shared {
    pub(super) queue: Queue,
    suspended: AtomicBool,
    written: AtomicU64,
    /// Makes the next writes fail.
    #[cfg(test)]
    pub(super) full: AtomicBool,
}

impl Shared {
    pub(super) fn new(options: DiskOptions) -> Self {
        Self {
            queue: Queue::new(options),
            suspended: AtomicBool::new(false),
            written: AtomicU64::new(NOTHING),
            #[cfg(test)]
            full: AtomicBool::new(false),
        }
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    pub(super) fn written(&self) -> Option<u64> {
        Some(self.written.load(Ordering::Acquire)).filter(|index| *index != NOTHING)
    }
}

/// Changes of several batches, the last one of each key, and the last header.
#[derive(Default)]
pub(super) struct Pending {
    changes: BTreeMap<Vec<u8>, Change>,
    header: Option<Bytes>,
    bytes: u64,
    tickets: Vec<Ticket>,
}

impl Pending {
    fn add(&mut self, batch: Batch, ticket: Ticket) {
        for change in batch.changes {
            self.bytes = self.bytes.saturating_add(change_bytes(&change));
            let key = rows::key_of_change(&change);
            if let Some(before) = self.changes.insert(key, change) {
                self.bytes = self.bytes.saturating_sub(change_bytes(&before));
            }
        }
        self.header = Some(batch.header);
        self.tickets.push(ticket);
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = (&Vec<u8>, &Change)> {
        self.changes.iter()
    }

    pub(super) fn header(&self) -> &[u8] {
        self.header.as_deref().unwrap_or_default()
    }
}

pub(super) struct Writer {
    dir: PathBuf,
    options: DiskOptions,
    shared: Arc<Shared>,
    /// Taken from the queue and not yet handled.
    inbox: VecDeque<Message>,
    pending: Pending,
    tree: Option<Tree>,
}

impl Writer {
    pub(super) fn new(dir: PathBuf, options: DiskOptions, shared: Arc<Shared>) -> Self {
        let (inbox, pending) = Default::default();
        Self { dir, options, shared, inbox, pending, tree: None }
    }

    /// Runs until the queue is closed and empty, then flushes and closes sled.
    pub(super) fn run(mut self) {
        self.start();
        let mut closing = Vec::new();
        while let Some(messages) = self.shared.queue.take() {
            self.inbox = messages;
            while let Some(message) = self.inbox.pop_front() {
                match message {
                    Message::Batch(batch, ticket) => self.merge(batch, ticket),
                    Message::Sync(reply, _ticket) => {
                        self.write();
                        if reply.send(self.sync()).is_err() {
                            tracing::debug!("nobody waits for the sync any more");
                        }
                    }
                    Message::Rebuild(state, _ticket) => self.rebuild(&state),
                    Message::Close(reply) => closing.push(reply),
                }
            }
            self.write();
        }
        if self.tree.is_some()
            && let Err(error) = self.sync()
        {
            tracing::warn!(%error, "store copy not synced at shutdown");
        }
        self.close();
        for reply in closing {
            if reply.send(()).is_err() {
                tracing::debug!("nobody waits for the end any more");
            }
        }
    }

    fn start(&mut self) {
        let opened = guarded(|| {
            if folder::is_absent(&self.dir)? {
                return self.build(&State::default());
            }
            if !folder::begin_opening(&self.dir)? {
                return Err(Fault::DiedOpening);
            }
            let tree = Tree::open(&self.dir, &self.options);
            folder::clear_deaths(&self.dir)?;
            tree
        });
        self.adopt(opened);
    }

    fn adopt(&mut self, opened: Result<Tree, Fault>) {
        match opened {
            Ok(tree) => {
                self.note_written(tree.applied());
                self.tree = Some(tree);
                self.shared.suspended.store(false, Ordering::Release);
            }
            Err(fault) => self.suspend(&fault),
        }
    }

    fn note_written(&self, applied: Option<u64>) {
        self.shared.written.store(applied.unwrap_or(NOTHING), Ordering::Release);
    }

    fn merge(&mut self, batch: Batch, ticket: Ticket) {
        if self.tree.is_none() {
            return;
        }
        self.pending.add(batch, ticket);
        if self.pending.bytes >= self.options.merge_bytes
            || self.pending.changes.len() >= self.options.merge_keys
        {
            self.write();
        }
    }

    fn write(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let Some(tree) = &mut self.tree else { return };
        if pending.header.is_none() {
            return;
        }
        let written = guarded(|| {
            #[cfg(test)]
            if self.shared.full.load(Ordering::Acquire) {
                return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
            }
            tree.write(&pending)
        });
        match written {
            Ok(()) => {
                crash::point("store-batch-written");
                let applied = tree.applied();
                self.note_written(applied);
            }
            Err(fault) => self.suspend(&fault),
        }
    }

    fn sync(&mut self) -> Result<Option<u64>, DiskError> {
        let tree = self.tree.as_ref().ok_or(DiskError::Suspended)?;
        match guarded(|| tree.sync(&self.dir)) {
            Ok(()) => Ok(tree.applied()),
            Err(fault) => {
                self.suspend(&fault);
                Err(DiskError::Suspended)
            }
        }
    }

    /// Stops using sled.
    fn suspend(&mut self, fault: &Fault) {
        if self.shared.suspended.swap(true, Ordering::AcqRel) {
            tracing::warn!(error = %fault, "store copy stays suspended");
        } else {
            tracing::error!(
                dir = %self.dir.display(), error = %fault,
                "store copy suspended: memory and log go on without it"
            );
        }
        self.pending = Pending::default();
        self.close();
    }

    fn close(&mut self) {
        let tree = self.tree.take();
        if let Err(fault) = guarded(|| {
            drop(tree);
            Ok(())
        }) {
            tracing::warn!(error = %fault, "store copy not closed cleanly");
        }
    }

    /// Writes a whole state into a fresh directory and puts it in the place of the old one.
    fn rebuild(&mut self, state: &State) {
        // The state includes whatever was submitted before it.
        self.pending = Pending::default();
        self.close();
        let rebuilt = guarded(|| self.build(state));
        self.adopt(rebuilt);
    }

    fn build(&mut self, state: &State) -> Result<Tree, Fault> {
        if self.shared.is_suspended() {
            // Perhaps the disk is full of it, and the log replays all it has.
            folder::remove(&self.dir)?;
        }
        let fresh = folder::fresh(&self.dir);
        folder::remove(&fresh)?;
        let mut tree = Tree::create(&fresh, &self.options)?;
        let mut batch = sled::Batch::default();
        let mut bytes = 0;
        let mut keys = state.configs().map(|(key, _)| rows::config_key(key));
        for row in state.rows_without_history() {
            let entry = match keys.next() {
                Some(key) => key,
                None => rows::key_of(row.clone())?,
            };
            bytes += entry.len() + row.len();
            tree.stage(&mut batch, &entry, &row)?;
            if bytes >= REBUILD_BATCH_BYTES {
                bytes = 0;
                tree.commit_staged(std::mem::take(&mut batch))?;
                crash::point("store-rebuild-half");
                self.absorb();
            }
        }
        tree.commit_staged(batch)?;
        let index = state.header().applied.map_or(0, |(_, index)| index);
        for record in state.all_history() {
            tree.stage_history(record, index)?;
        }
        let header = Pending { header: Some(state.header_record()), ..Pending::default() };
        tree.write(&header)?;
        tree.sync(&fresh)?;
        drop(tree);
        crash::point("store-rebuild-written");
        folder::swap_in(&self.dir)?;
        Tree::open(&self.dir, &self.options)
    }

    /// Merges what apply submits during a rebuild, so that apply need not wait for it.
    fn absorb(&mut self) {
        self.inbox.extend(self.shared.queue.take_now());
        while self.pending.bytes < REBUILD_PENDING_BYTES {
            match self.inbox.pop_front() {
                Some(Message::Batch(batch, mut ticket)) => {
                    ticket.give_way();
                    self.pending.add(batch, ticket);
                }
                Some(other) => return self.inbox.push_front(other),
                None => return,
            }
        }
    }
}

//! sled itself: opened and written, and every panic of it caught.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use prost::Message as _;

use super::past::PastFile;
use super::rows::{self, FORMAT, FORMAT_KEY, HEADER_KEY, HeaderRow, Totals};
use super::writer::Pending;
use super::{DiskOptions, Fault, folder};
use crate::kind::history::{self, History};
use crate::record::wire;
use crate::store::Change;

/// sled's own period of writing what its buffers hold (raft-storage.md §1).
const FLUSH_EVERY_MS: u64 = 500;
/// A handle that was just dropped may hold sled's lock a little longer: its I/O threads have it, and
/// tell nobody when they let it go. Two seconds in all, then opening fails.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Runs something that calls sled, which answers much of what it does not expect with a panic.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // Whatever a panic leaves half done is given up: sled is closed after every fault.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|cause| {
        let text = cause
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| cause.downcast_ref::<&str>().copied())
            .unwrap_or("unknown");
        Err(Fault::Panicked(text.to_owned()))
    })
}

/// An open sled directory.
pub(super) struct Tree {
    db: sled::Db,
    /// sled's log, opened a second time: sled's own flush does not reach through the disk's cache.
    log: File,
    totals: Totals,
    applied: Option<u64>,
    past: PastFile,
}

impl Tree {
    /// Opens a directory that was written before.
    pub(super) fn open(dir: &Path, options: &DiskOptions) -> Result<Self, Fault> {
        let db = open_db(dir, options)?;
        let HeaderRow { totals, header } = header_of(&db)?;
        let applied = applied_of(&header)?;
        let past = PastFile::open(dir, applied)?;
        Ok(Self { db, log: log_of(dir)?, totals, applied, past })
    }

    /// Creates a directory, to be filled by [`Self::stage`] and ended by [`Self::write`].
    pub(super) fn create(dir: &Path, options: &DiskOptions) -> Result<Self, Fault> {
        let db = open_db(dir, options)?;
        let (log, past) = (log_of(dir)?, PastFile::create(dir)?);
        Ok(Self { db, log, totals: Totals::default(), applied: None, past })
    }

    /// Log index of the last entry that is written here.
    pub(super) const fn applied(&self) -> Option<u64> {
        self.applied
    }

    /// Writes the merged changes and the header that covers them, in one batch.
    pub(super) fn write(&mut self, pending: &Pending) -> Result<(), Fault> {
        let mut batch = sled::Batch::default();
        let mut totals = self.totals;
        let applied = applied_of(pending.header())?;
        for (entry, change) in pending.changes() {
            if let Change::History(id, kept) = change {
                let row = kept.as_ref().map(|kept| history::row(kept));
                self.past.put(*id, row.as_deref(), applied.unwrap_or_default())?;
                continue;
            }
            // The insert would read the same node: asking for the old value costs no I/O.
            let old = self.db.get(entry)?;
            let (_, row) = rows::entry_of(change);
            rows::put(&mut batch, &mut totals, entry, row.as_deref(), old.as_deref())?;
        }
        batch.insert(FORMAT_KEY, &FORMAT.to_be_bytes());
        batch.insert(HEADER_KEY, HeaderRow::encode(totals, pending.header()));
        // Before the header that covers them.
        self.past.commit()?;
        self.db.apply_batch(batch)?;
        (self.totals, self.applied) = (totals, applied);
        Ok(())
    }

    /// Adds a row that is not there yet, without a header: a directory of its own, not yet in use.
    pub(super) fn stage(
        &mut self,
        batch: &mut sled::Batch,
        entry: &[u8],
        row: &[u8],
    ) -> Result<(), Fault> {
        rows::put(batch, &mut self.totals, entry, Some(row), None)
    }

    /// Adds a history record in the same way.
    pub(super) fn stage_history(&mut self, record: &History, index: u64) -> Result<(), Fault> {
        self.past.put(record.id, Some(&history::row(record)), index)?;
        if self.past.waiting() >= STAGED_BYTES { self.past.commit() } else { Ok(()) }
    }

    pub(super) fn commit_staged(&self, batch: sled::Batch) -> Result<(), Fault> {
        Ok(self.db.apply_batch(batch)?)
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self, dir: &Path) -> Result<(), Fault> {
        self.db.flush()?;
        self.log.sync_data()?;
        // The files beside the log and their names.
        Ok(folder::sync_tree(dir)?)
    }
}

/// History that is held before it is written.
const STAGED_BYTES: usize = 1024 * 1024;

pub(super) fn open_db(dir: &Path, options: &DiskOptions) -> Result<sled::Db, Fault> {
    if dir.exists() {
        folder::remove_generating(dir)?;
    }
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    for _ in 1..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return Ok(opened?),
        }
    }
    Ok(config.open()?)
}

fn log_of(dir: &Path) -> Result<File, Fault> {
    Ok(File::options().read(true).write(true).open(dir.join("db"))?)
}

/// The header. Each directory has one from its first batch on: without it, sled lost all and
/// calls it a new one.
pub(super) fn header_of(db: &sled::Db) -> Result<HeaderRow, Fault> {
    let format = db.get(FORMAT_KEY)?.ok_or(Fault::Malformed("tree: it has no format"))?;
    let format = <[u8; 4]>::try_from(&*format).map_err(|_| Fault::Malformed("format"))?;
    match u32::from_be_bytes(format) {
        FORMAT => {}
        other => return Err(Fault::Format(other)),
    }
    let value = db.get(HEADER_KEY)?.ok_or(Fault::Malformed("tree: it has no header"))?;
    HeaderRow::decode(&value)
}

pub(super) fn applied_of(header: &[u8]) -> Result<Option<u64>, Fault> {
    let header = wire::StoreHeader::decode(header).map_err(|_| Fault::Malformed("header"))?;
    Ok(header.has_applied.then_some(header.applied_index))
}

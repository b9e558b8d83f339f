//! The few file operations that the log's durability rests on, in one place so that tests can make
//! them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering};

/// The disk, or in tests a disk with faults.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) faults: Arc<Faults>,
}

/// What goes wrong in a test.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// `fdatasync` returns EIO.
    pub(super) sync: AtomicBool,
    /// Writes to segments return ENOSPC.
    pub(super) full: AtomicBool,
}

impl Disk {
    /// Writes all of `bytes` at `offset`.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(bytes, offset)
    }

    /// Makes the content of `file` durable.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected"));
        }
        file.sync_data()
    }

    /// Makes the names in `dir` durable.
    #[expect(clippy::unused_self, reason = "all durability goes through the disk")]
    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Whether the error means that space is missing, which may come back.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

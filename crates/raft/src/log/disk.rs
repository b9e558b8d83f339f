//! The few file operations that the log's durability rests on, in one place so that tests can make
//! them fail.

use std::fs::File;
use std::io;
use std::path::Path;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::Host;

/// The disk, or in tests a disk with faults.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) host: Host,
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
    /// The disk of `host`, without faults.
    pub(super) fn on(host: &Host) -> Self {
        let mut disk = Self::default();
        disk.host.clone_from(host);
        disk
    }

    /// Writes all of `bytes` at `offset`.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.host.write_at(file, bytes, offset)
    }

    /// Makes the content of `file` durable.
    pub(super) async fn sync(&self, file: &File) -> io::Result<()> {
        self.host.sync_delay().await;
        self.sync_now(file)
    }

    /// As [`Disk::sync`], for an opening, during which nothing else goes on.
    pub(super) fn sync_now(&self, file: &File) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected"));
        }
        self.host.sync(file)
    }

    /// Makes the names in `dir` durable.
    pub(super) async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.host.sync_delay().await;
        self.host.sync_dir(dir)
    }
}

/// Whether the error means that space is missing, which may come back.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

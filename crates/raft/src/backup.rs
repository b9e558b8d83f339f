//! Backups: a snapshot of everything that was acknowledged before it was asked for, kept aside
//! under a name of its own until it was fetched. Making one a cluster again is [`crate::restore`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::time::Instant;

use crate::node::{Inner, Node};

/// Backups kept aside at one time; the oldest makes room.
const KEPT: usize = 2;
const SUFFIX: &str = "snap";
/// Most bytes of one part.
pub const MAX_PART_BYTES: usize = 8 << 20;

/// A backup that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its name, until the node stops or two more were begun.
    pub name: String,
    /// Length of its file.
    pub size_bytes: u64,
    /// Last entry that it includes.
    pub index: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// What was acknowledged could not be confirmed.
    #[error(transparent)]
    Read(#[from] crate::error::ReadError),
    /// It cannot be written or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is none of this name.
    #[error("no backup {0}: it was begun too long ago, begin another")]
    Gone(String),
}

/// Sweeps what an earlier process kept.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Node {
    /// Takes a snapshot that includes every write that was acknowledged anywhere before this
    /// call, and keeps it to be fetched.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin_backup(&self, deadline: Instant) -> Result<Backup, BackupError> {
        self.read_barrier(deadline).await?;
        self.inner.take_snapshot().await?;
        let inner = std::sync::Arc::clone(&self.inner);
        let kept = tokio::task::spawn_blocking(move || inner.keep_backup()).await;
        Ok(kept.map_err(io::Error::other)??)
    }

    /// A part of a backup: fewer bytes than asked for at its end only.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn read_backup(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, BackupError> {
        let is_ours = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let path = self.inner.backups.join(format!("{name}.{SUFFIX}"));
        if !is_ours || name.is_empty() {
            return Err(BackupError::Gone(name.to_owned()));
        }
        let length = length.min(MAX_PART_BYTES);
        let read = tokio::task::spawn_blocking(move || read_part(&path, offset, length)).await;
        match read.map_err(io::Error::other)? {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BackupError::Gone(name.to_owned()))
            }
            read => Ok(read?),
        }
    }
}

fn read_part(path: &Path, offset: u64, length: usize) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let mut part = vec![0; length];
    let mut read = 0;
    while let Some(rest) = part.get_mut(read..)
        && !rest.is_empty()
    {
        match file.read_at(rest, offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    part.truncate(read);
    Ok(part.into())
}

impl Inner {
    /// Gives the current snapshot a second name, so that it stays when newer ones are built.
    fn keep_backup(&self) -> io::Result<Backup> {
        let current = self.applied.snapshots.current();
        let current = current.ok_or_else(|| io::Error::other("there is no snapshot"))?;
        let path = current.snapshot.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        fs::create_dir_all(&self.backups)?;
        let kept = self.backups.join(format!("{name}.{SUFFIX}"));
        match fs::hard_link(path, &kept) {
            // It was begun before, at the same position.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
        self.prune_backups(&kept)?;
        let index = current.meta.last_log_id.map_or(0, |id| id.index);
        Ok(Backup { name, size_bytes: current.snapshot.size_bytes(), index })
    }

    fn prune_backups(&self, newest: &Path) -> io::Result<()> {
        let mut others: Vec<PathBuf> = fs::read_dir(&self.backups)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path != newest)
            .collect();
        // Names sort by term and index.
        others.sort();
        let excess = others.len().saturating_sub(KEPT - 1);
        others.into_iter().take(excess).try_for_each(fs::remove_file)
    }
}

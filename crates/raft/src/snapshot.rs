//! Snapshot files: built beside apply, received from a leader, the newest two kept.
//!
//! A file is complete under its final name or not there at all. What is in it, and how damage is
//! found, is `quorate_core::store::dump`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_core::crash;
use quorate_core::store::State;
use quorate_core::store::dump::{self, DumpError};

use crate::host::Host;
use crate::types::{LogId, SnapshotMeta, TypeConfig, log_id, term_of};

/// openraft's snapshot with our file in it.
pub type RaftSnapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// Newest snapshots kept.
const KEPT: usize = 2;
const SUFFIX: &str = "snap";
/// Writing is paced to this rate, so that the log's fsync does not wait behind it.
const BYTES_PER_SECOND: u64 = 50 << 20;

/// One snapshot file; a received one that was never installed is deleted when dropped.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: Arc<OwnedPath>,
    size_bytes: u64,
    /// What is in a received file, read when it was verified.
    state: Option<State>,
}

#[derive(Debug)]
struct OwnedPath {
    path: PathBuf,
    is_temporary: bool,
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        if self.is_temporary && self.path.exists() {
            // A leftover is swept at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl SnapshotFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path.path
    }

    /// Its length.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// The snapshots of one node.
#[derive(Debug)]
pub struct SnapshotDir {
    dir: PathBuf,
    cluster_id: Arc<std::sync::OnceLock<u64>>,
    newest: Mutex<Option<(SnapshotMeta, SnapshotFile)>>,
    incoming: AtomicU64,
    /// Ends a build that is under way.
    stopping: AtomicBool,
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl SnapshotDir {
    /// Opens the directory, sweeps what was left half written. Blocking.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open(dir: &Path, cluster_id: Arc<std::sync::OnceLock<u64>>) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Self::look(dir, cluster_id)
    }

    /// The directory as it is, to be read.
    pub(crate) fn look(dir: &Path, cluster_id: Arc<std::sync::OnceLock<u64>>) -> io::Result<Self> {
        let dir = dir.to_owned();
        let (newest, incoming) = (Mutex::new(None), AtomicU64::new(0));
        Ok(Self { dir, cluster_id, newest, incoming, stopping: AtomicBool::new(false) })
    }

    /// Files by position, newest first.
    pub(crate) fn files(&self) -> io::Result<Vec<(LogId, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX)
                && let Some(id) = path.file_stem().and_then(|stem| parse_name(stem.to_str()?))
            {
                files.push((id, path));
            }
        }
        files.sort_by_key(|(id, _)| std::cmp::Reverse(id.index));
        Ok(files)
    }

    /// The position of the newest file by name, without reading it.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn newest_position(&self) -> io::Result<Option<LogId>> {
        Ok(self.files()?.first().map(|(id, _)| *id))
    }

    /// Reads the newest file that verifies. Damaged ones are reported and left where they are.
    /// Blocking.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn load_newest(&self) -> io::Result<Option<State>> {
        for (id, path) in self.files()? {
            match dump::read(&path) {
                Ok((state, _)) => return Ok(Some(state)),
                Err(error) => {
                    tracing::error!(index = id.index, path = %path.display(), %error,
                        "snapshot does not verify");
                }
            }
        }
        Ok(None)
    }

    /// Remembers the newest file as the current snapshot, its members read from `state` when it is
    /// at that position, else from the file. Blocking.
    ///
    /// # Errors
    /// When a file's head cannot be read.
    pub fn adopt_newest(&self, purged: Option<LogId>) -> io::Result<()> {
        for (id, path) in self.files()? {
            if Some(id) < purged {
                // The log no longer goes on from it: of no use to anyone. Raft builds a new one.
                return Ok(());
            }
            match dump::verify(&path) {
                Ok(info) => {
                    let last_membership =
                        serde_json::from_slice(&info.head.membership).map_err(invalid)?;
                    let meta = SnapshotMeta { last_log_id: Some(id), last_membership };
                    self.set_newest(meta, &path)?;
                    return Ok(());
                }
                Err(error) => {
                    tracing::error!(index = id.index, path = %path.display(), %error,
                        "snapshot does not verify");
                }
            }
        }
        Ok(())
    }

    fn set_newest(&self, meta: SnapshotMeta, path: &Path) -> io::Result<SnapshotFile> {
        let size_bytes = fs::metadata(path)?.len();
        let owned = OwnedPath { path: path.to_owned(), is_temporary: false };
        let file = SnapshotFile { path: Arc::new(owned), size_bytes, state: None };
        let mut newest = self.newest.lock();
        // A build that ends after a newer snapshot was installed must not take its place.
        let is_newer = newest.as_ref().is_none_or(|(held, _)| held.last_log_id < meta.last_log_id);
        if is_newer {
            *newest = Some((meta, file.clone()));
        }
        Ok(file)
    }

    /// Ends a build that is under way, with an error.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Option<RaftSnapshot> {
        let newest = self.newest.lock();
        newest
            .as_ref()
            .map(|(meta, file)| RaftSnapshot { meta: meta.clone(), snapshot: file.clone() })
    }

    /// Writes a frozen state to a file and makes it the current snapshot. Blocking, paced.
    ///
    /// # Errors
    /// When it cannot be written. Nothing is left behind then.
    pub(crate) fn build(
        &self,
        host: &Host,
        state: &State,
        meta: SnapshotMeta,
    ) -> io::Result<RaftSnapshot> {
        let Some(id) = &meta.last_log_id else {
            return Err(io::Error::other("nothing was applied: there is nothing to snapshot"));
        };
        let path = self.dir.join(file_name(id));
        let beside = path.with_extension("tmp");
        let cluster = self.cluster_id.get().copied().unwrap_or_default();
        let pace = |bytes: usize| {
            let nanos = bytes as u64 * 1_000_000_000 / BYTES_PER_SECOND;
            host.pause(Duration::from_nanos(nanos));
            if self.stopping.load(Ordering::Relaxed) {
                return Err(io::Error::other("the node is stopping"));
            }
            Ok(())
        };
        let written = dump::write(state, cluster, &beside, pace).and_then(|_| {
            crash::point("snapshot-written");
            dump::finish_rename(&beside, &path)
        });
        if let Err(error) = written {
            drop(fs::remove_file(&beside));
            return Err(into_io(error));
        }
        let file = self.set_newest(meta.clone(), &path)?;
        self.prune();
        crash::point("snapshot-pruned");
        Ok(RaftSnapshot { meta, snapshot: file })
    }

    /// Verifies a received file, moves it to its place and returns what is in it. Blocking.
    ///
    /// # Errors
    /// `InvalidData` when a checksum or the position is not what the leader said.
    pub fn install(&self, meta: &SnapshotMeta, file: &SnapshotFile) -> io::Result<State> {
        let state = match &file.state {
            Some(state) => state.clone(),
            None => dump::read(file.path()).map_err(into_io)?.0,
        };
        let position = state.header().applied.map(|(term, index)| log_id(term, index));
        if position != meta.last_log_id {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the snapshot's position is not the one announced",
            ));
        }
        if let Some(id) = &meta.last_log_id {
            crash::point("install-verified");
            let path = self.dir.join(file_name(id));
            dump::finish_rename(file.path(), &path).map_err(into_io)?;
            self.set_newest(meta.clone(), &path)?;
            self.prune();
            crash::point("install-named");
        }
        Ok(state)
    }

    /// What is left over is tried again the next time.
    fn prune(&self) {
        let old = self.files().map(|files| files.into_iter().skip(KEPT));
        let removed = old.and_then(|mut old| old.try_for_each(|(_, path)| fs::remove_file(path)));
        if let Err(error) = removed {
            tracing::warn!(%error, "old snapshots were not removed");
        }
    }
}

fn into_io(error: DumpError) -> io::Error {
    match error {
        DumpError::Io { source, .. } => source,
        DumpError::Corrupt { .. } | DumpError::NewerFormat { .. } => invalid(error),
    }
}

pub(crate) fn file_name(id: &LogId) -> String {
    format!("{:020}-{:020}.{SUFFIX}", term_of(id), id.index)
}

fn parse_name(stem: &str) -> Option<LogId> {
    let (term, index) = stem.split_once('-')?;
    Some(log_id(term.parse().ok()?, index.parse().ok()?))
}

/// A snapshot that is being received.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    owned: OwnedPath,
    size_bytes: u64,
}

impl Incoming {
    /// Opens a file for it. Blocking.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(dir: &SnapshotDir) -> io::Result<Self> {
        let number = dir.incoming.fetch_add(1, Ordering::Relaxed);
        let path = dir.dir.join(format!("incoming-{number}.tmp"));
        let file = File::create(&path)?;
        Ok(Self { file, owned: OwnedPath { path, is_temporary: true }, size_bytes: 0 })
    }

    /// Appends a chunk. Blocking.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(mut self, chunk: &[u8]) -> io::Result<Self> {
        self.file.write_all(chunk)?;
        self.size_bytes += chunk.len() as u64;
        // Written back as it comes, so that the last fsync is short.
        self.file.sync_data()?;
        crash::point("install-chunk-written");
        Ok(self)
    }

    /// What has come.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Makes it durable and verifies it: what the state machine cannot install would end the
    /// node. Blocking.
    ///
    /// # Errors
    /// When the disk refuses, or `InvalidData` when the file is not whole or not at `position`.
    pub fn finish(self, position: Option<LogId>) -> io::Result<SnapshotFile> {
        self.file.sync_all()?;
        let (state, _) = dump::read(&self.owned.path).map_err(into_io)?;
        if state.header().applied.map(|(term, index)| log_id(term, index)) != position {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the snapshot's position is not the one announced",
            ));
        }
        let (path, size_bytes) = (Arc::new(self.owned), self.size_bytes);
        Ok(SnapshotFile { path, size_bytes, state: Some(state) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use quorate_core::store::Store;
    use quorate_core::time::Revision;

    use super::*;

    fn at(index: u64) -> (State, SnapshotMeta) {
        let store = Store::default();
        store.apply().mark(1, index, Revision(index + 1));
        let last_log_id = Some(log_id(1, index));
        (store.freeze(), SnapshotMeta { last_log_id, last_membership: Default::default() })
    }

    #[test]
    fn a_build_that_ends_late_does_not_take_the_place_of_a_newer_snapshot() {
        let home = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(home.path(), Arc::new(OnceLock::from(7))).unwrap();
        for (index, current) in [(5, 5), (9, 9), (7, 9)] {
            let (state, meta) = at(index);
            dir.build(&Host::default(), &state, meta).unwrap();
            let held = dir.current().unwrap().meta.last_log_id;
            assert_eq!(held, Some(log_id(1, current)), "after {index}");
        }
    }
}

//! Checks a data directory while no node uses it, and says what is wrong where. Changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use quorate_core::store::disk::{Disk, DiskOptions, Loaded};
use quorate_core::store::dump;

use crate::identity::Identity;
use crate::log::{self, LogError};
use crate::snapshot::SnapshotDir;
use crate::types::{LogId, log_id, term_of};

/// What a check found, one line for each part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is there and good.
    pub good: Vec<String>,
    /// What heals by itself at the next start.
    pub heals: Vec<String>,
    /// What keeps the node from starting, or from having all it acknowledged.
    pub wrong: Vec<String>,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A node runs on it.
    #[error("{0} is in use by a running node: stop it first")]
    InUse(PathBuf),
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn position(id: Option<LogId>) -> String {
    id.map_or_else(
        || "nothing".to_owned(),
        |id| format!("index {} of term {}", id.index, term_of(&id)),
    )
}

/// Checks a data directory. Blocking.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(data_dir: &Path) -> Result<Findings, VerifyError> {
    let _lock = lock(data_dir)?;
    let mut findings = Findings::default();
    identity(data_dir, &mut findings);
    let newest = snapshots(&data_dir.join("snapshot"), &mut findings);
    let last = raft_log(&data_dir.join("raft"), newest, &mut findings);
    store(&data_dir.join("sled"), newest.max(last), &mut findings);
    Ok(findings)
}

fn lock(data_dir: &Path) -> Result<Option<fs::File>, VerifyError> {
    let path = data_dir.join("LOCK");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| VerifyError::Io { path, source }
    };
    fs::read_dir(data_dir).map_err(io(data_dir))?;
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io(&path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(VerifyError::InUse(data_dir.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(io(&path)(error)),
    }
}

fn identity(data_dir: &Path, findings: &mut Findings) {
    match Identity::read(data_dir) {
        Ok(Some(identity)) => {
            let cluster = identity.cluster_id();
            let cluster = cluster.map_or("none".to_owned(), |id| format!("{id:016x}"));
            let (node, starts) = (identity.node_id(), identity.starts());
            findings.good.push(format!(
                "identity: node {node:016x} of cluster {cluster}, started {starts} times"
            ));
        }
        Ok(None) => findings.wrong.push("identity: there is no node.json".to_owned()),
        Err(error) => findings.wrong.push(format!("identity: {error}")),
    }
}

/// Verifies each snapshot; the newest good one's position.
fn snapshots(dir: &Path, findings: &mut Findings) -> Option<LogId> {
    let files = match SnapshotDir::look(dir, Arc::new(OnceLock::new())).and_then(|it| it.files()) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            findings.wrong.push(format!("snapshots: {error}"));
            return None;
        }
    };
    let mut newest = None;
    for (id, path) in files {
        match dump::read(&path) {
            Ok((state, info)) => {
                newest = newest.max(Some(id));
                findings.good.push(format!(
                    "snapshot {}: {}, {} configurations, {} bytes",
                    path.display(),
                    position(Some(id)),
                    state.config_count(),
                    info.bytes
                ));
            }
            Err(error) => findings.wrong.push(format!("snapshot: {error}")),
        }
    }
    newest
}

fn raft_log(dir: &Path, snapshot: Option<LogId>, findings: &mut Findings) -> Option<LogId> {
    match log::verify(dir) {
        Ok(summary) => {
            findings.good.push(format!(
                "log: {} entries in {} segments, up to {}, purged up to {}",
                summary.entries,
                summary.segments,
                position(summary.last_log_id),
                position(summary.purged)
            ));
            if let Some((path, offset)) = &summary.torn_at {
                findings.heals.push(format!(
                    "log: {} ends in a torn record at byte {offset}, which was never acknowledged",
                    path.display()
                ));
            }
            if summary.purged > snapshot {
                findings.wrong.push(format!(
                    "log: it begins after {}, and no good snapshot reaches that far (unless the \
                     store does)",
                    position(summary.purged)
                ));
            }
            summary.last_log_id.max(summary.purged)
        }
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            findings.wrong.push(format!("log: there is none in {}", dir.display()));
            None
        }
        Err(error) => {
            findings.wrong.push(format!("log: {error}"));
            None
        }
    }
}

/// The store is a copy that is rebuilt when it is damaged. It is looked at in a copy of its own,
/// because opening it writes.
fn store(dir: &Path, last: Option<LogId>, findings: &mut Findings) {
    if !dir.exists() {
        findings.heals.push("store: there is none, it is rebuilt".to_owned());
        return;
    }
    let beside = dir.with_extension("checking");
    let loaded = copy(dir, &beside).map(|()| Disk::load(&beside, &DiskOptions::default()));
    if let Err(error) = fs::remove_dir_all(&beside) {
        findings.heals.push(format!("store: {} was not removed: {error}", beside.display()));
    }
    match loaded {
        Err(error) => findings.wrong.push(format!("store: it cannot be copied: {error}")),
        Ok(Loaded::Empty) => findings.heals.push("store: it is empty, it is rebuilt".to_owned()),
        Ok(Loaded::Unusable { why }) => {
            findings.heals.push(format!("store {}: {why}; it is rebuilt", dir.display()));
        }
        Ok(Loaded::Good(state)) => {
            let applied = state.header().applied.map(|(term, index)| log_id(term, index));
            let text = format!(
                "store: {}, {} configurations, revision {}",
                position(applied),
                state.config_count(),
                state.header().revision.0
            );
            findings.good.push(text);
            if applied > last {
                findings.heals.push("store: it is ahead of the log, it is rebuilt".to_owned());
            }
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

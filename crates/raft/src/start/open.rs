//! What the data directory gives: identity, log, store and snapshots, opened and reconciled.
//!
//! The crash rule (raft-storage.md §5): the store on disk is used when it is at or past the newest
//! snapshot and not past the log; else the state comes from the snapshot and the store is rebuilt.
//! Raft replays the rest from the log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use quorate_core::store::State;
use quorate_core::store::disk::{Disk, DiskOptions, Loaded};

use super::NodeConfig;
use crate::identity::{Identity, IdentityError};
use crate::log::{LogError, LogHandle, LogOptions, LogStore};
use crate::membership::FEATURE_LEVEL;
use crate::snapshot::SnapshotDir;
use crate::types::{LogId, log_id};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has it.
    #[error("the data directory {0} is in use by another process")]
    Locked(PathBuf),
    /// Who it is cannot be told.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file or socket.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The log begins after the newest state that can be read.
    #[error(
        "no snapshot verifies and the log begins after index {purged}: this node's data is lost; \
         move {data_dir} away and start it empty, so that it joins again under a new id"
    )]
    StateLost {
        /// Last entry that the log no longer has.
        purged: u64,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A newer release has written what this one cannot apply.
    #[error(
        "the cluster is at feature level {0}, and this release knows levels up to {FEATURE_LEVEL}: \
         run the release that the other members run"
    )]
    Newer(u32),
    /// No random number.
    #[error("no random number: {0}")]
    Random(io::Error),
    /// openraft refused.
    #[error("raft did not start: {0}")]
    Raft(String),
}

pub(super) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

/// What the disk gave.
pub(super) struct Opened {
    pub(super) lock: std::fs::File,
    pub(super) identity: Identity,
    pub(super) cluster: Arc<OnceLock<u64>>,
    pub(super) log: LogStore,
    pub(super) handle: LogHandle,
    pub(super) snapshots: Arc<SnapshotDir>,
    pub(super) state: State,
    pub(super) disk: Disk,
    /// The store on disk is not this state and must be rewritten.
    pub(super) rebuild: bool,
}

/// Takes the data directory, before anything in it is read or written.
fn lock(data_dir: &Path) -> Result<std::fs::File, StartError> {
    std::fs::create_dir_all(data_dir).map_err(io_error("create the data directory"))?;
    let file = std::fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data_dir.join("LOCK"))
        .map_err(io_error("open the data directory's LOCK"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Locked(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(io_error("lock the data directory")(error)),
    }
}

/// Opens everything. Blocking.
pub(super) fn open(config: &NodeConfig) -> Result<Opened, StartError> {
    let lock = lock(&config.data_dir)?;
    let identity = Identity::open_on(&config.host, &config.data_dir)?;
    let cluster = Arc::new(OnceLock::new());
    if let Some(id) = identity.cluster_id() {
        cluster.get_or_init(|| id);
    }
    let log_options = LogOptions { segment_bytes: config.segment_bytes, ..LogOptions::default() };
    // With small segments there is little to be read again.
    let segment_bytes = usize::try_from(config.segment_bytes).unwrap_or(usize::MAX);
    let cache_bytes = log_options.cache_bytes.min(segment_bytes);
    let log_options = LogOptions { cache_bytes, ..log_options };
    let raft = config.data_dir.join("raft");
    let (log, handle) = LogStore::open_on(&config.host, &raft, log_options)?;
    let snapshots = SnapshotDir::open(&config.data_dir.join("snapshot"), Arc::clone(&cluster))
        .map_err(io_error("open the snapshots"))?;
    crate::backup::sweep(&config.data_dir.join("backup"))
        .map_err(io_error("remove unfetched backups"))?;
    let sled = config.data_dir.join("sled");
    let options = DiskOptions::default();
    let (state, rebuild) = load_state(config, &handle, &snapshots, &sled, &options)?;
    if state.header().cluster.feature_level > FEATURE_LEVEL {
        return Err(StartError::Newer(state.header().cluster.feature_level));
    }
    snapshots.adopt_newest(handle.purged()).map_err(io_error("read the newest snapshot"))?;
    let disk = if config.host.is_simulated() {
        // It has a thread and files of its own, and nothing depends on it.
        Disk::absent()
    } else {
        Disk::open(&sled, &options).map_err(io_error("start the store's thread"))?
    };
    Ok(Opened {
        lock,
        identity,
        cluster,
        log,
        handle,
        snapshots: Arc::new(snapshots),
        state,
        disk,
        rebuild,
    })
}

/// Why a store that applied this does not go with this snapshot and this log, if it does not.
/// Whole log ids: a shorter log of a later term is ahead of a longer one of an earlier term.
fn unfit(
    applied: Option<LogId>,
    snapshot: Option<LogId>,
    last: Option<LogId>,
) -> Option<&'static str> {
    if applied < snapshot {
        Some("it is behind the newest snapshot")
    } else if applied > last.max(snapshot) {
        Some("it is ahead of the log")
    } else {
        None
    }
}

fn load_state(
    config: &NodeConfig,
    log: &LogHandle,
    snapshots: &SnapshotDir,
    sled: &Path,
    options: &DiskOptions,
) -> Result<(State, bool), StartError> {
    let snapshot = snapshots.newest_position().map_err(io_error("list the snapshots"))?;
    let last = log.last_log_id().max(log.purged());
    let why = match Disk::load(sled, options) {
        Loaded::Good(state) => {
            let applied = state.header().applied.map(|(term, index)| log_id(term, index));
            match unfit(applied, snapshot, last) {
                Some(why) => Some(why.to_owned()),
                None => return Ok((state, false)),
            }
        }
        Loaded::Empty => None,
        Loaded::Unusable { why } => Some(why),
    };
    if let Some(why) = why {
        tracing::error!(%why, "the store on disk is rebuilt from the snapshot and the log");
        if sled.exists() {
            Disk::set_aside(sled).map_err(io_error("set the damaged store aside"))?;
        }
    }
    let state = snapshots.load_newest().map_err(io_error("read the snapshots"))?;
    let state = state.unwrap_or_default();
    let applied = state.header().applied.map(|(_, index)| index);
    match log.purged() {
        Some(purged) if applied < Some(purged.index) => {
            Err(StartError::StateLost { purged: purged.index, data_dir: config.data_dir.clone() })
        }
        _ => Ok((state, true)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_core::command::{Command, Proposal, ProposalId};
    use quorate_core::poll::Capacity;
    use quorate_core::store::Store;
    use quorate_core::time::{LogTime, Revision};

    use super::super::WallClock;
    use super::*;
    use crate::host::Host;
    use crate::snapshot::file_name;
    use crate::types::{Member, StoredMembership};

    fn config(data_dir: &Path) -> NodeConfig {
        NodeConfig {
            data_dir: data_dir.to_owned(),
            me: Member::default(),
            peers: Vec::new(),
            join_only: false,
            auto_replace: false,
            history: crate::trim::HistoryBounds::default(),
            auto_replace_after: Duration::ZERO,
            secret: None,
            heartbeat: Duration::ZERO,
            election_min: Duration::ZERO,
            election_max: Duration::ZERO,
            snapshot_every_bytes: 0,
            snapshot_every: Duration::ZERO,
            log_keep_bytes: 0,
            segment_bytes: 65_536,
            capacity: Capacity { polls: 0, keys: 0 },
            now_ms: WallClock::new(|| 0),
            host: Host::default(),
        }
    }

    /// A directory that a release with this feature level left.
    fn left_by(level: u32) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        Identity::open_on(&Host::default(), home.path()).unwrap();
        let store = Store::default();
        {
            let mut apply = store.apply();
            let id = ProposalId { origin: 1, nonce: 1, sequence: 1, floor: 0 };
            let command = Command::Raise { level };
            apply.proposal(Revision(2), &Proposal { id, time: LogTime(1), command });
            let members = serde_json::to_vec(&StoredMembership::default()).unwrap();
            apply.set_membership(members.into());
            apply.mark(1, 1, Revision(2));
        }
        let dir = home.path().join("snapshot");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(file_name(&log_id(1, 1)));
        quorate_core::store::dump::write(&store.freeze(), 1, &path, |_| Ok(())).unwrap();
        home
    }

    #[test]
    fn a_store_is_judged_by_whole_log_ids() {
        let id = |term, index| Some(log_id(term, index));
        for (applied, snapshot, last, is_fit) in [
            (id(1, 5), None, id(1, 5), true),
            (id(1, 5), None, id(1, 9), true),
            (id(1, 9), None, id(1, 5), false),
            (id(1, 9), None, id(2, 5), true),
            (id(2, 5), None, id(1, 9), false),
            (id(1, 9), id(2, 5), id(2, 5), false),
            (id(2, 5), id(1, 9), id(2, 5), true),
            (id(2, 5), id(2, 5), None, true),
            (None, id(1, 1), None, false),
            (None, None, None, true),
        ] {
            let why = unfit(applied, snapshot, last);
            assert_eq!(why.is_none(), is_fit, "{applied:?} {snapshot:?} {last:?}: {why:?}");
        }
    }

    #[test]
    fn what_a_newer_release_wrote_is_refused() {
        let opened = |level| {
            let home = left_by(level);
            open(&config(home.path())).map(drop).map_err(|error| error.to_string())
        };
        let refused = opened(FEATURE_LEVEL + 1).unwrap_err();
        assert!(refused.contains("run the release that the other members run"), "{refused}");
        assert_eq!(opened(FEATURE_LEVEL), Ok(()));
    }
}

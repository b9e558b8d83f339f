//! A backup becomes a cluster of one: always under a new cluster id and a new node id, so that it
//! is never taken for the cluster that it came from. Revisions go on where the backup ends, for
//! its log does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use openraft::storage::RaftLogStorage;
use openraft::vote::RaftLeaderId;
use quorate_core::store::State;
use quorate_core::store::dump::{self, DumpError};

use crate::identity::{Identity, IdentityError};
use crate::log::{LogError, LogOptions, LogStore};
use crate::snapshot::file_name;
use crate::types::{LogId, Member, StoredMembership, Vote, log_id};

/// What was restored, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster.
    pub cluster_id: u64,
    /// Its only node.
    pub node_id: u64,
    /// Revision of the last write that it includes.
    pub revision: u64,
    /// Number of configurations.
    pub configs: usize,
    /// Hash of the state as it was in the cluster that it came from, at that revision.
    pub state_hash: [u8; 16],
}

/// Why nothing was restored. The data directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] DumpError),
    /// Something is there.
    #[error("{0} is not empty: a backup is restored into an empty data directory")]
    NotEmpty(PathBuf),
    /// The backup includes nothing.
    #[error("the backup is of a node that had applied nothing")]
    Nothing,
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file system.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::Io { what, source }
}

/// Reads a backup and verifies all of it. Blocking.
///
/// # Errors
/// [`RestoreError::Backup`].
pub fn read(backup: &Path) -> Result<State, RestoreError> {
    Ok(dump::read(backup)?.0)
}

/// Makes a data directory of a backup. It is there as a whole or not at all.
///
/// # Errors
/// [`RestoreError`].
pub async fn restore(backup: &Path, data_dir: &Path) -> Result<Restored, RestoreError> {
    let is_empty = match fs::read_dir(data_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(source) => return Err(RestoreError::Io { what: "read the data directory", source }),
    };
    if !is_empty {
        return Err(RestoreError::NotEmpty(data_dir.to_owned()));
    }
    let state = read(backup)?;
    let (term, index) = state.header().applied.ok_or(RestoreError::Nothing)?;
    // Built under another name beside it: a directory of another file system is not renamed.
    let mut beside = data_dir.as_os_str().to_owned();
    beside.push(".restoring");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(failed("remove an unfinished restore"))?;
    }
    let restored = build(&state, log_id(term, index), &beside).await?;
    if data_dir.exists() {
        fs::remove_dir(data_dir).map_err(failed("replace the empty data directory"))?;
    }
    fs::rename(&beside, data_dir).map_err(failed("put the data directory in its place"))?;
    sync_parent(data_dir).map_err(failed("sync beside the data directory"))?;
    Ok(restored)
}

async fn build(state: &State, last: LogId, dir: &Path) -> Result<Restored, RestoreError> {
    let mut identity = Identity::open(dir)?;
    let node_id = identity.node_id();
    let cluster_id = getrandom::u64().map_err(io::Error::other);
    let cluster_id = cluster_id.map_err(failed("draw a cluster id"))?.max(1);
    // Its addresses are told by the settings it is started with.
    let nodes = BTreeMap::from([(node_id, Member::default())]);
    let membership = openraft::Membership::new(vec![BTreeSet::from([node_id])], nodes)
        .map_err(|error| failed("make the only member")(io::Error::other(error)))?;
    let stored = StoredMembership::new(Some(last), membership);
    let stored = serde_json::to_vec(&stored)
        .map_err(|error| failed("write the only member")(error.into()))?;
    let state_hash = state.hash();
    let state = state.clone().with_membership(stored.into());

    let snapshots = dir.join("snapshot");
    fs::create_dir_all(&snapshots).map_err(failed("create the snapshots"))?;
    let path = snapshots.join(file_name(&last));
    let tmp = path.with_extension("tmp");
    dump::write(&state, cluster_id, &tmp, |_| Ok(()))?;
    dump::finish_rename(&tmp, &path)?;

    let (mut log, handle) = LogStore::open(&dir.join("raft"), LogOptions::default())?;
    let vote =
        Vote { leader_id: RaftLeaderId::new(last.leader_id.term, node_id), committed: false };
    log.save_vote(&vote).await.map_err(failed("write the vote"))?;
    log.purge(last).await.map_err(failed("begin the log behind the backup"))?;
    drop(log);
    tokio::task::spawn_blocking(move || handle.shutdown())
        .await
        .map_err(|error| failed("close the log")(io::Error::other(error)))?;
    identity.set_cluster(cluster_id)?;
    Ok(Restored {
        cluster_id,
        node_id,
        revision: state.header().revision.0,
        configs: state.config_count(),
        state_hash,
    })
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

//! Who this node is: `node.json` in the data directory. Identity is apart from any address.
//!
//! The node id is random, written and fsynced before it is told to anyone, and never reused. The
//! start counter grows at each start and names this run in proposal ids.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::types::NodeId;

const FILE: &str = "node.json";
const FORMAT: u32 = 1;

/// Why the identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("{op} {path}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what this program wrote.
    #[error("{path} is no identity: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Log or snapshots are here, but no identity: this directory was tampered with.
    #[error("{0} holds a log but no node.json: move the directory away and start empty")]
    Lost(PathBuf),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    format: u32,
    node_id: String,
    cluster_id: Option<String>,
    starts: u64,
}

/// A node's identity and where it is kept.
#[derive(Debug, Clone)]
pub struct Identity {
    path: PathBuf,
    node_id: NodeId,
    cluster_id: Option<u64>,
    starts: u64,
}

impl Identity {
    /// Reads the identity of a data directory, or makes a new one in an empty one, and counts a
    /// start. Blocking.
    ///
    /// # Errors
    /// [`IdentityError`] when the directory cannot be trusted or written.
    pub fn open(data_dir: &Path) -> Result<Self, IdentityError> {
        Self::open_on(&Host::default(), data_dir)
    }

    /// As [`Identity::open`], on what the node stands on.
    ///
    /// # Errors
    /// As [`Identity::open`].
    pub(crate) fn open_on(host: &Host, data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        let io = |op| {
            let path = path.clone();
            move |source| IdentityError::Io { op, path, source }
        };
        fs::create_dir_all(data_dir).map_err(io("create the directory of"))?;
        let mut identity = match Self::read(data_dir)? {
            Some(identity) => identity,
            None => {
                if data_dir.join("raft").exists() || data_dir.join("snapshot").exists() {
                    return Err(IdentityError::Lost(data_dir.to_owned()));
                }
                let node_id = host.random().map_err(io("draw an id for"))?;
                // JSON and the wire treat 0 as "none".
                Self { path: path.clone(), node_id: node_id.max(1), cluster_id: None, starts: 0 }
            }
        };
        identity.starts += 1;
        identity.write()?;
        Ok(identity)
    }

    /// Reads the identity of a data directory, if it has one, and counts no start. Blocking.
    ///
    /// # Errors
    /// [`IdentityError`] when it cannot be read or is none.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&path, &bytes).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Io { op: "read", path, source }),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, IdentityError> {
        let malformed = |why: String| IdentityError::Malformed { path: path.to_owned(), why };
        let written: Written =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if written.format != FORMAT {
            return Err(malformed(format!("format {} is not {FORMAT}", written.format)));
        }
        let id = |text: &str| {
            u64::from_str_radix(text, 16).map_err(|_| malformed(format!("{text} is no id")))
        };
        Ok(Self {
            path: path.to_owned(),
            node_id: id(&written.node_id)?,
            cluster_id: written.cluster_id.as_deref().map(id).transpose()?,
            starts: written.starts,
        })
    }

    fn write(&self) -> Result<(), IdentityError> {
        let written = Written {
            format: FORMAT,
            node_id: format!("{:016x}", self.node_id),
            cluster_id: self.cluster_id.map(|id| format!("{id:016x}")),
            starts: self.starts,
        };
        let text = serde_json::to_vec_pretty(&written).map_err(|error| {
            IdentityError::Malformed { path: self.path.clone(), why: error.to_string() }
        })?;
        write_durably(&self.path, &text).map_err(|source| IdentityError::Io {
            op: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// This node.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The cluster it belongs to, once it does.
    #[must_use]
    pub const fn cluster_id(&self) -> Option<u64> {
        self.cluster_id
    }

    /// How often it was started, this time included.
    #[must_use]
    pub const fn starts(&self) -> u64 {
        self.starts
    }

    /// Writes the cluster id, once: on founding or joining.
    ///
    /// # Errors
    /// [`IdentityError::Io`] when it cannot be written.
    pub fn set_cluster(&mut self, cluster_id: u64) -> Result<(), IdentityError> {
        self.cluster_id = Some(cluster_id);
        self.write()
    }
}

/// Replaces a file so that a crash leaves the old or the new one: write beside it, fsync, rename,
/// fsync the directory.
///
/// # Errors
/// Whatever the file system says.
pub fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_counts_starts() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path()).unwrap();
        let mut second = Identity::open(dir.path()).unwrap();
        assert_eq!(first.node_id(), second.node_id());
        assert_eq!((first.starts(), second.starts()), (1, 2));
        second.set_cluster(7).unwrap();
        assert_eq!(Identity::open(dir.path()).unwrap().cluster_id(), Some(7));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"{").unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Malformed { .. })));
        fs::remove_file(dir.path().join(FILE)).unwrap();
        fs::create_dir(dir.path().join("raft")).unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Lost(_))));
    }
}

//! The snapshot file: one state as rows, in checksummed blocks, refused as a whole when any byte
//! of it is wrong.
//!
//! ```text
//! magic "QRTSNAP1" | version u32
//! block: SnapshotHeader
//! blocks: rows, each after its length as a varint, in order; a row may run on into the next block
//! 0 u32 | rows u64 | md5 of everything before it | crc32c u32 of rows and md5 | magic "QRTSNEND"
//!
//! block: length u32 | crc32c u32 | flags u8 | data
//! ```
//!
//! Numbers are little-endian. A block's checksum covers its length, its flags and its data; the
//! data is at most 1 MiB before compression. The md5 runs along over the file and includes the 0
//! that ends the blocks. Transport, naming and choosing of files are the raft crate's.

mod block;
mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::State;
use crate::record::{RecordError, wire};
use crate::time::Revision;

pub use read::{fuzz_block, head, read, verify};
pub use write::{finish_rename, write};

const MAGIC: [u8; 8] = *b"QRTSNAP1";
const END_MAGIC: [u8; 8] = *b"QRTSNEND";
/// Version that this release writes; it reads this one and all before it.
const VERSION: u32 = 1;
/// Rows in a block, in bytes before compression.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Longest row. The longest content has 30 MiB (10 Mi UTF-16 units of three bytes each).
const MAX_ROW_BYTES: usize = 64 * 1024 * 1024;

/// What a snapshot says of itself before its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpHead {
    /// The cluster that it belongs to.
    pub cluster_id: u64,
    /// Log position of the last entry that it includes: term and index.
    pub applied: Option<(u64, u64)>,
    /// Revision of that entry.
    pub revision: Revision,
    /// The members, in the raft crate's encoding.
    pub membership: Bytes,
    /// Number of configurations.
    pub config_count: u64,
    store_header: Bytes,
}

impl DumpHead {
    fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let wire::SnapshotHeader { cluster_id, store_header } = prost::Message::decode(bytes)?;
        let header: wire::StoreHeader = prost::Message::decode(store_header.clone())?;
        Ok(Self {
            cluster_id,
            applied: header.has_applied.then_some((header.applied_term, header.applied_index)),
            revision: Revision(header.revision),
            membership: Bytes::copy_from_slice(&header.membership),
            config_count: header.config_count,
            store_header: Bytes::copy_from_slice(&store_header),
        })
    }
}

/// A whole snapshot, written or verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpInfo {
    /// What it covers.
    pub head: DumpHead,
    /// Number of rows of all kinds.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// md5 of all of the file but its trailer: names this very file.
    pub hash: [u8; 16],
}

/// Why a snapshot file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file system refused.
    #[error("{op} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// Not what was written.
    #[error("{} is damaged near byte {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Position of the block or field.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error("snapshot format {version} is newer than this release, which reads up to {VERSION}")]
    NewerFormat {
        /// Its version.
        version: u32,
    },
}

impl DumpError {
    fn io(path: &Path, op: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.to_path_buf(), op, source }
    }
}

#[cfg(test)]
mod tests;

//! Writing a state as a snapshot file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::encoding::encode_varint;

use super::{BLOCK_BYTES, DumpError, DumpHead, DumpInfo, END_MAGIC, MAGIC, State, VERSION, block};
use crate::crash;
use crate::record::{exact, wire};
use crate::store::disk::folder;

/// zstd's quickest: the writer shares two cores with everything else.
const ZSTD_LEVEL: i32 = 1;
/// Written between two syncs.
const SYNC_BYTES: usize = 1024 * 1024;

/// Writes a state to `path`, which is created or replaced, and syncs it. Blocks. After each
/// mebibyte the file is synced and `pace` is told how many bytes were written since its last
/// call: it may sleep, so that the log's syncs do not queue behind this file, and its error ends
/// the writing. The caller then calls [`finish_rename`].
///
/// # Errors
/// [`DumpError::Io`]; what was written is removed.
pub fn write(
    state: &State,
    cluster_id: u64,
    path: &Path,
    pace: impl FnMut(usize) -> io::Result<()>,
) -> Result<DumpInfo, DumpError> {
    let result = File::create(path)
        .and_then(|file| Writer::new(file, pace)?.state(state, cluster_id))
        .map_err(DumpError::io(path, "write"));
    if result.is_err()
        && let Err(error) = fs::remove_file(path)
    {
        tracing::debug!(path = %path.display(), %error, "no unfinished snapshot to remove");
    }
    result
}

/// Puts a written or received file in its place: a rename that survives a power loss.
///
/// # Errors
/// [`DumpError::Io`].
pub fn finish_rename(tmp: &Path, path: &Path) -> Result<(), DumpError> {
    fs::rename(tmp, path).map_err(DumpError::io(path, "rename to"))?;
    crash::point("snapshot-named");
    folder::sync_parent(path).map_err(DumpError::io(path, "sync directory of"))
}

struct Writer<P> {
    file: File,
    pace: P,
    hash: Md5,
    zstd: zstd::bulk::Compressor<'static>,
    bytes: u64,
    unsynced: usize,
    /// Rows of the block that is being filled, and the block as it goes to the file.
    rows: Vec<u8>,
    out: Vec<u8>,
}

impl<P: FnMut(usize) -> io::Result<()>> Writer<P> {
    fn new(file: File, pace: P) -> io::Result<Self> {
        Ok(Self {
            file,
            pace,
            hash: Md5::new(),
            zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            bytes: 0,
            unsynced: 0,
            rows: Vec::with_capacity(BLOCK_BYTES),
            out: Vec::new(),
        })
    }

    fn state(mut self, state: &State, cluster_id: u64) -> io::Result<DumpInfo> {
        let header =
            exact(&wire::SnapshotHeader { cluster_id, store_header: state.header_record() });
        let head = DumpHead::decode(header.clone()).map_err(io::Error::other)?;
        self.out.extend_from_slice(&MAGIC);
        self.out.extend_from_slice(&VERSION.to_le_bytes());
        self.block(&header)?;
        let mut rows = 0;
        for row in state.rows() {
            rows += 1;
            self.row(&row)?;
        }
        self.full_block()?;
        self.out.extend_from_slice(&0_u32.to_le_bytes());
        self.flush()?;
        let hash = self.trailer(rows)?;
        self.file.sync_all()?;
        Ok(DumpInfo { head, rows, bytes: self.bytes, hash })
    }

    fn row(&mut self, row: &Bytes) -> io::Result<()> {
        encode_varint(row.len() as u64, &mut self.rows);
        let mut rest: &[u8] = row;
        loop {
            let room = BLOCK_BYTES.saturating_sub(self.rows.len());
            let Some((now, later)) = rest.split_at_checked(room) else { break };
            self.rows.extend_from_slice(now);
            self.full_block()?;
            rest = later;
        }
        self.rows.extend_from_slice(rest);
        Ok(())
    }

    /// Ends the block that is being filled.
    fn full_block(&mut self) -> io::Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            self.block(&rows)?;
        }
        rows.clear();
        self.rows = rows;
        Ok(())
    }

    fn block(&mut self, data: &[u8]) -> io::Result<()> {
        block::encode(data, &mut self.zstd, &mut self.out)?;
        self.flush()
    }

    /// Writes what is ready; syncs and paces.
    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.out)?;
        self.hash.update(&self.out);
        self.bytes += self.out.len() as u64;
        self.unsynced += self.out.len();
        self.out.clear();
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            (self.pace)(std::mem::take(&mut self.unsynced))?;
        }
        Ok(())
    }

    fn trailer(&mut self, rows: u64) -> io::Result<[u8; 16]> {
        let hash: [u8; 16] = self.hash.finalize_reset().into();
        let body = [rows.to_le_bytes().as_slice(), &hash].concat();
        let crc = crc32c::crc32c(&body).to_le_bytes();
        let trailer = [body.as_slice(), &crc, &END_MAGIC].concat();
        self.file.write_all(&trailer)?;
        self.bytes += trailer.len() as u64;
        Ok(hash)
    }
}

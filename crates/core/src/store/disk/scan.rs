//! Reading the whole directory once, at the start.

use std::fs;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;

use super::rows::{self, Body, FORMAT_KEY, HEADER_KEY, Head, HeaderRow, Totals};
use super::tree::{header_of, open_db};
use super::{DiskOptions, Fault};
use crate::store::{State, StateBuilder};

/// Least and most that is read before sled is opened anew.
const SLICE_BYTES: (u64, u64) = (8 * 1024 * 1024, 64 * 1024 * 1024);
/// Slices that a large directory is read in.
const SLICES: u64 = 16;

/// Reads the whole directory and closes it, so that nothing of sled's cache stays in memory.
pub(super) fn read(dir: &Path, options: &DiskOptions) -> Result<State, Fault> {
    let (least, most) = SLICE_BYTES;
    let slice = fs::metadata(dir.join("db"))?.len() / SLICES;
    read_sliced(dir, options, slice.clamp(least, most))
}

pub(super) fn read_sliced(dir: &Path, options: &DiskOptions, slice: u64) -> Result<State, Fault> {
    let mut scan = Scan { dir, options, slice, left: slice, last: Vec::new(), open: None };
    let HeaderRow { totals: expected, header } = header_of(&scan.reopen()?)?;
    let mut builder = StateBuilder::default();
    let mut totals = Totals::default();
    while let Some((key, value)) = scan.next()? {
        if *key == *FORMAT_KEY || *key == *HEADER_KEY {
            continue;
        }
        let Head { crc, body } = Head::decode(&value)?;
        let row = match body {
            Body::Whole(row) => Bytes::copy_from_slice(row),
            Body::Chunked { length, chunks } => gather(&mut scan, &key, length, chunks)?,
        };
        if crc != rows::entry_crc(&key, &row) {
            return Err(Fault::Malformed("entry checksum"));
        }
        totals.add(&key, crc);
        builder.row(row)?;
    }
    if totals != expected {
        return Err(Fault::Malformed("totals"));
    }
    Ok(builder.finish(&header)?)
}

/// The chunks that follow an entry, joined. Memory grows with what is read, not with `length`.
fn gather(scan: &mut Scan<'_>, entry: &[u8], length: u32, chunks: u32) -> Result<Bytes, Fault> {
    let mut row = Vec::new();
    for index in 0..chunks {
        let (key, value) = scan.next()?.ok_or(Fault::Malformed("chunk"))?;
        if *key != *rows::chunk_key(entry, index) {
            return Err(Fault::Malformed("chunk"));
        }
        row.extend_from_slice(&value);
    }
    if u32::try_from(row.len()) != Ok(length) {
        return Err(Fault::Malformed("chunk length"));
    }
    Ok(row.into())
}

/// All entries in the order of their keys. sled's cache drops nothing before a page's shard of it
/// saw 64 accesses, whatever its capacity, and a scan touches each page once: it would keep the
/// whole directory in memory. So sled is closed and opened again after each slice.
struct Scan<'a> {
    dir: &'a Path,
    options: &'a DiskOptions,
    slice: u64,
    left: u64,
    last: Vec<u8>,
    open: Option<sled::Iter>,
}

impl Scan<'_> {
    fn next(&mut self) -> Result<Option<(sled::IVec, sled::IVec)>, Fault> {
        if self.left == 0 || self.open.is_none() {
            self.reopen()?;
        }
        let Some(entry) = self.open.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let (key, value) = entry?;
        self.left = self.left.saturating_sub((key.len() + value.len()) as u64);
        key.as_ref().clone_into(&mut self.last);
        Ok(Some((key, value)))
    }

    fn reopen(&mut self) -> Result<sled::Db, Fault> {
        self.open = None;
        self.left = self.slice;
        let db = open_db(self.dir, self.options)?;
        // Nothing sorts before the empty key, and no entry has it.
        let after = (Bound::Excluded(self.last.as_slice()), Bound::Unbounded);
        self.open = Some(db.range::<&[u8], _>(after));
        Ok(db)
    }
}

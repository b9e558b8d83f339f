//! Reading the whole directory once, at the start.
//!
//! In slices, and sled is closed before what a slice holds is put into the state. sled's cache
//! drops nothing before a page's shard of it saw 64 accesses, whatever its capacity, and a scan
//! touches each page once: it would keep the whole directory in memory. And what is kept for good
//! would be allocated between what is freed, page for page.

use std::fs;
use std::ops::{Bound, Range};
use std::path::Path;

use bytes::Bytes;

use super::rows::{self, Body, FORMAT_KEY, HEADER_KEY, Head, HeaderRow, Totals};
use super::tree::{applied_of, header_of, open_db};
use super::{DiskOptions, Fault, past};
use crate::store::{State, StateBuilder};

/// Least and most bytes of a slice.
const SLICE_BYTES: (u64, u64) = (8 * 1024 * 1024, 64 * 1024 * 1024);
/// Slices that a large directory is read in.
const SLICES: u64 = 16;

/// Reads the whole directory.
pub(super) fn read(dir: &Path, options: &DiskOptions) -> Result<State, Fault> {
    let (least, most) = SLICE_BYTES;
    let slice = fs::metadata(dir.join("db"))?.len() / SLICES;
    read_sliced(dir, options, slice.clamp(least, most))
}

pub(super) fn read_sliced(dir: &Path, options: &DiskOptions, slice: u64) -> Result<State, Fault> {
    let HeaderRow { totals: expected, header } = header_of(&open_db(dir, options)?)?;
    let mut scan = Scan { dir, options, slice, held: Slice::default(), next: 0, is_last: false };
    let mut builder = StateBuilder::default();
    let mut totals = Totals::default();
    let mut key = Vec::new();
    while let Some((found, value)) = scan.next()? {
        found.clone_into(&mut key);
        if *key == *FORMAT_KEY || *key == *HEADER_KEY {
            continue;
        }
        let Head { crc, body } = Head::decode(value)?;
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
    past::read(dir, applied_of(&header)?, |row| Ok(builder.row(row)?))?;
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
        row.extend_from_slice(value);
    }
    if u32::try_from(row.len()) != Ok(length) {
        return Err(Fault::Malformed("chunk length"));
    }
    Ok(row.into())
}

/// A key and its value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// Neighbouring entries, one after the other.
#[derive(Default)]
struct Slice {
    bytes: Vec<u8>,
    /// Where each key and value lies.
    entries: Vec<(Range<usize>, Range<usize>)>,
}

impl Slice {
    fn put(&mut self, bytes: &[u8]) -> Range<usize> {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        begin..self.bytes.len()
    }

    fn get(&self, index: usize) -> Option<Entry<'_>> {
        let (key, value) = self.entries.get(index)?;
        Some((self.bytes.get(key.clone())?, self.bytes.get(value.clone())?))
    }
}

/// All entries in the order of their keys.
struct Scan<'a> {
    dir: &'a Path,
    options: &'a DiskOptions,
    slice: u64,
    held: Slice,
    next: usize,
    is_last: bool,
}

impl Scan<'_> {
    fn next(&mut self) -> Result<Option<Entry<'_>>, Fault> {
        if self.next == self.held.entries.len() && !self.is_last {
            self.read_slice()?;
        }
        self.next += 1;
        Ok(self.held.get(self.next - 1))
    }

    fn read_slice(&mut self) -> Result<(), Fault> {
        let last = self.held.entries.len().checked_sub(1).and_then(|last| self.held.get(last));
        // Nothing sorts before the empty key, and no entry has it.
        let last = last.map(|(key, _)| key.to_vec()).unwrap_or_default();
        self.held = Slice::default();
        self.next = 0;
        let db = open_db(self.dir, self.options)?;
        for entry in db.range::<&[u8], _>((Bound::Excluded(last.as_slice()), Bound::Unbounded)) {
            let (key, value) = entry?;
            let (key, value) = (self.held.put(&key), self.held.put(&value));
            self.held.entries.push((key, value));
            if self.held.bytes.len() as u64 >= self.slice {
                return Ok(());
            }
        }
        self.is_last = true;
        Ok(())
    }
}

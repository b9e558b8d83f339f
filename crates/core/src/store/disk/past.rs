//! History records beside sled: appended to one file, which is written anew when most of it is gone.
//!
//! A record is written once and removed once. In sled it would be copied with its neighbours again
//! and again, at twice the cost of the configuration that it is about.
//!
//! The file: [`MAGIC`], then parts `crc32c | length | log index | id | row`, with an empty row for a
//! removal. Parts come in the order of their log indexes, and are written before the batch in sled
//! whose header covers them: what is beyond that header is cut off when the file is opened, for the
//! log replays it. What is missing, after a loss of power, is noticed by the header's sum over all
//! records.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Fault, folder};

const NAME: &str = "history";
const MAGIC: &[u8; 8] = b"quohist1";
/// crc32c, length of the row, log index, id.
const HEAD: usize = 4 + 4 + 8 + 8;
const HEAD_BYTES: u64 = 4 + 4 + 8 + 8;
/// A file below this is not written anew.
const LEAST_WASTED_BYTES: u64 = 32 * 1024 * 1024;
/// Longest row: a content of its greatest size, and its fields.
const MAX_ROW_BYTES: u32 = 64 * 1024 * 1024;

/// Where a record's part lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    bytes: u64,
}

/// The open file.
pub(super) struct PastFile {
    path: PathBuf,
    file: File,
    end: u64,
    live: BTreeMap<u64, Place>,
    live_bytes: u64,
    /// Parts that are still to be written, from `end` on.
    buffer: Vec<u8>,
}

/// One part as it was read.
struct Part {
    id: u64,
    row: Bytes,
    place: Place,
}

/// Reads parts up to a log index, a torn one, or the end.
struct Parts {
    source: BufReader<File>,
    offset: u64,
    applied: Option<u64>,
}

impl Parts {
    fn open(path: &Path, applied: Option<u64>) -> Result<Option<Self>, Fault> {
        let mut source = match File::open(path) {
            Ok(file) => BufReader::with_capacity(1024 * 1024, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut magic = [0; MAGIC.len()];
        source.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(Fault::Malformed("history file"));
        }
        Ok(Some(Self { source, offset: MAGIC.len() as u64, applied }))
    }

    fn next(&mut self) -> Result<Option<Part>, Fault> {
        let mut head = [0; HEAD];
        if !is_whole(self.source.read_exact(&mut head))? {
            return Ok(None);
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, rest @ ..] = head;
        let [i0, i1, i2, i3, i4, i5, i6, i7, id @ ..] = rest;
        let crc = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let index = u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
        let id = u64::from_be_bytes(id);
        if length > MAX_ROW_BYTES || Some(index) > self.applied {
            return Ok(None);
        }
        let mut row = vec![0; length as usize];
        if !is_whole(self.source.read_exact(&mut row))? {
            return Ok(None);
        }
        let (_, covered) = head.split_at(4);
        if crc != crc32c::crc32c_append(crc32c::crc32c(covered), &row) {
            return Ok(None);
        }
        let place = Place { offset: self.offset, bytes: HEAD_BYTES + u64::from(length) };
        self.offset += place.bytes;
        Ok(Some(Part { id, row: row.into(), place }))
    }
}

/// Whether as much was there as was asked for.
fn is_whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// Reads the rows of a directory's records as they were at a log index.
pub(super) fn read(
    dir: &Path,
    applied: Option<u64>,
    mut take: impl FnMut(Bytes) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let path = dir.join(NAME);
    // Twice: once for what is gone, so that memory holds no more than what stays.
    let Some(mut parts) = Parts::open(&path, applied)? else { return Ok(()) };
    let mut live = BTreeMap::new();
    while let Some(Part { id, row, place }) = parts.next()? {
        if row.is_empty() {
            live.remove(&id)
        } else {
            live.insert(id, place.offset)
        };
    }
    let Some(mut parts) = Parts::open(&path, applied)? else { return Ok(()) };
    while let Some(Part { id, row, place }) = parts.next()? {
        if live.get(&id) == Some(&place.offset) {
            take(row)?;
        }
    }
    Ok(())
}

impl PastFile {
    /// An empty file in a directory that is made.
    pub(super) fn create(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join(NAME);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.write_all(MAGIC)?;
        let end = MAGIC.len() as u64;
        Ok(Self { path, file, end, live: BTreeMap::new(), live_bytes: 0, buffer: Vec::new() })
    }

    /// The file of a directory, without what is beyond a log index.
    pub(super) fn open(dir: &Path, applied: Option<u64>) -> Result<Self, Fault> {
        let path = dir.join(NAME);
        folder::remove_file(&fresh(&path))?;
        let Some(mut parts) = Parts::open(&path, applied)? else { return Self::create(dir) };
        let (mut live, mut live_bytes) = (BTreeMap::new(), 0);
        while let Some(Part { id, row, place }) = parts.next()? {
            let gone = if row.is_empty() { live.remove(&id) } else { live.insert(id, place) };
            live_bytes += if row.is_empty() { 0 } else { place.bytes };
            live_bytes -= gone.map_or(0, |gone: Place| gone.bytes);
        }
        let end = parts.offset;
        let mut file = File::options().read(true).write(true).open(&path)?;
        file.set_len(end)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path, file, end, live, live_bytes, buffer: Vec::new() })
    }

    /// Notes a record, or with no row that it is gone, at a log index. Written by [`Self::commit`].
    pub(super) fn put(&mut self, id: u64, row: Option<&[u8]>, index: u64) -> Result<(), Fault> {
        let row = row.unwrap_or_default();
        let gone = self.live.remove(&id);
        if row.is_empty() && gone.is_none() {
            // Came and went between two writes.
            return Ok(());
        }
        let length = u32::try_from(row.len()).ok().filter(|length| *length <= MAX_ROW_BYTES);
        let length = length.ok_or(Fault::Malformed("history record: it is too long"))?;
        let mut covered = [0; HEAD - 4];
        let numbers = [&length.to_be_bytes()[..], &index.to_be_bytes(), &id.to_be_bytes()].concat();
        covered.copy_from_slice(&numbers);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&covered), row);
        let offset = self.end + self.buffer.len() as u64;
        self.buffer.extend_from_slice(&crc.to_be_bytes());
        self.buffer.extend_from_slice(&covered);
        self.buffer.extend_from_slice(row);
        self.live_bytes -= gone.map_or(0, |gone| gone.bytes);
        if !row.is_empty() {
            let place = Place { offset, bytes: HEAD_BYTES + u64::from(length) };
            self.live.insert(id, place);
            self.live_bytes += place.bytes;
        }
        Ok(())
    }

    /// Bytes that wait for [`Self::commit`].
    pub(super) const fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what was put.
    pub(super) fn commit(&mut self) -> Result<(), Fault> {
        self.file.write_all(&self.buffer)?;
        self.end += self.buffer.len() as u64;
        self.buffer = Vec::new();
        if self.end > LEAST_WASTED_BYTES && self.end > 2 * self.live_bytes {
            self.write_anew()?;
        }
        Ok(())
    }

    /// Copies what is not gone to another file and puts that in the place of this one.
    fn write_anew(&mut self) -> Result<(), Fault> {
        let beside = fresh(&self.path);
        let mut next = io::BufWriter::with_capacity(1024 * 1024, File::create(&beside)?);
        next.write_all(MAGIC)?;
        let (mut end, mut part) = (MAGIC.len() as u64, Vec::new());
        let mut live = BTreeMap::new();
        for (id, place) in &self.live {
            part.resize(usize::try_from(place.bytes).unwrap_or_default(), 0);
            self.file.read_exact_at(&mut part, place.offset)?;
            next.write_all(&part)?;
            live.insert(*id, Place { offset: end, ..*place });
            end += place.bytes;
        }
        let file = next.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        drop(file);
        fs::rename(&beside, &self.path)?;
        folder::sync_parent(&self.path)?;
        let mut file = File::options().read(true).write(true).open(&self.path)?;
        file.seek(SeekFrom::End(0))?;
        (self.file, self.end, self.live) = (file, end, live);
        Ok(())
    }
}

fn fresh(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dir: &Path, applied: u64) -> Vec<String> {
        let mut found = Vec::new();
        read(dir, Some(applied), |row| {
            found.push(String::from_utf8(row.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        found
    }

    fn put(past: &mut PastFile, id: u64, row: &str, index: u64) {
        past.put(id, (!row.is_empty()).then_some(row.as_bytes()), index).unwrap();
    }

    #[test]
    fn what_is_beyond_the_header_or_torn_is_cut_off() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        let mut past = PastFile::create(dir).unwrap();
        for (id, row, index) in [(1, "a", 5), (2, "b", 6), (1, "", 7), (3, "c", 8)] {
            put(&mut past, id, row, index);
        }
        put(&mut past, 9, "", 8);
        past.commit().unwrap();
        drop(past);
        for (applied, want) in [
            (4, vec![]),
            (5, vec!["a"]),
            (6, vec!["a", "b"]),
            (7, vec!["b"]),
            (8, vec!["b", "c"]),
            (99, vec!["b", "c"]),
        ] {
            assert_eq!(rows(dir, applied), want, "{applied}");
        }
        let mut past = PastFile::open(dir, Some(6)).unwrap();
        put(&mut past, 3, "other", 7);
        past.commit().unwrap();
        assert_eq!(rows(dir, 99), ["a", "b", "other"]);
        let file = dir.join(NAME);
        let whole = fs::read(&file).unwrap();
        for cut in 1..20 {
            fs::write(&file, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(rows(dir, 99), ["a", "b"], "{cut}");
        }
        let mut past = PastFile::open(dir, Some(99)).unwrap();
        put(&mut past, 4, "d", 8);
        past.commit().unwrap();
        assert_eq!(rows(dir, 99), ["a", "b", "d"]);
        let mut turned = fs::read(&file).unwrap();
        turned[MAGIC.len() + 30] ^= 1;
        fs::write(&file, turned).unwrap();
        assert!(rows(dir, 99).len() < 3);
    }

    #[test]
    fn a_file_of_which_most_is_gone_is_written_anew() {
        let home = tempfile::tempdir().unwrap();
        let mut past = PastFile::create(home.path()).unwrap();
        let long = "x".repeat(1024 * 1024);
        for id in 1..=40_u64 {
            put(&mut past, id, &format!("{id:02}{long}"), id);
            if id > 10 {
                put(&mut past, id - 10, "", id);
            }
            past.commit().unwrap();
        }
        assert!(past.end < LEAST_WASTED_BYTES, "{}", past.end);
        put(&mut past, 41, "last", 41);
        past.commit().unwrap();
        let found = rows(home.path(), 99);
        let starts: Vec<String> = found.iter().map(|row| row.chars().take(2).collect()).collect();
        assert_eq!(starts, ["31", "32", "33", "34", "35", "36", "37", "38", "39", "40", "la"]);
    }
}

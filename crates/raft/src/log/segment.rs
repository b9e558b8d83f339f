//! A segment file: its name, its header, and how a blank one is made.
//!
//! ```text
//! magic 8 | format version u32 | sequence u64 | first index u64 | salt u64 | facts u32 | crc32c u32
//! ```
//! The name says the sequence number as well. A file gets its `.seg` name only after its header is
//! durable, so a `.seg` file without a valid header is damaged.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Buf;

use super::LogError;
use super::disk::Disk;
use super::record;
use crate::types::LogIndex;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 44;

const MAGIC: &[u8; 8] = b"QRTRLOG\0";
const FORMAT_VERSION: u32 = 1;
const CHECKED_BYTES: usize = HEADER_BYTES - 4;
const EXTENSION: &str = "seg";
const UNFINISHED: &str = "tmp";

/// An open segment, shared by the writer and the readers.
#[derive(Debug)]
pub(super) struct Segment {
    /// The file.
    pub(super) file: File,
    /// Its name.
    pub(super) path: PathBuf,
    /// Its header.
    pub(super) header: Header,
    /// The seed of its checksums.
    pub(super) seed: u32,
}

impl Segment {
    /// Puts the parts together.
    pub(super) fn new(file: File, path: PathBuf, header: Header) -> Self {
        let seed = record::seed(header.sequence, header.salt);
        Self { file, path, header, seed }
    }

    /// Opens a segment and checks its header.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Corrupt`], [`LogError::NewerFormat`].
    pub(super) fn open(path: &Path, sequence: u64, writable: bool) -> Result<Self, LogError> {
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(path)
            .map_err(|e| LogError::io(path, "open", e))?;
        let mut bytes = [0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(LogError::corrupt(path, 0, "a segment without a header"));
            }
            Err(e) => return Err(LogError::io(path, "read", e)),
        }
        let header = Header::parse(&bytes, path)?;
        if header.sequence != sequence {
            return Err(LogError::corrupt(path, 12, "the sequence number is not the file's name"));
        }
        Ok(Self::new(file, path.to_owned(), header))
    }
}

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Its number: one more than its predecessor's.
    pub(super) sequence: u64,
    /// The index that the next entry had when the segment was begun.
    pub(super) first_index: LogIndex,
    /// Random: nobody can make up a record of this segment.
    pub(super) salt: u64,
    /// Bytes of the records that were durable before the segment got its name.
    pub(super) facts_bytes: u32,
}

impl Header {
    /// A header with a new salt.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn new(
        disk: &Disk,
        sequence: u64,
        first_index: LogIndex,
        facts_bytes: u32,
    ) -> io::Result<Self> {
        let salt = disk.host.random()?;
        Ok(Self { sequence, first_index, salt, facts_bytes })
    }

    /// As bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Self { sequence, first_index, salt, facts_bytes } = self;
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&first_index.to_le_bytes());
        bytes.extend_from_slice(&salt.to_le_bytes());
        bytes.extend_from_slice(&facts_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// From bytes. Later formats keep this layout, so that we can tell them from damage.
    fn parse(bytes: &[u8; HEADER_BYTES], path: &Path) -> Result<Self, LogError> {
        let corrupt = |offset, what| LogError::corrupt(path, offset, what);
        let (checked, mut crc) = bytes.split_at(CHECKED_BYTES);
        if crc.try_get_u32_le() != Ok(crc32c::crc32c(checked)) {
            return Err(corrupt(0, "the header's checksum does not match"));
        }
        let (magic, mut rest) = checked.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(corrupt(0, "not a segment of a log"));
        }
        let short = |_| corrupt(0, "a short header");
        let version = rest.try_get_u32_le().map_err(short)?;
        if version != FORMAT_VERSION {
            return Err(LogError::NewerFormat { path: path.to_owned(), version });
        }
        Ok(Self {
            sequence: rest.try_get_u64_le().map_err(short)?,
            first_index: rest.try_get_u64_le().map_err(short)?,
            salt: rest.try_get_u64_le().map_err(short)?,
            facts_bytes: rest.try_get_u32_le().map_err(short)?,
        })
    }
}

/// A file full of zeros that is not yet a segment.
#[derive(Debug)]
pub(super) struct Blank {
    /// The file.
    pub(super) file: File,
    /// Its temporary name.
    pub(super) path: PathBuf,
    /// The number it is meant for.
    pub(super) sequence: u64,
    /// Its size.
    pub(super) bytes: u64,
}

impl Blank {
    /// Makes and syncs one. Overwriting zeros later needs no new blocks and no journal commit.
    ///
    /// # Errors
    /// Any of the file system; then nothing is left behind. `go_on` false: `Interrupted`.
    pub(super) fn create(
        disk: &Disk,
        dir: &Path,
        sequence: u64,
        bytes: u64,
        go_on: impl Fn() -> bool,
    ) -> io::Result<Self> {
        let path = dir.join(format!("{sequence:08}.{UNFINISHED}"));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        disk.host.created(&path);
        match zero(disk, &file, 0, bytes, go_on) {
            Ok(()) => Ok(Self { file, path, sequence, bytes }),
            Err(error) => {
                // A full disk must not be kept full by half of a file.
                disk.host.remove(&path)?;
                Err(error)
            }
        }
    }

    /// The name it gets when it becomes a segment.
    pub(super) fn final_path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{:08}.{EXTENSION}", self.sequence))
    }
}

/// Writes zeros from `start` to `end`, synced piece by piece so that the log's own fsync never
/// waits behind all of it.
///
/// # Errors
/// Any of the file system; `go_on` false: `Interrupted`.
pub(super) fn zero(
    disk: &Disk,
    file: &File,
    start: u64,
    end: u64,
    go_on: impl Fn() -> bool,
) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let zeros = vec![0; PIECE];
    let mut offset = start;
    while offset < end {
        if !go_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = usize::try_from(end - offset).map_or(PIECE, |left| left.min(PIECE));
        disk.write_at(file, zeros.get(..len).unwrap_or(&zeros), offset)?;
        disk.host.sync(file)?;
        offset += len as u64;
    }
    Ok(())
}

/// The segments of a directory in order. Their numbers must be without a gap.
///
/// # Errors
/// [`LogError::Io`]; [`LogError::Corrupt`] when one is missing.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, LogError> {
    let mut found = Vec::new();
    for path in files(dir)? {
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let sequence = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            let sequence = sequence
                .ok_or_else(|| LogError::corrupt(&path, 0, "a segment's name is its number"))?;
            found.push((sequence, path));
        }
    }
    found.sort_unstable();
    for pair in found.windows(2) {
        if let [(before, _), (after, path)] = pair
            && *after != before + 1
        {
            return Err(LogError::corrupt(path, 0, "the segment before this one is missing"));
        }
    }
    Ok(found)
}

/// Removes blanks that a stopped process left behind.
///
/// # Errors
/// [`LogError::Io`].
pub(super) fn remove_blanks(disk: &Disk, dir: &Path) -> Result<(), LogError> {
    for path in files(dir)? {
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            disk.host.remove(&path).map_err(|e| LogError::io(&path, "remove", e))?;
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let wrap = |e| LogError::io(dir, "list", e);
    let entries = fs::read_dir(dir).map_err(wrap)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(wrap)).collect()
}

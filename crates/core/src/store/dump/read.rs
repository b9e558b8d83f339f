//! Reading a snapshot file: nothing of it is returned before all of it is verified.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::block::Prefix;
use super::{
    BLOCK_BYTES, DumpError, DumpHead, DumpInfo, END_MAGIC, MAGIC, MAX_ROW_BYTES, State, VERSION,
};
use crate::store::StateBuilder;

/// Longest header block: members are some kilobytes.
const MAX_HEAD_BYTES: usize = 16 * 1024 * 1024;

/// Reads and verifies a whole file. Blocks. Memory: the state, one block and one row.
///
/// # Errors
/// [`DumpError`]; nothing was read then.
pub fn read(path: &Path) -> Result<(State, DumpInfo), DumpError> {
    let file = File::open(path).map_err(DumpError::io(path, "open"))?;
    let mut builder = StateBuilder::default();
    let (info, end) = Reader::new(file, path)?.all(|row| builder.row(row).map_err(|_| "row"))?;
    let state = builder
        .finish(&info.head.store_header)
        .map_err(|_| corrupt(path, end, "rows are not those that the header counted"))?;
    Ok((state, info))
}

/// Verifies a whole file as [`read`] does, but for the rows' contents.
///
/// # Errors
/// [`DumpError`].
pub fn verify(path: &Path) -> Result<DumpInfo, DumpError> {
    let file = File::open(path).map_err(DumpError::io(path, "open"))?;
    Reader::new(file, path)?.all(|_| Ok(())).map(|(info, _)| info)
}

/// Reads what a file says of itself; only that part is verified.
///
/// # Errors
/// [`DumpError`].
pub fn head(path: &Path) -> Result<DumpHead, DumpError> {
    let file = File::open(path).map_err(DumpError::io(path, "open"))?;
    Reader::new(file, path)?.head()
}

/// Reads these bytes as a file, as a block, and as rows: for fuzzing, which only wants to see it
/// come back.
#[doc(hidden)]
pub fn fuzz_block(bytes: &[u8]) {
    let path = Path::new("fuzz");
    let mut builder = StateBuilder::default();
    if let Ok(reader) = Reader::new(bytes, path)
        && let Ok((info, _)) = reader.all(|row| builder.row(row).map_err(|_| "row"))
    {
        drop(builder.finish(&info.head.store_header));
    }
    if let Ok(mut reader) = Reader::new(bytes, path)
        && let Ok(Some(data)) = reader.block(BLOCK_BYTES)
    {
        let mut rows = Rows::default();
        let mut builder = StateBuilder::default();
        black_box(rows.feed(&data, &mut |row| builder.row(row).map_err(|_| "row")).is_ok());
    }
    let mut rows = Rows::default();
    let mut take = |row| StateBuilder::default().row(row).map_err(|_| "row");
    black_box(rows.feed(bytes, &mut take).is_ok());
}

fn corrupt(path: &Path, offset: u64, what: &'static str) -> DumpError {
    DumpError::Corrupt { path: path.to_path_buf(), offset, what }
}

struct Reader<'a, R> {
    source: R,
    path: &'a Path,
    zstd: zstd::bulk::Decompressor<'static>,
    hash: Md5,
    /// Bytes read, and where the block or field that is being read began.
    offset: u64,
    began: u64,
}

impl<'a, R: Read> Reader<'a, R> {
    fn new(source: R, path: &'a Path) -> Result<Self, DumpError> {
        let zstd = zstd::bulk::Decompressor::new().map_err(DumpError::io(path, "decompress"))?;
        Ok(Self { source, path, zstd, hash: Md5::new(), offset: 0, began: 0 })
    }

    fn corrupt(&self, what: &'static str) -> DumpError {
        corrupt(self.path, self.began, what)
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), DumpError> {
        self.source.read_exact(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.corrupt("file ends early")
            } else {
                DumpError::io(self.path, "read")(error)
            }
        })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let mut array = [0; N];
        self.exactly(&mut array)?;
        Ok(array)
    }

    /// As [`Self::array`], of a part that the hash covers.
    fn hashed<const N: usize>(&mut self) -> Result<[u8; N], DumpError> {
        let array = self.array()?;
        self.hash.update(array);
        Ok(array)
    }

    fn head(&mut self) -> Result<DumpHead, DumpError> {
        if self.hashed()? != MAGIC {
            return Err(self.corrupt("no snapshot file"));
        }
        match u32::from_le_bytes(self.hashed()?) {
            VERSION => {}
            version if version > VERSION => return Err(DumpError::NewerFormat { version }),
            _ => return Err(self.corrupt("format version")),
        }
        let data = self.block(MAX_HEAD_BYTES)?.ok_or_else(|| self.corrupt("no header"))?;
        DumpHead::decode(data.into()).map_err(|_| self.corrupt("header"))
    }

    /// The next block's data, `None` at their end.
    fn block(&mut self, limit: usize) -> Result<Option<Vec<u8>>, DumpError> {
        self.began = self.offset;
        let length = u32::from_le_bytes(self.hashed()?);
        if length == 0 {
            return Ok(None);
        }
        let rest = self.hashed()?;
        let prefix = Prefix::decode(length, rest, limit).map_err(|what| self.corrupt(what))?;
        let mut data = vec![0; prefix.length];
        self.exactly(&mut data)?;
        self.hash.update(&data);
        match prefix.open(data, &mut self.zstd, limit) {
            Ok(data) => Ok(Some(data)),
            Err(what) => Err(self.corrupt(what)),
        }
    }

    /// Reads to the end of the file; also returns where the rows end.
    fn all(
        mut self,
        mut take: impl FnMut(Bytes) -> Result<(), &'static str>,
    ) -> Result<(DumpInfo, u64), DumpError> {
        let head = self.head()?;
        let mut rows = Rows::default();
        while let Some(data) = self.block(BLOCK_BYTES)? {
            rows.feed(&data, &mut take).map_err(|what| self.corrupt(what))?;
        }
        let end = self.began;
        if !rows.partial.is_empty() {
            return Err(self.corrupt("last row is cut"));
        }
        self.trailer(rows.count)
            .map(|hash| (DumpInfo { head, rows: rows.count, bytes: self.offset, hash }, end))
    }

    fn trailer(&mut self, rows: u64) -> Result<[u8; 16], DumpError> {
        self.began = self.offset;
        let count: [u8; 8] = self.array()?;
        let hash: [u8; 16] = self.array()?;
        let crc = u32::from_le_bytes(self.array()?);
        let magic: [u8; 8] = self.array()?;
        if crc != crc32c::crc32c_append(crc32c::crc32c(&count), &hash) || magic != END_MAGIC {
            return Err(self.corrupt("trailer"));
        }
        if u64::from_le_bytes(count) != rows {
            return Err(self.corrupt("number of rows"));
        }
        if hash != <[u8; 16]>::from(self.hash.finalize_reset()) {
            return Err(self.corrupt("hash of the file"));
        }
        match self.source.read(&mut [0]) {
            Ok(0) => Ok(hash),
            Ok(_) => Err(self.corrupt("more after the end")),
            Err(error) => Err(DumpError::io(self.path, "read")(error)),
        }
    }
}

/// Cuts blocks into rows.
#[derive(Default)]
struct Rows {
    /// The beginning of a row that goes on in the next block, its length before it.
    partial: Vec<u8>,
    count: u64,
}

impl Rows {
    fn feed(
        &mut self,
        data: &[u8],
        take: &mut impl FnMut(Bytes) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let mut rest = data;
        while !self.partial.is_empty() {
            // Byte by byte up to the length, then all that is missing at once.
            let missing = match row_bounds(&self.partial)? {
                Some((start, length)) => (start + length).saturating_sub(self.partial.len()),
                None => 1,
            };
            let Some((more, later)) = rest.split_at_checked(missing) else {
                self.partial.extend_from_slice(rest);
                return Ok(());
            };
            self.partial.extend_from_slice(more);
            rest = later;
            if let Some((start, length)) = row_bounds(&self.partial)?
                && self.partial.len() == start + length
            {
                let row = std::mem::take(&mut self.partial);
                self.take(Bytes::from(row).split_off(start), take)?;
            }
        }
        while let Some((start, length)) = row_bounds(rest)?
            && let Some((whole, later)) = rest.split_at_checked(start + length)
        {
            let row = whole.get(start..).unwrap_or_default();
            self.take(Bytes::copy_from_slice(row), take)?;
            rest = later;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn take(
        &mut self,
        row: Bytes,
        take: &mut impl FnMut(Bytes) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        self.count += 1;
        take(row)
    }
}

/// Where the row at the head of these bytes begins and how long it is; `None` when its length is
/// not there yet.
fn row_bounds(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    // A varint of a row's length has at most four bytes: it stays below 2^28.
    let mut length = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if length > MAX_ROW_BYTES {
                return Err("row length");
            }
            return Ok(Some((index + 1, length)));
        }
    }
    if bytes.len() >= 4 { Err("row length") } else { Ok(None) }
}

//! One block as bytes.

use std::io;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Length, checksum and flags of a block, as read and not yet believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) length: usize,
    crc: u32,
    flags: u8,
}

fn crc_of(length: u32, flags: u8, data: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &[flags]), data)
}

/// Appends a block to `out`: compressed when that makes it shorter.
pub(super) fn encode(
    data: &[u8],
    zstd: &mut zstd::bulk::Compressor<'_>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let packed = zstd.compress(data)?;
    let (flags, data) = if packed.len() < data.len() { (ZSTD, &*packed) } else { (RAW, data) };
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc_of(length, flags, data).to_le_bytes());
    out.push(flags);
    out.extend_from_slice(data);
    Ok(())
}

impl Prefix {
    /// Reads the checksum and flags that follow a length. `limit` bounds what `length` may ask
    /// for before anything is allocated.
    pub(super) fn decode(length: u32, rest: [u8; 5], limit: usize) -> Result<Self, &'static str> {
        let [a, b, c, d, flags] = rest;
        let length = usize::try_from(length).map_err(|_| "block length")?;
        if length > limit {
            return Err("block length");
        }
        if flags != RAW && flags != ZSTD {
            return Err("block flags");
        }
        Ok(Self { length, crc: u32::from_le_bytes([a, b, c, d]), flags })
    }

    /// Checks a block's data and decompresses it to at most `limit` bytes.
    pub(super) fn open(
        self,
        data: Vec<u8>,
        zstd: &mut zstd::bulk::Decompressor<'_>,
        limit: usize,
    ) -> Result<Vec<u8>, &'static str> {
        let length = u32::try_from(data.len()).map_err(|_| "block length")?;
        if self.crc != crc_of(length, self.flags, &data) {
            return Err("block checksum");
        }
        if self.flags == RAW {
            return Ok(data);
        }
        zstd.decompress(&data, limit).map_err(|_| "block does not decompress")
    }
}

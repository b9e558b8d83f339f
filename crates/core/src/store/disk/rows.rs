//! Rows as the one sled tree keeps them: keys, checksums, chunks, and the totals in the header.
//!
//! `f` format, `h` header, then one entry for each row: `c` + group key text, `o` + origin id, `g` +
//! group key text + 0x02 + name of the release, `n` + namespace. History is beside (`past`).
//! An entry's value is `tag | crc32c | row`, or, for a row over [`CHUNK_BYTES`],
//! `tag | crc32c | length | chunks` with the row cut into the keys that follow it. The checksum
//! covers key and row, and the header counts and sums all checksums: a row that is missing, stale
//! or from another batch is noticed whatever its kind.

use bytes::Bytes;
use prost::Message as _;

use super::Fault;
use crate::key::GroupKey;
use crate::kind::{config, gray, history, namespace, origin};
use crate::record::{RecordError, wire};
use crate::store::Change;

/// Version of this layout.
pub(super) const FORMAT: u32 = 1;
/// Key of the layout's version.
pub(super) const FORMAT_KEY: &[u8] = b"f";
/// Key of the header, written in each batch.
pub(super) const HEADER_KEY: &[u8] = b"h";
/// Longest value. sled splits a node at more than 16 entries and moves nodes over 128 KiB into
/// files of their own, which it never syncs; 17 entries of this size and their keys stay below.
pub(super) const CHUNK_BYTES: usize = 6 * 1024;
/// The same, for lengths as rows write them.
const CHUNK_BYTES_U32: u32 = 6 * 1024;

const WHOLE: u8 = 0;
const CHUNKED: u8 = 1;

/// Key of a configuration's entry.
pub(super) fn config_key(key: &GroupKey) -> Vec<u8> {
    [b"c", key.as_str().as_bytes()].concat()
}

/// Key of an origin's entry.
pub(super) fn origin_key(id: u64) -> Vec<u8> {
    [b"o".as_slice(), &id.to_be_bytes()].concat()
}

/// Key of a gray release's entry.
fn gray_key(key: &GroupKey, name: &str) -> Vec<u8> {
    [b"g", key.as_str().as_bytes(), b"\x02", name.as_bytes()].concat()
}

/// Key of a history record's entry.
fn history_key(id: u64) -> Vec<u8> {
    [b"i".as_slice(), &id.to_be_bytes()].concat()
}

/// Key of a namespace's entry.
fn namespace_key(id: &str) -> Vec<u8> {
    [b"n", id.as_bytes()].concat()
}

/// Key of a chunk. Sorts after its entry and before the next one: no text in a key has a zero
/// byte, and keys with a number have one length.
pub(super) fn chunk_key(entry: &[u8], index: u32) -> Vec<u8> {
    [entry, &[0], &index.to_be_bytes()].concat()
}

/// Key of the entry that a change is about.
pub(super) fn key_of_change(change: &Change) -> Vec<u8> {
    match change {
        Change::Config(key, _) => config_key(key),
        Change::Origin(id, _) => origin_key(*id),
        Change::Gray(key, name, _) => gray_key(key, name),
        Change::History(id, _) => history_key(*id),
        Change::Namespace(id, _) => namespace_key(id.as_str()),
    }
}

/// Key and row of a change; no row when it removes.
pub(super) fn entry_of(change: &Change) -> (Vec<u8>, Option<Bytes>) {
    let row = match change {
        Change::Config(key, kept) => kept.as_ref().map(|kept| config::row(key, kept)),
        Change::Origin(id, kept) => kept.as_ref().map(|kept| origin::row(*id, kept)),
        Change::Gray(key, _, kept) => kept.as_ref().map(|kept| gray::row(key, kept)),
        Change::History(_, kept) => kept.as_ref().map(|kept| history::row(kept)),
        Change::Namespace(_, kept) => kept.as_ref().map(|kept| namespace::row(kept)),
    };
    (key_of_change(change), row)
}

/// What holds of all entries together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    rows: u64,
    sum: u64,
}

impl Totals {
    pub(super) fn add(&mut self, entry: &[u8], crc: u32) {
        self.rows = self.rows.wrapping_add(1);
        self.sum = self.sum.wrapping_add(share(entry, crc));
    }

    fn subtract(&mut self, entry: &[u8], crc: u32) {
        self.rows = self.rows.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(share(entry, crc));
    }
}

/// One entry's share of the sum: the checksums of its key and of both, mixed so that the shares of
/// several do not cancel out.
fn share(entry: &[u8], crc: u32) -> u64 {
    let mut mixed = u64::from(crc32c::crc32c(entry)) << 32 | u64::from(crc);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// The header row read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderRow {
    pub(super) totals: Totals,
    pub(super) header: Bytes,
}

impl HeaderRow {
    pub(super) fn encode(totals: Totals, header: &[u8]) -> Vec<u8> {
        let Totals { rows, sum } = totals;
        let body = [&rows.to_be_bytes(), &sum.to_be_bytes(), header].concat();
        [&crc32c::crc32c(&body).to_be_bytes(), body.as_slice()].concat()
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Fault> {
        let (crc, body) = take_u32(value).ok_or(Fault::Malformed("header"))?;
        if crc != crc32c::crc32c(body) {
            return Err(Fault::Malformed("header checksum"));
        }
        let (rows, rest) = take_u64(body).ok_or(Fault::Malformed("header"))?;
        let (sum, header) = take_u64(rest).ok_or(Fault::Malformed("header"))?;
        Ok(Self { totals: Totals { rows, sum }, header: Bytes::copy_from_slice(header) })
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (u32::from_be_bytes(*first), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (u64::from_be_bytes(*first), rest))
}

/// An entry's value, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) crc: u32,
    pub(super) body: Body<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// The row.
    Whole(&'a [u8]),
    /// Its length, and the number of keys that follow with its parts.
    Chunked { length: u32, chunks: u32 },
}

impl<'a> Head<'a> {
    pub(super) fn decode(value: &'a [u8]) -> Result<Self, Fault> {
        let malformed = || Fault::Malformed("entry");
        let (tag, rest) = value.split_first().ok_or_else(malformed)?;
        let (crc, rest) = take_u32(rest).ok_or_else(malformed)?;
        let body = match *tag {
            WHOLE => Body::Whole(rest),
            CHUNKED => {
                let (length, rest) = take_u32(rest).ok_or_else(malformed)?;
                let (chunks, rest) = take_u32(rest).ok_or_else(malformed)?;
                if !rest.is_empty() || chunks != chunks_of(length) {
                    return Err(malformed());
                }
                Body::Chunked { length, chunks }
            }
            _ => return Err(malformed()),
        };
        Ok(Self { crc, body })
    }

    const fn chunks(&self) -> u32 {
        match self.body {
            Body::Whole(_) => 0,
            Body::Chunked { chunks, .. } => chunks,
        }
    }
}

const fn chunks_of(length: u32) -> u32 {
    length.div_ceil(CHUNK_BYTES_U32)
}

/// Checksum of an entry: over its key and its whole row.
pub(super) fn entry_crc(entry: &[u8], row: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(entry), row)
}

/// Adds one change of an entry to `batch`. `old` is the value that the tree holds for it.
pub(super) fn put(
    batch: &mut sled::Batch,
    totals: &mut Totals,
    entry: &[u8],
    row: Option<&[u8]>,
    old: Option<&[u8]>,
) -> Result<(), Fault> {
    let old = old.map(Head::decode).transpose()?;
    if let Some(old) = &old {
        totals.subtract(entry, old.crc);
    }
    let chunks = match row {
        Some(row) => insert(batch, totals, entry, row)?,
        None => {
            batch.remove(entry);
            0
        }
    };
    for index in chunks..old.map_or(0, |old| old.chunks()) {
        batch.remove(chunk_key(entry, index));
    }
    Ok(())
}

fn insert(
    batch: &mut sled::Batch,
    totals: &mut Totals,
    entry: &[u8],
    row: &[u8],
) -> Result<u32, Fault> {
    let crc = entry_crc(entry, row);
    totals.add(entry, crc);
    let crc = crc.to_be_bytes();
    if row.len() <= CHUNK_BYTES {
        batch.insert(entry, [&[WHOLE], crc.as_slice(), row].concat());
        return Ok(0);
    }
    let length = u32::try_from(row.len()).map_err(|_| Fault::Malformed("row over 4 GiB"))?;
    let chunks = chunks_of(length);
    batch.insert(
        entry,
        [&[CHUNKED], crc.as_slice(), &length.to_be_bytes(), &chunks.to_be_bytes()].concat(),
    );
    for (index, chunk) in (0..chunks).zip(row.chunks(CHUNK_BYTES)) {
        batch.insert(chunk_key(entry, index), chunk);
    }
    Ok(chunks)
}

/// Key of the entry that keeps an encoded row.
pub(super) fn key_of(row: Bytes) -> Result<Vec<u8>, Fault> {
    let row = wire::Row::decode(row).map_err(RecordError::from)?;
    match row.row.ok_or(RecordError::UnknownKind)? {
        wire::row::Row::Config(row) => {
            Ok(config_key(&GroupKey::from_record(&row.key).map_err(RecordError::from)?))
        }
        wire::row::Row::Origin(row) => Ok(origin_key(row.origin)),
        wire::row::Row::Gray(row) => {
            let key = GroupKey::from_record(&row.key).map_err(RecordError::from)?;
            let name = row.gray.ok_or(RecordError::Field("gray"))?.name;
            Ok(gray_key(&key, &name))
        }
        wire::row::Row::History(row) => Ok(history_key(row.id)),
        wire::row::Row::Namespace(row) => Ok(namespace_key(&row.id)),
    }
}

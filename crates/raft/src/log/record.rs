//! One record of the log as bytes: a head of fixed size, then the payload.
//!
//! ```text
//! len u32 | crc32c u32 | kind u8 | index u64 | term u64 | synced u32 | payload
//! ```
//! All little-endian. The checksum covers the segment's sequence number and salt, then kind, index,
//! term, `synced` and the payload: bytes of another segment, or bytes that a client stored, never
//! pass for a record of this one. A wrong `len` moves the end of the payload and fails as well.

use bytes::{Buf, Bytes};
use openraft::EntryPayload;
use openraft::alias::{CommittedLeaderIdOf, LeaderIdOf};

use crate::types::{Entry, LogId, LogIndex, Record, TypeConfig, Vote};

/// Bytes of a record before its payload.
pub(super) const HEAD_BYTES: usize = 29;

/// Where the kind stands in a head.
pub(super) const KIND_AT: usize = 8;

/// The longest payload: offsets inside a segment are 32 bits wide.
pub(super) const MAX_PAYLOAD_BYTES: usize = 1 << 30;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

const NONE: &[u8] = &[0];
const SOME: &[u8] = &[1];

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry of the Raft log.
    Entry,
    /// The vote of this node.
    Vote,
    /// Entries behind this log id are gone.
    TruncateAfter,
    /// The last log id known to be committed.
    Committed,
    /// Entries up to this log id are gone.
    Purged,
    /// The segment ends here; the next one goes on.
    Seal,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Vote => 2,
            Self::TruncateAfter => 3,
            Self::Committed => 4,
            Self::Purged => 5,
            Self::Seal => 6,
        }
    }

    /// The kind with this number. Zero is none: a zeroed tail holds no record.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Entry,
            2 => Self::Vote,
            3 => Self::TruncateAfter,
            4 => Self::Committed,
            5 => Self::Purged,
            6 => Self::Seal,
            _ => return None,
        })
    }
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the payload.
    pub(super) len: u32,
    /// Checksum as read.
    pub(super) crc: u32,
    /// What the record says.
    pub(super) kind: Kind,
    /// Log index, or the node id of a vote.
    pub(super) index: u64,
    /// Term.
    pub(super) term: u64,
    /// The offset up to which the segment was fsynced when this record was written.
    pub(super) synced: u32,
}

impl Head {
    /// Reads a head. `None`: too short, or no kind that we know.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let len = bytes.try_get_u32_le().ok()?;
        let crc = bytes.try_get_u32_le().ok()?;
        let kind = Kind::from_number(bytes.try_get_u8().ok()?)?;
        let index = bytes.try_get_u64_le().ok()?;
        let term = bytes.try_get_u64_le().ok()?;
        let synced = bytes.try_get_u32_le().ok()?;
        Some(Self { len, crc, kind, index, term, synced })
    }

    /// Whether head and payload belong together and to the segment with this seed.
    pub(super) fn matches(&self, seed: u32, payload: &[u8]) -> bool {
        usize::try_from(self.len) == Ok(payload.len())
            && self.crc == checksum(seed, self.kind, self.index, self.term, self.synced, &[payload])
    }
}

/// The seed of every checksum in a segment.
pub(super) fn seed(sequence: u64, salt: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &salt.to_le_bytes())
}

fn checksum(seed: u32, kind: Kind, index: u64, term: u64, synced: u32, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32c::crc32c_append(seed, &[kind.number()]);
    crc = crc32c::crc32c_append(crc, &index.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &term.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &synced.to_le_bytes());
    parts.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
}

/// A record that is about to be written. The payload stays where it is until then.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// What it says.
    pub(super) kind: Kind,
    /// Log index, or the node id of a vote.
    pub(super) index: u64,
    /// Term.
    pub(super) term: u64,
    tag: Option<u8>,
    body: Body<'a>,
}

#[derive(Debug)]
enum Body<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Body<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl<'a> Draft<'a> {
    /// An entry.
    ///
    /// # Errors
    /// A membership that JSON cannot express; none such exists.
    pub(super) fn entry(entry: &'a Entry) -> Result<Self, serde_json::Error> {
        let (tag, body) = match &entry.payload {
            EntryPayload::Blank => (BLANK, Body::Borrowed(&[])),
            EntryPayload::Normal(Record(bytes)) => (NORMAL, Body::Borrowed(bytes)),
            EntryPayload::Membership(members) => {
                (MEMBERSHIP, Body::Owned(serde_json::to_vec(members)?))
            }
        };
        let LogId { leader_id, index } = entry.log_id;
        Ok(Self { kind: Kind::Entry, index, term: leader_id.term, tag: Some(tag), body })
    }

    /// A vote.
    pub(super) fn vote(vote: &Vote) -> Self {
        let body = Body::Borrowed(if vote.committed { SOME } else { NONE });
        let (index, term) = (vote.leader_id.voted_for, vote.leader_id.term);
        Self { kind: Kind::Vote, index, term, tag: None, body }
    }

    /// A record about a log id, or about none.
    pub(super) fn about(kind: Kind, log_id: Option<&LogId>) -> Self {
        let (index, term, body) = match log_id {
            Some(id) => (id.index, id.leader_id.term, SOME),
            None => (0, 0, NONE),
        };
        Self { kind, index, term, tag: None, body: Body::Borrowed(body) }
    }

    /// Bytes of the payload.
    pub(super) fn payload_bytes(&self) -> usize {
        self.body.bytes().len() + usize::from(self.tag.is_some())
    }

    /// Appends the record to `buffer`; gives the length of its payload.
    pub(super) fn put(&self, buffer: &mut Vec<u8>, seed: u32, synced: u32) -> u32 {
        let tag = self.tag.map(|tag| [tag]);
        let tag: &[u8] = tag.as_ref().map_or(&[], |tag| tag.as_slice());
        let body = self.body.bytes();
        let crc = checksum(seed, self.kind, self.index, self.term, synced, &[tag, body]);
        let len = u32::try_from(self.payload_bytes())
            .expect("append refuses payloads beyond MAX_PAYLOAD_BYTES");
        buffer.reserve(HEAD_BYTES + self.payload_bytes());
        buffer.extend_from_slice(&len.to_le_bytes());
        buffer.extend_from_slice(&crc.to_le_bytes());
        buffer.push(self.kind.number());
        buffer.extend_from_slice(&self.index.to_le_bytes());
        buffer.extend_from_slice(&self.term.to_le_bytes());
        buffer.extend_from_slice(&synced.to_le_bytes());
        buffer.extend_from_slice(tag);
        buffer.extend_from_slice(body);
        len
    }
}

/// A record understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// An entry of the Raft log.
    Entry(Entry),
    /// The vote of this node.
    Vote(Vote),
    /// Entries behind this log id are gone; `None`: all of them.
    TruncateAfter(Option<LogId>),
    /// The last log id known to be committed.
    Committed(Option<LogId>),
    /// Entries up to this log id are gone.
    Purged(LogId),
    /// The segment ends here.
    Seal,
}

/// Understands a record whose checksum was right.
///
/// # Errors
/// What is wrong with it.
pub(super) fn understand(head: &Head, payload: &[u8]) -> Result<Meaning, &'static str> {
    let log_id = log_id(head.term, head.index);
    Ok(match head.kind {
        Kind::Entry => Meaning::Entry(entry(log_id, payload)?),
        Kind::Vote => {
            let leader_id = LeaderIdOf::<TypeConfig> { term: head.term, voted_for: head.index };
            Meaning::Vote(Vote { leader_id, committed: flag(payload)? })
        }
        Kind::TruncateAfter => Meaning::TruncateAfter(flag(payload)?.then_some(log_id)),
        Kind::Committed => Meaning::Committed(flag(payload)?.then_some(log_id)),
        Kind::Purged => Meaning::Purged(log_id),
        Kind::Seal => Meaning::Seal,
    })
}

/// The entry of a record. A normal entry's bytes get an allocation of exactly their size.
///
/// # Errors
/// What is wrong with it.
pub(super) fn entry(log_id: LogId, payload: &[u8]) -> Result<Entry, &'static str> {
    let (tag, body) = payload.split_first().ok_or("an entry without a tag")?;
    let payload = match *tag {
        BLANK if body.is_empty() => EntryPayload::Blank,
        BLANK => return Err("a blank entry with content"),
        NORMAL => EntryPayload::Normal(Record(Bytes::copy_from_slice(body))),
        MEMBERSHIP => EntryPayload::Membership(
            serde_json::from_slice(body).map_err(|_| "an unreadable membership")?,
        ),
        _ => return Err("an entry of unknown kind"),
    };
    Ok(Entry { log_id, payload })
}

/// A log id of these parts.
pub(super) const fn log_id(term: u64, index: LogIndex) -> LogId {
    LogId { leader_id: CommittedLeaderIdOf::<TypeConfig> { term }, index }
}

fn flag(payload: &[u8]) -> Result<bool, &'static str> {
    match payload {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err("a control record with a wrong payload"),
    }
}

/// Parses one record out of arbitrary bytes, as recovery does.
pub(super) fn parse_any(bytes: &[u8]) -> Option<Meaning> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let head = Head::parse(head)?;
    let payload = rest.get(..usize::try_from(head.len).ok()?)?;
    // The meaning is read whatever the checksum says, so that a fuzzer gets past it.
    let meaning = understand(&head, payload).ok();
    if head.matches(seed(0, 0), payload) { meaning } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(len: usize) -> Entry {
        Entry {
            log_id: log_id(3, 7),
            payload: EntryPayload::Normal(Record(Bytes::from(vec![9; len]))),
        }
    }

    #[test]
    fn every_kind_comes_back() {
        let entry = normal(5);
        let blank = Entry { log_id: log_id(1, 0), payload: EntryPayload::Blank };
        let vote = Vote::new_committed(4, u64::MAX);
        let id = log_id(2, 11);
        let cases = [
            (Draft::entry(&entry).unwrap(), Meaning::Entry(entry.clone())),
            (Draft::entry(&blank).unwrap(), Meaning::Entry(blank.clone())),
            (Draft::vote(&vote), Meaning::Vote(vote)),
            (Draft::about(Kind::TruncateAfter, None), Meaning::TruncateAfter(None)),
            (Draft::about(Kind::TruncateAfter, Some(&id)), Meaning::TruncateAfter(Some(id))),
            (Draft::about(Kind::Committed, Some(&id)), Meaning::Committed(Some(id))),
            (Draft::about(Kind::Purged, Some(&id)), Meaning::Purged(id)),
            (Draft::about(Kind::Seal, None), Meaning::Seal),
        ];
        for (draft, meaning) in cases {
            let mut bytes = Vec::new();
            let len = draft.put(&mut bytes, seed(0, 0), 77);
            assert_eq!(bytes.len(), HEAD_BYTES + len as usize);
            assert_eq!(parse_any(&bytes), Some(meaning));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = Vec::new();
        Draft::entry(&normal(40)).unwrap().put(&mut bytes, seed(0, 0), 1);
        // What follows in the file must not help a wrong length.
        bytes.extend_from_slice(&[0; 64]);
        for bit in 0..(bytes.len() - 64) * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_any(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_belongs_to_its_segment() {
        let mut bytes = Vec::new();
        Draft::entry(&normal(1)).unwrap().put(&mut bytes, seed(5, 0), 1);
        assert_eq!(parse_any(&bytes), None);
    }
}

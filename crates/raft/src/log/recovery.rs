//! Reading a log back: replay every segment, tell a torn tail from damage.
//!
//! A large write may reach the disk in any order of its sectors, so valid records behind a bad one
//! prove nothing by themselves. Each record carries `synced`, the offset that was durable when it
//! was written. A bad record at x is a torn tail, unless a later valid record has `synced` > x (then
//! x was durable once) or a later segment exists (it is begun only after this one was synced).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::Disk;
use super::record::{self, HEAD_BYTES, Head, KIND_AT, Kind, Meaning};
use super::segment::{self, HEADER_BYTES, Segment};
use super::state::{Change, Spot, State};
use super::{LogError, LogSummary};
use crate::types::LogIndex;

/// How much of a file is looked at at once.
const PIECE_BYTES: usize = 1 << 20;

/// A log as read from its files.
#[derive(Debug)]
pub(super) struct Replay {
    /// What it says.
    pub(super) state: State,
    /// Where it ends; `None`: there is no segment.
    pub(super) tail: Option<Tail>,
    /// What was seen.
    pub(super) summary: LogSummary,
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    /// The newest segment.
    pub(super) segment: Arc<Segment>,
    /// Where its valid records end.
    pub(super) end: u64,
    /// Whether its last record is a seal.
    pub(super) is_sealed: bool,
    /// Up to here it was surely durable.
    synced: u64,
    /// Up to here bytes other than zero follow the end.
    dirty_end: u64,
}

/// Reads the log of a directory. `cache_bytes` bounds what stays in memory of its entries.
///
/// # Errors
/// [`LogError::Io`], [`LogError::Corrupt`], [`LogError::NewerFormat`].
pub(super) fn replay(dir: &Path, cache_bytes: usize, writable: bool) -> Result<Replay, LogError> {
    let files = segment::list(dir)?;
    let mut replayer = Replayer {
        state: State::default(),
        summary: LogSummary { segments: files.len(), ..LogSummary::default() },
        expected: None,
        cache_bytes,
    };
    let mut tail = None;
    let newest = files.last().map(|(sequence, _)| *sequence);
    for (sequence, path) in &files {
        let segment = Arc::new(Segment::open(path, *sequence, writable)?);
        let begin = segment.header.first_index;
        if replayer.expected.get_or_insert(begin) != &begin {
            return Err(LogError::corrupt(path, 20, "the first index does not follow the log"));
        }
        let scan = replayer.segment(&segment)?;
        if Some(*sequence) == newest {
            tail = Some(find_end(segment, &scan)?);
        } else if !scan.is_sealed {
            return Err(LogError::corrupt(path, scan.end, "a bad record in an older segment"));
        }
    }
    if let (Some((first, path)), Some(tail)) = (files.first(), &tail) {
        replayer.check_whole(*first, path)?;
        replayer.summary.torn_at =
            (tail.dirty_end > tail.end).then(|| (tail.segment.path.clone(), tail.end));
    }
    let Replayer { state, mut summary, .. } = replayer;
    summary.entries = state.placed_entries();
    summary.purged = state.purged;
    summary.last_log_id = state.last;
    summary.vote = state.vote;
    summary.committed = state.committed;
    Ok(Replay { state, tail, summary })
}

impl Tail {
    /// Makes the end what it was read as: writes again what may never have become durable (after a
    /// failed fsync the page cache can hold what the disk does not), zeroes what is cut off (a stale
    /// record must not line up behind new ones), and syncs.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub(super) fn repair(&self, disk: &Disk) -> Result<(), LogError> {
        let Segment { file, path, .. } = &*self.segment;
        let wrap = |e| LogError::io(path, "repair", e);
        let mut piece = vec![0; PIECE_BYTES];
        let mut offset = self.synced;
        while offset < self.end {
            let len =
                usize::try_from(self.end - offset).map_or(PIECE_BYTES, |n| n.min(PIECE_BYTES));
            let bytes = piece.get_mut(..len).unwrap_or_default();
            file.read_exact_at(bytes, offset).map_err(wrap)?;
            disk.write_at(file, bytes, offset).map_err(wrap)?;
            offset += len as u64;
        }
        segment::zero(disk, file, self.end, self.dirty_end, || true).map_err(wrap)?;
        disk.sync_now(file).map_err(wrap)
    }
}

struct Replayer {
    state: State,
    summary: LogSummary,
    /// The index of the next entry; unknown before the oldest segment.
    expected: Option<LogIndex>,
    cache_bytes: usize,
}

/// What one segment held.
struct Scan {
    end: u64,
    is_sealed: bool,
    synced: u64,
}

impl Replayer {
    fn segment(&mut self, segment: &Arc<Segment>) -> Result<Scan, LogError> {
        self.state.add_segment(Arc::clone(segment));
        let mut records = Records::new(segment)?;
        let facts_end = HEADER_BYTES as u64 + u64::from(segment.header.facts_bytes);
        let mut scan = Scan { end: HEADER_BYTES as u64, is_sealed: false, synced: facts_end };
        while !scan.is_sealed
            && let Some((head, payload)) = records.next(segment)?
        {
            let corrupt = |what| LogError::corrupt(&segment.path, scan.end, what);
            let meaning = record::understand(&head, payload).map_err(corrupt)?;
            scan.is_sealed = meaning == Meaning::Seal;
            let offset = u32::try_from(scan.end).map_err(|_| corrupt("an offset too large"))?;
            self.apply(meaning, Spot { offset, len: head.len }).map_err(corrupt)?;
            scan.synced = scan.synced.max(u64::from(head.synced));
            scan.end += (HEAD_BYTES + payload.len()) as u64;
            self.summary.records += 1;
        }
        if scan.end < facts_end {
            return Err(LogError::corrupt(&segment.path, scan.end, "a bad record"));
        }
        self.summary.bytes += scan.end;
        scan.synced = scan.synced.min(scan.end);
        Ok(scan)
    }

    fn apply(&mut self, meaning: Meaning, spot: Spot) -> Result<(), &'static str> {
        let state = &mut self.state;
        match meaning {
            Meaning::Entry(entry) => {
                let index = entry.log_id.index;
                // A log may begin anywhere, but it goes on one by one.
                let begins = state.last.is_none() && state.placed_entries() == 0;
                if self.expected != Some(index) && !(begins && self.expected == Some(0)) {
                    return Err("an entry that does not follow the log");
                }
                self.expected = Some(index + 1);
                state.append(entry);
                state.place(&Change::Entry(index, spot));
                state.evict(self.cache_bytes);
            }
            Meaning::TruncateAfter(after) => {
                let next = after.map_or(0, |id| id.index + 1);
                state.truncate_after(after);
                state.place(&Change::TruncateFrom(next));
                let floor = state.purged.map_or(0, |id| id.index + 1);
                self.expected = self.expected.map(|expected| expected.min(next).max(floor));
            }
            Meaning::Purged(upto) => {
                state.purge(upto);
                state.place(&Change::Purge(upto.index));
                self.expected = self.expected.max(Some(upto.index + 1));
            }
            Meaning::Vote(vote) => state.vote = Some(vote),
            Meaning::Committed(committed) => state.committed = committed,
            Meaning::Seal => {}
        }
        Ok(())
    }

    /// Whether the oldest segment holds all that was not purged.
    fn check_whole(&self, first: u64, path: &Path) -> Result<(), LogError> {
        let whole = match self.state.purged {
            None => first == 1,
            Some(purged) => {
                let next = self.state.placed_first().or(self.expected);
                next == Some(purged.index + 1)
            }
        };
        if whole { Ok(()) } else { Err(LogError::corrupt(path, 20, "older segments are missing")) }
    }
}

/// Records of a segment one after the other, until one is not valid.
struct Records {
    reader: BufReader<File>,
    left: u64,
    payload: Vec<u8>,
}

impl Records {
    fn new(segment: &Segment) -> Result<Self, LogError> {
        let wrap = |e| LogError::io(&segment.path, "read", e);
        let mut file = segment.file.try_clone().map_err(wrap)?;
        let len = file.metadata().map_err(wrap)?.len();
        file.seek(SeekFrom::Start(HEADER_BYTES as u64)).map_err(wrap)?;
        let left = len.saturating_sub(HEADER_BYTES as u64);
        let reader = BufReader::with_capacity(PIECE_BYTES / 4, file);
        Ok(Self { reader, left, payload: Vec::new() })
    }

    fn next(&mut self, segment: &Segment) -> Result<Option<(Head, &[u8])>, LogError> {
        let wrap = |e| LogError::io(&segment.path, "read", e);
        if self.left < HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        self.reader.read_exact(&mut head).map_err(wrap)?;
        self.left -= HEAD_BYTES as u64;
        let Some(head) = Head::parse(&head) else { return Ok(None) };
        if u64::from(head.len) > self.left {
            return Ok(None);
        }
        self.payload.resize(usize::try_from(head.len).unwrap_or(0), 0);
        self.reader.read_exact(&mut self.payload).map_err(wrap)?;
        self.left -= u64::from(head.len);
        Ok(head.matches(segment.seed, &self.payload).then_some((head, self.payload.as_slice())))
    }
}

/// Decides what follows the last valid record of the newest segment.
fn find_end(segment: Arc<Segment>, scan: &Scan) -> Result<Tail, LogError> {
    let wrap = |e| LogError::io(&segment.path, "read", e);
    let file_end = segment.file.metadata().map_err(wrap)?.len();
    let mut dirty_end = scan.end;
    let zeros = vec![0; PIECE_BYTES];
    let mut piece = zeros.clone();
    let mut offset = scan.end;
    while offset < file_end {
        let read = read_some(&segment.file, &mut piece, offset).map_err(wrap)?;
        let bytes = piece.get(..read).unwrap_or_default();
        // Nearly all of the tail is zero: comparing is much faster than looking at each byte.
        if zeros.get(..read) != Some(bytes)
            && let Some(last) = bytes.iter().rposition(|byte| *byte != 0)
        {
            dirty_end = offset + last as u64 + 1;
            for (at, window) in bytes.windows(HEAD_BYTES).enumerate() {
                let at = offset + at as u64;
                if proves_damage(&segment, window, at, scan.end, file_end).map_err(wrap)? {
                    return Err(LogError::corrupt(&segment.path, scan.end, "a bad record"));
                }
            }
        }
        // Overlap, so that no head is missed between two pieces.
        let step = if read < PIECE_BYTES { read } else { read - (HEAD_BYTES - 1) };
        if step == 0 {
            break;
        }
        offset += step as u64;
    }
    Ok(Tail { end: scan.end, is_sealed: scan.is_sealed, synced: scan.synced, dirty_end, segment })
}

/// Whether a valid record at `at` was written when everything up to beyond `bad` was durable.
fn proves_damage(
    segment: &Segment,
    head: &[u8],
    at: u64,
    bad: u64,
    file_end: u64,
) -> io::Result<bool> {
    if head.get(KIND_AT).is_none_or(|kind| Kind::from_number(*kind).is_none()) {
        return Ok(false);
    }
    let Some(head) = Head::parse(head) else { return Ok(false) };
    let (synced, body) = (u64::from(head.synced), at + HEAD_BYTES as u64);
    if synced <= bad || synced > at || body + u64::from(head.len) > file_end {
        return Ok(false);
    }
    let mut payload = vec![0; usize::try_from(head.len).unwrap_or(0)];
    segment.file.read_exact_at(&mut payload, body)?;
    Ok(head.matches(segment.seed, &payload))
}

fn read_some(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = into.get_mut(read..)
        && !rest.is_empty()
    {
        match file.read_at(rest, offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Checks the log of a directory without changing anything.
///
/// # Errors
/// [`LogError::Locked`] while a node has it open, otherwise as [`super::LogStore::open`].
pub fn verify(dir: &Path) -> Result<LogSummary, LogError> {
    let path: PathBuf = dir.join(super::LOCK_FILE);
    let _lock = match File::open(&path) {
        Ok(lock) => {
            lock.try_lock_shared().map_err(|e| super::lock_error(&path, e))?;
            Some(lock)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(LogError::io(&path, "open", e)),
    };
    Ok(replay(dir, 0, false)?.summary)
}

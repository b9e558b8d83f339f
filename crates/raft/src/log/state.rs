//! What the log knows without reading: its bounds, the newest entries, and where the others lie.
//!
//! Two pictures of the log live here. The *logical* one (`purged`, `last`, the cache) changes when
//! Raft asks; the *placed* one (`segments`) when the log's thread has written. The placed one lags,
//! but below the first cached entry both agree: an entry leaves the cache only after it was placed
//! and while no truncation is on its way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::LogError;
use super::record::HEAD_BYTES;
use super::segment::Segment;
use crate::types::{Entry, LogId, LogIndex, Record, Vote};
use openraft::EntryPayload;

/// What an entry weighs in memory beside its content.
const ENTRY_OVERHEAD: usize = 128;

/// The log's state.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last log id that was purged.
    pub(super) purged: Option<LogId>,
    /// The last log id, the purged one if no entry is left.
    pub(super) last: Option<LogId>,
    /// The vote, durable.
    pub(super) vote: Option<Vote>,
    /// The last committed log id that we were told.
    pub(super) committed: Option<LogId>,
    /// Why the log has stopped.
    pub(super) failed: Option<Arc<LogError>>,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
    segments: VecDeque<Placed>,
    truncations: u64,
    truncations_placed: u64,
    purge_placed: bool,
}

/// The entries of one segment.
#[derive(Debug)]
struct Placed {
    segment: Arc<Segment>,
    first: LogIndex,
    spots: VecDeque<Spot>,
    bytes: u64,
}

/// Where an entry lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Where its record begins.
    pub(super) offset: u32,
    /// Bytes of its payload.
    pub(super) len: u32,
}

impl Spot {
    /// Bytes of its record.
    pub(super) fn bytes(self) -> u64 {
        u64::from(self.len) + HEAD_BYTES as u64
    }
}

/// What the log's thread has written, in order.
#[derive(Debug)]
pub(super) enum Change {
    /// An entry lies here in the newest segment.
    Entry(LogIndex, Spot),
    /// Entries from this index on are gone.
    TruncateFrom(LogIndex),
    /// Entries up to this index are gone.
    Purge(LogIndex),
}

/// A consistent view of some entries; those of the disk still have to be read.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The older ones.
    pub(super) disk: Vec<Run>,
    /// The newer ones.
    pub(super) cached: Vec<Entry>,
}

/// Neighbours in one segment.
#[derive(Debug)]
pub(super) struct Run {
    /// The segment. It stays readable after its file was deleted.
    pub(super) segment: Arc<Segment>,
    /// Index of the first.
    pub(super) first: LogIndex,
    /// Where they lie.
    pub(super) spots: Vec<Spot>,
}

impl State {
    /// The index of the next entry.
    pub(super) fn next_index(&self) -> LogIndex {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// Whether an entry with this index may follow. An empty log takes any.
    pub(super) fn accepts(&self, index: LogIndex) -> bool {
        self.last.is_none() || index == self.next_index()
    }

    /// Whether the entry with this index was purged.
    pub(super) fn has_purged(&self, index: LogIndex) -> bool {
        self.purged.is_some_and(|purged| index <= purged.index)
    }

    /// Adds an entry.
    pub(super) fn append(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.cache_bytes += weight(&entry);
        self.cache.push_back(entry);
    }

    /// Forgets the entries behind `after`.
    pub(super) fn truncate_after(&mut self, after: Option<LogId>) {
        self.truncations += 1;
        let after = after.max(self.purged);
        if after.map_or(0, |id| id.index + 1) >= self.next_index() {
            return;
        }
        while let Some(entry) = self.cache.back()
            && after.is_none_or(|id| entry.log_id.index > id.index)
        {
            self.cache_bytes -= weight(entry);
            self.cache.pop_back();
        }
        self.last = after;
    }

    /// Forgets the entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        self.purged = Some(upto);
        while let Some(entry) = self.cache.front()
            && entry.log_id.index <= upto.index
        {
            self.cache_bytes -= weight(entry);
            self.cache.pop_front();
        }
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }

    /// Frees the oldest cached entries beyond `capacity` bytes that can be read from the disk.
    pub(super) fn evict(&mut self, capacity: usize) {
        if self.truncations != self.truncations_placed {
            return;
        }
        let placed = self.placed_end();
        while self.cache_bytes > capacity
            && let Some(entry) = self.cache.front()
            && entry.log_id.index < placed
        {
            self.cache_bytes -= weight(entry);
            self.cache.pop_front();
        }
    }

    /// Begins a segment.
    pub(super) fn add_segment(&mut self, segment: Arc<Segment>) {
        self.segments.push_back(Placed { segment, first: 0, spots: VecDeque::new(), bytes: 0 });
    }

    /// Notes what was written to the newest segment.
    pub(super) fn place(&mut self, change: &Change) {
        match *change {
            Change::Entry(index, spot) => {
                if let Some(placed) = self.segments.back_mut() {
                    if placed.spots.is_empty() {
                        placed.first = index;
                    }
                    placed.bytes += spot.bytes();
                    placed.spots.push_back(spot);
                }
            }
            Change::TruncateFrom(index) => {
                self.truncations_placed += 1;
                for placed in self.segments.iter_mut().rev() {
                    while placed.end() > index
                        && let Some(spot) = placed.spots.pop_back()
                    {
                        placed.bytes -= spot.bytes();
                    }
                }
            }
            Change::Purge(index) => {
                self.purge_placed = true;
                for placed in &mut self.segments {
                    while placed.first <= index
                        && let Some(spot) = placed.spots.pop_front()
                    {
                        placed.bytes -= spot.bytes();
                        placed.first += 1;
                    }
                }
            }
        }
    }

    /// Takes out the oldest segments that hold no entry any more, never the newest one. Before
    /// anything was purged the oldest stay, even if truncated: nothing would say why they are gone.
    pub(super) fn take_emptied(&mut self) -> Vec<Arc<Segment>> {
        let mut emptied = Vec::new();
        while self.purge_placed
            && self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && oldest.spots.is_empty()
        {
            emptied.extend(self.segments.pop_front().map(|placed| placed.segment));
        }
        emptied
    }

    /// The index of the oldest placed entry.
    pub(super) fn placed_first(&self) -> Option<LogIndex> {
        self.segments.iter().find(|placed| !placed.spots.is_empty()).map(|placed| placed.first)
    }

    fn placed_end(&self) -> LogIndex {
        let newest = self.segments.iter().rev().find(|placed| !placed.spots.is_empty());
        newest.map_or(0, Placed::end)
    }

    /// How many entries the placed picture has.
    pub(super) fn placed_entries(&self) -> usize {
        self.segments.iter().map(|placed| placed.spots.len()).sum()
    }

    /// Bytes on disk of the entries in `range`, as far as they are placed.
    pub(super) fn bytes_between(&self, range: &Range<LogIndex>) -> u64 {
        self.segments
            .iter()
            .map(|placed| {
                if range.start <= placed.first && placed.end() <= range.end {
                    return placed.bytes;
                }
                placed.between(range).map(|(_, spot)| spot.bytes()).sum()
            })
            .sum()
    }

    /// The lowest index such that the placed entries from it on take at most `bytes`.
    pub(super) fn index_keeping(&self, bytes: u64) -> LogIndex {
        let mut left = bytes;
        let mut keep = self.next_index();
        for placed in self.segments.iter().rev().filter(|placed| !placed.spots.is_empty()) {
            if let Some(rest) = left.checked_sub(placed.bytes) {
                left = rest;
                keep = placed.first;
                continue;
            }
            let newest_first = (placed.first..placed.end()).rev();
            for (index, spot) in newest_first.zip(placed.spots.iter().rev()) {
                let Some(rest) = left.checked_sub(spot.bytes()) else { return keep };
                left = rest;
                keep = index;
            }
        }
        keep
    }

    /// Bytes of cached entries.
    #[cfg(test)]
    pub(super) fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Finds the entries of `range`: all of them, or the first ones that together have at most
    /// `limit` bytes, but at least one.
    pub(super) fn plan(&self, range: Range<LogIndex>, limit: Option<u64>) -> Plan {
        let end = range.end.min(self.next_index());
        let live = self.purged.map_or(0, |purged| purged.index + 1);
        let start = range.start.max(live);
        let mut plan = Plan::default();
        let mut budget = Budget { left: limit, taken: false };
        let cached = self.cache.front().map_or(end, |entry| entry.log_id.index);
        let older = start..end.min(cached);
        for placed in &self.segments {
            let mut run = Run { segment: Arc::clone(&placed.segment), first: 0, spots: Vec::new() };
            for (index, spot) in placed.between(&older) {
                if !budget.take(spot.bytes()) {
                    break;
                }
                if run.spots.is_empty() {
                    run.first = index;
                }
                run.spots.push(spot);
            }
            if !run.spots.is_empty() {
                plan.disk.push(run);
            }
        }
        let skip = usize::try_from(start.saturating_sub(cached)).unwrap_or(usize::MAX);
        plan.cached = self
            .cache
            .iter()
            .skip(skip)
            .take_while(|entry| entry.log_id.index < end && budget.take(weight(entry) as u64))
            .cloned()
            .collect();
        plan
    }
}

impl Placed {
    fn end(&self) -> LogIndex {
        if self.spots.is_empty() { 0 } else { self.first + self.spots.len() as u64 }
    }

    fn between(&self, range: &Range<LogIndex>) -> impl Iterator<Item = (LogIndex, Spot)> {
        let within = |index: LogIndex| {
            let past = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
            past.min(self.spots.len())
        };
        let (start, end) = (within(range.start), within(range.end));
        let first = self.first + start as u64;
        (first..).zip(self.spots.range(start..end.max(start)).copied())
    }
}

/// How much may still be taken.
struct Budget {
    left: Option<u64>,
    taken: bool,
}

impl Budget {
    /// Takes `bytes`, unless they are too many and something was taken before. Once it has refused
    /// it refuses everything.
    fn take(&mut self, bytes: u64) -> bool {
        let Some(left) = self.left else { return true };
        let rest = left.checked_sub(bytes);
        let fits = rest.is_some() || !self.taken;
        self.left = Some(if fits { rest.unwrap_or(0) } else { 0 });
        self.taken = true;
        fits
    }
}

fn weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(Record(bytes)) => bytes.len(),
            EntryPayload::Membership(members) => members.nodes().count() * 3 * ENTRY_OVERHEAD,
        }
}

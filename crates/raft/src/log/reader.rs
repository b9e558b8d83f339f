//! Reading entries: the newest from memory, the others from their segments.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures_util::{Stream, stream};
use openraft::alias::LeaderIdOf;
use openraft::errors::LeaderChanged;
use openraft::storage::{LeaderBoundedStreamError, LeaderBoundedStreamResult, RaftLogReader};

use super::record::{self, HEAD_BYTES, Head, Kind};
use super::state::{Plan, Run, Spot};
use super::{LogError, Shared};
use crate::host::Host;
use crate::types::{Entry, LogIndex, TypeConfig, Vote};

/// How much of a segment is read at once.
const READ_BYTES: u64 = 1 << 20;

/// A handle that reads the log; any number of them, beside the writer.
#[derive(Debug, Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn read(&self, range: Range<LogIndex>, limit: Option<u64>) -> io::Result<Vec<Entry>> {
        let plan = self.shared.state()?.plan(range, limit);
        plan.read(&self.shared.host).await
    }

    /// The entries of `range` piece by piece, so that a long range does not fill the memory.
    fn pieces(
        &self,
        range: Range<LogIndex>,
    ) -> impl Stream<Item = io::Result<Entry>> + Send + use<> {
        struct Cursor {
            reader: LogReader,
            piece: std::vec::IntoIter<Entry>,
            left: Range<LogIndex>,
        }
        let cursor = Cursor { reader: self.clone(), piece: Vec::new().into_iter(), left: range };
        stream::unfold(cursor, async |mut cursor| {
            loop {
                if let Some(entry) = cursor.piece.next() {
                    return Some((Ok(entry), cursor));
                }
                if cursor.left.is_empty() {
                    return None;
                }
                let limit = cursor.reader.shared.options.read_bytes;
                match cursor.reader.read(cursor.left.clone(), Some(limit)).await {
                    Ok(entries) => {
                        // An empty piece is the end of the log.
                        let next = entries.last().map_or(cursor.left.end, |e| e.log_id.index + 1);
                        cursor.left.start = next;
                        cursor.piece = entries.into_iter();
                    }
                    Err(error) => {
                        cursor.left.start = cursor.left.end;
                        return Some((Err(error), cursor));
                    }
                }
            }
        })
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let items: Vec<LeaderBoundedStreamResult<TypeConfig>> =
            match self.read_bounded(leader, bounds(&range)).await {
                Ok(entries) => entries.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
        stream::iter(items)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        Box::pin(self.pieces(bounds(&range)))
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.read(bounds(&range), None).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let plan = {
            let state = self.shared.state()?;
            if state.has_purged(start) {
                // What is left does not follow what the other node has: replication would send a
                // hole. Nothing makes it try again until it is told to send a snapshot.
                return Ok(Vec::new());
            }
            state.plan(start..end, Some(self.shared.options.read_bytes))
        };
        plan.read(&self.shared.host).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.state()?.vote)
    }
}

impl LogReader {
    async fn read_bounded(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: Range<LogIndex>,
    ) -> Result<Vec<Entry>, LeaderBoundedStreamError<TypeConfig>> {
        let before = self.read_vote().await?;
        if before.is_none_or(|vote| vote.leader_id != leader || !vote.committed) {
            return Err(LeaderChanged::new(leader, before).into());
        }
        let entries = self.read(range, None).await?;
        let after = self.read_vote().await?;
        if after != before {
            return Err(LeaderChanged::new(leader, after).into());
        }
        Ok(entries)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<LogIndex> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => LogIndex::MAX,
    };
    start..end
}

impl Plan {
    async fn read(self, host: &Host) -> io::Result<Vec<Entry>> {
        let Self { disk, cached } = self;
        if disk.is_empty() {
            return Ok(cached);
        }
        let mut entries = host.blocking(move || read_runs(&disk)).await??;
        entries.extend(cached);
        let follows = |pair: &[Entry]| match pair {
            [before, after] => before.log_id.index + 1 == after.log_id.index,
            _ => true,
        };
        if entries.windows(2).all(follows) {
            Ok(entries)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a hole in the log"))
        }
    }
}

fn read_runs(runs: &[Run]) -> Result<Vec<Entry>, LogError> {
    let mut entries = Vec::with_capacity(runs.iter().map(|run| run.spots.len()).sum());
    for run in runs {
        let mut index = run.first;
        let mut rest = run.spots.as_slice();
        while let Some(start) = rest.first() {
            let start = u64::from(start.offset);
            let near = |spot: &&Spot| u64::from(spot.offset) + spot.bytes() <= start + READ_BYTES;
            let count = rest.iter().take_while(near).count().max(1);
            let (piece, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            read_piece(run, index, piece, &mut entries)?;
            index += count as u64;
            rest = later;
        }
    }
    Ok(entries)
}

/// Reads neighbours with one read.
fn read_piece(
    run: &Run,
    first: LogIndex,
    spots: &[Spot],
    entries: &mut Vec<Entry>,
) -> Result<(), LogError> {
    let (Some(start), Some(end)) = (spots.first(), spots.last()) else { return Ok(()) };
    let start = u64::from(start.offset);
    let len = u64::from(end.offset) + end.bytes() - start;
    let path = &run.segment.path;
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| LogError::Stopped)?];
    run.segment.file.read_exact_at(&mut bytes, start).map_err(|e| LogError::io(path, "read", e))?;
    for (index, spot) in (first..).zip(spots) {
        let offset = u64::from(spot.offset);
        let corrupt = |what| LogError::corrupt(path, offset, what);
        let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let (head, payload) = bytes
            .get(at..)
            .and_then(|bytes| bytes.split_at_checked(HEAD_BYTES))
            .ok_or_else(|| corrupt("a short record"))?;
        let head = Head::parse(head).ok_or_else(|| corrupt("no head of a record"))?;
        let payload = usize::try_from(spot.len)
            .ok()
            .and_then(|len| payload.get(..len))
            .filter(|payload| head.matches(run.segment.seed, payload))
            .ok_or_else(|| corrupt("the record's checksum does not match"))?;
        if head.kind != Kind::Entry || head.index != index {
            return Err(corrupt("another entry than was written here"));
        }
        entries.push(record::entry(record::log_id(head.term, index), payload).map_err(corrupt)?);
    }
    Ok(())
}

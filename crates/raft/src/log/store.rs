//! The log as openraft writes to it.

use std::io;
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::LogState;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, RaftLogStorage};
use tokio::sync::oneshot;

use super::queue::{Operation, Room};
use super::reader::LogReader;
use super::record::{HEAD_BYTES, MAX_PAYLOAD_BYTES};
use super::{LogError, Running, Shared};
use crate::types::{Entry, LogId, Record, TypeConfig, Vote};

/// What an entry without content takes in the queue, at least.
const ENTRY_COST: usize = 64;

/// The Raft log of this node. One writer; readers come from `get_log_reader`.
#[derive(Debug)]
pub struct LogStore {
    pub(super) shared: Arc<Shared>,
    pub(super) _running: Arc<Running>,
}

impl LogStore {
    /// Room in the queue; if the log has failed, why.
    async fn room(&self, bytes: usize) -> io::Result<Room<'_>> {
        let room = self.shared.queue.reserve(bytes).await;
        drop(self.shared.state()?);
        Ok(room?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.shared.state()?;
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, durable) = oneshot::channel();
        self.room(HEAD_BYTES).await?.push(Operation::Vote(*vote, done))?;
        durable.await.map_err(|_| LogError::Stopped)?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let room = self.room(HEAD_BYTES).await?;
        self.shared.state()?.committed = committed;
        Ok(room.push(Operation::Committed(committed))?)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.state()?.committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let bytes = check(&entries)?;
        let room = self.room(bytes).await?;
        // No await from here on: readers see the entries if and only if they are queued.
        let mut state = self.shared.state()?;
        if let Some(first) = entries.first().map(|entry| entry.log_id.index)
            && !state.accepts(first)
        {
            let next = state.next_index();
            return Err(invalid(format!("an entry at {first}, the next one is {next}")));
        }
        for entry in &entries {
            state.append(entry.clone());
        }
        Ok(room.push(Operation::Append(entries, callback))?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let room = self.room(HEAD_BYTES).await?;
        self.shared.state()?.truncate_after(last_log_id);
        Ok(room.push(Operation::TruncateAfter(last_log_id))?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let room = self.room(HEAD_BYTES).await?;
        self.shared.state()?.purge(log_id);
        Ok(room.push(Operation::Purge(log_id))?)
    }
}

/// Checks that these entries are neighbours and gives the bytes they take in the queue.
fn check(entries: &[Entry]) -> io::Result<usize> {
    let mut bytes = 0;
    let mut next = None;
    for entry in entries {
        let index = entry.log_id.index;
        if next.is_some_and(|next| next != index) {
            return Err(invalid(format!("an entry at {index} that does not follow its neighbour")));
        }
        next = Some(index + 1);
        let content = match &entry.payload {
            EntryPayload::Normal(Record(content)) => content.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => ENTRY_COST,
        };
        if content >= MAX_PAYLOAD_BYTES {
            return Err(invalid(format!("an entry of {content} bytes")));
        }
        bytes += content + ENTRY_COST;
    }
    Ok(bytes)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

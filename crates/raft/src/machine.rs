//! The state machine: entry → store → announce queue → answer, in index order; nothing else.
//!
//! The order inside a chunk is never changed: the state is readable, then the changed keys are
//! queued for announcing, then proposers get their replies. The disk is told last and nothing
//! waits for it, unless its queue is full.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;
use quorate_core::command::{ChangeEvent, Command, Proposal, ProposalId, Reply};
use quorate_core::crash;
use quorate_core::record::decode_proposal;
use quorate_core::store::disk::{Batch, Disk};
use quorate_core::store::{Apply, Change, State, Store};
use quorate_core::time::Revision;
use quorate_core::watch::AnnounceQueue;
use tokio::time::Instant;

use crate::host::Host;
use crate::pending::Pending;
use crate::progress::Progress;
use crate::snapshot::{RaftSnapshot, SnapshotDir, SnapshotFile};
use crate::types::{
    Entry, LogId, Record, SnapshotMeta, StoredMembership, TypeConfig, log_id, revision_of, term_of,
};

/// Entries applied under one lock at most.
const CHUNK_ENTRIES: usize = 256;

/// What apply works on. Shared with those who read and wait.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) store: Arc<Store>,
    pub(crate) announce: Arc<AnnounceQueue>,
    pub(crate) pending: Pending,
    pub(crate) progress: Progress,
    pub(crate) snapshots: Arc<SnapshotDir>,
    pub(crate) disk: Disk,
    pub(crate) host: Host,
    pub(crate) checkpoints: Checkpoints,
}

/// The newest checkpoints of this replica: revision and state hash.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Mutex<VecDeque<(Revision, [u8; 16])>>);

impl Checkpoints {
    const KEPT: usize = 8;

    fn keep(&self, state: &State) {
        let mut kept = self.0.lock();
        if kept.len() == Self::KEPT {
            kept.pop_front();
        }
        kept.push_back((state.header().revision, state.hash()));
    }

    pub(crate) fn at(&self, revision: Revision) -> Option<[u8; 16]> {
        self.0.lock().iter().find(|(at, _)| *at == revision).map(|(_, hash)| *hash)
    }
}

/// openraft's state machine.
#[derive(Debug)]
pub(crate) struct Machine(pub(crate) Arc<Applied>);

/// Turns an entry into what apply needs, before the lock is taken.
enum Step {
    Nothing,
    Members(Bytes),
    Apply(Box<Proposal>),
}

fn step(entry: Entry) -> io::Result<(LogId, Step)> {
    let step = match entry.payload {
        EntryPayload::Blank => Step::Nothing,
        EntryPayload::Normal(Record(bytes)) => Step::Apply(Box::new(
            decode_proposal(bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        )),
        EntryPayload::Membership(members) => {
            let stored = StoredMembership::new(Some(entry.log_id), members);
            Step::Members(serde_json::to_vec(&stored)?.into())
        }
    };
    Ok((entry.log_id, step))
}

/// The entries must follow what is applied without a hole: an entry that was left out would make
/// this replica differ for ever.
fn in_order(applied: Option<(u64, u64)>, steps: &[(LogId, Step)]) -> io::Result<()> {
    let next = applied.map_or(0, |(_, index)| index + 1);
    match (next..).zip(steps).find(|(want, (id, _))| *want != id.index) {
        None => Ok(()),
        Some((want, (id, _))) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("entry {} to be applied where {want} is next", id.index),
        )),
    }
}

/// What one chunk did.
#[derive(Default)]
struct Done {
    replies: Vec<(Option<ProposalId>, Reply)>,
    events: Vec<ChangeEvent>,
    changes: Vec<Change>,
    checkpoints: Vec<State>,
}

impl Done {
    fn take(&mut self, store: &mut Apply<'_>, id: &LogId, step: Step) {
        let revision = revision_of(id.index);
        let mut reply = (None, Reply { revision, ..Reply::default() });
        let mut is_checkpoint = false;
        match step {
            Step::Nothing => {}
            Step::Members(members) => store.set_membership(members),
            Step::Apply(proposal) => {
                is_checkpoint = proposal.command == Command::Checkpoint;
                let applied = store.proposal(revision, &proposal);
                reply = (Some(proposal.id), applied.reply);
                self.events.extend(applied.events);
                self.changes.extend(applied.changes);
            }
        }
        store.mark(term_of(id), id.index, revision);
        if is_checkpoint {
            self.checkpoints.push(store.freeze());
        }
        self.replies.push(reply);
    }
}

impl Machine {
    async fn apply_chunk(
        &self,
        chunk: Vec<io::Result<EntryResponder<TypeConfig>>>,
    ) -> io::Result<()> {
        let mut steps = Vec::with_capacity(chunk.len());
        let mut responders = Vec::with_capacity(chunk.len());
        for item in chunk {
            let (entry, responder) = item?;
            steps.push(step(entry)?);
            responders.push(responder);
        }
        let applied = &*self.0;
        let mut done = Done::default();
        let (header, revision) = {
            let mut store = applied.store.apply();
            in_order(store.header().applied, &steps)?;
            for (id, step) in steps {
                done.take(&mut store, &id, step);
            }
            done.changes.extend(store.origin_changes());
            (store.header_record(), store.header().revision)
        };
        let now = Instant::now();
        for event in &done.events {
            applied.announce.queue(&event.key, now);
        }
        for state in done.checkpoints {
            applied.checkpoints.keep(&state);
        }
        applied.progress.advance(revision);
        for ((id, reply), responder) in done.replies.into_iter().zip(responders) {
            if let Some(id) = id {
                applied.pending.applied(id, reply);
            }
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        applied.disk.submit(Batch { changes: done.changes, header }).await;
        Ok(())
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        position(&self.0.store.freeze())
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut chunks = entries.ready_chunks(CHUNK_ENTRIES);
        while let Some(chunk) = chunks.next().await {
            self.apply_chunk(chunk).await?;
        }
        Ok(())
    }

    /// Snapshots are built by [`crate::maintain`], where a full disk is no reason to end the node;
    /// openraft is told of one that is there already.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let is_built = self.0.snapshots.current().is_some();
        (force || is_built).then(|| self.builder(force))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder(true)
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let applied = Arc::clone(&self.0);
        let meta = meta.clone();
        let host = applied.host.clone();
        let state = host.blocking(move || applied.snapshots.install(&meta, &snapshot)).await??;
        self.install(state).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        Ok(self.0.snapshots.current())
    }
}

impl Machine {
    fn builder(&self, force: bool) -> Builder {
        let state = force.then(|| self.0.store.freeze());
        let host = self.0.host.clone();
        Builder { state, snapshots: Arc::clone(&self.0.snapshots), host }
    }

    /// Puts a verified state in place and tells everyone who waits for something in it.
    async fn install(&self, state: State) {
        let applied = &*self.0;
        let fresh = state.clone();
        let old = applied.store.replace(state);
        // Both may take long, and this thread is Raft's: comparing what is watched, and freeing
        // the state that was.
        let (announce, new) = (Arc::clone(&applied.announce), fresh.clone());
        let compared = applied.host.blocking(move || {
            announce.queue_watched(Instant::now(), |key| old.standing(key) != new.standing(key));
            drop(old);
        });
        if let Err(error) = compared.await {
            tracing::error!(%error, "changes of an installed snapshot were not announced");
        }
        applied.progress.advance(fresh.header().revision);
        let (origin, nonce) = (applied.pending.origin(), applied.pending.nonce());
        for sequence in applied.pending.sequences() {
            if let Some(reply) = fresh.kept_reply(origin, nonce, sequence) {
                let id = ProposalId { origin, nonce, sequence, floor: 0 };
                applied.pending.applied(id, reply);
            }
        }
        crash::point("install-replaced");
        applied.disk.rebuild(fresh).await;
    }

    /// Rewrites the store's copy on disk from memory.
    pub(crate) async fn rebuild_disk(&self) {
        self.0.disk.rebuild(self.0.store.freeze()).await;
    }
}

/// The log position and members of a state.
pub(crate) fn position(state: &State) -> io::Result<(Option<LogId>, StoredMembership)> {
    let header = state.header();
    let members = if header.membership.is_empty() {
        StoredMembership::default()
    } else {
        serde_json::from_slice(&header.membership)?
    };
    Ok((header.applied.map(|(term, index)| log_id(term, index)), members))
}

/// Gives openraft the current snapshot, or makes one of a frozen state.
#[derive(Debug)]
pub(crate) struct Builder {
    state: Option<State>,
    snapshots: Arc<SnapshotDir>,
    host: Host,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        if let Some(state) = self.state.take() {
            return build(&self.host, Arc::clone(&self.snapshots), state).await;
        }
        self.snapshots.current().ok_or_else(|| io::Error::other("there is no snapshot"))
    }
}

/// Writes a frozen state to a file, beside apply.
pub(crate) async fn build(
    host: &Host,
    snapshots: Arc<SnapshotDir>,
    state: State,
) -> Result<RaftSnapshot, io::Error> {
    let inner = host.clone();
    host.blocking(move || {
        let (last_log_id, last_membership) = position(&state)?;
        snapshots.build(&inner, &state, SnapshotMeta { last_log_id, last_membership })
    })
    .await?
}

//! Proposals on their way to a leader that is another node: one stream a leader, many proposals a
//! message, at most one hop.
//!
//! Only refusals come back. What is applied reaches the proposer through the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use quorate_core::command::ProposalId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::leader::Leader;
use crate::machine::Applied;
use crate::peer::{Credentials, client, wire};
use crate::pending::NotTaken;
use crate::types::NodeId;

/// Proposals waiting for the stream; the same bound as open proposals.
const QUEUED: usize = quorate_core::kind::origin::MAX_REPLIES;
/// Proposals in one message at most.
const BATCH: usize = 256;
/// Bytes of commands after which a message is sent.
const BATCH_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Item {
    id: ProposalId,
    command: Bytes,
}

/// Streams to leaders, by node id. One is used at a time; old ones end when they are idle.
#[derive(Debug)]
pub(crate) struct Forwarder {
    applied: Arc<Applied>,
    credentials: Credentials,
    cluster: Arc<std::sync::OnceLock<u64>>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    lines: Mutex<BTreeMap<(NodeId, u64), mpsc::Sender<Item>>>,
}

impl Forwarder {
    pub(crate) fn new(
        applied: Arc<Applied>,
        credentials: Credentials,
        cluster: Arc<std::sync::OnceLock<u64>>,
        runtime: tokio::runtime::Handle,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let lines = Mutex::new(BTreeMap::new());
        Self { applied, credentials, cluster, runtime, tasks, stop, lines }
    }

    /// Queues a proposal for a leader. What becomes of it is told through its ticket.
    pub(crate) fn send(&self, leader: &Leader, id: ProposalId, command: Bytes) {
        let line = self.line(leader);
        if let Err(refused) = line.try_send(Item { id, command }) {
            let why = match refused {
                mpsc::error::TrySendError::Full(_) => NotTaken::Overloaded,
                mpsc::error::TrySendError::Closed(_) => NotTaken::NotLeader,
            };
            self.applied.pending.not_taken(id.sequence, why);
        }
    }

    /// The stream to this leader in this term, opened when there is none that works. Streams of
    /// earlier terms are closed.
    fn line(&self, leader: &Leader) -> mpsc::Sender<Item> {
        let key = (leader.id, leader.term);
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(&key).filter(|line| !line.is_closed()) {
            return line.clone();
        }
        lines.retain(|(_, term), _| *term >= leader.term);
        let (line, queue) = mpsc::channel(QUEUED);
        lines.insert(key, line.clone());
        let run = run_line(
            Arc::clone(&self.applied),
            leader.clone(),
            self.credentials.clone(),
            self.cluster.get().copied(),
            queue,
        );
        let stop = self.stop.clone();
        let run = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = run => {}
            }
        };
        self.credentials.host.spawn(&self.tasks, &self.runtime, run);
        line
    }
}

/// One stream's life: batches out, refusals in, until either side ends it.
async fn run_line(
    applied: Arc<Applied>,
    leader: Leader,
    credentials: Credentials,
    cluster: Option<u64>,
    queue: mpsc::Receiver<Item>,
) {
    let outcome = async {
        let mut client = client(&leader.member.peer, &credentials, cluster, Some(leader.id))
            .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?;
        let nonce = applied.pending.nonce();
        let (out, requests) = mpsc::channel(1);
        let pump = pump(queue, out, nonce);
        let replies = async {
            let mut replies = client.forward(ReceiverStream::new(requests)).await?.into_inner();
            while let Some(reply) = replies.next().await {
                for refused in reply?.refused {
                    applied.pending.not_taken(refused.sequence, why(refused.why()));
                }
            }
            Ok::<(), tonic::Status>(())
        };
        tokio::select! {
            biased;
            () = pump => Ok(()),
            ended = replies => ended,
        }
    }
    .await;
    if let Err(status) = outcome {
        tracing::debug!(leader = %leader.member, %status, "forwarding stream ended");
    }
    // Whatever was on this stream may or may not have been taken. Proposals on another stream are
    // told too: they are sent again under their id, which apply recognises.
    for sequence in applied.pending.sequences() {
        applied.pending.not_taken(sequence, NotTaken::LinkLost);
    }
}

const fn why(refusal: wire::Refusal) -> NotTaken {
    match refusal {
        wire::Refusal::Overloaded => NotTaken::Overloaded,
        wire::Refusal::DiskFull => NotTaken::DiskFull,
        wire::Refusal::Discarded => NotTaken::LinkLost,
        wire::Refusal::NotLeader | wire::Refusal::Malformed => NotTaken::NotLeader,
    }
}

/// Merges what waits into messages.
async fn pump(
    mut queue: mpsc::Receiver<Item>,
    out: mpsc::Sender<wire::ForwardRequest>,
    nonce: u64,
) {
    let mut items = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut items, BATCH).await > 0 {
        let mut request = wire::ForwardRequest::default();
        let mut bytes = 0;
        for Item { id, command } in items.drain(..) {
            bytes += command.len();
            let ProposalId { sequence, floor, .. } = id;
            request.proposals.push(wire::Proposal { nonce, sequence, floor, command });
            if bytes >= BATCH_BYTES {
                bytes = 0;
                if out.send(std::mem::take(&mut request)).await.is_err() {
                    return;
                }
            }
        }
        if !request.proposals.is_empty() && out.send(request).await.is_err() {
            return;
        }
    }
}

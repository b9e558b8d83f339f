//! A snapshot on its way: the head, then the file in chunks, each within a progress deadline.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::codec::{id_in, id_out, vote_in, vote_out};
use super::{Client, wire};
use crate::host::Host;
use crate::snapshot::{Incoming, RaftSnapshot, SnapshotDir};
use crate::types::{SnapshotMeta, TypeConfig, Vote};

const CHUNK_BYTES: usize = 512 << 10;
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;
/// Longest that one chunk may take.
pub(crate) const CHUNK_DEADLINE: Duration = Duration::from_secs(10);
/// Longest for the receiver to verify and install after the last chunk.
const INSTALL_DEADLINE: Duration = Duration::from_secs(600);

type Failure = StreamingError<TypeConfig>;

fn network(error: impl ToString) -> Failure {
    StreamingError::Network(NetworkError::from_string(error))
}

/// Sends a snapshot and waits until the peer has installed it.
pub(crate) async fn send(
    mut client: Client,
    host: &Host,
    vote: Vote,
    snapshot: RaftSnapshot,
    cancel: impl Future<Output = ReplicationClosed>,
) -> Result<SnapshotResponse<TypeConfig>, Failure> {
    let (parts, queue) = mpsc::channel(CHUNKS_AHEAD);
    let head = wire::SnapshotHead {
        vote: Some(vote_out(&vote)),
        last_log_id: snapshot.meta.last_log_id.as_ref().map(id_out),
        membership: serde_json::to_vec(&snapshot.meta.last_membership).map_err(network)?.into(),
        size_bytes: snapshot.snapshot.size_bytes(),
    };
    // Held until the end: the file is removed with its last handle.
    let file = snapshot.snapshot;
    let reading = read_file(host, file.path(), head, parts);
    let mut request = tonic::Request::new(ReceiverStream::new(queue));
    request.set_timeout(INSTALL_DEADLINE);
    let (read, answer) = tokio::select! {
        biased;
        closed = cancel => return Err(StreamingError::Closed(closed)),
        both = futures_util::future::join(reading, client.snapshot(request)) => both,
    };
    let reply = answer.map_err(|status| {
        if status.code() == tonic::Code::Unavailable {
            StreamingError::Unreachable(Unreachable::from_string(status))
        } else {
            network(status)
        }
    })?;
    read.map_err(network)?;
    let vote = vote_in(reply.into_inner().vote).map_err(network)?;
    Ok(SnapshotResponse::new(vote))
}

/// Reads the file into the queue, some chunks ahead of the network.
async fn read_file(
    host: &Host,
    path: &Path,
    head: wire::SnapshotHead,
    parts: mpsc::Sender<wire::SnapshotPart>,
) -> io::Result<()> {
    let path = path.to_owned();
    let mut reader = host.blocking(move || File::open(path)).await??;
    let mut part = wire::snapshot_part::Part::Head(head);
    loop {
        if parts.send(wire::SnapshotPart { part: Some(part) }).await.is_err() {
            // The peer refused or went away; the call itself says why.
            return Ok(());
        }
        let chunk;
        (reader, chunk) = host
            .blocking(move || {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let read = (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
                read.map(|_| (reader, chunk))
            })
            .await??;
        if chunk.is_empty() {
            return Ok(());
        }
        part = wire::snapshot_part::Part::Chunk(Bytes::from(chunk));
    }
}

/// Receives a snapshot into a file of its own. What came is verified when it is installed.
pub(crate) async fn receive(
    mut parts: tonic::Streaming<wire::SnapshotPart>,
    host: &Host,
    dir: &SnapshotDir,
) -> Result<(Vote, RaftSnapshot), tonic::Status> {
    let head = match next(&mut parts).await? {
        Some(wire::snapshot_part::Part::Head(head)) => head,
        _ => return Err(tonic::Status::invalid_argument("a snapshot begins with its head")),
    };
    let vote = vote_in(head.vote)?;
    let meta = SnapshotMeta {
        last_log_id: head.last_log_id.map(id_in),
        last_membership: serde_json::from_slice(&head.membership)
            .map_err(|_| tonic::Status::invalid_argument("membership"))?,
    };
    let failed = |error: std::io::Error| tonic::Status::internal(error.to_string());
    let position = meta.last_log_id;
    let mut incoming = Incoming::create(dir).map_err(failed)?;
    while let Some(part) = next(&mut parts).await? {
        let wire::snapshot_part::Part::Chunk(chunk) = part else {
            return Err(tonic::Status::invalid_argument("a second head"));
        };
        incoming = host
            .blocking(move || incoming.write(&chunk))
            .await
            .and_then(|written| written)
            .map_err(failed)?;
    }
    if incoming.size_bytes() != head.size_bytes {
        return Err(tonic::Status::data_loss("the snapshot ended early"));
    }
    let snapshot = host
        .blocking(move || incoming.finish(position))
        .await
        .and_then(|finished| finished)
        .map_err(failed)?;
    Ok((vote, RaftSnapshot { meta, snapshot }))
}

async fn next(
    parts: &mut tonic::Streaming<wire::SnapshotPart>,
) -> Result<Option<wire::snapshot_part::Part>, tonic::Status> {
    match tokio::time::timeout(CHUNK_DEADLINE, parts.next()).await {
        Ok(Some(part)) => Ok(part?.part),
        Ok(None) => Ok(None),
        Err(_) => Err(tonic::Status::deadline_exceeded("no chunk came in time")),
    }
}

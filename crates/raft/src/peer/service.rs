//! The receiving half of the transport: checks who calls, then hands the call to Raft.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::raft::VoteResponse;
use quorate_core::command::ProposalId;
use quorate_core::record::decode_proposal;
use quorate_core::time::Revision;
use subtle::ConstantTimeEq;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::codec::{append_in, append_reply_out, transfer_in, vote_reply_out, vote_request_in};
use super::{ADDRESS, CLUSTER, FROM, RUN, SECRET, STRANGER, TO, snapshot, wire};
use crate::met::Run;
use crate::node::Inner;
use crate::pending::NotTaken;
use crate::types::{NodeId, TypeConfig};

/// Refusals waiting to be sent to one follower.
const REFUSALS_QUEUED: usize = quorate_core::kind::origin::MAX_REPLIES;

/// The peer service of this node.
#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Inner>);

type Reply<T> = Result<Response<T>, Status>;
type BoxStream<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn hex(metadata: &MetadataMap, key: &str) -> Option<u64> {
    u64::from_str_radix(metadata.get(key)?.to_str().ok()?, 16).ok()
}

impl Service {
    /// Checks the secret, for every call.
    fn check_secret(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        if let Some(secret) = &self.0.myself.credentials.secret {
            let given = metadata.get(SECRET).map(|value| value.as_bytes()).unwrap_or_default();
            if !bool::from(given.ct_eq(secret.as_bytes())) {
                self.0.refused_calls.inc();
                return Err(Status::unauthenticated("wrong cluster secret"));
            }
        }
        hex(metadata, FROM).ok_or_else(|| Status::unauthenticated("no sender"))
    }

    /// Checks that a call of Raft comes from this node's cluster and means this node. A node that
    /// belongs to none takes the cluster of the first caller that knows its id: only a node that
    /// met it in founding, or was told to add it, does.
    async fn check_member(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let from = self.check_secret(metadata)?;
        if hex(metadata, TO) != Some(self.0.id) {
            return Err(Status::failed_precondition("this address is another node"));
        }
        let theirs =
            hex(metadata, CLUSTER).ok_or_else(|| Status::failed_precondition("no cluster id"))?;
        let ours = match self.0.cluster.get() {
            Some(ours) => *ours,
            None => self.0.join_cluster(theirs).await.map_err(|error| {
                Status::internal(format!("the cluster id cannot be kept: {error}"))
            })?,
        };
        if ours != theirs {
            return Err(Status::failed_precondition("a node of another cluster"));
        }
        if self.0.applied.store.is_retired(from) {
            return Err(Status::failed_precondition("a removed node"));
        }
        if !self.0.met.admits(from, run_of(metadata)) {
            return Err(Status::failed_precondition(STRANGER));
        }
        Ok(from)
    }

    /// The same for what commits this node to something: entries, snapshots, votes.
    async fn check_caller(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let from = self.check_member(metadata).await?;
        if self.0.is_introduced_to(from, run_of(metadata)) {
            return Ok(from);
        }
        let address = metadata.get(ADDRESS).and_then(|address| address.to_str().ok());
        self.0.introduce_to(address);
        Err(Status::failed_precondition(STRANGER))
    }
}

fn run_of(metadata: &MetadataMap) -> Option<Run> {
    Run::parse(metadata.get(RUN)?.to_str().ok()?)
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft stopped: {error}"))
}

#[tonic::async_trait]
impl wire::peer_server::Peer for Service {
    type AppendStream = BoxStream<wire::AppendReply>;
    type ForwardStream = BoxStream<wire::ForwardReply>;

    async fn hello(&self, request: Request<wire::HelloRequest>) -> Reply<wire::HelloReply> {
        self.check_secret(request.metadata())?;
        Ok(Response::new(self.0.hello_reply(request.into_inner()).await))
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Reply<wire::VoteReply> {
        self.check_caller(request.metadata()).await?;
        let request = request.into_inner();
        let is_pre_vote = request.is_pre_vote;
        let rpc = vote_request_in(request)?;
        let raft = &self.0.raft;
        let reply: VoteResponse<TypeConfig> =
            if is_pre_vote { raft.pre_vote(rpc).await } else { raft.vote(rpc).await }
                .map_err(stopped)?;
        Ok(Response::new(vote_reply_out(&reply)))
    }

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Reply<Self::AppendStream> {
        self.check_caller(request.metadata()).await?;
        let inner = Arc::clone(&self.0);
        let requests = tokio_stream::StreamExt::map_while(request.into_inner(), move |request| {
            // An error is the leader closing the stream or a broken link: it will open another.
            let request = append_in(request.ok()?)
                .inspect_err(|error| tracing::warn!(%error, "append stream ended"))
                .ok()?;
            let term = request.vote.leader_id.term;
            inner.heard.send_if_modified(|heard| {
                let is_new = *heard < term;
                *heard = term.max(*heard);
                is_new
            });
            Some(request)
        });
        let answers = self
            .0
            .raft
            .stream_append(requests)
            .map(|answer| answer.map(|answer| append_reply_out(&answer)).map_err(stopped));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Reply<wire::SnapshotReply> {
        self.check_caller(request.metadata()).await?;
        let inner = &self.0;
        let (vote, snapshot) =
            snapshot::receive(request.into_inner(), inner.host(), &inner.applied.snapshots).await?;
        let reply = inner.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(wire::SnapshotReply { vote: Some(super::codec::vote_out(&reply.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Reply<wire::TransferLeaderReply> {
        self.check_caller(request.metadata()).await?;
        let request = transfer_in(request.into_inner())?;
        let taken = self.0.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        let refused = taken.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(wire::TransferLeaderReply { refused }))
    }

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Reply<Self::ForwardStream> {
        let origin = self.check_member(request.metadata()).await?;
        let (refusals, queue) = mpsc::channel(REFUSALS_QUEUED);
        let take = take_proposals(Arc::clone(&self.0), origin, request.into_inner(), refusals);
        self.0.host().spawn(&self.0.tasks, &tokio::runtime::Handle::current(), take);
        Ok(Response::new(Box::pin(ReceiverStream::new(queue).map(Ok))))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Reply<wire::ReadIndexReply> {
        self.check_member(request.metadata()).await?;
        let index = self.0.own_read_index().await;
        Ok(Response::new(wire::ReadIndexReply { index }))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Reply<wire::JoinReply> {
        self.check_secret(request.metadata())?;
        Ok(Response::new(self.0.join_reply(request.into_inner()).await))
    }

    async fn administer(
        &self,
        request: Request<wire::AdministerRequest>,
    ) -> Reply<wire::AdministerReply> {
        self.check_member(request.metadata()).await?;
        let change = request.into_inner().change;
        let change = change.ok_or_else(|| Status::invalid_argument("an unknown change"))?;
        Ok(Response::new(self.0.change(change.into()).await.into()))
    }

    async fn fingerprint(
        &self,
        request: Request<wire::FingerprintRequest>,
    ) -> Reply<wire::FingerprintReply> {
        self.check_member(request.metadata()).await?;
        let revision = Revision(request.into_inner().revision);
        Ok(Response::new(self.0.fingerprint_at(revision).await))
    }

    async fn ask(&self, request: Request<wire::AskRequest>) -> Reply<wire::AskReply> {
        self.check_member(request.metadata()).await?;
        let answered = self.0.answer(request.into_inner().question).await;
        let answer = answered.map_err(Status::unimplemented)?;
        Ok(Response::new(wire::AskReply { answer }))
    }
}

/// Offers what a follower sends to this node's Raft, until the stream ends.
async fn take_proposals(
    inner: Arc<Inner>,
    origin: NodeId,
    mut requests: Streaming<wire::ForwardRequest>,
    refusals: mpsc::Sender<wire::ForwardReply>,
) {
    loop {
        let request = tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            request = requests.next() => request,
        };
        let Some(Ok(request)) = request else { return };
        for proposal in request.proposals {
            let wire::Proposal { nonce, sequence, floor, command } = proposal;
            let refusals = refusals.clone();
            let refuse = move |why: wire::Refusal| {
                let refused = vec![wire::Refused { sequence, why: why.into() }];
                // A full queue: the follower is slower than its refusals, and its deadline tells.
                drop(refusals.try_send(wire::ForwardReply { refused }));
            };
            if decode_proposal(command.clone()).is_err() {
                refuse(wire::Refusal::Malformed);
                continue;
            }
            let id = ProposalId { origin, nonce, sequence, floor };
            let refuse = move |why| {
                refuse(match why {
                    NotTaken::DiskFull => wire::Refusal::DiskFull,
                    NotTaken::Overloaded => wire::Refusal::Overloaded,
                    NotTaken::NotLeader => wire::Refusal::NotLeader,
                    NotTaken::LinkLost => wire::Refusal::Discarded,
                });
            };
            if inner.lead(id, &command, refuse).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_ids_are_hexadecimal() {
        let mut metadata = MetadataMap::new();
        metadata.insert(FROM, "00000000000000ff".parse().unwrap());
        metadata.insert(TO, "zz".parse().unwrap());
        assert_eq!(hex(&metadata, FROM), Some(255));
        assert_eq!(hex(&metadata, TO), None);
    }
}

//! Transport between nodes: one channel for entries, one for heartbeats and votes, one for bulk.
//!
//! Each call carries the cluster's secret and the ids of both ends; the receiver refuses a
//! mismatch, so that an address that moved to another node can never be taken for it.
//! The receiving half is [`service`].

pub(crate) mod codec;
mod route;
pub(crate) mod service;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use tokio::sync::Notify;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;

use crate::host::Host;
use crate::met::{Met, Run};
use crate::snapshot::{RaftSnapshot, SnapshotFile};
use crate::types::{Member, NodeId, TypeConfig, Vote};
use codec::{Garbled, append_out, append_reply_in, transfer_out, vote_reply_in, vote_request_out};
use route::Route;
use wire::peer_client::PeerClient;

/// The generated messages and services.
#[expect(unreachable_pub, clippy::all, clippy::pedantic, reason = "generated from peer.proto")]
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
#[allow(unfulfilled_lint_expectations, missing_docs, reason = "generated")]
pub(crate) mod wire {
    tonic::include_proto!("quorate.peer");
}

/// Metadata key of the cluster's secret.
pub(crate) const SECRET: &str = "quorate-secret";
/// Metadata key of the sender's node id, hexadecimal.
pub(crate) const FROM: &str = "quorate-from";
/// Metadata key of the node id that the sender means, hexadecimal; absent on hello.
pub(crate) const TO: &str = "quorate-to";
/// Metadata key of the sender's peer address, for a node that knows no members yet.
pub(crate) const ADDRESS: &str = "quorate-address";
/// Metadata key of the sender's run ([`Run`]); absent: release 0.1.
pub(crate) const RUN: &str = "quorate-run";
/// Metadata key of the cluster id, hexadecimal; absent on hello.
pub(crate) const CLUSTER: &str = "quorate-cluster";

/// Refusal of a run that has not introduced itself yet.
pub(crate) const STRANGER: &str = "say hello first";

/// Largest message: one entry of the largest content (30 MiB of UTF-8) and its head.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// HTTP/2 windows of the peer port, so that a long link stays full (raft-storage.md §6.5).
pub(crate) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// See [`STREAM_WINDOW_BYTES`].
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A silent connection is given up after interval + timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What this node puts on each call it makes, and the network it calls through.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) node_id: NodeId,
    pub(crate) run: Run,
    /// Where the sender's peer listener is.
    pub(crate) address: Arc<str>,
    pub(crate) secret: Option<Arc<str>>,
    pub(crate) host: Host,
}

/// Adds the metadata of one call.
#[derive(Debug, Clone)]
pub(crate) struct Tag(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Tag {
    fn new(credentials: &Credentials, cluster: Option<u64>, to: Option<NodeId>) -> Self {
        let mut pairs = Vec::with_capacity(6);
        let hex = |pairs: &mut Vec<_>, key, number: u64| {
            if let Ok(value) = format!("{number:016x}").parse() {
                pairs.push((key, value));
            }
        };
        hex(&mut pairs, FROM, credentials.node_id);
        if let Ok(run) = credentials.run.to_string().parse() {
            pairs.push((RUN, run));
        }
        if let Ok(address) = credentials.address.parse() {
            pairs.push((ADDRESS, address));
        }
        if let Some(cluster) = cluster {
            hex(&mut pairs, CLUSTER, cluster);
        }
        if let Some(to) = to {
            hex(&mut pairs, TO, to);
        }
        if let Some(Ok(mut secret)) =
            credentials.secret.as_deref().map(str::parse::<MetadataValue<Ascii>>)
        {
            secret.set_sensitive(true);
            pairs.push((SECRET, secret));
        }
        Self(pairs)
    }
}

impl Interceptor for Tag {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        for (key, value) in &self.0 {
            request.metadata_mut().insert(*key, value.clone());
        }
        Ok(request)
    }
}

/// A client of one peer.
pub(crate) type Client = PeerClient<InterceptedService<Route, Tag>>;

/// Connects to an address when first used, and again after it was lost. Names are resolved anew
/// each time.
pub(crate) fn client(
    address: &str,
    credentials: &Credentials,
    cluster: Option<u64>,
    to: Option<NodeId>,
) -> Result<Client, tonic::transport::Error> {
    let route = match credentials.host.simulation() {
        Some(network) => Route::Simulated(Arc::clone(network), Arc::from(address)),
        None => Route::Connection(endpoint(address)?.connect_lazy()),
    };
    let tagged = PeerClient::with_interceptor(route, Tag::new(credentials, cluster, to));
    Ok(tagged
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// Makes openraft's connections.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) credentials: Credentials,
    pub(crate) cluster: Arc<std::sync::OnceLock<u64>>,
    pub(crate) met: Arc<Met>,
    /// Wakes who tells the members who this node is.
    pub(crate) introduce: Arc<Notify>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Link {
        self.link(target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Link {
        self.link(target, node, Purpose::Heartbeats)
    }
}

impl Network {
    fn link(&self, target: NodeId, node: &Member, purpose: Purpose) -> Link {
        Link {
            network: self.clone(),
            target,
            known: node.peer.clone(),
            client: None,
            purpose,
            failures: 0,
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Entries and snapshots: openraft calls again at once, so a failure is followed by a pause.
    Entries,
    /// Heartbeats come at their own pace and are cut off by openraft when they take long.
    Heartbeats,
}

/// One connection of openraft to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    network: Network,
    target: NodeId,
    /// Its address as the members have it.
    known: String,
    /// The client of the address that it had last.
    client: Option<(String, Client)>,
    purpose: Purpose,
    /// Append streams of entries that ended in an error since the last one that answered.
    failures: u32,
}

/// Pause before an append stream is opened again: doubled for each failure in a row up to the
/// most. openraft's own back-off does not reach a call that is refused before it reads anything.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => (FIRST_PAUSE * 2_u32.saturating_pow(failures - 1).min(1000)).min(LONGEST_PAUSE),
    }
}

type RpcError = RPCError<TypeConfig>;

fn rpc_error(status: &tonic::Status) -> RpcError {
    if matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled) {
        RPCError::Network(NetworkError::from_string(status))
    } else {
        RPCError::Unreachable(Unreachable::from_string(status))
    }
}

fn garbled(error: Garbled) -> RpcError {
    RPCError::Network(NetworkError::from_string(error))
}

impl Link {
    /// A client of where the peer is now.
    fn client(&mut self) -> Result<Client, Unreachable<TypeConfig>> {
        let Network { credentials, cluster, met, .. } = &self.network;
        let address = met.address_of(self.target).unwrap_or_else(|| self.known.clone());
        if let Some((held, client)) = &self.client
            && *held == address
        {
            return Ok(client.clone());
        }
        let cluster = cluster.get().copied();
        // An address that does not parse makes a link that never works.
        let made = client(&address, credentials, cluster, Some(self.target))
            .map_err(|error| Unreachable::from_string(&error))?;
        self.client = Some((address, made.clone()));
        Ok(made)
    }

    fn error(&self, status: &tonic::Status) -> RpcError {
        if status.code() == tonic::Code::FailedPrecondition && status.message() == STRANGER {
            self.network.introduce.notify_one();
        }
        rpc_error(status)
    }

    async fn ask_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
        is_pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut request = tonic::Request::new(vote_request_out(&rpc, is_pre_vote));
        request.set_timeout(option.hard_ttl());
        let reply = self.client()?.vote(request).await.map_err(|status| self.error(&status))?;
        vote_reply_in(reply.into_inner()).map_err(garbled)
    }
}

type AppendStream<'a> = BoxStream<'a, Result<StreamAppendResult<TypeConfig>, RpcError>>;

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let input = futures_util::stream::iter([rpc]);
        let mut answers = RaftNetworkV2::stream_append(self, input, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(AppendEntriesResponse::from),
            None => Err(RPCError::Network(NetworkError::from_string("append stream ended"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendStream<'s>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            if self.purpose == Purpose::Entries {
                tokio::time::sleep(pause_after(self.failures)).await;
                // Until it has answered.
                self.failures = self.failures.saturating_add(1);
            }
            let answers = self
                .client()?
                .append(input.map(append_out))
                .await
                .map_err(|status| self.error(&status))?
                .into_inner();
            self.failures = 0;
            let decoded = answers.map(|answer| match answer {
                Ok(answer) => append_reply_in(answer).map_err(garbled),
                Err(status) => Err(rpc_error(&status)),
            });
            let decoded: AppendStream<'s> = Box::pin(decoded);
            Ok(decoded)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(rpc, option, false).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(rpc, option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let host = self.network.credentials.host.clone();
        snapshot::send(self.client()?, &host, vote, snapshot, cancel).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let mut message = tonic::Request::new(transfer_out(&request));
        message.set_timeout(option.hard_ttl());
        let reply = self
            .client()?
            .transfer_leader(message)
            .await
            .map_err(|status| self.error(&status))?
            .into_inner();
        if reply.refused.is_empty() {
            Ok(Ok(()))
        } else {
            Err(RPCError::Network(NetworkError::from_string(reply.refused)))
        }
    }
}

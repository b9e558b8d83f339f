//! Starting a node: its data directory is opened and reconciled, then Raft runs.

mod open;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use quorate_core::poll::{Capacity, PollService};
use quorate_core::store::Store;
use quorate_core::subscribe::{AllWaiters, Subscribers};
use quorate_core::watch::{AnnounceQueue, WatchIndex};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};
use tonic::transport::server::TcpIncoming;

pub use self::open::StartError;
use self::open::{Opened, io_error, open};
use crate::ask::Asking;
use crate::forward::Forwarder;
use crate::host::Host;
use crate::leader;
use crate::machine::{Applied, Checkpoints, Machine};
use crate::maintain::Maintenance;
use crate::membership::{Myself, Tending};
use crate::met::{Met, Run};
use crate::metrics::NodeMetrics;
use crate::node::{Inner, Node, Raft};
use crate::peer::service::Service;
use crate::peer::wire::peer_server::PeerServer;
use crate::peer::{
    CONNECTION_WINDOW_BYTES, Credentials, MAX_MESSAGE_BYTES, Network, STREAM_WINDOW_BYTES,
};
use crate::pending::Pending;
use crate::progress::Progress;
use crate::trim::HistoryBounds;
use crate::types::Member;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where others find this node. Its peer address is one of `peers` when there are any.
    pub me: Member,
    /// All members of a cluster to be founded, this one included; empty: a single node.
    pub peers: Vec<String>,
    /// Never found a cluster.
    pub join_only: bool,
    /// Replace a voter whose disk was lost by the empty node at its address.
    pub auto_replace: bool,
    /// After so long a silence of the lost one.
    pub auto_replace_after: Duration,
    /// How much history is kept.
    pub history: HistoryBounds,
    /// Checked on every call between nodes.
    pub secret: Option<String>,
    /// Leader's heartbeat.
    pub heartbeat: Duration,
    /// Shortest election time-out.
    pub election_min: Duration,
    /// Longest election time-out.
    pub election_max: Duration,
    /// A snapshot is taken when this much was appended since the last.
    pub snapshot_every_bytes: u64,
    /// A snapshot is taken when this long has passed since the last and something was applied.
    pub snapshot_every: Duration,
    /// How much of the log is kept behind a snapshot, for followers that were away.
    pub log_keep_bytes: u64,
    /// Size of one log segment.
    pub segment_bytes: u32,
    /// Polls and keys held at most.
    pub capacity: Capacity,
    /// The wall clock.
    pub now_ms: WallClock,
    /// What the node stands on.
    pub host: Host,
}

/// A wall clock: milliseconds since 1970. It may jump.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// A clock that is read by a function.
    pub fn new(read: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn read(&self) -> u64 {
        (self.0)()
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WallClock").finish_non_exhaustive()
    }
}

fn raft_config(config: &NodeConfig) -> Result<openraft::Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "quorate".to_owned(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election_min),
        election_timeout_max: millis(config.election_max),
        enable_pre_vote: Some(true),
        install_snapshot_timeout: 60_000,
        max_payload_entries: 1024,
        replication_lag_threshold: u64::MAX,
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1024,
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Raft(error.to_string()))
}

impl Node {
    /// Opens the data directory and starts the node. Raft, its peers' calls and its own run on a
    /// thread of their own; announcing and poll deadlines run on the caller's runtime.
    ///
    /// # Errors
    /// [`StartError`] says what to do.
    pub async fn start(
        config: NodeConfig,
        peer_listener: TcpListener,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let open_config = config.clone();
        let opened = tokio::task::spawn_blocking(move || open(&open_config))
            .await
            .map_err(|error| io_error("open the data directory")(io::Error::other(error)))??;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(io_error("start raft's runtime"))?;
        let handle = runtime.handle().clone();
        let here = tokio::runtime::Handle::current();
        let build = assemble(config, opened, handle.clone(), here);
        let built = handle.spawn(build).await;
        let built = built.map_err(|error| io_error("start raft")(io::Error::other(error)));
        let inner = match built.flatten() {
            Ok(inner) => inner,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        *inner.runtime.lock() = Some(runtime);
        NodeMetrics::register(&inner, registry);
        inner.serve_peers(peer_listener, &handle)?;
        inner.spawn_tasks(&handle);
        Ok(Self { inner })
    }

    /// Starts a node under simulation ([`NodeConfig::host`]): on the caller's runtime, without a
    /// listener. Peers' calls come through [`Node::peer_calls`].
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_simulated(config: NodeConfig) -> Result<Self, StartError> {
        let opened = open(&config)?;
        let here = tokio::runtime::Handle::current();
        let inner = assemble(config, opened, here.clone(), here.clone()).await?;
        inner.spawn_tasks(&here);
        Ok(Self { inner })
    }

    /// Takes peers' calls in place of a listener.
    #[must_use]
    pub fn peer_calls(&self) -> PeerCalls {
        PeerCalls(self.inner.peer_server())
    }
}

/// The receiving end of the peers' calls of one node.
#[derive(Debug, Clone)]
pub struct PeerCalls(PeerServer<Service>);

impl PeerCalls {
    /// Answers one call.
    pub async fn call(&mut self, request: http::Request<Body>) -> http::Response<Body> {
        match self.0.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn assemble(
    config: NodeConfig,
    opened: Opened,
    runtime: tokio::runtime::Handle,
    here: tokio::runtime::Handle,
) -> Result<Arc<Inner>, StartError> {
    let Opened { lock, identity, cluster, mut log, handle, snapshots, state, disk, rebuild } =
        opened;
    let id = identity.node_id();
    leader::resign(&mut log, id).await.map_err(io_error("resign from an earlier leadership"))?;
    let host = config.host.clone();
    let nonce = host.random().map_err(StartError::Random)?;
    let credentials = Credentials {
        node_id: id,
        run: Run { starts: identity.starts(), nonce },
        address: config.me.peer.as_str().into(),
        secret: config.secret.as_deref().map(Arc::from),
        host: host.clone(),
    };
    let myself = Arc::new(Myself {
        me: config.me.clone(),
        peers: sorted(&config.peers),
        join_only: config.join_only,
        credentials: credentials.clone(),
        last: handle.last_log_id().max(handle.purged()),
    });
    let index = if host.is_simulated() { WatchIndex::unseeded() } else { WatchIndex::new() };
    let index = Arc::new(index);
    let polls = PollService::new(Arc::clone(&index), config.capacity, Instant::now());
    let progress = Progress::default();
    progress.advance(state.header().revision);
    if rebuild {
        disk.rebuild(state.clone()).await;
    }
    let applied = Arc::new(Applied {
        store: Arc::new(Store::new(state)),
        announce: Arc::new(AnnounceQueue::new(Arc::clone(&index))),
        pending: Pending::new(id, identity.starts()),
        progress,
        snapshots,
        disk,
        host: host.clone(),
        checkpoints: Checkpoints::default(),
    });
    let (met, meet) = (Arc::new(Met::default()), Arc::new(Notify::new()));
    let network = Network {
        credentials: credentials.clone(),
        cluster: Arc::clone(&cluster),
        met: Arc::clone(&met),
        introduce: Arc::clone(&meet),
    };
    let raft =
        Raft::new(id, Arc::new(raft_config(&config)?), network, log, Machine(Arc::clone(&applied)))
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let forwarder = Forwarder::new(
        Arc::clone(&applied),
        credentials,
        Arc::clone(&cluster),
        runtime.clone(),
        tasks.clone(),
        stop.clone(),
    );
    let inner = Arc::new(Inner {
        id,
        myself,
        cluster,
        identity: tokio::sync::Mutex::new(identity),
        raft,
        log: handle,
        applied,
        polls,
        subscribers: Subscribers::default(),
        index,
        leader: watch::Sender::new(None),
        heard: watch::Sender::new(0),
        forwarder,
        reader: Mutex::new(None),
        asking: Asking::default(),
        reachable: Mutex::default(),
        met,
        introduce: meet,
        introduced: Mutex::default(),
        callers: Mutex::default(),
        changing: tokio::sync::Mutex::new(()),
        snapshotting: tokio::sync::Mutex::new(()),
        failed: watch::Sender::new(None),
        now_ms: config.now_ms.clone(),
        refused_calls: Default::default(),
        tasks,
        stop,
        backups: config.data_dir.join("backup"),
        runtime: Mutex::new(None),
        _lock: lock,
    });
    let maintenance = Maintenance::new(Arc::clone(&inner), &config);
    host.spawn(&inner.tasks, &runtime, maintenance.run());
    let tending =
        Tending { auto_replace: config.auto_replace, replace_after: config.auto_replace_after };
    host.spawn(&inner.tasks, &runtime, Arc::clone(&inner).tend(tending));
    host.spawn(&inner.tasks, &runtime, Arc::clone(&inner).trim(config.history));
    inner.announce_on(&here);
    Ok(inner)
}

fn sorted(peers: &[String]) -> Vec<String> {
    let mut peers = peers.to_vec();
    peers.sort();
    peers
}

impl Inner {
    /// The only voter has nobody to wait for.
    async fn stand_if_alone(self: Arc<Self>) {
        let mut voters = self.members().into_iter().filter(|(_, _, votes)| *votes);
        let is_alone =
            voters.next().is_some_and(|(id, _, _)| id == self.id) && voters.next().is_none();
        if is_alone && self.raft.trigger().elect(false).await.is_err() {
            tracing::warn!("raft ended before it could stand for election");
        }
    }

    /// Announcing and deadlines run beside the front-ends, whose tasks they wake.
    fn announce_on(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        let inner = Arc::clone(self);
        let announce = async move {
            let store = Arc::clone(&inner.applied.store);
            let lookup = move |key: &_| store.standing(key);
            let waiters = AllWaiters { polls: &inner.polls, subscribers: &inner.subscribers };
            inner.applied.announce.run(lookup, &waiters).await;
        };
        self.spawn_on(runtime, announce);
        let polls = Arc::clone(&self.polls);
        self.spawn_on(runtime, async move { polls.run_deadlines().await });
    }

    fn spawn_on(
        &self,
        runtime: &tokio::runtime::Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.host().spawn(&self.tasks, runtime, task);
    }

    fn spawn_tasks(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        let follow = leader::follow(
            self.raft.clone(),
            self.leader.clone(),
            self.heard.subscribe(),
            Arc::clone(&self.met),
            self.stop.clone(),
        );
        self.spawn_on(runtime, follow);
        self.spawn_on(runtime, Arc::clone(self).stand_if_alone());
        self.spawn_on(runtime, Arc::clone(self).found_or_wait());
        self.spawn_on(runtime, Arc::clone(self).probe_members());
    }

    fn peer_server(self: &Arc<Self>) -> PeerServer<Service> {
        PeerServer::new(Service(Arc::clone(self)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn serve_peers(
        self: &Arc<Self>,
        listener: TcpListener,
        runtime: &tokio::runtime::Handle,
    ) -> Result<(), StartError> {
        let failed = "listen for peers";
        listener.set_nonblocking(true).map_err(io_error(failed))?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(io_error(failed))?
        };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let service = self.peer_server();
        let stop = self.stop.clone();
        let serve = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .add_service(service)
            .serve_with_incoming(incoming);
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    ended = serve => if let Err(error) = ended {
                        tracing::error!(%error, "the peer listener ended");
                    },
                    () = stop.cancelled() => {}
                }
            },
            runtime,
        );
        Ok(())
    }
}

//! Builds the parts in order, waits for the end, stops them in reverse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quorate_core::poll::Capacity;
use quorate_raft::host::Host;
use quorate_raft::identity::write_durably;
use quorate_raft::node::Node;
use quorate_raft::start::{NodeConfig, WallClock};
use quorate_raft::types::Member;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ask::Answers;
use crate::config::{ClusterSecret, Config};
use crate::http::{self, App};
use crate::metrics::Metrics;
use crate::{clock, grpc, sockets};

/// A stop that is not over by then ends the process all the same.
const STOP_LIMIT: Duration = Duration::from_secs(9);
/// How long a request's head may take, and a connection may idle.
const HEADER_PATIENCE: Duration = Duration::from_secs(60);
/// How long a request's body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// Keys that all held polls may name: at 64 bytes each, 256 MiB.
const MAX_WATCHED_KEYS: usize = 4 << 20;

struct Listeners {
    http: TcpListener,
    grpc: TcpListener,
    peer: TcpListener,
}

#[derive(serde::Serialize)]
struct Ports {
    http: u16,
    grpc: u16,
    peer: u16,
    /// Where a probe on this machine finds the HTTP listener.
    #[serde(rename = "httpAddress")]
    http_address: String,
}

/// Runs a node until it is told to stop or fails.
///
/// # Errors
/// What kept it from starting, or why it cannot go on.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let connections = sockets::raise_file_limit();
    let listeners = Listeners {
        http: sockets::listen(&config.http_listen).await?,
        grpc: sockets::listen(&config.grpc_listen).await?,
        peer: sockets::listen(&config.peer_listen).await?,
    };
    let ports = Ports {
        http: listeners.http.local_addr()?.port(),
        grpc: listeners.grpc.local_addr()?.port(),
        peer: listeners.peer.local_addr()?.port(),
        http_address: probed(listeners.http.local_addr()?).to_string(),
    };
    let mut stopping = Stopping::install()?;
    let mut registry = Registry::default();
    register_build(&mut registry);
    warn_if_open(&config, listeners.http.local_addr()?);
    let metrics = Arc::new(Metrics::register(&mut registry));
    let held = config.limits.max_held_polls.unwrap_or(connections).min(connections);
    let me = member(&config, &ports);
    let node_config = node_config(&config, me.clone(), held)?;
    let Listeners { http, grpc, peer } = listeners;
    let node = Node::start(node_config, peer.into_std()?, &mut registry).await?;
    let app = App::new(
        node.clone(),
        limits(&config, connections),
        metrics,
        Arc::new(registry),
        config.cluster_secret.as_ref().map(ClusterSecret::header_text),
        config.advertise.at_port(ports.peer).to_string().rsplit_once(':').map_or("", |(ip, _)| ip),
    );
    let server = grpc::Server::new(app.clone(), grpc_limits(&config, connections));
    node.answer_with(Arc::new(Answers { node: node.clone(), server: server.clone() }));
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(http::serve(http, app, stop.clone()));
    tasks.spawn(grpc::serve(grpc, server, stop.clone()));
    write_ports(&config.data_dir, &ports)?;
    tracing::info!(http = ports.http, grpc = ports.grpc, peer = ports.peer,
        advertise = %me.peer, held_polls = held, version = env!("CARGO_PKG_VERSION"), "serving");
    let failure = tokio::select! {
        () = stopping.told() => None,
        failure = node.failed() => Some(failure),
    };
    let stopped =
        tokio::time::timeout(STOP_LIMIT, stop_all(&node, &stop, &tasks, failure.is_none()));
    if stopped.await.is_err() {
        tracing::warn!("stopping took too long: ending all the same");
    }
    match failure {
        None => Ok(()),
        Some(failure) => Err(anyhow::anyhow!("this node can serve no more: {failure}")),
    }
}

/// Reverse order: leadership first, while everything still serves; then the edge; then the node.
async fn stop_all(node: &Node, stop: &CancellationToken, tasks: &TaskTracker, hand_over: bool) {
    if hand_over {
        node.hand_over().await;
    }
    node.polls().close();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    node.stop().await;
}

fn node_config(config: &Config, me: Member, held: usize) -> anyhow::Result<NodeConfig> {
    let secret = config.cluster_secret.as_ref().map(ClusterSecret::header_text);
    let raft = config.raft.clone();
    Ok(NodeConfig {
        data_dir: config.data_dir.clone(),
        me,
        peers: config.peers.iter().map(ToString::to_string).collect(),
        join_only: config.join_only,
        auto_replace: config.auto_replace,
        auto_replace_after: config.auto_replace_after,
        history: config.history,
        secret,
        heartbeat: raft.heartbeat,
        election_min: raft.election_min,
        election_max: raft.election_max,
        snapshot_every_bytes: raft.snapshot_every_bytes,
        snapshot_every: raft.snapshot_every,
        log_keep_bytes: raft.log_keep_bytes,
        segment_bytes: u32::try_from(raft.segment_bytes).context("segment_bytes is too large")?,
        capacity: Capacity { polls: held, keys: MAX_WATCHED_KEYS },
        now_ms: WallClock::new(clock::unix_ms),
        host: Host::default(),
    })
}

fn member(config: &Config, ports: &Ports) -> Member {
    Member {
        peer: config.advertise.or_bound(ports.peer).to_string(),
        http: config.advertise_http.or_bound(ports.http).to_string(),
        grpc: config.advertise_grpc.or_bound(ports.grpc).to_string(),
        stays_learner: false,
    }
}

fn limits(config: &Config, connections: usize) -> http::Limits {
    let limits = &config.limits;
    http::Limits {
        connections,
        header_patience: HEADER_PATIENCE,
        body_patience: BODY_PATIENCE,
        body_bytes: limits.form_body_max_bytes,
        bodies_in_flight_bytes: limits.body_in_flight_max_bytes,
        keys_per_poll: limits.max_keys_per_poll,
        deadline: limits.proposal_deadline,
        poll_hold_min: limits.poll_hold_min,
        old_console: limits.compatibility_console,
        old_admin: limits.compatibility_admin,
    }
}

fn grpc_limits(config: &Config, connections: usize) -> grpc::Limits {
    let limits = &config.limits;
    grpc::Limits {
        connections: limits.max_grpc_connections.unwrap_or(connections).min(connections),
        per_ip: limits.max_grpc_connections_per_ip.unwrap_or(connections),
    }
}

/// An unspecified address is reached through loopback.
fn probed(mut http: SocketAddr) -> SocketAddr {
    match http.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => http.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => http.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    http
}

fn register_build(registry: &mut Registry) {
    let auth: Gauge = Gauge::default();
    registry.register(
        "quorate_auth_enabled",
        "1 when clients must authorise themselves; 0: whoever reaches the node may do anything",
        auth,
    );
}

fn warn_if_open(config: &Config, http: SocketAddr) {
    if config.clients_beyond_loopback() {
        tracing::warn!(%http,
            "clients beyond this machine can reach this node and there is no client \
             authorisation yet: whoever reaches it may read and write everything");
    }
}

/// Tells tests and probes where the node listens.
fn write_ports(data_dir: &Path, ports: &Ports) -> anyhow::Result<()> {
    let path = data_dir.join("ports.json");
    write_durably(&path, &serde_json::to_vec(ports)?)
        .with_context(|| format!("write {}", path.display()))
}

/// SIGTERM or SIGINT.
struct Stopping {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stopping {
    fn install() -> anyhow::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.term.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}

//! The gRPC front-end for clients from 2.0 on: accepts connections, gives each an identity, and
//! leads their two methods to [`unary`] and [`stream`] (grpc.md §2).
//!
//! The accept loop is our own, over hyper's HTTP/2, because an identity belongs to a TCP connection:
//! every stream of it shares what the first setup registered, and all goes when it ends.

mod clients;
mod config;
mod connection;
mod fields;
mod fuzzy;
mod inbound;
mod outbox;
mod stream;
mod unary;
mod wire;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use self::connection::{Connection, Setup};
use self::fuzzy::Patterns;
use self::inbound::Counted;
use self::outbox::Verdict;
use self::stream::PushStream;
use self::wire::Payload;
use crate::http::App;

/// Largest message, as the reference: a content of 10 MiB does not quite fit.
const MAX_MESSAGE_BYTES: usize = 10 * 1024 * 1024;
/// Requests of one connection at one time.
const MAX_STREAMS: u32 = 128;
/// HTTP/2 windows: what a client may send ahead, for one request and for a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How often all connections are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Without a setup for so long a connection has no business here.
const SETUP_LIMIT: Duration = Duration::from_secs(60);
/// What a connection that is to be closed gets to send its last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) connections: usize,
    /// Of clients that name the same address in their setup.
    pub(crate) per_ip: usize,
}

/// See [`Server`].
pub(crate) struct Shared {
    app: App,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    /// Set up connections by the address that their clients name.
    by_ip: Mutex<HashMap<String, usize>>,
    patterns: Patterns,
    limits: Limits,
    entered: AtomicU64,
    push_ids: AtomicU64,
    started: AtomicBool,
}

impl Deref for Server {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Whether the node was ready once: until then clients are sent elsewhere.
    fn has_started(&self) -> bool {
        if self.started.load(Ordering::Relaxed) {
            return true;
        }
        let is_ready = self.app.node.is_ready();
        if is_ready {
            self.started.store(true, Ordering::Relaxed);
        }
        is_ready
    }

    fn ip(&self) -> &str {
        &self.app.self_ip
    }

    /// The number of a push that is to be acknowledged.
    fn push_id(&self) -> u64 {
        self.push_ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Registers a connection; a second setup changes nothing. False when it cannot be.
    fn admit(&self, connection: &Arc<Connection>, setup: Setup) -> bool {
        let ip = setup.client_ip.clone();
        if !connection.counts_as(&ip) {
            return connection.set_up(setup);
        }
        let count = {
            let mut by_ip = self.by_ip.lock();
            let count = by_ip.entry(ip.clone()).or_default();
            *count += 1;
            *count
        };
        // It is counted until it ends, which is now where it is too much.
        if count > self.limits.per_ip {
            let limit = self.limits.per_ip;
            tracing::info!(ip, limit, "too many gRPC connections of an address");
            self.app.metrics.grpc_refused.inc();
            return false;
        }
        connection.set_up(setup)
    }

    fn discount(&self, ip: &str) {
        let mut by_ip = self.by_ip.lock();
        if let Some(count) = by_ip.get_mut(ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(ip);
            }
        }
    }

    fn count_sent(&self) {
        self.app.metrics.pushes_sent.inc();
    }

    fn count_acknowledged(&self, is_success: bool) {
        let metrics = &self.app.metrics;
        if is_success {
            metrics.pushes_acknowledged.inc()
        } else {
            metrics.pushes_lost.inc()
        };
    }
}

impl Server {
    pub(crate) fn new(app: App, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            app,
            connections: Mutex::default(),
            by_ip: Mutex::default(),
            patterns: Patterns::default(),
            limits,
            entered: AtomicU64::new(0),
            push_ids: AtomicU64::new(0),
            started: AtomicBool::new(false),
        }))
    }
}

/// Answers until `stop`. Connections beyond the limits are closed at once.
pub(crate) async fn serve(listener: TcpListener, server: Server, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    tasks.spawn(look_after(server.clone(), stop.clone()));
    tasks.spawn(stop.clone().run_until_cancelled_owned(fuzzy::feed(server.clone())));
    let local_port = listener.local_addr().map_or(0, |address| address.port());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        // Out of files or a client that left: the next accept tells.
        let Ok((stream, peer)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        if server.connections.lock().len() >= server.limits.connections {
            server.app.metrics.grpc_refused.inc();
            continue;
        }
        tasks.spawn(connected(server.clone(), stream, (peer, local_port), stop.child_token()));
    }
    tasks.close();
    tasks.wait().await;
}

/// One connection from beginning to end.
async fn connected(
    server: Server,
    stream: TcpStream,
    ends: (SocketAddr, u16),
    closing: CancellationToken,
) {
    // Without it pushes wait for acknowledgements of packets.
    drop(stream.set_nodelay(true));
    let node = server.app.node.clone();
    let connection = Arc::new(Connection::new(node, ends, closing.clone()));
    let number = server.entered.fetch_add(1, Ordering::Relaxed);
    server.connections.lock().insert(number, Arc::clone(&connection));
    let service = service_fn(|request| {
        let (server, connection) = (server.clone(), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(route(server, connection, request).await) }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEADER_BYTES);
    let mut served = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = &mut served => if let Err(error) = ended {
            tracing::debug!(%error, id = connection.id, "grpc connection ended");
        },
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            connection.outbox.lock().wake();
            drop(tokio::time::timeout(LAST_WORDS, served).await);
        }
    }
    server.connections.lock().remove(&number);
    connection.end();
    server.patterns.leave(&connection, None, server.app.node.announce_queue().feed());
    if let Some(ip) = connection.counted_as() {
        server.discount(ip);
    }
}

async fn route(
    server: Server,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut grpc = Grpc::new(ProstCodec::<Payload, Payload>::default())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(tonic::codec::CompressionEncoding::Gzip);
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/Request/request" => {
            let request = request.map(|body| Counted::new(body, server.clone()));
            grpc.unary(Unary { server, connection }, request).await
        }
        "/BiRequestStream/requestBiStream" => {
            grpc.streaming(Bidirectional { server, connection }, request).await
        }
        other => {
            let method = other.trim_start_matches('/');
            Status::unimplemented(format!("Method not found: {method}")).into_http()
        }
    }
}

type Answering<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

struct Unary {
    server: Server,
    connection: Arc<Connection>,
}

impl UnaryService<Payload> for Unary {
    type Response = Payload;
    type Future = Answering<Payload>;

    fn call(&mut self, request: tonic::Request<Payload>) -> Self::Future {
        let (server, connection) = (self.server.clone(), Arc::clone(&self.connection));
        Box::pin(async move {
            let payload = request.into_inner();
            Ok(tonic::Response::new(unary::answer_to(&server, &connection, payload).await))
        })
    }
}

struct Bidirectional {
    server: Server,
    connection: Arc<Connection>,
}

impl StreamingService<Payload> for Bidirectional {
    type Response = Payload;
    type ResponseStream = PushStream;
    type Future = Answering<PushStream>;

    fn call(&mut self, request: tonic::Request<Streaming<Payload>>) -> Self::Future {
        let (server, connection) = (self.server.clone(), Arc::clone(&self.connection));
        Box::pin(async move {
            let stream = PushStream::new(server, connection, request.into_inner());
            Ok(tonic::Response::new(stream))
        })
    }
}

/// Looks at all connections now and then: what was not acknowledged, who is not there any more.
async fn look_after(server: Server, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let all: Vec<_> = server.connections.lock().values().cloned().collect();
        let now = Instant::now();
        let (mut watches, mut waiting) = (0, 0);
        for connection in &all {
            watches += connection.watches();
            waiting += look_at(&server, connection, now);
        }
        server.app.metrics.sample_grpc(all.len(), watches, waiting);
    }
}

/// Looks at one connection, and gives how many notices wait there.
fn look_at(server: &Server, connection: &Connection, now: Instant) -> usize {
    let active = connection.active();
    if connection.setup().is_none() {
        if now >= active + SETUP_LIMIT {
            connection.closing.cancel();
        }
        return 0;
    }
    let mut outbox = connection.outbox.lock();
    let (verdict, lost) = outbox.look(now, active, server.ip(), || server.push_id());
    let waiting = outbox.len();
    drop(outbox);
    server.app.metrics.pushes_lost.inc_by(lost);
    if let Verdict::GiveUp(why) = verdict {
        let version = connection.setup().map_or("", |setup| setup.version.as_str());
        let app = connection.setup().and_then(|setup| setup.app()).unwrap_or("-");
        tracing::info!(id = connection.id, version, app, why, "grpc connection given up");
        server.app.metrics.connections_given_up.inc();
        connection.closing.cancel();
    }
    waiting
}

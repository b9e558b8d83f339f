//! The HTTP front-end: accepts connections, finds the route, bounds what clients may take.
//!
//! The accept loop is our own, over hyper's `http1`: that is what held polls are cheap on, and
//! the only way to a header time-out and a connection limit. A handler is found by a `match`
//! ([`route::Route`]); nothing sits between it and the connection.

mod body;
mod caller;
mod changes;
mod check;
mod cluster;
mod connection;
mod date;
mod envelope;
mod long_poll;
mod manage;
mod members;
mod options;
mod pairs;
mod probe;
mod raft;
mod response;
mod route;
mod v1;
mod v3;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Request, StatusCode};
use prometheus_client::registry::Registry;
use quorate_raft::node::Node;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::body::Budget;
use self::connection::Answering;
pub(crate) use self::connection::serve;
pub(crate) use self::pairs::encoded;
use self::response::{Response, error_page};
use self::route::Route;
use crate::metrics::Metrics;
use crate::switches::Switches;

/// Searches at one time, as the reference has (`nacos.config.search.max_capacity`).
const SEARCHES: usize = 4;

/// What clients may take, in plain numbers.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Connections at one time; more are told so and closed.
    pub(crate) connections: usize,
    /// How long a request's head may take to come, and a connection may idle between requests.
    pub(crate) header_patience: Duration,
    /// How long a request's body may take to come.
    pub(crate) body_patience: Duration,
    /// Largest request body.
    pub(crate) body_bytes: usize,
    /// Bytes of all request bodies in memory.
    pub(crate) bodies_in_flight_bytes: usize,
    /// Distinct keys of one poll.
    pub(crate) keys_per_poll: usize,
    /// How long a write waits for its majority and a read for the state it wants.
    pub(crate) deadline: Duration,
    /// Shortest time that a long poll is held, unless a switch says otherwise.
    pub(crate) poll_hold_min: Duration,
    /// Whether v1's and v2's routes of the console are served.
    pub(crate) old_console: bool,
    /// Whether v1's and v2's routes of administrators are served.
    pub(crate) old_admin: bool,
}

/// What all requests share.
#[derive(Clone)]
pub(crate) struct App {
    shared: Arc<Shared>,
}

/// See [`App`].
pub(crate) struct Shared {
    pub(crate) node: Node,
    limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    pub(crate) bodies: Budget,
    switches: Switches,
    pub(crate) self_ip: Box<str>,
    /// Lets operators in from beyond this machine.
    cluster_secret: Option<Box<str>>,
    /// Searches at one time; each walks over all configurations.
    searches: Semaphore,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl App {
    /// `registry` is what `/metrics` writes, with [`Metrics`] registered in it; `self_ip` is how
    /// this node names itself in the persistence trace.
    pub(crate) fn new(
        node: Node,
        limits: Limits,
        metrics: Arc<Metrics>,
        registry: Arc<Registry>,
        cluster_secret: Option<String>,
        self_ip: &str,
    ) -> Self {
        let bodies =
            Budget::new(limits.bodies_in_flight_bytes, limits.body_bytes, limits.body_patience);
        let switches = Switches::new(limits.poll_hold_min);
        let self_ip = self_ip.into();
        Self {
            shared: Arc::new(Shared {
                node,
                limits,
                metrics,
                registry,
                bodies,
                switches,
                self_ip,
                cluster_secret: cluster_secret.map(Into::into),
                searches: Semaphore::new(SEARCHES),
            }),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limits.deadline
    }
}

/// Answers one request of a connection from `peer`.
fn handle<B>(app: &App, peer: IpAddr, request: Request<B>) -> Answering
where
    B: Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    let route = Route::find(request.method(), request.uri().path());
    let route = manage::of_v1(route, request.method(), request.uri().query());
    match route {
        Route::Manage(asked) => {
            let (head, body) = request.into_parts();
            later(app, route, manage::answer(app.clone(), peer, asked, head, body))
        }
        Route::Publish => {
            let (head, body) = request.into_parts();
            later(app, route, v1::publish(app.clone(), peer, head, body))
        }
        Route::Remove => {
            let (head, body) = request.into_parts();
            later(app, route, v1::remove(app.clone(), peer, head, body))
        }
        Route::Listen => later(app, route, v1::listen::listen(app.clone(), peer, request)),
        Route::Get => {
            let (head, _) = request.into_parts();
            match v1::get_now(app, peer, &head) {
                Some(response) => now(app, route, response),
                None => later(app, route, v1::get_later(app.clone(), peer, head)),
            }
        }
        Route::Cluster(asked) => {
            let (head, body) = request.into_parts();
            later(app, route, cluster::answer(app.clone(), peer, asked, head, body))
        }
        Route::Changes(asked) => {
            let (head, body) = request.into_parts();
            later(app, route, changes::answer(app.clone(), peer, asked, head, body))
        }
        Route::GetV3 => {
            let (head, _) = request.into_parts();
            now(app, route, v3::get(app, peer, &head))
        }
        Route::Readiness
        | Route::Liveness
        | Route::Members(_)
        | Route::RaftState
        | Route::RaftLeader
        | Route::RaftPeer
        | Route::RaftDatum
        | Route::Metrics
        | Route::WrongMethod(_)
        | Route::Unknown => now(app, route, plain(app, route, &request)),
    }
}

/// The routes that need no body and wait for nothing.
fn plain<B>(app: &App, route: Route, request: &Request<B>) -> Response {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    match route {
        Route::Readiness => probe::readiness(app),
        Route::Liveness => probe::liveness(),
        Route::Members(asked) => members::answer(app, asked, (request.method(), path, query)),
        Route::RaftState => raft::state(app),
        Route::RaftLeader => raft::leader(app),
        Route::RaftPeer => raft::peer(app),
        Route::RaftDatum => raft::datum(app, query, path),
        Route::Metrics => probe::metrics(app, path),
        Route::WrongMethod(allowed) => {
            let message = format!("Request method '{}' is not supported", request.method());
            let mut response = error_page(StatusCode::METHOD_NOT_ALLOWED, &message, path);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
        Route::Unknown
        | Route::Get
        | Route::Publish
        | Route::Remove
        | Route::Listen
        | Route::Manage(_)
        | Route::GetV3
        | Route::Changes(_)
        | Route::Cluster(_) => {
            let message = format!("No static resource {}.", path.trim_start_matches('/'));
            error_page(StatusCode::NOT_FOUND, &message, path)
        }
    }
}

fn now(app: &App, route: Route, response: Response) -> Answering {
    app.metrics.answered(route.operation(), response.status());
    Answering::now(response)
}

fn later(
    app: &App,
    route: Route,
    answer: impl Future<Output = Response> + Send + 'static,
) -> Answering {
    let metrics = Arc::clone(&app.metrics);
    Answering::later(async move {
        let response = answer.await;
        metrics.answered(route.operation(), response.status());
        response
    })
}

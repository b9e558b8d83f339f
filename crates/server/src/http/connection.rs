//! Connections: accepting within a limit, serving over hyper's `http1`, ending in good order.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::response::Response;
use super::{App, handle};
use crate::metrics::Metrics;

/// How long an open request may still take when the server stops. Held polls end at once.
const LAST_REQUESTS: Duration = Duration::from_secs(6);

/// Longest head of a request, and what is read ahead of a body.
const HEAD_BYTES: usize = 128 << 10;

/// What a connection over the limit is told.
const CROWDED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain;charset=UTF-8\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 29\r\n\r\ncaused: too many connections;";

/// Serves until `stop`, then answers held polls, lets open requests end and returns.
pub(crate) async fn serve(listener: TcpListener, app: App, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let http = Arc::new(builder(&app));
    let mut accepting = pin!(accept_all(&listener, &app, &http, &connections, &stop));
    tokio::select! {
        () = stop.cancelled() => {}
        () = &mut accepting => {}
    }
    info!(open = connections.len(), "http listener stops");
    app.node.polls().close();
    connections.close();
    connections.wait().await;
}

fn builder(app: &App) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Without a timer the time-out would be ignored.
    http.timer(TokioTimer::new()).header_read_timeout(app.limits.header_patience);
    // Old clients look header names up as the reference spells them, `Config-Type` above all.
    http.title_case_headers(true);
    // What one connection may make this node keep of a request's head. One client puts contents
    // into the request line, which may have 64 KiB.
    http.max_buf_size(HEAD_BYTES);
    http
}

async fn accept_all(
    listener: &TcpListener,
    app: &App,
    http: &Arc<http1::Builder>,
    connections: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error).await;
                continue;
            }
        };
        if connections.len() >= app.limits.connections {
            app.metrics.connections_refused.inc();
            refuse(&stream);
            continue;
        }
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "no delay not set");
        }
        let open = Open::new(&app.metrics);
        let handler = Handler { app: app.clone(), peer: peer.ip() };
        connections.spawn(run(Arc::clone(http), stream, handler, stop.clone(), open));
    }
}

/// An error of one connection is nothing; one of this process (no file left) needs a pause, or
/// the loop would spin until something is closed.
async fn accept_failed(error: &io::Error) {
    let of_the_peer = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !of_the_peer {
        warn!(%error, "connection not accepted");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The answer fits into any empty send buffer; if it does not go out, the connection ends all the
/// same.
fn refuse(stream: &TcpStream) {
    if let Err(error) = stream.try_write(CROWDED) {
        debug!(%error, "connection over the limit closed without a word");
    }
}

/// Takes the parts, not the connection: an argument that is pinned would be kept twice.
async fn run(
    http: Arc<http1::Builder>,
    stream: TcpStream,
    handler: Handler,
    stop: CancellationToken,
    _open: Open,
) {
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), handler));
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "connection ended");
            }
            return;
        }
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    match timeout(LAST_REQUESTS, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "connection ended"),
        Err(_) => debug!("connection dropped, for its request took too long"),
    }
}

/// Counts a connection while it is open, and the panic that ended it.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
        if std::thread::panicking() {
            self.0.panics.inc();
        }
    }
}

struct Handler {
    app: App,
    peer: IpAddr,
}

impl Service<Request<Incoming>> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        handle(&self.app, self.peer, request)
    }
}

/// An answer that is there, or one that comes later. hyper keeps room for one of these in every
/// connection: what waits is boxed, so that the room is small.
pub(crate) struct Answering(State);

enum State {
    Now(Option<Response>),
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl Answering {
    pub(super) const fn now(response: Response) -> Self {
        Self(State::Now(Some(response)))
    }

    pub(super) fn later(answer: impl Future<Output = Response> + Send + 'static) -> Self {
        Self(State::Later(Box::pin(answer)))
    }
}

impl Future for Answering {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Now(response) => {
                Poll::Ready(Ok(response.take().expect("not polled after it was ready")))
            }
            State::Later(answer) => answer.as_mut().poll(context).map(Ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_well_formed() {
        let text = std::str::from_utf8(CROWDED).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.lines().all(|line| !line.starts_with(' ')), "{head}");
    }

    fn output_bytes<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_room_in_a_connection_is_small() {
        assert!(size_of::<Answering>() <= 256, "{}", size_of::<Answering>());
        let task = output_bytes(run);
        assert!(task <= 1536, "{task}");
    }
}

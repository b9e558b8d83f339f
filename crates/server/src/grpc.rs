//! The gRPC listener. The SDK services are not served yet: each call is answered with status 12,
//! unimplemented, so that a 2.x client is told at once instead of timing out.

use std::convert::Infallible;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at one time. Nobody has business here yet.
const CONNECTIONS: usize = 256;

/// Answers until `stop`.
pub(crate) async fn serve(listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        // Out of files or a client that left: the next accept tells. Above the bound the
        // connection is closed.
        let Ok((stream, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        if connections.len() >= CONNECTIONS {
            continue;
        }
        let stop = stop.clone();
        connections.spawn(async move {
            let mut http = http2::Builder::new(TokioExecutor::new());
            http.timer(TokioTimer::new()).max_concurrent_streams(16);
            let served = http.serve_connection(TokioIo::new(stream), service_fn(refuse));
            tokio::select! {
                ended = served => if let Err(error) = ended {
                    tracing::debug!(%error, "grpc connection ended");
                },
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn refuse(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("12"));
    headers.insert("grpc-message", HeaderValue::from_static("gRPC is not served yet: use HTTP v1"));
    Ok(response)
}

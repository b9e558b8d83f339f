//! The bare hyper baseline: HTTP/1.1, two workers, one fixed answer with the headers of a read.

use std::convert::Infallible;
use std::io::Write as _;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Bytes of the answer; the same as the values that the reads return.
pub(crate) const BODY_BYTES: usize = 128;

/// The headers of a config read, with values of the usual length.
const HEADERS: [(&str, &str); 8] = [
    ("config-type", "text"),
    ("content-md5", "5d41402abc4b2a76b9719d911017c592"),
    ("pragma", "no-cache"),
    ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("cache-control", "no-cache,no-store"),
    ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("quorate-revision", "1234567"),
    ("content-type", "text/plain;charset=UTF-8"),
];

/// Serves until killed; the first line on standard output is the address.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // The accept loop runs on a worker, not on the thread that waits here.
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        tasks.spawn(accept());
        tasks.join_next().await.context("no task")??
    })
}

async fn accept() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.spawn(async move {
            let service = service_fn(answer);
            // A connection that breaks is the client's business.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(_request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    static BODY: [u8; BODY_BYTES] = [b'v'; BODY_BYTES];
    let mut response = Response::new(Full::new(Bytes::from_static(&BODY)));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Ok(response)
}

//! Listening sockets and the limit of open files.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};

use crate::config::endpoint::Endpoint;

/// Connections that may wait to be accepted: a fleet that reconnects at once.
const BACKLOG: u32 = 4096;
/// Files that are not clients' connections: log, store, peers, listeners.
const RESERVED_FILES: u64 = 512;

/// Binds the first address that an endpoint resolves to and that can be bound.
///
/// # Errors
/// When none can.
pub(crate) async fn listen(endpoint: &Endpoint) -> anyhow::Result<TcpListener> {
    let addresses = tokio::net::lookup_host(endpoint.to_string())
        .await
        .with_context(|| format!("resolve {endpoint}"))?;
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused).with_context(|| format!("listen on {endpoint}"))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Raises the soft limit of open files to the hard one and returns how many connections of
/// clients fit under it.
pub(crate) fn raise_file_limit() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(RESERVED_FILES).max(64)).unwrap_or(usize::MAX)
}

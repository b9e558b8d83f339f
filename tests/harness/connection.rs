//! HTTP/1.1 with connections kept and used again, straight over hyper.

use std::net::SocketAddr;
use std::pin::pin;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// Idle connections to one address.
#[derive(Debug)]
pub(crate) struct Connections {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    drivers: TaskTracker,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The server never saw the request.
    NotSent(anyhow::Error),
    /// It may have seen it.
    Lost(anyhow::Error),
}

impl Connections {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::new(Vec::new()), drivers: TaskTracker::new() }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends over an idle connection, or over a new one.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, NoAnswer> {
        let mut sender = match self.take_idle().await {
            Some(sender) => sender,
            None => self.connect().await.map_err(NoAnswer::NotSent)?,
        };
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error().into();
                return Err(if unsent { NoAnswer::NotSent(error) } else { NoAnswer::Lost(error) });
            }
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| NoAnswer::Lost(error.into()))?.to_bytes();
        self.idle.lock().push(sender);
        Ok(Response::from_parts(head, body))
    }

    /// Forgets the connections, whose server is gone.
    pub(crate) fn forget(&self) {
        self.idle.lock().clear();
    }

    async fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut sender = self.idle.lock().pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        self.drivers.spawn(async move {
            // Its error reaches whoever waits for an answer.
            drop(pin!(connection).await);
        });
        Ok(sender)
    }
}

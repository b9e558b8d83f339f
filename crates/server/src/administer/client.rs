//! One request to a node, over a connection of its own.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::config::ClusterSecret;

/// Past the node's own deadline for a change, so that its answer arrives.
const PATIENCE: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A node to ask.
#[derive(Debug)]
pub(super) struct Server {
    /// `HOST:PORT`
    address: String,
    secret: Option<String>,
}

impl Server {
    pub(super) fn new(server: &str, secret_file: Option<&str>) -> Result<Self, String> {
        let text =
            if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let refused = || format!("{server}: write http://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let authority = authority.ok_or_else(refused)?;
        let port = authority.port_u16().unwrap_or(8848);
        let secret = secret_file.map(ClusterSecret::read).transpose()?;
        Ok(Self {
            address: format!("{}:{port}", authority.host()),
            secret: secret.map(|secret| secret.header_text()),
        })
    }

    /// Another node, asked with the same rights.
    pub(super) fn at(&self, address: &str) -> Result<Self, String> {
        Ok(Self { secret: self.secret.clone(), ..Self::new(address, None)? })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.ask(Method::POST, path, body.to_string().into()).await
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        asked.map_err(|why| format!("{}: {why}", self.address))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let stream = TcpStream::connect(&self.address).await.map_err(|error| text(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| text(&error))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, format!("Bearer {secret}"));
        }
        let request = request.body(Full::new(body)).map_err(|error| text(&error))?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer { status, body })
        };
        // The connection is driven until the answer is there; it may end before that is looked at.
        let mut answered = pin!(answered);
        let answer = tokio::select! {
            answer = &mut answered => answer,
            ended = connection => match ended {
                Ok(()) => answered.await,
                Err(error) => Err(error),
            },
        };
        answer.map_err(|error| text(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_or_an_address() {
        for (server, want) in [
            ("http://127.0.0.1:8848", Some("127.0.0.1:8848")),
            ("http://node-1", Some("node-1:8848")),
            ("node-1:18848", Some("node-1:18848")),
            ("http://[::1]:1/", Some("[::1]:1")),
            ("https://node-1", None),
            ("", None),
        ] {
            let made = Server::new(server, None).ok().map(|server| server.address);
            assert_eq!(made.as_deref(), want, "{server}");
        }
    }
}

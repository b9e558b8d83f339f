//! One connection as the clients from 2.0 on have it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hyper::http::uri::PathAndQuery;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

#[expect(unreachable_pub, reason = "generated")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}

use wire::{Any, Metadata, Payload};

use crate::http::GROUP;

/// How often the setup is tried: a node that has just started closes the first.
const TRIES: u32 = 5;

pub(crate) struct Caller {
    grpc: Grpc<Channel>,
    say: mpsc::Sender<Payload>,
    pushes: Streaming<Payload>,
}

fn payload(kind: &str, body: &Value) -> Payload {
    let metadata = Metadata {
        r#type: kind.to_owned(),
        client_ip: "127.0.0.1".to_owned(),
        headers: Default::default(),
    };
    let body = Any { type_url: String::new(), value: body.to_string().into_bytes().into() };
    Payload { metadata: Some(metadata), body: Some(body) }
}

impl Caller {
    /// Connects and sets the connection up.
    pub(crate) async fn set_up(address: SocketAddr) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        let mut grpc = Grpc::new(endpoint.connect().await?);
        let (say, said) = mpsc::channel(4);
        let labels = json!({"source": "sdk", "module": "config", "AppName": "bench"});
        let setup = json!({"clientVersion": "Bench:v1", "abilityTable": {}, "labels": labels});
        say.send(payload("ConnectionSetupRequest", &setup)).await?;
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/BiRequestStream/requestBiStream");
        let request = Request::new(ReceiverStream::new(said));
        let opened = grpc.streaming(request, path, ProstCodec::default()).await?;
        let mut caller = Self { grpc, say, pushes: opened.into_inner() };
        for _ in 0..TRIES {
            if caller.check_health().await.is_ok() {
                return Ok(caller);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the setup was not taken")
    }

    async fn ask(&mut self, kind: &str, body: &Value) -> anyhow::Result<Value> {
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static("/Request/request");
        let request = Request::new(payload(kind, body));
        let called = self.grpc.unary(request, path, ProstCodec::<Payload, Payload>::default());
        let answer = called.await?.into_inner();
        let body = answer.body.context("no body")?;
        let answer: Value = serde_json::from_slice(&body.value)?;
        ensure!(answer.get("resultCode") == Some(&json!(200)), "{answer}");
        Ok(answer)
    }

    pub(crate) async fn check_health(&mut self) -> anyhow::Result<()> {
        self.ask("HealthCheckRequest", &json!({})).await.map(drop)
    }

    pub(crate) async fn publish(&mut self, key: &str, content: &str) -> anyhow::Result<()> {
        let body = json!({"dataId": key, "group": GROUP, "tenant": "", "content": content});
        self.ask("ConfigPublishRequest", &body).await.map(drop)
    }

    /// Reads a value of so many bytes, which was written over HTTP.
    pub(crate) async fn get(&mut self, key: &str, size: usize) -> anyhow::Result<()> {
        let body = json!({"dataId": key, "group": GROUP, "tenant": ""});
        let answer = self.ask("ConfigQueryRequest", &body).await?;
        let length = answer.get("content").and_then(Value::as_str).map(str::len);
        ensure!(length == Some(size), "{answer}");
        Ok(())
    }

    /// Listens to a key of the group that HTTP writes to, whatever there is.
    pub(crate) async fn listen(&mut self, key: &str) -> anyhow::Result<()> {
        let context = json!({"dataId": key, "group": GROUP, "tenant": "", "md5": ""});
        let body = json!({"listen": true, "configListenContexts": [context]});
        self.ask("ConfigBatchListenRequest", &body).await.map(drop)
    }

    /// Takes and acknowledges a push; true for one of a change.
    pub(crate) async fn next_push(&mut self) -> anyhow::Result<bool> {
        let push = self.pushes.message().await?.context("the stream ended")?;
        let kind = push.metadata.context("no metadata")?.r#type;
        let body: Value = serde_json::from_slice(&push.body.context("no body")?.value)?;
        let answer = json!({"resultCode": 200, "requestId": body.get("requestId")});
        self.say.send(payload(&kind.replace("Request", "Response"), &answer)).await?;
        Ok(kind == "ConfigChangeNotifyRequest")
    }
}

//! A client of the gRPC dialect as plain as can be: it sends what it is told, acknowledges what it
//! is told to, and shows types and JSON.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;

use super::client::Key;

#[expect(unreachable_pub, reason = "generated")]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/_.rs"));
}

use wire::Any;
pub(crate) use wire::{Metadata, Payload};

/// For one call: longer than a write waits for its majority.
const PATIENCE: Duration = Duration::from_secs(15);

/// A payload with this type and this body.
pub(crate) fn payload(kind: &str, body: impl Into<Vec<u8>>) -> Payload {
    let metadata = Metadata {
        r#type: kind.to_owned(),
        client_ip: "192.0.2.10".to_owned(),
        ..Metadata::default()
    };
    let body = Any { value: body.into().into(), ..Any::default() };
    Payload { metadata: Some(metadata), body: Some(body) }
}

/// What came back: type and JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Told {
    fn of(payload: Payload) -> Self {
        let text = String::from_utf8(payload.body.unwrap_or_default().value.to_vec())
            .expect("a body in UTF-8");
        let body = serde_json::from_str(&text).expect("a body in JSON");
        Self { kind: payload.metadata.unwrap_or_default().r#type, text, body }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.body["success"] == true && self.body["resultCode"] == 200
    }

    pub(crate) fn error_code(&self) -> i64 {
        self.body["errorCode"].as_i64().expect("an error code")
    }
}

/// One connection and, once it is set up, its stream.
#[derive(Debug)]
pub(crate) struct GrpcClient {
    grpc: Grpc<Channel>,
    say: mpsc::Sender<Payload>,
    told: Option<Streaming<Payload>>,
}

impl GrpcClient {
    /// A connection without a stream.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let channel = endpoint.timeout(PATIENCE).connect().await?;
        // Nobody listens until there is a stream.
        let (say, _) = mpsc::channel(1);
        let grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
        Ok(Self { grpc, say, told: None })
    }

    /// A connection that is set up as clients do it.
    pub(crate) async fn set_up(address: SocketAddr) -> Result<Self> {
        let mut client = Self::connect(address).await?;
        let check = client.ask("ServerCheckRequest", &json!({})).await?;
        anyhow::ensure!(check.is_success(), "{check:?}");
        let body = json!({"clientVersion": "Test:v1", "abilityTable": {},
            "labels": {"source": "sdk", "module": "config", "AppName": "test"}});
        client.open_stream(payload("ConnectionSetupRequest", body.to_string())).await?;
        let ack = client.next().await?.context("the stream ended")?;
        anyhow::ensure!(ack.kind == "SetupAckRequest", "{ack:?}");
        Ok(client)
    }

    /// Opens the stream and says something on it.
    pub(crate) async fn open_stream(&mut self, first: Payload) -> Result<()> {
        let (say, said) = mpsc::channel(64);
        say.send(first).await?;
        self.say = say;
        self.grpc.ready().await?;
        let path = PathAndQuery::from_static("/BiRequestStream/requestBiStream");
        let request = Request::new(ReceiverStream::new(said));
        // No time-out: it is open for as long as the connection.
        let opened = self.grpc.streaming(request, path, ProstCodec::default()).await?;
        self.told = Some(opened.into_inner());
        Ok(())
    }

    /// Ends our half of the stream.
    pub(crate) fn close_half(&mut self) {
        (self.say, _) = mpsc::channel(1);
    }

    /// Says something on the stream.
    pub(crate) async fn say(&self, payload: Payload) -> Result<()> {
        Ok(self.say.send(payload).await?)
    }

    /// One call: the raw outcome.
    pub(crate) async fn call(
        &mut self,
        path: &'static str,
        payload: Payload,
    ) -> Result<Payload, (Code, String)> {
        let told = |status: tonic::Status| (status.code(), status.message().to_owned());
        self.grpc.ready().await.map_err(|error| (Code::Unavailable, error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let call = self.grpc.unary(Request::new(payload), path, ProstCodec::default());
        Ok(call.await.map_err(told)?.into_inner())
    }

    /// One request as bytes.
    pub(crate) async fn ask_bytes(&mut self, kind: &str, body: &[u8]) -> Result<Told> {
        let answer = self.call("/Request/request", payload(kind, body)).await;
        let answer = answer.map_err(|(code, text)| anyhow::anyhow!("{code:?}: {text}"))?;
        Ok(Told::of(answer))
    }

    /// One request.
    pub(crate) async fn ask(&mut self, kind: &str, body: &Value) -> Result<Told> {
        self.ask_bytes(kind, body.to_string().as_bytes()).await
    }

    /// What the server says next on the stream; nothing when it ended well.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>> {
        let told = self.told.as_mut().context("no stream")?;
        Ok(told.message().await?.map(Told::of))
    }

    /// The next push of one type, acknowledged; others are acknowledged and passed over.
    pub(crate) async fn pushed(&mut self, kind: &str) -> Result<Told> {
        loop {
            let told = self.next().await?.context("the stream ended")?;
            self.acknowledge(&told).await?;
            if told.kind == kind {
                return Ok(told);
            }
        }
    }

    /// Acknowledges a push.
    pub(crate) async fn acknowledge(&self, told: &Told) -> Result<()> {
        let kind = told.kind.replace("Request", "Response");
        let body = json!({"resultCode": 200, "requestId": told.body["requestId"]});
        self.say(payload(&kind, body.to_string())).await
    }

    pub(crate) async fn publish(&mut self, key: &Key, content: &str) -> Result<Told> {
        let body = json!({"dataId": key.data_id, "group": key.group, "content": content});
        self.ask("ConfigPublishRequest", &body).await
    }

    pub(crate) async fn query(&mut self, key: &Key) -> Result<Option<String>> {
        let body = json!({"dataId": key.data_id, "group": key.group});
        let told = self.ask("ConfigQueryRequest", &body).await?;
        if told.error_code() == 300 {
            return Ok(None);
        }
        Ok(Some(told.body["content"].as_str().context("a content")?.to_owned()))
    }

    /// Listens to keys with these md5s; the data ids of those that differ.
    pub(crate) async fn listen(&mut self, keys: &[(&Key, &str)]) -> Result<Vec<String>> {
        let contexts: Vec<Value> = keys
            .iter()
            .map(|(key, md5)| json!({"dataId": key.data_id, "group": key.group, "md5": md5}))
            .collect();
        let body = json!({"listen": true, "configListenContexts": contexts});
        let told = self.ask("ConfigBatchListenRequest", &body).await?;
        anyhow::ensure!(told.is_success(), "{told:?}");
        let changed = told.body["changedConfigs"].as_array().context("a list")?;
        Ok(changed.iter().map(|it| it["dataId"].as_str().unwrap_or_default().to_owned()).collect())
    }
}

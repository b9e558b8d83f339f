//! How etcd is started and loaded: `KV/Put` and `KV/Range` over gRPC, on HTTP/2 connections that
//! the clients of one thread share, one for each node.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use anyhow::Context as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request, Response, Uri};
use tonic_prost::ProstCodec;

use crate::cluster::{free_ports, own_address};
use crate::http::{data_id, value};
use crate::load::{Client, Fleet, Pick};
use crate::process::Launch;

/// The parts of etcd's messages that are used here, by their field numbers.
mod message {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PutRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) key: bytes::Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) value: bytes::Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(int64, tag = "3")]
        pub(super) revision: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PutResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<Header>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RangeRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) key: bytes::Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(bytes = "bytes", tag = "5")]
        pub(super) value: bytes::Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RangeResponse {
        #[prost(message, repeated, tag = "2")]
        pub(super) kvs: Vec<KeyValue>,
    }
}

/// The binary: `ETCD_BIN`, else `etcd` on the path.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("ETCD_BIN").unwrap_or_else(|| "etcd".into())
}

/// One launch for each member; all with the settings etcd comes with.
pub(crate) fn launches(
    count: usize,
    directory: &Path,
) -> anyhow::Result<(Vec<SocketAddr>, Vec<Launch>)> {
    let mut members = Vec::new();
    for member in 0..count {
        // Away from the addresses of Quorate's nodes.
        let address = own_address(member + 8);
        let ports = free_ports(address, 2)?;
        let at = |index: usize| Some(SocketAddr::new(IpAddr::V4(address), *ports.get(index)?));
        members.push((at(0).context("client port")?, at(1).context("peer port")?));
    }
    let named = members.iter().enumerate();
    let all: Vec<String> =
        named.map(|(index, (_, peer))| format!("n{index}=http://{peer}")).collect();
    let mut launches = Vec::new();
    for (index, (client, peer)) in members.iter().enumerate() {
        let mut arguments = vec!["--data-dir".into()];
        arguments.push(directory.join(format!("node-{index}")).into_os_string());
        for (flag, text) in [
            ("--name", format!("n{index}")),
            ("--listen-client-urls", format!("http://{client}")),
            ("--advertise-client-urls", format!("http://{client}")),
            ("--listen-peer-urls", format!("http://{peer}")),
            ("--initial-advertise-peer-urls", format!("http://{peer}")),
            ("--initial-cluster", all.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
            ("--logger", "zap".to_owned()),
            ("--log-level", "error".to_owned()),
        ] {
            arguments.extend([flag.into(), text.into()]);
        }
        launches.push(Launch {
            program: program(),
            arguments,
            environment: Vec::new(),
            log: directory.join(format!("node-{index}.log")),
        });
    }
    Ok((members.into_iter().map(|(client, _)| client).collect(), launches))
}

/// An HTTP/2 connection as tonic wants it: without tonic's own channel, whose queue and extra task
/// cost the load generator more than the call itself.
#[derive(Clone)]
struct Lane(http2::SendRequest<tonic::body::Body>);

impl tonic::codegen::Service<Request<tonic::body::Body>> for Lane {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// The calls of one client.
#[derive(Clone)]
struct Kv(Grpc<Lane>);

impl Kv {
    /// Connects; the connection's own task goes into `drivers`.
    async fn connect(address: SocketAddr, drivers: &mut JoinSet<()>) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        // How the connection ends shows in the calls.
        drivers.spawn(async move { drop(connection.await) });
        let origin: Uri = format!("http://{address}").parse()?;
        Ok(Self(Grpc::with_origin(Lane(sender), origin)))
    }

    async fn put(&mut self, key: String, content: String) -> anyhow::Result<()> {
        let message = message::PutRequest { key: key.into(), value: content.into() };
        let codec: ProstCodec<_, message::PutResponse> = ProstCodec::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        self.0.ready().await?;
        let answer = self.0.unary(tonic::Request::new(message), path, codec).await?;
        let revision = answer.into_inner().header.map_or(0, |header| header.revision);
        anyhow::ensure!(revision > 0, "a put without a revision");
        Ok(())
    }

    async fn get(&mut self, key: String) -> anyhow::Result<Option<String>> {
        let message = message::RangeRequest { key: key.into() };
        let codec: ProstCodec<_, message::RangeResponse> = ProstCodec::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
        self.0.ready().await?;
        let answer = self.0.unary(tonic::Request::new(message), path, codec).await?;
        let found = answer.into_inner().kvs.into_iter().next();
        Ok(found.map(|pair| String::from_utf8_lossy(&pair.value).into_owned()))
    }
}

fn once<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let patience = std::time::Duration::from_secs(5);
    runtime.block_on(async { tokio::time::timeout(patience, work).await? })
}

/// One put on a connection of its own.
pub(crate) fn put_once(address: SocketAddr, key: &str, content: &str) -> anyhow::Result<()> {
    once(async {
        let mut drivers = JoinSet::new();
        let mut client = Kv::connect(address, &mut drivers).await?;
        client.put(key.to_owned(), content.to_owned()).await
    })
}

/// One (linearizable) read on a connection of its own.
pub(crate) fn get_once(address: SocketAddr, key: &str) -> anyhow::Result<Option<String>> {
    once(async {
        let mut drivers = JoinSet::new();
        Kv::connect(address, &mut drivers).await?.get(key.to_owned()).await
    })
}

/// Clients that put over all members.
pub(crate) struct PutFleet {
    pub(crate) members: Vec<SocketAddr>,
    pub(crate) keys: u64,
    pub(crate) size: usize,
}

/// One client of a [`PutFleet`].
pub(crate) struct PutClient {
    kv: Kv,
    pick: Pick,
    size: usize,
}

impl Fleet for PutFleet {
    type Client = PutClient;

    async fn connect(
        &self,
        indices: &[usize],
        drivers: &mut JoinSet<()>,
    ) -> anyhow::Result<Vec<PutClient>> {
        let mut shared: Vec<Option<Kv>> = vec![None; self.members.len()];
        let mut clients = Vec::new();
        for index in indices {
            let member = index % self.members.len();
            let address = *self.members.get(member).context("no member")?;
            let slot = shared.get_mut(member).context("no member")?;
            let kv = match slot {
                Some(kv) => kv.clone(),
                None => slot.insert(Kv::connect(address, drivers).await?).clone(),
            };
            clients.push(PutClient { kv, pick: Pick::new(*index, self.keys), size: self.size });
        }
        Ok(clients)
    }
}

impl Client for PutClient {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (key, stamp) = self.pick.next();
        self.kv.put(data_id(key), value(stamp, self.size)).await
    }
}

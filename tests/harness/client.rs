//! A typed client of the first dialect (`/nacos/v1`), bound to one node.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use quorate_core::content::Md5;

use super::connection::{Connections, NoAnswer};
use super::state::RaftState;

const CONFIGS: &str = "/nacos/v1/cs/configs";
/// Past the server's own deadline for a write (5 s), so that its answer arrives.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a configuration is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) data_id: String,
    pub(crate) group: String,
}

impl Key {
    /// A data id in the group `G`.
    pub(crate) fn new(data_id: impl Into<String>) -> Self {
        Self { data_id: data_id.into(), group: "G".to_owned() }
    }

    fn pairs(&self) -> [(&'static str, &str); 2] {
        [("dataId", &self.data_id), ("group", &self.group)]
    }

    /// The line a poll is answered with when this key changed.
    pub(crate) fn changed(&self) -> String {
        format!("{}%02{}%01\n", self.data_id, self.group)
    }
}

/// A key with the md5 a listener has of it; `None` says that it does not exist.
#[derive(Debug, Clone)]
pub(crate) struct Probe(pub(crate) Key, pub(crate) Option<String>);

impl Probe {
    /// A listener that holds this content.
    pub(crate) fn of(key: &Key, content: &str) -> Self {
        Self(key.clone(), Some(Md5::of(content.as_bytes()).to_string()))
    }

    /// A listener that waits for the key to appear.
    pub(crate) fn absent(key: &Key) -> Self {
        Self(key.clone(), None)
    }
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    Local,
    Linearizable,
    MinRevision(u64),
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("an answer in UTF-8")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of text"))
    }

    /// The revision that every answer of a read or write names.
    pub(crate) fn revision(&self) -> u64 {
        self.header("Quorate-Revision")
            .unwrap_or_else(|| panic!("no Quorate-Revision in {self:?}"))
            .parse()
            .expect("a number")
    }

    /// The content of a read: `None` when there is no such configuration.
    pub(crate) fn content(&self) -> Option<&str> {
        match self.status {
            200 => Some(self.text()),
            404 => None,
            _ => panic!("a read was answered with {self:?}"),
        }
    }
}

/// What a writer knows about its write.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// A majority has it: it must stay.
    Acknowledged { revision: u64 },
    /// It was not written and never will be.
    Refused(String),
    /// It may have been written.
    Unknown(String),
}

impl Outcome {
    fn of(answer: Result<Answer, NoAnswer>) -> Self {
        match answer {
            Ok(answer) if answer.status == 200 && answer.text() == "true" => {
                Self::Acknowledged { revision: answer.revision() }
            }
            Ok(answer) if answer.status == 503 && answer.text() == "caused: no leader;" => {
                Self::Refused(answer.text().to_owned())
            }
            Ok(answer) => Self::Unknown(format!("{} {}", answer.status, answer.text())),
            Err(NoAnswer::NotSent(error)) => Self::Refused(format!("{error:#}")),
            Err(NoAnswer::Lost(error)) => Self::Unknown(format!("{error:#}")),
        }
    }

    pub(crate) const fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Acknowledged { .. })
    }

    /// The revision of a write that must have worked.
    pub(crate) fn acknowledged(self) -> u64 {
        match self {
            Self::Acknowledged { revision } => revision,
            Self::Refused(_) | Self::Unknown(_) => panic!("a write ended with {self:?}"),
        }
    }
}

/// A client of one node. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connections: Arc<Connections>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { connections: Arc::new(Connections::new(address)) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.connections.address()
    }

    pub(crate) fn forget_connections(&self) {
        self.connections.forget();
    }

    /// Publishes and keeps the whole answer; the error says that there was none.
    pub(crate) async fn try_publish(&self, key: &Key, content: &str) -> Result<Answer> {
        let form = form(key.pairs().into_iter().chain([("content", content)]));
        flat(self.send(Method::POST, CONFIGS, &[], form).await)
    }

    /// Publishes for a writer that keeps book.
    pub(crate) async fn publish(&self, key: &Key, content: &str) -> Outcome {
        let form = form(key.pairs().into_iter().chain([("content", content)]));
        Outcome::of(self.send(Method::POST, CONFIGS, &[], form).await)
    }

    /// Publishes if the content's md5 is still this one.
    pub(crate) async fn publish_cas(&self, key: &Key, content: &str, md5: &str) -> Result<Answer> {
        let form = form(key.pairs().into_iter().chain([("content", content)]));
        flat(self.send(Method::POST, CONFIGS, &[("casMd5", md5)], form).await)
    }

    pub(crate) async fn remove(&self, key: &Key) -> Outcome {
        let path = format!("{CONFIGS}?{}", form(key.pairs()));
        Outcome::of(self.send(Method::DELETE, &path, &[], String::new()).await)
    }

    pub(crate) async fn get(&self, key: &Key, read: Read) -> Result<Answer> {
        let mut path = format!("{CONFIGS}?{}", form(key.pairs()));
        match read {
            Read::Local => {}
            Read::Linearizable => path.push_str("&consistency=linearizable"),
            Read::MinRevision(revision) => path.push_str(&format!("&min-revision={revision}")),
        }
        self.get_path(&path).await
    }

    /// The content as this node has it; a read that does not work fails the test.
    pub(crate) async fn read(&self, key: &Key) -> Option<String> {
        let answer = self.get(key, Read::Local).await.expect("a read");
        answer.content().map(str::to_owned)
    }

    /// A long poll. The request leaves when the future is first polled.
    pub(crate) fn poll(
        &self,
        probes: &[Probe],
        hold: Duration,
    ) -> impl Future<Output = Result<Answer>> + Send + 'static {
        let listening: String = probes
            .iter()
            .map(|Probe(key, md5)| {
                let md5 = md5.as_deref().unwrap_or_default();
                format!("{}\u{2}{}\u{2}{md5}\u{1}", key.data_id, key.group)
            })
            .collect();
        let (client, form) = (self.clone(), form([("Listening-Configs", listening.as_str())]));
        async move {
            let asked = hold.as_millis().to_string();
            let headers = [("Long-Pulling-Timeout", asked.as_str())];
            let path = format!("{CONFIGS}/listener");
            let sent = client.exchange(Method::POST, &path, &headers, form);
            flat(tokio::time::timeout(hold + PATIENCE, sent).await.context("a poll unanswered")?)
        }
    }

    pub(crate) async fn state(&self) -> Result<RaftState> {
        let answer = self.get_path("/nacos/v1/ns/raft/state").await?;
        ensure!(answer.status == 200, "state answered with {answer:?}");
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("not a state: {}", answer.text()))
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.get_path("/nacos/v1/console/health/readiness").await;
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// The value of one metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let answer = self.get_path("/metrics").await?;
        let line =
            answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.with_context(|| format!("no metric {name} in {}", answer.text()))?;
        value.trim().parse().with_context(|| format!("{name} is {value}"))
    }

    /// Polls that this node holds now.
    pub(crate) async fn held_polls(&self) -> usize {
        let held = self.metric("quorate_held_polls").await.expect("a metric");
        format!("{held:.0}").parse().expect("a whole number")
    }

    pub(crate) async fn get_path(&self, path: &str) -> Result<Answer> {
        flat(self.send(Method::GET, path, &[], String::new()).await)
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        flat(self.send(Method::GET, path, headers, String::new()).await)
    }

    /// A write whose parameters are in its path.
    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        flat(self.send(Method::POST, path, headers, String::new()).await)
    }

    /// Past the patience for a write: a change of the members may take longer.
    pub(crate) async fn post_json(&self, path: &str, body: &str) -> Result<Answer> {
        flat(self.exchange(Method::POST, path, &[], body.to_owned()).await)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: String,
    ) -> Result<Answer, NoAnswer> {
        let sent = self.exchange(method, path, headers, form);
        tokio::time::timeout(PATIENCE, sent).await.unwrap_or_else(|_| {
            Err(NoAnswer::Lost(anyhow!("{path}: no answer within {PATIENCE:?}")))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        form: String,
    ) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", self.address().to_string())
            .header("Content-Type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(form))).expect("a valid request");
        let (head, body) = self.connections.send(request).await?.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

fn flat(answer: Result<Answer, NoAnswer>) -> Result<Answer> {
    answer.map_err(|error| match error {
        NoAnswer::NotSent(error) | NoAnswer::Lost(error) => error,
    })
}

fn form<'a>(pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> String {
    let encoded: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    encoded.join("&")
}

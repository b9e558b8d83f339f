//! What nodes ask each other beside the agreement, as JSON: a question that a node does not know is
//! an error there, and its asker goes on without it.

use bytes::Bytes;
use quorate_core::content::Md5;
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::Rule;
use quorate_raft::ask::{Answerer, Answering};
use quorate_raft::node::Node;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::grpc::Server;
use crate::operations::listeners;

/// A question. Keys are those of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Question {
    /// [`listeners::Claims`]
    ListenersOfKey(String),
    /// [`listeners::Claims`]
    ListenersOfIp(String),
    /// [`listeners::Counts`] of each.
    CountListeners(Vec<String>),
    /// [`listeners::Counts`]
    AffectedListeners {
        /// Which key.
        key: String,
        /// Of the new content.
        md5: String,
        /// Kind and expression of a gray release's rule.
        rule: Option<(String, String)>,
    },
    /// What clients at an address say of themselves: a map of theirs.
    ClientMetrics {
        /// The address.
        ip: String,
        /// `dataId+group+namespace`
        key: Option<String>,
    },
    /// The connections of gRPC clients by their ids.
    Connections,
    /// [`Load`]
    Load,
    /// Tells one gRPC client to connect elsewhere: whether there is one.
    Reset {
        /// Of its connection.
        id: String,
        /// Where to.
        redirect: Option<String>,
    },
    /// Tells gRPC clients to connect elsewhere until so many are left.
    ReloadTo {
        /// Which node is meant.
        node: u64,
        /// Connections that may stay.
        count: usize,
        /// Where to.
        redirect: Option<String>,
    },
}

/// How much a node has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) node: u64,
    /// Where its HTTP is.
    pub(crate) address: String,
    /// gRPC connections.
    pub(crate) connections: usize,
    /// Of the machine over a minute, as it says it.
    pub(crate) load: String,
}

/// Answers them at this node.
pub(crate) struct Answers {
    pub(crate) node: Node,
    pub(crate) server: Server,
}

impl Answerer for Answers {
    fn answer(&self, question: Bytes) -> Answering {
        let (node, server) = (self.node.clone(), self.server.clone());
        Box::pin(async move {
            let question = serde_json::from_slice(&question).map_err(|error| error.to_string())?;
            let answer = answer(&node, &server, question).await?;
            answer.map(Bytes::from).map_err(|error| error.to_string())
        })
    }
}

async fn answer(
    node: &Node,
    server: &Server,
    question: Question,
) -> Result<serde_json::Result<Vec<u8>>, String> {
    let key = |text: String| GroupKey::from_record(&text).map_err(|error| error.to_string());
    Ok(match question {
        Question::ListenersOfKey(of) => {
            serde_json::to_vec(&listeners::of_key_here(node, &key(of)?))
        }
        Question::ListenersOfIp(ip) => serde_json::to_vec(&listeners::of_ip_here(node, &ip)),
        Question::CountListeners(keys) => {
            let keys = keys.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
            let counts: Vec<_> = keys.iter().map(|key| listeners::count_here(node, key)).collect();
            serde_json::to_vec(&counts)
        }
        Question::AffectedListeners { key: of, md5, rule } => {
            let md5 = Md5::parse(&md5).ok_or("no md5")?;
            let rule = rule.map(|(kind, expression)| match kind.as_str() {
                "tag" => Rule::Tag(expression.into()),
                _ => Rule::Beta(expression.into()),
            });
            serde_json::to_vec(&listeners::affected_here(node, &key(of)?, md5, rule))
        }
        Question::ClientMetrics { ip, key } => {
            serde_json::to_vec(&server.client_metrics(&ip, key.as_deref()).await)
        }
        Question::Connections => serde_json::to_vec(&server.rows()),
        Question::Load => serde_json::to_vec(&load(node, server)),
        Question::Reset { id, redirect } => {
            serde_json::to_vec(&server.reset(&id, redirect.as_deref()))
        }
        Question::ReloadTo { node: meant, count, redirect } => {
            if meant == node.status().id {
                server.reload_to(count, redirect.as_deref());
            }
            serde_json::to_vec(&())
        }
    })
}

fn load(node: &Node, server: &Server) -> Load {
    let status = node.status();
    let myself = status.members.iter().find(|member| member.id == status.id);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Load {
        node: status.id,
        address: myself.map(|myself| myself.member.http.clone()).unwrap_or_default(),
        connections: server.count(),
        load: load.split(' ').next().unwrap_or_default().to_owned(),
    }
}

/// The answer of this node and, given until when, those of all others; who does not answer is left out.
pub(crate) async fn ask_all<T: DeserializeOwned>(
    node: &Node,
    question: Question,
    others_until: Option<Instant>,
) -> Vec<T> {
    let Ok(asked) = serde_json::to_vec(&question).map(Bytes::from) else { return Vec::new() };
    let others = async {
        match others_until {
            Some(deadline) => node.ask_others(&asked, deadline).await,
            None => Vec::new(),
        }
    };
    let (here, others) = tokio::join!(node.ask_here(asked.clone()), others);
    let mut answers = Vec::from_iter(here);
    for (id, answer) in others {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(why) => tracing::debug!(node = format!("{id:016x}"), why, "no answer"),
        }
    }
    answers.iter().filter_map(|answer| serde_json::from_slice(answer).ok()).collect()
}

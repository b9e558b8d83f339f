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

use crate::operations::listeners::{self, After};

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
}

/// Answers them at this node.
pub(crate) struct Answers(pub(crate) Node);

impl Answerer for Answers {
    fn answer(&self, question: Bytes) -> Answering {
        let node = self.0.clone();
        Box::pin(async move {
            let question = serde_json::from_slice(&question).map_err(|error| error.to_string())?;
            answer(&node, question)
        })
    }
}

fn answer(node: &Node, question: Question) -> Result<Bytes, String> {
    let key = |text: String| GroupKey::from_record(&text).map_err(|error| error.to_string());
    let written = match question {
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
            let after = After { md5, rule };
            serde_json::to_vec(&listeners::affected_here(node, &key(of)?, &after))
        }
    };
    written.map(Bytes::from).map_err(|error| error.to_string())
}

/// The answers of this node and, given until when, of all others; who does not answer is left out.
pub(crate) async fn ask_all<T: DeserializeOwned>(
    node: &Node,
    question: Question,
    others_until: Option<Instant>,
) -> Vec<T> {
    let mut answers = Vec::new();
    if let Some(deadline) = others_until
        && let Ok(asked) = serde_json::to_vec(&question)
    {
        for (id, answer) in node.ask_others(&asked.into(), deadline).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(why) => tracing::debug!(node = format!("{id:016x}"), why, "no answer"),
            }
        }
    }
    answers.extend(answer(node, question).ok());
    answers.iter().filter_map(|answer| serde_json::from_slice(answer).ok()).collect()
}

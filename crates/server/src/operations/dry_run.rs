//! What a publish would do, and for whom, without doing it.

use std::collections::BTreeMap;

use quorate_core::kind::gray::Releases;
use quorate_raft::node::Node;
use serde::Serialize;
use tokio::time::Instant;

use super::config::{self, PublishRequest};
use super::listeners;
use crate::failure::Subject;

/// What would happen.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Forecast {
    dry_run: bool,
    /// `create`, `update`, `unchanged` (the same content again) or `refuse`.
    outcome: &'static str,
    /// Why it would be refused.
    reason: Option<String>,
    md5: String,
    /// What is there now.
    current_md5: Option<String>,
    listeners: Told,
}

/// For whom, on all nodes that answered.
#[derive(Debug, Serialize)]
struct Told {
    /// Listen to the key.
    total: usize,
    /// Would be told of a change.
    told: usize,
    /// Those by the address of their client.
    addresses: BTreeMap<String, usize>,
}

/// Foretells a publish from this node's state: by doing it to a copy.
pub(crate) async fn forecast(node: &Node, request: PublishRequest, deadline: Instant) -> Forecast {
    let (key, md5, rule) = (request.key.clone(), request.md5, request.rule.clone());
    let standing = node.store().standing(&key);
    let current_md5 = match &rule {
        None => standing.formal,
        Some(rule) => {
            let named = |releases: Releases| Some(releases.named(&rule.release_name())?.md5);
            standing.releases.and_then(named)
        }
    };
    let checked = config::check(node, &request).await;
    let command = request.into_command();
    let (applied, _) = node.store().freeze().foretell(&command);
    let can_be_applied = config::check_level(node, &command, deadline).await;
    let is_done = checked
        .and(can_be_applied)
        .and_then(|()| config::done(applied.reply, Subject::Config(key.clone())));
    let outcome = match (&is_done, current_md5) {
        (Err(_), _) => "refuse",
        (Ok(_), None) => "create",
        (Ok(_), Some(_)) if applied.events.is_empty() => "unchanged",
        (Ok(_), Some(_)) => "update",
    };
    let counts = listeners::affected(node, &key, md5, rule, deadline).await;
    let is_told = is_done.is_ok() && !applied.events.is_empty();
    let addresses: BTreeMap<String, usize> = counts
        .iter()
        .filter(|(_, count)| is_told && count.current < count.all)
        .map(|(ip, count)| (ip.clone(), count.all - count.current))
        .collect();
    Forecast {
        dry_run: true,
        outcome,
        reason: is_done.err().map(|failure| failure.to_string()),
        md5: md5.to_string(),
        current_md5: current_md5.map(|md5| md5.to_string()),
        listeners: Told {
            total: counts.values().map(|count| count.all).sum(),
            told: addresses.values().sum(),
            addresses,
        },
    }
}

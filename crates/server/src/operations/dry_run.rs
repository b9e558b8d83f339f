//! What a publish would do, and for whom, without doing it.

use std::collections::BTreeMap;

use quorate_core::command::{ExpectedMd5, Presence};
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::{MAX_RELEASES, Rule};
use quorate_raft::node::Node;
use serde::Serialize;
use tokio::time::Instant;

use super::config::{PublishRequest, check_fields, kind_of};
use super::listeners::{self, After};
use super::validation;
use crate::failure::Failure;

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

/// Foretells a publish from this node's state.
pub(crate) async fn forecast(node: &Node, request: &PublishRequest, deadline: Instant) -> Forecast {
    let current_md5 = match &request.rule {
        None => node.store().standing(&request.key).formal,
        Some(rule) => release(node, &request.key, rule),
    };
    let refusal = refusal(node, request, current_md5.is_some()).await;
    let outcome = match (&refusal, current_md5) {
        (Some(_), _) => "refuse",
        (None, None) => "create",
        (None, Some(md5)) if md5 == request.md5 => "unchanged",
        (None, Some(_)) => "update",
    };
    let after = After { md5: request.md5, rule: request.rule.clone() };
    let counts = listeners::affected(node, &request.key, &after, deadline).await;
    let is_done = refusal.is_none();
    let addresses: BTreeMap<String, usize> = counts
        .iter()
        .filter(|(_, count)| is_done && count.current < count.all)
        .map(|(ip, count)| (ip.clone(), count.all - count.current))
        .collect();
    Forecast {
        dry_run: true,
        outcome,
        reason: refusal,
        md5: request.md5.to_string(),
        current_md5: current_md5.map(|md5| md5.to_string()),
        listeners: Told {
            total: counts.values().map(|count| count.all).sum(),
            told: addresses.values().sum(),
            addresses,
        },
    }
}

fn release(node: &Node, key: &GroupKey, rule: &Rule) -> Option<quorate_core::content::Md5> {
    let releases = node.store().standing(key).releases?;
    releases.named(&rule.release_name()).map(|release| release.md5)
}

async fn refusal(node: &Node, request: &PublishRequest, is_there: bool) -> Option<String> {
    if let Err(failure) = check_fields(&request.describe, &request.writer) {
        return Some(failure.to_string());
    }
    let kind = kind_of(node, request);
    if let Err(failure) = validation::check(node, &request.key, kind, &request.content).await {
        return Some(failure.to_string());
    }
    let standing = node.store().standing(&request.key);
    let refused = |failure: Failure| Some(failure.to_string());
    let Some(rule) = &request.rule else {
        let differs = match request.expected {
            Some(ExpectedMd5::Digest(md5)) => standing.formal.is_some_and(|there| there != md5),
            Some(ExpectedMd5::NeverEqual) => standing.formal.is_some(),
            None => false,
        };
        return match request.presence {
            _ if differs => refused(Failure::CasMismatch { part: 0 }),
            Presence::New if is_there => refused(Failure::Exists { part: 0 }),
            Presence::Old if !is_there => Some("there is none".to_owned()),
            Presence::New | Presence::Old | Presence::Any => None,
        };
    };
    let count = standing.releases.as_ref().map_or(0, |releases| releases.count());
    if !is_there && count >= MAX_RELEASES {
        return refused(Failure::TooManyReleases);
    }
    let held = release(node, &request.key, rule).map(ExpectedMd5::Digest);
    let differs = held.is_some() && request.expected.is_some_and(|expected| held != Some(expected));
    if differs { refused(Failure::CasMismatch { part: 0 }) } else { None }
}

//! The reference's Raft operations (core.md §4), over one group instead of its several.

use std::collections::BTreeSet;

use hyper::StatusCode;
use quorate_raft::membership::Change;
use quorate_raft::types::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::App;
use super::super::response::{PLAIN_JSON, Response, json};
use super::CHANGE_LIMIT;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    group_id: Option<String>,
    command: Option<String>,
    #[serde(default)]
    value: String,
}

/// The envelope of v1 and v2 (config.md §0.5).
#[derive(Serialize)]
struct RestResult {
    code: u32,
    message: Option<String>,
    data: Option<()>,
}

#[derive(Serialize)]
struct Success {
    code: u32,
    message: &'static str,
    data: Option<()>,
}

/// The groups of the reference; here they are one.
const GROUPS: [&str; 4] = [
    "nacos_config",
    "naming_persistent_service_v2",
    "naming_service_metadata",
    "naming_instance_metadata",
];

/// v1 and v2: the code tells.
pub(super) async fn answer(app: &App, body: &[u8]) -> Response {
    let (code, message) = match execute(app, body).await {
        Ok(()) => (200, None),
        Err(why) => (500, Some(why)),
    };
    json(StatusCode::OK, &PLAIN_JSON, &RestResult { code, message, data: None })
}

/// v3 of the reference answers success whatever happened. An error is never told as success here:
/// it gets the envelope of v3 with the code of a server error.
pub(super) async fn answer_v3(app: &App, body: &[u8]) -> Response {
    match execute(app, body).await {
        Ok(()) => {
            let body = Success { code: 0, message: "success", data: None };
            json(StatusCode::OK, &PLAIN_JSON, &body)
        }
        Err(why) => {
            let body = RestResult { code: 30000, message: Some(why), data: None };
            json(StatusCode::INTERNAL_SERVER_ERROR, &PLAIN_JSON, &body)
        }
    }
}

async fn execute(app: &App, body: &[u8]) -> Result<(), String> {
    let Operation { group_id, command, value } =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if let Some(group) = group_id.filter(|group| !GROUPS.contains(&group.as_str())) {
        return Err(format!("not this raft group : {group}"));
    }
    let command = command.unwrap_or_default();
    match command.as_str() {
        "transferLeader" => {
            let to = id_of(app, &value).ok_or_else(|| format!("{value} is no member"))?;
            change(app, Change::Transfer { to: Some(to) }).await
        }
        "doSnapshot" => {
            let me = app.node.status().me.peer;
            if value != me {
                return Err(format!("this node is {me}: ask {value}"));
            }
            app.node.take_snapshot().await.map(drop).map_err(|error| error.to_string())
        }
        // What is not there is removed already.
        "removePeer" | "removePeers" => {
            let ids: BTreeSet<_> = list(&value).filter_map(|it| id_of(app, it)).collect();
            if ids.is_empty() { Ok(()) } else { change(app, Change::Remove { ids }).await }
        }
        // The first is how the reference spells it.
        "restRaftCluster" | "changePeers" => change_to(app, &value).await,
        "resetPeers" => Err("resetPeers would found a second cluster: restore a backup".to_owned()),
        _ => Err(format!("Not support command : {command}")),
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|it| !it.is_empty())
}

fn id_of(app: &App, address: &str) -> Option<NodeId> {
    let status = app.node.status();
    status.members.iter().find(|it| it.member.peer == address).map(|it| it.id)
}

async fn change(app: &App, change: Change) -> Result<(), String> {
    let done = app.node.administer(change, Instant::now() + CHANGE_LIMIT).await;
    done.map(drop).map_err(|error| error.to_string())
}

/// Members become those at these addresses: who is missing is added, then the others go.
async fn change_to(app: &App, value: &str) -> Result<(), String> {
    let wanted: BTreeSet<_> = list(value).collect();
    if wanted.is_empty() {
        return Err("no peers".to_owned());
    }
    for address in &wanted {
        if id_of(app, address).is_none() {
            let address = (*address).to_owned();
            change(app, Change::Add { address, stays_learner: false }).await?;
        }
    }
    let members = app.node.status().members;
    let ids: BTreeSet<_> = members
        .iter()
        .filter(|it| !wanted.contains(it.member.peer.as_str()))
        .map(|it| it.id)
        .collect();
    if ids.is_empty() { Ok(()) } else { change(app, Change::Remove { ids }).await }
}

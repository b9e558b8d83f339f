//! What operators ask of the cluster: status, changes of the members, snapshots, comparing
//! replicas. Answered to this machine, and beyond it to who has the cluster's secret.

mod ops;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::request::Parts;
use quorate_raft::check::{Compared, Comparison};
use quorate_raft::membership::{Change, MembershipError};
use quorate_raft::status::{MemberStatus, Status};
use quorate_raft::types::NodeId;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::App;
use super::caller;
use super::raft::{address, role};
use super::response::{PLAIN_JSON, Response, error_page, json, retry_soon};
use super::route::Asked;

/// Longest that a change may take: an election, then two commits.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// Answers what an operator asks.
pub(crate) async fn answer<B>(
    app: App,
    peer: IpAddr,
    asked: Asked,
    head: Parts,
    body: B,
) -> Response
where
    B: Body<Data = Bytes> + Unpin,
{
    let path = head.uri.path();
    if !may(&app, &head.headers, peer) {
        let message = "cluster administration is open to this machine, and beyond it to who \
                       sends the cluster's secret";
        return error_page(StatusCode::FORBIDDEN, message, path);
    }
    let whole = match app.bodies.read(body, path).await {
        Ok(whole) => whole,
        Err(refused) => return *refused,
    };
    match asked {
        Asked::Status => json(StatusCode::OK, &PLAIN_JSON, &describe(&app.node.status())),
        Asked::Change => match serde_json::from_slice::<Wanted>(&whole.bytes) {
            Ok(wanted) => changed(&app, wanted).await,
            Err(error) => error_page(StatusCode::BAD_REQUEST, &error.to_string(), path),
        },
        Asked::Snapshot => match app.node.take_snapshot().await {
            Ok(index) => json(StatusCode::OK, &PLAIN_JSON, &Snapshot { index }),
            Err(error) => {
                error_page(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"), path)
            }
        },
        Asked::Check => check(&app, path).await,
        Asked::Ops => ops::answer(&app, &whole.bytes).await,
        Asked::OpsV3 => ops::answer_v3(&app, &whole.bytes).await,
    }
}

/// A request that came through another machine's hands is not of this machine.
fn may(app: &App, headers: &HeaderMap, peer: IpAddr) -> bool {
    if peer.is_loopback() && caller::ip(headers, peer) == peer.to_string() {
        return true;
    }
    let Some(secret) = &app.cluster_secret else { return false };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    given.as_bytes().ct_eq(secret.as_bytes()).into()
}

/// A node id in JSON: 16 hexadecimal digits, for numbers of 64 bits are not safe there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id(NodeId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let id = u64::from_str_radix(&text, 16);
        id.map(Self).map_err(|_| serde::de::Error::custom(format!("{text:?} is no node id")))
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// A change as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Wanted {
    #[serde(rename_all = "camelCase")]
    Add {
        address: String,
        #[serde(default)]
        stays_learner: bool,
    },
    Remove(Vec<Id>),
    Replace {
        old: Id,
        new: Id,
    },
    Transfer {
        to: Option<Id>,
    },
}

impl From<Wanted> for Change {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Add { address, stays_learner } => Self::Add { address, stays_learner },
            Wanted::Remove(ids) => Self::Remove { ids: ids.into_iter().map(|id| id.0).collect() },
            Wanted::Replace { old, new } => Self::Replace { old: old.0, new: new.0 },
            Wanted::Transfer { to } => Self::Transfer { to: to.map(|id| id.0) },
        }
    }
}

#[derive(Serialize)]
struct Changed {
    done: String,
}

async fn changed(app: &App, wanted: Wanted) -> Response {
    let path = "/quorate/v1/cluster/change";
    match app.node.administer(wanted.into(), Instant::now() + CHANGE_LIMIT).await {
        Ok(done) => json(StatusCode::OK, &PLAIN_JSON, &Changed { done }),
        Err(MembershipError::Refused(why)) => error_page(StatusCode::CONFLICT, &why, path),
        Err(error @ (MembershipError::NoLeader | MembershipError::Unknown(_))) => {
            let mut response =
                error_page(StatusCode::SERVICE_UNAVAILABLE, &error.to_string(), path);
            retry_soon(&mut response);
            response
        }
    }
}

#[derive(Serialize)]
struct Snapshot {
    index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatus {
    cluster_id: Option<Id>,
    node_id: Id,
    role: &'static str,
    term: u64,
    leader: Option<Id>,
    leader_http: Option<String>,
    is_ready: bool,
    feature_level: u32,
    last_index: Option<u64>,
    commit_index: Option<u64>,
    applied_index: Option<u64>,
    snapshot_index: Option<u64>,
    purged_index: Option<u64>,
    revision: u64,
    configs: usize,
    members: Vec<Member>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    id: Id,
    peer: String,
    http: String,
    grpc: String,
    role: &'static str,
    is_voter: bool,
    is_reachable: bool,
    matching_index: Option<u64>,
    waits: Option<String>,
}

fn describe(status: &Status) -> ClusterStatus {
    let leader = status.members.iter().find(|it| Some(it.id) == status.leader);
    let member = |it: &MemberStatus| Member {
        id: Id(it.id),
        peer: it.member.peer.clone(),
        http: it.member.http.clone(),
        grpc: it.member.grpc.clone(),
        role: match (status.leader == Some(it.id), it.is_voter) {
            (true, _) => "leader",
            (false, true) => "follower",
            (false, false) => "learner",
        },
        is_voter: it.is_voter,
        is_reachable: it.is_reachable,
        matching_index: it.matching_index,
        waits: it.waits.clone(),
    };
    ClusterStatus {
        cluster_id: status.cluster_id.map(Id),
        node_id: Id(status.id),
        role: role(status.role),
        term: status.term,
        leader: status.leader.map(Id),
        leader_http: leader.map(|it| it.member.http.clone()),
        is_ready: status.is_ready,
        feature_level: status.feature_level,
        last_index: status.last_index,
        commit_index: status.commit_index,
        applied_index: status.applied_index,
        snapshot_index: status.snapshot_index,
        purged_index: status.purged_index,
        revision: status.fingerprint.revision.0,
        configs: status.fingerprint.configs,
        members: status.members.iter().map(member).collect(),
    }
}

#[derive(Serialize)]
struct Checked {
    revision: u64,
    healthy: bool,
    problems: Vec<String>,
    members: Vec<CheckedMember>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckedMember {
    id: Id,
    peer: String,
    state_hash: Option<String>,
    problem: Option<String>,
}

async fn check(app: &App, path: &str) -> Response {
    if !app.node.can_compare() {
        let message = "the cluster's feature level is 1: some member is of release 0.1, or was \
                       not met yet";
        return error_page(StatusCode::CONFLICT, message, path);
    }
    match app.node.compare(app.deadline()).await {
        Ok(comparison) => {
            let checked = judge(&comparison, &app.node.status());
            json(StatusCode::OK, &PLAIN_JSON, &checked)
        }
        Err(error) => {
            let text = format!("the cluster takes no writes: {error}");
            let mut response = error_page(StatusCode::SERVICE_UNAVAILABLE, &text, path);
            retry_soon(&mut response);
            response
        }
    }
}

fn judge(comparison: &Comparison, status: &Status) -> Checked {
    let hashes: Vec<_> = comparison
        .members
        .iter()
        .filter_map(|(_, _, compared)| match compared {
            Compared::Hash(hash) => Some(hash),
            Compared::Behind(_) | Compared::Skipped | Compared::Silent(_) => None,
        })
        .collect();
    let members: Vec<_> = comparison
        .members
        .iter()
        .map(|(id, member, compared)| {
            let hex = |hash: &[u8]| hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let (state_hash, problem) = match compared {
                Compared::Hash(hash) => (Some(hex(hash)), None),
                Compared::Behind(at) => (None, Some(format!("is behind, at revision {}", at.0))),
                Compared::Skipped => (None, Some("has passed it: ask again".to_owned())),
                Compared::Silent(why) => (None, Some(format!("does not answer: {why}"))),
            };
            CheckedMember { id: Id(*id), peer: member.peer.clone(), state_hash, problem }
        })
        .collect();
    let mut problems: Vec<_> = members
        .iter()
        .filter_map(|it| Some(format!("{} {}", it.peer, it.problem.as_ref()?)))
        .collect();
    if hashes.windows(2).any(|pair| matches!(pair, [one, other] if one != other)) {
        problems.push(format!("STATES DIFFER at revision {}", comparison.revision.0));
    }
    if address(status, status.leader).is_none() {
        problems.push("no leader".to_owned());
    }
    Checked { revision: comparison.revision.0, healthy: problems.is_empty(), problems, members }
}

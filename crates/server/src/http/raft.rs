//! The source article's `/v1/ns/raft` routes, read only: state, leader, peer, datum
//! (naming.md §3.6). Timers are gone with the article's protocol and always 0.

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use quorate_core::key::GroupKey;
use quorate_raft::status::{Role, Status};
use serde::Serialize;

use super::App;
use super::pairs::{Form, Pairs};
use super::response::{Refused, Response, error_page, json, malformed, missing, stamp};

static FORM: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
static NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
/// The header's name is the reference's; the body is not compressed there either.
static CONTENT_ENCODE: HeaderName = HeaderName::from_static("content-encode");
static GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Most keys of one request, as the article's nodes ask.
const MAX_KEYS: usize = 50;
/// Most bytes of contents in one answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A member as the article's nodes describe themselves.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    ip: String,
    vote_for: Option<String>,
    term: u64,
    leader_due_ms: u64,
    heartbeat_due_ms: u64,
    state: &'static str,
}

/// The article's state and, beside it, what this server's operators and tests need.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    services: u64,
    peers: Vec<Peer>,
    node_id: String,
    cluster_id: Option<String>,
    role: &'static str,
    term: u64,
    leader: Option<String>,
    commit_index: Option<u64>,
    applied_index: Option<u64>,
    revision: u64,
    state_hash: String,
    snapshot_index: Option<u64>,
    purged_index: Option<u64>,
    config_count: usize,
}

pub(super) const fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "LEADER",
        Role::Follower => "FOLLOWER",
        Role::Candidate => "CANDIDATE",
        Role::Learner => "LEARNER",
    }
}

pub(super) fn address(status: &Status, id: Option<u64>) -> Option<String> {
    status.members.iter().find(|it| Some(it.id) == id).map(|it| it.member.peer.clone())
}

/// Every member: this node by what it knows of itself, the others by what can be concluded.
fn peers(status: &Status) -> Vec<Peer> {
    let peer = |id, ip: &str| Peer {
        ip: ip.to_owned(),
        vote_for: if id == status.id { address(status, status.voted_for) } else { None },
        term: status.term,
        leader_due_ms: 0,
        heartbeat_due_ms: 0,
        state: if status.leader == Some(id) {
            "LEADER"
        } else if id == status.id && status.role == Role::Candidate {
            "CANDIDATE"
        } else {
            "FOLLOWER"
        },
    };
    let mut peers: Vec<_> = status.members.iter().map(|it| peer(it.id, &it.member.peer)).collect();
    if !status.members.iter().any(|it| it.id == status.id) {
        peers.push(peer(status.id, &status.me.peer));
    }
    peers.sort_by(|one, other| one.ip.cmp(&other.ip));
    peers
}

fn describe(status: &Status) -> State {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    State {
        services: 0,
        peers: peers(status),
        node_id: format!("{:016x}", status.id),
        cluster_id: status.cluster_id.map(|id| format!("{id:016x}")),
        role: role(status.role),
        term: status.term,
        leader: address(status, status.leader),
        commit_index: status.commit_index,
        applied_index: status.applied_index,
        revision: status.fingerprint.revision.0,
        state_hash: hex(&status.fingerprint.hash),
        snapshot_index: status.snapshot_index,
        purged_index: status.purged_index,
        config_count: status.fingerprint.configs,
    }
}

fn answer(body: &impl Serialize) -> Response {
    let mut response = json(StatusCode::OK, &FORM, body);
    response.headers_mut().insert(CACHE_CONTROL, NO_CACHE.clone());
    response.headers_mut().insert(&CONTENT_ENCODE, GZIP.clone());
    response
}

/// `GET /state`
pub(crate) fn state(app: &App) -> Response {
    let status = app.node.status();
    let mut response = answer(&describe(&status));
    stamp(response.headers_mut(), status.fingerprint.revision);
    response
}

/// `GET /peer`: this node.
pub(crate) fn peer(app: &App) -> Response {
    let status = app.node.status();
    answer(&peers(&status).into_iter().find(|peer| peer.ip == status.me.peer))
}

#[derive(Serialize)]
struct Leader {
    /// JSON as text.
    leader: String,
}

fn leader_text(status: &Status) -> String {
    let address = address(status, status.leader);
    let leader = peers(status).into_iter().find(|peer| Some(&peer.ip) == address.as_ref());
    serde_json::to_string(&leader).unwrap_or_default()
}

/// `GET /leader`
pub(crate) fn leader(app: &App) -> Response {
    answer(&Leader { leader: leader_text(&app.node.status()) })
}

/// A datum; its `timestamp` is the version, from 1.
#[derive(Debug, Serialize)]
struct Datum {
    key: String,
    value: String,
    timestamp: u64,
}

/// `GET /datum?keys=dataId+group+namespace,…`: the datums in the order asked for, null for those
/// that are not there.
pub(crate) fn datum(app: &App, query: &str, path: &str) -> Response {
    let keys = match keys(query, path) {
        Ok(keys) => keys,
        Err(refused) => return *refused,
    };
    let frozen = app.node.store().freeze();
    let mut bytes = 0;
    let datums: Vec<Option<Datum>> = keys
        .into_iter()
        .map(|key| {
            let (key, datum) = key.and_then(|key| frozen.config(&key).map(|datum| (key, datum)))?;
            bytes += datum.content_bytes();
            (bytes <= MAX_ANSWER_BYTES).then(|| Datum {
                key: key.to_string(),
                value: String::from_utf8_lossy(&datum.content()).into_owned(),
                timestamp: datum.version(),
            })
        })
        .collect();
    if bytes > MAX_ANSWER_BYTES {
        let message = format!("contents are larger than {MAX_ANSWER_BYTES} bytes: ask for less");
        return error_page(StatusCode::BAD_REQUEST, &message, path);
    }
    let mut response = answer(&datums);
    stamp(response.headers_mut(), frozen.header().revision);
    response
}

fn keys(query: &str, path: &str) -> Result<Vec<Option<GroupKey>>, Refused> {
    let pairs = Pairs::parse(query, Form::None).map_err(malformed)?;
    let text = pairs.first("keys").map_err(malformed)?;
    let text = text.ok_or_else(|| missing("keys", path))?;
    let keys: Vec<_> = text.split(',').take(MAX_KEYS + 1).map(group_key).collect();
    if keys.len() > MAX_KEYS {
        let message = format!("more than {MAX_KEYS} keys");
        return Err(Box::new(error_page(StatusCode::BAD_REQUEST, &message, path)));
    }
    Ok(keys)
}

/// A space stands for a `+` that was not encoded in the query, for no key has spaces.
fn group_key(text: &str) -> Option<GroupKey> {
    text.replace(' ', "+").parse().ok()
}

#[cfg(test)]
mod tests {
    use quorate_core::store::Store;
    use quorate_raft::status::MemberStatus;
    use quorate_raft::types::Member;

    use super::super::response::tests::seen;
    use super::*;

    fn status(role: Role, leader: Option<u64>) -> Status {
        let member = |id: u64| Member { peer: format!("n{id}:7848"), ..Member::default() };
        Status {
            id: 1,
            me: member(1),
            cluster_id: Some(255),
            role,
            term: 4,
            voted_for: Some(2),
            leader,
            members: (1..=2)
                .map(|id| MemberStatus {
                    id,
                    member: member(id),
                    is_voter: true,
                    is_reachable: true,
                    matching_index: None,
                    waits: None,
                })
                .collect(),
            last_index: Some(7),
            commit_index: Some(6),
            applied_index: Some(5),
            snapshot_index: None,
            purged_index: None,
            fingerprint: Store::default().fingerprint(),
            feature_level: 1,
            is_ready: true,
        }
    }

    #[test]
    fn state_has_the_fields_of_the_contract() {
        let text = serde_json::to_string(&describe(&status(Role::Follower, Some(2)))).unwrap();
        let (before, after) = text.split_once("\"stateHash\":\"").unwrap();
        assert_eq!(
            before,
            "{\"services\":0,\"peers\":[\
             {\"ip\":\"n1:7848\",\"voteFor\":\"n2:7848\",\"term\":4,\"leaderDueMs\":0,\
             \"heartbeatDueMs\":0,\"state\":\"FOLLOWER\"},\
             {\"ip\":\"n2:7848\",\"voteFor\":null,\"term\":4,\"leaderDueMs\":0,\
             \"heartbeatDueMs\":0,\"state\":\"LEADER\"}],\
             \"nodeId\":\"0000000000000001\",\"clusterId\":\"00000000000000ff\",\
             \"role\":\"FOLLOWER\",\"term\":4,\"leader\":\"n2:7848\",\"commitIndex\":6,\
             \"appliedIndex\":5,\"revision\":0,"
        );
        assert_eq!(
            after.split_at(32).1,
            "\",\"snapshotIndex\":null,\"purgedIndex\":null,\"configCount\":0}"
        );
    }

    #[test]
    fn the_leader_is_json_in_json() {
        let text = leader_text(&status(Role::Follower, Some(2)));
        assert!(text.starts_with("{\"ip\":\"n2:7848\""), "{text}");
        assert_eq!(leader_text(&status(Role::Candidate, None)), "null");
        let states: Vec<_> =
            peers(&status(Role::Candidate, None)).iter().map(|peer| peer.state).collect();
        assert_eq!(states, ["CANDIDATE", "FOLLOWER"]);
        let mut outsider = status(Role::Follower, None);
        outsider.members.clear();
        assert_eq!(peers(&outsider).len(), 1);
    }

    #[test]
    fn keys_of_datums() {
        for (query, want) in [
            ("keys=d%2BG%2Bdev", "d+G+dev"),
            ("keys=d+G", "d+G+public"),
            ("keys=d%2BG%2B,e+G+dev", "d+G+public e+G+dev"),
            ("keys=d,d+G+n+x,,d%25+G", "- - - -"),
        ] {
            let keys = keys(query, "/").map_err(|refused| seen(*refused)).unwrap();
            let text =
                |key: &Option<GroupKey>| key.as_ref().map_or("-".to_owned(), ToString::to_string);
            assert_eq!(keys.iter().map(text).collect::<Vec<_>>().join(" "), want, "{query}");
        }
        assert_eq!(keys("", "/").map_err(|refused| seen(*refused).0), Err(400));
        assert!(keys(&format!("keys={}", ",".repeat(MAX_KEYS)), "/").is_err());
    }
}

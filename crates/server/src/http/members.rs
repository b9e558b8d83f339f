//! The members as the reference lists them (core.md §2.4, §3). What would change them there is
//! answered as not allowed: `quorate cluster` and `/quorate/v1/cluster/change` do that.

use hyper::{Method, StatusCode};
use quorate_raft::status::{MemberStatus, Status};
use serde::Serialize;

use super::App;
use super::pairs::{Form, Malformed, Pairs};
use super::response::{PLAIN_JSON, Response, error_page, json, malformed};

/// The release whose wire this server speaks; members of that release read it.
const SPOKEN_RELEASE: &str = "3.1.0";

/// What is asked of the list of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `GET /nacos/v1/core/cluster/self`
    SelfV1,
    /// `GET /nacos/v1/core/cluster/nodes`
    ListV1,
    /// `GET /nacos/v1/core/cluster/simple/nodes`
    Reachable,
    /// `GET /nacos/v1/core/cluster/health`
    HealthV1,
    /// `GET /nacos/v2/core/cluster/node/self`, also of v3
    This,
    /// `GET /nacos/v2/core/cluster/node/list`, also of v3
    List,
    /// `GET /nacos/v3/console/core/cluster/nodes`
    ListByKeyword,
    /// `GET /nacos/v2/core/cluster/node/self/health`
    Health,
    /// `POST /nacos/v1/core/cluster/report`, among members of the reference before 3.0.
    Report,
    /// A change by the reference's means, in v1.
    ChangeV1,
    /// A change by the reference's means.
    Change,
}

/// Answers without waiting.
pub(super) fn answer(app: &App, asked: Asked, request: (&Method, &str, &str)) -> Response {
    let (method, path, query) = request;
    let filter = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(why) => return *malformed(why),
    };
    let status = app.node.status();
    match asked {
        Asked::SelfV1 => old(this(&status)),
        Asked::ListV1 => old(begin_with(&status, &filter.keyword)),
        Asked::Reachable => {
            let up = list(&status).into_iter().filter(|member| member.state == UP);
            old(up.map(|member| member.address).collect::<Vec<_>>())
        }
        Asked::HealthV1 => old(UP),
        Asked::This => new(this(&status)),
        Asked::List => filtered(&status, &filter),
        Asked::ListByKeyword => new(begin_with(&status, &filter.keyword)),
        Asked::Health => new(UP),
        Asked::Report => {
            let why = format!("Old Inner API {path} is deprecated");
            let message = format!("{{\"code\":40000,\"message\":\"{why}\"}}");
            error_page(StatusCode::GONE, &message, path)
        }
        Asked::ChangeV1 => {
            let message = Some(not_allowed(below_context(path)));
            let body = RestResult { code: 405, message, data: (), no_right: false };
            json(StatusCode::OK, &PLAIN_JSON, &body)
        }
        Asked::Change => {
            let message = not_allowed(&format!("{method} {}", below_context(path)));
            let body = Envelope { code: 405, message: &message, data: () };
            json(StatusCode::OK, &PLAIN_JSON, &body)
        }
    }
}

fn below_context(path: &str) -> &str {
    path.strip_prefix("/nacos").unwrap_or(path)
}

/// The reference's words for the routes that it closed itself.
fn not_allowed(what: &str) -> String {
    format!("{what} API not allow to use temporarily.")
}

fn old(data: impl Serialize) -> Response {
    let body = RestResult { code: 200, message: None, data, no_right: false };
    json(StatusCode::OK, &PLAIN_JSON, &body)
}

fn new(data: impl Serialize) -> Response {
    json(StatusCode::OK, &PLAIN_JSON, &Envelope { code: 0, message: "success", data })
}

/// This node, member or not.
fn this(status: &Status) -> Member {
    let mine = list(status).into_iter().find(|member| member.address == status.me.http);
    mine.unwrap_or_else(|| {
        let alone = MemberStatus {
            id: status.id,
            member: status.me.clone(),
            is_voter: false,
            is_reachable: true,
            matching_index: None,
            waits: None,
        };
        describe(&alone, &group(status))
    })
}

fn begin_with(status: &Status, keyword: &str) -> Vec<Member> {
    let members = list(status).into_iter();
    members.filter(|member| member.address.starts_with(keyword)).collect()
}

/// Those whose address begins so and whose state is this one.
fn filtered(status: &Status, filter: &Filter) -> Response {
    let state = match filter.state.as_deref().map(known_state) {
        None => None,
        Some(Some(state)) => Some(state),
        Some(None) => {
            let data = format!("Illegal state: {}", filter.state.as_deref().unwrap_or_default());
            let body = Envelope { code: 23000, message: "illegal state", data };
            return json(StatusCode::BAD_REQUEST, &PLAIN_JSON, &body);
        }
    };
    let mut members = begin_with(status, &filter.address);
    members.retain(|member| state.is_none_or(|state| state == member.state));
    new(members)
}

struct Filter {
    address: String,
    keyword: String,
    state: Option<String>,
}

impl Filter {
    fn parse(query: &str) -> Result<Self, Malformed> {
        let pairs = Pairs::parse(query, Form::None)?;
        let text = |name| pairs.first(name).map(|text| text.unwrap_or_default().trim().to_owned());
        Ok(Self {
            address: text("address")?,
            keyword: text("keyword")?,
            state: Some(text("state")?).filter(|it| !it.is_empty()),
        })
    }
}

const UP: &str = "UP";

/// The envelope of v1 (config.md §0.5).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestResult<T> {
    code: u32,
    message: Option<String>,
    data: T,
    no_right: bool,
}

/// The envelope of v2 and v3 (config.md §0.5).
#[derive(Serialize)]
struct Envelope<'a, T> {
    code: u32,
    message: &'a str,
    data: T,
}

/// A member in the order of the reference (core.md §2.4).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    ip: String,
    port: u16,
    state: &'static str,
    extend_info: ExtendInfo,
    address: String,
    abilities: Abilities,
    fail_access_cnt: u32,
    grpc_report_enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtendInfo {
    support_gray_model: bool,
    version: &'static str,
    raft_port: String,
    raft_meta_data: RaftMetaData,
    ready_to_upgrade: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RaftMetaData {
    meta_data_map: RaftGroups,
}

#[derive(Debug, Serialize)]
struct RaftGroups {
    nacos_config: RaftGroup,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct RaftGroup {
    leader: Option<String>,
    raft_group_member: Vec<String>,
    term: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Abilities {
    remote_ability: RemoteAbility,
    config_ability: ConfigAbility,
    naming_ability: NamingAbility,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RemoteAbility {
    support_remote_connection: bool,
    grpc_report_enabled: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigAbility {
    support_remote_metrics: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamingAbility {
    support_jraft: bool,
}

/// The reference's states, in any case.
fn known_state(text: &str) -> Option<&'static str> {
    let states = ["STARTING", UP, "SUSPICIOUS", "DOWN", "ISOLATION"];
    states.into_iter().find(|state| state.eq_ignore_ascii_case(text))
}

fn group(status: &Status) -> RaftGroup {
    let peer_of = |id| {
        let known = status.members.iter().find(|it| Some(it.id) == id);
        known.map(|it| it.member.peer.clone())
    };
    RaftGroup {
        leader: peer_of(status.leader),
        raft_group_member: status.members.iter().map(|it| it.member.peer.clone()).collect(),
        term: status.term,
    }
}

fn list(status: &Status) -> Vec<Member> {
    let group = group(status);
    let mut members: Vec<Member> =
        status.members.iter().map(|member| describe(member, &group)).collect();
    members.sort_by(|one, other| one.address.cmp(&other.address));
    members
}

fn describe(member: &MemberStatus, group: &RaftGroup) -> Member {
    let address = member.member.http.clone();
    let (ip, port) = address.rsplit_once(':').unwrap_or((&address, ""));
    let raft_port = member.member.peer.rsplit_once(':').map_or("", |(_, port)| port).to_owned();
    Member {
        ip: ip.to_owned(),
        port: port.parse().unwrap_or_default(),
        state: if member.is_reachable { UP } else { "DOWN" },
        extend_info: ExtendInfo {
            support_gray_model: false,
            version: SPOKEN_RELEASE,
            raft_port,
            raft_meta_data: RaftMetaData {
                meta_data_map: RaftGroups { nacos_config: group.clone() },
            },
            ready_to_upgrade: true,
        },
        abilities: Abilities {
            remote_ability: RemoteAbility {
                support_remote_connection: true,
                grpc_report_enabled: true,
            },
            config_ability: ConfigAbility { support_remote_metrics: false },
            naming_ability: NamingAbility { support_jraft: true },
        },
        address,
        fail_access_cnt: 0,
        grpc_report_enabled: true,
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::store::Store;
    use quorate_raft::status::Role;

    use super::*;

    #[test]
    fn a_member_is_written_in_the_order_of_the_reference() {
        let at = |id, host: &str, is_reachable| MemberStatus {
            id,
            member: quorate_raft::types::Member {
                peer: format!("{host}:7848"),
                http: format!("{host}:8848"),
                grpc: format!("{host}:9848"),
                stays_learner: false,
            },
            is_voter: true,
            is_reachable,
            matching_index: None,
            waits: None,
        };
        let members = vec![at(2, "10.0.0.2", false), at(1, "10.0.0.1", true)];
        let status = Status {
            id: 1,
            me: members[1].member.clone(),
            cluster_id: Some(9),
            role: Role::Leader,
            term: 3,
            voted_for: Some(1),
            leader: Some(1),
            members,
            last_index: None,
            commit_index: None,
            applied_index: None,
            snapshot_index: None,
            purged_index: None,
            fingerprint: Store::default().fingerprint(),
            feature_level: 1,
            is_ready: true,
        };
        let listed = list(&status);
        assert_eq!(
            serde_json::to_string(&listed[0]).unwrap(),
            "{\"ip\":\"10.0.0.1\",\"port\":8848,\"state\":\"UP\",\"extendInfo\":{\
             \"supportGrayModel\":false,\"version\":\"3.1.0\",\"raftPort\":\"7848\",\
             \"raftMetaData\":{\"metaDataMap\":{\"nacos_config\":{\"leader\":\"10.0.0.1:7848\",\
             \"raftGroupMember\":[\"10.0.0.2:7848\",\"10.0.0.1:7848\"],\"term\":3}}},\
             \"readyToUpgrade\":true},\"address\":\"10.0.0.1:8848\",\"abilities\":{\
             \"remoteAbility\":{\"supportRemoteConnection\":true,\"grpcReportEnabled\":true},\
             \"configAbility\":{\"supportRemoteMetrics\":false},\
             \"namingAbility\":{\"supportJraft\":true}},\"failAccessCnt\":0,\
             \"grpcReportEnabled\":true}"
        );
        assert_eq!(this(&status).address, "10.0.0.1:8848");
        assert_eq!(begin_with(&status, "10.0.0.2").len(), 1);
        let outsider = Status { members: Vec::new(), ..status };
        assert_eq!(this(&outsider).address, "10.0.0.1:8848");
        assert_eq!(
            (listed[1].state, known_state("up"), known_state("x")),
            ("DOWN", Some("UP"), None)
        );
    }
}

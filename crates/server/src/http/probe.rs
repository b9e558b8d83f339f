//! Probes, metrics and the list of members: what operators and their machines ask.

use hyper::StatusCode;
use quorate_raft::status::{MemberStatus, Status};
use serde::Serialize;

use super::App;
use super::pairs::{Form, Pairs};
use super::response::{PLAIN_JSON, Response, TEXT, error_page, json, malformed, respond, value};

/// The release whose wire this server speaks; members of that release read it.
const SPOKEN_RELEASE: &str = "3.1.0";

/// Serves, and is close to the leader (core.md §6).
pub(crate) fn readiness(app: &App) -> Response {
    if app.node.is_ready() {
        respond(StatusCode::OK, &TEXT, "OK")
    } else {
        respond(StatusCode::INTERNAL_SERVER_ERROR, &TEXT, "config not in readiness")
    }
}

/// Runs.
pub(crate) fn liveness() -> Response {
    respond(StatusCode::OK, &TEXT, "OK")
}

/// Everything that is measured, as text.
pub(crate) fn metrics(app: &App, path: &str) -> Response {
    let polls = app.node.polls();
    app.metrics.sample(polls.held(), polls.named_keys(), app.bodies.used());
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &app.registry) {
        Ok(()) => {
            let form = value("application/openmetrics-text; version=1.0.0; charset=utf-8");
            respond(StatusCode::OK, &form, text)
        }
        Err(_) => error_page(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written", path),
    }
}

/// The envelope of the v2 routes (config.md §0.5).
#[derive(Serialize)]
struct Envelope<T> {
    code: u32,
    message: &'static str,
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

/// The members, those only whose address begins so and whose state is this one.
pub(crate) fn members(app: &App, query: &str) -> Response {
    let Filter { address, state } = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(why) => return *malformed(why),
    };
    let state = match state.as_deref().map(known_state) {
        None => None,
        Some(Some(state)) => Some(state),
        Some(None) => {
            let data = format!("Illegal state: {}", state.unwrap_or_default());
            let body = Envelope { code: 23000, message: "illegal state", data };
            return json(StatusCode::BAD_REQUEST, &PLAIN_JSON, &body);
        }
    };
    let data: Vec<Member> = list(&app.node.status())
        .into_iter()
        .filter(|member| member.address.starts_with(&address))
        .filter(|member| state.is_none_or(|state| state == member.state))
        .collect();
    json(StatusCode::OK, &PLAIN_JSON, &Envelope { code: 0, message: "success", data })
}

struct Filter {
    address: String,
    state: Option<String>,
}

impl Filter {
    fn parse(query: &str) -> Result<Self, super::pairs::Malformed> {
        let pairs = Pairs::parse(query, Form::None)?;
        let text = |name| pairs.first(name).map(|text| text.unwrap_or_default().trim().to_owned());
        Ok(Self {
            address: text("address")?,
            state: Some(text("state")?).filter(|it| !it.is_empty()),
        })
    }
}

/// The reference's states, in any case.
fn known_state(text: &str) -> Option<&'static str> {
    let states = ["STARTING", "UP", "SUSPICIOUS", "DOWN", "ISOLATION"];
    states.into_iter().find(|state| state.eq_ignore_ascii_case(text))
}

fn list(status: &Status) -> Vec<Member> {
    let peer_of = |id| {
        let known = status.members.iter().find(|it| Some(it.id) == id);
        known.map(|it| it.member.peer.clone())
    };
    let group = RaftGroup {
        leader: peer_of(status.leader),
        raft_group_member: status.members.iter().map(|it| it.member.peer.clone()).collect(),
        term: status.term,
    };
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
        state: if member.is_reachable { "UP" } else { "DOWN" },
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
        assert_eq!(
            (listed[1].state, known_state("up"), known_state("x")),
            ("DOWN", Some("UP"), None)
        );
    }
}

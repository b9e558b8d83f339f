//! The table of routes: method and path → what is asked for. Every route is one variant, so that
//! whoever lists routes (authorisation, metrics) is stopped by the compiler when one is added.

use hyper::Method;

use super::changes::Asked as Changes;
use super::manage::Asked as Managed;
use super::members::Asked as OfMembers;
use crate::metrics::Operation;

/// What an operator asks of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `GET /quorate/v1/cluster`
    Status,
    /// `POST /quorate/v1/cluster/change`
    Change,
    /// `POST /quorate/v1/cluster/snapshot`
    Snapshot,
    /// `POST /quorate/v1/cluster/check`
    Check,
    /// `POST /quorate/v1/backup`
    BeginBackup,
    /// `GET /quorate/v1/backup?name=…&offset=…&length=…`
    BackupPart,
    /// `POST /nacos/v1/core/ops/raft` and `…/v2/…`
    Ops,
    /// `POST /nacos/v3/admin/core/ops/raft`
    OpsV3,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /nacos/v1/cs/configs`
    Get,
    /// `POST /nacos/v1/cs/configs`
    Publish,
    /// `DELETE /nacos/v1/cs/configs`
    Remove,
    /// `POST /nacos/v1/cs/configs/listener`
    Listen,
    /// What an administrator asks of configurations and namespaces.
    Manage(Managed),
    /// `GET /nacos/v3/client/cs/config`
    GetV3,
    /// Several configurations at once.
    Changes(Changes),
    /// `GET /nacos/v1/console/health/readiness`
    Readiness,
    /// `GET /nacos/v1/console/health/liveness`
    Liveness,
    /// The list of members.
    Members(OfMembers),
    /// `GET …/v1/ns/raft/state`
    RaftState,
    /// `GET …/v1/ns/raft/leader`
    RaftLeader,
    /// `GET …/v1/ns/raft/peer`
    RaftPeer,
    /// `GET …/v1/ns/raft/datum`
    RaftDatum,
    /// `GET /metrics`
    Metrics,
    /// What an operator asks of the cluster.
    Cluster(Asked),
    /// A known path with another method; these would do.
    WrongMethod(&'static str),
    /// Nothing is there.
    Unknown,
}

impl Route {
    /// Finds the route. `HEAD` is `GET`, and one slash at the end does not count.
    pub(crate) fn find(method: &Method, path: &str) -> Self {
        let path = path.strip_suffix('/').unwrap_or(path);
        let get = |route, allowed| {
            if *method == Method::GET || *method == Method::HEAD {
                route
            } else {
                Self::WrongMethod(allowed)
            }
        };
        let post = |asked| {
            if *method == Method::POST { Self::Cluster(asked) } else { Self::WrongMethod("POST") }
        };
        match path {
            "/nacos/v1/cs/configs" => match *method {
                Method::POST => Self::Publish,
                Method::DELETE => Self::Remove,
                _ => get(Self::Get, "GET, POST, DELETE"),
            },
            "/nacos/v1/cs/configs/listener" => match *method {
                Method::POST => Self::Listen,
                _ => get(Self::Manage(Managed::LISTENERS_OF_V1), "POST, GET"),
            },
            "/nacos/v3/client/cs/config" => get(Self::GetV3, "GET"),
            "/nacos/v1/console/health/readiness" => get(Self::Readiness, "GET"),
            "/nacos/v1/console/health/liveness" => get(Self::Liveness, "GET"),
            "/metrics" => get(Self::Metrics, "GET"),
            "/quorate/v1/cluster" => get(Self::Cluster(Asked::Status), "GET"),
            "/quorate/v1/cluster/change" => post(Asked::Change),
            "/quorate/v1/cluster/snapshot" => post(Asked::Snapshot),
            "/quorate/v1/cluster/check" => post(Asked::Check),
            "/quorate/v1/changes" | "/quorate/v1/changes/rollback" if *method != Method::POST => {
                Self::WrongMethod("POST")
            }
            "/quorate/v1/changes" => Self::Changes(Changes::Make),
            "/quorate/v1/changes/rollback" => Self::Changes(Changes::Undo),
            "/quorate/v1/openapi.json" => get(Self::Changes(Changes::OpenApi), "GET"),
            "/quorate/v1/backup" => match *method {
                Method::POST => Self::Cluster(Asked::BeginBackup),
                _ => get(Self::Cluster(Asked::BackupPart), "GET, POST"),
            },
            "/nacos/v1/core/ops/raft" | "/nacos/v2/core/ops/raft" => post(Asked::Ops),
            "/nacos/v3/admin/core/ops/raft" => post(Asked::OpsV3),
            // The reference serves these below its context path and below the root.
            other => match other.strip_prefix("/nacos").unwrap_or(other) {
                "/v1/ns/raft/state" => get(Self::RaftState, "GET"),
                "/v1/ns/raft/leader" => get(Self::RaftLeader, "GET"),
                "/v1/ns/raft/peer" => get(Self::RaftPeer, "GET"),
                "/v1/ns/raft/datum" => get(Self::RaftDatum, "GET"),
                _ => match Managed::find(method, path) {
                    Some(Ok(asked)) => Self::Manage(asked),
                    Some(Err(allowed)) => Self::WrongMethod(allowed),
                    None => Self::of_members(method, path),
                },
            },
        }
    }

    /// The reference's list of members (core.md §3).
    fn of_members(method: &Method, path: &str) -> Self {
        use OfMembers as Asked;
        let get = |asked| match *method {
            Method::GET | Method::HEAD => Self::Members(asked),
            _ => Self::WrongMethod("GET"),
        };
        let only = |wanted: Method, allowed, asked| {
            if *method == wanted { Self::Members(asked) } else { Self::WrongMethod(allowed) }
        };
        match path.strip_prefix("/nacos").unwrap_or_default() {
            "/v1/core/cluster/self" => get(Asked::SelfV1),
            "/v1/core/cluster/nodes" => get(Asked::ListV1),
            "/v1/core/cluster/simple/nodes" => get(Asked::Reachable),
            "/v1/core/cluster/health" => get(Asked::HealthV1),
            "/v1/core/cluster/report" => only(Method::POST, "POST", Asked::Report),
            "/v1/core/cluster/switch/lookup" | "/v1/core/cluster/server/leave" => {
                only(Method::POST, "POST", Asked::ChangeV1)
            }
            "/v2/core/cluster/node/self" | "/v3/admin/core/cluster/node/self" => get(Asked::This),
            "/v2/core/cluster/node/list" | "/v3/admin/core/cluster/node/list" => match *method {
                Method::PUT => Self::Members(Asked::Change),
                Method::GET | Method::HEAD => Self::Members(Asked::List),
                _ => Self::WrongMethod("GET, PUT"),
            },
            "/v2/core/cluster/lookup" | "/v3/admin/core/cluster/lookup" => {
                only(Method::PUT, "PUT", Asked::Change)
            }
            "/v2/core/cluster/nodes" => only(Method::DELETE, "DELETE", Asked::Change),
            "/v3/console/core/cluster/nodes" => get(Asked::ListByKeyword),
            "/v2/core/cluster/node/self/health" => get(Asked::Health),
            _ => Self::Unknown,
        }
    }

    /// How its answers are counted.
    pub(crate) const fn operation(self) -> Operation {
        match self {
            Self::Get | Self::GetV3 => Operation::Get,
            Self::Publish => Operation::Publish,
            Self::Remove => Operation::Remove,
            Self::Listen => Operation::Listen,
            Self::Manage(_)
            | Self::Changes(_)
            | Self::Readiness
            | Self::Liveness
            | Self::Members(_)
            | Self::RaftState
            | Self::RaftLeader
            | Self::RaftPeer
            | Self::RaftDatum
            | Self::Metrics
            | Self::Cluster(_)
            | Self::WrongMethod(_)
            | Self::Unknown => Operation::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        for (method, path, route) in [
            (Method::GET, "/nacos/v1/cs/configs", Route::Get),
            (Method::HEAD, "/nacos/v1/cs/configs", Route::Get),
            (Method::POST, "/nacos/v1/cs/configs/", Route::Publish),
            (Method::DELETE, "/nacos/v1/cs/configs", Route::Remove),
            (Method::PUT, "/nacos/v1/cs/configs", Route::WrongMethod("GET, POST, DELETE")),
            (Method::POST, "/nacos/v1/cs/configs/listener", Route::Listen),
            (Method::GET, "/nacos/v1/cs/configs/listener", Route::Manage(Managed::LISTENERS_OF_V1)),
            (Method::GET, "/nacos/v1/ns/raft/state", Route::RaftState),
            (Method::GET, "/v1/ns/raft/datum", Route::RaftDatum),
            (Method::POST, "/v1/ns/raft/datum", Route::WrongMethod("GET")),
            (Method::GET, "/metrics", Route::Metrics),
            (Method::GET, "/nacos/metrics", Route::Unknown),
            (Method::GET, "/nacos/v1/cs/configs//", Route::Unknown),
            (Method::GET, "/", Route::Unknown),
        ] {
            assert_eq!(Route::find(&method, path), route, "{method} {path}");
        }
    }
}

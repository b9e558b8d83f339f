//! Path and method → what is asked of the administration, in which generation.

use hyper::Method;

use super::super::envelope::Dialect;
use super::super::pairs::{Form, Pairs};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// One configuration with all its fields.
    Detail,
    /// Its content, as a client gets it.
    Get,
    Publish,
    Remove,
    RemoveMany,
    /// Its descriptive fields.
    Catalog,
    Search,
    Clone,
    Beta,
    StopBeta,
    HistoryList,
    HistoryRecord,
    /// A record beside what it became.
    HistoryDetail,
    HistoryPrevious,
    /// The configurations of a namespace.
    HistoryConfigs,
    NamespaceList,
    NamespaceGet,
    NamespaceExists,
    NamespaceCreate,
    NamespaceEdit,
    NamespaceRemove,
    Capacity,
    SetCapacity,
    LocalCache,
    SetLog,
    Derby,
    Health,
    Import,
    Export,
    /// With all descriptive fields.
    ExportV2,
    /// Who listens to a configuration.
    ListenersOfKey,
    /// What clients of an address listen to.
    ListenersOfIp,
    /// What clients of an address say of themselves.
    ClientMetrics,
    /// The same of this node's clients.
    ClientMetricsHere,
    /// This node's gRPC connections.
    Loader,
    /// How many connections each node has.
    LoaderCluster,
    /// Sends clients of this node elsewhere until so many are left.
    Reload,
    /// Sends one client elsewhere.
    ReloadClient,
    /// Sends clients away from nodes that have more than their share.
    ReloadSmart,
}

impl What {
    const fn writes(self) -> bool {
        matches!(
            self,
            Self::Publish
                | Self::Remove
                | Self::RemoveMany
                | Self::Clone
                | Self::Import
                | Self::StopBeta
                | Self::NamespaceCreate
                | Self::NamespaceEdit
                | Self::NamespaceRemove
                | Self::SetCapacity
                | Self::SetLog
                | Self::Reload
                | Self::ReloadClient
                | Self::ReloadSmart
        )
    }

    /// Whether only operators may ask it: what a client of v1 can do anyway is left to all.
    pub(crate) const fn is_for_operators(self, dialect: Dialect) -> bool {
        let as_client = matches!(self, Self::Publish | Self::Remove) && !dialect.is_v3();
        self.writes() && !as_client
    }
}

/// What is asked, and in which generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) dialect: Dialect,
    pub(crate) what: What,
}

/// What v1 asks of the administration on the path of clients, by parameters of the query.
pub(crate) fn form_of_v1(method: &Method, query: &str) -> Option<What> {
    // Most requests are those of clients, and this costs them one look.
    if !["=true", "search=", "=all", "=ids"].iter().any(|mark| query.contains(mark)) {
        return None;
    }
    let pairs = Pairs::parse(query, Form::None).ok()?;
    let forms: &[(&str, &str, What)] = match *method {
        Method::GET | Method::HEAD => &[
            ("show", "all", What::Detail),
            ("search", "accurate", What::Search),
            ("search", "blur", What::Search),
            ("beta", "true", What::Beta),
            ("export", "true", What::Export),
            ("exportV2", "true", What::ExportV2),
        ],
        Method::POST => &[("import", "true", What::Import), ("clone", "true", What::Clone)],
        Method::DELETE => &[("delType", "ids", What::RemoveMany), ("beta", "true", What::StopBeta)],
        _ => &[],
    };
    forms.iter().find(|(name, value, _)| pairs.is(name, value)).map(|(_, _, what)| *what)
}

/// A known path: what its methods ask, and their names.
type Methods = &'static [(Method, What)];

const GET_DETAIL: (Method, What) = (Method::GET, What::Detail);
const CONFIG_V2: Methods =
    &[(Method::GET, What::Get), (Method::POST, What::Publish), (Method::DELETE, What::Remove)];
const CONFIG_V3: Methods =
    &[GET_DETAIL, (Method::POST, What::Publish), (Method::DELETE, What::Remove)];
const BETA: Methods = &[(Method::GET, What::Beta), (Method::DELETE, What::StopBeta)];
const NAMESPACE: Methods = &[
    (Method::GET, What::NamespaceGet),
    (Method::POST, What::NamespaceCreate),
    (Method::PUT, What::NamespaceEdit),
    (Method::DELETE, What::NamespaceRemove),
];
const CAPACITY: Methods = &[(Method::GET, What::Capacity), (Method::POST, What::SetCapacity)];

/// The methods of a path below `/nacos`, or of the console's paths without it.
fn methods(path: &str) -> Option<(Dialect, Methods)> {
    use Dialect::{Admin, Console, V1, V2};
    Some(match path {
        "/v1/cs/configs/catalog" => (V1, &[(Method::GET, What::Catalog)]),
        "/v1/cs/history" => (V1, &[(Method::GET, What::HistoryRecord)]),
        "/v1/cs/history/previous" => (V1, &[(Method::GET, What::HistoryPrevious)]),
        "/v1/cs/history/configs" => (V1, &[(Method::GET, What::HistoryConfigs)]),
        "/v1/cs/capacity" => (V1, CAPACITY),
        "/v1/cs/ops/localCache" => (V1, &[(Method::POST, What::LocalCache)]),
        "/v1/cs/ops/log" => (V1, &[(Method::PUT, What::SetLog)]),
        "/v1/cs/ops/derby" => (V1, &[(Method::GET, What::Derby)]),
        "/v1/cs/ops/data/removal" => (V1, &[(Method::POST, What::Derby)]),
        "/v1/cs/listener" => (V1, &[(Method::GET, What::ListenersOfIp)]),
        "/v1/cs/metrics/cluster" => (V1, &[(Method::GET, What::ClientMetrics)]),
        "/v1/cs/metrics/current" => (V1, &[(Method::GET, What::ClientMetricsHere)]),
        "/v1/cs/health" => (V1, &[(Method::GET, What::Health)]),
        "/v1/console/namespaces" => (V1, NAMESPACE),
        "/v2/cs/config" => (V2, CONFIG_V2),
        "/v2/cs/config/searchDetail" => (V2, &[(Method::GET, What::Search)]),
        "/v2/cs/history/list" => (V2, &[(Method::GET, What::HistoryList)]),
        "/v2/cs/history" => (V2, &[(Method::GET, What::HistoryRecord)]),
        "/v2/cs/history/detail" => (V2, &[(Method::GET, What::HistoryDetail)]),
        "/v2/cs/history/previous" => (V2, &[(Method::GET, What::HistoryPrevious)]),
        "/v2/cs/history/configs" => (V2, &[(Method::GET, What::HistoryConfigs)]),
        "/v2/console/namespace" => (V2, NAMESPACE),
        "/v2/console/namespace/list" => (V2, &[(Method::GET, What::NamespaceList)]),
        "/v3/admin/cs/config" => (Admin, CONFIG_V3),
        "/v3/admin/cs/config/batch" => (Admin, &[(Method::DELETE, What::RemoveMany)]),
        "/v3/admin/cs/config/list" => (Admin, &[(Method::GET, What::Search)]),
        "/v3/admin/cs/config/beta" => (Admin, BETA),
        "/v3/admin/cs/config/import" => (Admin, &[(Method::POST, What::Import)]),
        "/v3/admin/cs/config/export" => (Admin, &[(Method::GET, What::ExportV2)]),
        "/v3/admin/cs/config/clone" => (Admin, &[(Method::POST, What::Clone)]),
        "/v3/admin/cs/config/listener" => (Admin, &[(Method::GET, What::ListenersOfKey)]),
        "/v3/admin/cs/listener" => (Admin, &[(Method::GET, What::ListenersOfIp)]),
        "/v3/admin/cs/metrics/cluster" => (Admin, &[(Method::GET, What::ClientMetrics)]),
        "/v3/admin/cs/metrics/ip" => (Admin, &[(Method::GET, What::ClientMetricsHere)]),
        "/v3/admin/cs/capacity" => (Admin, CAPACITY),
        "/v3/admin/cs/ops/localCache" => (Admin, &[(Method::POST, What::LocalCache)]),
        "/v3/admin/cs/ops/log" => (Admin, &[(Method::PUT, What::SetLog)]),
        "/v3/admin/cs/ops/derby" => (Admin, &[(Method::GET, What::Derby)]),
        "/v3/admin/cs/ops/derby/import" => (Admin, &[(Method::POST, What::Derby)]),
        "/v3/admin/core/namespace" => (Admin, NAMESPACE),
        "/v3/admin/core/namespace/list" => (Admin, &[(Method::GET, What::NamespaceList)]),
        "/v3/admin/core/namespace/check" => (Admin, &[(Method::GET, What::NamespaceExists)]),
        "/v3/console/cs/config" => (Console, CONFIG_V3),
        "/v3/console/cs/config/batchDelete" => (Console, &[(Method::DELETE, What::RemoveMany)]),
        "/v3/console/cs/config/list" | "/v3/console/cs/config/searchDetail" => {
            (Console, &[(Method::GET, What::Search)])
        }
        "/v3/console/cs/config/beta" => (Console, BETA),
        "/v3/console/cs/config/import" => (Console, &[(Method::POST, What::Import)]),
        "/v3/console/cs/config/export" | "/v3/console/cs/config/export2" => {
            (Console, &[(Method::GET, What::ExportV2)])
        }
        "/v3/console/cs/config/listener" => (Console, &[(Method::GET, What::ListenersOfKey)]),
        "/v3/console/cs/config/listener/ip" => (Console, &[(Method::GET, What::ListenersOfIp)]),
        "/v3/console/cs/config/clone" => (Console, &[(Method::POST, What::Clone)]),
        "/v3/console/core/namespace" => (Console, NAMESPACE),
        "/v3/console/core/namespace/list" => (Console, &[(Method::GET, What::NamespaceList)]),
        "/v3/console/core/namespace/exist" => (Console, &[(Method::GET, What::NamespaceExists)]),
        other => return history_of_v3(other).or_else(|| loader(other)),
    })
}

/// Who is connected (core.md §9).
fn loader(path: &str) -> Option<(Dialect, Methods)> {
    let (dialect, rest) = match path.strip_prefix("/v3/admin/core/loader/") {
        Some(rest) => (Dialect::Admin, rest),
        None => (Dialect::V2, path.strip_prefix("/v2/core/loader/")?),
    };
    let (of_v2, of_v3): (Methods, Methods) = match rest {
        "current" => return Some((dialect, &[(Method::GET, What::Loader)])),
        "cluster" => return Some((dialect, &[(Method::GET, What::LoaderCluster)])),
        "reloadCurrent" => (&[(Method::GET, What::Reload)], &[(Method::POST, What::Reload)]),
        "reloadClient" => {
            (&[(Method::GET, What::ReloadClient)], &[(Method::POST, What::ReloadClient)])
        }
        "smartReloadCluster" => {
            (&[(Method::GET, What::ReloadSmart)], &[(Method::POST, What::ReloadSmart)])
        }
        _ => return None,
    };
    Some((dialect, if dialect == Dialect::V2 { of_v2 } else { of_v3 }))
}

fn history_of_v3(path: &str) -> Option<(Dialect, Methods)> {
    let (dialect, rest) = match path.strip_prefix("/v3/admin/cs/history") {
        Some(rest) => (Dialect::Admin, rest),
        None => (Dialect::Console, path.strip_prefix("/v3/console/cs/history")?),
    };
    let methods: Methods = match rest {
        "" => &[(Method::GET, What::HistoryRecord)],
        "/list" => &[(Method::GET, What::HistoryList)],
        "/previous" => &[(Method::GET, What::HistoryPrevious)],
        "/configs" => &[(Method::GET, What::HistoryConfigs)],
        _ => return None,
    };
    Some((dialect, methods))
}

impl Asked {
    /// `GET /nacos/v1/cs/configs/listener`, whose path is a client's.
    pub(crate) const LISTENERS_OF_V1: Self =
        Self { dialect: Dialect::V1, what: What::ListenersOfKey };

    /// Finds what a path asks; the allowed methods when the path is known and the method is not.
    pub(crate) fn find(method: &Method, path: &str) -> Option<Result<Self, &'static str>> {
        // The console has a port and no prefix of its own in the reference.
        let below = path.strip_prefix("/nacos").or_else(|| {
            let of_console =
                path.starts_with("/v3/console/") || path.contains("/console/namespace");
            of_console.then_some(path)
        })?;
        let (dialect, methods) = methods(below)?;
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let found = methods.iter().find(|(known, _)| known == method);
        Some(found.map(|(_, what)| Self { dialect, what: *what }).ok_or_else(|| allowed(methods)))
    }
}

fn allowed(methods: Methods) -> &'static str {
    match methods {
        [(only, _)] => match *only {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            _ => "DELETE",
        },
        [_, (Method::POST, _)] => "GET, POST",
        [_, _] => "GET, DELETE",
        [_, _, _] => "GET, POST, DELETE",
        _ => "GET, POST, PUT, DELETE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_methods_and_forms() {
        let found = |method, path| Asked::find(&method, path);
        let asked = |dialect, what| Some(Ok(Asked { dialect, what }));
        for (method, path, want) in [
            (Method::GET, "/nacos/v2/cs/config", asked(Dialect::V2, What::Get)),
            (Method::HEAD, "/nacos/v3/admin/cs/config", asked(Dialect::Admin, What::Detail)),
            (Method::GET, "/v3/console/cs/history", asked(Dialect::Console, What::HistoryRecord)),
            (Method::GET, "/v3/admin/cs/history", None),
            (Method::GET, "/v1/console/namespaces", asked(Dialect::V1, What::NamespaceGet)),
            (Method::PATCH, "/nacos/v3/admin/cs/config/beta", Some(Err("GET, DELETE"))),
            (Method::POST, "/nacos/v1/cs/health", Some(Err("GET"))),
            (Method::GET, "/nacos/v3/admin/cs/history/other", None),
        ] {
            assert_eq!(found(method, path), want, "{path}");
        }
        for (method, query, want) in [
            (Method::GET, "dataId=d&group=G", None),
            (Method::GET, "search=blur&dataId=", Some(What::Search)),
            (Method::GET, "search=other", None),
            (Method::GET, "show=all", Some(What::Detail)),
            (Method::DELETE, "beta=true", Some(What::StopBeta)),
            (Method::DELETE, "beta=false", None),
            (Method::POST, "clone=true&x=%zz", Some(What::Clone)),
        ] {
            assert_eq!(form_of_v1(&method, query), want, "{query}");
        }
    }
}

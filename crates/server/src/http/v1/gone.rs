//! Routes of v1 and v2 that belong to the console or to administrators: where the settings switch
//! them off, 410 as in the reference (config.md §0.1). The routes that the texts recommend are those
//! of the third generation.

use hyper::StatusCode;

use super::super::App;
use super::super::envelope::Dialect;
use super::super::manage::What;
use super::super::response::{Response, error_page};

const CONSOLE: &str = "nacos.core.api.compatibility.console.enabled";
const ADMIN: &str = "nacos.core.api.compatibility.admin.enabled";

fn gone(instead: &str, switch: &str, path: &str) -> Response {
    let text = match instead.split_once(' ') {
        Some((method, route)) => format!(
            "please use API(s) `{method} ${{contextPath:nacos}}{route}` instead, or set \
             `{switch}=true` in application.properties."
        ),
        None => format!(
            "If wanted continue to use, please set `{switch}=true` in application.properties."
        ),
    };
    let message =
        format!("{{\"code\":40000,\"message\":\"Current API will be deprecated, {text}\"}}");
    error_page(StatusCode::GONE, &message, path)
}

/// What v1 and v2 call it, the class that the reference puts it in, and what it recommends.
fn class(dialect: Dialect, what: What) -> (&'static str, &'static str) {
    match (dialect, what) {
        (Dialect::V1, What::Search) => (CONSOLE, "GET /v3/console/cs/config/list"),
        (Dialect::V1, What::Detail) => (CONSOLE, "GET /v3/console/cs/config"),
        (_, What::Beta) => (CONSOLE, "GET /v3/console/cs/config/beta"),
        (_, What::StopBeta) => (CONSOLE, "DELETE /v3/console/cs/config/beta"),
        (_, What::Export) => (CONSOLE, "GET /v3/console/cs/config/export"),
        (_, What::ExportV2) => (CONSOLE, "GET /v3/console/cs/config/export2"),
        (_, What::Import) => (CONSOLE, "POST /v3/console/cs/config/import"),
        (_, What::Clone) => (CONSOLE, "POST /v3/console/cs/config/clone"),
        (_, What::ListenersOfKey) => (CONSOLE, "GET /v3/console/cs/config/listener"),
        (_, What::ListenersOfIp) => (CONSOLE, "GET /v3/console/cs/config/listener/ip"),
        (_, What::RemoveMany) => (CONSOLE, "DELETE /v3/console/cs/config/batchDelete"),
        (_, What::Search) => (CONSOLE, "GET /v3/console/cs/config/searchDetail"),
        (Dialect::V1, What::HistoryRecord) => (CONSOLE, "GET /v3/console/cs/history"),
        (Dialect::V1, What::HistoryPrevious) => (CONSOLE, "GET /v3/console/cs/history/previous"),
        (Dialect::V1, What::HistoryConfigs) => (CONSOLE, "GET /v3/console/cs/history/configs"),
        (
            _,
            What::NamespaceList
            | What::NamespaceGet
            | What::NamespaceExists
            | What::NamespaceCreate
            | What::NamespaceEdit
            | What::NamespaceRemove,
        ) => (CONSOLE, "GET /v3/console/core/namespace/list"),
        (_, What::Catalog | What::Get | What::Detail) => (ADMIN, "GET /v3/admin/cs/config"),
        (_, What::Publish) => (ADMIN, "POST /v3/admin/cs/config"),
        (_, What::Remove) => (ADMIN, "DELETE /v3/admin/cs/config"),
        (_, What::HistoryList) => (ADMIN, "GET /v3/admin/cs/history/list"),
        (_, What::HistoryRecord) => (ADMIN, "GET /v3/admin/cs/history"),
        (_, What::HistoryPrevious) => (ADMIN, "GET /v3/admin/cs/history/previous"),
        (_, What::HistoryConfigs) => (ADMIN, "GET /v3/admin/cs/history/configs"),
        (_, What::Capacity) => (ADMIN, "GET /v3/admin/cs/capacity"),
        (_, What::SetCapacity) => (ADMIN, "POST /v3/admin/cs/capacity"),
        (_, What::LocalCache) => (ADMIN, "POST /v3/admin/cs/ops/localCache"),
        (_, What::SetLog) => (ADMIN, "PUT /v3/admin/cs/ops/log"),
        (_, What::Derby) => (ADMIN, "GET /v3/admin/cs/ops/derby"),
        (_, What::ClientMetrics) => (ADMIN, "GET /v3/admin/cs/metrics/cluster"),
        (_, What::ClientMetricsHere) => (ADMIN, "GET /v3/admin/cs/metrics/ip"),
        (_, What::Loader) => (ADMIN, "GET /v3/admin/core/loader/current"),
        (_, What::LoaderCluster) => (ADMIN, "GET /v3/admin/core/loader/cluster"),
        (_, What::Reload) => (ADMIN, "POST /v3/admin/core/loader/reloadCurrent"),
        (_, What::ReloadClient) => (ADMIN, "POST /v3/admin/core/loader/reloadClient"),
        (_, What::ReloadSmart) => (ADMIN, "POST /v3/admin/core/loader/smartReloadCluster"),
        (_, What::HistoryDetail | What::Health) => (ADMIN, ""),
    }
}

/// The answer to a route that the settings switch off.
pub(crate) fn switched_off(
    app: &App,
    dialect: Dialect,
    what: What,
    path: &str,
) -> Option<Response> {
    let is_classless = dialect.is_v3() || what == What::HistoryDetail;
    let (switch, instead) = class(dialect, what);
    let is_on = if switch == CONSOLE { app.limits.old_console } else { app.limits.old_admin };
    (!is_classless && !is_on).then(|| gone(instead, switch, path))
}

#[cfg(test)]
mod tests {
    use super::super::super::response::tests::seen;
    use super::*;

    #[test]
    fn the_message_is_json_in_json() {
        let (switch, instead) = class(Dialect::V1, What::Detail);
        let (status, _, body) = seen(gone(instead, switch, "/nacos/v1/cs/configs"));
        assert_eq!(status, 410);
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&page["status"], &page["error"]), (&410.into(), &"Gone".into()));
        assert_eq!(
            page["message"],
            "{\"code\":40000,\"message\":\"Current API will be deprecated, please use API(s) \
             `GET ${contextPath:nacos}/v3/console/cs/config` instead, or set \
             `nacos.core.api.compatibility.console.enabled=true` in application.properties.\"}"
        );
    }
}

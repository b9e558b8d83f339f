//! Forms of the v1 routes that belong to the console and are switched off, as in the reference's
//! shipped settings: 410 (config.md §0.1). The routes that the texts recommend are those of the
//! reference's newest console.

use hyper::StatusCode;

use super::super::pairs::Pairs;
use super::super::response::{Refused, Response, error_page};

const CONSOLE: &str = "nacos.core.api.compatibility.console.enabled";
const ADMIN: &str = "nacos.core.api.compatibility.admin.enabled";

fn gone(instead: &str, switch: &str, path: &str) -> Response {
    let (method, route) = instead.split_once(' ').unwrap_or_default();
    let message = format!(
        "{{\"code\":40000,\"message\":\"Current API will be deprecated, please use API(s) \
         `{method} ${{contextPath:nacos}}{route}` instead, or set `{switch}=true` in \
         application.properties.\"}}"
    );
    error_page(StatusCode::GONE, &message, path)
}

fn refuse(pairs: &Pairs<'_>, path: &str, forms: &[(&str, &str, &str)]) -> Result<(), Refused> {
    match forms.iter().find(|(name, value, _)| pairs.is(name, value)) {
        Some((_, _, instead)) => Err(Box::new(gone(instead, CONSOLE, path))),
        None => Ok(()),
    }
}

/// Console forms of a get.
pub(super) fn get(pairs: &Pairs<'_>, path: &str) -> Result<(), Refused> {
    let forms = [
        ("search", "accurate", "GET /v3/console/cs/config/list"),
        ("search", "blur", "GET /v3/console/cs/config/list"),
        ("show", "all", "GET /v3/console/cs/config"),
        ("beta", "true", "GET /v3/console/cs/config/beta"),
        ("export", "true", "GET /v3/console/cs/config/export"),
        ("exportV2", "true", "GET /v3/console/cs/config/export2"),
    ];
    refuse(pairs, path, &forms)
}

/// Console forms of a publish.
pub(super) fn publish(pairs: &Pairs<'_>, path: &str) -> Result<(), Refused> {
    let forms = [
        ("import", "true", "POST /v3/console/cs/config/import"),
        ("clone", "true", "POST /v3/console/cs/config/clone"),
    ];
    refuse(pairs, path, &forms)
}

/// Console forms of a remove.
pub(super) fn remove(pairs: &Pairs<'_>, path: &str) -> Result<(), Refused> {
    let forms = [
        ("delType", "ids", "DELETE /v3/console/cs/config/batchDelete"),
        ("beta", "true", "DELETE /v3/console/cs/config/beta"),
    ];
    refuse(pairs, path, &forms)
}

/// Who listens to a configuration.
pub(crate) fn listeners(path: &str) -> Response {
    gone("GET /v3/console/cs/config/listener", CONSOLE, path)
}

/// The descriptive fields of a configuration.
pub(crate) fn catalog(path: &str) -> Response {
    gone("GET /v3/admin/cs/config", ADMIN, path)
}

#[cfg(test)]
mod tests {
    use super::super::super::pairs::Form;
    use super::super::super::response::tests::seen;
    use super::*;

    #[test]
    fn the_message_is_json_in_json() {
        let pairs = Pairs::parse("dataId=&show=all", Form::None).unwrap();
        let refused = get(&pairs, "/nacos/v1/cs/configs").expect_err("gone");
        let (status, _, body) = seen(*refused);
        assert_eq!(status, 410);
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&page["status"], &page["error"]), (&410.into(), &"Gone".into()));
        assert_eq!(
            page["message"],
            "{\"code\":40000,\"message\":\"Current API will be deprecated, please use API(s) \
             `GET ${contextPath:nacos}/v3/console/cs/config` instead, or set \
             `nacos.core.api.compatibility.console.enabled=true` in application.properties.\"}"
        );
        let plain = Pairs::parse("search=other&show=&beta=false", Form::None).unwrap();
        assert!(get(&plain, "").is_ok());
    }
}

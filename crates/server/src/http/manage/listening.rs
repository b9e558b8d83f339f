//! Who listens to what (config.md §2.1.7, §2.2, §2.5).

use serde_json::json;

use super::super::envelope::{Dialect, Trouble, bare, success};
use super::super::pairs::Pairs;
use super::super::response::{Response, malformed};
use super::{Request, check};
use crate::operations::listeners::{self, Claims};
use quorate_core::key::{GroupKey, PUBLIC_NAMESPACE};

/// As each generation writes it; the misspelt property is that of the reference.
fn answer(dialect: Dialect, asked: &str, claims: &Claims) -> Response {
    match dialect {
        Dialect::V1 | Dialect::V2 => {
            bare(json!({"collectStatus": 200, "lisentersGroupkeyStatus": claims}))
        }
        Dialect::Admin | Dialect::Console => {
            success(json!({"queryType": asked, "listenersStatus": claims}))
        }
    }
}

/// Whether other nodes are asked, too.
fn is_everywhere(pairs: &Pairs<'_>) -> bool {
    !pairs.is("aggregation", "false")
}

pub(super) async fn of_key(request: Request) -> Result<Response, Trouble> {
    let (key, is_everywhere) = {
        let pairs = request.checked()?;
        let key = if request.dialect == Dialect::V1 {
            let data_id = request.required(&pairs, "dataId")?;
            let group = request.required(&pairs, "group")?;
            let group = if group.trim().is_empty() { "DEFAULT_GROUP" } else { &group };
            let namespace = pairs.first("tenant").map_err(malformed)?.unwrap_or_default();
            check::key(&namespace, &data_id, group)?
        } else {
            request.key(&pairs)?
        };
        (key, is_everywhere(&pairs))
    };
    let claims = listeners::of_key(&request.app.node, &key, is_everywhere).await;
    Ok(answer(request.dialect, "config", &claims))
}

pub(super) async fn of_ip(request: Request) -> Result<Response, Trouble> {
    let dialect = request.dialect;
    let (ip, namespace, is_everywhere) = {
        let pairs = request.checked()?;
        let ip = request.required(&pairs, "ip")?;
        let is_all = pairs.is("all", "true");
        let namespace = request.namespace(&pairs, dialect.namespace())?;
        (ip, (!is_all).then_some(namespace), is_everywhere(&pairs))
    };
    let found = listeners::of_ip(&request.app.node, ip.trim(), is_everywhere).await;
    let mut claims = Claims::new();
    for (key, md5) in found {
        let Ok(key) = GroupKey::from_record(&key) else { continue };
        if namespace.as_ref().is_none_or(|wanted| wanted.as_str() == key.namespace()) {
            claims.insert(written(&key, dialect), md5);
        }
    }
    Ok(answer(dialect, "ip", &claims))
}

/// The wire's group key; v1 leaves the public namespace out.
fn written(key: &GroupKey, dialect: Dialect) -> String {
    let mut text = key.to_string();
    if dialect == Dialect::V1 && key.namespace() == PUBLIC_NAMESPACE {
        text.truncate(text.len() - PUBLIC_NAMESPACE.len() - "+".len());
    }
    text
}

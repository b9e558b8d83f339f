//! What an administrator may ask and what there is little of here: capacity, the caches, the log,
//! the reference's database.

use hyper::StatusCode;
use serde_json::json;

use super::super::envelope::{Code, Dialect, Trouble, rest, result, success};
use super::super::response::{JSON, Response, respond};
use super::Request;
use crate::operations::namespace;

pub(super) fn set_capacity(request: &Request) -> Result<Response, Trouble> {
    off(request, "there is no capacity to set: nothing is limited by it")
}

pub(super) fn set_log(request: &Request) -> Result<Response, Trouble> {
    off(request, "the log's filter is set when the node starts: setting log")
}

pub(super) fn health() -> Response {
    respond(StatusCode::OK, &JSON, "UP")
}

/// A function that is off, as the reference says it of its own.
fn off(request: &Request, text: &str) -> Result<Response, Trouble> {
    if request.dialect == Dialect::V1 {
        return Ok(rest(500, Some(text), serde_json::Value::Null));
    }
    Err(Trouble::Known(StatusCode::NOT_IMPLEMENTED, Code::DISABLED, text.to_owned()))
}

/// What a namespace or a group holds. Nothing is limited by it (the reference's shipped setting
/// `isCapacityLimitCheck=false`).
pub(super) fn capacity(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let group = request.filled(&pairs, request.dialect.group())?;
    let namespace = request.filled(&pairs, request.dialect.namespace())?;
    let state = request.app.node.store().freeze();
    let (name, value, usage) = match (group, namespace) {
        (Some(group), _) => {
            let usage = state.configs().filter(|(key, _)| key.group() == group).count();
            (request.dialect.group(), group, usage)
        }
        (None, Some(namespace)) => {
            let listed = namespace::list(&state).into_iter().find(|it| it.id == namespace);
            (request.dialect.namespace(), namespace, listed.map_or(0, |listed| listed.configs))
        }
        (None, None) if request.dialect == Dialect::V1 => {
            let text = "The parameter group and tenant cannot be empty at the same time";
            let mut response = rest(400, Some(text), serde_json::Value::Null);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(response);
        }
        (None, None) => {
            return Err(Trouble::missing(
                "At least one of the parameters (groupName or namespaceId) must be provided",
            ));
        }
    };
    let mut row = json!({
        "id": "0",
        "quota": 200,
        "usage": usage,
        "maxSize": 102_400,
        "maxAggrCount": 10_000,
        "maxAggrSize": 1024,
        "gmtCreate": null,
        "gmtModified": null,
    });
    if let Some(row) = row.as_object_mut() {
        let name =
            if request.dialect == Dialect::V1 && name == "group" { "groupName" } else { name };
        let name = if name == "tenant" { "namespaceId" } else { name };
        row.insert(name.to_owned(), value.into());
    }
    Ok(if request.dialect == Dialect::V1 { rest(200, None, row) } else { success(row) })
}

/// What a node serves is its state: there is no cache to fill.
pub(super) fn local_cache(request: &Request) -> Response {
    if request.dialect == Dialect::V1 {
        return respond(StatusCode::OK, &JSON, "200");
    }
    success("Local cache updated from store successfully!")
}

/// There is no such database.
pub(super) fn derby(request: &Request) -> Response {
    let text = "The current storage mode is not Derby";
    if request.dialect == Dialect::V1 {
        return rest(500, Some(text), serde_json::Value::Null);
    }
    result(StatusCode::OK, Code(30000, text), serde_json::Value::Null)
}

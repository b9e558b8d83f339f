//! The third generation's route for clients (config.md §2.4): a get. Its refusals are written as v1
//! writes them.

use std::net::IpAddr;

use hyper::StatusCode;
use hyper::http::request::Parts;
use quorate_core::kind::gray::Rule;
use serde_json::{Value, json};

use super::envelope::{Code, result, success};
use super::pairs::{Form, Pairs};
use super::response::{Refused, Response, invalid, malformed, stamp};
use super::{App, caller, check};
use crate::operations::config;

/// Gets what a client sees of a configuration.
pub(crate) fn get(app: &App, peer: IpAddr, head: &Parts) -> Response {
    let mut response = read(app, peer, head).unwrap_or_else(|refused| *refused);
    stamp(response.headers_mut(), app.node.store().revision());
    response
}

fn read(app: &App, peer: IpAddr, head: &Parts) -> Result<Response, Refused> {
    let pairs =
        Pairs::parse(head.uri.query().unwrap_or_default(), Form::None).map_err(malformed)?;
    check::parameters(&pairs)?;
    let required = |name: &str| {
        let value = pairs.first(name).map_err(malformed)?;
        let missing =
            || invalid(&format!("Required parameter '{name}' type String is not present"));
        value.filter(|value| !value.trim().is_empty()).ok_or_else(missing)
    };
    let group = required("groupName")?;
    let data_id = required("dataId")?;
    let namespace = pairs.first("namespaceId").map_err(malformed)?.unwrap_or_default();
    let key = check::key(&namespace, &data_id, &group)?;
    // No tag is looked for: this generation has no label for it.
    let labels = caller::labels(&head.headers, peer, Some(""));
    let (seen, _) = config::get(&app.node, &key, &labels, false);
    let Some(seen) = seen else {
        return Ok(result(StatusCode::OK, Code::NOT_FOUND, Value::Null));
    };
    let content = seen.content();
    Ok(success(json!({
        "resultCode": 200,
        "errorCode": 0,
        "message": null,
        "requestId": null,
        "content": String::from_utf8_lossy(&content),
        "encryptedDataKey": seen.encrypted_data_key(),
        "contentType": seen.content_type().as_str(),
        "md5": seen.md5().to_string(),
        "lastModified": seen.modified().0,
        "tag": null,
        "beta": matches!(seen.rule(), Some(Rule::Beta(_))),
        "success": true,
    })))
}

//! Beta releases: shown, ended.

use hyper::StatusCode;
use quorate_core::kind::gray::BETA;

use super::super::envelope::{Code, Dialect, Trouble, rest, result, success};
use super::super::response::Response;
use super::{Request, rows};
use crate::operations::config;

pub(super) fn beta(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let store = request.app.node.store();
    let standing = store.standing(&key);
    let gray = standing.releases.as_ref().and_then(|held| held.named(BETA));
    let formal_type = || store.config(&key).0.map(|datum| datum.content_type().as_str());
    Ok(match (request.dialect, gray) {
        (Dialect::V1, gray) => {
            rest(200, Some("query beta ok"), gray.map(|gray| rows::beta_v1(&key, gray)))
        }
        (Dialect::Console, gray) => {
            success(gray.map(|gray| rows::gray_v3(&key, gray, formal_type())))
        }
        (_, Some(gray)) => success(rows::gray_v3(&key, gray, None)),
        (_, None) => return Err(Trouble::not_found("Config is not in beta.")),
    })
}

pub(super) async fn stop_beta(request: Request) -> Result<Response, Trouble> {
    let (key, writer) = {
        let pairs = request.checked()?;
        (request.key(&pairs)?, request.writer(&pairs)?)
    };
    let (node, deadline) = (&request.app.node, request.app.deadline());
    let ended = config::end_release(node, key, BETA.to_owned(), writer, deadline).await;
    Ok(match (request.dialect, ended) {
        (Dialect::V1, Ok(_)) => rest(200, Some("stop beta ok"), true),
        (_, Ok(_)) => success(true),
        (Dialect::V1, Err(failure)) => {
            tracing::warn!(%failure, "a beta release was not ended");
            rest(500, Some("remove beta data error"), false)
        }
        (_, Err(failure)) => {
            tracing::warn!(%failure, "a beta release was not ended");
            result(StatusCode::OK, Code(30000, "remove beta data error"), false)
        }
    })
}

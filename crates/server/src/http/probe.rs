//! Probes and metrics: what operators' machines ask.

use hyper::StatusCode;

use super::App;
use super::response::{Response, TEXT, error_page, respond, value};

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

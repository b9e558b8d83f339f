//! Backups over HTTP: one is begun, then fetched in parts.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use quorate_raft::backup::{Backup, BackupError, MAX_PART_BYTES};
use serde::Serialize;

use super::super::App;
use super::super::pairs::{Form, Pairs};
use super::super::response::{
    PLAIN_JSON, Refused, Response, error_page, json, malformed, missing, respond, retry_soon,
};

static BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    name: String,
    size_bytes: u64,
    index: u64,
}

fn failed(error: &BackupError, path: &str) -> Response {
    let status = match error {
        BackupError::Read(_) => StatusCode::SERVICE_UNAVAILABLE,
        BackupError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        BackupError::Gone(_) => StatusCode::NOT_FOUND,
    };
    let mut response = error_page(status, &error.to_string(), path);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        retry_soon(&mut response);
    }
    response
}

/// `POST`: takes one.
pub(super) async fn begin(app: &App, path: &str) -> Response {
    match app.node.begin_backup(app.deadline()).await {
        Ok(Backup { name, size_bytes, index }) => {
            json(StatusCode::OK, &PLAIN_JSON, &Begun { name, size_bytes, index })
        }
        Err(error) => failed(&error, path),
    }
}

/// `GET`: a part of it.
pub(super) async fn part(app: &App, query: &str, path: &str) -> Response {
    let (name, offset, length) = match Part::parse(query, path) {
        Ok(Part { name, offset, length }) => (name, offset, length),
        Err(refused) => return *refused,
    };
    match app.node.read_backup(&name, offset, length).await {
        Ok(bytes) => respond(StatusCode::OK, &BYTES, bytes),
        Err(error) => failed(&error, path),
    }
}

struct Part {
    name: String,
    offset: u64,
    length: usize,
}

impl Part {
    fn parse(query: &str, path: &str) -> Result<Self, Refused> {
        let pairs = Pairs::parse(query, Form::None).map_err(malformed)?;
        let text = |key: &'static str| {
            let text = pairs.first(key).map_err(malformed)?;
            text.map(|text| text.to_string()).ok_or_else(|| missing(key, path))
        };
        let number = |key: &'static str| {
            text(key)?.parse::<u64>().map_err(|_| {
                let message = format!("{key} is no number");
                Box::new(error_page(StatusCode::BAD_REQUEST, &message, path))
            })
        };
        let length = usize::try_from(number("length")?).unwrap_or(MAX_PART_BYTES);
        Ok(Self { name: text("name")?, offset: number("offset")?, length })
    }
}

//! `/quorate/v1/changes`: several configurations changed at once, and such a change undone. JSON in
//! and out; described by `docs/openapi.json`, which the node serves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::http::request::Parts;
use quorate_core::command::{
    Cause, ChangeItem, Describe, ExpectedMd5, Presence, Publish, Remove, Writer,
};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::time::Revision;
use serde::Deserialize;
use serde_json::json;

use super::options::WAIT_MS;
use super::response::{PLAIN_JSON, Response, json as answer_json, respond, retry_soon, stamp};
use super::{App, body, caller};
use crate::failure::Failure;
use crate::operations::changes::{self, MAX_PARTS, Undo};
use crate::operations::config::check_fields;
use crate::operations::listeners::{Reached, Share, Wait};
use crate::parameters;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `POST /quorate/v1/changes`
    Make,
    /// `POST /quorate/v1/changes/rollback`
    Undo,
    /// `GET /quorate/v1/openapi.json`
    OpenApi,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Made {
    changes: Vec<Part>,
    wait_for_listeners: Option<String>,
    wait_timeout_ms: Option<u64>,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Part {
    Publish(Box<Published>),
    Remove(Removed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Published {
    #[serde(default)]
    namespace: String,
    group: String,
    data_id: String,
    content: String,
    #[serde(default)]
    r#type: String,
    app: Option<String>,
    tags: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    encrypted_data_key: String,
    expected_md5: Option<String>,
    #[serde(default)]
    only: Only,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Removed {
    #[serde(default)]
    namespace: String,
    group: String,
    data_id: String,
    expected_md5: Option<String>,
    #[serde(default)]
    only: Only,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Only {
    #[default]
    Any,
    New,
    Old,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Undone {
    revision: Option<u64>,
    history: Option<u64>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    user: String,
}

/// Why a change is refused before it is proposed.
struct Wrong {
    /// Which part, from 1; 0: the whole.
    part: usize,
    text: String,
}

/// Answers one request.
pub(crate) async fn answer<B>(
    app: App,
    peer: IpAddr,
    asked: Asked,
    head: Parts,
    body: B,
) -> Response
where
    B: Body<Data = Bytes> + Unpin,
{
    if asked == Asked::OpenApi {
        return respond(StatusCode::OK, &PLAIN_JSON, include_str!("../../../../docs/openapi.json"));
    }
    let whole = match app.bodies.read(body, head.uri.path()).await {
        Ok(whole) => whole,
        Err(refused) => return *refused,
    };
    let ip = caller::ip(&head.headers, peer).into_owned();
    let done = match asked {
        Asked::Make => make(&app, ip, whole).await,
        Asked::Undo | Asked::OpenApi => undo(&app, ip, &whole.bytes).await,
    };
    let mut response = done.unwrap_or_else(|response| *response);
    stamp(response.headers_mut(), app.node.store().revision());
    response
}

fn wrong(status: StatusCode, part: u64, text: &str) -> Box<Response> {
    let body =
        if part == 0 { json!({"error": text}) } else { json!({"error": text, "change": part}) };
    Box::new(answer_json(status, &PLAIN_JSON, &body))
}

fn failed(failure: &Failure) -> Box<Response> {
    let part = failure.part();
    let is_conflict = part > 0 && !matches!(failure, Failure::Invalid { .. });
    let status = if is_conflict { StatusCode::CONFLICT } else { failure.status() };
    let text = failure.text().unwrap_or_else(|| failure.to_string());
    let mut response = wrong(status, part, &text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        retry_soon(&mut response);
    }
    response
}

async fn make(app: &App, ip: String, whole: body::Whole) -> Result<Response, Box<Response>> {
    let large = whole.bytes.len() > body::LARGE_BYTES;
    let read = body::off_thread(large, move || Ok(read_made(&whole.bytes, ip)));
    let (items, wait) = read.await?.map_err(|Wrong { part, text }| {
        wrong(StatusCode::BAD_REQUEST, u64::try_from(part).unwrap_or(u64::MAX), &text)
    })?;
    let count = items.len();
    let made = changes::change_and_wait(&app.node, items, wait, app.deadline()).await;
    let (reply, reached) = made.map_err(|it| failed(&it))?;
    Ok(done(reply.revision, count, reached))
}

fn done(revision: Revision, count: usize, reached: Option<Reached>) -> Response {
    let mut body = json!({"revision": revision, "changes": count});
    if let (Some(body), Some(reached)) = (body.as_object_mut(), reached) {
        body.insert("listeners".to_owned(), json!(reached));
    }
    answer_json(StatusCode::OK, &PLAIN_JSON, &body)
}

fn read_wait(share: Option<&str>, ms: Option<u64>) -> Result<Option<Wait>, String> {
    let (default, most) = WAIT_MS;
    let Some(text) = share else { return Ok(None) };
    let share = Share::parse(text).ok_or_else(|| format!("waitForListeners: {text:?}"))?;
    let ms = ms.unwrap_or(default);
    if !(1..=most).contains(&ms) {
        return Err(format!("waitTimeoutMs: 1 to {most} are allowed"));
    }
    Ok(Some(Wait { share, at_most: Duration::from_millis(ms) }))
}

type ReadMade = (Vec<ChangeItem>, Option<Wait>);

fn read_made(bytes: &[u8], ip: String) -> Result<ReadMade, Wrong> {
    let whole = |text: String| Wrong { part: 0, text };
    let made: Made = serde_json::from_slice(bytes).map_err(|error| whole(error.to_string()))?;
    if made.changes.is_empty() || made.changes.len() > MAX_PARTS {
        return Err(whole(format!("changes: 1 to {MAX_PARTS} are allowed")));
    }
    let wait =
        read_wait(made.wait_for_listeners.as_deref(), made.wait_timeout_ms).map_err(whole)?;
    let writer = Writer { user: made.user, ip };
    let mut items = Vec::with_capacity(made.changes.len());
    let mut keys = BTreeSet::new();
    for (part, change) in (1..).zip(made.changes) {
        let item = read_part(change, &writer).map_err(|text| Wrong { part, text })?;
        if !keys.insert(item.key().clone()) {
            return Err(Wrong { part, text: format!("{} is changed twice", item.key()) });
        }
        items.push(item);
    }
    Ok((items, wait))
}

fn key(namespace: &str, data_id: &str, group: &str) -> Result<GroupKey, String> {
    parameters::parts(namespace, data_id, group)?;
    parameters::key(namespace, data_id, group)
}

fn expected(md5: Option<String>) -> Result<Option<ExpectedMd5>, String> {
    let Some(text) = md5 else { return Ok(None) };
    let md5 = Md5::parse(&text).ok_or_else(|| format!("expectedMd5 {text:?} is no md5"))?;
    Ok(Some(ExpectedMd5::Digest(md5)))
}

/// An expected md5 also means that there must be something that has it.
const fn presence(only: Only, expected: Option<ExpectedMd5>) -> Presence {
    match (only, expected) {
        (Only::New, _) => Presence::New,
        (Only::Old, _) | (Only::Any, Some(_)) => Presence::Old,
        (Only::Any, None) => Presence::Any,
    }
}

fn read_part(part: Part, writer: &Writer) -> Result<ChangeItem, String> {
    match part {
        Part::Publish(publish) => {
            let publish = *publish;
            let key = key(&publish.namespace, &publish.data_id, &publish.group)?;
            parameters::content(&publish.content)?;
            let describe = Describe {
                app: publish.app,
                tags: publish.tags,
                description: publish.description,
                encrypted_data_key: publish.encrypted_data_key,
                ..Describe::default()
            };
            check_fields(&describe, writer).map_err(|failure| failure.to_string())?;
            let expected = expected(publish.expected_md5)?;
            let content = Bytes::from(publish.content.into_bytes().into_boxed_slice());
            Ok(ChangeItem::Publish(Publish {
                key,
                md5: Md5::of(&content),
                content,
                content_type: ContentType::parse_or_text(&publish.r#type),
                describe,
                writer: writer.clone(),
                expected,
                presence: presence(publish.only, expected),
                cause: Cause::Publish,
            }))
        }
        Part::Remove(removed) => {
            let key = key(&removed.namespace, &removed.data_id, &removed.group)?;
            let expected = expected(removed.expected_md5)?;
            let presence = presence(removed.only, expected);
            if presence == Presence::New {
                return Err("only: new makes no sense for remove".to_owned());
            }
            Ok(ChangeItem::Remove(Remove {
                key,
                writer: writer.clone(),
                expected,
                presence,
                cause: Cause::Publish,
            }))
        }
    }
}

async fn undo(app: &App, ip: String, bytes: &[u8]) -> Result<Response, Box<Response>> {
    let bad = |text: &str| wrong(StatusCode::BAD_REQUEST, 0, text);
    let asked: Undone = serde_json::from_slice(bytes).map_err(|error| bad(&error.to_string()))?;
    let what = match (asked.revision, asked.history) {
        (Some(revision), None) => Undo::Revision(Revision(revision)),
        (None, Some(id)) => Undo::Record(id),
        _ => return Err(bad("either revision or history")),
    };
    let writer = Writer { user: asked.user, ip };
    let undone = changes::undo(&app.node, what, asked.force, &writer, app.deadline()).await;
    let (reply, count) = undone.map_err(|failure| {
        if matches!(failure, Failure::Absent { part: 0, .. }) {
            return wrong(StatusCode::NOT_FOUND, 0, "no history is kept of it");
        }
        failed(&failure)
    })?;
    Ok(done(reply.revision, count, None))
}

//! History: listed, shown, beside what came after.

use std::sync::Arc;

use hyper::StatusCode;
use quorate_core::key::GroupKey;
use quorate_core::kind::history::History;

use super::super::envelope::{Code, Dialect, Trouble, bare, nothing, success};
use super::super::pairs::Pairs;
use super::super::response::Response;
use super::{Request, rows};
use crate::operations::{history, search};

pub(super) fn list(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let (number, size) = request.page(&pairs, 100)?;
    let page = history::list(&request.app.node, &key, number, size);
    Ok(match request.dialect {
        Dialect::V1 => bare(rows::PageRow::of(page, |it| rows::history_v1(&it, false))),
        Dialect::V2 => success(rows::PageRow::of(page, |it| rows::history_v1(&it, false))),
        Dialect::Admin | Dialect::Console => {
            success(rows::PageRow::of(page, |it| rows::history_v3(&it, false)))
        }
    })
}

/// The record that is asked for, if there is one of this configuration.
fn asked(
    request: &Request,
    pairs: &Pairs<'_>,
    key: &GroupKey,
) -> Result<Option<Arc<History>>, Trouble> {
    let text = request.required(pairs, "nid")?;
    let id = text
        .trim()
        .parse()
        .map_err(|_| Trouble::invalid(format!("For input string: \"{text}\"")))?;
    let Some(record) = history::record(&request.app.node, id) else { return Ok(None) };
    if record.key == *key {
        return Ok(Some(record));
    }
    let text = "Please check dataId, group or namespaceId.";
    Err(Trouble::Known(StatusCode::FORBIDDEN, Code::DENIED, text.to_owned()))
}

fn shown(request: &Request, record: Option<&Arc<History>>) -> Result<Response, Trouble> {
    match (request.dialect, record) {
        (Dialect::V1, Some(record)) => Ok(bare(rows::history_v1(record, true))),
        (Dialect::V1, None) => Ok(nothing()),
        (Dialect::V2, record) => Ok(success(record.map(|it| rows::history_v1(it, true)))),
        (_, Some(record)) => Ok(success(rows::history_v3(record, true))),
        (_, None) => Err(Trouble::invalid("Source must not be null")),
    }
}

pub(super) fn record(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    if request.dialect == Dialect::V1 && pairs.is("search", "accurate") {
        return list(request);
    }
    let key = request.key(&pairs)?;
    shown(request, asked(request, &pairs, &key)?.as_ref())
}

pub(super) fn detail(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let record = asked(request, &pairs, &key)?;
    Ok(success(record.map(|record| {
        let made = history::made(&request.app.node, &record);
        rows::history_beside(&record, made.as_ref())
    })))
}

pub(super) fn previous(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let id = request.required(&pairs, "id")?;
    let is_of_key = id.trim().parse() == Ok(search::id_of(&key));
    let record = history::previous(&request.app.node, &key).filter(|_| is_of_key);
    shown(request, record.as_ref())
}

pub(super) fn configs(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let name = request.dialect.namespace();
    let namespace = request.namespace(&pairs, name)?;
    let state = request.app.node.store().freeze();
    let is_v3 = request.dialect.is_v3();
    let all: Vec<_> = state
        .configs_in(&namespace)
        .map(|(key, datum)| rows::named_only(key, datum, is_v3))
        .collect();
    Ok(if request.dialect == Dialect::V1 { bare(all) } else { success(all) })
}

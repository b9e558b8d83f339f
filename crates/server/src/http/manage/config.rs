//! Configurations: shown, found, published, removed, copied.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName};
use quorate_core::command::{Cause, Describe, ExpectedMd5, Presence};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::kind::config::ConfigDatum;
use serde_json::{Value, json};

use super::super::body;
use super::super::envelope::{Code, Dialect, Trouble, bare, nothing, rest, result, success};
use super::super::options::{self, Options, Unreadable};
use super::super::pairs::Pairs;
use super::super::response::{JSON, Response, malformed};
use super::super::{caller, v1};
use super::{Request, rows};
use crate::operations::config::{self, PublishRequest};
use crate::operations::search::{self, Filter, Match};
use crate::operations::{Page, dry_run};
use crate::parameters;

static BETA_IPS: HeaderName = HeaderName::from_static("betaips");
static CAS_MD5: HeaderName = HeaderName::from_static("casmd5");

pub(super) fn detail(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let (datum, _) = request.app.node.store().config(&key);
    Ok(match (request.dialect, datum) {
        (Dialect::V1, Some(datum)) => bare(rows::detail_v1(&key, &datum)),
        (Dialect::V1, None) => nothing(),
        (_, Some(datum)) => success(rows::detail_v3(&key, &datum)),
        (Dialect::Console, None) => success(Value::Null),
        (_, None) => {
            return Err(Trouble::not_found("Config not exist, please publish Config first."));
        }
    })
}

/// As a client gets it, in the envelope of v2, which leaves out what is not there.
pub(super) fn get(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let tag = tag(request, &pairs)?;
    let labels = caller::labels(&request.head.headers, request.peer, tag.as_deref());
    let (seen, _) = config::get(&request.app.node, &key, &labels, tag.is_some());
    let Some(seen) = seen else {
        let Code(code, message) = Code::NOT_FOUND;
        let body = json!({"code": code, "message": message, "data": "config data not exist"});
        let body = format!("{body}\n");
        let mut response = super::super::response::respond(StatusCode::NOT_FOUND, &JSON, body);
        response.headers_mut().remove(CONTENT_TYPE);
        return Ok(response);
    };
    let mut response = v1::found(&seen);
    let content = seen.content();
    let body = json!({
        "code": 0,
        "message": "success",
        "data": String::from_utf8_lossy(&content),
    });
    *response.body_mut() = Bytes::from(body.to_string()).into();
    response.headers_mut().insert(CONTENT_TYPE, JSON.clone());
    Ok(response)
}

fn tag(request: &Request, pairs: &Pairs<'_>) -> Result<Option<String>, Trouble> {
    let tag = request.filled(pairs, "tag")?;
    if let Some(tag) = &tag {
        parameters::tag(tag).map_err(Trouble::invalid)?;
    }
    Ok(tag)
}

pub(super) async fn publish(request: Request) -> Result<Response, Trouble> {
    let large = request.whole.bytes.len() > body::LARGE_BYTES;
    let app = request.app.clone();
    // The body is read where it may take its time, and goes with the request.
    let read = body::off_thread(large, move || Ok(read_publish(&request)));
    let (wanted, options) = read.await??;
    let (node, deadline) = (&app.node, app.deadline());
    if options.is_dry_run {
        return Ok(success(dry_run::forecast(node, wanted, deadline).await));
    }
    let begun = std::time::Instant::now();
    let published = config::publish_and_wait(node, wanted, options.wait, deadline).await;
    app.metrics.published(begun.elapsed());
    let (_, reached) = published?;
    let mut response = success(true);
    options::tell(response.headers_mut(), reached);
    Ok(response)
}

fn read_publish(request: &Request) -> Result<(PublishRequest, Options), Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    request.required(&pairs, "content")?;
    let content = pairs.first("content").map_err(malformed)?.unwrap_or_default();
    parameters::content(&content).map_err(Trouble::invalid)?;
    let tag = tag(request, &pairs)?;
    let headers = &request.head.headers;
    let rule = config::rule(caller::header(headers, &BETA_IPS), tag.as_deref());
    let expected = caller::header(headers, &CAS_MD5)
        .filter(|md5| !md5.trim().is_empty())
        .map(|md5| Md5::parse(md5).map_or(ExpectedMd5::NeverEqual, ExpectedMd5::Digest));
    let content = Bytes::from(content.into_owned().into_bytes().into_boxed_slice());
    let content_type = pairs.first("type").map_err(malformed)?.unwrap_or_default();
    let options = Options::read(&pairs).map_err(|why| match why {
        Unreadable::Malformed(why) => Trouble::from(malformed(why)),
        Unreadable::Value(why) => Trouble::invalid(why),
    })?;
    let wanted = PublishRequest {
        key,
        md5: Md5::of(&content),
        content,
        content_type: ContentType::parse_or_text(&content_type),
        describe: describe(&pairs)?,
        writer: request.writer(&pairs)?,
        expected,
        rule,
        presence: Presence::Any,
        cause: Cause::Publish,
    };
    Ok((wanted, options))
}

fn describe(pairs: &Pairs<'_>) -> Result<Describe, Trouble> {
    let text = |name: &str| -> Result<Option<String>, Trouble> {
        Ok(pairs.first(name).map_err(malformed)?.map(Cow::into_owned))
    };
    Ok(Describe {
        app: text("appName")?.map(|app| if app.trim().is_empty() { String::new() } else { app }),
        tags: text("configTags")?,
        description: text("desc")?.unwrap_or_default(),
        used_for: text("use")?.unwrap_or_default(),
        effect: text("effect")?.unwrap_or_default(),
        schema: text("schema")?.unwrap_or_default(),
        encrypted_data_key: text("encryptedDataKey")?.unwrap_or_default(),
    })
}

pub(super) async fn remove(request: Request) -> Result<Response, Trouble> {
    let (key, tag, writer) = {
        let pairs = request.checked()?;
        (request.key(&pairs)?, tag(&request, &pairs)?, request.writer(&pairs)?)
    };
    let (node, deadline) = (&request.app.node, request.app.deadline());
    match tag {
        None => config::remove(node, key, writer, deadline).await?,
        Some(name) => config::end_release(node, key, name, writer, deadline).await?,
    };
    Ok(success(true))
}

/// The numbers of a list such as `1,2`; what is no number is nobody's.
pub(super) fn ids(text: &str) -> Vec<u64> {
    text.split(',').filter_map(|id| id.trim().parse().ok()).collect()
}

pub(super) async fn remove_many(request: Request) -> Result<Response, Trouble> {
    let (ids, writer) = {
        let pairs = request.checked()?;
        (ids(&request.required(&pairs, "ids")?), request.writer(&pairs)?)
    };
    let (node, deadline) = (&request.app.node, request.app.deadline());
    for (key, _) in search::by_ids(&node.store().freeze(), &ids) {
        if let Err(failure) = config::remove(node, key, writer.clone(), deadline).await {
            let text = failure.text().unwrap_or_default();
            return Ok(match request.dialect {
                Dialect::V1 => rest(500, Some(&text), false),
                Dialect::V2 | Dialect::Admin | Dialect::Console => {
                    result(failure.status(), Code::SERVER, text)
                }
            });
        }
    }
    Ok(if request.dialect == Dialect::V1 { rest(200, None, true) } else { success(true) })
}

pub(super) fn catalog(request: &Request) -> Result<Response, Trouble> {
    let pairs = request.checked()?;
    let key = request.key(&pairs)?;
    let (datum, _) = request.app.node.store().config(&key);
    Ok(rest(200, None, datum.map(|datum| rows::described(&datum, true))))
}

/// What is looked for, and which page of it.
struct Search {
    filter: Filter,
    number: usize,
    size: usize,
    is_accurate: bool,
}

fn read_search(request: &Request) -> Result<Search, Trouble> {
    let pairs = request.pairs()?;
    let is_accurate = pairs.is("search", "accurate");
    let pairs = if is_accurate { request.checked()? } else { pairs };
    let filled = |name: &str| Ok::<_, Trouble>(request.filled(&pairs, name)?.unwrap_or_default());
    let is_old = !request.dialect.is_v3();
    if is_old {
        for name in ["dataId", "group", "pageNo", "pageSize"] {
            let value = pairs.first(name).map_err(malformed)?;
            value.ok_or_else(|| super::super::response::missing(name, request.head.uri.path()))?;
        }
    }
    let text = |text: String| {
        if is_accurate { Match::exact(&text) } else { Match::like(&text) }
    };
    // v2 searches by the names of v1.
    let (namespace, tags, content) = if is_old {
        ("tenant", "config_tags", "config_detail")
    } else {
        ("namespaceId", "configTags", "configDetail")
    };
    // Without the parameter at all v3 looks everywhere; blank is the public namespace.
    let everywhere = pairs.first(namespace).map_err(malformed)?.is_none() && !is_old;
    let namespace = request.namespace(&pairs, namespace)?;
    let listed = |text: String| -> Vec<String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let kinds = filled(if is_old { "types" } else { "type" })?;
    let (number, size) = request.page(&pairs, 100)?;
    Ok(Search {
        filter: Filter {
            namespace: (!everywhere).then_some(namespace),
            data_id: text(filled("dataId")?),
            group: text(filled(if is_old { "group" } else { "groupName" })?),
            app: Match::exact(&filled("appName")?),
            content: Match::like(&filled(content)?),
            tags: listed(filled(tags)?).into_iter().map(text).collect(),
            types: listed(kinds),
        },
        number,
        size,
        is_accurate,
    })
}

/// As many walk over all configurations as may at one time.
pub(super) fn too_many_searches() -> Trouble {
    let text = "errCode: 503, errMsg: server limit match. ".to_owned();
    Trouble::Known(StatusCode::SERVICE_UNAVAILABLE, Code::SERVER, text)
}

pub(super) async fn search(request: Request) -> Result<Response, Trouble> {
    let Search { filter, number, size, is_accurate } = read_search(&request)?;
    let Ok(_turn) = request.app.searches.try_acquire() else {
        return Err(too_many_searches());
    };
    let state = request.app.node.store().freeze();
    let dialect = request.dialect;
    let found: Page<(GroupKey, ConfigDatum)> =
        body::off_thread(true, move || Ok(search::search(&state, &filter, number, size))).await?;
    Ok(match dialect {
        Dialect::V1 | Dialect::V2 => bare(rows::PageRow::of(found, |(key, datum)| {
            rows::listed_v1(&key, &datum, !is_accurate)
        })),
        Dialect::Admin | Dialect::Console => {
            success(rows::PageRow::of(found, |(key, datum)| rows::listed_v3(&key, &datum)))
        }
    })
}

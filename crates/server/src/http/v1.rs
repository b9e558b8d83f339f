//! The v1 dialect of `/nacos/v1/cs/configs` (config.md §2.1): how a request is read and how an
//! answer is written. The rules that other generations share are in `operations`.

pub(crate) mod gone;
pub(crate) mod listen;
mod publish;

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use hyper::http::request::Parts;
use quorate_core::command::Writer;
use quorate_core::content::ContentType;
use quorate_core::key::GroupKey;
use quorate_core::kind::gray::Rule;
use quorate_core::store::Seen;
use quorate_core::time::Revision;

pub(crate) use self::publish::publish;
use super::date::rfc1123;
use super::pairs::{Form, Pairs, encoded};
use super::response::{
    JSON, Refused, Response, TEXT, failed, forbid_caching, invalid, malformed, missing, respond,
    stamp, value,
};
use super::{App, body, caller, check};
use crate::client_log::{self, PersistLine, RequestLine};
use crate::clock;
use crate::failure::Failure;
use crate::operations::config::{self, Freshness};

static CONFIG_TYPE: HeaderName = HeaderName::from_static("config-type");
static CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
static ENCRYPTED_DATA_KEY: HeaderName = HeaderName::from_static("encrypted-data-key");
static IS_BETA: HeaderName = HeaderName::from_static("isbeta");
static TAG: HeaderName = HeaderName::from_static("tag");

/// A required parameter, decoded.
fn required<'a>(
    pairs: &Pairs<'a>,
    name: &'static str,
    path: &str,
) -> Result<Cow<'a, str>, Refused> {
    optional(pairs, name)?.ok_or_else(|| missing(name, path))
}

fn optional<'a>(pairs: &Pairs<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Refused> {
    pairs.first(name).map_err(malformed)
}

/// A key and the namespace as the client wrote it.
struct Named<'a> {
    key: GroupKey,
    tenant: Cow<'a, str>,
}

/// A get, read from its query.
struct Get<'a> {
    named: Named<'a>,
    freshness: Freshness,
    /// Asked for by name: never falls back to the formal content.
    tag: Option<Cow<'a, str>>,
}

fn read_get<'a>(query: &'a str, path: &str) -> Result<Get<'a>, Refused> {
    let pairs = Pairs::parse(query, Form::None).map_err(malformed)?;
    check::parameters(&pairs)?;
    let data_id = required(&pairs, "dataId", path)?;
    let group = required(&pairs, "group", path)?;
    let tenant = match optional(&pairs, "namespaceId")? {
        Some(namespace) => namespace,
        None => optional(&pairs, "tenant")?.unwrap_or_default(),
    };
    let key = check::key(&tenant, &data_id, &group)?;
    let tag = check::tag(optional(&pairs, "tag")?)?;
    Ok(Get { named: Named { key, tenant }, freshness: freshness(&pairs)?, tag })
}

/// Parameters of this server, not of the reference.
fn freshness(pairs: &Pairs<'_>) -> Result<Freshness, Refused> {
    let linearizable = match optional(pairs, "consistency")?.as_deref() {
        None | Some("local") => false,
        Some("linearizable") => true,
        Some(other) => {
            let message = format!("invalid consistency : {other}, allowed are local, linearizable");
            return Err(invalid(&message));
        }
    };
    let at_least = match optional(pairs, "min-revision")? {
        None => None,
        Some(text) => match text.parse() {
            Ok(revision) => Some(Revision(revision)),
            Err(_) => return Err(invalid(&format!("invalid min-revision : {text}"))),
        },
    };
    Ok(match (linearizable, at_least) {
        (false, None) => Freshness::Local,
        (true, None) => Freshness::Linearizable,
        (false, Some(revision)) => Freshness::AtLeast(revision),
        (true, Some(revision)) => Freshness::LinearizableAtLeast(revision),
    })
}

/// A get that this node's state answers at once; `None` when it must wait first ([`get_later`]).
pub(crate) fn get_now(app: &App, peer: IpAddr, head: &Parts) -> Option<Response> {
    let start = client_log::is_on().then(Instant::now);
    let get = match read_get(head.uri.query().unwrap_or_default(), head.uri.path()) {
        Ok(get) => get,
        Err(refused) => return Some(*refused),
    };
    (get.freshness == Freshness::Local).then(|| answer_get(app, peer, &head.headers, &get, start))
}

/// A get that waits until this node's state is new enough.
pub(crate) async fn get_later(app: App, peer: IpAddr, head: Parts) -> Response {
    let start = client_log::is_on().then(Instant::now);
    let get = match read_get(head.uri.query().unwrap_or_default(), head.uri.path()) {
        Ok(get) => get,
        Err(refused) => return *refused,
    };
    match config::await_freshness(&app.node, get.freshness, app.deadline()).await {
        Ok(()) => answer_get(&app, peer, &head.headers, &get, start),
        Err(failure) => not_done(&app, &failure),
    }
}

/// A failure, with the revision that this node is at.
fn not_done(app: &App, failure: &Failure) -> Response {
    let mut response = failed(failure);
    stamp(response.headers_mut(), app.node.store().revision());
    response
}

/// `true`, with the revision that made it so.
fn done(revision: Revision) -> Response {
    let mut response = respond(StatusCode::OK, &JSON, "true");
    stamp(response.headers_mut(), revision);
    response
}

fn answer_get(
    app: &App,
    peer: IpAddr,
    headers: &HeaderMap,
    get: &Get<'_>,
    start: Option<Instant>,
) -> Response {
    let Get { named: Named { key, tenant }, freshness: _, tag } = get;
    let labels = caller::labels(headers, peer, tag.as_deref());
    let (seen, revision) = config::get(&app.node, key, &labels, tag.is_some());
    if let Some(start) = start {
        let (ip, app) = (labels.ip(), caller::app(headers));
        let line = RequestLine { took: start.elapsed(), ip, key, tenant, app };
        line.get(seen.as_ref().map(Seen::md5));
    }
    let mut response = match seen {
        Some(seen) => found(&seen),
        None => respond(StatusCode::NOT_FOUND, &JSON, "config data not exist\n"),
    };
    stamp(response.headers_mut(), revision);
    response
}

/// The headers in the reference's order.
pub(crate) fn found(seen: &Seen) -> Response {
    let mut response = Response::new(seen.content().into());
    let headers = response.headers_mut();
    headers.reserve(12);
    headers.insert(&CONFIG_TYPE, type_value(seen.content_type()));
    headers.insert(&CONTENT_MD5, value(seen.md5().to_string()));
    forbid_caching(headers);
    headers.insert(LAST_MODIFIED, value(rfc1123(seen.modified().0)));
    headers.insert(&ENCRYPTED_DATA_KEY, value(seen.encrypted_data_key()));
    match seen.rule() {
        None => {}
        Some(Rule::Beta(_)) => drop(headers.insert(&IS_BETA, HeaderValue::from_static("true"))),
        Some(Rule::Tag(tag)) => drop(headers.insert(&TAG, value(encoded(tag)))),
    }
    headers.insert(CONTENT_TYPE, TEXT.clone());
    response
}

const fn type_value(content_type: ContentType) -> HeaderValue {
    HeaderValue::from_static(content_type.as_str())
}

/// A remove: `true` also when there was nothing.
pub(crate) async fn remove<B>(app: App, peer: IpAddr, head: Parts, body: B) -> Response
where
    B: Body<Data = Bytes> + Unpin,
{
    let start = Instant::now();
    let path = head.uri.path();
    let whole = match app.bodies.read(body, path).await {
        Ok(whole) => whole,
        Err(refused) => return *refused,
    };
    let form = body::form(&head.headers, &whole.bytes);
    let query = head.uri.query().unwrap_or_default();
    let (named, release, writer) = match read_remove(query, form, path, &head.headers, peer) {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let Named { key, tenant } = named;
    let ip = writer.ip.clone();
    let outcome = match release {
        None => config::remove(&app.node, key.clone(), writer, app.deadline()).await,
        Some(name) => {
            config::end_release(&app.node, key.clone(), name, writer, app.deadline()).await
        }
    };
    let requester = caller::app(&head.headers);
    if client_log::is_on() {
        let line = RequestLine {
            took: start.elapsed(),
            ip: &ip,
            key: &key,
            tenant: &tenant,
            app: requester,
        };
        line.remove(outcome.is_ok());
    }
    match outcome {
        Err(failure) => not_done(&app, &failure),
        Ok(reply) => {
            if client_log::is_tracing() {
                let (self_ip, at_ms) = (app.self_ip.as_ref(), clock::unix_ms());
                PersistLine { self_ip, key: &key, tenant: &tenant, app: requester, at_ms }
                    .removed(&ip);
            }
            done(reply.revision)
        }
    }
}

fn read_remove<'a>(
    query: &'a str,
    form: Form<'a>,
    path: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<(Named<'a>, Option<String>, Writer), Refused> {
    let pairs = Pairs::parse(query, form).map_err(malformed)?;
    check::parameters(&pairs)?;
    let data_id = required(&pairs, "dataId", path)?;
    let group = required(&pairs, "group", path)?;
    let tenant = optional(&pairs, "tenant")?.unwrap_or_default();
    let key = check::key(&tenant, &data_id, &group)?;
    // The name of a gray release as it is: `tag_v1`, not `v1` (config.md §2.1.4).
    let release = check::tag(optional(&pairs, "tag")?)?.map(Cow::into_owned);
    let writer = writer(&pairs, headers, peer)?;
    Ok((Named { key, tenant }, release, writer))
}

/// Who writes: parameter `src_user`, else `username` (config.md §0.3).
fn writer(pairs: &Pairs<'_>, headers: &HeaderMap, peer: IpAddr) -> Result<Writer, Refused> {
    let user = match optional(pairs, "src_user")? {
        Some(user) => user,
        None => optional(pairs, "username")?.unwrap_or_default(),
    };
    Ok(Writer { user: user.into_owned(), ip: caller::ip(headers, peer).into_owned() })
}

#[cfg(test)]
mod tests;

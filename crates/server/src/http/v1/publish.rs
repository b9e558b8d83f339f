//! Publish: query and form → request, and the answers `true`, `false` or a text.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;
use quorate_core::command::{Cause, Describe, ExpectedMd5, Presence};
use quorate_core::content::{ContentType, Md5};

use super::super::options::{self, Options, Unreadable};
use super::super::pairs::{Form, Pairs};
use super::super::response::{JSON, Refused, Response, invalid, json, malformed, stamp};
use super::super::{App, body, caller, check};
use super::{done, not_done, optional, required, writer};
use crate::client_log::{self, PersistLine, RequestLine};
use crate::clock;
use crate::operations::config::{self, PublishRequest};
use crate::operations::dry_run;

static BETA_IPS: HeaderName = HeaderName::from_static("betaips");
static CAS_MD5: HeaderName = HeaderName::from_static("casmd5");

/// What a publish request says, and the namespace as it was written.
pub(super) struct Read {
    pub(super) request: PublishRequest,
    pub(super) tenant: String,
    pub(super) options: Options,
}

/// Publishes one configuration.
pub(crate) async fn publish<B>(app: App, peer: IpAddr, head: Parts, body: B) -> Response
where
    B: Body<Data = Bytes> + Unpin,
{
    let whole = match app.bodies.read(body, head.uri.path()).await {
        Ok(whole) => whole,
        Err(refused) => return *refused,
    };
    let start = Instant::now();
    let requester = caller::app(&head.headers).map(str::to_owned);
    // The body is dropped once it is read, its share of the budget when the answer is there.
    let large = whole.bytes.len() > body::LARGE_BYTES;
    let decoded = body::off_thread(large, move || {
        let form = body::form(&head.headers, &whole.bytes);
        let query = head.uri.query().unwrap_or_default();
        let read = read(query, form, head.uri.path(), &head.headers, peer)?;
        Ok((read, whole.into_share()))
    });
    let (Read { request, tenant, options }, share) = match decoded.await {
        Ok(decoded) => decoded,
        Err(refused) => return *refused,
    };
    if options.is_dry_run {
        let forecast = dry_run::forecast(&app.node, request, app.deadline()).await;
        let mut response = json(StatusCode::OK, &JSON, &forecast);
        stamp(response.headers_mut(), app.node.store().revision());
        return response;
    }
    let (key, md5, ip) = (request.key.clone(), request.md5, request.writer.ip.clone());
    let (wait, deadline) = (options.wait, app.deadline());
    let outcome = config::publish_and_wait(&app.node, request, wait, deadline).await;
    drop(share);
    let took = start.elapsed();
    app.metrics.published(took);
    let (key, tenant, requester) = (&key, tenant.as_str(), requester.as_deref());
    if client_log::is_on() {
        let line = RequestLine { took, ip: &ip, key, tenant, app: requester };
        line.publish(outcome.is_ok(), md5);
    }
    match outcome {
        Err(failure) => not_done(&app, &failure),
        Ok((reply, reached)) => {
            if client_log::is_tracing() {
                let (self_ip, at_ms) = (app.self_ip.as_ref(), clock::unix_ms());
                PersistLine { self_ip, key, tenant, app: requester, at_ms }.published(md5);
            }
            let mut response = done(reply.revision);
            options::tell(response.headers_mut(), reached);
            response
        }
    }
}

pub(super) fn read(
    query: &str,
    form: Form<'_>,
    path: &str,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Read, Refused> {
    let pairs = Pairs::parse(query, form).map_err(malformed)?;
    check::parameters(&pairs)?;
    let data_id = required(&pairs, "dataId", path)?;
    let group = required(&pairs, "group", path)?;
    let tenant = optional(&pairs, "tenant")?.unwrap_or_default();
    let content = required(&pairs, "content", path)?;
    let key = check::key(&tenant, &data_id, &group)?;
    check::content(&content)?;
    let tag = check::tag(optional(&pairs, "tag")?)?;
    let rule = config::rule(caller::header(headers, &BETA_IPS), tag.as_deref());
    let expected = caller::header(headers, &CAS_MD5)
        .filter(|md5| !md5.trim().is_empty())
        .map(|md5| Md5::parse(md5).map_or(ExpectedMd5::NeverEqual, ExpectedMd5::Digest));
    let content_type = optional(&pairs, "type")?.unwrap_or_default();
    let content = own(content);
    let request = PublishRequest {
        key,
        md5: Md5::of(&content),
        content,
        content_type: ContentType::parse_or_text(&content_type),
        describe: describe(&pairs)?,
        writer: writer(&pairs, headers, peer)?,
        expected,
        rule,
        presence: Presence::Any,
        cause: Cause::Publish,
    };
    let options = Options::read(&pairs).map_err(|why| match why {
        Unreadable::Malformed(why) => malformed(why),
        Unreadable::Value(why) => invalid(&why),
    })?;
    Ok(Read { request, tenant: tenant.into_owned(), options })
}

/// An allocation of the content's own and of exactly its size: a slice of the body would pin the
/// receive buffer for as long as the log and the store keep it.
fn own(content: Cow<'_, str>) -> Bytes {
    Bytes::from(content.into_owned().into_bytes().into_boxed_slice())
}

fn describe(pairs: &Pairs<'_>) -> Result<Describe, Refused> {
    let text = |name| optional(pairs, name).map(|text| text.map(Cow::into_owned));
    Ok(Describe {
        // Blank is stored as nothing, which is not the same as keeping what is there.
        app: text("appName")?.map(|app| if app.trim().is_empty() { String::new() } else { app }),
        tags: text("config_tags")?,
        description: text("desc")?.unwrap_or_default(),
        used_for: text("use")?.unwrap_or_default(),
        effect: text("effect")?.unwrap_or_default(),
        schema: text("schema")?.unwrap_or_default(),
        encrypted_data_key: text("encryptedDataKey")?.unwrap_or_default(),
    })
}
